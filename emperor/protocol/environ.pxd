# The C shape of what environ.pyx offers to compiled callers.
cpdef tuple environ(bytes payload, dict wsgi=*)
cpdef bytes response_head(status, list headers)
cpdef int code_of(object status) except -1
cpdef long long count_of(str text) except -2
