# cython: language_level=3, boundscheck=False, wraparound=False
"""Between a REQUEST payload and an ASGI app: the packet to an HTTP scope, ``http.response.start`` to a response head.

The packet is CGI's, so the scope is made of what CGI keeps: names of fields in lower case, in the order of the packet, and
one field for each name (the router has joined those that were repeated, RFC 9110, 5.3).
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from cpython.unicode cimport PyUnicode_DecodeLatin1, PyUnicode_DecodeUTF8
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memcmp, memcpy

from emperor.protocol.errors import PacketError
from emperor.protocol.pairs cimport Pair, end_of, misfit, named, next_pair

# As in environ.pyx: names repeat from request to request, and clients that invent some must not fill the memory.
cdef enum:
    TABLE_SIZE = 4096
    TABLE_LIMIT = 2048
    PROBES = 8
    KEY_SIZE_LIMIT = 64

cdef struct Entry:
    uint32_t hash
    PyObject *name         # a strong reference, never given back

cdef Entry TABLE[TABLE_SIZE]
cdef int table_used = 0


cdef inline uint8_t lowered(uint8_t code) noexcept:
    if c"A" <= code <= c"Z":
        return code + 32
    return c"-" if code == c"_" else code


cdef bytes lower_name(const uint8_t *raw, Py_ssize_t size):
    cdef bytes out = PyBytes_FromStringAndSize(NULL, size)
    cdef char *to = PyBytes_AS_STRING(out)
    cdef Py_ssize_t i
    for i in range(size):
        to[i] = <char> lowered(raw[i])
    return out


cdef inline bint same(PyObject *name, const uint8_t *raw, Py_ssize_t size) noexcept:
    cdef const uint8_t *at = <const uint8_t *> PyBytes_AS_STRING(<object> name)
    cdef Py_ssize_t i
    if PyBytes_GET_SIZE(<object> name) != size:
        return False
    for i in range(size):
        if at[i] != lowered(raw[i]):
            return False
    return True


cdef bytes name_of(const uint8_t *raw, Py_ssize_t size):
    """``USER_AGENT`` → ``b"user-agent"``."""
    global table_used
    cdef uint32_t hash = 2166136261u
    cdef Py_ssize_t i
    cdef int probe
    cdef Entry *entry
    cdef bytes name
    if size > KEY_SIZE_LIMIT:
        return lower_name(raw, size)
    for i in range(size):
        hash = (hash ^ lowered(raw[i])) * 16777619u
    for probe in range(PROBES):
        entry = &TABLE[(hash + <uint32_t> probe) % TABLE_SIZE]
        if entry.name == NULL:
            name = lower_name(raw, size)
            if table_used < TABLE_LIMIT:
                table_used += 1
                Py_INCREF(name)
                entry.hash = hash
                entry.name = <PyObject *> name
            return name
        if entry.hash == hash and same(entry.name, raw, size):
            return <bytes> entry.name
    return lower_name(raw, size)


cdef object port_of(const uint8_t *raw, Py_ssize_t size):
    """None for what is no number of five digits at most."""
    cdef int port = 0
    cdef Py_ssize_t i
    if not 0 < size < 6:
        return None
    for i in range(size):
        if not c"0" <= raw[i] <= c"9":
            return None
        port = port * 10 + (raw[i] - c"0")
    return port


cdef frozenset YES = frozenset(("on", "1", "true", "yes", "https"))


# What the scopes of all requests have: a copy of a dict costs a third of what it takes to make one.
cdef dict TEMPLATE = {
    "type": "http",
    "asgi": None,
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "path": "",
    "raw_path": b"",
    "query_string": b"",
    "root_path": "",
    "headers": None,
    "client": None,
    "server": None,
    "state": None,
    "extensions": None,
}
cdef dict VERSIONS = {"version": "3.0", "spec_version": "2.5"}


cpdef tuple scope(bytes payload, dict state):
    """REQUEST payload → ``(scope of an http request, offset of the body)``. It gets a copy of ``state``, the lifespan's.

    ``path`` is SCRIPT_NAME and PATH_INFO together, ``root_path`` the first of them (asgiref, 2.5: a mount is part of the path).
    What is not UTF-8 in them becomes U+FFFD; ``raw_path`` has it as it came. Raises PacketError when a length goes past the
    packet.
    """
    cdef Py_ssize_t size = PyBytes_GET_SIZE(payload)
    cdef const uint8_t *at = <const uint8_t *> PyBytes_AS_STRING(payload)
    cdef const uint8_t *key
    cdef const uint8_t *value
    cdef const uint8_t *uri = NULL
    cdef const uint8_t *mark
    cdef const uint8_t *client_port = at
    cdef const uint8_t *server_port = at
    cdef const uint8_t *info = at
    cdef Py_ssize_t offset = 4, end = end_of(at, size), length, key_size, uri_size = 0, info_size = 0
    cdef Pair pair
    cdef const char *wrong
    cdef Py_ssize_t client_port_size = 0, server_port_size = 0
    cdef list headers = []
    cdef str method = "GET", scheme = None, https = None, root = "", version = None
    cdef dict found
    cdef str client_host = "", server_host = ""
    cdef bytes query = b"", raw
    if end < 0:
        raise PacketError(misfit(at, size))
    while offset < end:
        wrong = next_pair(at, &offset, end, &pair)
        if wrong != NULL:
            raise PacketError(wrong.decode())
        key, key_size, value, length = pair.key, pair.key_size, pair.value, pair.size
        if key_size < 5:
            continue
        if key_size > 5 and memcmp(key, b"HTTP_", 5) == 0:
            # CGI says these without the prefix; nginx sends both.
            if not named(key, key_size, b"HTTP_CONTENT_TYPE", 17) and not named(key, key_size, b"HTTP_CONTENT_LENGTH", 19):
                headers.append((name_of(key + 5, key_size - 5), PyBytes_FromStringAndSize(<const char *> value, length)))
        elif key[0] == c"C":
            if length and (named(key, key_size, b"CONTENT_TYPE", 12) or named(key, key_size, b"CONTENT_LENGTH", 14)):
                headers.append((name_of(key, key_size), PyBytes_FromStringAndSize(<const char *> value, length)))
        elif key[0] == c"R":
            if named(key, key_size, b"REQUEST_METHOD", 14):
                if not named(value, length, b"GET", 3):
                    method = PyUnicode_DecodeLatin1(<const char *> value, length, NULL)
            elif named(key, key_size, b"REQUEST_URI", 11):
                uri, uri_size = value, length
            elif named(key, key_size, b"REMOTE_ADDR", 11):
                client_host = PyUnicode_DecodeLatin1(<const char *> value, length, NULL)
            elif named(key, key_size, b"REMOTE_PORT", 11):
                client_port, client_port_size = value, length
            elif named(key, key_size, b"REQUEST_SCHEME", 14):
                if length and not named(value, length, b"http", 4):
                    scheme = PyUnicode_DecodeLatin1(<const char *> value, length, NULL)
        elif key[0] == c"S":
            if named(key, key_size, b"SERVER_NAME", 11):
                server_host = PyUnicode_DecodeLatin1(<const char *> value, length, NULL)
            elif named(key, key_size, b"SERVER_PORT", 11):
                server_port, server_port_size = value, length
            elif named(key, key_size, b"SERVER_PROTOCOL", 15):
                if named(value, length, b"HTTP/1.0", 8):
                    version = "1.0"
                elif length >= 6 and memcmp(value, b"HTTP/2", 6) == 0:
                    version = "2"
            elif named(key, key_size, b"SCRIPT_NAME", 11):
                root = PyUnicode_DecodeUTF8(<const char *> value, length, b"replace")
        elif named(key, key_size, b"PATH_INFO", 9):
            info, info_size = value, length
        elif named(key, key_size, b"QUERY_STRING", 12):
            query = PyBytes_FromStringAndSize(<const char *> value, length)
        elif named(key, key_size, b"HTTPS", 5):
            https = PyUnicode_DecodeLatin1(<const char *> value, length, NULL)
    if https is not None and https.lower() in YES:
        scheme = "https"
    if uri_size and (uri[0] == c"/" or uri[0] == c"*"):
        mark = <const uint8_t *> memchr(uri, c"?", uri_size)
        raw = PyBytes_FromStringAndSize(<const char *> uri, uri_size if mark == NULL else mark - uri)
    else:
        raw = PyBytes_FromStringAndSize(<const char *> info, info_size)
    path = PyUnicode_DecodeUTF8(<const char *> info, info_size, b"replace")
    found = TEMPLATE.copy()
    found["asgi"] = VERSIONS.copy()
    found["method"] = method
    found["path"] = root + path if root else path
    found["raw_path"] = raw
    found["query_string"] = query
    found["headers"] = headers
    found["state"] = state.copy()
    # All of it is the app's to change, and must not be another request's.
    found["extensions"] = {"http.response.early_hint": {}, "http.response.pathsend": {}, "http.response.trailers": {}}
    if version is not None:
        found["http_version"] = version
    if scheme is not None:
        found["scheme"] = scheme
    if root:
        found["root_path"] = root
    if client_host:
        found["client"] = (client_host, port_of(client_port, client_port_size) or 0)
    if server_host:
        found["server"] = (server_host, port_of(server_port, server_port_size))
    return found, end


# RFC 9110, 5.6.2: what a field's name may hold.
cdef bint TOKEN[256]
for _code in range(256):
    TOKEN[_code] = chr(_code) in "!#$%&'*+-.^_`|~" or (_code < 128 and chr(_code).isalnum())

cdef dict PHRASES = {
    200: b"200 OK", 201: b"201 Created", 202: b"202 Accepted", 203: b"203 Non-Authoritative Information",
    204: b"204 No Content", 205: b"205 Reset Content", 206: b"206 Partial Content", 207: b"207 Multi-Status",
    208: b"208 Already Reported", 226: b"226 IM Used",
    300: b"300 Multiple Choices", 301: b"301 Moved Permanently", 302: b"302 Found", 303: b"303 See Other",
    304: b"304 Not Modified", 305: b"305 Use Proxy", 307: b"307 Temporary Redirect", 308: b"308 Permanent Redirect",
    400: b"400 Bad Request", 401: b"401 Unauthorized", 402: b"402 Payment Required", 403: b"403 Forbidden",
    404: b"404 Not Found", 405: b"405 Method Not Allowed", 406: b"406 Not Acceptable",
    407: b"407 Proxy Authentication Required", 408: b"408 Request Timeout", 409: b"409 Conflict", 410: b"410 Gone",
    411: b"411 Length Required", 412: b"412 Precondition Failed", 413: b"413 Content Too Large",
    414: b"414 URI Too Long", 415: b"415 Unsupported Media Type", 416: b"416 Range Not Satisfiable",
    417: b"417 Expectation Failed", 418: b"418 I'm a Teapot", 421: b"421 Misdirected Request",
    422: b"422 Unprocessable Content", 423: b"423 Locked", 424: b"424 Failed Dependency", 425: b"425 Too Early",
    426: b"426 Upgrade Required", 428: b"428 Precondition Required", 429: b"429 Too Many Requests",
    431: b"431 Request Header Fields Too Large", 451: b"451 Unavailable For Legal Reasons",
    500: b"500 Internal Server Error", 501: b"501 Not Implemented", 502: b"502 Bad Gateway",
    503: b"503 Service Unavailable", 504: b"504 Gateway Timeout", 505: b"505 HTTP Version Not Supported",
    506: b"506 Variant Also Negotiates", 507: b"507 Insufficient Storage", 508: b"508 Loop Detected",
    510: b"510 Not Extended", 511: b"511 Network Authentication Required",
}

# The server's to say (RFC 9110, 7.6.1). ASGI lets an app send transfer-encoding, and has it ignored; the others are sent by
# many (`connection: keep-alive` with server-sent events), and mean nothing here either.
cdef frozenset IGNORED = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"te", b"trailer")
)


cdef inline int check(bytes name, bytes value) except -1:
    cdef const uint8_t *at = <const uint8_t *> PyBytes_AS_STRING(name)
    cdef Py_ssize_t i, size = PyBytes_GET_SIZE(name)
    if size == 0:
        raise ValueError("a response header has no name")
    for i in range(size):
        if not TOKEN[at[i]]:
            raise ValueError(
                f"the response header {name!r} has a name that is none: letters, digits and !#$%&'*+-.^_`|~ (RFC 9110, 5.6.2)"
            )
    at = <const uint8_t *> PyBytes_AS_STRING(value)
    for i in range(PyBytes_GET_SIZE(value)):
        # RFC 9110, 5.5. Some would let a response be split.
        if (at[i] < 32 and at[i] != 9) or at[i] == 127:
            raise ValueError(f"the response header {name!r} holds a control character: {value!r}")
    return 0


cdef tuple as_bytes(item):
    try:
        name, value = item
    except (TypeError, ValueError):
        raise TypeError(f"a response header must be a [name, value] pair of bytes, not {item!r}") from None
    if not isinstance(name, (bytes, bytearray, memoryview)) or not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"name and value of a response header must be bytes, not {item!r}")
    return bytes(name), bytes(value)


cpdef bytes field_lines(headers):
    """``[[b"a", b"b"]]`` → ``b"a: b\\r\\n"``. Raises ValueError or TypeError naming what cannot be sent."""
    cdef list parts = []
    cdef bytes name, value
    for item in headers:
        name, value = as_bytes(item)
        check(name, value)
        parts.append(b"%b: %b\r\n" % (name, value))
    return b"".join(parts)


cpdef tuple response_head(status, headers):
    """``(200, [[b"a", b"b"]])`` → ``(b"200 OK\\r\\na: b\\r\\n", declared content-length or −1)``.

    Hop-by-hop fields are left out. Raises ValueError or TypeError naming what cannot be sent; the router trusts no worker and
    checks all the same.
    """
    cdef list names = []
    cdef bytes line, name, value, out
    cdef Py_ssize_t size, i
    cdef long long length = -1, declared
    cdef char *to
    if not isinstance(status, int):
        raise TypeError(f"the status must be an int, not {status!r}")
    line = PHRASES.get(int(status))
    if line is None:
        if not 200 <= status <= 999:
            raise ValueError(f"the status is {int(status)}: 200 to 999 expected (103 is http.response.early_hint)")
        line = b"%d " % int(status)
    size = PyBytes_GET_SIZE(line) + 2
    for item in headers:
        if type(item) is tuple and len(<tuple> item) == 2:
            first, second = (<tuple> item)[0], (<tuple> item)[1]
        elif type(item) is list and len(<list> item) == 2:
            first, second = (<list> item)[0], (<list> item)[1]
        else:
            first, second = as_bytes(item)
        if type(first) is not bytes or type(second) is not bytes:
            first, second = as_bytes((first, second))
        name, value = <bytes> first, <bytes> second
        check(name, value)
        if PyBytes_GET_SIZE(name) < 18 and 0x34484 >> PyBytes_GET_SIZE(name) & 1:
            # A bit for each length that a name in IGNORED has, and content-length.
            lower = name.lower()
            if lower == b"content-length":
                declared = length_of(value)
                if length not in (-1, declared):
                    raise ValueError(f"content-length is given twice, as {length} and as {declared}")
                if length >= 0:
                    continue
                length = declared
            elif lower in IGNORED:
                continue
        size += PyBytes_GET_SIZE(name) + PyBytes_GET_SIZE(value) + 4
        names.append(name)
        names.append(value)
    out = PyBytes_FromStringAndSize(NULL, size)
    to = PyBytes_AS_STRING(out)
    memcpy(to, PyBytes_AS_STRING(line), PyBytes_GET_SIZE(line))
    to += PyBytes_GET_SIZE(line)
    memcpy(to, b"\r\n", 2)
    to += 2
    for i in range(0, len(names), 2):
        name, value = <bytes> names[i], <bytes> names[i + 1]
        memcpy(to, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))
        to += PyBytes_GET_SIZE(name)
        memcpy(to, b": ", 2)
        to += 2
        memcpy(to, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
        to += PyBytes_GET_SIZE(value)
        memcpy(to, b"\r\n", 2)
        to += 2
    return out, length


cdef long long length_of(bytes value) except -1:
    text = value.strip(b" \t")
    if not text.isdigit() or len(text) > 18:
        raise ValueError(f"content-length is {value!r}; a number of bytes expected")
    return int(text)
