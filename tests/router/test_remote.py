"""`emperor.router.remote.Gate` without a socket: whom a router that leaves lets go of, what is said of who comes and goes."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import zmq

from emperor.router import remote
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


def test_who_comes_and_who_is_lost_is_said_once_a_second() -> None:
    said: list[str] = []
    house = SimpleNamespace(
        loop=SimpleNamespace(time=lambda: 100.0),
        draining=False,
        log=lambda level, text: said.append(f"{level}: {text}"),
    )
    gate = Gate(cast(House, house))
    shop = SimpleNamespace(app=SimpleNamespace(name="shop"), host="10.0.0.2")
    for _ in range(3):
        gate.joined(cast(Any, shop))
    gate.ended(cast(Any, shop), "no answer")
    gate.tick()
    gate.tick()
    assert said == [
        "warning: workers of other hosts lost in the last second: shop on 10.0.0.2, no answer",
        "info: workers of other hosts joined in the last second: shop on 10.0.0.2 (3)",
    ]


class Opening:
    """A router whose gate opens a door that fails as often as `fails` says; its timers run when they are told to."""

    draining = False

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loop = self
        self.fails = 0
        self.doors: list[str] = []
        self.said: list[str] = []
        self.timers: list[Any] = []
        house = self

        class Door:
            bound = "tcp://127.0.0.1:5555"

            def __init__(self, *_: object) -> None: ...

            def open(self) -> None:
                if house.fails:
                    house.fails -= 1
                    raise zmq.ZMQError(24)
                house.doors.append("open")

            def close(self) -> None:
                house.doors.append("closed")

        monkeypatch.setattr(remote, "RemotePlane", Door)
        monkeypatch.setattr(remote, "context", object)
        monkeypatch.setattr(Gate, "_listen_for_keys", lambda _gate, _context: object())

    def call_later(self, _after_s: float, call: Any) -> None:
        self.timers.append(call)

    def log(self, _level: str, text: str) -> None:
        self.said.append(text)

    def pass_by(self) -> None:
        timers, self.timers = self.timers, []
        for call in timers:
            call()


ENTRANCE: Any = SimpleNamespace(bound="tcp://127.0.0.1:5555", sock=SimpleNamespace(dup=object))


def test_the_door_opens_when_the_keys_come_later_than_the_port(monkeypatch: pytest.MonkeyPatch) -> None:
    house = Opening(monkeypatch)
    gate = Gate(cast(House, house))
    gate.listen(ENTRANCE)
    house.pass_by()
    assert house.doors == []
    gate.use("a secret", {})
    house.pass_by()
    assert house.doors == ["open"]
    gate.use("another", {})
    house.pass_by()
    assert house.doors == ["open", "closed", "open"]


def test_a_door_that_cannot_be_opened_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    house = Opening(monkeypatch)
    house.fails = 2
    gate = Gate(cast(House, house))
    gate.use("a secret", {})
    gate.listen(ENTRANCE)
    for _ in range(4):
        house.pass_by()
    assert house.doors == ["closed", "closed", "open"]
    assert len(house.said) == 2 and "the router cannot let them in: Too many open files" in house.said[0]
