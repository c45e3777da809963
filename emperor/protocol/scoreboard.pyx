# cython: language_level=3, boundscheck=False, wraparound=False
"""The page that a router and a worker share (docs/specs/backplane.md, section 4).

Who may change what is a table there; here each row is one method, done by compare-and-swap on the whole word, so that
exactly one side wins a race between claim and revoke. The shape of the page comes from the caller, never from the page:
its other writer may be hostile. Every index is checked against that shape.
"""
from libc.stdint cimport uint64_t, int64_t, uint32_t, uint8_t
from libc.errno cimport errno
from libc.string cimport strerror, memcmp, memcpy
from posix.mman cimport mmap, munmap, MAP_SHARED, PROT_READ, PROT_WRITE, MAP_FAILED
from posix.time cimport clock_gettime, CLOCK_MONOTONIC, timespec

import fcntl
import os

from emperor.protocol.errors import BoardError

STATE_NAMES = ("FREE", "OFFERED", "CLAIMED", "REVOKED")
HOLDING_NAMES = ("UNHELD", "HELD", "BUSY")

HEADER_BYTES = 64
MAGIC = b"EMPBOARD"

SPEAKERS = 4
"""Routers that have words of their own in a page's head, where there can be several: it has room for no more."""


cpdef Py_ssize_t row_bytes(int slots, int routers, int deck):
    """Bytes of one worker's row. Where there can be one router only, no slot says whose it is: as in a page before there were more."""
    cdef Py_ssize_t raw = <Py_ssize_t> slots * 16 + <Py_ssize_t> routers * deck * 8
    if routers > 1:
        raw += <Py_ssize_t> slots * 8
    return (raw + 63) // 64 * 64


cdef Py_ssize_t rows_bytes(int seats, int slots, int routers, int deck) noexcept:
    return 64 + seats * row_bytes(slots, routers, deck)


cdef Py_ssize_t words_end(int seats, int slots, int routers, int deck) noexcept:
    """Where the rows and the words of all chutes end."""
    return rows_bytes(seats, slots, routers, deck) + <Py_ssize_t> seats * routers * 2 * CHUTE_WORDS_BYTES


cdef Py_ssize_t chutes_at(int seats, int slots, int routers, int deck) noexcept:
    """Where the bytes of the chutes begin: as a page of the kernel's does, since they are given back by such pages."""
    return (words_end(seats, slots, routers, deck) + 4095) // 4096 * 4096


cdef Py_ssize_t rings_at(int seats, int slots, int routers, int deck) noexcept:
    """Where the rings begin: as far into a page of the kernel's as the words end in theirs. So no two shapes have one size."""
    return (
        chutes_at(seats, slots, routers, deck)
        + <Py_ssize_t> seats * routers * (DOWN_BYTES + UP_BYTES)
        + words_end(seats, slots, routers, deck) % 4096
    )


cpdef Py_ssize_t size_bytes(int seats, int slots, int routers, int deck):
    """Bytes of a page of this shape."""
    return rings_at(seats, slots, routers, deck) + <Py_ssize_t> seats * routers * 2 * RING_BYTES


def create(int seats, int slots, int routers, int deck, bint sealed=True):
    """A new, zeroed page as a memfd (close-on-exec). Sealed against growing, shrinking and further seals."""
    fd = os.memfd_create("emperor-board", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size_bytes(seats, slots, routers, deck))
        os.pwrite(fd, MAGIC, 0)
        if sealed:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except BaseException:
        os.close(fd)
        raise
    return fd


cpdef int64_t now_ns() noexcept:
    """CLOCK_MONOTONIC, the clock of the page's start times: ``time.monotonic_ns``."""
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t> now.tv_sec * 1000000000 + now.tv_nsec


cpdef double monotonic_s() noexcept:
    """The same in seconds: ``time.monotonic``, for compiled callers."""
    return <double> now_ns() * 1e-9


cdef enum:
    SPEAKERS_MOST = 4
    AGE_NS = 100000
    TENTH_NS = 100000000

