# cython: language_level=3, boundscheck=False, wraparound=False
"""HTTP/1.1, the server's side, sans I/O (RFC 9110, RFC 9112).

``Reader`` takes the bytes of one connection and gives back, one at a time, request heads (already as uwsgi packets), body
bytes and ends. It looks at a head only when the whole head is there, so that where a packet was split never changes a
verdict; what it must notice before (a bare LF, a head that grows without end) it notices per line. It reads one request at
a time: the bytes of the next wait until the caller asks.

``respond`` turns the head that a worker sent into the bytes for the client, and trusts nothing in it.

Strict where two readers of the same bytes could disagree: bare LF, obs-fold, white space around names, two lengths, both
kinds of framing, anything but ``chunked``. A refusal is an HttpError; the connection is closed after the answer.
"""
from cpython.bytes cimport PyBytes_FromStringAndSize, PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t, uint32_t, int64_t
from libc.stdlib cimport malloc
from libc.string cimport memchr, memcmp, memcpy

from emperor.protocol.errors import HttpError, ResponseError
from emperor.protocol.packet cimport RequestHead, Writer, PACKET_LIMIT, put_raw, put_text, finish, is_idempotent, plain_host, speaks_for_others

cdef enum:
    C_FIELDS = 1000
    C_HEAD = 65536
    C_METHOD = 32

HEAD_MOST = C_HEAD
"""No limit on a head can be higher: what becomes of it, a packet, holds no more."""
FIELDS_MOST = C_FIELDS
"""No limit on the number of header lines can be higher."""


cdef class Limits:
    """How much of a request the reader takes before it refuses. Sizes are in bytes; each is an option of the router.

    ``line``: of the request line; beyond it 414. ``head``: of a whole head, 431, as for ``fields``, the number of header
    lines. ``trailers``: of a trailer section, 431. ``chunk_line``: of one chunk's size line with its extensions, 400.
    ``extensions``: of all chunk extensions of one body (RFC 9112, 7.1.1), 413. The HttpError names the limit.
    """
    def __init__(
        self, Py_ssize_t line=16384, Py_ssize_t head=C_HEAD, Py_ssize_t fields=100, Py_ssize_t trailers=8192,
        Py_ssize_t chunk_line=256, Py_ssize_t extensions=16384,
    ):
        if not 0 < head <= C_HEAD:
            raise ValueError(f"a limit of {head} bytes on a head; at most {C_HEAD} fit into a packet")
        if not 0 < fields <= C_FIELDS:
            raise ValueError(f"a limit of {fields} header lines; at most {C_FIELDS} can be taken")
        if min(line, trailers, chunk_line, extensions) < 1:
            raise ValueError("a limit of less than one byte")
        self.line = line
        self.head = head
        self.fields = fields
        self.trailers = trailers
        self.chunk_line = chunk_line
        self.extensions = extensions

cdef enum:
    # What a Reader expects next.
    S_HEAD = 0
    S_LENGTH = 1
    S_CHUNK_SIZE = 2
    S_CHUNK_DATA = 3
    S_CHUNK_END = 4
    S_TRAILERS = 5
    S_END = 6

cdef struct Field:
    const uint8_t *name
    Py_ssize_t name_size
    const uint8_t *value
    Py_ssize_t value_size
    uint32_t hash
    bint used

# 1: token (RFC 9110, 5.6.2); 2: allowed in a field value; 4: allowed in a request target
cdef uint8_t KIND[256]
cdef uint8_t CGI[256]      # upper case, '-' as '_'

def _fill():
    cdef int c
    for c in range(256):
        KIND[c] = 0
        CGI[c] = <uint8_t> c
        if 97 <= c <= 122:
            CGI[c] = <uint8_t> (c - 32)
        if c == 45:
            CGI[c] = 95
        if chr(c).isascii() and (chr(c).isalnum() or chr(c) in "!#$%&'*+-.^_`|~"):
            KIND[c] |= 1
        if c == 9 or 32 <= c <= 126 or c >= 128:
            KIND[c] |= 2
        if 33 <= c <= 126 and chr(c) not in '#"<>\\^`{|}':
            KIND[c] |= 4
        # Browsers send some of these raw in a query; what they share is that no two readers frame them differently.
        if c < 127 and chr(c) in '"<>\\^`{|}' and c > 32:
            KIND[c] |= 4

_fill()

cdef Writer OUT
OUT.at = <uint8_t *> malloc(PACKET_LIMIT + 16)
cdef uint8_t *SCRATCH = <uint8_t *> malloc(C_HEAD + 16)
cdef Field FIELDS[C_FIELDS]


cdef inline bint same(const uint8_t *raw, Py_ssize_t size, const char *lower, Py_ssize_t lower_size) noexcept:
    """Equal to ``lower`` (lower-case letters and '-') without regard to case."""
    cdef Py_ssize_t i
    cdef uint8_t c
    if size != lower_size:
        return False
    for i in range(size):
        c = raw[i]
        if 65 <= c <= 90:
            c += 32
        if c != <uint8_t> lower[i]:
            return False
    return True


cdef inline int hex_value(uint8_t c) noexcept:
    if 48 <= c <= 57:
        return c - 48
    if 65 <= c <= 70:
        return c - 55
    if 97 <= c <= 102:
        return c - 87
    return -1


cdef tell_form(error, bytes head):
    """What a refused head says of the form of the answer: whatever else is wrong with it."""
    lines = head.split(b"\r\n")
    error.is_head = lines[0].startswith(b"HEAD ")
    error.accept = b", ".join([line[7:].strip(b" \t") for line in lines if line[:7].lower() == b"accept:"])


cdef bint has_token(const uint8_t *raw, Py_ssize_t size, const char *token, Py_ssize_t token_size) noexcept:
    """The comma-separated list in ``raw`` holds ``token``, without regard to case."""
    cdef Py_ssize_t start = 0, stop, i = 0
    while i <= size:
        if i == size or raw[i] == c",":
            stop = i
            while start < stop and (raw[start] == 32 or raw[start] == 9):
                start += 1
            while stop > start and (raw[stop - 1] == 32 or raw[stop - 1] == 9):
                stop -= 1
            if stop - start == token_size and alike(raw + start, <const uint8_t *> token, token_size):
                return True
            start = i + 1
        i += 1
    return False


