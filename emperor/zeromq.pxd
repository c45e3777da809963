# The C shape of what zeromq.pyx offers to compiled callers.
cdef class Wire:
    cdef void *handle
    cdef object socket
    cdef readonly bint more
    cpdef bytes receive(self)
    cpdef int send(self, bytes frame, bint more=*) except -1
    cpdef int events(self) except -1
