"""What routers of one host count together of an app, on its page."""

import os
from collections.abc import Iterator

import pytest

from emperor.protocol import scoreboard
from emperor.protocol.errors import BoardError
from emperor.protocol.scoreboard import MAGIC, Board
from emperor.router.limits import CONCURRENCY, RATE, Limits
from emperor.router.together import together

from .parts import exchange
from .test_limits import NONE, admitted

NOW = 1000.0


def page(routers: int = 4) -> int:
    return scoreboard.create(1, 1, routers, 4)


@pytest.fixture
def fd() -> Iterator[int]:
    made = page()
    yield made
    os.close(made)


def one_of(fd: int, seat: int, now: float = NOW, rate: tuple[float, int] = NONE, most: int = 0) -> Limits:
    """What the router in this seat counts; each maps the page by itself."""
    limits = Limits()
    limits.use(rate, NONE, most, 0)
    limits.share(Board(fd, 1, 1, 4, 4), seat, now)
    return limits


def test_requests_at_once_are_those_of_all_routers(fd: int) -> None:
    """However unevenly they come: six at one and two at the other are eight."""
    first, second = (one_of(fd, seat, most=8) for seat in (0, 3))
    held = [exchange() for _ in range(6)]
    for each in held:
        assert first.refusal("192.0.2.1", NOW) is None
        first.admit(each, "192.0.2.1", NOW)
    assert [admitted(second, now=NOW) for _ in range(3)] == ["", "", CONCURRENCY]
    assert admitted(first, now=NOW) == CONCURRENCY
    assert held[0].ticket is not None
    held[0].ticket.release()
    assert admitted(second, now=NOW) == ""
    assert second.values(NOW)[2] == (CONCURRENCY, 8, 3), "in the statistics each says its own"


def test_what_a_dead_router_had_counts_for_two_seconds(fd: int) -> None:
    first, second = (one_of(fd, seat, most=1) for seat in (0, 1))
    assert admitted(first, now=NOW) == ""
    assert admitted(second, now=NOW + 1.9) == CONCURRENCY
    # One that lives says so again.
    first.go_on(NOW + 1.9)
    assert admitted(second, now=NOW + 3.8) == CONCURRENCY
    assert admitted(second, now=NOW + 4.3) == ""


def test_whoever_takes_its_seat_has_none_of_them(fd: int) -> None:
    first, second = (one_of(fd, seat, most=1) for seat in (0, 1))
    assert admitted(first, now=NOW) == ""
    one_of(fd, 0, most=1)
    assert admitted(second, now=NOW) == ""


def test_requests_a_second_are_those_of_all_routers(fd: int) -> None:
    first, second = (one_of(fd, seat, rate=(10.0, 4)) for seat in (0, 1))
    assert [admitted(each, now=NOW) for each in (first, first, first, second, second)] == [*[""] * 4, RATE]
    assert admitted(first, now=NOW) == RATE
    assert second.refusal("", NOW) == (RATE, pytest.approx(0.1, abs=1e-6))
    assert [admitted(each, now=NOW + 0.11) for each in (second, first)] == ["", RATE]
    assert first.values(NOW + 0.11)[0][2] == second.values(NOW + 0.11)[0][2] == 4


def test_a_new_generation_goes_on_where_the_one_before_was(fd: int) -> None:
    """A reload is no new burst."""
    first, second = (one_of(fd, seat, rate=(10.0, 2), most=9) for seat in (0, 1))
    assert [admitted(first, now=NOW) for _ in range(3)] == ["", "", RATE]
    new = page()
    try:
        for seat, each in enumerate((first, second)):
            each.share(Board(new, 1, 1, 4, 4), seat, NOW)
            each.share(Board(new, 1, 1, 4, 4), seat, NOW)
        assert [admitted(each, now=NOW) for each in (first, second)] == [RATE, RATE]
        assert Board(new, 1, 1, 4, 4).said_by_others(1, int(NOW * 1e9), 10**9) == 2
        assert Board(fd, 1, 1, 4, 4).said_by_others(1, int(NOW * 1e9), 10**9) == 0
    finally:
        os.close(new)
    # And one whose pages are gone goes on by itself.
    first.share(None, 0, NOW)
    assert admitted(first, now=NOW) == RATE
    assert admitted(first, now=NOW + 0.11) == ""


def test_an_app_that_writes_there_harms_nobody_but_itself_and_not_for_long(fd: int) -> None:
    first, second = (one_of(fd, seat, rate=(10.0, 1), most=9) for seat in (0, 1))
    for mess in (b"\xff" * 56, b"\x7f" * 56, b"\0" * 56):
        os.pwrite(fd, mess, len(MAGIC))
        for each in (first, second):
            each.go_on(NOW)
        assert admitted(first, now=NOW) in ("", RATE)
    assert admitted(first, now=NOW + 0.2) == "", "by then all is right again"
    assert admitted(second, now=NOW + 0.2) == RATE


def test_a_page_of_one_router_has_nothing_of_it() -> None:
    alone = page(1)
    try:
        board = Board(alone, 1, 1, 1, 4)
        assert together(board, 0, None, 0, NOW) is None
        with pytest.raises(BoardError):
            board.spent_until()
    finally:
        os.close(alone)


def test_since_when_somebody_waits_is_seen_by_the_others(fd: int) -> None:
    first, second, third = (Board(fd, 1, 1, 4, 4) for _ in range(3))
    ms = 1_000_000
    # At any time of a clock that goes on for longer than 32 bits can tell.
    for now in (10**10, 10**15, 2**32 * 100_000 + 5 * ms, 2**33 * 100_000 - ms):
        os.pwrite(fd, bytes(16), 48)
        assert second.others_wait(1, now) == 0, "nobody has said anything"
        first.say_waits(0, now - 300 * ms)
        second.say_waits(1, now - 20 * ms)
        third.say_waits(2, 0)
        assert [
            round((now - each.others_wait(seat, now)) / ms)
            for seat, each in enumerate((first, second, third))
        ] == [20, 300, 300]
        first.say_waits(0, now + 50 * ms)
        assert now - second.others_wait(1, now) == 0, "its clock goes before"
        first.say_waits(0, 0)
        assert second.others_wait(1, now) == 0, "nobody waits there"
    with pytest.raises(BoardError):
        first.say_waits(4, 1)
