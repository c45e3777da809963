"""The rings of whole responses and requests: what goes in comes out, whoever is hostile, and nobody sleeps beside something
unread."""

import itertools
import mmap
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emperor.protocol import records, ring, scoreboard
from emperor.protocol.errors import BoardError, RecordError
from emperor.protocol.ring import Reader, Writer
from emperor.protocol.scoreboard import DOWN, RING_BYTES, UP, Board
from tests.scenarios.harness.waiting import wait_for

SHAPE = (2, 1, 1, 4)
SEAT = 1
HEAD = b"200 OK\r\n"
OVER = 22 + len(HEAD)


@pytest.fixture
def fd() -> Iterator[int]:
    made = scoreboard.create(*SHAPE)
    yield made
    os.close(made)


@pytest.fixture
def writer(fd: int) -> Writer:
    return Writer(Board(fd, *SHAPE), SEAT, 0)


@pytest.fixture
def reader(fd: int) -> Reader:
    return Reader(Board(fd, *SHAPE, check_seals=True), SEAT, 0)


@pytest.fixture
def page(fd: int) -> Iterator[mmap.mmap]:
    """The ring's own bytes, as a hostile worker has them."""
    with mmap.mmap(fd, scoreboard.size_bytes(*SHAPE)) as whole:
        yield whole


def at(page: mmap.mmap, offset: int) -> slice:
    start = len(page) - (SHAPE[0] - SEAT) * RING_BYTES + offset
    return slice(start, start + 8)


def bodies(message: bytes) -> list[tuple[int, bytes]]:
    out = []
    for kind, flags, word, stream, payload in records.unpack(message):
        assert (kind, flags, word) == (records.RESPONSE, records.FIN, records.NO_WORD)
        _, head, body = records.unpack_response(payload)
        assert head == HEAD
        out.append((stream, body))
    return out


def test_what_goes_in_comes_out(writer: Writer, reader: Reader) -> None:
    assert not reader.has()
    assert reader.take() == b""
    assert writer.put(1, 5, HEAD, b"one") and writer.put(2, 6, HEAD, b"")
    assert reader.has()
    assert bodies(reader.take()) == [(1, b"one"), (2, b"")]
    assert not reader.has()


def test_too_large_or_too_full(writer: Writer, reader: Reader) -> None:
    assert not writer.put(1, 0, HEAD, bytes(ring.LARGEST - OVER + 1))
    assert writer.put(2, 0, HEAD, bytes(ring.LARGEST - OVER))
    reader.take()
    size = 1000 + OVER
    fits = ring.CAPACITY // size
    assert [writer.put(n, 0, HEAD, bytes(1000)) for n in range(fits + 1)] == [True] * fits + [False]
    assert len(bodies(reader.take())) == fits
    assert writer.put(9, 0, HEAD, b"again")


@given(st.lists(st.one_of(st.none(), st.integers(0, 3000)), max_size=60))
def test_in_any_order_of_putting_and_taking(sizes: list[int | None]) -> None:
    """Around the end of the ring as well: None is a look by the reader."""
    made = scoreboard.create(*SHAPE)
    try:
        writer, reader = Writer(Board(made, *SHAPE), SEAT, 0), Reader(Board(made, *SHAPE), SEAT, 0)
        waiting: list[tuple[int, bytes]] = []
        for stream, size in enumerate(sizes, 1):
            if size is None:
                assert bodies(reader.take()) == waiting
                waiting = []
                continue
            body = bytes([stream]) * size
            room = ring.CAPACITY - sum(len(each) + OVER for _, each in waiting)
            assert writer.put(stream, 0, HEAD, body) is (size + OVER <= room)
            if size + OVER <= room:
                waiting.append((stream, body))
        assert bodies(reader.take()) == waiting
    finally:
        os.close(made)


def test_what_an_earlier_connection_left_is_dropped(fd: int, writer: Writer) -> None:
    writer.put(1, 0, HEAD, b"for somebody else")
    reader = Reader(Board(fd, *SHAPE), SEAT, 0)
    assert not reader.has()
    heir = Writer(Board(fd, *SHAPE), SEAT, 0)
    heir.begin()
    heir.put(2, 0, HEAD, b"mine")
    assert bodies(reader.take()) == [(2, b"mine")]


@pytest.mark.parametrize("tail", [ring.CAPACITY + 1, 1 << 63, (1 << 64) - 1])
def test_a_tail_that_no_writer_of_ours_leaves(reader: Reader, page: mmap.mmap, tail: int) -> None:
    page[at(page, 0)] = tail.to_bytes(8, "little")
    assert reader.has()
    with pytest.raises(RecordError, match="a ring that says it holds"):
        reader.take()


@pytest.mark.parametrize("head", [1, 1 << 63, (1 << 64) - 1 - ring.CAPACITY])
def test_a_head_that_no_reader_of_ours_leaves_makes_it_full(
    writer: Writer, page: mmap.mmap, head: int
) -> None:
    page[at(page, 64)] = head.to_bytes(8, "little")
    assert not writer.put(1, 0, HEAD, b"x")


