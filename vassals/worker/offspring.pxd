# The C shape of what offspring.pyx offers to compiled callers.
cpdef bint forked_off() noexcept
