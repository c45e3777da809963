# cython: language_level=3, boundscheck=False, wraparound=False
"""Between a REQUEST payload and a WSGI app: the packet to a CGI environ, ``start_response`` arguments to a response head."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from cpython.unicode cimport PyUnicode_DecodeLatin1, PyUnicode_GET_LENGTH
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp, memcpy

from emperor.protocol.errors import PacketError

cdef extern from "Python.h":
    int PyUnicode_KIND(object text)
    unsigned char *PyUnicode_1BYTE_DATA(object text)
    int PyUnicode_1BYTE_KIND

# Keys repeat from request to request. A table finds the `str` of one without making a bytes object to look it up by. The caps
# keep a client that invents header names from filling the worker's memory, and from making every look-up long.
cdef enum:
    TABLE_SIZE = 4096
    TABLE_LIMIT = 2048
    PROBES = 8
    KEY_SIZE_LIMIT = 64

cdef struct Entry:
    uint32_t hash
    PyObject *key          # a strong reference, never given back

cdef Entry TABLE[TABLE_SIZE]
cdef int table_used = 0


cdef object key_of(const uint8_t *raw, Py_ssize_t size):
    """The `str` of a key, ISO 8859-1."""
    global table_used
    cdef uint32_t hash = 2166136261u
    cdef Py_ssize_t i
    cdef int probe
    cdef Entry *entry
    if size > KEY_SIZE_LIMIT:
        return PyUnicode_DecodeLatin1(<const char *> raw, size, NULL)
    for i in range(size):
        hash = (hash ^ raw[i]) * 16777619u
    for probe in range(PROBES):
        entry = &TABLE[(hash + <uint32_t> probe) % TABLE_SIZE]
        if entry.key == NULL:
            key = PyUnicode_DecodeLatin1(<const char *> raw, size, NULL)
            if table_used < TABLE_LIMIT:
                table_used += 1
                Py_INCREF(key)
                entry.hash = hash
                entry.key = <PyObject *> key
            return key
        if (
            entry.hash == hash
            and PyUnicode_GET_LENGTH(<object> entry.key) == size
            and memcmp(PyUnicode_1BYTE_DATA(<object> entry.key), raw, size) == 0
        ):
            return <object> entry.key
    return PyUnicode_DecodeLatin1(<const char *> raw, size, NULL)


cdef str K_SCRIPT_NAME = "SCRIPT_NAME"
cdef str K_URL_SCHEME = "wsgi.url_scheme"
cdef frozenset YES = frozenset(("on", "1", "true", "yes", "https"))


cdef inline bint named(const uint8_t *raw, Py_ssize_t size, const char *name, Py_ssize_t name_size) noexcept:
    return size == name_size and memcmp(raw, name, size) == 0


cpdef tuple environ(bytes payload, dict wsgi=None):
    """REQUEST payload → ``(environ, offset of the body)``.

    Values are ISO 8859-1 ``str`` as PEP 3333 wants them. With ``wsgi``, the variables that are the same for every request,
    what PEP 3333 asks beyond the packet is done too: they are in the environ whatever the packet says, ``wsgi.url_scheme``
    follows HTTPS and REQUEST_SCHEME, SCRIPT_NAME is there, CONTENT_TYPE and CONTENT_LENGTH are there only when they say
    something, and never under the HTTP_ names that CGI forbids (nginx sends both). ``wsgi.input`` is left to the caller.
    Raises PacketError when a length goes past the packet.
    """
    cdef Py_ssize_t size = PyBytes_GET_SIZE(payload)
    cdef const uint8_t *at = <const uint8_t *> PyBytes_AS_STRING(payload)
    cdef const uint8_t *key_at
    cdef Py_ssize_t offset = 4, end, length, key_size
    cdef bint complete = wsgi is not None, has_script = False
    cdef dict out = wsgi.copy() if complete else {}
    cdef str https = None, scheme = None
    if size < 4:
        raise PacketError("a packet of less than 4 bytes")
    end = 4 + (at[1] | at[2] << 8)
    if end > size:
        raise PacketError(f"a packet that says {end - 4} bytes, but {size - 4} are there")
    while offset < end:
        if end - offset < 2:
            raise PacketError("a key length that goes past the packet")
        key_size = at[offset] | at[offset + 1] << 8
        offset += 2
        if key_size > end - offset:
            raise PacketError("a key that goes past the packet")
        key_at = at + offset
        offset += key_size
        if end - offset < 2:
            raise PacketError("a value length that goes past the packet")
        length = at[offset] | at[offset + 1] << 8
        offset += 2
        if length > end - offset:
            raise PacketError("a value that goes past the packet")
        value = PyUnicode_DecodeLatin1(<const char *> at + offset, length, NULL)
        offset += length
        if complete and key_size:
            # Few keys start so: the names are compared for those alone.
            if key_at[0] == c"C":
                if length == 0 and (
                    named(key_at, key_size, b"CONTENT_TYPE", 12) or named(key_at, key_size, b"CONTENT_LENGTH", 14)
                ):
                    continue
            elif key_at[0] == c"H":
                if named(key_at, key_size, b"HTTPS", 5):
                    https = value
                elif named(key_at, key_size, b"HTTP_CONTENT_TYPE", 17) or named(key_at, key_size, b"HTTP_CONTENT_LENGTH", 19):
                    continue
            elif key_at[0] == c"R":
                if named(key_at, key_size, b"REQUEST_SCHEME", 14):
                    scheme = value
            elif key_at[0] == c"S":
                has_script = has_script or named(key_at, key_size, b"SCRIPT_NAME", 11)
            elif key_at[0] == c"w":
                if key_of(key_at, key_size) in wsgi:
                    continue
        out[key_of(key_at, key_size)] = value
    if complete:
        if not has_script:
            out[K_SCRIPT_NAME] = ""
        if https is not None and https.lower() in YES:
            out[K_URL_SCHEME] = "https"
        elif scheme:
            out[K_URL_SCHEME] = scheme
    return out, end


# RFC 9110, 5.6.2: what a field's name may hold.
cdef bint TOKEN[256]
for _code in range(256):
    TOKEN[_code] = chr(_code) in "!#$%&'*+-.^_`|~" or (_code < 128 and chr(_code).isalnum())


cdef inline Py_ssize_t name_room(object text) except -1:
    """Bytes of a header's name; −1 and an exception when it is none."""
    cdef Py_ssize_t size, i
    cdef const unsigned char *raw
    if PyUnicode_KIND(text) != PyUnicode_1BYTE_KIND:
        raise ValueError
    size = PyUnicode_GET_LENGTH(text)
    raw = PyUnicode_1BYTE_DATA(text)
    if size == 0:
        raise ValueError
    for i in range(size):
        if not TOKEN[raw[i]]:
            raise ValueError
    return size


