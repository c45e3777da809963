"""Meeting a process that has just been started: it listens when it is ready to, and we connect until it does.

Connecting to a unix socket never blocks: it is there, it is not listening yet, or its backlog is full.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from emperor.control.channel import Channel
from emperor.supervisor.loop import Loop, Timer

FIRST_S = 0.005
CAP_S = 0.05


class Connecting:
    """Tries until `on_channel(channel)` can be called, or `cancel`."""

    def __init__(self, loop: Loop, path: str, on_channel: Callable[[Channel], None]) -> None:
        self._loop = loop
        self._path = path
        self._on_channel = on_channel
        self._pause_s = FIRST_S
        self._timer: Timer | None = None
        self._timer = loop.call_later(0.0, self._try)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _try(self) -> None:
        self._timer = None
        sock = None
        try:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.setblocking(False)
            sock.connect(self._path)
        except OSError:
            if sock is not None:
                sock.close()
            self._timer = self._loop.call_later(self._pause_s, self._try)
            self._pause_s = min(CAP_S, self._pause_s * 1.5)
            return
        self._on_channel(Channel(sock))
