cpdef tuple scope(bytes payload, dict state)
cpdef tuple response_head(status, headers)
cpdef bytes field_lines(headers)
