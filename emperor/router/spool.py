"""Request bodies that are read to their end before a worker is asked: what may stay in memory, what goes to disk, and what
is refused. Pure: the disk is told what to do, and says later what came of it.

A body on disk is a queue of bytes in one file: written at its end while the client sends, read at its start while a worker
takes. Nothing of it is read before a worker has begun, so that a request can be taken back and offered again with the whole
of it. One piece of work at a time is under way per body; what must not be lost meanwhile stays in memory and is counted.

All that this router holds is counted in one ``Spool``: bytes in memory, bytes on disk in all and of each vassal, files. What
goes beyond a limit costs the request that did, and nobody else (docs/decisions/0015).
"""

import errno
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

PIECE: Final = 256 * 1024
"""Bytes that are read at once."""

UNWRITTEN: Final = 1 << 20
"""Bytes of one body in our memory, on their way to disk, from which on its client is not read: what comes while one write is
under way is the next write, and the more that is, the fewer there are."""

UNWRITTEN_CROWDED: Final = 256 * 1024
"""The same, while half of the memory for bodies is in use."""

MORE, QUIET, ENDED, BROKEN, FULL = range(5)
"""Why carrying ended: so many were asked for, or its time was over; nothing came for a moment; the client sends no more; its
connection is broken; the disk refused, and what had been read for it is lost."""

CARRIED_MOST: Final = 8 << 20
"""Bytes that are carried past us in one go."""

GATHER: Final = 64 * 1024
"""A slow client's bytes are gathered until they are so many: a write takes a turn of a thread."""

GATHER_CROWDED: Final = 4096
"""The same, while memory is short."""


@dataclass(frozen=True)
class Limits:
    """What bodies may take of this router's machine, in bytes and files."""

    memory: int = 64 << 20
    """In memory; from there on every body goes to disk, however small. At twice as much they are refused."""
    disk: int = 16 << 30
    """On disk, in all."""
    disk_each: int = 4 << 30
    """On disk, of one vassal."""
    files: int = 4096
    """Bodies on disk at the same time: each needs a descriptor."""


class Refused(Exception):
    """There is no room for a body. ``status`` is for its client, the text for the log."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Carried:
    """What came of it: so many bytes are in the file; ``how`` it ended (``MORE`` …), and the file's error if it was that."""

    count: int
    how: int
    error: OSError | None = None


class Disk(Protocol):
    """The files. Each call returns at once; ``done`` is called in a later turn of the loop."""

    def open(self) -> Any:
        """A file that nobody else can see; it may be made no earlier than its first write."""

    def write(self, file: Any, data: list[bytes], done: Callable[[OSError | None], None]) -> None:
        """Append all of it."""

    def carry(self, file: Any, source: int, most: int, done: Callable[[Carried], None]) -> None:
        """Append at most so many bytes of what comes out of a socket, as long as they come fast. Raises OSError when there is
        no descriptor for it."""

    def read_now(self, file: Any, at: int, into: memoryview) -> int:
        """Read what is at hand, without waiting for the disk. Returns how many bytes; 0: ``read`` it."""

    def read(self, file: Any, at: int, size: int, done: Callable[[bytes | OSError], None]) -> None:
        """Exactly ``size`` bytes."""

    def close(self, file: Any) -> None:
        """Forget the file and what is in it."""


class Owner(Protocol):
    """Whose bodies these are."""

    name: str

    def body_stored(self, exchange: Any) -> None:
        """Some of what was unwritten is on disk."""

    def body_carried(self, exchange: Any, count: int, how: int) -> None:
        """So many bytes more are on disk, which went there past us."""

    def body_fetched(self, exchange: Any, piece: bytes) -> None:
        """The next bytes, as asked for by ``Body.pull``."""

    def body_lost(self, exchange: Any, status: int, reason: str) -> None:
        """The disk refused. The body is of no use any more; ``close`` is still to be called."""


