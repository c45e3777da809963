"""`emperor.router.remote.Gate` without a socket: whom a router that leaves lets go of."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from emperor.router.remote import REFUSE_LEAVES, Gate, House


class Leaving:
    """Of a router. Its clock stands."""

    draining = True

    def __init__(self, now: float) -> None:
        self.loop = SimpleNamespace(time=lambda: now)


def gate_with(links: list[Any], now: float, monkeypatch: pytest.MonkeyPatch) -> tuple[Gate, list[Any]]:
    gate, gone = Gate(cast(House, Leaving(now))), []
    for number, link in enumerate(links):
        gate._senders["key", b"gateway", 1, number] = link
    monkeypatch.setattr(gate, "_cut", lambda link, code, _: gone.append((link.name, code)))
    return gate, gone


def link(name: str, app: Any, *, stays: bool = False, busy: bool = False) -> Any:
    made = SimpleNamespace(name=name, app=app, stays=stays, streams={1: object()} if busy else {})
    app.far.members.append(made)
    return made


def an_app(*queue: object) -> Any:
    return SimpleNamespace(far=SimpleNamespace(members=[]), queue=queue)


def test_who_has_nothing_to_do_goes_and_the_last_one_later(monkeypatch: pytest.MonkeyPatch) -> None:
    shop, alone, waits = an_app(), an_app(), an_app("a request")
    links = [link("idle", shop), link("busy", shop, busy=True), link("last", alone), link("due", waits)]
    gate, gone = gate_with(links, 100.0, monkeypatch)
    gate._leaves_at = 106.0
    gate.let_go()
    assert gone == [("idle", REFUSE_LEAVES)]
    gone.clear()
    gate._leaves_at = 100.0
    gate.let_go()
    assert gone == [("idle", REFUSE_LEAVES), ("last", REFUSE_LEAVES)]


def test_who_meets_the_next_router_besides_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload that is under way asks for one when it is whole, however long that takes."""
    gate, gone = gate_with([link("last", an_app(), stays=True)], 100.0, monkeypatch)
    gate.let_go()
    assert gone == []
