#!/usr/bin/env python3
"""Several routers over the same workers: each slot granted to one of them at a time, by announced demand.

What decides is the project's own code, `emperor.router.grants` for who lets go of a slot and when. What is simulated is the
rest: arrivals (Poisson, skewed: one router gets most of them), service times, the way of a message from a router to a worker's
host and back, and a router that dies with all that it holds. Compared with one queue before the same slots, which nothing can
beat.

``ops/sim/routers.py`` prints the table.
"""

import heapq
import random
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from emperor.router import grants

US = 1_000
MS = 1_000_000


@dataclass
class Trial:
    """Times in nanoseconds. `skew`: the first router's share of the arrivals. `way_ns`: of a message, one way."""

    routers: int = 2
    workers: int = 4
    slots: int = 1
    skew: float = 0.8
    load: float = 0.7
    service_ns: int = 20 * MS
    way_ns: int = 250 * US
    requests: int = 20_000
    seed: int = 1
    dies_at: int = 0  # request: the second router dies when so many have come; 0: it lives
    silence_ns: int = 2_000 * MS


@dataclass(eq=False)
class Holding:
    """A router's link to a worker, as far as `grants` looks at it."""

    router: "SimRouter"
    worker: "SimWorker"
    width: int
    slots: int = 0
    in_flight: int = 0
    recalled: int = 0
    since_ns: int = 0
    asked_ns: int = -grants.ASK_AGAIN_NS
    far: bool = True
    board: None = None
    held: None = None
    seat: int = 0


@dataclass(eq=False)
class SimWorker:
    """Its slots: whose each is. It grants what nobody holds, and passes on who wants one."""

    free: int
    links: list[Holding] = field(default_factory=list)


@dataclass(eq=False)
class SimRouter:
    number: int
    queue: deque[int] = field(default_factory=deque)
    links: list[Holding] = field(default_factory=list)
    dead: bool = False


