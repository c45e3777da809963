"""What lies on the deck of a worker that sleeps: all is answered by the other one, at once, each run once."""

import os
import signal
import threading
import time

import pytest

from .harness import Connection, Fleet, Response, begun_requests, machine, wait_for
from .harness.probe import Probe
from .harness.records import begun_twice

SLEEP_MS = 2000
TURNS = 12
ANSWERED_S = 0.25


class Burst:
    """Requests that leave together, on connections opened before, each from a thread of its own."""

    def __init__(self, fleet: Fleet, count: int, body_bytes: int, tag: str) -> None:
        self._barrier = threading.Barrier(count + 1)
        self._left_s = 0.0
        self.done: dict[str, tuple[float, Response]] = {}
        self._body = b"b" * body_bytes
        self._threads = [
            threading.Thread(
                target=self._one, args=(Connection(fleet.http_port), f"{tag}{number}"), daemon=True
            )
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def go(self) -> None:
        self._left_s = time.monotonic()
        self.left = machine.now()
        self._barrier.wait()

    def slowest_s(self) -> float:
        """Waits for all; every one must be a 200 with its own nonce."""
        for thread in self._threads:
            thread.join(20)
        assert len(self.done) == len(self._threads), "some have no answer"
        for nonce, (_, answer) in self.done.items():
            assert answer.status == 200, (nonce, answer)
            words = answer.body.split()
            assert (words[0].decode(), int(words[2])) == (nonce, len(self._body))
        return max(at_s for at_s, _ in self.done.values()) - self._left_s

    def _one(self, connection: Connection, nonce: str) -> None:
        with connection:
            self._barrier.wait()
            method = "POST" if self._body else "GET"
            answer = connection.request("a.localhost", f"/?n={nonce}", method, self._body or None)
            self.done[nonce] = (time.monotonic(), answer)


@pytest.mark.parametrize("killed", [False, True], ids=["asleep", "killed"])
@pytest.mark.parametrize(
    ("count", "body_bytes", "on_deck"), [(40, 0, 10), (40, 63 * 1024, 5), (30, 5_000_000, 1)]
)
def test_nobody_waits_behind_a_sleeper(
    fleet: Fleet, count: int, body_bytes: int, on_deck: int, killed: bool
) -> None:
    # Bodies that are read first come one after the other, and nothing new goes behind who has slept for a while.
    fleet.nonce_vassal("a", processes=2, request_buffering=body_bytes < 1_000_000)
    fleet.start()
    warm = Burst(fleet, count, body_bytes, "warm")
    warm.go()
    # What such a burst takes two workers; the sleeper leaves one.
    usual_s = warm.slowest_s() if body_bytes > 1_000_000 else 0.0
    # How many go on the sleeper's deck is up to when they arrive: it gets no more once it has slept for 4 ms, and no more
    # than is worth it by what such requests take on this machine.
    taken = 0
    for turn in range(TURNS):
        taken += sleep_and_burst(fleet, count, body_bytes, killed, usual_s, f"t{turn}-")
        if taken >= on_deck:
            return
        fleet.wait_ready()
    pytest.fail(f"in {TURNS} turns {taken} requests were on the deck of the sleeper")


def sleep_and_burst(fleet: Fleet, count: int, body_bytes: int, killed: bool, usual_s: float, tag: str) -> int:
    """One turn; all that the scenario promises holds in each. Returns how many were taken off the sleeper's deck."""
    burst = Burst(fleet, count, body_bytes, f"{tag}b")
    revoked = counters(fleet)["revoked"]
    sleeper = Probe(fleet, "a", f"{tag}sleeper", f"&sleep={SLEEP_MS}")
    # The burst comes before it has slept for long, so that it goes on both decks.
    burst.go()
    asleep = sleeper.begun()
    if killed:
        wait_for(lambda: counters(fleet)["revoked"] > revoked or burst.done, 10, every_s=0.001)
        os.kill(asleep.pid, signal.SIGKILL)
    slowest_s = burst.slowest_s()
    assert slowest_s < machine.allowed(ANSWERED_S, burst.left) + 2 * usual_s
    taken = counters(fleet)["revoked"] - revoked
    seen = sleeper.seen()
    assert seen.status == (502 if killed else 200)
    begun = begun_requests(fleet.nonce_log("a"))
    assert begun_twice(begun) == {}
    if not killed:
        if slowest_s > SLEEP_MS / 1000 - 0.1:
            return 0  # too slow a turn to tell who waited for the sleeper
        behind = {entry.nonce for entry in begun if entry.pid == asleep.pid and entry.at_s > asleep.at_s}
        assert behind & set(burst.done) == set()
    return taken


def counters(fleet: Fleet) -> dict[str, int]:
    (router,) = fleet.status()["routers"]
    app: dict[str, int] = router["apps"]["a"]
    return app
