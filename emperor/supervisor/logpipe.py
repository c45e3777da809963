"""Descriptors 1 and 2 of the processes that the emperor starts: a pipe into its log.

What arrives here is rare: what an interpreter says before, or instead of, the control connection. The write
end does not block, so that no reader (a stopped terminal, a dead emperor) can hold up who writes.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from typing import Any

from emperor.supervisor.loop import Loop

READ_BYTES = 65536
LINE_BYTES = 8192


class LogPipe:
    """Calls `on_line(text)` for each line. `write_fd` is for the child, and closed here by `started`; the
    read end closes itself when nobody can write any more."""

    def __init__(
        self, loop: Loop, on_line: Callable[[str], None], before: dict[str, Any] | None = None
    ) -> None:
        """`before` is what `hand_over` gave, of one that the program before us in this process had."""
        self._loop = loop
        self._on_line = on_line
        self._rest = b"" if before is None else base64.b64decode(before["rest"])
        if before is None:
            self._read_fd, self.write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        else:
            self._read_fd, self.write_fd = before["fd"], -1
        loop.watch(self._read_fd, self._readable)

    def started(self) -> None:
        """The child has its own copy of the write end, or there will be no child."""
        if self.write_fd >= 0:
            os.close(self.write_fd)
            self.write_fd = -1

    def hand_over(self) -> dict[str, Any] | None:
        """What another program in this process needs to go on reading; None if nobody can write any more."""
        if self._read_fd < 0:
            return None
        return {"fd": self._read_fd, "rest": base64.b64encode(self._rest).decode()}

    def close(self) -> None:
        """Say what has arrived, and forget the pipe."""
        self.started()
        if self._read_fd >= 0:
            self._readable()
        if self._read_fd >= 0:
            self._end()

    def _readable(self) -> None:
        try:
            chunk = os.read(self._read_fd, READ_BYTES)
        except BlockingIOError:
            return
        if not chunk:
            self._end()
            return
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > LINE_BYTES:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self._on_line(line[:LINE_BYTES].decode("utf-8", "replace"))

    def _end(self) -> None:
        self._loop.unwatch(self._read_fd)
        os.close(self._read_fd)
        self._read_fd = -1
        if self._rest:
            self._on_line(self._rest.decode("utf-8", "replace"))
            self._rest = b""
