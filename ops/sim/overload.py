"""More requests than workers can serve: what becomes of them under each rule of whom to serve and whom to turn away.

The rule that the router has is `newest`: `emperor.router.shedding`, in overload the newest first, and what has waited for too
long is shed. The others are what it might have been: only a bounded queue and `queue-timeout` (`none`), the order of arrival in
overload too (`oldest`), and refusing what comes while too much waits (`refuse`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from decks import ADAPTIVE, Deck  # noqa: E402
from world import MS, Kind, Request, Router, S, World  # noqa: E402

from emperor.router.pool import Member  # noqa: E402
from emperor.router.queue import Queue  # noqa: E402
from emperor.router.shedding import Shedding  # noqa: E402
from emperor.router.states import Event  # noqa: E402

TARGET_S = 1.0
"""The option's default is 5 s; with less there is more to see, and more that only looks like overload."""
TIMEOUT_S = 10.0
QUEUE = 1024
SWEEP_NS = 250 * MS

KINDS = (
    Kind("1 ms", 1 * MS),
    Kind("20 ms", 20 * MS),
    Kind("200 ms", 200 * MS),
    Kind("5 ms, 5 % 500 ms", 5 * MS, 500 * MS, 0.05),
    Kind("20 ms, 1 % 3 s", 20 * MS, 3 * S, 0.01),
)


@dataclass
class Turned:
    """``shed_ns``: how long those waited that were turned away, by whatever reason."""

    shed_ns: list[int] = field(default_factory=list)


class Shedder(Router):
    """A router with a bounded queue, and one of the rules."""

    def __init__(self, world: World, deck: Deck, rule: str, target_s: float) -> None:
        super().__init__(world, deck)
        self.rule = rule
        self.queue = Queue(QUEUE)
        self.turned = Turned()
        self.shedding = Shedding(target_s if rule != "none" else 0.0)
        world.at(SWEEP_NS, self._sweep)

    def _turn_away(self, request: Request) -> None:
        request.step(Event.GIVE_UP)
        self.turned.shed_ns.append(self.world.now_ns - request.due_ns)

    def _sweep(self) -> None:
        now = self.world.now_ns / S
        self._look(now)
        while (oldest := self.queue.oldest()) is not None and now - oldest.submitted >= self._patience_s():
            self._turn_away(self._take_oldest())
        self.dispatch()
        self.world.at(self.world.now_ns + SWEEP_NS, self._sweep)

    def _look(self, now: float | None = None) -> None:
        if now is None:
            return super()._look()
        oldest = self.queue.oldest()
        waited = 0.0 if oldest is None else now - oldest.submitted
        slots = sum(member.slots for member in self.pool.members if member.accepting)
        self.shedding.look(now, waited, len(self.queue), slots, self.pool.mean_ns, TIMEOUT_S)
        return None

    def _patience_s(self) -> float:
        return self.shedding.limit_s if self.shedding.overloaded and self.rule != "refuse" else TIMEOUT_S

    def _take_oldest(self) -> Request:
        taken = self.queue.take()
        assert isinstance(taken, Request)
        return taken

    def _enqueue(self, request: Request) -> None:
        if self.rule == "refuse" and self.shedding.overloaded:
            self._turn_away(request)
        elif not self.queue.add(request):
            if self.rule == "newest" and self.shedding.overloaded:
                self._turn_away(self._take_oldest())
                self.queue.add(request)
            else:
                self._turn_away(request)

    def _place(self, request: Request) -> None:
        if len(self.queue):
            self._enqueue(request)
        elif (member := self._taker()) is not None:
            self._offer(request, member)
        else:
            self._enqueue(request)

    def _taker(self) -> Member | None:
        """Nobody waits behind a long one."""
        return self.pool.idle_member() or self.pool.deck_member(self.world.now_ns)

    def dispatch(self) -> None:
        now = self.world.now_ns / S
        while len(self.queue):
            member = self._taker()
            if member is None:
                return
            newest = self.shedding.overloaded and self.rule == "newest"
            request = self.queue.take_newest() if newest else self.queue.take()
            assert isinstance(request, Request)
            if now - request.submitted >= self._patience_s():
                self._turn_away(request)
            else:
                self._offer(request, member)


@dataclass(frozen=True)
class Served:
    """``goodput``: answers, in parts of what the workers could give; ``shed``: turned away, of all that came;
    the waits are of those who were answered, but for what they took themselves."""

    goodput: float
    shed: float
    p50_ms: float
    p99_ms: float
    told_ms: float
    limit_ms: float


def serve(
    kind: Kind,
    rule: str,
    workers: int,
    load: float,
    seconds: float,
    target_s: float = TARGET_S,
    seed: int = 1,
) -> Served:
    """One rule under one load."""

    def made(world: World, deck: Deck) -> Router:
        return Shedder(world, deck, rule, target_s)

    world = World(kind, ADAPTIVE, workers, seed, made)
    outcome = world.open(load, int(seconds * S), int(seconds * S) // 4)
    router = world.router
    assert isinstance(router, Shedder)
    waits = sorted(outcome.waits_ns)
    turned = sorted(router.turned.shed_ns)
    return Served(
        goodput=outcome.share(),
        shed=len(turned) / max(1, len(turned) + outcome.answered * 4 // 3),
        p50_ms=waits[len(waits) // 2] / MS,
        p99_ms=outcome.p99_ns() / MS,
        told_ms=turned[len(turned) // 2] / MS if turned else 0.0,
        limit_ms=router.shedding.limit_s * 1000,
    )


RULES = ("none", "oldest", "newest", "refuse")


def table(load: float, workers: int, target_s: float, show: Callable[[str], None] = print) -> None:
    """Every app under every rule."""
    show(f"**{100 * load:.0f} % of what {workers} workers can serve, queue-target {target_s:g} s**\n")
    show("| app | rule | goodput % | turned away % | p50 ms | p99 ms | told after ms | limit ms |")
    show("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for kind in KINDS:
        seconds = 60.0 if kind.mean_ns() >= 20 * MS else 20.0
        if kind.mean_ns() < 2 * MS:
            seconds = 8.0
        for rule in RULES:
            found = serve(kind, rule, workers, load, seconds, target_s)
            show(
                f"| {kind.name} | {rule} | {100 * found.goodput:.1f} | {100 * found.shed:.1f} | {found.p50_ms:.0f} | "
                f"{found.p99_ms:.0f} | {found.told_ms:.0f} | {found.limit_ms:.0f} |"
            )
    show("")


if __name__ == "__main__":
    table(1.5, 4, TARGET_S)
    for load in (0.95, 0.85):
        table(load, 4, 5.0)
