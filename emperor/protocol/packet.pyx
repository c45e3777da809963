# cython: language_level=3, boundscheck=False, wraparound=False
"""uwsgi packets (uWSGI ``proto/uwsgi.c``): 4 bytes, then ``u16 length, key, u16 length, value`` pairs.

``encode`` and ``decode`` are the plain codec. ``admit`` is what an incoming packet must pass before anything of it
reaches a worker: it applies the same header policy as the HTTP front end and returns the same ``RequestHead``.
"""
import os

from cpython.bytes cimport PyBytes_FromStringAndSize, PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport malloc
from libc.string cimport memcpy, memcmp

from emperor.protocol.errors import PacketError
from emperor.protocol.pairs cimport Pair, end_of, misfit, next_pair

cdef extern from "arpa/inet.h" nogil:
    int AF_INET6
    int inet_pton(int family, const char *text, void *address)

HEADER_SIZE = 4

cdef bytes ID_KEY = b"HTTP_X_REQUEST_ID"
cdef bytes ID_CHARACTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"

cdef class RequestHead:
    """One admitted request, whatever protocol it came by.

    ``packet`` is the whole uwsgi packet for the worker. ``host`` is lower-cased and without a port; ``path`` is decoded.
    ``content_length`` is −1 when the body is chunked. ``forwarded``: it has fields in which a proxy speaks of its client.
    ``takes_trailers``: the client has said that it reads them. ``websocket``: it asks for an Upgrade to that.
    """

    def __repr__(self):
        return f"<RequestHead {self.method!r} {self.host!r} {self.path!r}>"


cdef void put_raw(Writer *out, const char *raw, Py_ssize_t size) noexcept:
    if out.used + size > PACKET_LIMIT + 4:
        out.full = True
        return
    memcpy(out.at + out.used, raw, size)
    out.used += size


cdef void put_text(Writer *out, const char *raw, Py_ssize_t size) noexcept:
    if out.used + 2 + size > PACKET_LIMIT + 4:
        out.full = True
        return
    out.at[out.used] = <uint8_t> (size & 255)
    out.at[out.used + 1] = <uint8_t> (size >> 8)
    memcpy(out.at + out.used + 2, raw, size)
    out.used += 2 + size


cdef bytes finish(Writer *out):
    cdef Py_ssize_t size = out.used - 4
    out.at[0] = 0
    out.at[1] = <uint8_t> (size & 255)
    out.at[2] = <uint8_t> (size >> 8)
    out.at[3] = 0
    return PyBytes_FromStringAndSize(<char *> out.at, out.used)


cdef bint is_idempotent(const char *method, Py_ssize_t size) noexcept:
    # RFC 9110, 9.2.2
    if size == 3:
        return memcmp(method, b"GET", 3) == 0 or memcmp(method, b"PUT", 3) == 0
    if size == 4:
        return memcmp(method, b"HEAD", 4) == 0
    if size == 5:
        return memcmp(method, b"TRACE", 5) == 0
    if size == 6:
        return memcmp(method, b"DELETE", 6) == 0
    if size == 7:
        return memcmp(method, b"OPTIONS", 7) == 0
    return False


cdef bytes plain_host(const char *raw, Py_ssize_t size):
    """Lower-case, without the port and a final dot; None when it is no host (RFC 9110, 7.2; RFC 3986, 3.2.2 and 3.2.3)."""
    cdef Py_ssize_t i, end = size
    cdef int port = 0
    cdef uint8_t c
    cdef bytes address
    cdef char parsed[16]
    if size == 0:
        return b""
    if raw[0] == c"[":
        i = 1
        while i < size and raw[i] != c"]":
            i += 1
        if i >= size:
            return None
        end = i + 1
        address = PyBytes_FromStringAndSize(raw + 1, i - 1)
        if 0 in address or inet_pton(AF_INET6, PyBytes_AS_STRING(address), parsed) != 1:
            return None
    else:
        for i in range(size):
            c = <uint8_t> raw[i]
            if c == c":":
                end = i
                break
            if not (c"a" <= c <= c"z" or c"A" <= c <= c"Z" or c"0" <= c <= c"9" or c == c"." or c == c"-" or c == c"_"):
                return None
    if end < size:
        if raw[end] != c":" or end == 0 or size - end > 6:
            return None
        for i in range(end + 1, size):
            if not c"0" <= raw[i] <= c"9":
                return None
            port = port * 10 + raw[i] - 48
        if port > 65535 or port == 0 and size - end > 1:
            return None
    if end > 1 and raw[end - 1] == c".":
        end -= 1
    return PyBytes_FromStringAndSize(raw, end).lower()


