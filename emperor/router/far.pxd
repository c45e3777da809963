# The C shape of far.py. Its members may be anything that has their attributes.
cimport cython


cdef class Host:
    cdef public list members
    cdef public int failures
    cdef public double failed_at
    cdef public int in_a_row
    cdef public int times_out
    cdef public double out_until
    cdef public int to_prove
    @cython.locals(width="long long", busy="long long", failures=int)
    cpdef double load(self, double now) except? -1
    cpdef bint admits(self, double now) except -1

cdef class Far:
    cdef public list members
    cdef public dict hosts
    cdef object _random
    cdef object _sums
    cdef object _last
    cdef bint _even
    cpdef _changed(self)
    @cython.locals(least=double, rtt_s=double)
    cpdef double patience_s(self) except? -1
    @cython.locals(in_flight="long long")
    cpdef near(self, double now, long long usually_ns, most)
    cpdef choose(self, double now)
    @cython.locals(admitted=list, drawn=tuple)
    cpdef _choose(self, double now)
    @cython.locals(host=Host, free=list, admitted=list)
    cpdef list _admitted(self, double now)
    @cython.locals(best_load=double, load=double, slots=int)
    cpdef choose_busy(self, double now, most)
    @cython.locals(host=Host)
    cpdef bint _takes_ahead(self, member, double now, most) except -1
    @cython.locals(first=Host, second=Host)
    cpdef _less_busy(self, one, other, double now)
    @cython.locals(host=Host)
    cpdef tuple _draw_two(self, double now)
    @cython.locals(host=Host)
    cpdef double answered(self, member, bint failed, double now) except? -1
