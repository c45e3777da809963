"""Directories on one inotify instance, by the paths of what they really are."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from emperor.monitors import inotify
from emperor.monitors.inotify import Inotify
from emperor.monitors.scan import Note
from emperor.supervisor.loop import Loop

MOST_WATCHES = 8192
"""Directories; what lies in others is found by looking now and then."""


class Watches:
    """One inotify instance and the real directories that it watches. Raises OSError when there is none to be had."""

    def __init__(
        self, loop: Loop, on_note: Callable[[str, Note], None], on_overflow: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._on_note = on_note
        self._on_overflow = on_overflow
        self._inotify = Inotify()
        self._numbers: dict[str, int] = {}
        self._directories: dict[int, str] = {}
        self._identities: dict[str, tuple[int, int]] = {}
        self._wanted: frozenset[str] = frozenset()
        loop.watch(self._inotify.fileno(), self._readable)

    @property
    def missing(self) -> frozenset[str]:
        """What is wanted and not watched: it is not there, or there is no watch left."""
        return self._wanted - self._numbers.keys()

    def want(self, directories: frozenset[str]) -> bool:
        """Watch these and no others, as far as they are there. True: one has been added."""
        if directories == self._wanted and len(self._numbers) == len(directories):
            return False
        self._wanted = directories
        for directory in self._numbers.keys() - directories:
            self._drop(directory)
        added = False
        for directory in sorted(directories - self._numbers.keys())[: MOST_WATCHES - len(self._numbers)]:
            with contextlib.suppress(OSError):  # not there, or no watch left: the rescan sees to it
                status = os.stat(directory)
                number = self._inotify.add(directory)
                self._numbers[directory] = number
                self._directories[number] = directory
                self._identities[directory] = (status.st_dev, status.st_ino)
                added = True
        return added

    def forget_moved(self) -> None:
        """Drop what is another directory now: one was put in its place."""
        for directory, identity in list(self._identities.items()):
            try:
                status = os.stat(directory)
            except OSError:
                self._drop(directory)
                continue
            if (status.st_dev, status.st_ino) != identity:
                self._drop(directory)

    def close(self) -> None:
        self._loop.unwatch(self._inotify.fileno())
        self._inotify.close()

    def _drop(self, directory: str) -> None:
        number = self._numbers.pop(directory, None)
        self._identities.pop(directory, None)
        if number is not None and self._directories.get(number) == directory:
            del self._directories[number]
            self._inotify.remove(number)

    def _readable(self) -> None:
        for number, mask, name in self._inotify.read():
            if mask & inotify.OVERFLOW:
                self._on_overflow()
                continue
            directory = self._directories.get(number)
            if directory is None:
                continue
            if not name:
                if mask & inotify.GONE:
                    self._drop(directory)
                    self._on_overflow()
                continue
            for bit, kind in inotify.KINDS.items():
                if mask & bit:
                    self._on_note(directory, Note(name, kind))
