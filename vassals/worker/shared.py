"""A `Link` that several threads, or greenlets, serve: as many requests at a time as the worker has slots.

One lock covers the link; it is held between two steps of app code and let go while somebody waits. There is no thread
that does the others' input and output: of those that wait for something, one polls the socket for all (the poller), and
takes in what comes for everybody. The others rest, each on a bell of its own. A thread whose wait is over hands the
polling on to another that waits, and enters app code. So a request that finds an idle thread costs no hand-over before
the app runs, and a thread that blocks in app code holds up nobody: neither credit nor bodies nor CANCEL for the others.

Rules beside the link's own:

* Nobody enters app code, and nobody rests, while there is news that nobody will look at: see `_part`.
* Every call on the socket can eat the edge that the poller sleeps on. Whoever has sent while the poller sleeps looks
  at `EVENTS` before the lock is let go.
* The main thread serves no request. It waits for orders and signals (`vassals.worker.crews`), which Python gives to no other
  thread.
* A request whose connection was lost keeps its slot until the app returns. READY counts the slots that are free, and
  each that is freed later is told to the new router by a GRANT.

What is outside the lock is done by compiled code between two calls, during which no other thread runs: the interpreter's
lock is held. That is the sending side's credit (`Exchange`) and the pieces of a body (`Inbox`).
"""

import contextlib
import os
from collections import deque
from collections.abc import Callable
from typing import Any

from emperor.protocol.chute import Chute
from emperor.protocol.scoreboard import DOWN
from emperor.zeromq import Socket
from vassals.worker import link as single
from vassals.worker.crew import Crew
from vassals.worker.link import Exchange, Leaver, Link
from vassals.worker.offspring import forked_off
from vassals.worker.slotted import SlottedLink


class Waiter:
    """Somebody who rests or polls: for a request to run, or for news of ``exchange``."""

    __slots__ = ("bell", "exchange", "next", "rung")

    def __init__(self, exchange: Exchange | None) -> None:
        self.exchange = exchange
        self.bell: Any = None
        self.next: Waiter | None = None
        self.rung = False


class _Calls:
    """Stands between the orders and the link: whoever polls is called by a bell, and main reads the orders."""

    def __init__(self, orders: Leaver, shared: "SharedLink") -> None:
        self._orders = orders
        self._link = shared
        self.tell = orders.tell
        self.wish = orders.wish
        self.turned = False  # main looks after that

    @property
    def leave(self) -> str:
        return self._orders.leave

    def superseded(self) -> None:
        self._orders.superseded()

    def lost(self) -> None:
        self._orders.lost()

    def fds(self) -> list[int]:
        return self._link.called_by()

    def take(self) -> None:
        self._link.answer_call()


