# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The ring of a worker's whole responses on the page that it shares with a router (docs/specs/backplane.md, section 5).

A message through ZeroMQ costs each side more than answering a small request does, and a worker must not enter app code with
an answer unsent. So it puts whole responses where the router reads them while it is awake anyway, and sends a message only
to wake it. What stands in the ring is out of the worker's hands: the router finds it there even when the worker has died.

One writer, one reader, two counters of bytes that only grow: ``tail`` is the writer's and moves behind whole records, ``head``
the reader's. ``state`` says whether the reader looks by itself. The reader says that it rests and then looks once more; the
writer moves ``tail`` and then looks at ``state``: one of them sees the other.

Each side keeps its own counter to itself and checks the other's: the page has another writer, who may be hostile.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from emperor.protocol cimport records
from emperor.protocol.scoreboard cimport Board, RING_BYTES, load64, store64, swap64

from emperor.protocol.errors import BoardError, RecordError

cdef enum:
    # Where things stand, each in a cache line of its own.
    TAIL = 0
    HEAD = 64
    STATE = 128
    DATA = 192
    ROOM = RING_BYTES - DATA
    # A larger response is a message: it costs little beside what it carries.
    MOST = 8192

cdef enum:
    # The reader: looks when it is called, looks by itself, has been called
    RESTS = 0
    WATCHES = 1
    CALLED = 2

CAPACITY = ROOM
LARGEST = MOST

cdef uint8_t SCRATCH[MOST]


cdef class Writer:
    """A worker's end. ``begin`` at each WELCOME: what an earlier connection left is nobody's."""

    def __init__(self, Board board not None, int seat, int router):
        self.board = board
        self.at = board.ring(seat, router)
        self.tail = 0

    def begin(self):
        """Go on where the ring stands."""
        self.tail = load64(<uint64_t *> (self.at + TAIL))

    cpdef bint put(self, uint64_t stream, uint32_t service_us, bytes head, bytes body) except -1:
        """A whole response. False: it is too large, or the ring too full: then it goes as a message."""
        cdef size_t size = 22 + PyBytes_GET_SIZE(head) + PyBytes_GET_SIZE(body)
        cdef uint64_t used = self.tail - load64(<uint64_t *> (self.at + HEAD))
        cdef size_t place, first
        if size > MOST or used > ROOM or size > ROOM - used:
            return False
        place = self.tail % ROOM
        first = ROOM - place
        if size <= first:
            records.put_response(<char *> self.at + DATA + place, records.FIN, stream, service_us, head, body)
        else:
            records.put_response(<char *> SCRATCH, records.FIN, stream, service_us, head, body)
            memcpy(self.at + DATA + place, SCRATCH, first)
            memcpy(self.at + DATA, SCRATCH + first, size - first)
        self.tail += size
        store64(<uint64_t *> (self.at + TAIL), self.tail)
        return True

    cpdef bint must_call(self) except -1:
        """After ``put``: the reader rests and nobody has called it yet, which is the caller's to do now."""
        cdef uint64_t *state = <uint64_t *> (self.at + STATE)
        return load64(state) == RESTS and swap64(state, RESTS, CALLED)


cdef class Reader:
    """A router's end, for one link. What stood there before is dropped."""

    def __init__(self, Board board not None, int seat, int router):
        self.board = board
        self.at = board.ring(seat, router)
        self.head = load64(<uint64_t *> (self.at + TAIL))
        store64(<uint64_t *> (self.at + HEAD), self.head)
        self.rest()

    cpdef bint has(self) except -1:
        """There is something to take."""
        if self.board.page == NULL:
            raise BoardError("the page is closed")
        return load64(<uint64_t *> (self.at + TAIL)) != self.head

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

    cpdef watch(self):
        """The reader looks by itself from now on."""
        store64(<uint64_t *> (self.at + STATE), WATCHES)

    cpdef rest(self):
        """It must be called from now on; ``has`` must be asked once more."""
        store64(<uint64_t *> (self.at + STATE), RESTS)
