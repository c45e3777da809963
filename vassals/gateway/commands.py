"""Runs the commands of a vassal's hooks for its gateway, which must not wait for any: each in a session of its own, with a
deadline, and with an output that is bounded.

A hook is an operator's line, and it may do anything: hang, fail, write for ever, leave children behind. One that hangs is
killed with all that it has started; what it writes goes to the app's log up to `OUTPUT_BYTES`, then nowhere, and is
counted; it is always read, so that it cannot block. What a command leaves running lives as long as the gateway, which
is the subreaper of its generation, and may go on writing.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from emperor.config.hooks import Job
from emperor.supervisor import process
from emperor.supervisor.loop import Loop, Timer

from .lines import Lines

OUTPUT_BYTES = 256 * 1024
"""What is kept of one command's output."""

LAST_LINES = 3
_COMMAND_CHARS = 120
_LINE_CHARS = 200
_READ_BYTES = 64 * 1024

Done = Callable[[str], None]
"""Called once, with why not all of it was done, or nothing."""


class _Command:
    """One that runs, or whose output somebody may still write."""

    __slots__ = ("dropped", "kept", "last", "late", "lines", "pid", "read_fd", "timer", "title")

    def __init__(self, title: str, pid: int, read_fd: int) -> None:
        self.title = title
        self.pid = pid
        self.read_fd = read_fd
        self.lines = Lines()
        self.last: deque[str] = deque(maxlen=LAST_LINES)
        self.kept = 0
        self.dropped = 0
        self.late = ""
        self.timer: Timer | None = None


class _Series:
    """Jobs that run one after the other."""

    __slots__ = ("command", "done", "env", "jobs", "limit_s")

    def __init__(self, jobs: Sequence[Job], env: Mapping[str, str], limit_s: float, done: Done) -> None:
        self.jobs = deque(jobs)
        self.env = env
        self.limit_s = limit_s
        self.done = done
        self.command: _Command | None = None


class Commands:
    """All of one gateway. `emit(lines)` takes what they write, `note(level, text)` what is to be said of them."""

    def __init__(
        self,
        loop: Loop,
        directory: str,
        umask: int | None,
        emit: Callable[[list[str]], None],
        note: Callable[[str, str], None],
    ) -> None:
        self._loop = loop
        self._before = f"cd -- {_quoted(directory)} || exit 126\n"
        if umask is not None:
            self._before = f"umask {umask:04o}\n{self._before}"
        self._emit = emit
        self._note = note
        self._running: dict[int, _Series] = {}

    def run(self, jobs: Sequence[Job], env: Mapping[str, str], limit_s: float, done: Done) -> None:
        """Run `jobs` in their order; the first that fails is the last. `limit_s` is for each of them."""
        self._next(_Series(jobs, env, limit_s, done))

    def cancel(self) -> None:
        """Kill all that runs. Nobody is told."""
        for pid, series in list(self._running.items()):
            series.jobs.clear()
            series.done = _nobody
            _kill(pid)

    def reaped(self, pid: int, end: process.Exit) -> None:
        """A child of the gateway's has ended that is no worker."""
        series = self._running.pop(pid, None)
        command = series.command if series is not None else None
        if series is None or command is None:
            return
        series.command = None
        if command.timer is not None:
            command.timer.cancel()
        for _ in range(OUTPUT_BYTES // _READ_BYTES):  # one that it left behind may write for ever
            if not self._read(command):
                break
        self._tell(command, command.lines.flush())
        if command.dropped:
            self._note("warning", f"{command.title}: {command.dropped} bytes more of its output were dropped")
            command.dropped = 0
        if command.late or end.code != 0:
            series.done(self._why(command, end))
        else:
            self._next(series)

    def _next(self, series: _Series) -> None:
        while series.jobs:
            option, what = series.jobs.popleft()
            verb, _, text = what.partition(":")
            if verb == "print":
                self._note("info", f"{option}: {text}")
                continue
            title = f"{option}: `{text if len(text) <= _COMMAND_CHARS else text[:_COMMAND_CHARS] + '…'}`"
            try:
                self._start(series, title, text)
            except (OSError, process.StartError) as error:
                series.done(f"{title} could not be started: {error} (a limit: ulimit -u, ulimit -n, memory?)")
            return
        series.done("")

    def _start(self, series: _Series, title: str, text: str) -> None:
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(read_fd, False)
        try:
            argv = ["/bin/sh", "-c", self._before + text]
            pid = process.spawn_exec(argv, series.env, {1: write_fd, 2: write_fd}, title)
        except BaseException:
            os.close(read_fd)
            raise
        finally:
            os.close(write_fd)
        self._note("info", f"{title} runs (pid {pid})")
        command = series.command = _Command(title, pid, read_fd)
        self._running[pid] = series
        command.timer = self._loop.call_later(series.limit_s, self._late, command, series.limit_s)
        self._loop.watch(read_fd, partial(self._hear, command))

    def _late(self, command: _Command, limit_s: float) -> None:
        command.late = f"did not finish within {limit_s:g} s (hook-timeout), and was killed"
        _kill(command.pid)

    def _hear(self, command: _Command) -> None:
        self._read(command)

    def _read(self, command: _Command) -> bool:
        """Take one piece of its output. False: there was none."""
        if command.read_fd < 0:
            return False
        try:
            chunk = os.read(command.read_fd, _READ_BYTES)
        except BlockingIOError:
            return False
        if not chunk:
            self._loop.unwatch(command.read_fd)
            os.close(command.read_fd)
            command.read_fd = -1
            return False
        room = max(0, OUTPUT_BYTES - command.kept)
        command.kept += len(chunk)
        command.dropped += max(0, len(chunk) - room)
        if room:
            self._tell(command, command.lines.feed(chunk[:room]))
        return True

    def _tell(self, command: _Command, lines: list[str]) -> None:
        command.last.extend(line for line in lines if line.strip())
        self._emit(lines)

    def _why(self, command: _Command, end: process.Exit) -> str:
        said = " / ".join(line.strip()[:_LINE_CHARS] for line in command.last)
        return f"{command.title} {command.late or end.text}" + (f": {said}" if said else "")


def _quoted(text: str) -> str:
    # As shlex does it, which would bring regular expressions into every gateway.
    return "'" + text.replace("'", "'\"'\"'") + "'"


def _nobody(_why: str) -> None:
    pass


def _kill(pid: int) -> None:
    """With all that it has started, its own session first, as long as somebody is left to be found."""
    for each in (*process.descendants(pid), pid):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(each, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
