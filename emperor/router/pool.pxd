# The C shape of pool.py.
cimport cython

from emperor.router cimport deck

cdef long long MEAN_OF

cdef class Member:
    cdef public int slots
    cdef public int in_flight
    cdef public bint accepting
    cdef public bint fresh
    cdef public bint aside
    cdef public bint owed
    cdef public bint far
    cpdef bint room(self) except -1
    cpdef long long running_ns(self, long long now_ns) except? -1
    cpdef int waiting(self) except? -1

cdef class Pool:
    cdef public list members
    cdef public long long usual_ns
    cdef public long long mean_ns
    cdef readonly long long known
    cdef list _idle
    cpdef join(self, Member member)
    cpdef leave(self, Member member)
    cpdef became_idle(self, Member member)
    cpdef retire(self, Member member)
    @cython.locals(member=Member)
    cpdef bint serves(self) except -1
    @cython.locals(member=Member)
    cpdef Member idle_member(self)
    cpdef took(self, long long service_ns)
    cpdef took_in_vain(self, long long service_ns)
    @cython.locals(member=Member, free=int)
    cpdef int free_slots(self) except -1
    @cython.locals(member=Member, total=int)
    cpdef int total_slots(self) except -1
    cpdef long long depth(self, int slots) except? -1
    cpdef long long long_ns(self) except? -1
    @cython.locals(member=Member, best=Member)
    cpdef Member deck_member(self, long long now_ns)
    @cython.locals(member=Member, best=Member, best_ns="long long", running_ns="long long")
    cpdef Member stuck_member(self, long long now_ns)
    @cython.locals(member=Member, stuck=list, others=bint)
    cpdef list stuck_members(self, long long now_ns, bint elsewhere=*)
    @cython.locals(member=Member, best=Member, again=bint, waiting=int)
    cpdef tuple blocked_member(self, long long now_ns)
