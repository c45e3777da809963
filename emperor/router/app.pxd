# The C shape of app.py.
cimport cython

from emperor.protocol cimport records, scoreboard
from emperor.protocol.scoreboard cimport Board, monotonic_s, now_ns
from emperor.router cimport states
from emperor.router.chutes cimport Chutes
from emperor.router.exchange cimport Exchange, Streams
from emperor.router.link cimport Backplane, Link, Receiver
from emperor.router.pool cimport Pool
from emperor.router.queue cimport Queue
from emperor.router.sharing cimport Sharing

cdef class Counts:
    cdef public long long requests
    cdef public list answered
    cdef public object errors
    cdef public object rejected
    cdef public object hits
    cdef public long long spooled
    cdef public long long requeued
    cdef public long long recovered
    cdef public long long revoked
    cdef public long long cancelled
    cdef public long long stale_records
    cdef public long long refused_hellos
    cdef public long long link_faults
    cdef public long long websockets
    cdef public long long websockets_opened

cdef class App(Receiver):
    cdef public object core
    cdef public Streams streams
    cdef public object entry
    cdef public str name
    cdef public object access
    cdef public object logged
    cdef object _log_opening
    cdef public bint available
    cdef public object forwarding
    cdef public bint forwards
    cdef public bint paused
    cdef public bint refuses
    cdef public long long body_limit
    cdef public object mounts
    cdef public bint request_id
    cdef public bint request_buffering
    cdef public long long post_buffering
    cdef public long long response_buffer
    cdef public double queue_timeout_s
    cdef public object request_limits
    cdef public bint times_requests
    cdef public object harakiri
    cdef public bint limits_runs
    cdef public object culprits
    cdef public object comings
    cdef public bint wary
    cdef public bint passed_over
    cdef object _repeats
    cdef public Queue queue
    cdef public bint careful
    cdef public bint limited
    cdef public bint retries
    cdef public bint sticks
    cdef public object shared
    cdef public object mirrors
    cdef public object balancer
    cdef public Pool pool
    cdef public dict generations
    cdef public set receiving
    cdef public set gone
    cdef public long long active
    cdef public object kept
    cdef public object beside
    cdef public dict totals
    cdef public Counts counts
    cdef public int decked
    cdef public Backplane backplane
    cdef object _look_again
    cdef long long _relief_due_ns
    cdef public bint closed
    cdef public Sharing sharing
    cdef public bint short
    cdef public object far

    cpdef submit(self, Exchange exchange)
    cpdef _time(self, Exchange exchange, double since)
    @cython.locals(member=Link)
    cpdef _place(self, Exchange exchange)
    cpdef _receive(self, Exchange exchange)
    cpdef _keep(self, Exchange exchange)
    cpdef _whole(self, Exchange exchange)
    @cython.locals(link=Link)
    cpdef give_up(self, Exchange exchange)
    cpdef bint waits(self, Exchange exchange) except -1
    @cython.locals(link=Link)
    cpdef bint withdraw(self, Exchange exchange) except -1
    cpdef body_arrived(self, Exchange exchange)
    @cython.locals(link=Link, chutes=Chutes)
    cpdef written(self, Exchange exchange, Py_ssize_t count)
    @cython.locals(pool=Pool)
    cpdef Link _taker(self, Exchange exchange)
    @cython.locals(queue=Queue, member=Link, first=Exchange)
    cpdef dispatch(self)
    @cython.locals(stream=cython.ulonglong, word=int, flags=int, first=bytes)
    cpdef _offer(self, Exchange exchange, Link link)
    @cython.locals(outcome=int)
    cpdef bint _revoke(self, Exchange exchange, Link link) except -1
    cpdef _unlink(self, Exchange exchange, Link link)
    cpdef _requeue(self, Exchange exchange)
    cpdef _rebalance(self)
    @cython.locals(now=cython.longlong)
    cpdef _relieve(self)
    @cython.locals(record=records.Cursor, count=int)
    cpdef int message(self, Link link, bytes message) except -1
    @cython.locals(chutes=Chutes, taker=Exchange, moved=Py_ssize_t, lifted=Py_ssize_t)
    cpdef bint bulk(self, Link link) except -1
    cpdef _lift(self, Link link, Exchange exchange)
    @cython.locals(chutes=Chutes)
    cpdef bint _lends(self, Link link, Exchange exchange) except -1
    @cython.locals(kind=int, exchange=Exchange, fin=bint, chutes=Chutes)
    cpdef _record(self, Link link, records.Cursor record)
    @cython.locals(head=bytes, body=bytes, service_ns=cython.longlong)
    cpdef _response(self, Link link, Exchange exchange, records.Cursor record, bint fin)
    @cython.locals(size=cython.Py_ssize_t, abandoned=bint)
    cpdef _data(self, Link link, Exchange exchange, bytes body, bint fin)
    cpdef _switch(self, Link link, Exchange exchange, records.Cursor record)
    cpdef _received(self, Link link, Exchange exchange, Py_ssize_t size)
    cpdef _credit(self, Link link, Exchange exchange, unsigned int count)
    @cython.locals(link=Link, pieces=list, piece=bytes, fin=bint, chutes=Chutes)
    cpdef _pump(self, Exchange exchange)
    cpdef _ended(self, Link link, Exchange exchange)
    cpdef _fail(self, Exchange exchange, int status, str reason, str cause=*)
