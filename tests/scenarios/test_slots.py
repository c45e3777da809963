"""Workers that run several requests at once, while something happens to them."""

import os
import signal as signals
import threading
from typing import Any

import pytest

from .harness import Connection, Fleet, wait_for
from .harness.fleet import APPS
from .test_large_bodies import GROWTH, Growth

NAMES = ["threads", "gevent", "on-loop"]
ENGINES_OF_4, ENGINES_OF_3 = (
    [{"threads": count}, {"gevent": count}, {"threads": count, "wsgi-on-loop": "true"}] for count in (4, 3)
)


@pytest.mark.parametrize("engine", ENGINES_OF_4, ids=NAMES)
def test_a_worker_that_is_killed_costs_what_it_ran(fleet: Fleet, engine: dict[str, object]) -> None:
    """Four run and have begun, four wait on deck: 502 for the first, the others are served by the next worker."""
    fleet.vassal("a", **{"wsgi-file": APPS / "wsgi_apps.py", "retries": "false", **engine})
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


@pytest.mark.parametrize("engine", ENGINES_OF_4, ids=NAMES)
def test_a_reload_lets_all_slots_finish(fleet: Fleet, engine: dict[str, object]) -> None:
    path = fleet.vassal("a", **{"wsgi-file": APPS / "wsgi_apps.py", **engine})
    fleet.start()
    clients = [Connection(fleet.http_port, 30) for _ in range(6)]
    for client in clients:
        client.send(b"GET /sleep?2 HTTP/1.1\r\nHost: a.localhost\r\n\r\n")
    wait_for(lambda: app_stats(fleet)["running"] == 4, 5)
    before = fleet.pid("worker", "a")
    path.write_text(path.read_text() + "need-app = true\n")
    assert [client.read_response().body for client in clients] == [b"slept"] * 6
    fleet.wait_another(before, "worker", "a")
    for client in clients:
        client.close()


def app_stats(fleet: Fleet) -> dict[str, Any]:
    found: dict[str, Any] = fleet.status()["routers"][0]["apps"]["a"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES_OF_3, ids=NAMES)
def test_a_gigabyte_up_and_one_down_while_others_are_served(fleet: Fleet, engine: dict[str, object]) -> None:
    fleet.vassal("bulk", **{"wsgi-file": APPS / "bulk.py", **engine})
    fleet.start()
    assert len(fleet.get("bulk", "/?size=5000000").body) == 5_000_000
    size, piece, got = 1_000_000_000, bytes(1_000_000), [0, b""]

    def down() -> None:
        with Connection(fleet.http_port, 60) as client:
            client.send(f"GET /?size={size} HTTP/1.1\r\nHost: bulk.localhost\r\n\r\n".encode())
            client.read_head()
            while got[0] < size and (some := client.read_some()):  # type: ignore[operator]
                got[0] += len(some)  # type: ignore[operator]

    def up() -> None:
        with Connection(fleet.http_port, 60) as client:
            client.send(f"POST / HTTP/1.1\r\nHost: bulk.localhost\r\nContent-Length: {size}\r\n\r\n".encode())
            for _ in range(size // len(piece)):
                client.send(piece)
            got[1] = client.read_response().body

    threads = [threading.Thread(target=each) for each in (down, up)]
    served = 0
    with Growth([fleet.pid("router"), fleet.pid("worker", "bulk")]) as growth:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            assert fleet.get("bulk", "/?size=3").body == bytes(3)
            served += 1
        for thread in threads:
            thread.join()
    assert got == [size, str(size).encode()]
    assert served >= 10
    assert growth.most <= 2 * GROWTH
