"""The statistics document of an emperor (`emperor.stats.model`), put together from what it and its routers know."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from emperor.stats.model import EmperorReport, RouterReport, SpawnerReport, document
from emperor.supervisor.doors import Doors
from emperor.supervisor.loop import Loop
from emperor.supervisor.spawner import Spawner
from emperor.supervisor.succession import Routers
from emperor.supervisor.supervisor import Supervisor


class Reporting:
    """`emperor()` reports of the process itself; `troubles()` gives, for one part after the other, what it cannot do for which
    vassals."""

    def __init__(
        self,
        loop: Loop,
        supervisor: Supervisor,
        routers: Routers,
        spawner: Spawner,
        doors: Doors,
        emperor: Callable[[], EmperorReport],
        troubles: Callable[[], list[Mapping[str, str]]],
    ) -> None:
        self._loop = loop
        self._supervisor = supervisor
        self._routers = routers
        self._spawner = spawner
        self._doors = doors
        self._emperor = emperor
        self._troubles = troubles

    def give_text(self, take: Callable[[bytes], None]) -> None:
        """As it is sent."""
        self.give(lambda found: take(json.dumps(found, indent=1).encode() + b"\n"))

    def give(self, take: Callable[[dict[str, Any]], None]) -> None:
        """Ask the routers for their part and put the document together, without that of one that does not answer in time."""
        if not self._routers.stats(lambda said: take(self._document(said))):
            take(self._document({}))

    def _document(self, said: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
        serving = self._routers.serving
        routers = [
            (
                RouterReport(
                    each.seat, each.pid, each.state, each.restarts, each.last_exit, int(each in serving)
                ),
                said.get(each.seat),
            )
            for each in self._routers.all
        ]
        spawner = SpawnerReport(self._spawner.pid, self._spawner.restarts, self._spawner.last_exit)
        vassals = self._supervisor.vassals.values()
        listeners = {each.name: self._doors.report(each.name) for each in vassals}
        troubles: dict[str, str] = {}
        for part in self._troubles():
            for name, text in part.items():
                troubles[name] = "; ".join(filter(None, (troubles.get(name, ""), text)))
        return document(
            self._emperor(),
            spawner,
            routers,
            vassals,
            self._loop.now(),
            listeners,
            troubles,
            self._supervisor.paused,
        )
