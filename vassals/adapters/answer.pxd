# The C shape of answer.py.
cdef class Answer:
    cdef public bytes payload
    cdef public str gone
    cpdef body(self, Py_ssize_t offset)
    cpdef finish(self, bytes head, bytes body)
    cpdef start(self, bytes head, bytes body)
    cpdef send(self, bytes body)
    cpdef look(self)
    cpdef end(self)
    cpdef abort(self, str reason)
