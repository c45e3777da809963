"""Log lines, and the rule that no log reader may ever hold up or break what it is told about.

`Log` makes lines and gives them to a sink. There are two kinds of sink:

* `FdSink`, the emperor's: a writer thread behind a queue that is bounded in bytes. When the terminal, the pipe or the
  disc stalls, only that thread does; what the queue cannot hold is dropped and counted, and the count is logged
  when writing goes on. No vassal can fill it alone: see `FdSink`.
* `ChannelSink`, of routers and gateways: `log` messages over their control connection, which drop rather
  than queue without bound.
"""

from __future__ import annotations

import os
import select
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Protocol

from emperor.supervisor import signals

if TYPE_CHECKING:
    from emperor.control.channel import Channel

LEVELS = ("debug", "info", "warning", "error")

QUEUE_BYTES = 4 << 20
"""The most that waits in an `FdSink`: some 25,000 common lines."""

_LINE_COSTS = 64  # bytes of memory for each line beside its own
_WRITE_BYTES = 64 << 10


class Sink(Protocol):
    """Where a log's lines go. `dropped` counts those that went nowhere."""

    dropped: int

    def line(self, name: str, level: str, text: str, source: str = "") -> None:
        """Take one line, of a vassal's if `source` names it; never blocks, never raises."""

    def flush(self, timeout_s: float) -> bool:
        """Wait until all has been written, or the time is up. True when all has."""


class Log:
    """The log of one process. `name` is what its lines are signed with: "emperor", "emperor router 0"."""

    def __init__(self, name: str, sink: Sink) -> None:
        self._name = name
        self._sink = sink

    def debug(self, text: str) -> None:
        self._sink.line(self._name, "debug", text)

    def info(self, text: str) -> None:
        self._sink.line(self._name, "info", text)

    def warning(self, text: str) -> None:
        self._sink.line(self._name, "warning", text)

    def error(self, text: str) -> None:
        self._sink.line(self._name, "error", text)

    def write(self, level: str, text: str, vassal: str = "") -> None:
        """A line of a level that came from elsewhere: an unknown one is taken as "info". `vassal`: whose process said it."""
        self._sink.line(self._name, level if level in LEVELS else "info", text, vassal)

    def vassal(self, name: str, text: str) -> None:
        """A line that a vassal's app or gateway wrote: `[name] text`."""
        self._sink.line(f"[{name}]", "", text, name)

    @property
    def dropped(self) -> int:
        return self._sink.dropped

    def flush(self, timeout_s: float) -> bool:
        """Wait until all has been written, or the time is up. True when all has."""
        return self._sink.flush(timeout_s)


class FdSink:
    """Writes lines to a descriptor from a thread of its own. Does not own the descriptor.

    A line is `2026-11-22 14:03:01.123 emperor[812] info text` in local time; a vassal's is `2026-11-22
    14:03:01.123 [blog] text`. Control characters in the text are escaped, so that an app's output can't
    forge lines or drive a terminal.

    Of one source, a vassal or the emperor itself, as many bytes may wait as are free (the dynamic threshold of Choudhury
    and Hahne, 1998): one that writes without end gets half of `bound`, two a third each, and some is always left for a
    line of anybody else's.
    """

    def __init__(self, fd: int, bound: int = QUEUE_BYTES) -> None:
        import threading

        self.dropped = 0
        self._fd = fd
        self._lines: deque[tuple[str, bytes]] = deque()  # each with its source
        self._free = bound  # what is being written counts as waiting
        self._waiting: Counter[str] = Counter()  # bytes, by source
        self._writing = False
        self._closed = False
        self._told = 0  # of the dropped, how many the log itself has told of
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write_on, name="log", daemon=True)
        signals.start_deaf(self._thread)

    def line(self, name: str, level: str, text: str, source: str = "") -> None:
        entry = _format(name, level, text)
        size = len(entry) + _LINE_COSTS
        with self._changed:
            if self._closed or self._waiting[source] + size > self._free:
                self.dropped += 1
                return
            self._lines.append((source, entry))
            self._waiting[source] += size
            self._free -= size
            if not self._writing:
                self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._lines and not self._writing, timeout_s)

    def close(self, timeout_s: float = 1.0) -> None:
        """Flush, then end the thread (one stuck in a write is left behind). Later lines are dropped and
        counted."""
        self.flush(timeout_s)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout_s)

    def _write_on(self) -> None:
        taken: list[tuple[str, bytes]] = []
        while True:
            with self._changed:
                self._writing = False
                for source, entry in taken:
                    self._waiting[source] -= len(entry) + _LINE_COSTS
                    self._free += len(entry) + _LINE_COSTS
                    if not self._waiting[source]:
                        del self._waiting[source]
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._lines or self._closed)
                if not self._lines:
                    return
                taken, size = [], 0
                while self._lines and size < _WRITE_BYTES:
                    taken.append(self._lines.popleft())
                    size += len(taken[-1][1])
                self._writing = True
                lost = self.dropped - self._told
                self._told = self.dropped
            text = b"".join([entry for _, entry in taken])
            if lost:
                told = f"{lost} log lines were dropped: their reader was too slow"
                text += _format("emperor", "warning", told)
            if not self._write(text):
                with self._changed:
                    self.dropped += len(taken)
                    # A reader that has gone is not told, or each telling would be lost too.
                    self._told += len(taken)

    def _write(self, text: bytes) -> bool:
        view = memoryview(text)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:  # somebody else set our terminal or pipe non-blocking
                poller = select.poll()
                poller.register(self._fd, select.POLLOUT)
                poller.poll(1000)
            except OSError:
                return False
        return True


class ChannelSink:
    """Sends lines as `log` messages: {"op": "log", "lines": [[level, text], …], "dropped": n since the last}.

    Without a channel (nobody has connected) it keeps the last `keep` lines and sends them when one comes.
    """

    def __init__(self, keep: int = 200) -> None:
        self.dropped = 0
        self._told = 0  # of the dropped, how many the peer knows of
        self._keep = keep
        self._waiting: deque[tuple[str, str]] = deque()
        self._channel: Channel | None = None

    def attach(self, channel: Channel | None) -> None:
        """Send to this connection from now on, first what was kept; None: keep again."""
        self._channel = channel
        if channel is not None and self._waiting:
            lines = list(self._waiting)
            self._waiting.clear()
            self._send(lines)

    def line(self, name: str, level: str, text: str, source: str = "") -> None:
        self.lines([(level, text)])

    def lines(self, lines: list[tuple[str, str]]) -> None:
        """Take several (level or stream, text) at once: they go in one message."""
        if self._channel is not None:
            self._send(lines)
            return
        self._waiting.extend(lines)
        while len(self._waiting) > self._keep:
            self._waiting.popleft()
            self.dropped += 1

    def flush(self, timeout_s: float) -> bool:
        return self._channel is None or self._channel.flush_wait(timeout_s)

    def _send(self, lines: list[tuple[str, str]]) -> None:
        assert self._channel is not None
        dropped = self.dropped
        if self._channel.send_droppable({"op": "log", "lines": lines, "dropped": dropped - self._told}):
            self._told = dropped
        else:
            self.dropped += len(lines)


def _format(name: str, level: str, text: str) -> bytes:
    now = time.time()
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
    signed = f"{name}[{os.getpid()}] {level}" if level else name
    line = f"{stamp}.{int(now * 1000) % 1000:03} {signed} {_printable(text)}\n"
    return line.encode("utf-8", "backslashreplace")


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\t" else ascii(char)[1:-1] for char in text)
