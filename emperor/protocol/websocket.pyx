# cython: language_level=3, boundscheck=False, wraparound=False
"""WebSocket, the server's side, sans I/O (RFC 6455; RFC 7692 for permessage-deflate). docs/specs/websocket.md goes through it.

``accept_key``, ``offered`` and ``agree`` are the handshake's; ``Reader`` takes the bytes that follow it and gives back whole
messages and control frames, one at a time; ``text``, ``frame`` and ``close`` make the frames of the way back.

Where bytes were split never changes what is read, nor whether it is refused. What a message may take of memory is bounded by ``most``, however it is cut
into frames and however small it was compressed: it stands in one piece of memory that grows as bytes come, not as they are
announced. A client's frame that breaks a rule is a WebSocketError with the code to close with; the reader is spent then.

Compression keeps nothing from one message to the next (both sides ``no_context_takeover``): a connection at rest costs no
window. That makes messages that are like those before them larger, which the first of a series gains by most.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

import base64
import binascii
import hashlib
import re
import zlib

from emperor.protocol.errors import WebSocketError

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

cdef enum:
    CONTINUATION = 0
    C_TEXT = 1
    C_BINARY = 2
    C_CLOSE = 8
    C_PING = 9
    C_PONG = 10
    # A control frame's payload (RFC 6455, 5.5)
    CONTROL_MOST = 125
    SCRATCH_SIZE = 65536

CONTINUED, TEXT, BINARY, CLOSE, PING, PONG = 0, C_TEXT, C_BINARY, C_CLOSE, C_PING, C_PONG
FIN, RSV1 = 0x80, 0x40

# Codes of RFC 6455, 7.4.1
NORMAL, GOING_AWAY, PROTOCOL, NO_STATUS, ABNORMAL, INVALID, TOO_BIG, FAILED = 1000, 1001, 1002, 1005, 1006, 1007, 1009, 1011

REASON_MOST = CONTROL_MOST - 2
"""Bytes of a reason of a close frame."""

INFLATERS_MOST = 16
"""Deflate streams of one message (RFC 7692, 7.2.3.5 allows to end one in the middle of it)."""

WINDOW_BITS = 12
"""A client that lets us choose is asked to compress with no larger window: what we need to read a message of its."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TAIL = b"\x00\x00\xff\xff"

cdef uint8_t *SCRATCH = <uint8_t *> PyMem_Realloc(NULL, SCRATCH_SIZE)


# ---------------------------------------------------------------------------------------------------------------
# The handshake

def accept_key(bytes key):
    """Sec-WebSocket-Key → Sec-WebSocket-Accept (RFC 6455, 4.2.2). None: it is not 16 bytes in base64."""
    try:
        nonce = binascii.a2b_base64(key, strict_mode=True)
        # What decodes to it and is not written so would be another key.
        if len(nonce) != 16 or base64.b64encode(nonce) != key:
            return None
    except binascii.Error:
        return None
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAMETER = re.compile(rb"[ \t]*;[ \t]*(%b)(?:[ \t]*=[ \t]*(?:(%b)|\"((?:[^\"\\]|\\.)*)\"))?" % (_TOKEN, _TOKEN))
_NAME = re.compile(rb"[ \t]*(%b)" % _TOKEN)
_WHOLE = re.compile(_TOKEN)


def tokens(bytes field):
    """A comma-separated list of tokens, such as Sec-WebSocket-Protocol, in its order. None: it is none."""
    found = [each.strip(b" \t") for each in field.split(b",")]
    found = [each for each in found if each]
    return found if all(_WHOLE.fullmatch(each) for each in found) else None


