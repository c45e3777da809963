# cython: language_level=3, boundscheck=False, wraparound=False
"""Framing of backplane records (docs/specs/backplane.md, sections 2 and 3).

``pack*`` return the bytes of one record; several records are joined into one message by the caller.
``unpack`` takes one message apart and accepts only whole records.
"""
cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize, PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

import struct

from emperor.protocol.errors import RecordError

NAMES = {
    1: "WELCOME", 2: "REFUSED", 3: "REQUEST", 4: "DATA", 5: "TRAILERS", 6: "CREDIT", 7: "CANCEL", 8: "DEMAND",
    9: "RELEASE", 10: "PING", 11: "DRAIN", 12: "BYE-ACK", 13: "BY-CHUTE", 33: "HELLO", 34: "READY", 35: "INTERIM", 36: "RESPONSE",
    37: "RETURN", 38: "ABORT", 39: "GRANT", 40: "RECALL", 41: "PONG", 42: "BYE", 43: "CALL",
}

# The types, flags and sizes are constants of records.pxd: compiled callers compare plain integers.

# The wire is little-endian, and so is every machine that CPython wheels of pyzmq exist for; the struct is written as it lies.
cdef packed struct Header:
    uint8_t type
    uint8_t flags
    uint16_t word
    uint32_t length
    uint64_t stream

cdef packed struct ResponseHeader:
    uint16_t head_length
    uint32_t service_us


