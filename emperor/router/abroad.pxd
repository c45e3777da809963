# The C shape of abroad.py.
cimport cython

from emperor.protocol.packet cimport RequestHead
from emperor.protocol.scoreboard cimport monotonic_s, now_ns
from emperor.router cimport deck
from emperor.router.exchange cimport Exchange
from emperor.router.far cimport Far
from emperor.router.link cimport Link

cdef class Abroad:
    cdef public Far far
    cdef object _app
    cdef object _look
    @cython.locals(left_s=double, now=double, ahead=bint)
    cpdef member(self, Exchange exchange)
    @cython.locals(head=RequestHead)
    cpdef bint _may_be_ahead(self, Exchange exchange) except -1
    @cython.locals(each=Link)
    cpdef int _depth(self, link) except -1
    cpdef stuck(self, link)
    cpdef moves(self, link)
    @cython.locals(left_alone_s=double)
    cpdef answered(self, link, bint failed)
    cpdef failed(self, link)
