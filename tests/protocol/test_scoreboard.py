import fcntl
import mmap
import os
import struct
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emperor.protocol import scoreboard
from emperor.protocol.errors import BoardError
from emperor.protocol.scoreboard import CLAIMED, FREE, OFFERED, REVOKED, Board

SEATS, SLOTS, ROUTERS, DECK = 3, 2, 2, 4
SHAPE = (SEATS, SLOTS, ROUTERS, DECK)
LOW62 = (1 << 62) - 1


@pytest.fixture
def fd() -> Iterator[int]:
    fd = scoreboard.create(*SHAPE)
    yield fd
    os.close(fd)


@pytest.fixture
def board(fd: int) -> Iterator[Board]:
    board = Board(fd, *SHAPE, check_seals=True)
    yield board
    board.close()


@pytest.fixture
def page(fd: int) -> Iterator[mmap.mmap]:
    """The same bytes, without any rules: what a hostile tenant has."""
    with mmap.mmap(fd, 0) as page:
        yield page


def word_at(seat: int, router: int, index: int) -> int:
    """Where a word lies, by the specification."""
    row = (SLOTS * 16 + ROUTERS * DECK * 8 + SLOTS * 8 + 63) // 64 * 64
    return 64 + seat * row + SLOTS * 16 + (router * DECK + index) * 8


def word(stream: int, state: int) -> int:
    return (stream & LOW62) << 2 | state


def slot_at(seat: int, slot: int) -> int:
    row = (SLOTS * 16 + ROUTERS * DECK * 8 + SLOTS * 8 + 63) // 64 * 64
    return 64 + seat * row + slot * 16


def grant_at(seat: int, slot: int) -> int:
    """Where it stands whose a slot is."""
    return slot_at(seat, 0) + SLOTS * 16 + ROUTERS * DECK * 8 + slot * 8


# Shape


@pytest.mark.parametrize(
    ("shape", "row", "size"),
    [((1, 1, 1, 0), 64, 128), ((1, 1, 1, 6), 64, 128), ((1, 1, 1, 7), 128, 192), ((4, 1, 1, 32), 320, 1344)],
)
def test_sizes(shape: tuple[int, int, int, int], row: int, size: int) -> None:
    """The rows and the words of the chutes; then, from the next page of the kernel's on, for each seat and router its chutes'
    bytes; the rest of a page; and the rings."""
    seats, slots, routers, deck = shape
    assert scoreboard.row_bytes(slots, routers, deck) == row
    size += seats * routers * 2 * scoreboard.CHUTE_WORDS_BYTES
    rest = seats * routers * (scoreboard.DOWN_BYTES + scoreboard.UP_BYTES + 2 * scoreboard.RING_BYTES)
    assert (
        scoreboard.size_bytes(seats, slots, routers, deck)
        == (size + 4095) // 4096 * 4096 + size % 4096 + rest
    )


def test_a_new_page_is_zeros_behind_its_magic(page: mmap.mmap) -> None:
    assert len(page) == scoreboard.size_bytes(*SHAPE)
    assert page[:8] == scoreboard.MAGIC
    assert not any(page[8:])


def test_the_words_lie_where_the_specification_says(board: Board, page: mmap.mmap) -> None:
    places = [
        (seat, router, index) for seat in range(SEATS) for router in range(ROUTERS) for index in range(DECK)
    ]
    for number, place in enumerate(places, 1):
        board.offer(*place, number)
    for number, place in enumerate(places, 1):
        assert struct.unpack_from("<Q", page, word_at(*place)) == (number << 2 | OFFERED,)
    used = {word_at(*place) for place in places}
    assert len(used) == len(places)
    for seat in range(SEATS):
        for slot in range(SLOTS):
            board.begin(seat, slot, 7 + seat * SLOTS + slot)
            start, stream = struct.unpack_from("<QQ", page, slot_at(seat, slot))
            assert stream == 7 + seat * SLOTS + slot
            assert board.slot(seat, slot) == (stream, start)
    assert [board.state(*place) for place in places] == [(n, OFFERED) for n in range(1, len(places) + 1)]


