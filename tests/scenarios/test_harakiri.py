"""Requests that hold their worker for too long: their clients get 504, the log where they were, the others what they came
for, and the vassal another worker."""

import os
import signal
import time
from typing import Any

import pytest

from .harness import Connection, Fleet, wait_for
from .harness.fleet import APPS

SOON_S = 15.0
ENGINES = [{}, {"threads": 3}, {"gevent": 3}, {"threads": 3, "wsgi-on-loop": "true"}]
NAMES = ["one", "threads", "gevent", "on-loop"]


def send(fleet: Fleet, path: str, fields: str = "") -> Connection:
    client = Connection(fleet.http_port, 30)
    client.send(f"GET {path} HTTP/1.1\r\nHost: a.localhost\r\n{fields}\r\n".encode())
    return client


def counts(fleet: Fleet) -> dict[str, Any]:
    found: dict[str, Any] = fleet.status()["routers"][0]["apps"]["a"]
    return found


def stuck(fleet: Fleet, **keys: object) -> int:
    """A fleet of one vassal of the app that gets stuck; its worker's pid."""
    fleet.vassal("a", **{"wsgi-file": APPS / "stuck.py", "harakiri": 1, "retries": "false", **keys})
    fleet.start()
    return fleet.pid("worker", "a")


def wait_replaced(fleet: Fleet, before: int) -> int:
    """The pid of the worker that has taken the place."""

    def another() -> int:
        rows = [row for row in fleet.vassal_status("a").get("workers", []) if row["state"] == "ready"]
        return next((row["pid"] for row in rows if row["pid"] not in (0, before)), 0)

    return wait_for(another, SOON_S, fleet.log)


@pytest.mark.parametrize("engine", ENGINES, ids=NAMES)
def test_who_runs_too_long_is_answered_and_shown_and_ended(fleet: Fleet, engine: dict[str, object]) -> None:
    before = stuck(fleet, **engine)
    asked = time.monotonic()
    client = send(fleet, "/sleep?s=60&who=me", "Cookie: secret\r\n")
    assert client.read_response().status == 504
    assert time.monotonic() - asked >= 1.0
    after = wait_replaced(fleet, before)
    assert fleet.get("a").text == str(after)
    told = f"harakiri: worker 0 (pid {before}): GET a.localhost/sleep?s=60&who=me has run for"
    assert "secret" not in fleet.wait_log(told, "stuck.py", "in application")
    assert counts(fleet)["limits"]["harakiri"]["hits"] == 1
    events = fleet.cli("events", "--run-dir", fleet.run_dir).stdout
    assert f"worker 0 (pid {before}): GET a.localhost/sleep?s=60&who=me had run for" in events
    (worker,) = fleet.vassal_status("a")["workers"]
    assert worker["last_exit"].startswith("harakiri: a request had run for")
    client.close()


@pytest.mark.parametrize("engine", ENGINES[1:], ids=NAMES[1:])
def test_the_others_of_that_worker_are_finished(fleet: Fleet, engine: dict[str, object]) -> None:
    before = stuck(fleet, **{**engine, "harakiri": 2, "harakiri-path": "/sleep/long 60"})
    late = send(fleet, "/sleep?s=60")
    others = [send(fleet, f"/sleep/long?s={seconds}") for seconds in (2.5, 3.5)]
    wait_for(lambda: counts(fleet)["running"] == 3, 5)
    waiting = send(fleet, "/")  # on deck, or in the queue
    assert late.read_response().status == 504
    assert [each.read_response().text for each in others] == [str(before)] * 2
    after = wait_replaced(fleet, before)
    assert waiting.read_response().text == str(after)
    for client in (late, waiting, *others):
        client.close()


def test_another_serves_before_the_others_of_that_worker_are_done(fleet: Fleet) -> None:
    before = stuck(fleet, threads=2, harakiri=2, **{"harakiri-path": "/until 120"})
    done = fleet.root / "done"
    late = send(fleet, "/sleep?s=60")
    other = send(fleet, f"/until?file={done}")
    wait_for(lambda: counts(fleet)["running"] == 2, 5)
    assert late.read_response().status == 504
    after = wait_replaced(fleet, before)
    assert fleet.get("a").text == str(after)
    assert os.path.exists(f"/proc/{before}")
    done.touch()
    assert other.read_response().text == str(before)
    wait_for(lambda: not os.path.exists(f"/proc/{before}"), SOON_S)
    (worker,) = wait_for(lambda: _alone(fleet), SOON_S)
    assert (worker["pid"], worker["recycled"]) == (after, 0)
    assert worker["last_exit"].startswith("harakiri: ")
    for client in (late, other):
        client.close()


def _alone(fleet: Fleet) -> list[dict[str, Any]] | None:
    """The workers, once there is only one again."""
    rows: list[dict[str, Any]] = fleet.vassal_status("a")["workers"]
    return rows if len(rows) == 1 else None


@pytest.mark.parametrize("path", ["/held", "/deaf", "/spin"])
@pytest.mark.parametrize("engine", ENGINES, ids=NAMES)
def test_whatever_it_is_that_never_comes_back(fleet: Fleet, engine: dict[str, object], path: str) -> None:
    """In C with the interpreter's lock held, deaf to TERM, in a loop: its stacks are shown, and it is ended."""
    before = stuck(fleet, **engine)
    client = send(fleet, path)
    assert client.read_response().status == 504
    after = wait_replaced(fleet, before)
    assert fleet.get("a").text == str(after)
    fleet.wait_log({"/held": "in held", "/deaf": "in application", "/spin": "in application"}[path])
    client.close()


