"""The worker's end of the backplane (docs/specs/backplane.md). Nothing else in a worker knows ZeroMQ.

The link owns the DEALER, the local deck (requests that have arrived and are not begun) and this worker's side
of the page. It hands out one claimed request at a time as an `Exchange`, through which the adapter answers.

Rules that everything here serves:

* App code is never entered while a record is unsent, and a request's word and slot are free before its last
  record is sent. A router on another host may have to wait a moment for answers that it would run again
  (`vassals.worker.kept`).
* A lost connection is never revived. Its deck is dropped unread: the router that offered it has taken it back
  or is gone. An answer belongs to the connection its request came by; on another one it could reach a
  stranger.
* What a router has offered runs only in a slot that this router holds (spec, section 4). With several routers a worker has a
  link to each (`vassals.worker.lines`); they share nothing but the page, and tell each other who wants a slot (`pass_on`).
* One request at a time: a worker whose slots are several has a `vassals.worker.shared.SharedLink`, which is this link
  under a lock.
* ZeroMQ's descriptor is edge-triggered and every call on the socket can eat the edge: `EVENTS` is looked at
  immediately before each wait, unless there was no call since the last look (`_quiet`). It also tells of the
  loss: a DEALER with IMMEDIATE has POLLOUT exactly while a
  router that has shaken hands lives.
"""

import os
import select
import time
from collections import deque
from collections.abc import Callable
from io import BufferedReader, BytesIO, RawIOBase
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

from emperor import zeromq
from emperor.protocol import chute, guards, records, ring
from emperor.protocol.bell import hear, ring_router, wait_readable
from emperor.protocol.chute import Chute
from emperor.protocol.errors import BoardError, RecordError
from emperor.protocol.records import NAMES
from emperor.protocol.ring import Reader, Writer
from emperor.protocol.scoreboard import DOWN, REVOKED, UP, Board, now_ns
from emperor.zeromq import Context, Socket, SocketError, Wire
from vassals.adapters.answer import Answer
from vassals.worker.offspring import forked_off, settle_here
from vassals.worker.pace import PACE

if TYPE_CHECKING:
    from emperor.config.spec import RemoteRouter

BODY_WINDOW: Final = 256 * 1024
"""Bytes of a request's body that may be on their way beyond the first 64 KiB, given back in halves."""

_RETRY_FIRST_S: Final = 0.010
_RETRY_MOST_S: Final = 0.250
_REFUSED_RETRY_S: Final = 1.0
_WELCOME_TIMEOUT_S: Final = 10.0
_BYE_TIMEOUT_S: Final = 1.0
_FAR_RETRY_MOST_S: Final = 2.0
_FAR_REFUSED_RETRY_S: Final = 2.0
_FAR_CONNECT_S: Final = 3.0
"""A partition that has healed is over for us soon after."""

_HEARTBEAT_MS: Final = 500
_SILENCE_MS: Final = 2000
"""As on the router's side (`emperor.router.remote`)."""

_LEAVES: Final = 11
"""REFUSED, since another router takes its place: it is met at once."""
_LEAVES_RETRY_MOST_S: Final = 0.1
"""Both have the listening socket, and the kernel may give us to the one that leaves some dozen times in a row."""

_NO_SEAT: Final = 0xFFFF
_KEPT_MOST: Final = 64

_FAIR_PIECE: Final = 16 * 1024
_NAP_MS: Final = 500
_LONG_US: Final = 500
"""After a request that ran this long the link is looked at before the next one: 2 µs are nothing beside it,
and in that time a DRAIN or the loss of the router may have come."""

_LOOK_EVERY: Final = 64
"""The same after so many requests, however short: 2 µs in 64 requests are not to be measured."""

# Spec, section 2: 9 is a generation that is leaving, 3 one that the router does not know (any more). Neither
# gets better.
_FINAL_REFUSALS: Final = frozenset({3, 9})


_POLL: Final = select.poll
_POLLIN: Final = zeromq.POLLIN
_POLLOUT: Final = zeromq.POLLOUT

# The connection did not come about, or broke before a router shook hands. With RECONNECT_IVL -1 each is
# final.
_FAILED_CONNECT: Final = (
    zeromq.EVENT_CLOSED
    | zeromq.EVENT_DISCONNECTED
    | zeromq.EVENT_HANDSHAKE_FAILED_AUTH
    | zeromq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zeromq.EVENT_HANDSHAKE_FAILED_PROTOCOL
)

_CALL: Final = records.pack(records.CALL, 0, records.NO_WORD, 0, b"")
_ONE_FREE: Final = records.pack_grant(1)
_ONE_WANTED: Final = records.pack(records.RECALL, 0, records.NO_WORD, 0, records.pack_slots(1))

_AGE_NS: Final = 100_000
"""In which a DEMAND counts how long somebody has waited (`emperor.router.grants`)."""

_IN_WORD: Final = (1 << 62) - 1
"""What of a stream stands in its word."""

_CLIENT_GONE: Final = "the client has gone"
_LINK_GONE: Final = "the link to the router was lost"
_ENDED: Final = "the request has ended"


class ClientGone(ConnectionError):
    """Raised to an app that reads a body whose client has gone, or whose router has. An OSError, which
    frameworks expect."""


class LinkFault(Exception):
    """The router sent what the specification does not allow. The connection is dropped and made anew."""


class Leaver(Protocol):
    """What the link needs of `vassals.worker.orders.Orders`."""

    leave: str
    turned: bool
    """There are other routers than before: the link comes back to whoever called it."""

    def fds(self) -> list[int]: ...
    def take(self) -> None: ...
    def wish(self, reason: str) -> None: ...
    def tell(self, state: str, **details: Any) -> None: ...

    # Of a link to a router on another host alone.

    def superseded(self) -> None:
        """Another has its place, and is to be met besides; it needs us for what it has yet."""

    def lost(self) -> None:
        """There is no connection to it any more."""


