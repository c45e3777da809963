"""The harness as a child subreaper: whatever a killed emperor leaves behind becomes our child, is seen, and
is ended.

Popen children stay Popen's to reap. Orphans are told apart by their session, since every process of the
product but the emperor has one of its own, and are reaped by a thread while a scenario runs: a zombie would
look like a process that is still there.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import psutil

PR_SET_CHILD_SUBREAPER = 36
REAP_EVERY_S = 0.05


class Orphans:
    """Owns this process's subreaper flag and its unexpected children, from `start` to `close`."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reaper", daemon=True)
        self._ours: list[subprocess.Popen[Any]] = []
        self._lock = threading.Lock()
        self._earlier = {child.pid for child in psutil.Process().children()}

    def start(self) -> None:
        """Raises OSError where the kernel refuses the flag."""
        _set_subreaper(1)
        self._thread.start()

    def popen(self, *arguments: Any, **keywords: Any) -> "subprocess.Popen[Any]":
        """`subprocess.Popen` for a child with a session of its own: the reaper then knows that it is not to
        reap it."""
        with self._lock:
            child: subprocess.Popen[Any] = subprocess.Popen(*arguments, **keywords)
            self._ours.append(child)
        return child

    def adopted(self) -> list[psutil.Process]:
        """Living children that nobody here started: orphans of a killed process."""
        return [child for child in psutil.Process().children() if self._is_adopted(child)]

    def end_all(self, deadline_s: float = 5.0) -> list[str]:
        """Kills every process below this one that the scenario left, and says what they were: none, if it was
        clean."""
        left = [
            process
            for process in psutil.Process().children(recursive=True)
            if process.pid not in self._earlier
        ]
        clients = {ours.pid for ours in self._ours}
        # What each is comes first: a moment later it may have ended.
        named = [(each, _describe(each)) for each in left if each.pid not in clients]
        described = [name for each, name in named if _is_running(each)]
        for process in left:
            _kill(process)
        for child in self._ours:
            child.wait(deadline_s)
            # A test that failed has not closed them: later tests would fail for it, with a ResourceWarning each.
            for pipe in (child.stdin, child.stdout, child.stderr):
                if pipe is not None:
                    with contextlib.suppress(OSError):  # what is buffered for a process that has gone
                        pipe.close()
        psutil.wait_procs(left, timeout=deadline_s)
        return described

    def close(self) -> None:
        """Ends what is left, stops reaping, drops the flag. Raises AssertionError when it had to end
        something."""
        left = self.end_all()
        self._stopping.set()
        self._thread.join()
        _set_subreaper(0)
        assert not left, f"the scenario left processes behind: {left}"

    def _run(self) -> None:
        while not self._stopping.wait(REAP_EVERY_S):
            self._reap()
        self._reap()

    def _reap(self) -> None:
        # The lock keeps a Popen between its fork and its listing from being taken for an orphan.
        with self._lock:
            for child in self.adopted():
                try:
                    os.waitpid(child.pid, os.WNOHANG)
                except ChildProcessError:
                    continue

    def _is_adopted(self, child: psutil.Process) -> bool:
        if child.pid in self._earlier or any(child.pid == ours.pid for ours in self._ours):
            return False
        try:
            return os.getsid(child.pid) != os.getsid(0)
        except ProcessLookupError:
            return False


class Closing(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=Closing)


@contextlib.contextmanager
def reaped(make: Callable[[Orphans], C]) -> Iterator[C]:
    """What is made for a whole file, with the harness as a subreaper meanwhile."""
    orphans = Orphans()
    orphans.start()
    try:
        made = make(orphans)
        try:
            yield made
        finally:
            made.close()
    finally:
        orphans.close()


def _kill(process: psutil.Process) -> None:
    try:
        process.send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        return


def _is_running(process: psutil.Process) -> bool:
    """Not when it is ending: it has no memory any more then, and so no command line."""
    try:
        return bool(process.is_running() and process.cmdline() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())[:120]}"
    except psutil.Error:
        return str(process.pid)


def _set_subreaper(flag: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, flag, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
