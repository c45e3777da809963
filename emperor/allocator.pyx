# cython: language_level=3
"""How the C library's malloc gives memory back to the kernel."""

cdef extern from *:
    """
    #include <malloc.h>
    #ifdef M_TRIM_THRESHOLD
    static int keep(int bytes) { return mallopt(M_MMAP_THRESHOLD, bytes) && mallopt(M_TRIM_THRESHOLD, 2 * bytes); }
    #else
    static int keep(int bytes) { (void) bytes; return 0; }   /* not glibc, which has nothing to be told */
    #endif
    """
    int keep(int)


def keep_freed(int size_bytes):
    """Keep so much freed memory, and blocks up to that size, for the next of their kind.

    By default glibc gives every large block back when it is freed. A process through which bodies go in pieces of 256 KiB
    then has the kernel clear 64 pages for each of them, which costs more than what is done with the bytes. False: this
    library has no such choice.
    """
    return bool(keep(size_bytes))
