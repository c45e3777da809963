"""How a fresh worker is brought in."""

from emperor.router import slowstart


def test_of_several_slots_one_more_at_a_time() -> None:
    found = [slowstart.slots(8, age, 4.0) for age in (-1.0, 0.0, 0.5, 0.6, 2.0, 3.9, 4.0, 9.0)]
    assert found == [1, 1, 1, 2, 4, 8, 8, 8]


def test_a_worker_of_one_slot_has_it() -> None:
    assert slowstart.slots(1, 0.0, 4.0) == 1


def test_no_window_is_no_slow_start() -> None:
    assert slowstart.slots(8, 0.0, 0.0) == 8


def test_only_where_others_are_there() -> None:
    assert slowstart.spares(1, 1)
    assert slowstart.spares(1, 3)
    assert not slowstart.spares(1, 0), "the whole app starts"
    assert not slowstart.spares(3, 1), "most of it has died"
    assert not slowstart.spares(0, 4)