cpdef bytes host_of(bytes text):
    """The host of a Host field, lower-case, without its port; None when it is no host. Empty names nobody."""
    return plain_host(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))


cdef bint speaks_for_others(const uint8_t *name, Py_ssize_t size) noexcept:
    """A field, as a CGI name without HTTP_, in which a proxy tells of its client: believed from whom the operator trusts,
    and otherwise a forgery."""
    return (
        size >= 12 and memcmp(name, b"X_FORWARDED_", 12) == 0
        or size == 9 and (memcmp(name, b"FORWARDED", 9) == 0 or memcmp(name, b"X_REAL_IP", 9) == 0)
    )


def encode(pairs, int modifier1=0, int modifier2=0):
    """``[(key, value), …]`` of bytes → one packet. Raises ValueError when it does not fit."""
    out = []
    for key, value in pairs:
        if len(key) > 65535 or len(value) > 65535:
            raise ValueError(f"{key[:40]!r}: a key or value of more than 65535 bytes")
        out.append(len(key).to_bytes(2, "little") + key + len(value).to_bytes(2, "little") + value)
    block = b"".join(out)
    if len(block) > 65535:
        raise ValueError(f"a block of {len(block)} bytes; at most 65535 fit into a packet")
    return bytes((modifier1,)) + len(block).to_bytes(2, "little") + bytes((modifier2,)) + block


def tell_length(RequestHead head, long long size):
    """Make a request whose chunked body has been read to its end one of known length: CONTENT_LENGTH in place of
    HTTP_TRANSFER_ENCODING, since an app that saw both could believe either. Nothing changes when it does not fit."""
    pairs = [pair for pair in decode(head.packet)[2] if pair[0] != b"HTTP_TRANSFER_ENCODING"]
    try:
        head.packet = encode([*pairs, (b"CONTENT_LENGTH", b"%d" % size)])
    except ValueError:
        return
    head.content_length = size


cdef uint64_t LAST = int.from_bytes(os.urandom(8), "little")


cdef uint64_t another() noexcept:
    # splitmix64: unique among 2⁶⁴ per process, at the price of some shifts. An id is no secret.
    global LAST
    cdef uint64_t x
    LAST += 0x9E3779B97F4A7C15u
    x = LAST
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u
    x = (x ^ x >> 27) * 0x94D049BB133111EBu
    return x ^ x >> 31


cpdef bytes new_id():
    """A name for one request: 32 hexadecimal digits, as a trace id of W3C's has."""
    cdef char digits[32]
    cdef uint64_t bits = 0
    cdef int i
    for i in range(32):
        if i % 16 == 0:
            bits = another()
        digits[i] = b"0123456789abcdef"[bits & 15]
        bits >>= 4
    return PyBytes_FromStringAndSize(digits, 32)


cpdef bytes identify(RequestHead head, bint believed):
    """Give a request its id, as HTTP_X_REQUEST_ID, and return it. What the client named it counts only where `believed`, and
    if it is 1 to 128 of ``A-Z a-z 0-9 . _ -``. A packet without room for it stays as it is.
    """
    cdef bytes given, made, whole
    cdef Py_ssize_t size = PyBytes_GET_SIZE(head.packet), block
    cdef char *at
    cdef dict pairs
    if ID_KEY in head.packet:
        pairs = variables(head.packet)
        given = pairs.get(ID_KEY, b"")
        if believed and 0 < len(given) <= 128 and not given.translate(None, ID_CHARACTERS):
            return given
        made = new_id()
        pairs[ID_KEY] = made
        try:
            head.packet = written(pairs)
        except PacketError:
            # Ours is longer than the client's. What it called its request must not be taken for ours.
            del pairs[ID_KEY]
            head.packet = written(pairs)
        return made
    made = new_id()
    block = size - 4 + 2 + 17 + 2 + 32
    if block <= PACKET_LIMIT:
        whole = PyBytes_FromStringAndSize(NULL, block + 4)
        at = PyBytes_AS_STRING(whole)
        memcpy(at, PyBytes_AS_STRING(head.packet), size)
        at[1] = <char> (block & 255)
        at[2] = <char> (block >> 8)
        at[size] = 17
        at[size + 1] = 0
        memcpy(at + size + 2, PyBytes_AS_STRING(ID_KEY), 17)
        at[size + 19] = 32
        at[size + 20] = 0
        memcpy(at + size + 21, PyBytes_AS_STRING(made), 32)
        head.packet = whole
    return made


