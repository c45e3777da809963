"""What becomes of a worker one of whose requests ran too long. Pure: the page's slots and the time come in.

Its other requests drain, then it is ended: by SIGKILL, since what never comes back hears nothing else, after a signal that
it may hear where the vassal asks for one (`harakiri-graceful-timeout`). A request that has come back after all, late, is
no reason to kill: the worker was told to leave, and does.

| the slots of its page hold | then |
| --- | --- |
| what ran too long, and others | wait, `longest_s` at most: each of these has a limit of its own |
| what ran too long alone, in two looks | signal, or kill |
| nothing of what ran too long | let it leave, `LEAVE_S` at most |
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

LEAVE_S: Final = 10.0
LOOKS: Final = 2
"""What has just ended in another slot is on its way to the router in the time of one look."""


class Sentence:
    """One worker's. `streams` are those that ran too long; `why` is for its last exit."""

    __slots__ = ("_grace_s", "_kill_at", "_looks", "_until", "streams", "why")

    def __init__(self, now: float, longest_s: float, grace_s: float, why: str) -> None:
        self.streams: set[int] = set()
        self.why = why
        self._until = now + longest_s
        self._grace_s = grace_s
        self._looks = 0
        self._kill_at = 0.0  # it has had the signal, and has until then

    def step(self, now: float, busy: set[int]) -> str:
        """What to do now, when the slots are busy with these streams: "signal", "kill" or nothing. Called every look until
        the worker has ended."""
        if self._kill_at:
            return "kill" if now >= self._kill_at else ""
        if not busy & self.streams:
            self._until = min(self._until, now + LEAVE_S)
            return "kill" if now >= self._until else ""
        if busy - self.streams and now < self._until:
            self._looks = 0
            return ""
        self._looks += 1
        if self._looks < LOOKS:
            return ""
        self._kill_at = now + self._grace_s
        return "signal" if self._grace_s else "kill"


def late(
    slots: Iterable[tuple[int, int]], limit_s: float, now_ns: int
) -> tuple[list[tuple[int, float]], float]:
    """``(what has run for longer than limit_s, as (stream, seconds); in how many seconds the next may have)``.

    The second is `limit_s` where nothing runs: what begins in this moment is late then. So a look that often is enough, and
    a worker at rest costs nothing.
    """
    found, next_s = [], limit_s
    for stream, start in slots:
        if not stream:
            continue
        ran_s = (now_ns - start) / 1e9
        if ran_s >= limit_s:
            found.append((stream, ran_s))
        else:
            next_s = min(next_s, limit_s - max(ran_s, 0.0))
    return found, next_s
