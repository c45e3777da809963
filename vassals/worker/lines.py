"""A worker's links to all routers that there are (docs/specs/backplane.md, section 4).

Nearly always that is one, and then nothing here is on the path of a request. While a router takes another's place there are
two, and a worker serves both: whatever either offers in slots of its own. The emperor says which routers there are, through the
gateway (`Orders.turn`); a link to one that has gone is left, with its threads and its ZeroMQ context.

Here: what all kinds of workers need of it (`Relay`), and the worker of one request at a time (`Lines`), in whose one thread all
links are served by turns. A router is met by a thread that runs nothing else, as that can take for ever.
"""

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from emperor.protocol.bell import hear, wait_readable
from vassals.worker.link import Exchange, Link

if TYPE_CHECKING:
    from vassals.worker.guarded import Guard

GONE: Final = "this router has gone"

_MET: Final = 1
_BELL: Final = 2
"""Bits of what a wait ended by."""


class Relay:
    """The orders of one link of several: to leave its router only, or with the worker. Whoever reads the orders sets ``leave``;
    ``wished`` is told when it was the link that wished so, or that there be other links. ``seat`` is its router's."""

    def __init__(self, orders: Any, seat: int, wished: Callable[[], object]) -> None:
        self.leave = orders.leave
        self._seat = seat
        self._is_superseded = False
        self.turned = False
        self.tell = orders.tell
        self._orders = orders
        self._wished = wished

    def wish(self, reason: str) -> None:
        """The worker is to leave."""
        self._orders.wish(reason)
        self.leave = self.leave or reason
        self._wished()

    def superseded(self) -> None:
        """See `vassals.worker.link.Leaver`."""
        if not self._is_superseded and not self.leave:
            self._is_superseded = True
            self._orders.follow(self._seat)
            self._wished()

    def lost(self) -> None:
        """Whoever comes to its door now meets its successor, who has a link to us."""
        if self._is_superseded:
            self.leave = self.leave or GONE
            self._orders.forget(self._seat)
            self._wished()

    def fds(self) -> list[int]:
        return []

    def take(self) -> None:
        """Whoever reads the orders says what is in them for us."""


class _Called(Relay):
    """One whose link is met by a thread, which hears that it is to leave."""

    def __init__(self, orders: Any, seat: int) -> None:
        Relay.__init__(self, orders, seat, bool)
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fds(self) -> list[int]:
        return [self._fd]

    def call(self) -> None:
        self.leave = self.leave or GONE
        os.eventfd_write(self._fd, 1)

    def close(self) -> None:
        os.close(self._fd)


class _Line:
    """One link, and the thread that meets its router."""

    def __init__(self, seat: int, endpoint: str, link: Link, relay: _Called) -> None:
        self.seat = seat
        self.endpoint = endpoint
        self.link = link
        self.relay = relay
        self.thread: threading.Thread | None = None
        self._over = False  # the thread is, or does nothing more

    def meet(self, met: Callable[[], None]) -> None:
        def run() -> None:
            try:
                self.link.meet()
            finally:
                self._over = True
                met()

        self._over = False
        self.link.hold(self.relay, True)
        self.thread = threading.Thread(target=run, name="link", daemon=True)
        self.thread.start()

    def is_met(self) -> bool:
        """Nobody else has the link, and there is a connection."""
        thread = self.thread
        if thread is not None:
            if not self._over:
                return False
            thread.join()
            self.thread = None
            self.link.hold(self.relay, False)
        return self.link.connected

    def leave(self) -> None:
        self.relay.call()
        if self.thread is not None:
            self.thread.join()
            self.thread = None
        self.link.part_from()
        self.relay.close()


