"""The files of an app's modules, looked at for changes by one worker for all: `py-autoreload`, `fs-reload`.

For development. It runs in a thread of the worker, since only the process that imported them knows what was imported, and it
sees what the app's user sees. It looks at time stamps and sizes: no watch can be missing, and no file system is without.
What counts as a change: a file that is another one than at the look before, and a new source file beside the app's own. A
burst of changes (a checkout, a formatter) is told once, when it is over.

It only ever says that something has changed; the emperor starts the next generation, and this one serves on until
that is ready, with a mistake in it or not.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

QUIET_S: Final = 0.15
FILES_S: Final = 1.0
MOST_FILES: Final = 20_000
_MOST_QUIET_LOOKS: Final = 20

_SKIPPED: Final = frozenset(("__pycache__", "node_modules", "site-packages", "dist-packages"))
_LIBRARIES: Final = ("site-packages", "dist-packages")

Stamps = dict[str, tuple[int, int, int]]


def start(
    interval_s: float,
    ignore: Iterable[str],
    paths: Iterable[str],
    tell: Callable[..., None],
    log: Callable[[str], None],
) -> threading.Event:
    """Looks from now on, until the event that is returned is set, and calls ``tell("changed", reason=path)`` after each
    burst of changes."""
    over = threading.Event()
    watch = Watch(tuple(ignore), tuple(paths), modules=interval_s > 0, log=log)
    pause_s = interval_s or FILES_S

    def run() -> None:
        while not over.wait(pause_s):
            changed = watch.look()
            if changed:
                for _ in range(_MOST_QUIET_LOOKS):  # some files never rest
                    if not watch.look(QUIET_S):
                        break
                tell("changed", reason=changed)

    threading.Thread(target=run, name="py-autoreload", daemon=True).start()
    return over


class Watch:
    """What there was at the last look."""

    def __init__(
        self, ignore: tuple[str, ...], paths: tuple[str, ...], *, modules: bool, log: Callable[[str], None]
    ) -> None:
        self._ignore = ignore
        self._paths = paths
        self._modules = modules
        self._log = log
        self._told: set[str] = set()
        library = os.path.dirname(os.__file__)
        self._libraries = (library + os.sep, os.path.realpath(library) + os.sep)
        self._directories: set[str] = set()
        self._stamps: Stamps = {}
        self.look()

    def look(self, after_s: float = 0.0) -> str:
        """One path that has changed since the look before, or nothing."""
        if after_s:
            time.sleep(after_s)
        known = self._directories
        now = self._now()
        changed = ""
        for path, stamp in now.items():
            before = self._stamps.get(path)
            # A module that was imported since, from a directory that was not looked into, is none.
            if (before is None and os.path.dirname(path) in known) or before not in (None, stamp):
                changed = path
        # What has gone may be on its way back: an editor replaces it.
        self._stamps |= now
        return changed

    def _now(self) -> Stamps:
        found: Stamps = {}
        directories: set[str] = set()
        if self._modules:
            for path, own in self._files_of_modules():
                _put(found, path)
                if own:
                    directories.add(os.path.dirname(path))
            for directory in directories:
                for entry in _entries(directory):
                    if entry.name.endswith(".py") and not entry.name.startswith("."):
                        _put(found, entry.path)
        for path in self._paths:
            if os.path.isdir(path):
                directories.update(self._tree(path, found))
            elif not _put(found, path) and path not in self._stamps:
                self._say(f"fs-reload: {path}: it is not there; it counts as soon as it is")
                directories.add(os.path.dirname(path))
        self._directories = directories
        return found

    def _files_of_modules(self) -> Iterator[tuple[str, bool]]:
        """The source file of each module, and whether it is the app's own and no library's."""
        for name, module in list(sys.modules.items()):
            path: Any = getattr(module, "__file__", None)
            if not isinstance(path, str) or not path.endswith((".py", ".wsgi")) or self._is_ignored(name):
                continue
            library = path.startswith(self._libraries) or any(f"/{part}/" in path for part in _LIBRARIES)
            yield path, not library

    def _is_ignored(self, name: str) -> bool:
        return any(name == each or name.startswith(f"{each}.") for each in self._ignore)

    def _tree(self, root: str, found: Stamps) -> Iterator[str]:
        waiting = [root]
        while waiting:
            directory = waiting.pop()
            yield directory
            for entry in _entries(directory):
                if entry.name.startswith(".") or entry.name in _SKIPPED:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if not os.path.exists(os.path.join(entry.path, "pyvenv.cfg")):
                        waiting.append(entry.path)
                elif len(found) < MOST_FILES:
                    _put(found, entry.path)
                else:
                    self._say(f"fs-reload: {root}: more than {MOST_FILES} files; the rest is not looked at")
                    return

    def _say(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._log(text)


def _entries(directory: str) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except OSError:
        return []


def _put(found: Stamps, path: str) -> bool:
    try:
        status = os.stat(path)
    except OSError:
        return False
    found[path] = (status.st_mtime_ns, status.st_size, status.st_ino)
    return True
