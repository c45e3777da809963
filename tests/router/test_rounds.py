"""Whom the router asks something of its own accord: when each is due, how many at once, and what is told of it."""

import asyncio
import errno

import pytest

from emperor.config.upstreams import UWSGI, Address
from emperor.router.rounds import AT_ONCE, Rounds
from emperor.router.upstream_tls import Tls
from emperor.router.upstreams import Upstream, Upstreams


class Scene:
    """Upstreams that are asked every second, under a clock of the test's own; they say `answer` once `lets_go` is set."""

    def __init__(self, count: int) -> None:
        self.now = 0.0
        self.asked: list[tuple[Upstream, float]] = []
        self.told: list[tuple[Upstream, str]] = []
        self.answer: str | Exception = ""
        self.lets_go = asyncio.Event()
        self.table = Upstreams(lambda: self.now, lambda: 0.0)
        self.upstreams = [self.table.add(f"{UWSGI}://127.0.0.1:{port}") for port in range(1, count + 1)]
        self.rounds = Rounds(asyncio.get_running_loop(), self.tell, self.place_of, Tls())

    def tell(self, upstream: Upstream, why: str) -> None:
        self.told.append((upstream, why))

    async def place_of(self, upstream: Upstream) -> Address:
        return upstream.address

    async def ask(self, upstream: Upstream) -> str:
        self.asked.append((upstream, self.now))
        await self.lets_go.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def look(self, now: float, limit_s: float = 60.0) -> None:
        self.now = now
        self.rounds.go_round(now, self.upstreams, float, self.ask, limit_s, "late")
        await self.settle()

    async def settle(self) -> None:
        """All that can go on has gone on."""
        for _ in range(5):
            await asyncio.sleep(0)


def test_each_pause_is_as_long_as_is_said_and_nobody_is_asked_twice_at_once() -> None:
    async def play() -> None:
        scene = Scene(1)
        await scene.look(10.0)  # a pause of 0 s, then of 1, then of 2
        await scene.look(15.0)
        assert [at for _, at in scene.asked] == [10.0]
        scene.lets_go.set()
        await scene.settle()
        for now in (15.5, 17.4, 17.5, 20.4):
            await scene.look(now)
        assert [at for _, at in scene.asked] == [10.0, 15.5, 17.5]

    asyncio.run(play())


def test_so_many_at_once_and_the_rest_when_these_are_done() -> None:
    async def play() -> None:
        scene = Scene(AT_ONCE + 2)
        await scene.look(10.0)
        await scene.look(10.25)
        assert [upstream for upstream, _ in scene.asked] == scene.upstreams[:AT_ONCE]
        scene.lets_go.set()
        await scene.settle()
        assert scene.told == [(upstream, "") for upstream in scene.upstreams[:AT_ONCE]]
        await scene.look(10.5)
        assert [upstream for upstream, _ in scene.asked] == scene.upstreams

    asyncio.run(play())


def test_who_is_not_wanted_for_a_while_begins_anew() -> None:
    async def play() -> None:
        scene = Scene(1)
        scene.lets_go.set()
        for now in (10.0, 11.0):
            await scene.look(now)
        wanted, scene.upstreams = scene.upstreams, []
        await scene.look(11.25)
        scene.upstreams = wanted
        await scene.look(11.5)
        assert [at for _, at in scene.asked] == [10.0, 11.0, 11.5]

    asyncio.run(play())


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("answers 500", "answers 500"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "Connection refused"),
        (OSError(errno.EMFILE, "Too many open files"), None),  # ours
    ],
)
def test_what_is_told(answer: str | Exception, why: str | None) -> None:
    async def play() -> None:
        scene = Scene(1)
        scene.answer = answer
        scene.lets_go.set()
        await scene.look(10.0)
        assert scene.told == ([] if why is None else [(scene.upstreams[0], why)])

    asyncio.run(play())


def test_who_takes_too_long_is_late() -> None:
    async def play() -> None:
        scene = Scene(1)
        await scene.look(10.0, limit_s=0.0)
        assert scene.told == [(scene.upstreams[0], "late")]

    asyncio.run(play())


def test_nobody_is_told_of_one_that_was_removed_meanwhile() -> None:
    async def play() -> None:
        scene = Scene(1)
        await scene.look(10.0)
        scene.table.remove(str(scene.upstreams[0].address))
        scene.lets_go.set()
        await scene.settle()
        assert scene.asked and not scene.told

    asyncio.run(play())


@pytest.mark.parametrize("answered", [False, True])
def test_nobody_is_told_of_what_a_close_has_given_up(answered: bool) -> None:
    async def play() -> None:
        scene = Scene(2)
        await scene.look(10.0)
        if answered:
            scene.lets_go.set()  # they are about to go on
        scene.rounds.close()
        await scene.settle()
        assert len(scene.asked) == 2 and not scene.told
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(play())
