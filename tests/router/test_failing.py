"""Which workers are set aside, and for how long."""

from emperor.router import failing

MS = 1_000_000


def test_fast_is_much_less_than_what_requests_take() -> None:
    assert failing.is_fast(1 * MS, 20 * MS)
    assert not failing.is_fast(5 * MS, 20 * MS)
    assert not failing.is_fast(1, 0), "nothing is known yet"


def test_the_first_failures_are_let_pass() -> None:
    assert [failing.aside_ns(number, 20 * MS) for number in range(failing.OFTEN)] == [0] * failing.OFTEN


def test_each_further_one_doubles_the_wait() -> None:
    waits = [failing.aside_ns(failing.OFTEN + more, 20 * MS) for more in range(4)]
    assert waits == [80 * MS, 160 * MS, 320 * MS, 640 * MS]
    assert failing.aside_ns(failing.MOST_IN_A_ROW, 20 * MS) == failing.MOST_NS


def test_an_app_of_microseconds_is_waited_for_as_well() -> None:
    assert failing.aside_ns(failing.OFTEN, 1000) == failing.LEAST_NS


def test_where_most_fail_it_is_the_app() -> None:
    assert failing.it_is_the_worker(1, 4)
    assert failing.it_is_the_worker(2, 4)
    assert failing.it_is_the_worker(1, 2)
    assert not failing.it_is_the_worker(3, 4)
    assert not failing.it_is_the_worker(1, 1)
    assert not failing.it_is_the_worker(0, 0)
