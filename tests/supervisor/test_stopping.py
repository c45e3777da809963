"""Who leaves before the routers are done, with routers that only pretend."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from emperor.supervisor.loop import Loop
from emperor.supervisor.stopping import LOOK_S, Unneeded
from tests.supervisor.test_succession import Clock


class Pretender:
    def __init__(self, *names: Any) -> None:
        self.pid, self.names = 1, names
        self.asked: Callable[[dict[str, Any]], None] | None = None

    def ask(self, message: dict[str, Any], take: Callable[[dict[str, Any]], None]) -> bool:
        assert message == {"op": "unneeded"}
        self.asked = take
        return True

    def answer(self) -> None:
        assert self.asked is not None
        self.asked({"ok": True, "names": list(self.names)})
        self.asked = None


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_whom_no_router_needs_leaves_and_is_told_once(clock: Clock) -> None:
    first, second, left = Pretender("blog", "shop", 7), Pretender("shop", "wiki"), list[list[str]]()
    unneeded = Unneeded(cast(Loop, clock), lambda: [first, second], left.append)
    clock.pass_by(LOOK_S)
    first.answer()
    assert left == []
    second.answer()
    assert left == [["shop"]]
    second.pid = 0  # it is done
    clock.pass_by(LOOK_S)
    first.answer()
    assert left == [["shop"], ["blog"]]
    unneeded.close()
    first.asked = None
    clock.pass_by(10 * LOOK_S)
    assert first.asked is None


def test_a_router_that_says_nothing_may_need_everybody(clock: Clock) -> None:
    first, second, left = Pretender("blog"), Pretender("blog"), list[list[str]]()
    Unneeded(cast(Loop, clock), lambda: [first, second], left.append)
    clock.pass_by(LOOK_S)
    first.answer()
    assert second.asked is not None
    second.asked({"ok": False, "error": "router: unneeded: unknown; this is version 0.1.0"})
    clock.pass_by(LOOK_S)
    first.answer()
    assert left == []
    second.answer()
    assert left == [["blog"]]


def test_what_is_said_when_it_is_over_is_nothing(clock: Clock) -> None:
    first, left = Pretender("blog"), list[list[str]]()
    unneeded = Unneeded(cast(Loop, clock), lambda: [first], left.append)
    clock.pass_by(LOOK_S)
    unneeded.close()
    first.answer()
    assert left == []
