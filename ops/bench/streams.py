"""Streams of server-sent events: what thousands of them cost while each has one event a second."""

from __future__ import annotations

import select
import time
from dataclasses import dataclass

from client import Connection, request
from idle import PER_ADDRESS, raise_descriptors
from processes import cpu_seconds, pss_bytes
from row import Figures, Row, Size, Spoiled
from stacks import Stack

STREAMS = 5_000
FIRST = 5
"""So many are opened before the first look at the memory."""
OPEN_S = 60.0
AT_ONCE = 50
"""So many may be on the way to their first event: the client must not be what is measured."""


@dataclass
class Stream:
    """One, and how many events of it have come, whole and in order."""

    connection: Connection
    events: int = 0
    rest: bytes = b""

    def take(self) -> None:
        """What has come. Raises Spoiled when the stream has ended, or an event is missing."""
        try:
            piece = self.connection.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            raise Spoiled(f"a stream ended: {error}") from error
        if not piece:
            raise Spoiled("a stream ended")
        self.rest += piece
        while (end := self.rest.find(b"\n\n")) >= 0:
            before, _, number = self.rest[:end].rpartition(b"data: ")
            if int(number) != self.events or (not self.events and b" 200 OK\r\n" not in before):
                raise Spoiled(f"{self.rest[:end]!r} came where event {self.events} was due")
            self.events += 1
            self.rest = self.rest[end + 2 :]


@dataclass(frozen=True)
class Streams(Row):
    def measure(self, stack: Stack, size: Size) -> Figures:
        count = size.many(STREAMS)
        raise_descriptors(2 * count + 200)
        stack.start()
        audience = Audience(stack)
        try:
            audience.open(min(FIRST, count))
            memory = pss_bytes(stack.roots)
            audience.open(count)
            audience.listen(size.settle_s)
            before, heard, began = cpu_seconds(stack.roots), audience.events(), time.monotonic()
            audience.listen(size.seconds)
            spent = cpu_seconds(stack.roots) - before
            window, events = time.monotonic() - began, audience.events() - heard
            # Each may have had one less than seconds went by.
            if events < count * (int(window) - 1):
                raise Spoiled(f"{events} events of {count} streams in {window:.1f} s")
            return {
                "busy_percent": 100 * spent / window,
                "connection_kb": (pss_bytes(stack.roots) - memory) / count / 1024,
            }
        finally:
            audience.close()


class Audience:
    """The clients of a stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._streams: dict[int, Stream] = {}
        self._epoll = select.epoll()

    def open(self, count: int) -> None:
        """Until there are so many, each of which has had an event. Raises Spoiled."""
        asked = request(self._stack.host, "/events")
        until = time.monotonic() + OPEN_S
        fresh: list[Stream] = []
        while len(self._streams) < count or fresh:
            while len(self._streams) < count and len(fresh) < AT_ONCE:
                source = f"127.0.0.{2 + len(self._streams) // PER_ADDRESS}"
                stream = Stream(Connection(self._stack.address, source))
                stream.connection.send(asked)
                stream.connection.socket.setblocking(False)
                self._streams[stream.connection.fileno()] = stream
                self._epoll.register(stream.connection.fileno(), select.EPOLLIN)
                fresh.append(stream)
            self._look(0.1)
            fresh = [stream for stream in fresh if not stream.events]
            if time.monotonic() > until:
                raise Spoiled(
                    f"{len(self._streams)} streams after {OPEN_S:g} s, {len(fresh)} without an event"
                )

    def listen(self, seconds: float) -> None:
        """Takes what comes, for so long."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._look(left)

    def events(self) -> int:
        return sum(stream.events for stream in self._streams.values())

    def _look(self, wait_s: float) -> None:
        for fd, _ in self._epoll.poll(wait_s):
            self._streams[fd].take()

    def close(self) -> None:
        self._epoll.close()
        for stream in self._streams.values():
            stream.connection.close()
