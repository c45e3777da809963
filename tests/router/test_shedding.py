"""When a queue is overload, and when it only looks like it."""

import pytest

from emperor.router.shedding import INTERVAL_SHARE, TIMES, Shedding, limit_s, retry_after_s, work_s

MS = 1_000_000
TIMEOUT_S = 10.0


def look(
    shedding: Shedding, now: float, waited_s: float, queued: int, slots: int = 4, mean_ms: int = 50
) -> bool:
    return shedding.look(now, waited_s, queued, slots, mean_ms * MS, TIMEOUT_S)


def standing(shedding: Shedding, now: float = 0.0, *, for_s: float = 2.0, **shape: int) -> float:
    """The queue stands for so long; returns when that is over."""
    until = now + for_s
    while now < until:
        look(shedding, now, 0.9, shape.get("queued", 200), shape.get("slots", 4), shape.get("mean_ms", 50))
        now += 0.25
    return now


def test_a_queue_that_stands_is_overload() -> None:
    shedding = Shedding(1.0)
    assert not look(shedding, 0.0, 0.6, 200)
    assert not look(shedding, 0.1, 0.6, 200), "not at once"
    assert look(shedding, INTERVAL_SHARE, 0.6, 200)
    assert (shedding.limit_s, shedding.times) == (1.0, 1)


def test_it_is_over_when_the_oldest_has_waited_for_less_than_half_of_it() -> None:
    shedding = Shedding(1.0)
    now = standing(shedding)
    assert shedding.overloaded
    assert look(shedding, now, 0.5, 200)
    assert not look(shedding, now + 0.25, 0.4, 200)
    assert not look(shedding, now + 0.5, 0.9, 200), "an interval anew"


def test_an_empty_queue_is_no_overload() -> None:
    shedding = Shedding(1.0)
    now = standing(shedding)
    assert not look(shedding, now, 0.0, 0)


def test_a_few_that_wait_behind_long_ones_are_none() -> None:
    """One report of a minute in the only worker: those behind it wait, and are no more than usual."""
    shedding = Shedding(1.0)
    standing(shedding, queued=3, slots=1, mean_ms=20, for_s=8.0)
    assert not shedding.overloaded
    standing(shedding, queued=30, slots=1, mean_ms=20, for_s=8.0)
    assert shedding.overloaded


def test_what_has_waited_for_workers_to_be_there_is_none() -> None:
    shedding = Shedding(1.0)
    now = standing(shedding, slots=0)
    now = standing(shedding, now, for_s=TIMEOUT_S - 1)
    assert not shedding.overloaded
    now = standing(shedding, now, for_s=3.0)
    assert shedding.overloaded, "but not for ever"
    look(shedding, now, 0.9, 200, slots=0)
    look(shedding, now + 1, 0.1, 10)
    standing(shedding, now + 2)
    assert shedding.overloaded, "it had caught up meanwhile"


def test_before_anything_is_known_of_the_app_nobody_is_turned_away() -> None:
    shedding = Shedding(1.0)
    standing(shedding, mean_ms=0, for_s=9.0)
    assert not shedding.overloaded


def test_it_can_be_turned_off() -> None:
    shedding = Shedding(0.0)
    standing(shedding, for_s=9.0)
    assert not shedding.overloaded


@pytest.mark.parametrize(
    ("mean_ms", "limit"), [(1, 1.0), (125, 1.0), (500, TIMES * 0.5), (60_000, TIMEOUT_S)]
)
def test_the_limit_goes_by_what_requests_take(mean_ms: int, limit: float) -> None:
    assert limit_s(1.0, mean_ms * MS, TIMEOUT_S) == limit


@pytest.mark.parametrize(
    ("queued", "mean_ms", "slots", "seconds"),
    [(0, 50, 4, 1), (10, 50, 4, 1), (400, 50, 4, 5), (400, 50, 0, 1), (10_000, 1000, 4, 60)],
)
def test_who_is_turned_away_comes_again_when_what_waits_is_done(
    queued: int, mean_ms: int, slots: int, seconds: int
) -> None:
    assert retry_after_s(queued, mean_ms * MS, slots) == seconds


def test_work_is_shared_by_slots() -> None:
    assert work_s(100, 50 * MS, 5) == 1.0
