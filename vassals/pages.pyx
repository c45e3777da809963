# cython: language_level=3, boundscheck=False, wraparound=False
"""Pages that a fork has written to and that are what they were before: back to being shared.

CPython counts references in the objects themselves, so that merely running code writes to pages that a fork has in common with
its starter, and each page written to is a copy of its own from then on. By the time a gateway waits, a good part of those copies
are, byte by byte, what they had been: every count is back. The kernel cannot know (its samepage merging looks at all memory,
all the time, and tells tenants of each other's pages by its timing); we can, since we have the original.

`keep` is called in the spawner, once what all forks share is there. It puts the same content at the same addresses, as private
mappings of a memfd: the original. The memfd is sealed against writing first, since every tenant's processes have it mapped.
`give_back` compares each page of a fork that is its own with the original, and drops the copy (MADV_DONTNEED) where they are
alike: the next look at that page finds the original, the next write makes a copy again. A page that differs is left alone, and
so is all memory that came after `keep`.

What makes it sound: nothing may write to a page between the look and the drop, or what it wrote is lost. Who could, and why it
does not (docs/decisions/0020-pages-given-back.md):

* another thread: there is none, or nothing is given back. Only a thread makes a thread, and the only one is here;
* native code that left the kernel a buffer to fill later (io_uring, aio): `give_back` is called only where no code but the
  interpreter's and ours has run: in a gateway, and in a worker before its app is imported. Never after that;
* a signal: all are blocked meanwhile;
* the kernel by itself: what it keeps per thread (rseq, the robust list) lies beside the thread's own variables, which are left out;
* the comparison: it is C, on registers and one buffer on the stack, which is no memory that is given back.
"""
from libc.stdint cimport uint64_t, uintptr_t
from libc.string cimport memcmp
from posix.fcntl cimport fcntl
from posix.mman cimport MAP_FAILED, MAP_FIXED, MAP_PRIVATE, PROT_READ, PROT_WRITE, mmap, munmap
from posix.unistd cimport close, getpid, pread, write

import io
import os
import sys

cdef extern from "sys/mman.h" nogil:
    int madvise(void *address, size_t length, int advice)
    enum: MADV_DONTNEED

cdef extern from "sys/prctl.h" nogil:
    int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long)
    enum: PR_GET_DUMPABLE, PR_SET_DUMPABLE

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
    #include <fcntl.h>
    #include <linux/capability.h>
    #include <pthread.h>
    #include <stdint.h>
    #include <string.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    enum { PAGE = 4096, MOST = 64, CHUNK = 512 };
    /* The C library's record of the thread: its variables lie right below it, what the kernel writes to within it. */
    #define OWN ((uintptr_t) pthread_self())
    #define OWN_BELOW (64 * 1024)
    #define OWN_ABOVE (16 * 1024)

    /* Whoever opens it with CAP_SYS_ADMIN has opened what says where in the machine's memory each page is, for everybody who
       holds the descriptor later. */
    static int open_pagemap(void)
    {
        struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
        struct __user_cap_data_struct all[2], less[2];
        int known = syscall(SYS_capget, &head, all) == 0;
        if (known) {
            less[0] = all[0];
            less[1] = all[1];
            less[0].effective &= ~(1u << CAP_SYS_ADMIN);
            known = syscall(SYS_capset, &head, less) == 0;
        }
        int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
        if (known) {
            syscall(SYS_capset, &head, all);
        }
        return fd;
    }

    /* CPython 3.11 counts a code's calls up to 0, in the code, and adapts its instructions then; a code that is at 0 it leaves as
       it is. Before, there was none of this; from 3.12 on it does not count. */
    static int still(PyObject *code)
    {
    #if PY_VERSION_HEX >= 0x030B0000 && PY_VERSION_HEX < 0x030C0000
        if (PyCode_Check(code) && ((PyCodeObject *) code)->co_warmup < 0) {
            ((PyCodeObject *) code)->co_warmup = 0;
            return 1;
        }
    #else
        (void) code;
    #endif
        return 0;
    }

    /* An entry of CPython's cache of methods: which attribute of a type, or of one that it inherits from, a name stands for. All is 0
       but the name when the cache is emptied, and the name None. The type may have changed since: then it has another version. */
    enum { METHODS = 4096 };
    typedef struct { uint64_t version; PyObject *name; PyObject *value; } method;
    static method *methods;

    static method *empty_methods(char *low, char *end)
    {
        method *here = (method *) low;
        size_t found = 0;
        while ((char *) (here + found + 1) <= end) {
            if (here[found].version == 0 && here[found].name == Py_None && here[found].value == NULL) {
                if (++found == METHODS) {
                    return here;
                }
            } else {
                here = (method *) ((char *) here + 8);
                found = 0;
            }
        }
        return NULL;
    }

    /* For good: whoever puts an entry back must find its name. */
    static void hold_names(void)
    {
        for (size_t each = 0; methods != NULL && each < METHODS; each++) {
            Py_XINCREF(methods[each].name);
        }
    }

    static void put_back(method *original)
    {
        for (size_t each = 0; each < METHODS; each++) {
            if (memcmp(&methods[each], &original[each], sizeof(method)) != 0) {
                PyObject *name = methods[each].name;
                methods[each] = original[each];
                Py_XINCREF(methods[each].name);
                Py_XDECREF(name);
            }
        }
    }
    """
    ctypedef struct method:
        pass
    enum: METHODS
    method *methods
    method *empty_methods(char *low, char *end) nogil
    void hold_names()
    void put_back(method *original)
    unsigned int PyType_ClearCache()
    bint still(object code)
    enum: PAGE, MOST, CHUNK
    uintptr_t OWN
    uintptr_t OWN_BELOW
    uintptr_t OWN_ABOVE
    int open_pagemap()

ARENA_BYTES = 1 << 20
"""What CPython's allocator asks of the kernel at a time (`ARENA_SIZE` in obmalloc.c): no smaller mapping is its own."""

