"""What is fuzzed: a table of codecs, each with its first inputs, its words, and a function that takes one input.

The function returns whether the codec accepted the input, and asserts what must hold whatever the bytes are: the verdict
does not depend on where the input was cut, what was accepted can be read again and says the same, nothing but what a
docstring names is raised. Its second argument is 32 random bits: for cuts and other choices, so that one saved input and
these bits repeat a run.
"""

import contextlib
import ipaddress
import itertools
import json
import mmap
import os
import random
import re
import socket
import struct
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from chute_codec import chute_seeds, make_chute
from replies_codec import WORDS as REPLY_WORDS
from replies_codec import make_replies
from replies_codec import seeds as reply_seeds
from websocket_codec import (
    HANDSHAKE_WORDS,
    frame_seeds,
    handshake_seeds,
    make_beside,
    make_frames,
    make_handshake,
)
from websocket_codec import WORDS as FRAME_WORDS

from emperor.config import ConfigError, accesslog, ini, load_vassal, toml
from emperor.config.accesslog import AccessLog
from emperor.config.listening import KNOWN_FORWARDED_FIELDS
from emperor.config.peers import Peers
from emperor.config.problems import Mistake
from emperor.control.channel import Channel, ChannelClosed
from emperor.control.messages import GatewaySpec, RouterEntry
from emperor.protocol import http1, logline, packet, proxy, records, ring, scoreboard, subscription
from emperor.protocol.environ import environ, response_head
from emperor.protocol.errors import BoardError, HttpError, PacketError, RecordError, ResponseError
from emperor.router.forwarded import believed
from emperor.router.front import Door
from emperor.router.http import HttpConnection
from emperor.router.terms import Terms
from emperor.router.uwsgi import UwsgiConnection
from tests.protocol.differential import compare
from tests.router.unplugged import converse
from tests.wire import http1 as wire_http1
from tests.wire import messages as wire_messages
from tests.wire import packets as wire_packets
from tests.wire import responses as wire_responses
from tests.wire import smuggling
from tests.wire import subscriptions as wire_subscriptions

Run = Callable[[bytes, int], bool]


@dataclass(frozen=True)
class Codec:
    """``refusals`` are the exceptions that the codec is documented to raise. ``cost`` is how many inputs of the cheapest codec
    one of this takes, about: the short form gives each codec the same time."""

    name: str
    about: str
    seeds: Callable[[], Iterable[bytes]]
    words: tuple[bytes, ...]
    make: Callable[[], Run]
    refusals: tuple[type[Exception], ...]
    cost: int = 1


def words(text: bytes) -> tuple[bytes, ...]:
    """The words between bars."""
    return tuple(text.split(b"|"))


def cuts(data: bytes, bits: int) -> Sequence[bytes]:
    """``data`` in up to four parts, or byte by byte when it is short."""
    size = len(data)
    if bits & 0x30 == 0 and size < 200:
        return [data[at : at + 1] for at in range(size)]
    edges = sorted({0, size, *((bits >> shift) * size >> (32 - shift) for shift in (6, 14, 22))})
    return [data[start:stop] for start, stop in itertools.pairwise(edges)]


# HTTP/1.1 requests

PREFIX = packet.encode_vars([(b"REQUEST_SCHEME", b"http"), (b"SCRIPT_NAME", b"")])
REQUEST_STATUS = frozenset((400, 411, 413, 414, 417, 421, 431, 501, 505))
CHUNKED_HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def read_requests(parts: Iterable[bytes]) -> tuple[list[object], int, int]:
    """Everything that a Reader says of these bytes, bodies joined; the status it ended with; the bytes it has left."""
    reader = http1.Reader(PREFIX)
    out: list[object] = []
    body: list[bytes] = []
    fed = 0
    try:
        for part in parts:
            reader.feed(part)
            fed += len(part)
            while (piece := reader.next()) is not None:
                if type(piece) is bytes:
                    assert piece, "an empty piece of body"
                    body.append(piece)
                    continue
                if body:
                    out.append(b"".join(body))
                    body.clear()
                if piece is True:
                    out.append(True)
                    continue
                assert isinstance(piece, packet.RequestHead)
                assert (piece.content_length == -1) == piece.chunked
                assert len(piece.packet) <= 65539
                out.append((piece.packet, piece.host, piece.path, piece.content_length, piece.keep_alive))
            assert 0 <= reader.buffered() <= fed
    except HttpError as error:
        if error.status not in REQUEST_STATUS or not str(error):
            raise AssertionError(f"status {error.status}: {error}") from error
        return [*out, b"".join(body)], error.status, 0
    return [*out, b"".join(body)], 0, reader.buffered()


def make_http1() -> Run:
    def run(data: bytes, bits: int) -> bool:
        whole = read_requests((data,))
        if not bits & 3:
            assert read_requests(cuts(data, bits)) == whole, "the verdict depends on the cuts"
        for one in whole[0]:
            if type(one) is tuple:
                variables, end = environ(one[0])
                assert end == len(one[0])
                assert variables["REQUEST_METHOD"] and variables["REQUEST_SCHEME"] == "http"
                assert "HTTP_PROXY" not in variables and "HTTP_CONTENT_LENGTH" not in variables
        return whole[1] == 0

    return run


def make_chunked() -> Run:
    def run(data: bytes, bits: int) -> bool:
        data = CHUNKED_HEAD + data
        whole = read_requests((data,))
        if not bits & 3:
            assert read_requests(cuts(data, bits)) == whole, "the verdict depends on the cuts"
        return whole[1] == 0

    return run


def chunked_seeds() -> Iterable[bytes]:
    for row in (*wire_http1.TAKEN * 4, *wire_http1.REFUSED):
        head, end, body = row.sent.partition(b"\r\n\r\n")
        if end and b"chunked" in head.lower():
            yield body
    yield b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"


