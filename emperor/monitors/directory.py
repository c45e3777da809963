"""The vassal directory as it really is: a watchdog thread for speed, a rescan every few seconds for
certainty.

Owns the observer's thread and the descriptors it opens. inotify loses events when its queue overflows,
tells nothing of a symbolic link's target and does not exist on NFS, so it only ever makes us look sooner:
what counts is the listing, and `scan` decides from that.

The thread does nothing but hand notes to the loop. A directory that cannot be listed is reported and
changes nothing: an unmounted disk must not drain every vassal.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from emperor.config.listing import is_vassal_file
from emperor.monitors.scan import Change, Note, Scan, Seen
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
    """Watches `path` and calls `on_changes` in the loop with what changed, sorted by file name: first, and
    exactly once even when it is empty, with all that was there at the start."""

    def __init__(
        self,
        loop: Loop,
        path: str,
        on_changes: Callable[[Sequence[Change]], None],
        log: Logger,
        rescan_s: float = RESCAN_S,
    ) -> None:
        self._loop = loop
        self._path = path
        self._on_changes = on_changes
        self._log = log
        self._rescan_s = rescan_s
        self._scan = Scan()
        self._notes: list[Note] = []
        self._observer: BaseObserver | None = None
        self._watched: tuple[int, int] | None = None
        self._timer: Timer | None = None
        self._rescan: Timer | None = None
        self._first = True
        self._trouble = ""

    @property
    def trouble(self) -> str:
        """Why the directory cannot be looked at now, or an empty string."""
        return self._trouble

    def start(self) -> None:
        """Begin to watch and look for the first time, from a callback of the loop's next turn on."""
        self._watch()
        self._timer = self._loop.call_later(0.0, self._look)
        self._rescan = self._loop.call_later(self._rescan_s, self._rescan_due)

    def close(self) -> None:
        """Stop the thread and forget every timer. May be called again."""
        for timer in (self._timer, self._rescan):
            if timer is not None:
                timer.cancel()
        self._timer = self._rescan = None
        self._unwatch()

    # -- the observer's thread -----------------------------------------------------------------------------

    def _watch(self) -> None:
        self._unwatch()
        try:
            status = os.stat(self._path)
            observer = Observer()
            observer.name = "directory"
            observer.daemon = True
            observer.schedule(_Noting(self._path, self._noted_elsewhere), self._path, recursive=False)
            observer.start()
        except OSError as error:
            # No inotify instance left, or no directory: the rescan goes on, and tries this again.
            self._tell(
                f"{self._path}: cannot be watched ({error.strerror}); looking every {self._rescan_s:g} s"
            )
            return
        self._observer = observer
        self._watched = (status.st_dev, status.st_ino)

    def _unwatch(self) -> None:
        observer, self._observer, self._watched = self._observer, None, None
        if observer is not None:
            observer.stop()
            observer.join(2.0)

    def _noted_elsewhere(self, notes: Sequence[Note]) -> None:
        """In the observer's thread."""
        self._loop.call_soon_threadsafe(self._noted, notes)

    def _noted(self, notes: Sequence[Note]) -> None:
        if self._rescan is None:
            return
        self._notes += (note for note in notes if not note.file or is_vassal_file(note.file))
        if any(note.kind not in _QUIET for note in notes):
            self._look()

    # -- looking -------------------------------------------------------------------------------------------

    def _rescan_due(self) -> None:
        self._rescan = self._loop.call_later(self._rescan_s, self._rescan_due)
        with contextlib.suppress(OSError):
            status = os.stat(self._path)
            if self._watched != (status.st_dev, status.st_ino):
                self._watch()
        self._look()

    def _look(self) -> None:
        if self._rescan is None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        notes, self._notes = self._notes, []
        try:
            listing = read_listing(self._path)
        except OSError as error:
            self._notes = notes
            self._tell(f"{self._path}: cannot be listed ({error.strerror}); every vassal stays as it is")
            return
        if self._observer is not None:
            self._trouble = ""
        now = self._loop.now()
        look = self._scan.step(now, time.time_ns(), listing, notes)
        changes = list(look.removed)
        again_at = look.again_at
        for file in look.read:
            seen = listing[file]
            if file in look.unsure and is_open_for_writing(seen.device, seen.inode):
                self._scan.held(file, now)
                again_at = now if again_at is None else min(again_at, now)
                continue
            digest = read_digest(os.path.join(self._path, file))
            if digest is None:
                continue  # gone again: the next look sees it
            change = self._scan.taken(file, seen, digest)
            if change is not None:
                changes.append(change)
        if again_at is not None:
            self._timer = self._loop.call_at(max(again_at, now + 0.01), self._look)
        if changes or (self._first and not look.early):
            self._first = False
            self._on_changes(sorted(changes, key=lambda change: change.file))

    def _tell(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            self._log.warning(trouble)


class _Noting(FileSystemEventHandler):
    """Turns watchdog's events into notes. Runs in the observer's thread and touches nothing of the loop's."""

    def __init__(self, path: str, tell: Callable[[Sequence[Note]], None]) -> None:
        self._path = os.path.realpath(path)
        self._tell = tell

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.is_directory and event.event_type in ("modified", "attrib"):
            return
        source = os.path.basename(os.fsdecode(event.src_path))
        target = os.path.basename(os.fsdecode(event.dest_path)) if event.dest_path else ""
        if event.event_type == "moved":
            self._tell([Note(source, "deleted"), Note(target, "moved")])
        else:
            self._tell([Note(source, event.event_type)])


def read_listing(path: str) -> dict[str, Seen]:
    """Every vassal file in `path` by its name: regular files, and links to some. Raises OSError when the
    directory cannot be read."""
    listing: dict[str, Seen] = {}
    with os.scandir(path) as entries:
        for entry in entries:
            if not is_vassal_file(entry.name):
                continue
            with contextlib.suppress(OSError):  # gone meanwhile, or a link that leads nowhere
                link, link_mtime_ns = None, 0
                if entry.is_symlink():
                    link = os.readlink(entry.path)
                    link_mtime_ns = os.lstat(entry.path).st_mtime_ns
                status = os.stat(entry.path)
                if stat.S_ISREG(status.st_mode):
                    listing[entry.name] = Seen(
                        status.st_dev,
                        status.st_ino,
                        status.st_size,
                        status.st_mtime_ns,
                        status.st_ctime_ns,
                        link,
                        link_mtime_ns,
                    )
    return listing


def read_digest(path: str) -> str | None:
    """sha256 of the file's content; "unreadable: …" when it cannot be read, None when it has gone."""
    try:
        # Not blocking: it may have become a FIFO since it was looked at.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"unreadable: {error.strerror}"
    with open(fd, "rb") as file:
        try:
            return hashlib.sha256(file.read(MAX_FILE_BYTES)).hexdigest()
        except OSError as error:
            return f"unreadable: {error.strerror}"


def is_open_for_writing(device: int, inode: int) -> bool:
    """True when a process that we may look into has this file open for writing (from /proc)."""
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
                if (status.st_dev, status.st_ino) == (device, inode) and _is_writer(pid, number):
                    return True
    return False


def _is_writer(pid: str, number: str) -> bool:
    with open(f"/proc/{pid}/fdinfo/{number}", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("flags:"):
                return int(line.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY
    return False
