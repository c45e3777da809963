# The C shape of sharing.py.
cimport cython

from emperor.protocol cimport records
from emperor.protocol.scoreboard cimport Board, now_ns
from emperor.router cimport states
from emperor.router.exchange cimport Exchange
from emperor.router.link cimport Link

cdef class Sharing:
    cdef public object app
    cdef public bint leaves
    cdef dict _vain
    cdef long long _vain_second
    @cython.locals(count=int, has_room=bint)
    cpdef int take(self, Link link) except -1
    @cython.locals(
        count=int, since_ns=cython.longlong, now=cython.longlong, soon_ns=cython.longlong, others_ns=cython.longlong
    )
    cpdef give(self, Link link)
    @cython.locals(exchange=Exchange, since_ns=cython.longlong, submitted_ns=cython.longlong)
    cpdef long long _waits_since(self, Link link) except -1
    @cython.locals(oldest=Exchange, has_reserved=bint)
    cpdef long long _queued_since(self) except -1
    cpdef int _wants(self) except -1
    @cython.locals(since_ns=cython.longlong, seat=int, board=Board)
    cpdef say(self)
    @cython.locals(board=Board)
    cpdef long long _others_wait(self, Link link, long long now) except -1
    @cython.locals(link=Link, short=bint)
    cpdef count_short(self)
    @cython.locals(link=Link, now=cython.longlong, found=bint, held=list)
    cpdef demand(self)
    @cython.locals(has=int)
    cpdef _ask_for(self, Link link, long long now)