@pytest.mark.parametrize("off", [-1, 1, -64, 64, 4096])
def test_a_page_of_the_wrong_size_is_refused(off: int) -> None:
    fd = os.memfd_create("wrong")
    try:
        os.ftruncate(fd, scoreboard.size_bytes(*SHAPE) + off)
        with pytest.raises(BoardError, match="bytes, its shape wants"):
            Board(fd, *SHAPE)
    finally:
        os.close(fd)


def test_an_empty_page_is_refused() -> None:
    fd = os.memfd_create("empty")
    try:
        with pytest.raises(BoardError, match="0 bytes"):
            Board(fd, *SHAPE)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    "shape",
    [
        (0, 1, 1, 1),
        (-1, 1, 1, 1),
        (1, 0, 1, 1),
        (1, 1, 0, 1),
        (1, 1, 1, -1),
        (1, 1, 1, 0xFFFF),
        (1, -5, 1, 1),
    ],
)
def test_a_shape_that_is_none_is_refused(fd: int, shape: tuple[int, int, int, int]) -> None:
    with pytest.raises(BoardError, match="no page"):
        Board(fd, *shape)


@pytest.mark.parametrize(
    "shape",
    [(1 << 30, 1, 1, 1), (1, 1 << 28, 1, 1), (1, 1, 1 << 20, 0xFFFE), (0xFFFF, 0xFFFF, 0xFFFF, 0xFFFE)],
)
def test_a_huge_shape_has_a_huge_size(fd: int, shape: tuple[int, int, int, int]) -> None:
    seats, slots, routers, deck = shape
    row = (slots * 16 + routers * deck * 8 + (slots * 8 if routers > 1 else 0) + 63) // 64 * 64
    words = 64 + seats * (row + routers * 2 * scoreboard.CHUTE_WORDS_BYTES)
    each = scoreboard.DOWN_BYTES + scoreboard.UP_BYTES + 2 * scoreboard.RING_BYTES
    pages = (words + 4095) // 4096 * 4096 + words % 4096
    assert scoreboard.size_bytes(*shape) == pages + seats * routers * each
    with pytest.raises(BoardError):
        Board(fd, *shape)


def test_a_descriptor_that_is_no_page_is_refused() -> None:
    reader, writer = os.pipe()
    try:
        with pytest.raises(BoardError):
            Board(reader, *SHAPE)
        with pytest.raises(BoardError):
            Board(reader, *SHAPE, check_seals=True)
    finally:
        os.close(reader)
        os.close(writer)
    with pytest.raises(BoardError):
        Board(reader, *SHAPE)


# Seals


def test_the_page_can_neither_shrink_nor_grow_nor_be_unsealed(fd: int) -> None:
    size = scoreboard.size_bytes(*SHAPE)
    for wanted in (0, size - 1, size + 1, size * 2):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, wanted)
    with pytest.raises(PermissionError):
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    assert os.fstat(fd).st_size == size
    assert not os.get_inheritable(fd)


SEALS = {"shrink": fcntl.F_SEAL_SHRINK, "grow": fcntl.F_SEAL_GROW, "seal": fcntl.F_SEAL_SEAL}


@pytest.mark.parametrize("missing", [*SEALS, "all"])
def test_a_page_without_all_its_seals_is_refused_by_who_asks_for_them(missing: str) -> None:
    fd = scoreboard.create(*SHAPE, sealed=False)
    try:
        if missing != "all":
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, sum(bit for name, bit in SEALS.items() if name != missing))
        with pytest.raises(BoardError, match="not sealed"):
            Board(fd, *SHAPE, check_seals=True)
        Board(fd, *SHAPE).close()
    finally:
        os.close(fd)


def test_a_file_on_disk_has_no_seals_to_check(tmp_path: object) -> None:
    with open(f"{tmp_path}/page", "w+b") as file:
        file.truncate(scoreboard.size_bytes(*SHAPE))
        with pytest.raises(BoardError, match=r"cannot be examined|not sealed"):
            Board(file.fileno(), *SHAPE, check_seals=True)


# Bounds

