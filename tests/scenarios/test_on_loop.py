"""A WSGI app in the threads of a worker that has an event loop. That all of PEP 3333 holds there is shown in test_wsgi_apps.py,
harakiri in test_harakiri.py, kills and reloads in test_slots.py."""

import hashlib
import json
import os
import threading
import time
from pathlib import Path

import pytest

from .harness import Connection, Fleet, fetch, wait_for
from .harness.fleet import APPS
from .test_large_bodies import Growth

SOURCE = """
    import hashlib, json, os, threading, time

    def application(environ, start_response):
        path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
        headers = [("Content-Type", "text/plain")]
        if path == "/where":
            start_response("200 OK", headers)
            return [json.dumps([threading.current_thread().name, environ["wsgi.multithread"]]).encode()]
        if path == "/digest":
            found, size = hashlib.sha256(), 0
            try:
                while piece := environ["wsgi.input"].read(100_000):
                    found.update(piece)
                    size += len(piece)
            except OSError as error:
                open(query, "w").write(str(error))
                raise
            start_response("200 OK", headers)
            return [json.dumps([size, found.hexdigest()]).encode()]
        if path == "/sleep":
            time.sleep(float(query))
        if path == "/large":
            start_response("200 OK", headers)
            return [b"x" * int(query)]
        if path == "/endless":
            start_response("200 OK", headers)
            return endless(query)
        if path == "/fork":
            pid = os.fork()
            if pid:
                os.waitpid(pid, 0)
        start_response("200 OK", headers)
        return [b"done"]

    def endless(query):
        try:
            while True:
                yield b"x" * 65536
        finally:
            open(query, "w").close()
"""


def on_loop(fleet: Fleet, **keys: object) -> Path:
    (fleet.root / "app.py").write_text("\n".join(line[4:] for line in SOURCE.splitlines()))
    named = {"module": "app", "pythonpath": fleet.root, "threads": 4, "wsgi-on-loop": "true"}
    path = fleet.vassal("a", **{**named, "request-buffering": "false", **keys})
    fleet.start()
    return path


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_threads_run_the_app_and_the_loop_moves_bodies(fleet: Fleet, loop: str) -> None:
    on_loop(fleet, asgi_loop=loop, ready_path="/where")
    name, multithread = json.loads(fleet.get("a", "/where").body)
    assert name.startswith("request ") and multithread
    content = os.urandom(5_000_000)
    answer = fetch(fleet.http_port, "a.localhost", "/digest", method="POST", body=content)
    assert json.loads(answer.body) == [len(content), hashlib.sha256(content).hexdigest()]
    assert fleet.get("a", "/large?30000000").body == b"x" * 30_000_000


def test_a_response_that_is_handed_over_leaves_its_thread_free(fleet: Fleet) -> None:
    """More large responses than threads, to clients that do not read, would hold up all; these hold their slots alone."""
    on_loop(fleet, threads=2, response_buffer="64k")
    with Connection(fleet.http_port, 30) as slow:
        slow.send(b"GET /large?100000000 HTTP/1.1\r\nHost: a.localhost\r\n\r\n")
        slow.read_some()

        def idle() -> bool:
            (worker,) = json.loads(fleet.cli("trace", "a", "--run-dir", fleet.run_dir, "--json").stdout)[
                "workers"
            ]
            return "in application" not in "\n".join(worker["stacks"]) and len(worker["requests"]) == 1

        wait_for(idle, 10)
        assert fleet.get("a", "/where").status == 200


def test_a_client_that_goes_ends_what_waits_for_it(fleet: Fleet) -> None:
    on_loop(fleet, threads=1)
    closed, refused = fleet.root / "closed", fleet.root / "refused"
    with Connection(fleet.http_port, 30) as client:
        client.send(f"GET /endless?{closed} HTTP/1.1\r\nHost: a.localhost\r\n\r\n".encode())
        client.read_some()
    wait_for(closed.exists, 10, fleet.log)
    with Connection(fleet.http_port, 30) as client:
        head = f"POST /digest?{refused} HTTP/1.1\r\nHost: a.localhost\r\nContent-Length: 1000000\r\n\r\n"
        client.send(head.encode() + bytes(300_000))
        wait_for(lambda: fleet.status()["routers"][0]["apps"]["a"]["running"] == 1, 5)
    wait_for(lambda: refused.exists() and "the client has gone" in refused.read_text(), 10, fleet.log)
    assert fleet.get("a", "/where").status == 200


def test_what_does_not_end_is_shown_and_cut_off_within_stop_timeout(fleet: Fleet) -> None:
    path = on_loop(fleet, stop_timeout="2s")
    before = fleet.pid("worker", "a")
    with Connection(fleet.http_port, 30) as client:
        client.send(b"GET /sleep?60 HTTP/1.1\r\nHost: a.localhost\r\n\r\n")
        wait_for(lambda: fleet.status()["routers"][0]["apps"]["a"]["running"] == 1, 5)
        path.write_text(path.read_text() + "need-app = true\n")
        assert client.read_response().status == 502
    wait_for(lambda: before not in fleet.pids().values(), 15, fleet.log)
    fleet.wait_log("its time is over: 1 requests are cut off", "time.sleep(float(query))")
    assert fleet.get("a", "/where").status == 200


def test_a_child_that_comes_back_from_the_app_answers_nothing(fleet: Fleet) -> None:
    on_loop(fleet)
    for _ in range(3):
        assert fleet.get("a", "/fork").body == b"done"


def test_a_slow_reader_costs_no_memory(fleet: Fleet) -> None:
    on_loop(fleet, response_buffer="1m")
    assert fleet.get("a", "/where").status == 200
    closed = fleet.root / "closed"
    with (
        Growth([fleet.pid("router"), fleet.pid("worker", "a")]) as growth,
        Connection(fleet.http_port, 30) as client,
    ):
        client.send(f"GET /endless?{closed} HTTP/1.1\r\nHost: a.localhost\r\n\r\n".encode())
        client.read_some()
        done = threading.Event()
        threading.Timer(2, done.set).start()
        while not done.is_set():
            assert fleet.get("a", "/where").status == 200
            time.sleep(0.05)
    assert growth.most < 32 << 20, growth.most


def test_with_preload_each_worker_has_a_loop_and_threads_of_its_own(fleet: Fleet) -> None:
    on_loop(fleet, preload="true", processes=2)
    for _ in range(10):
        assert json.loads(fleet.get("a", "/where").body)[0].startswith("request ")
    content = os.urandom(1_000_000)
    answer = fetch(fleet.http_port, "a.localhost", "/digest", method="POST", body=content)
    assert json.loads(answer.body)[0] == len(content)


def test_an_app_that_speaks_asgi_is_served_as_one(fleet: Fleet) -> None:
    fleet.vassal("a", **{"module": "asgi_apps:app", "pythonpath": APPS, "threads": 4, "wsgi-on-loop": "true"})
    fleet.start()
    assert fleet.get("a", "/hello").body == b"Hello, ASGI"
