#!/usr/bin/env python3
"""Several routers over the same workers: each slot granted to one of them at a time, by announced demand.

What decides is the project's own code, `emperor.router.grants` for who lets go of a slot and when. What is simulated is the
rest: arrivals (Poisson, or so many at once; skewed: one router gets most of them), service times, the way of a message from a
router to a worker's host and back, a worker of one request at a time, which hears nothing while it runs one and begins what
lies on its deck as soon as it has ended one, and a router that dies with all that it holds. Or so many clients at each router,
who ask again as soon as they are answered. Compared with one queue before the same slots and the same requests.

``ops/sim/routers.py`` prints the tables of decisions 0045, 0052 and 0061.
"""

import heapq
import random
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from emperor.protocol import records
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
    burst: int = 1  # requests that come at once, at one router
    at_a_time: bool = False  # a worker hears nothing while it runs a request: one of this host, with one slot
    deck: int = 0  # requests that a router has with a worker beyond its slots; of this host alone, which can take them back
    clients: tuple[
        int, ...
    ] = ()  # at each router, who ask again when they are answered; nobody else comes then
    equal: bool = False  # each request takes as long
    keep_ns: int = grants.SHARE_NS
    ages: bool = True  # a demand says how long its queue has waited
    pages: bool = True  # and of this host each sees since when somebody waits at the others
    dies_at: int = 0  # request: the second router dies when so many have come; 0: it lives
    silence_ns: int = 2_000 * MS


@dataclass(eq=False)
class Ask:
    """A request."""

    came_ns: int
    takes_ns: int
    begun: bool = False


@dataclass(eq=False)
class Holding:
    """A router's link to a worker, as far as `grants` looks at it."""

    router: "SimRouter"
    worker: "SimWorker"
    width: int
    slots: int = 0
    in_flight: int = 0
    offered: list[Ask] = field(default_factory=list)  # as many
    arrived: deque[Ask] = field(default_factory=deque)  # of these, what the worker has not begun
    recalled: int = 0
    wanted_since_ns: int = 0
    since_ns: int = 0
    owed: bool = False
    asked_ns: int = -grants.ASK_AGAIN_NS
    asks_since_ns: int = 0  # as its worker knows; 0: it does not
    far: bool = True
    board: None = None
    held: None = None
    seat: int = 0


@dataclass(eq=False)
class SimWorker:
    """Its slots: whose each is. It grants what nobody holds, and passes on who wants one."""

    free: int
    links: list[Holding] = field(default_factory=list)
    running: int = 0
    unheard: list[Callable[[], None]] = field(default_factory=list)  # what has come while it ran a request


@dataclass(eq=False)
class SimRouter:
    number: int
    queue: deque[Ask] = field(default_factory=deque)
    links: list[Holding] = field(default_factory=list)
    dead: bool = False


