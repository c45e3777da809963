"""Telling the service supervisor that started us how we are (sd_notify(3)): READY, RELOADING, STOPPING,
STATUS, WATCHDOG.

One datagram per message to the socket that NOTIFY_SOCKET names; without it nothing is sent. The variables are
taken out of the environment, since no process of ours may speak in our name.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notify:
    """The connection to the service supervisor, if there is one."""

    def __init__(self, environ: MutableMapping[str, str] | None = None) -> None:
        variables = os.environ if environ is None else environ
        self.variables = {name: variables.pop(name) for name in _VARIABLES if name in variables}
        """What was taken out, for another program in this process."""
        taken = self.variables.get("NOTIFY_SOCKET", "")
        self.watchdog_s = _watchdog_s(
            self.variables.get("WATCHDOG_USEC", ""), self.variables.get("WATCHDOG_PID", "")
        )
        """Within which time a `watchdog` is expected after the one before; None: nobody waits for any."""
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

    def watchdog(self) -> None:
        """Still governing. Only ever call it from the loop that is to be watched."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        # Nobody reads, or its socket is gone: that is no reason to stop serving.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(self._address)
            sock.send(message.encode())


def _watchdog_s(usec: str, pid: str) -> float | None:
    """sd_watchdog_enabled(3): the time is meant for the process of this pid, and for all without one."""
    if not (usec.isascii() and usec.isdigit()) or int(usec) == 0:
        return None
    if pid and pid != str(os.getpid()):
        return None
    return int(usec) / 1e6
