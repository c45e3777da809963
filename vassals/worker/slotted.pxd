# The C shape of slotted.py.
cimport cython

from vassals.worker.link cimport Exchange, Link

cdef class SlottedLink(Link):
    cdef list _free_slots
    cdef dict _running
    cdef list _left
    @cython.locals(free=list, at=int)
    cpdef int _reserve(self) except -2
    cpdef _forgo(self, int slot)
    cpdef _occupy(self, Exchange exchange, int slot)
    @cython.locals(slot=int, wanted=bint)
    cpdef _vacate(self, Exchange exchange, bytes last, bytes body)
    cpdef int _free(self) except -1
    cpdef Exchange _find(self, unsigned long long stream)
    cpdef _lose(self)
