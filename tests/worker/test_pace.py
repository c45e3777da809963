"""How a worker's thread takes the processor, as the kernel tells."""

import os
import threading
from collections.abc import Callable

import pytest

from vassals.worker.pace import Lingering, Pace

EVERY = 64


def in_a_thread(act: Callable[[], object]) -> object:
    """What a thread has is its own, and ends with it."""
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(act()))
    thread.start()
    thread.join()
    assert found, "the thread has raised"
    return found[0]


def policy() -> int:
    return os.sched_getscheduler(0)


@pytest.mark.parametrize(
    ("pauses", "patient"),
    [
        ([64], [False]),
        ([8], [False]),
        ([7], [True]),
        ([0], [True]),
        ([0, 16], [True, True]),  # between the two it stays as it is
        ([0, 17], [True, False]),
        ([0, 64, 8, 7], [True, False, False, True]),
    ],
)
def test_who_seldom_pauses_is_patient_until_it_does(pauses: list[int], patient: list[bool]) -> None:
    def act() -> list[tuple[bool, int]]:
        pace = Pace()
        seen = []
        for each in pauses:
            pace.rate(EVERY, each)
            seen.append((pace.patient, policy()))
        return seen

    wanted = [(each, os.SCHED_BATCH if each else os.SCHED_OTHER) for each in patient]
    assert in_a_thread(act) == wanted


@pytest.mark.parametrize("chosen", [os.SCHED_IDLE, os.SCHED_BATCH])
def test_an_operators_policy_stays(chosen: int) -> None:
    def act() -> tuple[bool, int]:
        os.sched_setscheduler(0, chosen, os.sched_param(0))
        pace = Pace()
        pace.rate(EVERY, 0)
        pace.rate(EVERY, EVERY)
        return pace.patient, policy()

    assert in_a_thread(act) == (False, chosen)


def test_where_it_is_not_allowed_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def refuse(pid: int, policy: int, param: object) -> None:
        asked.append(policy)
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    pace = Pace()
    for _ in range(3):
        pace.rate(EVERY, 0)
    assert len(asked) == 1 and not pace.patient


@pytest.mark.parametrize(
    ("waits_us", "pays"),
    [
        ([], False),
        ([100], True),
        ([499], True),
        ([500], False),
        ([100, 900], False),
        ([100, 100, 900], True),
        # What was long ago does not count: eight are enough to be sure, either way.
        ([100] * 1000 + [900] * 8, False),
        ([900] * 1000 + [100] * 9, True),
        ([900] * 1000 + [100] * 8, False),
    ],
)
def test_lingering_pays_where_waits_are_short(waits_us: list[int], pays: bool) -> None:
    lingering = Lingering()
    for each in waits_us:
        lingering.waited(each * 1000)
    assert lingering.pays is pays