def test_a_response_that_has_begun_is_reset(fleet: Fleet) -> None:
    """The time counts to the end of the answer, as in uWSGI; what was sent must not pass for all of it."""
    before = stuck(fleet, harakiri_path="/stream/long 60")
    client = send(fleet, "/stream?s=60")
    assert client.read_head()[0] == 200
    with pytest.raises(ConnectionError):
        client.read_to_end()
    client.close()
    wait_replaced(fleet, before)
    client = send(fleet, "/stream/long?s=1.5")
    assert client.read_response().body == b"begunended"
    client.close()


def test_waiting_is_not_running(fleet: Fleet) -> None:
    """What has not begun is not ended, however long it waits behind others."""
    before = stuck(fleet, harakiri=2)
    clients = [send(fleet, "/sleep?s=1.2") for _ in range(3)]
    assert [client.read_response().text for client in clients] == [str(before)] * 3
    for client in clients:
        client.close()


def test_a_path_has_a_limit_of_its_own(fleet: Fleet) -> None:
    before = stuck(
        fleet,
        harakiri=0,
        harakiri_path=["/sleep 30", "/sleep/short 0.5"],
        request_timeout_path="/sleep/late 0.5",
    )
    assert fleet.get("a", "/sleep?s=1.2").text == str(before)
    assert fleet.get("a", "/sleep/late?s=1.2").status == 504
    wait_for(lambda: counts(fleet)["running"] == 0, 5)
    assert fleet.pid("worker", "a") == before  # that is the client's deadline, not the worker's
    assert fleet.get("a", "/sleep/short?s=60").status == 504
    wait_replaced(fleet, before)


def test_variables_if_asked_for_and_no_secrets(fleet: Fleet) -> None:
    before = stuck(fleet, harakiri_verbose="true")
    fields = "Cookie: c00kie\r\nAuthorization: Basic s3cret\r\nX-Api-Key: k3y\r\nX-Plain: yes\r\n"
    client = send(fleet, "/sleep?s=60", fields)
    assert client.read_response().status == 504
    wait_replaced(fleet, before)
    told = ("HTTP_X_PLAIN=yes", "REQUEST_METHOD=GET", "HTTP_COOKIE=(hidden)")
    log = fleet.wait_log(*(f"harakiri: {each}" for each in told))
    assert not {word for word in ("c00kie", "s3cret", "k3y") if word in log}
    client.close()


def test_a_signal_that_it_may_hear_comes_first(fleet: Fleet) -> None:
    source = """
        import signal, time, sys

        def hear(number, frame):
            print("heard", number, flush=True)

        signal.signal(signal.SIGUSR2, hear)

        def application(environ, start_response):
            if environ["PATH_INFO"] == "/sleep":
                time.sleep(60)
            start_response("200 OK", [])
            return [b""]
    """
    fleet.app(
        "a", source, harakiri=1, harakiri_graceful_timeout=0.5, harakiri_graceful_signal=int(signal.SIGUSR2)
    )
    fleet.start()
    before = fleet.pid("worker", "a")
    client = send(fleet, "/sleep")
    assert client.read_response().status == 504
    wait_replaced(fleet, before)
    fleet.wait_log(f"heard {int(signal.SIGUSR2)}")
    client.close()


def test_the_stacks_go_to_the_apps_own_log(fleet: Fleet) -> None:
    log = fleet.root / "app.log"
    before = stuck(fleet, logto=log)
    client = send(fleet, "/sleep?s=60")
    assert client.read_response().status == 504
    wait_replaced(fleet, before)
    wait_for(lambda: "in application" in log.read_text(), SOON_S, log.read_text)
    assert "in application" not in fleet.log()
    client.close()


def test_without_a_router_the_page_alone_decides(fleet: Fleet) -> None:
    """The router that knew the request has died: nobody tells the gateway, and it looks itself."""
    before = stuck(fleet, harakiri=2)
    client = send(fleet, "/held")
    wait_for(lambda: counts(fleet)["running"] == 1, 5)
    os.kill(fleet.pid("router"), signal.SIGKILL)
    after = wait_replaced(fleet, before)
    wait_for(lambda: fleet.get("a").text == str(after), SOON_S)
    fleet.wait_log("of which no router told", "in held")
    client.close()


def test_without_an_emperor_too(fleet: Fleet) -> None:
    before = stuck(fleet)
    fleet.kill_emperor()
    client = send(fleet, "/held")
    assert client.read_response().status == 504
    wait_for(lambda: not os.path.exists(f"/proc/{before}"), SOON_S)
    assert fleet.get("a").status == 200
    fleet.start()
    client.close()


def test_many_in_a_row_are_no_crash_loop(fleet: Fleet) -> None:
    """Each is replaced at once: that we end them is no reason to wait."""
    pid = stuck(fleet, harakiri=0.3, poison_deaths=0)
    for _ in range(4):
        asked = time.monotonic()
        client = send(fleet, "/sleep?s=60")
        assert client.read_response().status == 504
        pid = wait_replaced(fleet, pid)
        assert time.monotonic() - asked < 8  # the third would wait for two seconds, the fourth for four
        client.close()
    assert fleet.vassal_status("a")["state"] == "READY"
