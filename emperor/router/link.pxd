# The C shape of link.py.
cimport cython

from emperor.protocol.bell cimport ring_worker
from emperor.protocol.ring cimport Reader, Writer
from emperor.protocol.scoreboard cimport Board
from emperor.router.chutes cimport Chutes
from emperor.router.exchange cimport Exchange
from emperor.router.pool cimport Member
from emperor.zeromq cimport Wire

cdef int BUDGET, LOOKS, BULK_LOOKS, CALLS_MOST, _POLLIN

cdef class Link(Member):
    cdef public Backplane backplane
    cdef public Board board
    cdef public bytes identity
    cdef public bytes nonce
    cdef public long long generation
    cdef public int seat
    cdef public int width
    cdef public int offered
    cdef public int most
    cdef public int failing
    cdef public bint crashed
    cdef public double grace_s
    cdef public list held
    cdef public int recalled
    cdef public long long wanted_since_ns
    cdef public long long since_ns
    cdef public long long asked_ns
    cdef public int router_seat
    cdef public int pid
    cdef public int pidfd
    cdef public bint ready
    cdef public long long requests
    cdef public long long answered
    cdef public long long failed
    cdef public long long received
    cdef public Reader ring
    cdef public Writer request_ring
    cdef public int bell
    cdef public bint has_bell
    cdef public bint sleeps
    cdef public Chutes chutes
    cdef public bint watched
    cdef public int may_call
    cdef public dict streams
    cdef public list free_words
    cdef public list revoked_words
    cdef list outbox
    cdef list unsent
    cpdef bint room(self) except -1
    @cython.locals(still=list, word=int)
    cpdef _reclaim_words(self, Board board)
    cpdef long long running_ns(self, long long now_ns) except? -1
    cpdef int waiting(self) except? -1
    cpdef send(self, bytes record)
    @cython.locals(ring=Writer)
    cpdef bint is_rung(self) except -1
    @cython.locals(ring=Writer)
    cpdef bint put(self, int flags, int word, unsigned long long stream, bytes packet, bytes body) except -1
    @cython.locals(ring=Writer)
    cpdef wake(self)

cdef class Receiver:
    cpdef int message(self, Link link, bytes message) except -1
    cpdef bint bulk(self, Link link) except -1

cdef class Backplane:
    cdef public object context
    cdef public object loop
    cdef public object listener
    cdef public Receiver receiver
    cdef public dict links
    cdef public long long unasked
    cdef public long long unasked_total
    cdef public long long remade
    cdef list _dirty
    cdef list _sleepers
    cdef bint _flush_planned
    cdef bint _drain_planned
    cdef long long _second
    cdef list _watched
    cdef int _looks
    cdef int _rings_due
    cdef object _socket
    cdef Wire _wire
    cdef int _fd
    @cython.locals(ring=Reader)
    cpdef watch(self, Link link)
    @cython.locals(link=Link, found=bint, busy=bint, most=int)
    cpdef _look(self)
    @cython.locals(link=Link, ring=Reader)
    cpdef _rest(self)
    @cython.locals(link=Link, ring=Reader, found=bint)
    cpdef rung(self, long long generation)
    @cython.locals(ring=Reader)
    cpdef int look_into(self, Link link) except -1
    @cython.locals(wire=Wire, links=dict, left=int, link=Link, identity=bytes, message=bytes)
    cpdef drain(self)
    cpdef want_flush(self, Link link)
    cpdef want_wake(self, Link link)
    @cython.locals(wire=Wire, link=Link, outbox=list, dirty=list, sleepers=list, message=bytes, sent=bint)
    cpdef flush(self)
    @cython.locals(wire=Wire, reason=int)
    cpdef _send(self, Link link, bytes message)
