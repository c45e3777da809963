"""When a gateway has come to rest, it gives back what memory is as it was before.

Most gateways rest most of the time, for hours. What they run between two rests copies pages that they would otherwise share
(`vassals.pages`), so after a second in which nothing has happened these are given back, once. A gateway that never rests,
since its app logs all the time, never does so; one that is called every few seconds does so less and less often: each time
costs half a millisecond, and there may be a thousand of them.
"""

from __future__ import annotations

from typing import Final

from emperor.supervisor.loop import Loop, Timer
from vassals import pages

REST_S: Final = 1.0
AGAIN_MOST_S: Final = 60.0
"""From one time to the next at last; it begins with REST_S and doubles."""


class Rest:
    """`stirred` is called after each turn of the loop."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._since = loop.now()
        self._timer: Timer | None = loop.call_later(REST_S, self._look)
        self._looked = False
        self._not_before = 0.0
        self._again_s = REST_S

    def stirred(self) -> None:
        """Something has happened, if only that we looked whether anything has."""
        if self._looked:
            self._looked = False
            return
        self._since = self._loop.now()
        if self._timer is None:
            self._timer = self._loop.call_later(REST_S, self._look)

    def _look(self) -> None:
        self._looked = True
        self._timer = None
        now = self._loop.now()
        left_s = max(self._since + REST_S, self._not_before) - now
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._look)
        else:
            pages.give_back()
            self._not_before = now + self._again_s
            self._again_s = min(2 * self._again_s, AGAIN_MOST_S)
