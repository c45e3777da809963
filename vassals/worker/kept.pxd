# The C shape of kept.pyx.
from libc.stdint cimport uint32_t, uint64_t

from emperor.zeromq cimport Wire

cdef class Kept:
    cdef char room[8192]
    cdef Py_ssize_t size
    cdef int count
    cdef long long since
    cdef long long last
    cdef long long state
    cdef long long times
    cdef long long unwatched
    cdef int bell
    cdef Wire wire
    cpdef bint put(
        self, Wire wire, uint64_t stream, uint32_t took_us, bytes head, bytes body, long long ended_ns
    ) except -1
    cpdef bint is_due(self, long long now)
    cpdef bytes take(self, Wire wire)
    cpdef send(self)
    cpdef drop(self, Wire wire)
    cpdef leave(self, bint runs)
    cpdef come_back(self)
    cdef bint is_left(self) noexcept nogil
    cdef void send_old(self, long long now) noexcept nogil
