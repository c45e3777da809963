"""The life of one vassal, as data: every legal change is a row of `ROWS`, and nothing else changes a state.

Pure. The supervisor feeds events in and carries the effects out; an event that has no row in a state is a
fault of ours, and the error names both. The diagram in docs/architecture/life-of-a-vassal.md is drawn from
this table by `diagram`.

Two things are kept out of the states on purpose. Generations that were replaced and finish their requests
drain beside any state: a vassal that reloads is as READY as one that does not. And whether requests may
wait for an app (`available`) follows from the state and from whether it has ever been ready, so it is no
state either.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a vassal is. NEW and GONE are the ends of the diagram, never seen from outside."""

    NEW = "NEW"
    STARTING = "STARTING"  # a generation loads the app, or waits for its turn; none serves
    READY = "READY"  # one generation serves
    RELOADING = "RELOADING"  # one serves, the next one loads the app
    ROLLING = "ROLLING"  # two serve: the next one's workers come up one by one, and the old ones leave
    PROVING = "PROVING"  # the next one serves, the one before it is kept and can take over again
    BACKOFF = "BACKOFF"  # none runs; a timer does
    GIVEN_UP = "GIVEN_UP"  # none runs, and none will before an edit or a reload
    REFUSED = "REFUSED"  # the file is wrong, or a name is taken; nothing was ever started from it
    DRAINING = "DRAINING"  # the file has gone; what runs finishes
    GONE = "GONE"


class Event(StrEnum):
    """What can happen to a vassal."""

    CHECKED = (
        "checked"  # the file was read, is right and its names are free: at first sight, edited, or asked for
    )
    WRONG = "wrong"  # the file was read and is wrong, or one of its names is taken
    UP = "up"  # all workers of the awaited generation have loaded the app
    UP_PARTLY = "up partly"  # the first worker of a generation that comes up worker by worker
    UP_UNPROVEN = (
        "up unproven"  # the same, and the one that serves is kept until the next one has proven itself
    )
    PROVEN = "proven"  # it has, or it need not any more
    FELL = "fell"  # it has not: it fails its requests, its workers die, or it died itself
    FORMER_LOST = "former lost"  # the one that was kept has died
    FAILED = "failed"  # the awaited generation could not be started, and none serves
    NEXT_FAILED = "next failed"  # the awaited generation could not be started, and one serves
    DIED = "died"  # the only gateway died, and may be started again at once
    DIED_AGAIN = "died again"  # the only gateway died, too soon after the last time
    HOPELESS = "hopeless"  # it failed for the last time that is allowed
    RETRY = "retry"  # the back-off is over
    REMOVED = "removed"  # the file is gone
    EMPTY = "empty"  # the last generation has ended
    ADOPTED = "adopted"  # an emperor before us left it serving
    ADOPTED_STARTING = "adopted starting"  # an emperor before us left it loading its app


class Effect(StrEnum):
    """What the supervisor is to do. In the order of the row."""

    START = "start"  # let a new generation start in its turn
    RESTART = "restart"  # start a new generation at once
    SWITCH = "switch"  # the awaited generation serves; the one before it drains
    ROLL = "roll"  # both serve
    OPEN = "open"  # the generation that serves gets all its workers
    PROVE = "prove"  # the awaited generation serves; the one before it is kept
    RELEASE = "release"  # the one that was kept drains
    TAKE_BACK = "take back"  # the one that was kept serves again; the other one drains
    DISCARD = "discard"  # end the awaited generation, which never served
    DRAIN = "drain"  # let every generation finish and go
    ARM = "arm"  # start the back-off timer
    DISARM = "disarm"  # stop it
    FORGIVE = "forgive"  # forget earlier failures
    FORGET = "forget"  # release its names, tell the router


Row = tuple[State, tuple[Effect, ...]]

_S, _E, _X = State, Event, Effect

