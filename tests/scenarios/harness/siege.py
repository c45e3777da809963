"""Kills at random instants under an open-loop load, and the verdict on what the load's users saw.

A siege is one or more fleets of some vassals each, a flood over all of them, and a row of blows. Blows go
round the fleets and vassals, because what dies twice within 10 s is held back on purpose (restart intensity):
the promise of being back within a second is for what had been running well.
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from . import machine
from .census import Census, take_census
from .fleet import Fleet, is_ready
from .flood import Answer, Flood, Target
from .lives import Lives, lives, taken_along, untrue
from .records import Begun, begun_requests, begun_twice
from .waiting import wait_for

RATE = 300
VASSALS = ("red", "green", "blue", "white", "black", "grey")
SPACING_S = 1.75  # 6 in turn: 10.5 s between two deaths of one thing
ONCE_SPACING_S = 0.7  # where each is struck once: as soon as all is whole again
BACK_S = 1.0
IMPORT_S = 0.5  # the nonce app's, on a machine that has other things to do
ANSWERED_S = 1.0
DYING_S = 0.3
STRUCK_S = 0.05  # from the reading of the clock to the signal
UNLOGGED_SHARE = 0.1


@dataclass(frozen=True)
class Blow:
    """What was struck, when (CLOCK_MONOTONIC, just before the signal), and whom it took along by design."""

    role: str
    fleet: int
    vassal: str
    pid: int
    at_s: float
    seat: int = 0
    moment: machine.Instant = field(default_factory=machine.now)

    @property
    def struck(self) -> str:
        """The role, as `lives` names it."""
        match self.role:
            case "router":
                return f"router {self.seat}"
            case "gateway":
                return f"gateway {self.vassal}"
            case "worker":
                return f"worker {self.vassal}/{self.seat}"
        return self.role


@dataclass
class Siege:
    """Begin with `begin`, strike with `kill`, let it `settle`, and ask for the `verdict` at the end.

    The flood goes to `vassals`; the `quiet` ones run beside them without load.
    """

    fleets: list[Fleet]
    vassals: tuple[str, ...] = VASSALS
    quiet: tuple[str, ...] = ()
    processes: int = 1
    import_ms: int = 0
    keys: dict[str, str] = field(default_factory=dict)
    blows: list[Blow] = field(default_factory=list)
    backs_s: list[float] = field(default_factory=list)
    stretched: dict[Blow, float] = field(default_factory=dict)
    wholes_s: dict[Blow, float] = field(default_factory=dict)
    chance: random.Random = field(default_factory=lambda: random.Random(2))
    floods: list[Flood] = field(default_factory=list)
    before: Census = field(default_factory=Census)
    lost_to: dict[Blow, Answer] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    begun: machine.Instant = field(default_factory=machine.now)

    @property
    def all_vassals(self) -> tuple[str, ...]:
        return self.vassals + self.quiet

    def begin(self, extra: tuple[str, ...] = ("", "&sleep=5", "&size=40000")) -> None:
        """Starts fleets and floods; takes the census in between, when no client is there."""
        for fleet in self.fleets:
            for name in self.all_vassals:
                env = [f"NONCE_LOG={fleet.nonce_log(name)}", f"IMPORT_MS={self.import_ms}"]
                fleet.nonce_vassal(name, processes=self.processes, env=env, **self.keys)
            fleet.start(ready=False)
        for fleet in self.fleets:
            self.wait_whole(fleet, 30)
        self.before = take_census(*self.fleets)
        for number, fleet in enumerate(self.fleets):
            targets = [Target(name, query) for query in extra for name in self.vassals]
            targets += [Target(name, body_bytes=20_000) for name in self.vassals]
            rate = RATE / len(self.fleets)
            flood = Flood(
                fleet.orphans, fleet.http_port, targets, fleet.root / "answers", rate, f"f{number}-"
            )
            self.floods.append(flood.start())

    def turns(self, count: int, spacing_s: float = 0.0) -> Iterator[tuple[int, Fleet, str, int]]:
        """(number, fleet, vassal, seat) of each blow, at random instants around every `spacing_s`; without it, as far apart
        as it takes that nothing is struck twice within 10 s."""
        once = count <= max(len(self.fleets), len(self.vassals))
        spacing_s = spacing_s or (ONCE_SPACING_S if once else SPACING_S)
        began = time.monotonic()
        for number in range(count):
            at_s = began + (number + self.chance.uniform(0.05, 0.25)) * spacing_s
            time.sleep(max(0.0, at_s - time.monotonic()))
            fleet = self.fleets[number % len(self.fleets)]
            place = number // len(self.fleets)
            yield (
                number,
                fleet,
                self.vassals[place % len(self.vassals)],
                place // len(self.vassals) % self.processes,
            )

    def kill(self, fleet: Fleet, role: str, vassal: str = "", seat: int = 0, pid: int = 0) -> Blow:
        """kill -9 of one process, found by its role unless its pid is given. `seat` is the router's or the
        worker's."""
        pid = pid or fleet.pid(role, vassal, seat)
        blow = Blow(role, self.fleets.index(fleet), vassal, pid, time.monotonic(), seat)
        if role == "emperor":
            fleet.kill_emperor()
        else:
            os.kill(pid, signal.SIGKILL)
        self.blows.append(blow)
        return blow

    def stretch(self, blow: Blow) -> float:
        """How much longer than on a quiet machine things may have taken after this blow."""
        return self.stretched.get(blow, 1.0)

    def answered_s(self, blow: Blow) -> float:
        """Within how many seconds of this blow all that it lost must have its answer."""
        return ANSWERED_S * machine.NET * self.stretch(blow)

    def settle(self, fleet: Fleet, before: Lives, *blows: Blow, more_s: float = 0.0) -> Lives:
        """Waits until the fleet is whole again after the `blows`, within the promised time from the last one,
        and holds the status against what has happened.

        `before` is `lives(fleet.status())` of just before. Who was struck, and whom that takes along, must have a new
        process and say so; all others have the same process, generation, restarts and last exit. What the status
        says then is returned.
        """
        blow = blows[-1]
        struck = Counter(each.struck for each in blows)

        def replaced() -> dict[str, Any] | None:
            status = fleet.status_or_none()
            if status is None or not self.is_whole(status):
                return None
            now = lives(status)
            gone = (role for role in before if taken_along(role, struck))
            return status if all(role in now and now[role].pid != before[role].pid for role in gone) else None

        status = wait_for(
            replaced,
            60,
            lambda: f"whole again after {blow}; {fleet.summary()}\n{fleet.log()[-3000:]}",
        )
        self.wholes_s[blow] = time.monotonic()
        back_s = self.wholes_s[blow] - blow.at_s
        self.backs_s.append(back_s)
        self.stretched[blow] = machine.slowness(blow.moment)
        allowed_s = machine.allowed(BACK_S + IMPORT_S + self.import_ms / 1000 + more_s, blow.moment)
        assert status is not None
        after = lives(status)
        wrong = untrue(before, after, struck)
        assert wrong == [], f"{blow}: the status says otherwise: {wrong}\n{fleet.log()[-3000:]}"
        assert back_s <= allowed_s, (
            f"{blow.role} was back after {back_s:.2f} s, {allowed_s} s allowed\n{fleet.log()[-3000:]}"
        )
        return after

    def is_whole(self, status: dict[str, Any]) -> bool:
        """Every vassal READY with all its workers ready, and a router and a spawner there."""
        if not status["spawner"]["pid"]:
            return False
        if not status["routers"] or any(router["state"] != "running" for router in status["routers"]):
            return False
        by_name = {vassal["name"]: vassal for vassal in status["vassals"]}
        return all(name in by_name and is_ready(by_name[name]) for name in self.all_vassals)

    def wait_whole(self, fleet: Fleet, deadline_s: float) -> Lives:
        """Returns once `is_whole`, with what the status says then."""

        def whole() -> dict[str, Any] | None:
            status = fleet.status_or_none()
            return status if status is not None and self.is_whole(status) else None

        status = wait_for(whole, deadline_s, lambda: f"{fleet.summary()}\n{fleet.log()[-4000:]}")
        assert status is not None
        return lives(status)

    def verdict(self, excuse: Callable[[Answer, "Siege"], bool], census: bool = True) -> list[Answer]:
        """Ends the floods and judges: nobody got another's answer, nothing ran twice, every failure has its
        excuse.

        Then, with no client left, nothing may have grown.
        """
        answers = [answer for flood in self.floods for answer in flood.stop()]
        self.answers = {answer.nonce: answer for answer in answers}
        foreign = [answer for answer in answers if answer.outcome == "200" and not answer.own]
        assert foreign == [], f"{len(foreign)} answers that belong to other requests"
        for fleet in self.fleets:
            for name in self.all_vassals:
                assert begun_twice(begun_requests(fleet.nonce_log(name))) == {}, f"{name} ran a request twice"
        unexcused = [answer for answer in answers if not answer.ok and not excuse(answer, self)]
        assert unexcused == [], self.describe(unexcused)
        unlogged = [answer for answer in self.lost_to.values() if not self.begun_by(answer)]
        workers = sum(blow.role == "worker" for blow in self.blows)
        assert len(unlogged) <= max(1, UNLOGGED_SHARE * workers), (
            f"too many for the moment between claim and first line\n{self.describe(unlogged)}"
        )
        asked = RATE * (answers[-1].scheduled_s - answers[0].scheduled_s) / machine.slowness(self.begun)
        assert len(answers) > (0.9 if machine.PROMISE else 0.3) * asked, "the load fell behind"
        if census:
            wait_for(lambda: not self.grown(), 10, self.grown, every_s=0.2)
        return answers

    def grown(self) -> list[str]:
        """What there is more of than at the beginning."""
        return take_census(*self.fleets).grown_since(self.before)

    def begun_by(self, answer: Answer) -> int:
        """The pid of the worker that began this request; 0 if none did."""
        return next((entry.pid for entry in self._begun() if entry.nonce == answer.nonce), 0)

    def last_begun_by(self, pid: int) -> Begun | None:
        """What this worker began last; None if it never began anything."""
        return max((entry for entry in self._begun() if entry.pid == pid), key=lambda e: e.at_s, default=None)

    def could_claim_unlogged(self, answer: Answer, blow: Blow) -> bool:
        """Whether the struck worker, and nobody else, can have claimed this request though no app logged it.

        It claims, then calls the app, which logs before it does anything else: what is killed between the two loses
        a request that nobody's log has. That takes a request that was there before the blow, is answered 502
        (no head can have been sent), and a worker with its one slot free: what it began last was answered.
        A worker that lives would have logged it. Another that was struck in the same second, and had ever served,
        might have claimed it as well: then it is excused by neither.
        """
        if answer.outcome != "502" or answer.scheduled_s > blow.at_s + STRUCK_S * self.stretch(blow):
            return False
        last = self.last_begun_by(blow.pid)
        if last is not None and not (last.nonce in self.answers and self.answers[last.nonce].ok):
            return False
        return not any(
            other != blow and loses(other, answer, self) and self.last_begun_by(other.pid) is not None
            for other in self.blows
        )

    def _begun(self) -> list[Begun]:
        if not hasattr(self, "_begun_requests"):
            self._begun_requests = [
                entry
                for fleet in self.fleets
                for name in self.vassals
                for entry in begun_requests(fleet.nonce_log(name))
            ]
        return self._begun_requests

    def describe(self, answers: list[Answer]) -> str:
        """Failures beside the blow before them, for people."""
        rows = [f"{len(answers)} failures without an excuse, of {len(self.blows)} blows:"]
        for answer in answers[:12]:
            last = max(
                (blow for blow in self.blows if blow.at_s <= answer.done_s),
                key=lambda b: b.at_s,
                default=None,
            )
            since = (
                f"{answer.done_s - last.at_s:.3f} s after {last.role} {last.pid}"
                if last
                else "before any blow"
            )
            rows.append(
                f"  {answer.nonce} {answer.vassal} {answer.outcome} {answer.latency_ms:.0f} ms, "
                f"begun by {self.begun_by(answer)}, reused {answer.reused}, ended {since}"
            )
        return "\n".join(rows)


