"""Bells: who rings is never held up, whatever is at the other end, and who waits hears."""

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from emperor.protocol import bell
from emperor.supervisor.bells import MOST_SEATS, Bells


@pytest.fixture
def bells() -> Iterator[Bells]:
    made = Bells(2)
    yield made
    made.close()


def ends(bells: Bells, seat: int = 0) -> tuple[int, int]:
    """The router's end and the worker's."""
    return bells.for_router()[1 + seat], bells.for_gateway()[1 + seat]


def test_a_ring_is_heard_once(bells: Bells) -> None:
    ring, ear = ends(bells)
    assert bell.wait_readable((ear,), 0) == 0
    bell.ring_worker(ring)
    bell.ring_worker(ring)
    assert bell.wait_readable((ear,), 10_000) == 1
    assert bell.hear(ear) == 2
    assert bell.hear(ear) == 0
    assert bell.wait_readable((ends(bells, 1)[1], ear), 0) == 0


def test_who_rings_one_that_nobody_hears_is_not_held_up(bells: Bells) -> None:
    """A tenant that clears the flags of its own end changes nothing at the other."""
    ring, ear = ends(bells)
    os.set_blocking(ear, True)
    for _ in range(100_000):
        bell.ring_worker(ring)
    assert bell.hear(ear)
    os.close(os.dup(ear))


def test_a_bell_whose_other_end_is_gone_is_no_error() -> None:
    bells = Bells(1)
    ring, _ = ends(bells)
    bells.handed_over()
    bell.ring_worker(ring)
    bells.close()
    bell.ring_worker(-1)
    assert bell.hear(-1) == 0


def test_who_waits_for_a_bell_that_nobody_can_ring_any_more_hears_of_it(bells: Bells) -> None:
    ring, ear = ends(bells)
    ear = os.dup(ear)
    bell.ring_worker(ring)
    bells.close()
    assert bell.wait_readable((ear,), 10_000) == 1
    assert (bell.hear(ear), bell.hear(ear)) == (1, -1)
    os.close(ear)


def test_nothing_can_be_left_at_the_routers_end(bells: Bells) -> None:
    """No byte and, above all, no descriptor whose end would be the router's to wait for."""
    _, ear = ends(bells)
    with socket.socket(fileno=os.dup(ear)) as tenant, open(os.devnull) as file:
        with pytest.raises(BrokenPipeError):
            tenant.send(b"x")
        with pytest.raises(BrokenPipeError):
            socket.send_fds(tenant, [b"x"], [file.fileno()])


def test_the_routers_bell_wakes_an_edge_triggered_epoll_each_time(bells: Bells) -> None:
    fd = bells.for_router()[0]
    with select.epoll() as epoll:
        epoll.register(fd, select.EPOLLIN | select.EPOLLET)
        for _ in range(3):
            bell.ring_router(fd)
            assert epoll.poll(10) == [(fd, select.EPOLLIN)]
            assert epoll.poll(0) == []


def test_wait_says_which(bells: Bells) -> None:
    first, second = ends(bells), ends(bells, 1)
    ears = (first[1], second[1])
    bell.ring_worker(second[0])
    assert bell.wait_readable(ears, -1) == 2
    bell.ring_worker(first[0])
    assert bell.wait_readable(ears, -1) == 3


def test_wait_ends_in_time_and_lets_others_run(bells: Bells) -> None:
    ring, ear = ends(bells)
    assert bell.wait_readable((ear,), 5) == 0
    timer = threading.Timer(0.02, bell.ring_worker, (ring,))
    timer.start()
    assert bell.wait_readable((ear,), 10_000) == 1
    timer.join()


def test_a_signal_ends_a_wait_after_its_handler(bells: Bells) -> None:
    _, ear = ends(bells)
    caught: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: caught.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        began = time.monotonic()
        while not caught:
            assert bell.wait_readable((ear,), 10_000) == 0
        assert time.monotonic() - began < 10
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_descriptor_that_is_none_counts_as_ready() -> None:
    """POLLNVAL: whoever looks round finds out."""
    read, write = os.pipe()
    os.close(write)
    os.close(read)
    assert bell.wait_readable((read,), 0) == 1


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def wait_closed() -> None:
    """Until no thread closes a bell any more."""
    for thread in threading.enumerate():
        if thread.name == "close":
            thread.join()


def test_nothing_is_left_open() -> None:
    wait_closed()  # those of the tests before
    before = descriptors()
    bells = Bells(3)
    assert descriptors() == before + 7
    assert len(bells.for_router()) == len(bells.for_gateway()) == 4
    bells.handed_over()
    assert descriptors() == before + 4
    bells.close()
    wait_closed()
    assert descriptors() == before
    bells.close()


def test_seats_beyond_one_message_have_none() -> None:
    bells = Bells(MOST_SEATS + 5)
    assert bells.seats == MOST_SEATS
    assert len(bells.for_router()) == MOST_SEATS + 1
    bells.close()
