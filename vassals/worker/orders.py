"""What a worker is told from outside the backplane: by its gateway over the leash, and by signals.

Both end in one wish, ``leave``: finish what is running, give the rest back, go. Nothing here acts on it; the
link looks at it between two requests. The leash is a socketpair of newline-delimited JSON that the gateway
holds the other end of; its end of file means that the gateway is gone. SIGTERM is what the kernel sends when
the gateway dies (PR_SET_PDEATHSIG) and what an impatient operator sends; it also starts a deadline, since
there may be nobody left who would enforce one.
"""

import contextlib
import itertools
import json
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

try:
    import _signal as _c  # type: ignore[import-not-found,unused-ignore]
except ImportError:  # an interpreter that has another module there
    import signal as _c

set_action: Callable[[int, Any], Any] = _c.signal
"""Beneath `signal.signal`, which makes an enum's member of each number, and so copies pages that a worker would share:
for plain ints and callables."""

_TELL_TIMEOUT_MS = 1000
_LINE_LIMIT = 64 * 1024


class Orders:
    """``leave`` is empty while the worker is to serve, then the reason to go; the first reason stays. ``leave_by`` is when
    whoever ends workers will do so, by the monotonic clock, once they have said; the latest word counts.

    ``turned`` says that there are other routers than before: `turn` tells which, and takes it back.
    ``fds()`` are the descriptors to wait on for reading; after one is readable the caller calls ``take()``.
    """

    def __init__(self, leash: socket.socket, stop_timeout_s: float) -> None:
        self.leave = ""
        self.leave_by: float | None = None
        self.turned = False
        self._routers: tuple[tuple[int, str], ...] = ()
        self._first: tuple[tuple[int, str], ...] = ()
        self._far: dict[int, str] = {}
        self._far_step = 0
        self._far_turns = itertools.count(1)
        self._leash = leash
        self._stop_timeout_s = stop_timeout_s
        self._partial = b""
        self._leash_open = True
        self._bell = -1
        leash.setblocking(False)

    def fds(self) -> list[int]:
        """Descriptors worth waiting on: the leash while it is open, and the one that signals ring."""
        return [
            fd
            for fd, wanted in ((self._leash.fileno(), self._leash_open), (self._bell, True))
            if wanted and fd >= 0
        ]

    def wish(self, reason: str) -> None:
        """Leave, for ``reason``."""
        self.leave = self.leave or reason

    def take(self) -> None:
        """Reads what there is, without blocking."""
        if self._bell >= 0:
            with contextlib.suppress(BlockingIOError):
                os.read(self._bell, 4096)
        while self._leash_open:
            try:
                piece = self._leash.recv(4096)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                piece = b""
            if not piece:
                self._leash_open = False
                self.wish("the gateway is gone")
                return
            *lines, self._partial = (self._partial + piece).split(b"\n")
            for line in lines:
                self._obey(line)
            if len(self._partial) > _LINE_LIMIT:
                self._partial = b""

    def _obey(self, line: bytes) -> None:
        with contextlib.suppress(ValueError):
            order = json.loads(line)
            # Unknown orders are ignored: the gateway may be newer than the worker's interpreter.
            match order:
                case {"op": "drain"}:
                    within_s = order.get("within_s")
                    if isinstance(within_s, int | float):
                        self.leave_by = time.monotonic() + within_s
                    self.wish("the gateway asked")
                case {"op": "routers", "routers": [*routers]}:
                    self._turn(routers)

    def _turn(self, routers: list[Any]) -> None:
        known = {}
        for each in routers:
            match each:
                case [int(seat), str(endpoint)] if seat >= 0:
                    known[seat] = endpoint
        if known and tuple(known.items()) != self._routers:
            self._routers = tuple(known.items())
            self.turned = True

    def turn(self) -> tuple[tuple[int, str], ...]:
        """The seats of the routers that there are, and where each is met; none before the gateway has said so."""
        self.turned = False
        return (*(self._routers or self._first), *self._far.items())

    def reach(self, first: tuple[int, str], far: tuple[tuple[int, str], ...]) -> None:
        """There are these routers on other hosts, too, whichever there are here; ``first`` unless somebody says otherwise."""
        if far:
            self._first, self._far, self._far_step = (first,), dict(far), len(far)

    def follow(self, seat: int) -> None:
        """The router on another host that has this seat has a successor at its door, which is to be met besides: it gets a seat
        that was nobody's, which is the same but for a multiple of how many such doors there are. Called by any thread."""
        endpoint = self._far.get(seat)
        if endpoint is not None:
            self._far[seat + next(self._far_turns) * self._far_step] = endpoint
            self.turned = True

    def forget(self, seat: int) -> None:
        """There is no such router any more."""
        if self._far.pop(seat, None) is not None:
            self.turned = True

    def tell(self, state: str, **details: Any) -> None:
        """Tells the gateway. Waits at most a second for a gateway that does not read: it is not worth a
        request."""
        rest = memoryview(json.dumps({"state": state, **details}).encode() + b"\n")
        while rest and self._leash_open:
            try:
                rest = rest[self._leash.send(rest, socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                poll = select.poll()
                poll.register(self._leash, select.POLLOUT)
                if not poll.poll(_TELL_TIMEOUT_MS):
                    return
            except OSError:
                return

    def listen_to_signals(self) -> None:
        """From now on SIGTERM means leave and SIGINT (a terminal's, meant for the emperor) means nothing.

        Called after the app is loaded: before that SIGTERM may simply kill, since nothing is being served,
        and an app's own handlers must not replace these.
        """
        self._bell, ring = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(ring, warn_on_full_buffer=False)
        set_action(signal.SIGTERM, self.terminated)
        # A handler and not SIG_IGN, which the app's child processes would inherit through exec.
        set_action(signal.SIGINT, _ignored)
        os.register_at_fork(
            before=_hold_termination, after_in_parent=_release_termination, after_in_child=_forget_signals
        )

    def terminated(self, _signum: int, _frame: FrameType | None) -> None:
        """SIGTERM's handler."""
        self.wish("SIGTERM")
        self.leave_by = time.monotonic() + self._stop_timeout_s
        # The default action of SIGALRM ends this process even from within app code that never returns to us.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, max(self._stop_timeout_s, 0.001))


def _ignored(_signum: int, _frame: FrameType | None) -> None:
    pass


# The signal mask of each thread that is in the middle of a fork.
_masks: dict[int, set[int]] = {}


def _hold_termination() -> None:
    """A SIGTERM to a child that has not yet forgotten our handler would be lost: it waits for the child to
    have done so."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
    _masks[threading.get_ident()] = {int(signum) for signum in mask}


def _release_termination() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.pop(threading.get_ident(), set()))


def _forget_signals() -> None:
    """In a process that the app forked: SIGTERM must end it (multiprocessing relies on that), and not ring
    our bell."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _release_termination()
