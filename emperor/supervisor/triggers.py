"""What starts a vassal anew beside its file and the operator: files that are touched, code that has changed, letters.

Owns the monitor of `touch-reload`, and hands on what `master-fifo` is; what a worker tells of its code comes here, too. A
vassal is started at once by the first, and by all that follow within `GAP_S` once more behind it: a tenant's own file may be
touched a thousand times a second, and the last touch counts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from emperor.monitors.touched import Logger, Target, TouchMonitor
from emperor.supervisor.fifos import Fifos
from emperor.supervisor.loop import Loop, Timer
from emperor.supervisor.reading import Reading

GAP_S = 0.5


class Triggers:
    """`reload(file, by, rolling)` is called in the loop; `by` says what has happened."""

    def __init__(
        self, loop: Loop, log: Logger, reload: Callable[[str, str, bool], None], fifos: Fifos | None = None
    ) -> None:
        self._loop = loop
        self._reload = reload
        self._fifos = fifos
        self._touched = TouchMonitor(loop, self._on_touch, log)
        self._resting: dict[str, Timer] = {}
        self._again: dict[str, tuple[str, bool]] = {}
        self._chains: dict[str, frozenset[str]] = {}

    def want(self, file: str, reading: Reading | None) -> None:
        """From now on what this reading names counts; None: nothing."""
        if self._fifos is not None:
            self._fifos.want(file, reading)
        targets: tuple[str, ...] = ()
        self._chains.pop(file, None)
        if reading is not None:
            targets = (*reading.reloading.touch, *reading.reloading.touch_chain)
            self._chains[file] = frozenset(reading.reloading.touch_chain)
        self._touched.want(
            file, [Target(path, reading.uid, reading.gid) for path in targets if reading is not None]
        )

    def fire(self, file: str, by: str, rolling: bool = False) -> None:
        """Start it anew, now or as soon as it may be; `rolling`: worker by worker."""
        if file in self._resting:
            self._again[file] = (by, rolling)
            return
        self._resting[file] = self._loop.call_later(GAP_S, partial(self._rested, file))
        self._reload(file, by, rolling)

    @property
    def quiet(self) -> bool:
        """Nothing waits to be started again."""
        return not self._again

    def hand_over(self) -> list[Any]:
        """How the files looked, for another program in this process."""
        return self._touched.hand_over()

    def resume(self, stamps: Any) -> None:
        """This is how they looked: what has been touched since is said once they are wanted."""
        self._touched.resume(stamps)

    def close(self) -> None:
        """Nothing is started any more. May be called again."""
        self._touched.close()
        for timer in self._resting.values():
            timer.cancel()
        self._resting.clear()
        self._again.clear()

    def _on_touch(self, file: str, path: str) -> None:
        chain = path in self._chains.get(file, ())
        self.fire(file, f"touch-{'chain-' if chain else ''}reload {path}", chain)

    def _rested(self, file: str) -> None:
        del self._resting[file]
        again = self._again.pop(file, None)
        if again is not None:
            self.fire(file, *again)
