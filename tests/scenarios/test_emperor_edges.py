"""The emperor at its borders: what it refuses to start on, what it hands on, what it takes over, how it
ends."""

import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from emperor.stats.model import FIELDS

from ..stats.test_model import places
from .harness import Fleet, fetch, free_port, machine, wait_for
from .harness.fleet import APPS, EMPEROR

HELLO = APPS / "hello.py"

SLEEPER = """
    import time

    def application(environ, start_response):
        time.sleep(float(environ.get("QUERY_STRING") or 0))
        start_response("200 OK", [("Content-Length", "4")])
        return [b"done"]
"""


def test_a_taken_address_is_named_with_its_holder_and_nothing_is_left(fleet: Fleet) -> None:
    fleet.vassal("red", wsgi_file=HELLO)
    with socket.create_server(("127.0.0.1", fleet.http_port)):
        done = fleet.cli(
            "start", fleet.directory, "--http", f"127.0.0.1:{fleet.http_port}", "--run-dir", fleet.run_dir
        )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert f"127.0.0.1:{fleet.http_port}" in last and f"pid {os.getpid()}" in last
    assert not fleet.run_dir.exists()


def test_a_run_directory_serves_one_emperor(fleet: Fleet, make_fleet: Callable[..., Fleet]) -> None:
    other = make_fleet()
    fleet.vassal("red", wsgi_file=HELLO)
    fleet.start()
    done = other.cli("start", other.directory, "--http", "127.0.0.1:0", "--run-dir", fleet.run_dir)
    assert done.returncode == 1 and f"pid {fleet.pid('emperor')}" in done.stderr
    assert fleet.get("red").status == 200


def test_no_child_holds_the_lock_or_a_door_that_is_not_its_own(fleet: Fleet) -> None:
    fleet.vassal("red", wsgi_file=HELLO)
    fleet.start()
    for role, pid in fleet.pids().items():
        links = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
        assert (str(fleet.directory) in links) == (role == "emperor"), f"{role}: {links}"
        assert (str(fleet.run_dir) in links) == (role == "emperor"), f"{role}: {links}"
    ports = {role: sum(_listens(pid, fleet.http_port) for pid in [pid]) for role, pid in fleet.pids().items()}
    assert {role for role, count in ports.items() if count} == {"emperor", "router 0"}


def _listens(pid: int, port: int) -> bool:
    import psutil

    return any(
        each.status == psutil.CONN_LISTEN and each.laddr.port == port
        for each in psutil.Process(pid).net_connections("tcp")
    )


def test_an_address_changed_over_a_killed_emperor_moves_and_the_apps_stay(fleet: Fleet) -> None:
    fleet.vassal("red", wsgi_file=HELLO)
    fleet.start()
    pids, before = fleet.pids(), fleet.http_port
    fleet.kill_emperor()
    fleet.http_port = free_port()
    fleet.start()
    wait_for(lambda: fleet.get("red").status == 200, 5, fleet.summary)
    with pytest.raises(ConnectionRefusedError):
        fetch(before, "red.localhost", "/")
    now = fleet.pids()
    assert {role: now[role] for role in ("router 0", "gateway red", "worker red/0")} == {
        role: pids[role] for role in ("router 0", "gateway red", "worker red/0")
    }


def test_a_default_vassal_stays_the_default_while_it_is_taken_over(fleet: Fleet) -> None:
    fleet.vassal("red", wsgi_file=HELLO)  # the only one from the start
    fleet.start()
    fleet.vassal("blue", wsgi_file=HELLO)
    fleet.wait_ready("blue")
    answers: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answers.append(fetch(fleet.http_port, "any.example.com", "/").status)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        fleet.kill_emperor()
        fleet.start()
        wait_for(lambda: fleet.status()["emperor"]["state"] == "running", 5, fleet.summary)
    finally:
        stop.set()
        asking.join()
    assert set(answers) == {200}, f"{len(answers)} answers"


def test_a_gateway_that_hangs_is_replaced_at_the_take_over(fleet: Fleet) -> None:
    fleet.vassal("red", wsgi_file=HELLO)
    fleet.vassal("blue", wsgi_file=HELLO)
    fleet.start()
    pids = fleet.pids()
    os.kill(pids["gateway red"], signal.SIGSTOP)
    fleet.kill_emperor()
    fleet.start()
    now = fleet.pids()
    assert now["gateway red"] != pids["gateway red"] and now["gateway blue"] == pids["gateway blue"]
    assert fleet.vassal_status("red")["generation"] == 2
    assert fleet.get("red").status == 200