class World:
    """The clock and what is due."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.now = 0
        # Each of its own, so that what comes and what it takes is the same for any number of routers.
        self.comes, self.chooses, self.takes = (random.Random(f"{trial.seed} {what}") for what in "cxt")
        self.waits: list[int] = []
        self.waits_of: list[list[int]] = [[] for _ in range(trial.routers)]
        self.lost = 0
        self.came = 0
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
        if self.trial.equal:
            return self.trial.service_ns
        return int(self.takes.expovariate(1 / self.trial.service_ns))

    # A router

    def arrive(self, router: SimRouter, took: int) -> None:
        if router.dead:
            router = next(each for each in self.routers if not each.dead)  # its clients come again, elsewhere
        router.queue.append(Ask(self.now, took))
        self.dispatch(router)
        if router.queue:
            self.demand(router)

    def dispatch(self, router: SimRouter) -> None:
        for ahead in range(1 + self.trial.deck):
            for link in router.links:
                while (
                    router.queue and link.slots and link.in_flight < link.slots + (0 if link.owed else ahead)
                ):
                    self.offer(link, router.queue.popleft())

    def offer(self, link: Holding, ask: Ask) -> None:
        link.in_flight += 1
        link.offered.append(ask)
        self.after(self.trial.way_ns, lambda: self.offered(link, ask))

    def take_back(self, link: Holding) -> None:
        """Into the queue again, what has not begun; on another host nothing can be taken back."""
        if not self.trial.at_a_time:
            return
        for ask in [ask for ask in reversed(link.offered) if not ask.begun]:
            link.offered.remove(ask)
            link.in_flight -= 1
            if ask in link.arrived:
                link.arrived.remove(ask)
            link.router.queue.appendleft(ask)

    def ended(self, link: Holding, ask: Ask) -> None:
        router = link.router
        if router.dead or ask not in link.offered:
            return
        link.offered.remove(ask)
        link.in_flight -= 1
        self.waits.append(self.now - ask.came_ns - 2 * self.trial.way_ns)
        self.waits_of[router.number].append(self.waits[-1])
        if self.trial.clients and self.came < self.trial.requests:
            self.came += 1
            self.after(self.trial.way_ns, lambda: self.arrive(router, self.service()))
        self.give(link)
        self.dispatch(router)

    def demand(self, router: SimRouter) -> None:
        for link in router.links:
            if router.queue and link.slots < link.width and self.now - link.asked_ns >= grants.ASK_AGAIN_NS:
                if self.trial.at_a_time and link.worker.free:
                    self.take(link)
                else:
                    self.ask(link)

    def ask(self, link: Holding) -> None:
        link.asked_ns = self.now
        waits = link.router.queue
        wanted = min(link.width - link.slots, len(waits))
        age = grants.age_of(waits[0].came_ns, self.now) if self.trial.ages else records.NO_WORD
        self.after(
            self.trial.way_ns, lambda: self.hears(link.worker, lambda: self.demanded(link, wanted, age))
        )

    def give(self, link: Holding) -> None:
        router = link.router
        waiting = [ask.came_ns for ask in link.offered if not ask.begun]
        waiting += [ask.came_ns for ask in router.queue]
        since_ns = max(1, min(waiting)) if waiting else 0
        others = [each.queue[0].came_ns for each in self.routers if each is not router and each.queue]
        others_ns = max(1, min(others)) if others and self.trial.pages and self.trial.at_a_time else 0
        keep_ns = self.trial.keep_ns
        link.owed = grants.may_give(link, since_ns, self.now + self.trial.service_ns, keep_ns, others_ns)
        if link.owed and link.in_flight >= link.slots:
            self.take_back(link)
        if not grants.may_give(link, since_ns, self.now, keep_ns, others_ns):
            return
        count = grants.give(link, 0, 1 if router.queue else link.recalled)
        if not count:
            return
        link.recalled -= count
        link.owed = link.recalled > 0
        self.release(link, count)
        if router.queue:
            self.ask(link)

    def release(self, link: Holding, count: int) -> None:
        if self.trial.at_a_time:  # on the page of their host, at once
            link.worker.free += count
            count = 0
        self.after(self.trial.way_ns, lambda: self.hears(link.worker, lambda: self.released(link, count)))

    def take(self, link: Holding) -> None:
        """On the page of their host."""
        count, link.worker.free = link.worker.free, 0
        self.granted(link, count)

    def told(self, link: Holding) -> None:
        """There may be something to take."""
        if link.router.dead or not link.router.queue:
            link.asked_ns = -grants.ASK_AGAIN_NS  # whoever waited for it here has been served
        elif link.worker.free:
            self.take(link)
        else:
            self.ask(link)  # another one was quicker: it is asked now

    def granted(self, link: Holding, count: int) -> None:
        if link.router.dead:
            return
        link.slots += count
        link.owed = False
        if link.asked_ns > 0 and not link.router.queue:
            link.asked_ns = -grants.ASK_AGAIN_NS
            back = grants.give(link, 0, count)
            if back:
                self.release(link, back)
            return
        link.asked_ns = -grants.ASK_AGAIN_NS
        link.since_ns = self.now
        self.dispatch(link.router)
        self.give(link)

    def recalled(self, link: Holding, count: int, age: int) -> None:
        if not link.router.dead:
            grants.recall(link, count, age, self.now)
            self.give(link)

    def die(self, router: SimRouter) -> None:
        """With all that it holds; what it had is lost, and its workers find out when it has been silent for long enough."""
        router.dead = True
        self.lost += len(router.queue) + sum(link.in_flight for link in router.links)
        router.queue.clear()
        for link in router.links:
            link.arrived.clear()
            self.after(self.trial.silence_ns, lambda link=link: self.bereaved(link))  # type: ignore[misc]

    # A worker

    def offered(self, link: Holding, ask: Ask) -> None:
        if ask in link.offered and ask not in link.arrived and not ask.begun and not link.router.dead:
            link.arrived.append(ask)
            self.begin(link.worker)

    def begin(self, worker: SimWorker) -> None:
        """What has arrived, in slots of the router that it came from."""
        for link in worker.links:
            while link.arrived and (not self.trial.at_a_time or (link.slots and not worker.running)):
                ask = link.arrived.popleft()
                ask.begun = True
                worker.running += 1
                self.after(ask.takes_ns, lambda link=link, ask=ask: self.ends(link, ask))  # type: ignore[misc]

    def ends(self, link: Holding, ask: Ask) -> None:
        worker = link.worker
        worker.running -= 1
        self.after(self.trial.way_ns, lambda: self.ended(link, ask))
        unheard, worker.unheard = worker.unheard, []
        for act in unheard:
            act()
        self.begin(worker)

    def hears(self, worker: SimWorker, act: Callable[[], None]) -> None:
        """What a router says to it."""
        if self.trial.at_a_time and worker.running:
            worker.unheard.append(act)
        else:
            act()

    def demanded(self, link: Holding, wanted: int, age: int) -> None:
        worker = link.worker
        link.asks_since_ns = link.asks_since_ns or max(1, self.now - age * grants.AGE_NS)
        if worker.free and self.trial.at_a_time:
            self.after(self.trial.way_ns, lambda: self.told(link))
        elif worker.free:
            self.hand(link)
        for other in worker.links:
            if other is not link:
                self.after(self.trial.way_ns, lambda other=other: self.recalled(other, wanted, age))  # type: ignore[misc]

    def hand(self, link: Holding) -> None:
        link.asks_since_ns = 0
        count, link.worker.free = link.worker.free, 0
        self.after(self.trial.way_ns, lambda: self.granted(link, count))

    def released(self, link: Holding, count: int) -> None:
        worker = link.worker
        worker.free += count
        others = [other for other in worker.links if other is not link and not other.router.dead]
        # As in `vassals.worker.link`: whoever has asked first comes first, and hears who waits after him.
        askers = sorted((each for each in others if each.asks_since_ns), key=lambda each: each.asks_since_ns)
        if self.trial.at_a_time:
            for other in askers:
                other.asks_since_ns = 0
                self.after(self.trial.way_ns, lambda other=other: self.told(other))  # type: ignore[misc]
            return
        first, *rest = askers or others or [link]
        if worker.free:
            self.hand(first)
            if rest and rest[0].asks_since_ns:
                age = grants.age_of(rest[0].asks_since_ns, self.now)
                self.after(self.trial.way_ns, lambda: self.recalled(first, 1, age))

    def bereaved(self, link: Holding) -> None:
        count, link.slots = link.slots, 0
        link.in_flight = 0
        link.offered.clear()
        if count:
            self.released(link, count)


def run(trial: Trial) -> World:
    """All arrivals, to their end."""
    world = World(trial)
    for router in world.routers:
        for link in router.links:
            world.hand(link)
    capacity = trial.workers * trial.slots / (trial.service_ns + (2 * trial.way_ns if trial.at_a_time else 0))
    at = 0.0
    number = 0
    if trial.clients:
        for router, clients in zip(world.routers, trial.clients, strict=True):
            for _ in range(clients):
                at += trial.service_ns / 8
                world.came += 1
                world.after(int(at), lambda router=router: world.arrive(router, world.service()))  # type: ignore[misc]
        number = trial.requests
    while number < trial.requests:
        at += world.comes.expovariate(capacity * trial.load / trial.burst)
        first = world.chooses.random() < trial.skew or trial.routers == 1
        router = world.routers[0 if first else 1 + number % (trial.routers - 1)]
        for _ in range(trial.burst):
            took = world.service()
            world.after(int(at), lambda router=router, took=took: world.arrive(router, took))  # type: ignore[misc]
            number += 1
            if number == trial.dies_at:
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


def second_ms(world: World, share: float) -> float:
    """The same of those who came to the second router."""
    ordered = sorted(world.waits_of[1])
    return ordered[int(len(ordered) * share)] / MS


def held(world: World) -> int:
    """Slots that somebody who lives has, or that nobody has."""
    return sum(worker.free for worker in world.workers) + sum(
        link.slots for router in world.routers if not router.dead for link in router.links
    )


def alone(trial: Trial) -> Trial:
    """One queue before the same slots, for the same requests."""
    clients = (sum(trial.clients),) if trial.clients else ()
    return replace(trial, routers=1, dies_at=0, clients=clients)


def ratio(trial: Trial, share: float = 0.99) -> tuple[float, float]:
    """The quantile of several routers, and of one queue before the same slots."""
    return quantile_ms(run(trial), share), quantile_ms(run(alone(trial)), share)


def here(service_ns: int, skew: float, load: float, burst: int, **more: Any) -> Trial:
    """Two routers of one host, four workers of one request at a time."""
    shape = {"way_ns": 100 * US, "at_a_time": True, "requests": 8_000, **more}
    return Trial(service_ns=service_ns, skew=skew, load=load, burst=burst, **shape)


RULES: tuple[tuple[str, int, bool, bool], ...] = (
    ("2 ms", 2 * MS, False, False),
    ("20 ms", 20 * MS, False, False),
    ("2 ms, age", 2 * MS, True, False),
    ("5 ms, age", grants.SHARE_NS, True, False),
    ("5 ms, page", grants.SHARE_NS, True, True),
    ("20 ms, page", 20 * MS, True, True),
)
"""How long a slot is kept, whether a demand says how long its queue has waited, and whether that is seen at any time."""


def rules_table() -> str:
    """The p99 of two routers over that of one queue, for each rule; and of the second router's alone."""
    rows = [
        (f"{service_ns / MS:g} ms", f"{100 * skew:.0f} %, {100 * load:.0f} %, {burst}", shape)
        for service_ns in (200 * US, 2 * MS, 20 * MS)
        for skew, load, burst in ((0.5, 0.7, 1), (0.5, 0.7, 8), (0.9, 0.7, 1), (0.9, 0.7, 8), (0.9, 0.85, 8))
        for shape in (here(service_ns, skew, load, burst),)
    ]
    return _table("service | skew, load, at once", rows)


