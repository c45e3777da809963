"""A `Link` on an event loop: as many requests at a time as the worker has slots, all in one thread.

Nothing here waits. The loop watches the socket's descriptor and the worker's bell; what has come is taken in whole, and
what may begin is begun (`stir`). What an exchange cannot send now, or has not got yet, is waited for by a future of
its own, which is done when there may be news.

Rules beside the link's own:

* Every call on the socket can eat the edge that the loop sleeps on: after any, `stir` runs once more in the next turn.
* While there is no connection, and only then, a thread of its own has the link: meeting a router can take as long as the
  router is away, and tasks go on meanwhile.
* Up to ``soft`` requests are begun as they come. More, up to the slots, only while the loop has time, which is when its
  timers are on time: requests that compute gain nothing from company, those that wait lose nothing by it. How many may
  begin from one tick to the next doubles while that holds, so that streams that last slow down nobody.
* A request whose connection was lost keeps its slot until it has ended, as in `vassals.worker.shared`.
"""

import os
import threading
import time
from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from emperor.protocol import chute, records
from emperor.protocol.bell import hear
from emperor.protocol.scoreboard import DOWN, UP
from vassals.worker import link as single
from vassals.worker.link import Exchange, Leaver, Link, LinkFault
from vassals.worker.offspring import forked_off
from vassals.worker.pace import PACE, Lingering
from vassals.worker.slotted import SlottedLink

_TICK_S: Final = 0.010
_LATE_S: Final = 0.020
"""A busy machine, or a long turn of short requests, makes a timer late by less."""

_ROUNDS: Final = 4
"""So many times in one turn of the loop what has come by the ring is begun."""

_MOST_RATE: Final = 1 << 16
_CHUTE_PIECE: Final = 128 * 1024
TUNNEL_WINDOW: Final = 64 * 1024
"""Bytes of a WebSocket's client that may be on their way, or wait here until its app reads, given back in halves."""

_MOST_FUTURES: Final = 8


class Listener(Protocol):
    """Who has the bytes of a tunnel. Neither method may raise."""

    def arrived(self, piece: bytes, fin: bool) -> None:
        """Of the client. ``fin``: no more will come. `LoopExchange.took` is told of each byte that needs no room any more."""

    def stirred(self) -> None:
        """There is credit for what could not be sent, or nobody wants it any more."""

    def leave(self) -> None:
        """The router leaves."""


