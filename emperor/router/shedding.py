"""When an app has more requests than it can serve, and what is done with those then. Pure; time comes in as seconds.

After CoDel (RFC 8289): not the length of a queue tells of overload but that it stands, that is that its oldest request has
waited for long through a whole interval. Scaled to the app: a queue of requests of a second is not what one of milliseconds
is. Two things look like overload and are none, and nobody is turned away for them:

* All slots are busy with a few long requests, and little waits. Hence the second measure: what waits, by what the app's
  requests take on average, must itself be too much work for its slots.
* There were no workers for a while (a start, a restart, `emperor pause --hold`), and what has waited for them is served now.

In overload the newest is served first: its client is there, and the oldest's may have left. What has waited for longer than
``limit_s`` is shed; so whoever is answered has waited for no longer than that. Tried against shedding in the order of
arrival, and against refusing what comes, in ops/sim/overload.py (decision 0041).
"""

import math
from typing import Final

TIMES: Final = 8
"""A request may wait for so many times what one takes on average, if that is more than ``queue-target``."""

INTERVAL_SHARE: Final = 0.25
"""Of the limit: so long a queue must stand."""

RETRY_MOST_S: Final = 60


def limit_s(target_s: float, mean_ns: int, timeout_s: float) -> float:
    """How long a request may wait in overload."""
    return min(timeout_s, max(target_s, TIMES * mean_ns / 1e9))


def work_s(queued: int, mean_ns: int, slots: int) -> float:
    """How long so many requests keep so many slots busy."""
    return queued * mean_ns / 1e9 / slots if slots else 0.0


def retry_after_s(queued: int, mean_ns: int, slots: int) -> int:
    """When a client that is turned away should come again: when what waits now is done; whole seconds, at least 1."""
    return min(RETRY_MOST_S, max(1, math.ceil(work_s(queued, mean_ns, slots))))


class Shedding:
    """Whether one app is overloaded. ``target_s`` 0: it never is."""

    def __init__(self, target_s: float) -> None:
        self.target_s = target_s
        self.overloaded = False
        self.limit_s = 0.0  # as of the last look
        self.times = 0  # that it became so
        self._standing_since = -1.0
        self._excused_until = -1.0

    def look(
        self, now: float, waited_s: float, queued: int, slots: int, mean_ns: int, timeout_s: float
    ) -> bool:
        """Decide anew; to be called several times per ``target_s``. ``waited_s``: of the oldest of ``queued`` requests.
        ``slots``: those of all workers that take requests. Returns ``overloaded``."""
        limit = self.limit_s = limit_s(self.target_s, mean_ns, timeout_s)
        if not slots and queued:
            self._excused_until = now + timeout_s
        if waited_s < limit / 2 or not queued:
            self._standing_since = -1.0
            if slots:
                self._excused_until = -1.0
            self.overloaded = False
        elif now < self._excused_until or not self.target_s or not mean_ns:
            self.overloaded = False
        elif self._standing_since < 0:
            self._standing_since = now
        elif (
            not self.overloaded
            and now - self._standing_since >= limit * INTERVAL_SHARE
            and work_s(queued, mean_ns, slots) >= limit / 2
        ):
            self.overloaded = True
            self.times += 1
        return self.overloaded
