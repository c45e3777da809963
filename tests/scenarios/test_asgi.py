"""ASGI apps as vassals: real processes, real sockets. docs/specs/asgi.md says which clause each stands for."""

import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .harness import Connection, Fleet, fetch, free_port, wait_for
from .harness.fleet import APPS
from .harness.http import answers
from .harness.nginx import nginx
from .test_large_bodies import Growth


def asgi(fleet: Fleet, name: str = "a", **keys: object) -> Path:
    named = {} if "module" in keys else {"asgi": "asgi_apps:app"}
    return fleet.vassal(name, **{**named, "pythonpath": APPS, **keys})


def seen(fleet: Fleet) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(fleet.get("a", "/seen").body)
    return found


def request(path: str, method: str = "GET", *fields: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: a.localhost", *fields, "", ""]).encode()


@pytest.fixture(params=["uvloop", "asyncio"])
def served(request: pytest.FixtureRequest, fleet: Fleet) -> Fleet:
    asgi(fleet, asgi_loop=request.param)
    fleet.start()
    return fleet


def test_an_app_is_served_with_its_scope_and_its_mistakes_are_told(served: Fleet) -> None:
    assert served.get("a", "/hello").body == b"Hello, ASGI"
    first, second = (json.loads(served.get("a", "/scope/%C3%A4?x=%20").body) for _ in range(2))
    assert (
        first["path"] == "/scope/\xe4" and first["raw_path"] == "/scope/%C3%A4" and first["query"] == "x=%20"
    )
    assert first["headers"]["host"].startswith("a.localhost") and first["asgi"] == {
        "version": "3.0",
        "spec_version": "2.5",
    }
    # Its own task, context and copy of the state.
    assert second["task"] and second["variable"] == "unset" and second["state"] == {"started": 1, "own": 1}
    for path, status, told in (
        ("/fails", 500, "ValueError: on purpose"),
        ("/nothing", 500, "GET /nothing: the app returned before http.response.start"),
        ("/none", 500, "KeyError: 'none'"),
    ):
        assert served.get("a", path).status == status
        wait_for(lambda told=told: told in served.log(), 5, served.log)
    with Connection(served.http_port) as client, pytest.raises(ConnectionError):
        client.request("a.localhost", "/fails_late")
    wait_for(lambda: "on purpose, late" in served.log(), 5, served.log)
    assert served.get("a", "/hello").status == 200


def test_the_loop_is_what_the_vassal_asks_for(fleet: Fleet) -> None:
    asgi(fleet, "a")
    asgi(fleet, "b", asgi_loop="asyncio")
    fleet.start()
    assert json.loads(fleet.get("a", "/scope").body)["loop"] == "uvloop"
    assert json.loads(fleet.get("b", "/scope").body)["loop"].startswith("asyncio")


def test_bodies_stream_both_ways(served: Fleet) -> None:
    with Connection(served.http_port, 20) as client:
        client.send(request("/echo", "POST", "Transfer-Encoding: chunked"))
        client.send(b"5\r\nfirst\r\n")
        assert client.read_head()[0] == 200
        received = b""
        while b"first" not in received:
            received += client.read_some()
        client.send(b"6\r\nsecond\r\n0\r\n\r\n")
        while not received.endswith(b"0\r\n\r\n"):
            received += client.read_some()
        assert b"second" in received
    content = os.urandom(3_000_000)
    answer = fetch(served.http_port, "a.localhost", "/digest", method="POST", body=content)
    assert json.loads(answer.body) == [len(content), hashlib.sha256(content).hexdigest()]
    answer = fetch(served.http_port, "a.localhost", "/echo", method="POST", body=content)
    assert answer.body == content
    assert len(served.get("a", "/flood?5000000").body) == 5_000_000


def test_a_client_that_goes_is_told_to_the_app_at_once(served: Fleet) -> None:
    client = Connection(served.http_port, 20)
    client.send(request("/ticks"))
    assert client.read_head()[0] == 200
    client.close()
    wait_for(lambda: seen(served)["disconnects"] == 1, 5)
    client = Connection(served.http_port, 20)
    client.send(request("/echo", "POST", "Content-Length: 100") + b"part")
    client.read_head()
    client.close()
    wait_for(lambda: seen(served)["disconnects"] == 2, 5)


def test_module_sees_what_an_app_speaks_and_says_so(fleet: Fleet) -> None:
    asgi(fleet, module="asgi_apps:app")
    fleet.start()
    assert fleet.get("a", "/hello").body == b"Hello, ASGI"
    told = "the app speaks ASGI: served on uvloop, up to 64/256 requests at once"
    wait_for(lambda: told in fleet.log(), 5, fleet.log)


def test_a_factory_and_a_mount(fleet: Fleet) -> None:
    (fleet.root / "made.py").write_text(
        "import asgi_apps\ndef make():\n    async def app(*call):\n        await asgi_apps.app(*call)\n    return app\n"
    )
    fleet.vassal(
        "a",
        asgi="made:make()",
        pythonpath=[APPS, fleet.root],
        domain="a.localhost/scope",
        manage_script_name="true",
    )
    fleet.start()
    found = json.loads(fleet.get("a", "/scope/x").body)
    assert (found["root_path"], found["path"]) == ("/scope", "/scope/x")


def test_a_startup_that_fails_is_the_vassals(fleet: Fleet) -> None:
    asgi(fleet, env="FAIL_STARTUP=1")
    fleet.start(ready=False)
    wait_for(lambda: "lifespan startup failed: the database is away" in fleet.log(), 20, fleet.log)
    assert fleet.get("a", "/hello").status == 503


def test_an_app_that_must_have_a_lifespan_and_has_none(fleet: Fleet) -> None:
    (fleet.root / "bare.py").write_text(
        "async def app(scope, receive, send):\n"
        "    assert scope['type'] == 'http'\n"
        "    await send({'type': 'http.response.start', 'status': 204})\n"
        "    await send({'type': 'http.response.body'})\n"
    )
    fleet.vassal("a", asgi="bare:app", pythonpath=fleet.root)
    fleet.vassal("b", asgi="bare:app", pythonpath=fleet.root, lifespan="on")
    fleet.start(ready=False)
    wait_for(
        lambda: "lifespan = on, but the app has none: it raised AssertionError" in fleet.log(), 20, fleet.log
    )
    fleet.wait_ready("a")
    assert fleet.get("a", "/").status == 204


def test_a_reload_under_load_loses_nothing_and_ends_the_lifespan(fleet: Fleet) -> None:
    log = fleet.root / "shutdowns"
    path = asgi(fleet, processes=2, env=f"SHUTDOWN_LOG={log}")
    fleet.start()
    statuses: list[int] = []
    over = threading.Event()

    def load() -> None:
        while not over.is_set():
            statuses.append(fetch(fleet.http_port, "a.localhost", "/sleep?0.02").status)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2):
            before, done = fleet.pid("worker", "a"), len(statuses)
            path.write_text(path.read_text() + "need-app = true\n")
            fleet.wait_another(before, "worker", "a")
            wait_for(lambda done=done: len(statuses) > done + 20, 20)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert set(statuses) == {200}
    wait_for(lambda: log.exists() and log.read_text().count("shutdown") == 4, 10, fleet.log)


