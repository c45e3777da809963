# cython: language_level=3
"""Answers to routers of other hosts that go together: each message by itself would cost both hosts more than the request.

The worker's one thread keeps an answer for as long as it takes to make some more, and no longer than `KEEP_NS` as far as it can
know: before it enters app code it sends what would wait for longer, if the next request takes what the last one took. Should
that take longer, the thread that looks after late requests (`vassals.worker.late`) sends it, without the interpreter's lock.

Whose turn it is stands in one word: the worker's thread has what is kept (``OURS``), or has left it while it is in app code
(``LEFT``), and then the other one may take it, to send it (``TAKEN``). Both change it by compare-and-swap.
"""
from cpython.bytes cimport PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t

from emperor.protocol cimport records
from emperor.zeromq cimport Wire, send_bytes

cdef extern from "<sched.h>" nogil:
    int sched_yield()

cdef extern from "<unistd.h>" nogil:
    ssize_t write(int, const void *, size_t)

cdef extern from *:
    """
    #define kept_get(place) __atomic_load_n(&(place), __ATOMIC_SEQ_CST)
    #define kept_set(place, value) __atomic_store_n(&(place), (value), __ATOMIC_SEQ_CST)
    static int kept_trade(long long *place, long long expected, long long wanted) {
        return __atomic_compare_exchange_n(place, &expected, wanted, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
    """
    long long kept_get(long long place) nogil
    void kept_set(long long place, long long value) nogil
    int kept_trade(long long *place, long long expected, long long wanted) noexcept nogil

cdef enum:
    KEEP = 200000
    COUNT_MOST = 32
    OURS = 0
    LEFT = 1
    TAKEN = 2

KEEP_NS = KEEP
MOST = COUNT_MOST


cdef class Kept:
    """Of one worker: what is kept is for one router at a time. All but ``send_old`` is the worker's thread's."""

    cpdef bint put(
        self, Wire wire, uint64_t stream, uint32_t took_us, bytes head, bytes body, long long ended_ns
    ) except -1:
        """A whole response. False: there is no room for it."""
        cdef Py_ssize_t size = 22 + PyBytes_GET_SIZE(head) + PyBytes_GET_SIZE(body)
        if self.wire is not wire:
            self.send()
            self.wire = wire
        if self.count == COUNT_MOST or self.size + size > <Py_ssize_t> sizeof(self.room):
            return False
        records.put_response(self.room + self.size, records.FIN, stream, took_us, head, body)
        self.size += size
        self.count += 1
        if self.count == 1:
            self.since = ended_ns
        self.last = took_us
        self.last *= 1000
        return True

    cpdef bint is_due(self, long long now):
        """It is to be sent before another request runs."""
        return self.size > 0 and (self.count == COUNT_MOST or now - self.since + self.last >= KEEP)

    cpdef bytes take(self, Wire wire):
        """What is kept for this one, to be sent with something else; it is kept no more."""
        cdef bytes taken = b""
        if self.size and self.wire is wire:
            taken = PyBytes_FromStringAndSize(self.room, self.size)
            self.size = self.count = 0
        return taken

    cpdef send(self):
        """What is kept. One that fails is seen by whoever looks at its socket next."""
        if self.size:
            send_bytes(self.wire.handle, self.room, <size_t> self.size)
            self.size = self.count = 0

    cpdef drop(self, Wire wire):
        """Its connection is lost."""
        if self.wire is wire:
            self.size = self.count = 0
            self.wire = None

    cpdef leave(self, bint runs):
        """The other thread may send it, from now on; ``runs``: while a request does, so that it is worth looking more often."""
        cdef uint64_t one = 1
        if self.size:
            if runs:
                kept_set(self.times, self.times + 1)
            kept_set(self.state, LEFT)
            if kept_get(self.unwatched):
                write(self.bell, &one, 8)

    cpdef come_back(self):
        """Only we may."""
        while not (kept_get(self.state) == OURS or kept_trade(&self.state, LEFT, OURS)):
            sched_yield()

    cdef bint is_left(self) noexcept nogil:
        """The other thread's: there may be something to send."""
        return kept_get(self.state) == LEFT

    cdef void send_old(self, long long now) noexcept nogil:
        """The other thread's: what has been kept for longer than it was to be."""
        if not kept_trade(&self.state, LEFT, TAKEN):
            return
        if now - self.since >= KEEP:
            send_bytes(self.wire.handle, self.room, <size_t> self.size)
            self.size = 0
            self.count = 0
            kept_set(self.state, OURS)
        else:
            kept_set(self.state, LEFT)
