# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The rings on the page that a router and a worker share (docs/specs/backplane.md, section 5): one of whole responses, and one
of whole requests.

A message through ZeroMQ costs each side more than answering a small request does, and wakes two threads that do nothing
else. So what is small and whole is put where the other side reads it while it is awake anyway; a side that rests is waked,
by its bell or by a message. What stands in the ring of responses is out of the worker's hands: the router finds it there
even when the worker has died. What stands in the ring of requests is begun by nobody who does not claim its word first.

One writer, one reader, two counters of bytes that only grow: ``tail`` is the writer's and moves behind whole records, ``head``
the reader's. ``state`` says whether the reader looks by itself. The reader says that it rests and then looks once more; the
writer moves ``tail`` and then looks at ``state``: one of them sees the other.

Each side keeps its own counter to itself and checks the other's: the page has another writer, who may be hostile.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from emperor.protocol cimport records
from emperor.protocol.scoreboard cimport DOWN, Board, RING_BYTES, load64, store64, swap64, trade64

from emperor.protocol.errors import BoardError, RecordError

cdef enum:
    # Where things stand, each in a cache line of its own.
    TAIL = 0
    HEAD = 64
    STATE = 128
    DATA = 192
    ROOM = RING_BYTES - DATA
    # What is larger is a message: it costs little beside what it carries.
    MOST = 8192

cdef enum:
    # A turn given away that lasts longer was taken by somebody
    TAKEN_NS = 20000

cdef enum:
    # The reader: looks when it is called, looks by itself, has been called, looks when its bell rings
    RESTS = 0
    WATCHES = 1
    CALLED = 2
    LISTENS = 3

cdef extern from "sched.h":
    int sched_yield() noexcept nogil

cdef extern from *:
    """
    #if defined(__x86_64__) || defined(__i386__)
    #define emperor_pause() __builtin_ia32_pause()
    #elif defined(__aarch64__)
    #define emperor_pause() __asm__ __volatile__("yield")
    #else
    #define emperor_pause() ((void) 0)
    #endif
    """
    void pause "emperor_pause"() noexcept nogil

CAPACITY = ROOM
LARGEST = MOST

cdef uint8_t SCRATCH[MOST]

cdef inline long long monotonic_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec * <long long> 1000000000 + now.tv_nsec


cdef class Writer:
    """The end that puts records in: a worker's of responses (``way`` DOWN), a router's of requests (UP). ``begin`` at each new
    connection: what an earlier one left is nobody's."""

    def __init__(self, Board board not None, int seat, int router, int way=DOWN):
        self.board = board
        self.at = board.ring(seat, router, way)
        self.tail = self.room = 0

    def begin(self):
        """Go on where the ring stands."""
        self.room = 0
        self.tail = load64(<uint64_t *> (self.at + TAIL))

    def offer_nothing(self):
        """The same for a reader that is still to come: until it says so, it does not read."""
        self.begin()
        store64(<uint64_t *> (self.at + STATE), RESTS)

    cpdef bint put(self, uint64_t stream, uint32_t service_us, bytes head, bytes body) except -1:
        """A whole response. False: it is too large, or the ring too full: then it goes as a message."""
        cdef size_t size = 22 + PyBytes_GET_SIZE(head) + PyBytes_GET_SIZE(body)
        cdef uint8_t *to = self._room(size)
        if to == NULL:
            return False
        records.put_response(<char *> to, records.FIN, stream, service_us, head, body)
        self._done(size)
        return True

    cpdef bint put_request(self, int flags, int word, uint64_t stream, bytes packet, bytes body) except -1:
        """A whole request; else as ``put``."""
        cdef size_t size = 16 + PyBytes_GET_SIZE(packet) + PyBytes_GET_SIZE(body)
        cdef uint8_t *to = self._room(size)
        if to == NULL:
            return False
        records.put_request(<char *> to, flags, word, stream, packet, body)
        self._done(size)
        return True

    cdef uint8_t *_room(self, size_t size) except? NULL:
        """Where to write so many bytes: in the ring, or where its end would part them beside it. NULL: nowhere."""
        cdef size_t place
        if self.board.page == NULL:
            raise BoardError("the page is closed")
        if size > MOST:
            return NULL
        if size > self.room:
            # Asked for as seldom as can be: the line is in the other side's cache.
            self.room = self.tail - load64(<uint64_t *> (self.at + HEAD))
            self.room = ROOM - self.room if self.room <= ROOM else 0
            if size > self.room:
                return NULL
        place = self.tail % ROOM
        return self.at + DATA + place if size <= ROOM - place else SCRATCH

    cdef int _done(self, size_t size) except -1:
        cdef size_t place = self.tail % ROOM
        cdef size_t first = ROOM - place
        if size > first:
            memcpy(self.at + DATA + place, SCRATCH, first)
            memcpy(self.at + DATA, SCRATCH + first, size - first)
        self.tail += size
        self.room -= size
        store64(<uint64_t *> (self.at + TAIL), self.tail)
        return 0

    cpdef bint is_read(self) except -1:
        """Somebody reads it, or will when waked by a bell."""
        if self.board.page == NULL:
            raise BoardError("the page is closed")
        return load64(<uint64_t *> (self.at + STATE)) != RESTS

    cpdef bint rests(self) except -1:
        """The reader does not look by itself, and has not been called."""
        cdef uint64_t seen = load64(<uint64_t *> (self.at + STATE))
        return seen == RESTS or seen == LISTENS

    cpdef int must_call(self) except -1:
        """After ``put``: the reader rests and nobody has called it yet, which is the caller's to do now, by what is returned."""
        cdef uint64_t *state = <uint64_t *> (self.at + STATE)
        cdef uint64_t seen = load64(state)
        if (seen == RESTS or seen == LISTENS) and swap64(state, seen, CALLED):
            return BY_BELL if seen == LISTENS else BY_MESSAGE
        return NEITHER


