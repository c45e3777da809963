# cython: language_level=3, boundscheck=False, wraparound=False
"""The bells by which a router and a worker wake each other: the system calls alone (docs/specs/backplane.md, section 5).

A worker's bell is a pair of sockets. The router has one end, on which nothing can come in, and the worker the other, so that
neither can do anything to the other's: no flag of a descriptor, no lock and no file that a tenant has is in the router's way.
The router's bell is an eventfd, which its workers have as well; it only waits on it, and never reads or writes it.

None of these calls waits, but `wait_readable`, which lets go of the interpreter's lock.
"""
from libc.errno cimport EINTR, errno
from libc.stdint cimport uint64_t

cdef extern from "<sys/socket.h>" nogil:
    ssize_t send(int, const void *, size_t, int)
    ssize_t recv(int, void *, size_t, int)
    enum: MSG_DONTWAIT
    enum: MSG_NOSIGNAL

cdef extern from "<unistd.h>" nogil:
    ssize_t write(int, const void *, size_t)

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *, unsigned long, int)
    enum: POLLIN

cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1

cdef enum:
    MOST = 64


cpdef int ring_worker(int fd) noexcept:
    """Wake the worker at the other end. A bell that takes no more is ringing, and one that is broken wakes nobody: the
    link will tell."""
    cdef char one = 1
    send(fd, &one, 1, MSG_DONTWAIT | MSG_NOSIGNAL)
    return 0


cpdef int hear(int fd) noexcept:
    """A worker has heard its bell. Returns how often it had been rung; −1: nobody has the other end any more, and who waits for
    this one would be waked for ever."""
    cdef char heard[256]
    cdef ssize_t count = recv(fd, heard, 256, MSG_DONTWAIT)
    if count == 0:
        return -1
    return <int> count if count > 0 else 0


cpdef int ring_router(int fd) noexcept:
    """Wake the router."""
    cdef uint64_t one = 1
    write(fd, &one, 8)
    return 0


cpdef unsigned long long wait_readable(tuple fds, int timeout_ms) except? 0xFFFFFFFFFFFFFFFF:
    """Until one of these (64 at most) can be read or is broken; −1 waits for ever. Returns them as bits; none after a signal."""
    cdef pollfd places[MOST]
    cdef int count = min(len(fds), MOST)
    cdef int at, ready
    cdef unsigned long long found = 0
    for at in range(count):
        places[at].fd = fds[at]
        places[at].events = POLLIN
        places[at].revents = 0
    with nogil:
        ready = poll(places, count, timeout_ms)
    if ready < 0:
        if errno == EINTR:
            PyErr_CheckSignals()
            return 0
        raise OSError(errno, "poll")
    for at in range(count):
        if places[at].revents:
            found |= <unsigned long long> 1 << at
    return found
