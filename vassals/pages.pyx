# cython: language_level=3, boundscheck=False, wraparound=False
"""Pages that a fork has written to and that are what they were before: back to being shared.

CPython counts references in the objects themselves, so that merely running code writes to pages that a fork has in common with
its starter, and each page written to is a copy of its own from then on. By the time a worker waits, a good part of those copies
are, byte by byte, what they had been: every count is back. The kernel cannot know (its samepage merging looks at all memory,
all the time, and tells tenants of each other's pages by its timing); we can, since we have the original.

`keep` is called in the spawner, once what all forks share is there. It puts the same content at the same addresses, as private
mappings of a memfd: the original. The memfd is sealed against writing first, since every tenant's processes have it mapped.
`give_back` is called in a fork whenever it has come to rest. It compares each page that is its own with the original, and drops
the copy (MADV_DONTNEED) where they are alike: the next look at that page finds the original, the next write makes a copy again. A
page that differs is left alone, and so is all memory that came after `keep`.

Nothing may write to a page between the look and the drop. So it is done with all signals blocked, under the interpreter's lock,
without a thread that might write to Python's memory without holding it (`os.read` into a small buffer does), and for what the C
library has given out (`[heap]`) without any other thread. Stacks, and what the C library and the kernel keep per thread, are not
touched at all.
"""
from libc.stdint cimport uint64_t, uintptr_t
from libc.string cimport memcmp
from posix.fcntl cimport O_CLOEXEC, O_RDONLY, fcntl, open
from posix.mman cimport MAP_FAILED, MAP_FIXED, MAP_PRIVATE, PROT_READ, PROT_WRITE, mmap, munmap
from posix.unistd cimport close, pread, write

import io
import os
import sys

cdef extern from "sys/mman.h" nogil:
    int madvise(void *address, size_t length, int advice)
    enum: MADV_DONTNEED

cdef extern from "signal.h" nogil:
    ctypedef struct sigset_t:
        pass
    enum: SIG_SETMASK
    int sigfillset(sigset_t *mask)
    int pthread_sigmask(int how, const sigset_t *mask, sigset_t *before)

cdef extern from "fcntl.h" nogil:
    enum: F_ADD_SEALS, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE

cdef extern from *:
    """
    enum { PAGE = 4096, MOST = 64, CHUNK = 512 };
    """
    enum: PAGE, MOST, CHUNK

ARENA_BYTES = 1 << 20
"""What CPython's allocator asks of the kernel at a time (`ARENA_SIZE` in obmalloc.c): no smaller mapping is its own."""

ZEROMQ_THREADS = 2
"""What a context runs, which never write to Python's memory: one for I/O and the reaper."""

cdef struct Kept:
    char *address
    size_t length
    char *original
    bint heap

cdef Kept kept[MOST]
cdef int count = 0


