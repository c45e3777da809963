"""Clients that send a few bytes at a time, read apart from all others.

The event loop reads whatever has come before it looks again, each read for some 10 µs. When ten thousand clients that drip have
sent a byte each, whoever asks then waits behind all of them: 100 ms. And when their bytes come one by one, each wakes the
router, which costs as much again. Here they are in an epoll of their own. ``TURN`` of them are read in one turn of the loop,
and whatever else is ready comes in between. From more than ``FEW`` on, that epoll is looked at by the clock, and their bytes
gather meanwhile.

A connection comes here by a small piece in the middle of a head or body (``http.HttpConnection``), and goes back to the loop's
reading as soon as it has asked for something whole, or sends more at once.
"""

import asyncio
import contextlib
import select
from typing import Final, Protocol

TURN: Final = 16
"""Clients read in one turn of the loop: about 100 µs."""

FEW: Final = 64
"""So many wake the router whenever they send: one of them may be somebody who sends little and waits for an answer to it."""

GATHER_S: Final = 0.02
"""How often more of them are looked at."""


class Dripping(Protocol):
    """A connection of which more has come, or which has ended."""

    def drip(self) -> None: ...


class Drips:
    """Those of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll: select.epoll | None = None
        self._fronts: dict[int, Dripping] = {}
        self._by_clock = False

    def __len__(self) -> int:
        return len(self._fronts)

    def take(self, fd: int, front: Dripping) -> None:
        """Read this one from now on, by its ``drip``; nobody else reads it."""
        if self._epoll is None:
            self._epoll = select.epoll()
            self._loop.add_reader(self._epoll.fileno(), self._read)
        self._epoll.register(fd, select.EPOLLIN)
        self._fronts[fd] = front
        if len(self._fronts) > FEW and not self._by_clock:
            self._by_clock = True
            self._loop.remove_reader(self._epoll.fileno())
            self._loop.call_later(GATHER_S, self._look)

    def drop(self, fd: int, front: Dripping) -> None:
        """No more. Its descriptor may be closed, and its number another one's by now."""
        if self._fronts.get(fd) is front:
            del self._fronts[fd]
            assert self._epoll is not None
            with contextlib.suppress(OSError):
                self._epoll.unregister(fd)

    def _look(self) -> None:
        assert self._epoll is not None
        if self._read() == TURN:
            self._loop.call_soon(self._look)
        elif len(self._fronts) > FEW:
            self._loop.call_later(GATHER_S, self._look)
        else:
            self._by_clock = False
            self._loop.add_reader(self._epoll.fileno(), self._read)

    def _read(self) -> int:
        """How many were ready."""
        assert self._epoll is not None
        ready = self._epoll.poll(0, TURN)
        for fd, _ in ready:
            front = self._fronts.get(fd)
            if front is not None:
                front.drip()
        return len(ready)
