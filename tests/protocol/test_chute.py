"""The chutes of large bodies: what goes in comes out, nobody sleeps beside bytes or room, and a side that lies is found out."""

import mmap
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emperor.protocol import chute, scoreboard
from emperor.protocol.chute import Chute
from emperor.protocol.errors import BoardError, RecordError
from emperor.protocol.scoreboard import CHUTE_WORDS_BYTES, DOWN, DOWN_BYTES, UP, Board

SHAPE = (2, 1, 1, 4)
SEAT = 1
ROWS = 64 + 2 * 64
LONG_MS = 10_000
ENDED_AT = 256


@pytest.fixture
def fd() -> Iterator[int]:
    made = scoreboard.create(*SHAPE)
    yield made
    os.close(made)


@pytest.fixture
def page(fd: int) -> Iterator[mmap.mmap]:
    """The page's own bytes, as a hostile worker has them."""
    with mmap.mmap(fd, scoreboard.size_bytes(*SHAPE)) as whole:
        yield whole


def ends(fd: int, way: int) -> tuple[Chute, Chute]:
    """The worker's and the router's, for stream 5."""
    worker = Chute(Board(fd, *SHAPE), SEAT, 0, way)
    router = Chute(Board(fd, *SHAPE, check_seals=True), SEAT, 0, way)
    router.clear()
    if way == UP:
        router.lend(5)
        assert worker.enter(5)
    else:
        assert worker.enter(5)
        router.lend(5)
    return worker, router


def words(way: int, offset: int) -> slice:
    start = ROWS + (SEAT * 2 + way) * CHUTE_WORDS_BYTES + offset
    return slice(start, start + 8)


@pytest.mark.parametrize("way", [DOWN, UP])
@given(steps=st.lists(st.tuples(st.integers(0, 2 * DOWN_BYTES), st.integers(0, 2 * DOWN_BYTES)), max_size=12))
def test_what_goes_in_comes_out(way: int, steps: list[tuple[int, int]]) -> None:
    fd = scoreboard.create(*SHAPE)
    try:
        worker, router = ends(fd, way)
        writer, reader = (worker, router) if way == DOWN else (router, worker)
        sent = came = b""
        for write, read in steps:
            piece = os.urandom(write)
            count = writer.put(piece, 0)
            assert count == min(write, writer.size - len(sent) + len(came))
            sent += piece[:count]
            came += reader.take(read)
            assert reader.held() == len(sent) - len(came) == writer.size - writer.room()
        came += reader.take(1 << 30)
        assert came == sent
    finally:
        os.close(fd)


def test_the_ways_and_seats_are_apart(fd: int) -> None:
    down, up = ends(fd, DOWN), ends(fd, UP)
    down[0].put(b"down", 0)
    up[1].put(b"up", 0)
    neighbour = Chute(Board(fd, *SHAPE), 0, 0, DOWN)
    assert neighbour.held() == 0
    assert down[1].take(100) == b"down"
    assert up[0].take(100) == b"up"


def test_a_part_of_a_piece(fd: int) -> None:
    worker, router = ends(fd, DOWN)
    assert worker.put(b"0123456789", 4) == 6
    assert worker.put(b"0123456789", 10) == 0
    into = bytearray(4)
    assert router.take_into(into) == 4
    assert (bytes(into), router.take(100)) == (b"4567", b"89")


def test_what_a_file_is_read_into(fd: int) -> None:
    worker, router = ends(fd, UP)
    router.put(bytes(router.size - 3), 0)
    worker.take(router.size)
    # Up to where it begins anew, and then from there.
    for piece in (b"abc", b"defgh"):
        space = router.space()
        space[: len(piece)] = piece
        router.filled(len(piece))
    assert len(router.space()) == router.size - 8
    assert worker.take(100) == b"abcdefgh"


def test_into_a_socket(fd: int) -> None:
    """Across the place where it begins anew; as much as the socket takes."""
    worker, router = ends(fd, DOWN)
    worker.put(bytes(worker.size - 1000), 0)
    router.take(worker.size)
    sent = os.urandom(worker.size)
    worker.put(sent, 0)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.settimeout(10)
        came = b""
        assert router.send(ours.fileno(), 10) == 10
        while len(came) < len(sent):
            if router.send(ours.fileno(), 1 << 20) == 0 and router.held():
                assert len(sent) - router.held() > len(came), "full, so something is there to read"
            came += theirs.recv(1 << 20)
        assert came == sent
        assert router.send(ours.fileno(), 100) == 0
        worker.put(b"more", 0)
        theirs.close()
        assert router.send(ours.fileno(), 100) == 0, "broken: whoever reads it hears of that"


def test_one_request_at_a_time(fd: int) -> None:
    worker, router = ends(fd, DOWN)
    other = Chute(Board(fd, *SHAPE), SEAT, 0, DOWN)
    assert not other.enter(6)
    worker.put(b"left over", 0)
    router.clear()
    assert other.enter(6)
    router.lend(6)
    assert router.held() == 0
    other.put(b"new", 0)
    assert router.take(100) == b"new"


