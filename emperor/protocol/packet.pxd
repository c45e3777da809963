# The C shape of what packet.pyx offers to http1.pyx.
from libc.stdint cimport uint8_t

cdef class RequestHead:
    cdef readonly bytes packet
    cdef readonly bytes method
    cdef readonly bytes host
    cdef readonly bytes path
    cdef readonly long long content_length
    cdef readonly bint chunked
    cdef readonly bint keep_alive
    cdef readonly bint expect_continue
    cdef readonly bint http11
    cdef readonly bint is_head
    cdef readonly bint idempotent
    cdef readonly bint forwarded
    cdef readonly bint takes_trailers
    cdef readonly bint websocket

cdef enum:
    PACKET_LIMIT = 65535

cdef struct Writer:
    # room for the 4-byte header, a full block, and one byte more than any check lets in
    uint8_t *at
    Py_ssize_t used
    bint full

cdef void put_raw(Writer *out, const char *raw, Py_ssize_t size) noexcept
cdef void put_text(Writer *out, const char *raw, Py_ssize_t size) noexcept
cdef bytes finish(Writer *out)
cdef bint is_idempotent(const char *method, Py_ssize_t size) noexcept
cdef bytes plain_host(const char *raw, Py_ssize_t size)
cpdef bytes host_of(bytes text)
cdef bint speaks_for_others(const uint8_t *name, Py_ssize_t size) noexcept
cpdef bytes new_id()
cpdef bytes identify(RequestHead head, bint believed)
cpdef RequestHead admit(bytes packet, bytes instead=*)
cpdef dict variables(bytes packet)
cpdef RequestHead altered(RequestHead head, dict changes)