class Exchange(Answer):
    """One claimed request and its answer.

    The adapter calls either `finish`, or `start`, any number of `send`, then `end`; or `abort` at any point.
    `gone` is empty while somebody wants the answer, then the reason why nobody does; sending is then allowed
    and goes nowhere, but the exchange must still be ended, which alone frees the slot. None of the methods
    raises for a lost link.
    """

    __slots__ = (
        "_by_chute",
        "_credit",
        "_inbox",
        "_link",
        "_sent",
        "_word",
        "again",
        "begun_ns",
        "news",
        "slot",
        "spoken",
        "stream",
        "upgrade",
        "waiter",
    )

    def __init__(self, link: "Link", word: int, stream: int, payload: bytes) -> None:
        self._set_up(link, word, stream, payload)

    def _set_up(self, link: "Link", word: int, stream: int, payload: bytes) -> None:
        # Apart, since a call of a type packs what it is given for Python: a third of a microsecond.
        self.payload = payload
        self.gone = ""
        self._link = link
        self._word = word
        self._credit = link.stream_credit
        self._inbox: Inbox | None = None
        self._by_chute = False
        self._sent = 0
        self.stream = stream
        self.begun_ns = 0
        self.spoken = False  # records of it are on their way: what follows must not overtake them
        self.upgrade = False  # its client asks for a WebSocket
        self.again = False  # its router, on another host, runs it again should its answer be lost
        # The rest is SharedLink's.
        self.slot = 0
        self.news = False
        self.waiter: object = None

    def body(self, offset: int) -> BytesIO | BufferedReader:
        """The request's body as a binary file: what follows the packet at ``offset``, then what still comes
        in."""
        inbox = self._inbox
        if inbox is None:
            return BytesIO(self.payload[offset:])
        inbox.begin_with(self.payload[offset:])
        return BufferedReader(inbox, records.BODY_LIMIT)

    def finish(self, head: bytes, body: bytes) -> None:
        """The whole response. ``head`` is at most 65,535 bytes."""
        size = len(body)
        link = self._link
        if size > records.BODY_LIMIT or size > self._credit or size > link.window:
            self.start(head, body)
            self.end()
            return
        link.window -= size
        link.finish(self, head, body)

    def start(self, head: bytes, body: bytes) -> None:
        """The head and the first bytes of a response of which more is to come. Waits for credit as `send`
        does."""
        first = min(len(body), records.BODY_LIMIT, self._credit, self._link.window)
        self._spend(first)
        piece = body if first == len(body) else body[:first]
        self._link.send(
            self, records.pack_response(0, records.NO_WORD, self.stream, self._service_us(), head, piece)
        )
        if first < len(body):
            self._send_by_credit(body, first)

    def send(self, body: bytes) -> None:
        """More of the response, in records of at most 64 KiB, as the router grants credit."""
        size = len(body)
        if self._by_chute or self._is_large(size):
            self._link.pour(self, body, 0)
            return
        cost = size if size > records.DATA_LEAST else records.DATA_LEAST
        if size <= records.BODY_LIMIT and cost <= self._credit and cost <= self._link.window:
            self._spend(cost)
            self._link.send(self, records.pack(records.DATA, 0, records.NO_WORD, self.stream, body))
        else:
            self._send_by_credit(body, 0)

    def look(self) -> None:
        """Takes in what the router has to say while there is nothing to send."""
        self._link.look(self)

    def end(self) -> None:
        """The response is whole. Ends the request."""
        self._link.end(self, records.pack(records.DATA, records.FIN, records.NO_WORD, self.stream, b""))

    def abort(self, reason: str) -> None:
        """The response cannot be finished. Ends the request."""
        self._link.end(
            self,
            records.pack(records.ABORT, records.FIN, records.NO_WORD, self.stream, reason.encode()[:1024]),
        )

    @property
    def word(self) -> int:
        """That of the page under which it was offered."""
        return self._word

    def _service_us(self) -> int:
        return min((now_ns() - self.begun_ns) // 1000, 0xFFFFFFFF)

    def _is_large(self, size: int) -> bool:
        """With ``size`` bytes more it is so large that the rest goes by chute, which is free."""
        self._sent += size
        if self._sent <= records.BODY_LIMIT:
            return False
        self._by_chute = self._link.enter(self)
        return self._by_chute

    def _spend(self, size: int) -> None:
        self._credit -= size
        self._link.window -= size

    def _is_out_of_credit(self) -> bool:
        """There is none for a record, however small."""
        return self._credit < records.DATA_LEAST or self._link.window < records.DATA_LEAST

    def _send_by_credit(self, body: bytes, offset: int) -> None:
        size = len(body)
        while offset < size and not self.gone:
            if self._by_chute or self._is_large(size - offset):
                self._link.pour(self, body, offset)
                return
            left = min(size - offset, records.BODY_LIMIT)
            room = min(left, self._credit, self._link.window)
            # Waiting for a fair piece keeps a slow client from cutting a large body into tiny records.
            if room < min(left, self._link.fair_piece) or self._is_out_of_credit():
                self._link.wait_for(self)
                continue
            self._spend(max(room, records.DATA_LEAST))
            self._link.send(
                self,
                records.pack(records.DATA, 0, records.NO_WORD, self.stream, body[offset : offset + room]),
            )
            offset += room

    # From here on: what the link tells the exchange.

    def expect_body(self, granted: int) -> None:
        """The REQUEST did not hold the whole body; so many bytes more may come before the app reads."""
        self._inbox = Inbox(self, granted)

    def feed(self, piece: bytes, fin: bool) -> None:
        """More of the request's body. Raises LinkFault beyond the credit that was given."""
        if self._inbox is None:
            if piece:
                raise LinkFault("DATA for a request whose body was whole")
        else:
            self._inbox.feed(piece, fin)

    def draw_from_chute(self) -> None:
        """What is still to come of the request's body comes by chute."""
        if self._inbox is not None:
            self._inbox.by_chute = True

    def grant(self, count: int) -> None:
        self._credit += count

    def lose(self, reason: str) -> None:
        self.gone = self.gone or reason

    def cut_off(self) -> None:
        """The connection is lost. What is sent from now on goes nowhere, and must not cost the next one's window."""
        self.lose(_LINK_GONE)
        self._credit = 0
        self._by_chute = False

    def drain(self) -> None:
        """The router leaves, and this is to end. What ends by itself does."""

    def close(self) -> None:
        """The request has ended: an app that kept ``wsgi.input`` or ``write`` reads and sends nothing any more, and what it
        tries to send must not cost the others' window, which nobody would give back."""
        self.gone = self.gone or _ENDED
        self._credit = 0
        self._by_chute = False
        if self._inbox is not None:
            self._inbox.forget()

    def wait(self) -> None:
        """Waits for the link to bring something. Raises ClientGone when nothing more can come."""
        if not self.gone:
            self._link.wait_for(self)

    def draw(self, into: Any) -> int:
        """Takes bytes of the body out of the chute. Returns how many; 0: there are none."""
        return self._link.draw(self, into)

    def ended(self) -> int:
        """What the chute says of the body's end."""
        return self._link.body_ended()

    def wait_at_chute(self) -> None:
        """Waits for more in the chute."""
        self._link.wait_at(self, UP, 1)

    def give_back(self, count: int) -> None:
        self._link.send(self, records.pack_credit(self.stream, count))


class Inbox(RawIOBase):
    """The raw stream below ``wsgi.input`` for a body that was not whole in its REQUEST.

    Credit goes back as the app takes bytes from here, so that an app that reads slowly slows down its client,
    and not the memory of anyone.
    """

    def __init__(self, exchange: Exchange, granted: int) -> None:
        super().__init__()
        self._exchange: Exchange | None = exchange
        self._pieces: deque[bytes] = deque()
        self._whole = False
        self.by_chute = False
        self._uncredited = 0
        # Each of these numbers is changed by one side alone, the link's or the app's: with several slots they are
        # two threads.
        self._granted = granted
        self._fed = 0
        self._owed = 0
        self._taken = 0

    def begin_with(self, piece: bytes) -> None:
        """The bytes that came with the REQUEST, which cost no credit."""
        if piece:
            self._pieces.appendleft(piece)
            self._uncredited = len(piece)

    def feed(self, piece: bytes, fin: bool) -> None:
        self._fed += len(piece)
        if self._fed > self._granted:
            raise LinkFault("the router sent more of a body than it had credit for")
        if piece:
            self._pieces.append(piece)
        self._whole = self._whole or fin

    def forget(self) -> None:
        self._exchange = None
        self._pieces.clear()

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any, /) -> int:
        exchange = self._exchange
        if exchange is None:
            raise ValueError("wsgi.input was read after its request had ended")
        pieces = self._pieces
        while True:
            # In this order: the last piece is there before the word that it was the last.
            whole = self._whole
            if pieces:
                break
            if self.by_chute:
                count = self._draw(exchange, into)
                if count >= 0:
                    return count
                continue
            if whole:
                return 0
            if not self._granted:
                self._granted = BODY_WINDOW
                exchange.give_back(BODY_WINDOW)
                # Which has looked at the link: what is waited for may have come just then.
                continue
            if exchange.gone:
                raise ClientGone(f"{exchange.gone}: {self._taken} bytes of the request's body had been read")
            exchange.wait()
        target = memoryview(into).cast("B")
        piece = pieces[0]
        size = min(len(piece), target.nbytes)
        target[:size] = piece[:size]
        if size == len(piece):
            pieces.popleft()
        else:
            pieces[0] = piece[size:]
        self._took(size)
        return size

    def _draw(self, exchange: Exchange, into: Any) -> int:
        """−1: nothing was there, and it has waited for some."""
        # In this order, as above.
        ended = exchange.ended()
        count = exchange.draw(into)
        self._taken += count
        if count or ended == chute.WHOLE:
            return count
        if ended == chute.GONE:
            exchange.lose(_CLIENT_GONE)
        if exchange.gone:
            raise ClientGone(f"{exchange.gone}: {self._taken} bytes of the request's body had been read")
        exchange.wait_at_chute()
        return -1

    def _took(self, size: int) -> None:
        self._taken += size
        free = min(size, self._uncredited)
        self._uncredited -= free
        self._owed += size - free
        if self._owed >= BODY_WINDOW // 2 and not self._whole and self._exchange is not None:
            owed, self._owed = self._owed, 0
            self._granted += owed
            self._exchange.give_back(owed)


