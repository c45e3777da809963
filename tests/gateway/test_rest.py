"""When a gateway gives back, by a clock of the test's."""

from collections.abc import Callable
from typing import Any

import pytest

from vassals.gateway import rest


class Clock:
    """A loop of which only time is left."""

    def __init__(self) -> None:
        self.time_s = 100.0
        self.due: list[tuple[float, Callable[[], None]]] = []

    def now(self) -> float:
        return self.time_s

    def call_later(self, delay_s: float, call: Callable[[], None]) -> object:
        self.due.append((self.time_s + delay_s, call))
        return call


class Stage:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        self.given: list[float] = []
        monkeypatch.setattr(rest.pages, "give_back", lambda: self.given.append(self.clock.time_s - 100.0))
        loop: Any = self.clock
        self.rest = rest.Rest(loop)

    def pass_until(self, until_s: float, every_s: float = 0.0) -> None:
        """Turns of the loop until then: for its timers, and every so often for something else."""
        end = 100.0 + until_s
        stir = self.clock.time_s + every_s if every_s else end + 1
        while True:
            timer = min((when for when, _ in self.clock.due), default=end + 1)
            when = min(timer, stir)
            if when > end:
                break
            self.clock.time_s = when
            if when == timer:
                first = min(self.clock.due, key=lambda each: each[0])
                self.clock.due.remove(first)
                first[1]()
            else:
                stir += every_s
            self.rest.stirred()
        self.clock.time_s = end


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(monkeypatch)


def test_it_gives_back_once_after_a_second_of_rest(stage: Stage) -> None:
    stage.pass_until(3600)
    assert stage.given == [1.0]
    assert not stage.clock.due


def test_it_does_not_while_anything_happens(stage: Stage) -> None:
    stage.pass_until(10, every_s=0.3)
    assert stage.given == []
    stage.pass_until(12)
    assert len(stage.given) == 1


def test_who_is_called_all_the_time_gives_back_less_and_less_often(stage: Stage) -> None:
    stage.pass_until(1000, every_s=3.0)
    gaps = [later - sooner for sooner, later in zip(stage.given, stage.given[1:], strict=False)]
    assert all(gap >= 1 for gap in gaps)
    assert gaps[-1] >= rest.AGAIN_MOST_S
    assert 5 < len(stage.given) < 30
