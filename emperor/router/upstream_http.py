"""What an HTTP server is sent: the request that came, put anew from its packet (RFC 9112, and RFC 9110, 7.6, for what an
intermediary owes).

Fields of one hop are dropped, our own stand for them; the body has a length, or is chunked anew. Who the client is stands in
X-Forwarded-For, -Proto and -Host: a chain that a trusted proxy has sent goes on as it is, what anybody else says of himself
never came this far (docs/specs/forwarded.md).
"""

import re
from functools import lru_cache
from typing import Final
from urllib.parse import quote_from_bytes

from emperor.protocol.packet import RequestHead, variables
from emperor.router.exchange import Exchange
from emperor.router.upstream_link import UpstreamLink

_ONE_HOP: Final = frozenset(
    {
        b"HTTP_CONNECTION",
        b"HTTP_CONTENT_LENGTH",
        b"HTTP_CONTENT_TYPE",
        b"HTTP_EXPECT",
        b"HTTP_HOST",
        b"HTTP_KEEP_ALIVE",
        b"HTTP_PROXY_CONNECTION",
        b"HTTP_TE",
        b"HTTP_TRAILER",
        b"HTTP_TRANSFER_ENCODING",
        b"HTTP_UPGRADE",
        b"HTTP_VIA",
        b"HTTP_X_FORWARDED_HOST",
        b"HTTP_X_FORWARDED_PROTO",
    }
)
"""Said anew, or not at all."""

_IN_A_LINE: Final = re.compile(rb"/[!\"$-~]*")
"""A target that can be sent as it is: no blank, no control character, no fragment."""

_SAFE: Final = b"/:@!$&'()*+,;=-._~%"


class HttpLink(UpstreamLink):
    """A connection to an HTTP server, for one request after another."""

    serves_again = True
    _chunked = False
    closes = False
    """It is to be closed after the first."""

    def request(self, exchange: Exchange) -> bytes:
        head = exchange.head
        self.replies.expect(is_head=head.is_head, upgrade=head.websocket)
        self._chunked = head.content_length < 0
        return request_head(head, self.owner.via, close=self.closes)

    def body(self, piece: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked and piece else piece

    def last(self) -> bytes:
        return b"0\r\n\r\n" if self._chunked else b""


def request_head(head: RequestHead, via: bytes, *, close: bool = False) -> bytes:
    """The request line and fields, with the empty line."""
    pairs = variables(head.packet)
    host = pairs.get(b"HTTP_HOST") or pairs.get(b"SERVER_NAME", b"")
    lines = [b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (head.method, target(pairs), host)]
    for key, value in pairs.items():
        if key[:5] == b"HTTP_" and key not in _ONE_HOP:
            lines.append(b"%b: %b\r\n" % (field_name(key), value))
    if pairs.get(b"CONTENT_TYPE"):
        lines.append(b"Content-Type: %b\r\n" % pairs[b"CONTENT_TYPE"])
    if head.content_length < 0:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    elif head.content_length or pairs.get(b"CONTENT_LENGTH"):
        lines.append(b"Content-Length: %d\r\n" % head.content_length)
    if b"HTTP_X_FORWARDED_FOR" not in pairs and pairs.get(b"REMOTE_ADDR"):
        lines.append(b"X-Forwarded-For: %b\r\n" % pairs[b"REMOTE_ADDR"])
    known = pairs.get(b"HTTP_VIA")
    lines.append(b"Via: %b%b\r\n" % (known + b", " if known else b"", via))
    secure = pairs.get(b"HTTPS", b"").lower() in (b"on", b"1") or pairs.get(b"REQUEST_SCHEME") == b"https"
    lines.append(
        b"X-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\n" % (b"https" if secure else b"http", host)
    )
    if head.websocket:
        lines.append(b"Connection: Upgrade\r\nUpgrade: websocket\r\n")
    elif close:
        lines.append(b"Connection: close\r\n")
    lines.append(b"\r\n")
    return b"".join(lines)


@lru_cache(1024)
def field_name(key: bytes) -> bytes:
    """``HTTP_X_OWN`` as a field: ``X-Own``."""
    return key[5:].replace(b"_", b"-").title()


def target(pairs: dict[bytes, bytes]) -> bytes:
    """As the client has written it, in origin form; put together from what it means where that cannot be sent on."""
    said = pairs.get(b"REQUEST_URI", b"")
    if b"://" in said[:12] and said[:4].lower() == b"http":
        _, slash, path = said.partition(b"://")[2].partition(b"/")
        said = slash + path
    if said == b"*" or _IN_A_LINE.fullmatch(said):
        return said
    plain = quote_from_bytes(
        pairs.get(b"SCRIPT_NAME", b"") + pairs.get(b"PATH_INFO", b""), "/:@!$&'()*+,;=-._~"
    )
    query = quote_from_bytes(pairs.get(b"QUERY_STRING", b""), _SAFE.decode() + "?")
    return ((plain if plain.startswith("/") else "/" + plain) + (f"?{query}" if query else "")).encode()
