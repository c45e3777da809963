"""One request and its response, whatever the protocol. Pure: it holds state, body bytes and credit, and acts on nothing.

The states, and every legal change of them, are the table below; docs/architecture/life-of-a-request.md draws it.

==========  ===========================================================================================
QUEUED      waits in its app's queue
OFFERED     sent to a worker; whether the worker has begun is known only to the page
BEGUN       the worker said so (its first CREDIT)
ANSWERING   the response head has come
ABANDONED   nobody waits for the answer any more; the worker's slot is busy until it ends
ENDED       over
==========  ===========================================================================================
"""

from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING, Final, Protocol

from emperor.protocol.records import BODY_LIMIT

if TYPE_CHECKING:
    from emperor.protocol.packet import RequestHead


class State(IntEnum):
    QUEUED = 0
    OFFERED = 1
    BEGUN = 2
    ANSWERING = 3
    ABANDONED = 4
    ENDED = 5


class Event(IntEnum):
    OFFER = 0  # sent to a worker
    REVOKE = 1  # taken back before it had begun
    BEGIN = 2  # the worker's CREDIT
    HEAD = 3  # the response head
    FINISH = 4  # the worker's end of it: FIN or ABORT
    GIVE_UP = 5  # the client has gone, or we have answered in the worker's place
    LOST = 6  # the worker or its link is gone


# A member of an enumeration costs a look-up in its metaclass each time it is named; these are named several times per request.
QUEUED: Final = State.QUEUED
OFFERED: Final = State.OFFERED
BEGUN: Final = State.BEGUN
ANSWERING: Final = State.ANSWERING
ABANDONED: Final = State.ABANDONED
ENDED: Final = State.ENDED
OFFER: Final = Event.OFFER
REVOKE: Final = Event.REVOKE
BEGIN: Final = Event.BEGIN
HEAD: Final = Event.HEAD
FINISH: Final = Event.FINISH
GIVE_UP: Final = Event.GIVE_UP
LOST: Final = Event.LOST


TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    (State.QUEUED, Event.OFFER): State.OFFERED,
    (State.QUEUED, Event.GIVE_UP): State.ENDED,
    (State.OFFERED, Event.REVOKE): State.QUEUED,
    (State.OFFERED, Event.BEGIN): State.BEGUN,
    (State.OFFERED, Event.HEAD): State.ANSWERING,
    (State.OFFERED, Event.FINISH): State.ENDED,
    (State.OFFERED, Event.GIVE_UP): State.ABANDONED,
    (State.OFFERED, Event.LOST): State.ENDED,
    (State.BEGUN, Event.BEGIN): State.BEGUN,
    (State.BEGUN, Event.HEAD): State.ANSWERING,
    (State.BEGUN, Event.FINISH): State.ENDED,
    (State.BEGUN, Event.GIVE_UP): State.ABANDONED,
    (State.BEGUN, Event.LOST): State.ENDED,
    (State.ANSWERING, Event.BEGIN): State.ANSWERING,
    (State.ANSWERING, Event.FINISH): State.ENDED,
    (State.ANSWERING, Event.GIVE_UP): State.ABANDONED,
    (State.ANSWERING, Event.LOST): State.ENDED,
    (State.ABANDONED, Event.BEGIN): State.ABANDONED,
    (State.ABANDONED, Event.HEAD): State.ABANDONED,
    (State.ABANDONED, Event.REVOKE): State.ENDED,
    (State.ABANDONED, Event.FINISH): State.ENDED,
    (State.ABANDONED, Event.LOST): State.ENDED,
}

# The same as nested tuples: two index operations on the hot path.
_NEXT: Final = tuple(tuple(TRANSITIONS.get((state, event)) for event in Event) for state in State)


class IllegalTransition(Exception):
    """An event that must not happen in this state: a bug of ours, or a worker that breaks the protocol."""


class Front(Protocol):
    """The client's side of an exchange: what an app may ask of a connection."""

    def respond(self, exchange: "Exchange", head: bytes, body: bytes, fin: bool) -> None:
        """Check and send the response head and the first body bytes. Raises ResponseError."""

    def more(self, exchange: "Exchange", body: bytes, fin: bool) -> None:
        """Send body bytes."""

    def fail(self, exchange: "Exchange", status: int, reason: str) -> None:
        """Answer in the worker's place; once a head has gone out, abort the connection instead."""

    def begun(self, exchange: "Exchange") -> None:
        """The worker wants the body: time for 100 Continue."""

    def drained(self, exchange: "Exchange") -> None:
        """Room for more of the request body."""