def offered(bytes field):
    """Sec-WebSocket-Extensions → ``[(name, {parameter: value or None}), …]`` (RFC 6455, 9.1); None: it is malformed. A parameter
    that is given twice makes its extension one that cannot be agreed on: its value is False."""
    found = []
    at = 0
    size = len(field)
    while True:
        name = _NAME.match(field, at)
        if name is None:
            # An empty element of a list is passed over (RFC 9110, 5.6.1).
            rest = field[at:].lstrip(b" \t")
            if rest[:1] == b",":
                at = size - len(rest) + 1
                continue
            return None if rest or not found else found
        at = name.end()
        parameters = {}
        while (parameter := _PARAMETER.match(field, at)) is not None:
            key, token, quoted = parameter.groups()
            value = token
            if quoted is not None:
                value = re.sub(rb"\\(.)", rb"\1", quoted)
                if not _WHOLE.fullmatch(value):
                    return None
            parameters[key.lower()] = False if key.lower() in parameters else value
            at = parameter.end()
        found.append((name[1].lower(), parameters))
        while at < size and field[at] in b" \t":
            at += 1
        if at == size:
            return found
        if field[at] != 44:
            return None
        at += 1


def agree(offers):
    """What we take of the extensions that were ``offered``: ``(Sec-WebSocket-Extensions, bits of the client's window, bits that
    ours may have)``; None: nothing. The first offer of permessage-deflate that we can keep to is taken (RFC 7692, 5.1)."""
    for name, parameters in offers:
        if name == b"permessage-deflate" and (terms := _terms(parameters)) is not None:
            return terms
    return None


def _terms(parameters):
    answer = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    theirs, ours = 15, 15
    for key, value in parameters.items():
        if key in (b"server_no_context_takeover", b"client_no_context_takeover"):
            if value is not None:
                return None
        elif key == b"server_max_window_bits":
            if (ours := _bits(value)) == 0:
                return None
            answer += b"; server_max_window_bits=%d" % ours
        elif key == b"client_max_window_bits":
            theirs = WINDOW_BITS
            if value is not None:
                if (given := _bits(value)) == 0:
                    return None
                theirs = min(theirs, given)
            answer += b"; client_max_window_bits=%d" % theirs
        else:
            return None
    return answer, theirs, ours


def _bits(value):
    return int(value) if value and value.isdigit() and value[:1] != b"0" and 8 <= int(value) <= 15 else 0


# ---------------------------------------------------------------------------------------------------------------
# Frames out. A server's are not masked.

cdef bytes headed(int first, const char *payload, Py_ssize_t size):
    cdef Py_ssize_t head = 2 if size < 126 else 4 if size < 65536 else 10
    cdef bytes out = PyBytes_FromStringAndSize(NULL, head + size)
    cdef uint8_t *to = <uint8_t *> PyBytes_AS_STRING(out)
    cdef int i
    to[0] = <uint8_t> first
    if head == 2:
        to[1] = <uint8_t> size
    elif head == 4:
        to[1] = 126
        to[2] = <uint8_t> (size >> 8)
        to[3] = <uint8_t> size
    else:
        to[1] = 127
        for i in range(8):
            to[2 + i] = <uint8_t> (<uint64_t> size >> (56 - 8 * i))
    memcpy(to + head, payload, size)
    return out


cpdef bytes text(str message):
    """A text message as one frame. Raises UnicodeEncodeError for a lone surrogate, which is no text."""
    cdef Py_ssize_t size
    cdef const char *raw = PyUnicode_AsUTF8AndSize(message, &size)
    return headed(0x80 | C_TEXT, raw, size)


cpdef bytes frame(int opcode, bytes payload, bint compressed=False):
    """A whole message, or a control frame, whose payload is at most 125 bytes, as one frame."""
    return headed(0x80 | (0x40 if compressed else 0) | opcode, PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload))


def close(int code, str reason=""):
    """A close frame; 1005 is one without a code. A reason that is too long is cut behind a whole character."""
    if code == 1005:
        return frame(C_CLOSE, b"")
    raw = reason.encode("utf-8", "replace")
    if len(raw) > REASON_MOST:
        raw = raw[:REASON_MOST].decode("utf-8", "ignore").encode()
    return frame(C_CLOSE, code.to_bytes(2, "big") + raw)


