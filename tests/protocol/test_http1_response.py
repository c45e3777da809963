import itertools

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from emperor.protocol import http1
from emperor.protocol.errors import ResponseError
from tests.wire import responses as wire


def test_the_numbers_are_the_ones_that_the_corpus_is_written_for() -> None:
    for name in ("HTTP11", "KEEP_ALIVE", "HEAD", "UWSGI", "NO_BODY", "LENGTH", "CHUNKED", "UNTIL_CLOSE"):
        assert getattr(http1, name) == getattr(wire, name)


@pytest.mark.parametrize("name", wire.BAD)
def test_bad(name: str) -> None:
    for flags, whole in itertools.product(range(16), (-1, 0, 5)):
        with pytest.raises(ResponseError):
            http1.response(wire.BAD[name], flags, whole, wire.DATE)


@pytest.mark.parametrize("row", wire.GOOD, ids=[f"{row.clause}: {row.name}" for row in wire.GOOD])
def test_good(row: wire.Good) -> None:
    status, out, length, framing, keep = http1.response(row.head, row.flags, row.whole, wire.DATE)
    assert out == row.out
    assert (status, length, framing, keep) == (int(row.head[:3]), row.length, row.framing, row.keep)


def test_a_refusal_names_the_line() -> None:
    with pytest.raises(ResponseError, match="X-Odd"):
        http1.response(wire.OK + b"X-Odd: a\0b\r\n", 0, 0, wire.DATE)
    with pytest.raises(ResponseError, match="bad name"):
        http1.response(wire.OK + b"bad name: b\r\n", 0, 0, wire.DATE)


def test_a_head_of_just_the_limit() -> None:
    head = wire.OK + b"A: " + b"b" * (65535 - len(wire.OK) - 5) + b"\r\n"
    assert len(head) == 65535
    _, out, *_ = http1.response(head, 0, 10**17, wire.DATE)
    assert head[len(wire.OK) :] in out


def test_a_reason_as_long_as_the_head_may_be() -> None:
    reason = b"r" * (65535 - 6)
    _, out, *_ = http1.response(b"200 " + reason + b"\r\n", 0, -1, wire.DATE)
    assert out == b"HTTP/1.1 200 " + reason + b"\r\n" + wire.DATE + b"Connection: close\r\n\r\n"


# Whatever a worker sends, the client sees lines that are the worker's, or ours, and nothing else

DROPPED = {
    *(b"content-length", b"connection", b"keep-alive", b"transfer-encoding", b"te", b"trailer", b"upgrade"),
    b"proxy-connection",
}
OURS = (
    b"Date: ",
    b"Transfer-Encoding: chunked",
    b"Content-Length: ",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: upgrade",
)

parts = st.sampled_from(
    [
        *(
            b"200",
            b"204",
            b"205",
            b"304",
            b"426",
            b"100",
            b"500",
            b" ",
            b" OK",
            b"\r\n",
            b"\r",
            b"\n",
            b"\t",
            b"\0",
            b":",
            b": ",
            b", ",
        ),
        *(
            b"A",
            b"Content-Length",
            b"content-length",
            b"Connection",
            b"Transfer-Encoding",
            b"Date",
            b"Set-Cookie",
        ),
        *(
            b"Upgrade",
            b"Keep-Alive",
            b"close",
            b"chunked",
            b"5",
            b"0",
            b"-",
            b"x",
            b"\xff",
            b"\x7f",
            b"HTTP/1.1 ",
        ),
        *(b"A: b\r\n", b"Content-Length: 5\r\n", b"Connection: close\r\n", b"200 OK\r\n"),
    ]
)
rows = st.sampled_from(
    [row.head for row in wire.GOOD] + [head for head in wire.BAD.values() if len(head) < 500]
)


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    head = draw(
        st.one_of(
            rows, st.lists(parts, max_size=10).map(lambda some: b"200 OK\r\n" + b"".join(some)), st.binary()
        )
    )
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(head)))
        head = head[:at] + draw(parts) + head[at + draw(st.integers(0, 2)) :]
    return head


def named(lines: list[bytes]) -> set[bytes]:
    """What Connection names, in lower case."""
    values = [line.partition(b":")[2] for line in lines if line.lower().startswith(b"connection:")]
    return {each.strip(b" \t").lower() for value in values for each in value.split(b",")} - {b"content-type"}


flag_sets = st.integers(0, 31)
wholes = st.one_of(st.just(-1), st.integers(0, 20))


@settings(max_examples=500, deadline=None)
@given(heads(), flag_sets, wholes)
@example(b"200 OK\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n", 3, -1)
@example(b"200 OK\nA: b\r\n", 3, -1)
def test_no_head_can_add_a_line(head: bytes, flags: int, whole: int) -> None:
    try:
        status, out, length, framing, keep = http1.response(head, flags, whole, wire.DATE)
    except ResponseError:
        return
    first, *lines = out.split(b"\r\n")
    assert out.endswith(b"\r\n\r\n")
    assert lines[-2:] == [b"", b""]
    assert b"" not in lines[:-2], "an empty line inside the head"
    assert not any(control in line for line in (first, *lines) for control in (b"\r", b"\n", b"\0"))
    assert first.startswith(b"HTTP/1.1 %d " % status)
    assert 200 <= status <= 999

    sent = head.split(b"\r\n")
    assert sent.pop() == b""
    assert first.removeprefix(b"HTTP/1.1 ").strip() == sent[0].strip()
    dropped = DROPPED | named(sent[1:])
    if flags & http1.TRAILERS:
        dropped -= {b"trailer"} - named(sent[1:])
    if status == 426 and flags & http1.HTTP11 and not flags & http1.UWSGI:
        dropped -= {b"upgrade"}
    wanted = []
    for line in sent[1:]:
        name, colon, value = line.partition(b":")
        assert colon
        if name.lower() not in dropped:
            wanted.append(name + b": " + value.strip(b" \t"))
    assert lines[: len(wanted)] == wanted
    added = lines[len(wanted) : -2]
    assert all(line.startswith(OURS) for line in added)
    assert len({line.split(b":")[0] for line in added}) == len(added)
    framings = [line for line in added if line.startswith((b"Transfer-Encoding", b"Content-Length"))]
    assert framings == [b"Content-Length: %d" % length] * (length >= 0) + [b"Transfer-Encoding: chunked"] * (
        framing == http1.CHUNKED
    )
    assert not (keep and framing == http1.UNTIL_CLOSE and not flags & http1.UWSGI)