cpdef bytes pack(int type, int flags, int word, uint64_t stream, bytes payload):
    """One record."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(payload)
    cdef bytes out = PyBytes_FromStringAndSize(NULL, 16 + size)
    cdef char *at = PyBytes_AS_STRING(out)
    cdef Header header
    header.type = <uint8_t> type
    header.flags = <uint8_t> flags
    header.word = <uint16_t> word
    header.length = <uint32_t> size
    header.stream = stream
    memcpy(at, &header, 16)
    memcpy(at + 16, PyBytes_AS_STRING(payload), size)
    return out


cpdef bytes pack_request(int flags, int word, uint64_t stream, bytes packet, bytes body):
    """One REQUEST record: ``packet`` (a whole uwsgi packet) and the first bytes of the body."""
    cdef bytes out = PyBytes_FromStringAndSize(NULL, 16 + PyBytes_GET_SIZE(packet) + PyBytes_GET_SIZE(body))
    put_request(PyBytes_AS_STRING(out), flags, word, stream, packet, body)
    return out


cdef void put_request(char *at, int flags, int word, uint64_t stream, bytes packet, bytes body) noexcept:
    """The same, to where there is room for it: 16 bytes, ``packet`` and ``body``."""
    cdef Py_ssize_t first = PyBytes_GET_SIZE(packet)
    cdef Py_ssize_t second = PyBytes_GET_SIZE(body)
    cdef Header header
    header.type = 3
    header.flags = <uint8_t> flags
    header.word = <uint16_t> word
    header.length = <uint32_t> (first + second)
    header.stream = stream
    memcpy(at, &header, 16)
    memcpy(at + 16, PyBytes_AS_STRING(packet), first)
    if second:
        memcpy(at + 16 + first, PyBytes_AS_STRING(body), second)


cpdef bytes pack_response(int flags, int word, uint64_t stream, uint32_t service_us, bytes head, bytes body):
    """One RESPONSE record. ``head`` is at most 65,535 bytes (else ``ValueError``)."""
    cdef bytes out = PyBytes_FromStringAndSize(NULL, 22 + PyBytes_GET_SIZE(head) + PyBytes_GET_SIZE(body))
    put_response(PyBytes_AS_STRING(out), flags, stream, service_us, head, body, word)
    return out


cdef int put_response(
    char *at, int flags, uint64_t stream, uint32_t service_us, bytes head, bytes body, int word=NO_WORD
) except -1:
    """The same, to where there is room for it: 22 bytes, ``head`` and ``body``."""
    cdef Py_ssize_t first = PyBytes_GET_SIZE(head)
    cdef Py_ssize_t second = PyBytes_GET_SIZE(body)
    cdef Header header
    cdef ResponseHeader response
    if first > 65535:
        raise ValueError(f"the response head is {first} bytes; at most 65535 fit")
    header.type = 36
    header.flags = <uint8_t> flags
    header.word = <uint16_t> word
    header.length = <uint32_t> (6 + first + second)
    header.stream = stream
    response.head_length = <uint16_t> first
    response.service_us = service_us
    memcpy(at, &header, 16)
    memcpy(at + 16, &response, 6)
    memcpy(at + 22, PyBytes_AS_STRING(head), first)
    if second:
        memcpy(at + 22 + first, PyBytes_AS_STRING(body), second)
    return 0


cpdef tuple unpack_response(bytes payload):
    """RESPONSE payload → ``(service time in µs, head, body)``. Raises RecordError."""
    cdef ResponseHeader response
    response_header(PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), &response)
    return response.service_us, payload[6:6 + response.head_length], payload[6 + response.head_length:]


cdef inline int response_header(const char *at, Py_ssize_t size, ResponseHeader *out) except -1:
    if size < 6:
        raise RecordError("a RESPONSE record of less than 6 bytes")
    memcpy(out, at, 6)
    if 6 + <Py_ssize_t> out.head_length > size:
        raise RecordError(f"a RESPONSE whose head of {out.head_length} bytes goes past its record")
    return 0


@cython.freelist(8)
cdef class Cursor:
    """The records of one message, one after another. Raises RecordError unless all of them are whole.

    ``count`` is how many there are. Call ``next`` before each; it returns False behind the last. Then ``type``, ``flags``,
    ``word`` and ``stream`` are those of the record, and its payload is made only when asked for.
    """

    def __init__(self, bytes message not None):
        cdef Py_ssize_t size = PyBytes_GET_SIZE(message), offset = 0
        cdef const char *at = PyBytes_AS_STRING(message)
        cdef Header header
        self.message = message
        self.count = 0
        self.after = self.start = 0
        while offset < size:
            if size - offset < 16:
                raise RecordError(f"{size - offset} bytes at the end of a message are no record header")
            memcpy(&header, at + offset, 16)
            offset += 16
            if <Py_ssize_t> header.length > size - offset:
                raise RecordError(
                    f"a record of type {header.type} says {header.length} bytes, but {size - offset} are left in its message"
                )
            offset += header.length
            self.count += 1

    cpdef bint next(self):
        """Go to the next record; False when there is none."""
        cdef Header header
        if self.after >= PyBytes_GET_SIZE(self.message):
            return False
        memcpy(&header, PyBytes_AS_STRING(self.message) + self.after, 16)
        self.type = header.type
        self.flags = header.flags
        self.word = header.word
        self.stream = header.stream
        self.start = self.after + 16
        self.after = self.start + header.length
        return True

    @property
    def size(self):
        """Bytes of the payload."""
        return self.after - self.start

    cpdef bytes payload(self):
        """The payload."""
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(self.message) + self.start, self.after - self.start)

    cpdef read_response(self):
        """Take the payload of a RESPONSE apart, into ``service_us``, ``head`` and ``body``. Raises RecordError."""
        cdef const char *at = PyBytes_AS_STRING(self.message) + self.start
        cdef ResponseHeader response
        response_header(at, self.after - self.start, &response)
        self.service_us = response.service_us
        self.head = PyBytes_FromStringAndSize(at + 6, response.head_length)
        self.body = PyBytes_FromStringAndSize(
            at + 6 + response.head_length, self.after - self.start - 6 - response.head_length
        )


cpdef list unpack(bytes message):
    """The records of one message as ``(type, flags, word, stream, payload)``. Raises RecordError unless all are whole."""
    cdef Cursor cursor = Cursor(message)
    cdef list out = []
    while cursor.next():
        out.append((cursor.type, cursor.flags, cursor.word, cursor.stream, cursor.payload()))
    return out


_HELLO = struct.Struct("<HHHHI32sB")
_WELCOME = struct.Struct("<HHIII16s")
_READY = struct.Struct("<16sH")
_SLOTS = struct.Struct("<H")
_REFUSED = struct.Struct("<H")
_CREDIT = struct.Struct("<I")


def pack_hello(int router_seat, int seat, int slots, generation, bytes token, str name, int version=1):
    """The HELLO record. ``token`` is 32 bytes; ``name`` the vassal's."""
    raw = name.encode()
    return pack(33, 0, 0xFFFF, 0, _HELLO.pack(version, router_seat, seat, slots, generation, token, len(raw)) + raw)


