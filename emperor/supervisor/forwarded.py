"""Generations of vassals whose requests go to upstreams, or to workers of other hosts: they have no process, so they start at
once, and end when the router has nothing of theirs in hand any more.

All else is as with any vassal: a reload is a new generation, and the router is told its entry. Each ends once, whatever is
asked of it meanwhile, and one question to the routers is for all that leave: a thousand may at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from emperor.supervisor.fleet import Generation, Phase
from emperor.supervisor.loop import Loop, Timer

LOOK_S = 0.05
"""How often the router is asked whether it has finished what it has of a vassal that is gone."""

UNANSWERED_S = 2.0
"""A router that has not answered by then may have died over it: whoever is there is asked again."""

_Take = Callable[[Mapping[int, Mapping[str, Any]]], None]
_Key = tuple[str, int]


class Listening(Protocol):
    """Who is told: the supervisor's verbs, with whatever goes round them."""

    def ready(self, generation: Generation) -> None: ...
    def gone(self, generation: Generation, exit_text: str, killed: bool) -> None: ...


class Forwarded:
    """`stats` asks all routers, and is False when there is none to ask."""

    def __init__(self, loop: Loop, listening: Listening, stats: Callable[[_Take], bool]) -> None:
        self._loop = loop
        self._listening = listening
        self._stats = stats
        self._leaving: dict[_Key, tuple[Generation, float]] = {}  # and until when
        self._timer: Timer | None = None

    def start(self, generation: Generation) -> None:
        """It is ready, once whoever says so has finished speaking."""
        self._loop.call_soon(self._started, generation)

    def resume(self, generation: Generation) -> None:
        """Go on with one that the program before us in this process had: one that was about to be ready, is. One that was to
        leave is told so again."""
        if generation.phase in (Phase.SPAWNING, Phase.STARTING):
            self.start(generation)
        elif generation.phase is Phase.LEAVING:
            self.leave(generation, generation.leave_within_s)

    def leave(self, generation: Generation, within_s: float) -> None:
        """Let it go when its requests are through: those of one that is replaced go on without it."""
        key = (generation.file, generation.number)
        until = self._loop.now() + within_s
        if key in self._leaving:
            until = min(until, self._leaving[key][1])
        self._leaving[key] = (generation, until)
        self._look_in(0.0)

    def _started(self, generation: Generation) -> None:
        if generation.phase is not Phase.LEAVING:  # it was told to before it was there
            self._listening.ready(generation)

    def _look_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._loop.now()
        for key in [key for key, (_, until) in self._leaving.items() if until <= now]:
            self._gone(key)
        asked = list(self._leaving)
        if not asked:
            return

        def answered(said: Mapping[int, Mapping[str, Any]]) -> None:
            for key in asked:
                if key in self._leaving and not _in_hand(said, self._leaving[key][0].name):
                    self._gone(key)
            if self._leaving:
                self._look_in(LOOK_S)

        if self._stats(answered):
            soonest = min(until for _, until in self._leaving.values())
            self._look_in(min(UNANSWERED_S, max(LOOK_S, soonest - now)))
            return
        for key in asked:
            self._gone(key)

    def _gone(self, key: _Key) -> None:
        left = self._leaving.pop(key, None)
        if left is not None:
            self._listening.gone(left[0], "has nothing more to do", False)


def _in_hand(said: Mapping[int, Mapping[str, Any]], name: str) -> int:
    apps = [(each.get("apps") or {}).get(name) or {} for each in said.values()]
    return sum(
        int(app.get(key, 0)) for app in apps for key in ("forwarded", "running", "queued", "receiving")
    )