class Place(Protocol):
    """The app's side of an exchange: what a connection may ask."""

    name: str

    def submit(self, exchange: "Exchange") -> None:
        """Take a new request."""

    def body_arrived(self, exchange: "Exchange") -> None:
        """More of the request body is in the exchange."""

    def written(self, exchange: "Exchange", count: int) -> None:
        """So many body bytes have gone into the client's socket."""

    def give_up(self, exchange: "Exchange") -> None:
        """The client no longer waits."""

    def drop_if_waiting(self, exchange: "Exchange") -> bool:
        """Give up only if the request waits behind others; True when it did."""


class Exchange:
    """State and body of one request.

    ``arrived`` and ``queue_deadline`` are monotonic seconds. Body bytes go in by ``body`` as the client sends them and out by
    ``first`` (what REQUEST carries) and ``credited`` (what DATA may carry).
    """

    __slots__ = (
        "app",
        "arrived",
        "body_done",
        "buffered",
        "chunks",
        "credit",
        "fin_sent",
        "first_part",
        "flags",
        "front",
        "head",
        "link",
        "on_deck",
        "owed",
        "queue_deadline",
        "state",
        "stream",
        "touched",
        "uncredited",
        "window",
        "word",
    )

    def __init__(self, front: Front, head: "RequestHead", arrived: float, app: Place) -> None:
        self.front = front
        self.head = head
        self.arrived = arrived
        self.touched = arrived
        self.queue_deadline = 0.0
        self.app = app
        self.state = QUEUED
        self.link: object | None = None
        self.stream = 0
        self.word = 0
        self.flags = 0
        self.on_deck = False
        self.chunks: deque[bytes] | None = None
        self.buffered = 0
        self.body_done = head.content_length == 0
        self.first_part: bytes = b""
        self.fin_sent = False
        self.credit = 0  # bytes of DATA we may still send
        self.uncredited = 0  # records of DATA sent and not yet answered by a CREDIT, however small
        self.window = 0  # bytes of body the worker may still send
        self.owed = 0  # bytes written to the client and not yet given back as credit

    def __repr__(self) -> str:
        return f"<Exchange {self.stream:#x} {self.state.name} {self.head!r}>"

    def step(self, event: Event) -> State:
        """Go to the next state. Raises IllegalTransition, naming both, for a pair that the table does not have."""
        following = _NEXT[self.state][event]
        if following is None:
            raise IllegalTransition(f"{event.name} while {self.state.name}: {self!r}")
        self.state = following
        return following

    # The request body

    def body(self, data: bytes) -> None:
        """Body bytes from the client."""
        if self.chunks is None:
            self.chunks = deque()
        self.chunks.append(data)
        self.buffered += len(data)

    def first(self) -> bytes:
        """The body bytes that go with REQUEST, at most 64 KiB; they are kept until ``begin`` or ``take_back``."""
        if not self.chunks:
            self.first_part = b""
            self.fin_sent = self.body_done
            return b""
        whole = self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)
        self.chunks.clear()
        if len(whole) > BODY_LIMIT:
            self.chunks.append(whole[BODY_LIMIT:])
            whole = whole[:BODY_LIMIT]
        self.first_part = whole
        self.buffered -= len(whole)
        self.fin_sent = self.body_done and not self.chunks
        return whole

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
            room = min(self.credit, BODY_LIMIT)
            if len(piece) > room:
                chunks[0] = piece[room:]
                piece = piece[:room]
            else:
                chunks.popleft()
            self.credit -= len(piece)
            self.buffered -= len(piece)
            last = self.body_done and not chunks
            self.fin_sent = last
            out.append((piece, last))
        if self.body_done and not chunks and not self.fin_sent:
            self.fin_sent = True
            out.append((b"", True))
        return out

    def forget_body(self) -> None:
        """Drop what is buffered: nobody will read it."""
        self.chunks = None
        self.buffered = 0
        self.first_part = b""