def nobody(answer: Answer, siege: Siege) -> bool:
    """No request may fail."""
    return False


def begun_by_the_killed(answer: Answer, siege: Siege) -> bool:
    """Only the one request that a killed worker had begun may fail: 502 or an aborted connection, within a
    second.

    A worker that is killed between its claim and the app's first line has begun it too, though no app logged
    it. That moment lasts well under a millisecond, at most 50 times a second and worker: few blows in a hundred
    can hit it. `verdict` counts those that did, and fails a row with more than one in ten (a short one: than one).
    """
    if answer.outcome not in ("502", "lost"):
        return False
    pid = siege.begun_by(answer)
    for blow in siege.blows:
        if not loses(blow, answer, siege):
            continue
        its_own = pid == blow.pid or (pid == 0 and siege.could_claim_unlogged(answer, blow))
        # One slot, so one loss a blow.
        if its_own and siege.lost_to.setdefault(blow, answer) == answer:
            return True
    return False


def loses(blow: Blow, answer: Answer, siege: Siege) -> bool:
    """Whether this answer came when requests of the worker that was struck are answered."""
    return (
        blow.role == "worker"
        and blow.vassal == answer.vassal
        and blow.at_s <= answer.done_s <= blow.at_s + siege.answered_s(blow)
    )


def on_the_killed_router(answer: Answer, siege: Siege) -> bool:
    """Only what was on its way through a killed router may fail, and no connection is refused.

    A connection of its own stays open until the kernel has taken the process apart, which on a busy machine
    is a while after the signal: what is sent on it meanwhile is on its way through the killed router too.
    """
    number = int(answer.nonce[1:].split("-")[0])
    open_s = DYING_S if answer.reused else 0.05
    return answer.outcome == "lost" and any(
        blow.role == "router"
        and blow.fleet == number
        and answer.scheduled_s - open_s * siege.stretch(blow) <= blow.at_s <= answer.done_s
        for blow in siege.blows
    )
