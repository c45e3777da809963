"""One try to have a request answered by one upstream, as a table. Pure.

==========  ===================================================================================================
CONNECTING  nothing has been sent: whatever goes wrong, another upstream may have the request
SENDING     its head has gone out, its body not all
WAITING     all of it has gone out, and no byte has come back
ANSWERING   the response has begun: what is lost now is lost for the client too
TUNNEL      a WebSocket: bytes are passed on both ways until one side ends
OVER        whatever came of it
==========  ===================================================================================================
"""

from enum import IntEnum
from typing import Any, Final

from emperor.router.health import Outcome
from emperor.router.upstreams import Upstream


class Phase(IntEnum):
    __hash__ = int.__hash__  # Enum's own is a function of Python's, and each request asks for ten
    CONNECTING = 0
    SENDING = 1
    WAITING = 2
    ANSWERING = 3
    TUNNEL = 4
    OVER = 5


class Event(IntEnum):
    __hash__ = int.__hash__
    CONNECTED = 0
    SENT = 1  # the last byte of the request
    HEAD = 2  # of the response
    SWITCHED = 3  # 101
    ENDED = 4  # whole, lost, late or given up


TRANSITIONS: Final[dict[tuple[Phase, Event], Phase]] = {
    (Phase.CONNECTING, Event.CONNECTED): Phase.SENDING,
    (Phase.CONNECTING, Event.ENDED): Phase.OVER,
    (Phase.SENDING, Event.SENT): Phase.WAITING,
    # An answer before the request is whole: a refusal, most likely.
    (Phase.SENDING, Event.HEAD): Phase.ANSWERING,
    (Phase.SENDING, Event.SWITCHED): Phase.TUNNEL,
    (Phase.SENDING, Event.ENDED): Phase.OVER,
    (Phase.WAITING, Event.HEAD): Phase.ANSWERING,
    (Phase.WAITING, Event.SWITCHED): Phase.TUNNEL,
    (Phase.WAITING, Event.ENDED): Phase.OVER,
    (Phase.ANSWERING, Event.SENT): Phase.ANSWERING,
    (Phase.ANSWERING, Event.ENDED): Phase.OVER,
    (Phase.TUNNEL, Event.SENT): Phase.TUNNEL,
    (Phase.TUNNEL, Event.ENDED): Phase.OVER,
}

DEADLINES: Final[dict[Phase, str]] = {
    Phase.CONNECTING: "upstream-connect-timeout",
    Phase.SENDING: "upstream-idle-timeout",  # while it takes nothing of what there is
    Phase.WAITING: "upstream-first-byte-timeout",
    Phase.ANSWERING: "upstream-idle-timeout",  # while it is read
    Phase.TUNNEL: "upstream-tunnel-timeout",
}
"""The option that limits each; `upstream-total-timeout` limits all but a TUNNEL."""

UNSENT: Final = frozenset({Phase.CONNECTING})
NO_BYTE: Final = frozenset({Phase.SENDING, Phase.WAITING})


class Attempt:
    """``link`` is the connection, once there is one; ``due`` is when it is late (0: not); ``reused``: the connection had served
    before; ``tried`` are the upstreams that could not be reached before this one, ``times`` how often the request was sent
    before."""

    __slots__ = (
        "due",
        "exchange",
        "link",
        "outcome",
        "phase",
        "reused",
        "task",
        "times",
        "tried",
        "upstream",
        "whole",
    )

    def __init__(self, exchange: Any, upstream: Upstream, tried: frozenset[Upstream], times: int) -> None:
        self.exchange = exchange
        self.upstream = upstream
        self.tried = tried
        self.times = times
        self.phase = Phase.CONNECTING
        self.link: Any = None
        self.task: Any = None
        self.due = 0.0
        self.outcome = Outcome.ANSWERED  # what the head of the response means, until it is whole
        self.reused = False
        self.whole = False  # the request is in hand still, and can be sent again

    def __repr__(self) -> str:
        return f"<Attempt {self.phase.name} at {self.upstream.address}>"

    def step(self, event: Event) -> Phase:
        """Raises AssertionError, naming both, for a pair that the table does not have."""
        following = TRANSITIONS.get((self.phase, event))
        if following is None:
            raise AssertionError(f"{event.name} while {self!r}")
        self.phase = following
        return following
