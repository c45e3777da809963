"""How a worker takes the processor when it is waked: at once, or after whoever runs has had its turn.

Waked by its bell, a worker interrupts who runs on that processor, which under load is the router, with more requests for it,
or a client of this machine. A worker that always has the next request at hand gains nothing by that: there would have been
more for it to do a moment later, for as few switches. So it runs as ``SCHED_BATCH`` while it seldom waits, and as before once
it does. The share of the processor that it gets is the same, and on a processor that is idle it runs at once either way.
docs/decisions/0049-who-has-enough-to-do-interrupts-nobody.md has the figures.
"""

import os
from typing import Final

_FEW: Final = 8
_MANY: Final = 4
"""Fewer than one pause in ``_FEW`` requests is seldom, more than one in ``_MANY`` is not."""

_SURE: Final = 8


class Pace:
    """Of the thread that calls `rate`, as the policy is the thread's and outlives a link.

    A thread that an operator has given a policy keeps it.
    """

    def __init__(self) -> None:
        self.patient = False
        self._ours = True

    def rate(self, requests: int, pauses: int) -> None:
        """So many requests were served, and so often there was none to begin, or one took long."""
        if self.patient:
            if pauses * _MANY > requests:
                self._be(os.SCHED_OTHER)
        elif pauses * _FEW < requests:
            self._be(os.SCHED_BATCH)

    def _be(self, policy: int) -> None:
        if not self._ours:
            return
        try:
            if os.sched_getscheduler(0) != (os.SCHED_BATCH if self.patient else os.SCHED_OTHER):
                self._ours = False
                return
            os.sched_setscheduler(0, policy, os.sched_param(0))
        except OSError:
            self._ours = False  # a sandbox that does not allow it
            return
        self.patient = policy == os.SCHED_BATCH


class Lingering:
    """Whether a worker on an event loop looks for the next request for a moment before it sleeps: if it lately was there in
    that time more often than not.

    One that sleeps under load leaves its processor to the router's clients, who are then waked across processors, one
    by one, and are in its way when it is waked itself. docs/decisions/0054-who-will-be-needed-stays.md has the figures.
    """

    MOST_NS: Final = 500_000
    """For so long, at most."""

    def __init__(self) -> None:
        self.pays = False
        self._short = 0  # so many more waits were short than long, within bounds

    def waited(self, for_ns: int) -> None:
        """There was nothing to begin for so long."""
        if for_ns < self.MOST_NS:
            self._short = min(self._short + 1, _SURE)
        else:
            self._short = max(self._short - 1, -_SURE)
        self.pays = self._short > 0


PACE: Final = Pace()
"""Of the thread that serves, for all its links."""
