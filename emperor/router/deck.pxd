# The C shape of deck.py.

cdef long long MOST, WORTH_NS, ALONE_NS, FIRST_NS, LEAST_NS, HIGHEST_NS, LONG_NS, STALL_NS, OFTEN

cpdef long long first(long long service_ns) noexcept
cpdef long long learn(long long usual_ns, long long service_ns) noexcept
cpdef long long depth(long long usual_ns, int slots, bint alone) noexcept
cpdef long long depth_afar(long long usual_ns, int slots, long long rtt_ns) noexcept
cpdef long long long_ns(long long usual_ns) noexcept
