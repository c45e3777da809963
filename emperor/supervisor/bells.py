"""The bells of one generation: how its router and its workers wake each other (docs/specs/backplane.md, section 5).

For each seat a pair of sockets: the router's end can send only, so that a tenant can neither leave anything in it nor
hold up who closes it. For each router an eventfd, which its workers have as well; whoever closes that one last asks every
epoll that it is in, a tenant's too, and may have to wait: a thread does so.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from typing import Any

from emperor.supervisor import signals
from emperor.supervisor.handover import Keep

MOST_SEATS = 128
"""Seats that have one: with the others' descriptors they go in one message. Workers beyond are sent messages."""


class Bells:
    """Raises OSError when there are no descriptors left."""

    def __init__(self, seats: int, routers: int = 1) -> None:
        self.seats = min(seats, MOST_SEATS)
        self._rings: list[int] = []
        self._ears: list[int] = []
        self._routers: list[int] = []  # by seat; −1 is not known here
        try:
            for _ in range(routers):
                self._routers.append(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
            for _ in range(self.seats):
                ring, ear = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
                self._rings.append(ring.detach())
                self._ears.append(ear.detach())
                with socket.socket(fileno=os.dup(self._rings[-1])) as sock:
                    sock.shutdown(socket.SHUT_RD)
        except OSError:
            self.close()
            raise

    @classmethod
    def adopted(cls, fds: list[int], router_seat: int) -> Bells:
        """Those that the router in this seat has been given, and has handed back: the gateway has the others."""
        self = cls.__new__(cls)
        own, *self._rings = fds
        self._routers = [-1] * router_seat + [own]
        self._ears = []
        self.seats = len(self._rings)
        return self

    def add(self, other: Bells) -> None:
        """What another router has been given of the same, and has handed back: its own is added, the rest is here."""
        self._routers += [-1] * (len(other._routers) - len(self._routers))
        for seat, fd in enumerate(other._routers):
            if fd >= 0 and self._routers[seat] < 0:
                self._routers[seat], other._routers[seat] = fd, -1
        other.close()

    def hand_over(self, keep: Keep) -> dict[str, Any]:
        """What is here of them, for another program in this process. The gateway has its ends by then."""
        return {
            "seats": self.seats,
            "routers": [{"fd": keep(fd)} for fd in self._routers],
            "rings": [{"fd": keep(fd)} for fd in self._rings],
        }

    @classmethod
    def resume(cls, document: dict[str, Any]) -> Bells:
        """Those that the program before us in this process had. Raises KeyError."""
        bells = cls.__new__(cls)
        bells.seats = document["seats"]
        # One was all that there was before routers could share workers.
        routers = document["routers"] if "routers" in document else [document["router"]]
        bells._routers = [each["fd"] for each in routers]
        bells._rings = [each["fd"] for each in document["rings"]]
        bells._ears = []
        return bells

    def for_router(self, router_seat: int = 0) -> list[int]:
        """Its own, and those it rings, by seat; nothing where its own is not known."""
        known = router_seat < len(self._routers) and self._routers[router_seat] >= 0
        return [self._routers[router_seat], *self._rings] if known else []

    def for_gateway(self) -> list[int]:
        """The routers', and those its workers hear, by seat."""
        return [*self._routers, *self._ears] if self.seats else []

    def handed_over(self) -> None:
        """The gateway has its ends, and gives them to each worker that it starts."""
        for fd in self._ears:
            os.close(fd)
        self._ears = []

    def close(self) -> None:
        self.handed_over()
        for fd in self._rings:
            os.close(fd)
        self._rings = []
        known, self._routers = [fd for fd in self._routers if fd >= 0], []
        if known:
            signals.start_deaf(threading.Thread(target=_close, args=(known,), name="close", daemon=True))


def _close(fds: list[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