cdef inline bint is_status(object text) noexcept:
    """``200 OK``; the words may be missing. A 1xx is no answer to a request."""
    cdef const unsigned char *raw = PyUnicode_1BYTE_DATA(text)
    cdef Py_ssize_t size = PyUnicode_GET_LENGTH(text)
    return (
        size >= 3 and c"2" <= raw[0] <= c"9" and c"0" <= raw[1] <= c"9" and c"0" <= raw[2] <= c"9"
        and (size == 3 or raw[3] == c" ")
    )


cdef inline Py_ssize_t room(object text) except -1:
    """Bytes of an ISO 8859-1 text that may stand in a head; −1 and an exception for any other."""
    cdef Py_ssize_t size, i
    cdef const unsigned char *raw
    if PyUnicode_KIND(text) != PyUnicode_1BYTE_KIND:
        raise ValueError
    size = PyUnicode_GET_LENGTH(text)
    raw = PyUnicode_1BYTE_DATA(text)
    # RFC 9110, 5.5, and PEP 3333: no control characters. Some would let a response be split.
    for i in range(size):
        if (raw[i] < 32 and raw[i] != 9) or raw[i] == 127:
            raise ValueError
    return size


cdef inline char *put(char *to, object text) noexcept:
    cdef Py_ssize_t size = PyUnicode_GET_LENGTH(text)
    memcpy(to, PyUnicode_1BYTE_DATA(text), size)
    return to + size


cpdef bytes response_head(status, list headers):
    """``("200 OK", [("A", "b")])`` → ``b"200 OK\\r\\nA: b\\r\\n"``.

    A subclass of ``str`` is one (Django's SafeString). Raises ValueError or TypeError naming the header that cannot be sent, where
    the app's author can be told; the router trusts no worker and checks all the same.
    """
    cdef Py_ssize_t size
    cdef bytes out
    cdef char *to
    if not isinstance(status, str):
        raise TypeError(f"the status must be str, not {type(status).__name__}")
    for item in headers:
        # The usual case first; a list or a subclass of a tuple is as good.
        if type(item) is not tuple or len(<tuple> item) != 2:
            return response_head(status, [_pair(each) for each in headers])
        if not isinstance((<tuple> item)[0], str) or not isinstance((<tuple> item)[1], str):
            raise TypeError(f"name and value of a response header must be str, not {item!r}")
    try:
        size = room(status) + 2
        if not is_status(status):
            raise ValueError
        for item in headers:
            size += name_room((<tuple> item)[0]) + room((<tuple> item)[1]) + 4
    except ValueError:
        raise ValueError(_culprit(status, headers)) from None
    out = PyBytes_FromStringAndSize(NULL, size)
    to = put(PyBytes_AS_STRING(out), status)
    memcpy(to, b"\r\n", 2)
    to += 2
    for item in headers:
        to = put(to, (<tuple> item)[0])
        memcpy(to, b": ", 2)
        to = put(to + 2, (<tuple> item)[1])
        memcpy(to, b"\r\n", 2)
        to += 2
    return out


def _pair(item):
    try:
        name, value = item
    except (TypeError, ValueError):
        raise TypeError(f"a response header must be a (name, value) pair, not {item!r}") from None
    return name, value


def _culprit(status, headers):
    for what, texts in [(f"response header {name!r}", (name, value)) for name, value in headers] + [("status", (status,))]:
        for text in texts:
            if any(character in text for character in "\r\n\0"):
                return f"the {what} holds a line end or NUL: {text!r}"
            if any(character > "\xff" for character in text):
                return f"the {what} holds a character outside ISO 8859-1: {text!r}"
            if any((character < " " and character != "\t") or character == "\x7f" for character in text):
                return f"the {what} holds a control character: {text!r}"
    for name, _ in headers:
        if not name or not all(ord(character) < 256 and TOKEN[ord(character)] for character in name):
            return f"the response header {name!r} has a name that is none: letters, digits and !#$%&'*+-.^_`|~ (RFC 9110, 5.6.2)"
    if not is_status(status):
        return f"the status is {status!r}: three digits from 200 on, a space, and words expected"
    return "the response head cannot be encoded"
