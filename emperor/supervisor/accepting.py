"""A listening socket in the poll loop. Whom the kernel has connected waits while there is no descriptor for him."""

from __future__ import annotations

import socket
from collections.abc import Callable

from emperor.supervisor.loop import Loop, Timer

NO_ROOM_S = 0.5
"""The socket stays readable when accept(2) fails by EMFILE, ENFILE or ENOMEM: without a pause the loop would only fail."""

TURN = 16


class Accepting:
    """Calls `on_connection(sock)` until `close`. The socket is ours to close."""

    def __init__(
        self, loop: Loop, sock: socket.socket, on_connection: Callable[[socket.socket], None]
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._on_connection = on_connection
        self._rest: Timer | None = None
        sock.setblocking(False)
        loop.watch(sock.fileno(), self._accept)

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            if self._rest is not None:
                self._rest.cancel()
            self._loop.unwatch(self._sock.fileno())
            self._sock.close()

    def rest(self) -> None:
        """Let who comes wait in the kernel."""
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        self._loop.unwatch(self._sock.fileno())

    def go_on(self) -> None:
        """Accept again, after a `rest`."""
        self._rest = None
        self._loop.watch(self._sock.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(TURN):
            try:
                connection, _ = self._sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:
                self._loop.unwatch(self._sock.fileno())
                self._rest = self._loop.call_later(NO_ROOM_S, self.go_on)
                return
            self._on_connection(connection)
            if self._sock.fileno() < 0:
                return
