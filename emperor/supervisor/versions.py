"""What the emperor does for becoming another version, or for another router: what it hands over, and whom it tells.

How it is done step by step is the matter of `upgrading`; what the parts hand over that of `estate`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from emperor import __version__
from emperor.control.server import Refused, Reply
from emperor.log import Log
from emperor.notify import Notify
from emperor.supervisor.children import Children
from emperor.supervisor.commands import Commands
from emperor.supervisor.estate import Estate
from emperor.supervisor.events import Events
from emperor.supervisor.handover import Handover, Keep
from emperor.supervisor.loop import Loop
from emperor.supervisor.routerchange import RouterChange
from emperor.supervisor.upgrading import Upgrades


class Versions:
    """One emperor's. `facts(keep)` is what is handed over of the process itself; `summary()` how the vassals are, for people;
    `stopping()` whether it comes to its end."""

    def __init__(
        self,
        loop: Loop,
        children: Children,
        estate: Estate,
        commands: Commands,
        events: Events,
        log: Log,
        notify: Notify,
        facts: Callable[[Keep], dict[str, Any]],
        summary: Callable[[], str],
        stopping: Callable[[], bool],
    ) -> None:
        self._estate = estate
        self._sockets = estate.sockets
        self._routers = estate.routers
        self._commands = commands
        self._events = events
        self._log = log
        self._notify = notify
        self._facts = facts
        self._summary = summary
        self._stopping = stopping
        self._upgrades = Upgrades(loop, children, self, lambda: notify.variables)
        self._change = RouterChange(
            self._routers, estate.gateways, events, lambda text, by: self.note("error", text, by)
        )
        self._keeps_router = False
        self._owed: list[Reply] = []  # who waits to hear that we are the new version

    def upgrade(self, program: str, by: str, reply: Reply, keep_router: bool) -> None:
        """Become what is installed at `program`, and replace the router then, if it is not to be kept. Raises Refused."""
        self._keeps_router = keep_router
        self._upgrades.ask(program, by, reply)

    def replace_router(self, by: str, reply: Reply) -> None:
        """Put another router in the place of the one that runs. Raises Refused."""
        if self._upgrades.under_way:
            raise Refused("upgrade: one is under way already: wait for its outcome")

        def done(router: dict[str, Any]) -> None:
            stay = [each for each in router["routers"] if each["stays"]]
            if stay:
                which = (
                    "the router stays" if len(router["routers"]) == 1 else f"router {stay[0]['seat']} stays"
                )
                reply.refuse(f"upgrade: {which}: {stay[0]['stays']}")
            else:
                reply({"router": router})

        self._change.make(by, done)

    def resume(self, handed: Handover) -> None:
        """Take up everything where the program before us in this process has left it. Raises as `Estate.resume` does."""
        self._owed = self._estate.resume(handed)

    def has_become(self, document: dict[str, Any]) -> None:
        """We govern again: say so to whom waits for it."""
        took_s = time.monotonic() - document["began"]
        what = f"version {document['version']} has become {__version__}"
        self.note("info", f"{what} after {took_s:.2f} s: {self._summary()}", document["by"])
        owed, self._owed = self._owed, []
        outcome = {"from": document["version"], "version": __version__, "pid": os.getpid(), "took_s": took_s}

        def done(router: dict[str, Any]) -> None:
            for reply in owed:
                reply({**outcome, "router": router})

        kept, router = bool(document.get("keep_router")), self._routers.main
        # One that died meanwhile has been replaced by one of this version.
        others = [each for each in self._routers.serving if not each.is_ours]
        if kept or not others:
            stays = "it was to be kept" if kept else ""
            done({"seat": router.seat, "pid": router.pid, "before": router.seat, "stays": stays})
        else:
            self._change.make(document["by"], done, others)

    def close(self, why: str) -> None:
        """Stop whatever is under way."""
        self._upgrades.close(why)

    # -- what is asked of the emperor (upgrading.Ruler) ---------------------------------------------------

    def hand_over(self, keep: Keep) -> dict[str, Any]:
        waiting: dict[str, list[Reply]] = self._commands.waiting
        if self._upgrades.asker is not None:
            waiting[""] = [self._upgrades.asker]
        return {
            "version": __version__,
            "by": self._upgrades.by,
            "keep_router": self._keeps_router,
            "began": time.monotonic(),
            **self._facts(keep),
            **self._estate.hand_over(keep, waiting),
        }

    def unquiet(self) -> str:
        return "the emperor stops" if self._stopping() else self._estate.unquiet()

    def settle_down(self) -> None:
        self._sockets.rest()

    def go_on(self) -> None:
        self._sockets.go_on()
        self._notify.ready(self._summary())

    def about_to(self, text: str) -> None:
        waiting = [reply for replies in self._commands.waiting.values() for reply in replies]
        asker = self._upgrades.asker
        self._sockets.refuse_others(text, waiting if asker is None else [*waiting, asker])
        self._notify.reloading()

    def note(self, level: str, text: str, by: str) -> None:
        for line in text.splitlines():
            self._log.write(level, f"{line} ({by})" if by and "\n" not in text else line)
        self._events.add("upgrade", "", text, by)

    def flush(self, timeout_s: float) -> None:
        self._log.flush(timeout_s)