USES: dict[str, Callable[[Board, int, int, int], object]] = {
    "offer": lambda board, *place: board.offer(*place, 1),
    "revoke": lambda board, *place: board.revoke(*place, 1),
    "claim": lambda board, *place: board.claim(*place, 1),
    "free": lambda board, *place: board.free(*place),
    "state": lambda board, *place: board.state(*place),
    "revoke_all": lambda board, seat, router, index: board.revoke_all(seat, router),
    "reclaim": lambda board, seat, router, index: board.reclaim(seat, router),
    "inherit": lambda board, seat, router, index: board.inherit(seat),
    "slot": lambda board, seat, slot, index: board.slot(seat, slot),
    "begin": lambda board, seat, slot, index: board.begin(seat, slot, 1),
    "end": lambda board, seat, slot, index: board.end(seat, slot),
    "running_ns": lambda board, seat, slot, index: board.running_ns(seat, 1),
}
OUTSIDE = [(SEATS, 0, 0), (-1, 0, 0), (1 << 30, 0, 0), (-(1 << 31), 0, 0)]
SECOND = [(0, 2, 0), (0, -1, 0), (0, (1 << 31) - 1, 0)]
THIRD = [(0, 0, DECK), (0, 0, -1), (0, 0, 0xFFFF), (0, 0, (1 << 31) - 1)]
HAS_THIRD = ("offer", "revoke", "claim", "free", "state")


@pytest.mark.parametrize("name", USES)
def test_what_lies_outside_the_page_is_refused(board: Board, page: mmap.mmap, name: str) -> None:
    before = page[:]
    places = (
        OUTSIDE
        + (SECOND if name not in ("running_ns", "inherit") else [])
        + (THIRD if name in HAS_THIRD else [])
    )
    for place in places:
        with pytest.raises(BoardError):
            USES[name](board, *place)
    with pytest.raises(OverflowError):
        USES[name](board, 1 << 40, 0, 0)
    assert page[:] == before


@pytest.mark.parametrize("name", USES)
def test_a_closed_board_is_refused_and_not_read(fd: int, name: str) -> None:
    board = Board(fd, *SHAPE)
    board.close()
    board.close()
    with pytest.raises(BoardError):
        USES[name](board, 0, 0, 0)


def test_a_deck_of_no_words(fd: int) -> None:
    empty = scoreboard.create(1, 1, 1, 0)
    try:
        board = Board(empty, 1, 1, 1, 0, check_seals=True)
        board.revoke_all(0, 0)
        board.reclaim(0, 0)
        with pytest.raises(BoardError):
            board.offer(0, 0, 0, 1)
        board.close()
    finally:
        os.close(empty)


def test_the_page_outlives_the_descriptor_that_was_mapped() -> None:
    fd = scoreboard.create(*SHAPE)
    board = Board(fd, *SHAPE)
    os.close(fd)
    assert board.offer(0, 0, 0, 1)
    assert board.claim(0, 0, 0, 1)
    board.close()


# One word, by its table: every operation in every state

STREAM = 0xF234_5678_0000_0009  # its two top bits fall off
OTHER = STREAM + 1

TABLE: dict[str, dict[int, tuple[object, int]]] = {
    # operation: {state before: (result, state after)}
    "offer": {FREE: (True, OFFERED), OFFERED: (False, OFFERED), CLAIMED: (False, CLAIMED), REVOKED: (False, REVOKED)},
    "claim": {FREE: (False, FREE), OFFERED: (True, CLAIMED), CLAIMED: (False, CLAIMED), REVOKED: (False, REVOKED)},
    "revoke": {FREE: (FREE, FREE), OFFERED: (REVOKED, REVOKED), CLAIMED: (CLAIMED, CLAIMED), REVOKED: (REVOKED, REVOKED)},
    "free": {FREE: (None, FREE), OFFERED: (None, OFFERED), CLAIMED: (None, FREE), REVOKED: (None, FREE)},
    "revoke_all": {FREE: (None, FREE), OFFERED: (None, REVOKED), CLAIMED: (None, CLAIMED), REVOKED: (None, REVOKED)},
    "reclaim": {FREE: (None, FREE), OFFERED: (None, OFFERED), CLAIMED: (None, CLAIMED), REVOKED: (None, FREE)},
    "inherit": {FREE: (None, FREE), OFFERED: (None, OFFERED), CLAIMED: (None, FREE), REVOKED: (None, FREE)},
}  # fmt: skip


