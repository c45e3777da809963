"""The locks of one emperor: on every place that it watches, and on its run directory. They make it the only one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from emperor.monitors.places import Places
from emperor.supervisor.handover import Handover
from emperor.supervisor.rundir import RunDir, lock_directory, lock_pattern, pattern_lock


class Locks:
    """Held from the start to `close`. What the program before us in this process has handed over (`handed`) stays locked and is
    not locked again."""

    def __init__(self, places: Places, run_root: Path, run_dir: RunDir) -> None:
        self._places = places
        self._run_root = run_root
        self._run_dir = run_dir
        self._on_places: list[int] = []
        self._on_run_dir = -1

    @property
    def fds(self) -> tuple[int, ...]:
        """The descriptors that hold them."""
        return (*self._on_places, self._on_run_dir)

    def lock_places(self, handed: Handover | None) -> None:
        """Raises Locked, RunDirError."""
        seen: set[tuple[int, int]] = set()
        for place in self._places.places:
            if place.is_pattern:
                held = _lock_of(handed, pattern_lock(self._run_root, place.path))
                self._on_places.append(lock_pattern(self._run_root, place.path) if held is None else held)
                continue
            with contextlib.suppress(OSError):
                status = os.stat(place.path)
                if (status.st_dev, status.st_ino) in seen:
                    continue  # the same one by another path
                seen.add((status.st_dev, status.st_ino))
            held = _lock_of(handed, place.path)
            self._on_places.append(lock_directory(place.path) if held is None else held)

    def lock_run_dir(self, handed: Handover | None = None) -> None:
        """Hold the run directory, the one that has this path now. Raises Locked, RunDirError."""
        if self._on_run_dir >= 0:
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(self._on_run_dir), os.stat(self._run_dir.path)):
                    return
        held = _lock_of(handed, self._run_dir.path)
        fd = lock_directory(self._run_dir.path) if held is None else held
        if self._on_run_dir >= 0:
            os.close(self._on_run_dir)
        self._on_run_dir = fd

    def close(self) -> None:
        for fd in (*self._on_places, *([self._on_run_dir] if self._on_run_dir >= 0 else ())):
            os.close(fd)
        self._on_places.clear()
        self._on_run_dir = -1


def _lock_of(handed: Handover | None, path: str) -> int | None:
    return None if handed is None else handed.lock_on(path)