@settings(max_examples=300, deadline=None)
@given(heads(), st.integers(0, 7), wholes)
def test_a_client_frames_the_response_as_we_say(head: bytes, flags: int, whole: int) -> None:
    try:
        status, out, length, framing, keep = http1.response(head, flags, whole, wire.DATE)
    except ResponseError:
        return
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=100_000)
    method = b"HEAD" if flags & http1.HEAD else b"GET"
    headers = [(b"Host", b"a.example")]
    if not flags & http1.HTTP11 and flags & http1.KEEP_ALIVE:
        headers.append((b"Connection", b"keep-alive"))
    client.send(h11.Request(method=method, target=b"/", headers=headers))
    client.send(h11.EndOfMessage())
    body = {
        http1.NO_BODY: b"",
        http1.LENGTH: b"x" * min(length, 1000),
        http1.CHUNKED: b"5\r\nxxxxx\r\n0\r\n\r\n",
        http1.UNTIL_CLOSE: b"xxxxx",
    }[framing]
    client.receive_data(out + body)
    event = client.next_event()
    assert isinstance(event, h11.Response)
    assert event.status_code == status
    taken = 0
    while isinstance(event := client.next_event(), h11.Data):
        taken += len(event.data)
    if framing == http1.UNTIL_CLOSE:
        assert taken == 5
        assert event is h11.NEED_DATA
        client.receive_data(b"")
        event = client.next_event()
    if framing == http1.LENGTH and length > 1000:
        assert taken == 1000
        return
    assert isinstance(event, h11.EndOfMessage)
    assert taken == {http1.NO_BODY: 0, http1.LENGTH: length, http1.CHUNKED: 5, http1.UNTIL_CLOSE: 5}[framing]
    if flags & http1.HTTP11:
        assert (client.their_state is h11.DONE) == keep


# Interim responses and trailers


@pytest.mark.parametrize(
    ("head", "status", "out"),
    [
        (b"103 Early Hints\r\nLink: </a>\r\n", 103, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
        (b"102\r\n", 102, b"HTTP/1.1 102 \r\n\r\n"),
        (
            b"103 x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: close\r\nA:  b \r\n",
            103,
            b"HTTP/1.1 103 x\r\nA: b\r\n\r\n",
        ),
    ],
)
def test_an_interim_response(head: bytes, status: int, out: bytes) -> None:
    assert http1.interim(head) == (status, out)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"103",
        b"\r\n",
        b"1\r\n",
        b"200 OK\r\n",
        b"101 Switching Protocols\r\nUpgrade: websocket\r\n",
        b"10x Odd\r\n",
        b"103Early\r\n",
        b"103 a\0\r\n",
        b"103 a\rb\r\n",
        b"103 a\r\n\r\n",
        b"103 a\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n",
        b"103 a\r\nA : b\r\n",
        b"103 a\r\nA: b\n",
    ],
)
def test_an_interim_response_that_no_client_may_see(head: bytes) -> None:
    with pytest.raises(ResponseError):
        http1.interim(head)


def test_switching() -> None:
    head = (
        b"101 Switching Protocols\r\nSec-WebSocket-Accept: a=\r\nUpgrade: x\r\nconnection: close\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\nX-Made:\there \r\nX-Request-ID: theirs\r\n"
    )
    start = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: a=\r\n"
    assert http1.switching(head, b"7") == start + b"X-Made: here\r\nX-Request-ID: 7\r\n\r\n"
    assert http1.switching(head, b"") == start + b"X-Made: here\r\nX-Request-ID: theirs\r\n\r\n"
    for bad in (
        b"",
        b"101",
        b"200 OK\r\n",
        b"1010\r\n",
        b"101 a\r\nA : b\r\n",
        b"101 a\r\nA: b\0\r\n",
        b"101 a\r\nA: b",
    ):
        with pytest.raises(ResponseError):
            http1.switching(bad, b"")


def test_trailers_are_checked_like_headers() -> None:
    lines = b"X-Sum: 1\r\nContent-Length: 5\r\nSet-Cookie: a=b\r\nserver-timing:\tx \r\n"
    assert http1.trailers(lines) == b"X-Sum: 1\r\nserver-timing: x\r\n"
    assert http1.trailers(b"") == b""
    for bad in (b"\r\n", b"A: b", b"A: b\r\n\r\n", b"A: b\0\r\n", b": b\r\n", b"A: b\n", b"A: b\r\n c\r\n"):
        with pytest.raises(ResponseError):
            http1.trailers(bad)
