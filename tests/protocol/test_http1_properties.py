"""What holds for every request that a Reader is given: the verdict has nothing to do with how the bytes came, nothing is read
beyond the message, what was read can be written and read again, and h11 frames it the same."""

import itertools
import random
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emperor.protocol.environ import environ
from emperor.protocol.http1 import Reader
from emperor.protocol.packet import RequestHead
from emperor.router.http import HttpConnection
from tests.protocol.differential import JUSTIFIED, JUSTIFIED_IN_TRAILERS, compare
from tests.protocol.pieces import PREFIX, cut, read
from tests.router.unplugged import exchanges
from tests.wire import http1 as wire
from tests.wire import smuggling

FIRST = (
    b"POST /first HTTP/1.1\r\nHost: first.example\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
)
CORPUS = {
    **{f"{row.clause}: {row.name}": row.sent for row in (*wire.REFUSED, *wire.TAKEN)},
    **{f"{row.kind}: {row.name}": b"".join(row.pieces(b"mm")) for row in smuggling.ROWS},
}
SMALL = {name: sent for name, sent in CORPUS.items() if len(sent) < 500}


# Cuts


@pytest.mark.parametrize("name", SMALL)
def test_cut_at_every_byte_and_behind_another_the_verdict_is_the_same(name: str) -> None:
    sent = SMALL[name]
    whole = read([sent])
    behind = read([FIRST + sent])
    assert behind.requests[0].body == b"hi"
    assert [one.seen() for one in behind.requests[1:]] == [one.seen() for one in whole.requests]
    assert (behind.status, behind.reason, behind.left) == (whole.status, whole.reason, whole.left)
    for at in range(1, len(sent)):
        for first, expected in ((b"", whole), (FIRST, behind)):
            halves = read([first + sent[:at], sent[at:]])
            assert halves.seen() == expected.seen(), f"cut at {at}"
            assert halves.reason == expected.reason, f"cut at {at}"


@pytest.mark.parametrize("name", sorted(CORPUS.keys() - SMALL.keys()))
def test_large_ones_are_cut_at_random(name: str) -> None:
    sent = CORPUS[name]
    whole = read([sent])
    dice = random.Random(name)
    for _ in range(20):
        places = [dice.randrange(1, len(sent)) for _ in range(dice.randrange(1, 5))]
        assert read(cut(sent, places)).seen() == whole.seen()


# Chunks

EXTENSIONS = st.lists(
    st.sampled_from([b";a", b";a=b", b';a="b;c"', b"; a = b", b";", b';"\\"']), max_size=2
).map(b"".join)
NAMES = st.text("abcXYZ019-", min_size=1, max_size=10).map(str.encode)
TEXTS = st.text(
    st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f"), max_size=20
).map(lambda text: text.encode("latin-1").replace(b"\x7f", b""))


