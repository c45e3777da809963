"""Who looks how long a request of a worker has run."""

import threading
import time
from collections.abc import Iterator

import pytest

from emperor.protocol.scoreboard import now_ns
from vassals.worker.late import LATE_NS, Watch

TIMEOUT_S = 20.0


class Looker(threading.Thread):
    """The other thread. `found` is when it found a request late, each time."""

    def __init__(self, watch: Watch) -> None:
        super().__init__(daemon=True)
        self._watch = watch
        self._more = threading.Condition()
        self.found: list[int] = []
        self.start()

    def run(self) -> None:
        while self._watch.late():
            with self._more:
                self.found.append(now_ns())
                self._more.notify()

    def wait_found(self, count: int) -> int:
        """When it was so often."""
        with self._more:
            assert self._more.wait_for(lambda: len(self.found) >= count, TIMEOUT_S)
        return self.found[count - 1]


@pytest.fixture
def watch() -> Iterator[Watch]:
    watch = Watch()
    yield watch
    watch.close()


def test_one_that_runs_long_is_found_late_more_than_once(watch: Watch) -> None:
    looker = Looker(watch)
    began = now_ns()
    watch.begins(began)
    assert looker.wait_found(1) - began >= LATE_NS
    assert watch.is_late()
    # What comes meanwhile waits behind it as well.
    looker.wait_found(3)
    watch.ends()
    assert not watch.is_late()


def test_nobody_is_late_who_has_ended(watch: Watch) -> None:
    looker = Looker(watch)
    for _ in range(20):
        watch.begins(now_ns())
        watch.ends()
    time.sleep(3 * LATE_NS / 1e9)
    assert looker.found == []


def test_one_that_has_slept_is_waked_by_the_next_request(watch: Watch) -> None:
    looker = Looker(watch)
    for times in (1, 2):
        time.sleep(0.2)  # it sleeps for good after a while, which no test could see
        before = len(looker.found)
        watch.begins(now_ns())
        looker.wait_found(before + 1)
        watch.ends()
        assert len(looker.found) >= times


def test_it_ends_when_it_is_closed(watch: Watch) -> None:
    looker = Looker(watch)
    watch.close()
    looker.join(TIMEOUT_S)
    assert not looker.is_alive()
