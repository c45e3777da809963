"""Every row of the corpus, cut in two at every byte, alone and pipelined behind another request: the same verdict each time."""

import pytest

from emperor.protocol.errors import HttpError
from emperor.protocol.http1 import Limits, Reader
from emperor.protocol.packet import RequestHead
from tests.protocol.pieces import PREFIX, Outcome, cut, read
from tests.wire import http1 as wire

ROWS = {f"{row.clause}: {row.name}": row for row in (*wire.REFUSED, *wire.TAKEN)}
AHEAD = {
    "a GET": b"GET /ahead HTTP/1.1\r\nHost: ahead.example\r\n\r\n",
    "a body by length": b"POST /ahead HTTP/1.1\r\nHost: ahead.example\r\nContent-Length: 5\r\n\r\nahead",
    "a body by chunks": wire.chunked(b"5\r\nahead\r\n0\r\nX: y\r\n\r\n"),
}


def places(raw: bytes) -> range:
    """Every byte boundary; of the few that are kilobytes of the same letter, some hundred."""
    return range(1, len(raw), max(1, len(raw) // 300))


@pytest.mark.parametrize("name", ROWS)
def test_cut_in_two_anywhere(name: str) -> None:
    raw = ROWS[name].sent
    whole = read([raw]).seen()
    different = [at for at in places(raw) if read(cut(raw, [at])).seen() != whole]
    assert not different, f"cut after {different[:5]} of {len(raw)} bytes it is another request"


@pytest.mark.parametrize("ahead", AHEAD)
def test_behind_another(ahead: str) -> None:
    """Whole behind it, and cut in two at every byte of both."""
    for name, row in ROWS.items():
        whole = read([row.sent])
        raw = AHEAD[ahead] + row.sent
        step = max(1, len(raw) // 40)
        for parts in ([raw], *(cut(raw, [at]) for at in range(1, len(raw), step))):
            outcome = read(parts)
            assert outcome.requests[0].whole, name
            assert Outcome(outcome.requests[1:], outcome.status).seen() == whole.seen(), name


def test_a_reader_at_its_limits_gives_the_same_verdict_however_it_is_cut() -> None:
    limits = Limits(40, 100, 3, 20, 10, 8)
    sent = {
        b"GET /" + b"a" * 40 + b" HTTP/1.1\r\nHost: a\r\n\r\n": (414, "request-line-limit"),
        wire.fields(b"A: " + b"b" * 100): (431, "head-limit"),
        wire.fields(b"A: 1", b"B: 2", b"C: 3"): (431, "fields-limit"),
        wire.chunked(b"1;" + b"e" * 10 + b"\r\na\r\n"): (400, "chunk-line-limit"),
        wire.chunked(b"1;eee\r\na\r\n1;eee\r\na\r\n1;eee\r\na\r\n"): (413, "chunk-extensions-limit"),
        wire.chunked(b"0\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\n\r\n"): (431, "trailers-limit"),
        wire.fields(b"A: 1", b"B: 2"): (0, ""),
        wire.chunked(b"1;eee\r\na\r\n0;eee\r\nA: b\r\nA: b\r\n\r\n"): (0, ""),
    }
    for raw, wanted in sent.items():
        for at in range(1, len(raw)):
            reader = Reader(PREFIX, limits=limits)
            got, ends = (0, ""), 0
            try:
                for part in cut(raw, [at]):
                    reader.feed(part)
                    while (piece := reader.next()) is not None:
                        assert isinstance(piece, RequestHead | bytes) or piece is True
                        ends += piece is True
            except HttpError as error:
                got = error.status, error.limit
            assert got == wanted, (raw, at)
            assert ends == (not wanted[0])
