# cython: language_level=3, boundscheck=False, wraparound=False
"""What log lines are made of: variables out of a packet, values that can neither end a line nor forge one, and writing
to a descriptor for as long as it takes without holding the interpreter.
"""
from cpython.bytes cimport PyBytes_FromStringAndSize, PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.errno cimport errno, EAGAIN, EINTR
from libc.stdint cimport uint8_t
from libc.string cimport memcmp

import json

cdef extern from "<unistd.h>" nogil:
    Py_ssize_t c_write "write"(int fd, const void *start, size_t size)

cdef extern from "<poll.h>" nogil:
    cdef struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *fds, unsigned long count, int timeout_ms)
    short POLLOUT

cdef enum:
    TEXT = 0
    JSON_TEXT = 1
    ATOMIC = 4096  # PIPE_BUF: pipe(7) never tears what is no longer, whoever else writes


cpdef bytes variable(bytes packet, bytes key):
    """The value of `key` in an admitted packet, the last of several; None without one."""
    cdef const uint8_t *at = <const uint8_t *> PyBytes_AS_STRING(packet)
    cdef const char *wanted = PyBytes_AS_STRING(key)
    cdef Py_ssize_t wanted_size = PyBytes_GET_SIZE(key), end = PyBytes_GET_SIZE(packet), offset = 4
    cdef Py_ssize_t size, found = -1, found_size = 0
    cdef bint same
    while end - offset >= 4:
        size = at[offset] | at[offset + 1] << 8
        if end - offset < size + 4:
            break
        same = size == wanted_size and memcmp(at + offset + 2, wanted, size) == 0
        offset += 2 + size
        size = at[offset] | at[offset + 1] << 8
        if end - offset < size + 2:
            break
        if same:
            found = offset + 2
            found_size = size
        offset += 2 + size
    return None if found < 0 else PyBytes_FromStringAndSize(<const char *> at + found, found_size)


cpdef Py_ssize_t variables(bytes packet):
    """How many variables there are."""
    cdef const uint8_t *at = <const uint8_t *> PyBytes_AS_STRING(packet)
    cdef Py_ssize_t end = PyBytes_GET_SIZE(packet), offset = 4, count = 0
    while end - offset >= 2:
        offset += 2 + (at[offset] | at[offset + 1] << 8)
        count += 1
    return count // 2


cpdef bytes escaped(bytes raw, bint for_json):
    """`raw` between quotes: what is no printable ASCII, a quote or a backslash is `\\xNN` as in nginx's log; in JSON it is
    UTF-8 with JSON's own escapes, and bytes that are no UTF-8 show as `\\xNN`."""
    cdef const uint8_t *at = <const uint8_t *> PyBytes_AS_STRING(raw)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(raw), i
    cdef bint plain = True
    for i in range(size):
        if at[i] < 32 or at[i] > 126 or at[i] == c'"' or at[i] == c'\\':
            plain = False
            break
    if plain:
        return raw
    if for_json:
        # DEL is all that JSON lets through and a terminal does not.
        text = json.dumps(raw.decode("utf-8", "backslashreplace"))
        return text[1:len(text) - 1].replace("\x7f", "\\u007f").encode()
    return b"".join(
        [b"\\x%02X" % c if c < 32 or c > 126 or c == 34 or c == 92 else bytes((c,)) for c in raw]
    )


def write_lines(int fd, bytes block, bint whole_lines):
    """Write all of `block`, waiting for as long as the descriptor makes one wait; other threads run meanwhile.

    `whole_lines`: in pieces that a pipe takes whole, each of whole lines where a line is no longer than that, so that what
    others write to the same pipe stands between lines. Returns ``(bytes written, errno or 0)``.
    """
    cdef const char *at = PyBytes_AS_STRING(block)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(block), done = 0, piece, taken
    cdef int failure = 0
    cdef pollfd waiting
    with nogil:
        while done < size:
            piece = size - done
            if whole_lines and piece > ATOMIC:
                piece = ATOMIC
                while piece > 0 and at[done + piece - 1] != c"\n":
                    piece -= 1
                if piece == 0:
                    piece = ATOMIC
            taken = c_write(fd, at + done, piece)
            if taken >= 0:
                done += taken
            elif errno == EAGAIN:
                # Somebody else has set our terminal or pipe non-blocking.
                waiting.fd = fd
                waiting.events = POLLOUT
                waiting.revents = 0
                poll(&waiting, 1, 1000)
            elif errno != EINTR:
                failure = errno
                break
    return done, failure
