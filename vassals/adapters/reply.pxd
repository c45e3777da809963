# The C shape of reply.py.
cimport cython

from emperor.protocol.scope cimport response_head
from vassals.adapters.frameless cimport Frameless

cdef str _FRESH, _HEADED, _DONE

@cython.final
cdef class Sending(Frameless):
    cdef Reply _reply
    cdef object _message
    @cython.locals(reply=Reply)
    cdef bint _goes_now(self) except -1

cdef class Reply:
    cdef public dict scope
    cdef public str state
    cdef public bint ended
    cdef public str cut
    cdef public object _exchange
    cdef public bint _body_read
    cdef public bytes _head
    cdef public long long _length
    cdef public bint _bare
    cdef public long long _sent_bytes
    cdef public long long _cut_bytes
    cdef public bint _trails
    cdef public bytes _trailer_lines
    cdef public list _senders
    cdef public bint is_head
    @cython.locals(sending=Sending)
    cpdef send(self, message)
    cpdef bint now(self, message) except -1
    @cython.locals(head=bytes)
    cpdef _take_head(self, dict message)
    @cython.locals(size=cython.Py_ssize_t, head=bytes)
    cpdef bint _is_sent_whole(self, bytes body) except -1
    cpdef bint is_right(self) except -1
    cpdef bint is_short(self) except -1
