"""The stacks of a worker's threads, shown to its gateway on a signal: also when app code holds the interpreter's lock and
never comes back, since the interpreter's own signal handler (faulthandler, in C) writes them without the lock.

The gateway registers it once, before it forks any worker, for a descriptor that has the same number in all of them and is
a file of each worker's own (`use`). So a worker can be looked into from its first instruction on, and a signal that comes
too early does no harm. What an app does with its own signals is not touched: TRACE_SIGNAL is one that nobody uses.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from types import FrameType
from typing import Any, Final

TRACE_SIGNAL: Final = int(signal.SIGRTMAX) - 7
"""Of the real-time signals, far from those that a C library (the lowest) or a debugger (the highest) might take."""

GREENLETS: Final = "Greenlets (most recent call last):"
END_OF_GREENLETS: Final = "End of greenlets"
MOST_GREENLETS: Final = 200

_fd = -1


def prepare() -> None:
    """In the gateway: from now on the signal shows stacks, here and in all forks."""
    global _fd
    _fd = new_file()
    faulthandler.register(TRACE_SIGNAL, file=_fd, all_threads=True)


def new_file() -> int:
    """A descriptor for the stacks of one worker. Raises OSError."""
    return os.memfd_create("emperor-trace", os.MFD_CLOEXEC)


def use(fd: int) -> None:
    """In a worker's process: its stacks go to this file."""
    os.dup2(fd, _fd, inheritable=False)


def kept() -> int:
    """The descriptor that `use` gave the file to, for those who close all others."""
    return _fd


def show_greenlets() -> None:
    """In a worker that runs greenlets, which the interpreter does not know of: after the threads' stacks come theirs, from
    a handler in Python, so not while the lock is held or C code blocks the hub; then it is that which the threads' show."""
    if _fd < 0:
        return
    # Without a handler for a moment, the signal would end the process.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (TRACE_SIGNAL,))
    try:
        faulthandler.unregister(TRACE_SIGNAL)
        signal.signal(TRACE_SIGNAL, _write_greenlets)
        faulthandler.register(TRACE_SIGNAL, file=_fd, all_threads=True, chain=True)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _write_greenlets(_signum: int, frame: FrameType | None) -> None:
    import traceback

    lines = [GREENLETS]
    for each in _greenlets():
        # The one that runs now has no frame of its own: it is the one that was interrupted.
        at = each.gr_frame or frame
        lines.append(f"Greenlet {getattr(each, 'name', '') or hex(id(each))}:")
        lines += "".join(traceback.format_stack(at)).splitlines()
    rest = "\n".join([*lines, END_OF_GREENLETS, ""]).encode("utf-8", "backslashreplace")
    while rest:
        rest = rest[os.write(_fd, rest) :]


def _greenlets() -> list[Any]:
    import gc

    from greenlet import getcurrent, greenlet  # type: ignore[import-not-found,import-untyped,unused-ignore]

    running = getcurrent()
    # By type(): to ask some objects for their class runs code of the app's.
    found = [each for each in gc.get_objects() if issubclass(type(each), greenlet)]
    return [each for each in found if each is running or each.gr_frame is not None][:MOST_GREENLETS]
