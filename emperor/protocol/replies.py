"""What an upstream sends back, read one response after another: HTTP/1.x (RFC 9112), or what a uwsgi server sends, which is the
same or headers as of CGI. Sans I/O: bytes in, events out.

It is read as strictly as requests are. Where two readers could take different bytes for the end of a response, the next
response of that connection would be somebody else's: Content-Length beside Transfer-Encoding, two lengths, a coding that is
not chunked alone, a bare LF, and bytes behind the end are faults, and the connection is not used again. What a head says
otherwise is checked where it is written for the client (``http1.respond``).
"""

from typing import Final, NamedTuple

from emperor.protocol.errors import ResponseError

HEAD_MOST: Final = 65535
CHUNK_LINE_MOST: Final = 256
TRAILERS_MOST: Final = 8192
INTERIM_MOST: Final = 16
"""Interim responses to one request."""


class Head(NamedTuple):
    """A final response begins, or with 101 the end of HTTP on this connection. `lines` is ``200 OK CRLF`` and its fields."""

    status: int
    lines: bytes


class Interim(NamedTuple):
    """A 1xx response that changes nothing; shaped as `Head.lines`."""

    lines: bytes


class Trailers(NamedTuple):
    """Lines behind a chunked body."""

    fields: bytes


class End:
    """The response is whole."""


END: Final = End()

Event = Head | Interim | Trailers | End | bytes
"""bytes: a piece of the body."""

_HEAD, _LENGTH, _CHUNK_SIZE, _CHUNK_DATA, _CHUNK_END, _TRAILERS, _TO_CLOSE, _TUNNEL, _DONE = range(9)

_FRAMES: Final = frozenset((b"c", b"C", b"t", b"T", b" ", b"\t"))
"""How the fields begin that say how long a body is, and what is no field and is refused where it is written for the client."""


