# The C shape of http.py.
cimport cython

from emperor.protocol cimport http1, packet
from emperor.protocol.packet cimport RequestHead
from emperor.router.app cimport App
from emperor.protocol.scoreboard cimport monotonic_s
from emperor.router.exchange cimport Exchange, new_exchange
from emperor.router.front cimport Front
from emperor.router.routes cimport Routes

cdef int _HEAD, _BODY, _WAIT, _DISCARD, _LINGER, _TUNNEL

cdef class HttpConnection(Front):
    cdef public int phase
    cdef public http1.Reader reader
    cdef Exchange _due
    cdef long long _body_seen
    cdef long long _limit
    cdef long long _pipeline_limit
    cdef long long _discard_limit
    cdef long _served
    cdef bint _interim
    cdef bint _believes
    cdef bint _half_closed
    cdef bint _nudged
    cdef bint _drips
    cdef bint _carried
    cdef int _goes
    @cython.locals(idle=bint)
    cpdef data_received(self, bytes data)
    @cython.locals(exchange=Exchange)
    cpdef _tunnelled(self, bytes data)
    @cython.locals(reader=http1.Reader, due=Exchange)
    cpdef _advance(self)
    @cython.locals(app=App, exchange=Exchange, routes=Routes)
    cpdef _request_head(self, RequestHead head)
    @cython.locals(exchange=Exchange)
    cpdef _request_body(self, bytes data)
    @cython.locals(exchange=Exchange)
    cpdef _request_end(self)
    @cython.locals(head=RequestHead, flags=int, most=long)
    cpdef int response_flags(self, Exchange exchange) except -1
    cpdef bint _rest_is_small(self, RequestHead head) except -1
    cpdef response_sent(self, bint keep)
    cpdef _next_request(self)
