"""Drives an ``http1.Reader`` the way a connection does, and keeps what came out."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from emperor.protocol import packet
from emperor.protocol.environ import environ
from emperor.protocol.errors import HttpError
from emperor.protocol.http1 import Reader
from emperor.protocol.packet import RequestHead

PREFIX = packet.encode_vars([(b"REQUEST_SCHEME", b"http"), (b"SCRIPT_NAME", b"")])


@dataclass
class Read:
    """One request: ``whole`` once its end was reported."""

    head: RequestHead
    body: bytes = b""
    whole: bool = False

    def __post_init__(self) -> None:
        self.environ, end = environ(self.head.packet)
        assert end == len(self.head.packet)

    def seen(self) -> tuple[object, ...]:
        """Everything that another way of cutting the same bytes must give too."""
        head = self.head
        flags = (
            head.chunked,
            head.keep_alive,
            head.expect_continue,
            head.http11,
            head.is_head,
            head.idempotent,
        )
        numbers = (head.content_length, *flags)
        return head.packet, head.method, head.host, head.path, numbers, self.body, self.whole


@dataclass
class Outcome:
    requests: list[Read] = field(default_factory=list)
    status: int = 0  # of the HttpError that ended it
    reason: str = ""
    fed: int = 0
    most_buffered: int = 0
    left: int = 0  # bytes behind the last whole request

    def seen(self) -> tuple[object, ...]:
        return [one.seen() for one in self.requests], self.status


def read(parts: Iterable[bytes]) -> Outcome:
    """Feed each part, and after each take everything that the reader has."""
    reader = Reader(PREFIX)
    out = Outcome()
    try:
        for part in parts:
            reader.feed(part)
            out.fed += len(part)
            while (piece := reader.next()) is not None:
                if isinstance(piece, RequestHead):
                    assert not out.requests or out.requests[-1].whole, "a head inside a request"
                    out.requests.append(Read(piece))
                elif piece is True:
                    assert not out.requests[-1].whole, "two ends of one request"
                    out.requests[-1].whole = True
                else:
                    assert piece, "an empty piece of body"
                    assert not out.requests[-1].whole, "bytes of a body behind its end"
                    out.requests[-1].body += piece
            out.most_buffered = max(out.most_buffered, reader.buffered())
    except HttpError as error:
        out.status, out.reason = error.status, str(error)
    out.left = reader.buffered()
    return out


def bytewise(raw: bytes) -> Iterator[bytes]:
    for at in range(len(raw)):
        yield raw[at : at + 1]


def cut(raw: bytes, places: Iterable[int]) -> list[bytes]:
    """``raw`` in parts, cut at these offsets."""
    edges = [0, *sorted({place for place in places if 0 < place < len(raw)}), len(raw)]
    return [raw[start:stop] for start, stop in itertools.pairwise(edges)]
