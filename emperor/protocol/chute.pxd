# The C shape of what chute.pyx offers to compiled callers.
from libc.stdint cimport uint8_t, uint64_t

from emperor.protocol.scoreboard cimport Board

cpdef enum:
    # What the router has said about the end of a chute's bytes
    OPEN = 0
    WHOLE = 1
    GONE = 2

cdef class Chute:
    cdef Board board
    cdef uint8_t *words
    cdef uint8_t *bytes_at
    cdef uint64_t own
    cdef readonly uint64_t size
    cdef readonly int way
    cdef int there(self) except -1
    # Who writes
    cpdef long long room(self) except -1
    cpdef Py_ssize_t put(self, bytes piece, Py_ssize_t start) except -1
    cpdef filled(self, Py_ssize_t count)
    # Who reads
    cpdef long long held(self) except -1
    cpdef bytes take(self, Py_ssize_t most)
    cpdef Py_ssize_t send(self, int fd, Py_ssize_t most) except -1
    cdef moved(self, Py_ssize_t count)
    # A worker
    cpdef bint enter(self, uint64_t stream) except -1
    cpdef int ended(self) except -1
    cpdef bint calls(self) except -1
    cpdef bint ask(self, uint64_t wanted) except -1
    cdef bint ready(self, uint64_t wanted) except -1
    cpdef bint sleep(self, uint64_t wanted, int timeout_ms) except -1
    # A router
    cpdef lend(self, uint64_t stream)
    cpdef bint end(self, int how) except -1
    cpdef quiet(self, bint on)
    cpdef bint wake(self) except -1
    cpdef clear(self)
