# The C shape of what http1.pyx offers to compiled callers.
from libc.stdint cimport int64_t, uint8_t

from emperor.protocol.packet cimport RequestHead

cpdef enum:
    # Flags of `response`
    HTTP11 = 1
    KEEP_ALIVE = 2
    HEAD = 4
    UWSGI = 8
    TRAILERS = 16

cpdef enum:
    # Framing of a response
    NO_BODY = 0
    LENGTH = 1
    CHUNKED = 2
    UNTIL_CLOSE = 3

cdef class Limits:
    cdef readonly Py_ssize_t line
    cdef readonly Py_ssize_t head
    cdef readonly Py_ssize_t fields
    cdef readonly Py_ssize_t trailers
    cdef readonly Py_ssize_t chunk_line
    cdef readonly Py_ssize_t extensions

cdef class Reader:
    cdef bytes prefix
    cdef bint believes
    cdef bint told
    cdef Limits limits
    cdef bytes data
    cdef Py_ssize_t at          # first byte not yet consumed
    cdef Py_ssize_t seen        # how far line ends have been looked for
    cdef Py_ssize_t line        # where the line being looked at starts
    cdef int state
    cdef int64_t left           # of a body or chunk
    cdef Py_ssize_t trailers
    cdef Py_ssize_t extensions
    cdef readonly bint started
    cdef readonly bint trailed
    cdef public bint secure
    cpdef Py_ssize_t buffered(self)
    cpdef bint idle(self)
    cpdef int64_t owed(self)
    cpdef skip(self, int64_t count)
    cpdef bytes rest(self)
    cpdef feed(self, bytes data)
    cpdef object next(self)
    cdef object head(self)
    cdef RequestHead parse(self, const uint8_t *raw, Py_ssize_t size)
    cdef void put_field(self, Py_ssize_t index, Py_ssize_t count, bytes authority) noexcept
    cdef bint chunk_size(self) except -1
    cdef bint trailer(self) except -1

cdef class Outcome:
    cdef readonly int status
    cdef readonly int64_t length
    cdef readonly int framing
    cdef readonly bint keep
    cdef readonly Py_ssize_t head_bytes
    cdef readonly bint whole

cpdef bytes respond(bytes head, bytes body, bint fin, int flags, bytes date, bytes request_id, Outcome outcome)
cpdef tuple response(bytes head, int flags, int64_t whole, bytes date, bytes request_id=*)
