"""What has changed in the vassal directory, and when it is safe to believe it.

Pure: it is given listings (one `Seen` per file), notes of what the kernel told (opened, modified, closed
…), and the time; it says which files to read now, which have gone, and when to look again. `directory` does
the looking.

A file is what it is, never its time stamp alone: device, inode, content, link target. Yet `touch` is how
operators of the uWSGI Emperor reload, so a new mtime counts as a change too, in whichever direction it
moves (`cp -p` of an older file is a change that uWSGI does not see).

Rules of taking a file up, so that a half-copied file never starts without its `uid` line:

* It was closed by its writer, and nothing happened to it for `SETTLE_S`.
* A file that is being written (modified while open, and not closed since) waits for the close, or until
  nothing was written for `WRITER_IDLE_S`: some writers keep a file open for ever.
* A young file whose history is not known (we have only just begun to watch) is marked `unsure`: the caller
  looks whether somebody has it open for writing, and says `held` if so.
* A file that has gone is believed gone after `GONE_S`, since editors replace a file by removing it first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

SETTLE_S = 0.1
WRITER_IDLE_S = 2.0
GONE_S = 0.2
FIRST_LOOK_S = 0.15  # at most so long the files that are there at the start wait for the youngest of them


class Kind(StrEnum):
    """What a change is."""

    NEW = "new"
    CHANGED = "changed"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as `stat` shows it; `link` and `link_mtime_ns` are the symbolic link's own when it is one."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    link: str | None = None
    link_mtime_ns: int = 0


@dataclass(frozen=True, slots=True)
class Identity:
    """What a file is: two readings with equal identities are the same reading of the same file."""

    device: int
    inode: int
    mtime_ns: int
    digest: str
    link: str | None = None
    link_mtime_ns: int = 0

    @classmethod
    def of(cls, seen: Seen, digest: str) -> Identity:
        return cls(seen.device, seen.inode, seen.mtime_ns, digest, seen.link, seen.link_mtime_ns)

    def to_json(self) -> list[object]:
        return [self.device, self.inode, self.mtime_ns, self.digest, self.link, self.link_mtime_ns]

    @classmethod
    def from_json(cls, document: object) -> Identity:
        """Raises ValueError for anything but what `to_json` gives."""
        match document:
            case [
                int(device),
                int(inode),
                int(mtime_ns),
                str(digest),
                None | str() as link,
                int(link_mtime_ns),
            ]:
                return cls(device, inode, mtime_ns, digest, link, link_mtime_ns)
        raise ValueError("a file's identity: six values expected")


@dataclass(frozen=True, slots=True)
class Note:
    """What the kernel told of one file: `kind` is opened, modified, closed (after writing),
    closed_no_write, created, moved, deleted or attrib."""

    file: str
    kind: str


@dataclass(frozen=True, slots=True)
class Change:
    """One file that the supervisor must hear of. `identity` is None for one that has gone."""

    kind: Kind
    file: str
    identity: Identity | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What one step decided: `read` these files and give each to `Scan.taken` (`unsure` ones after a look
    for a writer), `removed` have gone, and come back at `again_at` (None: at the next note or rescan).
    `early`: nothing was decided, because what was there at the start still settles and is to be taken up
    together."""

    read: tuple[str, ...] = ()
    unsure: frozenset[str] = frozenset()
    removed: tuple[Change, ...] = ()
    again_at: float | None = None
    early: bool = False


@dataclass(slots=True)
class _Pending:
    """A file that differs from what was taken, or may."""

    seen: Seen | None
    since: float  # of the last sign of change
    opens: int = 0
    writing: bool = False
    closed: bool = False  # its writer's close was seen
    told: bool = False  # notes say that its content may have changed
    old: bool = False  # it was last changed long before we looked


@dataclass(slots=True)
class _Taken:
    seen: Seen
    identity: Identity
    gone_since: float | None = None


