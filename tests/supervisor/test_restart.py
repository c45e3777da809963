"""Restart intensity, with a clock that stands until it is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emperor.supervisor.restart import CAP_S, GIVE_UP_AFTER, JITTER, Backoff


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def backoff(clock: Clock) -> Backoff:
    return Backoff(clock=clock, random=lambda: 0.5)  # the middle: no jitter


def test_the_first_death_after_being_ready_costs_nothing(backoff: Backoff) -> None:
    backoff.ready()
    assert backoff.died() == 0.0


def test_deaths_in_a_row_double_up_to_the_cap(backoff: Backoff, clock: Clock) -> None:
    delays = []
    for _ in range(9):
        backoff.ready()
        clock.now += 1
        delays.append(backoff.died())
        clock.now += delays[-1]
    assert delays == [0, 1, 2, 4, 8, 16, 32, 60, 60]


def test_a_life_longer_than_the_window_is_forgiven(backoff: Backoff, clock: Clock) -> None:
    for life_s, delay in ((1, 0), (1, 1), (9.9, 2), (10, 0), (1, 1)):
        backoff.ready()
        clock.now += life_s
        assert backoff.died() == delay
        clock.now += delay


def test_a_long_wait_is_no_long_life(backoff: Backoff, clock: Clock) -> None:
    for _ in range(6):
        backoff.ready()
        delay = backoff.died()
        clock.now += delay
    backoff.ready()
    assert backoff.died() == 2 * delay > 10


def test_what_was_never_ready_waits_from_the_first_time_on(backoff: Backoff, clock: Clock) -> None:
    delays = []
    for _ in range(3):
        clock.now += 300  # a slow import does not make it a long life
        delays.append(backoff.died())
    assert delays == [1, 2, 4] and backoff.failures == 3


def test_it_gives_up_after_so_many_in_a_row_and_reset_forgives(backoff: Backoff) -> None:
    for _ in range(GIVE_UP_AFTER - 1):
        backoff.died()
    assert not backoff.given_up
    backoff.died()
    assert backoff.given_up
    backoff.reset()
    assert not backoff.given_up and backoff.failures == 0 and backoff.died() == 1


def test_ready_once_ends_the_row(backoff: Backoff) -> None:
    for _ in range(GIVE_UP_AFTER - 1):
        backoff.died()
    backoff.ready()
    assert backoff.failures == 0


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 1000)), max_size=200), st.floats(0, 1, exclude_max=True)
)
def test_a_wait_is_never_longer_than_the_cap_and_its_jitter(
    lives: list[tuple[bool, float]], random: float
) -> None:
    clock = Clock()
    backoff = Backoff(clock=clock, random=lambda: random)
    for ready, life_s in lives:
        if ready:
            backoff.ready()
        clock.now += life_s
        delay = backoff.died()
        assert 0 <= delay <= CAP_S * (1 + JITTER)
        assert ready or delay >= 1 - JITTER