cdef uint64_t LASTS = 0x7FFFFFFFFFFFFFFFu


cdef inline uint64_t word_of(uint64_t stream, uint64_t state) noexcept nogil:
    return (stream << 2) | state


cdef inline uint64_t let_go(uint64_t seen) noexcept nogil:
    """UNHELD, one change later."""
    return ((seen + 4) << 32 >> 32) & ~<uint64_t> 3


cdef inline uint64_t held_by(uint64_t seen, uint64_t epoch) noexcept nogil:
    """Of a slot that nobody holds: HELD by the router of this epoch, one change later."""
    return (epoch << 32) | let_go(seen) | 1


cdef class Board:
    """One mapped page.

    ``fd`` stays the caller's. ``check_seals`` is what a reader that does not own the page must ask for: a page that can
    still shrink would kill it with SIGBUS. Raises BoardError.
    """
    def __cinit__(self, int fd, int seats, int slots, int routers, int deck, bint check_seals=False):
        cdef void *at
        self.page = NULL
        # HELLO carries these numbers as u16; bounded so, no place in the page can overflow.
        if not (1 <= seats <= 0xFFFF and 1 <= slots <= 0xFFFF and 1 <= routers <= 0xFFFF and 0 <= deck <= 0xFFFE):
            raise BoardError(f"a page of {seats} seats, {slots} slots, {routers} routers, {deck} words is no page")
        self.seats = seats
        self.slots = slots
        self.routers = routers
        self.deck = deck
        self.row = row_bytes(slots, routers, deck)
        self.size = size_bytes(seats, slots, routers, deck)
        try:
            if check_seals:
                wanted = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
                seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
                if seals & wanted != wanted:
                    raise BoardError(f"the page is not sealed (seals {seals:#x}, wanted {wanted:#x})")
            actual = os.fstat(fd).st_size
        except OSError as error:
            raise BoardError(f"the page cannot be examined: {error}") from error
        if actual != self.size:
            raise BoardError(f"the page has {actual} bytes, its shape wants {self.size}")
        at = mmap(NULL, self.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
        if at == MAP_FAILED:
            raise BoardError(f"the page cannot be mapped: {strerror(errno).decode()}")
        self.page = <uint8_t *> at

    def __dealloc__(self):
        if self.page != NULL:
            munmap(self.page, self.size)

    def close(self):
        """Unmap. Any use after this raises BoardError."""
        if self.page != NULL:
            munmap(self.page, self.size)
            self.page = NULL

    cdef uint64_t *word(self, int seat, int router, int index) except NULL:
        if self.page == NULL:
            raise BoardError("the page is closed")
        if not (0 <= seat < self.seats and 0 <= router < self.routers and 0 <= index < self.deck):
            raise BoardError(f"no word {index} of router {router} in seat {seat}")
        return <uint64_t *> (
            self.page + 64 + seat * self.row + self.slots * 16 + (<Py_ssize_t> router * self.deck + index) * 8
        )

    cdef uint8_t *ring(self, int seat, int router, int way) except NULL:
        """Where the ring of this seat's responses for a router begins, or that of its requests (`ring`): first all of these."""
        cdef Py_ssize_t first
        if self.page == NULL:
            raise BoardError("the page is closed")
        if not (0 <= seat < self.seats and 0 <= router < self.routers and 0 <= way < 2):
            raise BoardError(f"no ring {way} for router {router} in seat {seat}")
        first = 0 if way == UP else <Py_ssize_t> self.seats * self.routers
        return (
            self.page
            + rings_at(self.seats, self.slots, self.routers, self.deck)
            + (first + <Py_ssize_t> seat * self.routers + router) * RING_BYTES
        )

    cdef uint8_t *chute_words(self, int seat, int router, int way) except NULL:
        """Where what both sides say about a chute begins (`chute`)."""
        if self.page == NULL:
            raise BoardError("the page is closed")
        if not (0 <= seat < self.seats and 0 <= router < self.routers and 0 <= way < 2):
            raise BoardError(f"no chute {way} for router {router} in seat {seat}")
        return (
            self.page
            + rows_bytes(self.seats, self.slots, self.routers, self.deck)
            + ((<Py_ssize_t> seat * self.routers + router) * 2 + way) * CHUTE_WORDS_BYTES
        )

    cdef uint8_t *chute_bytes(self, int seat, int router, int way) except NULL:
        """Where the bytes of a chute begin."""
        self.chute_words(seat, router, way)
        return (
            self.page
            + chutes_at(self.seats, self.slots, self.routers, self.deck)
            + (<Py_ssize_t> seat * self.routers + router) * (DOWN_BYTES + UP_BYTES)
            + (DOWN_BYTES if way == UP else 0)
        )

    cdef uint64_t *slot_at(self, int seat, int slot) except NULL:
        if self.page == NULL:
            raise BoardError("the page is closed")
        if not (0 <= seat < self.seats and 0 <= slot < self.slots):
            raise BoardError(f"no slot {slot} in seat {seat}")
        return <uint64_t *> (self.page + 64 + seat * self.row + slot * 16)

    cdef uint64_t *grant_at(self, int seat, int slot) except NULL:
        """Where it stands whose a slot is, in a page of several routers: behind the words of the decks."""
        if self.page == NULL:
            raise BoardError("the page is closed")
        if not (self.routers > 1 and 0 <= seat < self.seats and 0 <= slot < self.slots):
            raise BoardError(f"no word of whose slot {slot} in seat {seat} is")
        return <uint64_t *> (
            self.page + 64 + seat * self.row + self.slots * 16 + (<Py_ssize_t> self.routers * self.deck + slot) * 8
        )

    # Whose a slot is (docs/specs/backplane.md, section 4). In a page of one router all are that one's.

    def holder(self, int seat, int slot):
        """``(epoch of the router, UNHELD, HELD or BUSY, count of the changes of its holder)``."""
        cdef uint64_t seen = load64(self.grant_at(seat, slot))
        return <unsigned int> (seen >> 32), <int> (seen & 3), <unsigned int> (seen << 32 >> 34)

    cpdef bint take(self, int seat, int slot, unsigned int epoch) except -1:
        """A router takes a slot that nobody holds. False: somebody does."""
        cdef uint64_t *at = self.grant_at(seat, slot)
        cdef uint64_t seen = load64(at)
        return seen & 3 == 0 and swap64(at, seen, held_by(seen, epoch))

    def take_all(self, int seat, int slots, unsigned int epoch):
        """The same of the first ``slots`` of a seat. Returns those that it has taken."""
        cdef int slot
        return [slot for slot in range(min(slots, self.slots)) if self.take(seat, slot, epoch)]

    cpdef bint release(self, int seat, int slot, unsigned int epoch) except -1:
        """A router lets go of a slot of its. False: something runs there, or it is not its any more."""
        cdef uint64_t *at = self.grant_at(seat, slot)
        cdef uint64_t seen = load64(at)
        return seen & 3 == 1 and seen >> 32 == epoch and swap64(at, seen, let_go(seen))

    cpdef bint enter(self, int seat, int slot, unsigned int epoch) except -1:
        """A worker is about to run something in this slot for that router. False: the slot is not its, or is busy."""
        cdef uint64_t *at
        cdef uint64_t seen
        if self.routers == 1:
            return True
        at = self.grant_at(seat, slot)
        seen = load64(at)
        return seen & 3 == 1 and seen >> 32 == epoch and swap64(at, seen, seen + 1)

    cpdef bint vacate(self, int seat, int slot, unsigned int epoch) except -1:
        """What the worker ran in this slot has ended: it is HELD again if its router still has this ``epoch``, and nobody's else.
        False: nobody's. 0 is no router's."""
        cdef uint64_t *at
        cdef uint64_t seen
        if self.routers == 1:
            return True
        at = self.grant_at(seat, slot)
        seen = load64(at)
        while seen & 3 == 2:
            if seen >> 32 == epoch:
                if swap64(at, seen, seen - 1):
                    return True
            elif swap64(at, seen, let_go(seen)):
                return False
            seen = load64(at)
        return False

    cpdef int bereave(self, int seat, unsigned int epoch) except -1:
        """A worker has no connection to that router any more, and begins nothing for it: what the router held is nobody's, and what
        is busy will be when it ends. Returns how many slots became free."""
        cdef uint64_t *at
        cdef uint64_t seen
        cdef int slot, count = 0
        if self.routers == 1:
            return 0
        for slot in range(self.slots):
            at = self.grant_at(seat, slot)
            seen = load64(at)
            if seen & 3 == 1 and seen >> 32 == epoch and swap64(at, seen, let_go(seen)):
                count += 1
        return count

    def mend(self, int seat, int slots, epochs, running):
        """Of the first slots of a seat, those of a router to which the worker has no connection are nobody's: an app that writes
        where it likes has written that. ``epochs`` are the routers that there are, ``running`` the slots in which something runs,
        whose end sets them right. Returns how many it was.
        """
        cdef uint64_t *at
        cdef uint64_t seen
        cdef int slot, mended = 0
        if self.routers == 1:
            return 0
        for slot in range(min(slots, self.slots)):
            if slot in running:
                continue
            at = self.grant_at(seat, slot)
            seen = load64(at)
            while seen & 3 and (seen & 3 == 3 or <unsigned int> (seen >> 32) not in epochs):
                if swap64(at, seen, let_go(seen)):
                    mended += 1
                    seen = 0
                else:
                    seen = load64(at)
        return mended

    def held(self, int seat, int slots, unsigned int epoch):
        """``(how many of the first slots of a seat nobody holds, and how many this router)``. A page's one router has all."""
        cdef uint64_t seen
        cdef int slot, unheld = 0, its = 0
        if self.routers == 1:
            return 0, min(slots, self.slots)
        for slot in range(min(slots, self.slots)):
            seen = load64(self.grant_at(seat, slot))
            if seen & 3 == 0:
                unheld += 1
            elif seen >> 32 == epoch:
                its += 1
        return unheld, its

    # What several routers count together of an app, in the page's head (`emperor.router.together`). Workers do not look there.

    cdef uint64_t *counted_at(self, int index) except NULL:
        """The word of what all have let in, 0, and that of each router's seat behind it."""
        if self.page == NULL:
            raise BoardError("the page is closed")
        if self.routers == 1 or not 0 <= index <= min(self.routers, SPEAKERS_MOST):
            raise BoardError(f"no word {index} of what routers count together")
        return <uint64_t *> (self.page + 8 + index * 8)

    def spent_until(self):
        """Until when, in ns of CLOCK_MONOTONIC, what has been let in is used up; what is no time is 0."""
        return max(0, <int64_t> load64(self.counted_at(0)))

    def spend(self, int64_t now, int64_t each, int64_t most):
        """So many ns more, from that instant or from ``now``, whichever is later; never more than ``most`` from now."""
        cdef uint64_t *at = self.counted_at(0)
        cdef uint64_t seen
        cdef int64_t until
        while True:
            seen = load64(at)
            until = max(<int64_t> seen, now) + each
            if until > now + most and most:
                until = now + most
            if swap64(at, seen, <uint64_t> until):
                return

    def say(self, int seat, unsigned int count, uint64_t now):
        """The router of this seat has so many in hand, at this time in ns."""
        store64(self.counted_at(1 + seat), (now // TENTH_NS) << 32 | count)

    def said_by_others(self, int seat, uint64_t now, uint64_t stale_ns):
        """How many the others have, by what they have said since then; one of them has at most 2**24."""
        cdef uint64_t seen, total = 0
        cdef unsigned int age
        cdef int other
        for other in range(min(self.routers, SPEAKERS_MOST)):
            if other != seat:
                seen = load64(self.counted_at(1 + other))
                # By its clock it may be a little later than by ours.
                age = <unsigned int> (now // TENTH_NS + 1) - <unsigned int> (seen >> 32)
                if age <= stale_ns // TENTH_NS + 1:
                    total += min(seen & 0xFFFFFFFF, <uint64_t> 1 << 24)
        return total

    # Since when somebody waits at each of several routers, there as well: half a word for each, which it alone writes.

    cdef uint32_t *waits_at(self, int seat) except NULL:
        if self.page == NULL:
            raise BoardError("the page is closed")
        if self.routers == 1 or not 0 <= seat < min(self.routers, SPEAKERS_MOST):
            raise BoardError(f"no word of what waits at router {seat}")
        return <uint32_t *> (self.page + 8 + (1 + SPEAKERS_MOST) * 8) + seat

    cpdef say_waits(self, int seat, int64_t since_ns):
        """Who has waited longest at the router of this seat came then; 0: nobody waits there."""
        store32(self.waits_at(seat), <uint32_t> (since_ns // AGE_NS) | 2 if since_ns else 1)

    cpdef int64_t others_wait(self, int seat, int64_t now) except -1:
        """When the one came who has waited longest at any other router, to some 0.2 ms; 0: none of them says that anybody waits."""
        cdef uint32_t seen, age, oldest = 0
        cdef bint waits = False
        cdef int other
        for other in range(min(self.routers, SPEAKERS_MOST)):
            seen = load32(self.waits_at(other))
            if other != seat and seen > 1:
                age = <uint32_t> (now // AGE_NS) - seen
                if age >> 31:
                    age = 0  # its clock, or the last bit
                if not waits or age > oldest:
                    oldest = age
                waits = True
        return max(1, now - <int64_t> oldest * AGE_NS) if waits else 0

    # The router's side.

    cpdef bint offer(self, int seat, int router, int index, uint64_t stream) except -1:
        """FREE → OFFERED for ``stream``. False: the word is not FREE, which a router's own books exclude: a link fault."""
        cdef uint64_t *at = self.word(seat, router, index)
        cdef uint64_t seen = load64(at)
        if seen & 3 != 0:
            return False
        return swap64(at, seen, word_of(stream, 1))

    cpdef int revoke(self, int seat, int router, int index, uint64_t stream) except -2:
        """OFFERED → REVOKED for ``stream``; returns the state that the word has now.

        REVOKED: it was not begun, and never will be. CLAIMED: begun. FREE: begun and ended.
        −1: a value that the protocol does not allow, a link fault.
        """
        cdef uint64_t *at = self.word(seat, router, index)
        cdef uint64_t seen
        if swap64(at, word_of(stream, 1), word_of(stream, 3)):
            return 3
        seen = load64(at)
        if seen == word_of(stream, 2):
            return 2
        if seen == word_of(stream, 0):
            return 0
        if seen == word_of(stream, 3):
            return 3
        return -1

    def revoke_all(self, int seat, int router):
        """Every OFFERED word of the area → REVOKED, whatever its stream: what a new router does before WELCOME."""
        cdef uint64_t *at
        cdef uint64_t seen
        cdef int index
        for index in range(self.deck):
            at = self.word(seat, router, index)
            seen = load64(at)
            if seen & 3 == 1:
                swap64(at, seen, (seen & ~<uint64_t> 3) | 3)

    cpdef tuple slot(self, int seat, int slot):
        """``(stream, start in ns of CLOCK_MONOTONIC)`` of a slot; stream 0 is idle. Torn reads are read again."""
        cdef uint64_t *at = self.slot_at(seat, slot)
        cdef uint64_t stream, start
        cdef int attempt
        for attempt in range(8):
            stream = load64(at + 1)
            start = load64(at)
            if load64(at + 1) == stream:
                return stream, start
        return 0, 0

    cpdef int64_t running_ns(self, int seat, uint64_t now_ns, int slots=-1) except? -1:
        """How long every slot (the first ``slots`` of them, if so many are used) has been busy: what the one that began last has run; −1 when a slot is idle.

        What waits on deck begins when the first of them ends. A start in the future counts as 0, and what `last`s as for ever.
        """
        cdef int64_t shortest = -1, age
        cdef int slot
        cdef uint64_t *at
        for slot in range(slots if 0 < slots < self.slots else self.slots):
            at = self.slot_at(seat, slot)
            if load64(at + 1) == 0:
                return -1
            age = <int64_t> (now_ns - load64(at))
            if load64(at) == LASTS:
                age = <int64_t> (LASTS >> 1)
            if age < 0:
                age = 0
            if shortest < 0 or age < shortest:
                shortest = age
        return shortest

    def running_there_ns(self, int seat, uint64_t now_ns, list slots):
        """The same of these slots alone; −1 when there are none."""
        cdef int64_t shortest = -1, age
        cdef int slot
        cdef uint64_t *at
        for slot in slots:
            at = self.slot_at(seat, slot)
            if load64(at + 1) == 0:
                return -1
            age = <int64_t> (now_ns - load64(at))
            if load64(at) == LASTS:
                age = <int64_t> (LASTS >> 1)
            if age < 0:
                age = 0
            if shortest < 0 or age < shortest:
                shortest = age
        return shortest

    cpdef tuple state(self, int seat, int router, int index):
        """``(stream without its two top bits, state)`` of a word."""
        cdef uint64_t seen = load64(self.word(seat, router, index))
        return seen >> 2, <int> (seen & 3)

    # The worker's side.

    cpdef bint claim(self, int seat, int router, int index, uint64_t stream) except -1:
        """OFFERED → CLAIMED for ``stream``. False: it was revoked, drop the record unread."""
        return swap64(self.word(seat, router, index), word_of(stream, 1), word_of(stream, 2))

    cpdef free(self, int seat, int router, int index):
        """CLAIMED or REVOKED → FREE; the stream stays readable in the word. FREE stays, OFFERED is left alone."""
        cdef uint64_t *at = self.word(seat, router, index)
        cdef uint64_t seen = load64(at)
        while seen & 3 >= 2:
            if swap64(at, seen, seen & ~<uint64_t> 3):
                return
            seen = load64(at)

    def reclaim(self, int seat, int router, running=None):
        """Every REVOKED word of the area → FREE: what a worker does at a new WELCOME, when the records that named them are gone.

        CLAIMED ones, too, but for those of what is still ``running``, if that is known: such a word is nothing that the worker did.
        """
        cdef uint64_t *at
        cdef uint64_t seen
        cdef int index
        for index in range(self.deck):
            at = self.word(seat, router, index)
            seen = load64(at)
            if seen & 3 == 3 or (seen & 3 == 2 and running is not None and index not in running):
                swap64(at, seen, seen & ~<uint64_t> 3)

    def inherit(self, int seat):
        """A new process takes the seat of one that has died: what that one had claimed or not yet met is FREE, its slots are idle
        and nobody's.

        OFFERED words stay as they are: they are the router's to take back.
        """
        cdef uint64_t *at
        cdef uint64_t seen
        cdef int router, index, slot
        for router in range(self.routers):
            for index in range(self.deck):
                at = self.word(seat, router, index)
                seen = load64(at)
                if seen & 3 >= 2:
                    swap64(at, seen, seen & ~<uint64_t> 3)
        for slot in range(self.slots):
            store64(self.slot_at(seat, slot) + 1, 0)
            if self.routers > 1:
                at = self.grant_at(seat, slot)
                seen = load64(at)
                while seen & 3 and not swap64(at, seen, let_go(seen)):
                    seen = load64(at)

    cpdef int64_t begin(self, int seat, int slot, uint64_t stream) except -1:
        """The slot is busy with ``stream`` from now on: ``start`` is written first. Returns it, in ns of CLOCK_MONOTONIC."""
        cdef uint64_t *at = self.slot_at(seat, slot)
        cdef int64_t now = now_ns()
        store64(at, <uint64_t> now)
        store64(at + 1, stream)
        return now

    cpdef last(self, int seat, int slot):
        """What the slot is busy with may go on for hours, and has no deadline: a start that is never so long ago."""
        store64(self.slot_at(seat, slot), LASTS)

    cpdef end(self, int seat, int slot):
        """The slot is idle."""
        store64(self.slot_at(seat, slot) + 1, 0)