cdef class Reader:
    """The end that takes them out: a router's of responses, a worker's of requests. What stood there before is dropped."""

    def __init__(self, Board board not None, int seat, int router, int way=DOWN):
        self.board = board
        self.at = board.ring(seat, router, way)
        if way == DOWN:
            self.begin()
            self.rest()

    def begin(self):
        """Drop all that is there, and go on behind it."""
        self.head = load64(<uint64_t *> (self.at + TAIL))
        store64(<uint64_t *> (self.at + HEAD), self.head)

    cpdef bint has(self) except -1:
        """There is something to take."""
        if self.board.page == NULL:
            raise BoardError("the page is closed")
        return load64(<uint64_t *> (self.at + TAIL)) != self.head

    cpdef bint linger(self, long long for_ns) except -1:
        """Look for so long, at most, and no longer than nobody else wants this processor. True: there is something to take."""
        cdef long long now_ns, until, gone_ns
        cdef int each
        cdef uint64_t *tail = <uint64_t *> (self.at + TAIL)
        cdef uint64_t head = self.head
        if self.board.page == NULL:
            raise BoardError("the page is closed")
        with nogil:
            now_ns = monotonic_ns()
            until = now_ns + for_ns
            while now_ns < until:
                for each in range(128):
                    if load64(tail) != head:
                        break
                    pause()
                else:
                    now_ns = monotonic_ns()
                    sched_yield()
                    gone_ns = monotonic_ns() - now_ns
                    now_ns += gone_ns
                    if gone_ns < TAKEN_NS:
                        continue
                break
        return load64(tail) != head

    cpdef bytes take(self):
        """All that is there, as a message of records. Raises RecordError for what no writer of ours leaves."""
        cdef uint64_t used
        cdef size_t place, first
        cdef bytes out
        if self.board.page == NULL:
            raise BoardError("the page is closed")
        used = load64(<uint64_t *> (self.at + TAIL)) - self.head
        if used > ROOM:
            raise RecordError(f"a ring that says it holds {used} bytes of {ROOM}")
        out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t> used)
        place = self.head % ROOM
        first = ROOM - place
        if used <= first:
            memcpy(PyBytes_AS_STRING(out), self.at + DATA + place, used)
        else:
            memcpy(PyBytes_AS_STRING(out), self.at + DATA + place, first)
            memcpy(PyBytes_AS_STRING(out) + first, self.at + DATA, used - first)
        self.head += used
        store64(<uint64_t *> (self.at + HEAD), self.head)
        return out

    cpdef bint watch(self) except -1:
        """The reader looks by itself from now on. True: it had been called, and has not heard it yet."""
        return trade64(<uint64_t *> (self.at + STATE), WATCHES) == CALLED

    cpdef bint called(self) except -1:
        """It has been called since it went to rest."""
        if self.board.page == NULL:
            raise BoardError("the page is closed")
        return load64(<uint64_t *> (self.at + STATE)) == CALLED

    cpdef rest(self, bint by_bell=False):
        """It must be called from now on; ``has`` must be asked once more."""
        store64(<uint64_t *> (self.at + STATE), LISTENS if by_bell else RESTS)
