"""Whether an upstream is in service, and how it is to be preferred: by what became of its requests, and of what it was asked.
Pure; time comes in as seconds.

==========  =============================================================================================
IN          takes its share
WARMING     is back, or new among others: takes a share that grows from a tenth to its own (slow start)
EJECTED     has failed too often in a row, and is left out for a while, longer each time
DOWN        does not pass its health check, and is left out until it does
==========  =============================================================================================

What fails fast is never busy: to a rule that prefers who is idle it looks like the best of all, and would draw all traffic
(a black hole; linkerd2-proxy #4537). So failures count as load (`penalty`) long before they eject. The numbers are Envoy's
(outlier detection, slow start), but for the most that may be out: half, since pools here are small.
"""

from enum import IntEnum
from math import exp
from typing import Final

FAILURES: Final = 5
"""In a row, until it is ejected."""

EJECTION_S: Final = 30.0
"""Times the number of ejections that are not forgotten yet."""

EJECTION_MOST_S: Final = 300.0

TRIED_S: Final = 20.0
"""One to which a connection was tried in vain stays out for so long at least: longer than until the next try (`probes`)."""

SLOW_START_S: Final = 10.0
COLDEST: Final = 0.1
"""The share of its weight with which it begins."""

CHECKS_FAILED: Final = 3
CHECKS_PASSED: Final = 2
"""In a row, until a health check counts (HAProxy's fall and rise)."""

PENALTY: Final = 100.0
"""An upstream that fails everything looks as if so many requests were under way there."""

MEMORY: Final = 16
"""So many outcomes are remembered, more or less: each new one weighs 1/16."""

DECAY_S: Final = 10.0
"""What is not asked any more may have been mended: the memory of failures fades, to 1/e in this time."""

FORGOTTEN: Final = 0.02
"""A smaller share of failures is none."""


class State(IntEnum):
    IN = 0
    WARMING = 1
    EJECTED = 2
    DOWN = 3


class Event(IntEnum):
    EJECT = 0  # it has failed too often in a row, and may be left out
    RETURN = 1  # its time out is over
    WARM = 2  # it has had its slow start
    SICK = 3  # its health check has failed too often in a row
    WELL = 4  # its health check passes again


TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    (State.IN, Event.EJECT): State.EJECTED,
    (State.IN, Event.SICK): State.DOWN,
    (State.IN, Event.WELL): State.IN,
    (State.WARMING, Event.WARM): State.IN,
    (State.WARMING, Event.EJECT): State.EJECTED,
    (State.WARMING, Event.SICK): State.DOWN,
    (State.WARMING, Event.WELL): State.WARMING,
    (State.EJECTED, Event.RETURN): State.WARMING,
    (State.EJECTED, Event.SICK): State.DOWN,
    # A check that passes says nothing of the requests that failed, unless for want of a connection (`Health.tried`).
    (State.EJECTED, Event.WELL): State.EJECTED,
    (State.DOWN, Event.SICK): State.DOWN,
    (State.DOWN, Event.WELL): State.WARMING,
}

SERVING: Final = frozenset({State.IN, State.WARMING})
LAST_RESORT: Final = frozenset({State.EJECTED})
"""Whoever gets requests while nobody serves."""


class Outcome(IntEnum):
    """What became of one request there."""

    ANSWERED = 0  # with any status below 500
    ERROR = 1  # with one from 500 on that is the app's own
    FAILED = 2  # no answer, a broken one, none in time, or 502 to 504: as good as no upstream
    UNKNOWN = 3  # its client has gone, or was the one who was wrong
    UNREACHED = 4  # FAILED, since no connection came about


