# cython: language_level=3
"""From a client's socket into a file, past the interpreter: for a thread of ``disk``.

A gigabyte that comes through the event loop is copied four times on its way into the page cache, in pieces of which each is an
object and a turn. Here it is copied twice, in one buffer, without the interpreter's lock (docs/decisions/0034).
"""
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdlib cimport free, malloc

cdef extern from *:
    """
    #include <errno.h>
    #include <poll.h>
    #include <sys/socket.h>
    #include <time.h>
    #include <unistd.h>

    static long long carry_now_us(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
    }
    static int carry_wait(int fd, long long us) {
        struct pollfd one = {fd, POLLIN, 0};
        struct timespec most = {us / 1000000, us % 1000000 * 1000};
        return ppoll(&one, 1, &most, NULL);
    }
    """
    long long carry_now_us() noexcept nogil
    int carry_wait(int fd, long long us) noexcept nogil
    ssize_t recv(int, void *, size_t, int) noexcept nogil
    ssize_t write(int, const void *, size_t) noexcept nogil
    enum: MSG_DONTWAIT

cdef enum:
    PIECE = 128 * 1024
    # Waited for bytes, in all: a busy sender's come within some of it. Whoever sends a little now and then must not have a thread
    # to himself.
    PATIENCE_US = 2000
    # Of a thread that others wait for.
    TURN_US = 20000

cdef enum:
    # spool.py names them.
    MORE
    QUIET
    ENDED
    BROKEN
    FULL


def carry(int source, int target, Py_ssize_t most):
    cdef Py_ssize_t count = 0, got = 0, at, put
    cdef int how = MORE, why = 0
    cdef char *buffer = <char *> malloc(PIECE)
    cdef long long began, waits, patience = PATIENCE_US
    if buffer == NULL:
        raise MemoryError
    with nogil:
        began = carry_now_us()
        while count < most and carry_now_us() - began < TURN_US:
            got = recv(source, buffer, min(most - count, PIECE), MSG_DONTWAIT)
            if got < 0:
                if errno == EINTR:
                    continue
                if errno != EAGAIN:
                    how = BROKEN
                    why = errno
                    break
                waits = carry_now_us()
                if patience > 0 and carry_wait(source, patience) > 0:
                    patience -= carry_now_us() - waits
                    continue
                how = QUIET
                break
            if got == 0:
                how = ENDED
                break
            at = 0
            while at < got:
                put = write(target, buffer + at, got - at)
                if put < 0 and errno == EINTR:
                    continue
                if put < 0:
                    how = FULL
                    why = errno
                    break
                at += put
            count += at
            if how == FULL:
                break
    free(buffer)
    return count, how, why
