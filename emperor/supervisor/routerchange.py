"""Putting another router in the place of each that runs, because somebody has asked for it, and telling what came of it.

How one takes the other's place is the matter of `succession`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from emperor.supervisor.events import Events
from emperor.supervisor.gateways import Gateways
from emperor.supervisor.routers import Router
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

    def make(self, by: str, done: Callable[[dict[str, Any]], None], whom: Sequence[Router] = ()) -> None:
        """`done` is told of each of them, `whom` or all that let clients in, which router there is then, which there was, and
        why it stays if it does: `routers`, and of the first of them also as one's own matter."""
        before = [each.seat for each in whom or self._routers.serving]
        places = [at for at, each in enumerate(self._routers.serving) if each.seat in before]

        def settled(why: str) -> None:
            routers = [self._routers.serving[at] for at in places]
            found = []
            for seat, router in zip(before, routers, strict=True):
                stays = why if router.seat == seat else ""
                if stays:
                    self._failed(f"router {seat} stays: {why}", by)
                else:
                    text = f"router {router.seat} (pid {router.pid}) has taken the place of router {seat}"
                    self._events.add("upgrade", "", text, by)
                found.append({"seat": router.seat, "pid": router.pid, "before": seat, "stays": stays})
            done({**found[0], "routers": found})

        if why := self._why_it_stays():
            settled(why)
        else:
            self._routers.replace(settled, whom)

    def _why_it_stays(self) -> str:
        """Nobody can serve beside it; empty: somebody can."""
        if not self._routers.share:
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
