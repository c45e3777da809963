"""A generation that leaves stays while requests wait for it in a router, and no longer than it may."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest

from emperor.supervisor.emptying import LEAST_S, LOOK_S, Emptying
from emperor.supervisor.fleet import Generation
from emperor.supervisor.loop import Loop

from .test_succession import Clock

Said = Mapping[int, Mapping[str, Any]]


class Blog:
    name = "blog"


class Scene:
    """Two routers, which answer `said`."""

    def __init__(self) -> None:
        self.clock, self.left = Clock(), list[float]()
        self.said: Said | None = None
        emptying = Emptying(
            cast(Loop, self.clock),
            self,
            lambda _generation, within_s: self.left.append(within_s),
            lambda: False,
        )
        self.leave = lambda within_s: emptying.leave(cast(Generation, Blog), within_s)

    def stats(self, take: Callable[[Said], None]) -> bool:
        if self.said is not None:
            take(self.said)
        return self.said is not None


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_it_leaves_once_nothing_waits_in_any_router(scene: Scene) -> None:
    scene.said = {0: {"apps": {"blog": {"queued": 0}}}, 1: {"apps": {"blog": {"queued": 1}}}}
    scene.leave(30.0)
    scene.clock.pass_by(LOOK_S)
    assert not scene.left
    scene.said = {0: {"apps": {"blog": {"queued": 0, "on_deck": 0}}}, 1: {}}
    scene.clock.pass_by(5.0)
    assert scene.left == [30.0 - LOOK_S - 5.0], "of its time, what is left"


def test_one_router_that_does_not_answer_is_asked_again(scene: Scene) -> None:
    scene.said = {}
    scene.leave(30.0)
    scene.clock.pass_by(20.0)
    assert not scene.left
    scene.clock.pass_by(10.0)
    assert scene.left == [LEAST_S]


def test_with_no_router_nothing_waits(scene: Scene) -> None:
    scene.leave(30.0)
    assert scene.left == [30.0]