def test_a_task_that_runs_on_after_its_response_is_awaited(fleet: Fleet) -> None:
    log = fleet.root / "background"
    asgi(fleet, env=f"BACKGROUND_LOG={log}")
    fleet.start()
    assert fleet.get("a", "/background?1").body == b"later"
    assert fleet.stop() == 0
    assert log.read_text() == "done\n"


def test_a_deadline_cancels_the_task_and_the_worker_goes_on(fleet: Fleet) -> None:
    asgi(fleet, harakiri="500ms")
    fleet.start()
    before = fleet.pid("worker", "a")
    assert fleet.get("a", "/sleep?30").status == 504
    wait_for(lambda: seen(fleet)["cancelled"] == 1, 5)
    wait_for(lambda: "GET /sleep?30: harakiri: it has run for 0.5 s" in fleet.log(), 5, fleet.log)
    wait_for(lambda: "in sleep" in fleet.log(), 5, fleet.log)
    assert fleet.get("a", "/stubborn").status == 504
    wait_for(lambda: "the app goes on although it was cancelled" in fleet.log(), 5, fleet.log)
    assert fleet.pid("worker", "a") == before and fleet.get("a", "/hello").status == 200


def test_an_app_that_holds_the_loop_is_reported_with_its_stack(fleet: Fleet) -> None:
    asgi(fleet, loop_lag="200ms")
    fleet.start()
    assert fleet.get("a", "/block?1.5").body == b"blocked"
    wait_for(lambda: "the event loop goes on after" in fleet.log(), 5, fleet.log)
    wait_for(lambda: "time.sleep(" in fleet.log(), 5, fleet.log)
    assert "the event loop has been held up for 0.2 s (loop-lag)" in fleet.log()


