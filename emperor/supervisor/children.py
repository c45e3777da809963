"""The processes that the emperor started or took over: how each ended, and that none is left.

Owns a pidfd for each of them. Its own children are reaped; of one that an emperor before it started only
the end can be seen. The emperor is a child subreaper, so what a dying gateway leaves behind becomes its
child: such a stranger is reaped, and killed when it has not left by itself after `stranger_s` (a worker
then has had its whole stop-timeout). No process is ever signalled by a number that it told us itself: only
by a pidfd of ours, or as a child that the kernel lists as ours.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from emperor.supervisor import process
from emperor.supervisor.loop import Loop
from emperor.supervisor.process import UNSEEN, Exit, StartError

LOOK_S = 1.0
_UNCLAIMED = 4096


class Logger(Protocol):
    """What is needed of `emperor.log.Log`."""

    def warning(self, text: str) -> None: ...


class Child:
    """One watched process. `signal` reaches exactly it, or nobody."""

    def __init__(self, pid: int, pidfd: int, on_exit: Callable[[Exit], None]) -> None:
        self.pid = pid
        self._pidfd = pidfd
        self._on_exit: Callable[[Exit], None] | None = on_exit

    @property
    def alive(self) -> bool:
        return self._on_exit is not None

    def signal(self, signum: int) -> None:
        if self._pidfd >= 0:
            process.signal_pidfd(self._pidfd, signum)


class Children:
    """All of them. `stranger_s` may be lowered at the end of the emperor's life."""

    def __init__(self, loop: Loop, log: Logger, stranger_s: float = 8.0) -> None:
        self._loop = loop
        self._log = log
        self.stranger_s = stranger_s
        self._watched: dict[int, Child] = {}
        self._unclaimed: OrderedDict[int, Exit] = OrderedDict()
        self._strangers: dict[int, float] = {}
        loop.on_signal(signal.SIGCHLD, self._reap)
        self._timer = loop.call_later(LOOK_S, self._look)

    def may_stay(self, stop_timeout_s: float) -> None:
        """Workers that outlive their gateway may take as long as their vassal may."""
        self.stranger_s = max(self.stranger_s, stop_timeout_s)

    def watch(self, pid: int, on_exit: Callable[[Exit], None]) -> Child:
        """Call `on_exit` once, from the loop, when `pid` has ended. One that has ended already, and was
        reaped before anybody asked, is known too. Raises ProcessLookupError for one that never was ours and
        is not there."""
        if pid in self._unclaimed:
            child = Child(pid, -1, on_exit)
            self._loop.call_soon(self._ended, child, self._unclaimed.pop(pid))
            return child
        pidfd = process.pidfd_open(pid)
        child = self._watched[pid] = Child(pid, pidfd, on_exit)
        self._strangers.pop(pid, None)
        self._loop.watch_pid(pidfd, lambda: self._fired(child))
        return child

    def watch_started(self, pid: int, on_exit: Callable[[Exit], None], title: str) -> Child:
        """The same for one that was started just now. Raises StartError where there is no descriptor for it: it is
        killed then."""
        try:
            return self.watch(pid, on_exit)
        except OSError as error:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)  # ours and not reaped, so the number is still its own
            raise StartError(f"cannot watch {title}: {error.strerror}") from error

    def close(self) -> None:
        """Forget all of them; they live on."""
        self._timer.cancel()
        for child in list(self._watched.values()):
            self._forget(child)

    def kill_strangers(self) -> int:
        """SIGKILL every child that nobody watches; how many there were."""
        strangers = process.children() - self._watched.keys()
        for pid in strangers:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)  # ours and not reaped, so the number is still its own
        self._reap()
        return len(strangers)

    def _reap(self) -> None:
        for pid, end in process.reap():
            self._strangers.pop(pid, None)
            child = self._watched.get(pid)
            if child is not None:
                self._ended(child, end)
                continue
            # Perhaps a gateway whose pid the spawner is about to report.
            self._unclaimed[pid] = end
            while len(self._unclaimed) > _UNCLAIMED:
                self._unclaimed.popitem(last=False)

    def _fired(self, child: Child) -> None:
        self._reap()
        if child.alive:  # not our child: somebody else reaps it
            self._ended(child, UNSEEN)

    def _ended(self, child: Child, end: Exit) -> None:
        on_exit = child._on_exit
        self._forget(child)
        if on_exit is not None:
            on_exit(end)

    def _forget(self, child: Child) -> None:
        child._on_exit = None
        self._watched.pop(child.pid, None)
        if child._pidfd >= 0:
            self._loop.unwatch(child._pidfd)
            os.close(child._pidfd)
            child._pidfd = -1

    def _look(self) -> None:
        self._timer = self._loop.call_later(LOOK_S, self._look)
        self._reap()
        now = self._loop.now()
        strangers = process.children() - self._watched.keys()
        self._strangers = {pid: self._strangers.get(pid, now) for pid in strangers}
        for pid, since in self._strangers.items():
            if now - since >= self.stranger_s:
                self._log.warning(f"pid {pid}, left behind by a process that died, is killed")
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)  # ours and not reaped, so the number is still its own
