# The C shape of what scoreboard.pyx offers to compiled callers.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cpdef enum:
    # States of a deck word
    FREE = 0
    OFFERED = 1
    CLAIMED = 2
    REVOKED = 3

cpdef enum:
    # Whose a slot is
    UNHELD = 0
    HELD = 1
    BUSY = 2

cpdef enum:
    RING_BYTES = 32768
    # Of each chute: what both sides say about it, and its bytes, which are whole pages of the kernel's (chute.pyx)
    CHUTE_WORDS_BYTES = 384
    DOWN_BYTES = 262144
    UP_BYTES = 262144

cpdef enum:
    # Which way a chute's bytes or a ring's records go: responses, requests
    DOWN = 0
    UP = 1

cdef extern from *:
    """
    #define load64(at) __atomic_load_n((at), __ATOMIC_SEQ_CST)
    #define load32(at) __atomic_load_n((at), __ATOMIC_SEQ_CST)
    #define store32(at, value) __atomic_store_n((at), (value), __ATOMIC_SEQ_CST)
    #define store64(at, value) __atomic_store_n((at), (value), __ATOMIC_SEQ_CST)
    #define trade64(at, value) __atomic_exchange_n((at), (value), __ATOMIC_SEQ_CST)
    static inline int swap64(uint64_t *at, uint64_t expected, uint64_t wanted) {
        return __atomic_compare_exchange_n(at, &expected, wanted, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
    """
    uint64_t load64(uint64_t *at) noexcept nogil
    void store64(uint64_t *at, uint64_t value) noexcept nogil
    uint32_t load32(uint32_t *at) noexcept nogil
    void store32(uint32_t *at, uint32_t value) noexcept nogil
    uint64_t trade64(uint64_t *at, uint64_t value) noexcept nogil
    int swap64(uint64_t *at, uint64_t expected, uint64_t wanted) noexcept nogil

cdef class Board:
    cdef uint8_t *page
    cdef Py_ssize_t size
    cdef Py_ssize_t row
    cdef readonly int seats
    cdef readonly int slots
    cdef readonly int routers
    cdef readonly int deck
    cdef uint64_t *word(self, int seat, int router, int index) except NULL
    cdef uint8_t *ring(self, int seat, int router, int way) except NULL
    cdef uint8_t *chute_words(self, int seat, int router, int way) except NULL
    cdef uint8_t *chute_bytes(self, int seat, int router, int way) except NULL
    cdef uint64_t *slot_at(self, int seat, int slot) except NULL
    cdef uint64_t *counted_at(self, int index) except NULL
    cdef uint32_t *waits_at(self, int seat) except NULL
    cpdef say_waits(self, int seat, int64_t since_ns)
    cpdef int64_t others_wait(self, int seat, int64_t now) except -1
    cdef uint64_t *grant_at(self, int seat, int slot) except NULL
    cpdef bint take(self, int seat, int slot, unsigned int epoch) except -1
    cpdef bint release(self, int seat, int slot, unsigned int epoch) except -1
    cpdef bint enter(self, int seat, int slot, unsigned int epoch) except -1
    cpdef bint vacate(self, int seat, int slot, unsigned int epoch) except -1
    cpdef int bereave(self, int seat, unsigned int epoch) except -1
    cpdef bint offer(self, int seat, int router, int index, uint64_t stream) except -1
    cpdef int revoke(self, int seat, int router, int index, uint64_t stream) except -2
    cpdef tuple slot(self, int seat, int slot)
    cpdef int64_t running_ns(self, int seat, uint64_t now_ns, int slots=*) except? -1
    cpdef tuple state(self, int seat, int router, int index)
    cpdef bint claim(self, int seat, int router, int index, uint64_t stream) except -1
    cpdef free(self, int seat, int router, int index)
    cpdef int64_t begin(self, int seat, int slot, uint64_t stream) except -1
    cpdef last(self, int seat, int slot)
    cpdef end(self, int seat, int slot)

cpdef int64_t now_ns() noexcept
cpdef double monotonic_s() noexcept
cpdef Py_ssize_t row_bytes(int slots, int routers, int deck)
cpdef Py_ssize_t size_bytes(int seats, int slots, int routers, int deck)
