"""A worker with several slots and a link to each router that there is: each has a crew of its own (`vassals.worker.shared`).

While there are two routers there are twice as many threads, of which no more run than there are slots: a slot is one router's
at a time. Those of a router that has gone end when what they run has ended.
"""

import contextlib
import os
import select
from collections import deque
from collections.abc import Callable
from typing import Any

from vassals.worker.crew import Crew, CrewError
from vassals.worker.lines import GONE, Relay
from vassals.worker.link import Exchange
from vassals.worker.shared import SharedLink


class _Post:
    """One link with its crew."""

    def __init__(self, seat: int, endpoint: str, link: SharedLink, relay: Relay) -> None:
        self.seat = seat
        self.endpoint = endpoint
        self.link = link
        self.relay = relay


class Crews:
    """`serve` is all there is to call, by the main thread."""

    def __init__(
        self,
        crew: Crew,
        orders: Any,
        first: tuple[int, str],
        make: Callable[[int, str, Any], SharedLink],
        log: Callable[[str], None],
    ) -> None:
        """``make(router's seat, endpoint, orders)`` makes a link; ``first`` are the first's, if nobody says otherwise."""
        self._crew = crew
        self._orders = orders
        self._first = first
        self._make = make
        self._log = log
        self._posts: list[_Post] = []
        self._untold: deque[tuple[str, dict[str, Any]]] = deque()
        self._is_loaded = False
        self._wished_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def serve(self, run: Callable[[Exchange], object], loaded: Callable[[], None]) -> None:
        """Serves until it is time to leave, and leaves. ``loaded`` is called when all that takes room is there. Raises
        CrewError, before that, when the crew finds no room."""
        for seat, endpoint in self._orders.turn() or (self._first,):
            self._begin(seat, endpoint, run)
        loaded()
        self._is_loaded = True
        self._tell_all()
        orders = self._orders
        while self._posts:
            poll = self._crew.poll()
            for fd in (self._wished_fd, *orders.fds(), *(post.link.main_fd() for post in self._posts)):
                poll.register(fd, select.POLLIN)
            poll.poll()
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wished_fd)
            orders.take()
            if orders.turned and not orders.leave:
                self._adapt(orders.turn(), run)
            for post in self._posts[:]:
                if orders.leave:
                    post.relay.leave = post.relay.leave or orders.leave
                if post.relay.leave:
                    post.link.obey()
                if not post.link.serves():
                    self._posts.remove(post)
                    self._introduce()
                    post.link.depart()
                    if self._posts:
                        self._posts[0].link.count_too(post.link.served)
        os.close(self._wished_fd)

    def _begin(self, seat: int, endpoint: str, run: Callable[[Exchange], object]) -> None:
        relay = Relay(self._orders, seat, lambda: os.eventfd_write(self._wished_fd, 1))
        relay.tell = self._tell
        post = _Post(seat, endpoint, self._make(seat, endpoint, relay), relay)
        self._posts.append(post)
        self._introduce()
        post.link.start(run)

    def _tell(self, state: str, **details: Any) -> None:
        """What a link has for the gateway. One may be ready while the threads of the next are still made, and to the gateway
        nobody is who has not loaded: until then it waits. Called by any thread."""
        self._untold.append((state, details))
        if self._is_loaded:
            self._tell_all()

    def _tell_all(self) -> None:
        with contextlib.suppress(IndexError):  # another thread has said it
            while self._untold:
                state, details = self._untold.popleft()
                self._orders.tell(state, **details)

    def _introduce(self) -> None:
        links: Any = [post.link for post in self._posts]
        for post in self._posts:
            post.link.beside(links)

    def _adapt(self, routers: tuple[tuple[int, str], ...], run: Callable[[Exchange], object]) -> None:
        known = dict(routers)
        for post in self._posts:
            if known.get(post.seat) != post.endpoint:
                post.relay.leave = post.relay.leave or GONE
        serving = {post.seat for post in self._posts if not post.relay.leave}
        for seat, endpoint in routers:
            if seat not in serving:
                try:
                    self._begin(seat, endpoint, run)
                except CrewError as error:
                    # What serves goes on; the emperor asks for a router's replacement again, or the worker is replaced.
                    self._log(f"no crew for router {seat}: {error}")
        self._introduce()
