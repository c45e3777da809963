#!/usr/bin/env python3
"""Workers on many hosts, and one host that is not as the others: it fails fast, or it is slow. What it is given, and what the
others' requests take, with 10 to 10,000 workers and several routers.

What chooses is the router's own code, `emperor.router.far`, of which each router has its own that knows what it has itself
given and been answered. What is simulated is the rest: arrivals (Poisson), service times, and the way to a host and back. A
slot is a router's from the moment that it gives a request to it: what the moving of slots costs is in `routers.py`.

``ops/sim/hosts.py`` prints the table.
"""

import random
import sys
import time
from collections import deque
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from emperor.router.far import Far

MS, S = 1_000_000, 1_000_000_000
SERVICE_NS = 20 * MS
WAY_NS = 250_000
FAST_NS = 1 * MS
SLOW = 10
"""A slow host takes so many times as long for each request."""
ODD = "host 0"


@dataclass(frozen=True)
class Trial:
    """``odd``: what host 0 is; empty: as the others. ``rules``: by far.py; without, any worker with a free slot."""

    hosts: int = 4
    workers: int = 4
    routers: int = 2
    odd: str = ""
    load: float = 0.5
    requests: int = 20_000
    rules: bool = True
    seed: int = 1


@dataclass(eq=False)
class Member:
    """A worker as one router sees it; ``slots`` is 0 while another router has its slot."""

    host: str
    worker: "Worker"
    rtt_s: float = 2 * WAY_NS / S
    in_flight: int = 0
    slots: int = 1
    width: int = 1
    accepting: bool = True
    weight: int = 1


@dataclass(eq=False)
class Worker:
    host: str
    members: list[Member] = field(default_factory=list)

    def taken(self, by: Member) -> None:
        for member in self.members:
            member.slots = int(member is by)

    def free(self) -> None:
        for member in self.members:
            member.slots = 1


@dataclass(eq=False)
class Router:
    far: Far
    queue: deque[int] = field(default_factory=deque)


@dataclass
class Found:
    """``share`` of host 0; ``p99_ms`` of what the others answered, from its arrival."""

    share: float
    p99_ms: float
    choice_us: float


def run(trial: Trial) -> Found:
    chance = random.Random(trial.seed)
    names = [f"host {number % trial.hosts}" for number in range(trial.workers)]
    workers = [Worker(name) for name in names]
    routers = [Router(Far(chance.random)) for _ in range(trial.routers)]
    for router in routers:
        for worker in workers:
            member = Member(worker.host, worker)
            worker.members.append(member)
            router.far.join(member, 0.0)
    due: list[tuple[int, int, int, Router, Member | None]] = []
    waits: list[int] = []
    given = 0
    odd_given = 0
    spent = 0
    count = 0
    free = trial.workers

    def service_ns(host: str) -> int:
        mean = SERVICE_NS
        if host == ODD and trial.odd == "fails":
            return FAST_NS
        if host == ODD and trial.odd == "slow":
            mean *= SLOW
        return int(chance.expovariate(1 / mean))

    def dispatch(router: Router, now: int) -> None:
        nonlocal given, odd_given, spent, count, free
        while router.queue and free:
            began = time.perf_counter_ns()
            if trial.rules:
                member = router.far.choose(now / S)
            else:
                able = [each for each in router.far.members if each.in_flight < each.slots]
                member = chance.choice(able) if able else None
            spent += time.perf_counter_ns() - began
            if member is None:
                return
            assert isinstance(member, Member)
            arrived = router.queue.popleft()
            given += 1
            odd_given += member.host == ODD
            free -= 1
            member.worker.taken(member)
            member.in_flight += 1
            ends = now + 2 * WAY_NS + service_ns(member.host)
            if member.host != ODD:
                waits.append(ends - arrived)
            count += 1
            heappush(due, (ends, count, 0, router, member))

    # Each host can do as much as its share of the workers; the load is of those that work as they should.
    able = sum(1.0 if worker.host != ODD or not trial.odd else 0.0 for worker in workers)
    per_ns = trial.load * able / (SERVICE_NS + 2 * WAY_NS)
    at = 0.0
    for number in range(trial.requests):
        at += chance.expovariate(per_ns)
        heappush(due, (int(at), -trial.requests + number, 1, chance.choice(routers), None))
    while due:
        now, _, arrives, router, member = heappop(due)
        if arrives:
            router.queue.append(now)
            dispatch(router, now)
            continue
        assert member is not None
        member.in_flight -= 1
        member.worker.free()
        free += 1
        router.far.answered(member, member.host == ODD and trial.odd == "fails", now / S)
        for each in (router, *routers):
            dispatch(each, now)
    waits.sort()
    return Found(odd_given / given, waits[len(waits) * 99 // 100] / MS, spent / given / 1000)


def without_it(trial: Trial) -> Found:
    """The others alone, with the same requests."""
    others = sum(number % trial.hosts != 0 for number in range(trial.workers))
    alone = replace(trial, odd="", hosts=trial.hosts - 1, workers=others)
    return run(alone)


SIZES = ((4, 4), (3, 12), (10, 100), (50, 1000), (100, 10_000))
"""Hosts, and workers on all of them."""


def main() -> None:
    print(
        "| hosts | workers | routers | host 0 | its share | its share without rules | p99 of the others | without host 0 "
        "| without rules | a choice takes |"
    )
    print("| --- " * 10 + "|")
    for hosts, workers in SIZES:
        for routers in (1, 4):
            for odd in ("fails", "slow"):
                requests = max(20_000, 4 * workers)
                trial = Trial(hosts=hosts, workers=workers, routers=routers, odd=odd, requests=requests)
                with_rules = run(trial)
                without = run(replace(trial, rules=False)) if workers <= 1000 else None
                alone = without_it(trial)
                share = "" if without is None else f"{100 * without.share:.1f} %"
                p99 = "" if without is None else f"{without.p99_ms:.0f} ms"
                print(
                    f"| {hosts} | {workers} | {routers} | {odd} | {100 * with_rules.share:.2f} % | {share} "
                    f"| {with_rules.p99_ms:.0f} ms | {alone.p99_ms:.0f} ms | {p99} | {with_rules.choice_us:.0f} µs |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
