"""What a peer or a worker can repeat is said once a second, and counted."""

import random

from emperor.router.repeats import MOST, Repeats
from tests.router.stage import said_of


def test_the_first_is_said_at_once_and_the_last_of_the_others_a_second_later() -> None:
    repeats = Repeats()
    assert repeats.may("fault", "error", "first", 10.0)
    assert not any(repeats.may("fault", "error", f"number {number}", 10.5) for number in range(3))
    assert repeats.due(10.9) == []
    assert repeats.due(11.0) == [("error", "number 2 (the last of 3 more such lines in a second)")]
    assert not repeats.may("fault", "warning", "one more", 11.5)
    assert repeats.due(12.0) == [("warning", "one more")]


def test_each_kind_has_its_own_second() -> None:
    repeats = Repeats()
    assert repeats.may("fault", "error", "a", 10.0)
    assert repeats.may("HELLO", "warning", "b", 10.1)
    assert not repeats.may("fault", "error", "c", 10.2)
    assert repeats.due(11.05) == [("error", "c")]


def test_who_has_been_quiet_for_a_second_is_heard_at_once_again() -> None:
    repeats = Repeats()
    assert repeats.may("fault", "error", "a", 10.0)
    assert repeats.waiting
    assert repeats.due(11.0) == []
    assert not repeats.waiting
    assert repeats.may("fault", "error", "b", 11.0)


def test_there_is_an_end_to_the_kinds_and_what_is_beyond_it_is_counted_as_one() -> None:
    repeats = Repeats()
    said = [
        number for number in range(10_000) if repeats.may(f"kind {number}", "info", f"line {number}", 10.0)
    ]
    assert said == list(range(MOST))
    assert repeats.due(11.0) == [
        (
            "info",
            f"line 9999 (the last of {10_000 - MOST} more lines in a second, of more kinds than are told apart)",
        )
    ]
    assert repeats.may("kind 0", "info", "again", 11.0)


def test_at_the_end_all_is_said_that_is_held_back() -> None:
    repeats = Repeats()
    for _ in range(3):
        repeats.may("fault", "error", "a", 10.0)
    repeats.may("HELLO", "warning", "b", 10.0)
    for number in range(2):
        repeats.may("trailers", "info", f"c {number}", 10.0)
    assert repeats.rest() == [("error", "a (the last of 2 more such lines in a second)"), ("info", "c 1")]
    assert repeats.rest() == [] and not repeats.waiting


def test_whatever_comes_each_is_counted_once_and_takes_no_room() -> None:
    repeats, chance = Repeats(), random.Random(7)
    lines: list[tuple[str, str]] = []
    for number in range(10_000):
        now = number / 1000
        if repeats.may(str(chance.randrange(1000)), "info", "one", now):
            lines.append(("info", "one"))
        if number % 250 == 0:
            lines += repeats.due(now)
        assert len(repeats._kinds) <= MOST + 1
    assert said_of((text for _, text in lines + repeats.rest()), "one") == 10_000