class SharedLink(SlottedLink):
    """See the module. ``next``, and an exchange's methods, may be called by any of the crew."""

    def __init__(self, crew: Crew, orders: Leaver, slots: int, **link: Any) -> None:
        SlottedLink.__init__(self, _Calls(orders, self), slots, **link)  # type: ignore[arg-type]
        self._told = orders
        self._crew = crew
        self._new_poll = crew.poll
        self._mutex = crew.lock()
        self._may_stand = crew.may_stand
        self._bell_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._main_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._serving = 0
        self._poller: Waiter | None = None
        self._idle: list[Waiter] = []  # a stack: who rested last is called first
        self._resting: dict[Waiter, None] = {}  # those that rest for news of an exchange
        self._closing: list[Socket] = []  # sockets that were lost while the poller slept on them
        self._asleep = False
        self._rung = False
        self._sent = False
        self._passed: deque[bytes] = deque()  # to be said to the router, by whoever polls
        self._stirring = 0  # called, and not yet at the lock again
        self._roused = 0  # those of them that want a request

    # The crew.

    def start(self, run: Callable[[Exchange], object]) -> None:
        """Starts the crew. Called by the main thread, as are the next four. Raises CrewError when it finds no room."""

        def one(exchange: Exchange) -> None:
            try:
                run(exchange)
            except BaseException as error:
                self._log(f"a fault of the worker's, please report: {error!r}")
                exchange.abort("the worker stumbled")

        def work() -> None:
            try:
                while (exchange := self.next()) is not None:
                    self._crew.apart(one, exchange)
            finally:
                self._one_less()

        with self._mutex:
            for number in range(self._slots):
                self._crew.start(work, number)
                self._serving += 1

    def depart(self) -> None:
        """Leaves the router, once nobody of the crew serves any more."""
        with self._mutex:
            self._leave()
            bell_fd, self._bell_fd = self._bell_fd, -1
        os.close(bell_fd)
        os.close(self._main_fd)

    def serves(self) -> bool:
        """Somebody of the crew does."""
        with self._mutex:
            return self._serving > 0

    def main_fd(self) -> int:
        """Readable once nobody does."""
        return self._main_fd

    def obey(self) -> None:
        """The orders may be to leave."""
        with self._mutex:
            if self._told.leave:
                self._part()

    def _one_less(self) -> None:
        with self._mutex:
            self._serving -= 1
            if not self._serving:
                os.eventfd_write(self._main_fd, 1)

    # What the crew calls.

    def next(self) -> Exchange | None:
        """The next request, claimed and begun on the page; None when it is time to leave."""
        if forked_off():
            single._end_foreign_process()
        exchange: Exchange | None = None
        self._mutex.acquire()
        try:
            while not self._told.leave:
                self._look_up()
                if self._connected and self._deck and (slot := self._reserve()) >= 0:
                    flags, word, stream, payload = self._deck.popleft()
                    exchange = self._begin(slot, flags, word, stream, payload)
                    if exchange is not None:
                        break
                elif not self._draw_requests():
                    if self._deck:
                        self._mend()
                    self._pause_as(Waiter(None))
            return exchange
        finally:
            self._part()
            self._mutex.release()

    def send(self, exchange: Exchange, record: bytes) -> None:
        """A record in the middle of ``exchange``, then a look at what the router has to say."""
        if forked_off():
            single._end_foreign_process()
        self._mutex.acquire()
        try:
            if self._connected and self._running.get(exchange.stream) is exchange:
                exchange.spoken = True
                self._transmit(record)
                self._glance()
        finally:
            self._part()
            self._mutex.release()

    def look(self, exchange: Exchange) -> None:
        """The look alone, for an ``exchange`` that has nothing to send."""
        if forked_off():
            single._end_foreign_process()
        self._mutex.acquire()
        try:
            if self._running.get(exchange.stream) is exchange:
                self._glance()
        finally:
            self._part()
            self._mutex.release()

    def end(self, exchange: Exchange, record: bytes) -> None:
        """The last record of ``exchange``. Who calls this calls `next` soon: it takes what is on deck itself."""
        if forked_off():
            single._end_foreign_process()
        self._mutex.acquire()
        try:
            if exchange.slot >= 0:
                self._vacate(exchange, record, None)
                self._look_up()
        finally:
            self._mutex.release()

    def finish(self, exchange: Exchange, head: bytes, body: bytes) -> None:
        """The whole response of ``exchange``; see `end`."""
        if forked_off():
            single._end_foreign_process()
        self._mutex.acquire()
        try:
            if exchange.slot >= 0:
                self._vacate(exchange, head, body)
                self._look_up()
        finally:
            self._mutex.release()

    def wait_for(self, exchange: Exchange) -> None:
        """Until there is news for ``exchange`` since it last waited, or its connection is gone."""
        if forked_off():
            single._end_foreign_process()
        self._mutex.acquire()
        try:
            while not exchange.news and not exchange.gone:
                self._look_up()
                if exchange.news or exchange.gone:
                    break
                self._pause_as(Waiter(exchange))
                self._rouse_for_deck()
            exchange.news = False
        finally:
            self._part()
            self._mutex.release()

    def enter(self, exchange: Exchange) -> bool:
        """Takes the chute for the rest of the response, if it is free, and says so."""
        if forked_off():
            single._end_foreign_process()
        self._mutex.acquire()
        try:
            if not self._has_ring or not self._connected:
                return False
            return self._running.get(exchange.stream) is exchange and self._enter(exchange)
        finally:
            self._part()
            self._mutex.release()

    def put(self, exchange: Exchange, body: bytes, offset: int) -> int:
        """What of a response goes into the chute now. Returns how many bytes."""
        if forked_off():
            single._end_foreign_process()
        self._mutex.acquire()
        try:
            if self._running.get(exchange.stream) is not exchange:
                return 0
            return self._put(exchange, body, offset)
        finally:
            self._part()
            self._mutex.release()

    def draw(self, exchange: Exchange, into: Any) -> int:
        """Bytes of a body out of the chute. Returns how many."""
        if forked_off():
            single._end_foreign_process()
        self._mutex.acquire()
        try:
            if self._running.get(exchange.stream) is not exchange:
                return 0
            return self._draw(exchange, into)
        finally:
            self._part()
            self._mutex.release()

    def wait_at(self, exchange: Exchange, way: int, wanted: int) -> None:
        """Until there is room for ``wanted`` bytes, or so many to read, or other news."""
        if forked_off():
            single._end_foreign_process()
        place = self._down if way == DOWN else self._up
        if not self._may_stand:
            # The hub's thread is everybody's.
            if self._may_wait_at(exchange, place) and place.ask(wanted):
                self.wait_for(exchange)
        elif self._may_wait_at(exchange, place):
            place.sleep(wanted, single._NAP_MS)

    def _may_wait_at(self, exchange: Exchange, place: Chute) -> bool:
        self._mutex.acquire()
        try:
            if self._running.get(exchange.stream) is not exchange:
                return False
            self._glance()
            return self._awaits(exchange, place)
        finally:
            self._part()
            self._mutex.release()

    # Under the lock: waiting and calling.

    def _look_up(self) -> None:
        """Says what other links have heard, and takes in what has come, if the poller might not hear of it or a request has run
        long."""
        if self._passed:
            self._say_passed()
        if (self._sent and self._asleep) or self._ran_long:
            self._ran_long = False
            self._glance()

    def _pause_as(self, me: Waiter) -> None:
        """Polls until something has come, or rests until called. The caller looks round again, under the lock."""
        if self._poller is None:
            self._poller = me
            try:
                if self._connected:
                    self._wait(None)
                elif me.exchange is None:
                    self._join()
            finally:
                self._poller = None
        else:
            self._rest(me)

    def _rest(self, me: Waiter) -> None:
        exchange = me.exchange
        me.bell = self._crew.lock()
        me.bell.acquire()
        if exchange is None:
            self._idle.append(me)
        else:
            self._resting[me] = None
            me.next = exchange.waiter  # type: ignore[assignment]
            exchange.waiter = me
        self._mutex.release()
        try:
            me.bell.acquire()
        finally:
            # A greenlet may come here by a timeout of the app's, uncalled.
            self._mutex.acquire()
            if me.rung:
                self._stirring -= 1
                if exchange is None:
                    self._roused -= 1
            else:
                self._forget(me)

    def _forget(self, me: Waiter) -> None:
        exchange = me.exchange
        if exchange is None:
            self._idle.remove(me)
            return
        self._resting.pop(me, None)
        others = [waiter for waiter in _chain(exchange) if waiter is not me]
        exchange.waiter = None
        for waiter in others:
            waiter.next = exchange.waiter
            exchange.waiter = waiter

    def _call(self, waiter: Waiter) -> None:
        waiter.rung = True
        self._stirring += 1
        if waiter.exchange is None:
            self._roused += 1
        waiter.bell.release()

    def _call_poller(self) -> None:
        if self._asleep and not self._rung:
            self._rung = True
            os.eventfd_write(self._bell_fd, 1)

    def _part(self) -> None:
        """Before the lock is let go for long: whatever is there, somebody is awake, or polls, to see to it."""
        self._look_up()
        if self._told.leave:
            self._rouse()
        else:
            self._rouse_for_deck()
        if self._poller is None and not self._stirring:
            if self._idle:
                self._call(self._idle.pop())
            elif self._resting:
                waiter = next(iter(self._resting))
                self._announce(waiter.exchange)

    def _rouse_for_deck(self) -> None:
        if self._connected and self._roused < len(self._deck):
            self._rouse()

    def _rouse(self) -> None:
        """Calls one who wants a request; that one calls the next, if there is more."""
        if self._idle:
            self._call(self._idle.pop())
        elif self._poller is not None and self._poller.exchange is None:
            self._call_poller()

    def rung(self) -> None:
        """Another link has heard the worker's bell: whoever polls here looks round."""
        if self._bell_fd >= 0:
            with contextlib.suppress(OSError):  # it departs just now
                os.eventfd_write(self._bell_fd, 1)

    def pass_on(self, record: bytes) -> None:
        """Whoever polls here says it, or else whoever ends a request: a router all of whose slots are busy hears of it as
        well."""
        self._passed.append(record)
        self.rung()

    def _say_passed(self) -> None:
        while self._passed and self._connected:
            self._say(self._passed.popleft())

    def called_by(self) -> list[int]:
        """The descriptor to wait on for calls."""
        return [self._bell_fd]

    def answer_call(self) -> None:
        """Hears the bell, if it is the caller's to hear: not while the poller sleeps."""
        if not self._asleep:
            self._rung = False
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._bell_fd)

    # What differs from a link of one request.

    def _sleep(self, fds: tuple[int, ...], deadline: float | None) -> bool:
        self._sent = False
        self._asleep = True
        self._mutex.release()
        try:
            return Link._sleep(self, fds, deadline)
        finally:
            self._mutex.acquire()
            self._asleep = False
            while self._closing:
                self._closing.pop().close()

    def _close(self) -> None:
        # Not under the poller: gevent's loop ends the process over a descriptor that is closed while it is watched.
        if self._asleep and self._socket is not None:
            self._closing.append(self._socket)
            self._socket = self._wire = None
        else:
            Link._close(self)

    def _heed(self) -> bool:
        self.answer_call()
        self._say_passed()
        return True

    def _transmit(self, record: bytes) -> None:
        self._sent = True
        Link._transmit(self, record)

    def _glance(self) -> None:
        self._sent = False
        Link._glance(self)

    def _keep_pace(self) -> None:
        """Each thread waits for the lock of the interpreter as well."""

    def _announce(self, exchange: Exchange | None) -> None:
        if exchange is None:
            for each in self._running.values():
                self._announce(each)
            return
        exchange.news = True
        poller = self._poller
        if poller is not None and poller.exchange is exchange:
            self._call_poller()
        if exchange.waiter is not None:
            waiters = _chain(exchange)
            exchange.waiter = None
            for waiter in waiters:
                del self._resting[waiter]
                self._call(waiter)

    def _lose(self) -> None:
        SlottedLink._lose(self)
        # Its descriptor is dead.
        self._call_poller()


def _chain(exchange: Exchange) -> list[Waiter]:
    found: list[Waiter] = []
    waiter: Any = exchange.waiter
    while waiter is not None:
        found.append(waiter)
        waiter = waiter.next
    return found