@st.composite
def chunkings(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A body, and one way of sending it in chunks."""
    pieces = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=6))
    sent = b""
    for piece in pieces:
        size = b"%x" % len(piece)
        size = draw(st.sampled_from([size, size.upper(), b"0" * draw(st.integers(0, 5)) + size]))
        sent += size + draw(EXTENSIONS) + b"\r\n" + piece + b"\r\n"
    trailers = draw(st.lists(st.tuples(NAMES, TEXTS), max_size=3))
    sent += draw(st.sampled_from([b"0", b"000"])) + draw(EXTENSIONS) + b"\r\n"
    sent += b"".join(name + b": " + text + b"\r\n" for name, text in trailers) + b"\r\n"
    return b"".join(pieces), sent


@settings(max_examples=150)
@given(chunkings(), st.binary(max_size=30), st.lists(st.integers(1, 400), max_size=6))
def test_any_chunking_is_the_body_and_what_is_behind_it_is_left(
    chunking: tuple[bytes, bytes], tail: bytes, places: list[int]
) -> None:
    body, sent = chunking
    raw = wire.chunked(sent)
    reader = Reader(PREFIX)
    got = b""
    parts = cut(raw, places)
    parts[-1] += tail
    for part in parts:
        reader.feed(part)
        while (piece := reader.next()) is not None and piece is not True:
            got += piece if isinstance(piece, bytes) else b""
    assert piece is True
    assert (got, reader.buffered()) == (body, len(tail))
    assert not reader.started


@settings(max_examples=150)
@given(chunkings(), st.integers(0, 10_000), st.integers(0, 255))
def test_a_chunking_with_one_byte_changed_is_read_as_h11_reads_it_or_refused(
    chunking: tuple[bytes, bytes], at: int, byte: int
) -> None:
    raw = bytearray(wire.chunked(chunking[1]))
    start = raw.index(b"\r\n\r\n") + 4
    raw[start + at % (len(raw) - start)] = byte
    compare(bytes(raw) + smuggling.BEHIND)


# Heads: read, written, read again


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    method = draw(st.sampled_from([b"GET", b"POST", b"M-SEARCH", b"get", b"PATCH"]))
    path = draw(st.text("abc/%4152?&=;:@[]|", max_size=30)).encode()
    lines = [b"Host: " + draw(st.sampled_from([b"a.example", b"[::1]:80", b"A.EXAMPLE:8080", b""]))]
    blanks = st.sampled_from([b"", b" ", b"\t", b" \t "])
    for name, text in draw(st.lists(st.tuples(NAMES, TEXTS.filter(bool)), max_size=8)):
        lines.append(b"X-" + name + b":" + draw(blanks) + text + draw(blanks))
    lines += draw(
        st.sampled_from([[], [b"Content-Length: 0"], [b"Cookie: a=1", b"Cookie: b=2"], [b"Content-Type: x"]])
    )
    lines = draw(st.permutations(lines))
    return b"%b /%b HTTP/1.1\r\n%b\r\n\r\n" % (method, path, b"\r\n".join(lines))


def written(variables: dict[str, str]) -> bytes:
    """The request that these variables are of."""
    lines = [f"{variables['REQUEST_METHOD']} {variables['REQUEST_URI']} {variables['SERVER_PROTOCOL']}"]
    for key, value in variables.items():
        name = key.removeprefix("HTTP_")
        if name != key or key in ("CONTENT_LENGTH", "CONTENT_TYPE"):
            lines.append(f"{name.replace('_', '-')}: {value}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@settings(max_examples=150)
@given(heads())
def test_a_head_that_was_read_is_written_and_read_again_the_same(raw: bytes) -> None:
    whole = read([raw])
    if whole.status:
        assert (whole.status, whole.reason) == (400, "an encoded NUL in the path")
        return
    [one] = whole.requests
    again = read([written(one.environ)])
    assert again.status == 0
    assert again.requests[0].environ == one.environ
    assert again.requests[0].head.path == one.head.path
    assert again.requests[0].head.host == one.head.host
    assert compare(raw) == "both take"


# h11 over the whole corpus, and over what a grammar and a seed make of it


def test_what_h11_refuses_and_we_take_is_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "architecture" / "fuzzing.md").read_text()
    assert [reason for reason in (*JUSTIFIED, *JUSTIFIED_IN_TRAILERS) if f"`{reason}`" not in page] == []


@pytest.mark.parametrize("name", CORPUS)
def test_h11_frames_the_corpus_as_we_do(name: str) -> None:
    compare(CORPUS[name])
    compare(FIRST + CORPUS[name])


# What is right in one place of a request, and what else may stand there.
PLACES: dict[str, tuple[tuple[bytes, ...], tuple[bytes, ...]]] = {
    "before": ((b"",), (b"\r\n", b"\n", b"\r", b" ")),
    "method": ((b"GET", b"POST", b"HEAD", b"OPTIONS", b"M-SEARCH"), (b"G\tT", b"", b"GET ", b"GE(T")),
    "target": (
        (b"/", b"/a?b", b"http://b.example/c", b"http://a.example", b"//x"),
        (b"*", b"/%00", b"/\xe4", b"a", b"/a b", b"http:///x", b"ftp://x/", b"/\0"),
    ),
    "version": (
        (b"HTTP/1.1",) * 9 + (b"HTTP/1.0", b"HTTP/1.2"),
        (b"HTTP/2.0", b"HTTP/1.1 ", b"http/1.1", b"HTTP/01.1", b""),
    ),
    "end": ((b"\r\n",), (b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n ", b"\r\n\t", b"\0\r\n", b"\x0b\r\n", b"")),
    "colon": ((b": ", b":", b":\t", b":  "), (b" : ", b"\t: ", b":\x0b", b"", b"::", b": \xa0", b":\0")),
    "host": ((b"a.example", b"a.example:80", b"[::1]"), (b"", b"b.example", b"a b", b"a/b", b"a,b")),
    "length": (
        (b"5", b"05"),
        (
            b"4",
            b"6",
            b"+5",
            b"-5",
            b"0x5",
            b"5,5",
            b"5, 6",
            b"5_0",
            b"",
            b" ",
            b"5 5",
            b"9" * 30,
            b"\xb2",
            b"5.0",
        ),
    ),
    "coding": (
        (b"chunked", b"Chunked"),
        (
            b"xchunked",
            b"chunked, identity",
            b"identity",
            b"gzip, chunked",
            b"chunked;a",
            b"",
            b"chunked,chunked",
            b",chunked",
        ),
    ),
    "length name": ((b"Content-Length", b"content-length"), (b"Content_Length", b"Content-Length ", b"X")),
    "coding name": (
        (b"Transfer-Encoding", b"TRANSFER-ENCODING"),
        (b"Transfer_Encoding", b"Transfer-Encoding\t", b"X"),
    ),
    "chunk": (
        (b"5", b"05", b"5;a", b'5;a="b"'),
        (b"4", b"6", b"+5", b"-5", b"0x5", b"5 ", b" 5", b"5_", b"5;\0", b"", b"f" * 17, b"5;a\n"),
    ),
    "last": ((b"0", b"00", b"0;a"), (b"-0", b"", b"0x0", b"0 ")),
    "trailer": (
        (b"", b"", b"X: y\r\n", b"Content-Length: 5\r\n"),
        (b"X : y\r\n", b"X\r\n", b"X: y\n", b" X: y\r\n"),
    ),
    "name": (
        (b"X-A", b"X-B", b"Cookie", b"Accept"),
        (b"Connection", b"Expect", b"Host", b"X A", b"", b"\0", b"Upgrade"),
    ),
    "value": (
        (b"b", b"", b"\xe4", b"b c"),
        (b"close", b"100-continue", b"\x7f", b"b\rc", b"b\nc", b"\0", b"\r\n b"),
    ),
}


def made(dice: random.Random) -> bytes:
    """One request by a grammar; in most of them some places go wrong."""
    wrong = dice.choice((0.0, 0.01, 0.03, 0.1))

    def pick(place: str) -> bytes:
        right, others = PLACES[place]
        return dice.choice(others if dice.random() < wrong else right)

    def line(name: str, value: str) -> bytes:
        return pick(name) + pick("colon") + pick(value) + pick("end")

    lines = [b"Host" + pick("colon") + pick("host") + pick("end")]
    lines += [line("name", "value") for _ in range(dice.randrange(3))]
    body = b""
    framings = ["none", "length", "chunks", "chunks"]
    for framing in {dice.choice(framings), dice.choice(framings) if dice.random() < wrong else "none"}:
        if framing == "length":
            lines.append(line("length name", "length"))
            body += b"hello"
        elif framing == "chunks":
            lines.append(line("coding name", "coding"))
            pieces = [pick("chunk") + pick("end") + b"hello" + pick("end") for _ in range(dice.randrange(3))]
            body += b"".join(pieces) + pick("last") + pick("end") + pick("trailer") + pick("end")
    dice.shuffle(lines)
    first = pick("before") + pick("method") + b" " + pick("target") + b" " + pick("version") + pick("end")
    return first + b"".join(lines) + pick("end") + body


@pytest.mark.parametrize("seed", range(4))
def test_h11_frames_what_a_grammar_makes_as_we_do(seed: int) -> None:
    dice = random.Random(seed)
    kinds: dict[str, int] = {}
    for _ in range(2500):
        raw = b"".join(made(dice) for _ in range(dice.choice((1, 1, 2, 3))))
        kind = compare(raw)
        kinds[kind] = kinds.get(kind, 0) + 1
    # A grammar that only makes what is refused compares nothing.
    assert kinds["both take"] > 50, kinds
    agreed = {"both take", "both refuse", "both wait", "we refuse", "h11 refuses sooner"}
    assert kinds.keys() <= agreed | JUSTIFIED.keys() | JUSTIFIED_IN_TRAILERS.keys()


# Long lives


def test_a_connection_of_a_million_requests_keeps_nothing_of_them() -> None:
    raw = (b"GET /a HTTP/1.1\r\nHost: a.example\r\nCookie: a=b\r\n\r\n" + FIRST) * 500
    asked = answered = 0
    blocks: list[int] = []
    for requests, written in exchanges(HttpConnection, itertools.repeat(raw, 1000)):
        asked += len(requests)
        answered += written.count(b"HTTP/1.1 200 ")
        if asked % 100_000 == 0:
            del requests, written
            blocks.append(sys.getallocatedblocks())
    assert (asked, answered) == (1_000_000, 1_000_000)
    # The first rounds fill caches; a single object kept of each request would be a hundred thousand a round.
    assert blocks[-1] - blocks[2] < 5000, blocks


@pytest.mark.parametrize(
    "sent", [wire.fields(b"X: y"), wire.post(b"Content-Length: 200000"), wire.chunked(b"30d40\r\n")]
)
def test_an_idle_reader_keeps_nothing_of_what_it_has_read(sent: bytes) -> None:
    """Tens of thousands of connections wait for their next request: each with its last read of 256 KiB would be gigabytes."""
    end = b"\r\n0\r\n\r\n" if b"chunked" in sent else b""
    body = b"x" * 200_000 if sent.startswith(b"POST") else b""
    last = bytes(bytearray(sent + body + end))
    held = sys.getrefcount(last)
    reader = Reader(PREFIX)
    reader.feed(last)
    while (piece := reader.next()) is not True:
        assert piece is not None
    del piece
    assert reader.idle()
    assert sys.getrefcount(last) == held


def test_a_body_in_drips_keeps_only_what_is_not_yet_read() -> None:
    reader = Reader(PREFIX)
    reader.feed(wire.chunked(b""))
    assert isinstance(reader.next(), RequestHead)
    before = sys.getallocatedblocks()
    for _ in range(20_000):
        for part in (b"00", b"05\r", b"\nhe", b"llo\r", b"\n"):
            reader.feed(part)
            while reader.next() is not None:
                pass
            assert reader.buffered() <= 8
    assert sys.getallocatedblocks() - before < 1000


def test_the_environ_of_what_was_read_ends_where_its_packet_does() -> None:
    for sent in CORPUS.values():
        for one in read([sent]).requests:
            assert environ(one.head.packet)[1] == len(one.head.packet)
