"""The life of a request as a table. Pure.

The states, and every legal change of them, are below; docs/architecture/life-of-a-request.md draws it.

==========  ===========================================================================================
RECEIVING   its body is still coming in, and no worker is asked before it is whole
QUEUED      waits in its app's queue
OFFERED     sent to a worker; whether the worker has begun is known only to the page
BEGUN       the worker said so (its first CREDIT)
ANSWERING   the response head has come
ABANDONED   nobody waits for the answer any more; the worker's slot is busy until it ends
ENDED       over
==========  ===========================================================================================
"""

from enum import IntEnum
from typing import Final


class State(IntEnum):
    QUEUED = 0
    OFFERED = 1
    BEGUN = 2
    ANSWERING = 3
    ABANDONED = 4
    ENDED = 5
    RECEIVING = 6


class Event(IntEnum):
    OFFER = 0  # sent to a worker
    REVOKE = 1  # taken back before it had begun
    BEGIN = 2  # the worker's CREDIT
    HEAD = 3  # the response head
    FINISH = 4  # the worker's end of it: FIN or ABORT
    GIVE_UP = 5  # the client has gone, or we have answered in the worker's place
    LOST = 6  # the worker or its link is gone
    RECEIVE = 7  # admitted before its body is whole
    WHOLE = 8  # its body is
    RETRY = 9  # the worker that had begun it is lost, and it may be run again


# A member of an enumeration costs a look-up in its metaclass each time it is named; these are named several times per request,
# and are C integers in what is compiled (states.pxd).
QUEUED: Final = State.QUEUED
OFFERED: Final = State.OFFERED
BEGUN: Final = State.BEGUN
ANSWERING: Final = State.ANSWERING
ABANDONED: Final = State.ABANDONED
ENDED: Final = State.ENDED
RECEIVING: Final = State.RECEIVING
OFFER: Final = Event.OFFER
REVOKE: Final = Event.REVOKE
BEGIN: Final = Event.BEGIN
HEAD: Final = Event.HEAD
FINISH: Final = Event.FINISH
GIVE_UP: Final = Event.GIVE_UP
LOST: Final = Event.LOST
RECEIVE: Final = Event.RECEIVE
WHOLE: Final = Event.WHOLE
RETRY: Final = Event.RETRY


TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    (State.QUEUED, Event.RECEIVE): State.RECEIVING,
    (State.RECEIVING, Event.WHOLE): State.QUEUED,
    (State.RECEIVING, Event.GIVE_UP): State.ENDED,
    (State.QUEUED, Event.OFFER): State.OFFERED,
    (State.QUEUED, Event.GIVE_UP): State.ENDED,
    (State.OFFERED, Event.REVOKE): State.QUEUED,
    (State.OFFERED, Event.BEGIN): State.BEGUN,
    (State.OFFERED, Event.HEAD): State.ANSWERING,
    (State.OFFERED, Event.FINISH): State.ENDED,
    (State.OFFERED, Event.GIVE_UP): State.ABANDONED,
    (State.OFFERED, Event.LOST): State.ENDED,
    (State.OFFERED, Event.RETRY): State.QUEUED,
    (State.BEGUN, Event.BEGIN): State.BEGUN,
    (State.BEGUN, Event.HEAD): State.ANSWERING,
    (State.BEGUN, Event.FINISH): State.ENDED,
    (State.BEGUN, Event.GIVE_UP): State.ABANDONED,
    (State.BEGUN, Event.LOST): State.ENDED,
    (State.BEGUN, Event.RETRY): State.QUEUED,
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

# The same as nested tuples: two index operations on the hot path. −1: not in the table.
NEXT: Final = tuple(tuple(int(TRANSITIONS.get((state, event), -1)) for event in Event) for state in State)


class IllegalTransition(Exception):
    """An event that must not happen in this state: a bug of ours, or a worker that breaks the protocol."""
