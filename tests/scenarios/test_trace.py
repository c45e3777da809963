"""`emperor trace NAME`: where the workers are, whatever they do, and they go on."""

import json
import os
import signal
import subprocess
import time
from typing import Any

import pytest

from .harness import Fleet, wait_for
from .harness.fleet import APPS
from .test_harakiri import ENGINES, NAMES, counts, send, stuck


def traced(fleet: Fleet, name: str = "a") -> dict[str, Any]:
    done = fleet.cli("trace", name, "--run-dir", fleet.run_dir, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def stacks(fleet: Fleet) -> str:
    """Those of the only worker."""
    (worker,) = traced(fleet)["workers"]
    return "\n".join(worker["stacks"])


@pytest.mark.parametrize("path", ["/sleep", "/held", "/spin", "/deaf"])
@pytest.mark.parametrize("engine", ENGINES, ids=NAMES)
def test_a_stuck_worker_is_shown_and_lives(fleet: Fleet, engine: dict[str, object], path: str) -> None:
    pid = stuck(fleet, harakiri=0, **engine)
    client = send(fleet, f"{path}?s=30")
    wait_for(lambda: counts(fleet)["running"] == 1, 5)
    function = {"/held": "in held"}.get(path, "in application")

    def shown() -> dict[str, Any] | None:
        # It may have been caught before the app had come to that line, and the router is asked before the worker is.
        (worker,) = traced(fleet)["workers"]
        return worker if function in "\n".join(worker["stacks"]) and worker["requests"] else None

    worker = wait_for(shown, 10)
    assert worker is not None
    assert (worker["pid"], worker["seat"], worker["generation"]) == (pid, 0, 1)
    (request,) = worker["requests"]
    assert request["request"] == f"GET a.localhost{path}?s=30"
    assert 0 <= request["ran_ms"] < 30_000
    assert request["wanted"] == 1
    assert fleet.pid("worker", "a") == pid
    client.close()
    os.kill(pid, signal.SIGKILL)


def test_in_words(fleet: Fleet) -> None:
    pid = stuck(fleet, harakiri=0, processes=2)
    client = send(fleet, "/sleep?s=30")
    wait_for(lambda: counts(fleet)["running"] == 1, 5)

    def shown() -> "subprocess.CompletedProcess[str] | None":
        # The router has given it to the worker, which may not have begun it.
        done = fleet.cli("trace", "a", "--run-dir", fleet.run_dir)
        assert done.returncode == 0, done.stderr
        return done if "GET a.localhost/sleep?s=30 has run for" in done.stdout else None

    done = wait_for(shown, 10, lambda: fleet.cli("trace", "a", "--run-dir", fleet.run_dir).stdout)
    assert done is not None
    assert "generation 1, pid " in done.stdout and ", runs no request" in done.stdout
    assert "most recent call first" in done.stdout
    assert f"pid {pid}" in done.stdout
    client.close()
    for seat in (0, 1):
        os.kill(fleet.pid("worker", "a", seat), signal.SIGKILL)


def test_what_has_been_traced_is_not_lost(fleet: Fleet) -> None:
    stuck(fleet, harakiri=0)
    client = send(fleet, "/sleep?s=2")
    wait_for(lambda: counts(fleet)["running"] == 1, 5)
    for _ in range(3):
        traced(fleet)
    assert client.read_response().status == 200
    client.close()


def test_an_app_that_does_not_finish_its_import(fleet: Fleet) -> None:
    fleet.app(
        "a", "import time\ntime.sleep(20)\ndef application(e, s):\n    s('200 OK', [])\n    return [b'']\n"
    )
    fleet.start(ready=False)
    wait_for(lambda: fleet.vassal_status("a").get("state") == "STARTING", 15)

    def shown() -> bool:
        workers = traced(fleet)["workers"]
        return any("a.py" in line for worker in workers for line in worker["stacks"])

    wait_for(shown, 15)


def test_a_worker_that_is_stopped_says_so(fleet: Fleet) -> None:
    pid = stuck(fleet, harakiri=0)
    os.kill(pid, signal.SIGSTOP)
    try:
        (worker,) = traced(fleet)["workers"]
    finally:
        os.kill(pid, signal.SIGCONT)
    assert worker["stacks"] == []
    assert "it is stopped" in worker["mute"]
    assert fleet.get("a").status == 200  # the signal that came late did no harm


def test_a_gateway_that_is_stopped_is_named(fleet: Fleet) -> None:
    stuck(fleet, harakiri=0)
    pid = fleet.pid("gateway", "a")
    os.kill(pid, signal.SIGSTOP)
    try:
        asked = time.monotonic()
        found = traced(fleet)
        assert time.monotonic() - asked < 15
    finally:
        os.kill(pid, signal.SIGCONT)
    assert found["workers"] == []
    assert found["missing"] == ["the gateway of generation 1 has not answered within 5 s"]


def test_a_name_that_nobody_has(fleet: Fleet) -> None:
    fleet.vassal("blog", **{"wsgi-file": APPS / "hello.py"})
    fleet.start()
    done = fleet.cli("trace", "blg", "--run-dir", fleet.run_dir)
    assert done.returncode == 1
    assert "there is no vassal 'blg'; did you mean blog?" in done.stderr


def test_an_app_that_uses_signals_of_its_own(fleet: Fleet) -> None:
    """What an app says of signals does not keep us from looking, and looking does not set off what it has."""
    source = """
        import faulthandler, signal, sys, time

        faulthandler.enable()
        faulthandler.register(signal.SIGUSR1, file=sys.stderr)
        for number in range(1, 32):
            if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGUSR1, signal.SIGTERM):
                signal.signal(number, lambda *_: print("set off", flush=True))

        def application(environ, start_response):
            time.sleep(5)
            start_response("200 OK", [])
            return [b""]
    """
    fleet.app("a", source)
    fleet.start()
    client = send(fleet, "/")
    wait_for(lambda: counts(fleet)["running"] == 1, 5)
    wait_for(lambda: "in application" in stacks(fleet), 10, lambda: stacks(fleet))
    assert client.read_response().status == 200
    assert "set off" not in fleet.log()
    client.close()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_tasks_are_shown_with_what_was_asked_for(fleet: Fleet, loop: str) -> None:
    fleet.vassal("a", asgi="asgi_apps:app", pythonpath=APPS, asgi_loop=loop)
    fleet.start()
    clients = [send(fleet, "/sleep?30"), send(fleet, "/sleep?31"), send(fleet, "/ticks")]
    wait_for(lambda: counts(fleet)["running"] == 3, 5)
    # They have been given to the worker, which may not have come to all of them.
    awaited = ("Task GET /sleep?30:", "Task GET /sleep?31:", "ticks.<locals>.wait", "await receive()")
    wait_for(lambda: all(each in stacks(fleet) for each in awaited), 10, lambda: stacks(fleet))
    (worker,) = traced(fleet)["workers"]
    text = "\n".join(worker["stacks"])
    assert "Thread 0x" in text and "Tasks (most recent call last):" in text
    first, second = (text.split(f"Task GET /sleep?{number}:")[1].split("Task ")[0] for number in (30, 31))
    assert "await asyncio.sleep(float" in first and "await asyncio.sleep(float" in second
    # Those that the app has made itself.
    assert "ticks.<locals>.wait" in text
    assert "await receive()" in text.split("ticks.<locals>.wait")[1]
    # Ours are not shown.
    assert "worker/aio.py" not in text.split("Tasks (most recent call last):")[1]
    assert {each["request"] for each in worker["requests"]} >= {"GET a.localhost/sleep?30"}
    # It goes on.
    assert fleet.get("a", "/hello").status == 200
    for client in clients:
        client.close()


def test_a_task_that_holds_the_loop_is_shown_where_it_is(fleet: Fleet) -> None:
    fleet.vassal("a", asgi="asgi_apps:app", pythonpath=APPS, loop_lag=0)
    fleet.start()
    waits, holds = send(fleet, "/sleep?30"), send(fleet, "/block?5")
    wait_for(lambda: counts(fleet)["running"] == 2, 5)

    def shown() -> bool:
        text = stacks(fleet)
        return "time.sleep(" in text.partition("Task GET /block?5:")[2] and "Task GET /sleep?30:" in text

    # It may have been caught before the app had come to that line.
    wait_for(shown, 10)
    assert holds.read_response().body == b"blocked"
    for client in (waits, holds):
        client.close()
