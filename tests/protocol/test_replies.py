"""What upstreams send back, whole, byte by byte and cut in two; and how it ends."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emperor.protocol.errors import ResponseError
from emperor.protocol.replies import END, Event, Head, Interim, Replies, Trailers

WHOLE = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
        b"hello",
    ),
    "nothing": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "304": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b""),
    "interim": (
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello",
        b"hello",
    ),
}


def read(replies: Replies, *pieces: bytes) -> list[Event]:
    """All events, body bytes that come one after another joined."""
    found: list[Event] = []
    for piece in pieces:
        replies.feed(piece)
        while (event := replies.next()) is not None:
            if isinstance(event, bytes) and found and isinstance(found[-1], bytes):
                found[-1] += event
            else:
                found.append(event)
            if event is END:
                break
    return found


def expecting(*, cgi: bool = False, is_head: bool = False, upgrade: bool = False) -> Replies:
    made = Replies(cgi=cgi)
    made.expect(is_head=is_head, upgrade=upgrade)
    return made


def body_of(events: list[Event]) -> bytes:
    return b"".join(each for each in events if isinstance(each, bytes))


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("cgi", [False, True])
def test_whole_and_byte_by_byte(name: str, cgi: bool) -> None:
    raw, body = WHOLE[name]
    whole = read(expecting(cgi=cgi), raw)
    assert body_of(whole) == body
    assert whole[-1] is END
    replies = expecting(cgi=cgi)
    assert read(replies, *(raw[at : at + 1] for at in range(len(raw)))) == whole
    assert replies.reusable
    assert not replies.ended()


@given(st.sampled_from(list(WHOLE)), st.lists(st.integers(0, 120), max_size=4), st.binary(max_size=3))
def test_cut_anywhere_and_with_a_tail(name: str, cuts: list[int], tail: bytes) -> None:
    raw, body = WHOLE[name]
    marks = [0, *sorted(min(each, len(raw)) for each in cuts), len(raw)]
    replies = expecting()
    events = read(replies, *(raw[start:stop] for start, stop in pairwise(marks)), tail)
    assert body_of(events) == body
    assert events[-1] is END
    # What comes behind the end is nobody's, and ends the use of the connection.
    assert replies.reusable is (not tail)


def test_one_after_another() -> None:
    replies = Replies(cgi=False)
    for name, (raw, body) in WHOLE.items():
        replies.expect(is_head=False)
        assert replies.silent
        assert body_of(read(replies, raw)) == body, name


def test_a_body_to_the_end_of_the_connection() -> None:
    replies = expecting()
    assert read(replies, b"HTTP/1.1 200 OK\r\n\r\n", b"a", b"b") == [Head(200, b"200 OK\r\n"), b"ab"]
    assert replies.ended()
    assert not replies.reusable


def test_an_answer_to_head_has_no_body_whatever_it_says() -> None:
    for framing in (b"Content-Length: 5", b"Transfer-Encoding: chunked"):
        replies = expecting(is_head=True)
        assert read(replies, b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % framing)[-1] is END
        assert replies.reusable


def test_trailers() -> None:
    replies = expecting()
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: 1\r\nB: 2\r\n\r\n"
    assert read(replies, raw)[1:] == [b"x", Trailers(b"A: 1\r\nB: 2\r\n"), END]
    assert replies.reusable


def test_another_protocol_only_where_one_is_asked_for() -> None:
    raw = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x00"
    replies = expecting(upgrade=True)
    found = read(replies, raw, b"more")
    assert isinstance(found[0], Head)
    assert (found[0].status, body_of(found)) == (101, b"\x81\x00more")
    assert replies.ended()
    with pytest.raises(ResponseError, match="nobody has asked"):
        read(expecting(), raw)


@pytest.mark.parametrize(
    ("raw", "lines"),
    [
        (b"Status: 404 Gone\r\nX: 1\r\n\r\n", b"404 Gone\r\nX: 1\r\n"),
        (b"X: 1\r\n\r\n", b"200 OK\r\nX: 1\r\n"),
        (b"Location: /x\r\n\r\n", b"302 Found\r\nLocation: /x\r\n"),
        (b"Location: /x\r\nStatus: 201 Made\r\n\r\n", b"201 Made\r\nLocation: /x\r\n"),
        (b"HTTP/1.1 200 OK\r\nX: 1\r\n\r\n", b"200 OK\r\nX: 1\r\n"),
    ],
)
def test_a_head_as_of_cgi(raw: bytes, lines: bytes) -> None:
    found = read(expecting(cgi=True), raw)[0]
    assert isinstance(found, Head)
    assert found.lines == lines


@pytest.mark.parametrize("name", [name for name in WHOLE if name not in ("nothing", "204", "304")])
def test_an_end_before_the_end(name: str) -> None:
    raw, _ = WHOLE[name]
    for stop in range(len(raw)):
        replies = expecting()
        read(replies, raw[:stop])
        with pytest.raises(ResponseError):
            replies.ended()


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 300,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0" + b"0" * 20 + b"1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\nx\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\nx\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: 1\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: 1\r\n" * 2000,
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/3 200 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"\r\n\r\n",
        b"HTTP/1.1 103 x\r\n\r\n" * 17,
    ],
)
def test_what_is_no_response(raw: bytes) -> None:
    with pytest.raises(ResponseError):
        read(expecting(), raw)


@given(st.binary(max_size=300), st.booleans())
def test_whatever_comes_it_is_read_or_refused(raw: bytes, cgi: bool) -> None:
    replies = expecting(cgi=cgi)
    try:
        events = read(replies, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + raw)
        assert all(isinstance(each, (bytes, Head, Interim, Trailers)) or each is END for each in events)
        replies.ended()
    except ResponseError:
        assert not replies.reusable
