"""Putting to use what a killed emperor left running and `adoption` has found: its routers first, then its gateways."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from emperor.monitors.places import Places
from emperor.supervisor.adoption import Found, FoundGateway, FoundRouter
from emperor.supervisor.bells import Bells
from emperor.supervisor.doors import Doors
from emperor.supervisor.fleet import Generation, Phase
from emperor.supervisor.gateways import Gateways
from emperor.supervisor.listeners import SharedListeners
from emperor.supervisor.loop import Loop
from emperor.supervisor.routers import ALONE, Logger
from emperor.supervisor.succession import Routers
from emperor.supervisor.supervisor import Supervisor


class TakeOver:
    """Done once, before the loop turns: `use_routers`, then `use_gateways`. `adopted` says that anything lived, `files` are the
    vassals that the emperor before us knew, `only` the one that it served alone. `mercy_s()` is for routers that leave."""

    def __init__(
        self,
        loop: Loop,
        supervisor: Supervisor,
        routers: Routers,
        gateways: Gateways,
        listeners: SharedListeners,
        doors: Doors,
        places: Places,
        log: Logger,
        mercy_s: Callable[[], float],
    ) -> None:
        self._loop = loop
        self._supervisor = supervisor
        self._routers = routers
        self._gateways = gateways
        self._listeners = listeners
        self._doors = doors
        self._places = places
        self._log = log
        self._mercy_s = mercy_s
        self.adopted = False
        self.files: set[str] = set()
        self.only: str | None = None

    def use_routers(self, found: Found) -> None:
        if found.router is not None:
            self._use_router(found.router)
        for peer in found.peers:
            self._use_peer(peer)
        for other in found.leaving:
            self._use_leaving(other)

    def _use_router(self, found: FoundRouter) -> None:
        router = self._routers.main_in(found.seat)
        for name, sock in found.backplanes.items():
            router.backplanes.adopt(name, sock)
        try:
            router.adopt(found.channel, found.pid, found.hello, found.listeners)
        except ProcessLookupError:
            found.channel.close()
            for listener in found.listeners:
                router.listen(listener)
            return
        self.adopted = True
        self._log.info(f"took over router {found.seat}, pid {found.pid}")
        wanted = self._listeners.places()
        for listener in found.listeners:
            if not listener.vassal and (listener.kind, listener.address) not in wanted:
                self._routers.unlisten(listener)
        self._doors.adopt(each for each in found.listeners if each.vassal)

    def _use_peer(self, found: FoundRouter) -> None:
        """One that lets clients in as well: what it listens on are copies of the first one's."""
        router = self._routers.peer_in(found.seat)
        for name, sock in found.backplanes.items():
            router.backplanes.adopt(name, sock)
        ours = {each.place: each for each in self._routers.main.listeners if each.kind not in ALONE}
        theirs = {each.place: each for each in found.listeners}
        for each in found.listeners:
            each.sock.close()
        try:
            router.adopt(
                found.channel,
                found.pid,
                found.hello,
                [each for place, each in ours.items() if place in theirs],
            )
        except ProcessLookupError:
            found.channel.close()
            self._routers.drop_peer(router)
            return
        self._log.info(f"took over router {found.seat}, pid {found.pid}")
        for place in theirs.keys() - ours.keys():
            router.unlisten(theirs[place])
        for place in ours.keys() - theirs.keys():
            router.listen(ours[place])

    def _use_leaving(self, found: FoundRouter) -> None:
        """Another router than the one that serves: it was to leave, or was to come and has not let anybody in yet."""
        for listener in found.listeners:
            listener.sock.close()
        mercy_s = self._mercy_s() if found.hello.get("complete") is True else 0.0
        try:
            self._routers.adopt_leaving(
                found.seat, found.channel, found.pid, found.hello, found.backplanes, mercy_s
            )
        except ProcessLookupError:
            return
        self._log.info(f"took over router {found.seat}, pid {found.pid}, which leaves")

    def use_gateways(self, found: Found) -> None:
        for state in [*found.dead, *(each.state for each in found.gateways)]:
            self._supervisor.remember(state.name, state.generation, state.was_ready)
            file = self._places.key(state.reading.path)
            self.files.add(file)
            if state.only:
                self.only = file
        routers = found.routers
        for each in found.gateways:
            self._use_gateway(each, routers)
        for router in routers:
            router.close_bells()
        if found.gateways:
            self._log.info(f"took over {len(found.gateways)} gateways")

    def _use_gateway(self, found: FoundGateway, routers: list[FoundRouter]) -> None:
        generation = self._generation(found)
        bells: Bells | None = None
        for router in routers:
            more = router.take_bells(generation.name, generation.number, generation.reading.seats)
            if bells is None:
                bells = more
            elif more is not None:
                bells.add(more)
        try:
            self._gateways.adopt(generation, found.channel, found.page, found.hello, bells)
        except ProcessLookupError:
            found.channel.close()
            os.close(found.page)
            if bells is not None:
                bells.close()
            return
        self.adopted = True
        self._supervisor.adopt(generation)

    def _generation(self, found: FoundGateway) -> Generation:
        state = found.state
        said = str(found.hello.get("state"))
        phase = {"ready": Phase.READY, "starting": Phase.STARTING}.get(said, Phase.LEAVING)
        # Its key may be another now: one directory has become two.
        reading = replace(state.reading, file=self._places.key(state.reading.path))
        return Generation(
            file=reading.file,
            number=state.generation,
            reading=reading,
            token=state.token,
            phase=phase,
            since=self._loop.now(),
            started=state.started,
            pid=found.pid,
            adopted=True,
            was_ready=state.was_ready or phase is Phase.READY,
        )
