"""A generation that nobody comes after leaves once what waits for it in the routers is served, as long as there is time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from emperor.supervisor.fleet import Generation
from emperor.supervisor.loop import Loop

LOOK_S = 0.05

LEAST_S = 1.0
"""To finish, once nothing waits for it."""


class Routers(Protocol):
    """What is needed of `succession.Routers`."""

    def stats(self, take: Callable[[Mapping[int, Mapping[str, Any]]], None]) -> bool: ...


class Emptying:
    """`leave(generation, within_s)` tells one to go; `hurries()` is true when none is to wait any more."""

    def __init__(
        self,
        loop: Loop,
        routers: Routers,
        leave: Callable[[Generation, float], None],
        hurries: Callable[[], bool],
    ) -> None:
        self._loop = loop
        self._routers = routers
        self._leave = leave
        self._hurries = hurries

    def leave(self, generation: Generation, left_s: float) -> None:
        """Let it go within `left_s`, the wait for its queue included."""
        self._look(generation, self._loop.now() + left_s)

    def _look(self, generation: Generation, until: float) -> None:
        def answered(said: Mapping[int, Mapping[str, Any]]) -> None:
            apps = [(each.get("apps") or {}).get(generation.name) or {} for each in said.values()]
            waits = sum(int(app.get("queued", 0)) + int(app.get("on_deck", 0)) for app in apps)
            left_s = until - self._loop.now()
            # One that does not answer in time may be busy: what waits there is not known to be nothing.
            if (said and waits == 0) or left_s <= LOOK_S or self._hurries():
                self._leave(generation, max(left_s, LEAST_S))
            else:
                self._loop.call_later(LOOK_S, self._look, generation, until)

        if not self._routers.stats(answered):
            self._leave(generation, max(until - self._loop.now(), LEAST_S))
