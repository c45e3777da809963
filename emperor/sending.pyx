# cython: language_level=3, boundscheck=False, wraparound=False
"""One system call: bytes into a non-blocking socket, with nothing around it.

uvloop keeps what is written until the end of its turn, in objects of its own; for a small answer that costs as much as sending it.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.errno cimport EINTR, errno

cdef extern from "<sys/socket.h>" nogil:
    ssize_t send(int, const void *, size_t, int)
    enum: MSG_DONTWAIT
    enum: MSG_NOSIGNAL


cpdef Py_ssize_t send_now(int fd, bytes data) noexcept:
    """How many bytes the socket took, 0 when it takes none now, or is broken: whoever reads it will hear of that."""
    cdef ssize_t sent
    while True:
        sent = send(fd, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent >= 0:
            return sent
        if errno != EINTR:
            return 0
