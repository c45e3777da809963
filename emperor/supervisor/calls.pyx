# cython: language_level=3
"""System calls that Python has no function for.

Through ctypes each of them touches, and so copies, a dozen pages of a fresh fork that it would otherwise share with its
starter: for every gateway and every worker on the machine.
"""
from libc.errno cimport errno

import os

cdef extern from "<sys/prctl.h>" nogil:
    int c_prctl "prctl" (int, unsigned long, unsigned long, unsigned long, unsigned long)

cdef extern from "<unistd.h>" nogil:
    long c_syscall "syscall" (long, unsigned int, unsigned int, unsigned int)

cdef enum:
    CLOSE_RANGE = 436  # one number on every architecture; glibc has a wrapper only since 2.34


def prctl(int option, unsigned long value):
    """prctl(2) with one argument. Raises OSError."""
    if c_prctl(option, value, 0, 0, 0) != 0:
        raise OSError(errno, f"prctl({option}, {value}): {os.strerror(errno)}")


def close_range(unsigned int first, unsigned int last, unsigned int flags):
    """close_range(2). False: the kernel has none, or none with these flags."""
    return c_syscall(CLOSE_RANGE, first, last, flags) == 0
