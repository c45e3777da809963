# The C shape of what sending.pyx offers to compiled callers.
cpdef Py_ssize_t send_now(int fd, bytes data) noexcept
