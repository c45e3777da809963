cpdef tuple scope(bytes payload)
cpdef tuple response_head(status, headers)
cpdef bytes field_lines(headers)
