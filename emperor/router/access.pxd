# The C shape of access.py.
cimport cython

from emperor.router.exchange cimport Exchange

cdef int _LITERAL, _PACKET, _FORWARDED, _JSON_TEXT, _JSON_VALUE, _STATUS, _RSIZE, _HSIZE, _SIZE, _CL, _MICROS, _MSECS, _SECS, _TMSECS, _TMICROS, _TIME, _LTIME, _FTIME, _CTIME, _EPOCH, _PID, _WID, _SWITCHES, _VARS, _PKTSIZE, _HEADERS, _WERR, _RERR, _IOERR, _ISOTIME, _ID, _VASSAL, _GEN, _UPSTREAM

cdef class Writer:
    cdef public long long dropped
    cdef public long long written
    cdef public long long size
    cdef public long long waiting
    cdef public long long limit
    cdef object _on_full
    cdef object _loop
    cdef bytes _note
    cdef long long _bound
    cdef list _lines
    cdef long long _told
    cdef bint _torn
    cdef Py_ssize_t _note_end
    cdef long long _note_lost
    cdef bint _mended
    cdef Py_ssize_t _gap
    cdef int _fd
    cdef bint _whole_lines
    cdef bint _busy
    cdef int _busy_fd
    cdef object _planned
    cdef object _jobs
    cdef object _thread
    cdef bint _closing
    @cython.locals(waiting=cython.longlong)
    cpdef bint put(self, bytes line) except -1

cdef class Access:
    cdef public object log
    cdef public Writer writer
    cdef public long long lines
    cdef public long long dropped
    cdef long long _dropped_before
    cdef bytes _name
    cdef list _pieces
    cdef bint _everything
    cdef bint _client_errors
    cdef bint _server_errors
    cdef double _slow_s
    cdef long long _big
    cdef bint _zero
    cdef long long _second
    cdef dict _times
    @cython.locals(took=double, out=bytes)
    cpdef note(self, Exchange exchange, int status, long long head_bytes, long long body_bytes, int fields, bint cut)
    cpdef bint _matches(self, int status, double took, long long body_bytes) except -1
    @cython.locals(packet=bytes, out=list, now=double, kind=int, how=int, text=bytes, value=bytes)
    cpdef bytes _render(self, Exchange exchange, int status, long long head_bytes, long long body_bytes, int fields,
                        bint cut, double took)
    cpdef long long _rare(self, int kind, Exchange exchange, double took, double now, int fields, bint cut,
                          long long head_bytes) except? -2
    @cython.locals(second=cython.longlong, text=bytes)
    cpdef bytes _stamp(self, int kind, double when)
