"""Putting another router in the place of the one that runs, because somebody has asked for it, and telling what came of it.

How one takes the other's place is the matter of `succession`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from emperor.supervisor.events import Events
from emperor.supervisor.gateways import Gateways
from emperor.supervisor.succession import Routers


class RouterChange:
    """`failed(text, by)` logs a change that has not come about, and writes it down as an event."""

    def __init__(
        self, routers: Routers, gateways: Gateways, events: Events, failed: Callable[[str, str], None]
    ) -> None:
        self._routers = routers
        self._gateways = gateways
        self._events = events
        self._failed = failed

    def make(self, by: str, done: Callable[[dict[str, Any]], None]) -> None:
        """`done` is told which router there is then, which there was, and why it stays if it does."""
        before = self._routers.main.seat

        def settled(why: str) -> None:
            router = self._routers.main
            if why:
                self._failed(f"router {router.seat} stays: {why}", by)
            else:
                text = f"router {router.seat} (pid {router.pid}) has taken the place of router {before}"
                self._events.add("upgrade", "", text, by)
            done({"seat": router.seat, "pid": router.pid, "before": before, "stays": why})

        if why := self._why_it_stays():
            settled(why)
        else:
            self._routers.replace(settled)

    def _why_it_stays(self) -> str:
        """Nobody can serve beside it; empty: somebody can."""
        if not self._routers.main.shares:
            return (
                "it is of a version that cannot share workers with another: it serves on with its code until it or the "
                "emperor is started anew"
            )
        if unshared := self._gateways.unshared():
            names = ", ".join(unshared[:10]) + (" …" if len(unshared) > 10 else "")
            return (
                f"the workers of {names} were started by a version without room for a second router: `emperor reload` them, "
                "then `emperor upgrade --router-only`"
            )
        return ""