def test_what_was_not_lent_is_not_read(fd: int) -> None:
    worker, router = ends(fd, UP)
    router.clear()
    assert not worker.enter(5)
    router.lend(6)
    assert not worker.enter(5)
    assert worker.enter(6)


def test_its_memory_is_given_back(fd: int) -> None:
    worker, router = ends(fd, DOWN)
    worker.put(os.urandom(worker.size), 0)
    full = os.fstat(fd).st_blocks
    router.clear()
    assert os.fstat(fd).st_blocks <= full - worker.size // 512


@pytest.mark.parametrize("way", [DOWN, UP])
def test_a_side_that_lies(fd: int, page: mmap.mmap, way: int) -> None:
    _, router = ends(fd, way)
    page[words(way, 0 if way == DOWN else 64)] = (1 << 40).to_bytes(8, "little")
    with pytest.raises(RecordError, match="a chute that says it holds"):
        router.held() if way == DOWN else router.room()
    with pytest.raises(RecordError):
        router.take(10) if way == DOWN else router.put(b"x", 0)
    router.wake()
    router.clear()
    assert (router.held() if way == DOWN else router.room()) in (0, router.size)


def test_a_closed_page(fd: int) -> None:
    board = Board(fd, *SHAPE)
    end = Chute(board, SEAT, 0, DOWN)
    board.close()
    for call in (end.held, end.room, end.clear, end.ended, lambda: end.enter(1), lambda: end.end(chute.GONE)):
        with pytest.raises(BoardError):
            call()


# Waiting


def test_nobody_sleeps_beside_what_it_waits_for(fd: int) -> None:
    worker, router = ends(fd, DOWN)
    assert not worker.sleep(worker.size, LONG_MS)
    worker.put(bytes(worker.size), 0)
    router.take(10)
    assert not worker.sleep(10, LONG_MS)
    router.end(chute.GONE)
    assert not worker.sleep(worker.size, LONG_MS)
    assert worker.ended() == chute.GONE


@pytest.mark.parametrize("said", [3, 0xFFFFFFFF, 2**64 - 1])
def test_an_end_that_there_is_not_is_nothing_to_wait_for(fd: int, page: mmap.mmap, said: int) -> None:
    """−1 was taken for an exception that nobody had raised."""
    worker, _ = ends(fd, UP)
    page[words(UP, ENDED_AT)] = said.to_bytes(8, "little")
    assert worker.ended() == chute.GONE
    assert not worker.sleep(worker.size, LONG_MS)
    assert not worker.ask(worker.size)


def test_the_end_is_not_seen_before_the_last_bytes(fd: int) -> None:
    worker, router = ends(fd, UP)
    router.put(b"last", 0)
    router.end(chute.WHOLE)
    assert (worker.ended(), worker.take(100)) == (chute.WHOLE, b"last")
    router.clear()
    assert worker.ended() == chute.OPEN


@pytest.mark.parametrize("how", ["room", "end", "clear"])
def test_a_sleeper_is_woken(fd: int, how: str) -> None:
    worker, router = ends(fd, DOWN)
    worker.put(bytes(worker.size), 0)
    slept: list[float] = []

    def sleep() -> None:
        began = time.monotonic()
        worker.sleep(worker.size // 2, LONG_MS)
        slept.append(time.monotonic() - began)

    sleeper = threading.Thread(target=sleep)
    sleeper.start()
    router.take(10)
    router.wake()
    sleeper.join(0.2)
    assert sleeper.is_alive(), "so little room is not what it waits for"
    if how == "room":
        router.take(worker.size // 2)
        router.wake()
    elif how == "end":
        router.end(chute.GONE)
    else:
        router.clear()
    sleeper.join(LONG_MS / 1000)
    assert slept[0] < LONG_MS / 1000


def test_a_sleep_ends_by_itself_and_by_a_signal(fd: int) -> None:
    worker, _router = ends(fd, UP)
    assert worker.sleep(1, 10)

    def ring(_number: int, _frame: object) -> None:
        raise TimeoutError("rung")

    before = signal.signal(signal.SIGUSR2, ring)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR2))
    timer.start()
    try:
        with pytest.raises(TimeoutError, match="rung"):
            worker.sleep(1, LONG_MS)
    finally:
        timer.join()
        signal.signal(signal.SIGUSR2, before)


def test_who_must_not_stand_still_asks_for_a_message(fd: int) -> None:
    worker, router = ends(fd, UP)
    assert worker.ask(1)
    assert not router.wake(), "there is nothing yet"
    router.put(b"x", 0)
    assert router.wake()
    assert not router.wake(), "once"
    assert not worker.ask(1)
    worker.take(1)
    assert worker.ask(1)
    assert router.end(chute.GONE)


def test_who_is_called(fd: int) -> None:
    down, router_down = ends(fd, DOWN)
    assert down.calls()
    router_down.quiet(True)
    assert not down.calls()
    router_down.quiet(False)
    assert down.calls()
    up, router_up = ends(fd, UP)
    router_up.put(bytes(up.size), 0)
    assert not up.calls()
    up.take(up.size // 2 - 1)
    assert not up.calls()
    up.take(1)
    assert up.calls()
    router_up.quiet(True)
    assert not up.calls()
