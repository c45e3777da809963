# The C shape of what ring.pyx offers to compiled callers.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from emperor.protocol.scoreboard cimport Board

cdef class Writer:
    cdef Board board
    cdef uint8_t *at
    cdef uint64_t tail
    cpdef bint put(self, uint64_t stream, uint32_t service_us, bytes head, bytes body) except -1
    cpdef bint must_call(self) except -1

cdef class Reader:
    cdef Board board
    cdef uint8_t *at
    cdef uint64_t head
    cpdef bint has(self) except -1
    cpdef bytes take(self)
    cpdef watch(self)
    cpdef rest(self)
