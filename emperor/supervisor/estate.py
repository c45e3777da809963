"""All that passes from one program to the next in the emperor's process: what each part hands over, and takes up again.

How the next program comes to be is the matter of `upgrading`, and the form of what it gets that of `handover`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from socket import socket
from typing import Any

from emperor.control.server import Reply
from emperor.supervisor import process
from emperor.supervisor.children import Children
from emperor.supervisor.commands import Commands
from emperor.supervisor.doors import Doors
from emperor.supervisor.events import Events
from emperor.supervisor.files import Files
from emperor.supervisor.fleet import Phase
from emperor.supervisor.forwarded import Forwarded
from emperor.supervisor.gateways import Gateways, Listening
from emperor.supervisor.handover import Handover, Keep
from emperor.supervisor.listeners import SharedListeners
from emperor.supervisor.loop import Loop
from emperor.supervisor.ownsockets import OwnSockets
from emperor.supervisor.routers import ALONE, SEAT, Listener
from emperor.supervisor.spawner import Spawner
from emperor.supervisor.succession import Routers
from emperor.supervisor.supervisor import Supervisor
from emperor.supervisor.tenant import Tenants
from emperor.supervisor.triggers import Triggers


@dataclass(frozen=True)
class Estate:
    """The parts of one emperor that know or hold something which outlives a program. `listening` is told of gateways that are
    no more."""

    loop: Loop
    children: Children
    supervisor: Supervisor
    events: Events
    triggers: Triggers
    files: Files
    tenants: Tenants
    spawner: Spawner
    routers: Routers
    listeners: SharedListeners
    doors: Doors
    sockets: OwnSockets
    commands: Commands
    gateways: Gateways
    forwarded: Forwarded
    listening: Listening

    def unquiet(self) -> str:
        """What is half done and could not go on in another program, for people; empty when nothing is."""
        found = {
            "a start by the spawner": self.spawner.quiet,
            "a start of " + ", ".join(self.gateways.strange): not self.gateways.strange,
            "an errand to a file of a vassal's": self.tenants.quiet,
            "a question to the router": self.routers.quiet,
            "a touch": self.triggers.quiet,
            "an answer with statistics": self.sockets.quiet,
            "calls": self.loop.is_idle,
        }
        return ", ".join(what for what, quiet in found.items() if not quiet)

    def hand_over(self, keep: Keep, waiting: Mapping[str, list[Reply]]) -> dict[str, Any]:
        """For `resume`; `waiting` is who is owed an answer, and for what."""
        return {
            **self.sockets.hand_over(keep, waiting),
            **self.files.hand_over(),
            "router": self.routers.main.hand_over(keep),
            "peers": self.routers.hand_over_peers(keep),
            "leaving": self.routers.hand_over_leaving(keep),
            "backplanes_fds": [
                {"name": name, "fd": fd, "seat": each.seat}
                for each in self.routers.all
                for name, fd in each.backplanes.hand_over(keep).items()
            ],
            "spawner": self.spawner.hand_over(),
            "gateways": self.gateways.hand_over(keep),
            "supervisor": self.supervisor.hand_over(),
            "events": self.events.hand_over(),
            "touched": self.triggers.hand_over(),
        }

    def recall(self, document: Mapping[str, Any]) -> None:
        """Know what was known, and touch nothing. Raises KeyError, ValueError."""
        self.supervisor.resume(document["supervisor"])
        self.events.resume(document["events"])
        self.triggers.resume(document["touched"])

    def resume(self, handed: Handover) -> list[Reply]:
        """Take up everything where it was left: who is owed the outcome of the upgrade. Raises KeyError, TypeError, ValueError
        for what cannot be understood, BindError for an owner of sockets that there is not."""
        self.recall(handed.document)
        self.files.resume(handed.document)
        self._resume_routers(handed)
        owed = self.sockets.resume(handed)
        asked = owed.pop("", [])
        self.commands.resume(owed)
        self.spawner.resume(handed.document["spawner"])
        self.spawner.start()
        self._resume_gateways(handed)
        handed.close_rest()
        return asked

    def _resume_routers(self, handed: Handover) -> None:
        document = handed.document
        handed.take_all(document["backplanes_fds"])
        main = self.routers.main_in(document["router"].get("seat", SEAT))
        leaving = {each["seat"]: each for each in document.get("leaving", ())}
        peers = {each["seat"]: each for each in document.get("peers", ())}
        for each in document["backplanes_fds"]:
            seat = each.get("seat", SEAT)
            other = self.routers.peer_in if seat in peers else self.routers.leaving_in
            router = main if seat == main.seat else other(seat)
            router.backplanes.adopt(each["name"], socket(fileno=each["fd"]))
        handed.take_all(document["router"])
        listeners = [
            Listener(
                each["kind"],
                each["address"],
                socket(fileno=each["fd"]),
                each["vassal"],
                each["terms"],
                each["pem"],
            )
            for each in document["router"]["listeners"]
        ]
        main.resume(document["router"], listeners)
        for seat, each in peers.items():
            # Its listeners are the first one's, of the same descriptors.
            handed.take_all(each)
            shared = [known for known in listeners if known.kind not in ALONE]
            self.routers.peer_in(seat).resume(each, shared)
        for seat, each in leaving.items():
            handed.take_all(each)
            self.routers.leaving_in(seat).resume(each, [])
            self.routers.go_on_leaving(seat, each["drains_until"])
        self.doors.adopt(each for each in listeners if each.vassal)
        self.listeners.resume(each for each in listeners if not each.vassal)

    def _resume_gateways(self, handed: Handover) -> None:
        found = {(each["name"], each["generation"]): each for each in handed.document["gateways"]}
        for vassal in self.supervisor.vassals.values():
            for generation in vassal.generations.values():
                reading = generation.reading
                self.children.may_stay(reading.stop_timeout_s)
                gateway = found.get((generation.name, generation.number))
                if reading.elsewhere:
                    self.forwarded.resume(generation)
                elif gateway is not None:
                    handed.take_all(gateway)
                    self.gateways.resume(generation, gateway)
                elif generation.phase is not Phase.QUEUED:
                    self.loop.call_soon(self.listening.gone, generation, process.UNSEEN.text, True)