def closed_table() -> str:
    """The same of clients that ask again when they are answered, with requests on deck, each of which takes as long."""
    rows = [
        (f"{service_ns / MS:g} ms", f"{first} and {second}", closed(service_ns, first, second))
        for service_ns in (500 * US, 2 * MS, 20 * MS)
        for first, second in ((4, 4), (16, 16), (22, 10), (28, 4), (64, 64))
    ]
    return _table("service | clients", rows)


def closed(service_ns: int, first: int, second: int, **more: Any) -> Trial:
    """Two routers of one host before four workers, with so many clients each."""
    asked = {"deck": 1 + 2 * MS // service_ns, "clients": (first, second), "equal": True, **more}
    return here(service_ns, 0.5, 1.0, 1, **asked)


def _table(named: str, rows: list[tuple[str, str, Trial]]) -> str:
    out = [
        f"| {named} | one queue: p99 ms | " + " | ".join(rule for rule, *_ in RULES) + " |",
        "| --- " * (3 + len(RULES)) + "|",
    ]
    for service, load, shape in rows:
        single = quantile_ms(run(alone(shape)), 0.99)
        cells = []
        for _, keep_ns, ages, pages in RULES:
            world = run(replace(shape, keep_ns=keep_ns, ages=ages, pages=pages))
            cells.append(f"{quantile_ms(world, 0.99) / single:.2f} ({second_ms(world, 0.99) / single:.1f})")
        out.append(f"| {service} | {load} | {single:.1f} | " + " | ".join(cells) + " |")
    return "\n".join(out)


def main() -> None:
    print("routers  workers  service  way      skew  load   p99 ms  one queue  ratio")
    for routers, workers in ((2, 4), (4, 16)):
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

    print("\nrouters of one host, and in brackets the second router's requests alone\n")
    print(rules_table())
    print()
    print(closed_table())


if __name__ == "__main__":
    main()