cdef bint frames_or_routes(const Field *field) noexcept:
    """Connection must not take it from under the app: it is for everybody, or says who asks. A proxy that passes Connection on
    would else let its client take away what the proxy says of it.
    """
    return (
        (field.name_size > 12 and same(field.name, 12, b"x-forwarded-", 12))
        or (field.name_size == 9 and same(field.name, 9, b"forwarded", 9))
        or (field.name_size == 9 and same(field.name, 9, b"x-real-ip", 9))
        or (field.name_size == 12 and same(field.name, 12, b"x-request-id", 12))
        or (field.name_size == 13 and same(field.name, 13, b"authorization", 13))
        or (field.name_size == 6 and same(field.name, 6, b"cookie", 6))
        or (field.name_size == 4 and same(field.name, 4, b"host", 4))
        or (field.name_size == 12 and same(field.name, 12, b"content-type", 12))
        or (field.name_size == 14 and same(field.name, 14, b"content-length", 14))
        or (field.name_size == 17 and same(field.name, 17, b"transfer-encoding", 17))
    )


cdef bint drop_named(Py_ssize_t count, Py_ssize_t most) noexcept:
    """Mark as used the fields that a Connection field names: they end here (RFC 9110, 7.6.1).

    False: it names more than ``most``. Each name is compared with every field, so without a bound a head of commas would
    cost milliseconds.
    """
    cdef Py_ssize_t i, j, at, start, stop, named = 0
    cdef uint32_t hash
    cdef Field *field
    cdef Field *other
    for i in range(count):
        field = &FIELDS[i]
        if field.name_size != 10 or not same(field.name, 10, b"connection", 10):
            continue
        start = 0
        for at in range(field.value_size + 1):
            if at < field.value_size and field.value[at] != c",":
                continue
            stop = at
            while start < stop and (field.value[start] == 32 or field.value[start] == 9):
                start += 1
            while stop > start and (field.value[stop - 1] == 32 or field.value[stop - 1] == 9):
                stop -= 1
            if stop > start:
                named += 1
                if named > most:
                    return False
                hash = 5381
                for j in range(start, stop):
                    hash = hash * 33 + CGI[field.value[j]]
                for j in range(count):
                    other = &FIELDS[j]
                    if (
                        other.hash == hash
                        and other.name_size == stop - start
                        and alike(other.name, field.value + start, stop - start)
                        and not frames_or_routes(other)
                    ):
                        other.used = True
            start = at + 1
    return True


DEFAULTS = Limits()


