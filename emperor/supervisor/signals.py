"""The C functions beneath `signal`, which take and give plain numbers.

The module that everybody uses turns each number into an enum member on its way in and out. In a fresh fork
that alone touches, and so copies, some 400 KB of pages that are otherwise shared: for every gateway and
every worker on the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from threading import Thread

try:
    import _signal as _c  # type: ignore[import-not-found,unused-ignore]
except ImportError:  # an interpreter that has another module there
    import signal as _c

SIG_DFL = 0
SIG_IGN = 1
SIG_BLOCK = 0
SIG_SETMASK = 2

_ALL = frozenset(range(1, 65)) - {9, 19, 32, 33}  # not KILL and STOP, nor the two that the C library keeps

set_action: Callable[[int, Any], Any] = _c.signal
"""Set what a signal does: a callable of (signum, frame), `SIG_DFL` or `SIG_IGN`. Returns what it did
before."""

set_wakeup_fd: Callable[..., int] = _c.set_wakeup_fd
"""As in `signal`."""

set_mask: Callable[[int, Iterable[int]], set[int]] = _c.pthread_sigmask
"""Change the blocked signals (`SIG_BLOCK`, `SIG_SETMASK`) of this thread. Returns those that were blocked
before."""

interrupt: Callable[[int, Any], Any] = _c.default_int_handler
"""What a new interpreter does at SIGINT: raise KeyboardInterrupt."""


def block_all() -> set[int]:
    """Block every signal that can be; give what this returns to `set_mask(SIG_SETMASK, …)` later."""
    return set_mask(SIG_BLOCK, _ALL)


def start_deaf(thread: Thread) -> None:
    """Start a thread that takes no signal: all are the main thread's, and one that another thread took in the last moment
    before an exec would be lost with it."""
    before = block_all()
    try:
        thread.start()
    finally:
        set_mask(SIG_SETMASK, before)