def test_a_loop_that_is_held_past_harakiri_costs_its_worker(fleet: Fleet) -> None:
    asgi(fleet, harakiri="500ms")
    fleet.start()
    before = fleet.pid("worker", "a")
    assert fleet.get("a", "/block?20").status == 504
    wait_for(lambda: before not in fleet.pids().values(), 15, fleet.log)
    fleet.wait_ready("a")
    assert fleet.get("a", "/hello").status == 200


def all_of(fleet: Fleet, path: str, count: int) -> list[bytes]:
    clients = [Connection(fleet.http_port, 40) for _ in range(count)]
    for client in clients:
        client.send(request(path))
    bodies = [client.read_response().body for client in clients]
    for client in clients:
        client.close()
    return bodies


def test_more_than_the_soft_limit_begin_while_the_loop_has_time_and_none_beyond_the_hard(
    fleet: Fleet,
) -> None:
    asgi(fleet, concurrency="2/6")
    fleet.start()
    assert all_of(fleet, "/sleep?2", 8) == [b"slept"] * 8
    assert seen(fleet)["most"] == 6


def test_of_requests_that_compute_no_more_than_the_soft_limit_begin(fleet: Fleet) -> None:
    asgi(fleet, concurrency="2/8")
    fleet.start()
    assert all_of(fleet, "/busy", 8) == [b"computed"] * 8
    # One more may begin before the first timer has told that the loop is late.
    assert seen(fleet)["most"] <= 3


def test_streams_beyond_the_soft_limit_slow_down_nobody(fleet: Fleet) -> None:
    asgi(fleet, concurrency="1/16")
    fleet.start()
    streams = [Connection(fleet.http_port, 20) for _ in range(4)]
    for client in streams:
        client.send(request("/ticks"))
        assert client.read_head()[0] == 200
    began = time.monotonic()
    with Connection(fleet.http_port, 20) as client:
        assert {client.request("a.localhost", "/hello").status for _ in range(3000)} == {200}
    # One at each tick would be half a minute.
    assert time.monotonic() - began < 25
    for client in streams:
        client.close()


def test_a_slow_client_costs_neither_side_memory(fleet: Fleet) -> None:
    asgi(fleet, response_buffer="1m")
    fleet.start()
    assert fleet.get("a", "/hello").status == 200
    with (
        Growth([fleet.pid("router"), fleet.pid("worker", "a")]) as growth,
        Connection(fleet.http_port, 20) as client,
    ):
        client.send(request(f"/flood?{1 << 30}"))
        client.read_some()
        settled = 0
        for _ in range(50):
            time.sleep(0.1)
            now = seen(fleet)["flooded"]
            if now == settled and now:
                break
            settled = now
    assert 0 < settled < 16 << 20, settled
    assert growth.most < 32 << 20, growth.most
    # The one that does not read holds up nobody.
    assert fleet.get("a", "/hello").status == 200


