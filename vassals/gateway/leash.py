"""What the gateway holds for the worker that sits in a seat now, and its end of that worker's leash.

A leash is a socket on which a worker says how it is, a JSON object a line, and is told what to do. It is the tenant's process:
nothing that it says may break us, and what it says is cut to a length.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from typing import Any

from emperor.supervisor.loop import Timer

_BYTES = 256 * 1024
_REASON_CHARS = 4096
_WORN_CHARS = 160


class Worker:
    """One process. Its seat may have had others before."""

    __slots__ = (
        "hook_timer",
        "leash",
        "limits",
        "partial",
        "pid",
        "reaped",
        "served",
        "shows_tasks",
        "started",
        "timer",
        "trace_fd",
        "waits_for",
        "watches",
    )

    def __init__(self, pid: int, leash: socket.socket, trace_fd: int, watches: bool) -> None:
        self.pid = pid
        self.leash = leash
        self.trace_fd = trace_fd
        self.partial = b""
        self.reaped = False
        self.started = int(time.time())
        self.timer: Timer | None = None
        self.hook_timer: Timer | None = None
        self.limits: dict[str, Timer] | None = None  # that its app has set for what it runs
        self.served = False
        self.shows_tasks = False  # in a trace, beside its threads
        self.waits_for = ""  # what its app answers to ready-path
        self.watches = watches  # it looks whether the app's code has changed, for all

    def tell(self, order: dict[str, Any]) -> None:
        # A leash that is full belongs to a worker that reads nothing: its deadline deals with it.
        with contextlib.suppress(OSError):
            self.leash.send(json.dumps(order).encode() + b"\n", socket.MSG_NOSIGNAL)

    def hear(self) -> list[bytes] | None:
        """The lines that it has said since; None: it says no more, and SIGCHLD tells of its end."""
        try:
            chunk = self.leash.recv(_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            chunk = b""
        if not chunk or len(self.partial) > _BYTES:
            return None
        *lines, self.partial = (self.partial + chunk).split(b"\n")
        return lines

    def has_said_more(self) -> bool:
        import select

        if self.leash.fileno() < 0:
            return False
        poller = select.poll()
        poller.register(self.leash.fileno(), select.POLLIN)
        return bool(poller.poll(0))

    def close(self) -> None:
        """It has ended."""
        self.leash.close()
        for timer in (self.timer, self.hook_timer, *(self.limits or {}).values()):
            if timer is not None:
                timer.cancel()
        os.close(self.trace_fd)


def short(text: object) -> str:
    """What names something."""
    return str(text)[:_WORN_CHARS]


def cut(text: object) -> str:
    """A reason."""
    return str(text)[:_REASON_CHARS]


def lines_of(trace: object) -> list[str]:
    """A traceback."""
    return str(trace)[: 4 * _REASON_CHARS].splitlines()
