# The C shape of guarded.py.
cimport cython

from emperor.protocol.chute cimport Chute
from emperor.protocol.scoreboard cimport now_ns
from emperor.zeromq cimport Wire
from vassals.worker.kept cimport Kept
from vassals.worker.late cimport Watch
from vassals.worker.link cimport Exchange, Link
from vassals.worker.offspring cimport forked_off

cdef class Guard:
    cdef object _lock
    cdef object _take
    cdef object _let
    cdef Watch _watch
    cdef Kept _kept
    cdef int _depth
    cdef list _links
    cdef bint _runs
    @cython.locals(now="long long")
    cpdef leave(self, bint runs)
    cpdef come_back(self)
    cpdef enter(self)
    cpdef part(self)
    cdef _part(self, bint runs)
    cpdef send(self)
    cpdef bint keeps(self, Wire wire, Exchange exchange, long long took_us, bytes head, bytes body) except -1
    cpdef bytes take(self, Wire wire)
    cpdef drop(self, Wire wire)
    @cython.locals(link=Link)
    cpdef relieve(self)

cdef class GuardedLink(Link):
    cdef Guard _guard
    cdef bint _keeps
    cpdef send(self, Exchange exchange, bytes record)
    cpdef look(self, Exchange exchange)
    cpdef end(self, Exchange exchange, bytes record)
    cpdef finish(self, Exchange exchange, bytes head, bytes body)
    cpdef wait_for(self, Exchange exchange)
    cpdef bint enter(self, Exchange exchange) except -1
    cpdef Py_ssize_t put(self, Exchange exchange, bytes body, Py_ssize_t offset) except -1
    cpdef Py_ssize_t draw(self, Exchange exchange, object into) except -1
    @cython.locals(place=Chute, waits=bint)
    cpdef wait_at(self, Exchange exchange, int way, Py_ssize_t wanted)
    @cython.locals(wire=Wire)
    cpdef _deliver(self, Exchange exchange, long long took_us, bytes head, bytes body)
    cpdef _transmit(self, bytes record)
    cpdef _lose(self)