ROWS: dict[tuple[State, Event], Row] = {
    (_S.NEW, _E.CHECKED): (_S.STARTING, (_X.START,)),
    (_S.NEW, _E.WRONG): (_S.REFUSED, ()),
    (_S.NEW, _E.ADOPTED): (_S.READY, (_X.SWITCH,)),
    (_S.NEW, _E.ADOPTED_STARTING): (_S.STARTING, ()),
    # All that was taken over of it was leaving already, and its file has gone meanwhile.
    (_S.NEW, _E.REMOVED): (_S.DRAINING, (_X.DRAIN,)),
    (_S.STARTING, _E.CHECKED): (_S.STARTING, (_X.DISCARD, _X.FORGIVE, _X.START)),
    # What starts was read while the file was right, and may be seconds from serving: a typo does not end it.
    (_S.STARTING, _E.WRONG): (_S.STARTING, ()),
    (_S.STARTING, _E.UP): (_S.READY, (_X.SWITCH,)),
    (_S.STARTING, _E.DIED): (_S.STARTING, (_X.RESTART,)),
    (_S.STARTING, _E.FAILED): (_S.BACKOFF, (_X.ARM,)),
    (_S.STARTING, _E.DIED_AGAIN): (_S.BACKOFF, (_X.ARM,)),
    (_S.STARTING, _E.HOPELESS): (_S.GIVEN_UP, ()),
    (_S.STARTING, _E.REMOVED): (_S.DRAINING, (_X.DISCARD, _X.DRAIN)),
    (_S.READY, _E.CHECKED): (_S.RELOADING, (_X.FORGIVE, _X.START)),
    (_S.READY, _E.WRONG): (_S.READY, ()),
    (_S.READY, _E.DIED): (_S.STARTING, (_X.RESTART,)),
    (_S.READY, _E.DIED_AGAIN): (_S.BACKOFF, (_X.ARM,)),
    (_S.READY, _E.REMOVED): (_S.DRAINING, (_X.DRAIN,)),
    (_S.RELOADING, _E.CHECKED): (_S.RELOADING, (_X.DISCARD, _X.START)),
    (_S.RELOADING, _E.WRONG): (_S.RELOADING, ()),
    (_S.RELOADING, _E.UP): (_S.READY, (_X.SWITCH,)),
    (_S.RELOADING, _E.UP_UNPROVEN): (_S.PROVING, (_X.PROVE,)),
    (_S.RELOADING, _E.NEXT_FAILED): (_S.READY, (_X.DISCARD,)),
    # The next generation is on its way already: it is the restart.
    (_S.RELOADING, _E.DIED): (_S.STARTING, ()),
    (_S.RELOADING, _E.DIED_AGAIN): (_S.STARTING, ()),
    (_S.RELOADING, _E.REMOVED): (_S.DRAINING, (_X.DISCARD, _X.DRAIN)),
    (_S.RELOADING, _E.UP_PARTLY): (_S.ROLLING, (_X.ROLL,)),
    (_S.ROLLING, _E.UP): (_S.READY, (_X.SWITCH,)),
    (_S.ROLLING, _E.NEXT_FAILED): (_S.READY, (_X.DISCARD, _X.OPEN)),
    (_S.ROLLING, _E.CHECKED): (_S.RELOADING, (_X.DISCARD, _X.OPEN, _X.START)),
    (_S.ROLLING, _E.WRONG): (_S.ROLLING, ()),
    # What has come up of the next one serves, and gets the rest of its workers.
    (_S.ROLLING, _E.DIED): (_S.READY, (_X.SWITCH, _X.OPEN)),
    (_S.ROLLING, _E.DIED_AGAIN): (_S.READY, (_X.SWITCH, _X.OPEN)),
    (_S.ROLLING, _E.REMOVED): (_S.DRAINING, (_X.DISCARD, _X.DRAIN)),
    (_S.PROVING, _E.PROVEN): (_S.READY, (_X.RELEASE,)),
    (_S.PROVING, _E.FELL): (_S.READY, (_X.TAKE_BACK,)),
    (_S.PROVING, _E.FORMER_LOST): (_S.READY, ()),
    # Whoever edits it now has seen what it does: two generations are enough.
    (_S.PROVING, _E.CHECKED): (_S.RELOADING, (_X.RELEASE, _X.FORGIVE, _X.START)),
    (_S.PROVING, _E.WRONG): (_S.PROVING, ()),
    (_S.PROVING, _E.REMOVED): (_S.DRAINING, (_X.DRAIN,)),
    (_S.BACKOFF, _E.RETRY): (_S.STARTING, (_X.START,)),
    (_S.BACKOFF, _E.CHECKED): (_S.STARTING, (_X.DISARM, _X.FORGIVE, _X.START)),
    (_S.BACKOFF, _E.WRONG): (_S.REFUSED, (_X.DISARM,)),
    (_S.BACKOFF, _E.REMOVED): (_S.DRAINING, (_X.DISARM, _X.DRAIN)),
    (_S.GIVEN_UP, _E.CHECKED): (_S.STARTING, (_X.FORGIVE, _X.START)),
    (_S.GIVEN_UP, _E.WRONG): (_S.REFUSED, ()),
    (_S.GIVEN_UP, _E.REMOVED): (_S.DRAINING, (_X.DRAIN,)),
    (_S.REFUSED, _E.CHECKED): (_S.STARTING, (_X.FORGIVE, _X.START)),
    (_S.REFUSED, _E.WRONG): (_S.REFUSED, ()),
    (_S.REFUSED, _E.REMOVED): (_S.DRAINING, (_X.DRAIN,)),
    # The file came back while the old processes were leaving: a replacement that was not atomic.
    (_S.DRAINING, _E.CHECKED): (_S.STARTING, (_X.FORGIVE, _X.START)),
    (_S.DRAINING, _E.WRONG): (_S.REFUSED, ()),
    (_S.DRAINING, _E.REMOVED): (_S.DRAINING, ()),
    (_S.DRAINING, _E.EMPTY): (_S.GONE, (_X.FORGET,)),
}

SERVING = frozenset({State.READY, State.RELOADING, State.ROLLING, State.PROVING})
"""States in which one generation answers requests."""

AWAITING = frozenset({State.STARTING, State.RELOADING, State.ROLLING})
"""States in which one generation is to come up."""

WAITABLE = frozenset({State.STARTING, State.READY, State.RELOADING, State.ROLLING, State.PROVING})
"""States in which requests may wait for an app that has been ready before."""

SETTLED = frozenset({State.READY, State.BACKOFF, State.GIVEN_UP, State.REFUSED})
"""States in which the outcome of the last start is known."""


class Unlisted(Exception):
    """An event that has no row in the state it came in: a fault of this program."""

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(
            f"a vassal that is {state} cannot meet {event!r}: no row in the table of vassal states"
        )
        self.state = state
        self.event = event


def change(state: State, event: Event) -> Row:
    """The next state and the effects, in order. Raises Unlisted naming both."""
    try:
        return ROWS[state, event]
    except KeyError:
        raise Unlisted(state, event) from None


def diagram() -> str:
    """The table as a Mermaid state diagram, without the fence."""
    lines = ["stateDiagram-v2"]
    for (state, event), (after, effects) in ROWS.items():
        source = "[*]" if state is State.NEW else state.value
        target = "[*]" if after is State.GONE else after.value
        done = f" / {', '.join(effects)}" if effects else ""
        lines.append(f"    {source} --> {target}: {event}{done}")
    return "\n".join(lines)
