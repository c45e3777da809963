"""One request and its response, whatever the protocol. Pure: it holds state, body bytes and credit, and acts on nothing.

Its states are the table in ``states``.
"""

from collections import deque
from typing import Any, Final, Protocol

from emperor.protocol import records
from emperor.protocol.chute import Chute
from emperor.protocol.packet import RequestHead
from emperor.router import states
from emperor.router.spool import Body
from emperor.router.states import Event, IllegalTransition, State

BODY_HIGH: Final = 256 * 1024
"""Bytes of a request body in our memory, on their way to a worker, from which on the client is not read."""


class Client:
    """The client's side of an exchange: what an app may ask of a connection. A base class, since calls through it are
    on the path of every request."""

    def respond(self, exchange: "Exchange", head: bytes, body: bytes, fin: bool) -> None:
        """Check and send the response head and the first body bytes. Raises ResponseError."""
        raise NotImplementedError

    def more(self, exchange: "Exchange", body: bytes, fin: bool) -> None:
        """Send body bytes."""
        raise NotImplementedError

    def pour(self, exchange: "Exchange", chute: Chute, most: int, ahead: bool) -> int:
        """Send body bytes out of a chute, at most so many. Returns how many were taken from there; −1: none can be now, and
        the place's ``written`` follows when they can. ``ahead``: also into our memory, as far as that is allowed."""
        raise NotImplementedError

    def pour_all(self, exchange: "Exchange", chute: Chute) -> None:
        """The same with all that is there, whether the client takes it or not."""
        raise NotImplementedError

    def interim(self, exchange: "Exchange", head: bytes) -> None:
        """Check and send an interim response, where the client takes one. Raises ResponseError."""

    def switch(self, exchange: "Exchange", head: bytes) -> None:
        """Check and send the 101 that it has asked for. From then on its bytes and the worker's are passed on as they come,
        until one side ends. Raises ResponseError."""
        raise NotImplementedError

    def trailers(self, exchange: "Exchange", fields: bytes) -> None:
        """Trailer lines for the end of the response, which comes next. Raises ResponseError."""

    def fail(self, exchange: "Exchange", status: int, reason: str, cause: str = "") -> None:
        """Answer in the worker's place; once a head has gone out, abort the connection instead. ``cause``: what the client
        may be told (``pages.CAUSES``)."""
        raise NotImplementedError

    def begun(self, exchange: "Exchange") -> None:
        """The worker wants the body: time for 100 Continue."""
        raise NotImplementedError

    def drained(self, exchange: "Exchange") -> None:
        """Room for more of the request body."""
        raise NotImplementedError

    def carried(self, exchange: "Exchange", count: int, how: int) -> None:
        """So many bytes of its body have gone from the connection to disk, as ``Place.carry`` was asked to have it."""
        raise NotImplementedError


class Place(Protocol):
    """The app's side of an exchange: what a connection may ask."""

    name: str

    @property
    def response_buffer(self) -> int:
        """Bytes of a response that may be in our memory ahead of a client that does not keep up."""

    def submit(self, exchange: "Exchange") -> None:
        """Take a new request."""

    def body_arrived(self, exchange: "Exchange") -> None:
        """More of the request body is in the exchange."""

    def carry(self, exchange: "Exchange", source: int, owed: int) -> bool:
        """Have the rest of the body, so many bytes, read from this descriptor and written to disk by a thread. False: not this
        one. Else nobody else may read there until ``Client.carried``, which comes when it stops for whatever reason."""

    def written(self, exchange: "Exchange", count: int) -> None:
        """So many body bytes have gone into the client's socket."""

    def give_up(self, exchange: "Exchange") -> None:
        """The client no longer waits."""

    def send_away(self, exchange: "Exchange") -> None:
        """Have the worker end what has become a WebSocket."""

    def waits(self, exchange: "Exchange") -> bool:
        """The request waits behind others: no worker had a free slot for it."""

    def withdraw(self, exchange: "Exchange") -> bool:
        """End a request that has not begun. False: it has, or it cannot be known, and nothing is changed."""

    def refused(self, status: int, limit: str) -> None:
        """Count an answer that the connection gave of its own, because of this option (empty: none)."""

    def say(self, kind: str, level: str, text: str) -> None:
        """A line for the log of what may be repeated: of each kind one a second, and how many more there were."""