class LoopExchange(Exchange):
    """See `vassals.adapters.asgi.Exchange`, which this is."""

    def _set_up(self, link: Link, word: int, stream: int, payload: bytes) -> None:
        Exchange._set_up(self, link, word, stream, payload)
        self._loop_link: LoopLink = link  # type: ignore[assignment]
        self._first = b""
        self._pieces: deque[bytes] | None = None  # None: the body came whole with the request
        self._whole = False
        self._lent = False
        self._granted = 0
        self._fed = 0
        self._owed = 0
        self._futures: list[Future[None]] | None = None
        self._listener: Listener | None = None
        self._blocked = False  # more of it waits for credit

    # What goes out.

    def finish_now(self, head: bytes, body: bytes) -> bool:
        """The whole response; False: it is too large to go in one piece, and nothing was sent."""
        size = len(body)
        link = self._loop_link
        if size > records.BODY_LIMIT or size > self._credit or size > link.window:
            return False
        link.window -= size
        link.finish(self, head, body)
        return True

    def start_now(self, head: bytes, body: bytes) -> int:
        """The head, and of the body what may go now. Returns how many bytes."""
        link = self._loop_link
        first = min(len(body), records.BODY_LIMIT, self._credit, link.window)
        self._spend(first)
        piece = body if first == len(body) else body[:first]
        link.send(
            self, records.pack_response(0, records.NO_WORD, self.stream, self._service_us(), head, piece)
        )
        return first

    def send_now(self, body: bytes, offset: int) -> int:
        """What may go now of ``body`` from ``offset`` on. Returns how many bytes."""
        link = self._loop_link
        begin = offset
        size = len(body)
        while offset < size and not self.gone:
            if self._listener is None and (self._by_chute or self._is_large(size - offset)):
                offset += link.put(self, body, offset)
                # Told at half of it, the worker fills that while the router sends the other.
                if offset < size and link.will_be_told(self, DOWN, min(size - offset, link.half())):
                    break
                continue
            left = min(size - offset, records.BODY_LIMIT)
            room = min(left, self._credit, link.window)
            if room < min(left, link.fair_piece) or self._is_out_of_credit():
                self._blocked = True
                break
            self._spend(max(room, records.DATA_LEAST))
            piece = body if room == size else body[offset : offset + room]
            link.send(self, records.pack(records.DATA, 0, records.NO_WORD, self.stream, piece))
            offset += room
        return offset - begin

    def switch_now(self, head: bytes, listener: "Listener") -> None:
        """The head of a 101: from now on ``send_now`` sends a tunnel's bytes, and those of the client go to ``listener``."""
        link = self._loop_link
        self._listener = listener
        self._granted = TUNNEL_WINDOW
        record = records.pack_response(
            records.UPGRADE, records.NO_WORD, self.stream, self._service_us(), head, b""
        )
        link.send(self, record + records.pack_credit(self.stream, TUNNEL_WINDOW))

    def last(self) -> None:
        """It may go on for hours, and no deadline of the page is its."""
        self._loop_link.last(self)

    def interim(self, head: bytes) -> None:
        """A 1xx response, before the response."""
        self._loop_link.send(self, records.pack(records.INTERIM, 0, records.NO_WORD, self.stream, head))

    def trailers(self, lines: bytes) -> None:
        """The body is whole, and this follows it. Ends the request."""
        self._loop_link.end(
            self, records.pack(records.TRAILERS, records.FIN, records.NO_WORD, self.stream, lines)
        )

    # What comes in.

    def read_from(self, offset: int) -> None:
        """The first bytes of the body stand in the payload from ``offset`` on."""
        self._first = self.payload[offset:]

    def take(self) -> tuple[bytes, bool] | None:
        """The next piece of the body, and whether more follows; None: there is none now."""
        pieces = self._pieces
        if pieces is None:
            return self._first, False
        if self._first:
            piece, self._first = self._first, b""
            return piece, not self._whole or bool(pieces)
        if pieces:
            piece = pieces.popleft()
            self._took(len(piece))
            return piece, not self._whole or bool(pieces)
        if self._lent:
            return self._draw()
        if self._whole:
            return b"", False
        if not self._granted:
            self._granted = single.BODY_WINDOW
            self.give_back(single.BODY_WINDOW)
        return None

    def _draw(self) -> tuple[bytes, bool] | None:
        link = self._loop_link
        while not self.gone:
            # In this order: the last bytes are there before the word that they were the last.
            ended = link.body_ended()
            piece = link.take_up(self, _CHUTE_PIECE)
            if piece:
                return piece, True
            if ended == chute.WHOLE:
                return b"", False
            if link.will_be_told(self, UP, 1):
                return None
        return None

    def took(self, size: int) -> None:
        """So many bytes of a tunnel need no room any more."""
        self._owed += size
        if self._owed >= TUNNEL_WINDOW // 2:
            owed, self._owed = self._owed, 0
            self._granted += owed
            self.give_back(owed)

    def _took(self, size: int) -> None:
        self._owed += size
        if self._owed >= single.BODY_WINDOW // 2 and not self._whole:
            owed, self._owed = self._owed, 0
            self._granted += owed
            self.give_back(owed)

    # Waiting.

    def changed(self) -> "Future[None]":
        """To be awaited: done when it may be worth it to try again."""
        future = self._loop_link.future()
        if self._futures is None:
            self._futures = []
        elif len(self._futures) > _MOST_FUTURES:
            # Those who gave up waiting: a framework that asks now and then whether the client is still there.
            self._futures = [each for each in self._futures if not each.done()]
        self._futures.append(future)
        return future

    def read_file(self, file: Any, most: int) -> Awaitable[bytes]:
        """At most so many bytes of an open file, in a thread unless they are in memory."""
        return self._loop_link.read_file(file, most)

    def wake(self) -> None:
        """There may be news."""
        if self._futures:
            futures, self._futures = self._futures, None
            for future in futures:
                if not future.done():
                    future.set_result(None)
        if self._listener is not None and (self._blocked or self.gone):
            self._blocked = False
            self._listener.stirred()

    # What the link tells it.

    def expect_body(self, granted: int) -> None:
        """The REQUEST did not hold the whole body; so many bytes more may come before the app reads."""
        self._pieces = deque()
        self._granted = granted

    def feed(self, piece: bytes, fin: bool) -> None:
        """More of the request's body, or of the tunnel's bytes. Raises LinkFault beyond the credit that was given."""
        if self._pieces is None and self._listener is None:
            if piece:
                raise LinkFault("DATA for a request whose body was whole")
            return
        self._fed += len(piece)
        if self._fed > self._granted:
            raise LinkFault("the router sent more of a body than it had credit for")
        if self._listener is not None:
            self._listener.arrived(piece, fin)
            return
        if piece and self._pieces is not None:
            self._pieces.append(piece)
        self._whole = self._whole or fin

    def draw_from_chute(self) -> None:
        """What is still to come of the request's body comes by chute."""
        self._lent = True

    def drain(self) -> None:
        """The router leaves: what would last is to end."""
        if self._listener is not None:
            self._listener.leave()

    def close(self) -> None:
        """The request has ended: whoever still waits for something of it is told."""
        Exchange.close(self)
        self._listener = None
        if self._pieces is not None:
            self._pieces.clear()
        self.wake()