def encode_vars(pairs):
    """The pairs alone, without the header: what a listener and a connection put in front of every request."""
    return encode(pairs)[4:]


def decode(bytes packet):
    """One whole packet → ``(modifier1, modifier2, [(key, value), …])``. Raises PacketError."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(packet)
    cdef const uint8_t *at = <const uint8_t *> PyBytes_AS_STRING(packet)
    if size < 4:
        raise PacketError(misfit(at, size), 0)
    if end_of(at, size) != size:
        raise PacketError(misfit(at, size))
    return packet[0], packet[3], _pairs(packet, 4)


cdef list _pairs(bytes packet, Py_ssize_t offset):
    cdef Py_ssize_t end = PyBytes_GET_SIZE(packet)
    cdef const uint8_t *at = <const uint8_t *> PyBytes_AS_STRING(packet)
    cdef const char *wrong
    cdef Pair pair
    cdef list found = []
    while offset < end:
        wrong = next_pair(at, &offset, end, &pair)
        if wrong != NULL:
            raise PacketError(wrong.decode())
        key = PyBytes_FromStringAndSize(<const char *> pair.key, pair.key_size)
        found.append((key, PyBytes_FromStringAndSize(<const char *> pair.value, pair.size)))
    return found


cdef Writer OUT
OUT.at = <uint8_t *> malloc(PACKET_LIMIT + 16)
OUT.used = 0
OUT.full = False

# What the front end decides itself, or what would reach over a trust border (docs/specs/bad-input.md).
cdef frozenset DROPPED = frozenset((
    b"HTTP_PROXY", b"HTTP_TRANSFER_ENCODING", b"HTTP_CONTENT_LENGTH", b"HTTP_CONNECTION", b"HTTP_KEEP_ALIVE",
    b"HTTP_PROXY_CONNECTION", b"HTTP_TE", b"HTTP_TRAILER", b"HTTP_UPGRADE", b"HTTP_EXPECT",
))


# RFC 9110, 5.6.2
cdef bytes TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


cdef bint good_key(const uint8_t *raw, Py_ssize_t size) noexcept:
    cdef Py_ssize_t i
    cdef uint8_t c
    if size == 0 or not c"A" <= raw[0] <= c"Z":
        return False
    for i in range(1, size):
        c = raw[i]
        if not (c"A" <= c <= c"Z" or c"0" <= c <= c"9" or c == c"_"):
            return False
    return True


cdef bint good_value(const uint8_t *raw, Py_ssize_t size) noexcept:
    """What may stand in a header's value (RFC 9110, 5.5)."""
    cdef Py_ssize_t i
    for i in range(size):
        if raw[i] < 32 and raw[i] != 9 or raw[i] == 127:
            return False
    return True


# What a front server that is not trusted may say beside HTTP_*: the request, as any client could put it. All else is who the
# client is, how he came, and what he has proved, under names that no list can end: REDIRECT_REMOTE_USER, OIDC_CLAIM_EMAIL…
cdef frozenset FROM_ANYBODY = frozenset((
    b"REQUEST_METHOD", b"REQUEST_URI", b"PATH_INFO", b"SCRIPT_NAME", b"QUERY_STRING", b"CONTENT_TYPE", b"CONTENT_LENGTH",
    b"SERVER_NAME", b"SERVER_PORT", b"SERVER_PROTOCOL",
))