class Health:
    """What is known of one upstream."""

    __slots__ = (
        "_failed_share",
        "_share_at",
        "_tried_at",
        "_unreached",
        "checks_failed",
        "checks_passed",
        "ejections",
        "ejections_ever",
        "failed_at",
        "in_a_row",
        "reached",
        "since",
        "state",
        "until",
    )

    def __init__(self, now: float, *, warming: bool = False) -> None:
        """``warming``: others are in service, and it is to begin slowly."""
        self.state = State.WARMING if warming else State.IN
        self.since = now
        self.until = 0.0  # EJECTED: when its time is over
        self.in_a_row = 0  # failures
        self.failed_at = 0.0  # the last of them
        self.reached = False  # since then a connection to it has come about, or its checks pass
        self._unreached = False  # they are all for want of one
        self._tried_at = 0.0  # the last in vain, for no request
        self.ejections = 0  # not forgotten
        self.ejections_ever = 0
        self.checks_failed = 0  # in a row
        self.checks_passed = 0
        self._failed_share = 0.0
        self._share_at = now

    @property
    def serving(self) -> bool:
        return self.state in SERVING

    def look(self, now: float) -> bool:
        """What time alone changes. True: the state is another."""
        if self.state is State.EJECTED and now >= self.until:
            self._step(Event.RETURN, now)
        elif self.state is State.WARMING and now - self.since >= SLOW_START_S:
            self._step(Event.WARM, now)
        else:
            return False
        return True

    def ended(self, outcome: Outcome, now: float) -> bool:
        """A request has ended there. True: it has failed often enough to be ejected, if it may be (`may_eject`)."""
        if outcome is Outcome.UNKNOWN:
            return False
        failed = outcome is not Outcome.ANSWERED
        self._failed_share = self._faded(now) + ((1.0 if failed else 0.0) - self._faded(now)) / MEMORY
        self._share_at = now
        if outcome is not Outcome.FAILED and outcome is not Outcome.UNREACHED:
            self.in_a_row = 0
            return False
        self._unreached = outcome is Outcome.UNREACHED and (self._unreached or not self.in_a_row)
        self.reached = False
        self.in_a_row += 1
        self.failed_at = now
        return self.in_a_row >= FAILURES and self.serving

    def failing(self, now: float) -> bool:
        """It is as good as ejected, though it may be in service since nobody else is: who has a choice goes elsewhere, and
        tries it again when as much time has gone by as an ejection takes."""
        return self.in_a_row >= FAILURES and now - max(self.failed_at, self._tried_at) < EJECTION_S

    @property
    def doubted(self) -> bool:
        """It has failed since it was reached last."""
        return self.in_a_row > 0 and not self.reached

    def tried(self, well: bool, now: float) -> bool:
        """A connection has come about for no request of anybody's, or has not. True: what it was out for is over.

        That says nothing of requests that had one and failed, but all of those that had none.
        """
        if not well:
            self._tried_at = now
            if self.state is State.EJECTED:
                self.until = max(self.until, now + TRIED_S)
            return False
        self.reached = True
        if not self.in_a_row or not self._unreached:
            return False
        self.in_a_row = 0
        if self.state is State.EJECTED:
            self._step(Event.RETURN, now)
        return True

    def eject(self, now: float) -> None:
        """Leave it out, for longer than the last time unless it has served as long as it was out since."""
        served_s = now - self.since
        while self.ejections and served_s >= EJECTION_S * self.ejections:
            served_s -= EJECTION_S * self.ejections
            self.ejections -= 1
        self.ejections += 1
        self.ejections_ever += 1
        self.until = now + min(EJECTION_S * self.ejections, EJECTION_MOST_S)
        self._step(Event.EJECT, now)

    def checked(self, well: bool, now: float) -> bool:
        """A health check has ended. True: the state is another."""
        before = self.state
        if well:
            self.checks_failed = 0
            self.checks_passed += 1
            if self.checks_passed >= CHECKS_PASSED:
                self._step(Event.WELL, now)
                self.tried(True, now)
        else:
            self.checks_passed = 0
            self.checks_failed += 1
            if self.checks_failed >= CHECKS_FAILED:
                self._step(Event.SICK, now)
        return self.state is not before

    def penalty(self, now: float) -> float:
        """Requests that it is to be taken for having beside those it has. By the square of its share of failures: one of a
        hundred is an accident."""
        share = self._faded(now)
        return 0.0 if share < FORGOTTEN else PENALTY * share * share

    def warmth(self, now: float) -> float:
        """The part of its weight that counts, up to 1."""
        if self.state is not State.WARMING:
            return 1.0
        return min(1.0, max(COLDEST, (now - self.since) / SLOW_START_S))

    def _faded(self, now: float) -> float:
        return self._failed_share * exp((self._share_at - now) / DECAY_S) if self._failed_share else 0.0

    def _step(self, event: Event, now: float) -> None:
        following = TRANSITIONS.get((self.state, event))
        if following is None:
            raise AssertionError(f"{event.name} of an upstream that is {self.state.name}")
        if following is self.state:
            return
        if following is not State.IN:
            self.since = now  # the time in service counts from the return on
        if following is State.WARMING:
            # What it did before is what it was out for; it is tried anew.
            self.in_a_row = 0
            self._failed_share = 0.0
        self.state = following


def may_eject(ejected: int, members: int) -> bool:
    """One more may be left out: at most half are, so that the only one there is never is."""
    return 2 * (ejected + 1) <= members
