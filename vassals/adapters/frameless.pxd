cdef class Frameless:
    cdef object _waits
