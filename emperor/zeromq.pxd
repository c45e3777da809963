# The C shape of what zeromq.pyx offers to compiled callers.
cdef int send_bytes(void *handle, const char *at, size_t size) noexcept nogil


cdef class Wire:
    cdef void *handle
    cdef object socket
    cdef readonly bint more
    cpdef bytes receive(self)
    cpdef int send(self, bytes frame, bint more=*) except -1
    cpdef int events(self) except -1


cdef class Socket:
    cdef void *handle
    cdef Context context
    cpdef set(self, int option, value)
    cdef int get(self, int option) except? -1
    cpdef int events(self) except? -1
    cpdef int fd(self) except? -1
    cpdef connect(self, str endpoint)
    cpdef Socket watch(self, int events, int kind)
    cpdef unwatch(self)
    cpdef close(self)
    cdef int check(self, int result) except -1


cdef class Context:
    cdef void *handle
    cdef list sockets
    cpdef Socket socket(self, int kind)
    cpdef destroy(self)