class Spool:
    """Everything that this router holds of bodies."""

    def __init__(self, disk: Disk, limits: Limits, hits: Counter[str] | None = None) -> None:
        """``hits``: by its name, how often which setting was the reason of a refusal."""
        self.disk = disk
        self.limits = limits
        self.hits: Counter[str] = Counter() if hits is None else hits
        self.memory_bytes = 0
        self.disk_bytes = 0
        self.files = 0
        self.carried_bytes = 0  # ever
        self.refused = 0  # bodies
        self.of_vassal: Counter[str] = Counter()  # bytes on disk

    def crowded(self) -> bool:
        """Memory is short."""
        return self.memory_bytes >= self.limits.memory

    def hold(self, change_bytes: int) -> None:
        """Count bytes in memory. Raises Refused when they are too many."""
        self.memory_bytes += change_bytes
        if change_bytes > 0 and self.memory_bytes > 2 * self.limits.memory:
            raise self._beyond(
                "body-memory", 503, f"{self.memory_bytes} bytes of request bodies wait in memory"
            )

    def take_file(self) -> None:
        """Count one more file. Raises Refused."""
        if self.files >= self.limits.files:
            raise self.refuse(
                503, f"{self.files} request bodies are on disk, and there is no descriptor for more"
            )
        self.files += 1

    def take_disk(self, name: str, size: int) -> None:
        """Count bytes on disk. Raises Refused."""
        if self.disk_bytes + size > self.limits.disk:
            raise self._beyond("spool-limit", 507, f"{self.disk_bytes} bytes of request bodies are on disk")
        if self.of_vassal[name] + size > self.limits.disk_each:
            raise self._beyond(
                "spool-limit-each", 507, f"{self.of_vassal[name]} bytes of its request bodies are on disk"
            )
        self.disk_bytes += size
        self.of_vassal[name] += size

    def give_back(self, name: str, size: int) -> None:
        """A file is gone."""
        self.files -= 1
        self.give_back_part(name, size)

    def give_back_part(self, name: str, size: int) -> None:
        """So many of the bytes that were taken are not on disk."""
        self.disk_bytes -= size
        self.of_vassal[name] -= size
        if not self.of_vassal[name]:
            del self.of_vassal[name]

    def _beyond(self, limit: str, status: int, reason: str) -> Refused:
        self.hits[limit] += 1
        return self.refuse(status, f"{reason} ({limit})")

    def refuse(self, status: int, reason: str) -> Refused:
        self.refused += 1
        return Refused(status, reason)

    def report(self) -> dict[str, int]:
        """For the statistics."""
        return {
            "memory_bytes": self.memory_bytes,
            "memory_limit": self.limits.memory,
            "disk_bytes": self.disk_bytes,
            "disk_limit": self.limits.disk,
            "files": self.files,
            "files_limit": self.limits.files,
            "carried_bytes": self.carried_bytes,
            "refused": self.refused,
        }


