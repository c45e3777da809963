# How the variables of a packet are walked (uWSGI proto/uwsgi.c): pairs of `u16 length, bytes` after a header of 4 bytes. Inline,
# since it is done for every request on both sides of the backplane, and a header alone, so that it is one module less to load.
from libc.stdint cimport uint8_t
from libc.string cimport memcmp

cdef struct Pair:
    const uint8_t *key
    Py_ssize_t key_size
    const uint8_t *value
    Py_ssize_t size


cdef inline Py_ssize_t end_of(const uint8_t *at, Py_ssize_t size) noexcept:
    """Where the variables end, as the header says; −1: there is not even a header, or what it says is not there."""
    cdef Py_ssize_t end
    if size < 4:
        return -1
    end = 4 + (at[1] | at[2] << 8)
    return -1 if end > size else end


cdef inline str misfit(const uint8_t *at, Py_ssize_t size):
    """Why `end_of` is −1."""
    if size < 4:
        return "a packet of less than 4 bytes"
    return f"a packet that says {at[1] | at[2] << 8} bytes, but {size - 4} are there"


cdef inline const char *next_pair(const uint8_t *at, Py_ssize_t *offset, Py_ssize_t end, Pair *pair) noexcept:
    """Take the pair at `offset`, which is less than `end`, and move on; NULL, or what is wrong with it."""
    cdef Py_ssize_t here = offset[0]
    if end - here < 2:
        return b"a key length that goes past the packet"
    pair.key_size = at[here] | at[here + 1] << 8
    here += 2
    if pair.key_size > end - here:
        return b"a key that goes past the packet"
    pair.key = at + here
    here += pair.key_size
    if end - here < 2:
        return b"a value length that goes past the packet"
    pair.size = at[here] | at[here + 1] << 8
    here += 2
    if pair.size > end - here:
        return b"a value that goes past the packet"
    pair.value = at + here
    offset[0] = here + pair.size
    return NULL


cdef inline bint named(const uint8_t *raw, Py_ssize_t size, const char *name, Py_ssize_t name_size) noexcept:
    return size == name_size and memcmp(raw, name, size) == 0
