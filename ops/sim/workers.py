"""One worker among many that fails fast, and one that has just come: what each is given, with the rules of
`emperor.router.failing` and `emperor.router.slowstart` and without, from 4 to 10,000 workers.

Simpler than `world.py`: what goes between router and workers takes no time here. The requests of one worker share its
interpreter, so that each takes as many times longer as there are. What chooses is the router's own `Pool`.
"""

from __future__ import annotations

import random
import sys
from collections import deque
from dataclasses import dataclass
from heapq import heappop, heappush
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from emperor.router import failing, slowstart  # noqa: E402
from emperor.router.pool import Member, Pool  # noqa: E402

MS, S = 1_000_000, 1_000_000_000
WORK_NS = 20 * MS
FAST_NS = 100_000
COLD = 5
"""A fresh worker's first requests take so many times as long, and those of one that is given many at once as many more."""
COLD_REQUESTS = 40
SOON_NS = 2 * S
WINDOW_S = 5.0
LOOK_NS = 250 * MS


class Worker(Member):
    """No deck. ``fails``: it answers 5xx at once."""

    def __init__(self, width: int, fails: bool = False, warm: bool = True) -> None:
        super().__init__(width)
        self.width = width
        self.fails = fails
        self.accepting = True
        self.in_a_row = 0
        self.served = 0
        self.cold_left = 0 if warm else COLD_REQUESTS

    def room(self) -> bool:
        return self.in_flight < self.slots

    def waiting(self) -> int:
        return self.in_flight - self.slots

    def running_ns(self, now_ns: int) -> int:
        return -1


@dataclass(frozen=True)
class Given:
    """``share`` of the requests that the odd one out was given; ``p95_ms``: what those took, waiting included, that came soon
    after it was replaced."""

    share: float
    p95_ms: float


