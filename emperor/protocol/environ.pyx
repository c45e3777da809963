# cython: language_level=3, boundscheck=False, wraparound=False
"""Between a REQUEST payload and a WSGI app: the packet to a CGI environ, ``start_response`` arguments to a response head."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.unicode cimport PyUnicode_DecodeLatin1, PyUnicode_GET_LENGTH
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from emperor.protocol.errors import PacketError
from emperor.protocol.pairs cimport Pair, end_of, misfit, named, next_pair

cdef extern from "Python.h":
    int PyUnicode_KIND(object text)
    unsigned char *PyUnicode_1BYTE_DATA(object text)
    int PyUnicode_1BYTE_KIND

# Keys repeat from request to request, and so do most values: method, protocol, host, what a browser says of itself. A table finds the
# `str` of a key without making a bytes object to look it up by, and keeps the value that it had last: to compare is a third of what it
# costs to make one. The caps keep a client that invents names from filling the worker's memory, and from making every look-up long.
cdef enum:
    TABLE_SIZE = 4096
    TABLE_LIMIT = 2048
    PROBES = 8
    KEY_SIZE_LIMIT = 64
    VALUE_SIZE_LIMIT = 128

cdef enum Kind:
    PLAIN
    NOT_EMPTY          # there only when it says something
    FORBIDDEN          # by CGI, under this name
    HTTPS
    SCHEME
    SCRIPT
    OURS               # perhaps: it starts as they do

cdef struct Entry:
    uint32_t hash
    Kind kind
    PyObject *key          # a strong reference, never given back
    PyObject *value        # a strong reference, or NULL

cdef Entry TABLE[TABLE_SIZE]
cdef int table_used = 0


cdef inline uint64_t word_at(const uint8_t *raw) noexcept:
    cdef uint64_t word
    memcpy(&word, raw, 8)
    return word


cdef inline uint32_t hash_of(const uint8_t *raw, Py_ssize_t size) noexcept:
    cdef uint64_t mixed = <uint64_t> size * 0x9E3779B97F4A7C15u
    cdef Py_ssize_t i = 0
    if size < 8:
        for i in range(size):
            mixed = mixed << 8 ^ raw[i] ^ mixed >> 56
    else:
        while i < size - 8:
            mixed = (mixed ^ word_at(raw + i)) * 0x9E3779B97F4A7C15u
            mixed ^= mixed >> 29
            i += 8
        mixed ^= word_at(raw + size - 8)
    mixed *= 0x9E3779B97F4A7C15u
    return <uint32_t> (mixed >> 32)


cdef Kind kind_of(const uint8_t *raw, Py_ssize_t size) noexcept:
    if named(raw, size, b"CONTENT_TYPE", 12) or named(raw, size, b"CONTENT_LENGTH", 14):
        return NOT_EMPTY
    if named(raw, size, b"HTTP_CONTENT_TYPE", 17) or named(raw, size, b"HTTP_CONTENT_LENGTH", 19):
        return FORBIDDEN
    if named(raw, size, b"HTTPS", 5):
        return HTTPS
    if named(raw, size, b"REQUEST_SCHEME", 14):
        return SCHEME
    if named(raw, size, b"SCRIPT_NAME", 11):
        return SCRIPT
    return OURS if size and raw[0] == c"w" else PLAIN


cdef inline bint is_text(PyObject *text, const uint8_t *raw, Py_ssize_t size) noexcept:
    return (
        PyUnicode_GET_LENGTH(<object> text) == size and memcmp(PyUnicode_1BYTE_DATA(<object> text), raw, size) == 0
    )


cdef Entry *entry_of(const uint8_t *raw, Py_ssize_t size) except? NULL:
    """The place of a key in the table; NULL: it has none."""
    global table_used
    cdef uint32_t hash
    cdef int probe
    cdef Entry *entry
    if size > KEY_SIZE_LIMIT:
        return NULL
    hash = hash_of(raw, size)
    for probe in range(PROBES):
        entry = &TABLE[(hash + <uint32_t> probe) % TABLE_SIZE]
        if entry.key == NULL:
            if table_used == TABLE_LIMIT:
                return NULL
            key = PyUnicode_DecodeLatin1(<const char *> raw, size, NULL)
            table_used += 1
            Py_INCREF(key)
            entry.hash = hash
            entry.kind = kind_of(raw, size)
            entry.key = <PyObject *> key
            return entry
        if entry.hash == hash and is_text(entry.key, raw, size):
            return entry
    return NULL


cdef inline object value_of(Entry *entry, const uint8_t *raw, Py_ssize_t size):
    cdef PyObject *before = entry.value
    # Of one byte or none there is one `str` for all.
    if size < 2 or size > VALUE_SIZE_LIMIT:
        return PyUnicode_DecodeLatin1(<const char *> raw, size, NULL)
    if before != NULL and is_text(before, raw, size):
        return <object> before
    value = PyUnicode_DecodeLatin1(<const char *> raw, size, NULL)
    Py_INCREF(value)
    entry.value = <PyObject *> value
    Py_XDECREF(before)
    return value


cdef str K_SCRIPT_NAME = "SCRIPT_NAME"
cdef str K_URL_SCHEME = "wsgi.url_scheme"
cdef frozenset YES = frozenset(("on", "1", "true", "yes", "https"))


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
    cdef Py_ssize_t offset = 4, end = end_of(at, size)
    cdef Pair pair
    cdef const char *wrong
    cdef bint complete = wsgi is not None, has_script = False
    cdef dict out = wsgi.copy() if complete else {}
    cdef str https = None, scheme = None
    cdef Entry *entry
    cdef Kind kind
    if end < 0:
        raise PacketError(misfit(at, size))
    while offset < end:
        wrong = next_pair(at, &offset, end, &pair)
        if wrong != NULL:
            raise PacketError(wrong.decode())
        entry = entry_of(pair.key, pair.key_size)
        if entry == NULL:
            kind = kind_of(pair.key, pair.key_size)
            key = PyUnicode_DecodeLatin1(<const char *> pair.key, pair.key_size, NULL)
            value = PyUnicode_DecodeLatin1(<const char *> pair.value, pair.size, NULL)
        else:
            kind = entry.kind
            key = <object> entry.key
            value = value_of(entry, pair.value, pair.size)
        if complete and kind != PLAIN:
            if kind == FORBIDDEN or (kind == NOT_EMPTY and not pair.size) or (kind == OURS and key in wsgi):
                continue
            if kind == HTTPS:
                https = value
            elif kind == SCHEME:
                scheme = value
            elif kind == SCRIPT:
                has_script = True
        out[key] = value
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


cpdef int code_of(object status) except -1:
    """``"200 OK"``, which ``response_head`` has taken, as a number."""
    cdef const unsigned char *raw = PyUnicode_1BYTE_DATA(status)
    return (raw[0] - c"0") * 100 + (raw[1] - c"0") * 10 + raw[2] - c"0"


cpdef long long count_of(str text) except -2:
    """A number of bytes in plain digits; −1 when it is none, or so long that it should be looked at again."""
    cdef Py_ssize_t size = PyUnicode_GET_LENGTH(text), i
    cdef const unsigned char *raw = PyUnicode_1BYTE_DATA(text)
    cdef long long count = 0
    if not 0 < size <= 15 or PyUnicode_KIND(text) != PyUnicode_1BYTE_KIND:
        return -1
    for i in range(size):
        if not c"0" <= raw[i] <= c"9":
            return -1
        count = count * 10 + raw[i] - c"0"
    return count


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
