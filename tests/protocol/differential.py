"""Two readers over the same bytes: ours and h11. Where they frame them differently, somebody could smuggle.

``compare`` walks request by request. It fails when both take a request and disagree about its method, its body or where it
ends, and when we take what h11 refuses for a reason that is not in ``JUSTIFIED``. That we refuse more is the intent.
"""

from dataclasses import dataclass

import h11

from emperor.protocol import packet
from emperor.protocol.environ import environ
from emperor.protocol.errors import HttpError
from emperor.protocol.http1 import Reader
from emperor.protocol.packet import RequestHead

PREFIX = packet.encode_vars([(b"REQUEST_SCHEME", b"http")])

JUSTIFIED = {
    "no request line received": "RFC 9112, 2.2: a server SHOULD ignore an empty line before the request line; h11 does not",
}
"""What h11 refuses and we take: its reason → why no two readers frame the rest differently."""

_NO_FRAMING = "RFC 9110, 6.5.1: framing fields have no meaning in trailers; we check their form and drop them, h11 their value"
JUSTIFIED_IN_TRAILERS = dict.fromkeys(
    (
        "bad Content-Length",
        "conflicting Content-Length headers",
        "multiple Transfer-Encoding headers",
        "Only Transfer-Encoding: chunked is supported",
    ),
    _NO_FRAMING,
)
"""The same for reasons that h11 gives only at a trailer, behind a whole body. docs/architecture/fuzzing.md lists both."""


@dataclass(frozen=True)
class Framed:
    """One request as a reader frames it. ``end`` is the offset behind it; −1 while it is not whole."""

    method: bytes
    target: bytes
    body: bytes
    end: int


def by_us(raw: bytes) -> tuple[list[Framed], str]:
    """The requests, the last perhaps not whole, and why it ended: "" for want of more bytes."""
    reader = Reader(PREFIX)
    reader.feed(raw)
    out: list[Framed] = []
    head: RequestHead | None = None
    body = b""
    why = ""
    try:
        while (piece := reader.next()) is not None:
            if isinstance(piece, RequestHead):
                head, body = piece, b""
            elif piece is True:
                assert head is not None
                out.append(_ours(head, body, len(raw) - reader.buffered()))
                head = None
            else:
                assert piece and isinstance(piece, bytes)
                body += piece
    except HttpError as error:
        why = f"{error.status}: {error}"
    if head is not None:
        out.append(_ours(head, body, -1))
    return out, why


def _ours(head: RequestHead, body: bytes, end: int) -> Framed:
    return Framed(head.method, environ(head.packet)[0]["REQUEST_URI"].encode("latin-1"), body, end)


def by_h11(raw: bytes) -> tuple[list[Framed], str]:
    """The same by h11, with a fresh connection for each request: what is compared is framing, not keep-alive."""
    out: list[Framed] = []
    at = 0
    while True:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 18)
        connection.receive_data(raw[at:])
        request: h11.Request | None = None
        body = b""
        why = ""
        try:
            while True:
                event = connection.next_event()
                if isinstance(event, h11.Request):
                    request = event
                elif isinstance(event, h11.Data):
                    body += event.data
                else:
                    break
        except h11.RemoteProtocolError as error:
            event, why = None, str(error) or type(error).__name__
        if request is not None:
            whole = isinstance(event, h11.EndOfMessage)
            at = len(raw) - len(connection.trailing_data[0]) if whole else at
            out.append(
                Framed(request.method, _path(request.method, request.target), body, at if whole else -1)
            )
            if whole and at < len(raw):
                continue
        return out, why


def _path(method: bytes, target: bytes) -> bytes:
    if target[:1] == b"/" or target == b"*":
        return target
    rest = target.partition(b"://")[2]
    if method == b"OPTIONS" and b"/" not in rest and b"?" not in rest:
        return b"*"  # RFC 9112, 3.2.4
    cut = min((rest.find(mark) for mark in (b"/", b"?") if mark in rest), default=len(rest))
    return rest[cut:] if rest[cut:].startswith(b"/") else b"/" + rest[cut:]


def compare(raw: bytes) -> str:
    """What kind of agreement it is: "both take", "both refuse", "both wait", "we refuse", "h11 refuses sooner" or a key of
    ``JUSTIFIED`` or ``JUSTIFIED_IN_TRAILERS``. AssertionError otherwise."""
    ours, our_end = by_us(raw)
    theirs, their_end = by_h11(raw)
    for number, one in enumerate(ours):
        if number >= len(theirs):
            # It has no head of this request. That is a refusal, or our head is one that it still waits for.
            if their_end in JUSTIFIED:
                return their_end
            raise AssertionError(f"we take a head that h11 does not ({their_end or 'it waits'}): {raw!r}")
        other = theirs[number]
        assert (one.method, one.target) == (other.method, other.target), f"two requests out of one: {raw!r}"
        if one.end < 0 or other.end < 0:
            if our_end and one.end < 0:
                return "both refuse" if their_end else "we refuse"
            if one.end >= 0 and one.body == other.body and their_end in JUSTIFIED_IN_TRAILERS:
                return their_end
            if their_end and other.end < 0:
                assert one.end < 0, f"we take a body that h11 refuses ({their_end}): {raw!r}"
                return "h11 refuses sooner"
            assert one.end == other.end, f"whole for one, not for the other: {raw!r}"
            assert one.body == other.body, f"two bodies out of one: {raw!r}"
            return "both wait"
        assert one.end == other.end, f"it ends at {one.end} for us, at {other.end} for h11: {raw!r}"
        assert one.body == other.body, f"two bodies out of one: {raw!r}"
    if our_end:
        return "we refuse" if len(theirs) > len(ours) or not their_end else "both refuse"
    if len(theirs) > len(ours):
        raise AssertionError(f"h11 takes what we wait for: {raw!r}")
    if their_end:
        return "h11 refuses sooner"
    return "both take" if ours else "both wait"
