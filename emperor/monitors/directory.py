"""The files of the vassals as they really are: inotify for speed, a rescan every few seconds for certainty.

Owns the inotify descriptor and what it watches: the directories of vassal files, those of every link on the way to
one and of what it leads to, and those of the other files that vassals were read from (`also`). inotify loses events
when its queue overflows and does not exist on NFS, so it only ever makes us look sooner: what counts is the listing,
and `scan` decides from that.

Directories are watched by where they really are, since one that is reached by two paths is one to the kernel. A
place that cannot be listed is reported and changes nothing: an unmounted disk must not drain every vassal.

What a tenant's file names is looked at as the tenant, as when it was read: else its name alone would make the emperor
read, as root, what the tenant may not (a kernel's log, whose reading waits or takes it away), and tell of its changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Protocol

from emperor.config import rights
from emperor.config.problems import Source
from emperor.monitors.links import trail
from emperor.monitors.places import Place, Places, look
from emperor.monitors.scan import Change, Identity, Kind, Look, Note, Scan, Seen
from emperor.monitors.watches import Watches
from emperor.supervisor.loop import Loop, Timer

RESCAN_S = 3.0
MAX_FILE_BYTES = 1024 * 1024
"""A longer vassal file is digested by its beginning, size and time stamps alone; loading it is refused
elsewhere."""

_QUIET = frozenset(
    {"opened", "closed_no_write"}
)  # remembered, and no reason to look: our own reading causes them


class Logger(Protocol):
    """What the monitor needs of `emperor.log.Log`."""

    def warning(self, text: str) -> None: ...


class DirectoryMonitor:
    """Watches `places` and calls `on_changes` in the loop with what changed, in the order of the places: first, and
    exactly once even when it is empty, with all that was there at the start."""

    def __init__(
        self,
        loop: Loop,
        places: Places,
        on_changes: Callable[[Sequence[Change]], None],
        log: Logger,
        rescan_s: float = RESCAN_S,
    ) -> None:
        self._loop = loop
        self._places = places
        self._on_changes = on_changes
        self._log = log
        self._rescan_s = rescan_s
        self._scan = Scan()
        self._listed: dict[Place, dict[str, Seen]] = {}
        self._identities: dict[str, Identity] = {}
        self._others = Others()
        self._paths = _Paths()
        self._notes: list[Note] = []
        self._watches: Watches | None = None
        self._timer: Timer | None = None
        self._rescan: Timer | None = None
        self._first = True
        self._troubles: dict[str, str] = {}

    @property
    def trouble(self) -> str:
        """Why a place cannot be looked at now, or an empty string."""
        return "; ".join(self._troubles.values())

    def start(self) -> None:
        """Begin to watch and look for the first time, from a callback of the loop's next turn on."""
        self._watch()
        self._timer = self._loop.call_later(0.0, self._look)
        self._rescan = self._loop.call_later(self._rescan_s, self._rescan_due)

    def knows(self, key: str) -> bool:
        """False while the place of this file has never been looked at, so that nobody can tell whether it is gone."""
        place = self._places.place(key)
        return place is None or place in self._listed

    def sees(self, key: str) -> bool:
        """The file is there, though it may not have been told of yet: somebody is writing it."""
        place = self._places.place(key)
        return place is not None and self._places.path(key) in self._listed.get(place, {})

    def also(self, key: str, sources: Iterable[Source]) -> None:
        """The vassal `key` was read from these files too, by absolute paths: a change of one of them is a change of it.
        Replaces what was said of this vassal before."""
        own = self._places.path(key)
        others = {_other(each): each for each in sources if each.path != own}
        if self._others.replace(key, others) and self._rescan is not None:
            self._look_soon()  # to watch where they are

    def close(self) -> None:
        """Stop watching and forget every timer. May be called again."""
        for timer in (self._timer, self._rescan):
            if timer is not None:
                timer.cancel()
        self._timer = self._rescan = None
        if self._watches is not None:
            self._watches.close()
            self._watches = None

    # -- what the kernel tells -----------------------------------------------------------------------------

    def _watch(self) -> None:
        try:
            self._watches = Watches(self._loop, self._noted, self._overflowed)
        except OSError as error:
            # No instance left: the rescan goes on, and tries this again.
            self._tell("inotify", f"{error.strerror}; looking every {self._rescan_s:g} s")
        else:
            self._troubles.pop("inotify", None)

    def _overflowed(self) -> None:
        self._look_soon()

    def _noted(self, directory: str, note: Note) -> None:
        if self._rescan is None:
            return
        path = os.path.join(directory, note.file)
        keys = self._keys_at(directory, note.file)
        self._notes += (Note(key, note.kind) for key in keys)
        others = self._paths.others.get(path, ())
        self._others.notes += (Note(each, note.kind) for each in others)
        if note.kind in _QUIET:
            return
        branches = directory in self._paths.branches and note.kind not in ("modified", "attrib", "closed")
        if keys or others or branches or path in self._paths.links:
            self._look_soon()

    def _keys_at(self, directory: str, name: str) -> list[str]:
        """The vassals whose file this is, under any of its paths."""
        keys = list(self._paths.ends.get(os.path.join(directory, name), ()))
        for named in self._paths.homes.get(directory, ()):
            path = os.path.join(named, name)
            if any(place.holds(path) for place in self._places.places):
                keys.append(self._places.key(path))
        return list(dict.fromkeys(keys))

    # -- looking -------------------------------------------------------------------------------------------

    def _rescan_due(self) -> None:
        self._rescan = self._loop.call_later(self._rescan_s, self._rescan_due)
        if self._watches is None:
            self._watch()
        else:
            self._watches.forget_moved()
        self._look()

    def _look_soon(self) -> None:
        """Once for all that one turn of the loop has brought."""
        if self._timer is None or self._timer.when > self._loop.now():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(0.0, self._look)

    def _look(self) -> None:
        if self._rescan is None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        listing = self._list()
        if not self._listed:
            return  # nothing could be looked at so far
        notes, self._notes = self._notes, []
        now = self._loop.now()
        found = self._scan.step(now, time.time_ns(), listing, notes)
        changes = list(found.removed)
        for change in found.removed:
            self._identities.pop(change.file, None)
            self._others.replace(change.file, {})
        again, taken = self._read(self._scan, found, listing, lambda key: read_digest(self._places.path(key)))
        for change in taken:
            assert change.identity is not None
            self._identities[change.file] = change.identity
        changes += taken
        again_other, stale = self._look_at_others(now)
        told = {change.file for change in changes}
        changes += (
            Change(Kind.CHANGED, key, self._identities[key])
            for key in stale
            if key in self._identities and key not in told
        )
        times = [when for when in (again, again_other) if when is not None]
        if self._watches is not None and self._watches.want(self._paths.directories):
            times.append(now)  # what came between the listing and the watch was not told
        if times:
            self._timer = self._loop.call_at(max(min(times), now + 0.01), self._look)
        if changes or (self._first and not found.early):
            self._first = False
            self._on_changes(sorted(changes, key=lambda change: self._places.rank(change.file)))

    def _list(self) -> dict[str, Seen]:
        """Every vassal file there is, by its key, and anew what has to be watched to hear of the next change."""
        paths = _Paths()
        listing: dict[str, Seen] = {}
        for place in self._places.places:
            found = look(place)
            for directory in found.directories:
                paths.home(directory, branches=place.is_pattern)
            if found.trouble:
                self._tell(place.path, f"{found.trouble}; every vassal stays as it is")
            else:
                self._troubles.pop(place.path, None)
                seen_now = {path: see(path) for path in found.files}
                self._listed[place] = {path: seen for path, seen in seen_now.items() if seen is not None}
                for path, seen in seen_now.items():
                    if seen is None or seen.link is not None:
                        paths.end(path, self._places.key(path))
            for path, seen in self._listed.get(place, {}).items():
                listing.setdefault(self._places.key(path), seen)
        for other, source in self._others.sources.items():
            paths.other(source.path, other)
        self._paths = paths
        return listing

    def _read(
        self, scan: Scan, found: Look, listing: dict[str, Seen], digest_of: Callable[[str], str | None]
    ) -> tuple[float | None, list[Change]]:
        """Take up what `found` says can be read: when to look again, and the changes."""
        again_at = found.again_at
        changes = []
        now = self._loop.now()
        unsure = {(listing[file].device, listing[file].inode) for file in found.unsure}
        written = open_for_writing(unsure) if unsure else unsure
        for file in found.read:
            seen = listing[file]
            if file in found.unsure and (seen.device, seen.inode) in written:
                scan.held(file, now)
                again_at = now if again_at is None else min(again_at, now)
                continue
            digest = digest_of(file)
            if digest is None:
                continue  # gone again: the next look sees it
            change = scan.taken(file, seen, digest)
            if change is not None:
                changes.append(change)
        return again_at, changes

    def _look_at_others(self, now: float) -> tuple[float | None, set[str]]:
        """The same for the files that vassals were read from too: which vassals have to be read again."""
        if not self._others.sources:
            return None, set()
        listing = self._others.listing()
        notes, self._others.notes = self._others.notes, []
        found = self._others.scan.step(now, time.time_ns(), listing, notes)
        again, changes = self._read(self._others.scan, found, listing, self._others.digest)
        changed = {change.file for change in (*found.removed, *changes)}
        return again, {key for key, others in self._others.of.items() if others & changed}

    def _tell(self, about: str, trouble: str) -> None:
        if self._troubles.get(about) != trouble:
            self._troubles[about] = trouble
            self._log.warning(trouble)


