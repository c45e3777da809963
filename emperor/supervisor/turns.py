"""Whose generation starts next: so many load their app at a time, in the order in which they were asked for. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping

from emperor.supervisor.fleet import Generation, Phase, Vassal

PARALLEL_STARTS = 8
"""Generations that load their app at the same time; others wait for their turn."""

REST_S = 2.0
"""How long a next start waits for the former generation to go, where one serves beside it: of a hundred reloads in a
second two generations live at a time, and a request that runs for minutes holds up nobody's reload."""


class Turns:
    """Those of one supervisor, of whose `vassals` they are."""

    def __init__(self, clock: Callable[[], float], vassals: Mapping[str, Vassal], parallel: int) -> None:
        self._clock = clock
        self._vassals = vassals
        self._parallel = parallel
        self._turns: deque[tuple[str, int]] = deque()
        # Asked after every event, and so kept: a fleet of a thousand starts in as many times eight events. It may name some who
        # are through with it; who asks leaves those out.
        self._launched: dict[tuple[str, int], Generation] = {}
        self._closed = False
        self.held_until: list[float] = []
        """When `take` may have some that it has held, seconds of the clock."""

    def want(self, generation: Generation) -> None:
        """It is QUEUED, and starts when it is its turn."""
        self._turns.append((generation.file, generation.number))

    def take(self) -> Iterator[Generation]:
        """The next ones, if there is room for them, and beside their own vassal's former generations. They are SPAWNING."""
        held: list[tuple[str, int]] = []
        self.held_until = []
        while self._turns and not self._closed and len(self.starting()) < self._parallel:
            file, number = self._turns.popleft()
            vassal = self._vassals.get(file)
            generation = vassal.generations.get(number) if vassal is not None else None
            if vassal is None or generation is None or generation.phase is not Phase.QUEUED:
                continue
            until = _hold_until(vassal)
            if until > self._clock():
                held.append((file, number))
                if until < float("inf"):
                    self.held_until.append(until)
            else:
                self.launch(generation)
                yield generation
        self._turns.extendleft(reversed(held))

    def launch(self, generation: Generation) -> None:
        """It starts now, whoever waits."""
        generation.phase = Phase.SPAWNING
        generation.since = self._clock()
        self.has_launched(generation)

    def has_launched(self, generation: Generation) -> None:
        """An emperor before us had launched it."""
        self._launched[generation.file, generation.number] = generation

    def starting(self) -> list[Generation]:
        """The generations that load their app, the first one first."""
        self._launched = {
            (file, number): generation
            for (file, number), generation in self._launched.items()
            if generation.phase in (Phase.SPAWNING, Phase.STARTING)
            and file in self._vassals
            and self._vassals[file].generations.get(number) is generation
        }
        return list(self._launched.values())

    def close(self) -> None:
        """Nothing is started any more."""
        self._closed = True
        self._turns.clear()

    def hand_over(self) -> list[tuple[str, int]]:
        """Who waits, for `resume` in another program."""
        return list(self._turns)

    def resume(self, turns: Iterable[tuple[str, int]]) -> None:
        self._turns.extend(turns)


def _hold_until(vassal: Vassal) -> float:
    """Until when a next generation waits, so that no more than two live in a burst of reloads: for one that was
    discarded until it has gone, and for one that finishes beside the one that serves `REST_S`."""
    leaving = [each for each in vassal.generations.values() if each.phase is Phase.LEAVING]
    if any(not each.was_ready for each in leaving):
        return float("inf")
    if vassal.serving is None or not leaving:
        return 0.0
    return max(each.left_at for each in leaving) + REST_S
