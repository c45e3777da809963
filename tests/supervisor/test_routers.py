"""A router's end: what it could not take, or could not be given, it is told once more."""

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from emperor.control.messages import RouterEntry
from emperor.supervisor.children import Children
from emperor.supervisor.loop import Loop
from emperor.supervisor.routers import AGAIN_S, Logger, Router
from emperor.supervisor.rundir import RunDir
from emperor.supervisor.wanted import Wanted, WantedGeneration
from tests.supervisor.test_succession import Clock, Said

BLOG = Wanted(RouterEntry(name="blog"), {1: WantedGeneration("ab" * 32, None, 1)}, 1)


class Place:
    """A run directory, of which only the backplanes' paths are asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def backplane(self, name: str, seat: int) -> str:
        return str(self.path / f"{name}.{seat}")


class Book:
    """What is wanted."""

    def __init__(self) -> None:
        self.wants: dict[str, Wanted] = {"blog": BLOG}
        self.error: OSError | None = None

    def subscribed(self) -> list[dict[str, Any]]:
        return []

    def router_names(self) -> list[str]:
        return list(self.wants)

    def wanted(self, name: str) -> Wanted | None:
        return self.wants.get(name)

    def page(self, name: str, generation: int) -> int:
        if self.error is not None:
            raise self.error
        return 0

    def rows(self, name: str, generation: int) -> int:
        return 4

    def bells(self, name: str, generation: int, router_seat: int) -> list[int]:
        return []

    def entry_told(self, name: str) -> None:
        pass


class Talk:
    """The conversation with a router that answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Callable[[dict[str, Any]], None]]] = []

    def request(
        self, message: dict[str, Any], answered: Callable[[dict[str, Any]], None], fds: Any = ()
    ) -> None:
        self.asked.append((message["op"], answered))

    def answer(self, *refused: str, **more: Any) -> list[str]:
        """Answer all that it was asked; these ops are refused."""
        asked, self.asked = self.asked, []
        for op, answered in asked:
            answered(
                {"ok": False, "error": f"{op}: Too many open files"}
                if op in refused
                else {"ok": True, **more}
            )
        return [op for op, _ in asked]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def talk() -> Talk:
    return Talk()


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
def router(clock: Clock, talk: Talk, book: Book, said: Said, tmp_path: Path) -> Iterator[Router]:
    router = Router(
        0,
        cast(Loop, clock),
        cast(Children, None),
        cast(Logger, said),
        cast(RunDir, Place(tmp_path)),
        book,  # type: ignore[arg-type]
        {},
        None,
    )
    router._conversation = talk  # type: ignore[assignment]
    router.table_is_whole(lambda: None)
    yield router
    router.backplanes.close()


def test_what_it_could_not_take_it_is_told_once_it_has_said_what_it_knows(
    router: Router, clock: Clock, talk: Talk, said: Said
) -> None:
    asked = talk.answer("vassal", "generation", "activate")
    assert asked[:4] == ["vassal", "generation", "activate", "complete"]
    assert said.lines[0] == "info router 0: vassal: Too many open files"
    assert talk.asked == []
    clock.pass_by(AGAIN_S)
    router.tell("blog")
    assert [op for op, _ in talk.asked] == ["hello"], "nothing before it has answered"
    talk.answer(vassals=[{"name": "blog", "generations": [], "active": None}])
    # Its entry once more, as what a router says it knows does not have it.
    assert talk.answer() == ["settings", "vassal", "generation", "activate", "complete"]
    clock.pass_by(100 * AGAIN_S)
    assert talk.asked == []


def test_the_wait_grows(router: Router, clock: Clock, talk: Talk) -> None:
    talk.answer("generation")
    for turn in range(3):
        clock.pass_by(AGAIN_S * 2**turn - 0.01)
        assert talk.asked == []
        clock.pass_by(0.02)
        assert talk.answer(vassals=[]) == ["hello"]
        talk.answer("generation")


def test_what_cannot_be_given_for_want_of_descriptors_is_given_later(
    clock: Clock, talk: Talk, book: Book, said: Said, router: Router
) -> None:
    talk.answer()
    book.wants["shop"] = Wanted(RouterEntry(name="shop"), BLOG.generations, 1)
    book.error = OSError(errno.EMFILE, "Too many open files")
    router.tell("shop")
    assert talk.answer() == ["vassal"]
    assert said.lines[-1] == "info shop: router 0 cannot be told: [Errno 24] Too many open files; tried again"
    book.error = None
    clock.pass_by(AGAIN_S)
    known = [
        {"name": "blog", "generations": [1], "active": 1},
        {"name": "shop", "generations": [], "active": None},
    ]
    assert talk.answer(vassals=known) == ["hello"]
    assert talk.answer() == ["settings", "vassal", "vassal", "generation", "activate", "complete"]
