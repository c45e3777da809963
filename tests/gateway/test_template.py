"""The gateway's side of a template, against one that the test plays: what it says, and what it lies."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from emperor.supervisor.loop import Loop
from emperor.supervisor.process import Exit
from vassals.gateway.template import STEPS, Template

KILLED = Exit(signal=9)


class House:
    """A gateway's part. `log` is what it was told."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.theirs: socket.socket | None = None
        self.fails = False

    def start_template(self) -> tuple[int, socket.socket]:
        if self.fails:
            raise OSError(11, "Resource temporarily unavailable")
        ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.log.append("start")
        return 999_999_999, ours

    def leash_for(self, number: int) -> tuple[list[int], Any]:
        return [0], ("leash", number, False)

    def seated(self, number: int, pid: int, given: Any, end: Exit | None) -> None:
        self.log.append(("seated", number, pid, end))

    def unseated(self, number: int, given: Any, reason: str, failed: bool, by_signal: bool) -> None:
        self.log.append(("unseated", number, reason, failed, by_signal))

    def note(self, level: str, text: str) -> None:
        self.log.append((level, text))


class Stage:
    def __init__(self) -> None:
        self.house = House()
        self.loop = Loop()
        self.template = Template(self.house, self.loop, 60.0)

    def say(self, **what: Any) -> None:
        assert self.house.theirs is not None
        self.house.theirs.send(json.dumps(what).encode())
        self.loop.step(0)

    def order(self) -> dict[str, Any]:
        assert self.house.theirs is not None
        message, fds, _, _ = socket.recv_fds(self.house.theirs, 4096, 4)
        for fd in fds:
            os.close(fd)
        assert len(fds) == 1
        order: dict[str, Any] = json.loads(message)
        return order

    def dies(self, end: Exit = KILLED) -> None:
        assert self.house.theirs is not None
        self.house.theirs.close()
        self.template.reaped(999_999_999, end)


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    made.loop.close()
    if made.house.theirs is not None:
        made.house.theirs.close()
    with contextlib.suppress(AttributeError):
        made.template._socket.close()  # type: ignore[union-attr]


@pytest.fixture
def child() -> Iterator[int]:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    yield pid
    os.waitpid(pid, 0)


def test_every_row_leads_to_a_state_that_can_end() -> None:
    states = {state for state, _ in STEPS} | {state for state, _ in STEPS.values()}
    for state in states - {"absent"}:
        assert STEPS[state, "ended"][0] == "absent"
    assert all((state, "want") in STEPS for state in states)


def test_seats_wait_until_it_has_loaded_the_app(stage: Stage, child: int) -> None:
    stage.template.want(0)
    stage.template.want(1)
    assert stage.house.log == ["start"]
    stage.say(state="loaded", threads=[])
    assert [stage.order()["seat"], stage.order()["seat"]] == [0, 1]
    stage.say(state="forked", seat=1, pid=child)
    assert stage.house.log[-1] == ("seated", 1, child, None)
    stage.say(state="unforked", seat=0, reason="cannot fork a worker: Resource temporarily unavailable")
    assert stage.house.log[-1][:2] == ("unseated", 0) and "cannot fork" in stage.house.log[-1][2]


def test_a_worker_that_ends_before_it_is_told_of_is_remembered(stage: Stage) -> None:
    stage.template.want(0)
    stage.say(state="loaded", threads=[])
    stage.template.reaped(123_456_789, Exit(code=3))
    stage.say(state="forked", seat=0, pid=123_456_789)
    assert stage.house.log[-1] == ("seated", 0, 123_456_789, Exit(code=3))


@pytest.mark.parametrize(
    "lie",
    [
        {"state": "forked", "seat": 0, "pid": 1},
        {"state": "forked", "seat": 0, "pid": -1},
        {"state": "forked", "seat": "0", "pid": 1},
        {"state": "loaded", "threads": []},
        {"state": "failed", "reason": "late"},
        {"state": "flying"},
        [1],
        "x",
    ],
)
def test_what_makes_no_sense_is_logged_and_nothing_else(stage: Stage, lie: Any) -> None:
    stage.template.want(0)
    stage.say(state="loaded", threads=[])
    stage.order()
    assert stage.house.theirs is not None
    stage.house.theirs.send(json.dumps(lie).encode())
    stage.loop.step(0)
    level, text = stage.house.log[-1]
    assert level == "warning" and "makes no sense" in text
    assert stage.template.state == "ready"


def test_one_that_dies_costs_those_it_was_asked_for_and_the_next_one_has_another(stage: Stage) -> None:
    stage.template.want(0)
    stage.say(state="loaded", threads=[])
    stage.dies()
    assert stage.house.log[-1] == (
        "unseated",
        0,
        "the template killed by signal 9 (SIGKILL)",
        False,
        True,
    )
    stage.template.want(0)
    assert stage.house.log[-1] == "start" and stage.template.state == "loading"


def test_an_app_that_does_not_load_fails_all_that_wait_and_is_loaded_anew_for_the_next(stage: Stage) -> None:
    stage.template.want(0)
    stage.template.want(1)
    stage.say(state="failed", reason="no module", traceback="line")
    assert stage.house.log[-2:] == [
        ("unseated", 0, "no module", True, False),
        ("unseated", 1, "no module", True, False),
    ]
    stage.template.want(0)
    assert stage.template.state == "failing"
    stage.dies(Exit(code=70))
    assert stage.house.log[-1] == "start"


def test_one_that_cannot_be_forked_is_said_with_why(stage: Stage) -> None:
    stage.house.fails = True
    stage.template.want(0)
    assert stage.template.state == "absent"
    name, seat, reason, failed, by_signal = stage.house.log[-1]
    assert (name, seat, failed, by_signal) == ("unseated", 0, False, False)
    assert reason.startswith("cannot fork the template: Resource temporarily unavailable (a limit")


def test_one_that_reads_nothing_holds_up_nobody(stage: Stage) -> None:
    """Stopped by its tenant: its socket is full after some orders, and the seats are told so."""
    stage.template.want(0)
    stage.say(state="loaded", threads=[])
    for number in range(1, 5000):
        stage.template.want(number)
        if stage.house.log[-1][0] == "unseated":
            break
    assert "the template cannot be asked for a worker" in stage.house.log[-1][2]


def test_threads_are_named_until_another_one_has_none(stage: Stage) -> None:
    stage.template.want(0)
    stage.say(state="loaded", threads=["poller", "2 of a library's"])
    assert "(poller, 2 of a library's)" in stage.template.trouble
    assert ("warning", stage.template.trouble) in stage.house.log
    stage.dies()
    stage.template.want(0)
    assert stage.template.trouble == ""


def test_a_seat_that_is_wanted_no_more_is_forgotten(stage: Stage, child: int) -> None:
    stage.template.want(0)
    assert stage.template.forget(0) is None
    stage.template.want(1)
    stage.say(state="loaded", threads=[])
    assert stage.order()["seat"] == 1
    assert stage.template.forget(1) == ("leash", 1, False)
    before = list(stage.house.log)
    stage.say(state="forked", seat=1, pid=child)
    assert stage.house.log == before