class Town:
    """Requests that come when they come, at ``load`` of what the workers can do. The first worker is the odd one."""

    def __init__(
        self, workers: int, width: int, load: float, seed: int, *, fails: bool, spared: bool
    ) -> None:
        self._chance = random.Random(seed)
        self.spared = spared
        self.pool = Pool()
        self.width = width
        self.workers = [Worker(width, fails and number == 0) for number in range(workers)]
        for worker in self.workers:
            self.pool.join(worker)
        self._between_ns = WORK_NS / (workers * load)
        self._queue: deque[int] = deque()
        self._events: list[tuple[int, int, str, Worker | None, int]] = []
        self._order = 0
        self.now_ns = 0
        self.fresh_ns = -1
        self.waits_ns: list[tuple[int, int]] = []

    def _at(self, at_ns: int, what: str, worker: Worker | None = None, since_ns: int = 0) -> None:
        self._order += 1
        heappush(self._events, (at_ns, self._order, what, worker, since_ns))

    def run(self, requests: int, fresh_at: int = -1) -> Given:
        """``fresh_at``: with this request the first worker is replaced by a fresh one."""
        came = 0
        self._at(0, "come")
        while self._events:
            self.now_ns, _, what, worker, since_ns = heappop(self._events)
            if what == "come":
                came += 1
                if came == fresh_at:
                    self._renew()
                self._queue.append(self.now_ns)
                if came < requests:
                    self._at(self.now_ns + int(self._chance.expovariate(1 / self._between_ns)), "come")
            elif what == "back" and worker is not None:
                worker.aside = False
                worker.fresh = True
                self.pool.became_idle(worker)
            elif what == "look" and worker is not None:
                self._ramp(worker)
            elif worker is not None:
                self._end(worker, since_ns)
            self._dispatch()
        odd = self.workers[0]
        waits = sorted(
            wait for at_ns, wait in self.waits_ns if self.fresh_ns <= at_ns < self.fresh_ns + SOON_NS
        )
        return Given(
            odd.served / sum(worker.served for worker in self.workers),
            waits[len(waits) * 95 // 100] / MS if waits else 0.0,
        )

    def _renew(self) -> None:
        old = self.workers[0]
        self.fresh_ns = self.now_ns
        self.pool.leave(old)
        old.accepting = False
        fresh = self.workers[0] = Worker(self.width, warm=False)
        if self.spared and self.width > 1 and slowstart.spares(1, len(self.workers) - 1):
            fresh.fresh = True
            self._ramp(fresh)
        self.pool.join(fresh)

    def _ramp(self, worker: Worker) -> None:
        age_s = (self.now_ns - self.fresh_ns) / S
        worker.slots = slowstart.slots(worker.width, age_s, WINDOW_S)
        if age_s >= WINDOW_S:
            worker.fresh = False
            self.pool.retire(worker)
        else:
            self._at(self.now_ns + LOOK_NS, "look", worker)
        self.pool.became_idle(worker)

    def _dispatch(self) -> None:
        while self._queue and (worker := self.pool.idle_member()) is not None:
            assert isinstance(worker, Worker)
            since_ns = self._queue.popleft()
            worker.in_flight += 1
            worker.served += 1
            took = int(WORK_NS * self._chance.uniform(0.5, 1.5)) * worker.in_flight
            if worker.cold_left:
                worker.cold_left -= 1
                took *= COLD
            self._at(self.now_ns + (FAST_NS if worker.fails else took), "end", worker, since_ns)

    def _end(self, worker: Worker, since_ns: int) -> None:
        worker.in_flight -= 1
        if not worker.fails:
            self.waits_ns.append((since_ns, self.now_ns - since_ns))
            self.pool.took(WORK_NS)
        elif self.spared and failing.is_fast(FAST_NS, self.pool.mean_ns):
            worker.in_a_row = min(worker.in_a_row + 1, failing.MOST_IN_A_ROW)
            wait_ns = failing.aside_ns(worker.in_a_row, self.pool.mean_ns)
            if wait_ns and failing.it_is_the_worker(1, len(self.workers)):
                worker.aside = True
                worker.slots = 1
                self.pool.retire(worker)
                self._at(self.now_ns + wait_ns, "back", worker)
        self.pool.became_idle(worker)


def fails_fast(workers: int, load: float, spared: bool, width: int = 1) -> float:
    """The share of one of so many that answers 5xx in 0.1 ms, where requests take 20."""
    town = Town(workers, width, load, 1, fails=True, spared=spared)
    return town.run(max(4000, 4 * workers)).share


def just_came(workers: int, load: float, spared: bool, width: int = 8, seeds: int = 5) -> float:
    """The p95 after one of so many was replaced by a fresh one, whose first requests take five times as long."""
    found = [
        Town(workers, width, load, seed, fails=False, spared=spared).run(
            int(workers * 400 * load), fresh_at=int(workers * 100 * load)
        )
        for seed in range(seeds)
    ]
    return sum(each.p95_ms for each in found) / seeds


def table() -> str:
    """Both, the first from 4 to 10,000 workers."""
    out = ["| workers | load | fails fast: its share % | without the rule % |", "| --- " * 4 + "|"]
    for workers in (4, 10, 100, 1000, 10_000):
        for load in (0.5, 0.9):
            shares = [100 * fails_fast(workers, load, spared) for spared in (True, False)]
            out.append(
                f"| {workers} | {100 * load:.0f} % | " + " | ".join(f"{each:.2g}" for each in shares) + " |"
            )
    out += [
        "",
        "| workers × slots | load | one just came: p95 ms | without the rule ms |",
        "| --- " * 4 + "|",
    ]
    for workers, width in ((4, 1), (4, 8), (10, 8), (4, 64)):
        for load in (0.5, 0.8):
            times = [just_came(workers, load, spared, width) for spared in (True, False)]
            out.append(
                f"| {workers} × {width} | {100 * load:.0f} % | "
                + " | ".join(f"{each:.0f}" for each in times)
                + " |"
            )
    return "\n".join(out)


if __name__ == "__main__":
    print(table())
