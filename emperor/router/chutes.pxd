# The C shape of chutes.py.
cimport cython

from emperor.protocol cimport chute
from emperor.protocol.chute cimport Chute
from emperor.protocol.scoreboard cimport monotonic_s
from emperor.router.exchange cimport Client, Exchange

cdef class Chutes:
    cdef public Chute down
    cdef public Chute up
    cdef public Exchange sender
    cdef public Exchange taker
    cdef public bint stuck
    cdef public bint ahead
    cdef public bint relieved
    cdef public double since
    cdef bint _left
    cdef Py_ssize_t _at
    cpdef bint active(self) except -1
    @cython.locals(exchange=Exchange, front=Client, moved=Py_ssize_t)
    cpdef Py_ssize_t pour(self) except -1
    @cython.locals(exchange=Exchange, front=Client)
    cpdef empty(self)
    @cython.locals(exchange=Exchange, moved=Py_ssize_t, count=Py_ssize_t, piece=bytes)
    cpdef Py_ssize_t lift(self) except -1
    cpdef bint rest(self) except -1
    cpdef bint leave(self, Exchange exchange) except -1
    cpdef release(self, Exchange exchange)