def may_close_with(code):
    """A close frame may have this code (RFC 6455, 7.4; IANA's registry has 1012 to 1014): others are never on the wire."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def deflated(bytes payload, int bits):
    """A message's payload compressed (RFC 7692, 7.2.1), for the other side to read with a window of so many bits. None: zlib has
    no window as small as that (8)."""
    if bits < 9:
        return None
    packer = zlib.compressobj(wbits=-min(bits, WINDOW_BITS), memLevel=5)
    return packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH)[:-4]


# ---------------------------------------------------------------------------------------------------------------
# Frames in

cdef inline void unmask(uint8_t *to, const uint8_t *raw, Py_ssize_t size, uint32_t mask) noexcept:
    """``mask`` as it lies in memory, its first byte for the first of ``raw``."""
    cdef uint64_t wide = mask | <uint64_t> mask << 32, word
    cdef Py_ssize_t i = 0
    cdef uint8_t *key = <uint8_t *> &wide
    while size - i >= 8:
        memcpy(&word, raw + i, 8)
        word ^= wide
        memcpy(to + i, &word, 8)
        i += 8
    while i < size:
        to[i] = raw[i] ^ key[i & 7]
        i += 1


cdef inline uint32_t turned(uint32_t mask, Py_ssize_t by) noexcept:
    """The mask for what follows ``by`` bytes. Little-endian, as all of the backplane is."""
    cdef int bits = <int> (by & 3) * 8
    return mask if bits == 0 else mask >> bits | mask << (32 - bits)


cdef class Reader:
    """The receiving half of one connection, which has agreed on ``theirs`` bits of compression's window, or 0 for none.

    Call ``feed`` with what arrived, then ``next`` until it returns None (more is needed). It returns a str or bytes, a whole
    message of at most ``most`` bytes, or a tuple: ``(PING, payload)``, ``(PONG, payload)``, ``(CLOSE, code, reason)``, where
    code is 1005 if none was given. Behind a close frame nothing is read any more. Raises WebSocketError.
    """
    cdef bytes data
    cdef Py_ssize_t at
    cdef readonly bint over
    cdef int theirs
    cdef Py_ssize_t most
    # Of the frame that is being read
    cdef bint inside
    cdef uint8_t opcode
    cdef bint fin
    cdef uint64_t left
    cdef uint32_t mask
    # Of the message: 0 is none
    cdef uint8_t kind
    cdef bint compressed
    cdef uint8_t *text
    cdef Py_ssize_t size, room
    cdef Py_ssize_t packed
    cdef object inflater
    cdef int inflaters
    cdef uint8_t control_size
    cdef uint8_t control[CONTROL_MOST]

    def __init__(self, Py_ssize_t most, int theirs=0):
        self.data = b""
        self.most = most
        self.theirs = theirs

    def __dealloc__(self):
        PyMem_Free(self.text)

    cpdef feed(self, bytes data):
        """Append what arrived."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(self.data)
        if self.over:
            return
        if self.at == size:
            self.data = data
        else:
            self.data = self.data[self.at:] + data
        self.at = 0

    cpdef bint has(self):
        """Some of what was fed has not been read."""
        return self.at < PyBytes_GET_SIZE(self.data)

    cpdef object next(self):
        """The next message or control frame, or None."""
        cdef object found
        if self.over:
            return None
        try:
            found = self._next()
        except WebSocketError:
            self._end()
            raise
        if type(found) is tuple and (<tuple> found)[0] == C_CLOSE:
            self._end()
        elif self.at == PyBytes_GET_SIZE(self.data):
            # Not with its last read in memory until something comes.
            self.data = b""
            self.at = 0
        return found

    cdef _end(self):
        self.over = True
        self.data = b""
        self.at = 0
        self._forget()

    cdef void _forget(self) noexcept:
        PyMem_Free(self.text)
        self.text = NULL
        self.size = self.room = self.packed = 0
        self.kind = 0
        self.inflater = None

    cdef object _next(self):
        cdef const uint8_t *raw = <const uint8_t *> PyBytes_AS_STRING(self.data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(self.data), take
        while True:
            if not self.inside:
                if not self._header(raw, size):
                    return None
                if (
                    self.opcode == self.kind and self.fin and not self.compressed and self.size == 0
                    and self.left <= <uint64_t> (size - self.at)
                ):
                    # The common case: a message of one frame that is all there.
                    return self._short(raw)
            take = size - self.at
            if <uint64_t> take > self.left:
                take = <Py_ssize_t> self.left
            if self.opcode >= C_CLOSE:
                unmask(self.control + self.control_size, raw + self.at, take, self.mask)
                self.control_size += <uint8_t> take
            elif self.compressed:
                self._inflate(raw + self.at, take)
            elif take:
                self._reserve(take)
                unmask(self.text + self.size, raw + self.at, take, self.mask)
                self.size += take
            self.mask = turned(self.mask, take)
            self.at += take
            self.left -= <uint64_t> take
            if self.left:
                return None
            self.inside = False
            if self.opcode >= C_CLOSE:
                return self._control()
            if self.fin:
                return self._message()

    cdef bint _header(self, const uint8_t *raw, Py_ssize_t size) except -1:
        """The head of a frame (RFC 6455, 5.2). False: more is needed."""
        cdef const uint8_t *at = raw + self.at
        cdef Py_ssize_t have = size - self.at, need
        cdef uint8_t opcode, rsv
        cdef uint64_t length
        cdef bint fin
        cdef int i
        if have < 2:
            return False
        fin = at[0] >> 7
        rsv = at[0] >> 4 & 7
        opcode = at[0] & 15
        length = at[1] & 127
        if 3 <= opcode <= 7 or opcode > C_PONG:
            raise WebSocketError(1002, f"a frame of the unknown opcode {opcode}")
        if rsv & 3 or rsv and not (self.theirs and (opcode == C_TEXT or opcode == C_BINARY)):
            raise WebSocketError(1002, "a reserved bit that nothing was agreed on for")
        if not at[1] & 128:
            raise WebSocketError(1002, "a frame that is not masked")
        if opcode >= C_CLOSE:
            if not fin:
                raise WebSocketError(1002, "a control frame in fragments")
            if length > CONTROL_MOST:
                raise WebSocketError(1002, f"a control frame of more than {CONTROL_MOST} bytes")
        elif opcode == CONTINUATION:
            if not self.kind:
                raise WebSocketError(1002, "a continuation of nothing")
        elif self.kind:
            raise WebSocketError(1002, "a new message in the middle of another")
        need = 6 + (2 if length == 126 else 8 if length == 127 else 0)
        if length >= 126:
            # Before the mask: what is wrong with the length is said as soon as it is there.
            if have < need - 4:
                return False
            length = 0
            for i in range(2, <int> need - 4):
                length = length << 8 | at[i]
            if length < 126 or (need == 14 and length < 65536):
                raise WebSocketError(1002, "a length that is written in more bytes than it needs")
            if length >> 63:
                raise WebSocketError(1002, "a length of more than 63 bits")
        if opcode < C_CLOSE and not (rsv or (opcode == CONTINUATION and self.compressed)):
            if length > <uint64_t> (self.most - self.size):
                raise WebSocketError(1009, f"a message of more than {self.most} bytes")
        if have < need:
            return False
        memcpy(&self.mask, at + need - 4, 4)
        self.at += need
        self.left = length
        self.fin = fin
        self.opcode = opcode
        self.inside = True
        if opcode >= C_CLOSE:
            self.control_size = 0
        elif opcode:
            self.kind = opcode
            self.compressed = rsv != 0
            self.inflaters = 0
        return True

    cdef object _short(self, const uint8_t *raw):
        cdef Py_ssize_t length = <Py_ssize_t> self.left
        cdef const uint8_t *at = raw + self.at
        cdef bytes binary
        cdef uint8_t kind = self.kind
        if kind == C_TEXT and length > SCRATCH_SIZE:
            self._reserve(length)
            unmask(self.text, at, length, self.mask)
            self.size = length
            self.at += length
            self.left = 0
            self.inside = False
            return self._message()
        self.at += length
        self.left = 0
        self.inside = False
        self.kind = 0
        if kind == C_BINARY:
            binary = PyBytes_FromStringAndSize(NULL, length)
            unmask(<uint8_t *> PyBytes_AS_STRING(binary), at, length, self.mask)
            return binary
        unmask(SCRATCH, at, length, self.mask)
        return as_text(<const char *> SCRATCH, length)

    cdef object _message(self):
        cdef object found
        if self.compressed:
            self._decompress(_TAIL)
        if self.kind == C_TEXT:
            found = as_text(<const char *> self.text, self.size)
        else:
            found = PyBytes_FromStringAndSize(<const char *> self.text, self.size)
        self._forget()
        return found

    cdef object _control(self):
        cdef const char *payload = <const char *> self.control
        cdef Py_ssize_t size = self.control_size
        cdef int code
        if self.opcode != C_CLOSE:
            return (<int> self.opcode, PyBytes_FromStringAndSize(payload, size))
        if size == 0:
            return (C_CLOSE, 1005, "")
        if size == 1:
            raise WebSocketError(1002, "a close frame with half a code")
        code = self.control[0] << 8 | self.control[1]
        if not may_close_with(code):
            raise WebSocketError(1002, f"a close frame with the code {code}")
        try:
            return (C_CLOSE, code, PyUnicode_DecodeUTF8(payload + 2, size - 2, NULL))
        except UnicodeDecodeError:
            raise WebSocketError(1007, "a close frame whose reason is not UTF-8") from None

    cdef int _reserve(self, Py_ssize_t more) except -1:
        """Room for so many bytes more, of which the caller knows that they are no more than ``most``."""
        cdef Py_ssize_t wanted = self.size + more
        cdef uint8_t *grown
        if wanted <= self.room:
            return 0
        if wanted < 2 * self.room:
            wanted = min(2 * self.room, self.most)
        grown = <uint8_t *> PyMem_Realloc(self.text, wanted)
        if grown == NULL:
            raise MemoryError
        self.text = grown
        self.room = wanted
        return 0

    cdef int _inflate(self, const uint8_t *raw, Py_ssize_t size) except -1:
        cdef bytes piece = PyBytes_FromStringAndSize(NULL, size)
        unmask(<uint8_t *> PyBytes_AS_STRING(piece), raw, size, self.mask)
        # It may inflate to nothing: no message gains a length by being compressed but some bytes for each block.
        self.packed += size
        if self.packed > self.most + (self.most >> 6) + 1024:
            raise WebSocketError(1009, f"a compressed message of more than {self.most} bytes")
        return self._decompress(piece)

    cdef int _decompress(self, bytes piece) except -1:
        cdef bytes out
        try:
            while True:
                if self.inflater is None:
                    if self.inflaters == INFLATERS_MOST:
                        raise WebSocketError(1007, f"a message of more than {INFLATERS_MOST} deflate streams")
                    self.inflaters += 1
                    self.inflater = zlib.decompressobj(-max(9, self.theirs))
                out = self.inflater.decompress(piece, self.most - self.size + 1)
                if PyBytes_GET_SIZE(out) > self.most - self.size:
                    raise WebSocketError(1009, f"a message of more than {self.most} bytes, once it was decompressed")
                if out:
                    self._reserve(PyBytes_GET_SIZE(out))
                    memcpy(self.text + self.size, PyBytes_AS_STRING(out), PyBytes_GET_SIZE(out))
                    self.size += PyBytes_GET_SIZE(out)
                if not self.inflater.eof:
                    return 0
                piece = self.inflater.unused_data
                self.inflater = None
                if not piece:
                    return 0
        except zlib.error as error:
            raise WebSocketError(1007, "what cannot be decompressed") from error


cdef object as_text(const char *raw, Py_ssize_t size):
    try:
        return PyUnicode_DecodeUTF8(raw, size, NULL)
    except UnicodeDecodeError as error:
        raise WebSocketError(1007, f"a text that is not UTF-8, at byte {error.start}") from None
