"""More clients at once than an app can serve soon: some are served, the others told when to come again, and all goes on."""

import os
import signal
from collections import Counter

from .harness import Connection, Fleet, wait_for
from .harness.fleet import APPS

CLIENTS = 100


def test_the_newest_are_served_and_the_others_told(fleet: Fleet) -> None:
    fleet.vassal("a", **{"wsgi-file": APPS / "wsgi_apps.py"}, queue_target="300ms", bulkhead="/one 1")
    fleet.start()
    with Connection(fleet.http_port, 20) as client:
        for _ in range(3):  # what a request takes is learnt from those that were served
            assert client.request("a.localhost", "/sleep?0.05").status == 200
    clients = [Connection(fleet.http_port, 30) for _ in range(CLIENTS)]
    for client in clients:
        client.send(b"GET /sleep?0.05 HTTP/1.1\r\nHost: a.localhost\r\n\r\n")
    answers = [client.read_response() for client in clients]
    for client in clients:
        client.close()
    statuses = Counter(answer.status for answer in answers)
    assert set(statuses) == {200, 503} and statuses[200] > 3
    refused = [answer for answer in answers if answer.status == 503]
    assert {answer.fields["unavailable-reason"] for answer in refused} == {"overload"}
    assert all(1 <= int(answer.fields["retry-after"]) <= 6 for answer in refused)
    fleet.wait_log("overloaded: ", "(queue-target)")
    assert fleet.get("a", "/one").status == 200
    wait_for(lambda: not _balancing(fleet)["overloaded"], 10)
    assert _balancing(fleet)["overloads"] == 1
    assert fleet.status()["routers"][0]["apps"]["a"]["rejected"] == {"overload": len(refused)}


def _balancing(fleet: Fleet) -> dict[str, int]:
    found: dict[str, int] = fleet.status()["routers"][0]["apps"]["a"]["balancing"]
    return found


def test_a_get_whose_worker_is_killed_is_served_by_the_next(fleet: Fleet) -> None:
    fleet.vassal("a", **{"wsgi-file": APPS / "wsgi_apps.py"}, processes=2)
    fleet.start()
    with Connection(fleet.http_port, 30) as client:
        client.send(b"GET /sleep?2 HTTP/1.1\r\nHost: a.localhost\r\n\r\n")
        running = wait_for(
            lambda: fleet.status()["routers"][0]["apps"]["a"]["running"] == 1 and _busy(fleet), 10
        )
        os.kill(running, signal.SIGKILL)
        assert client.read_response().status == 200
    assert fleet.status()["routers"][0]["apps"]["a"]["balancing"]["retries"]["again"] == 1


def _busy(fleet: Fleet) -> int:
    """The pid of the worker that runs something."""
    links = fleet.status()["routers"][0]["apps"]["a"]["links"]
    return next((link["pid"] for link in links if not link["free"]), 0)
