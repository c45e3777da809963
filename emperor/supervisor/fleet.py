"""What is known of vassals, their generations and their workers: the records that the supervisor keeps. Pure.

Others read them; only `supervisor` changes them, but for a generation's pid and its workers, which its gateway tells.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from emperor.supervisor.names import Claim
from emperor.supervisor.reading import Reading
from emperor.supervisor.restart import Backoff
from emperor.supervisor.vassal import WAITABLE, State

REASON_CHARS = 2000
LAST_EXIT_CHARS = 200
"""Of a worker's, which there may be many of."""

START_GRACE_S = 5.0
"""A gateway enforces the start-timeout itself; the emperor does so this much later, should the gateway
hang."""


class Phase(StrEnum):
    """Where one generation is."""

    QUEUED = "queued"  # waits for its turn
    SPAWNING = "spawning"  # the spawner was asked
    STARTING = "starting"  # its gateway runs and loads the app
    READY = "ready"
    LEAVING = "leaving"  # finishes, or is ended


@dataclass
class Worker:
    """One worker as its gateway tells of it; `started` is unix seconds. `restarts` counts the starts of its
    seat after the first, `recycled` those of them that replaced one that had served long enough, `last_exit` says how the
    process before it ended."""

    seat: int
    pid: int
    state: str
    started: int
    restarts: int = 0
    last_exit: str = ""
    recycled: int = 0


@dataclass
class Generation:
    """One start of a vassal from one reading of its file. `since`, `ready_at` and `left_at` (when it was told to go) are
    monotonic seconds, `started` unix seconds. `by` is whose hand has caused it, for people; `deaths` counts its workers
    that died while it served; `leave_within_s` is how long it may take to finish. `rolling`: it comes up worker by worker;
    `open` are the seats that are to have workers then, None for all."""

    file: str
    number: int
    reading: Reading
    token: str
    phase: Phase
    since: float
    started: int
    pid: int = 0
    adopted: bool = False
    was_ready: bool = False
    failure: str = ""
    by: str = ""
    ready_at: float = 0.0
    left_at: float = 0.0
    deaths: int = 0
    leave_within_s: float = 0.0
    rolling: bool = False
    open: frozenset[int] | None = None
    workers: dict[int, Worker] = field(default_factory=dict)
    troubles: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.reading.name

    @property
    def late_at(self) -> float:
        """When it is to have loaded its app, on the supervisor's clock."""
        reading = self.reading
        return self.since + reading.hooks.start_s + reading.start_timeout_s + START_GRACE_S


@dataclass
class Vassal:
    """One vassal. `wish` is the newest reading that was right, `proven` the newest from which it has been
    ready; `serving`, `awaited` and `former` (kept while the one that serves proves itself, since `proving_since` on the
    supervisor's clock, and until `proving_until`) are numbers of generations. Until `tried_until` (0: no longer) the former one
    serves, too, and the other has a part of the requests. `previous` is the one that was proven before; `pending` says what the
    file has and is not in effect. `since` is unix seconds. `by` is whose hand the wish is of."""

    file: str
    name: str
    path: str
    backoff: Backoff
    state: State = State.NEW
    since: int = 0
    wish: Reading | None = None
    by: str = ""
    rolling: bool = False
    wish_failed: bool = False
    proven: Reading | None = None
    previous: Reading | None = None
    pending: str = ""
    generations: dict[int, Generation] = field(default_factory=dict)
    serving: int | None = None
    awaited: int | None = None
    former: int | None = None
    proving_since: float = 0.0
    tried_until: float = 0.0
    proving_until: float = 0.0
    retry_at: float | None = None
    ever_ready: bool = False
    spared: bool = (
        False  # the one restart without a wait, for a gateway that was killed while it started, is used up
    )
    reason: str = ""
    problem: str = ""
    last_exit: str = ""
    restarts: int = 0
    blocked_by: frozenset[Claim] = frozenset()
    warnings: tuple[str, ...] = ()

    @property
    def current(self) -> Generation | None:
        """The generation that serves, else the one that is to."""
        number = self.serving if self.serving is not None else self.awaited
        return None if number is None else self.generations.get(number)

    @property
    def incumbent(self) -> Generation | None:
        """The generation that serves."""
        return None if self.serving is None else self.generations.get(self.serving)

    @property
    def candidate(self) -> Generation | None:
        """The generation that is to serve, and does not yet."""
        return None if self.awaited is None else self.generations.get(self.awaited)

    @property
    def tried(self) -> float:
        """How many in a hundred requests the one that proves itself gets; 0: all, or there is none."""
        tries = self.state is State.PROVING and self.tried_until and self.former is not None
        serving = self.incumbent
        return serving.reading.reloading.canary_share if tries and serving is not None else 0.0

    @property
    def available(self) -> bool:
        """Requests may wait for it."""
        return self.ever_ready and (self.state in WAITABLE or self.state is State.DRAINING)