cdef class Reader:
    """The receiving half of one connection.

    ``prefix`` is the block of variables that are the same for every request of the connection (``packet.encode_vars``):
    REMOTE_ADDR, SERVER_NAME and so on.

    Call ``feed`` with what arrived, then ``next`` until it returns None (more is needed). It returns a RequestHead, then
    ``bytes`` of the body as they come, then ``True`` at the end of the request, once, even when there was no body. After an
    HttpError the reader is spent. ``buffered()`` bytes wait behind what has been returned. ``trailed`` is True once the
    current request has had a trailer line.

    ``believes``: the peer is a proxy that may speak of its client: X-Forwarded-For and its like stay, and are flagged in
    the head. From others they are dropped, since an app that believes them would believe anybody. ``secure``: it came by TLS
    (or is such a proxy), and may ask for an https URL.
    """
    def __init__(self, bytes prefix, bint believes=False, Limits limits=DEFAULTS):
        self.prefix = prefix
        self.believes = self.secure = believes
        self.limits = limits
        self.trailed = False
        self.data = b""
        self.at = self.seen = self.line = 0
        self.state = S_HEAD
        self.started = False

    cpdef Py_ssize_t buffered(self):
        return PyBytes_GET_SIZE(self.data) - self.at

    cpdef bint idle(self):
        """Between two requests, with not a byte of the next."""
        return self.state == S_HEAD and self.at == PyBytes_GET_SIZE(self.data)

    cpdef int64_t owed(self):
        """What is still to come of a body whose length was told, when nothing waits here; else 0."""
        return self.left if self.state == S_LENGTH and self.at == PyBytes_GET_SIZE(self.data) else 0

    cpdef skip(self, int64_t count):
        """So many of the bytes that are ``owed`` went another way."""
        if not 0 <= count <= self.owed():
            raise ValueError(f"{count} bytes of {self.owed()}")
        self.left -= count

    cpdef bytes rest(self):
        """All that waits, which is HTTP no more: the connection has changed its protocol."""
        cdef bytes rest = self.data[self.at:]
        self.data = b""
        self.at = self.seen = self.line = 0
        return rest

    cpdef feed(self, bytes data):
        """Append what arrived."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(self.data)
        if self.at == size:
            self.data = data
        elif self.at == 0:
            self.data = self.data + data
            return
        else:
            self.data = self.data[self.at:] + data
        self.seen -= self.at
        self.line -= self.at
        if self.seen < 0:
            self.seen = 0
        if self.line < 0:
            self.line = 0
        self.at = 0

    cpdef object next(self):
        """The next piece, or None. Raises HttpError."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(self.data), take
        cdef bytes piece
        while True:
            if self.state == S_HEAD:
                return self.head()
            if self.state == S_LENGTH or self.state == S_CHUNK_DATA:
                if self.left == 0:
                    self.state = S_END if self.state == S_LENGTH else S_CHUNK_END
                    continue
                take = size - self.at
                if take == 0:
                    return None
                if take > self.left:
                    take = <Py_ssize_t> self.left
                if self.at == 0 and take == size:
                    piece = self.data
                else:
                    piece = PyBytes_FromStringAndSize(PyBytes_AS_STRING(self.data) + self.at, take)
                self.at += take
                self.left -= take
                if self.at == size:
                    self.data = b""
                    self.at = 0
                return piece
            if self.state == S_CHUNK_SIZE:
                if not self.chunk_size():
                    return None
                continue
            if self.state == S_CHUNK_END:
                if size - self.at >= 1 and self.data[self.at] != 13:
                    raise HttpError(400, "a chunk that does not end where its size says")
                if size - self.at < 2:
                    return None
                if self.data[self.at + 1] != 10:
                    raise HttpError(400, "a chunk that does not end where its size says")
                self.at += 2
                self.state = S_CHUNK_SIZE
                continue
            if self.state == S_TRAILERS:
                if not self.trailer():
                    return None
                continue
            # S_END
            self.state = S_HEAD
            if self.at == size:
                # A connection may wait for long: not with its last read in memory, which may be 256 KiB.
                self.data = b""
                self.at = 0
            self.seen = self.line = self.at
            self.started = False
            return True

    cdef object head(self):
        cdef const uint8_t *raw = <const uint8_t *> PyBytes_AS_STRING(self.data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(self.data), where
        cdef Limits limits = self.limits
        cdef const void *found
        # A client may send an empty line before a request line (RFC 9112, 2.2); a few, not a stream of them.
        while not self.started and self.at < size and raw[self.at] == 13:
            if size - self.at < 2:
                return None
            if raw[self.at + 1] != 10:
                raise HttpError(400, "a CR that no LF follows")
            self.at += 2
            self.left += 1
            if self.left > 8:
                raise HttpError(400, "empty lines where a request should be")
            self.seen = self.line = self.at
        if self.at == size:
            return None
        if self.seen < self.at:
            self.seen = self.line = self.at
        if not self.started:
            # A byte that begins no method will not become one: a TLS client waits for our answer, not for a line end.
            if not KIND[raw[self.at]] & 1:
                if raw[self.at] == 0x16:
                    raise HttpError(400, "TLS, as it seems, on an address for plain HTTP")
                if raw[self.at] == 10:
                    raise HttpError(400, "a line that ends in a bare LF")
                raise HttpError(400, "a request line without a method")
            self.started = True
        while True:
            found = memchr(raw + self.seen, 10, size - self.seen) if size > self.seen else NULL
            if found == NULL:
                self.seen = size
                if size - self.at > limits.line and self.line == self.at:
                    raise HttpError(414, f"a request line of more than {limits.line} bytes", "request-line-limit")
                if size - self.at > limits.head:
                    raise HttpError(431, f"a head of more than {limits.head} bytes", "head-limit")
                return None
            where = <const uint8_t *> found - raw
            # The limits first, as above: a line that is too long is that, whether its end has come yet or not.
            if self.line == self.at and where - self.at > limits.line:
                raise HttpError(414, f"a request line of more than {limits.line} bytes", "request-line-limit")
            if where - self.at > limits.head:
                raise HttpError(431, f"a head of more than {limits.head} bytes", "head-limit")
            if where == self.at or raw[where - 1] != 13:
                raise HttpError(400, "a line that ends in a bare LF")
            self.seen = where + 1
            if where - 1 == self.line:
                break
            self.line = where + 1
        where = self.at
        self.at = self.seen
        try:
            return self.parse(raw + where, self.seen - 2 - where)
        except HttpError as error:
            tell_form(error, self.data[where:self.seen])
            raise

    cdef RequestHead parse(self, const uint8_t *raw, Py_ssize_t size):
        """``raw``: the lines of the head, each with its CRLF, without the empty one."""
        cdef Py_ssize_t at, end, i, j, start, stop, count = 0, host_at = -1, query = -1
        cdef const uint8_t *target
        cdef Py_ssize_t target_size, path_size, method_size
        cdef const void *found
        cdef uint32_t hash
        cdef uint8_t c
        cdef int high, low
        cdef bint http11, chunked = False, has_length = False, has_coding = False, close = False, keep = False, expect = False
        cdef int64_t length = 0
        cdef Field *field
        cdef RequestHead head
        cdef bytes authority = None, target_uri
        cdef bint pathless = False, named = False, takes_trailers = False, upgrade = False, websocket = False
        cdef Py_ssize_t used

        # Request line: token SP target SP HTTP-version
        end = <const uint8_t *> memchr(raw, 13, size) - raw
        if raw[end + 1] != 10:
            raise HttpError(400, "a CR that no LF follows")
        at = 0
        while at < end and KIND[raw[at]] & 1:
            at += 1
        method_size = at
        if at == 0 or at == end or raw[at] != 32:
            raise HttpError(400, "a request line without a method")
        if method_size > C_METHOD:
            # RFC 9112, 3: longer than any that is implemented
            raise HttpError(501, f"a method of more than {C_METHOD} letters")
        at += 1
        target = raw + at
        while at < end and KIND[raw[at]] & 4:
            at += 1
        target_size = raw + at - target
        if target_size == 0 or at == end or raw[at] != 32:
            raise HttpError(400, "a request target with a character that must not stand there")
        at += 1
        if end - at != 8 or memcmp(raw + at, b"HTTP/", 5) != 0 or raw[at + 6] != c"." or not (
            c"0" <= raw[at + 5] <= c"9" and c"0" <= raw[at + 7] <= c"9"
        ):
            raise HttpError(400, "a request line without an HTTP version")
        if raw[at + 5] != c"1":
            raise HttpError(505, "an HTTP version that is not 1.x")
        http11 = raw[at + 7] != c"0"
        at = end + 2

        # Header lines
        while at < size:
            if count == self.limits.fields:
                raise HttpError(431, f"more than {self.limits.fields} header lines", "fields-limit")
            if raw[at] == 32 or raw[at] == 9:
                raise HttpError(400, "a folded header line")
            field = &FIELDS[count]
            field.name = raw + at
            hash = 5381
            while KIND[raw[at]] & 1:
                hash = hash * 33 + CGI[raw[at]]
                at += 1
            field.name_size = raw + at - field.name
            field.hash = hash
            field.used = False
            if field.name_size == 0 or raw[at] != c":":
                raise HttpError(400, "a header line without a name and a colon right behind it")
            at += 1
            while raw[at] == 32 or raw[at] == 9:
                at += 1
            field.value = raw + at
            while KIND[raw[at]] & 2:
                at += 1
            if raw[at] != 13 or raw[at + 1] != 10:
                raise HttpError(400, "a control character in a header value")
            stop = at
            start = field.value - raw
            while stop > start and (raw[stop - 1] == 32 or raw[stop - 1] == 9):
                stop -= 1
            field.value_size = stop - start
            at += 2
            count += 1

        # What the front end itself must understand
        for i in range(count):
            field = &FIELDS[i]
            if field.name_size == 4 and same(field.name, 4, b"host", 4):
                if host_at >= 0:
                    raise HttpError(400, "two Host headers")
                host_at = i
            elif field.name_size == 14 and same(field.name, 14, b"content-length", 14):
                if has_length:
                    raise HttpError(400, "two Content-Length headers")
                has_length = True
                if field.value_size == 0 or field.value_size > 18:
                    raise HttpError(400, "a Content-Length that is no length")
                for j in range(field.value_size):
                    c = field.value[j]
                    if not 48 <= c <= 57:
                        raise HttpError(400, "a Content-Length that is no length")
                    length = length * 10 + (c - 48)
            elif field.name_size == 17 and same(field.name, 17, b"transfer-encoding", 17):
                if has_coding:
                    raise HttpError(400, "two Transfer-Encoding headers")
                has_coding = True
                if same(field.value, field.value_size, b"chunked", 7):
                    chunked = True
                elif has_token(field.value, field.value_size, b"chunked", 7):
                    if field.value_size >= 7 and same(field.value + field.value_size - 7, 7, b"chunked", 7):
                        if has_token(field.value, field.value_size - 7, b"chunked", 7):
                            raise HttpError(400, "a body that is chunked twice")
                        raise HttpError(501, "a transfer coding other than chunked")
                    raise HttpError(400, "a Transfer-Encoding in which chunked is not the last")
                else:
                    raise HttpError(501 if field.value_size else 400, "a transfer coding other than chunked")
            elif field.name_size == 10 and same(field.name, 10, b"connection", 10):
                close = close or has_token(field.value, field.value_size, b"close", 5)
                keep = keep or has_token(field.value, field.value_size, b"keep-alive", 10)
                upgrade = upgrade or has_token(field.value, field.value_size, b"upgrade", 7)
                named = named or field.value_size > 0
            elif field.name_size == 7 and same(field.name, 7, b"upgrade", 7):
                websocket = websocket or has_token(field.value, field.value_size, b"websocket", 9)
            elif field.name_size == 6 and same(field.name, 6, b"expect", 6):
                if not same(field.value, field.value_size, b"100-continue", 12):
                    raise HttpError(417, "an expectation other than 100-continue")
                expect = http11
            elif field.name_size == 2 and same(field.name, 2, b"te", 2):
                takes_trailers = takes_trailers or (
                    http11 and has_token(field.value, field.value_size, b"trailers", 8)
                )
        if named and not drop_named(count, self.limits.fields):
            raise HttpError(
                431, f"a Connection header that names more than {self.limits.fields} fields", "fields-limit"
            )
        if has_coding and has_length:
            raise HttpError(400, "both Transfer-Encoding and Content-Length")
        if has_coding and not http11:
            raise HttpError(400, "Transfer-Encoding in HTTP/1.0")
        if not http11 and not has_length and (
            (method_size == 4 and memcmp(raw, b"POST", 4) == 0) or (method_size == 3 and memcmp(raw, b"PUT", 3) == 0)
        ):
            # RFC 1945, 8.3; RFC 9112, 6.3: a body that only a close would end is no body to us, and must not be lost in silence.
            raise HttpError(411, "a body of unknown length in HTTP/1.0")
        if (chunked or length) and method_size == 5 and memcmp(raw, b"TRACE", 5) == 0:
            raise HttpError(400, "TRACE with a body")  # RFC 9110, 9.3.8

        if method_size == 7 and memcmp(raw, b"CONNECT", 7) == 0:
            raise HttpError(501, "CONNECT, which only a proxy can answer")  # whatever its target looks like

        # Target: origin-form, absolute-form, or * for OPTIONS (RFC 9112, 3.2)
        if target[0] != c"/":
            if target_size == 1 and target[0] == c"*" and method_size == 7 and memcmp(raw, b"OPTIONS", 7) == 0:
                pass
            else:
                i = 0
                if target_size > 7 and same(target, 7, b"http://", 7):
                    i = 7
                elif target_size > 8 and same(target, 8, b"https://", 8):
                    if not self.secure:
                        # RFC 9110, 7.4: "must be rejected", or who reads the URL would believe in a secure connection.
                        raise HttpError(421, "an https URL as the request target of a connection without TLS")
                    i = 8
                if i == 0:
                    raise HttpError(400, "a request target that is neither a path nor an http URL")
                start = i
                while i < target_size and target[i] != c"/" and target[i] != c"?":
                    i += 1
                if i == start or target[start] == c":":
                    raise HttpError(400, "an http URL without a host as the request target")
                authority = PyBytes_FromStringAndSize(<const char *> target + start, i - start)
                target += i
                target_size -= i
                pathless = target_size == 0 or target[0] == c"?"
                if target_size == 0 and method_size == 7 and memcmp(raw, b"OPTIONS", 7) == 0:
                    target = <const uint8_t *> b"*"  # RFC 9112, 3.2.4: of the server as a whole
                    target_size = 1
                    pathless = False
        if http11 and host_at < 0:
            raise HttpError(400, "no Host header")

        head = RequestHead.__new__(RequestHead)
        if host_at >= 0:
            head.host = plain_host(<const char *> FIELDS[host_at].value, FIELDS[host_at].value_size)
        else:
            head.host = b""
        if head.host is not None and authority is not None:
            # The target's authority wins over Host (RFC 9112, 3.2.2), which must be good all the same (3.2).
            head.host = plain_host(PyBytes_AS_STRING(authority), PyBytes_GET_SIZE(authority))
        if head.host is None:
            raise HttpError(400, "a Host that is no host")

        OUT.used = 4
        OUT.full = False
        put_raw(&OUT, PyBytes_AS_STRING(self.prefix), PyBytes_GET_SIZE(self.prefix))
        put_text(&OUT, b"REQUEST_METHOD", 14)
        put_text(&OUT, <const char *> raw, method_size)
        put_text(&OUT, b"REQUEST_URI", 11)
        if pathless:
            # An empty path is "/" (RFC 9110, 4.2.3)
            target_uri = b"/" + PyBytes_FromStringAndSize(<const char *> target, target_size)
            put_text(&OUT, PyBytes_AS_STRING(target_uri), PyBytes_GET_SIZE(target_uri))
        else:
            put_text(&OUT, <const char *> target, target_size)
        found = memchr(target, c"?", target_size) if target_size else NULL
        path_size = target_size if found == NULL else <const uint8_t *> found - target
        put_text(&OUT, b"QUERY_STRING", 12)
        if found == NULL:
            put_text(&OUT, b"", 0)
        else:
            put_text(&OUT, <const char *> found + 1, target_size - path_size - 1)
        put_text(&OUT, b"PATH_INFO", 9)
        if path_size == 0:
            head.path = b"/"
        elif memchr(target, c"%", path_size) == NULL:
            head.path = PyBytes_FromStringAndSize(<const char *> target, path_size)
        else:
            used = 0
            i = 0
            while i < path_size:
                c = target[i]
                if c == c"%" and i + 2 < path_size:
                    high = hex_value(target[i + 1])
                    low = hex_value(target[i + 2])
                    if high >= 0 and low >= 0:
                        c = <uint8_t> (high * 16 + low)
                        if c == 0:
                            raise HttpError(400, "an encoded NUL in the path")
                        i += 2
                SCRATCH[used] = c
                used += 1
                i += 1
            head.path = PyBytes_FromStringAndSize(<const char *> SCRATCH, used)
        if path_size == 1 and target[0] == c"*":
            # `OPTIONS *` has no path (RFC 3875, 4.1.5: empty, or from a "/" on); REQUEST_URI says what it was.
            put_text(&OUT, b"", 0)
        else:
            put_text(&OUT, PyBytes_AS_STRING(head.path), PyBytes_GET_SIZE(head.path))
        put_text(&OUT, b"SERVER_PROTOCOL", 15)
        put_text(&OUT, b"HTTP/1.1" if http11 else b"HTTP/1.0", 8)
        self.told = False
        for i in range(count):
            field = &FIELDS[i]
            if field.used:
                continue
            self.put_field(i, count, authority)
        if authority is not None and host_at < 0:
            put_text(&OUT, b"HTTP_HOST", 9)
            put_text(&OUT, PyBytes_AS_STRING(authority), PyBytes_GET_SIZE(authority))
        if OUT.full:
            raise HttpError(431, "a head that does not fit into a packet of 65535 bytes", "head-limit")
        head.packet = finish(&OUT)
        head.method = PyBytes_FromStringAndSize(<const char *> raw, method_size)
        head.forwarded = self.told
        head.chunked = chunked
        head.content_length = -1 if chunked else length
        head.keep_alive = not close and (http11 or keep)
        head.expect_continue = expect and (chunked or length > 0)
        head.http11 = http11
        head.is_head = method_size == 4 and memcmp(raw, b"HEAD", 4) == 0
        head.idempotent = is_idempotent(<const char *> raw, method_size)
        head.takes_trailers = takes_trailers
        # RFC 6455, 4.2.1; what else is to be checked is the worker's to check, whose app may speak HTTP alone.
        head.websocket = (
            websocket and upgrade and http11 and not chunked and length == 0 and not expect
            and method_size == 3 and memcmp(raw, b"GET", 3) == 0
        )
        self.left = length
        self.trailers = self.extensions = 0
        self.trailed = False
        self.state = S_CHUNK_SIZE if chunked else S_LENGTH
        return head

    cdef void put_field(self, Py_ssize_t index, Py_ssize_t count, bytes authority) noexcept:
        """One header as a CGI variable, repeated ones joined (RFC 9110, 5.3; Cookie: RFC 6265, 5.4)."""
        cdef Field *field = &FIELDS[index]
        cdef Field *other
        cdef Py_ssize_t i, total, at
        cdef bint again = False, cookie
        cdef uint8_t name[128]
        cdef uint8_t c
        cdef Py_ssize_t size = field.name_size
        if size > 120:
            OUT.full = True
            return
        for i in range(size):
            c = field.name[i]
            # An underscore would be the same variable as a '-' (header policy); a token may hold more than names do.
            if c == c"_" or not (c == c"-" or 48 <= c <= 57 or 65 <= c <= 90 or 97 <= c <= 122):
                return
            name[i + 5] = CGI[c]
        if size == 12 and memcmp(name + 5, b"CONTENT_TYPE", 12) == 0:
            put_text(&OUT, b"CONTENT_TYPE", 12)
        elif size == 14 and memcmp(name + 5, b"CONTENT_LENGTH", 14) == 0:
            put_text(&OUT, b"CONTENT_LENGTH", 14)
        elif (
            (size == 5 and memcmp(name + 5, b"PROXY", 5) == 0)
            or (size == 10 and memcmp(name + 5, b"CONNECTION", 10) == 0)
            or (size == 10 and memcmp(name + 5, b"KEEP_ALIVE", 10) == 0)
            or (size == 16 and memcmp(name + 5, b"PROXY_CONNECTION", 16) == 0)
            or (size == 2 and memcmp(name + 5, b"TE", 2) == 0)
            or (size == 7 and memcmp(name + 5, b"TRAILER", 7) == 0)
            or (size == 7 and memcmp(name + 5, b"UPGRADE", 7) == 0)
            or (size == 6 and memcmp(name + 5, b"EXPECT", 6) == 0)
        ):
            # Hop by hop, or (Proxy) a variable that libraries take for configuration. Transfer-Encoding stays: it is how
            # a WSGI app sees that a body of unknown length comes.
            return
        else:
            if (name[5] == c"X" or name[5] == c"F") and speaks_for_others(name + 5, size):
                if not self.believes:
                    return
                self.told = True
            memcpy(name, b"HTTP_", 5)
            put_text(&OUT, <const char *> name, size + 5)
        if authority is not None and size == 4 and memcmp(name + 5, b"HOST", 4) == 0:
            put_text(&OUT, PyBytes_AS_STRING(authority), PyBytes_GET_SIZE(authority))
            return
        total = field.value_size
        for i in range(index + 1, count):
            other = &FIELDS[i]
            if other.hash == field.hash and other.name_size == size and alike(other.name, field.name, size):
                again = True
                total += 2 + other.value_size
        if not again:
            put_text(&OUT, <const char *> field.value, field.value_size)
            return
        if OUT.used + 2 + total > PACKET_LIMIT + 4:
            OUT.full = True
            return
        cookie = size == 6 and memcmp(name + 5, b"COOKIE", 6) == 0
        OUT.at[OUT.used] = <uint8_t> (total & 255)
        OUT.at[OUT.used + 1] = <uint8_t> (total >> 8)
        at = OUT.used + 2
        memcpy(OUT.at + at, field.value, field.value_size)
        at += field.value_size
        for i in range(index + 1, count):
            other = &FIELDS[i]
            if other.hash == field.hash and other.name_size == size and alike(other.name, field.name, size):
                memcpy(OUT.at + at, b"; " if cookie else b", ", 2)
                memcpy(OUT.at + at + 2, other.value, other.value_size)
                at += 2 + other.value_size
                other.used = True
        OUT.used = at

    cdef bint chunk_size(self) except -1:
        """One ``size [; extensions] CRLF`` line (RFC 9112, 7.1). False: more is needed."""
        cdef const uint8_t *raw = <const uint8_t *> PyBytes_AS_STRING(self.data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(self.data), at = self.at, end
        cdef const void *found = memchr(raw + at, 10, size - at) if size > at else NULL
        cdef int64_t value = 0
        cdef int digit, digits = 0
        if found == NULL:
            if size - at > self.limits.chunk_line:
                raise HttpError(
                    400, f"a chunk size line of more than {self.limits.chunk_line} bytes", "chunk-line-limit"
                )
            return False
        end = <const uint8_t *> found - raw
        if end - at > self.limits.chunk_line:
            raise HttpError(
                400, f"a chunk size line of more than {self.limits.chunk_line} bytes", "chunk-line-limit"
            )
        if end == at or raw[end - 1] != 13:
            raise HttpError(400, "a chunk size line that ends in a bare LF")
        end -= 1
        while at < end:
            digit = hex_value(raw[at])
            if digit < 0:
                break
            digits += 1
            # Before the sum: one digit more would not fit into 64 bits.
            if digits > 15:
                raise HttpError(400, "a chunk size of more than 15 digits")
            value = value * 16 + digit
            at += 1
        if digits == 0:
            raise HttpError(400, "a chunk without a size")
        if at < end:
            # Extensions are read over. Only ';' may follow the size: white space there is read differently by others.
            if raw[at] != c";":
                raise HttpError(400, "a chunk size followed by something that is no extension")
            self.extensions += end - at
            if self.extensions > self.limits.extensions:
                raise HttpError(
                    413, f"chunk extensions of more than {self.limits.extensions} bytes", "chunk-extensions-limit"
                )
            while at < end:
                if not KIND[raw[at]] & 2 or raw[at] >= 128:
                    raise HttpError(400, "a control character in a chunk extension")
                at += 1
        self.at = end + 2
        self.left = value
        self.state = S_CHUNK_DATA if value else S_TRAILERS
        return True

    cdef bint trailer(self) except -1:
        """One trailer line, checked and dropped. False: more is needed."""
        cdef const uint8_t *raw = <const uint8_t *> PyBytes_AS_STRING(self.data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(self.data), at = self.at, end
        cdef const void *found = memchr(raw + at, 10, size - at) if size > at else NULL
        if found == NULL:
            if size - at + self.trailers > self.limits.trailers:
                raise HttpError(431, f"trailers of more than {self.limits.trailers} bytes", "trailers-limit")
            return False
        end = <const uint8_t *> found - raw
        self.trailers += end + 1 - at
        if self.trailers > self.limits.trailers:
            raise HttpError(431, f"trailers of more than {self.limits.trailers} bytes", "trailers-limit")
        if end == at or raw[end - 1] != 13:
            raise HttpError(400, "a trailer line that ends in a bare LF")
        self.at = end + 1
        end -= 1
        if end == at:
            self.state = S_END
            return True
        self.trailed = True
        if not KIND[raw[at]] & 1:
            raise HttpError(400, "a trailer line without a name")
        while KIND[raw[at]] & 1:
            at += 1
        if raw[at] != c":":
            raise HttpError(400, "a trailer line without a colon right behind its name")
        while at < end:
            if not KIND[raw[at]] & 2:
                raise HttpError(400, "a control character in a trailer")
            at += 1
        return True


cdef bint alike(const uint8_t *a, const uint8_t *b, Py_ssize_t size) noexcept:
    """Equal names without regard to case. An underscore is like nothing: a header with one is dropped, not joined to one without."""
    cdef Py_ssize_t i
    for i in range(size):
        if CGI[a[i]] != CGI[b[i]] or a[i] == c"_":
            return False
    return True


# ---------------------------------------------------------------------------------------------------------------
# Responses

cdef uint8_t *ANSWER = <uint8_t *> malloc(65536 + 512)


cdef inline Py_ssize_t copy(Py_ssize_t used, const char *raw, Py_ssize_t size) noexcept:
    memcpy(ANSWER + used, raw, size)
    return used + size


cdef struct Line:
    # One header line of a worker: where its name starts, and where its value starts and stops
    Py_ssize_t name
    Py_ssize_t name_size
    Py_ssize_t value
    Py_ssize_t stop


cdef inline Py_ssize_t field_line(bytes head, Py_ssize_t at, Line *out) except -1:
    """Read the line at ``at``; return where the next one starts. Raises ResponseError."""
    cdef const uint8_t *raw = <const uint8_t *> PyBytes_AS_STRING(head)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(head), stop
    out.name = at
    while at < size and KIND[raw[at]] & 1:
        at += 1
    out.name_size = at - out.name
    if out.name_size == 0 or at >= size or raw[at] != c":":
        raise ResponseError(f"a header without a proper name: {head[out.name:out.name + 60]!r}")
    at += 1
    while at < size and (raw[at] == 32 or raw[at] == 9):
        at += 1
    out.value = at
    while at < size and KIND[raw[at]] & 2:
        at += 1
    if at + 1 >= size or raw[at] != 13 or raw[at + 1] != 10:
        raise ResponseError(f"a control character in the header {head[out.name:out.name + out.name_size]!r}")
    stop = at
    while stop > out.value and (raw[stop - 1] == 32 or raw[stop - 1] == 9):
        stop -= 1
    out.stop = stop
    return at + 2


# What an interim response must not carry to the next hop (RFC 9110, 7.6.1), or at all (8.6; RFC 9112, 6.1).
_NOT_INTERIM = frozenset({
    b"connection", b"content-length", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
})

# What must not come behind a body (RFC 9110, 6.5.1): framing, routing, modifiers, authentication, what says how to read the body.
_NOT_TRAILERS = _NOT_INTERIM | frozenset({
    b"age", b"authorization", b"cache-control", b"content-encoding", b"content-range", b"content-type", b"date", b"expires",
    b"host", b"location", b"proxy-authenticate", b"retry-after", b"set-cookie", b"vary", b"warning", b"www-authenticate",
})


cdef bytes lines_without(bytes head, Py_ssize_t at, object dropped):
    """The header lines from ``at`` on, checked and written anew, without those of these names (in lower case)."""
    cdef Line line
    kept = []
    while at < PyBytes_GET_SIZE(head):
        at = field_line(head, at, &line)
        name = head[line.name:line.name + line.name_size]
        if name.lower() not in dropped:
            kept.append(b"%b: %b\r\n" % (name, head[line.value:line.stop]))
    return b"".join(kept)


def interim(bytes head):
    """A worker's interim response head → ``(status, bytes for the client)`` (RFC 9110, 15.2).

    ``head`` is shaped as in ``response``. Raises ResponseError; 101 is one, since nothing here changes protocols.
    """
    cdef Py_ssize_t end = head.find(b"\r\n")
    line = head[:end]
    if end < 3 or line[:1] != b"1" or not line[:3].isdigit() or (end > 3 and line[3] != 32) or line[:3] == b"101":
        raise ResponseError(f"an interim response with the status {line[:40]!r}")
    for c in line:
        if not KIND[<uint8_t> c] & 2:
            raise ResponseError(f"a malformed status line: {line[:80]!r}")
    fields = lines_without(head, end + 2, _NOT_INTERIM)
    return int(line[:3]), b"HTTP/1.1 " + line + (b" " if end == 3 else b"") + b"\r\n" + fields + b"\r\n"


def switching(bytes head, bytes request_id):
    """A worker's answer to a client that has asked for a WebSocket, 101 → the bytes for it (RFC 6455, 4.2.2; RFC 9110, 7.8).

    ``head`` and ``request_id`` as in ``respond``. Raises ResponseError.
    """
    cdef Py_ssize_t end = head.find(b"\r\n")
    if head[:end] != b"101" and head[:4] != b"101 ":
        raise ResponseError(f"an upgrade with the status {head[:40]!r}")
    dropped = _NOT_INTERIM | {b"x-request-id"} if request_id else _NOT_INTERIM
    fields = lines_without(head, end + 2, dropped)
    named = b"X-Request-ID: %b\r\n" % request_id if request_id else b""
    return b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" + fields + named + b"\r\n"


def trailers(bytes fields):
    """Trailer lines of a worker as they may go to a client: without those that must not be trailers. Raises ResponseError."""
    return lines_without(fields, 0, _NOT_TRAILERS)


cdef bytes without_named(bytes head):
    """The same response head without the fields that its Connection fields name, which the app meant for us alone."""
    cdef Py_ssize_t start = head.find(b"\r\n") + 2, at = start
    cdef Line line
    named = set()
    while at < PyBytes_GET_SIZE(head):
        at = field_line(head, at, &line)
        if head[line.name:line.name + line.name_size].lower() == b"connection":
            named |= {each.strip(b" \t").lower() for each in head[line.value:line.stop].split(b",")}
    closes = b"close" in named
    named -= {b"", b"content-length", b"content-type", b"upgrade"}
    return head[:start] + lines_without(head, start, named | {b"connection"}) + (b"Connection: close\r\n" if closes else b"")


cdef class Outcome:
    """What became of a worker's response head. ``status``; ``length`` of the content, −1 when none was given; ``framing`` is
    NO_BODY, LENGTH, CHUNKED or UNTIL_CLOSE; ``keep`` the connection; ``head_bytes`` for the client; ``whole``: the body is there.
    """


cpdef tuple response(bytes head, int flags, int64_t whole, bytes date, bytes request_id=b""):
    """A worker's response head → ``(status, bytes for the client, content length, framing, keep alive)``, as in `respond`.

    ``whole`` is the size of the body when all of it is at hand, else −1.
    """
    cdef Outcome outcome = Outcome()
    cdef Py_ssize_t used = put_head(head, flags, whole, date, request_id, outcome)
    return outcome.status, PyBytes_FromStringAndSize(<const char *> ANSWER, used), outcome.length, outcome.framing, outcome.keep


cpdef bytes respond(bytes head, bytes body, bint fin, int flags, bytes date, bytes request_id, Outcome outcome):
    """A worker's response head and the first bytes of its body (``fin``: all of it) → the bytes for the client, and ``outcome``.

    ``head`` is ``200 OK CRLF`` and ``Name: value CRLF`` lines. ``flags``: HTTP11, KEEP_ALIVE, HEAD, UWSGI, TRAILERS (the
    client takes trailers). ``date`` is a ``Date: … CRLF`` line, used when the app sent none. ``request_id``: becomes
    X-Request-ID, in place of the app's own; empty: nothing does. At most 128 bytes.
    The body is in what is returned when it is all that the head promises; else only the head is.
    Raises ResponseError for anything that must not reach a client.
    """
    cdef Py_ssize_t size = PyBytes_GET_SIZE(body)
    cdef Py_ssize_t used = put_head(head, flags, size if fin else -1, date, request_id, outcome)
    cdef bytes out
    outcome.whole = fin and outcome.framing == LENGTH and outcome.length == size
    if not outcome.whole:
        return PyBytes_FromStringAndSize(<const char *> ANSWER, used)
    out = PyBytes_FromStringAndSize(NULL, used + size)
    memcpy(PyBytes_AS_STRING(out), ANSWER, used)
    memcpy(PyBytes_AS_STRING(out) + used, PyBytes_AS_STRING(body), size)
    return out


cdef Py_ssize_t put_head(bytes head, int flags, int64_t whole, bytes date, bytes request_id, Outcome outcome) except -1:
    """The head for the client is in ANSWER; returns its size."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(head), at = 0, start, name_size, value, stop, used, j
    cdef Line line
    cdef const uint8_t *raw = <const uint8_t *> PyBytes_AS_STRING(head)
    cdef int status, framing
    cdef int64_t length = -1
    cdef bint has_date = False, close = False, keep, drop, upgrade = False
    cdef uint8_t c
    cdef bytes number
    if size < 5 or size > 65535:
        raise ResponseError(f"a response head of {size} bytes")
    # Status line: three digits, a blank and a reason (a missing reason is mended), no control characters
    if not (49 <= raw[0] <= 57 and 48 <= raw[1] <= 57 and 48 <= raw[2] <= 57):
        raise ResponseError(f"a status that is no status: {head[:40]!r}")
    status = (raw[0] - 48) * 100 + (raw[1] - 48) * 10 + (raw[2] - 48)
    if status < 200:
        raise ResponseError(f"status {status}, which is no final status")
    at = 3
    while at < size and KIND[raw[at]] & 2:
        at += 1
    if at + 1 >= size or raw[at] != 13 or raw[at + 1] != 10 or (at > 3 and raw[3] != 32):
        raise ResponseError(f"a malformed status line: {head[:80]!r}")
    used = copy(0, b"HTTP/1.1 ", 9)
    used = copy(used, <const char *> raw, at)
    if at == 3:
        used = copy(used, b" ", 1)
    used = copy(used, b"\r\n", 2)
    at += 2
    while at < size:
        at = field_line(head, at, &line)
        start = line.name
        name_size = line.name_size
        value = line.value
        stop = line.stop
        drop = False
        c = raw[start] | 32
        if c == c"c":
            if name_size == 14 and same(raw + start, 14, b"content-length", 14):
                if length >= 0:
                    raise ResponseError("two Content-Length headers")
                if stop == value or stop - value > 18:
                    raise ResponseError("a Content-Length that is no length")
                length = 0
                for j in range(value, stop):
                    if not 48 <= raw[j] <= 57:
                        raise ResponseError("a Content-Length that is no length")
                    length = length * 10 + (raw[j] - 48)
                drop = True
            elif name_size == 10 and same(raw + start, 10, b"connection", 10):
                close = close or has_token(raw + value, stop - value, b"close", 5)
                drop = True
                if not (
                    same(raw + value, stop - value, b"close", 5) or same(raw + value, stop - value, b"keep-alive", 10)
                ):
                    # It names fields, maybe one that has been copied already.
                    return put_head(without_named(head), flags, whole, date, request_id, outcome)
        elif c == c"d":
            has_date = has_date or (name_size == 4 and same(raw + start, 4, b"date", 4))
        elif c == c"t":
            drop = (
                same(raw + start, name_size, b"transfer-encoding", 17)
                or same(raw + start, name_size, b"te", 2)
                or (not flags & 16 and same(raw + start, name_size, b"trailer", 7))
            )
        elif c == c"k":
            drop = same(raw + start, name_size, b"keep-alive", 10)
        elif c == c"u":
            drop = same(raw + start, name_size, b"upgrade", 7)
            if drop and status == 426 and flags & 1 and not flags & 8:
                # RFC 9110, 15.5.22: such an answer must say to what.
                upgrade = True
                drop = False
        elif c == c"p":
            drop = same(raw + start, name_size, b"proxy-connection", 16)
        elif c == c"x":
            drop = PyBytes_GET_SIZE(request_id) and same(raw + start, name_size, b"x-request-id", 12)
        if not drop:
            if used + name_size + 2 + (stop - value) + 2 > 65536 + 64:
                raise ResponseError("a response head that does not fit")
            used = copy(used, <const char *> raw + start, name_size)
            used = copy(used, b": ", 2)
            used = copy(used, <const char *> raw + value, stop - value)
            used = copy(used, b"\r\n", 2)
    # From here on at most some 350 bytes are added; ANSWER has room for them.
    if not has_date and not flags & 8:
        used = copy(used, PyBytes_AS_STRING(date), PyBytes_GET_SIZE(date))
    if PyBytes_GET_SIZE(request_id):
        used = copy(used, b"X-Request-ID: ", 14)
        used = copy(used, PyBytes_AS_STRING(request_id), PyBytes_GET_SIZE(request_id))
        used = copy(used, b"\r\n", 2)
    keep = flags & 2 and not close
    if status == 204 or status == 304 or flags & 4:
        framing = NO_BODY
        if status == 204:
            length = -1
        elif status == 205:
            length = 0
    elif status == 205:
        # RFC 9110, 15.3.6: no content, and said so
        framing = NO_BODY
        length = 0
    elif length >= 0:
        framing = LENGTH
    elif whole >= 0:
        framing = LENGTH
        length = whole
    elif flags & 8:
        framing = UNTIL_CLOSE
    elif flags & 1:
        framing = CHUNKED
        used = copy(used, b"Transfer-Encoding: chunked\r\n", 28)
    else:
        framing = UNTIL_CLOSE
        keep = False
    if length >= 0:
        number = b"Content-Length: %d\r\n" % length
        used = copy(used, PyBytes_AS_STRING(number), PyBytes_GET_SIZE(number))
    if not flags & 8:
        if upgrade:
            if keep:
                used = copy(used, b"Connection: upgrade\r\n", 21)
            else:
                used = copy(used, b"Connection: close, upgrade\r\n", 28)
        elif not keep:
            used = copy(used, b"Connection: close\r\n", 19)
        elif not flags & 1:
            used = copy(used, b"Connection: keep-alive\r\n", 24)
    used = copy(used, b"\r\n", 2)
    outcome.status = status
    outcome.length = length
    outcome.framing = framing
    outcome.keep = keep
    outcome.head_bytes = used
    return used
