# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The chutes of a worker on the page that it shares with a router: the bytes of large bodies, one way each
(docs/specs/backplane.md, section 6; docs/decisions/0019).

A body through ZeroMQ is copied five times on its way and wakes four threads for every piece. Through a chute it is copied
once, by the worker; the router sends it from there to its client, or has the kernel read it from its file into there.

One request has a chute at a time (``OWNER``); its bytes stand round and round in it. ``tail`` is the writer's and moves behind
what is written, ``head`` the reader's; what lies between them is all that either side holds, so a chute needs no credit. Each
side keeps its own counter to itself and believes the other's only within the size of the chute.

A worker that has to wait sleeps on ``BELL`` (futex(2)), having said in ``SLEEPS`` for how many bytes; the router rings. One
that must not stand still for that, as under gevent, asks for a message in place of the bell. A router that rests is called as
for the ring (`ring`), unless ``QUIET`` says that it would have nothing to do: its client takes no more, or has sent no more.

The bytes may change while they are read: they have another writer, who may be hostile. They are a body, of which nothing is
believed; what is believed, the counters, is read once. What was used is given back to the system when a request ends.
"""
from cpython.buffer cimport PyBUF_WRITABLE, PyBUF_WRITE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from emperor.protocol.scoreboard cimport DOWN, DOWN_BYTES, UP_BYTES, Board, load64, store64, swap64

from emperor.protocol.errors import BoardError, RecordError

cdef extern from *:
    """
    #include <errno.h>
    #include <limits.h>
    #include <linux/futex.h>
    #include <string.h>
    #include <sys/mman.h>
    #include <sys/socket.h>
    #include <sys/syscall.h>
    #include <time.h>
    #include <unistd.h>

    static void chute_wait(uint32_t *bell, uint32_t seen, int timeout_ms) {
        struct timespec most = {timeout_ms / 1000, timeout_ms % 1000 * 1000000L};
        /* Not private: the two sides are two processes. */
        syscall(SYS_futex, bell, FUTEX_WAIT, seen, &most, NULL, 0);
    }
    static void chute_ring(uint32_t *bell) {
        __atomic_add_fetch(bell, 1, __ATOMIC_SEQ_CST);
        syscall(SYS_futex, bell, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    }
    static uint32_t chute_bell(uint32_t *bell) { return __atomic_load_n(bell, __ATOMIC_SEQ_CST); }
    static ssize_t chute_send(int fd, void *first, size_t first_size, void *second, size_t second_size) {
        struct iovec parts[2] = {{first, first_size}, {second, second_size}};
        struct msghdr message;
        ssize_t sent;
        memset(&message, 0, sizeof message);
        message.msg_iov = parts;
        message.msg_iovlen = second_size ? 2 : 1;
        do {
            sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        } while (sent < 0 && errno == EINTR);
        return sent < 0 ? 0 : sent;
    }
    static void chute_give_back(void *at, size_t size) { madvise(at, size, MADV_REMOVE); }
    """
    void chute_wait(uint32_t *bell, uint32_t seen, int timeout_ms) noexcept nogil
    void chute_ring(uint32_t *bell) noexcept nogil
    uint32_t chute_bell(uint32_t *bell) noexcept nogil
    ssize_t chute_send(int fd, void *first, size_t first_size, void *second, size_t second_size) noexcept nogil
    void chute_give_back(void *at, size_t size) noexcept nogil

cdef enum:
    # Where things stand, each in a cache line of its own.
    TAIL = 0
    HEAD = 64
    QUIET = 128
    OWNER = 192
    ENDED = 256
    BELL = 320
    SLEEPS = 328

cdef enum:
    # In SLEEPS, beside the number of bytes: no bell, a message.
    BY_MESSAGE = 1 << 30


cdef class Chute:
    """One side's end of one chute. ``way`` is DOWN, where the worker writes and the router reads, or UP, the other way."""

    def __init__(self, Board board not None, int seat, int router, int way):
        self.board = board
        self.words = board.chute_words(seat, router, way)
        self.bytes_at = board.chute_bytes(seat, router, way)
        self.way = way
        self.size = DOWN_BYTES if way == DOWN else UP_BYTES
        self.own = 0

    cdef int there(self) except -1:
        if self.board.page == NULL:
            raise BoardError("the page is closed")
        return 0


    # Who writes

    cpdef long long room(self) except -1:
        """Bytes that may be written now. Raises RecordError for what no reader of ours leaves."""
        cdef uint64_t used
        self.there()
        used = self.own - load64(<uint64_t *> (self.words + HEAD))
        if used > self.size:
            raise RecordError(f"a chute that says it holds {used} bytes of {self.size}")
        return <long long> (self.size - used)

    cpdef Py_ssize_t put(self, bytes piece, Py_ssize_t start) except -1:
        """Write of ``piece`` from ``start`` on what there is room for. Returns how many bytes that were."""
        cdef size_t count = <size_t> self.room()
        cdef size_t place = self.own % self.size
        cdef size_t first = self.size - place
        cdef const char *at = PyBytes_AS_STRING(piece) + start
        if count > <size_t> (PyBytes_GET_SIZE(piece) - start):
            count = PyBytes_GET_SIZE(piece) - start
        if count == 0:
            return 0
        if first > count:
            first = count
        memcpy(self.bytes_at + place, at, first)
        if count > first:
            memcpy(self.bytes_at, at + first, count - first)
        self.filled(count)
        return count

    def space(self):
        """Where the next bytes may be written, as a memoryview; then call ``filled``. Use it before the page is closed."""
        cdef size_t count = <size_t> self.room()
        cdef size_t place = self.own % self.size
        if count > self.size - place:
            count = self.size - place
        return PyMemoryView_FromMemory(<char *> self.bytes_at + place, count, PyBUF_WRITE)

    cpdef filled(self, Py_ssize_t count):
        """So many bytes stand there now."""
        self.own += <uint64_t> count
        store64(<uint64_t *> (self.words + TAIL), self.own)

    # Who reads

    cpdef long long held(self) except -1:
        """Bytes that may be read now. Raises RecordError for what no writer of ours leaves."""
        cdef uint64_t used
        self.there()
        used = load64(<uint64_t *> (self.words + TAIL)) - self.own
        if used > self.size:
            raise RecordError(f"a chute that says it holds {used} bytes of {self.size}")
        return <long long> used

    cpdef bytes take(self, Py_ssize_t most):
        """At most so many bytes."""
        cdef size_t count = <size_t> self.held()
        cdef size_t place = self.own % self.size
        cdef size_t first = self.size - place
        cdef bytes out
        if count > <size_t> most:
            count = most
        if first > count:
            first = count
        out = PyBytes_FromStringAndSize(NULL, count)
        memcpy(PyBytes_AS_STRING(out), self.bytes_at + place, first)
        if count > first:
            memcpy(PyBytes_AS_STRING(out) + first, self.bytes_at, count - first)
        self.moved(count)
        return out

    def take_into(self, into):
        """As many bytes as there are and as go into a writable buffer. Returns how many."""
        cdef Py_buffer view
        cdef size_t count = <size_t> self.held()
        cdef size_t place = self.own % self.size
        cdef size_t first = self.size - place
        PyObject_GetBuffer(into, &view, PyBUF_WRITABLE)
        try:
            if count > <size_t> view.len:
                count = view.len
            if first > count:
                first = count
            memcpy(view.buf, self.bytes_at + place, first)
            if count > first:
                memcpy(<char *> view.buf + first, self.bytes_at, count - first)
        finally:
            PyBuffer_Release(&view)
        self.moved(count)
        return count

    cpdef Py_ssize_t send(self, int fd, Py_ssize_t most) except -1:
        """Into a non-blocking socket what it takes, at most so many bytes. Returns how many; 0 also when it is broken."""
        cdef size_t count = <size_t> self.held()
        cdef size_t place = self.own % self.size
        cdef size_t first = self.size - place
        cdef Py_ssize_t sent
        if count > <size_t> most:
            count = most
        if count == 0:
            return 0
        if first > count:
            first = count
        sent = chute_send(fd, self.bytes_at + place, first, self.bytes_at, count - first)
        self.moved(sent)
        return sent

    cdef moved(self, Py_ssize_t count):
        self.own += <uint64_t> count
        store64(<uint64_t *> (self.words + HEAD), self.own)

    # A worker

    cpdef bint enter(self, uint64_t stream) except -1:
        """Go on where the chute stands, for ``stream``. DOWN: False while another request has it; it is given to the first
        who asks. UP: False unless the router has lent it to this one."""
        cdef uint64_t *owner = <uint64_t *> (self.words + OWNER)
        self.there()
        if self.way == DOWN:
            if not swap64(owner, 0, stream):
                return False
            self.own = load64(<uint64_t *> (self.words + TAIL))
        else:
            if load64(owner) != stream:
                return False
            self.own = load64(<uint64_t *> (self.words + HEAD))
        return True

    cpdef int ended(self) except -1:
        """OPEN; WHOLE: nothing more will be written; GONE: nobody wants it, or will write more, or the page says what it cannot.
        Asked before ``held``, the last bytes are not missed."""
        cdef uint64_t ended
        self.there()
        ended = load64(<uint64_t *> (self.words + ENDED))
        return <int> ended if ended <= GONE else GONE

    cpdef bint calls(self) except -1:
        """After ``put`` or ``take``: a router that rests is to be called. UP: only once half of the chute is free."""
        if load64(<uint64_t *> (self.words + QUIET)):
            return False
        return self.way == DOWN or 2 * <uint64_t> self.held() <= self.size

    cpdef bint ask(self, uint64_t wanted) except -1:
        """Have the router send a message once there are ``wanted`` bytes, or an end. False: there are."""
        cdef uint64_t *sleeps = <uint64_t *> (self.words + SLEEPS)
        store64(sleeps, wanted | BY_MESSAGE)
        if not self.ready(wanted):
            return True
        store64(sleeps, 0)
        return False

    cdef bint ready(self, uint64_t wanted) except -1:
        return self.ended() or <uint64_t> (self.room() if self.way == DOWN else self.held()) >= wanted

    cpdef bint sleep(self, uint64_t wanted, int timeout_ms) except -1:
        """Wait for ``wanted`` bytes (of room DOWN, to read UP), for the end, or for so long; other threads may run. False: it
        was not worth it, they are there. A signal ends it, and its Python handler has run, or has raised."""
        cdef uint32_t *bell = <uint32_t *> (self.words + BELL)
        cdef uint64_t *sleeps = <uint64_t *> (self.words + SLEEPS)
        cdef uint32_t seen = chute_bell(bell)
        store64(sleeps, wanted)
        if self.ready(wanted):
            store64(sleeps, 0)
            return False
        with nogil:
            chute_wait(bell, seen, timeout_ms)
        store64(sleeps, 0)
        PyErr_CheckSignals()
        return True

    # A router

    cpdef lend(self, uint64_t stream):
        """Begin with ``stream``. DOWN: it has taken the chute, and says so. UP: it may have it."""
        self.there()
        if self.way == DOWN:
            self.own = load64(<uint64_t *> (self.words + HEAD))
        else:
            store64(<uint64_t *> (self.words + OWNER), stream)

    cpdef bint end(self, int how) except -1:
        """Say WHOLE or GONE, behind what was written, and wake who waits, as ``wake`` does."""
        self.there()
        store64(<uint64_t *> (self.words + ENDED), how)
        return self.wake()

    cpdef quiet(self, bint on):
        """Whether we are not to be called, since there would be nothing to do. When that ends, look once more."""
        store64(<uint64_t *> (self.words + QUIET), on)

    cpdef bint wake(self) except -1:
        """Wake a worker that waits, if there is now what it waits for. True: it waits for a message, the caller's to send."""
        cdef uint64_t *sleeps = <uint64_t *> (self.words + SLEEPS)
        cdef uint64_t said = load64(sleeps)
        cdef uint64_t wanted = said & (BY_MESSAGE - 1)
        cdef uint64_t there
        if said == 0:
            return False
        if self.way == DOWN:
            there = self.size - (load64(<uint64_t *> (self.words + TAIL)) - self.own)
        else:
            there = self.own - load64(<uint64_t *> (self.words + HEAD))
        if there < wanted and load64(<uint64_t *> (self.words + ENDED)) == OPEN:
            return False
        store64(sleeps, 0)
        if said & BY_MESSAGE:
            return True
        chute_ring(<uint32_t *> (self.words + BELL))
        return False

    cpdef clear(self):
        """Nobody has it any more; what it held is dropped, and its memory given back. Also for one whose worker has died."""
        self.there()
        if self.way == DOWN:
            self.own = load64(<uint64_t *> (self.words + TAIL))
        chute_give_back(self.bytes_at, self.size)
        store64(<uint64_t *> (self.words + TAIL), self.own)
        store64(<uint64_t *> (self.words + HEAD), self.own)
        store64(<uint64_t *> (self.words + ENDED), OPEN)
        store64(<uint64_t *> (self.words + QUIET), 0)
        store64(<uint64_t *> (self.words + OWNER), 0)
        if load64(<uint64_t *> (self.words + SLEEPS)):
            # By a connection that is lost: let it see that.
            store64(<uint64_t *> (self.words + SLEEPS), 0)
            chute_ring(<uint32_t *> (self.words + BELL))
