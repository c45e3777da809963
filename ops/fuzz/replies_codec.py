"""The reader of what upstreams send. An input's first byte says what was asked: over uwsgi (1), HEAD (2), a WebSocket (4)."""

from collections.abc import Callable, Iterable, Sequence

from emperor.protocol import replies
from emperor.protocol.errors import ResponseError
from emperor.protocol.replies import End, Head, Interim, Replies, Trailers
from tests.wire import responses as wire

Run = Callable[[bytes, int], bool]
Cuts = Callable[[bytes, int], Sequence[bytes]]

WORDS = (
    *(
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.0 200 OK\r\n",
        b"HTTP/2.0 200\r\n",
        b"HTTP/1.1 204 No\r\n",
        b"HTTP/1.1 304 \r\n",
    ),
    *(
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 E\r\nLink: x\r\n\r\n",
        b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n",
    ),
    *(
        b"Status: 404 No\r\n",
        b"Status: ",
        b"Location: /x\r\n",
        b"Content-Length: 5\r\n",
        b"content-length: 0\r\n",
    ),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"Connection: close\r\n"),
    *(
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"0\r\nX: y\r\n\r\n",
        b";a=b",
        b"fffffffffffffff",
        b"-1",
        b"+5",
        b"0x5",
    ),
    *(b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b","),
)
"""Lines of responses, and what stands between them."""


def seeds() -> Iterable[bytes]:
    bodies = (b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nX-Sum: 7\r\n\r\n")
    for number, head in enumerate((*wire.BAD.values(), *(row.head for row in wire.GOOD))):
        yield bytes((number % 8,)) + b"HTTP/1.1 " + head + b"\r\n" + bodies[number % 4]
    for body in bodies:
        yield b"\0HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body
        yield b"\0HTTP/1.1 103 E\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + body
        yield b"\1Status: 404 Not Here\r\nContent-Type: text/plain\r\n\r\n" + body
        yield b"\4HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n" + body


def read(data: bytes, parts: Iterable[bytes]) -> tuple[list[object], str]:
    """All events, the pieces of one body joined, and how it ended."""
    flags = data[0] if data else 0
    reader = Replies(cgi=bool(flags & 1))
    reader.expect(is_head=bool(flags & 2), upgrade=bool(flags & 4))
    found: list[object] = []
    interims = 0
    try:
        for part in parts:
            reader.feed(part)
            while (each := reader.next()) is not None:
                if isinstance(each, bytes):
                    assert each, "an empty piece of body"
                    if found and isinstance(found[-1], bytes):
                        found[-1] += each
                        continue
                elif isinstance(each, Interim):
                    interims += 1
                    assert interims <= replies.INTERIM_MOST
                elif isinstance(each, Trailers):
                    assert len(each.fields) <= replies.TRAILERS_MOST
                elif isinstance(each, Head):
                    assert each.status >= 200 or (each.status == 101 and flags & 4)
                else:
                    assert isinstance(each, End)
                found.append(each)
    except ResponseError as error:
        if not str(error):
            raise
        return found, "refused"
    if found and isinstance(found[-1], End):
        assert not any(isinstance(each, End) for each in found[:-1]), "two ends"
        assert reader.next() is None, "something behind the end"
        return found, "reusable" if reader.reusable else "whole"
    try:
        return found, "ends" if reader.ended() else "nothing"
    except ResponseError:
        return found, "cut off"


def make_replies(cuts: Cuts) -> Run:
    def run(data: bytes, bits: int) -> bool:
        whole = read(data, (data[1:],))
        if not bits & 3:
            assert read(data, cuts(data[1:], bits)) == whole, "the verdict depends on the cuts"
        return whole[1] not in ("refused", "cut off")

    return run