# Variables of one line, which apps put into headers and logs. A path is decoded, and may hold what it likes but NUL.
cdef frozenset OF_ONE_LINE = frozenset((
    b"REQUEST_URI", b"QUERY_STRING", b"CONTENT_TYPE", b"SERVER_NAME", b"SERVER_PORT", b"SERVER_PROTOCOL", b"REMOTE_ADDR",
    b"REMOTE_PORT", b"REMOTE_USER", b"REQUEST_SCHEME",
))


cdef bint keeps(bytes key, bint trusted):
    """Whether a variable with a good key goes on to the app."""
    cdef const uint8_t *at = <const uint8_t *> PyBytes_AS_STRING(key)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(key)
    if key in DROPPED:
        return False
    if trusted:
        return True
    if size > 5 and memcmp(at, b"HTTP_", 5) == 0:
        return not speaks_for_others(at + 5, size - 5)
    return key in FROM_ANYBODY


cpdef RequestHead admit(bytes packet, bytes instead=None):
    """An incoming uwsgi packet (whole, modifier1 0) → RequestHead. Raises PacketError.

    Keys that are not ``[A-Z][A-Z0-9_]*`` are dropped, so are ``UWSGI_*`` (uWSGI loads code for some of them) and what
    speaks of the connection to the front server. The last of equal keys wins, as in uWSGI, except that two different
    CONTENT_LENGTH are refused.

    ``instead`` None: from a trusted front server, whose UWSGI_FASTROUTER_KEY names the host to route by. Otherwise what is
    not of the request itself is dropped, and these variables (``encode_vars``) stand instead.
    """
    cdef Py_ssize_t end = PyBytes_GET_SIZE(packet), offset = 4
    cdef const uint8_t *at = <const uint8_t *> PyBytes_AS_STRING(packet)
    cdef Pair pair
    cdef const char *wrong
    cdef bytes key, value, content_length = None, route = None
    cdef bint websocket = False, upgrade = False
    cdef dict seen = {}
    cdef RequestHead head
    cdef bint trusted = instead is None
    if end_of(at, end) != end:
        raise PacketError("a packet whose size does not fit its bytes")
    while offset < end:
        wrong = next_pair(at, &offset, end, &pair)
        if wrong != NULL:
            raise PacketError(wrong.decode())
        if pair.key_size == 0:
            raise PacketError("an empty key")
        key = None
        if good_key(pair.key, pair.key_size):
            key = PyBytes_FromStringAndSize(<const char *> pair.key, pair.key_size)
        if key is None:
            pass
        elif PyBytes_GET_SIZE(key) > 5 and memcmp(PyBytes_AS_STRING(key), b"UWSGI_", 6) == 0:
            if trusted and key == b"UWSGI_FASTROUTER_KEY":
                route = PyBytes_FromStringAndSize(<const char *> pair.value, pair.size)
        elif keeps(key, trusted):
            if (
                PyBytes_GET_SIZE(key) > 4 and memcmp(PyBytes_AS_STRING(key), b"HTTP_", 5) == 0 or key in OF_ONE_LINE
            ) and not good_value(pair.value, pair.size):
                raise PacketError(f"a control character in {key[:80]!r}")
            value = PyBytes_FromStringAndSize(<const char *> pair.value, pair.size)
            if key == b"CONTENT_LENGTH":
                if content_length is not None and content_length != value:
                    raise PacketError("two different CONTENT_LENGTH")
                content_length = value
            seen[key] = value
        elif key == b"HTTP_UPGRADE":
            websocket = listed(pair.value, pair.size, b"websocket")
        elif key == b"HTTP_CONNECTION":
            upgrade = listed(pair.value, pair.size, b"upgrade")

    method = seen.get(b"REQUEST_METHOD", b"")
    if not method or len(method) > 32 or not method.isalpha() and method.translate(None, TOKEN):
        raise PacketError(f"REQUEST_METHOD {method[:40]!r} is no method")
    if method == b"CONNECT":
        raise PacketError("CONNECT, which only a proxy can answer", 501)
    if content_length:
        if not content_length.isdigit() or len(content_length) > 18:
            raise PacketError(f"CONTENT_LENGTH {content_length[:40]!r} is no length")
    if b"\0" in seen.get(b"PATH_INFO", b"") or b"\0" in seen.get(b"SCRIPT_NAME", b""):
        raise PacketError("a NUL in PATH_INFO or SCRIPT_NAME")
    what = "UWSGI_FASTROUTER_KEY" if route else "HTTP_HOST"
    host = route or seen.get(b"HTTP_HOST") or seen.get(b"SERVER_NAME") or b""
    head = RequestHead.__new__(RequestHead)
    head.host = plain_host(PyBytes_AS_STRING(host), PyBytes_GET_SIZE(host))
    if head.host is None:
        raise PacketError(f"{what} {host[:80]!r} is no host")
    if not trusted:
        seen.update(_pairs(instead, 0))
    # CGI variables that a WSGI app may rely on (PEP 3333); a front server's stock parameters do not send SCRIPT_NAME.
    seen.setdefault(b"SCRIPT_NAME", b"")
    seen.setdefault(b"PATH_INFO", b"")
    seen.setdefault(b"QUERY_STRING", b"")
    seen.setdefault(b"SERVER_NAME", head.host or b"localhost")
    seen.setdefault(b"SERVER_PORT", b"80")
    seen.setdefault(b"SERVER_PROTOCOL", b"HTTP/1.1")
    head.packet = written(seen)
    head.method = method
    head.path = seen[b"PATH_INFO"]
    head.content_length = int(content_length) if content_length else 0
    head.chunked = False
    head.keep_alive = False
    head.expect_continue = False
    head.http11 = True
    head.is_head = method == b"HEAD"
    head.idempotent = is_idempotent(PyBytes_AS_STRING(method), PyBytes_GET_SIZE(method))
    head.forwarded = False
    # As over HTTP (RFC 6455, 4.2.1). nginx passes a 101 on, and from then on bytes both ways.
    head.websocket = (
        websocket and upgrade and method == b"GET" and not head.content_length
        and seen[b"SERVER_PROTOCOL"] == b"HTTP/1.1"
    )
    return head