class Replies:
    """``cgi``: a head may begin without a status line. Say `expect` before each request, `feed` what comes, ask `next` until it
    says None, and `ended` when nothing more will come."""

    __slots__ = (
        "_at",
        "_cgi",
        "_data",
        "_interims",
        "_left",
        "_no_body",
        "_state",
        "_trailer_bytes",
        "_trailers",
        "_upgrade",
        "keep",
    )

    def __init__(self, *, cgi: bool) -> None:
        self._cgi = cgi
        self._data = b""
        self._at = 0
        self._state = _DONE
        self._left = 0
        self._no_body = self._upgrade = False
        self._interims = 0
        self._trailers: list[bytes] = []
        self._trailer_bytes = 0
        self.keep = False

    def expect(self, *, is_head: bool, upgrade: bool = False) -> None:
        """A request goes out: its response to HEAD has no body; ``upgrade``: 101 may be the answer."""
        self._state = _HEAD
        self._no_body = is_head
        self._upgrade = upgrade
        self._interims = 0
        self.keep = False

    @property
    def reusable(self) -> bool:
        """The response is whole, nothing came behind it, and the connection stays open."""
        return self._state == _DONE and self.keep and self._at >= len(self._data)

    @property
    def silent(self) -> bool:
        """Nothing of the response has come."""
        return self._state == _HEAD and not self._interims and self._at >= len(self._data)

    def feed(self, data: bytes) -> None:
        self._data = self._data[self._at :] + data if self._at < len(self._data) else data
        self._at = 0

    def next(self) -> Event | None:
        """The next event, or None: more bytes are needed. Raises ResponseError."""
        while True:
            state = self._state
            if state == _HEAD:
                return self._head()
            if state in (_LENGTH, _CHUNK_DATA):
                if not self._left:
                    if state == _LENGTH:
                        return self._done()
                    self._state = _CHUNK_END
                    continue
                piece = self._data[self._at : self._at + self._left] if self._at else self._data[: self._left]
                self._at += len(piece)
                self._left -= len(piece)
                return piece or None
            if state in (_TO_CLOSE, _TUNNEL):
                piece = self._data[self._at :] if self._at else self._data
                self._at = len(self._data)
                return piece or None
            if state == _CHUNK_SIZE:
                if not self._chunk_size():
                    return None
            elif state == _CHUNK_END:
                if len(self._data) - self._at < 2:
                    return None
                if self._data[self._at : self._at + 2] != b"\r\n":
                    raise ResponseError("a chunk that is longer than its size")
                self._at += 2
                self._state = _CHUNK_SIZE
            elif state == _TRAILERS:
                return self._trailer_lines()
            else:
                return None

    def ended(self) -> bool:
        """Nothing more will come. True: that was the end of a response. Raises ResponseError: it was not."""
        state = self._state
        if state == _DONE:
            return False
        if state in (_TO_CLOSE, _TUNNEL):
            self._state = _DONE
            return True
        if state == _HEAD:
            raise ResponseError(
                "it closed the connection before its answer" if self.silent else "half a head"
            )
        raise ResponseError(
            f"a body cut off, {self._left} bytes before its end" if self._left else "a body cut off"
        )

    def _done(self) -> Event:
        self._state = _DONE
        return END

    def _head(self) -> Event | None:
        data, start = self._data, self._at
        end = data.find(b"\r\n\r\n", start)
        if end < 0:
            if len(data) - start > HEAD_MOST:
                raise ResponseError(f"a head of more than {HEAD_MOST} bytes")
            if not self._cgi and data[start : start + 5] != b"HTTP/"[: len(data) - start]:
                raise ResponseError(f"no HTTP response: {data[start : start + 40]!r}")
            return None
        if end - start > HEAD_MOST:
            raise ResponseError(f"a head of more than {HEAD_MOST} bytes")
        line, _, fields = data[start : end + 2].partition(b"\r\n")
        self._at = end + 4
        version = b"1.1"
        if line[:7] == b"HTTP/1." and line[7:8].isdigit() and line[8:9] == b" ":
            version, said = line[5:8], line[9:]
        elif self._cgi and line[:5] != b"HTTP/":
            said, fields = _of_cgi(line + b"\r\n" + fields)
        else:
            raise ResponseError(f"no HTTP response: {line[:40]!r}")
        if not said[:3].isdigit() or (len(said) > 3 and said[3:4] != b" "):
            raise ResponseError(f"a malformed status line: {line[:80]!r}")
        status = int(said[:3])
        lines = said + b"\r\n" + fields
        if status < 200:
            return self._interim(status, lines)
        self._frame(status, version, fields)
        return Head(status, lines)

    def _interim(self, status: int, lines: bytes) -> Event:
        if status == 101:
            if not self._upgrade:
                raise ResponseError("101, and nobody has asked for another protocol")
            self._state = _TUNNEL
            return Head(status, lines)
        self._interims += 1
        if self._interims > INTERIM_MOST:
            raise ResponseError(f"more than {INTERIM_MOST} interim responses")
        return Interim(lines)

    def _frame(self, status: int, version: bytes, fields: bytes) -> None:
        """How long the body is (RFC 9112, 6.3)."""
        length, coding, close = -1, b"", version == b"1.0"
        for each in fields.split(b"\r\n"):
            if each[:1] not in _FRAMES:
                continue
            name, _, value = each.partition(b":")
            name = name.strip(b" \t").lower()
            value = value.strip(b" \t")
            if name == b"content-length":
                if length >= 0:
                    raise ResponseError("two Content-Length fields")
                if not value.isdigit() or len(value) > 18:
                    raise ResponseError(f"a Content-Length that is no length: {value[:40]!r}")
                length = int(value)
            elif name == b"transfer-encoding":
                coding += b"," + value.lower()
            elif name == b"connection":
                close = close or b"close" in [token.strip(b" \t") for token in value.lower().split(b",")]
        self.keep = not close
        if coding:
            if length >= 0:
                raise ResponseError("Content-Length beside Transfer-Encoding")
            if coding != b",chunked":
                raise ResponseError(f"a Transfer-Encoding other than chunked: {coding[1:41]!r}")
            if version == b"1.0":
                raise ResponseError("a Transfer-Encoding in HTTP/1.0")
        self._left = 0
        if self._no_body or status in (204, 304):
            self._state = _LENGTH
        elif coding:
            self._state = _CHUNK_SIZE
            self._trailers = []
            self._trailer_bytes = 0
        elif length >= 0:
            self._left = length
            self._state = _LENGTH
        else:
            self.keep = False
            self._state = _TO_CLOSE

    def _chunk_size(self) -> bool:
        """One ``size [; extensions] CRLF`` line (RFC 9112, 7.1). False: more is needed."""
        end = self._data.find(b"\n", self._at)
        if end < 0 or end - self._at > CHUNK_LINE_MOST:
            if len(self._data) - self._at > CHUNK_LINE_MOST:
                raise ResponseError(f"a chunk size line of more than {CHUNK_LINE_MOST} bytes")
            return False
        line = self._data[self._at : end]
        digits = line[:-1].partition(b";")[0]
        if line[-1:] != b"\r" or not 0 < len(digits) <= 15 or digits.strip(b"0123456789abcdefABCDEF"):
            raise ResponseError(f"a chunk size that is none: {line[:40]!r}")
        self._at = end + 1
        self._left = int(digits, 16)
        self._state = _CHUNK_DATA if self._left else _TRAILERS
        return True

    def _trailer_lines(self) -> Event | None:
        while True:
            end = self._data.find(b"\n", self._at)
            size = (len(self._data) if end < 0 else end) - self._at + self._trailer_bytes
            if size > TRAILERS_MOST:
                raise ResponseError(f"trailers of more than {TRAILERS_MOST} bytes")
            if end < 0:
                return None
            line = self._data[self._at : end + 1]
            if line[-2:] != b"\r\n":
                raise ResponseError("a trailer line that ends in a bare LF")
            self._at = end + 1
            if len(line) > 2:
                self._trailers.append(line)
                self._trailer_bytes += len(line)
                continue
            if self._trailers:
                fields = b"".join(self._trailers)
                self._left, self._state = 0, _LENGTH  # then comes the end
                return Trailers(fields)
            return self._done()


def _of_cgi(fields: bytes) -> tuple[bytes, bytes]:
    """Status and fields of a head without a status line (RFC 3875, 6.3; as nginx reads it)."""
    said, kept, moved = b"", [], False
    for line in fields.split(b"\r\n")[:-1]:
        name = line.partition(b":")[0].lower()
        if name == b"status" and not said:
            said = line.partition(b":")[2].strip(b" \t")
            continue
        moved = moved or name == b"location"
        kept.append(line + b"\r\n")
    return said or (b"302 Found" if moved else b"200 OK"), b"".join(kept)
