# The C shape of wsgi.py.
cimport cython

from emperor.protocol.environ cimport environ as read_packet
from emperor.protocol.environ cimport code_of, count_of, response_head
from vassals.adapters.answer cimport Answer

cdef class Response:
    cdef Answer _exchange
    cdef bint _is_head
    cdef long long _sent_bytes
    cdef public bytes head
    cdef public long long length
    cdef public long long cut_bytes
    cdef public bint started
    cdef public bint bare
    @cython.locals(size=cython.Py_ssize_t, length=cython.longlong, count=cython.longlong)
    cpdef long long _look_through(self, list headers) except? -2
    @cython.locals(size=cython.Py_ssize_t, head=bytes)
    cpdef str whole(self, bytes body)

cdef class Wsgi:
    cdef object _app
    cdef object _errors
    cdef dict _constants
    cdef object _raised
    @cython.locals(response=Response, environ=dict, offset=cython.Py_ssize_t, leave=str)
    cpdef str run(self, Answer exchange)
