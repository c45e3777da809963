"""The poll loop of the emperor and of every gateway: descriptors, timers, signals, pidfds and calls from
other threads.

Not asyncio, because there is one gateway per vassal and hundreds on a machine: asyncio costs megabytes that
each of them would pay for, and a gateway needs nothing but this. A gateway's is `poll`, because an epoll
descriptor is shared over a fork and would have to be closed in every worker, and the difference is nothing for its dozen
descriptors. The emperor, which has three for each vassal and forks nothing that does not exec, has `epoll`: with a
thousand vassals a `poll` costs milliseconds, and each message that a start takes is one.

Rules: one thread runs the loop, and only `call_soon_threadsafe` may be called from another. Callbacks never
block. A descriptor is unwatched before it is closed. Signals are only noted by the interpreter
(set_wakeup_fd) and their callbacks run in the loop like any other.
"""

from __future__ import annotations

import contextlib
import heapq
import math
import os
import select
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from . import signals

Callback = Callable[[], None]

_READ = select.POLLIN | select.POLLPRI
_TROUBLE = select.POLLERR | select.POLLHUP | select.POLLNVAL
_WAKE = b"\0"  # a signal's byte is its number, and there is no signal 0


class WatchedChannel(Protocol):
    """What `watch_channel` needs of `emperor.control.channel.Channel`."""

    on_wants_write: Callback | None

    @property
    def wants_write(self) -> bool: ...
    def fileno(self) -> int: ...
    def flush(self) -> bool: ...


class Timer:
    """One call at one time; `cancel` may be called at any time, also after it has run."""

    __slots__ = ("_args", "_fn", "when")

    def __init__(self, when: float, fn: Callable[..., None], args: tuple[Any, ...]) -> None:
        self.when = when
        self._fn: Callable[..., None] | None = fn
        self._args = args

    @property
    def pending(self) -> bool:
        """True until it has run or was cancelled."""
        return self._fn is not None

    def cancel(self) -> None:
        self._fn = None
        self._args = ()

    def _take(self) -> tuple[Callable[..., None] | None, tuple[Any, ...]]:
        fn, args = self._fn, self._args
        self.cancel()
        return fn, args


class _Watch:
    __slots__ = ("on_readable", "on_writable")

    def __init__(self, on_readable: Callback | None, on_writable: Callback | None) -> None:
        self.on_readable = on_readable
        self.on_writable = on_writable