cdef struct Kept:
    char *address
    size_t length
    char *original

cdef Kept kept[MOST]
cdef int count = 0
cdef int map_fd = -1
cdef int map_pid = 0


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
        for low, high in worthwhile():
            if number < MOST:
                found[number].address = <char *> low
                found[number].length = high - low
                number += 1
        count = exchange(fd, found, number)
    finally:
        os.close(fd)
    for number in range(count):
        total += kept[number].length
    return total


def worthwhile():
    """(first address, end) of the memory that objects are in, without the pages round what the thread has of its own."""
    found = []
    before = 0
    ours = {os.path.realpath(sys._base_executable), library_of_interpreter()} - {""}
    own_low, own_high = (OWN - OWN_BELOW) // PAGE * PAGE, (OWN + OWN_ABOVE) // PAGE * PAGE + PAGE
    try:
        with io.open("/proc/self/maps", encoding="ascii", errors="replace") as lines:
            for line in lines:
                place, rights, _, _, _, *name = line.split(None, 5)
                low, high = (int(each, 16) for each in place.split("-"))
                path = name[0].strip() if name else ""
                # An interpreter's own variables, of which many are objects too, are a piece of its file and what follows.
                own = path in ours or (not path and before and low == before)
                before = high if own else 0
                if rights == "rw-p" and (own or path == "[heap]" or (not path and high - low >= ARENA_BYTES)):
                    found += [
                        (first, end)
                        for first, end in ((low, min(high, own_low)), (max(low, own_high), high))
                        if first < end
                    ] if low < own_high and own_low < high else [(low, high)]
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


cdef int exchange(int fd, Kept *found, int number) noexcept:
    """Put the mappings in place of the memory; how many. From the first byte copied to the last mapping nothing here allocates,
    or the copy would be out of date."""
    cdef size_t offset = 0, done
    cdef ssize_t wrote
    cdef int each
    cdef char *original
    hold_names()
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


def empty_methods_cache():
    """Let the interpreter forget which name of a type stands for what, and find where it notes that: from the next `keep` on, `give_back` puts
    back what was noted then. False: it is not found, and is a piece of memory as any other."""
    global methods
    cdef uintptr_t low, high
    methods = NULL
    places = worthwhile()
    PyType_ClearCache()
    for low, high in places:
        methods = empty_methods(<char *> low, <char *> high)
        if methods != NULL:
            return True
    return False


cdef method *original_methods() noexcept:
    """What was noted when the original was made; NULL where it is no part of that."""
    cdef char *at = <char *> methods
    for number in range(count):
        if kept[number].address <= at and at + METHODS * sizeof(method) <= kept[number].address + kept[number].length:
            return <method *> (kept[number].original + (at - kept[number].address))
    return NULL


def see():
    """Open what says which pages are this process's own, for as long as it lives: once it has changed its user it may not."""
    global map_fd, map_pid
    if count:
        map_fd = open_pagemap()
        map_pid = getpid()


def see_as_tenant():
    """The same in a process that has changed its user, and that will run its user's code anyhow: while the file is opened, that
    user may look into this process. What is in it is what the user's own code will find there."""
    cdef int before
    see()
    if count and map_fd < 0:
        before = prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)
        if before == 0 or before == 2:
            prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
            see()
            prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def unsee():
    """Close it."""
    global map_fd
    if map_fd >= 0 and map_pid == getpid():
        close(map_fd)
    map_fd = -1


def give_back():
    """Drop every copy that is what the original is; the bytes that were. 0 too where this process has more than one thread, or
    has not seen (`see`) which pages are its own."""
    cdef uint64_t entries[CHUNK]
    cdef size_t first, page, pages, here, run
    cdef size_t given = 0
    cdef int number
    cdef char *at
    cdef method *noted
    cdef sigset_t every, before
    if not count or map_fd < 0 or map_pid != getpid() or threads() != 1:
        return 0
    # A signal's number is noted in the interpreter's variables.
    sigfillset(&every)
    pthread_sigmask(SIG_SETMASK, &every, &before)
    noted = original_methods()
    if noted != NULL:
        put_back(noted)
    for number in range(count):
        pages = kept[number].length // PAGE
        first = 0
        while first < pages:
            here = min(<size_t> CHUNK, pages - first)
            if pread(
                map_fd, entries, here * 8, <long> ((<uintptr_t> kept[number].address // PAGE + first) * 8)
            ) != <ssize_t> (here * 8):
                break
            run = 0
            for page in range(here):
                at = kept[number].address + (first + page) * PAGE
                # Bit 63: in memory. Bit 61: of a file, so no copy of ours.
                if (
                    entries[page] >> 63 and not (entries[page] >> 61) & 1
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
    pthread_sigmask(SIG_SETMASK, &before, NULL)
    return given


def keep_still(code):
    """Have the interpreter write nothing into this code when it runs it: for what each fork runs a few times, and no request waits
    for. False: it does not, it is not known how to ask, or it has run so often that it is adapted already."""
    return still(code)


def threads():
    """How many this process has; more than any where that cannot be seen."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 1 << 20
