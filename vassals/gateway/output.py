"""What the app writes on its output, from a pipe for each seat to the emperor's log or the vassal's own log file.

Descriptors 1 and 2 of a worker are one pipe per seat, of which the gateway keeps both ends and each worker keeps the read end.
So neither the gateway's death nor a worker's ends the pipe for anybody, and what an app left running may go on writing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from emperor.control.messages import GatewaySpec
from emperor.log import ChannelSink
from emperor.supervisor.loop import Loop

from .files import LogFile
from .lines import Lines

_READ_BYTES = 64 * 1024
_LAST_READS = 16
"""A full pipe; more is somebody who has not stopped."""


class LogPipe:
    """The pipe that is 1 and 2 of every worker of one seat, and the lines read from it."""

    __slots__ = ("lines", "read_fd", "write_fd")

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        self.lines = Lines()


class Output:
    """That of one gateway's workers. `sink` leads to the emperor; `written()` is called when lines went to the log file, which
    may be in trouble since, or no longer."""

    def __init__(self, spec: GatewaySpec, loop: Loop, sink: ChannelSink, written: Callable[[], None]) -> None:
        self._name = spec.name
        self._off = spec.logto == "off"
        self._loop = loop
        self._sink = sink
        self._written = written
        self._pipes: dict[int, LogPipe] = {}
        self._file: LogFile | None = None
        if spec.logto is not None and not self._off:
            self._file = LogFile(spec.logto, self.note, spec.log_max_bytes, spec.log_backup or "")

    def pipe(self, number: int) -> LogPipe:
        """The pipe of a seat, made when first somebody sits there: the spare seat of most vassals is never taken. Raises
        OSError."""
        pipe = self._pipes.get(number)
        if pipe is None:
            pipe = self._pipes[number] = LogPipe()
            self._loop.watch(pipe.read_fd, partial(self._forward, number))
        return pipe

    def _forward(self, number: int) -> None:
        self._read(number)

    def finish(self, number: int) -> None:
        """Whoever sat there has ended: forward what there is, a line that is not whole too."""
        self._read(number)
        self.relay(self._pipes[number].lines.flush())

    def finish_all(self) -> None:
        for number, pipe in self._pipes.items():
            for _ in range(_LAST_READS):
                if not self._read(number):
                    break
            self.relay(pipe.lines.flush())

    def _read(self, number: int) -> bool:
        """Forward one piece of a seat's output. False when there was none."""
        pipe = self._pipes[number]
        try:
            chunk = os.read(pipe.read_fd, _READ_BYTES)
        except BlockingIOError:
            return False
        self.relay(pipe.lines.feed(chunk))
        return True

    def relay(self, lines: list[str]) -> None:
        """These are the app's."""
        if not lines or self._off:
            return
        if self._file is None:
            self._sink.lines([("app", line) for line in lines])
            return
        left = self._file.lines(lines)
        if left:
            self._sink.lines([("app", line) for line in left])
        self._written()

    def note(self, level: str, text: str) -> None:
        """A line of ours, for the emperor's log."""
        self._sink.line(self._name, level, text)

    def reopen(self) -> None:
        """The log file has been moved away."""
        if self._file is not None:
            self._file.reopen()

    def look(self) -> None:
        """See whether the log file can be written."""
        if self._file is not None:
            self._file.look()

    @property
    def trouble(self) -> str:
        """Why the log file cannot be written, or nothing."""
        return "" if self._file is None else self._file.trouble
