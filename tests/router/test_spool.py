"""What of a request body stays in memory, what goes to disk, and what is refused: with a disk that works when it is told to."""

import errno
import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emperor.router.exchange import Exchange
from emperor.router.spool import (
    CARRIED_MOST,
    FULL,
    GATHER,
    GATHER_CROWDED,
    MORE,
    PIECE,
    QUIET,
    UNWRITTEN,
    UNWRITTEN_CROWDED,
    Body,
    Carried,
    Limits,
    Refused,
    Spool,
    verdict,
)
from tests.router.parts import exchange

KIB = 1024


class Disk:
    """Files in memory. What is asked of it waits until `work`."""

    def __init__(self) -> None:
        self.files: dict[int, bytearray] = {}
        self.waiting: list[Callable[[], None]] = []
        self.trouble: OSError | None = None
        self.carries: list[tuple[int, int]] = []
        self.comes = 1000  # out of every socket
        self.at_hand = 0  # bytes of each file that can be read without waiting

    def open(self) -> int:
        self.files[len(self.files)] = bytearray()
        return len(self.files) - 1

    def write(self, file: Any, data: list[bytes], done: Callable[[OSError | None], None]) -> None:
        def now() -> None:
            if self.trouble is None:
                self.files[file] += b"".join(data)
            done(self.trouble)

        self.waiting.append(now)

    def read(self, file: Any, at: int, size: int, done: Callable[[bytes | OSError], None]) -> None:
        def now() -> None:
            piece = bytes(self.files[file][at : at + size])
            assert len(piece) == size
            done(self.trouble or piece)

        self.waiting.append(now)

    def carry(self, file: Any, source: int, most: int, done: Callable[[Carried], None]) -> None:
        if self.trouble is not None and self.trouble.errno == errno.EMFILE:
            raise self.trouble
        self.carries.append((source, most))

        def now() -> None:
            count = min(most, self.comes)
            self.files[file] += bytes(count)
            if self.trouble is not None:
                done(Carried(count, FULL, self.trouble))
            else:
                done(Carried(count, MORE if count == most else QUIET))

        self.waiting.append(now)

    def read_now(self, file: Any, at: int, into: memoryview) -> int:
        count = max(0, min(len(into), self.at_hand - at))
        into[:count] = self.files[file][at : at + count]
        return count

    def close(self, file: Any) -> None:
        del self.files[file][:]
        self.files[file] += b"closed"

    def work(self) -> bool:
        """Do the oldest thing that is asked for. False: there is none."""
        if not self.waiting:
            return False
        self.waiting.pop(0)()
        return True


class Owner:
    """Notes what it is told."""

    name = "blog"

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def body_stored(self, exchange: Any) -> None:
        self.told.append(("stored",))

    def body_fetched(self, exchange: Any, piece: bytes) -> None:
        self.told.append(("fetched", piece))

    def body_carried(self, exchange: Any, count: int, how: int) -> None:
        self.told.append(("carried", count, how))

    def body_lost(self, exchange: Any, status: int, reason: str) -> None:
        self.told.append(("lost", status, reason))


def spool(**limits: int) -> Spool:
    return Spool(Disk(), Limits(**limits))


def disk_of(one: Spool) -> Disk:
    assert isinstance(one.disk, Disk)
    return one.disk


def written(one: Spool, owner: Owner, size: int) -> Body:
    """A body of which so many bytes are on disk."""
    body = Body(one, owner, None)
    body.add(bytes(size))
    body.push(True)
    assert disk_of(one).work()
    return body


