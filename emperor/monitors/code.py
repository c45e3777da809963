"""The source files of one app, for `emperor run --reload`: says when one has changed.

Watches every directory below the given ones but those that hold no source of the app's: hidden ones, caches,
virtualenvs, what package managers fill. A burst of changes (a checkout, a formatter) is one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from emperor.monitors import inotify
from emperor.monitors.inotify import Inotify
from emperor.supervisor.loop import Loop, Timer

QUIET_S = 0.15
"""So long nothing more has to happen before a burst of changes is told."""

SUFFIXES = (".py",)
SKIPPED = frozenset(("__pycache__", "node_modules", "site-packages", "dist-packages"))
MOST_DIRECTORIES = 8192

_CHANGED = inotify.CLOSE_WRITE | inotify.MOVED_TO | inotify.MOVED_FROM | inotify.DELETE


class Logger(Protocol):
    """What is needed of `emperor.log.Log`."""

    def warning(self, text: str) -> None: ...


class CodeMonitor:
    """Calls `on_change(path)` in the loop with one of the files that have changed. Raises OSError when inotify is not to
    be had."""

    def __init__(
        self, loop: Loop, roots: Iterable[str], on_change: Callable[[str], None], log: Logger
    ) -> None:
        self._loop = loop
        self._on_change = on_change
        self._log = log
        self._inotify = Inotify()
        self._directories: dict[int, str] = {}
        self._told_full = False
        self._timer: Timer | None = None
        self._changed = ""
        loop.watch(self._inotify.fileno(), self._readable)
        for root in roots:
            self._add_tree(root)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._loop.unwatch(self._inotify.fileno())
        self._inotify.close()

    def _add_tree(self, root: str) -> bool:
        """Watch `root` and what is below it. True: there is source in it already."""
        has_source = False
        for _, has in source_directories(root, self._add):
            has_source = has_source or has
        return has_source

    def _add(self, directory: str) -> bool:
        """Watch one directory, before it is looked into: what is made in it from now on is told. False: it cannot be."""
        if len(self._directories) >= MOST_DIRECTORIES:
            self._full(directory, f"more than {MOST_DIRECTORIES} directories")
            return False
        try:
            self._directories[self._inotify.add(directory)] = directory
        except FileNotFoundError:
            return False
        except OSError as error:
            self._full(directory, str(error.strerror))
            return False
        return True

    def _full(self, directory: str, why: str) -> None:
        if not self._told_full:
            self._told_full = True
            self._log.warning(
                f"{directory} and others are not watched: {why}; name what matters with --reload-dir"
            )

    def _readable(self) -> None:
        for number, mask, name in self._inotify.read():
            if mask & inotify.OVERFLOW:
                self._note("")
                continue
            directory = self._directories.get(number)
            if directory is None:
                continue
            path = os.path.join(directory, name)
            if mask & inotify.IGNORED:
                del self._directories[number]
            elif mask & inotify.ISDIR:
                is_new = mask & (inotify.CREATE | inotify.MOVED_TO) and not _is_skipped(directory, name)
                # What was put into it before the watch was not told.
                if is_new and self._add_tree(path):
                    self._note(path)
            elif mask & _CHANGED and name.endswith(SUFFIXES) and not name.startswith("."):
                self._note(path)

    def _note(self, path: str) -> None:
        self._changed = path
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(QUIET_S, self._tell)

    def _tell(self) -> None:
        self._timer = None
        self._on_change(self._changed)


def source_directories(
    root: str, enter: Callable[[str], bool] = lambda _directory: True
) -> Iterator[tuple[str, bool]]:
    """Every directory at and below `root` that may hold source of an app's, and whether it does. `enter` is called before each
    is looked into; False leaves it out."""
    waiting = [root]
    while waiting:
        directory = waiting.pop()
        if not enter(directory):
            continue
        has_source = False
        below = []
        with contextlib.suppress(OSError), os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if not _is_skipped(directory, entry.name):
                        below.append(entry.path)
                elif entry.name.endswith(SUFFIXES):
                    has_source = True
        yield directory, has_source
        waiting += sorted(below, reverse=True)


def _is_skipped(directory: str, name: str) -> bool:
    if name.startswith(".") or name in SKIPPED:
        return True
    return os.path.exists(os.path.join(directory, name, "pyvenv.cfg"))
