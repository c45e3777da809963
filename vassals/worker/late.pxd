from vassals.worker.kept cimport Kept


cdef class Watch:
    cdef readonly Kept kept
    cdef long long began
    cdef long long count
    cdef long long rests
    cdef long long closed
    cdef long long seen
    cdef int again_ms
    cdef int bell
    cpdef begins(self, long long at)
    cpdef ends(self)
    cpdef bint is_late(self)
    cpdef close(self)
    cdef ring(self)