class Streams:
    """Stream numbers that no living exchange of this router has: its epoch in the upper half, a counter in the lower."""

    __slots__ = ("_counter", "_epoch")

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch << 32
        self._counter = 0

    def next(self) -> int:
        self._counter = (self._counter + 1) & 0xFFFFFFFF or 1
        return self._epoch | self._counter


class Exchange:
    """State and body of one request.

    ``arrived`` (its head), ``submitted`` (to its app: its body is whole, where that is waited for), ``queue_deadline`` and
    ``answer_deadline`` (0: none) are monotonic seconds; ``begun_ns``, once a response has come that is not whole, is when
    the worker began it. Body bytes go in by ``body`` as the client sends them and out by
    ``first`` (what REQUEST carries) and ``credited`` (what DATA may carry). Those in memory stand in ``chunks``, which come
    before the ``rest`` that lies on disk (``spool.Body``).
    """

    __slots__ = (
        "access",
        "answer_deadline",
        "app",
        "arrived",
        "begun_ns",
        "body_done",
        "buffered",
        "chunks",
        "credit",
        "fin_sent",
        "first_part",
        "front",
        "head",
        "interims",
        "link",
        "on_deck",
        "owed",
        "part",
        "queue_deadline",
        "request_id",
        "rest",
        "retried",
        "retry_s",
        "spooled",
        "state",
        "stream",
        "submitted",
        "ticket",
        "to_disk",
        "tunnel",
        "uncredited",
        "whole_in_hand",
        "window",
        "word",
        "worker",
    )

    def __init__(self, front: Client, head: RequestHead, arrived: float, app: Place) -> None:
        self._begin(front, head, arrived, app)

    def _begin(self, front: Client, head: RequestHead, arrived: float, app: Place) -> None:
        self.front = front
        self.head = head
        self.arrived = arrived
        self.submitted = arrived
        self.queue_deadline = 0.0
        self.answer_deadline = 0.0
        self.app = app
        self.state: int = states.QUEUED
        self.begun_ns = 0
        self.link: object | None = None
        self.worker: object | None = None  # the link that had it last, for the access log
        self.access: Any = None  # the app's access log, if it has one
        self.request_id = b""
        self.part: Any = None  # of an app that has several, each with slots of its own
        self.ticket: Any = None  # by which it counts until it has ended (`limits.Ticket`)
        self.retried = False  # it has been run twice
        self.whole_in_hand = False  # all of it went with REQUEST, and is kept to be sent once more
        self.retry_s = 0  # what a client that is turned away is told, if that is known
        self.stream = 0
        self.word = 0
        self.on_deck = False
        self.chunks: deque[bytes] | None = None
        self.buffered = 0
        self.spooled: Body | None = None
        self.to_disk = False
        self.rest = 0
        self.body_done = head.content_length == 0
        self.interims = 0  # interim responses of the worker's
        self.tunnel = False  # it has become a WebSocket, whose bytes are nobody's here
        self.first_part: bytes = b""
        self.fin_sent = False
        self.credit = 0  # bytes of DATA we may still send
        self.uncredited = 0  # records of DATA sent and not yet answered by a CREDIT, however small
        self.window = 0  # bytes of body the worker may still send
        self.owed = 0  # bytes written to the client and not yet given back as credit

    def __repr__(self) -> str:
        return f"<Exchange {self.stream:#x} {State(self.state).name} {self.head!r}>"

    def step(self, event: int) -> int:
        """Go to the next state. Raises IllegalTransition, naming both, for a pair that the table does not have."""
        following = states.NEXT[self.state][event]
        if following < 0:
            raise IllegalTransition(f"{Event(event).name} while {State(self.state).name}: {self!r}")
        self.state = following
        if following == states.ENDED and self.ticket is not None:
            self.ticket.release()
            self.ticket = None
        return following

    def unanswered(self, now: float) -> bool:
        """The time in which the app was to begin its answer is over."""
        return 0 < self.answer_deadline <= now

    # The request body

    def body(self, data: bytes) -> None:
        """Body bytes from the client."""
        if self.to_disk:
            assert self.spooled is not None
            self.spooled.add(data)
            self.rest += len(data)
            return
        if self.chunks is None:
            self.chunks = deque()
        self.chunks.append(data)
        self.buffered += len(data)

    def spill(self) -> None:
        """Give all that is in memory to the disk, and what comes after it too."""
        assert self.spooled is not None
        for piece in self.chunks or ():
            self.spooled.add(piece)
        self.rest += self.buffered
        self.chunks = None
        self.buffered = 0
        self.to_disk = True

    def fetched(self, piece: bytes) -> None:
        """Bytes that are back from the disk."""
        if self.chunks is None:
            self.chunks = deque()
        self.chunks.append(piece)
        self.buffered += len(piece)
        self.rest -= len(piece)

    def full(self) -> bool:
        """The client is not to be read on now."""
        return self._waiting_bytes() > self._most()

    def has_room(self) -> bool:
        """A client that was not read may be read again."""
        return self._waiting_bytes() < self._most() // 2

    def _most(self) -> int:
        if self.state == states.RECEIVING:
            assert self.spooled is not None
            most: int = self.spooled.most
            return most
        return BODY_HIGH

    def _waiting_bytes(self) -> int:
        # A body that is read to its end first may have more in memory than that: it waits for nobody but its client.
        if self.state == states.RECEIVING:
            assert self.spooled is not None
            return self.spooled.unwritten
        return self.buffered

    def first(self) -> bytes:
        """The body bytes that go with REQUEST, at most 64 KiB; they are kept until ``begin`` or ``take_back``."""
        if not self.chunks:
            self.first_part = b""
            self.fin_sent = self.body_done and not self.rest
            return b""
        whole = self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)
        self.chunks.clear()
        if len(whole) > records.BODY_LIMIT:
            self.chunks.append(whole[records.BODY_LIMIT :])
            whole = whole[: records.BODY_LIMIT]
        self.first_part = whole
        self.buffered -= len(whole)
        self.fin_sent = self.body_done and not self.chunks and not self.rest
        return whole

    def forget_first(self) -> None:
        """The worker has begun it, and the client has been told so: it will not be offered again."""
        self.whole_in_hand = False
        self.first_part = b""

    def retry(self, now: float) -> None:
        """It waits to be run a second time, behind those that have not been run once."""
        self.retried = True
        self.whole_in_hand = False
        self.take_back()
        self.submitted = now
        self.uncredited = 0
        self.begun_ns = 0

    def take_back(self) -> None:
        """Undo ``first``: the request was not begun and will be offered again."""
        if self.first_part:
            if self.chunks is None:
                self.chunks = deque()
            self.chunks.appendleft(self.first_part)
            self.buffered += len(self.first_part)
            self.first_part = b""
        self.fin_sent = False
        self.credit = 0

    def credited(self) -> list[tuple[bytes, bool]]:
        """What may be sent as DATA now: ``[(bytes, fin)]``, each at most 64 KiB. An empty last piece costs no credit."""
        out: list[tuple[bytes, bool]] = []
        chunks = self.chunks
        while chunks and self.credit > 0:
            piece = chunks[0]
            room = min(self.credit, records.BODY_LIMIT)
            if len(piece) > room:
                chunks[0] = piece[room:]
                piece = piece[:room]
            else:
                chunks.popleft()
            self.credit -= len(piece)
            self.buffered -= len(piece)
            last = self.body_done and not chunks and not self.rest
            self.fin_sent = last
            out.append((piece, last))
        if self.body_done and not chunks and not self.rest and not self.fin_sent:
            self.fin_sent = True
            out.append((b"", True))
        return out

    def open_tunnel(self) -> None:
        """What was a whole request has become a stream of bytes, which begins now."""
        self.tunnel = True
        self.body_done = self.fin_sent = False

    def forget_body(self) -> None:
        """Drop what is held of it: nobody will read it."""
        self.chunks = None
        self.buffered = 0
        self.first_part = b""
        self.rest = 0
        if self.spooled is not None:
            self.spooled.close()
            self.spooled = None
            self.to_disk = False


def new_exchange(front: Client, head: RequestHead, arrived: float, app: Place) -> Exchange:
    """``Exchange(…)`` for compiled callers: no tuple of arguments is made."""
    exchange = Exchange.__new__(Exchange)
    exchange._begin(front, head, arrived, app)
    return exchange
