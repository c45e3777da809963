"""New generations on probation: what the router counts decides, and what it does not answer is held against nobody."""

from collections.abc import Callable
from typing import Any

import pytest

from emperor.supervisor import probation
from emperor.supervisor.fleet import Worker
from emperor.supervisor.loop import Loop
from emperor.supervisor.probation import Probations
from emperor.supervisor.vassal import State

from .test_supervisor import Emperor, proving


class Stage:
    def __init__(self, answer: dict[str, Any] | None) -> None:
        self.emperor: Emperor = proving()
        self.loop = Loop()
        self.answer = answer
        self.short = False
        self.asked = 0
        supervisor = self.emperor.supervisor
        self.probations = Probations(self.loop, supervisor, self.ask, self.act, lambda: self.short)
        self.probations.watch()

    def ask(self, name: str, tell: Callable[[dict[str, Any]], None]) -> bool:
        assert name == "blog"
        self.asked += 1
        if self.answer is None:
            return False
        tell({"ok": True, "counts": self.answer})
        return True

    def act(self) -> None:
        self.emperor.act()

    def until(self, condition: Callable[[], object]) -> None:
        end = self.loop.now() + 5
        while not condition():
            assert self.loop.now() < end, self.emperor.state()
            self.loop.step(0.01)


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probation, "LOOK_S", 0.01)


def test_what_the_router_counts_takes_it_back() -> None:
    stage = Stage({"1": {"answered": 100, "failed": 0}, "2": {"answered": 20, "failed": 10}})
    stage.until(lambda: stage.emperor.state() is State.READY)
    vassal = stage.emperor.supervisor.vassals["blog.ini"]
    assert vassal.serving == 1 and "10 of its 20 answers were 5xx" in vassal.problem
    asked = stage.asked
    for _ in range(10):
        stage.loop.step(0.01)
    assert stage.asked == asked, "nobody is asked about any more"


@pytest.mark.parametrize("answer", [None, {}, {"2": "nonsense"}, {"1": {"answered": 100, "failed": 90}}])
def test_a_router_that_knows_nothing_speaks_against_nobody_but_deaths_do(answer: Any) -> None:
    stage = Stage(answer)
    stage.until(lambda: stage.asked > 3)
    assert stage.emperor.state() is State.PROVING
    generation = stage.emperor.running["blog", 2]
    for _ in range(3):
        ready, dead = Worker(0, 1, "ready", 0), Worker(0, 0, "dead", 0, 1, "killed by signal 11 (SIGSEGV)")
        stage.emperor.supervisor.worker(generation, ready, dead)
    stage.until(lambda: stage.emperor.state() is State.READY)
    assert "3 of its workers died" in stage.emperor.supervisor.vassals["blog.ini"].problem


def test_without_memory_the_former_one_is_let_go() -> None:
    stage = Stage({})
    stage.short = True
    stage.until(lambda: stage.emperor.state() is State.READY)
    vassal = stage.emperor.supervisor.vassals["blog.ini"]
    assert (vassal.serving, vassal.problem, stage.emperor.leaving) == (2, "", [("blog", 1)])
    assert "memory is short" in stage.emperor.said()