class _Calls:
    """Stands between the orders and the link: the loop reads the orders, and calls a thread that waits for a router."""

    def __init__(self, orders: Leaver) -> None:
        self._orders = orders
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.tell = orders.tell
        self.wish = orders.wish
        self.turned = False  # the loop looks after that

    @property
    def leave(self) -> str:
        return self._orders.leave

    def superseded(self) -> None:
        self._orders.superseded()

    def lost(self) -> None:
        self._orders.lost()

    def fds(self) -> list[int]:
        return [self._fd]

    def take(self) -> None:
        pass

    def ring(self) -> None:
        """For good: it is only called when it is time to leave."""
        os.eventfd_write(self._fd, 1)

    def close(self) -> None:
        os.close(self._fd)


class LoopLink(SlottedLink):
    """See the module. ``begin(exchange)`` starts a request; it must not raise."""

    def __init__(
        self,
        loop: AbstractEventLoop,
        begin: Callable[[LoopExchange], None],
        soft: int,
        orders: Leaver,
        slots: int,
        cancels: bool = True,
        **link: Any,
    ) -> None:
        """``cancels``: late requests are ended here, and the router need not."""
        self._calls = _Calls(orders)
        SlottedLink.__init__(self, self._calls, slots, **link)  # type: ignore[arg-type]
        self._flags = records.CANCELS if cancels else 0
        self._loop = loop
        self._call_soon = loop.call_soon
        self.future: Callable[[], Future[None]] = loop.create_future
        self._begin_request = begin
        self._soft = soft
        self._told = orders
        self._watching = False
        self._hears = False
        self._planned = False
        self._ticking = False
        self._rate = max(1, soft // 4)  # so many may begin beyond the soft limit from one tick to the next
        self._more = self._rate  # and so many of them still
        self._waits: Future[None] | None = None
        self._lingering = Lingering()
        self._idle_ns = 0  # since when there is nothing to begin

    # The worker.

    async def serve(self) -> None:
        """Until it is time to leave."""
        while not self._told.leave:
            if self._connected:
                await self._stirred()
            else:
                self._apart = True
                await self._meet()
                self._apart = False
                self._say_kept()

    async def drained(self) -> None:
        """Until nothing that was begun is under way. To be called after `serve`."""
        while len(self._free_slots) < self._slots:
            self.stir()
            if len(self._free_slots) < self._slots:
                await self._stirred()

    def part(self) -> None:
        """Says BYE, and waits a second at most for the word that all before it has arrived."""
        self._unwatch()
        self._leave()
        self._calls.close()

    def order(self) -> None:
        """There may be an order to leave."""
        if self._told.leave:
            self._calls.ring()
            self._call()

    async def _stirred(self) -> None:
        self._waits = self.future()
        await self._waits

    def _call(self) -> None:
        waits = self._waits
        if waits is not None and not waits.done():
            waits.set_result(None)

    async def _meet(self) -> None:
        """Until there is a router, or it is time to leave."""
        done = self.future()

        def tell() -> None:
            if not done.done():
                done.set_result(None)

        def meet() -> None:
            try:
                self._join()
            finally:
                self._loop.call_soon_threadsafe(tell)

        thread = threading.Thread(target=meet, name="link", daemon=True)
        thread.start()
        await done
        thread.join()
        if self._connected:
            self._loop.add_reader(self._socket_fd, self.stir)
            self._watching = True
            if self._reads:
                self._loop.add_reader(self._bell, self._rung)
                self._hears = True
            self.stir()

    # The loop.

    def stir(self) -> None:
        """Takes in what has come, and begins what may begin."""
        self._planned = False
        if self._connected and self._watching:
            self._glance()
            self._draw_all()
            if self._told.leave:
                self._call()

    def _rung(self) -> None:
        # The loop calls one for each descriptor: it is for all links.
        bell = self._bell
        gone = hear(bell) < 0
        if gone:
            self._loop.remove_reader(bell)
            self.deafen()
        self.rung()
        for other in self._others:
            if other is not self:
                if gone:
                    other.deafen()
                other.rung()

    def rung(self) -> None:
        """The worker's bell was rung."""
        if self._watching and self._reads:
            self._pauses += 1
            self._lingering.waited(time.monotonic_ns() - self._idle_ns)
            self._requests.watch()
            self._draw_all()

    def deafen(self) -> None:
        """See `Link.deafen`."""
        self._hears = False
        Link.deafen(self)

    def _draw_all(self) -> None:
        """Begins what may begin, of the deck and of the ring, and has the bell rung for what comes then."""
        rounds = 0
        while True:
            self._draw_requests()
            self._run_deck()
            if not self._reads:
                return
            rounds += 1
            if rounds == _ROUNDS:
                # What is begun may be answered at once, and the next be there: others on the loop have their turn.
                self._plan()
                return
            if self._lingers():
                continue
            self._requests.rest(True)
            if not self._requests.has():
                return
            self._requests.watch()

    def _lingers(self) -> bool:
        """Looks for the next request for a moment, if that pays and nothing else runs here. True: it is there."""
        self._idle_ns = time.monotonic_ns()
        lingering = self._lingering
        if not lingering.pays or len(self._free_slots) < self._slots or len(self._others) > 1:
            return False
        if not PACE.patient or not self._requests.linger(lingering.MOST_NS):
            return False
        lingering.waited(0)
        return True

    def _plan(self) -> None:
        if not self._planned and self._watching:
            self._planned = True
            self._call_soon(self.stir)

    def _run_deck(self) -> None:
        deck = self._deck
        while deck and self._connected:
            if self._told.leave:
                _, word, stream, _ = deck.popleft()
                if self._claim(word, stream):
                    self._return(word, stream)
                continue
            if not self._may_begin():
                return
            if (slot := self._reserve()) < 0:
                self._mend()
                return
            flags, word, stream, payload = deck.popleft()
            exchange = self._begin(slot, flags, word, stream, payload)
            if exchange is not None:
                self._begin_request(exchange)  # type: ignore[arg-type]

    def last(self, exchange: Exchange) -> None:
        """See `LoopExchange.last`."""
        self._board.last(self._seat, exchange.slot)

    def _may_begin(self) -> bool:
        free = len(self._free_slots)
        if not free or self._slots - free < self._soft:
            return free > 0
        if not self._ticking:
            self._ticking = True
            self._loop.call_later(_TICK_S, self._tick, self._loop.time() + _TICK_S)
        if not self._more:
            return False
        self._more -= 1
        return True

    def _tick(self, due: float) -> None:
        """How many may begin beyond the soft limit until the next tick: twice as many as in the last one if those were not
        enough and the loop is on time; none if it is late, and a quarter then."""
        self._ticking = False
        if self._loop.time() - due >= _LATE_S:
            self._rate = max(1, self._rate // 4)
            self._more = 0
        else:
            if not self._more:
                self._rate = min(self._rate * 2, _MOST_RATE)
            self._more = self._rate
        self._run_deck()

    def read_file(self, file: Any, most: int) -> Awaitable[bytes]:
        """At most so many bytes of an open file from where it stands, in a thread unless they are in memory."""
        place = file.tell()
        piece = bytearray(most)
        try:
            count = os.preadv(file.fileno(), [piece], place, os.RWF_NOWAIT)
        except OSError:
            count = -1
        if count <= 0 and most:
            return self._loop.run_in_executor(None, file.read, most)
        file.seek(place + count)
        future: Future[bytes] = self._loop.create_future()
        future.set_result(bytes(memoryview(piece)[:count]))
        return future

    # What an exchange asks.

    def send(self, exchange: Exchange, record: bytes) -> None:
        """A record in the middle of ``exchange``."""
        if forked_off():
            single._end_foreign_process()
        if self._connected and self._running.get(exchange.stream) is exchange:
            exchange.spoken = True
            self._transmit(record)

    def look(self, exchange: Exchange) -> None:
        """The loop looks."""

    def end(self, exchange: Exchange, record: bytes) -> None:
        """The last record of ``exchange``: its word and slot are free before it is on its way."""
        if forked_off():
            single._end_foreign_process()
        if exchange.slot >= 0:
            self._vacate(exchange, record, None)

    def finish(self, exchange: Exchange, head: bytes, body: bytes) -> None:
        """The whole response of ``exchange``, as its first and last record."""
        if forked_off():
            single._end_foreign_process()
        if exchange.slot >= 0:
            self._vacate(exchange, head, body)

    def enter(self, exchange: Exchange) -> bool:
        """Takes the chute for the rest of the response, if it is free, and says so."""
        if not self._has_ring or not self._connected or self._running.get(exchange.stream) is not exchange:
            return False
        return self._enter(exchange)

    def put(self, exchange: Exchange, body: bytes, offset: int) -> int:
        """What of a response goes into the chute now. Returns how many bytes."""
        if forked_off():
            single._end_foreign_process()
        return self._put(exchange, body, offset) if self._running.get(exchange.stream) is exchange else 0

    def take_up(self, exchange: Exchange, most: int) -> bytes:
        """Bytes of its body out of the chute."""
        if not self._connected or self._running.get(exchange.stream) is not exchange:
            return b""
        piece: bytes = self._up.take(most)
        if piece:
            self._call_for(self._up)
        return piece

    def will_be_told(self, exchange: Exchange, way: int, wanted: int) -> bool:
        """The router sends a message once there is room for ``wanted`` bytes, or so many to read. False: there is, or there
        will never be."""
        if self._running.get(exchange.stream) is not exchange:
            return False
        place = self._down if way == DOWN else self._up
        return self._awaits(exchange, place) and bool(place.ask(wanted))

    def half(self) -> int:
        """Of the chute."""
        return int(self._down.size) // 2

    # What differs from a link of one request.

    def _new(self, word: int, stream: int, payload: bytes) -> Exchange:
        made = LoopExchange.__new__(LoopExchange)
        made._set_up(self, word, stream, payload)
        return made

    def _transmit(self, record: bytes) -> None:
        Link._transmit(self, record)
        self._plan()

    def _vacate(self, exchange: Exchange, last: bytes, body: bytes | None) -> None:
        SlottedLink._vacate(self, exchange, last, body)
        if self._deck:
            self._plan()
        if self._waits is not None and self._told.leave:
            self._call()

    def _lasted(self) -> None:
        """It may have waited for something, and the worker has run others meanwhile."""

    def _announce(self, exchange: Exchange | None) -> None:
        if exchange is None:
            # Who is waked may end, and others with it.
            for each in list(self._running.values()):
                each.wake()  # type: ignore[attr-defined]
        else:
            exchange.wake()  # type: ignore[attr-defined]

    def _lose(self) -> None:
        SlottedLink._lose(self)
        self._call()

    def _unwatch(self) -> None:
        if self._watching:
            self._watching = False
            self._loop.remove_reader(self._socket_fd)
        if self._hears:
            self._hears = False
            for other in self._others:
                if other is not self and other.hears():
                    return
            self._loop.remove_reader(self._bell)

    def hears(self) -> bool:
        """It is called when the worker's bell is rung."""
        return self._hears

    def _close(self) -> None:
        self._unwatch()
        Link._close(self)
