"""Generations of vassals whose requests go to upstreams, or to workers of other hosts: they have no process, so they start at
once, and end when the router has nothing of theirs in hand any more.

All else is as with any vassal: a reload is a new generation, and the router is told its entry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from emperor.supervisor.loop import Loop
from emperor.supervisor.supervisor import Generation, Phase

LOOK_S = 0.05
"""How often the router is asked whether it has finished what it has of a vassal that is gone."""

_Take = Callable[[Mapping[int, Mapping[str, Any]]], None]


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

    def start(self, generation: Generation) -> None:
        """It is ready, once whoever says so has finished speaking."""
        self._loop.call_soon(self._listening.ready, generation)

    def resume(self, generation: Generation) -> None:
        """Go on with one that the program before us in this process had: one that was about to be ready, is. One that was to
        leave is told so again."""
        if generation.phase in (Phase.SPAWNING, Phase.STARTING):
            self.start(generation)
        elif generation.phase is Phase.LEAVING:
            self.leave(generation, generation.leave_within_s)

    def leave(self, generation: Generation, within_s: float) -> None:
        """Let it go when its requests are through: those of one that is replaced go on without it."""

        def answered(said: Mapping[int, Mapping[str, Any]]) -> None:
            apps = [(each.get("apps") or {}).get(generation.name) or {} for each in said.values()]
            in_hand = sum(
                int(app.get(key, 0))
                for app in apps
                for key in ("forwarded", "running", "queued", "receiving")
            )
            if in_hand == 0 or within_s <= LOOK_S:
                self._gone(generation)
            else:
                self._loop.call_later(LOOK_S, self.leave, generation, within_s - LOOK_S)

        if within_s <= 0 or not self._stats(answered):
            self._loop.call_soon(self._gone, generation)

    def _gone(self, generation: Generation) -> None:
        self._listening.gone(generation, "has nothing more to do", False)
