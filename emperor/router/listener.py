"""Accepting clients from a socket that the emperor bound."""

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any, Final, cast

from emperor.router.front import Door, Front
from emperor.router.http import HttpConnection
from emperor.router.uwsgi import UwsgiConnection

KINDS: Final[dict[str, Callable[[Door], Front]]] = {"http": HttpConnection, "uwsgi": UwsgiConnection}

BACKLOG: Final = 4096
"""Asked of the kernel again when we take a socket over; it clips to net.core.somaxconn."""


class Listener:
    """One listening socket. ``kind`` is a key of ``KINDS``; ``address`` is what the emperor calls it."""

    def __init__(self, door: Door, kind: str, address: str, sock: socket.socket) -> None:
        self.door = door
        self.kind = kind
        self.address = address
        self.sock = sock
        self._server: asyncio.Server | None = None
        self._adopting: set[asyncio.Task[Any]] = set()

    def _front(self) -> asyncio.Protocol:
        # A protocol in all but its base, which could not be a compiled type.
        return cast(asyncio.Protocol, KINDS[self.kind](self.door))

    async def start(self) -> None:
        """Begin to accept."""
        copy = socket.socket(fileno=os.dup(self.sock.fileno()))
        copy.setblocking(False)
        create = (
            self.door.loop.create_unix_server
            if copy.family == socket.AF_UNIX
            else self.door.loop.create_server
        )
        self._server = await create(self._front, sock=copy, backlog=BACKLOG)

    def stop(self) -> None:
        """Accept no more, but what the kernel has already connected: those clients were promised an answer."""
        server = self._server
        if server is None:
            return
        self._server = None
        server.close()
        self.sock.setblocking(False)
        while True:
            try:
                connection, _address = self.sock.accept()
            except OSError:
                return
            connection.setblocking(False)
            # The loop itself holds a task only weakly.
            task = self.door.loop.create_task(self.door.loop.connect_accepted_socket(self._front, connection))
            self._adopting.add(task)
            task.add_done_callback(self._adopting.discard)

    def close(self) -> None:
        """Let go of the socket; the emperor's copy stays open."""
        self.stop()
        self.sock.close()