class Lines:
    """`serving` gives who has the next requests, until it is time to leave."""

    def __init__(
        self,
        orders: Any,
        first: tuple[int, str],
        make: Callable[[int, str, Any], Link],
        bell: int,
        guard: "Guard | None" = None,
    ) -> None:
        """``make(router's seat, endpoint, orders)`` makes a link; ``first`` are the first's, if nobody says otherwise;
        ``bell`` is the worker's, or −1; ``guard`` covers links that are made for it."""
        self._orders = orders
        self._make = make
        self._guard = guard
        self._bell = bell
        self._lines: list[_Line] = []
        self._calm = False  # nobody is to be met, as far as is known
        self._last: Link | None = None  # by which the last request came
        self._met_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._adapt(orders.turn() or (first,))

    def serving(self) -> "Link | Lines | None":
        """Whose `next` to call until it gives nothing, and then to ask here again; None: all links are left."""
        if self._orders.leave:
            for line in self._lines:
                line.leave()
            self._lines.clear()
            os.close(self._met_fd)
            if self._guard is not None:
                self._guard.close()
            return None
        if self._orders.turned:
            self._adapt(self._orders.turn())
        if len(self._lines) > 1 or self._lines[0].thread is not None:
            return self
        link = self._lines[0].link
        link.hold(self._orders, False)
        return link

    def next(self) -> Exchange | None:
        """The next request of any router, if there are several. What is here already is taken without a look at orders and
        sockets, which are due after each request that ran long, and after each 64 (`Link.is_due`)."""
        guard = self._guard
        if guard is None:
            return self._next()
        guard.come_back()
        exchange = None
        try:
            exchange = self._next()
        finally:
            guard.leave(exchange is not None)
        return exchange

    def _next(self) -> Exchange | None:
        orders = self._orders
        last, self._last = self._last, None
        due = True  # orders and all sockets are to be looked at
        if self._calm and last is not None and not last.is_due and not orders.leave:
            exchange = self._here(self._lines)
            if exchange is not None:
                return exchange
            due = False
        while True:
            if due and wait_readable(tuple(orders.fds()), 0):
                orders.take()
            if orders.leave or orders.turned:
                return None
            met = [line for line in self._lines if line.is_met()]
            if len(self._lines) == 1 and met:
                return None
            for line in self._lines:
                if line.thread is None and line not in met:
                    line.meet(self._met)
            self._calm = len(met) == len(self._lines)
            # All first: one that holds what another one asks for hears of it here.
            for line in met:
                line.link.look_now(due)
            exchange = self._here(met)
            if exchange is not None:
                return exchange
            if not orders.turned:
                if self._guard is not None:
                    self._guard.send()
                due = self._wait([line.link for line in met])

    def _here(self, lines: list[_Line]) -> Exchange | None:
        for line in lines:
            exchange = line.link.next_here()
            if exchange is not None:
                self._turn_from(line)
                return exchange
        return None

    def _turn_from(self, line: _Line) -> None:
        """Each in its turn: it is the last now."""
        self._last = line.link
        if self._lines[-1] is not line:
            self._lines.remove(line)
            self._lines.append(line)

    def _wait(self, links: list[Link]) -> bool:
        """Until there may be something. True: or an order, or nobody could say what."""
        ears = (self._bell,) if self._bell >= 0 else ()
        waits = [link.rests() for link in links]
        ready = 0
        ordered = True
        if all(waits):
            orders = self._orders.fds()
            sockets = [fd for each in waits for fd in each]
            ready = wait_readable((self._met_fd, *ears, *orders, *sockets), -1)
            come = ready >> 1 + len(ears)
            ordered = not ready or come & (1 << len(orders)) - 1 != 0
            come >>= len(orders)
            for link in links:
                if come & 1:
                    link.called()
                come >>= 1
        for link in links:
            link.wakes()
        if ready & _MET:
            os.eventfd_read(self._met_fd)
        if ears and ready & _BELL and hear(self._bell) < 0:
            self._bell = -1
            for line in self._lines:
                line.link.deafen()
        return ordered

    def _met(self) -> None:
        os.eventfd_write(self._met_fd, 1)

    def _adapt(self, routers: tuple[tuple[int, str], ...]) -> None:
        self._calm = False
        known = dict(routers)
        alone = not self._lines
        served = 0
        for line in self._lines[:]:
            if known.get(line.seat) != line.endpoint:
                self._lines.remove(line)
                line.leave()
                served += line.link.served
        for seat, endpoint in routers:
            if all(line.seat != seat for line in self._lines):
                relay = _Called(self._orders, seat)
                self._lines.append(_Line(seat, endpoint, self._make(seat, endpoint, relay), relay))
        links = [line.link for line in self._lines]
        links[0].count_too(served)
        if self._guard is not None:
            self._guard.covers(links)
        for line in self._lines:
            line.link.beside(links)
            if line.thread is None:
                line.link.hold(self._orders if alone and len(links) == 1 else line.relay, False)