HTTP_WORDS = words(
    b"GET |POST |HEAD |OPTIONS |CONNECT | HTTP/1.1\r\n| HTTP/1.0\r\n| HTTP/2.0\r\n|\r\n|\r\n\r\n|\n|\r|"
    b"\x00|\t| |:|,|;|Host: a\r\n|Content-Length: |Content-Length: 5\r\n|Transfer-Encoding: |"
    b"Transfer-Encoding: chunked\r\n|chunked|gzip|identity|, chunked|Connection: close\r\n|"
    b"Connection: keep-alive\r\n|Connection: host\r\n|Expect: 100-continue\r\n|Cookie: a=b\r\n|"
    b'X_A: b\r\n|Proxy: x\r\n|http://b.example|//|*|%00|%41|%|?|0\r\n\r\n|5\r\nhello\r\n|;a=b|;a="b"|'
    b"0x5|+5|-1|5_0|00000005|fffffffffffffff|ffffffffffffffff|999999999999999999|9999999999999999999|"
    b"Trailer: x\r\n|TE: trailers\r\n"
)


def make_differential() -> Run:
    def run(data: bytes, bits: int) -> bool:
        return compare(data if bits & 3 else CHUNKED_HEAD + data) == "both take"

    return run


def differential_seeds() -> Iterable[bytes]:
    yield from (seed for seed in http_seeds() if len(seed) < 2000)
    yield from chunked_seeds()
    for row in smuggling.ROWS:
        yield b"".join(row.pieces(b"mm"))


# HTTP/1.1 connections: the same bytes through the router's side of one, up to what an app would be given


def make_connection(kind: Callable[[Door], object]) -> Run:
    def run(data: bytes, bits: int) -> bool:
        whole = converse(kind, (data,))
        assert len(whole[0]) <= len(whole[1]), "an app was asked and the client got no answer"
        if not bits & 3:
            assert converse(kind, cuts(data, bits)) == whole, "what the app is given depends on the cuts"
        return bool(whole[0])

    return run


# Response heads

RESPONSE_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [\t\x20-\x7e\x80-\xff]*\Z")
DATE = wire_responses.DATE


def worker_sends(data: bytes, bits: int) -> bool:
    """The other two heads that a worker may send: an interim response, trailers."""
    if bits & 0x40000:
        status, out = http1.interim(data)
        assert 100 <= status < 200 and out.startswith(b"HTTP/1.1 %d" % status) and out.endswith(b"\r\n\r\n")
        lines = out[:-4].split(b"\r\n")[1:]
    else:
        out = http1.trailers(data)
        assert not out or out.endswith(b"\r\n")
        lines = out.split(b"\r\n")[:-1]
    names = {line.partition(b":")[0].lower() for line in lines}
    assert all(map(RESPONSE_LINE.match, lines)), "a line that is no header line"
    assert not names & {b"content-length", b"transfer-encoding", b"connection", b"trailer"}
    return True


def make_response() -> Run:
    def run(data: bytes, bits: int) -> bool:
        if not bits & 0x30000:
            return worker_sends(data, bits)
        flags = bits & 15
        status, out, length, framing, keep = http1.response(data, flags, (bits >> 4 & 255) - 1, DATE)
        assert out.endswith(b"\r\n\r\n") and out.startswith(b"HTTP/1.1 %d" % status)
        lines = out[:-4].split(b"\r\n")
        names = [line.partition(b":")[0].lower() for line in lines[1:]]
        assert all(map(RESPONSE_LINE.match, lines[1:])), "a line that is no header line"
        assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1, "two framings"
        assert names.count(b"connection") <= 1
        assert (framing == http1.CHUNKED) == (b"transfer-encoding" in names)
        assert framing != http1.LENGTH or (length >= 0 and b"content-length" in names)
        assert framing != http1.UNTIL_CLOSE or not keep or flags & http1.UWSGI
        return True

    return run


def response_seeds() -> Iterable[bytes]:
    yield from wire_responses.BAD.values()
    for row in wire_responses.GOOD * 4:
        yield row.head


RESPONSE_WORDS = words(
    b"200 OK\r\n|204 No Content\r\n|304 |100 |\r\n|\n|\r|\x00|: |Content-Length: |"
    b"Content-Length: 5\r\n|Transfer-Encoding: chunked\r\n|Connection: close\r\n|Date: x\r\n|"
    b"Set-Cookie: a=b\r\n|Upgrade: x\r\n|Keep-Alive: x\r\n|Trailer: x\r\n|-1|+5|99999999999999999999"
)


def make_start() -> Run:
    """What an app gives to start_response → what the router makes of it."""

    def run(data: bytes, bits: int) -> bool:
        text = data.decode("latin-1" if bits & 7 else "utf-8", "surrogatepass" if bits & 7 else "replace")
        parts = text.split("\x1f")
        pairs = list(zip(parts[1::2], parts[2::2], strict=False))
        head = response_head(parts[0], pairs)
        assert head.count(b"\r\n") == 1 + len(pairs), "a line of the app's own making"
        with contextlib.suppress(ResponseError):
            http1.response(head, bits & 15, -1, DATE)
        return True

    return run


# uwsgi packets

KEY = re.compile(rb"[A-Z][A-Z0-9_]*\Z")
PACKET_WORDS = tuple(
    wire_packets.text(word)
    for word in words(
        b"REQUEST_METHOD|GET|POST|HEAD|CONTENT_LENGTH|5|-1|99999999999999999999|HTTP_HOST|a.example|"
        b"[::1]:80|PATH_INFO|/|HTTP_PROXY|UWSGI_FILE|UWSGI_FASTROUTER_KEY|SCRIPT_NAME|HTTPS|on|HTTP_X_A|"
        b"http_x|HTTP_CONTENT_LENGTH||SERVER_NAME|HTTP_TRANSFER_ENCODING|chunked|REMOTE_USER|REQUEST_URI|"
        b"QUERY_STRING|HTTP_EXPECT|HTTP_COOKIE|HTTP_CONNECTION"
    )
)