def test_a_spawn_that_is_lost_with_its_spawner_is_done_again_once(fleet: Fleet) -> None:
    fleet.vassal("red", wsgi_file=HELLO)
    fleet.start()
    spawner = fleet.pid("spawner")
    os.kill(spawner, signal.SIGSTOP)
    fleet.vassal("blue", wsgi_file=HELLO)
    wait_for(lambda: fleet.vassal_status("blue").get("state") == "STARTING", 5, fleet.summary)
    os.kill(spawner, signal.SIGKILL)
    fleet.wait_ready("blue")
    assert fleet.pid("spawner") != spawner
    titles = [
        Path(entry, "cmdline").read_bytes().decode()
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _parent(entry) == fleet.pid("emperor")
    ]
    assert sum("gateway blue" in title for title in titles) == 1, titles


def _parent(entry: Path) -> int:
    try:
        stat = (entry / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(stat[stat.rindex(")") + 2 :].split()[1])


def test_what_waits_for_a_removed_vassal_is_served(fleet: Fleet) -> None:
    path = fleet.app("slow", SLEEPER)
    fleet.start()
    answers: list[int] = []

    def ask() -> None:
        answers.append(fleet.get("slow", "/?0.4").status)

    asking = [threading.Thread(target=ask) for _ in range(6)]
    for thread in asking:
        thread.start()
    wait_for(lambda: _requests(fleet, "slow") >= 6, 5, fleet.summary)
    path.unlink()
    for thread in asking:
        thread.join()
    assert answers == [200] * 6
    wait_for(lambda: not fleet.vassal_status("slow"), 10, fleet.summary)
    assert fleet.get("slow").status == 404


def _requests(fleet: Fleet, name: str) -> int:
    return int(fleet.status()["routers"][0]["apps"].get(name, {}).get("requests", 0))


def test_a_domain_goes_to_who_waits_for_it_when_its_holder_goes(fleet: Fleet) -> None:
    fleet.vassal("a", wsgi_file=HELLO, domain="x.example.com", env="GREETING=a")
    fleet.vassal("b", wsgi_file=HELLO, domain="x.example.com", env="GREETING=b")
    fleet.start(ready=False)
    assert "held by a.ini" in fleet.wait_state("b", "REFUSED")["reason"]
    fleet.wait_ready("a")
    assert fleet.get("b").status == 503, "known, and not ready"
    (fleet.directory / "a.ini").unlink()
    fleet.wait_ready("b")
    assert fetch(fleet.http_port, "x.example.com", "/").text == "b"


def test_hangup_reloads_all_and_the_service_supervisor_is_told(make_fleet: Callable[..., Fleet]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        name = f"emperor-scenario-{os.getpid()}"
        peer.bind("\0" + name)
        peer.settimeout(15)
        fleet = make_fleet(NOTIFY_SOCKET="@" + name)
        fleet.vassal("red", wsgi_file=HELLO)
        fleet.vassal("blue", wsgi_file=HELLO)
        fleet.start(ready=False)
        _wait_told(peer, "READY=1")
        assert {vassal["state"] for vassal in fleet.status()["vassals"]} == {"READY"}
        assert fleet.emperor is not None
        fleet.emperor.send_signal(signal.SIGHUP)
        _wait_told(peer, "RELOADING=1")
        _wait_told(peer, "READY=1")
        assert {vassal["generation"] for vassal in fleet.status()["vassals"]} == {2}
        fleet.emperor.send_signal(signal.SIGTERM)
        _wait_told(peer, "STOPPING=1")
        assert fleet.emperor.wait(10) == 0


def _wait_told(peer: socket.socket, line: str) -> None:
    while line not in peer.recv(4096).decode().splitlines():
        pass


def test_a_vassal_sees_nothing_of_the_emperors_environment(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(SECRET_OF_THE_OPERATOR="x", TZ="Etc/GMT+3")
    fleet.app(
        "env",
        """
        import os

        def application(environ, start_response):
            start_response("200 OK", [])
            return ["\\n".join(f"{key}={value}" for key, value in os.environ.items()).encode()]
        """,
        env="OWN=mine",
    )
    fleet.start()
    text = fleet.get("env").text
    assert "SECRET_OF_THE_OPERATOR" not in text and "NOTIFY_SOCKET" not in text
    assert {"OWN=mine", "TZ=Etc/GMT+3"} <= set(text.splitlines())


def test_descriptors_do_not_grow_with_reloads(fleet: Fleet) -> None:
    fleet.vassal("red", wsgi_file=HELLO)
    fleet.start()

    def count() -> int:
        return len(os.listdir(f"/proc/{fleet.pid('emperor')}/fd"))

    before = count()
    for generation in range(2, 7):
        assert fleet.cli("reload", "red", "--run-dir", fleet.run_dir).returncode == 0
        wait_for(
            lambda generation=generation: (
                (vassal := fleet.vassal_status("red")).get("generation") == generation
                and vassal["state"] == "READY"
                and not vassal["draining"]
            ),
            10,
            fleet.summary,
        )
    wait_for(lambda: count() <= before, 5, lambda: f"{before} → {count()}")


@pytest.mark.slow
def test_a_stuck_app_does_not_hold_up_the_end(fleet: Fleet) -> None:
    fleet.app("stuck", SLEEPER)
    fleet.start()
    pids = fleet.pids()
    asking = threading.Thread(target=lambda: _ask_in_vain(fleet))
    asking.start()
    wait_for(lambda: _requests(fleet, "stuck") == 1, 5, fleet.summary)
    start = machine.now()
    assert fleet.stop(deadline_s=60) == 0
    assert time.monotonic() - start.at_s < machine.allowed(9, start)
    asking.join()
    assert not [role for role, pid in pids.items() if Path(f"/proc/{pid}/exe").exists()]
    assert not fleet.run_dir.exists()


CLOSES_SLOWLY = """
    import asyncio, pathlib

    async def app(scope, receive, send):
        while (message := await receive())["type"].startswith("lifespan."):
            if message["type"] == "lifespan.shutdown":
                await asyncio.sleep(1.0)
                pathlib.Path(__file__).with_name("closed").write_text("")
            await send({"type": message["type"] + ".complete"})
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})
"""

WAITS_FOR_THE_OTHER = """
    import pathlib, time

    def application(environ, start_response):
        closed = pathlib.Path(__file__).with_name("closed")
        until = time.monotonic() + float(environ.get("QUERY_STRING") or 0)
        while not closed.exists() and time.monotonic() < until:
            time.sleep(0.02)
        start_response("200 OK", [])
        return [b"closed" if closed.exists() else b"not yet"]
"""


def test_who_has_nothing_to_do_need_not_wait_for_who_has(fleet: Fleet) -> None:
    """There is one time for all, and an app that takes a while to close would have what is left of it."""
    fleet.app("long", WAITS_FOR_THE_OTHER)
    (fleet.root / "apps" / "slow.py").write_text(dedent(CLOSES_SLOWLY))
    fleet.vassal("slow", asgi="slow:app", pythonpath=fleet.root / "apps")
    fleet.start()
    assert fleet.get("slow").body == b"ok"
    found: list[bytes] = []
    asking = threading.Thread(target=lambda: found.append(fleet.get("long", "/?6", timeout_s=20).body))
    asking.start()
    wait_for(lambda: _requests(fleet, "long") == 1, 5, fleet.summary)
    assert fleet.stop(deadline_s=60) == 0
    asking.join()
    assert found == [b"closed"]


def _ask_in_vain(fleet: Fleet) -> None:
    with pytest.raises(ConnectionError):
        fleet.get("stuck", "/?60", timeout_s=20)


def test_the_end_of_the_log_reader_ends_nothing(fleet: Fleet) -> None:
    """`emperor start | head`: the pipe breaks, and the apps serve on."""
    fleet.app(
        "loud", "def application(e, s):\n    print('x' * 1000, flush=True); s('200 OK', []); return [b'ok']\n"
    )
    read_end, write_end = os.pipe()
    fleet.emperor = fleet.orphans.popen(
        [
            EMPEROR,
            "start",
            fleet.directory,
            "--http",
            f"127.0.0.1:{fleet.http_port}",
            "--run-dir",
            fleet.run_dir,
        ],
        stdout=write_end,
        stderr=write_end,
        env=fleet.environment,
        start_new_session=True,
    )
    os.close(write_end)
    fleet.wait_ready("loud")
    for _ in range(200):  # more than a pipe holds, and nobody reads
        assert fleet.get("loud").text == "ok"
    os.close(read_end)
    for _ in range(20):
        assert fleet.get("loud").text == "ok"
    assert fleet.stop() == 0


def test_every_value_of_a_real_document_is_described_and_what_is_described_is_there(fleet: Fleet) -> None:
    fleet.vassal("red", wsgi_file=HELLO)
    fleet.vassal("bad", module="nowhere.to.be:found")
    fleet.start(ready=False)
    fleet.wait_ready("red")
    assert (fleet.get("red").status, fleet.get("none").status) == (200, 404)
    described = {field.place for field in FIELDS}
    missing = {""}
    for _ in range(50):
        # Of the one that is bad there is no gateway now and then, which is a value of its own.
        found = places(json.loads(fleet.cli("status", "--json", "--run-dir", fleet.run_dir).stdout))
        # An empty list or map has no element to describe.
        assert {place for place in found if place not in described and not place.endswith("[]")} == set()
        missing = {place for place in described - found if _has_an_element(place, found)}
        if not missing:
            break
    assert missing == set()


def _has_an_element(place: str, found: set[str]) -> bool:
    """Whether every list and map on the way to this place has something in it."""
    inner = [place[: at.end()] for at in re.finditer(r"\[\]|\.\*", place)]
    return all(any(each.startswith(part) for each in found) for part in inner)
