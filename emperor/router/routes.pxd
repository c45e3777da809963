# The C shape of routes.py.
cimport cython

cdef class Routes:
    cdef dict _exact
    cdef dict _wild
    cdef public object fallback
    cdef public bint shared
    @cython.locals(dot=Py_ssize_t, paths=tuple)
    cpdef find(self, bytes host, bytes path)

@cython.locals(prefix=bytes, target=object)
cdef _by_path(tuple paths, bytes path)