def apply(board: Board, operation: str, stream: int) -> object:
    match operation:
        case "offer" | "claim" | "revoke":
            result: object = getattr(board, operation)(0, 0, 0, stream)
        case "free":
            result = board.free(0, 0, 0)  # type: ignore[func-returns-value]
        case "inherit":
            result = board.inherit(0)  # type: ignore[func-returns-value]
        case _:
            result = getattr(board, operation)(0, 0)
    return result


@pytest.mark.parametrize("before", range(4), ids=scoreboard.STATE_NAMES)
@pytest.mark.parametrize("operation", TABLE)
def test_every_operation_in_every_state(board: Board, page: mmap.mmap, operation: str, before: int) -> None:
    struct.pack_into("<Q", page, word_at(0, 0, 0), word(STREAM, before))
    result, after = TABLE[operation][before]
    assert apply(board, operation, STREAM) == result
    assert board.state(0, 0, 0) == (STREAM & LOW62, after)


@pytest.mark.parametrize("before", range(4), ids=scoreboard.STATE_NAMES)
def test_another_stream_neither_claims_nor_revokes(board: Board, page: mmap.mmap, before: int) -> None:
    value = word(STREAM, before)
    struct.pack_into("<Q", page, word_at(0, 0, 0), value)
    assert board.claim(0, 0, 0, OTHER) is False
    assert board.revoke(0, 0, 0, OTHER) == -1
    assert struct.unpack_from("<Q", page, word_at(0, 0, 0)) == (value,)


def test_an_operation_touches_no_other_word(board: Board, page: mmap.mmap) -> None:
    for operation in TABLE:
        for before in range(4):
            page[:] = b"\xa5" * len(page)
            at = word_at(1, 1, 2)
            struct.pack_into("<Q", page, at, word(77, before))
            kept = page[:at], page[at + 8 :]
            match operation:
                case "offer" | "claim" | "revoke":
                    getattr(board, operation)(1, 1, 2, 77)
                case "free":
                    board.free(1, 1, 2)
                case _:
                    continue
            assert (page[:at], page[at + 8 :]) == kept


@given(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1))
def test_a_word_of_any_value_does_no_more_than_break_a_promise(value: int, stream: int) -> None:
    fd = scoreboard.create(1, 1, 1, 1)
    board = Board(fd, 1, 1, 1, 1)
    with mmap.mmap(fd, 0) as page:
        for operation in TABLE:
            struct.pack_into("<Q", page, 64 + 16, value)
            result = apply(board, operation, stream)
            ours = value >> 2 == stream & LOW62
            match operation:
                case "offer":
                    assert result is (value & 3 == FREE)
                case "claim":
                    assert result is (ours and value & 3 == OFFERED)
                case "revoke":
                    wanted = {FREE: FREE, OFFERED: REVOKED, CLAIMED: CLAIMED, REVOKED: REVOKED}[value & 3]
                    assert result == (wanted if ours else -1)
        assert board.state(0, 0, 0)[1] in range(4)
    board.close()
    os.close(fd)


def test_a_page_full_of_scribble_is_read_without_harm(board: Board, page: mmap.mmap) -> None:
    for filling in (b"\xff", b"\0", b"\x01", b"\x80", b"\xaa"):
        page[:] = filling * len(page)
        for seat in range(SEATS):
            assert board.running_ns(seat, 1 << 63) >= -1
            assert len(board.slot(seat, 0)) == 2
            board.revoke_all(seat, 0)
            board.reclaim(seat, 0)
            assert board.revoke(seat, 1, 1, STREAM) in (-1, FREE, CLAIMED, REVOKED)
            assert board.claim(seat, 1, 2, STREAM) is False


# Slots


def test_who_takes_a_dead_ones_seat_finds_it_free(board: Board) -> None:
    for router, index in ((0, 0), (1, 2)):
        for seat in (0, 1):
            assert board.offer(seat, router, index, STREAM)
            assert board.claim(seat, router, index, STREAM)
    board.begin(0, 1, STREAM)
    board.begin(1, 1, STREAM)
    board.inherit(0)
    assert [board.state(0, *place)[1] for place in ((0, 0), (1, 2))] == [FREE, FREE]
    assert board.slot(0, 1)[0] == 0
    # Another worker's row is none of its business.
    assert [board.state(1, *place)[1] for place in ((0, 0), (1, 2))] == [CLAIMED, CLAIMED]
    assert board.slot(1, 1)[0] == STREAM


