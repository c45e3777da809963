# The C shape of lines.py, which every worker runs once: compiled, it writes to no page that a worker shares.
cimport cython

from vassals.worker.link cimport Exchange, Link

cdef class Relay:
    cdef public str leave
    cdef public bint turned
    cdef public object tell
    cdef object _orders
    cdef object _wished
    cdef int _seat
    cdef bint _is_superseded

cdef class _Called(Relay):
    cdef int _fd

cdef class _Line:
    cdef public int seat
    cdef public str endpoint
    cdef public Link link
    cdef public _Called relay
    cdef public object thread
    cdef bint _over

cdef class Lines:
    cdef object _orders
    cdef object _make
    cdef int _bell
    cdef list _lines
    cdef int _met_fd
    cdef bint _calm
    cdef Link _last
    cdef object _guard
    @cython.locals(exchange=Exchange)
    cpdef Exchange next(self)
    @cython.locals(line=_Line, exchange=Exchange, last=Link, due=bint)
    cpdef Exchange _next(self)
    @cython.locals(line=_Line, exchange=Exchange)
    cpdef Exchange _here(self, list lines)
    @cython.locals(link=Link, come="unsigned long long", ready="unsigned long long")
    cdef bint _wait(self, list links) except -1
    cpdef _turn_from(self, _Line line)
