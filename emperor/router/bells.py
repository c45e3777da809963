"""The bells that wake this router: one eventfd for each generation of a vassal, in an epoll of their own.

They are shared with tenants, so they are never read: reading could be made to wait. Edge-triggered, each ring is told once.
Closing may be made to wait as well (a tenant's epoll is asked to let go of it), and is done by a thread.
"""

import asyncio
import select
from collections.abc import Callable
from typing import Final

from emperor.router.access import let_go

MOST: Final = 64
"""Looked at in one turn of the loop; the others are told in the next."""


class Bells:
    """Which bell calls whom. Raises OSError when there is no descriptor left."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._called: dict[int, Callable[[], None]] = {}
        loop.add_reader(self._epoll.fileno(), self._look)

    def add(self, fd: int, called: Callable[[], None]) -> None:
        """``called`` whenever this one, ours from now on, has rung. Raises OSError when it is no bell."""
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLET)
        self._called[fd] = called

    def mute(self, fd: int) -> None:
        """Whatever it does, it wakes nobody until ``listen``."""
        if fd in self._called:
            self._epoll.modify(fd, 0)

    def listen(self, fd: int) -> None:
        """Again, after ``mute``."""
        if fd in self._called:
            self._epoll.modify(fd, select.EPOLLIN | select.EPOLLET)

    def drop(self, fd: int) -> None:
        """Not any more."""
        if self._called.pop(fd, None) is not None:
            self._epoll.unregister(fd)
            let_go(fd)

    def close(self) -> None:
        for fd in list(self._called):
            self.drop(fd)
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _look(self) -> None:
        for fd, _ in self._epoll.poll(0, MOST):
            called = self._called.get(fd)
            if called is not None:
                called()