class Body:
    """What is held of one request's body.

    ``unwritten`` bytes are on their way to disk. ``settled``: nothing is.
    """

    __slots__ = (
        "_closed",
        "_file",
        "_memory",
        "_owner",
        "_read_at",
        "_spool",
        "_under_way",
        "_written",
        "carries",
        "exchange",
        "tail",
        "unwritten",
    )

    def __init__(self, spool: Spool, owner: Owner, exchange: Any) -> None:
        self._spool = spool
        self._owner = owner
        self.exchange = exchange
        self._file: Any = None
        self._memory = 0  # bytes of the spool's that are ours
        self._written = 0
        self._read_at = 0
        self._under_way = False
        self._closed = False
        self.tail: list[bytes] = []
        self.unwritten = 0
        self.carries: tuple[int, int] | None = None  # what comes next is to be carried: from where, how much

    @property
    def settled(self) -> bool:
        return not self.unwritten

    @property
    def busy(self) -> bool:
        """Something is under way, of which the owner will be told."""
        return self._under_way

    def hand_to(self, owner: Owner) -> None:
        """Somebody else of the same name is told from now on."""
        self._owner = owner

    def wants_disk(self, in_memory: int, most_in_memory: int) -> bool:
        """So much of it in memory is too much."""
        return in_memory > most_in_memory or (in_memory >= GATHER_CROWDED and self._spool.crowded())

    @property
    def most(self) -> int:
        """As many bytes as it may have on their way to disk."""
        spool = self._spool
        return UNWRITTEN if 2 * spool.memory_bytes < spool.limits.memory else UNWRITTEN_CROWDED

    def add(self, data: bytes) -> None:
        """Bytes for the disk."""
        self.tail.append(data)
        self.unwritten += len(data)

    def count(self, in_memory: int) -> None:
        """``in_memory`` bytes of it are elsewhere in memory. Raises Refused."""
        now = in_memory + self.unwritten
        change, self._memory = now - self._memory, now
        self._spool.hold(change)

    def recount(self, in_memory: int) -> None:
        """The same, where it is too late to refuse."""
        now = in_memory + self.unwritten
        self._spool.memory_bytes += now - self._memory
        self._memory = now

    def push(self, whole: bool) -> None:
        """Write what there is, if it is worth a write or nothing more will come. Raises Refused."""
        least = 1 if whole or self.carries else GATHER_CROWDED if self._spool.crowded() else GATHER
        if self._under_way or self.unwritten < least:
            return
        self._need_file()
        size = self.unwritten
        self._spool.take_disk(self._owner.name, size)
        data, self.tail = self.tail, []
        self._start(lambda: self._spool.disk.write(self._file, data, lambda error: self._pushed(size, error)))

    def _need_file(self) -> None:
        if self._file is None:
            self._spool.take_file()
            self._file = self._spool.disk.open()

    def carry(self) -> None:
        """Begin with what is to be carried, once everything before it is written. Raises Refused."""
        if self.carries is None or self._under_way or self.unwritten:
            return
        self._need_file()
        source, owed = self.carries
        self.carries = None
        most = min(owed, CARRIED_MOST)
        self._spool.take_disk(self._owner.name, most)
        try:
            self._start(
                lambda: self._spool.disk.carry(
                    self._file, source, most, lambda carried: self._carried(most, carried)
                )
            )
        except OSError:
            # No descriptor for a copy: it comes as others do.
            self._spool.give_back_part(self._owner.name, most)
            self._owner.body_carried(self.exchange, 0, QUIET)

    def _carried(self, most: int, carried: Carried) -> None:
        self._under_way = False
        self._written += carried.count
        self._spool.carried_bytes += carried.count
        self._spool.give_back_part(self._owner.name, most - carried.count)
        if self._closed:
            self._end()
        elif carried.error is not None:
            self._failed(carried.error)
        else:
            self._owner.body_carried(self.exchange, carried.count, carried.how)

    def _start(self, work: Callable[[], None]) -> None:
        self._under_way = True
        try:
            work()
        except BaseException:
            self._under_way = False  # a thread could not be had: nobody will say that it is done
            raise

    def _pushed(self, size: int, error: OSError | None) -> None:
        self._under_way = False
        self._written += size
        if self._closed:
            self._end()
            return
        self.unwritten -= size
        if error is not None:
            self._failed(error)
        else:
            self._owner.body_stored(self.exchange)

    def pull(self) -> None:
        """Ask for the next bytes from disk, if that has not been done. Everything must be written."""
        size = min(PIECE, self._written - self._read_at)
        if self._under_way or not size:
            return
        self._start(lambda: self._spool.disk.read(self._file, self._read_at, size, self._pulled))

    def pour(self, into: memoryview) -> int:
        """The next bytes, as far as they are at hand and there is room for them. Returns how many; 0: ``pull``."""
        size = min(len(into), self._written - self._read_at)
        if self._under_way or not size:
            return 0
        count = self._spool.disk.read_now(self._file, self._read_at, into[:size])
        self._read_at += count
        return count

    def _pulled(self, result: bytes | OSError) -> None:
        self._under_way = False
        if self._closed:
            self._end()
        elif isinstance(result, OSError):
            self._failed(result)
        else:
            self._read_at += len(result)
            self._owner.body_fetched(self.exchange, result)

    def _failed(self, error: OSError) -> None:
        refused = self._spool.refuse(*verdict(error))
        self._owner.body_lost(self.exchange, refused.status, str(refused))

    def close(self) -> None:
        """Let go of everything: now, or once what is under way is done."""
        if self._closed:
            return
        self._closed = True
        self._spool.hold(-self._memory)
        self.tail.clear()
        self.exchange = None
        if not self._under_way:
            self._end()

    def _end(self) -> None:
        if self._file is not None:
            self._spool.disk.close(self._file)
            self._spool.give_back(self._owner.name, self._written)
            self._file = None


def verdict(error: OSError) -> tuple[int, str]:
    """``(status, reason)``: what could be otherwise in a moment is 503, a disk that is full or broken is 507."""
    passing = error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)
    return 503 if passing else 507, f"its body cannot be kept on disk: {error}"
