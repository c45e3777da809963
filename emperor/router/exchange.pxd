# The C shape of exchange.py.
cimport cython

from emperor.protocol.chute cimport Chute
from emperor.protocol.packet cimport RequestHead
from emperor.protocol cimport records
from emperor.router cimport states

cdef class Client:
    cpdef respond(self, Exchange exchange, bytes head, bytes body, bint fin)
    cpdef more(self, Exchange exchange, bytes body, bint fin)
    cpdef Py_ssize_t pour(self, Exchange exchange, Chute chute, Py_ssize_t most, bint ahead) except -2
    cpdef pour_all(self, Exchange exchange, Chute chute)
    cpdef fail(self, Exchange exchange, int status, str reason, str cause=*)
    cpdef begun(self, Exchange exchange)
    cpdef switch(self, Exchange exchange, bytes head)
    cpdef drained(self, Exchange exchange)
    cpdef carried(self, Exchange exchange, long long count, int how)

cdef class Streams:
    cdef unsigned long long _epoch
    cdef unsigned long long _counter
    cpdef unsigned long long next(self)

cdef class Exchange:
    cdef public Client front
    cdef public RequestHead head
    cdef public object app
    cdef public object link
    cdef public object worker
    cdef public object access
    cdef public object part
    cdef public int retry_s
    cdef public object ticket
    cdef public bint retried
    cdef public bint whole_in_hand
    cdef public bytes request_id
    cdef public double arrived
    cdef public double submitted
    cdef public double queue_deadline
    cdef public double answer_deadline
    cdef public int state
    cdef public unsigned long long stream
    cdef public int word
    cdef public bint on_deck
    cdef public long long begun_ns
    cdef public object chunks
    cdef public Py_ssize_t buffered
    cdef public bint body_done
    cdef public object spooled
    cdef public bint to_disk
    cdef public long long rest
    cdef public bytes first_part
    cdef public bint fin_sent
    cdef public long long credit
    cdef public long long uncredited
    cdef public long long window
    cdef public long long owed
    cdef public int interims
    cdef public bint tunnel

    cdef _begin(self, Client front, RequestHead head, double arrived, object app)
    @cython.locals(following=int)
    cpdef int step(self, int event) except -1
    cpdef bint unanswered(self, double now) except -1
    cpdef body(self, bytes data)
    cpdef bint full(self) except -1
    cpdef bint has_room(self) except -1
    cpdef long long _waiting_bytes(self) except? -1
    cpdef long long _most(self) except? -1
    @cython.locals(whole=bytes)
    cpdef bytes first(self)
    cpdef take_back(self)
    cpdef list credited(self)
    cpdef forget_body(self)

@cython.locals(exchange=Exchange)
cpdef Exchange new_exchange(Client front, RequestHead head, double arrived, object app)
