"""The emperor's copy of who has subscribed: asked for in parts, kept unread, told to the next router, never mixed up."""

from collections.abc import Callable
from typing import Any

from emperor.supervisor import subscribed
from emperor.supervisor.subscribed import Subscribed

Take = Callable[[dict[str, Any]], None]


class Router:
    """A loop, and a router that answers when it is told to."""

    def __init__(self) -> None:
        self.who = (0, 100)
        self.calls: list[Callable[[], None]] = []
        self.asked: list[tuple[dict[str, Any], Take]] = []
        self.copy = Subscribed(self, self.ask, lambda: self.who)  # type: ignore[arg-type]
        self.copy.start()

    def call_later(self, _: float, call: Callable[[], None]) -> "Router":
        self.calls.append(call)
        return self

    def cancel(self) -> None:
        self.calls.clear()

    def ask(self, message: dict[str, Any], take: Take) -> bool:
        self.asked.append((message, take))
        return True

    def look(self) -> dict[str, Any]:
        """The next look; what it asks."""
        self.calls.pop()()
        return self.asked[-1][0]

    def answer(self, **said: Any) -> None:
        self.asked.pop()[1]({"ok": True, **said})

    def told(self) -> list[Any]:
        return [node for message in self.copy.messages() for node in message["nodes"]]


def test_all_parts_are_asked_for_and_told_to_the_next(monkeypatch: Any) -> None:
    monkeypatch.setattr(subscribed, "AT_ONCE", 2)
    router = Router()
    assert router.told() == []
    assert router.look() == {"op": "nodes", "known": -1, "start": 0}
    router.answer(version=7, nodes=["a", "b"], more=True)
    assert router.asked[-1][0] == {"op": "nodes", "known": -1, "start": 2}
    assert router.told() == []
    router.answer(version=7, nodes=["c"], more=False)
    assert [message["nodes"] for message in router.copy.messages()] == [["a", "b"], ["c"]]
    assert all(message["op"] == "subscribed" for message in router.copy.messages())
    assert router.look()["known"] == 7
    router.answer(version=7)
    assert router.told() == ["a", "b", "c"]


def test_another_router_is_asked_for_all(monkeypatch: Any) -> None:
    router = Router()
    router.look()
    router.answer(version=7, nodes=["a"], more=False)
    router.who = (1, 200)
    assert router.look()["known"] == -1
    router.answer(version=7, nodes=["b"], more=False)
    assert router.told() == ["b"]


def test_what_a_router_says_that_is_gone_counts_no_more() -> None:
    router = Router()
    router.look()
    router.answer(version=7, nodes=["a"], more=False)
    router.look()
    router.who = (0, 101)
    router.answer(version=8, nodes=[], more=False)
    assert router.told() == ["a"]


def test_one_of_a_version_before_changes_nothing() -> None:
    router = Router()
    router.look()
    router.asked.pop()[1]({"ok": False, "error": "router: nodes: unknown"})
    router.look()
    router.answer(version="x", nodes=3)
    assert router.told() == []
    router.copy.close()
    assert not router.calls


class Beside:
    """A router beside the first, which notes what it is told."""

    state = "running"

    def __init__(self, seat: int) -> None:
        self.seat, self.pid = seat, 200 + seat
        self.heard: list[dict[str, Any]] = []
        self.ok, self.there = True, True

    def ask(self, message: dict[str, Any], take: Take) -> bool:
        if self.there:
            self.heard.append(message)
            take({"ok": self.ok})
        return self.there

    def take(self) -> list[tuple[list[Any], bool, bool]]:
        heard, self.heard = self.heard, []
        assert all(message["op"] == "subscribed" and message["copy"] is True for message in heard)
        return [(message["nodes"], message["first"], message["last"]) for message in heard]


def test_those_beside_it_get_a_copy_whenever_it_is_new(monkeypatch: Any) -> None:
    monkeypatch.setattr(subscribed, "AT_ONCE", 2)
    router, beside = Router(), Beside(1)
    router.copy = Subscribed(router, router.ask, lambda: router.who, lambda: [beside])  # type: ignore[arg-type]
    router.copy.start()
    router.look()
    assert beside.take() == [], "nobody knows yet who has subscribed"
    router.answer(version=7, nodes=["a", "b", "c"], more=False)
    router.look()
    assert beside.take() == [(["a", "b"], True, False), (["c"], False, True)]
    router.look()
    assert beside.take() == []
    beside.pid += 1  # another one has its seat
    router.look()
    assert len(beside.take()) == 2
    router.answer(version=8, nodes=[], more=False)
    beside.there = False
    router.look()
    beside.there, beside.ok = True, False
    router.look()
    assert beside.take() == [([], True, True)]
    beside.ok = True
    router.look()
    assert beside.take() == [([], True, True)], "it could not take it, and gets it once more"
    router.look()
    assert beside.take() == []
