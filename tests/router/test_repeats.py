"""What a worker can repeat is said once a second."""

from emperor.router.repeats import Repeats


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