class Scan:
    """The files that were taken, and those that wait to be. `at_start`: what is there at the first step is taken up
    together."""

    def __init__(self, at_start: bool = True) -> None:
        self._taken: dict[str, _Taken] = {}
        self._pending: dict[str, _Pending] = {}
        self._first = at_start
        self._first_until: float | None = None

    @property
    def files(self) -> frozenset[str]:
        """Every file that was taken and has not been reported gone."""
        return frozenset(self._taken)

    def step(self, now: float, wall_ns: int, listing: Mapping[str, Seen], notes: Iterable[Note] = ()) -> Look:
        """Look at the directory as it is: `now` is monotonic seconds, `wall_ns` the wall clock, `listing`
        every vassal file there is."""
        for note in notes:
            self._note(note, now)
        for file, seen in listing.items():
            self._see(file, seen, now, wall_ns)
        for file in [file for file in self._pending if file not in listing]:
            del self._pending[file]
        due: dict[str, float] = {}
        for file, pending in self._pending.items():
            taken = self._taken.get(file)
            if pending.told or taken is None or taken.seen != pending.seen:
                due[file] = self._due(pending)
        if self._first and any(now < when <= now + FIRST_LOOK_S for when in due.values()):
            if self._first_until is None:
                self._first_until = now + FIRST_LOOK_S
            if now < self._first_until:
                return Look(again_at=min(when for when in due.values() if when > now), early=True)
        self._first = False
        read = tuple(sorted(file for file, when in due.items() if when <= now))
        later = [when for when in due.values() if when > now]
        unsure = frozenset(
            file
            for file in read
            if not self._pending[file].closed
            and not self._pending[file].writing
            and not self._pending[file].old
        )
        removed = []
        for file in sorted(self._taken.keys() - listing.keys()):
            taken = self._taken[file]
            if taken.gone_since is None:
                taken.gone_since = now
            if now >= taken.gone_since + GONE_S:
                del self._taken[file]
                removed.append(Change(Kind.REMOVED, file))
            else:
                later.append(taken.gone_since + GONE_S)
        return Look(read, unsure, tuple(removed), min(later, default=None))

    def forget(self, file: str) -> None:
        """This file is no longer of interest."""
        self._taken.pop(file, None)
        self._pending.pop(file, None)

    def held(self, file: str, now: float) -> None:
        """Somebody has this file open for writing: wait for the close, or until it rests for long."""
        pending = self._pending.get(file)
        if pending is not None:
            pending.writing = True
            pending.since = now

    def taken(self, file: str, seen: Seen, digest: str) -> Change | None:
        """The file was read, and was `seen` just before. The change to report, or None when it is what it
        was."""
        before = self._taken.get(file)
        identity = Identity.of(seen, digest)
        self._taken[file] = _Taken(seen, identity)
        pending = self._pending.get(file)
        if pending is not None:
            # The counts of open files are kept: whoever has it open may still write.
            pending.told = pending.closed = pending.writing = pending.old = False
            pending.seen = seen
        if before is None:
            return Change(Kind.NEW, file, identity)
        if before.identity != identity:
            return Change(Kind.CHANGED, file, identity)
        return None

    def _note(self, note: Note, now: float) -> None:
        pending = self._pending.get(note.file)
        if pending is None:
            pending = self._pending[note.file] = _Pending(None, now)
        match note.kind:
            case "opened":
                pending.opens += 1
            case "closed_no_write":
                pending.opens = max(0, pending.opens - 1)
            case "closed":
                pending.opens = max(0, pending.opens - 1)
                pending.writing = False
                pending.closed = pending.told = True
                pending.since = now
            case "modified":
                # Nobody who writes does so without having opened the file: a monitor may tell of a new mode or
                # time as a modification as well.
                pending.writing = pending.writing or pending.opens > 0
                pending.told = True
                pending.since = now
            case "moved":  # how careful writers replace a file: what is moved in is whole
                pending.closed = True
                pending.since = now
            case "created" | "attrib":
                pending.since = now
            case "deleted":
                self._pending[note.file] = _Pending(None, now)

    def _see(self, file: str, seen: Seen, now: float, wall_ns: int) -> None:
        taken = self._taken.get(file)
        if taken is not None:
            taken.gone_since = None
        pending = self._pending.get(file)
        if pending is None:
            if taken is not None and taken.seen == seen:
                return
            pending = self._pending[file] = _Pending(seen, now)
            pending.old = _rested_s(seen, wall_ns) > WRITER_IDLE_S
        elif pending.seen != seen:
            if pending.seen is not None:
                pending.since = now
                pending.old = _rested_s(seen, wall_ns) > WRITER_IDLE_S
            pending.seen = seen

    def _due(self, pending: _Pending) -> float:
        if pending.old and not pending.told:
            return 0.0
        return pending.since + (WRITER_IDLE_S if pending.writing else SETTLE_S)


def _rested_s(seen: Seen, wall_ns: int) -> float:
    return (wall_ns - max(seen.mtime_ns, seen.ctime_ns, seen.link_mtime_ns)) / 1e9
