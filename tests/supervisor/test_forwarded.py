"""Generations without a process: each starts and ends once, whatever is asked of it, and whether or not a router answers."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from emperor.supervisor import forwarded
from emperor.supervisor.fleet import Generation, Phase
from emperor.supervisor.forwarded import Forwarded
from emperor.supervisor.loop import Loop

from .test_supervisor import reading


class World:
    """``answers``: what the routers say of blog; None: they do not answer, and False: there is none."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.answers: dict[str, int] | bool | None = {}
        self.asked = 0
        self.ready_: list[int] = []
        self.gone_: list[int] = []
        self.forwarded = Forwarded(self.loop, self, self.stats)

    def ready(self, generation: Generation) -> None:
        self.ready_.append(generation.number)

    def gone(self, generation: Generation, exit_text: str, killed: bool) -> None:
        self.gone_.append(generation.number)

    def stats(self, take: Callable[[Any], None]) -> bool:
        if self.answers is False:
            return False
        self.asked += 1
        if self.answers is not None:
            self.loop.call_soon(take, {0: {"apps": {"blog": self.answers}}})
        return True

    def turn(self, times: int = 10) -> None:
        for _ in range(times):
            self.loop.step(0.02)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.loop.close()


def generation(number: int = 1, phase: Phase = Phase.READY) -> Generation:
    return Generation("blog.ini", number, reading(), "ab" * 32, phase, 0.0, 0)


def test_it_goes_when_the_router_has_nothing_of_it_any_more(world: World) -> None:
    world.answers = {"forwarded": 1}
    world.forwarded.leave(generation(), 60.0)
    world.turn()
    assert world.gone_ == []
    world.answers = {"forwarded": 0}
    world.turn()
    assert world.gone_ == [1]


def test_who_is_told_twice_to_go_goes_once(world: World) -> None:
    world.answers = {"forwarded": 1}
    one = generation()
    world.forwarded.leave(one, 60.0)
    world.turn(3)
    world.forwarded.leave(one, 0.0)
    world.forwarded.leave(one, 60.0)
    world.turn()
    assert world.gone_ == [1]


def test_one_that_goes_before_it_is_there_is_never_ready(world: World) -> None:
    one = generation(phase=Phase.SPAWNING)
    world.forwarded.start(one)
    one.phase = Phase.LEAVING
    world.forwarded.leave(one, 0.0)
    world.turn()
    assert (world.ready_, world.gone_) == ([], [1])


def test_a_router_that_dies_over_the_question_keeps_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarded, "UNANSWERED_S", 0.1)
    world.answers = None
    world.forwarded.leave(generation(1), 60.0)
    world.forwarded.leave(generation(2), 0.05)
    world.turn(20)
    assert world.gone_ == [2]
    world.answers = {}
    world.turn()
    assert world.gone_ == [2, 1]


def test_without_a_router_they_go_at_once_and_one_question_is_for_all(world: World) -> None:
    world.answers = {"forwarded": 0}
    for number in range(100):
        world.forwarded.leave(generation(number), 60.0)
    world.turn()
    assert (len(world.gone_), world.asked) == (100, 1)
    world.answers = False
    world.forwarded.leave(generation(100), 60.0)
    world.turn()
    assert world.gone_[-1] == 100
