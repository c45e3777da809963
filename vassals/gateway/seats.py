"""What a gateway decides about its workers: which to start, to tell, to kill, and what it is itself.

Pure: no clock, no process, no socket. The shell (`main.py`) says what happened, one `step` at a time, and
carries out the effects that it gets back, in order. Three tables hold every legal change; a pair that is
not in them is a `LookupError` that names both, so that a case nobody thought of is seen and not guessed at.

A **seat** is one place for a worker, and outlives each worker that sits in it.

empty ──start──▶ loading ──loaded──▶ loaded ──ready──▶ ready        (any) ──ended──▶ empty ──wait──▶ waiting
──start──▶ loading └─failed, late─▶ ending    ◀──refused──┘        (any) ──drain, kill──▶ leaving ──ended──▶
gone

A seat that is **closed** has no worker, and is opened and closed by the emperor: so a reload worker by worker keeps one more
worker than there are seats, and no more.

There is one seat more than the app has workers, the **spare** one. When a worker is to be replaced (`replace`), the next
one starts there; once it serves, the old one is told to leave (`retire`), and its seat is the spare one from then on. So
a seat is never two processes, no more than one worker is being replaced, and nobody is missing meanwhile:

spare ──start──▶ loading ──▶ … ready        the old one:  ready ──retire──▶ retiring ──ended──▶ empty ──spare──▶ spare

If the new one does not come up, its seat is spare again and the old one serves on. If the old one dies before, the new
one simply has its place. While seats are closed nobody is replaced.

The **gateway** is `starting` until the app is loaded in every open seat, then `ready` until it is told to drain; between
the two it is `loaded` where commands are to be run first.
While it is starting, a seat that fails makes it `failed`: the emperor keeps the generation before, and
shows the reason. Afterwards a seat that fails is only that seat's affair, and is started again with a
backoff of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

from emperor.supervisor.restart import Backoff

EXIT_LEFT = 0
EXIT_APP_FAILED = 70
"""Exit codes of a worker, and of a gateway. 70 is EX_SOFTWARE of sysexits.h."""

LAST_EXIT_CHARS = 200
"""What is kept of how a worker ended: it is told again with every report, long after the log has said it in
full."""

# (state of the seat, what happened to its worker) → (next state, effects). Effects in capitals are news for
# the gateway's table.
SEAT_STEPS: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {
    ("empty", "start"): ("loading", ("fork",)),
    ("empty", "wait"): ("waiting", ("start-later",)),
    ("empty", "drain"): ("gone", ("GONE",)),
    ("empty", "kill"): ("gone", ("GONE",)),
    ("empty", "spare"): ("spare", ("report",)),
    ("spare", "start"): ("loading", ("fork",)),
    ("spare", "drain"): ("gone", ("GONE",)),
    ("spare", "kill"): ("gone", ("GONE",)),
    ("waiting", "start"): ("loading", ("fork",)),
    ("waiting", "drain"): ("gone", ("forget-start", "GONE")),
    ("waiting", "kill"): ("gone", ("forget-start", "GONE")),
    ("loading", "loaded"): ("loaded", ("report", "LOADED")),
    ("loading", "waiting"): ("loading", ()),  # the app is loaded, and says itself that it is not ready
    ("loading", "failed"): ("ending", ("FAILED",)),
    ("loading", "late"): ("ending", ("kill", "FAILED")),
    ("loading", "ended"): ("empty", ("report", "LOST")),
    # A worker that imports an app reads no leash and has begun no request.
    ("loading", "drain"): ("leaving", ("kill",)),
    ("loading", "kill"): ("leaving", ("kill",)),
    ("loaded", "ready"): ("ready", ("report", "SERVES")),
    ("loaded", "refused"): ("loaded", ("report",)),
    ("loaded", "ended"): ("empty", ("report", "LOST")),
    ("loaded", "drain"): ("leaving", ("tell-drain",)),
    ("loaded", "kill"): ("leaving", ("kill",)),
    ("loaded", "retire"): ("retiring", ("report", "tell-drain")),
    ("ready", "ready"): ("ready", ()),  # it has joined a router again
    # A router will not have it: it tries again, or leaves where that cannot help.
    ("ready", "refused"): ("loaded", ("report",)),
    ("ready", "ended"): ("empty", ("report", "LOST")),
    ("ready", "drain"): ("leaving", ("tell-drain",)),
    ("ready", "kill"): ("leaving", ("kill",)),
    ("ready", "retire"): ("retiring", ("report", "tell-drain")),
    # It takes what the machine needs: not even what it has begun is worth another second.
    ("ready", "evil"): ("ending", ("kill",)),
    ("loaded", "evil"): ("ending", ("kill",)),
    # Another has its place and serves: it finishes what it has begun.
    ("retiring", "loaded"): ("retiring", ()),
    ("retiring", "ready"): ("retiring", ()),
    ("retiring", "refused"): ("retiring", ()),
    ("retiring", "evil"): ("retiring", ("kill",)),
    ("retiring", "late"): ("retiring", ("kill",)),
    ("retiring", "drain"): ("leaving", ()),
    ("retiring", "kill"): ("leaving", ("kill",)),
    ("retiring", "ended"): ("empty", ("RETIRED",)),
    # It has said why, and is on its way out by itself.
    ("ending", "late"): ("ending", ("kill",)),
    ("ending", "failed"): ("ending", ()),
    ("ending", "loaded"): ("ending", ()),  # crossed with our SIGKILL
    ("ending", "waiting"): ("ending", ()),
    ("ending", "ready"): ("ending", ()),
    ("ending", "refused"): ("ending", ()),
    ("ending", "retire"): ("retiring", ()),
    ("ending", "ended"): ("empty", ("report", "LOST")),
    ("ending", "drain"): ("leaving", ("kill",)),
    ("ending", "kill"): ("leaving", ("kill",)),
    ("leaving", "loaded"): ("leaving", ()),
    ("leaving", "waiting"): ("leaving", ()),
    ("leaving", "ready"): ("leaving", ()),
    ("leaving", "refused"): ("leaving", ()),
    ("leaving", "failed"): ("leaving", ()),
    ("leaving", "late"): ("leaving", ("kill",)),
    ("leaving", "drain"): ("leaving", ()),
    ("leaving", "kill"): ("leaving", ("kill",)),
    ("leaving", "ended"): ("gone", ("report", "GONE")),
    ("gone", "drain"): ("gone", ()),
    ("gone", "kill"): ("gone", ()),
    ("closed", "open"): ("empty", ()),  # a start follows
    ("closed", "spare"): ("spare", ("report",)),
    ("closed", "drain"): ("gone", ("GONE",)),
    ("closed", "kill"): ("gone", ("GONE",)),
    ("empty", "close"): ("closed", ("report",)),
    ("waiting", "close"): ("closed", ("forget-start", "report")),
    ("loading", "close"): ("closing", ("kill",)),
    ("loaded", "close"): ("closing", ("report", "tell-drain")),
    ("ready", "close"): ("closing", ("report", "tell-drain")),
    ("ending", "close"): ("closing", ()),
    ("closing", "waiting"): ("closing", ()),
    ("closing", "loaded"): ("closing", ()),
    ("closing", "ready"): ("closing", ()),
    ("closing", "refused"): ("closing", ()),
    ("closing", "failed"): ("closing", ()),
    ("closing", "late"): ("closing", ("kill",)),
    ("closing", "ended"): ("closed", ("report",)),
    ("closing", "drain"): ("leaving", ("tell-drain",)),
    ("closing", "kill"): ("leaving", ("kill",)),
}

# (state of the gateway, news) → (next state, effects). Effects in capitals go to seats: that one, or every
# one.
GATEWAY_STEPS: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {
    ("starting", "ALL-LOADED"): ("ready", ("report-state",)),
    # Something is to be run before it takes requests.
    ("starting", "ALL-LOADED-FIRST"): ("loaded", ("after-app",)),
    ("loaded", "ALL-LOADED-FIRST"): ("loaded", ()),
    ("loaded", "GO"): ("ready", ("report-state",)),
    ("loaded", "STAY"): ("failed", ("report-state", "KILL-ALL")),
    ("loaded", "FAILED"): ("loaded", ()),
    ("loaded", "LOST"): ("loaded", ("WAIT",)),
    ("loaded", "drain"): ("draining", ("report-state", "DRAIN-ALL")),
    ("starting", "FAILED"): ("failed", ("report-state", "KILL-ALL")),
    ("starting", "CRASHED"): ("starting", ("WAIT",)),
    ("starting", "drain"): ("draining", ("report-state", "DRAIN-ALL")),
    ("ready", "ALL-LOADED"): ("ready", ()),
    ("ready", "FAILED"): ("ready", ()),  # its end follows, and starts it again
    ("ready", "LOST"): ("ready", ("WAIT",)),
    ("ready", "SERVES"): ("ready", ("RETIRE",)),  # in the place of another, which may go now
    ("ready", "NOT-REPLACED"): ("ready", ("SPARE", "replace-later")),  # the one that was to go serves on
    ("ready", "REPLACED"): ("ready", ("SPARE",)),
    ("ready", "drain"): ("draining", ("report-state", "DRAIN-ALL")),
    ("draining", "drain"): ("draining", ()),
    ("draining", "kill"): ("draining", ("KILL-ALL",)),
    ("draining", "ALL-GONE"): ("gone", ("leave",)),
    ("failed", "FAILED"): ("failed", ()),
    ("failed", "drain"): ("failed", ()),
    ("failed", "kill"): ("failed", ("KILL-ALL",)),
    ("failed", "ALL-GONE"): ("failed", ("leave",)),
    ("gone", "drain"): ("gone", ()),
    ("gone", "kill"): ("gone", ()),
}

# What a seat is for the emperor, which need not know how a gateway goes about it.
REPORTED: dict[str, str] = {
    "empty": "dead",
    "waiting": "dead",
    "loading": "starting",
    "loaded": "starting",
    "ready": "ready",
    "retiring": "draining",
    "spare": "spare",
    "ending": "starting",
    "leaving": "draining",
    "gone": "dead",
    "closing": "draining",
    "closed": "closed",
}


class Effect(NamedTuple):
    """Something for the shell to do.

    `fork`: start a worker in `seat`. `start-later`: call `step("start", seat)` in `delay_s`.
    `forget-start`: do not. `tell-drain`, `kill`: the seat's worker. `report`: tell the emperor of the seat.
    `report-state`: tell it of the gateway. `replace-later`: the worker in `seat`, which was to take another's place,
    has not come up; try again in `delay_s`. `after-app`: run what is to be run, and call `go` or `stay`. `leave`: exit
    with `code`.
    """

    kind: str
    seat: int = -1
    delay_s: float = 0.0
    code: int = 0


class Seat:
    """One seat: `state` is a row of SEAT_STEPS, `reason` why its last worker failed, was refused or ended
    ("" for none, and once a worker has loaded the app or joined a router).

    `starts` counts them. `last_exit` says how the last worker to end ended, or why none could be started;
    unlike `reason` it stays when the next one has come up. `recycled` counts those that were replaced because they had
    served long enough. `replaces` is the seat whose place the worker here is to take, or −1. All three counts and texts
    go with the place: from the seat of the old worker to that of the new. `open`: a worker is wanted here, and not only
    in the place of another.
    """

    __slots__ = (
        "backoff",
        "crashed_early",
        "last_exit",
        "number",
        "open",
        "reason",
        "recycled",
        "replaces",
        "spared",
        "starts",
        "state",
        "why",
    )

    def __init__(self, number: int, backoff: Backoff, state: str = "empty") -> None:
        self.number = number
        self.state = state
        self.open = state == "empty"
        self.replaces = -1
        self.recycled = 0
        self.why = ""  # it is to be replaced
        self.reason = ""
        self.last_exit = ""
        self.starts = 0
        self.backoff = backoff
        self.crashed_early = False
        self.spared = False  # the next end of its worker is our doing: another is started at once

    @property
    def restarts(self) -> int:
        """The starts after the first."""
        return max(0, self.starts - 1)


class Seats:
    """All seats of a gateway, and the gateway's own state: starting, ready, failed, draining or gone;
    `reason` says why it failed."""

    def __init__(
        self,
        count: int,
        backoff: Callable[[], Backoff],
        spares: int = 0,
        at_first: int = 0,
        *,
        after_app: bool = False,
    ) -> None:
        """`at_first`: only so many seats are open; 0: all are. `after_app`: something is to be run once all are loaded."""
        self._all_loaded = "ALL-LOADED-FIRST" if after_app else "ALL-LOADED"
        self.state = "starting"
        self.reason = ""
        self._count = count
        self.seats = [
            Seat(number, backoff(), "empty" if number < (at_first or count) else "closed")
            for number in range(count)
        ]
        self.seats += [Seat(count + number, backoff(), "spare") for number in range(spares)]

    def start(self) -> list[Effect]:
        """The first step: a worker for every open seat."""
        return [effect for seat in self.seats if seat.open for effect in self.step("start", seat.number)]

    def set_open(self, numbers: Collection[int]) -> list[Effect]:
        """So many seats are to have workers, these first of all; while the gateway serves, or starts."""
        effects: list[Effect] = []
        if self.state not in ("starting", "loaded", "ready"):
            return effects
        opened = [seat for seat in self.seats if seat.open]
        heirs = {seat.replaces: seat for seat in self.seats if seat.replaces >= 0}
        # Whoever is not named goes first, and who is being replaced last.
        opened.sort(key=lambda seat: (seat.number in numbers, seat.number in heirs))
        for seat in opened[: max(0, len(opened) - len(numbers))]:
            seat.open = False
            for each in (seat, heirs.get(seat.number)):
                if each is not None:
                    each.replaces = -1
                    if each.state != "closing":
                        self._step_seat(each, "close", effects)
        free = [seat for seat in self.seats if not seat.open and seat.state in ("closed", "closing")]
        free.sort(key=lambda seat: seat.number not in numbers)
        for seat in free[: max(0, len(numbers) - len(opened))]:
            seat.open = True
        for seat in self.seats:
            self._settle(seat, effects)
        return effects

    def _settle(self, seat: Seat, effects: list[Effect]) -> None:
        """A closed seat that is wanted is opened; one that is left over, when nobody is missing, is spare."""
        if seat.state != "closed":
            return
        if seat.open:
            self._step_seat(seat, "open", effects)
            self._step_seat(seat, "start", effects)
        elif self._all_open():
            self._step_seat(seat, "spare", effects)

    def _all_open(self) -> bool:
        return sum(seat.open for seat in self.seats) >= self._count

    def can_replace(self) -> bool:
        """Whether `replace` may be called: the spare seat is nobody's, and no seat is closed."""
        return (
            self.state == "ready" and self._all_open() and any(seat.state == "spare" for seat in self.seats)
        )

    def replace(self, number: int, reason: str) -> list[Effect]:
        """Start a worker that takes the place of seat `number`'s, which leaves when that one serves. Only if
        `can_replace`, for a seat that is ready."""
        old = self.seats[number]
        new = next(seat for seat in self.seats if seat.state == "spare")
        old.why = reason
        new.replaces = number
        new.starts, new.recycled, new.last_exit = old.starts, old.recycled, ""
        return self.step("start", new.number)

    def evil(self, number: int, reason: str) -> list[Effect]:
        """Kill the worker of seat `number`, which is ready or retiring; the next one is started as after any death."""
        self.seats[number].recycled += self.seats[number].state == "ready"
        return self.step("evil", number, reason)

    def step(self, event: str, number: int, reason: str = "", by_signal: bool = False) -> list[Effect]:
        """Something happened to the worker of seat `number`: start, waiting, loaded, ready, refused, failed, late, ended.

        `reason` goes with waiting, refused, failed, late and ended; `by_signal` with ended. Raises LookupError for an event
        that the seat's state does not allow.
        """
        seat = self.seats[number]
        effects: list[Effect] = []
        if event in ("loaded", "ready"):
            seat.reason = ""
        if event == "loaded":
            seat.backoff.ready()
        # What the worker itself said is worth more than how it then ended.
        elif reason and not (event == "ended" and seat.state == "ending"):
            seat.reason = reason
        if event == "ended" and reason:
            seat.last_exit = seat.reason[:LAST_EXIT_CHARS]
        self._step_seat(seat, event, effects, by_signal)
        self._settle(seat, effects)
        return effects

    def spare(self, number: int) -> None:
        """The worker of this seat ends because we end it (harakiri): that is no crash loop, no reason to wait, and no
        recycling."""
        self.seats[number].spared = True

    def drain(self) -> list[Effect]:
        """Start no worker again and let those that serve finish."""
        effects: list[Effect] = []
        self._step_gateway("drain", None, effects)
        return effects

    def kill(self) -> list[Effect]:
        """The time to drain is up. Only after `drain` or a failure."""
        effects: list[Effect] = []
        self._step_gateway("kill", None, effects)
        return effects

    def fail(self, reason: str) -> list[Effect]:
        """The gateway itself cannot start (LookupError once it has)."""
        effects: list[Effect] = []
        self.reason = reason
        self._step_gateway("FAILED", None, effects)
        return effects

    def go(self) -> list[Effect]:
        """All that was to be run once the app is loaded has been run."""
        effects: list[Effect] = []
        self._step_gateway("GO", None, effects)
        return effects

    def stay(self, reason: str) -> list[Effect]:
        """It has failed: the generation does not serve."""
        effects: list[Effect] = []
        self.reason = reason
        self._step_gateway("STAY", None, effects)
        return effects

    # -- inside ------------------------------------------------------------------------------------------

    def _step_seat(self, seat: Seat, event: str, effects: list[Effect], by_signal: bool = False) -> None:
        try:
            seat.state, todo = SEAT_STEPS[seat.state, event]
        except KeyError:
            raise LookupError(f"seat {seat.number} is {seat.state!r}: {event!r} has no row there") from None
        if event == "start":
            seat.starts += 1
            seat.spared = False
        for effect in todo:
            match effect:
                case "LOADED":
                    if all(other.state in ("loaded", "ready") for other in self.seats if other.open):
                        first = self.state in ("starting", "loaded")
                        self._step_gateway(self._all_loaded if first else "ALL-LOADED", seat, effects)
                case "SERVES":
                    if seat.replaces >= 0:
                        self._step_gateway("SERVES", seat, effects)
                case "RETIRED":
                    self._step_gateway("REPLACED", seat, effects)
                case "FAILED":
                    self._step_gateway("FAILED", seat, effects)
                case "LOST":
                    self._step_gateway(self._loss(seat, by_signal), seat, effects)
                case "GONE":
                    if all(other.state == "gone" for other in self.seats):
                        self._step_gateway("ALL-GONE", seat, effects)
                case "start-later":
                    delay_s = 0.0 if seat.spared else seat.backoff.died()
                    seat.spared = False
                    effects.append(Effect("start-later", seat.number, delay_s=delay_s))
                case _:
                    effects.append(Effect(effect, seat.number))

    def _loss(self, seat: Seat, by_signal: bool) -> str:
        if seat.replaces >= 0:
            seat.replaces = -1
            return "NOT-REPLACED"
        for heir in self.seats:
            if heir.replaces == seat.number:
                self._inherit(heir, seat, seat.last_exit)
                return "REPLACED"
        if self.state != "starting":
            return "LOST"
        # A signal is not the app saying that it cannot start (an operator, the out-of-memory killer): once
        # more, then it is.
        if by_signal and not seat.crashed_early:
            seat.crashed_early = True
            return "CRASHED"
        return "FAILED"

    def _inherit(self, heir: Seat, seat: Seat, how: str) -> None:
        """The place of `seat` is `heir`'s from now on; `how` the worker before it ends."""
        heir.replaces = -1
        heir.open, seat.open = True, False
        heir.recycled = seat.recycled
        heir.last_exit = how[:LAST_EXIT_CHARS]

    def _step_gateway(self, event: str, seat: Seat | None, effects: list[Effect]) -> None:
        try:
            after, todo = GATEWAY_STEPS[self.state, event]
        except KeyError:
            raise LookupError(f"the gateway is {self.state!r}: {event!r} has no row there") from None
        if after == "failed" != self.state and seat is not None:
            self.reason = seat.reason
        self.state = after
        for effect in todo:
            match effect:
                case "WAIT" | "SPARE":
                    assert seat is not None
                    self._step_seat(seat, effect.lower(), effects)
                case "RETIRE":
                    assert seat is not None
                    old = self.seats[seat.replaces]
                    old.recycled += not old.spared
                    self._inherit(seat, old, old.why if old.spared else f"recycled: {old.why}")
                    self._step_seat(old, "retire", effects)
                case "replace-later":
                    assert seat is not None
                    effects.append(Effect(effect, seat.number, delay_s=seat.backoff.died()))
                case "DRAIN-ALL" | "KILL-ALL":
                    for each in self.seats:
                        self._step_seat(each, effect.removesuffix("-ALL").lower(), effects)
                case "leave":
                    effects.append(Effect("leave", code=EXIT_APP_FAILED if after == "failed" else EXIT_LEFT))
                case _:
                    effects.append(Effect(effect))
