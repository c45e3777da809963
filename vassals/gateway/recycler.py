"""Carries out what `recycling` decides: looks at the workers when it is time to, and has `seats` replace or kill them.

It has no timer where there is nothing to look for: most vassals set no limit, and of the others most only ask how many
requests a worker has served, which that one says itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from emperor.config.recycling import Recycling
from emperor.supervisor import process
from emperor.supervisor.loop import Loop, Timer

from .recycling import Seen, decide, look_again_s
from .seats import Effect, Seats


class _Counted:
    """What is known of the worker that sits in a seat."""

    __slots__ = ("born", "limit_s", "pid", "worn")

    def __init__(self, pid: int, born: float, limit_s: float) -> None:
        self.pid = pid
        self.born = born
        self.limit_s = limit_s
        self.worn = ""


class Note(Protocol):
    """A line for the emperor's log: level and text."""

    def __call__(self, level: str, text: str) -> None: ...


class Recycler:
    """`trouble` says which worker cannot be replaced, and why, for as long as that is so."""

    def __init__(
        self,
        limits: Recycling,
        seats: Seats,
        loop: Loop,
        carry_out: Callable[[list[Effect]], None],
        note: Note,
        random: Callable[[], float],
    ) -> None:
        self.trouble = ""
        self._limits = limits
        self._seats = seats
        self._loop = loop
        self._carry_out = carry_out
        self._note = note
        self._random = random
        self._workers: dict[int, _Counted] = {}
        self._timer: Timer | None = None
        self._not_before = 0.0

    def started(self, seat: int, pid: int) -> None:
        limit_s = self._limits.life_of(self._random())
        self._workers[seat] = _Counted(pid, self._loop.now(), limit_s)

    def ended(self, seat: int) -> None:
        self._workers.pop(seat, None)

    def worn(self, seat: int, reason: str) -> None:
        """Its worker says that it has served long enough, or somebody else does."""
        worker = self._workers.get(seat)
        if worker is not None:
            worker.worn = worker.worn or reason
            self.look()

    def postpone(self, seat: int, delay_s: float) -> None:
        """The worker that started in `seat`, for another to leave, has not come up."""
        self._not_before = self._loop.now() + delay_s
        reason = self._seats.seats[seat].reason
        self.trouble = f"a worker that has served long enough cannot be replaced: {reason}"
        self._note("error", f"{self.trouble}; it serves on, and the next try is in {delay_s:.1f} s")
        self._arm(delay_s)

    def look(self) -> None:
        """Decide now. Called whenever a worker begins to serve or its place is free again, and by our own timer."""
        if self._seats.state != "ready":
            return
        workers = self._look_at_workers()
        now = self._loop.now()
        can_replace = self._seats.can_replace() and now >= self._not_before
        for decision in decide(self._limits, workers, can_replace):
            who = f"worker {decision.seat} (pid {self._workers[decision.seat].pid})"
            if decision.action == "kill":
                self._note("warning", f"{who} is killed: {decision.reason}")
                self._carry_out(self._seats.evil(decision.seat, decision.reason))
            else:
                can_replace = False
                self._note("info", f"{who} is recycled once another serves: {decision.reason}")
                self._carry_out(self._seats.replace(decision.seat, decision.reason))
        delay_s = look_again_s(self._limits, workers, can_replace)
        if delay_s is None and self._not_before > now:
            delay_s = self._not_before - now
        if delay_s is not None:
            self._arm(delay_s)

    def replaced(self) -> None:
        """One has left, and another serves in its place."""
        self.trouble = ""
        self.look()

    def _look_at_workers(self) -> list[Seen]:
        now = self._loop.now()
        seen = []
        for number, worker in self._workers.items():
            if self._seats.seats[number].state != "ready":
                continue
            as_bytes, rss_bytes = process.memory(worker.pid) if self._limits.measures_memory else (0, 0)
            seen.append(Seen(number, now - worker.born, worker.limit_s, rss_bytes, as_bytes, worker.worn))
        return seen

    def _arm(self, delay_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(delay_s, self.look)
