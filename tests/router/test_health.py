"""When an upstream is left out and comes back, under a clock of the test's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emperor.router.health import (
    CHECKS_FAILED,
    CHECKS_PASSED,
    COLDEST,
    EJECTION_MOST_S,
    EJECTION_S,
    FAILURES,
    PENALTY,
    SERVING,
    SLOW_START_S,
    TRANSITIONS,
    TRIED_S,
    Event,
    Health,
    Outcome,
    State,
    may_eject,
)


def failed_out(health: Health, now: float) -> None:
    """Five failures, and what whoever asks does then."""
    for _ in range(FAILURES):
        enough = health.ended(Outcome.FAILED, now)
    assert enough
    health.eject(now)


def test_five_failures_in_a_row_eject_and_four_do_not() -> None:
    health = Health(0.0)
    assert [health.ended(Outcome.FAILED, 1.0) for _ in range(FAILURES)] == [False] * 4 + [True]
    other = Health(0.0)
    for outcome in [Outcome.FAILED] * 4 + [Outcome.ANSWERED] + [Outcome.FAILED] * 4:
        assert not other.ended(outcome, 1.0)


@pytest.mark.parametrize("between", [Outcome.ANSWERED, Outcome.ERROR])
def test_an_answer_of_the_app_ends_the_row(between: Outcome) -> None:
    health = Health(0.0)
    for _ in range(3):
        for outcome in [Outcome.FAILED] * 4 + [between]:
            assert not health.ended(outcome, 1.0)


def test_a_client_that_left_says_nothing() -> None:
    health = Health(0.0)
    for _ in range(20):
        assert not health.ended(Outcome.UNKNOWN, 1.0)
    assert health.penalty(1.0) == 0
    for _ in range(4):
        health.ended(Outcome.FAILED, 1.0)
    health.ended(Outcome.UNKNOWN, 1.0)
    assert health.ended(Outcome.FAILED, 1.0)


def test_it_is_out_longer_each_time_and_comes_back_slowly() -> None:
    health, now = Health(0.0), 0.0
    for times in range(1, 14):
        failed_out(health, now)
        out_s = min(times * EJECTION_S, EJECTION_MOST_S)
        assert not health.serving
        assert not health.look(now + out_s - 0.1)
        now += out_s
        assert health.look(now)
        assert health.state is State.WARMING
        assert health.warmth(now) == COLDEST
        assert health.penalty(now) == 0
    assert health.warmth(now + SLOW_START_S / 2) == pytest.approx(0.5)
    assert health.look(now + SLOW_START_S)
    assert health.state is State.IN
    assert health.warmth(now + SLOW_START_S) == 1.0


def test_an_ejection_is_forgotten_after_as_long_in_service() -> None:
    health = Health(0.0)
    failed_out(health, 0.0)
    health.look(EJECTION_S)
    failed_out(health, EJECTION_S + 1)
    assert health.ejections == 2
    back = EJECTION_S + 1 + 2 * EJECTION_S
    health.look(back)
    health.look(back + SLOW_START_S)
    failed_out(health, back + 2 * EJECTION_S)
    assert health.ejections == 2
    assert health.ejections_ever == 3


def test_failures_count_as_load_and_fade() -> None:
    health = Health(0.0)
    health.ended(Outcome.FAILED, 0.0)
    once = health.penalty(0.0)
    assert 0 < once < 1
    for _ in range(100):
        health.ended(Outcome.ERROR, 0.0)
    assert health.penalty(0.0) == pytest.approx(PENALTY, rel=0.01)
    assert health.penalty(10.0) < health.penalty(5.0) < health.penalty(0.0)
    assert health.penalty(60.0) == 0


def test_a_check_that_fails_takes_it_down_and_two_that_pass_bring_it_back() -> None:
    health = Health(0.0)
    for number in range(CHECKS_FAILED):
        assert health.checked(False, 1.0) is (number == CHECKS_FAILED - 1)
    assert not health.serving
    assert not health.look(1e6)
    for number in range(CHECKS_PASSED):
        assert health.checked(True, 2.0) is (number == CHECKS_PASSED - 1)
    assert health.state is State.WARMING


def test_a_check_that_passes_does_not_end_an_ejection() -> None:
    health = Health(0.0)
    failed_out(health, 0.0)
    for _ in range(5):
        assert not health.checked(True, 1.0)
    assert health.state is State.EJECTED


def unreached(health: Health, now: float, times: int = 1) -> None:
    for _ in range(times):
        health.ended(Outcome.UNREACHED, now)


def test_who_could_not_be_reached_and_can_be_is_as_good_as_before() -> None:
    health = Health(0.0)
    assert not health.doubted
    unreached(health, 1.0, 3)
    assert health.doubted and not health.tried(False, 2.0) and health.doubted
    assert health.tried(True, 3.0)
    assert (health.in_a_row, health.doubted) == (0, False)


def test_a_connection_says_nothing_of_requests_that_had_one() -> None:
    for outcomes in (
        [Outcome.FAILED] * 2,
        [Outcome.FAILED, Outcome.UNREACHED],
        [Outcome.UNREACHED, Outcome.FAILED],
    ):
        health = Health(0.0)
        for outcome in outcomes:
            health.ended(outcome, 1.0)
        assert not health.tried(True, 2.0)
        assert (health.in_a_row, health.reached, health.doubted) == (2, True, False)
        health.ended(Outcome.FAILED, 3.0)
        assert health.doubted


def test_one_that_is_out_returns_when_it_can_be_reached_and_not_before() -> None:
    health = Health(0.0)
    unreached(health, 0.0, FAILURES)
    health.eject(0.0)
    assert not health.tried(False, EJECTION_S - 1)
    assert not health.look(EJECTION_S)
    assert health.tried(True, EJECTION_S + 1)
    assert health.state is State.WARMING
    # Unless nobody tries any more.
    other = Health(0.0)
    unreached(other, 0.0, FAILURES)
    other.eject(0.0)
    other.tried(False, EJECTION_S - 1)
    assert other.look(EJECTION_S - 1 + TRIED_S)


def test_one_alone_that_cannot_be_reached_is_taken_for_failing_as_long_as_that_is_so() -> None:
    health = Health(0.0)
    unreached(health, 0.0, FAILURES)
    assert health.failing(1.0) and not health.failing(EJECTION_S + 1)
    health.tried(False, EJECTION_S)
    assert health.failing(EJECTION_S + 1)
    health.tried(True, EJECTION_S + 2)
    assert not health.failing(EJECTION_S + 2)


def test_checks_that_pass_reach_it_too() -> None:
    health = Health(0.0)
    unreached(health, 0.0, FAILURES)
    health.eject(0.0)
    assert [health.checked(True, 1.0) for _ in range(CHECKS_PASSED)] == [False, True]
    assert health.state is State.WARMING
    other = Health(0.0)
    other.ended(Outcome.FAILED, 0.0)
    for _ in range(CHECKS_PASSED):
        other.checked(True, 1.0)
    assert other.reached and other.in_a_row == 1


@pytest.mark.parametrize(("members", "most"), [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (10, 5)])
def test_at_most_half_are_out(members: int, most: int) -> None:
    ejected = 0
    while may_eject(ejected, members):
        ejected += 1
    assert ejected == most


def test_each_state_can_be_left_and_reached() -> None:
    assert {state for state, _ in TRANSITIONS} == set(State)
    assert set(TRANSITIONS.values()) == set(State)
    assert {event for _, event in TRANSITIONS} == set(Event)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*Outcome, "well", "sick", "look", "reached", "not reached"]),
            st.floats(min_value=0, max_value=40, allow_nan=False),
        ),
        max_size=200,
    )
)
def test_whatever_happens_it_is_in_one_state_and_returns(happened: list[tuple[object, float]]) -> None:
    health, now = Health(0.0), 0.0
    for what, later_s in happened:
        now += later_s
        if isinstance(what, Outcome):
            if health.ended(what, now):
                health.eject(now)
                assert now + EJECTION_S <= health.until <= now + EJECTION_MOST_S
        elif what == "look":
            health.look(now)
        elif what in ("reached", "not reached"):
            health.tried(what == "reached", now)
        else:
            health.checked(what == "well", now)
        assert 0 <= health.penalty(now) <= PENALTY
        assert COLDEST <= health.warmth(now) <= 1
        assert (health.state in SERVING) is health.serving
    for _ in range(CHECKS_PASSED):
        health.checked(True, now)
    health.look(now + EJECTION_MOST_S)
    health.look(now + EJECTION_MOST_S + SLOW_START_S)
    assert health.state is State.IN
