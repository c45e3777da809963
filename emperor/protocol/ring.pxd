# The C shape of what ring.pyx offers to compiled callers.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from emperor.protocol.scoreboard cimport Board

cpdef enum:
    # How the other side is to be told of what was put in: not at all, by a message, by its bell
    NEITHER = 0
    BY_MESSAGE = 1
    BY_BELL = 2

cdef class Writer:
    cdef Board board
    cdef uint8_t *at
    cdef uint64_t tail
    cdef uint64_t room  # that there is at least
    cpdef bint put(self, uint64_t stream, uint32_t service_us, bytes head, bytes body) except -1
    cpdef bint put_request(self, int flags, int word, uint64_t stream, bytes packet, bytes body) except -1
    cdef uint8_t *_room(self, size_t size) except? NULL
    cdef int _done(self, size_t size) except -1
    cpdef bint is_read(self) except -1
    cpdef bint rests(self) except -1
    cpdef int must_call(self) except -1

cdef class Reader:
    cdef Board board
    cdef uint8_t *at
    cdef uint64_t head
    cpdef bint has(self) except -1
    cpdef bint linger(self, long long for_ns) except -1
    cpdef bytes take(self)
    cpdef bint watch(self) except -1
    cpdef bint called(self) except -1
    cpdef rest(self, bint by_bell=*)
