"""Workers that run several requests at once, while something happens to them."""

import os
import signal as signals
from typing import Any

import pytest

from .harness import Connection, Fleet, wait_for
from .harness.fleet import APPS


@pytest.mark.parametrize("engine", [{"threads": 4}, {"gevent": 4}], ids=["threads", "gevent"])
def test_a_worker_that_is_killed_costs_what_it_ran(fleet: Fleet, engine: dict[str, object]) -> None:
    """Four run and have begun, four wait on deck: 502 for the first, the others are served by the next worker."""
    fleet.vassal("a", **{"wsgi-file": APPS / "wsgi_apps.py", **engine})
    fleet.start()
    clients = [Connection(fleet.http_port, 30) for _ in range(8)]
    for client in clients[:4]:
        client.send(b"GET /sleep?30 HTTP/1.1\r\nHost: a.localhost\r\n\r\n")
    wait_for(lambda: app_stats(fleet)["running"] == 4, 5)
    for client in clients[4:]:
        client.send(b"GET /one HTTP/1.1\r\nHost: a.localhost\r\n\r\n")
    wait_for(lambda: app_stats(fleet)["on_deck"] + app_stats(fleet)["queued"] == 4, 5)
    os.kill(fleet.pid("worker", "a"), signals.SIGKILL)
    assert [client.read_response().status for client in clients[:4]] == [502] * 4
    assert [client.read_response().body for client in clients[4:]] == [b"body"] * 4
    for client in clients:
        client.close()


@pytest.mark.parametrize("engine", [{"threads": 4}, {"gevent": 4}], ids=["threads", "gevent"])
def test_a_reload_lets_all_slots_finish(fleet: Fleet, engine: dict[str, object]) -> None:
    path = fleet.vassal("a", **{"wsgi-file": APPS / "wsgi_apps.py", **engine})
    fleet.start()
    clients = [Connection(fleet.http_port, 30) for _ in range(6)]
    for client in clients:
        client.send(b"GET /sleep?0.7 HTTP/1.1\r\nHost: a.localhost\r\n\r\n")
    wait_for(lambda: app_stats(fleet)["running"] == 4, 5)
    before = fleet.pid("worker", "a")
    path.write_text(path.read_text() + "need-app = true\n")
    assert [client.read_response().body for client in clients] == [b"slept"] * 6
    wait_for(lambda: fleet.pid("worker", "a") != before, 10)
    for client in clients:
        client.close()


def app_stats(fleet: Fleet) -> dict[str, Any]:
    found: dict[str, Any] = fleet.status()["routers"][0]["apps"]["a"]
    return found
