"""Looks into workers: has their interpreters write the stacks of all threads (`vassals.tracing`), and reads them.

It never waits: a look a few times a hundredth of a second, while there is something to look for. What is read was written
by the tenant's process, so it is text of theirs, bounded, and nothing else.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Final

from emperor.supervisor.loop import Loop
from vassals.tracing import END_OF_MORE, TRACE_SIGNAL

LOOK_S: Final = 0.02
LATEST_S: Final = 1.5
"""How long the stacks are waited for. A worker that is stopped, or deep in the kernel, shows none."""
MORE_S: Final = 0.4
"""How long those of greenlets or tasks are, after the threads': code that blocks the main thread keeps them away."""
STILL: Final = 5
"""So many looks in which nothing more came are enough, should the process's state tell nothing."""
BYTES: Final = 64 * 1024

_BIT: Final = 1 << (TRACE_SIGNAL - 1)

Take = Callable[[list[str], str], None]
"""Called with the lines, and why there are none."""


class _Dump:
    """One look into one worker. `takers` are told of its end."""

    __slots__ = ("at", "began", "fd", "more", "pid", "size", "still", "takers")

    def __init__(self, pid: int, fd: int, more: bool, now: float) -> None:
        self.pid = pid
        self.fd = fd
        self.more = more
        self.began = now
        self.at = 0
        self.size = 0
        self.still = 0
        self.takers: list[Take] = []


class Traces:
    """The looks that are under way."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._dumps: dict[int, _Dump] = {}

    def ask(self, pid: int, fd: int, more: bool, take: Take) -> None:
        """Have the worker `pid`, a child of ours that nobody has waited for, show its stacks in `fd`; `take` is called
        once, later. A second that asks meanwhile is told the same. `more`: it shows greenlets, or tasks, after its threads."""
        dump = self._dumps.get(pid)
        if dump is None:
            dump = _Dump(pid, fd, more, self._loop.now())
            with contextlib.suppress(OSError):
                # The offset is shared with the worker; one that has sealed its file is read from where it stands.
                dump.at = os.lseek(fd, 0, os.SEEK_END)
                os.ftruncate(fd, 0)
                dump.at = os.lseek(fd, 0, os.SEEK_SET)
            dump.size = dump.at
            with contextlib.suppress(OSError):
                os.kill(pid, TRACE_SIGNAL)
            self._dumps[pid] = dump
            self._loop.call_later(LOOK_S, self._look, dump)
        dump.takers.append(take)

    def ended(self, pid: int) -> None:
        """The worker has; what it had shown is what there is."""
        dump = self._dumps.get(pid)
        if dump is not None:
            self._finish(dump, "it has ended")

    def _look(self, dump: _Dump) -> None:
        if self._dumps.get(dump.pid) is not dump:
            return
        age_s = self._loop.now() - dump.began
        size = _size(dump.fd)
        dump.still = dump.still + 1 if size == dump.size else 0
        dump.size = size
        if self._is_whole(dump, age_s):
            self._finish(dump, "")
        elif age_s >= LATEST_S:
            self._finish(dump, why_mute(dump.pid))
        else:
            self._loop.call_later(LOOK_S, self._look, dump)

    def _is_whole(self, dump: _Dump, age_s: float) -> bool:
        if dump.size <= dump.at:
            return False
        if dump.more and age_s < MORE_S:
            return END_OF_MORE in _read(dump.fd, dump.size - 200)
        return not _is_at_it(dump.pid) or dump.still >= STILL

    def _finish(self, dump: _Dump, why: str) -> None:
        del self._dumps[dump.pid]
        text = _read(dump.fd, dump.at)
        lines = [_plain(line) for line in text.splitlines() if line.strip() and line != END_OF_MORE]
        for take in dump.takers:
            take(list(lines), "" if lines else why)


def why_mute(pid: int) -> str:
    """Why a process shows nothing, as far as the kernel tells."""
    state = _status(pid).get("State", "")[:1]
    return {
        "": "it has ended",
        "Z": "it has ended",
        "T": "it is stopped (SIGSTOP?); kill -CONT would let it go on",
        "t": "a debugger holds it",
        "D": "it is in the kernel and cannot be interrupted: a disc or a network file system that does not answer?",
    }.get(
        state,
        f"it did not show its stacks within {LATEST_S:g} s: are all its threads blocking signal {TRACE_SIGNAL}?",
    )


def _is_at_it(pid: int) -> bool:
    """The signal has not been taken up yet, or its handler runs: the kernel blocks it meanwhile."""
    status = _status(pid)
    return any(int(status.get(key, "0"), 16) & _BIT for key in ("SigPnd", "ShdPnd", "SigBlk"))


def _status(pid: int) -> dict[str, str]:
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            pairs = (line.partition(":") for line in file)
            return {key: value.strip() for key, _, value in pairs}
    except OSError:
        return {}


def _size(fd: int) -> int:
    try:
        return os.fstat(fd).st_size
    except OSError:
        return 0


def _read(fd: int, at: int) -> str:
    try:
        return os.pread(fd, BYTES, max(0, at)).decode("utf-8", "backslashreplace")
    except OSError:
        return ""


def _plain(line: str) -> str:
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in line)