def test_small_pieces_are_gathered_before_they_are_written() -> None:
    one, owner = spool(), Owner()
    body = Body(one, owner, None)
    for _ in range(GATHER // KIB - 1):
        body.add(bytes(KIB))
        body.push(False)
    assert not disk_of(one).waiting
    body.add(bytes(KIB))
    body.push(False)
    assert len(disk_of(one).waiting) == 1
    assert not body.settled
    disk_of(one).work()
    assert body.settled
    assert owner.told == [("stored",)]


def test_the_last_of_it_is_written_however_little() -> None:
    one = spool()
    body = written(one, Owner(), 1)
    assert body.settled
    assert one.disk_bytes == 1


def test_one_write_at_a_time() -> None:
    one = spool()
    body = Body(one, Owner(), None)
    for _ in range(3):
        body.add(bytes(GATHER))
        body.push(False)
    assert len(disk_of(one).waiting) == 1
    assert body.unwritten == 3 * GATHER


def test_memory_that_is_short_sends_every_body_to_disk() -> None:
    one = spool(memory=100 * KIB)
    body = Body(one, Owner(), None)
    assert not body.wants_disk(GATHER_CROWDED, 256 * KIB)
    assert body.wants_disk(257 * KIB, 256 * KIB)
    Body(one, Owner(), None).count(100 * KIB)
    assert body.wants_disk(GATHER_CROWDED, 256 * KIB)
    assert not body.wants_disk(GATHER_CROWDED - 1, 256 * KIB), "a file for a few bytes frees nothing"


def test_twice_the_memory_is_refused_and_given_back() -> None:
    one = spool(memory=100)
    first, second = Body(one, Owner(), None), Body(one, Owner(), None)
    first.count(200)
    with pytest.raises(Refused, match="body-memory") as refused:
        second.count(1)
    assert refused.value.status == 503
    second.close()
    assert one.memory_bytes == 200
    first.count(50)
    assert one.memory_bytes == 50
    first.close()
    first.close()
    assert (one.memory_bytes, one.refused) == (0, 1)


def test_the_disk_has_a_limit_for_all_and_for_each() -> None:
    one = spool(disk=100, disk_each=60)
    written(one, Owner(), 60)
    for name, size, option in (("blog", 1, "spool-limit-each"), ("shop", 41, "spool-limit")):
        owner = Owner()
        owner.name = name
        body = Body(one, owner, None)
        body.add(bytes(size))
        with pytest.raises(Refused, match=rf"\({option}\)") as refused:
            body.push(True)
        assert refused.value.status == 507
        body.close()
    assert (one.disk_bytes, one.files, dict(one.of_vassal)) == (60, 1, {"blog": 60})


def test_a_descriptor_too_many_is_503() -> None:
    one = spool(files=1)
    first = written(one, Owner(), 10)
    body = Body(one, Owner(), None)
    body.add(b"x")
    with pytest.raises(Refused) as refused:
        body.push(True)
    assert refused.value.status == 503
    body.close()
    first.close()
    assert (one.files, one.disk_bytes, one.of_vassal) == (0, 0, {})
    written(one, Owner(), 10)


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (errno.ENOSPC, 507),
        (errno.EDQUOT, 507),
        (errno.EFBIG, 507),
        (errno.EIO, 507),
        (errno.EACCES, 507),
        (errno.EMFILE, 503),
        (errno.ENFILE, 503),
        (errno.ENOMEM, 503),
    ],
    ids=lambda value: errno.errorcode.get(value, str(value)),
)
def test_what_a_disk_says_and_what_the_client_gets(number: int, status: int) -> None:
    one, owner = spool(), Owner()
    body = Body(one, owner, None)
    body.add(b"x")
    body.push(True)
    error = OSError(number, "as the disk says", "/spool")
    assert verdict(error)[0] == status
    disk_of(one).trouble = error
    disk_of(one).work()
    ((what, told, reason),) = owner.told
    assert (what, told) == ("lost", status)
    assert "as the disk says" in reason and "/spool" in reason
    body.close()
    assert (one.files, one.disk_bytes, one.memory_bytes, one.refused) == (0, 0, 0, 1)


def test_what_is_at_hand_is_read_at_once_and_the_rest_is_waited_for() -> None:
    one, owner = spool(), Owner()
    body = Body(one, owner, None)
    body.add(bytes(range(200)))
    body.push(True)
    space = bytearray(150)
    assert body.busy and body.pour(memoryview(space)) == 0, "what is being written is not there yet"
    disk_of(one).work()
    disk_of(one).at_hand = 170
    assert (body.pour(memoryview(space)), bytes(space)) == (150, bytes(range(150)))
    assert (body.pour(memoryview(space)), bytes(space[:20])) == (20, bytes(range(150, 170)))
    assert body.pour(memoryview(space)) == 0
    body.pull()
    disk_of(one).at_hand = 200
    assert body.busy and body.pour(memoryview(space)) == 0, "the disk is asked already"
    disk_of(one).work()
    assert owner.told[-1] == ("fetched", bytes(range(170, 200)))
    assert body.pour(memoryview(space)) == 0


def test_how_much_may_be_on_its_way_to_disk() -> None:
    """Less of each body once half of the memory is in use."""
    one, owner = spool(memory=4 << 20), Owner()
    body = Body(one, owner, None)
    assert body.most == UNWRITTEN
    body.count(2 << 20)
    assert body.most == UNWRITTEN_CROWDED
    body.close()
    assert Body(one, owner, None).most == UNWRITTEN


@pytest.mark.parametrize("reading", [False, True])
def test_closed_while_the_disk_works(reading: bool) -> None:
    one, owner = spool(), Owner()
    body = written(one, owner, PIECE)
    if reading:
        body.pull()
    else:
        body.add(bytes(GATHER))
        body.push(True)
    owner.told.clear()
    body.close()
    assert one.files == 1, "the file is in use"
    disk_of(one).work()
    assert one.files == one.disk_bytes == 0
    assert owner.told == []
    assert disk_of(one).files[0] == b"closed"


