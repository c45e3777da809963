# The C shape of queue.py.
cimport cython

from emperor.router.exchange cimport Exchange

cdef class Queue:
    cdef public Py_ssize_t limit
    cdef object _waiting
    cpdef bint add(self, Exchange exchange) except -1
    @cython.locals(other=Exchange, index=Py_ssize_t)
    cpdef put_back(self, Exchange exchange)
    cpdef Exchange take(self)
    cpdef Exchange take_newest(self)
    cpdef Exchange oldest(self)
    cpdef Exchange newest(self)