class Loop:
    """A single-threaded poll loop.

    `on_error(error)` gets what a callback raises, and the loop goes on; without it the exception leaves
    `run` or `step`. `many`: there may be thousands of descriptors, none of them a file on a disk.
    """

    def __init__(self, on_error: Callable[[Exception], None] | None = None, many: bool = False) -> None:
        self._poll = select.epoll() if many else select.poll()
        self._unit = 0.001 if many else 1  # an epoll is told seconds
        self._watches: dict[int, _Watch] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._timer_count = 0
        self._soon: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._signals: dict[int, Callback] = {}
        self._previous: dict[int, Any] = {}
        self._previous_wakeup: int | None = None
        self._on_error = on_error
        self._stopped = False
        self._closed = False
        self._bell_in, self._bell_out = os.pipe()  # rung by signals and by other threads
        os.set_blocking(self._bell_in, False)
        os.set_blocking(self._bell_out, False)
        self.watch(self._bell_in, self._woken)

    def now(self) -> float:
        """CLOCK_MONOTONIC, seconds."""
        return time.monotonic()

    # -- descriptors -------------------------------------------------------------------------------------

    def watch(self, fd: int, on_readable: Callback | None, on_writable: Callback | None = None) -> None:
        """Call `on_readable()` while `fd` has something to read (also at end of file, hang-up or error) and
        `on_writable()` while it takes more. A descriptor has one watch: a second one is a KeyError naming
        it."""
        if fd in self._watches:
            raise KeyError(f"descriptor {fd} is watched already: update or unwatch it")
        self._watches[fd] = _Watch(on_readable, on_writable)
        self._poll.register(fd, _mask(on_readable, on_writable))

    def update(self, fd: int, on_readable: Callback | None, on_writable: Callback | None = None) -> None:
        """Replace both callbacks of a watched descriptor; None stops asking for that direction."""
        watch = self._watches[fd]
        watch.on_readable = on_readable
        watch.on_writable = on_writable
        self._poll.modify(fd, _mask(on_readable, on_writable))

    def unwatch(self, fd: int) -> None:
        """Forget a descriptor; call it before closing it. One that is not watched is ignored."""
        if self._watches.pop(fd, None) is not None:
            with contextlib.suppress(OSError):  # closed already, against the rule, and so gone by itself
                self._poll.unregister(fd)

    def watch_pid(self, pidfd: int, fn: Callback) -> None:
        """Call `fn()` once, when the process behind `pidfd` has ended. The caller closes the descriptor."""

        def ended() -> None:
            self.unwatch(pidfd)
            fn()

        self.watch(pidfd, ended)

    def watch_channel(self, channel: WatchedChannel, on_readable: Callback) -> None:
        """Watch a control channel: `on_readable()` should call its `receive`; writing is asked for while it
        queues."""
        fd = channel.fileno()

        def flush() -> None:
            if channel.flush() and fd in self._watches:
                self.update(fd, on_readable)

        def ask() -> None:
            if fd in self._watches:
                self.update(fd, on_readable, flush)

        self.watch(fd, on_readable, flush if channel.wants_write else None)
        channel.on_wants_write = ask

    # -- time, threads, signals --------------------------------------------------------------------------

    def call_at(self, when: float, fn: Callable[..., None], *args: Any) -> Timer:
        """Call `fn(*args)` once `now()` has reached `when`."""
        timer = Timer(when, fn, args)
        self._timer_count += 1
        heapq.heappush(self._timers, (when, self._timer_count, timer))
        return timer

    def call_later(self, delay_s: float, fn: Callable[..., None], *args: Any) -> Timer:
        """Call `fn(*args)` in `delay_s` seconds."""
        return self.call_at(self.now() + delay_s, fn, *args)

    def call_soon(self, fn: Callable[..., None], *args: Any) -> None:
        """Call `fn(*args)` in the next turn. From the loop's own thread."""
        self._soon.append((fn, args))

    def call_soon_threadsafe(self, fn: Callable[..., None], *args: Any) -> None:
        """Call `fn(*args)` in the next turn. From any thread; after `close` it does nothing."""
        if self._closed:
            return
        self._soon.append((fn, args))
        with contextlib.suppress(BlockingIOError):  # full: the loop wakes up anyway
            os.write(self._bell_out, _WAKE)

    def on_signal(self, signum: int, fn: Callback) -> None:
        """Call `fn()` in the loop after each delivery of `signum` (several may be one). Main thread only."""
        if self._previous_wakeup is None:
            self._previous_wakeup = signals.set_wakeup_fd(self._bell_out, warn_on_full_buffer=False)
        previous = signals.set_action(signum, _noted)
        self._previous.setdefault(signum, previous)
        self._signals[signum] = fn

    @property
    def is_idle(self) -> bool:
        """True when no call waits for the next turn."""
        return not self._soon

    def take_signals(self) -> list[int]:
        """The signals that have come and whose callbacks have not run, for another program in this process. Block them
        first."""
        try:
            noted = os.read(self._bell_in, 4096)
        except BlockingIOError:
            return []
        return [signum for signum in dict.fromkeys(noted) if signum in self._signals]

    def put_signals(self, signums: Iterable[int]) -> None:
        """Run the callbacks of these in the next turn, as if they had come now."""
        for signum in signums:
            fn = self._signals.get(signum)
            if fn is not None:
                self._soon.append((fn, ()))

    # -- running -----------------------------------------------------------------------------------------

    def run(self) -> None:
        """Turn until `stop`."""
        self._stopped = False
        while not self._stopped:
            self.step(None)

    def stop(self) -> None:
        """Make `run` return after this turn. From the loop's own thread or a callback."""
        self._stopped = True

    def step(self, timeout_s: float | None = 0.0) -> None:
        """One turn: wait at most `timeout_s` (None: until something happens), then run what is due."""
        wait_ms = self._wait_ms(timeout_s)
        ready = self._poll.poll(None if wait_ms is None else wait_ms * self._unit)
        # Whose event it is, is settled before the first callback: one that closes a descriptor and opens another
        # may get its number back, and what was said of the old one would be taken for the new.
        for fd, events, watch in [(fd, events, self._watches.get(fd)) for fd, events in ready]:
            if watch is None or self._watches.get(fd) is not watch:
                continue
            if events & (_READ | _TROUBLE) and watch.on_readable is not None:
                self._call(watch.on_readable)
                if self._watches.get(fd) is not watch:  # it may even be another file by now
                    continue
            if events & (select.POLLOUT | _TROUBLE) and watch.on_writable is not None:
                self._call(watch.on_writable)
        now = self.now()
        while self._timers and self._timers[0][0] <= now:
            _, _, timer = heapq.heappop(self._timers)
            fn, args = timer._take()
            if fn is not None:
                self._call(fn, *args)
        for _ in range(len(self._soon)):
            fn, args = self._soon.popleft()
            self._call(fn, *args)

    def close(self) -> None:
        """Give the signals back and close the loop's own descriptors. Watched descriptors stay their
        owners'."""
        if self._closed:
            return
        self._closed = True
        for signum, previous in self._previous.items():
            signals.set_action(signum, signals.SIG_DFL if previous is None else previous)
        if self._previous_wakeup is not None:
            signals.set_wakeup_fd(self._previous_wakeup)
        self._watches.clear()
        self._timers.clear()
        self._soon.clear()
        if isinstance(self._poll, select.epoll):
            self._poll.close()
        os.close(self._bell_in)
        os.close(self._bell_out)

    # -- inside ------------------------------------------------------------------------------------------

    def _wait_ms(self, timeout_s: float | None) -> int | None:
        if self._soon:
            return 0
        while self._timers and not self._timers[0][2].pending:
            heapq.heappop(self._timers)
        if self._timers:
            left = max(0.0, self._timers[0][0] - self.now())
            timeout_s = left if timeout_s is None else min(left, timeout_s)
        # Rounded up, or a timer 0.4 ms away would spin until it is due.
        return None if timeout_s is None else math.ceil(timeout_s * 1000)

    def _woken(self) -> None:
        try:
            noted = os.read(self._bell_in, 4096)
        except BlockingIOError:
            return
        for signum in dict.fromkeys(noted):
            fn = self._signals.get(signum)
            if fn is not None:
                self._call(fn)

    def _call(self, fn: Callable[..., None], *args: Any) -> None:
        if self._on_error is None:
            fn(*args)
            return
        try:
            fn(*args)
        except Exception as error:
            self._on_error(error)


def _mask(on_readable: Callback | None, on_writable: Callback | None) -> int:
    return (_READ if on_readable is not None else 0) | (select.POLLOUT if on_writable is not None else 0)


def _noted(_signum: int, _frame: object) -> None:
    """The interpreter has written the signal's number into the loop's wake-up pipe: that is all there is
    to do."""
