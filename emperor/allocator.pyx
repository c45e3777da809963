# cython: language_level=3
"""What the C library's malloc does with memory that was freed."""

cdef extern from *:
    """
    #include <malloc.h>
    #ifdef M_TRIM_THRESHOLD
    static int keep(int bytes) { return mallopt(M_MMAP_THRESHOLD, bytes) && mallopt(M_TRIM_THRESHOLD, 2 * bytes); }
    #else
    static int keep(int bytes) { (void) bytes; return 0; }   /* not glibc, which has nothing to be told */
    #endif
    #include <stdlib.h>
    #include <unistd.h>
    /* Where the piece at the heap's end begins, which was never given out. */
    static char *end(void) { return NULL; }
    #ifdef __GLIBC__
    #if __GLIBC_PREREQ(2, 33)
    #define end() ((char *) sbrk(0) - mallinfo2().keepcost)
    #endif
    #endif
    """
    int keep(int)
    char *end()

from libc.stdlib cimport free, malloc


def keep_freed(int size_bytes):
    """Keep so much freed memory, and blocks up to that size, for the next of their kind.

    By default glibc gives every large block back when it is freed. A process through which bodies go in pieces of 256 KiB
    then has the kernel clear 64 pages for each of them, which costs more than what is done with the bytes. False: this
    library has no such choice.
    """
    return bool(keep(size_bytes))


def use_up():
    """Take what is free between blocks of the heap, for good, so that blocks that are made from now on lie together at its end.

    For a process that forks many: each of them would otherwise put its own blocks into a hundred pages that it shares. Returns the
    bytes taken; 0 where the library does not say what is free.
    """
    cdef char *last = end()
    cdef char *block
    cdef size_t size = 100_000  # larger ones have mappings of their own
    cdef size_t taken = 0
    if last == NULL:
        return 0
    while size >= 24:
        while True:
            block = <char *> malloc(size)
            if block == NULL or block >= last:
                free(block)
                break
            taken += size
        size -= 16 if size <= 2048 else 256 if size <= 16384 else 4096
    return taken
