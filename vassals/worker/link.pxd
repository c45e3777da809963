# The C shape of link.py.
cimport cython

from emperor.protocol cimport chute, records, ring
from emperor.protocol.bell cimport hear, ring_router, wait_readable
from emperor.protocol.chute cimport Chute
from emperor.protocol.ring cimport Reader, Writer
from emperor.protocol.scoreboard cimport Board, now_ns
from emperor.zeromq cimport Wire
from vassals.adapters.answer cimport Answer
from vassals.worker.offspring cimport forked_off

cdef int _POLLIN, _POLLOUT, _LOOK_EVERY

cdef class Exchange(Answer):
    cdef Link _link
    cdef int _word
    cdef long long _credit
    cdef bint _by_chute
    cdef long long _sent
    cdef object _inbox
    cdef public unsigned long long stream
    cdef public long long begun_ns
    cdef public int slot
    cdef public bint news
    cdef public bint spoken
    cdef public bint upgrade
    cdef public bint again
    cdef public object waiter
    cpdef _set_up(self, Link link, int word, unsigned long long stream, bytes payload)
    cpdef body(self, Py_ssize_t offset)
    @cython.locals(size=cython.Py_ssize_t, link=Link)
    cpdef finish(self, bytes head, bytes body)
    @cython.locals(first=cython.Py_ssize_t)
    cpdef start(self, bytes head, bytes body)
    @cython.locals(size=cython.Py_ssize_t, cost=cython.Py_ssize_t)
    cpdef send(self, bytes body)
    cpdef look(self)
    cpdef end(self)
    cpdef abort(self, str reason)
    cpdef unsigned int _service_us(self)
    cpdef _spend(self, Py_ssize_t size)
    cpdef bint _is_large(self, Py_ssize_t size) except -1
    cpdef bint _is_out_of_credit(self) except -1
    @cython.locals(size=cython.Py_ssize_t, left=cython.Py_ssize_t, room=cython.longlong)
    cpdef _send_by_credit(self, bytes body, Py_ssize_t offset)
    cpdef close(self)

cdef class Link:
    cdef str _endpoint
    cdef bytes _hello
    cdef int _slots
    cdef int _seat
    cdef int _router_seat
    cdef Board _board
    cdef object _orders
    cdef object _log
    cdef object _zmq
    cdef public object _new_poll
    cdef object _socket
    cdef int _socket_fd
    cdef Wire _wire
    cdef Writer _ring
    cdef bint _has_ring
    cdef Reader _requests
    cdef int _bell
    cdef int _router_bell
    cdef bint _reads
    cdef bint _quiet
    cdef unsigned int _ready
    cdef Chute _down
    cdef Chute _up
    cdef bint _connected
    cdef object _deck
    cdef set _cancelled
    cdef Exchange _current
    cdef bytes _late_answer
    cdef bint _ran_long
    cdef int _pauses
    cdef long long _served
    cdef long long _limit
    cdef object _spent
    cdef bint _byed
    cdef bint _acknowledged
    cdef bint _was_refused
    cdef bint _leaves
    cdef bint _must_claim
    cdef bint _keeps_epoch
    cdef int _flags
    cdef unsigned int _epoch
    cdef bint _turned
    cdef bint _apart
    cdef list _others
    cdef list _kept
    cdef object _remote
    cdef bint _far
    cdef str _said
    cdef bint _gives_back
    cdef bytes _hint
    cdef public long long asks_since_ns
    cdef public long long stream_credit
    cdef public long long window
    cdef public long long fair_piece
    @cython.locals(exchange=Exchange, slot=int, flags=int, word=int, stream=cython.ulonglong, payload=bytes)
    cpdef Exchange next(self)
    @cython.locals(exchange=Exchange, slot=int, flags=int, word=int, stream=cython.ulonglong, payload=bytes)
    cpdef Exchange next_here(self)
    @cython.locals(record=records.Cursor)
    cpdef bint _draw_requests(self) except -1
    @cython.locals(exchange=Exchange)
    cpdef Exchange _begin(self, int slot, int flags, int word, unsigned long long stream, bytes payload)
    @cython.locals(made=Exchange)
    cpdef Exchange _new(self, int word, unsigned long long stream, bytes payload)
    cpdef int _reserve(self) except -2
    cdef bint _enter_slot(self, int slot) except -1
    cpdef _forgo(self, int slot)
    @cython.locals(ours=bint)
    cpdef _leave_slot(self, int slot, bint wanted)
    cpdef _occupy(self, Exchange exchange, int slot)
    cpdef _take_orders(self)
    cpdef bint _claim(self, int word, unsigned long long stream) except -1
    cpdef send(self, Exchange exchange, bytes record)
    cpdef look(self, Exchange exchange)
    cpdef end(self, Exchange exchange, bytes record)
    cpdef finish(self, Exchange exchange, bytes head, bytes body)
    cpdef _vacate(self, Exchange exchange, bytes last, bytes body)
    @cython.locals(word=int, took_us=cython.longlong)
    cpdef _conclude(self, Exchange exchange, int slot, bytes last, bytes body, bint wanted)
    cpdef _deliver(self, Exchange exchange, long long took_us, bytes head, bytes body)
    cpdef _lasted(self)
    cpdef _keep_pace(self)
    cpdef wait_for(self, Exchange exchange)
    cpdef bint enter(self, Exchange exchange) except -1
    @cython.locals(size=cython.Py_ssize_t)
    cpdef pour(self, Exchange exchange, bytes body, Py_ssize_t offset)
    cpdef Py_ssize_t put(self, Exchange exchange, bytes body, Py_ssize_t offset) except -1
    cpdef Py_ssize_t _put(self, Exchange exchange, bytes body, Py_ssize_t offset) except -1
    cpdef Py_ssize_t draw(self, Exchange exchange, object into) except -1
    cpdef Py_ssize_t _draw(self, Exchange exchange, object into) except -1
    cpdef _call_for(self, Chute chute)
    @cython.locals(how=int)
    cpdef _call_router(self)
    cpdef wait_at(self, Exchange exchange, int way, Py_ssize_t wanted)
    cpdef bint _awaits(self, Exchange exchange, Chute chute) except -1
    @cython.locals(wire=Wire)
    cpdef _transmit(self, bytes record)
    @cython.locals(events=int, wire=Wire)
    cpdef _glance(self)
    cpdef give_back(self)
    @cython.locals(stream=cython.ulonglong, returned=list)
    cpdef _return_deck(self)
    @cython.locals(events=int, wire=Wire)
    cpdef _wait(self, deadline)
    @cython.locals(requests=Reader)
    cpdef bint _listen(self, deadline) except -1
    cpdef bint _heed(self) except -1
    cpdef bint _sleep(self, tuple fds, deadline) except -1
    cpdef Exchange _find(self, unsigned long long stream)
    cpdef _announce(self, Exchange exchange)
    cpdef int _free(self) except -1
    cpdef _lose(self)
    @cython.locals(record=records.Cursor, message=bytes)
    cpdef _receive(self)