def test_the_reader_does_not_believe_its_own_counter_on_the_page(
    writer: Writer, reader: Reader, page: mmap.mmap
) -> None:
    writer.put(1, 0, HEAD, b"x")
    page[at(page, 64)] = (7).to_bytes(8, "little")
    assert bodies(reader.take()) == [(1, b"x")]


def test_a_closed_page(fd: int) -> None:
    board = Board(fd, *SHAPE)
    reader = Reader(board, SEAT, 0)
    board.close()
    with pytest.raises(BoardError):
        reader.has()
    with pytest.raises(BoardError):
        reader.take()
    with pytest.raises(BoardError):
        Reader(board, SEAT, 0)
    with pytest.raises(BoardError):
        Writer(Board(fd, *SHAPE), 2, 0)


def test_one_call_for_each_rest(writer: Writer, reader: Reader) -> None:
    assert writer.must_call() == ring.BY_MESSAGE  # a new reader rests
    assert reader.called()
    assert not writer.must_call()
    assert reader.watch()  # it had been called
    assert not writer.must_call()
    assert not reader.watch()
    reader.rest(True)
    assert not reader.called()
    assert writer.must_call() == ring.BY_BELL
    assert not writer.must_call()


def test_lingering_ends_when_something_comes_or_after_its_time(writer: Writer, reader: Reader) -> None:
    start = time.monotonic_ns()
    assert not reader.linger(0) and not reader.linger(1000)
    assert reader.linger(0) is False
    # Others of this process run meanwhile, and it is seen at once: far before the minute is over.
    with ThreadPoolExecutor(1) as pool:
        put = pool.submit(lambda: time.sleep(0.01) or writer.put(1, 0, HEAD, b"late"))
        wait_for(lambda: reader.linger(60_000_000_000), 30, every_s=0.0)
        assert put.result()
    assert bodies(reader.take()) == [(1, b"late")]
    writer.put(2, 0, HEAD, b"there")
    assert reader.linger(60_000_000_000)
    assert time.monotonic_ns() - start < 60_000_000_000


def test_the_two_rings_of_a_seat_are_apart(fd: int, writer: Writer, reader: Reader) -> None:
    other = Writer(Board(fd, *SHAPE), SEAT, 0, UP)
    its_reader = Reader(Board(fd, *SHAPE), SEAT, 0, UP)
    other.offer_nothing()
    its_reader.begin()
    for each in range(3 * ring.CAPACITY // 8000):
        assert other.put_request(records.FIN, 3, each, b"packet", b"b" * 7000)
        assert writer.put(each, 0, HEAD, b"r" * 7500)
        assert records.unpack(its_reader.take()) == [
            (records.REQUEST, records.FIN, 3, each, b"packet" + b"b" * 7000)
        ]
        assert bodies(reader.take()) == [(each, b"r" * 7500)]


def test_a_new_reader_of_requests_has_to_say_that_it_reads(fd: int) -> None:
    """Until then they are messages, whatever an earlier one has said."""
    earlier = Reader(Board(fd, *SHAPE), SEAT, 0, UP)
    earlier.watch()
    writer = Writer(Board(fd, *SHAPE), SEAT, 0, UP)
    assert writer.is_read()
    writer.offer_nothing()
    assert not writer.is_read()
    for say in (earlier.watch, lambda: earlier.rest(True)):
        say()
        assert writer.is_read()
    assert writer.must_call() and writer.is_read()


@pytest.mark.parametrize(
    "order",
    [
        "".join(order)
        for order in sorted(set(itertools.permutations("WWWWRRR")))
        if "".join(order).count("W") == 4
    ],
)
@pytest.mark.parametrize(("way", "by_bell"), [(DOWN, False), (DOWN, True), (UP, True)])
def test_nobody_sleeps_beside_something_unread(fd: int, order: str, way: int, by_bell: bool) -> None:
    """Every interleaving of two records and a reader that goes to rest: the last look or a call meets each."""
    writer, reader = Writer(Board(fd, *SHAPE), SEAT, 0, way), Reader(Board(fd, *SHAPE), SEAT, 0, way)
    reader.begin()
    reader.watch()
    called: list[bool] = []
    steps = {
        "W": iter(
            [
                lambda: writer.put(1, 0, HEAD, b""),
                lambda: called.append(bool(writer.must_call())),
                lambda: writer.put(2, 0, HEAD, b""),
                lambda: called.append(bool(writer.must_call())),
            ]
        ),
        "R": iter([reader.take, lambda: reader.rest(by_bell), lambda: reader.has() and called.append(True)]),
    }
    for who in order:
        next(steps[who])()
    assert not reader.has() or any(called)


def test_a_page_that_is_closed_takes_no_request(fd: int) -> None:
    board = Board(fd, *SHAPE)
    writer = Writer(board, SEAT, 0, UP)
    board.close()
    with pytest.raises(BoardError):
        writer.put_request(records.FIN, 0, 1, b"", b"")
    with pytest.raises(BoardError):
        writer.is_read()
