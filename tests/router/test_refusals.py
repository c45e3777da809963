"""What the log says of packets that are refused again and again."""

import random
import re

from emperor.router.refusals import MOST, SINGLY, Refusals


def counted(lines: list[str]) -> int:
    """The packets that these lines speak of."""
    found = (re.search(r"the last of (\d+) such", line) for line in lines)
    return sum(1 if each is None else int(each[1]) for each in found)


def test_the_first_is_said_and_then_how_many_came_once_a_minute() -> None:
    refusals = Refusals()
    lines = []
    for second in range(150):
        lines += [(second, line) for line in refusals.refused(("a",), f"a at {second}", float(second))]
        lines += [(second, line) for line in refusals.due(second + 0.5)]
    assert lines == [
        (0, "a at 0"),
        (60, "a at 60 (the last of 60 such in 60 s)"),
        (120, "a at 120 (the last of 60 such in 60 s)"),
    ]


def test_all_together_have_one_line_a_second_and_each_has_its_own() -> None:
    refusals = Refusals()
    said = [line for kind in "abc" for _ in range(2) for line in refusals.refused((kind,), kind, 10.0)]
    assert said == ["a"]
    assert refusals.due(10.9) == []
    assert refusals.refused(("d",), "d", 11.0) == ["b (the last of 2 such in 1 s)"]  # who came first
    assert refusals.due(12.0) == ["c (the last of 2 such in 2 s)"]
    assert refusals.due(13.0) == ["d"]
    assert refusals.due(14.0) == []
    assert refusals.due(70.0) == ["a"]


def test_one_line_speaks_for_all_where_many_wait() -> None:
    refusals = Refusals()
    for number in range(SINGLY + 2):
        refusals.refused((number,), f"number {number}", 10.0)
    assert refusals.due(11.0) == [
        f"number {SINGLY + 1} (the last of {SINGLY + 1} such of {SINGLY + 1} kinds in 1 s)"
    ]
    assert refusals.due(12.0) == []


def test_who_has_been_quiet_for_a_minute_is_heard_at_once_again() -> None:
    refusals = Refusals()
    assert refusals.refused(("a",), "a", 10.0) == ["a"]
    assert refusals.due(70.0) == []
    assert refusals.refused(("a",), "again", 70.0) == ["again"]


def test_at_the_end_all_is_said_that_was_not_yet() -> None:
    refusals = Refusals()
    for kind in "aabc":
        refusals.refused((kind,), kind, 10.0)
    assert refusals.rest(10.5) == ["a", "b", "c"]
    assert refusals.rest(10.5) == []
    for number in range(SINGLY + 1):
        refusals.refused((number,), f"number {number}", 10.5)
    assert refusals.rest(13.0) == [
        f"number {SINGLY} (the last of {SINGLY + 1} such of {SINGLY + 1} kinds in 2 s)"
    ]


def test_a_sender_that_invents_kinds_takes_no_room_and_every_packet_is_counted_once() -> None:
    refusals, lines, chance = Refusals(), [], random.Random(7)
    for number in range(10_000):
        kind = chance.randrange(5000)
        lines += refusals.refused((kind,), "one", number / 100)
        if number % 100 == 0:
            lines += refusals.due(number / 100)
        assert len(refusals._kinds) <= MOST + 1
    for second in range(100, 300):
        lines += refusals.due(float(second))
    assert counted(lines) == 10_000 and len(lines) <= 200