def keep():
    """Make what this process has in memory now the original for it and for its forks. Returns its size in bytes; 0 where it
    cannot be, and then there is nothing to give back to. Once, in a process with one thread."""
    global count
    cdef Kept found[MOST]
    cdef int number = 0
    cdef uintptr_t low, high
    cdef size_t total = 0
    if count or os.sysconf("SC_PAGE_SIZE") != PAGE or threads() != 1:
        return 0
    try:
        fd = os.memfd_create("emperor-original", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError:
        return 0
    try:
        for low, high, heap in worthwhile():
            if number < MOST:
                found[number].address = <char *> low
                found[number].length = high - low
                found[number].heap = heap
                number += 1
        count = _exchange(fd, found, number)
    finally:
        os.close(fd)
    for number in range(count):
        total += kept[number].length
    return total


def worthwhile():
    """(first address, end, whether it is the C library's heap) of the memory that objects are in."""
    found = []
    before = 0
    interpreters = {os.path.realpath(sys._base_executable), library_of_interpreter()} - {""}
    try:
        with io.open("/proc/self/maps", encoding="ascii", errors="replace") as lines:
            for line in lines:
                place, rights, _, _, _, *name = line.split(None, 5)
                low, high = (int(each, 16) for each in place.split("-"))
                path = name[0].strip() if name else ""
                # An interpreter's own variables, of which many are objects too, are a piece of its file and what follows.
                own = path in interpreters or (not path and before and low == before)
                before = high if own else 0
                if rights == "rw-p" and (own or path == "[heap]" or (not path and high - low >= ARENA_BYTES)):
                    found.append((low, high, path == "[heap]"))
    except OSError:
        return []
    return found


def library_of_interpreter():
    """The shared library that the interpreter is in, where it is in one."""
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    try:
        with io.open("/proc/self/maps", encoding="ascii", errors="replace") as lines:
            return next((line.split(None, 5)[5].strip() for line in lines if line.rstrip().endswith(f"/{name}")), "")
    except OSError:
        return ""


cdef int _exchange(int fd, Kept *found, int number) noexcept:
    """Put the mappings in place of the memory; how many. From the first byte copied to the last mapping nothing here allocates,
    or the copy would be out of date."""
    cdef size_t offset = 0, done
    cdef ssize_t wrote
    cdef int each
    cdef char *original
    for each in range(number):
        done = 0
        while done < found[each].length:
            wrote = write(fd, found[each].address + done, found[each].length - done)
            if wrote <= 0:
                return 0
            done += <size_t> wrote
    if fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0:
        return 0
    for each in range(number):
        original = <char *> mmap(NULL, found[each].length, PROT_READ, MAP_PRIVATE, fd, <long> offset)
        if original == MAP_FAILED:
            return each
        if mmap(
            found[each].address, found[each].length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, <long> offset
        ) == MAP_FAILED:
            munmap(original, found[each].length)
            return each
        kept[each] = found[each]
        kept[each].original = original
        offset += found[each].length
    return number


def give_back(int others=0):
    """Drop every copy that is what the original is. Returns the bytes looked at that were; 0 too when there are more than
    `others` threads beside this one. With `others`, none of which may write to Python's memory, the heap is left out."""
    cdef uint64_t entries[CHUNK]
    cdef size_t first, page, pages, here, run
    cdef size_t given = 0
    cdef int number, fd
    cdef bint known
    cdef char *at
    cdef sigset_t every, before
    if not count or threads() > 1 + others:
        return 0
    # A signal's number is noted in the interpreter's variables.
    sigfillset(&every)
    pthread_sigmask(SIG_SETMASK, &every, &before)
    # A process that has changed its user may not read this file of its own: then every page is compared.
    fd = open(b"/proc/self/pagemap", O_RDONLY | O_CLOEXEC)
    for number in range(count):
        if others and kept[number].heap:
            continue
        pages = kept[number].length // PAGE
        first = 0
        while first < pages:
            here = min(<size_t> CHUNK, pages - first)
            known = pread(
                fd, entries, here * 8, <long> ((<uintptr_t> kept[number].address // PAGE + first) * 8)
            ) == <ssize_t> (here * 8)
            run = 0
            for page in range(here):
                at = kept[number].address + (first + page) * PAGE
                # Bit 63: in memory. Bit 61: of a file, so no copy of ours.
                if (
                    (not known or (entries[page] >> 63 and not (entries[page] >> 61) & 1))
                    and memcmp(at, kept[number].original + (first + page) * PAGE, PAGE) == 0
                ):
                    run += 1
                elif run:
                    madvise(at - run * PAGE, run * PAGE, MADV_DONTNEED)
                    given += run * PAGE
                    run = 0
            if run:
                madvise(kept[number].address + (first + here - run) * PAGE, run * PAGE, MADV_DONTNEED)
                given += run * PAGE
            first += here
    if fd >= 0:
        close(fd)
    pthread_sigmask(SIG_SETMASK, &before, NULL)
    return given


def threads():
    """How many this process has; more than any where that cannot be seen."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 1 << 20
