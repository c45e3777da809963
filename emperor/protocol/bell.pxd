# The C shape of what bell.pyx offers to compiled callers.
cpdef int ring_worker(int fd) noexcept
cpdef int hear(int fd) noexcept
cpdef int ring_router(int fd) noexcept
cpdef unsigned long long wait_readable(tuple fds, int timeout_ms) except? 0xFFFFFFFFFFFFFFFF
