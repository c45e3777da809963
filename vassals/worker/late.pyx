# cython: language_level=3
"""How long the request of a worker of one request at a time has run, watched by a thread that needs no interpreter for it.

The worker's one thread says when a request begins and ends, by two stores to memory. The other one looks every few milliseconds,
without the interpreter's lock, and takes that once a request has run for `LATE_NS`. It sleeps for good while none begins; to be
waked then is the only system call that a request may cost.

The same thread sends answers that were to wait for the next ones, when those take longer (`vassals.worker.kept`).
"""
from libc.stdint cimport uint64_t

from emperor.protocol.scoreboard cimport now_ns
from vassals.worker.kept cimport Kept

import os

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *, unsigned long, int)
    enum: POLLIN

cdef extern from "<unistd.h>" nogil:
    ssize_t read(int, void *, size_t)
    ssize_t write(int, const void *, size_t)

cdef extern from *:
    """
    #include <time.h>
    static long long late_now(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return now.tv_sec * 1000000000LL + now.tv_nsec;
    }
    #define late_get(place) __atomic_load_n(&(place), __ATOMIC_SEQ_CST)
    #define late_set(place, value) __atomic_store_n(&(place), (value), __ATOMIC_SEQ_CST)
    """
    long long late_now() nogil
    long long late_get(long long place) nogil
    void late_set(long long place, long long value) nogil

LATE_NS = 4_000_000

cdef enum:
    TICK_MS = 4
    KEPT_TICK_MS = 1  # while answers are kept
    LATE = 4000000
    IDLE_TICKS = 12
    AGAIN_MOST_MS = 64


cdef class Watch:
    """``begins``, ``ends`` and ``close`` are the worker's thread's, ``late`` is the other one's."""

    def __cinit__(self):
        self.bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.kept = Kept()
        self.kept.bell = self.bell

    cpdef begins(self, long long at):
        """A request runs from now on."""
        late_set(self.count, self.count + 1)
        late_set(self.began, at)
        if late_get(self.rests):
            self.ring()

    cpdef ends(self):
        """It does not any more, or not in the app."""
        late_set(self.began, 0)

    cpdef bint is_late(self):
        """Now."""
        cdef long long began = self.began
        return began != 0 and now_ns() - began >= LATE

    cpdef close(self):
        """``late`` says so, and is not called again."""
        late_set(self.closed, 1)
        self.ring()

    cdef ring(self):
        cdef uint64_t one = 1
        late_set(self.rests, 0)
        write(self.bell, &one, 8)

    def late(self):
        """Waits until a request is late: then once more after a while, each time twice as long, if it still runs. False: it is closed."""
        cdef pollfd place
        cdef uint64_t rung
        cdef long long began
        cdef long long last = -1
        cdef long long times = 0
        cdef long long now
        cdef int quiet = 0
        cdef int tick_ms = TICK_MS
        cdef int ready
        cdef Kept kept = self.kept
        place.fd = self.bell
        place.events = POLLIN
        if self.seen == self.count:
            # It is the one that was late before.
            self.again_ms = min(self.again_ms * 2, AGAIN_MOST_MS)
            tick_ms = self.again_ms
        else:
            self.again_ms = TICK_MS
        with nogil:
            while not late_get(self.closed):
                if tick_ms > TICK_MS:
                    # Whoever leaves something now sees that nobody looks, or we see it.
                    late_set(kept.unwatched, 1)
                    if kept.is_left():
                        tick_ms = KEPT_TICK_MS
                elif late_get(kept.times) != times:
                    times = late_get(kept.times)
                    tick_ms = KEPT_TICK_MS
                ready = poll(&place, 1, tick_ms)
                late_set(kept.unwatched, 0)
                if ready > 0:
                    read(self.bell, &rung, 8)
                    tick_ms = TICK_MS
                    continue
                now = late_now()
                kept.send_old(now)
                began = late_get(self.began)
                if began and now - began >= LATE:
                    self.seen = late_get(self.count)
                    break
                tick_ms = TICK_MS
                quiet = quiet + 1 if late_get(self.count) == last else 0
                last = late_get(self.count)
                if quiet < IDLE_TICKS or began:
                    continue
                # Nothing has begun for a while. Whoever begins now sees that we rest, or we see that it has begun.
                late_set(self.rests, 1)
                if late_get(self.count) == last:
                    poll(&place, 1, -1)
                late_set(self.rests, 0)
                quiet = 0
        return not self.closed
