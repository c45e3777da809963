"""New generations on probation: the router is asked what they answer, the gate judges, the supervisor is told.

Owns one timer while there is a vassal that proves itself, and nothing otherwise. A router that does not answer, or has
just been started anew, knows nothing against anybody: the deaths of workers are then all there is to judge by.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from emperor.supervisor import room
from emperor.supervisor.fleet import Generation, Vassal
from emperor.supervisor.gate import Record, fall
from emperor.supervisor.loop import Loop, Timer
from emperor.supervisor.supervisor import Supervisor
from emperor.supervisor.vassal import State

LOOK_S = 0.5

Ask = Callable[[str, Callable[[dict[str, Any]], None]], bool]


class Probations:
    """`ask(name, on_answer)` asks the router for the counts of a vassal's generations; `act()` carries out what the
    supervisor then wants."""

    def __init__(
        self,
        loop: Loop,
        supervisor: Supervisor,
        ask: Ask,
        act: Callable[[], None],
        is_short: Callable[[], bool] = room.is_short,
    ) -> None:
        self._loop = loop
        self._supervisor = supervisor
        self._ask = ask
        self._act = act
        self._is_short = is_short
        self._timer: Timer | None = None

    def watch(self) -> None:
        """Look from now on, if there is anybody to look at."""
        if self._timer is None and self._supervisor.proving():
            self._timer = self._loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        self._timer = None
        short = self._is_short()
        for vassal in self._supervisor.proving():
            if short:
                why = "stays without the rest of its probation: memory is short, and the one before it is let go"
                self._supervisor.proven(vassal.file, why)
            elif not self._ask(vassal.name, partial(self._counted, vassal.file, vassal.serving)):
                self._judge(vassal, {})
        self._act()
        self.watch()

    def _counted(self, file: str, number: int | None, answer: dict[str, Any]) -> None:
        vassal = self._supervisor.vassals.get(file)
        if vassal is not None and vassal.state is State.PROVING and vassal.serving == number:
            counts = answer.get("counts")
            self._judge(vassal, counts if isinstance(counts, dict) else {})
            self._act()

    def _judge(self, vassal: Vassal, counts: dict[str, Any]) -> None:
        former = vassal.generations.get(vassal.former or 0)
        serving = vassal.generations.get(vassal.serving or 0)
        if former is None or serving is None:
            return
        now = self._loop.now()
        before = _record(former, counts, vassal.proving_since - former.ready_at)
        why = fall(before, _record(serving, counts, now - vassal.proving_since))
        if why:
            self._supervisor.fell(vassal.file, why)


def _record(generation: Generation, counts: dict[str, Any], seconds: float) -> Record:
    said = counts.get(str(generation.number))
    said = said if isinstance(said, dict) else {}
    return Record(
        int(said.get("answered", 0)), int(said.get("failed", 0)), generation.deaths, max(seconds, 0.0)
    )
