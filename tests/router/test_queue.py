"""The queue: order of arrival, a bound for clients, deadlines."""

from hypothesis import given
from hypothesis import strategies as st

from emperor.router.exchange import Exchange
from emperor.router.queue import Queue
from tests.router.parts import exchange


def drained(queue: Queue) -> list[Exchange]:
    out = []
    while (taken := queue.take()) is not None:
        out.append(taken)
    return out


def test_oldest_first() -> None:
    queue = Queue(10)
    first, second = exchange(1), exchange(2)
    assert queue.add(first)
    assert queue.add(second)
    assert len(queue) == 2
    assert drained(queue) == [first, second]
    assert queue.take() is None


def test_what_comes_back_stands_where_it_stood() -> None:
    queue = Queue(10)
    waiting = [exchange(at) for at in (2.0, 4.0, 6.0)]
    for each in waiting:
        queue.add(each)
    back = [exchange(at) for at in (1.0, 5.0, 7.0)]
    for each in reversed(back):
        queue.put_back(each)
    assert drained(queue) == [back[0], waiting[0], waiting[1], back[1], waiting[2], back[2]]


def test_several_of_one_instant_come_back_in_their_order() -> None:
    queue = Queue(10)
    same = [exchange(3.0) for _ in range(3)]
    later = exchange(3.5)
    queue.add(later)
    for each in same:
        queue.put_back(each)
    assert drained(queue) == [*same, later]


def test_the_bound_is_for_clients_and_not_for_what_comes_back() -> None:
    queue = Queue(2)
    assert queue.add(exchange(1))
    assert queue.add(exchange(2))
    assert not queue.add(exchange(3))
    queue.put_back(exchange(0))
    assert len(queue) == 3
    queue.take()
    assert not queue.add(exchange(4))
    queue.limit = 3
    assert queue.add(exchange(4))


def test_a_queue_of_none_admits_none() -> None:
    assert not Queue(0).add(exchange())


def test_overdue_takes_out_exactly_those_whose_deadline_has_come() -> None:
    queue = Queue(10)
    early, due, late = exchange(1, deadline=5), exchange(2, deadline=7), exchange(3, deadline=9)
    for each in (early, due, late):
        queue.add(each)
    assert queue.overdue(4.999) == []
    assert queue.overdue(7) == [early, due]
    assert list(queue) == [late]
    assert queue.overdue(7) == []


def test_remove_and_clear() -> None:
    queue = Queue(10)
    one, two, three = exchange(1), exchange(2), exchange(3)
    for each in (one, two, three):
        queue.add(each)
    queue.remove(two)
    assert list(queue) == [one, three]
    assert two not in queue
    assert queue.clear() == [one, three]
    assert not len(queue)


@given(st.lists(st.integers(0, 5), max_size=20), st.data())
def test_any_that_are_taken_and_put_back_leave_the_order_as_it_was(
    arrivals: list[int], data: st.DataObject
) -> None:
    queue = Queue(100)
    everything = [exchange(at + index / 1000) for index, at in enumerate(sorted(arrivals))]
    for each in everything:
        queue.add(each)
    taken = drained(queue)[: data.draw(st.integers(0, len(everything)))]
    for each in everything[len(taken) :]:
        queue.add(each)
    for each in data.draw(st.permutations(taken)):
        queue.put_back(each)
    assert drained(queue) == everything
