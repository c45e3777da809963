"""What starts a vassal anew beside its file and the operator: files that are touched, code that has changed.

Owns the monitor of `touch-reload`; what a worker tells of its code comes here, too. A vassal is started at once by the
first, and by all that follow within `GAP_S` once more behind it: a tenant's own file may be touched a thousand times a second,
and the last touch counts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from emperor.monitors.touched import Logger, Target, TouchMonitor
from emperor.supervisor.loop import Loop, Timer
from emperor.supervisor.reading import Reading

GAP_S = 0.5


class Triggers:
    """`reload(file, by)` is called in the loop; `by` says what has happened."""

    def __init__(self, loop: Loop, log: Logger, reload: Callable[[str, str], None]) -> None:
        self._loop = loop
        self._reload = reload
        self._touched = TouchMonitor(loop, self._on_touch, log)
        self._resting: dict[str, Timer] = {}
        self._again: dict[str, str] = {}

    def want(self, file: str, reading: Reading | None) -> None:
        """From now on what this reading names counts; None: nothing."""
        targets = () if reading is None else reading.reloading.touch
        self._touched.want(
            file, [Target(path, reading.uid, reading.gid) for path in targets if reading is not None]
        )

    def fire(self, file: str, by: str) -> None:
        """Start it anew, now or as soon as it may be."""
        if file in self._resting:
            self._again[file] = by
            return
        self._resting[file] = self._loop.call_later(GAP_S, partial(self._rested, file))
        self._reload(file, by)

    def close(self) -> None:
        """Nothing is started any more. May be called again."""
        self._touched.close()
        for timer in self._resting.values():
            timer.cancel()
        self._resting.clear()
        self._again.clear()

    def _on_touch(self, file: str, path: str) -> None:
        self.fire(file, f"touch-reload {path}")

    def _rested(self, file: str) -> None:
        del self._resting[file]
        by = self._again.pop(file, None)
        if by is not None:
            self.fire(file, by)
