# The C shape of replies.py.
cimport cython

cdef int _HEAD, _LENGTH, _CHUNK_SIZE, _CHUNK_DATA, _CHUNK_END, _TRAILERS, _TO_CLOSE, _TUNNEL, _DONE

cdef class Replies:
    cdef bint _cgi
    cdef bytes _data
    cdef Py_ssize_t _at
    cdef int _state
    cdef long long _left
    cdef bint _no_body
    cdef bint _upgrade
    cdef int _interims
    cdef list _trailers
    cdef Py_ssize_t _trailer_bytes
    cdef public bint keep
    @cython.locals(state=int, piece=bytes)
    cpdef next(self)
    cpdef feed(self, bytes data)
    @cython.locals(data=bytes, start=Py_ssize_t, end=Py_ssize_t, status=int)
    cdef _head(self)
    @cython.locals(each=bytes, length=cython.longlong)
    cdef _frame(self, int status, bytes version, bytes fields)
    cdef _interim(self, int status, bytes lines)
    cdef _done(self)
    @cython.locals(end=Py_ssize_t)
    cdef bint _chunk_size(self) except -1
    @cython.locals(end=Py_ssize_t, size=Py_ssize_t)
    cdef _trailer_lines(self)