def test_a_slot_is_idle_busy_idle(board: Board) -> None:
    assert board.slot(1, 1) == (0, 0)
    before = time.monotonic_ns()
    board.begin(1, 1, STREAM)
    after = time.monotonic_ns()
    stream, start = board.slot(1, 1)
    assert stream == STREAM
    assert before <= start <= after
    board.end(1, 1)
    assert board.slot(1, 1)[0] == 0


def test_running_is_the_shortest_of_all_slots_and_minus_one_when_one_is_idle(board: Board) -> None:
    board.begin(0, 0, 1)
    _, first = board.slot(0, 0)
    assert board.running_ns(0, first + 5000) == -1
    board.begin(0, 1, 2)
    _, second = board.slot(0, 1)
    assert second >= first
    assert board.running_ns(0, second + 5000) == 5000
    assert board.running_ns(0, first - 1) == 0, "a start in the future"
    board.end(0, 0)
    assert board.running_ns(0, second + 5000) == -1
    assert board.running_ns(1, second) == -1


LASTS = (1 << 63) - 1
"""The start of what may go on for hours."""


def test_nothing_waits_behind_what_lasts_and_it_is_never_late(board: Board) -> None:
    now = time.monotonic_ns()
    for slot in (0, 1):
        board.begin(0, slot, slot + 1)
        board.last(0, slot)
        assert board.running_there_ns(0, time.monotonic_ns(), [slot]) > 10**18, (
            "of a router that holds this one as well"
        )
    assert board.running_ns(0, now) == LASTS >> 1
    # The other one may end soon.
    board.begin(0, 1, 3)
    assert 0 <= board.running_ns(0, time.monotonic_ns()) < 10**9
    stream, start = board.slot(0, 0)
    assert (stream, start) == (1, LASTS)


@settings(max_examples=200)
@given(st.integers(0, (1 << 64) - 1), st.integers(1, (1 << 64) - 1), st.integers(0, (1 << 63) - 1))
def test_running_of_a_hostile_start_is_some_time_and_never_idle(start: int, stream: int, now: int) -> None:
    fd = scoreboard.create(1, 1, 1, 1)
    board = Board(fd, 1, 1, 1, 1)
    with mmap.mmap(fd, 0) as page:
        struct.pack_into("<QQ", page, 64, start, stream)
        assert board.slot(0, 0) == (stream, start)
        assert 0 <= board.running_ns(0, now) <= (1 << 63) - 1
        if start == LASTS:
            assert board.running_ns(0, now) == LASTS >> 1
        elif start <= now:
            assert board.running_ns(0, now) == now - start
    board.close()
    os.close(fd)


# Whose a slot is


def test_a_slot_is_taken_entered_vacated_and_let_go(board: Board, page: mmap.mmap) -> None:
    assert board.holder(1, 1) == (0, scoreboard.UNHELD, 0)
    assert board.take(1, 1, 0xFFFFFFFE)
    assert struct.unpack_from("<Q", page, grant_at(1, 1)) == (0xFFFFFFFE << 32 | 1 << 2 | scoreboard.HELD,)
    assert not board.take(1, 1, 7)
    assert not board.enter(1, 1, 7)
    assert board.enter(1, 1, 0xFFFFFFFE)
    assert board.holder(1, 1) == (0xFFFFFFFE, scoreboard.BUSY, 1)
    assert not board.release(1, 1, 0xFFFFFFFE), "something runs there"
    assert not board.enter(1, 1, 0xFFFFFFFE)
    assert board.vacate(1, 1, 0xFFFFFFFE)
    assert not board.release(1, 1, 7)
    assert board.release(1, 1, 0xFFFFFFFE)
    assert board.holder(1, 1) == (0, scoreboard.UNHELD, 2)
    assert not board.vacate(1, 1, 7)
    assert [
        board.holder(seat, slot) for seat in range(SEATS) for slot in range(SLOTS) if (seat, slot) != (1, 1)
    ] == [(0, scoreboard.UNHELD, 0)] * (SEATS * SLOTS - 1)