class Link:
    """The connection to one router seat. ``next`` gives claimed requests until it is time to leave."""

    def __init__(
        self,
        *,
        endpoint: str,
        router_seat: int,
        seat: int,
        slots: int,
        generation: int,
        token: bytes,
        name: str,
        board: Board,
        orders: Leaver,
        log: Callable[[str], None],
        limit: int = 0,
        spent: Callable[[int], None] | None = None,
        bells: tuple[int, int] = (-1, -1),
        remote: "RemoteRouter | None" = None,
    ) -> None:
        """``remote``: it is a link to this router, on another host. ``bells`` are this worker's and the router's; −1: there is
        none. ``spent`` is told, once, when so many requests as ``limit`` says have ended, on all links; 0 is no limit."""
        self._endpoint = endpoint if "://" in endpoint else f"ipc://{endpoint}"
        self._remote = remote
        self._far = remote is not None
        self._gives_back = False  # somebody calls `give_back` in time
        self._said = ""  # by a router on another host, why it does not let us in
        if remote is not None:
            # It shares no page, and no token: its key says who this is.
            self._hello = records.pack_hello(
                _NO_SEAT, seat, slots, generation, bytes.fromhex(remote.gateway), name
            )
            router_seat = 0
        else:
            self._hello = records.pack_hello(router_seat, seat, slots, generation, token, name)
        self._slots = slots
        self._seat = seat
        self._router_seat = router_seat
        self._board = board
        self._orders = orders
        self._log = log
        # A context does not survive a fork: it is made here, in the process that uses it.
        self._zmq = Context()
        self._new_poll: Callable[[], Any] = _POLL
        settle_here()
        self._socket: Socket | None = None
        self._socket_fd = -1
        self._wire: Wire | None = None
        self._ring = Writer(board, seat, router_seat)
        self._has_ring = False  # the router sees it
        self._requests = Reader(board, seat, router_seat, UP)
        self._bell, self._router_bell = bells
        self._reads = False  # the router may put requests there
        self._quiet = False  # nothing was at the socket, and no call on it has been made since
        self._ready = 0  # what the last sleep ended by, a bit for each descriptor
        self._down = Chute(board, seat, router_seat, DOWN)
        self._up = Chute(board, seat, router_seat, UP)
        self._connected = False
        self._deck: deque[tuple[int, int, int, bytes]] = deque()  # flags, word, stream, payload
        self._cancelled: set[int] = set()
        self._current: Exchange | None = None
        self._late_answer = b""
        self._ran_long = False
        self._pauses = 0  # since the pace was looked at
        self._served = 0
        self._limit = limit
        self._spent = spent
        self._byed = False
        self._acknowledged = False
        self._was_refused = False
        self._leaves = False  # its router, and another has its place
        self._must_claim = not guards.omitted("claim")
        self._keeps_epoch = not guards.omitted("epoch")
        self._flags = 0  # of READY
        self._epoch = 0  # of the router, while there is a connection
        self._turned = False
        self._others: list[Link] = []  # this worker's links to other routers
        self._apart = False  # another thread has it, to meet its router
        self._kept: list[bytes] = []  # to be said to the router once that is over
        self.asks_since_ns = 0  # since when its router waits for slots that it has asked for; 0: it does not
        self._hint = b""  # what was said last of slots that it has not got, though it thinks so
        self.stream_credit = 0
        self.window = 0
        self.fair_piece = 1

    # Requests in.

    def next(self) -> Exchange | None:
        """The next request, claimed and begun on the page; None when the worker has left and is to exit."""
        orders = self._orders
        deck = self._deck
        while not orders.leave and not self._turned:
            if not self._connected:
                self._join()
            elif self._ran_long:
                self._ran_long = False
                self._glance()
            elif deck and (slot := self._reserve()) >= 0:
                flags, word, stream, payload = deck.popleft()
                exchange = self._begin(slot, flags, word, stream, payload)
                if exchange is not None:
                    return exchange
            elif not self._draw_requests():
                if deck:
                    self._mend()
                self._wait(None)
        if orders.leave:
            self._leave()
        return None

    def look_now(self, always: bool) -> None:
        """Take in all that has arrived: for who serves several routers. Not ``always``: its descriptor tells, if no call on the
        socket has been made since the last look, and whoever waits for that says `called`."""
        self._ran_long = False
        if always or not self._quiet:
            self._glance()
            self._quiet = self._connected

    def called(self) -> None:
        """Something may be at the socket."""
        self._quiet = False

    @property
    def is_due(self) -> bool:
        """All links are worth a look: what ran last by this one ran long, or was one of many."""
        return self._ran_long

    def next_here(self) -> Exchange | None:
        """The next request of those that are here, claimed and begun on the page."""
        while self._connected and (self._deck or self._draw_requests()):
            slot = self._reserve()
            if slot < 0:
                self._mend()
                return None
            flags, word, stream, payload = self._deck.popleft()
            exchange = self._begin(slot, flags, word, stream, payload)
            if exchange is not None:
                return exchange
        return None

    def rests(self) -> tuple[int, ...]:
        """What to wait on before `next_here` is worth a call; nothing: it is worth one now. Whoever waited calls `wakes`."""
        if self._reads:
            self._requests.rest(True)
            if self._draw_requests():
                return ()
        wire = self._wire
        if not self._quiet:
            if wire is None or wire.events() != _POLLOUT:
                return ()
            self._quiet = True
        return (self._socket_fd,)

    def wakes(self) -> None:
        """It looks into its ring by itself again."""
        if self._reads:
            self._requests.watch()

    @property
    def connected(self) -> bool:
        """A router has said WELCOME, and is still there as far as is known."""
        return self._connected

    def hold(self, orders: Leaver, apart: bool) -> None:
        """Take the orders from there, from now on; ``apart``: a thread has it that is to `meet`."""
        self._orders = orders
        self._turned = False
        self._apart = apart
        if not apart:
            self._say_kept()

    def _say_kept(self) -> None:
        kept, self._kept = self._kept, []
        for record in kept:
            if self._connected:
                self._say(record)

    def meet(self) -> None:
        """Until a router has said WELCOME, or it is time to leave."""
        self._join()

    @property
    def served(self) -> int:
        """How many requests have ended."""
        return self._served

    def count_too(self, served: int) -> None:
        """So many have ended that another link of this worker had, which is left."""
        self._served += served

    def part_from(self) -> None:
        """Leaves this router. Not to be used after that."""
        self._leave()

    def beside(self, others: "list[Link]") -> None:
        """These are the worker's links, this one among them."""
        self._others = others

    def _draw_requests(self) -> bool:
        """Puts on deck what is in the ring of requests. False: there is nothing."""
        if not self._reads or not self._requests.has():
            return False
        try:
            record = records.Cursor(self._requests.take())
            while record.next():
                if record.type != records.REQUEST or not record.flags & records.FIN:
                    raise RecordError("what is no whole request in the ring of requests")
                self._deck.append((record.flags, record.word, record.stream, record.payload()))
        except RecordError as fault:
            self._fault(str(fault))
        return True

    def _begin(self, slot: int, flags: int, word: int, stream: int, payload: bytes) -> Exchange | None:
        """Runs it in ``slot``, which is reserved, or lets that go."""
        try:
            if not self._claim(word, stream) and self._must_claim:
                self._forgo(slot)
                return None
        except BoardError as error:
            self._fault(str(error))
            self._forgo(slot)
            return None
        if self._cancelled and stream in self._cancelled:
            self._cancelled.discard(stream)
            self._forgo(slot)
            self._return(word, stream)
            return None
        exchange = self._new(word, stream, payload)
        exchange.upgrade = bool(flags & records.UPGRADE)
        exchange.again = bool(flags & records.AGAIN)
        self._occupy(exchange, slot)
        exchange.begun_ns = self._board.begin(self._seat, slot, stream)
        if not flags & records.FIN:
            # A client that waits for 100 Continue gets it when the app reads, and may never have to send its body.
            granted = 0 if flags & records.AWAITS else BODY_WINDOW
            exchange.expect_body(granted)
            exchange.spoken = True
            # The begun signal; it must be on its way before the app can take long.
            self._transmit(records.pack_credit(stream, granted))
            if not self._connected:
                self._vacate(exchange, b"", None)
                return None
        return exchange

    def _new(self, word: int, stream: int, payload: bytes) -> Exchange:
        made = Exchange.__new__(Exchange)
        made._set_up(self, word, stream, payload)
        return made

    def _reserve(self) -> int:
        """An idle slot that this router holds, busy from now on; −1: there is none."""
        return 0 if self._enter_slot(0) else -1

    def _enter_slot(self, slot: int) -> bool:
        # A router here that does not see the page holds nothing there: it counts what it has sent. For one on another host we
        # have taken what it was granted.
        return not (self._has_ring or self._far) or self._board.enter(self._seat, slot, self._epoch)

    def _forgo(self, slot: int) -> None:
        """What was reserved is not used."""
        self._leave_slot(slot, True)

    def _leave_slot(self, slot: int, wanted: bool) -> None:
        """It is idle, and its router's again if that is still ``wanted`` and here; else whoever wants it may take it."""
        ours = wanted and self._connected
        if not self._board.vacate(self._seat, slot, self._epoch if ours else 0):
            if ours:
                self._mend(asked=True, mended=1)
            else:
                self._offer_others(_ONE_FREE)

    def _mend(self, asked: bool = False, mended: int = 0) -> None:
        """Its router wants a slot that is not its (``asked``: and says so). It may be the slot of nobody that there is: an app
        can write all over the page, and that must not cost it more than the moment. A router that has none at all, or is alone
        and has not all, thinks otherwise if it offers something: it is told to look, or whoever has them to let go of one."""
        if not self._has_ring or not self._connected:
            return
        if not asked:
            self._drop_revoked()
            if not self._deck:
                return
        epochs, running = self._whose()
        mended += self._board.mend(self._seat, self._slots, epochs, running)
        unheld, its = self._board.held(self._seat, self._slots, self._epoch)
        hint = b""
        if unheld and (mended or not its or len(epochs) == 1):
            hint = records.pack_grant(unheld)
        elif not its and not asked:
            hint = _ONE_WANTED
        if hint and (mended or hint != self._hint):
            # Once: none is lost, and its router says when it has taken something.
            self._hint = hint
            if hint is not _ONE_WANTED:
                self._transmit(hint)
            self._tell_others(hint)

    def _whose(self) -> tuple[set[int], set[int]]:
        """``(the routers that there are, the slots in which something runs)``, as far as this worker knows."""
        epochs, slots = {self._epoch}, set(self.busy())
        for other in self._others:
            epochs.add(other.epoch)
            slots.update(other.busy())
        epochs.discard(0)
        return epochs, slots

    @property
    def epoch(self) -> int:
        """Its router's, while there is a connection; else 0."""
        return self._epoch

    def busy(self) -> list[int]:
        """The slots in which something runs that came by this link."""
        return [] if self._current is None else [0]

    def _left_running(self) -> list[Exchange]:
        """What runs on and came by a connection that is lost."""
        return [] if self._current is None else [self._current]

    def _occupy(self, exchange: Exchange, slot: int) -> None:
        """``exchange`` runs in this slot."""
        self._current = exchange

    def _claim(self, word: int, stream: int) -> bool:
        """False: it was revoked while it lay here. Its word is then free again and the record is not looked
        at. A word that is not this request's at all is a fault, or the router would wait for its end."""
        if word == records.NO_WORD or self._board.claim(self._seat, self._router_seat, word, stream):
            return True
        if self._board.state(self._seat, self._router_seat, word) != (stream & _IN_WORD, REVOKED):
            self._fault(f"word {word} of the page is not the request's that names it")
            return False
        self._board.free(self._seat, self._router_seat, word)
        self._cancelled.discard(stream)
        return False

    def _return(self, word: int, stream: int) -> None:
        if word != records.NO_WORD:
            self._board.free(self._seat, self._router_seat, word)
        self._transmit(records.pack(records.RETURN, records.FIN, records.NO_WORD, stream, b""))

    # Answers out.

    def send(self, exchange: Exchange, record: bytes) -> None:
        """A record in the middle of ``exchange``, then a look at what the router has to say (a CANCEL,
        credit)."""
        if forked_off():
            _end_foreign_process()
        if self._connected and exchange is self._current:
            exchange.spoken = True
            self._transmit(record)
            self._glance()

    def look(self, exchange: Exchange) -> None:
        """The look alone, for an ``exchange`` that has nothing to send."""
        if forked_off():
            _end_foreign_process()
        if exchange is self._current:
            self._glance()

    def end(self, exchange: Exchange, record: bytes) -> None:
        """The last record of ``exchange``: its word and slot are free before it is on its way."""
        if forked_off():
            _end_foreign_process()
        if exchange is self._current:
            self._vacate(exchange, record, None)

    def finish(self, exchange: Exchange, head: bytes, body: bytes) -> None:
        """The whole response of ``exchange``, as its first and last record."""
        if forked_off():
            _end_foreign_process()
        if exchange is self._current:
            self._vacate(exchange, head, body)

    def _vacate(self, exchange: Exchange, last: bytes, body: bytes | None) -> None:
        """``exchange`` leaves its slot, with this as its last record; with ``body`` it is the head of a whole response."""
        self._current = None
        self._conclude(exchange, 0, last, body, self._connected)

    def _conclude(self, exchange: Exchange, slot: int, last: bytes, body: bytes | None, wanted: bool) -> None:
        """What every end does. ``wanted``: the connection that the request came by still stands."""
        self._board.end(self._seat, slot)
        self._leave_slot(slot, wanted)
        word = exchange._word
        if word != records.NO_WORD:
            self._board.free(self._seat, self._router_seat, word)
        took_us = min((now_ns() - exchange.begun_ns) // 1000, 0xFFFFFFFF)
        if wanted:
            if body is None:
                self._transmit(last)
            elif (
                not self._has_ring
                or exchange.spoken
                or not self._ring.put(exchange.stream, took_us, last, body)
            ):
                self._deliver(exchange, took_us, last, body)
            else:
                self._call_router()
        if not self._keeps_epoch:
            # Whether the router has had it is not known: its bell rings even when nobody listens.
            self._late_answer = last if body is None else _whole(exchange, took_us, last, body)
        self._served += 1
        if took_us > _LONG_US:
            self._lasted()
        # Under a load of short requests there is always a next one: now and then the orders are looked at all the same.
        if self._served % _LOOK_EVERY == 0:
            self._ran_long = True
            self._keep_pace()
        if self._spent is not None and self._limit > 0:
            served = self._served_by_all()
            if served >= self._limit:
                spent, self._spent = self._spent, None
                spent(served)
        exchange.close()

    def _deliver(self, exchange: Exchange, took_us: int, head: bytes, body: bytes) -> None:
        """A whole response, by a message."""
        self._transmit(_whole(exchange, took_us, head, body))

    def _served_by_all(self) -> int:
        """How many requests of all routers have ended: it is the worker that wears."""
        if not self._others:
            return self._served
        return sum([other.served for other in self._others])

    def _lasted(self) -> None:
        """A request has run for long."""
        self._ran_long = True
        self._pauses += 1

    def _keep_pace(self) -> None:
        # What comes by the socket alone is not counted.
        pauses, self._pauses = self._pauses if self._reads else _LOOK_EVERY, 0
        PACE.rate(_LOOK_EVERY, pauses)

    def wait_for(self, exchange: Exchange) -> None:
        """Waits for something to arrive for a request that runs; the caller looks whether that was what it needs.
        Orders to leave are kept for later."""
        if forked_off():
            _end_foreign_process()
        if self._connected:
            self._wait(None)

    # Beside links to other routers.

    def hears(self) -> bool:
        """It is called when the worker's bell is rung: nobody is, while one request runs."""
        return False

    def rung(self) -> None:
        """The worker's one bell was rung, and another link has heard it."""

    def deafen(self) -> None:
        """All who could ring the worker's bell are dead: a router that comes now sends messages."""
        self._bell = -1

    def pass_on(self, record: bytes) -> None:
        """Says to its router what another link has heard."""
        if self._apart:
            if not self._far and len(self._kept) < _KEPT_MOST:
                self._kept.append(record)
        elif self._connected:
            self._say(record)

    def _say(self, record: bytes) -> None:
        """The same, now. A router on another host cannot look what is free: it is taken for it."""
        if self._far and record[0] == records.GRANT:
            self._take_free()
        else:
            self._transmit(record)

    def _take_free(self) -> None:
        count = len(self._board.take_all(self._seat, self._slots, self._epoch))
        if count:
            self._transmit(records.pack_grant(count))

    def _let_go(self, count: int) -> None:
        """A router on another host gives up so many of the slots that we had taken for it."""
        for slot in range(self._slots):
            if count > 0 and self._board.release(self._seat, slot, self._epoch):
                count -= 1

    def _tell_others(self, record: bytes) -> None:
        for other in self._others:
            if other is not self:
                other.pass_on(record)

    def _offer_others(self, record: bytes) -> None:
        """A GRANT is for those who have asked, if somebody has: one that wants nothing would take it, and have it until it is
        asked. Of routers here the first to look has it, and the others ask that one. A router on another host is told what it
        has: if it has waited longest, it gets all, and hears at once who waits after it."""
        others = [other for other in self._others if other is not self]
        askers = [other for other in others if other.asks_since_ns and other.connected]
        askers.sort(key=_asks_since)
        if askers and askers[0].is_far:
            first, *rest = askers
            first.offer(record)
            if rest:
                age = (now_ns() - rest[0].asks_since_ns) // _AGE_NS
                recall = records.pack_slots(1)
                first.pass_on(records.pack(records.RECALL, 0, min(age, records.NO_WORD - 1), 0, recall))
            return
        for other in [each for each in askers if not each.is_far] or others:
            other.offer(record)

    def offer(self, record: bytes) -> None:
        """Its router may take something."""
        self.asks_since_ns = 0
        self.pass_on(record)

    @property
    def is_far(self) -> bool:
        """Its router is on another host."""
        return self._far

    def _on_demand(self, waited: int, payload: bytes) -> None:
        """Its router wants slots, and has waited for so long: whoever holds some is asked for them."""
        if not self.asks_since_ns:
            self.asks_since_ns = now_ns() - (0 if waited == records.NO_WORD else waited * _AGE_NS)
        if self._far:
            self._take_free()
        else:
            self._mend(asked=True)
        self._tell_others(records.pack(records.RECALL, 0, waited, 0, payload))

    def _on_release(self, flags: int, stream: int, payload: bytes) -> None:
        """Its router holds fewer: whoever wants one may take it. What it took back for that waits for no slot to be met."""
        self._hint = b""
        self._draw_requests()
        self._drop_revoked()
        if self._far:
            self._let_go(records.unpack_grant(payload))
        if any(payload):
            self._offer_others(records.pack(records.GRANT, 0, records.NO_WORD, 0, payload))

    def give_back(self) -> None:
        """What waits here behind a request that runs long goes back to its router, where that is on another host and cannot see
        to it. What comes later, before that request has ended, goes back when this is called again."""
        if not self._far or self._apart or not self._connected:
            return
        self._glance()
        self._return_deck()

    def _return_deck(self) -> None:
        """To its router, which may send the same again when it likes."""
        returned = []
        while self._deck and self._connected:
            _, _, stream, _ = self._deck.popleft()
            self._cancelled.discard(stream)
            flags = records.FIN | records.LATE
            returned.append(records.pack(records.RETURN, flags, records.NO_WORD, stream, b""))
        if returned:
            self._transmit(b"".join(returned))

    def _drop_revoked(self) -> None:
        """What has been taken back leaves the deck: its words are free, should there be no slot to meet it in."""
        kept = []
        for record in self._deck:
            word = record[1]
            if (
                word != records.NO_WORD
                and self._board.state(self._seat, self._router_seat, word)[1] == REVOKED
            ):
                self._board.free(self._seat, self._router_seat, word)
                self._cancelled.discard(record[2])
            else:
                kept.append(record)
        if len(kept) < len(self._deck):
            self._deck.clear()
            self._deck.extend(kept)

    # Bodies by chute.

    def enter(self, exchange: Exchange) -> bool:
        """Takes the chute for the rest of the response, if it is free, and says so."""
        if not self._has_ring or not self._connected or exchange is not self._current:
            return False
        return self._enter(exchange)

    def _enter(self, exchange: Exchange) -> bool:
        if not self._down.enter(exchange.stream):
            return False
        exchange.spoken = True
        self._transmit(records.pack(records.BY_CHUTE, 0, records.NO_WORD, exchange.stream, b""))
        return self._connected

    def pour(self, exchange: Exchange, body: bytes, offset: int) -> None:
        """All of ``body`` from ``offset`` on into the chute; waits for room while somebody wants it."""
        size = len(body)
        while not exchange.gone:
            offset += self.put(exchange, body, offset)
            if offset >= size:
                return
            # Waked for half of it, the worker fills that while the router sends the other.
            self.wait_at(exchange, DOWN, min(size - offset, self._down.size // 2))

    def put(self, exchange: Exchange, body: bytes, offset: int) -> int:
        """What of it goes in now. Returns how many bytes."""
        if forked_off():
            _end_foreign_process()
        return self._put(exchange, body, offset) if exchange is self._current else 0

    def _put(self, exchange: Exchange, body: bytes, offset: int) -> int:
        if not self._connected:
            return 0
        if self._down.ended():
            exchange.lose(_CLIENT_GONE)
            return 0
        count = self._down.put(body, offset)
        self._call_for(self._down)
        return count

    def draw(self, exchange: Exchange, into: Any) -> int:
        """Bytes of its body out of the chute."""
        if forked_off():
            _end_foreign_process()
        return self._draw(exchange, into) if exchange is self._current else 0

    def _draw(self, exchange: Exchange, into: Any) -> int:
        if not self._connected:
            return 0
        count: int = self._up.take_into(into)
        if count:
            self._call_for(self._up)
        return count

    def body_ended(self) -> int:
        """What the router says of the end of the body in the chute."""
        return self._up.ended()

    def _call_for(self, chute: Chute) -> None:
        """The router has something to do there."""
        if chute.calls():
            self._call_router()

    def _call_router(self) -> None:
        """There is something on the page for the router, which may rest."""
        how = self._ring.must_call()
        if how == ring.BY_BELL and self._router_bell >= 0:
            ring_router(self._router_bell)
        elif how:
            self._transmit(_CALL)

    def wait_at(self, exchange: Exchange, way: int, wanted: int) -> None:
        """Until there is room for ``wanted`` bytes, or so many to read, or other news; the caller looks which. Not for
        long: what comes by the socket alone is looked at between two naps."""
        if forked_off():
            _end_foreign_process()
        place = self._down if way == DOWN else self._up
        if exchange is self._current:
            self._glance()
            if self._awaits(exchange, place):
                place.sleep(wanted, _NAP_MS)

    def _awaits(self, exchange: Exchange, place: Chute) -> bool:
        """It may come to something to wait there."""
        if not self._connected or exchange.gone:
            return False
        if place.ended() == chute.GONE:
            exchange.lose(_CLIENT_GONE)
        return not exchange.gone

    # The socket.

    def _transmit(self, record: bytes) -> None:
        self._quiet = False
        wire = self._wire
        if wire is None or wire.send(record):
            # EAGAIN: no router at the other end (SNDHWM is unlimited; bytes are bounded by credit).
            self._lose()

    def _glance(self) -> None:
        """Takes in all that has arrived, without waiting."""
        self._quiet = False
        while self._connected and (wire := self._wire) is not None:
            events = wire.events()
            if not events & _POLLOUT:
                self._lose()
            elif events & _POLLIN:
                self._receive()
            else:
                if self._current is None:
                    self._take_orders()
                return

    def _wait(self, deadline: float | None) -> None:
        """Until a message has been taken in, the link is lost, it is time to leave, or ``deadline``
        (monotonic) is over."""
        while (wire := self._wire) is not None:
            if self._quiet and self._reads and self._current is None:
                # Waked by its bell and by nothing else: the socket would have said so.
                if self._listen(deadline):
                    return
                continue
            events = wire.events()
            # The answer to BYE counts even when the router went straight after it; anything else from a dead
            # link does not.
            if events & _POLLIN and (events & _POLLOUT or self._byed):
                self._receive()
                return
            if not events & _POLLOUT:
                self._lose()
                return
            if deadline is not None and time.monotonic() >= deadline:
                return
            if not self._reads or self._current is not None:
                if self._sleep((self._socket_fd,), deadline) and self._heed():
                    return
            else:
                self._quiet = True
                if self._listen(deadline):
                    return

    def _listen(self, deadline: float | None) -> bool:
        """Waits for its bell as well. True: whoever waits is to look round."""
        requests = self._requests
        requests.rest(True)
        if self._draw_requests():
            requests.watch()
            return True
        self._pauses += 1
        ordered = self._sleep((self._bell, self._socket_fd), deadline)
        requests.watch()
        if self._ready & 1:
            gone = hear(self._bell) < 0
            if gone:
                self.deafen()
            for other in self._others:
                if other is not self:
                    if gone:
                        other.deafen()
                    other.rung()
        if self._ready != 1:
            self._quiet = False
        return self._draw_requests() | (ordered and self._heed())

    def _heed(self) -> bool:
        """Takes an order. True: whoever waits is to look round."""
        self._take_orders()
        return (bool(self._orders.leave) or self._turned) and self._current is None and not self._byed

    def _take_orders(self) -> None:
        self._orders.take()
        self._turned = self._orders.turned

    def _goes(self) -> bool:
        """Nobody waits for a router any more."""
        return bool(self._orders.leave) or self._turned

    def _sleep(self, fds: tuple[int, ...], deadline: float | None) -> bool:
        """Waits for one of ``fds`` or an order; True when it was (also) an order."""
        if self._new_poll is _POLL:
            left_ms = -1 if deadline is None else max(0, int((deadline - time.monotonic()) * 1000) + 1)
            self._ready = wait_readable((*fds, *self._orders.fds()), left_ms)
            return bool(self._ready >> len(fds))
        poll = self._new_poll()
        for fd in fds:
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        orders = self._orders.fds()
        for fd in orders:
            poll.register(fd, select.POLLIN)
        wait_ms = None if deadline is None else max(0, int((deadline - time.monotonic()) * 1000) + 1)
        ready = {fd for fd, _ in poll.poll(wait_ms)}
        self._ready = sum([1 << at for at, fd in enumerate(fds) if fd in ready])
        return not ready.isdisjoint(orders)

    def _receive(self) -> None:
        """Takes in one message. A fault ends the connection, not the worker."""
        self._quiet = False
        message = self._wire.receive() if self._wire is not None else None
        if message is None:
            return
        try:
            record = records.Cursor(message)
            while record.next():
                if record.type == records.REQUEST:
                    self._deck.append((record.flags, record.word, record.stream, record.payload()))
                elif record.type == records.DEMAND:
                    self._on_demand(record.word, record.payload())
                else:
                    self._control(record.type, record.flags, record.stream, record.payload())
                    if not self._connected:
                        return
        except (RecordError, LinkFault) as fault:
            self._fault(str(fault))

    def _find(self, stream: int) -> Exchange | None:
        """The request that runs under ``stream``."""
        current = self._current
        return current if current is not None and current.stream == stream else None

    def _announce(self, exchange: Exchange | None) -> None:
        """There is news for ``exchange``, or for all. Who runs the one request finds it itself."""

    def _control(self, type: int, flags: int, stream: int, payload: bytes) -> None:
        act = _CONTROLS.get(type)
        if act is None:
            raise LinkFault(f"a {NAMES.get(type, f'record of unknown type {type}')} where none is expected")
        act(self, flags, stream, payload)

    def _on_credit(self, flags: int, stream: int, payload: bytes) -> None:
        count = records.unpack_credit(payload)
        if stream == 0:
            self.window += count
            self._announce(None)
        elif (exchange := self._find(stream)) is not None:
            exchange.grant(count)
            self._announce(exchange)

    def _on_data(self, flags: int, stream: int, payload: bytes) -> None:
        exchange = self._find(stream)
        if exchange is not None:
            exchange.feed(payload, bool(flags & records.FIN))
            self._announce(exchange)

    def _on_by_chute(self, flags: int, stream: int, payload: bytes) -> None:
        exchange = self._find(stream)
        if exchange is not None:
            if not self._has_ring or not self._up.enter(stream):
                raise LinkFault("BY-CHUTE for a chute that was not lent")
            exchange.draw_from_chute()
            self._announce(exchange)

    def _on_trailers(self, flags: int, stream: int, payload: bytes) -> None:
        # WSGI has no use for the fields; the end of the body counts.
        self._on_data(records.FIN, stream, b"")

    def _on_cancel(self, flags: int, stream: int, payload: bytes) -> None:
        if not stream:
            # All that has not begun: of a router on another host, whose app is paused there.
            if self._far:
                self._return_deck()
            return
        self._draw_requests()  # it may be for one of them
        exchange = self._find(stream)
        if exchange is not None:
            exchange.lose(_CLIENT_GONE)
            self._announce(exchange)
        elif any(waiting[2] == stream for waiting in self._deck):
            self._cancelled.add(stream)

    def _on_ping(self, flags: int, stream: int, payload: bytes) -> None:
        self._transmit(records.pack(records.PONG, 0, records.NO_WORD, 0, payload))

    def _on_drain(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            exchange = self._find(stream)
            if exchange is not None:
                exchange.drain()
            return
        if not self._far:
            self._orders.wish("the router drains this generation")
        elif not self._orders.leave:
            self._transmit(records.pack(records.PONG, 0, records.NO_WORD, 0, b""))
            self._orders.superseded()

    def _on_bye_ack(self, flags: int, stream: int, payload: bytes) -> None:
        self._acknowledged = True

    def _on_refused(self, flags: int, stream: int, payload: bytes) -> None:
        self._refused(payload)
        self._lose()

    def _fault(self, reason: str) -> None:
        self._log(f"link fault: {reason}")
        self._lose()

    def _lose(self) -> None:
        """The connection is gone, and all that came by it; what its router held is for others to take."""
        self._connected = self._reads = self._quiet = False
        epoch = self._epoch
        freed = self._board.bereave(self._seat, epoch) if epoch else 0
        self._epoch = 0
        if freed:
            self._offer_others(_ONE_FREE)
        self._deck.clear()
        self._cancelled.clear()
        if self._current is not None:
            self._current.cut_off()
        self._close()
        if self._far:
            self._orders.lost()

    def _close(self) -> None:
        self._wire = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    # Coming.

    def _join(self) -> None:
        """Until a router has said WELCOME, or it is time to leave."""
        delay = _RETRY_FIRST_S
        most = _FAR_RETRY_MOST_S if self._far else _RETRY_MOST_S
        while not self._goes():
            if self._was_refused:
                # In answer to HELLO, or later over a fault: either way the pause is the same.
                self._was_refused = False
                self._pause(_FAR_REFUSED_RETRY_S if self._far else _REFUSED_RETRY_S)
            elif self._open() and self._greet():
                return
            else:
                self._close()
                if self._leaves:
                    self._leaves = False
                    delay = min(delay, _LEAVES_RETRY_MOST_S)
                self._pause(0 if self._was_refused else delay)
                delay = min(delay * 2, most)

    def _refused(self, payload: bytes) -> None:
        code, reason = records.unpack_refused(payload)
        if self._far and code == _LEAVES:
            self._leaves = True
            return
        if self._far:
            self._was_refused = True
            self._complain(f"the router at {self._endpoint} refuses this worker: {reason} (code {code})")
            return
        self._was_refused = True
        self._log(f"the router refuses this worker: {reason} (code {code})")
        self._orders.tell("refused", code=code, reason=reason)
        if code in _FINAL_REFUSALS:
            self._orders.wish(f"the router refused this worker: {reason} ({code})")

    def _complain(self, text: str) -> None:
        """Of a router on another host: once, since it may be so for days, and the worker serves others meanwhile."""
        if text != self._said:
            self._said = text
            self._log(text)

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._goes() and time.monotonic() < deadline:
            if self._sleep((), deadline):
                self._take_orders()

    def _open(self) -> bool:
        """A new socket under a new identity; True once a router has shaken hands. False also where there are no descriptors."""
        try:
            return self._connects()
        except SocketError as error:
            (self._complain if self._far else self._log)(f"cannot connect to {self._endpoint}: {error}")
            return False

    def _connects(self) -> bool:
        """Raises SocketError.

        While no router lives the connection sits in the backlog of the socket that the emperor holds, for as
        long as that takes: hence no HANDSHAKE_IVL. The monitor tells when there is nothing left to wait for.
        """
        socket = self._zmq.socket(zeromq.DEALER)
        self._socket = socket
        for option, value in (*_OPTIONS, *self._far_options()):
            socket.set(option, value)
        identity = bytearray(os.urandom(16))
        identity[0] = identity[0] or 1
        socket.set(zeromq.ROUTING_ID, bytes(identity))
        monitor = socket.watch(_FAILED_CONNECT, zeromq.PAIR)
        # A router of this host may be away for as long as it likes. Of another's a host that has vanished answers nothing.
        deadline = time.monotonic() + _FAR_CONNECT_S if self._far else None
        try:
            socket.connect(self._endpoint)
            while not self._goes():
                if socket.events() & _POLLOUT:
                    self._socket_fd = socket.fd()
                    self._wire = Wire(socket)
                    return True
                if monitor.events() & _POLLIN:
                    if self._far:
                        self._complain(
                            f"no router at {self._endpoint}, or one that does not know this key, or has another than is "
                            "expected; tried again (emperor keys show, on both hosts)"
                        )
                    return False
                if deadline is not None and time.monotonic() >= deadline:
                    self._complain(f"no answer at {self._endpoint}; tried again")
                    return False
                if self._sleep((socket.fd(), monitor.fd()), deadline):
                    self._take_orders()
            return False
        finally:
            socket.unwatch()
            monitor.close()

    def _far_options(self) -> tuple[tuple[int, int | bytes], ...]:
        """Who we are, whom we expect, and that libzmq is to look whether the other is still there: a host that has vanished
        does not say so."""
        remote = self._remote
        if remote is None:
            return ()
        return (
            (zeromq.CURVE_SERVERKEY, remote.server.encode()),
            (zeromq.CURVE_PUBLICKEY, remote.public.encode()),
            (zeromq.CURVE_SECRETKEY, remote.secret.encode()),
            (zeromq.HEARTBEAT_IVL, _HEARTBEAT_MS),
            (zeromq.HEARTBEAT_TIMEOUT, _SILENCE_MS),
            (zeromq.HEARTBEAT_TTL, _SILENCE_MS),
        )

    def _greet(self) -> bool:
        """Says HELLO. True: the link is up. False: refused, no answer, or none that can be read."""
        deadline = time.monotonic() + _WELCOME_TIMEOUT_S
        try:
            self._transmit(self._hello)
            while not self._goes() and (wire := self._wire) is not None:
                events = wire.events()
                if events & _POLLIN:
                    return self._answered(records.unpack(wire.receive() or b""))
                if not events & _POLLOUT or time.monotonic() >= deadline:
                    return False
                if self._sleep((self._socket_fd,), deadline):
                    self._take_orders()
        except (SocketError, RecordError, LinkFault) as error:
            self._log(f"no answer to HELLO that can be read: {error}")
        return False

    def _answered(self, answer: list[tuple[int, int, int, int, bytes]]) -> bool:
        type, _, _, _, payload = answer[0] if answer else (0, 0, 0, 0, b"")
        if type == records.REFUSED:
            self._refused(payload)
            return False
        if type != records.WELCOME or len(answer) > 1:
            raise LinkFault(f"{NAMES.get(type, type)} in answer to HELLO")
        version, deck, epoch, credit, window, nonce = records.unpack_welcome(payload)
        if version != records.VERSION:
            raise LinkFault(
                f"the router speaks version {version} of the backplane, this worker {records.VERSION}"
            )
        self.stream_credit = credit
        self.window = window
        # Never more than can come back at all, or a small window would wait for ever.
        self.fair_piece = max(1, min(_FAIR_PIECE, credit // 2, window // 2))
        if self._far:
            return self._welcomed_afar(epoch, nonce)
        self._board.reclaim(
            self._seat, self._router_seat, {exchange.word for exchange in self._left_running()}
        )
        # Its router takes its slots once more, at READY: what stands there of it is of a connection before.
        self._board.mend(self._seat, self._slots, *self._whose())
        # A router that cannot see this process has no page either.
        self._has_ring = deck > 0
        self._ring.begin()
        self._requests.begin()
        self._reads = self._has_ring and self._bell >= 0
        if self._reads:
            self._requests.watch()
        self._epoch = epoch
        self._hint = b""
        self._connected = True
        self._transmit(records.pack_ready(nonce, self._free(), self._flags))
        if not self._connected:
            return False
        if self._late_answer:
            self._transmit(self._late_answer)
            self._late_answer = b""
        self._orders.tell("ready")
        return self._connected

    def _welcomed_afar(self, epoch: int, nonce: bytes) -> bool:
        """By a router that has no page. It gets what nobody holds; more when it asks."""
        self._epoch = epoch
        self._connected = True
        count = len(self._board.take_all(self._seat, self._slots, epoch))
        remote = self._remote
        assert remote is not None
        flags = self._flags | (records.GIVES_BACK if self._gives_back else 0)
        self._transmit(records.pack_ready(nonce, count, flags, remote.weight))
        if self._said and self._connected:
            self._said = ""
            self._log(f"serves the router at {self._endpoint} now")
        return self._connected

    def _free(self) -> int:
        """Slots that are free."""
        return self._slots

    # Going.

    def _leave(self) -> None:
        """Gives back what was not begun, says BYE, and waits for the word that all before it has arrived."""
        if self._connected:
            self._glance()
        if self._connected:
            self._draw_requests()
        self._reads = False
        while self._connected and self._deck:
            _, word, stream, _ = self._deck.popleft()
            if self._claim(word, stream):
                self._return(word, stream)
        if self._connected:
            self._byed = True
            self._transmit(records.pack(records.BYE, 0, records.NO_WORD, 0, b""))
        deadline = time.monotonic() + _BYE_TIMEOUT_S
        while self._connected and not self._acknowledged and time.monotonic() < deadline:
            self._wait(deadline)
        self._lose()
        self._zmq.destroy()


def _whole(exchange: Exchange, took_us: int, head: bytes, body: bytes) -> bytes:
    return records.pack_response(records.FIN, records.NO_WORD, exchange.stream, took_us, head, body)


_OPTIONS: Final = (
    (zeromq.IMMEDIATE, 1),
    (zeromq.RECONNECT_IVL, -1),
    (zeromq.LINGER, 0),
    (zeromq.HANDSHAKE_IVL, 0),
    # Counted in messages, these would take many small chunks for a lost link; credit bounds the bytes.
    (zeromq.SNDHWM, 0),
    (zeromq.RCVHWM, 0),
)

_CONTROLS: Final[dict[int, Callable[[Link, int, int, bytes], None]]] = {
    records.DATA: Link._on_data,
    records.BY_CHUTE: Link._on_by_chute,
    records.TRAILERS: Link._on_trailers,
    records.CREDIT: Link._on_credit,
    records.CANCEL: Link._on_cancel,
    records.PING: Link._on_ping,
    records.DRAIN: Link._on_drain,
    records.BYE_ACK: Link._on_bye_ack,
    records.REFUSED: Link._on_refused,
    records.RELEASE: Link._on_release,
}


def _asks_since(link: Link) -> int:
    return link.asks_since_ns


def _end_foreign_process() -> NoReturn:
    """A child that the app forked and that came back from the app is no worker: what it would send is its
    parent's to send."""
    os._exit(0)
