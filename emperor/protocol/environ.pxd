# The C shape of what environ.pyx offers to compiled callers.
cpdef tuple environ(bytes payload, dict wsgi=*)
cpdef bytes response_head(status, list headers)
