"""A trace is put together from what the gateways and the router say; each of them may hang, and one is a tenant's."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from emperor.supervisor.fleet import Phase
from emperor.supervisor.looking import LINE_CHARS, REMOTE, UPSTREAMS, Look
from emperor.supervisor.looking import look as trace

Take = Callable[[dict[str, Any]], None]


class Clock:
    """A loop whose time is over when the test says so."""

    def __init__(self) -> None:
        self.late: Callable[[], None] | None = None

    def call_later(self, _seconds: float, call: Callable[[], None]) -> Any:
        self.late = call
        return SimpleNamespace(cancel=lambda: setattr(self, "late", None))


class Asked:
    """A gateway, or the router; `there` is whether it can be asked."""

    def __init__(self, there: bool = True, seat: int = 0) -> None:
        self.there = there
        self.seat = seat
        self.takes: list[Take] = []

    def ask(self, *arguments: Any) -> bool:
        self.takes.append(arguments[-1])
        return self.there


def look(gateways: Asked, router: Asked, generations: int = 1) -> tuple[Clock, list[dict[str, Any]]]:
    clock, found = Clock(), list[dict[str, Any]]()
    numbers = [SimpleNamespace(name="blog", number=number + 1) for number in range(generations)]
    Look("blog", numbers, gateways, [router], clock, found.append)  # type: ignore[arg-type,list-item]
    return clock, found


def shown(**other: Any) -> dict[str, Any]:
    return {"seat": 0, "pid": 7, "state": "ready", "stacks": ["Thread 1", "  at x"], "mute": "", **other}


def running(**other: Any) -> dict[str, Any]:
    return {"generation": 1, "seat": 0, "pid": 7, "request": "GET /", "ran_ms": 5, "wanted": 1, **other}


def test_both_together() -> None:
    gateways, router = Asked(), Asked()
    clock, found = look(gateways, router)
    gateways.takes[0]({"ok": True, "workers": [shown(seat=1, pid=8), shown()]})
    assert found == []
    router.takes[0]({"ok": True, "running": [running(), running(pid=9, seat=3)]})
    (trace,) = found
    assert [(each["seat"], len(each["requests"])) for each in trace["workers"]] == [(0, 1), (1, 0)]
    assert trace["workers"][0]["requests"] == [{"request": "GET /", "ran_ms": 5, "wanted": 1}]
    assert trace["missing"] == []
    assert clock.late is None


def test_who_does_not_answer_is_named() -> None:
    gateways, router = Asked(), Asked()
    clock, found = look(gateways, router, generations=2)
    gateways.takes[0]({"ok": True, "workers": [shown()]})
    assert clock.late is not None
    clock.late()
    (trace,) = found
    assert len(trace["workers"]) == 1
    assert trace["missing"] == [
        "the gateway of generation 2 has not answered within 5 s",
        "the router has not answered within 5 s",
    ]
    gateways.takes[1]({"ok": True, "workers": [shown()]})  # too late, and harmless
    assert len(found) == 1


def test_who_cannot_be_asked_or_refuses_is_named() -> None:
    gateways, router = Asked(there=False), Asked()
    _, found = look(gateways, router)
    router.takes[0]({"ok": False, "error": "router: running: unknown"})
    assert found[0]["missing"] == [
        "the gateway of generation 1 cannot be asked now: it is being started, or taken over",
        "the router cannot say: router: running: unknown",
    ]


def test_with_nobody_to_ask_it_ends_at_once() -> None:
    _, found = look(Asked(there=False), Asked(there=False), generations=0)
    assert found[0]["workers"] == []


def test_what_a_tenant_says_is_text_and_bounded() -> None:
    gateways, router = Asked(), Asked()
    _, found = look(gateways, router)
    nonsense = [5, {"seat": "x"}, {"seat": 0}, shown(stacks=["x" * 100_000, 5], mute=7, state="s" * 100)]
    gateways.takes[0]({"ok": True, "workers": nonsense})
    router.takes[0]({"ok": True, "running": "?"})
    (worker,) = found[0]["workers"]
    assert worker["stacks"] == ["x" * LINE_CHARS]
    assert (worker["mute"], worker["state"], worker["requests"]) == ("", "s" * 20, [])


def test_workers_that_are_no_list() -> None:
    gateways, router = Asked(), Asked()
    _, found = look(gateways, router)
    gateways.takes[0]({"ok": True, "workers": "none"})
    router.takes[0]({"ok": True})
    assert found[0]["workers"] == []


def test_what_runs_for_either_of_two_routers_is_shown() -> None:
    gateways, routers, found = Asked(), [Asked(), Asked(seat=1)], list[dict[str, Any]]()
    generation = SimpleNamespace(name="blog", number=1)
    Look("blog", [generation], gateways, routers, Clock(), found.append)  # type: ignore[arg-type,list-item]
    gateways.takes[0]({"ok": True, "workers": [shown(), shown(seat=1, pid=8)]})
    routers[0].takes[0]({"ok": True, "running": [running()]})
    assert not found
    routers[1].takes[0]({"ok": True, "running": [running(pid=8, seat=1)]})
    assert [len(each["requests"]) for each in found[0]["workers"]] == [1, 1]


def test_of_one_with_upstreams_only_the_routers_are_asked() -> None:
    gateways, routers, found = Asked(), [Asked(), Asked(seat=1)], list[dict[str, Any]]()
    reading = SimpleNamespace(elsewhere=True, upstreams=True)
    generation = SimpleNamespace(number=1, reading=reading, phase=Phase.READY)
    vassal = SimpleNamespace(name="shop", generations={1: generation}, current=generation)
    trace(vassal, gateways, routers, Clock(), found.append)  # type: ignore[arg-type]
    assert gateways.takes == []
    upstream = {"address": "http://10.0.0.2:80", "ip": "", "state": "in"}
    routers[0].takes[0]({"ok": True, "running": [], "upstreams": [{**upstream, "now": ["one"]}]})
    routers[1].takes[0](
        {"ok": True, "running": [], "upstreams": [{**upstream, "state": "down", "now": ["two"]}]}
    )
    assert found[0]["elsewhere"] == UPSTREAMS
    assert found[0]["upstreams"] == [{**upstream, "now": ["one", "two"]}]
    reading.upstreams = False
    trace(vassal, gateways, [], Clock(), found.append)  # type: ignore[arg-type]
    assert (found[1]["elsewhere"], found[1]["upstreams"]) == (REMOTE, [])
