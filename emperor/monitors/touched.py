"""Files whose touch starts an app anew (`touch-reload`): says which of them was touched.

A touch is a new time, inode, size or link target of what the path leads to, or that it is there again; its removal is none,
as in uWSGI. inotify makes us look at once; a look every few seconds finds what it does not tell, and what lies in a
directory that cannot be watched is looked at every second.

A tenant's file names the paths, so they are looked at with the rights of the app's user: what that user may not see is not
there.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from emperor.config import rights
from emperor.monitors.links import trail
from emperor.monitors.scan import Note
from emperor.monitors.watches import Watches
from emperor.supervisor.loop import Loop, Timer

LOOK_S = 3.0
POLL_S = 1.0
QUIET_S = 0.05
"""So long nothing more has to happen: `touch` makes a file and then sets its time."""


class Logger(Protocol):
    """What is needed of `emperor.log.Log`."""

    def warning(self, text: str) -> None: ...


class Target(NamedTuple):
    """A path, and whose rights it is looked at with (None: the emperor's own)."""

    path: str
    uid: int | None = None
    gid: int | None = None


_Stamp = tuple[int, int, int, int, str | None]


class TouchMonitor:
    """Calls `on_touch(key, path)` in the loop, once for each path of `key` that was touched."""

    def __init__(
        self,
        loop: Loop,
        on_touch: Callable[[str, str], None],
        log: Logger,
        look_s: float = LOOK_S,
        poll_s: float = POLL_S,
    ) -> None:
        self._loop = loop
        self._on_touch = on_touch
        self._log = log
        self._look_s = look_s
        self._poll_s = poll_s
        self._of: dict[str, frozenset[Target]] = {}
        self._stamps: dict[Target, _Stamp | None] = {}
        self._watches: Watches | None = None
        self._timer: Timer | None = None
        self._told: set[str] = set()
        self._before: dict[Target, _Stamp | None] = {}

    def hand_over(self) -> list[Any]:
        """How they looked last, for another program in this process."""
        return [[list(target), stamp] for target, stamp in self._stamps.items()]

    def resume(self, stamps: Any) -> None:
        """This is how they looked: a target that is wanted is compared with that the first time. Raises ValueError."""
        try:
            for (path, uid, gid), stamp in stamps:
                self._before[Target(path, uid, gid)] = None if stamp is None else tuple(stamp)
        except (TypeError, ValueError) as error:
            raise ValueError(f"files whose touch counts: {error}") from None

    def want(self, key: str, targets: Iterable[Target]) -> None:
        """Look at these for `key`, from what they are now on, and at no others."""
        wanted = frozenset(targets)
        if wanted == self._of.get(key, frozenset()):
            return
        if wanted:
            self._of[key] = wanted
        else:
            self._of.pop(key, None)
        everybody = frozenset().union(*self._of.values())
        new = everybody - self._stamps.keys()
        self._stamps = {target: stamp for target, stamp in self._stamps.items() if target in everybody}
        self._stamps |= _stamps(new)
        seen = {target: self._before.pop(target) for target in new & self._before.keys()}
        self._stamps |= seen
        self._watch()
        if seen:
            self._look_soon()
        elif self._stamps and self._timer is None:
            self._look_in(self._pause_s())
        elif not self._stamps and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """Stop looking."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._watches is not None:
            self._watches.close()
            self._watches = None
        self._of.clear()
        self._stamps.clear()

    def _watch(self) -> None:
        if not self._stamps:
            if self._watches is not None:
                self._watches.close()
                self._watches = None
            return
        if self._watches is None:
            try:
                self._watches = Watches(self._loop, self._noted, self._look_soon)
            except OSError as error:
                self._tell(f"touch-reload: {error.strerror}; looking every {self._poll_s:g} s")
                return
        directories: set[str] = set()
        for target in self._stamps:
            links, end = trail(target.path)
            directories.update(map(os.path.dirname, (*links, end)))
        self._watches.want(frozenset(directories))
        for directory in sorted(self._watches.missing):
            why = "there is no watch left for it" if os.path.isdir(directory) else "it is not there"
            self._tell(f"touch-reload: {directory}: {why}; looking every {self._poll_s:g} s")

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._log.warning(text)

    def _pause_s(self) -> float:
        blind = self._watches is None or bool(self._watches.missing)
        return self._poll_s if blind else self._look_s

    def _noted(self, _directory: str, note: Note) -> None:
        if note.kind not in ("opened", "closed_no_write"):
            self._look_soon()

    def _look_soon(self) -> None:
        if self._stamps:
            self._look_in(QUIET_S)

    def _look_in(self, delay_s: float) -> None:
        when = self._loop.now() + delay_s
        if self._timer is None or not self._timer.pending or self._timer.when > when:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._watches is not None:
            self._watches.forget_moved()
        self._watch()
        found = _stamps(self._stamps)
        touched = {
            target for target, stamp in found.items() if stamp is not None and stamp != self._stamps[target]
        }
        self._stamps = found
        if self._stamps:
            self._look_in(self._pause_s())
        for key, targets in list(self._of.items()):
            for target in sorted(targets & touched, key=lambda each: each.path):
                self._on_touch(key, target.path)


def _stamps(targets: Iterable[Target]) -> dict[Target, _Stamp | None]:
    """What each is now, seen with its user's rights; None: nothing that this user can see."""
    by_user: defaultdict[tuple[int | None, int | None], list[Target]] = defaultdict(list)
    for target in targets:
        by_user[target.uid, target.gid].append(target)
    found: dict[Target, _Stamp | None] = {target: None for group in by_user.values() for target in group}
    for (uid, gid), group in by_user.items():
        # A user whose rights cannot be had sees nothing.
        with contextlib.suppress(PermissionError), rights.as_owner(rights.owner_of(uid or 0, gid)):
            found |= {target: _stamp(target.path) for target in group}
    return found


def _stamp(path: str) -> _Stamp | None:
    try:
        link = os.readlink(path) if os.path.islink(path) else None
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size, link
