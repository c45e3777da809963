# cython: language_level=3, boundscheck=False, wraparound=False
"""Reading clients that stay: the sockets of one lane are in an epoll of their own, read straight into the protocol.

The loop's own reading costs 1 µs more for each read, in objects and calls around it, and reads whatever has come before it looks
again, in the order in which it came. When ten thousand clients that drip have sent a byte each, whoever asks then waits behind
all of them: 100 ms. And when their bytes come one by one, each wakes the router, which costs as much again.

So a kept connection is read by a lane from its second request on, and one that drips by another (``http.HttpConnection`` says
which). A lane is one of the things that the loop sees ready; so many of its clients are read in one turn, and whatever else is ready
comes in between. One that has a ``few`` looks by the clock when there are more, and their bytes gather meanwhile.

The transport is paused meanwhile, and reads again when a lane has met the end, so that it meets it too.
"""
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.errno cimport EAGAIN, EINTR, errno

cdef extern from "<sys/socket.h>" nogil:
    ssize_t recv(int, void *, size_t, int)
    enum: MSG_DONTWAIT

cdef extern from "<unistd.h>" nogil:
    int close(int)

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data:
        int fd
    struct epoll_event:
        unsigned int events
        epoll_data data
    int epoll_create1(int)
    int epoll_ctl(int, int, int, epoll_event *)
    int epoll_wait(int, epoll_event *, int, int)
    enum: EPOLL_CLOEXEC
    enum: EPOLL_CTL_ADD
    enum: EPOLL_CTL_DEL
    enum: EPOLLIN

cdef enum:
    MOST = 64

GATHER_S = 0.02
PAUSE_S = 0.001


cdef class Lane:
    """``turn`` clients (64 at most) are read in one turn of the loop, ``size`` bytes of each. More than ``few`` of them do not
    wake the loop, which looks every ``GATHER_S`` then; 0: they always do. Raises OSError when there is no descriptor left."""

    cdef object _loop
    cdef int _epoll
    cdef int _turn
    cdef Py_ssize_t _few
    cdef Py_ssize_t _size
    cdef char *_buffer
    cdef list _fronts  # by descriptor
    cdef Py_ssize_t _count
    cdef bint _by_clock

    def __cinit__(self):
        self._epoll = -1

    def __init__(self, object loop, int turn, Py_ssize_t size, Py_ssize_t few=0):
        self._loop = loop
        self._turn = min(turn, MOST)
        self._few = few
        self._size = size
        self._fronts = []
        self._buffer = <char *>PyMem_RawMalloc(size)
        if self._buffer == NULL:
            raise MemoryError
        # At once: a router that is to serve has what it needs for it.
        self._epoll = epoll_create1(EPOLL_CLOEXEC)
        if self._epoll < 0:
            raise OSError(errno, "epoll_create1")
        loop.add_reader(self._epoll, self._read)

    def __dealloc__(self):
        PyMem_RawFree(self._buffer)
        if self._epoll >= 0:
            close(self._epoll)

    def __len__(self):
        return self._count

    cpdef take(self, int fd, object front):
        """Read this one from now on, by its ``data_received``, ``ended``, ``broken`` and ``stumbled``; nobody else reads it. Raises OSError."""
        cdef epoll_event event
        event.events = EPOLLIN
        event.data.fd = fd
        if epoll_ctl(self._epoll, EPOLL_CTL_ADD, fd, &event):
            raise OSError(errno, "epoll_ctl")
        while len(self._fronts) <= fd:
            self._fronts.append(None)
        # Of one that is closed, and whose end nobody has told yet, the kernel has forgotten the descriptor.
        self._count += self._fronts[fd] is None
        self._fronts[fd] = front
        if self._few and self._count > self._few and not self._by_clock:
            self._by_clock = True
            self._loop.remove_reader(self._epoll)
            self._loop.call_later(GATHER_S, self._look)

    cpdef drop(self, int fd, object front):
        """No more. Its descriptor may be closed, and its number another one's by now."""
        if 0 <= fd < len(self._fronts) and self._fronts[fd] is front:
            self._fronts[fd] = None
            self._count -= 1
            epoll_ctl(self._epoll, EPOLL_CTL_DEL, fd, NULL)

    cpdef _look(self):
        if self._read() == self._turn:
            # Not at once: a thousand that have sent in the same moment would take a core to themselves for as long as it takes to
            # read them all, and the workers would wait for it.
            self._loop.call_later(PAUSE_S, self._look)
        elif self._count > self._few:
            self._loop.call_later(GATHER_S, self._look)
        else:
            self._by_clock = False
            self._loop.add_reader(self._epoll, self._read)

    cpdef int _read(self) except -1:
        """How many were ready."""
        cdef epoll_event events[MOST]
        cdef ssize_t got
        cdef int at, fd
        cdef int ready = epoll_wait(self._epoll, events, self._turn, 0)
        for at in range(ready):
            fd = events[at].data.fd
            front = self._fronts[fd]
            if front is None:
                continue  # dropped by one before it
            got = recv(fd, self._buffer, self._size, MSG_DONTWAIT)
            if got < 0 and (errno == EAGAIN or errno == EINTR):
                continue
            try:
                if got > 0:
                    front.data_received(PyBytes_FromStringAndSize(self._buffer, got))
                elif got == 0:
                    front.ended()
                else:
                    # The kernel has told us now, and will tell nobody else.
                    front.broken()
            except Exception as error:
                front.stumbled(error)
        return max(ready, 0)
