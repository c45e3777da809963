"""Telling the service supervisor that started us how we are (sd_notify(3)): READY, RELOADING, STOPPING,
STATUS.

One datagram per message to the socket that NOTIFY_SOCKET names; without it nothing is sent. The variable is
taken out of the environment, since no process of ours may speak in our name.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time


class Notify:
    """The connection to the service supervisor, if there is one."""

    def __init__(self, environ: dict[str, str] | None = None) -> None:
        taken = os.environ.pop("NOTIFY_SOCKET", "") if environ is None else environ.pop("NOTIFY_SOCKET", "")
        # "@" stands for the NUL of an abstract name.
        self._address = "\0" + taken[1:] if taken.startswith("@") else taken

    def ready(self, status: str) -> None:
        """Started, or reloaded."""
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """`Type=notify-reload` wants the time with it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1\nSTATUS=draining")

    def status(self, text: str) -> None:
        self._send(f"STATUS={text}")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        # Nobody reads, or its socket is gone: that is no reason to stop serving.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(self._address)
            sock.send(message.encode())
