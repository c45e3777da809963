"""What the emperor's end of each router looks up and passes on (`routers.Table`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from emperor.supervisor.accesslogs import AccessLogs
from emperor.supervisor.announcements import Announcements
from emperor.supervisor.events import Events
from emperor.supervisor.fleet import Generation
from emperor.supervisor.gateways import Gateways
from emperor.supervisor.sharedout import wanted_of_each
from emperor.supervisor.subscribed import Subscribed
from emperor.supervisor.supervisor import Supervisor
from emperor.supervisor.tenant import Tenant
from emperor.supervisor.wanted import Wanted


class RouterTable:
    """One for all routers of an emperor, of which `routers` let clients in. They are made before what they look things up in,
    which is made with them: `use` completes it, before the first of them starts."""

    _gateways: Gateways
    _access_logs: AccessLogs
    _announcements: Announcements
    _subscribed: Subscribed

    def __init__(self, supervisor: Supervisor, events: Events, routers: int = 1) -> None:
        self._routers = routers
        self._supervisor = supervisor
        self._events = events

    def use(
        self,
        gateways: Gateways,
        access_logs: AccessLogs,
        announcements: Announcements,
        subscribed: Subscribed,
    ) -> None:
        self._gateways = gateways
        self._access_logs = access_logs
        self._announcements = announcements
        self._subscribed = subscribed

    def router_names(self) -> list[str]:
        return self._supervisor.router_names()

    def wanted(self, name: str) -> Wanted | None:
        wanted = self._supervisor.wanted(name)
        return None if wanted is None else wanted_of_each(wanted, self._routers)

    def _generation(self, name: str, number: int) -> Generation | None:
        vassal = self._supervisor.by_name(name)
        return None if vassal is None else vassal.generations.get(number)

    def _living(self, name: str, number: int) -> Generation:
        """Raises OSError."""
        generation = self._generation(name, number)
        if generation is None:
            raise OSError(f"generation {number} is no more")
        return generation

    def page(self, name: str, generation: int) -> int:
        return self._gateways.page(self._living(name, generation))

    def rows(self, name: str, generation: int) -> int:
        return self._gateways.rows(self._living(name, generation))

    def bells(self, name: str, generation: int, router_seat: int) -> list[int]:
        found = self._generation(name, generation)
        return [] if found is None else self._gateways.bells(found, router_seat)

    def entry_told(self, name: str) -> None:
        vassal, wanted = self._supervisor.by_name(name), self._supervisor.wanted(name)
        if vassal is None or wanted is None:
            self._access_logs.forget(name)
            self._announcements.forget(name)
            return
        reading = vassal.current.reading if vassal.current is not None else vassal.wish
        self._announcements.told(name, reading)
        tenant = Tenant() if reading is None else Tenant(reading.uid, reading.gid)
        self._access_logs.told(name, wanted.entry.access, tenant)

    def log_full(self, name: str, opening: int | None) -> None:
        self._access_logs.full(name, opening)

    def subscribed(self) -> Iterable[dict[str, Any]]:
        return self._subscribed.messages()

    def overran(self, name: str, generation: int, message: dict[str, Any]) -> None:
        self._gateways.pass_on(name, generation, message)
        match message:
            case {"seat": int(seat), "pid": int(pid), "request": str(request), "ran_ms": int(ran_ms)}:
                text = f"worker {seat} (pid {pid}): {request} had run for {ran_ms / 1000:.1f} s"
                self._events.add("harakiri", name, text, "harakiri")

    def poisoned(self, name: str, text: str) -> None:
        self._events.add("poison", name, text, "poison-deaths")