class Others:
    """Files that vassals were read from beside their own. `sources` has each by the name that `scan` knows it by: what
    two users look at is two files, since one may see what the other may not."""

    def __init__(self) -> None:
        self.of: dict[str, frozenset[str]] = {}
        self.sources: dict[str, Source] = {}
        self.notes: list[Note] = []
        self.scan = Scan(at_start=False)

    def replace(self, key: str, others: Mapping[str, Source]) -> bool:
        """`key` was read from `others`, as they are now. False: as before."""
        if others.keys() == self.of.get(key, frozenset()):
            return False
        if others:
            self.of[key] = frozenset(others)
        else:
            self.of.pop(key, None)
        wanted = frozenset().union(*self.of.values())
        for other in self.sources.keys() - wanted:
            del self.sources[other]
            self.scan.forget(other)
        new = {other: source for other, source in others.items() if other not in self.sources}
        self.sources |= new
        for other, seen in _seen(new).items():
            digest = self.digest(other)
            if digest is not None:
                self.scan.taken(other, seen, digest)
        return True

    def listing(self) -> dict[str, Seen]:
        """Those that are there, each for the user who looks."""
        return _seen(self.sources)

    def digest(self, other: str) -> str | None:
        source = self.sources[other]
        return read_digest(source.path, source.uid)


