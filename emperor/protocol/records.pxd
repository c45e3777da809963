# The C shape of what records.pyx offers to compiled callers.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cpdef enum:
    # Types of records, router → worker
    WELCOME = 1
    REFUSED = 2
    REQUEST = 3
    DATA = 4
    TRAILERS = 5
    CREDIT = 6
    CANCEL = 7
    DEMAND = 8
    RELEASE = 9
    PING = 10
    DRAIN = 11
    BYE_ACK = 12
    BY_CHUTE = 13
    # and worker → router
    HELLO = 33
    READY = 34
    INTERIM = 35
    RESPONSE = 36
    RETURN = 37
    ABORT = 38
    GRANT = 39
    RECALL = 40
    PONG = 41
    BYE = 42
    CALL = 43

cpdef enum:
    # Flags
    FIN = 1
    UPGRADE = 2
    IDEMPOTENT = 4
    AWAITS = 8
    CANCELS = 16
    GIVES_BACK = 32
    LATE = 64
    AGAIN = 128

cpdef enum:
    NO_WORD = 0xFFFF
    HEADER_SIZE = 16
    VERSION = 1
    # A sender cuts a message before it grows beyond this many bytes.
    MESSAGE_LIMIT = 524288
    # The most body bytes in one record.
    BODY_LIMIT = 65536
    # What DATA towards the router counts for at least, if it has a byte: queued, a record is never as small as its body.
    DATA_LEAST = 128
    TOKEN_SIZE = 32
    NONCE_SIZE = 16

cdef class Cursor:
    cdef bytes message
    cdef Py_ssize_t start, after       # of the payload; what follows it
    cdef readonly Py_ssize_t count
    cdef readonly int type
    cdef readonly int flags
    cdef readonly int word
    cdef readonly uint64_t stream
    cdef readonly uint32_t service_us
    cdef readonly bytes head
    cdef readonly bytes body
    cpdef bint next(self)
    cpdef bytes payload(self)
    cpdef read_response(self)

cpdef bytes pack(int type, int flags, int word, uint64_t stream, bytes payload)
cpdef bytes pack_request(int flags, int word, uint64_t stream, bytes packet, bytes body)
cdef void put_request(char *at, int flags, int word, uint64_t stream, bytes packet, bytes body) noexcept
cpdef bytes pack_response(int flags, int word, uint64_t stream, uint32_t service_us, bytes head, bytes body)
cdef int put_response(
    char *at, int flags, uint64_t stream, uint32_t service_us, bytes head, bytes body, int word=*
) except -1
cpdef bytes pack_credit(uint64_t stream, uint32_t count)
cpdef tuple unpack_response(bytes payload)
cpdef list unpack(bytes message)
