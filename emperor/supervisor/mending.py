"""The run directory while it is in use: what vanishes from it is made again.

A clean-up job, `rm -rf /run/emperor`, something mounted over it: the sockets that were in it are open and work on, but
nobody finds them any more: no command, no worker that starts, no next emperor. So each is bound anew and handed to whom
it belongs, and all that is connected stays connected (docs/decisions/0030).

Owns the watch on the directory and knows which paths have to be there; whoever owns a thing makes it again. Where that
cannot be done, it is said once, tried each second, and the vassals are served meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Protocol

from emperor.monitors.scan import Note
from emperor.monitors.watches import Watches
from emperor.supervisor.loop import Loop, Timer
from emperor.supervisor.rundir import RunDir, RunDirError
from emperor.supervisor.sockets import BindError

SETTLE_S = 0.05
"""A directory is emptied entry by entry: one look for all of them."""

LOOK_S = 10.0
"""For what inotify does not tell: there is none to be had, or another file system has been mounted over it."""

RETRY_S = 1.0

Again = Callable[[], None]
"""Makes one thing again. Raises OSError, BindError."""


class Logger(Protocol):
    """What is needed of `emperor.log.Log`."""

    def info(self, text: str) -> None: ...
    def warning(self, text: str) -> None: ...
    def error(self, text: str) -> None: ...


class Mending:
    """Call `start` once everything is there. `held()` says what has to be there now, and how each is made again;
    `lock()` takes the lock of a new directory, or raises RunDirError, and does nothing for the one that is locked."""

    def __init__(
        self,
        loop: Loop,
        run_dir: RunDir,
        log: Logger,
        lock: Callable[[], None],
        held: Callable[[], Mapping[str, Again]],
    ) -> None:
        self._loop = loop
        self._run_dir = run_dir
        self._log = log
        self._lock = lock
        self._held = held
        self._watches: Watches | None = None
        self._timer: Timer | None = None
        self._soon = False
        self.trouble = ""

    def start(self) -> None:
        """Watch, and look now and then."""
        try:
            self._watches = Watches(self._loop, self._noted, self._stirred)
        except OSError:  # as many instances as the user may have: the looks have to do
            self._watches = None
        self._watch()
        self._look_in(LOOK_S)

    def close(self) -> None:
        """What vanishes from now on is meant to."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._watches is not None:
            self._watches.close()
            self._watches = None

    def before_spawn(self) -> None:
        """A generation is about to be started, and needs the directory now."""
        if self._timer is not None and not all(map(os.path.isdir, self._run_dir.directories)):
            self.look()

    def look(self) -> None:
        """Make again what is missing."""
        self._soon = False
        if self._timer is None:
            return
        held = self._held()
        missing = [path for path in held if not os.path.lexists(path)]
        missing += [path for path in self._run_dir.directories if not os.path.isdir(path)]
        if missing:
            self._mend(held, missing)
        self._watch()
        self._look_in(RETRY_S if self.trouble else LOOK_S)

    def _mend(self, held: Mapping[str, Again], missing: list[str]) -> None:
        whole = self._run_dir.path in missing
        what = (
            f"the run directory {self._run_dir.path} has vanished"
            if whole
            else f"{sorted(missing)[0]} has vanished"
            + (f", and {len(missing) - 1} more of the run directory" if len(missing) > 1 else "")
        )
        if not self.trouble:
            self._log.warning(f"{what}: it is made again; what is connected stays connected")
        try:
            self._run_dir.make()
            self._lock()
            for path in missing:
                if path in held:
                    held[path]()
        except (OSError, BindError, RunDirError) as error:
            trouble = (
                f"{what} and cannot be made again, so that no command and no worker that starts finds us: {error}: "
                f"it is tried again each second"
            )
            if trouble != self.trouble:
                self._log.error(trouble)
            self.trouble = trouble
        else:
            self._log.info(f"the run directory {self._run_dir.path} is whole again")
            self.trouble = ""

    def _watch(self) -> None:
        if self._watches is not None:
            self._watches.forget_moved()
            self._watches.want(frozenset(self._run_dir.directories))

    def _noted(self, _directory: str, note: Note) -> None:
        if note.kind == "deleted" and not note.file.endswith(".new"):
            self._stirred()

    def _stirred(self) -> None:
        if not self._soon:
            self._soon = True
            self._loop.call_later(SETTLE_S, self.look)

    def _look_in(self, delay_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(delay_s, self.look)