class _Paths:
    """Where something may happen that matters, by real paths. `homes`: directories of vassal files, with the paths by
    which places name them; `branches`: those where a new entry of any name may matter; `ends`: what links to vassal
    files lead to, with the vassals' keys; `others`: what other files really are, with their names; `links`: every link on the
    way."""

    def __init__(self) -> None:
        self.homes: defaultdict[str, list[str]] = defaultdict(list)
        self.branches: set[str] = set()
        self.ends: defaultdict[str, list[str]] = defaultdict(list)
        self.others: defaultdict[str, list[str]] = defaultdict(list)
        self.links: set[str] = set()

    def home(self, directory: str, branches: bool) -> None:
        links, end = trail(directory)
        self.links.update(links)
        self.homes[end].append(directory)
        if branches:
            self.branches.add(end)

    def end(self, path: str, key: str) -> None:
        links, end = trail(path)
        self.links.update(links)
        self.ends[end].append(key)

    def other(self, path: str, other: str) -> None:
        links, end = trail(path)
        self.links.update(links)
        self.others[end].append(other)

    @property
    def directories(self) -> frozenset[str]:
        entries = (*self.links, *self.ends, *self.others)
        return frozenset((*self.homes, *map(os.path.dirname, entries)))


def _other(source: Source) -> str:
    """The name of a source: unlike for every path and user."""
    return source.path if source.uid is None else f"{source.uid}:{source.path}"


def _seen(sources: Mapping[str, Source]) -> dict[str, Seen]:
    """`see` for each, as its user."""
    by_user: defaultdict[int | None, list[str]] = defaultdict(list)
    for other, source in sources.items():
        by_user[source.uid].append(other)
    found: dict[str, Seen] = {}
    for uid, others in by_user.items():
        # A user whose rights cannot be had sees nothing.
        with contextlib.suppress(PermissionError), rights.as_owner(rights.owner_of(uid or 0)):
            found |= {other: seen for other in others if (seen := see(sources[other].path)) is not None}
    return found


def see(path: str) -> Seen | None:
    """The regular file at `path`, or at the end of the link there; None when there is none."""
    try:
        link, link_mtime_ns = None, 0
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            link, link_mtime_ns = os.readlink(path), status.st_mtime_ns
            status = os.stat(path)
    except OSError:  # gone meanwhile, or a link that leads nowhere
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return Seen(
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        link,
        link_mtime_ns,
    )


def read_digest(path: str, uid: int | None = None) -> str | None:
    """sha256 of the file's content, as the user `uid` may read it; "unreadable: …" when it cannot be read, None when it
    has gone."""
    try:
        # Not blocking: it may have become a FIFO since it was looked at.
        fd = rights.open_file(path, rights.owner_of(uid or 0))
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"unreadable: {error.strerror}"
    with open(fd, "rb") as file:
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or rights.is_the_kernels(status):
                return "unreadable: no regular file"
            content: bytes | None = file.read(MAX_FILE_BYTES)
        except OSError as error:
            return f"unreadable: {error.strerror}"
    return "unreadable: nothing to read yet" if content is None else hashlib.sha256(content).hexdigest()


def open_for_writing(files: Set[tuple[int, int]]) -> set[tuple[int, int]]:
    """Those of `files` (device and inode) that a process which we may look into has open for writing, from /proc. One look
    at all descriptors of the machine, however many files are asked for."""
    found: set[tuple[int, int]] = set()
    for pid in os.listdir("/proc"):
        if not pid.isdigit():
            continue
        try:
            numbers = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for number in numbers:
            with contextlib.suppress(OSError, ValueError):
                status = os.stat(f"/proc/{pid}/fd/{number}")
                file = status.st_dev, status.st_ino
                if file in files and file not in found and _is_writer(pid, number):
                    found.add(file)
    return found


def _is_writer(pid: str, number: str) -> bool:
    with open(f"/proc/{pid}/fdinfo/{number}", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("flags:"):
                return int(line.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY
    return False
