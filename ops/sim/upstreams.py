#!/usr/bin/env python3
"""``ops/sim/upstreams.py``: which upstream gets a request, tried out: the router's own choice and health
(`emperor.router.upstreams`) under simulated arrivals, beside choosing at random and in turn.

One of the upstreams is bad: it fails at once, or is slow, or dies and comes back. Printed is its share of the traffic, the
errors that clients see, and the p99 of what the others answer. ``--short`` is a look of some seconds.
"""

from __future__ import annotations

import argparse
import heapq
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from emperor.config import upstreams as config  # noqa: E402
from emperor.router.health import Outcome  # noqa: E402
from emperor.router.upstreams import Upstream, Upstreams  # noqa: E402

SLOTS = 8
"""Requests that one upstream runs at once; more wait there, unseen by us."""

SERVICE_S = 0.020


@dataclass(frozen=True)
class Bad:
    """What is wrong with upstream 0: it answers 500 or refuses within ``fails_s``, from when till when; or all that it does
    takes ``slower`` times as long."""

    name: str
    fails_s: float = 0.0
    outcome: Outcome = Outcome.ANSWERED
    since_s: float = 0.0
    until_s: float = 1e9
    slower: float = 1.0


BAD = (
    Bad("none is bad"),
    Bad("one answers 500 at once", 0.0005, Outcome.ERROR),
    Bad("one refuses", 0.0002, Outcome.FAILED),
    Bad("one refuses for 20 s", 0.0002, Outcome.FAILED, 10.0, 30.0),
    Bad("one is 10 times as slow", slower=10.0),
)

Choose = Callable[[Upstreams, list[Upstream], random.Random], Upstream]


def ours(upstreams: Upstreams, members: list[Upstream], chance: random.Random) -> Upstream:
    chosen = upstreams.choose()
    assert chosen is not None
    return chosen


def at_random(upstreams: Upstreams, members: list[Upstream], chance: random.Random) -> Upstream:
    return chance.choice(members)


def least(upstreams: Upstreams, members: list[Upstream], chance: random.Random) -> Upstream:
    fewest = min(each.outstanding for each in members)
    return chance.choice([each for each in members if each.outstanding == fewest])


POLICIES: dict[str, Choose] = {"ours": ours, "least outstanding": least, "random": at_random}


@dataclass
class Found:
    """Shares and times of what came after the first tenth."""

    requests: int = 0
    at_bad: int = 0
    errors: int = 0
    waits_s: list[float] = field(default_factory=list)

    @property
    def share(self) -> float:
        return self.at_bad / max(1, self.requests)

    @property
    def p99_ms(self) -> float:
        return 1000 * sorted(self.waits_s)[len(self.waits_s) * 99 // 100] if self.waits_s else 0.0


def run(
    policy: Choose, bad: Bad, *, members: int = 4, load: float = 0.5, seconds: float = 60.0, seed: int = 1
) -> Found:
    """``load`` of what the good ones could do."""
    chance = random.Random(seed)
    now = 0.0
    upstreams = Upstreams(lambda: now, chance.random)
    upstreams.replace([config.Upstream(f"uwsgi://10.0.0.{number + 1}:3031") for number in range(members)])
    each = list(upstreams)
    free = [[0.0] * SLOTS for _ in each]  # when each slot is free
    ends: list[tuple[float, int, int, Outcome]] = []
    found = Found()
    rate = load * (members - 1) * SLOTS / SERVICE_S
    number = 0
    while now < seconds:
        now += chance.expovariate(rate)
        while ends and ends[0][0] <= now:
            arrival, now = now, ends[0][0]
            _, _, index, outcome = heapq.heappop(ends)
            upstreams.ended(each[index], outcome)
            now = arrival
        upstreams.look()
        chosen = policy(upstreams, each, chance)
        index = each.index(chosen)
        upstreams.began(chosen)
        fails = index == 0 and bad.fails_s and bad.since_s <= now < bad.until_s
        if fails:
            end, outcome = now + bad.fails_s, bad.outcome
        else:
            slot = min(range(SLOTS), key=free[index].__getitem__)
            took_s = chance.expovariate(1 / SERVICE_S) * (bad.slower if index == 0 else 1.0)
            end, outcome = max(now, free[index][slot]) + took_s, Outcome.ANSWERED
            free[index][slot] = end
        number += 1
        heapq.heappush(ends, (end, number, index, outcome))
        if now > seconds / 10:
            found.requests += 1
            found.at_bad += index == 0
            found.errors += outcome is not Outcome.ANSWERED
            if index:
                found.waits_s.append(end - now)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="a look, not the figures")
    parser.add_argument("--members", type=int, default=4)
    arguments = parser.parse_args(argv)
    seconds = 15.0 if arguments.short else 120.0
    print(f"| of {arguments.members} | choice | its share, % | errors, % | p99 of the others, ms |")
    print("| --- | --- | --- | --- | --- |")
    for bad in BAD:
        for name, policy in POLICIES.items():
            found = run(policy, bad, members=arguments.members, seconds=seconds)
            errors = 100 * found.errors / max(1, found.requests)
            print(f"| {bad.name} | {name} | {100 * found.share:.1f} | {errors:.2f} | {found.p99_ms:.0f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