cdef bint listed(const uint8_t *raw, Py_ssize_t size, bytes name):
    """``name`` is in a list between commas (RFC 9110, 5.6.1)."""
    return name in [each.strip(b" \t").lower() for each in PyBytes_FromStringAndSize(<const char *> raw, size).split(b",")]


cdef bytes written(dict pairs):
    """The packet of these variables. Raises PacketError, 431, when they do not fit."""
    cdef bytes key, value
    OUT.used = 4
    OUT.full = False
    for key, value in pairs.items():
        put_text(&OUT, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
        put_text(&OUT, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
    if OUT.full:
        raise PacketError("the variables do not fit into a packet of 65535 bytes", 431)
    return finish(&OUT)


cpdef dict variables(bytes packet):
    """The variables of a packet of ours, the last of equal keys."""
    return dict(_pairs(packet, 4))


cpdef RequestHead altered(RequestHead head, dict changes):
    """The same request with some variables set, or with None removed. Raises PacketError, 431, when they do not fit, and
    400 for a HTTP_HOST that is no host.

    HTTP_HOST changes what is routed by, PATH_INFO does not: who moves a prefix into SCRIPT_NAME has already been routed to.
    """
    cdef dict pairs = variables(head.packet)
    cdef RequestHead made = RequestHead.__new__(RequestHead)
    cdef bytes host
    for key, value in changes.items():
        if value is None:
            pairs.pop(key, None)
        else:
            pairs[key] = value
    made.host = head.host
    if b"HTTP_HOST" in changes:
        host = pairs.get(b"HTTP_HOST", b"")
        made.host = plain_host(PyBytes_AS_STRING(host), PyBytes_GET_SIZE(host))
        if made.host is None:
            raise PacketError(f"{host[:80]!r} is no host")
    made.packet = written(pairs)
    made.method = head.method
    made.path = head.path
    made.content_length = head.content_length
    made.chunked = head.chunked
    made.keep_alive = head.keep_alive
    made.expect_continue = head.expect_continue
    made.http11 = head.http11
    made.is_head = head.is_head
    made.idempotent = head.idempotent
    made.takes_trailers = head.takes_trailers
    made.websocket = head.websocket
    made.forwarded = head.forwarded
    return made
