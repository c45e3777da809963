"""What the app writes: ``sys.stdout``, ``sys.stderr`` and ``wsgi.errors``, none of which can hold up or break
a request.

Descriptors 1 and 2 are the gateway's log pipe. A log reader that is slow or gone must cost lines, never
requests, so an outlet writes without blocking, drops what does not fit, counts it, and says so in the log as
soon as there is room again. O_NONBLOCK is a flag of the *open file description*, which the app's raw writers
and children share: an outlet therefore opens the pipe once more through /proc instead of setting the flag on
what it was given.
"""

import fcntl
import io
import os
import select
import stat
import sys
from typing import Any

_ATOMIC = select.PIPE_BUF
"""A pipe that polls writable takes this many bytes without blocking (pipe(7))."""


class Outlet(io.RawIOBase):
    """A raw writer on descriptor ``target`` that never blocks and never raises for a slow or vanished reader.

    ``write`` always claims to have taken everything; ``dropped_lines`` and ``dropped_bytes`` count what it
    did not. ``fileno()`` is ``target`` itself, so that a child process given this stream gets an ordinary
    blocking descriptor.
    """

    def __init__(self, target: int) -> None:
        super().__init__()
        self.name = f"<descriptor {target}>"
        self._target = target
        self._unreported = 0
        self._torn = False
        self.dropped_lines = 0
        self.dropped_bytes = 0
        self._out, self._patient = _reopen(target)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._target

    def isatty(self) -> bool:
        return os.isatty(self._target)

    def write(self, piece: Any, /) -> int:
        view = memoryview(piece).cast("B")
        size = view.nbytes
        if self._unreported and not self._report():
            self._drop(view)
            return size
        taken = self._push(view)
        if taken < size:
            self._torn = taken > 0
            self._drop(view[taken:])
        return size

    def _report(self) -> bool:
        """The note about what is missing goes first: a reader must not take the log for whole."""
        lines = self._unreported
        note = b"%s[%d line%s dropped here: the log was not read in time]\n" % (
            b"\n" if self._torn else b"",
            lines,
            b"" if lines == 1 else b"s",
        )
        if self._push(memoryview(note)) < len(note):
            return False
        self._unreported = 0
        self._torn = False
        return True

    def _drop(self, view: memoryview) -> None:
        lines = bytes(view).count(b"\n") or 1
        self.dropped_lines += lines
        self.dropped_bytes += view.nbytes
        self._unreported += lines

    def _push(self, view: memoryview) -> int:
        """Bytes taken, without waiting. Every error of the reader's side counts as nothing taken."""
        try:
            if not self._patient:
                return os.write(self._out, view)
            taken = 0
            while taken < view.nbytes and self._has_room():
                taken += os.write(self._out, view[taken : taken + _ATOMIC])
            return taken
        except OSError:
            return 0

    def _has_room(self) -> bool:
        poll = select.poll()
        poll.register(self._out, select.POLLOUT)
        return any(events & select.POLLOUT for _, events in poll.poll(0))

    def close(self) -> None:
        if not self.closed and self._out != self._target:
            os.close(self._out)
        super().close()


def _reopen(target: int) -> tuple[int, bool]:
    """``(descriptor to write to, whether each write must ask for room first)``.

    Only a pipe is opened again: a file opened again would be written from its start, and neither a file nor
    /dev/null waits for a reader. Where /proc is missing or the pipe belongs to another uid, asking first is
    nearly as good: another writer can still fill the pipe in between.
    """
    try:
        kind = os.fstat(target).st_mode
    except OSError:
        return target, False
    if stat.S_ISFIFO(kind):
        try:
            return os.open(f"/proc/self/fd/{target}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC), False
        except OSError:
            pass
    if stat.S_ISREG(kind):
        return target, False
    return fcntl.fcntl(target, fcntl.F_DUPFD_CLOEXEC, 3), True


def text_outlet(target: int) -> io.TextIOWrapper:
    """A text stream over an `Outlet`: UTF-8, one write per finished line, and no character that it cannot
    write."""
    # TextIOWrapper is happy with a raw stream that takes all it is given; a buffer between would hold lines
    # back.
    return io.TextIOWrapper(
        Outlet(target),
        encoding="utf-8",
        errors="backslashreplace",
        newline="\n",
        line_buffering=True,
    )


def redirect() -> None:
    """Puts outlets in the place of ``sys.stdout`` and ``sys.stderr``, and of the originals that libraries
    fall back to."""
    sys.stdout = sys.__stdout__ = text_outlet(1)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = text_outlet(2)  # type: ignore[misc]
