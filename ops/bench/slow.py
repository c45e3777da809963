"""One large body at the speed of a client that is slower than the app: what it takes of memory while it is under way."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from bulk import BYTES, download, upload
from client import Connection
from processes import pss_bytes
from row import Figures, Row, Size, Spoiled
from stacks import Stack

LOOK_S = 0.1
LITTLE = 1_000_000
"""Goes through first: what only the first transfer takes, modules and rings, is not the body's."""


@dataclass(frozen=True)
class Slow(Row):
    """The client takes, or sends, all of it in twice as many seconds as a timed run has."""

    up: bool = False

    def measure(self, stack: Stack, size: Size) -> Figures:
        count = size.many(BYTES)
        with Growth(stack) as growth:
            self.move(stack, min(count, LITTLE), 1e12)
            growth.begin()
            self.move(stack, count, count / (2 * size.seconds))
        return {"growth_mb": growth.most / 1e6}

    def move(self, stack: Stack, count: int, bytes_per_s: float) -> None:
        connection = Connection(stack.address)
        connection.socket.settimeout(60)
        connection.socket = Paced(connection.socket, bytes_per_s)  # type: ignore[assignment]
        try:
            moved = (upload if self.up else download)(connection, stack.host, count)
        except OSError as error:
            raise Spoiled(f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()
        if moved != count:
            raise Spoiled(f"{moved} of {count} bytes")


class Paced:
    """A socket that moves so many bytes in a second."""

    def __init__(self, inner: socket.socket, bytes_per_s: float) -> None:
        self._inner = inner
        self._rate = bytes_per_s
        self._moved = 0
        self._began = time.monotonic()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def recv_into(self, into: bytearray) -> int:
        return self._pace(self._inner.recv_into(into))

    def sendall(self, piece: bytes | memoryview) -> None:
        self._inner.sendall(piece)
        self._pace(len(piece))

    def _pace(self, count: int) -> int:
        self._moved += count
        ahead_s = self._began + self._moved / self._rate - time.monotonic()
        if ahead_s > 0:
            time.sleep(ahead_s)
        return count


class Growth:
    """The highest that the memory of a stack's processes has been since `begin`, over what it was then."""

    def __init__(self, stack: Stack) -> None:
        self.most = 0
        self._stack = stack
        self._first = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Growth:
        return self

    def begin(self) -> None:
        self._first = pss_bytes(self._stack.roots)
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(LOOK_S):
            self.most = max(self.most, pss_bytes(self._stack.roots) - self._first)
