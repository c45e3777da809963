"""The bells of one generation: how its router and its workers wake each other (docs/specs/backplane.md, section 5).

For each seat a pair of sockets: the router's end can send only, so that a tenant can neither leave anything in it nor
hold up who closes it. For the router an eventfd, which its workers have as well; whoever closes that one last asks every
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

    def __init__(self, seats: int) -> None:
        self.seats = min(seats, MOST_SEATS)
        self._rings: list[int] = []
        self._ears: list[int] = []
        self._router = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
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
    def adopted(cls, fds: list[int]) -> Bells:
        """Those that a router has been given, and has handed back: the gateway has the others."""
        self = cls.__new__(cls)
        self._router, *self._rings = fds
        self._ears = []
        self.seats = len(self._rings)
        return self

    def hand_over(self, keep: Keep) -> dict[str, Any]:
        """What is here of them, for another program in this process. The gateway has its ends by then."""
        return {
            "seats": self.seats,
            "router": {"fd": keep(self._router)},
            "rings": [{"fd": keep(fd)} for fd in self._rings],
        }

    @classmethod
    def resume(cls, document: dict[str, Any]) -> Bells:
        """Those that the program before us in this process had. Raises KeyError."""
        bells = cls.__new__(cls)
        bells.seats = document["seats"]
        bells._router = document["router"]["fd"]
        bells._rings = [each["fd"] for each in document["rings"]]
        bells._ears = []
        return bells

    def for_router(self) -> list[int]:
        """Its own, and those it rings, by seat."""
        return [self._router, *self._rings]

    def for_gateway(self) -> list[int]:
        """The router's, and those its workers hear, by seat."""
        return [self._router, *self._ears] if self.seats else []

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
        if self._router >= 0:
            signals.start_deaf(
                threading.Thread(target=_close, args=(self._router,), name="close", daemon=True)
            )
            self._router = -1


def _close(fd: int) -> None:
    with contextlib.suppress(OSError):
        os.close(fd)
