# The C shape of uwsgi.py.
cimport cython

from emperor.protocol cimport http1, packet
from emperor.router.app cimport App
from emperor.router.exchange cimport Exchange
from emperor.router.front cimport Front

cdef class UwsgiConnection(Front):
    cdef object _buffer
    cdef bytes _instead
    cdef long long _left_in
    cdef bint _is_head
    cdef bytes _early
    cdef bint _tunnel
    cpdef data_received(self, bytes data)
    @cython.locals(app=App, exchange=Exchange, limit=cython.longlong)
    cpdef _packet(self, bytes sent, bytes body)
    cpdef _hold(self, bytes data)
    cpdef _take(self, Exchange exchange, bytes data)
    cpdef _body(self, Exchange exchange, bytes data)
    cpdef int response_flags(self, Exchange exchange) except -1
    cpdef response_sent(self, bint keep)