def test_what_runs_for_a_router_that_is_gone_is_nobodys_when_it_ends(board: Board) -> None:
    for slot in range(SLOTS):
        board.take(0, slot, 7)
    board.enter(0, 0, 7)
    assert board.bereave(0, 8) == 0
    assert board.bereave(0, 7) == 1
    assert board.holder(0, 0)[:2] == (7, scoreboard.BUSY)
    assert board.holder(0, 1)[:2] == (0, scoreboard.UNHELD)
    assert not board.vacate(0, 0, 9)
    assert board.holder(0, 0)[:2] == (0, scoreboard.UNHELD)


def test_whoever_inherits_a_seat_finds_its_slots_to_be_nobodys(board: Board) -> None:
    for slot in range(SLOTS):
        board.take(1, slot, 7)
        board.take(0, slot, 7)
    board.enter(1, 0, 7)
    board.inherit(1)
    assert [board.holder(1, slot)[:2] for slot in range(SLOTS)] == [(0, scoreboard.UNHELD)] * SLOTS
    assert [board.holder(0, slot)[:2] for slot in range(SLOTS)] == [(7, scoreboard.HELD)] * SLOTS


@pytest.mark.parametrize("state", range(4))
def test_whatever_a_tenant_writes_there_a_router_takes_only_what_is_nobodys(
    board: Board, page: mmap.mmap, state: int
) -> None:
    struct.pack_into("<Q", page, grant_at(0, 0), 0xFFFFFFFF_FFFFFFFC | state)
    assert board.take(0, 0, 7) == (state == scoreboard.UNHELD)
    assert board.release(0, 0, 7) == (state == scoreboard.UNHELD)


@pytest.mark.parametrize("state", [scoreboard.HELD, scoreboard.BUSY, 3])
def test_slots_of_a_router_that_does_not_exist_are_mended(board: Board, page: mmap.mmap, state: int) -> None:
    board.take(0, 1, 7)
    board.enter(0, 1, 7)
    struct.pack_into("<Q", page, grant_at(0, 0), 99 << 32 | state)
    assert board.held(0, SLOTS, 7) == (0, 1)
    assert board.mend(0, SLOTS, {7}, {0}) == 0, "something runs there: its end sets it right"
    assert board.mend(0, SLOTS, {7}, set()) == 1
    assert board.mend(0, SLOTS, {7}, set()) == 0
    assert board.held(0, SLOTS, 7) == (1, 1)
    assert board.held(0, 1, 7) == (1, 0)
    assert board.holder(0, 1)[:2] == (7, scoreboard.BUSY)
    assert board.mend(0, SLOTS, set(), {1}) == 0
    struct.pack_into("<Q", page, grant_at(0, 0), 7 << 32 | 3)
    assert board.mend(0, SLOTS, {7}, {1}) == 1, "no state that there is"


def test_words_that_nothing_runs_under_are_free_after_a_new_welcome(board: Board) -> None:
    for word, stream in enumerate((5, 6)):
        board.offer(0, 0, word, stream)
        board.claim(0, 0, word, stream)
    board.reclaim(0, 0)
    assert [board.state(0, 0, word)[1] for word in (0, 1)] == [scoreboard.CLAIMED] * 2
    board.reclaim(0, 0, {1})
    assert [board.state(0, 0, word)[1] for word in (0, 1)] == [scoreboard.FREE, scoreboard.CLAIMED]


def test_in_a_page_of_one_router_every_slot_is_its() -> None:
    fd = scoreboard.create(1, 1, 1, 1)
    board = Board(fd, 1, 1, 1, 1)
    assert board.enter(0, 0, 7)
    assert board.vacate(0, 0, 0)
    assert board.bereave(0, 7) == 0
    assert board.mend(0, 1, {7}, set()) == 0
    assert board.held(0, 1, 7) == (0, 1)
    board.inherit(0)
    with pytest.raises(BoardError, match="whose slot"):
        board.take(0, 0, 7)
    board.close()
    os.close(fd)
