"""The files that a vassal names for its gateway: the log of its app's output, and pidfiles.

The gateway is the tenant already, so it opens and removes them itself: the kernel judges. They are regular files or
nothing: whoever could make the gateway wait for a FIFO's reader would hold up its workers' supervision. A write may
still wait for a disc; that is the tenant's own, and so is the wait.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable, Sequence

LOOK_S = 1.0
"""How often a log that is written looks whether its name still is its file's."""

RETRY_S = 10.0

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class LogFile:
    """Appends lines to a file; what cannot be written goes elsewhere and is counted, and said as soon as there is room
    again. `trouble` says why, while it is so.

    It follows its name: when the file has been moved away, the next line goes into a new one. At `max_bytes` (0: never)
    it moves the file away itself, to `backup` or to a name with the time. `say(level, text)` tells the emperor.
    """

    def __init__(
        self,
        path: str,
        say: Callable[[str, str], None],
        max_bytes: int = 0,
        backup: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.trouble = ""
        self._path = path
        self._say = say
        self._max_bytes = max_bytes
        self._backup = backup
        self._clock = clock
        self._fd = -1
        self._id = (0, 0)
        self._size = 0
        self._look_at = 0.0
        self._away = 0

    def lines(self, lines: Sequence[str]) -> Sequence[str]:
        """Write lines, each with its end. Those that were not written: the caller has them go to the emperor's log. Never
        raises."""
        if not self._is_open():
            self._away += len(lines)
            return lines
        text = "".join(f"{line}\n" for line in lines)
        if self._away:
            text = f"# {self._away} lines went to the emperor's log: this file could not be written\n{text}"
        raw = text.encode("utf-8", "backslashreplace")
        try:
            taken = os.write(self._fd, raw)
        except OSError as error:
            self._away += len(lines)
            self._in_trouble(f"cannot be written: {error.strerror}")
            return lines
        if taken < len(raw):  # the disc became full within
            left = lines[-raw.count(b"\n", taken) :]
            self._away += len(left)
            with contextlib.suppress(OSError):
                os.write(self._fd, b"\n")
            self._in_trouble("could not be written whole: is its disc full?")
            return left
        away, self._away, self.trouble = self._away, 0, ""
        if away:
            self._say(
                "warning", f"logto: {self._path} is written again; {away} lines went to the emperor's log"
            )
        self._size += taken
        if 0 < self._max_bytes <= self._size:
            self._rotate()
        return ()

    def look(self) -> None:
        """Open the file, so that `trouble` is known before there is a line."""
        self._is_open()

    def reopen(self) -> None:
        """Open the file by its name again, before the next line."""
        self._look_at = 0.0
        self._close()

    def _is_open(self) -> bool:
        now = self._clock()
        if now < self._look_at:
            return self._fd >= 0
        self._look_at = now + LOOK_S
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                status = os.stat(self._path)
                if (status.st_dev, status.st_ino) == self._id:
                    return True
            self._close()
        try:
            self._fd, status = open_regular(self._path, _FLAGS | os.O_APPEND, 0o640)
        except OSError as error:
            self._look_at = now + RETRY_S
            self._in_trouble(f"cannot be opened: {error.strerror}")
            return False
        self._id = (status.st_dev, status.st_ino)
        self._size = status.st_size
        return True

    def _rotate(self) -> None:
        try:
            os.rename(self._path, self._backup or f"{self._path}.{int(time.time())}")
        except OSError as error:
            self._max_bytes = 0
            self._in_trouble(f"cannot be moved away, and grows on: {error.strerror}")
        else:
            self.reopen()

    def _in_trouble(self, text: str) -> None:
        if (trouble := f"logto: {self._path} {text}") != self.trouble:
            self.trouble = trouble
            self._say("error", trouble)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def open_regular(path: str, flags: int, mode: int) -> tuple[int, os.stat_result]:
    """Open a regular file, or one that is not there. Raises OSError, for anything else too."""
    with contextlib.suppress(FileNotFoundError):
        _check(os.stat(path))  # before the open: that may already do something to a device
    fd = os.open(path, flags, mode)
    try:
        status = os.fstat(fd)
        _check(status)
    except OSError:
        os.close(fd)
        raise
    return fd, status


def write_pidfile(path: str, pid: int) -> str:
    """Write `pid` and an end of line; the text of what went wrong, else nothing. A symlink is never followed."""
    try:
        fd, _ = open_regular(path, _FLAGS | os.O_NOFOLLOW, 0o644)
        try:
            os.ftruncate(fd, 0)
            os.write(fd, b"%d\n" % pid)
        finally:
            os.close(fd)
    except OSError as error:
        return f"pidfile: {path} cannot be written: {error.strerror}"
    return ""


def remove_pidfile(path: str, pid: int) -> None:
    """Remove the file if it still says `pid`: the next generation may have written its own."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            ours = os.read(fd, 64) == b"%d\n" % pid
        finally:
            os.close(fd)
        if ours:
            os.unlink(path)


def _check(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(22, "it is no regular file")
