# The C shape of asynclink.py.
cimport cython

from emperor.protocol cimport records
from emperor.protocol.bell cimport hear
from vassals.worker.link cimport Exchange, Link
from vassals.worker.offspring cimport forked_off
from vassals.worker.slotted cimport SlottedLink

cdef class LoopExchange(Exchange):
    cdef LoopLink _loop_link
    cdef bytes _first
    cdef object _pieces
    cdef bint _whole
    cdef bint _lent
    cdef long long _granted
    cdef long long _fed
    cdef long long _owed
    cdef list _futures
    cdef object _listener
    cdef bint _blocked
    @cython.locals(size=cython.Py_ssize_t, link=LoopLink)
    cpdef bint finish_now(self, bytes head, bytes body) except -1
    @cython.locals(first=cython.Py_ssize_t, link=LoopLink)
    cpdef Py_ssize_t start_now(self, bytes head, bytes body) except -1
    @cython.locals(begin=cython.Py_ssize_t, size=cython.Py_ssize_t, left=cython.Py_ssize_t, room=cython.longlong, link=LoopLink)
    cpdef Py_ssize_t send_now(self, bytes body, Py_ssize_t offset) except -1
    cpdef read_from(self, Py_ssize_t offset)
    cpdef take(self)
    cpdef _draw(self)
    cpdef _took(self, Py_ssize_t size)
    cpdef switch_now(self, bytes head, object listener)
    cpdef feed(self, bytes piece, bint fin)
    cpdef took(self, Py_ssize_t size)
    cpdef changed(self)
    cpdef wake(self)
    cpdef close(self)

cdef class LoopLink(SlottedLink):
    cdef object _calls
    cdef object _loop
    cdef object _call_soon
    cdef public object future
    cdef object _begin_request
    cdef int _soft
    cdef object _told
    cdef bint _watching
    cdef bint _hears
    cdef bint _planned
    cdef bint _ticking
    cdef int _more
    cdef int _rate
    cdef object _waits
    cdef object _lingering
    cdef long long _idle_ns
    cpdef stir(self)
    cpdef _plan(self)
    cpdef _rung(self)
    @cython.locals(rounds=int)
    cpdef _draw_all(self)
    @cython.locals(lingering=object)
    cpdef bint _lingers(self) except -1
    @cython.locals(exchange=Exchange, slot=int, flags=int, word=int, stream=cython.ulonglong, payload=bytes)
    cpdef _run_deck(self)
    @cython.locals(free=int)
    cpdef bint _may_begin(self) except -1
    cpdef take_up(self, Exchange exchange, Py_ssize_t most)
    cpdef bint will_be_told(self, Exchange exchange, int way, Py_ssize_t wanted) except -1
    cpdef Py_ssize_t half(self) except -1
    cpdef last(self, Exchange exchange)
    cpdef _call(self)
    cpdef _unwatch(self)
    @cython.locals(made=LoopExchange)
    cpdef Exchange _new(self, int word, unsigned long long stream, bytes payload)
