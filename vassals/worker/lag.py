"""Tells of an app that holds its event loop: code that computes or waits without `await`, so that nothing else runs.

The loop cannot tell itself. A thread asks it, several times in `loop-lag`, to call back, and when it has not done so for that
long the thread writes where the loop's thread is, from outside; once for each time. It rests while there are no requests. What
holds the interpreter's lock (C code that does not let go) holds up the thread, too: that is seen by `harakiri` alone.
"""

import os
import sys
import threading
import time
import traceback
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Final, Protocol

_ASKS: Final = 2
"""So many times in `loop-lag`."""

_QUIET: Final = 4
"""After so many answers with no request between the thread rests."""


class Gate(Protocol):
    """Spares most of the calls of `Watch.stir`."""

    fresh: bool


class Watch:
    """``stir`` when there is a request: cheap while the thread looks anyway. ``lag_s`` 0: it never looks."""

    def __init__(self, loop: AbstractEventLoop, lag_s: float, say: Callable[[str], None]) -> None:
        self._loop = loop
        self._lag_s = lag_s
        self._say = say
        self._thread_id = threading.get_ident()
        self._looks = lag_s <= 0
        self._fresh = False
        self._gate: Gate | None = None
        self._over = threading.Event()
        self._bell = threading.Event()
        self._heard = threading.Event()
        self._thread: threading.Thread | None = None

    def look_at(self, gate: "Gate") -> None:
        """It calls `stir` once, and again only after it has been told that it is not fresh any more."""
        self._gate = gate

    def stir(self) -> None:
        self._fresh = True
        if not self._looks:
            self._looks = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="loop-lag", daemon=True)
                self._thread.start()
            self._bell.set()

    def close(self) -> None:
        """Looks no more."""
        self._over.set()
        self._bell.set()
        self._heard.set()
        if self._thread is not None:
            self._thread.join()

    def _look(self) -> None:
        quiet = 0
        while not self._over.is_set():
            self._heard.clear()
            if self._over.is_set():
                return  # and this has just wiped out the word of it
            since = time.monotonic()
            try:
                self._loop.call_soon_threadsafe(self._heard.set)
            except RuntimeError:  # it is closed
                return
            if not self._heard.wait(self._lag_s):
                self._report(since)
            self._over.wait(self._lag_s / _ASKS)
            quiet = 0 if self._fresh else quiet + 1
            self._forget()
            if quiet >= _QUIET:
                self._bell.clear()
                self._looks = False
                # In this order: from here on a request calls `stir`, which rings.
                if self._gate is not None:
                    self._gate.fresh = False
                if not self._fresh and not self._over.is_set():
                    self._bell.wait()
                self._looks = True
                quiet = 0

    def _forget(self) -> None:
        self._fresh = False
        if self._gate is not None:
            self._gate.fresh = False

    def _report(self, since: float) -> None:
        frame = sys._current_frames().get(self._thread_id)
        if frame is None or _rests(frame.f_code.co_filename):
            # The machine has not let the loop run: nobody's code holds it.
            self._heard.wait()
            return
        stack = "".join(traceback.format_stack(frame))
        self._say(
            f"worker: the event loop has been held up for {self._lag_s:g} s (loop-lag): no other request of this worker "
            f"goes on meanwhile. Its thread is at:\n{stack}"
        )
        self._heard.wait()
        if not self._over.is_set():
            self._say(f"worker: the event loop goes on after {time.monotonic() - since:.1f} s")


def _rests(filename: str) -> bool:
    """The frame is the loop's own, which waits for something to do."""
    folder, name = os.path.split(filename)
    return (
        folder == os.path.dirname(__file__) or name == "selectors.py" or os.path.basename(folder) == "asyncio"
    )
