"""The stacks of a worker's threads, shown to its gateway on a signal: also when app code holds the interpreter's lock and
never comes back, since the interpreter's own signal handler (faulthandler, in C) writes them without the lock.

It is registered once, in the spawner or in a gateway that was exec'd, and inherited from there, for a descriptor of one number:
TRACE_FD, which in each process of a vassal is a file of its own (`own`). So a worker can be looked into from its first
instruction on, a signal that comes too early does no harm, and no fork touches memory for it. What an app does with its own
signals is not changed: TRACE_SIGNAL is one that nobody uses.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Final

TRACE_SIGNAL: Final = int(signal.SIGRTMAX) - 7
"""Of the real-time signals, far from those that a C library (the lowest) or a debugger (the highest) might take."""

TRACE_FD: Final = 7
"""The first that a gateway is not started with."""

GREENLETS: Final = "Greenlets (most recent call last):"
TASKS: Final = "Tasks (most recent call last):"
END_OF_MORE: Final = "End of them"
MOST_LISTED: Final = 200

_registered = False


def register() -> None:
    """From now on the signal shows stacks, here and in all forks."""
    global _registered
    if not _registered:
        _registered = True
        faulthandler.register(TRACE_SIGNAL, file=TRACE_FD, all_threads=True)


def new_file() -> int:
    """A descriptor for the stacks of one worker. Raises OSError."""
    return os.memfd_create("emperor-trace", os.MFD_CLOEXEC)


def own(fd: int) -> None:
    """The stacks of this process go to this file."""
    os.dup2(fd, TRACE_FD, inheritable=False)


def prepare() -> None:
    """In a gateway, before it opens anything: TRACE_FD is taken, so that a signal can write to nothing else. Raises OSError."""
    register()
    fd = new_file()
    if fd != TRACE_FD:
        own(fd)
        os.close(fd)


def show_more(title: str, listed: Callable[[FrameType | None], list[str]]) -> bool:
    """In a worker that runs what the interpreter does not know of: after the threads' stacks come these lines, of what was
    interrupted at that frame. They are made by a handler in Python, so not while the interpreter's lock is held or C code
    blocks the main thread; then it is that which the threads' show. False: nothing will be shown."""
    if not _registered:
        return False

    def write(_signum: int, frame: FrameType | None) -> None:
        lines = [title, *listed(frame), END_OF_MORE, ""]
        rest = "\n".join(lines).encode("utf-8", "backslashreplace")
        while rest:
            rest = rest[os.write(TRACE_FD, rest) :]

    # Without a handler for a moment, the signal would end the process.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (TRACE_SIGNAL,))
    try:
        faulthandler.unregister(TRACE_SIGNAL)
        signal.signal(TRACE_SIGNAL, write)
        faulthandler.register(TRACE_SIGNAL, file=TRACE_FD, all_threads=True, chain=True)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return True


def greenlets_listed(frame: FrameType | None) -> list[str]:
    """For `show_more`."""
    import gc
    import traceback

    from greenlet import getcurrent, greenlet  # type: ignore[import-not-found,import-untyped,unused-ignore]

    running = getcurrent()
    # By type(): to ask some objects for their class runs code of the app's.
    found = [each for each in gc.get_objects() if issubclass(type(each), greenlet)]
    lines: list[str] = []
    for each in [each for each in found if each is running or each.gr_frame is not None][:MOST_LISTED]:
        # The one that runs now has no frame of its own: it is the one that was interrupted.
        at = each.gr_frame or frame
        lines.append(f"Greenlet {getattr(each, 'name', '') or hex(id(each))}:")
        lines += "".join(traceback.format_stack(at)).splitlines()
    return lines