class World:
    """The clock and what is due."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.now = 0
        self.random = random.Random(trial.seed)
        self.waits: list[int] = []
        self.lost = 0
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self.workers = [SimWorker(trial.slots) for _ in range(trial.workers)]
        self.routers = [SimRouter(number) for number in range(trial.routers)]
        for router in self.routers:
            for worker in self.workers:
                link = Holding(router, worker, trial.slots)
                router.links.append(link)
                worker.links.append(link)

    def after(self, delay_ns: int, act: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._due, (self.now + delay_ns, self._count, act))

    def run(self) -> None:
        while self._due:
            self.now, _, act = heapq.heappop(self._due)
            act()

    def due(self) -> bool:
        """Something is still to come."""
        return bool(self._due)

    def service(self) -> int:
        return int(self.random.expovariate(1 / self.trial.service_ns))

    # A router

    def arrive(self, router: SimRouter) -> None:
        if router.dead:
            router = next(each for each in self.routers if not each.dead)  # its clients come again, elsewhere
        router.queue.append(self.now)
        self.dispatch(router)
        if router.queue:
            self.demand(router)

    def dispatch(self, router: SimRouter) -> None:
        for link in router.links:
            while router.queue and link.in_flight < link.slots:
                arrived = router.queue.popleft()
                link.in_flight += 1
                took = self.service()
                self.waits.append(self.now - arrived + took)
                self.after(2 * self.trial.way_ns + took, lambda link=link: self.ended(link))  # type: ignore[misc]

    def ended(self, link: Holding) -> None:
        router = link.router
        if router.dead:
            return
        link.in_flight -= 1
        self.give(link)
        self.dispatch(router)

    def demand(self, router: SimRouter) -> None:
        for link in router.links:
            if link.slots < link.width and self.now - link.asked_ns >= grants.ASK_AGAIN_NS:
                self.ask(link)

    def ask(self, link: Holding) -> None:
        link.asked_ns = self.now
        wanted = min(link.width - link.slots, len(link.router.queue))
        self.after(self.trial.way_ns, lambda: self.demanded(link, wanted))

    def give(self, link: Holding) -> None:
        router = link.router
        if not grants.may_give(link, len(router.queue), self.now):
            return
        count = grants.give(link, 0, 1 if router.queue else link.recalled)
        if not count:
            return
        link.recalled -= count
        self.after(self.trial.way_ns, lambda: self.released(link, count))
        if router.queue:
            self.ask(link)

    def granted(self, link: Holding, count: int) -> None:
        if link.router.dead:
            return
        link.slots += count
        link.asked_ns = -grants.ASK_AGAIN_NS
        link.since_ns = self.now
        self.dispatch(link.router)
        self.give(link)

    def recalled(self, link: Holding, count: int) -> None:
        if not link.router.dead and link.slots:
            link.recalled = min(count, link.width)
            self.give(link)

    def die(self, router: SimRouter) -> None:
        """With all that it holds; what it had is lost, and its workers find out when it has been silent for long enough."""
        router.dead = True
        self.lost += len(router.queue) + sum(link.in_flight for link in router.links)
        router.queue.clear()
        for link in router.links:
            self.after(self.trial.silence_ns, lambda link=link: self.bereaved(link))  # type: ignore[misc]

    # A worker

    def demanded(self, link: Holding, wanted: int) -> None:
        if link.worker.free:
            self.hand(link)
        for other in link.worker.links:
            if other is not link:
                self.after(self.trial.way_ns, lambda other=other: self.recalled(other, wanted))  # type: ignore[misc]

    def hand(self, link: Holding) -> None:
        count, link.worker.free = link.worker.free, 0
        self.after(self.trial.way_ns, lambda: self.granted(link, count))

    def released(self, link: Holding, count: int) -> None:
        link.worker.free += count
        for other in link.worker.links:
            if other is not link and not other.router.dead and link.worker.free:
                self.hand(other)

    def bereaved(self, link: Holding) -> None:
        count, link.slots = link.slots, 0
        link.in_flight = 0
        if count:
            self.released(link, count)


def run(trial: Trial) -> World:
    """All arrivals, to their end."""
    world = World(trial)
    for router in world.routers:
        for link in router.links:
            world.hand(link)
    capacity = trial.workers * trial.slots / trial.service_ns
    at = 0.0
    for number in range(trial.requests):
        at += world.random.expovariate(capacity * trial.load)
        first = trial.routers == 1 or world.random.random() < trial.skew
        router = world.routers[0 if first else 1 + number % (trial.routers - 1)]
        world.after(int(at), lambda router=router: world.arrive(router))  # type: ignore[misc]
        if number + 1 == trial.dies_at:
            world.after(int(at), lambda: world.die(world.routers[1]))

    def sweep() -> None:
        for router in world.routers:
            if router.queue:
                world.demand(router)
                world.dispatch(router)
        if world.due():
            world.after(50 * MS, sweep)

    world.after(50 * MS, sweep)
    world.run()
    return world


def quantile_ms(world: World, share: float) -> float:
    ordered = sorted(world.waits)
    return ordered[int(len(ordered) * share)] / MS


def held(world: World) -> int:
    """Slots that somebody who lives has, or that nobody has."""
    return sum(worker.free for worker in world.workers) + sum(
        link.slots for router in world.routers if not router.dead for link in router.links
    )


def ratio(trial: Trial, share: float = 0.99) -> tuple[float, float]:
    """The quantile of several routers, and of one queue before the same slots."""
    alone = Trial(**{**vars(trial), "routers": 1, "dies_at": 0})
    return quantile_ms(run(trial), share), quantile_ms(run(alone), share)


def main() -> None:
    print("routers  workers  service  way      skew  load   p99 ms  one queue  ratio")
    for routers, workers in ((2, 4), (2, 16), (4, 16)):
        for service_ns, way_ns in ((2 * MS, 100 * US), (20 * MS, 250 * US), (200 * MS, 1 * MS)):
            for skew in (0.5, 0.8, 0.95):
                trial = Trial(
                    routers=routers, workers=workers, service_ns=service_ns, way_ns=way_ns, skew=skew
                )
                shared, single = ratio(trial)
                print(
                    f"{routers:7}  {workers:7}  {service_ns // MS:4} ms  {way_ns / MS:4.2f} ms  {skew:4}  {trial.load:4}  "
                    f"{shared:7.1f}  {single:9.1f}  {shared / single:5.2f}"
                )
    world = run(Trial(dies_at=10_000))
    print(
        f"a router dies: {world.lost} requests lost, {held(world)} of 4 slots are somebody's or free at the end"
    )


if __name__ == "__main__":
    main()
