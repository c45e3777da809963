# The C shape of front.py.
cimport cython

from emperor.protocol cimport http1, packet
from emperor.protocol.chute cimport Chute
from emperor.protocol.packet cimport RequestHead
from emperor.router cimport states
from emperor.router.app cimport App
from emperor.router.exchange cimport Client, Exchange
from emperor.router.routes cimport Routes
from emperor.sending cimport send_now

cdef class Door:
    cdef public object loop
    cdef public object settings
    cdef public object deadlines
    cdef public double head_s
    cdef public double idle_s
    cdef public bytes date
    cdef public bint draining
    cdef public double parting_s
    cdef public Routes routes
    cdef public http1.Limits limits
    cdef public long keepalive_requests
    cdef public object hits
    cdef object _repeats
    cdef public object kept
    cdef public object dripping
    cdef public long long ahead
    cdef public long long ahead_limit
    cpdef App app(self, str name)

cdef class Front(Client):
    cdef public Door door
    cdef public object terms
    cdef public object ends
    cdef public str vassal
    cdef public object transport
    cdef public Exchange exchange
    cdef public double deadline
    cdef public double write_deadline
    cdef public str peer
    cdef Py_ssize_t _unsent
    cdef long long _ahead
    cdef int _framing
    cdef long long _left
    cdef bint _keep
    cdef bint _head_sent
    cdef bint _paused
    cdef bint _narrow
    cdef int _small_pieces
    cdef bytearray _held
    cdef RequestHead _head
    cdef bytes _trailer
    cdef bytes _own_id
    cdef double _body_from
    cdef double _unread_from
    cdef bint _closing
    cdef bint _lost
    cdef bint _encrypted
    cdef int _status
    cdef int _fields
    cdef long long _head_bytes
    cdef long long _body_bytes
    cdef http1.Outcome _outcome
    cdef int _fd
    cdef object _lane
    cdef bint _reading
    cdef bint _met_the_end
    cdef bint _queued
    cpdef noted(self, Exchange exchange, bint cut)
    cpdef int response_flags(self, Exchange exchange) except -1
    cpdef response_sent(self, bint keep)
    @cython.locals(out=bytes, outcome=http1.Outcome)
    cpdef respond(self, Exchange exchange, bytes head, bytes body, bint fin)
    @cython.locals(sent=Py_ssize_t)
    cpdef _write(self, bytes data)
    cpdef _pass_on(self, bytes data)
    cpdef bint late(self, double now) except -1
    @cython.locals(door=Door)
    cpdef bint _let_off(self, object app, Py_ssize_t size) except -1
    @cython.locals(size=cython.Py_ssize_t)
    cpdef more(self, Exchange exchange, bytes body, bint fin)
    @cython.locals(size=Py_ssize_t, sent=Py_ssize_t, part=Py_ssize_t, want=Py_ssize_t)
    cpdef Py_ssize_t pour(self, Exchange exchange, Chute chute, Py_ssize_t most, bint ahead) except -2
    @cython.locals(size=Py_ssize_t)
    cpdef pour_all(self, Exchange exchange, Chute chute)
    cpdef _count(self, Py_ssize_t size)
    cpdef _cut(self, Exchange exchange)
    cpdef _narrow_down(self)
    @cython.locals(size=cython.Py_ssize_t)
    cpdef _put(self, bytes body)
    cpdef double body_deadline(self, long long seen) except -1
    cpdef fail(self, Exchange exchange, int status, str reason, str cause=*)
    cpdef begun(self, Exchange exchange)
    cpdef drained(self, Exchange exchange)
    cpdef _done(self)
