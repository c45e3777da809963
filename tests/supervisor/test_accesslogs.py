"""Which file a router is sent: the one that its vassal's file names now, opened as the one who it runs as now."""

import os
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from emperor.config.accesslog import AccessLog
from emperor.supervisor.accesslogs import AccessLogs
from emperor.supervisor.loop import Loop
from emperor.supervisor.tenant import Outcome, Rename, Step, Tenant, Tenants

LOG = AccessLog(place="/srv/log")


class Desk:
    """Takes what is asked of tenants, what is logged and what is sent."""

    def __init__(self) -> None:
        self.asked: list[tuple[Tenant, Callable[[list[Outcome]], None]]] = []
        self.steps: list[Sequence[Step]] = []
        self.errors: list[str] = []
        self.sent: list[dict[str, Any]] = []

    def ask(self, tenant: Tenant, steps: Sequence[Step], on_done: Callable[[list[Outcome]], None]) -> None:
        self.asked.append((tenant, on_done))
        self.steps.append(steps)

    def error(self, text: str) -> None:
        self.errors.append(text)

    def send(self, message: dict[str, Any], fds: Sequence[int], close: Callable[[int], None]) -> None:
        self.sent.append(message)

    def answer(self, number: int) -> None:
        """What was asked `number`th is done: a file is open."""
        self.asked[number][1]([Outcome(fd=os.open("/dev/null", os.O_WRONLY), size=0)])


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def logs(desk: Desk) -> AccessLogs:
    return AccessLogs(cast(Loop, None), cast(Tenants, desk), desk, desk.send)


def test_a_file_opened_as_the_former_user_goes_nowhere(logs: AccessLogs, desk: Desk) -> None:
    """A reload changed the uid alone, and the answer to the first opening comes after it."""
    logs.told("blog", LOG, Tenant(1001))
    logs.told("blog", LOG, Tenant(1002))
    assert [tenant.uid for tenant, _ in desk.asked] == [1001, 1002]
    desk.answer(0)
    assert desk.sent == []
    desk.answer(1)
    assert [message["name"] for message in desk.sent] == ["blog"]


def test_a_vassal_that_has_gone_gets_no_file(logs: AccessLogs, desk: Desk) -> None:
    logs.told("blog", LOG, Tenant())
    logs.forget("blog")
    desk.answer(0)
    assert (desk.sent, desk.errors) == ([], [])


def test_of_two_routers_one_has_the_log_moved_away(logs: AccessLogs, desk: Desk) -> None:
    """Both write to one file, and each sees that it is full."""
    logs.told("blog", LOG, Tenant())
    desk.answer(0)
    (opening,) = [message["opening"] for message in desk.sent]
    logs.full("blog", opening)
    logs.full("blog", opening)
    assert len(desk.asked) == 2
    desk.answer(1)
    logs.full("blog", opening)
    assert len(desk.asked) == 2, "it has not heard yet that there is another file"
    logs.full("blog", desk.sent[-1]["opening"])
    assert len(desk.asked) == 3
    logs.full("blog", None)
    assert len(desk.asked) == 4, "a version before says nothing of it, and was alone"


def test_a_log_that_fills_twice_in_a_second_is_kept_twice(
    logs: AccessLogs, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: 1000.5)
    logs.told("blog", LOG, Tenant())
    logs.full("blog", None)
    logs.told("blog", LOG, Tenant())
    logs.full("blog", None)
    moved = [step.to for steps in desk.steps for step in steps if isinstance(step, Rename)]
    assert moved == ["/srv/log.1000", "/srv/log.1001"]