def packet_seeds() -> Iterable[bytes]:
    for sent, _ in wire_packets.REFUSED.values():
        yield sent
    for row in wire_packets.ADMITTED * 4:
        yield row.sent


def sized(data: bytes, bits: int) -> bytes:
    """Mostly with sizes that fit: what lies behind those checks must be reached."""
    if len(data) < 4 or not bits & 7:
        return data
    block = data[4:65539]
    if not bits & 1:
        at, texts = 0, []
        while at + 2 < len(block):
            size = block[at] | block[at + 1] << 8
            texts.append(block[at + 2 : at + 2 + size])
            at += 2 + size
        if len(texts) & 1:
            texts.append(b"")
        block = b"".join(len(text).to_bytes(2, "little") + text for text in texts)[:65535]
    return b"\0" + len(block).to_bytes(2, "little") + data[3:4] + block


def make_packet() -> Run:
    def run(data: bytes, bits: int) -> bool:
        data = sized(data, bits)
        try:
            _, _, pairs = packet.decode(data)
        except PacketError:
            pairs = None
        else:
            assert packet.encode(pairs, data[0], data[3]) == data, "read and written again it is another"
        head = packet.admit(data)
        assert pairs is not None, "admitted, and no packet"
        _, _, kept = packet.decode(head.packet)
        names = [key for key, _ in kept]
        assert len(set(names)) == len(names), "a key twice"
        assert all(KEY.match(name) and not name.startswith(b"UWSGI_") for name in names)
        assert head.content_length >= 0
        assert b"HTTP_PROXY" not in names
        again = packet.admit(head.packet)
        assert (again.packet, again.path) == (head.packet, head.path), "admitted twice it is another"
        return True

    return run


WSGI = {"wsgi.version": (1, 0), "wsgi.errors": None, "wsgi.url_scheme": "http"}


def make_environ() -> Run:
    def run(data: bytes, bits: int) -> bool:
        data = sized(data, bits) + b"body" * (bits >> 30)
        complete = bool(bits & 8)
        variables, end = environ(data, WSGI if complete else None)
        assert 4 <= end <= len(data)
        assert end == 4 + int.from_bytes(data[1:3], "little")
        if complete:
            assert variables["wsgi.version"] == (1, 0), "a packet set what is the server's"
            assert "HTTP_CONTENT_LENGTH" not in variables and "SCRIPT_NAME" in variables
        return True

    return run


# Backplane records

UNPACK = {
    records.HELLO: records.unpack_hello,
    records.WELCOME: records.unpack_welcome,
    records.READY: records.unpack_ready,
    records.REFUSED: records.unpack_refused,
    records.CREDIT: records.unpack_credit,
    records.RESPONSE: records.unpack_response,
}


def record_seeds() -> Iterable[bytes]:
    yield from wire_messages.BROKEN.values()
    for name, kind in (
        ("HELLO", 33),
        ("WELCOME", 1),
        ("READY", 34),
        ("REFUSED", 2),
        ("CREDIT", 6),
        ("RESPONSE", 36),
    ):
        good = wire_messages.record(kind, getattr(wire_messages, name))
        yield good
        yield good + wire_messages.record(4, b"data", flags=1, word=3, stream=7)
        for payload in wire_messages.BAD_PAYLOADS[name][-8:]:
            yield wire_messages.record(kind, payload[:2000])


def make_records() -> Run:
    def run(data: bytes, bits: int) -> bool:
        cursor = records.Cursor(data)
        found = 0
        again = []
        while cursor.next():
            found += 1
            payload = cursor.payload()
            assert cursor.size == len(payload)
            again.append(records.pack(cursor.type, cursor.flags, cursor.word, cursor.stream, payload))
            unpack = UNPACK.get(cursor.type)
            if unpack is not None:
                with contextlib.suppress(RecordError):
                    unpack(payload)
                if cursor.type == records.RESPONSE:
                    with contextlib.suppress(RecordError):
                        cursor.read_response()
                        read = (cursor.service_us, cursor.head, cursor.body)
                        assert read == records.unpack_response(payload)
        assert found == cursor.count
        assert b"".join(again) == data, "read and written again it is another"
        return True

    return run


# The scoreboard: its other writer may be hostile

SHAPE = (2, 2, 2, 4)


