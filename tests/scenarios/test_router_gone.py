"""The router dies while a worker is 5 s inside app code: the worker rejoins, its old answer reaches nobody,
and what was on its deck is never run."""

import os
import signal
import time

import pytest

from .harness import Fleet, begun_requests, wait_for
from .harness.probe import Probe
from .harness.records import begun_twice

ASLEEP_S = 5.0


@pytest.mark.slow
def test_a_busy_worker_rejoins_and_its_old_work_is_void(fleet: Fleet) -> None:
    fleet.nonce_vassal("a", processes=1)
    fleet.nonce_vassal("b", processes=1)
    fleet.start()
    worker = fleet.pid("worker", "a")
    # The next router may count from the same number: one is asked of it, as here, before those that wait for the worker. The
    # sleeper's stream is then that of the first of them, which is offered as soon as the worker is back.
    assert fleet.get("b", "/?n=before").status == 200
    sleeper = Probe(fleet, "a", "sleeper", f"&sleep={ASLEEP_S * 1000:.0f}")
    began_s = sleeper.begun().at_s
    old = [Probe(fleet, "a", f"old{number}") for number in range(12)]
    router = fleet.pid("router")
    wait_for(lambda: waiting(fleet) >= len(old), 20, fleet.summary)
    os.kill(router, signal.SIGKILL)
    for probe in (sleeper, *old):
        assert not probe.seen(20).whole
    fleet.wait_another(router, "router")
    wait_for(lambda: fleet.get("b", "/?n=alive").status == 200, 20, fleet.summary)

    new = [Probe(fleet, "a", f"new{number}") for number in range(8)]
    for probe in new:
        seen = probe.seen(ASLEEP_S + 20)
        assert seen.status == 200, seen
        assert seen.body.startswith(f"{probe.nonce} {worker} ".encode())
    assert time.monotonic() - began_s >= ASLEEP_S
    begun = begun_requests(fleet.nonce_log("a"))
    assert {entry.nonce for entry in begun} == {"sleeper", *(probe.nonce for probe in new)}
    assert begun_twice(begun) == {}
    assert fleet.pid("worker", "a") == worker


def waiting(fleet: Fleet) -> int:
    """Requests of vassal a that wait, in the queue or on the deck."""
    (router,) = fleet.status()["routers"]
    return int(router["apps"]["a"]["queued"]) + int(router["apps"]["a"]["on_deck"])