@given(
    sizes=st.lists(st.integers(1, 3 * PIECE), min_size=1, max_size=6),
    crowded=st.booleans(),
    seed=st.integers(0, 99),
)
def test_no_byte_is_lost_or_out_of_order(sizes: list[int], crowded: bool, seed: int) -> None:
    """Through memory, disk and back: what the worker takes is what the client sent, however the disk's turns fall."""
    one, owner, dice = spool(memory=1 if crowded else 1 << 40), Owner(), random.Random(seed)
    sent = bytes(itertools.islice(itertools.cycle(range(251)), sum(sizes)))
    each = exchange(content_length=len(sent))
    each.spooled = Body(one, owner, each)
    at = 0
    for size in sizes:
        each.body(sent[at : at + size])
        at += size
        if not each.to_disk and each.spooled.wants_disk(each.buffered, 100 * KIB):
            each.to_disk = True
            if one.crowded():
                each.spill()
        each.spooled.recount(each.buffered)
        each.spooled.push(False)
        while dice.random() < 0.5 and disk_of(one).work():
            pass
    each.body_done = True
    while not each.spooled.settled:
        each.spooled.push(True)
        disk_of(one).work()
    assert each.buffered + each.rest == len(sent)
    assert taken(one, owner, each) == sent
    each.forget_body()
    assert (one.memory_bytes, one.disk_bytes, one.files) == (0, 0, 0)


def taken(one: Spool, owner: Owner, each: Exchange) -> bytes:
    """What a worker gets that is offered the request twice, and then gives credit without end."""
    offered = each.first()
    each.take_back()
    got = bytearray(each.first())
    assert bytes(got) == offered
    ended = each.fin_sent
    each.first_part = b""
    each.credit = 1 << 40
    while not ended:
        for piece, fin in each.credited():
            assert not ended
            got += piece
            ended = fin
        if each.rest:
            owner.told.clear()
            assert each.spooled is not None
            each.spooled.pull()
            disk_of(one).work()
            ((_, piece),) = owner.told
            each.fetched(piece)
    assert not each.rest
    return bytes(got)


# Past us


def carrying(one: Spool, owner: Owner, owed: int) -> Body:
    """A body of which 10 bytes came by us, and the rest is to be carried."""
    body = Body(one, owner, None)
    body.add(bytes(10))
    body.carries = (7, owed)
    body.push(False)
    body.carry()
    return body


def test_what_is_carried_comes_behind_what_came_before() -> None:
    one, owner = spool(), Owner()
    body = carrying(one, owner, 500)
    assert disk_of(one).carries == [], "ten bytes are not written yet"
    disk_of(one).work()
    body.carry()
    assert disk_of(one).carries == [(7, 500)]
    assert (one.disk_bytes, one.files) == (510, 1)
    body.carry()
    assert len(disk_of(one).waiting) == 1, "once"
    disk_of(one).work()
    assert owner.told == [("stored",), ("carried", 500, MORE)]
    assert (one.disk_bytes, one.carried_bytes, body.settled) == (510, 500, True)
    into = memoryview(bytearray(600))
    disk_of(one).at_hand = 600
    assert body.pour(into) == 510
    body.close()
    assert (one.disk_bytes, one.files, one.of_vassal) == (0, 0, {})


def test_room_on_disk_is_taken_first_and_given_back_where_less_comes() -> None:
    one, owner = spool(), Owner()
    body = written(one, owner, 10)
    body.carries = (7, 50 << 20)
    body.carry()
    assert one.disk_bytes == 10 + CARRIED_MOST
    disk_of(one).work()
    assert owner.told[-1] == ("carried", 1000, QUIET)
    assert one.disk_bytes == one.of_vassal["blog"] == 1010


def test_no_room_on_disk_for_what_is_to_be_carried() -> None:
    one, owner = spool(disk_each=1000), Owner()
    body = written(one, owner, 10)
    body.carries = (7, 991)
    with pytest.raises(Refused, match="spool-limit-each") as refused:
        body.carry()
    assert refused.value.status == 507
    assert (one.disk_bytes, body.busy) == (10, False)
    body.close()
    assert (one.disk_bytes, one.files) == (0, 0)


def test_without_a_descriptor_it_comes_by_us() -> None:
    one, owner = spool(), Owner()
    body = written(one, owner, 10)
    disk_of(one).trouble = OSError(errno.EMFILE, "none left")
    body.carries = (7, 500)
    body.carry()
    assert owner.told[-1] == ("carried", 0, QUIET)
    assert (one.disk_bytes, body.busy) == (10, False)


def test_a_disk_that_refuses_what_is_carried() -> None:
    one, owner = spool(), Owner()
    body = written(one, owner, 10)
    body.carries = (7, 5000)
    body.carry()
    disk_of(one).trouble = OSError(errno.ENOSPC, "full")
    disk_of(one).work()
    assert owner.told[-1][:2] == ("lost", 507)
    assert one.disk_bytes == 1010
    body.close()
    assert (one.disk_bytes, one.files) == (0, 0)


def test_who_goes_while_it_is_carried() -> None:
    one, owner = spool(), Owner()
    body = written(one, owner, 10)
    body.carries = (7, 5000)
    body.carry()
    told = len(owner.told)
    body.close()
    assert one.files == 1, "the thread has it still"
    disk_of(one).work()
    assert (len(owner.told), one.disk_bytes, one.files) == (told, 0, 0)
