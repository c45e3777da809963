# The C shape of what scoreboard.pyx offers to compiled callers.
from libc.stdint cimport int64_t, uint8_t, uint64_t

cpdef enum:
    # States of a deck word
    FREE = 0
    OFFERED = 1
    CLAIMED = 2
    REVOKED = 3

cdef class Board:
    cdef uint8_t *page
    cdef Py_ssize_t size
    cdef Py_ssize_t row
    cdef readonly int seats
    cdef readonly int slots
    cdef readonly int routers
    cdef readonly int deck
    cdef uint64_t *word(self, int seat, int router, int index) except NULL
    cdef uint64_t *slot_at(self, int seat, int slot) except NULL
    cpdef bint offer(self, int seat, int router, int index, uint64_t stream) except -1
    cpdef int revoke(self, int seat, int router, int index, uint64_t stream) except -2
    cpdef tuple slot(self, int seat, int slot)
    cpdef int64_t running_ns(self, int seat, uint64_t now_ns) except? -1
    cpdef tuple state(self, int seat, int router, int index)
    cpdef bint claim(self, int seat, int router, int index, uint64_t stream) except -1
    cpdef free(self, int seat, int router, int index)
    cpdef int64_t begin(self, int seat, int slot, uint64_t stream) except -1
    cpdef end(self, int seat, int slot)

cpdef int64_t now_ns() noexcept
cpdef Py_ssize_t row_bytes(int slots, int routers, int deck)
cpdef Py_ssize_t size_bytes(int seats, int slots, int routers, int deck)
