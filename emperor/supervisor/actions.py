"""What the supervisor wants done: each is a value, which the emperor carries out. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from emperor.supervisor.fleet import Generation


@dataclass(frozen=True)
class Spawn:
    """Start the gateway of this generation."""

    generation: Generation


@dataclass(frozen=True)
class Tell:
    """What the router must know of this vassal may have changed."""

    name: str


@dataclass(frozen=True)
class Leave:
    """Let this generation finish what it has begun and go. `empty_queue`: first let it serve what waits,
    since no other generation will."""

    generation: Generation
    empty_queue: bool


@dataclass(frozen=True)
class End:
    """End this generation now: it serves nobody."""

    generation: Generation


@dataclass(frozen=True)
class Reread:
    """A name that this file wanted has become free: read it again and say `checked` or `wrong`."""

    file: str


@dataclass(frozen=True)
class Forget:
    """This vassal is gone: take down what was kept for it."""

    name: str


@dataclass(frozen=True)
class Settled:
    """The outcome of a vassal's start or reload is known."""

    file: str


@dataclass(frozen=True)
class Say:
    """A line for the log (no `level`: none, who saw it has said it), and with a `kind` an event: what happened to the vassal
    `name`, by whose hand."""

    level: str
    text: str
    kind: str = ""
    name: str = ""
    by: str = ""


@dataclass(frozen=True)
class Seats:
    """These seats of a generation are to have workers, and no others; who leaves has `within_s` to finish."""

    generation: Generation
    open: frozenset[int]
    within_s: float


@dataclass(frozen=True)
class Remember:
    """This generation has another reading of its file now, without a start: whoever takes over is to find that one."""

    generation: Generation


Action = Remember | Seats | Spawn | Tell | Leave | End | Reread | Forget | Settled | Say
