"""Of several routers one that does not answer is killed, as long as another does."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from emperor.supervisor.loop import Loop
from emperor.supervisor.silence import ALONE_S, LOOK_S, LOOKS, LOOKS_BY_STATE, Silence

from .test_succession import Clock


class Mute:
    """A router that answers as long as `answers`, and cannot be asked unless `met`."""

    def __init__(self, seat: int) -> None:
        self.seat, self.pid, self.answers, self.met, self.killed = seat, 100 + seat, True, True, 0
        self.asked = list[Callable[[dict[str, Any]], None]]()

    def ask(self, message: dict[str, Any], take: Callable[[dict[str, Any]], None]) -> bool:
        self.asked += [take] * self.met
        return self.met

    def answer(self) -> None:
        if self.answers:
            for take in self.asked:
                take({})
            self.asked = []

    def kill(self) -> None:
        self.killed += 1


class Scene:
    def __init__(self) -> None:
        self.clock, self.said = Clock(), list[str]()
        self.routers = [Mute(0), Mute(1)]
        self.state = "S"
        Silence(
            cast(Loop, self.clock), lambda: self.routers, self.said.append, lambda _pid: self.state
        ).watch()

    def looks(self, count: int) -> None:
        for _ in range(count):
            self.clock.pass_by(LOOK_S)
            for each in self.routers:
                each.answer()

    @property
    def killed(self) -> list[int]:
        return [each.killed for each in self.routers]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_one_that_is_silent_is_killed_and_named(scene: Scene) -> None:
    scene.looks(10)
    scene.routers[1].answers = False
    scene.looks(LOOKS)
    assert scene.killed == [0, 0] and not scene.said
    scene.looks(1)
    assert scene.killed == [0, 1]
    assert scene.said[0].startswith("router 1 (pid 101) has not answered for 7 s, while another has")


@pytest.mark.parametrize("state", ["T", "t", "D"])
def test_one_that_is_stopped_is_given_up_sooner_and_one_that_cannot_help_it_later(
    scene: Scene, state: str
) -> None:
    scene.looks(10)
    scene.state = state
    scene.routers[0].answers = False
    scene.looks(LOOKS_BY_STATE[state])
    assert scene.killed == [0, 0]
    scene.looks(1)
    assert scene.killed == [1, 0]
    assert (LOOKS_BY_STATE[state] < LOOKS) is (state == "T")


def test_who_answers_again_is_left_alone_and_so_is_the_next_one_in_its_seat(scene: Scene) -> None:
    scene.routers[0].answers = False
    scene.looks(LOOKS)
    scene.routers[0].answers = True
    scene.routers[0].answer()
    scene.looks(10)
    scene.routers[0].answers = False
    scene.looks(LOOKS)
    scene.routers[0].pid = 200
    scene.looks(LOOKS)
    assert scene.killed == [0, 0]


def test_nobody_is_judged_while_nobody_answers(scene: Scene) -> None:
    scene.routers[0].answers = scene.routers[1].answers = False
    scene.looks(10)
    assert scene.killed == [0, 0]
    scene.routers[1].answers = True
    scene.looks(2)
    assert scene.killed == [1, 0], "one that answers shows who does not"


def test_one_alone_is_not_judged(scene: Scene) -> None:
    del scene.routers[1]
    scene.routers[0].answers = False
    for _ in range(LOOKS + 3):
        scene.clock.pass_by(ALONE_S)
    scene.routers.append(Mute(2))
    scene.clock.pass_by(ALONE_S)
    scene.looks(LOOKS - 1)
    assert scene.killed == [0, 0]
    scene.looks(1)
    assert scene.killed == [1, 0]


def test_one_that_cannot_be_asked_is_being_met(scene: Scene) -> None:
    scene.routers[0].met = False
    scene.looks(10)
    assert scene.killed == [0, 0]


def test_one_that_has_been_asked_too_much_is_silent_all_the_same(scene: Scene) -> None:
    scene.looks(3)
    scene.routers[0].answers = False
    scene.looks(2)
    scene.routers[0].met = False
    scene.looks(LOOKS)
    assert scene.killed[0] >= 1