def make_scoreboard() -> Run:
    fd = scoreboard.create(*SHAPE)
    board = scoreboard.Board(fd, *SHAPE, check_seals=True)
    size = scoreboard.size_bytes(*SHAPE) - scoreboard.HEADER_BYTES
    step = struct.Struct("<BBBBQ")

    def run(data: bytes, bits: int) -> bool:
        os.pwrite(fd, data[:size], scoreboard.HEADER_BYTES)
        if bits & 1:
            data = data[size // 2 :]
        for at in range(0, min(len(data), 40 * step.size) - step.size + 1, step.size):
            what, seat, router, index, stream = step.unpack_from(data, at)
            seat, router, index = seat % 3, router % 3, index % 5
            stream >>= 2
            try:
                match what % 12:
                    case 0:
                        if board.offer(seat, router, index, stream):
                            assert board.state(seat, router, index) == (stream, scoreboard.OFFERED)
                    case 1:
                        assert board.revoke(seat, router, index, stream) in (-1, 0, 2, 3)
                    case 2:
                        board.revoke_all(seat, router)
                        for word in range(SHAPE[3]):
                            assert board.state(seat, router, word)[1] != scoreboard.OFFERED
                    case 3:
                        board.slot(seat, index)
                    case 4:
                        assert board.running_ns(seat, stream) >= -1
                    case 5:
                        _, state = board.state(seat, router, index)
                        assert 0 <= state <= 3
                    case 6:
                        if board.claim(seat, router, index, stream):
                            assert board.state(seat, router, index) == (stream, scoreboard.CLAIMED)
                    case 7:
                        board.free(seat, router, index)
                        assert board.state(seat, router, index)[1] in (scoreboard.FREE, scoreboard.OFFERED)
                    case 8:
                        board.reclaim(seat, router)
                    case 9:
                        board.inherit(seat)
                        assert board.slot(seat, 0)[0] == 0
                    case 10:
                        board.begin(seat, index, stream)
                        assert board.slot(seat, index)[0] == stream
                    case 11:
                        board.end(seat, index)
            except BoardError:
                assert seat >= 2 or router >= 2 or index >= 2, "a place of the page that was refused"
        return True

    return run


def scoreboard_seeds() -> Iterable[bytes]:
    for what in range(12):
        yield bytes(64) + struct.pack("<BBBBQ", what, 0, 0, 0, 28) * 3
    yield bytes(range(256)) + b"".join(
        struct.pack("<BBBBQ", at, 1, 1, at % 4, 0xDEADBEEF << 8) for at in range(36)
    )


# The ring: the page that it stands on has another writer

RING_SHAPE = (3, 1, 1, 1)
RING_SEAT = 1  # a ring before it and one behind it
RING_COUNTERS = struct.Struct("<QQQQ")
TAIL, HEAD, STATE = 0, 64, 128  # where the words stand: ring.pyx, docs/specs/backplane.md
RESTS, WATCHES, CALLED, LISTENS = 0, 1, 2, 3
COUNTER = (1 << 64) - 1


class RingPage:
    """A page whose every byte is known, and what the ends of its ring may do to it."""

    def __init__(self, way: int) -> None:
        fd = scoreboard.create(*RING_SHAPE)
        self.board = scoreboard.Board(fd, *RING_SHAPE, check_seals=True)
        self.page = mmap.mmap(fd, scoreboard.size_bytes(*RING_SHAPE))
        os.close(fd)
        # All of requests, then all of responses.
        behind = RING_SHAPE[0] * (2 if way == scoreboard.UP else 1) - RING_SEAT
        self.start = len(self.page) - behind * scoreboard.RING_BYTES
        self.data = scoreboard.RING_BYTES - ring.CAPACITY
        self.blank = random.Random(7).randbytes(scoreboard.RING_BYTES)
        self.page[:] = random.Random(8).randbytes(len(self.page))
        self.before = self.page[: self.start]
        self.behind = self.page[self.start + scoreboard.RING_BYTES :]
        self.expected = bytearray()

    def clear(self, tail: int, head: int, state: int) -> None:
        self.expected = bytearray(self.blank)
        for place, word in ((TAIL, tail), (HEAD, head), (STATE, state)):
            self.expect(place, word)
        self.page[self.start : self.start + len(self.expected)] = self.expected

    def expect(self, place: int, word: int) -> None:
        self.expected[place : place + 8] = word.to_bytes(8, "little")

    def scribble(self, place: int, word: int) -> None:
        self.expect(place, word)
        self.page[self.start + place : self.start + place + 8] = word.to_bytes(8, "little")

    def expect_bytes(self, counter: int, data: bytes) -> None:
        """``data`` where ``counter`` says, around the end."""
        place = counter % ring.CAPACITY
        first = data[: ring.CAPACITY - place]
        self.expected[self.data + place : self.data + place + len(first)] = first
        self.expected[self.data : self.data + len(data) - len(first)] = data[len(first) :]

    def held(self, counter: int, size: int) -> bytes:
        place = self.data + counter % ring.CAPACITY
        first = bytes(self.expected[place : place + size])
        return first + bytes(self.expected[self.data : self.data + size - len(first)])

    def check(self) -> None:
        assert self.page[self.start : self.start + scoreboard.RING_BYTES] == self.expected, "more was written"

    def check_around(self) -> None:
        assert self.page[: self.start] == self.before, "something was written before the ring"
        assert self.page[self.start + scoreboard.RING_BYTES :] == self.behind, (
            "something was written behind it"
        )


def make_ring() -> Run:
    return any_ring(scoreboard.DOWN)


def make_request_ring() -> Run:
    return any_ring(scoreboard.UP)


def any_ring(way: int) -> Run:
    page = RingPage(way)

    def read(data: bytes, bits: int, tail: int, head: int, other: int) -> bool:
        page.clear(head, other, bits >> 8 & 3)
        reader = ring.Reader(page.board, RING_SEAT, 0, way)
        if way == scoreboard.UP:
            reader.begin()
            reader.rest()
        page.expect(HEAD, head)
        page.expect(STATE, RESTS)
        page.check()
        assert not reader.has()
        data = data[: ring.CAPACITY]
        page.expect_bytes(head, data)
        page.page[page.start : page.start + scoreboard.RING_BYTES] = page.expected
        # Mostly all that came, else as the bits have it.
        tail = head + len(data) & COUNTER if bits & 3 else tail
        page.scribble(TAIL, tail)
        page.scribble(HEAD, other)
        state = bits >> 10 & 7
        page.scribble(STATE, state)
        assert reader.called() is (state == CALLED)
        if bits & 4:
            assert reader.watch() is (state == CALLED)
            page.expect(STATE, WATCHES)
        used = tail - head & COUNTER
        assert reader.has() is (used != 0)
        try:
            message = reader.take()
        except RecordError:
            assert used > ring.CAPACITY
            page.check()
            raise
        assert used <= ring.CAPACITY and message == page.held(head, used)
        assert not reader.has()
        reader.rest(bool(bits & 8))
        page.expect(HEAD, tail)
        page.expect(STATE, LISTENS if bits & 8 else RESTS)
        page.check()
        cursor = records.Cursor(message)
        while cursor.next():
            if cursor.type == records.RESPONSE:
                cursor.read_response()
                assert (cursor.service_us, cursor.head, cursor.body) == records.unpack_response(
                    cursor.payload()
                )
        return True

    def write(data: bytes, bits: int, tail: int, head: int, other: int) -> bool:
        # Mostly some room.
        head = tail - head % (ring.CAPACITY + 99) & COUNTER if bits & 3 else head
        state = bits >> 8 & 3 if bits & 4 else other
        page.clear(tail, head, state)
        writer = ring.Writer(page.board, RING_SEAT, 0, way)
        writer.begin()
        page.scribble(TAIL, other)
        assert writer.is_read() is (state != RESTS)
        cut = len(data) * (bits >> 10 & 15) // 15
        first, body = data[:cut], data[cut:] * (1 + (bits >> 14 & 63))
        fits = False
        for stream in (other, ~other & COUNTER):
            used = tail - head & COUNTER
            size = (22 if way == scoreboard.DOWN else 16) + len(first) + len(body)
            fits = size <= ring.LARGEST and used <= ring.CAPACITY and size <= ring.CAPACITY - used
            if way == scoreboard.DOWN:
                assert writer.put(stream, bits, first, body) is fits
            else:
                assert writer.put_request(records.FIN, bits & 0xFFFF, stream, first, body) is fits
            if fits:
                if way == scoreboard.DOWN:
                    record = records.pack_response(records.FIN, records.NO_WORD, stream, bits, first, body)
                else:
                    record = records.pack_request(records.FIN, bits & 0xFFFF, stream, first, body)
                page.expect_bytes(tail, record)
                tail = tail + size & COUNTER
                page.expect(TAIL, tail)
            page.check()
        wanted = {RESTS: ring.BY_MESSAGE, LISTENS: ring.BY_BELL}.get(state, ring.NEITHER)
        assert writer.rests() is (wanted != ring.NEITHER)
        assert writer.must_call() == wanted
        if wanted:
            page.expect(STATE, CALLED)
        assert not writer.must_call() and not writer.rests()
        page.check()
        return fits

    def run(data: bytes, bits: int) -> bool:
        counters = RING_COUNTERS.unpack(data[: RING_COUNTERS.size].ljust(RING_COUNTERS.size, b"\0"))
        act = write if bits & 0x80 else read
        try:
            return act(data[RING_COUNTERS.size :], bits, counters[0], counters[1], counters[2] ^ counters[3])
        finally:
            page.check_around()

    return run


def ring_seeds() -> Iterable[bytes]:
    near = ring.CAPACITY
    for tail, head, other in (
        (0, 0, 0),
        (near - 9, near - 40, 1),
        (COUNTER, COUNTER - 50, 2),
        (5 * near, 5 * near - 1, 0),
    ):
        counters = RING_COUNTERS.pack(tail, head, other, 0)
        yield counters
        for given in record_seeds():
            yield counters + given


# Configuration files

CONFIG_SEEDS = tuple(
    text.encode()
    for text in (
        "[vassal]\nmodule = blog.wsgi:app\n",
        "[uwsgi]\nwsgi-file = %d../app/wsgi.py\nprocesses = 4\ndomain = a.example\ndomain = b.example\nenv = A=%(processes)\n",
        "[uwsgi]\nmaster = true\nchdir = %d\nif-env = HOME\nset = %n\nendif =\nfor = a b\nenv = %(_)=1\nendfor =\n",
        "; comment\n# comment\n[vassal]\nqueue = 10\nqueue-timeout = 5s\nbody-limit = 10m\n$(HOME)\n@(file)\n%%\n",
        '[vassal]\nmodule = "blog.wsgi:app"\nprocesses = 2\ndomain = ["a.example", "b.example"]\n',
        '[vassal]\nenv = { A = "1" }\nqueue-timeout = "5s"\nbody-limit = 1e3\ndefault = true\n[[x]]\n"""a\n"""\n',
        "",
        "\ufeff[uwsgi]\nmodule=a",
    )
)
CONFIG_WORDS = words(
    b"[uwsgi]\n|[vassal]\n|module = a\n|processes = |wsgi-file = |domain = |env = A=1\n|%d|%n|"
    b'%(module)|%(|%%|%v|$(HOME)|@(|%[||=|\n|\r\n|;|#|"|"""|\'\'\'|[[|]]|{|}|\\u0000|\\|1e999|'
    b"9999999999999999999999|-1|true|false|5s|10m|if-env = A\n|endif =\n|for = a b\n|endfor =\n|\xff|"
    b"\xef\xbb\xbf|\x00|include = a\n|uid = root\n|socket = :0\n|nan|inf|1979-05-27T07:32:00Z|0x10|0b1|"
    b"a.b.c = 1\n"
)


def make_reading(read: Callable[[str, str], object]) -> Run:
    def run(data: bytes, bits: int) -> bool:
        reading = read(data.decode("utf-8", "replace"), "f")
        for problem in (*reading.problems, *reading.warnings):  # type: ignore[attr-defined]
            assert str(problem).startswith("f")
        return not reading.problems  # type: ignore[attr-defined]

    return run


def make_vassal() -> Run:
    root = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    directory = root / "vassals"
    (root / "app").mkdir()
    (root / "app" / "wsgi.py").write_text("")
    directory.mkdir()
    files = [directory / "one.ini", directory / "one.toml"]

    def run(data: bytes, bits: int) -> bool:
        path = files[bits & 1]
        path.write_bytes(data)
        try:
            config = load_vassal(path, directory=directory, environ={"HOME": "/"})
        except ConfigError as error:
            # A file may include others.
            read = {str(path), *(source.path for source in error.sources)}
            if not error.problems or any(problem.path not in read for problem in error.problems):
                raise AssertionError("a refusal that does not say what is wrong where") from error
            raise
        assert config.processes >= 1
        json.dumps(config.app.to_json())
        return True

    return run


# What proxies say of their clients


def proxy_seeds() -> Iterable[bytes]:
    for line in (
        b"TCP4 192.0.2.1 192.0.2.2 1 443",
        b"TCP6 2001:db8::1 ::1 65535 0",
        b"UNKNOWN",
        b"TCP4 1.2.3.4",
        b"TCP4 a b c d",
    ):
        yield b"PROXY " + line + b"\r\nGET / HTTP/1.1\r\n"
    tls = b"\x20\0\x05\x01\0\0\0\0"
    for command, family, body in (
        (0x21, 0x11, bytes(range(12))),
        (0x21, 0x21, bytes(range(36)) + tls),
        (0x21, 0x11, bytes(12) + b"\x04\0\0" + tls),
        (0x20, 0, b""),
        (0x21, 0x31, bytes(216)),
        (0x31, 0x11, bytes(12)),
    ):
        yield PROXY_SIGNATURE + bytes((command, family)) + len(body).to_bytes(2, "big") + body + b"GET"


PROXY_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
PROXY_WORDS = words(
    b"PROXY |TCP4|TCP6|UNKNOWN| |\r\n|192.0.2.1|::1|::ffff:1.2.3.4|fe80::1%a|65536|00|+1|\x21\x11\0\x0c|\x20\0\x05\x01|\xff\xff"
)


def make_proxy() -> Run:
    def run(data: bytes, bits: int) -> bool:
        found = proxy.read(data)
        # As a connection reads it: what is not whole is asked for again with more.
        if not bits & 3:
            for size in sorted({at * len(data) // 7 for at in range(1, 7)}):
                before = proxy.read(data[:size])
                if isinstance(before, proxy.Proxied):
                    assert before == found, "the header depends on the cuts"
        if isinstance(found, int):
            assert 0 <= found <= len(data), "more bytes than there are"
            return False
        assert 0 < found.size <= len(data)
        assert 0 <= found.client_port <= 65535 and 0 <= found.server_port <= 65535
        for address in (found.client, found.server):
            if address:
                ipaddress.ip_address(address)
        assert proxy.read(data[: found.size]) == found, "it reads beyond the header"
        return True

    return run


# Subscriptions

SUBSCRIPTION_WORDS = tuple(
    wire_packets.text(word)
    for word in words(
        b"key|address|modifier1|modifier2|cores|load|weight|backup|unix|sign|sni_key|notify|a.example|127.0.0.1:3031|"
        b"/run/a.sock|0|1|255|256|-1|+1|1_0|999999999999999999|9999999999999999999||\xff|a\x00b|a b|clear|vassal"
    )
)


def subscription_seeds() -> Iterable[bytes]:
    for sent, _ in wire_subscriptions.REFUSED.values():
        if len(sent) < 5000:
            yield sent
    for sent in wire_subscriptions.REAL.values():
        yield from (sent,) * 4


def make_subscription() -> Run:
    def run(data: bytes, bits: int) -> bool:
        if bits & 7:
            data = (
                bytes((subscription.MODIFIER,))
                + sized(data, bits)[1:3]
                + bytes((bits >> 8 & 1,))
                + sized(data, bits)[4:]
            )
        found = subscription.parse(data)
        assert len(data) <= subscription.LARGEST
        assert found.key.isprintable() and found.address.isprintable() and 0 <= found.modifier1 <= 255
        assert not found.sign or (
            found.unix and data.startswith(found.signed, 4) and data.endswith(found.sign)
        )
        sign = (lambda _: found.sign) if found.sign else None
        try:
            sent = subscription.build(found, sign)
        except ValueError:
            return True  # what it leaves unsaid is said, and there was no room for it
        again = subscription.parse(sent)
        assert replace(again, signed=b"") == replace(found, signed=b""), (
            "written and read again it is another"
        )
        return True

    return run


FORWARDED_WORDS = words(
    b'for=|for="[::1]:80"|for=192.0.2.1|for=unknown|for=_a|proto=https|host=|;|,|"|\\|[|]|:|=| |192.0.2.1|10.0.0.1|10.0.0.2:80|'
    b"unknown|https|http|a.example|a.example:80|[::1]:443|/prefix|//x|65536|0|%|\xe4|\x00|\t"
)
FORWARDED_KEYS = (
    b"HTTP_FORWARDED",
    b"HTTP_X_FORWARDED_FOR",
    b"HTTP_X_FORWARDED_PROTO",
    b"HTTP_X_FORWARDED_HOST",
    b"HTTP_X_FORWARDED_PORT",
    b"HTTP_X_FORWARDED_PREFIX",
    b"HTTP_X_REAL_IP",
)


def forwarded_seeds() -> Iterable[bytes]:
    yield from (
        b'for=192.0.2.1;proto=https;host=a.example, for="[2001:db8::1]:4711"',
        b"192.0.2.1, 10.0.0.2, 10.0.0.1",
        b"https",
        b"a.example:8080",
        b"443",
        b"/prefix/",
        b'for="_gazonk"; by=unknown, for=10.0.0.1',
        b"192.0.2.1:80, [::1]:1",
        b'for="a\\"b";proto=http',
    )


def make_forwarded() -> Run:
    terms = Terms(forwarded=Peers(("10.0.0.0/8", "unix")), fields=frozenset(KNOWN_FORWARDED_FIELDS))
    other = Terms(
        forwarded=Peers(("10.0.0.0/8", "unix")), fields=frozenset(KNOWN_FORWARDED_FIELDS) - {"forwarded"}
    )

    def run(data: bytes, bits: int) -> bool:
        pairs = [
            (b"REQUEST_METHOD", b"GET"),
            (b"HTTP_HOST", b"b.example"),
            (b"PATH_INFO", b"/"),
            (b"REMOTE_ADDR", b"10.0.0.9"),
        ]
        for number, text in enumerate(data.split(b"\x1f")[:3]):
            pairs.append((FORWARDED_KEYS[((bits >> 3 * number) + number) % len(FORWARDED_KEYS)], text))
        head = packet.admit(packet.encode(pairs))
        found = believed(head, terms if bits & 0x1000 else other, "10.0.0.9")
        _, _, kept = packet.decode(found.packet)
        variables = dict(kept)
        ipaddress.ip_address(variables[b"REMOTE_ADDR"].decode())
        assert variables.get(b"REQUEST_SCHEME", b"http") in (b"http", b"https")
        assert 0 < int(variables[b"SERVER_PORT"]) < 65536
        assert packet.admit(found.packet).host == found.host, (
            "it is routed by another host than the app is told"
        )
        assert (found.content_length, found.method) == (head.content_length, head.method)
        return found is not head

    return run


# Log lines


def make_logline() -> Run:
    keys = (b"REQUEST_METHOD", b"PATH_INFO", b"HTTP_HOST", b"", b"A")

    def run(data: bytes, bits: int) -> bool:
        key = keys[bits % len(keys)]
        data = sized(data, bits >> 4)
        found = logline.variable(data, key)
        logline.variables(data)
        with contextlib.suppress(PacketError):
            assert dict(packet.decode(data)[2]).get(key) == found
        text = logline.escaped(data[:500], False)
        assert text.isascii() and text.decode().isprintable() and b'"' not in text
        text = logline.escaped(data[:500], True)
        assert b"\n" not in text and b"\x7f" not in text
        json.loads(b'"' + text + b'"')
        return found is not None

    return run


LOG_WORDS = words(
    b'%(addr)|%(|)|%|%%|%(var.HTTP_X)|%(var.|%(metric.|%(status)|%(vars)|\\n|\n|"|\0|json|%(nothing)'
)
LOG_FORMATS = (
    b'%(addr) - %(user) [%(ltime)] "%(method) %(uri) %(proto)" %(status) %(size) "%(referer)" "%(uagent)"',
    b"[pid: %(pid)] {%(vars) vars} %(msecs) %(var.HTTP_X) %(metric.a) %(nothing) %% %( ) %(",
    b"json",
    b"%(epoch)\\n%(\xe4)",
)


def log_format_seeds() -> Iterable[bytes]:
    return LOG_FORMATS


def make_log_format() -> Run:
    def run(data: bytes, bits: int) -> bool:
        log = AccessLog(format=accesslog.check_format(data.decode("utf-8", "replace")))
        assert AccessLog.from_json(json.loads(json.dumps(log.to_json()))) == log
        pieces = log.pieces()
        assert all(len(piece) == 3 for piece in pieces)
        return True

    return run


# The control plane

CONTROL_SEEDS = tuple(
    struct.pack("!I", len(text)) + text
    for text in (
        *(json.dumps(document).encode() for document in (
            {"op": "hello", "id": 1},
            {"re": 1, "ok": True, "fds": 0},
            {"op": "vassal", "entry": RouterEntry(name="blog", domains=("a",)).to_json()},
            {"op": "generation", "fds": 1, "name": "blog", "token": "00" * 32},
            {"a": [1, 2.5, None, True, "\u00e4", {"b": {}}], "fds": True},
        )),
        b"[]", b"null", b"{}", b"{", b'{"fds": -1}', b'{"fds": 1e9}', b"[" * 2000, b'"\\ud800"', b"\xff", b"NaN",
        b'{"a":1,"a":2}',
    )
)  # fmt: skip
CONTROL_WORDS = words(
    b'\x00\x00\x00\x02{}|\x00\x00\x00\x0b|\x00@\x00\x01|\xff\xff\xff\xff|{|}|[|]|"|:|,|null|true|1e999|'
    b'-1|\\u0000|\\ud800|"fds":|"id":|"re":|"ok":|"name":|"domains":|"queue":|NaN|Infinity|\xc3\xa4|'
    b"99999999999999999999"
)


def make_channel() -> Run:
    def drive(parts: Iterable[bytes]) -> tuple[list[object], str]:
        ours, theirs = socket.socketpair()
        channel = Channel(ours)
        out: list[object] = []
        why = ""
        try:
            for part in parts:
                theirs.sendall(part)
                out += [message for message, _ in channel.receive()]
            theirs.close()
            while True:
                out += [message for message, _ in channel.receive()]
        except ChannelClosed as error:
            why = str(error)
        except BrokenPipeError:
            # It had closed at an earlier part.
            try:
                while True:
                    out += [message for message, _ in channel.receive()]
            except ChannelClosed as error:
                why = str(error)
        finally:
            theirs.close()
            channel.close()
        assert why
        return out, why

    def run(data: bytes, bits: int) -> bool:
        data = data[:60_000]
        whole = drive((data,))
        if not bits & 7:
            # NaN is not equal to itself.
            assert repr(drive(cuts(data, bits | 0x30))) == repr(whole), "what is received depends on the cuts"
        for message in whole[0]:
            assert type(message) is dict
        return bool(whole[0])

    return run


def make_messages() -> Run:
    def run(data: bytes, bits: int) -> bool:
        try:
            document = json.loads(data[4:])
        except (ValueError, RecursionError):
            return False
        read = GatewaySpec.from_json if bits & 1 else RouterEntry.from_json
        if isinstance(document, dict) and isinstance(document.get("entry"), dict):
            document = document["entry"]
        spec = read(document)
        assert read(json.loads(json.dumps(spec.to_json()))) == spec
        return True

    return run


def message_seeds() -> Iterable[bytes]:
    app = {"module": "a:b", "file": None}
    entry = RouterEntry(name="blog", domains=("a.example",), queue=5, queue_timeout_s=1.5).to_json()
    spec = {
        "name": "blog", "generation": 1, "app": app, "processes": 2, "endpoint": "/x", "token": "0" * 64,
        "config_path": "/x.ini", "title": "x", "uid": 1, "gid": None,
    }  # fmt: skip
    for document in (entry, spec, {**spec, "token": "x"}, {"entry": entry}):
        yield b"\0\0\0\0" + json.dumps(document).encode()
    for key in entry:
        for value in (None, 1, -1, "x", [], ["a"], True, 1e300):
            yield b"\0\0\0\0" + json.dumps({**entry, key: value}).encode()


def http_seeds() -> Iterable[bytes]:
    # Good ones weigh more: what is refused as it is seldom gets better by a mutation.
    for row in (*wire_http1.TAKEN * 4, *wire_http1.REFUSED):
        yield row.sent
    small = [row.sent for row in wire_http1.TAKEN if len(row.sent) < 400]
    for first, second in zip(small[::3], small[1::3], strict=False):
        yield first + second


def start_seeds() -> Iterable[bytes]:
    for head in response_seeds():
        yield head.replace(b"\r\n", b"\x1f").replace(b": ", b"\x1f")


def uwsgi_seeds() -> Iterable[bytes]:
    for sent in packet_seeds():
        yield sent + b"hello"


def make_http() -> Run:
    return make_connection(HttpConnection)


def make_uwsgi() -> Run:
    return make_connection(UwsgiConnection)


def make_ini() -> Run:
    return make_reading(ini.read)


def make_toml() -> Run:
    return make_reading(toml.read)


def config_seeds() -> Iterable[bytes]:
    return CONFIG_SEEDS


def control_seeds() -> Iterable[bytes]:
    return CONTROL_SEEDS


RECORD_WORDS = (b"\x21\0\xff\xff", b"\x24\0\0\0", bytes(8), bytes(16))

CODECS = (
    Codec("http1", "request reader: heads, bodies, pipelines", http_seeds, HTTP_WORDS, make_http1, (), 4),
    Codec("chunked", "chunked bodies, extensions, trailers", chunked_seeds, HTTP_WORDS, make_chunked, (), 3),
    Codec("h11", "the request reader beside h11", differential_seeds, HTTP_WORDS, make_differential, (), 60),
    Codec(
        "http", "a connection of an HTTP listener, up to the app", http_seeds, HTTP_WORDS, make_http, (), 12
    ),
    Codec(
        "response",
        "response heads from a worker",
        response_seeds,
        RESPONSE_WORDS,
        make_response,
        (ResponseError,),
        2,
    ),
    Codec("replies", "what upstreams send back", reply_seeds, REPLY_WORDS, lambda: make_replies(cuts), (), 2),
    Codec(
        "start",
        "start_response to the router",
        start_seeds,
        (*RESPONSE_WORDS, b"\x1f"),
        make_start,
        (ValueError, TypeError),
        2,
    ),
    Codec(
        "packet",
        "uwsgi packets: decode and admit",
        packet_seeds,
        PACKET_WORDS,
        make_packet,
        (PacketError,),
        2,
    ),
    Codec(
        "uwsgi",
        "a connection of a uwsgi listener, up to the app",
        uwsgi_seeds,
        PACKET_WORDS,
        make_uwsgi,
        (),
        10,
    ),
    Codec(
        "proxy",
        "PROXY headers, versions 1 and 2",
        proxy_seeds,
        PROXY_WORDS,
        make_proxy,
        (proxy.ProxyError,),
        2,
    ),
    Codec(
        "subscription",
        "subscription packets",
        subscription_seeds,
        SUBSCRIPTION_WORDS,
        make_subscription,
        (subscription.SubscriptionError,),
        4,
    ),
    Codec(
        "forwarded",
        "Forwarded and X-Forwarded-*",
        forwarded_seeds,
        (*FORWARDED_WORDS, b"\x1f"),
        make_forwarded,
        (PacketError,),
        6,
    ),
    Codec("logline", "variables and values of log lines", packet_seeds, PACKET_WORDS, make_logline, (), 3),
    Codec(
        "log-format", "templates of log lines", log_format_seeds, LOG_WORDS, make_log_format, (Mistake,), 3
    ),
    Codec("environ", "packets to WSGI environs", packet_seeds, PACKET_WORDS, make_environ, (PacketError,)),
    Codec("records", "backplane messages", record_seeds, RECORD_WORDS, make_records, (RecordError,), 2),
    Codec(
        "scoreboard",
        "the shared page, its words scribbled over",
        scoreboard_seeds,
        (),
        make_scoreboard,
        (),
        5,
    ),
    Codec(
        "ring",
        "the ring of responses, both ends, its words scribbled over",
        ring_seeds,
        RECORD_WORDS,
        make_ring,
        (RecordError,),
        8,
    ),
    Codec(
        "request-ring",
        "the ring of requests, both ends, its words scribbled over",
        ring_seeds,
        RECORD_WORDS,
        make_request_ring,
        (RecordError,),
        8,
    ),
    Codec("chute", "both ends of a chute, its words scribbled over", chute_seeds, (), make_chute, (), 10),
    Codec("websocket", "WebSocket frames", frame_seeds, FRAME_WORDS, lambda: make_frames(cuts), (), 2),
    Codec("wsproto", "WebSocket frames beside wsproto", frame_seeds, FRAME_WORDS, make_beside, (), 20),
    Codec("ws-handshake", "fields of its handshake", handshake_seeds, HANDSHAKE_WORDS, make_handshake, (), 4),
    Codec("channel", "control frames through a socket", control_seeds, CONTROL_WORDS, make_channel, (), 20),
    Codec("messages", "control documents", message_seeds, CONTROL_WORDS, make_messages, (ValueError,), 3),
    Codec("ini", "INI files", config_seeds, CONFIG_WORDS, make_ini, (), 3),
    Codec("toml", "TOML files", config_seeds, CONFIG_WORDS, make_toml, (), 20),
    Codec(
        "vassal",
        "whole vassal files, either format",
        config_seeds,
        CONFIG_WORDS,
        make_vassal,
        (ConfigError,),
        100,
    ),
)
BY_NAME = {codec.name: codec for codec in CODECS}
