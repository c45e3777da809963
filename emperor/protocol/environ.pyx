# cython: language_level=3, boundscheck=False, wraparound=False
"""Between a REQUEST payload and a WSGI app: the packet to a CGI environ, ``start_response`` arguments to a response head."""
from cpython.bytes cimport PyBytes_FromStringAndSize, PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeLatin1
from libc.string cimport memchr

from emperor.protocol.errors import PacketError

# Keys repeat from request to request; the caps keep a client that invents header names from filling the worker's memory.
cdef dict KEYS = {}
cdef int KEYS_LIMIT = 2048
cdef int KEY_SIZE_LIMIT = 64


cpdef tuple environ(bytes payload):
    """REQUEST payload → ``(environ, offset of the body)``.

    Values are ISO 8859-1 ``str`` as PEP 3333 wants them. Raises PacketError when a length goes past the packet.
    """
    cdef Py_ssize_t size = PyBytes_GET_SIZE(payload)
    cdef unsigned char *at = <unsigned char *> PyBytes_AS_STRING(payload)
    cdef Py_ssize_t offset = 4, end, length
    cdef dict out = {}
    cdef bytes raw
    if size < 4:
        raise PacketError("a packet of less than 4 bytes")
    end = 4 + (at[1] | at[2] << 8)
    if end > size:
        raise PacketError(f"a packet that says {end - 4} bytes, but {size - 4} are there")
    while offset < end:
        if end - offset < 2:
            raise PacketError("a key length that goes past the packet")
        length = at[offset] | at[offset + 1] << 8
        offset += 2
        if length > end - offset:
            raise PacketError("a key that goes past the packet")
        raw = PyBytes_FromStringAndSize(<char *> at + offset, length)
        offset += length
        key = KEYS.get(raw)
        if key is None:
            key = raw.decode("latin-1")
            if len(KEYS) < KEYS_LIMIT and PyBytes_GET_SIZE(raw) <= KEY_SIZE_LIMIT:
                KEYS[raw] = key
        if end - offset < 2:
            raise PacketError("a value length that goes past the packet")
        length = at[offset] | at[offset + 1] << 8
        offset += 2
        if length > end - offset:
            raise PacketError("a value that goes past the packet")
        out[key] = PyUnicode_DecodeLatin1(<char *> at + offset, length, NULL)
        offset += length
    return out, end


cpdef bytes response_head(str status, list headers):
    """``("200 OK", [("A", "b")])`` → ``b"200 OK\\r\\nA: b\\r\\n"``.

    Raises ValueError or TypeError naming the header that cannot be sent: control characters would let a response be
    split (RFC 9110, 5.5); other checks are the router's, which trusts no worker.
    """
    cdef list parts = [status, "\r\n"]
    for item in headers:
        try:
            name, value = item
        except (TypeError, ValueError):
            raise TypeError(f"a response header must be a (name, value) pair, not {item!r}") from None
        if type(name) is not str or type(value) is not str:
            raise TypeError(f"name and value of a response header must be str, not {item!r}")
        parts.append(name)
        parts.append(": ")
        parts.append(value)
        parts.append("\r\n")
    try:
        out = "".join(parts).encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(_culprit(status, headers)) from None
    # One line end per header and none inside: cheaper to count once than to look at every value.
    if out.count(b"\n") != len(headers) + 1 or out.count(b"\r") != len(headers) + 1 or b"\0" in out:
        raise ValueError(_culprit(status, headers))
    return out


def _culprit(status, headers):
    for what, texts in [(f"response header {name!r}", (name, value)) for name, value in headers] + [("status", (status,))]:
        for text in texts:
            if any(character in text for character in "\r\n\0"):
                return f"the {what} holds a line end or NUL: {text!r}"
            if any(character > "\xff" for character in text):
                return f"the {what} holds a character outside ISO 8859-1: {text!r}"
    return "the response head cannot be encoded"
