"""What becomes of all vassals: events in, actions out. Pure: the clock, tokens and random numbers are given.

Owns the vassal records, the names they hold and the order in which they start. It reads no file, knows no
process and sends nothing: the emperor reads files and watches processes, calls the verbs below, and carries
out the actions that `take_actions` hands back, in order. Every change of a vassal's state goes through the
table in `vassal`.

What a router must know of a vassal is not an action but a wish (`wanted`): the emperor compares it with
what it has sent, so that a new router is told everything by the same code that tells an old one what has
changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from emperor.config.listing import vassal_name
from emperor.control.messages import RouterEntry
from emperor.supervisor.actions import (
    Action,
    End,
    Forget,
    Leave,
    Remember,
    Reread,
    Say,
    Seats,
    Settled,
    Spawn,
    Tell,
)
from emperor.supervisor.edits import ROLLED_BACK
from emperor.supervisor.fleet import REASON_CHARS, Generation, Phase, Vassal, Worker
from emperor.supervisor.names import Claim, Names
from emperor.supervisor.reading import Reading
from emperor.supervisor.recall import Known
from emperor.supervisor.restart import Backoff
from emperor.supervisor.rolling import wish
from emperor.supervisor.turns import PARALLEL_STARTS, Turns
from emperor.supervisor.vassal import AWAITING, SERVING, SETTLED, WAITABLE, Effect, Event, State, change
from emperor.supervisor.wanted import Wanted, entry_of, wanted_of


class Supervisor:
    """All vassals of one emperor. `clock()` is monotonic and `wall()` unix seconds, `random()` is in [0, 1),
    `token()` gives 64 hexadecimal digits."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        random: Callable[[], float],
        token: Callable[[], str],
        parallel: int = PARALLEL_STARTS,
        name_of: Callable[[str], str] = vassal_name,
        rank_of: Callable[[str], Any] = str,
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        """`name_of` gives the name that a file (a key of `vassals`) is to have, or raises ValueError; by `rank_of` files
        are ordered where several want one thing; `has_room` tells whether there is memory for a generation that is kept."""
        self._clock = clock
        self._wall = wall
        self._random = random
        self._token = token
        self._name_of = name_of
        self._rank_of = rank_of
        self._has_room = has_room
        self._vassals: dict[str, Vassal] = {}
        self._names = Names()
        self._turns = Turns(clock, self._vassals, parallel)
        # What is asked after every event is kept, and not looked for among all. Some may be through with it; who asks leaves
        # those out.
        self._backing_off: dict[str, Vassal] = {}
        self._in_state: dict[State, set[str]] = {state: set() for state in State}
        self._last_number: dict[str, int] = {}
        self._ready_before: set[str] = set()
        self._only: str | None = None
        self._paused: dict[str, str] = {}
        self._actions: list[Action] = []
        self._closing = False

    # -- what the emperor asks ----------------------------------------------------------------------------

    @property
    def vassals(self) -> Mapping[str, Vassal]:
        """Every vassal by its file's name."""
        return self._vassals

    def by_name(self, name: str) -> Vassal | None:
        """The vassal that holds this name (a file's name is a name too, for one that could not get its
        own)."""
        file = next(iter(self._names.holders(Claim("vassal", name))), name)
        found = self._vassals.get(file)
        if found is None:
            found = next((each for each in self._vassals.values() if each.name == name), None)
        return found

    def take_actions(self) -> list[Action]:
        """What is to be done now, in order; each is handed out once."""
        actions, self._actions = self._actions, []
        return actions

    def wake_at(self) -> float | None:
        """When `tick` has something to do next, monotonic seconds."""
        times = [vassal.retry_at for vassal in self._resting() if vassal.retry_at is not None]
        times += [generation.late_at for generation in self._turns.starting()]
        times += self._turns.held_until
        times += [vassal.tried_until or _proven_at(vassal) for vassal in self.proving()]
        return min(times, default=None)

    def wanted(self, name: str) -> Wanted | None:
        """What the router must know of the vassal `name`; None: nothing."""
        vassal = self.by_name(name)
        if vassal is None or vassal.state in (State.NEW, State.GONE) or vassal.name != name:
            return None
        if vassal.state is State.REFUSED and name == vassal.file:
            return None  # it did not even get a name of its own
        return wanted_of(vassal, self._entry(vassal))

    def proving(self) -> list[Vassal]:
        """The vassals whose new generation has yet to prove itself."""
        return [self._vassals[file] for file in self._in_state[State.PROVING]]

    def readings(self, name: str) -> tuple[Reading, ...]:
        """The readings of a vassal that count now, what is to come last: while it reloads the one that serves and the one
        that is to, and one that may serve again. None for a vassal that has nothing to answer with and will not have."""
        vassal = self.by_name(name)
        if (
            vassal is None
            or vassal.name != name
            or vassal.state not in (*WAITABLE, State.BACKOFF, State.GIVEN_UP)
        ):
            return ()
        numbers = [each for each in (vassal.former, vassal.serving, vassal.awaited) if each is not None]
        found = [vassal.generations[each].reading for each in numbers if each in vassal.generations]
        if not found and vassal.wish is not None:
            found = [self._next_reading(vassal)]
        return tuple(found)

    def router_names(self) -> list[str]:
        """The names of all vassals that a router must know."""
        return sorted({each.name for each in self._vassals.values() if self.wanted(each.name) is not None})

    def all_settled(self) -> bool:
        """True when no vassal is on its way up."""
        return not any(self._in_state[state] for state in AWAITING)

    # -- before the start ---------------------------------------------------------------------------------

    def remember(self, name: str, number: int, was_ready: bool) -> None:
        """An emperor before us had a generation of this number, which is gone."""
        self._last_number[name] = max(number, self._last_number.get(name, 0))
        if was_ready:
            self._ready_before.add(name)

    def adopt(self, generation: Generation) -> None:
        """Take over a living generation, `phase` STARTING or READY (others: LEAVING). Call it for each, the
        newest of a file first, before any other verb."""
        reading = generation.reading
        self.remember(reading.name, generation.number, generation.was_ready)
        vassal = self._vassals.get(reading.file)
        if vassal is None:
            vassal = self._new(reading.file, reading.path)
        vassal.generations[generation.number] = generation
        self._turns.has_launched(generation)
        usable = generation.phase in (Phase.READY, Phase.STARTING)
        if vassal.state is State.NEW and usable and not self._names.conflicts(reading.file, reading.claims):
            self._names.hold(reading.file, reading.claims)
            vassal.name = reading.name
            vassal.wish = reading
            vassal.awaited = generation.number
            vassal.ever_ready = reading.name in self._ready_before
            ready = generation.phase is Phase.READY
            if ready:
                # A rolling reload may have been under way: the newest gets the rest of its workers.
                everyone = frozenset(range(reading.processes))
                self._actions.append(Seats(generation, everyone, reading.stop_timeout_s))
            self._happen(vassal, Event.ADOPTED if ready else Event.ADOPTED_STARTING)
        elif vassal.state is State.STARTING and generation.phase is Phase.READY:
            # The emperor before us died in the middle of a reload. What serves goes on serving; the file is
            # compared with it, and the reload begins anew.
            self._discard(vassal)
            vassal.awaited = generation.number
            vassal.wish = reading
            self._happen(vassal, Event.UP)
        else:
            self._let_leave(generation, empty_queue=False)
        self._tell(vassal)

    def hand_over(self) -> dict[str, Any]:
        """All that is known, for `resume` of another program in this process."""
        known = Known(
            vassals=list(self._vassals.values()),
            names={file: self._names.of(file) for file in self._vassals},
            turns=self._turns.hand_over(),
            last_number=self._last_number,
            ready_before=self._ready_before,
            only=self._only,
            paused=self._paused,
        )
        return known.to_json()

    def resume(self, document: Any) -> None:
        """Go on where the one before us was. In place of `remember` and `adopt`, and before any other verb. Raises
        ValueError for what another version left and this one cannot understand."""
        known = Known.from_json(document, lambda: Backoff(clock=self._clock, random=self._random))
        for vassal in known.vassals:
            self._vassals[vassal.file] = vassal
            self._in_state[vassal.state].add(vassal.file)
        for file, held in known.names.items():
            self._names.hold(file, held)
        self._turns.resume(known.turns)
        self._last_number.update(known.last_number)
        self._ready_before.update(known.ready_before)
        self._only = known.only
        self._paused = known.paused
        for vassal in self._vassals.values():
            if vassal.retry_at is not None:
                self._backing_off[vassal.file] = vassal
            for generation in vassal.generations.values():
                if generation.phase in (Phase.SPAWNING, Phase.STARTING):
                    self._turns.has_launched(generation)
                elif generation.phase is Phase.LEAVING and generation.leave_within_s:
                    # Said again: it may have waited for its queue.
                    self._actions.append(Leave(generation, vassal.state is State.DRAINING))
            self._tell(vassal)
        self._turn()

    def only(self, file: str | None) -> None:
        """From the start there is exactly this file: it takes what no route matches, until another says
        default."""
        self._only = file

    # -- files --------------------------------------------------------------------------------------------

    def checked(
        self,
        reading: Reading,
        warnings: Iterable[str] = (),
        by: str = "",
        rolling: bool = False,
        live: bool = False,
    ) -> None:
        """The file was read and is right: new, changed, touched, or because a reload was asked for; `by` says which, for
        people. `rolling`: worker by worker, whatever the reading says of it. `live`: nobody has asked for a reload, and what
        can be in effect without one is to be so."""
        vassal = self._vassals.get(reading.file) or self._new(reading.file, reading.path)
        conflicts = self._names.conflicts(reading.file, reading.claims)
        if conflicts:
            text = "; ".join(map(str, conflicts))
            blocked_by = {each.held for each in conflicts}
            self.wrong(reading.file, reading.path, f"{reading.path}: {text}", blocked_by, by)
            return
        if live and self._shares_anew(vassal, reading, warnings, by):
            return
        if vassal.tried:
            # What has had a part only is not to have all until the next one is there.
            self.fell(reading.file, "another reading of its file is to take its place", by)
        vassal.name = reading.name
        vassal.wish = reading
        vassal.by = by
        # Elsewhere there are no workers that could come up one by one.
        vassal.rolling = (rolling or reading.reloading.style == "rolling") and not reading.elsewhere
        vassal.wish_failed = vassal.spared = False
        vassal.blocked_by = frozenset()
        vassal.problem = vassal.reason = vassal.pending = ""
        vassal.warnings = tuple(warnings)
        if vassal.state is State.DRAINING and vassal.proven is None:
            vassal.ever_ready = False
        # Until the move, the names of what serves are held too.
        self._hold(vassal, reading.claims | self._claims_of_serving(vassal))
        self._happen(vassal, Event.CHECKED)

    def _shares_anew(self, vassal: Vassal, reading: Reading, warnings: Iterable[str], by: str) -> bool:
        """An edit that only the router need know of is in effect at once. False: there is more to it."""
        serving = vassal.incumbent
        if (
            vassal.state is not State.READY
            or serving is None
            or vassal.wish is not serving.reading
            or not reading.differs_in_sharing_alone(serving.reading)
        ):
            return False
        if vassal.proven is serving.reading:
            vassal.proven = reading
        serving.reading = vassal.wish = reading
        vassal.by = by
        vassal.blocked_by = frozenset()
        vassal.problem = vassal.pending = ""
        vassal.warnings = tuple(warnings)
        self._hold(vassal, reading.claims)
        self._tell(vassal)
        self._actions.append(Remember(serving))
        text = f"{vassal.name}: its weight or mirror has changed, without a reload"
        self._say("info", text, "shared", vassal, by)
        self._settled(vassal)
        return True

    def wrong(
        self, file: str, path: str, reason: str, blocked_by: Iterable[Claim] = (), by: str = ""
    ) -> None:
        """The file was read and cannot be a vassal, or not now."""
        vassal = self._vassals.get(file) or self._new(file, path)
        reason = reason[:REASON_CHARS]
        vassal.pending = ""
        vassal.blocked_by = frozenset(blocked_by)
        vassal.warnings = ()
        if vassal.state in SERVING or vassal.state is State.STARTING:
            vassal.problem = reason
            text = f"{vassal.name}: the edit is refused, what was there goes on: {reason}"
            self._say("error", text, "edit refused", vassal, by)
        else:
            vassal.reason = reason
            self._say("error", f"{vassal.name} is refused: {reason}", "refused", vassal, by)
        self._happen(vassal, Event.WRONG)
        if vassal.state is State.REFUSED:
            self._give_up_names(vassal)
        self._settled(vassal)

    def edited(self, file: str, pending: str) -> None:
        """The file has changed, and that is not to be in effect before somebody asks for it; `pending` says so."""
        vassal = self._vassals[file]
        if vassal.pending != pending:
            vassal.pending = pending[:REASON_CHARS]
            self._say("info", f"{vassal.name}: {vassal.pending}", "edited", vassal)

    def roll_back(self, file: str, by: str) -> str:
        """Go back to the reading that was ready before, or end a probation. Returns what is done. Raises LookupError,
        saying why there is nothing to go back to."""
        vassal = self._vassals[file]
        if vassal.state is State.PROVING:
            number, former = vassal.serving, vassal.former
            self.fell(file, "it was asked for", by)
            return f"generation {number} is taken back, generation {former} serves again"
        serves = vassal.state in SERVING
        target = vassal.previous if serves or vassal.wish is vassal.proven else vassal.proven
        if target is None:
            raise LookupError("no other reading of its file has been ready under this emperor")
        self.checked(target, (), by)
        if vassal.wish is not target:  # a name of it belongs to somebody else by now
            raise LookupError(vassal.problem or vassal.reason)
        vassal.pending = ROLLED_BACK
        self._say("info", f"{vassal.name} goes back to the reading before", "rollback", vassal, by)
        return "the reading before is started"

    def pause(self, name: str, mode: str, by: str) -> None:
        """`refuse` or `hold` its requests, or (empty) serve them again."""
        vassal = self.by_name(name)
        if self._paused.get(name, "") == mode or vassal is None:
            return
        if mode:
            self._paused[name] = mode
            how = "requests wait, up to queue-timeout" if mode == "hold" else "requests are answered 503"
            self._say("warning", f"{name} is paused: {how}", "paused", vassal, by)
        else:
            self._paused.pop(name, None)
            self._say("info", f"{name} is served again", "resumed", vassal, by)
        self._tell(vassal)

    @property
    def paused(self) -> dict[str, str]:
        """Who is paused, and how, by name."""
        return dict(self._paused)

    def remember_paused(self, paused: Mapping[str, str]) -> None:
        """These were when the emperor before us ended. Call it before the start."""
        self._paused |= paused

    def removed(self, file: str) -> None:
        """The file is gone."""
        vassal = self._vassals.get(file)
        if vassal is None:
            return
        vassal.problem = ""
        vassal.reason = "the file is gone"
        vassal.blocked_by = frozenset()
        self._say("info", f"{vassal.name}: the file is gone; what runs finishes", "removed", vassal)
        self._happen(vassal, Event.REMOVED)
        self._if_empty(vassal)

    # -- gateways -----------------------------------------------------------------------------------------

    def spawned(self, generation: Generation, pid: int) -> None:
        """The spawner has started its gateway."""
        generation.pid = pid
        if generation.phase is Phase.SPAWNING:
            generation.phase = Phase.STARTING

    def spawn_lost(self, generation: Generation) -> None:
        """The spawner died with the request in flight. Whether there is a gateway nobody knows; without an
        emperor's connection it ends by itself. A number and a token of its own keep the next one apart from
        it."""
        vassal = self._vassals[generation.file]
        awaited = vassal.awaited == generation.number
        vassal.generations.pop(generation.number, None)
        self._tell(vassal)
        if awaited:
            vassal.awaited = None
            if not self._closing:
                self._start(vassal, generation.reading, at_once=True)
        else:
            self._if_empty(vassal)
        self._turn()

    def ready(self, generation: Generation) -> None:
        """All its workers have loaded the app."""
        vassal = self._vassals[generation.file]
        if generation.phase is Phase.LEAVING or vassal.awaited != generation.number:
            return
        if generation.rolling and vassal.state is State.RELOADING:
            self._happen(vassal, Event.UP_PARTLY)
            self._roll(vassal)
            self._turn()
            return
        self._up(vassal, generation)

    def _up(self, vassal: Vassal, generation: Generation) -> None:
        took_s = self._clock() - generation.since
        reloads = vassal.state is not State.STARTING
        what = "has been reloaded" if reloads else "is ready"
        text = f"{vassal.name} {what}: generation {generation.number}, {generation.reading.served_by}, {took_s:.2f} s"
        if vassal.state is State.RELOADING and (probation_s := _probation_s(generation.reading)):
            if self._has_room():
                self._happen(vassal, Event.UP_UNPROVEN)
                if vassal.tried:
                    share, tried_s = vassal.tried, generation.reading.reloading.canary_s
                    text += f"; it gets {share:g} % of the requests for {tried_s:g} s, the one before it the others"
                else:
                    text += f"; on probation for {probation_s:g} s"
                self._say("info", text, "reloaded", vassal, generation.by)
                self._turn()
                return
            text += "; without probation: there is no memory to keep the one before it"
        self._happen(vassal, Event.UP)
        self._say("info", text, "reloaded" if reloads else "ready", vassal, generation.by)
        self._settled(vassal)
        self._turn()

    def failed(self, generation: Generation, reason: str) -> None:
        """It cannot be started, and says why. Its gateway is ended."""
        generation.failure = reason[:REASON_CHARS] or "the app could not be started"
        vassal = self._vassals[generation.file]
        if vassal.awaited != generation.number:
            return
        self._end(generation)
        self._awaited_lost(vassal, generation, generation.failure, killed=False)

    def gone(self, generation: Generation, exit_text: str, killed: bool) -> None:
        """Its gateway has ended: `exit_text` for people; `killed` by a signal (or nobody knows how)."""
        vassal = self._vassals[generation.file]
        vassal.generations.pop(generation.number, None)
        if self._closing:
            return
        text = generation.failure or f"its gateway {exit_text}"
        if generation.phase is not Phase.LEAVING or generation.failure:
            vassal.last_exit = text[:REASON_CHARS]
        self._tell(vassal)
        if vassal.serving == generation.number:
            self._serving_lost(vassal, text)
        elif vassal.former == generation.number:
            vassal.former = None
            if vassal.state is State.PROVING:
                said = f"{vassal.name}: the generation that was kept is lost, and the probation over: {text}"
                self._say("warning", said, "died", vassal)
                self._settle_proven(vassal)
                self._happen(vassal, Event.FORMER_LOST)
                self._settled(vassal)
        elif vassal.awaited == generation.number:
            self._awaited_lost(vassal, generation, text, killed=killed)
        self._if_empty(vassal)
        self._turn()

    def worker(self, generation: Generation, before: Worker | None, now: Worker) -> None:
        """Its gateway tells something new of one of its workers."""
        vassal = self._vassals[generation.file]
        died = now.state == "dead" and now.last_exit and (before is None or before.state != "dead")
        awaited = vassal.candidate
        if vassal.state is State.ROLLING and awaited is not None:
            if died and generation is awaited:
                self._awaited_lost(vassal, awaited, f"worker {now.seat} {now.last_exit}", killed=False)
                return
            self._roll(vassal)
        if died and generation.phase is Phase.READY:
            generation.deaths += 1
            text = f"{vassal.name}: worker {now.seat} of generation {generation.number} {now.last_exit}"
            self._say("", text, "died", vassal)

    def _roll(self, vassal: Vassal) -> None:
        """Take the next step of a rolling reload, if there is one to take now."""
        old = vassal.incumbent
        new = vassal.candidate
        if old is None or new is None:
            return
        found = wish(_states(new), new.reading.processes, _states(old), old.reading.processes)
        self._open(new, range(found.new))
        if found.done:
            self._up(vassal, new)
        else:
            self._open(old, range(old.reading.processes - found.old, old.reading.processes))

    def _open(self, generation: Generation, seats: Iterable[int]) -> None:
        wanted, everyone = frozenset(seats), frozenset(range(generation.reading.processes))
        if wanted != (everyone if generation.open is None else generation.open):
            generation.open = wanted
            reading = generation.reading
            within_s = reading.reloading.worker_mercy_s or reading.stop_timeout_s
            self._actions.append(Seats(generation, wanted, within_s))

    def fell(self, file: str, why: str, by: str = "") -> None:
        """The new generation of a PROVING vassal has failed its probation."""
        vassal = self._vassals[file]
        if vassal.state is not State.PROVING:
            return
        number = vassal.serving
        vassal.problem = f"generation {number} was taken back: {why}"[:REASON_CHARS]
        self._happen(vassal, Event.FELL)
        text = f"{vassal.name}: generation {number} is taken back, generation {vassal.serving} serves again: {why}"
        self._say("error", text, "taken back", vassal, by)
        self._settled(vassal)

    def proven(self, file: str, why: str) -> None:
        """It has passed, or there is no memory to keep the former one any longer."""
        vassal = self._vassals[file]
        if vassal.state is not State.PROVING:
            return
        self._settle_proven(vassal)
        self._happen(vassal, Event.PROVEN)
        self._say("info", f"{vassal.name}: generation {vassal.serving} {why}", "proven", vassal)
        self._settled(vassal)

    def promote(self, file: str, by: str) -> str:
        """Let the generation that proves itself have all requests, or end its probation. Returns what is done. Raises
        LookupError when none does."""
        vassal = self._vassals[file]
        if vassal.state is not State.PROVING:
            raise LookupError("no generation of it proves itself: there is nothing to promote")
        number = vassal.serving
        if vassal.tried:
            self._promote(vassal, "as was asked for", by)
            if vassal.state is State.PROVING:
                left_s = vassal.proving_until - self._clock()
                return f"generation {number} gets all requests, on probation for {left_s:g} s"
            return f"generation {number} gets all requests"
        self.proven(file, "stays without the rest of its probation, as was asked for")
        return f"generation {number} stays, and its probation is over"

    def _promote(self, vassal: Vassal, why: str, by: str = "") -> None:
        serving = vassal.incumbent
        probation_s = 0.0 if serving is None else serving.reading.reloading.probation_s
        vassal.tried_until = 0.0
        vassal.proving_until = self._clock() + probation_s
        self._tell(vassal)
        self._say(
            "info",
            f"{vassal.name}: generation {vassal.serving} gets all requests, {why}",
            "promoted",
            vassal,
            by,
        )
        if not probation_s:
            self.proven(vassal.file, "has proven itself")

    def _settle_proven(self, vassal: Vassal) -> None:
        serving = vassal.incumbent
        if serving is not None:
            self._prove_reading(vassal, serving.reading)
            self._hold(vassal, serving.reading.claims)

    def _prove_reading(self, vassal: Vassal, reading: Reading) -> None:
        if vassal.proven is not None and _said(vassal.proven) != _said(reading):
            vassal.previous = vassal.proven
        vassal.proven = reading

    # -- time, and the end --------------------------------------------------------------------------------

    def tick(self) -> None:
        """Do what is due: starts after a back-off, starts that take too long, starts that were held."""
        now = self._clock()
        if any(when <= now for when in self._turns.held_until):
            self._turn()
        for generation in self._turns.starting():
            if now >= generation.late_at:
                self.failed(
                    generation,
                    f"the app was not ready within {generation.reading.start_timeout_s:g} s (start-timeout)",
                )
        for vassal in self.proving():
            if vassal.tried_until:
                if now >= vassal.tried_until:
                    self._promote(vassal, "having done well with a part of them")
            elif now >= _proven_at(vassal):
                reading = vassal.generations[vassal.serving].reading if vassal.serving is not None else None
                passed_s = reading.reloading.probation_s if reading is not None else 0.0
                self.proven(vassal.file, f"has passed its probation of {passed_s:g} s")
        for vassal in self._resting():
            if vassal.retry_at is not None and now >= vassal.retry_at:
                vassal.retry_at = None
                vassal.restarts += 1
                self._happen(vassal, Event.RETRY)

    def close(self) -> None:
        """The emperor stops: nothing is started any more."""
        self._closing = True
        self._turns.close()
        for vassal in self._vassals.values():
            vassal.retry_at = None

    # -- the table's effects ------------------------------------------------------------------------------

    def _happen(self, vassal: Vassal, event: Event) -> None:
        state, effects = change(vassal.state, event)
        if state is not vassal.state:
            self._in_state[vassal.state].discard(vassal.file)
            self._in_state[state].add(vassal.file)
            vassal.state = state
            vassal.since = int(self._wall())
        for effect in effects:
            match effect:
                case Effect.START:
                    self._start(vassal, self._next_reading(vassal), at_once=False)
                case Effect.RESTART:
                    vassal.restarts += 1
                    self._start(vassal, self._next_reading(vassal), at_once=True)
                case Effect.SWITCH:
                    self._switch(vassal)
                case Effect.ROLL:
                    assert vassal.awaited is not None
                    vassal.generations[vassal.awaited].phase = Phase.READY
                    vassal.generations[vassal.awaited].was_ready = True
                case Effect.OPEN:
                    serving = vassal.incumbent
                    if serving is not None:
                        self._open(serving, range(serving.reading.processes))
                case Effect.PROVE:
                    self._prove(vassal)
                case Effect.RELEASE:
                    self._release(vassal)
                case Effect.TAKE_BACK:
                    self._take_back(vassal)
                case Effect.DISCARD:
                    self._discard(vassal)
                case Effect.DRAIN:
                    self._drain(vassal)
                case Effect.DISARM:
                    vassal.retry_at = None
                case Effect.FORGIVE:
                    vassal.backoff.reset()
                    if vassal.serving is not None:
                        vassal.backoff.ready()
                case Effect.ARM:
                    pass  # whoever says FAILED or DIED_AGAIN knows the time, and has set it
                case Effect.FORGET:
                    self._forget(vassal)
        self._tell(vassal)

    def _next_reading(self, vassal: Vassal) -> Reading:
        """The newest reading, unless it has failed and an older one had worked, whose names are still
        free."""
        if (
            vassal.wish_failed
            and vassal.proven is not None
            and not self._names.conflicts(vassal.file, vassal.proven.claims)
        ):
            return vassal.proven
        assert vassal.wish is not None
        return vassal.wish

    def _start(self, vassal: Vassal, reading: Reading, *, at_once: bool) -> None:
        number = self._last_number.get(reading.name, 0) + 1
        self._last_number[reading.name] = number
        vassal.generations[number] = Generation(
            vassal.file,
            number,
            reading,
            self._token(),
            Phase.QUEUED,
            self._clock(),
            int(self._wall()),
            by=vassal.by,
            rolling=vassal.rolling and vassal.state is State.RELOADING,
        )
        if vassal.generations[number].rolling:
            vassal.generations[number].open = frozenset({0})
        vassal.awaited = number
        self._hold(vassal, self._names.of(vassal.file) | reading.claims)
        if at_once:
            self._turns.launch(vassal.generations[number])
            self._spawn(vassal.generations[number])
        else:
            self._turns.want(vassal.generations[number])
            self._turn()

    def _turn(self) -> None:
        for generation in self._turns.take():
            self._spawn(generation)

    def _spawn(self, generation: Generation) -> None:
        # The router must expect its workers before there are any.
        self._actions += [Tell(generation.name), Spawn(generation)]

    def _switch(self, vassal: Vassal) -> None:
        before = vassal.incumbent
        generation = self._put_first(vassal)
        self._prove_reading(vassal, generation.reading)
        self._hold(vassal, generation.reading.claims)
        self._tell(vassal)
        if before is not None and before.phase is not Phase.LEAVING:
            self._let_leave(before, empty_queue=False)

    def _put_first(self, vassal: Vassal) -> Generation:
        """The awaited generation is the one that serves."""
        assert vassal.awaited is not None
        generation = vassal.generations[vassal.awaited]
        vassal.serving, vassal.awaited = vassal.awaited, None
        generation.phase = Phase.READY
        generation.was_ready = True
        generation.ready_at = self._clock()
        vassal.ever_ready = True
        vassal.spared = False
        vassal.reason = ""
        self._ready_before.add(vassal.name)
        vassal.backoff.ready()
        return generation

    def _prove(self, vassal: Vassal) -> None:
        # The names of both are held, and the reading that had worked stays the proven one.
        vassal.former = vassal.serving
        self._put_first(vassal)
        now = vassal.proving_since = self._clock()
        reloading = vassal.generations[vassal.serving].reading.reloading  # type: ignore[index]
        vassal.tried_until = now + reloading.canary_s if reloading.canary_s else 0.0
        vassal.proving_until = now + reloading.canary_s + reloading.probation_s

    def _release(self, vassal: Vassal) -> None:
        former = vassal.generations.get(vassal.former) if vassal.former is not None else None
        vassal.former = None
        self._tell(vassal)
        if former is not None and former.phase is not Phase.LEAVING:
            self._let_leave(former, empty_queue=False)

    def _take_back(self, vassal: Vassal) -> None:
        fallen = vassal.incumbent
        vassal.serving, vassal.former = vassal.former, None
        vassal.wish_failed = True
        vassal.reason = ""
        self._hold(vassal, self._claims_of_serving(vassal))
        self._tell(vassal)
        if fallen is not None and fallen.phase is not Phase.LEAVING:
            self._let_leave(fallen, empty_queue=False)

    def _claims_of_serving(self, vassal: Vassal) -> frozenset[Claim]:
        numbers = (vassal.serving, vassal.former)
        found = [vassal.generations[each] for each in numbers if each in vassal.generations]
        return frozenset().union(*(each.reading.claims for each in found))

    def _discard(self, vassal: Vassal) -> None:
        if vassal.awaited is None:
            return
        generation = vassal.generations.get(vassal.awaited)
        vassal.awaited = None
        if generation is None:
            return  # its gateway has died
        if generation.phase is Phase.QUEUED:
            del vassal.generations[generation.number]
        elif generation.phase is Phase.READY:
            self._let_leave(generation, empty_queue=False)  # it was rolling, and has begun requests
        else:
            self._end(generation)
        self._turn()

    def _let_leave(self, generation: Generation, *, empty_queue: bool) -> None:
        generation.phase = Phase.LEAVING
        generation.left_at = self._clock()
        reading = generation.reading
        # Who is replaced may take as long as a download lasts; who goes for good, as long as a stop.
        mercy_s = 0.0 if empty_queue else reading.reloading.mercy_s
        generation.leave_within_s = mercy_s or reading.stop_timeout_s
        self._actions.append(Leave(generation, empty_queue))

    def _end(self, generation: Generation) -> None:
        generation.phase = Phase.LEAVING
        generation.left_at = self._clock()
        self._actions.append(End(generation))

    def _drain(self, vassal: Vassal) -> None:
        vassal.former = None
        for generation in vassal.generations.values():
            if generation.phase is not Phase.LEAVING:
                self._tell(vassal)
                self._let_leave(generation, empty_queue=True)

    def _serving_lost(self, vassal: Vassal, text: str) -> None:
        if vassal.state is State.PROVING:
            self.fell(vassal.file, text)
            return
        vassal.serving = None
        if vassal.state not in SERVING:
            return
        delay_s = vassal.backoff.died()
        self._say("error", f"{vassal.name}: {text}", "died", vassal)
        if delay_s <= 0 or vassal.state in (State.RELOADING, State.ROLLING):
            vassal.reason = f"started again: {text}"
            self._happen(vassal, Event.DIED)
            return
        self._back_off(vassal, delay_s, text)
        self._happen(vassal, Event.DIED_AGAIN)

    def _awaited_lost(self, vassal: Vassal, generation: Generation, text: str, *, killed: bool) -> None:
        goes_on = "; the one before it goes on" if vassal.state in (State.RELOADING, State.ROLLING) else ""
        said = f"{vassal.name}: generation {generation.number} did not start{goes_on}: {text}"
        self._say("error", said, "rolled back" if goes_on else "failed", vassal, generation.by)
        if generation.reading is vassal.wish and generation.reading is not vassal.proven:
            vassal.wish_failed = True
        if vassal.state is not State.ROLLING:
            vassal.awaited = None  # else it serves, and is let go by the table
        if vassal.state in (State.RELOADING, State.ROLLING):
            vassal.problem = text
            self._happen(vassal, Event.NEXT_FAILED)
            serving = vassal.incumbent
            if serving is not None:
                self._hold(vassal, serving.reading.claims)
            self._settled(vassal)
        elif killed and not vassal.spared and not self._closing:
            # Not the app's own failure: the out-of-memory killer, an operator.
            vassal.spared = True
            vassal.reason = f"started again: {text}"
            self._happen(vassal, Event.DIED)
        else:
            if vassal.wish_failed and vassal.proven is not None:
                vassal.problem = text
            delay_s = vassal.backoff.died()
            if vassal.backoff.given_up:
                vassal.reason = text
                self._happen(vassal, Event.HOPELESS)
                self._say(
                    "error",
                    f"{vassal.name} is given up after {vassal.backoff.failures} failed starts: repair it and "
                    f"touch its file, or say `emperor reload {vassal.name}`",
                    "given up",
                    vassal,
                )
            else:
                self._back_off(vassal, delay_s, text)
                self._happen(vassal, Event.FAILED)
            self._settled(vassal)
        self._turn()

    def _back_off(self, vassal: Vassal, delay_s: float, text: str) -> None:
        vassal.reason = text
        self._backing_off[vassal.file] = vassal
        vassal.retry_at = self._clock() + max(delay_s, 0.0)
        self._say("warning", f"{vassal.name}: next start in {delay_s:.1f} s", "backs off", vassal)

    def _if_empty(self, vassal: Vassal) -> None:
        if vassal.state is State.DRAINING and not vassal.generations:
            self._happen(vassal, Event.EMPTY)
        elif vassal.state is State.REFUSED and not vassal.generations:
            self._give_up_names(vassal)

    def _give_up_names(self, vassal: Vassal) -> None:
        """Hold nothing, but for its own name while former generations of that name still leave."""
        own = Claim("vassal", vassal.name)
        keeps = vassal.generations and own in self._names.of(vassal.file)
        self._hold(vassal, frozenset({own}) if keeps else frozenset())

    def _forget(self, vassal: Vassal) -> None:
        self._ready_before.discard(vassal.name)
        self._paused.pop(vassal.name, None)
        del self._vassals[vassal.file]
        self._in_state[vassal.state].discard(vassal.file)
        # Before others read their files again: one of them may take over this name.
        self._actions += [Tell(vassal.name), Forget(vassal.name)]
        self._say("info", f"{vassal.name} is gone", "gone", vassal)
        self._hold(vassal, frozenset())

    # -- small things -------------------------------------------------------------------------------------

    def _new(self, file: str, path: str) -> Vassal:
        try:
            name = self._name_of(file)
        except ValueError:
            name = file
        if self._names.holders(Claim("vassal", name)) or any(
            each.name == name for each in self._vassals.values()
        ):
            name = file  # two files with one stem: the second goes by its whole name
        vassal = Vassal(file, name, path, Backoff(clock=self._clock, random=self._random))
        vassal.ever_ready = name in self._ready_before
        self._vassals[file] = vassal
        self._in_state[vassal.state].add(file)
        return vassal

    def _hold(self, vassal: Vassal, claims: frozenset[Claim]) -> None:
        before = self._names.of(vassal.file)
        freed = self._names.hold(vassal.file, claims)
        if before != claims:
            # Their own names may be free now, or no longer.
            for file in sorted(self._in_state[State.REFUSED]):
                self._tell(self._vassals[file])
            only = None if self._only is None else self._vassals.get(self._only)
            if only is not None and only is not vassal and only.state is not State.REFUSED:
                self._tell(only)
        if freed and not self._closing:
            self._actions += [
                Reread(each.file)
                for each in sorted(self._vassals.values(), key=lambda each: self._rank_of(each.file))
                if each.blocked_by & freed and each is not vassal
            ]

    def _entry(self, vassal: Vassal) -> RouterEntry:
        current = vassal.current
        reading = vassal.wish
        if reading is not None:
            reading = current.reading if current is not None else self._next_reading(vassal)
        only, paused = vassal.file == self._only, self._paused.get(vassal.name, "")
        return entry_of(vassal, reading, self._names.holders, only, paused)

    def _resting(self) -> list[Vassal]:
        """The vassals that wait for the end of a back-off."""
        self._backing_off = {
            file: vassal
            for file, vassal in self._backing_off.items()
            if vassal.retry_at is not None and self._vassals.get(file) is vassal
        }
        return list(self._backing_off.values())

    def _settled(self, vassal: Vassal) -> None:
        if vassal.state in SETTLED:
            self._actions.append(Settled(vassal.file))

    def _tell(self, vassal: Vassal) -> None:
        if not (self._actions and self._actions[-1] == Tell(vassal.name)):
            self._actions.append(Tell(vassal.name))

    def _say(self, level: str, text: str, kind: str = "", vassal: Vassal | None = None, by: str = "") -> None:
        self._actions.append(Say(level, text, kind, vassal.name if vassal is not None else "", by))


def _probation_s(reading: Reading) -> float:
    # Upstreams that fail are left out one by one; there is no generation to go back to.
    return 0.0 if reading.elsewhere else reading.reloading.canary_s + reading.reloading.probation_s


def _states(generation: Generation) -> list[str]:
    return [worker.state for worker in generation.workers.values()]


def _said(reading: Reading) -> tuple[object, ...]:
    """What a file and those that it was read from said, whenever they were touched."""
    return reading.identity.digest, reading.others_digest, reading.path


def _proven_at(vassal: Vassal) -> float:
    if vassal.proving_until:
        return vassal.proving_until
    # Handed over by a version that did not note it.
    serving = vassal.incumbent
    return vassal.proving_since + (0.0 if serving is None else serving.reading.reloading.probation_s)
