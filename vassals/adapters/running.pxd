from cpython.object cimport PyObject

from vassals.adapters.frameless cimport Frameless

cdef class Running(Frameless):
    cdef object _adapter, _app, _call, _over
    cdef dict _among
    cdef bint _begun, _ended
    cdef bint _step(self, PyObject **result) except -1
    cdef int _begin(self) except -1
    cdef int _returned(self) except -1
    cdef int _raised(self, object error) except -1
    cdef int _over_now(self) except -1

cpdef Running running(adapter, app, call, dict among, over)
