"""What becomes of a worker that is held for too long, by the page and a clock of ours."""

import pytest

from vassals.gateway.sentence import LEAVE_S, Sentence, late

STUCK, OTHER, THIRD = 7, 8, 9


def sentence(longest_s: float = 30.0, grace_s: float = 0.0) -> Sentence:
    made = Sentence(100.0, longest_s, grace_s, "harakiri")
    made.streams.add(STUCK)
    return made


def test_alone_it_is_killed_at_the_second_look() -> None:
    made = sentence()
    assert [made.step(100.0 + at / 10, {STUCK}) for at in range(3)] == ["", "kill", "kill"]


def test_the_others_are_waited_for() -> None:
    made = sentence()
    assert [made.step(at, {STUCK, OTHER}) for at in (100.0, 105.0, 110.0)] == ["", "", ""]
    assert [made.step(at, {STUCK}) for at in (110.1, 110.2)] == ["", "kill"]


def test_what_begins_in_between_counts_as_another() -> None:
    made = sentence()
    assert made.step(100.0, {STUCK}) == ""
    assert made.step(100.1, {STUCK, OTHER}) == ""
    assert made.step(100.2, {STUCK}) == ""
    assert made.step(100.3, {STUCK}) == "kill"


def test_the_others_are_not_waited_for_for_ever() -> None:
    made = sentence(longest_s=30.0)
    assert made.step(129.9, {STUCK, OTHER}) == ""
    assert made.step(130.0, {STUCK, OTHER}) == ""
    assert made.step(130.1, {STUCK, OTHER}) == "kill"


def test_two_that_run_too_long_wait_for_nobody() -> None:
    made = sentence()
    made.streams.add(OTHER)
    assert [made.step(100.0, {STUCK, OTHER}), made.step(100.1, {STUCK, OTHER})] == ["", "kill"]


def test_what_came_back_after_all_is_let_out() -> None:
    """Its last words, and its goodbye, are on their way: to kill it would lose them."""
    made = sentence(longest_s=300.0)
    assert [made.step(at, set()) for at in (100.0, 100.1, 105.0)] == ["", "", ""]
    assert made.step(100.0 + LEAVE_S, set()) == "kill"


def test_what_came_back_leaves_the_others_their_time() -> None:
    made = sentence(longest_s=300.0)
    assert made.step(100.0, {THIRD}) == ""
    assert made.step(100.0 + LEAVE_S - 0.1, {THIRD}) == ""


def test_a_signal_comes_first_where_it_is_asked_for() -> None:
    made = sentence(grace_s=2.0)
    assert [made.step(at, {STUCK}) for at in (100.0, 100.1)] == ["", "signal"]
    assert [made.step(at, {STUCK}) for at in (100.2, 102.0, 102.1)] == ["", "", "kill"]


@pytest.mark.parametrize(
    ("slots", "found", "next_s"),
    [
        ([], [], 10.0),
        ([(0, 0), (0, 5)], [], 10.0),  # at rest: one look in that time is enough
        ([(7, 96_000_000_000)], [], 6.0),
        ([(7, 96_000_000_000), (8, 93_000_000_000)], [], 3.0),
        ([(7, 90_000_000_000), (8, 99_000_000_000)], [(7, 10.0)], 9.0),
        ([(7, 200_000_000_000)], [], 10.0),  # a start in the future is nonsense, and harms nobody
    ],
)
def test_the_page_says_who_is_late_and_when_to_look_again(
    slots: list[tuple[int, int]], found: list[tuple[int, float]], next_s: float
) -> None:
    assert late(slots, 10.0, 100_000_000_000) == (found, next_s)
