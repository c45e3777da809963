"""Both ends of a chute, their words scribbled over, beside a model of what each may do to the page (chute.pyx).

An input is a little program: what the two ends do, and what somebody who owns the page writes over their words meanwhile.
"""

import contextlib
import ctypes
import mmap
import os
import random
import socket
import struct
import weakref
from collections.abc import Callable, Iterable
from typing import Final

from emperor.protocol import scoreboard
from emperor.protocol.chute import Chute
from emperor.protocol.errors import RecordError

SHAPE: Final = (3, 1, 1, 1)
SEAT: Final = 1  # chutes before it and behind it
AROUND: Final = 4096
TAIL, HEAD, QUIET, OWNER, ENDED, BELL, SLEEPS = 0, 64, 128, 192, 256, 320, 328
WORDS: Final = (TAIL, HEAD, QUIET, OWNER, ENDED, BELL, SLEEPS)
BY_MESSAGE: Final = 1 << 30
COUNTER: Final = (1 << 64) - 1
STEP: Final = struct.Struct("<BBQ")
MOST_STEPS: Final = 10
memcmp = ctypes.CDLL(None).memcmp  # a page is compared where it is
memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
LONGEST: Final = 100_000
"""Bytes of one piece: three of them go round."""


class Page:
    """One chute of a page, found by a mark that an end leaves in it; and copies of what its words and bytes have to be."""

    def __init__(self, way: int) -> None:
        fd = scoreboard.create(*SHAPE)
        self.board = scoreboard.Board(fd, *SHAPE, check_seals=True)
        self.map = mmap.mmap(fd, scoreboard.size_bytes(*SHAPE))
        os.close(fd)
        self.way = way
        self.size = scoreboard.DOWN_BYTES if way == scoreboard.DOWN else scoreboard.UP_BYTES
        writer = self.end()
        mark = b"where the bytes are"
        writer.put(mark, 0)
        self.bytes_at = self.map.find(mark)
        self.map[self.bytes_at : self.bytes_at + len(mark)] = bytes(len(mark))
        writer.quiet(True)
        writer.filled(0x5EED - len(mark))
        self.words_at = self.map.find(struct.pack("<Q", 0x5EED))
        assert self.bytes_at > 0 and self.words_at > 0
        self.words = bytearray(scoreboard.CHUTE_WORDS_BYTES)
        self.bytes = bytearray(self.size)
        self.there = (ctypes.c_char * self.size).from_buffer(self.map, self.bytes_at)
        self.wanted = (ctypes.c_char * self.size).from_buffer(self.bytes)
        noise = random.Random(9).randbytes(AROUND)
        for start in (self.bytes_at - AROUND, self.bytes_at + self.size):
            if start + AROUND <= len(self.map):
                self.map[start : start + AROUND] = noise
        self.around = [(start, self.map[start : start + size]) for start, size in self._neighbours()]

    def _neighbours(self) -> Iterable[tuple[int, int]]:
        words = scoreboard.CHUTE_WORDS_BYTES
        yield self.words_at - words, words
        yield self.words_at + words, words
        yield self.bytes_at - AROUND, AROUND
        yield self.bytes_at + self.size, min(AROUND, len(self.map) - self.bytes_at - self.size)

    def end(self) -> Chute:
        return Chute(self.board, SEAT, 0, self.way)

    def begin(self) -> None:
        self.words[:] = bytes(len(self.words))
        self.map[self.words_at : self.words_at + len(self.words)] = self.words

    def __getitem__(self, word: int) -> int:
        return int.from_bytes(self.words[word : word + (4 if word == BELL else 8)], "little")

    def __setitem__(self, word: int, value: int) -> None:
        size = 4 if word == BELL else 8
        self.words[word : word + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")

    def scribble(self, word: int, value: int) -> None:
        self[word] = value
        self.map[self.words_at : self.words_at + len(self.words)] = self.words

    def read(self, counter: int, size: int) -> bytes:
        place = counter % self.size
        first = bytes(self.bytes[place : place + size])
        return first + bytes(self.bytes[: size - len(first)])

    def write(self, counter: int, piece: bytes) -> None:
        place = counter % self.size
        first = piece[: self.size - place]
        self.bytes[place : place + len(first)] = first
        self.bytes[: len(piece) - len(first)] = piece[len(first) :]

    def check_words(self) -> None:
        assert self.map[self.words_at : self.words_at + len(self.words)] == self.words, "other words changed"

    def check(self) -> None:
        assert not memcmp(self.there, self.wanted, self.size), "other bytes changed"
        for start, before in self.around:
            assert self.map[start : start + len(before)] == before, "something beside the chute changed"


class Model:
    """What both ends do, one step after another. ``worker`` and ``router`` are their own counters: the ends keep them where
    nobody can scribble."""

    def __init__(self, page: Page, drain: tuple[socket.socket, socket.socket]) -> None:
        self.page = page
        self.down = page.way == scoreboard.DOWN
        self.worker_end = page.end()
        self.router_end = page.end()
        self.worker = 0
        self.router = 0
        self.drain = drain

    # What is there, for either end; −1: what no other end of ours leaves

    def used(self, own: int, writes: bool) -> int:
        used = (own - self.page[HEAD] if writes else self.page[TAIL] - own) & COUNTER
        return used if used <= self.page.size else -1

    def ready(self, wanted: int) -> bool:
        """For a worker. Raises RecordError as the end does."""
        if self.page[ENDED]:
            return True
        used = self.used(self.worker, self.down)
        if used < 0:
            raise RecordError("used")
        return (self.page.size - used if self.down else used) >= wanted

    # Steps: each calls an end, and says on the copies what that may have done

    def writes(self, end: Chute, own: int, piece: bytes, start: int) -> int:
        used = self.used(own, True)
        if used < 0:
            with refused():
                end.put(piece, start)
            return own
        count = min(self.page.size - used, len(piece) - start)
        assert end.room() == self.page.size - used
        assert end.put(piece, start) == count
        if count:
            self.page.write(own, piece[start : start + count])
            own = own + count & COUNTER
            self.page[TAIL] = own
        return own

    def fills(self, end: Chute, own: int, piece: bytes) -> int:
        """As the router does from a file: into the memory itself."""
        used = self.used(own, True)
        if used < 0:
            with refused():
                end.space()
            return own
        space = end.space()
        assert len(space) == min(self.page.size - used, self.page.size - own % self.page.size)
        count = min(len(space), len(piece))
        space[:count] = piece[:count]
        end.filled(count)
        self.page.write(own, piece[:count])
        self.page[TAIL] = own + count & COUNTER
        return own + count & COUNTER

    def reads(self, end: Chute, own: int, most: int, how: int) -> int:
        used = self.used(own, False)
        if used < 0:
            with refused():
                end.take(most)
            return own
        assert end.held() == used
        count = min(used, most)
        there = self.page.read(own, count)
        if how == 0:
            assert end.take(most) == there
        elif how == 1:
            into = bytearray(most)
            assert end.take_into(into) == count and into[:count] == there
        else:
            sender, receiver = self.drain
            sent = end.send(sender.fileno(), most)
            assert 0 <= sent <= count
            got = bytearray()
            while len(got) < sent:
                got += receiver.recv(1 << 20)
            assert got == there[:sent]
            count = sent
            if not min(used, most):
                return own  # nothing to send: its counter is not written
        own = own + count & COUNTER
        self.page[HEAD] = own
        return own

    def step(self, what: int, fine: int, value: int, piece: bytes) -> None:
        page, stream = self.page, value or 1
        match what % 12:
            case 0 | 1:
                start = fine * len(piece) // 255
                if self.down:
                    self.worker = self.writes(self.worker_end, self.worker, piece, start)
                elif fine & 1:
                    self.router = self.fills(self.router_end, self.router, piece)
                else:
                    self.router = self.writes(self.router_end, self.router, piece, start)
            case 2 | 3:
                most = value % (page.size + 99)
                if self.down:
                    self.router = self.reads(self.router_end, self.router, most, fine % 3)
                else:
                    self.worker = self.reads(self.worker_end, self.worker, most, fine % 2)
            case 4:
                taken = page[OWNER]
                if self.down:
                    assert self.worker_end.enter(stream) is (taken == 0)
                    if not taken:
                        page[OWNER] = stream
                        self.worker = page[TAIL]
                else:
                    assert self.worker_end.enter(stream) is (taken == stream)
                    if taken == stream:
                        self.worker = page[HEAD]
            case 5:
                self.router_end.lend(stream)
                if self.down:
                    self.router = page[HEAD]
                else:
                    page[OWNER] = stream
            case 6:
                word = WORDS[fine % len(WORDS)]
                near = page[HEAD if fine & 64 else TAIL] + value % (2 * page.size + 9) - page.size
                page.scribble(word, near if fine & 128 else value)
            case 7:
                self.waits(value % (page.size + 9), bool(fine & 1))
            case 8:
                how = fine % 3
                page[ENDED] = how
                self.wakes(self.router_end.end(how))
            case 9:
                self.wakes(self.router_end.wake())
            case 10:
                self.router_end.quiet(bool(fine & 1))
                page[QUIET] = fine & 1
                self.calls()
            case 11 if fine < 8:  # giving a quarter of a megabyte back takes as long as all else
                self.cleared()
        page.check_words()

    def waits(self, wanted: int, by_message: bool) -> None:
        try:
            there = self.ready(wanted)
        except RecordError:
            with refused():
                self.worker_end.ask(wanted) if by_message else self.worker_end.sleep(wanted, 0)
            # It stays said: who asks next says it anew, and the connection ends anyway.
            self.page[SLEEPS] = wanted | (BY_MESSAGE if by_message else 0)
            return
        if by_message:
            assert self.worker_end.ask(wanted) is not there
            self.page[SLEEPS] = 0 if there else wanted | BY_MESSAGE
        else:
            assert self.worker_end.sleep(wanted, 0) is not there
            self.page[SLEEPS] = 0

    def wakes(self, by_message: bool) -> None:
        page = self.page
        said = page[SLEEPS]
        wanted = said & BY_MESSAGE - 1
        written = page[TAIL] - self.router if self.down else self.router - page[HEAD]
        there = (page.size - written if self.down else written) & COUNTER
        if not said or (there < wanted and not page[ENDED]):
            assert by_message is False
            return
        page[SLEEPS] = 0
        assert by_message is bool(said & BY_MESSAGE)
        if not by_message:
            page[BELL] = page[BELL] + 1

    def calls(self) -> None:
        used = self.used(self.worker, False)
        if self.page[QUIET] or self.down:
            assert self.worker_end.calls() is not bool(self.page[QUIET])
        elif used < 0:
            with refused():
                self.worker_end.calls()
        else:
            assert self.worker_end.calls() is (2 * used <= self.page.size)

    def cleared(self) -> None:
        page = self.page
        self.router_end.clear()
        if self.down:
            self.router = page[TAIL]
        page[TAIL] = page[HEAD] = self.router
        page[ENDED] = page[QUIET] = page[OWNER] = 0
        ctypes.memset(page.wanted, 0, page.size)
        if page[SLEEPS]:
            page[SLEEPS] = 0
            page[BELL] = page[BELL] + 1


class refused(contextlib.AbstractContextManager[None]):
    """RecordError must be raised inside."""

    def __exit__(self, kind: object, error: object, trace: object) -> bool:
        assert isinstance(error, RecordError), error or "what no end of ours leaves was taken"
        return True


def make_chute() -> Callable[[bytes, int], bool]:
    pages = {way: Page(way) for way in (scoreboard.DOWN, scoreboard.UP)}
    sender, receiver = ends = socket.socketpair()
    for end in ends:
        weakref.finalize(pages[scoreboard.UP], end.close)
    sender.setblocking(False)
    text = random.Random(10).randbytes(LONGEST)

    def run(data: bytes, bits: int) -> bool:
        page = pages[scoreboard.UP if bits & 1 else scoreboard.DOWN]
        page.begin()
        model = Model(page, (sender, receiver))
        for at in range(0, min(len(data), MOST_STEPS * STEP.size), STEP.size):
            what, fine, value = STEP.unpack(data[at : at + STEP.size].ljust(STEP.size, b"\0"))
            first = value >> 40 & 0xFF
            model.step(what, fine, value, text[first : first + value % LONGEST])
        page.check()
        return True

    return run


def chute_seeds() -> Iterable[bytes]:
    yield b""
    usual = [(5, 0, 7), (4, 0, 7), (0, 0, 70_000), (2, 0, 30_000), (2, 1, 99_999), (8, 1, 0)]
    yield b"".join(STEP.pack(*step) for step in (*usual, (11, 0, 0)))
    around = [(4, 0, 9), (5, 0, 9)] + [(0, 0, 90_000), (2, 2, 80_000), (7, 1, 50_000), (9, 0, 0)] * 5
    yield b"".join(STEP.pack(*step) for step in around)
    for word in range(len(WORDS)):
        for fine in (word, word + 128 - 128 % len(WORDS), word + 126):
            hostile = [(0, 0, 5000), (6, fine % 256, COUNTER - 5), *usual, (7, 0, 10), (10, 1, 0), (9, 0, 0)]
            yield b"".join(STEP.pack(*step) for step in hostile)