def unpack_hello(bytes payload):
    """``(version, router seat, worker seat, slots, generation, token, name)``. Raises RecordError."""
    if len(payload) < _HELLO.size:
        raise RecordError("a HELLO that is too short")
    version, router_seat, seat, slots, generation, token, length = _HELLO.unpack_from(payload)
    raw = payload[_HELLO.size:]
    if len(raw) != length:
        raise RecordError("a HELLO whose name does not fill it")
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        raise RecordError("a HELLO whose name is not UTF-8") from None
    return version, router_seat, seat, slots, generation, token, name


def pack_welcome(int deck, epoch, credit, link_window, bytes nonce, int version=1):
    """The WELCOME record. ``nonce`` is 16 bytes."""
    return pack(1, 0, 0xFFFF, 0, _WELCOME.pack(version, deck, epoch, credit, link_window, nonce))


def unpack_welcome(bytes payload):
    """``(version, deck, epoch, credit, link window, nonce)``. Raises RecordError."""
    if len(payload) != _WELCOME.size:
        raise RecordError("a WELCOME of the wrong size")
    return _WELCOME.unpack(payload)


def pack_ready(bytes nonce, int free, int flags=0, int weight=0xFFFF):
    """The READY record: the nonce of the WELCOME and the number of free slots. ``weight``, of a worker on another host, stands
    in place of a deck word; 0xFFFF: none is said."""
    return pack(34, flags, weight, 0, _READY.pack(nonce, free))


def pack_grant(int slots):
    """The GRANT record: so many slots more are free than READY said."""
    return pack(39, 0, 0xFFFF, 0, _SLOTS.pack(slots))


def pack_slots(int count):
    """The payload of DEMAND, RELEASE, GRANT and RECALL."""
    return _SLOTS.pack(count)


def unpack_grant(bytes payload):
    """The number of slots. Raises RecordError."""
    if len(payload) != _SLOTS.size:
        raise RecordError("a GRANT of the wrong size")
    return _SLOTS.unpack(payload)[0]


def unpack_ready(bytes payload):
    """``(nonce, free slots)``. Raises RecordError."""
    if len(payload) != _READY.size:
        raise RecordError("a READY of the wrong size")
    return _READY.unpack(payload)


def pack_refused(int code, str reason):
    """The REFUSED record."""
    return pack(2, 0, 0xFFFF, 0, _REFUSED.pack(code) + reason.encode())


def unpack_refused(bytes payload):
    """``(code, reason)``. Raises RecordError."""
    if len(payload) < 2:
        raise RecordError("a REFUSED of less than 2 bytes")
    return _REFUSED.unpack_from(payload)[0], payload[2:].decode(errors="replace")


cpdef bytes pack_credit(uint64_t stream, uint32_t count):
    """The CREDIT record: ``count`` more bytes may be sent on ``stream`` (0: on the link)."""
    return pack(6, 0, 0xFFFF, stream, PyBytes_FromStringAndSize(<char *> &count, 4))


def unpack_credit(bytes payload):
    """The number of bytes. Raises RecordError."""
    if len(payload) != 4:
        raise RecordError("a CREDIT of the wrong size")
    return _CREDIT.unpack(payload)[0]
