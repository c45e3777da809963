# The C shape of shared.py.
cimport cython

from emperor.protocol.chute cimport Chute
from vassals.worker.link cimport Exchange, Link
from vassals.worker.offspring cimport forked_off
from vassals.worker.slotted cimport SlottedLink

cdef class Waiter:
    cdef public object bell
    cdef public Exchange exchange
    cdef public Waiter next
    cdef public bint rung

cdef class SharedLink(SlottedLink):
    cdef object _told
    cdef object _crew
    cdef object _mutex
    cdef bint _may_stand
    cdef int _bell_fd
    cdef int _main_fd
    cdef int _serving
    cdef Waiter _poller
    cdef list _idle
    cdef dict _resting
    cdef list _closing
    cdef bint _asleep
    cdef bint _rung
    cdef bint _sent
    cdef object _passed
    cdef int _stirring
    cdef int _roused
    @cython.locals(exchange=Exchange, slot=int, flags=int, word=int, stream=cython.ulonglong, payload=bytes)
    cpdef Exchange next(self)
    cpdef send(self, Exchange exchange, bytes record)
    cpdef look(self, Exchange exchange)
    cpdef end(self, Exchange exchange, bytes record)
    cpdef finish(self, Exchange exchange, bytes head, bytes body)
    cpdef wait_for(self, Exchange exchange)
    cpdef bint enter(self, Exchange exchange) except -1
    cpdef Py_ssize_t put(self, Exchange exchange, bytes body, Py_ssize_t offset) except -1
    cpdef Py_ssize_t draw(self, Exchange exchange, object into) except -1
    cpdef wait_at(self, Exchange exchange, int way, Py_ssize_t wanted)
    cpdef bint _may_wait_at(self, Exchange exchange, Chute place) except -1
    cpdef _look_up(self)
    cpdef _say_passed(self)
    cpdef _pause_as(self, Waiter me)
    cpdef _rest(self, Waiter me)
    cpdef _part(self)
    cpdef _rouse_for_deck(self)
    cpdef _rouse(self)
    cpdef _call(self, Waiter waiter)
    cpdef _call_poller(self)