def test_an_upload_that_the_app_does_not_read_waits(fleet: Fleet) -> None:
    asgi(fleet)
    fleet.start()
    gate = fleet.root / "gate"
    size = 64 << 20
    sent = [0]
    with Connection(fleet.http_port, 30) as client:
        client.send(request(f"/slow_reader?{gate}", "POST", f"Content-Length: {size}"))

        def upload() -> None:
            for _ in range(size // 65536):
                client.send(bytes(65536))
                sent[0] += 65536

        thread = threading.Thread(target=upload)
        thread.start()
        last = -1
        while last != sent[0]:
            last = sent[0]
            time.sleep(0.5)
        assert last < size // 2
        gate.touch()
        thread.join()
        assert json.loads(client.read_response().body)[0] == size


def test_early_hints_trailers_and_files(fleet: Fleet) -> None:
    asgi(fleet)
    fleet.start()
    with Connection(fleet.http_port, 10) as client:
        client.send(request("/hints"))
        assert client.read_some().startswith(
            b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n"
        )
    with Connection(fleet.http_port, 10) as client:
        client.send(request("/trailers", "GET", "TE: trailers", "Connection: TE"))
        received = b""
        while not received.endswith(b"\r\n\r\n") or b"0\r\n" not in received:
            received += client.read_some()
        assert b"x-sum: 42\r\n" in received
    content = os.urandom(1_000_000)
    (fleet.root / "file").write_bytes(content)
    answer = fleet.get("a", f"/file?{fleet.root}/file")
    assert answer.body == content and answer.fields["content-length"] == "1000000"


def test_a_worker_that_dies_is_replaced_and_costs_what_it_ran(fleet: Fleet) -> None:
    asgi(fleet, retries="false")
    fleet.start()
    clients = [Connection(fleet.http_port, 20) for _ in range(3)]
    for client in clients:
        client.send(request("/sleep?30"))
    wait_for(lambda: fleet.status()["routers"][0]["apps"]["a"]["running"] == 3, 5)
    os.kill(fleet.pid("worker", "a"), 9)
    assert [client.read_response().status for client in clients] == [502] * 3
    for client in clients:
        client.close()
    fleet.wait_ready("a")
    assert fleet.get("a", "/hello").status == 200


def test_max_requests_replaces_the_worker_and_loses_nothing(fleet: Fleet) -> None:
    asgi(fleet, max_requests=20, min_worker_lifetime=0)
    fleet.start()
    before = fleet.pid("worker", "a")
    assert {fleet.get("a", "/hello").status for _ in range(60)} == {200}
    wait_for(lambda: before not in fleet.pids().values(), 10, fleet.log)
    wait_for(lambda: "max-requests" in fleet.log(), 5, fleet.log)
    assert fleet.get("a", "/hello").status == 200


@pytest.fixture
def front(fleet: Fleet) -> Iterator[tuple[Fleet, int]]:
    """nginx with `uwsgi_pass` in front of an ASGI app; `/off/` does not buffer."""
    asgi(fleet, asgi="asgi_apps:app")
    uwsgi_port = free_port()
    fleet.start("--uwsgi", f"127.0.0.1:{uwsgi_port}")
    with nginx(fleet, f"127.0.0.1:{uwsgi_port}", path="/hello") as port:
        yield fleet, port


def test_uwsgi_pass_of_nginx_leads_to_an_asgi_app(front: tuple[Fleet, int]) -> None:
    _, port = front
    found = json.loads(fetch(port, "a.localhost", "/scope/%C3%A4?a=b").body)
    assert found["path"] == "/scope/\xe4" and found["query"] == "a=b" and found["method"] == "GET"
    content = os.urandom(2_000_000)
    answer = fetch(port, "a.localhost", "/digest", method="POST", body=content)
    assert json.loads(answer.body) == [len(content), hashlib.sha256(content).hexdigest()]
    with Connection(port, 10) as client:
        client.send(request("/ticks"))
        assert client.read_head()[0] == 200


def test_fastapi_with_dependencies_threads_streams_and_background_tasks(fleet: Fleet) -> None:
    pytest.importorskip("fastapi")
    fleet.vassal("a", asgi="fast_app:app", pythonpath=APPS)
    fleet.start()
    assert json.loads(fleet.get("a", "/items/3?q=x").body) == {"item": 3, "q": "x", "ready": True}
    assert fleet.get("a", "/items/x").status == 422
    assert json.loads(fleet.get("a", "/thread").body)["thread"] != "MainThread"
    assert fleet.get("a", "/stream").body == b"".join(b"line %d\n" % n for n in range(50))
    answer = fetch(
        fleet.http_port,
        "a.localhost",
        "/items",
        method="POST",
        body=b'{"name": "n"}',
        fields={"Content-Type": "application/json"},
    )
    assert json.loads(answer.body) == {"name": "n"}
    assert fleet.get("a", "/file").body == (APPS / "fast_app.py").read_bytes()
    fleet.get("a", "/background")
    wait_for(lambda: json.loads(fleet.get("a", "/done").body) == ["done"], 5)


def test_ready_path_is_asked_on_the_loop_that_will_serve(fleet: Fleet) -> None:
    """A task of the lifespan's goes on while the worker waits, and makes it ready."""
    (fleet.root / "slowly.py").write_text(
        "import asyncio\n"
        "warm = asyncio.Event()\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'lifespan':\n"
        "        await receive()\n"
        "        warming = asyncio.create_task(warm_up())\n"
        "        await send({'type': 'lifespan.startup.complete'})\n"
        "        await receive()\n"
        "        await send({'type': 'lifespan.shutdown.complete'})\n"
        "        return\n"
        "    await send({'type': 'http.response.start', 'status': 200 if warm.is_set() else 503})\n"
        "    await send({'type': 'http.response.body', 'body': scope['path'].encode()})\n"
        "async def warm_up():\n"
        "    await asyncio.sleep(0.3)\n"
        "    warm.set()\n"
    )
    fleet.vassal("a", asgi="slowly:app", pythonpath=fleet.root, ready_path="/health")
    fleet.start()
    assert fleet.get("a", "/x").body == b"/x"


def test_cycles_are_looked_for_less_often_unless_the_app_says_how_often(fleet: Fleet) -> None:
    source = (
        "import gc\n{}\n"
        "async def app(scope, receive, send):\n"
        "    assert scope['type'] == 'http'\n"
        "    await send({{'type': 'http.response.start', 'status': 200}})\n"
        "    await send({{'type': 'http.response.body', 'body': b'%d' % gc.get_threshold()[0]}})\n"
    )
    for name, line in (("a", ""), ("b", "gc.set_threshold(900)")):
        (fleet.root / f"app_{name}.py").write_text(source.format(line))
        fleet.vassal(name, asgi=f"app_{name}:app", pythonpath=fleet.root)
    fleet.start()
    assert fleet.get("a", "/").body == b"10000"
    assert fleet.get("b", "/").body == b"900"


def test_preload_forks_workers_with_loops_of_their_own(fleet: Fleet) -> None:
    asgi(fleet, processes=2, preload="true")
    fleet.start()
    found = [json.loads(fleet.get("a", "/scope").body) for _ in range(10)]
    assert {each["state"]["started"] for each in found} == {1}


def test_a_router_that_dies_is_met_again_while_tasks_go_on(fleet: Fleet) -> None:
    log = fleet.root / "background"
    asgi(fleet, env=f"BACKGROUND_LOG={log}")
    fleet.start()
    worker = fleet.pid("worker", "a")
    assert fleet.get("a", "/background?1").body == b"later"
    os.kill(fleet.pid("router"), 9)
    wait_for(lambda: answers(fleet.http_port, "a.localhost", "/hello"), 15, fleet.log)
    wait_for(log.exists, 10)
    assert fleet.pid("worker", "a") == worker
    assert len(fleet.get("a", "/flood?5000000").body) == 5_000_000


def test_streams_that_do_not_end_leave_the_lifespan_its_time(fleet: Fleet) -> None:
    log = fleet.root / "shutdowns"
    path = asgi(fleet, stop_timeout="2s", env=f"SHUTDOWN_LOG={log}")
    fleet.start()
    with Connection(fleet.http_port, 20) as client:
        client.send(request("/ticks"))
        assert client.read_head()[0] == 200
        path.write_text(path.read_text() + "need-app = true\n")
        with pytest.raises(ConnectionResetError):
            client.read_to_end()
    wait_for(lambda: log.exists() and log.read_text() == "shutdown\n", 10, fleet.log)
    wait_for(
        lambda: "GET /ticks: cancelled, the worker leaves and its time is over" in fleet.log(),
        5,
        fleet.log,
    )


def test_django_over_asgi(fleet: Fleet) -> None:
    fleet.vassal("a", module="django_asgi", pythonpath=APPS)
    fleet.start()
    assert json.loads(fleet.get("a", "/async?q=1").body) == {"path": "/async", "query": "1"}
    assert json.loads(fleet.get("a", "/thread").body) == {"main": False}
    assert fleet.get("a", "/fails").status == 500 and fleet.get("a", "/none").status == 404
    content = os.urandom(2_000_000)
    answer = fetch(fleet.http_port, "a.localhost", "/upload", method="POST", body=content)
    assert answer.body.decode() == hashlib.sha256(content).hexdigest()
    with Connection(fleet.http_port, 10) as client:
        client.send(request("/stream"))
        assert client.read_head()[0] == 200 and b"line" in client.read_some()
    wait_for(lambda: json.loads(fleet.get("a", "/gone").body) == ["gone"], 20, fleet.log)
