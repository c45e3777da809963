"""The template of a generation with ``preload``: a process that has loaded the app and forks workers from it, so that they
share its memory (decision 0024). It serves nobody, and may die: its workers stay, and the next one waits for a new template.

It double-forks, so that the gateway, a subreaper, is every worker's parent. The gateway asks and does not wait: until the
template has said which process it is, a seat has none, and what ends before that is remembered (`_gone`). The
template is the tenant's process: what it says is checked.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
from typing import Any, Protocol

from emperor.supervisor import process
from emperor.supervisor.loop import Loop, Timer

_REASON_CHARS = 4096
_MESSAGE_BYTES = 256 * 1024
_MOST_GONE = 256

# (state of the template, what happened) → (next state, effects).
STEPS: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {
    ("absent", "want"): ("loading", ("start",)),
    ("loading", "want"): ("loading", ()),
    ("ready", "want"): ("ready", ("ask",)),
    ("failing", "want"): ("failing", ()),
    ("loading", "loaded"): ("ready", ("ask",)),
    ("loading", "failed"): ("failing", ("fail",)),
    ("loading", "late"): ("failing", ("kill", "fail")),
    ("loading", "ended"): ("absent", ("fail",)),
    ("ready", "ended"): ("absent", ("fail-asked",)),
    ("failing", "failed"): ("failing", ()),
    ("failing", "loaded"): ("failing", ()),
    ("failing", "ended"): ("absent", ("again",)),
}


class House(Protocol):
    """What is needed of the gateway."""

    def start_template(self) -> tuple[int, socket.socket]:
        """Fork it: its pid, and our end of its socket. Raises OSError."""

    def leash_for(self, number: int) -> tuple[list[int], Any]:
        """Descriptors that the worker of a seat is to have, and what goes to `seated` or `unseated`. Raises OSError."""

    def seated(self, number: int, pid: int, given: Any, end: process.Exit | None) -> None:
        """The worker of a seat is process `pid`, which may have ended."""

    def unseated(self, number: int, given: Any, reason: str, failed: bool, by_signal: bool) -> None:
        """There will be none. `failed`: the app cannot be loaded."""

    def note(self, level: str, text: str) -> None:
        """A line for the emperor's log."""


class Template:
    """`threads` names what the app had running when it was loaded, which no worker will have."""

    def __init__(self, house: House, loop: Loop, start_timeout_s: float) -> None:
        self.state = "absent"
        self.pid = 0
        self.threads: list[str] = []
        self._house = house
        self._loop = loop
        self._start_timeout_s = start_timeout_s
        self._socket: socket.socket | None = None
        self._timer: Timer | None = None
        self._reason = ""
        self._by_signal = False
        self._waiting: list[int] = []
        self._asked: dict[int, Any] = {}
        self._gone: dict[int, process.Exit] = {}

    def want(self, number: int) -> None:
        """A worker for this seat."""
        self._waiting.append(number)
        self._step("want")

    def forget(self, number: int) -> Any:
        """Nobody is wanted there any more. What `leash_for` had given: a worker that comes all the same finds its leash cut."""
        if number in self._waiting:
            self._waiting.remove(number)
        return self._asked.pop(number, None)

    def reaped(self, pid: int, end: process.Exit) -> None:
        """A child of the gateway's has ended."""
        if pid == self.pid:
            self._hear_all()
            self.pid = 0
            self._reason = f"the template {end.text}"
            self._by_signal = end.signal is not None
            if self._timer is not None:
                self._timer.cancel()
            self._close()
            self._step("ended")
        elif self._asked:
            if len(self._gone) >= _MOST_GONE:
                self._gone.pop(next(iter(self._gone)))
            self._gone[pid] = end

    def kill(self) -> None:
        """It is needed no more."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    # -- inside ------------------------------------------------------------------------------------------

    def _step(self, event: str) -> None:
        try:
            self.state, effects = STEPS[self.state, event]
        except KeyError:
            raise LookupError(f"the template is {self.state!r}: {event!r} has no row there") from None
        for effect in effects:
            match effect:
                case "start":
                    self._start()
                case "ask":
                    waiting, self._waiting = self._waiting, []
                    for number in waiting:
                        self._ask(number)
                case "kill":
                    self.kill()
                case "fail":
                    waiting, self._waiting = self._waiting, []
                    for number in waiting:
                        self._house.unseated(number, None, self._reason, event != "ended", self._by_signal)
                case "fail-asked":
                    asked, self._asked = self._asked, {}
                    for number, given in asked.items():
                        self._house.unseated(number, given, self._reason, False, self._by_signal)
                case "again":
                    if self._waiting:
                        self._step("want")

    def _start(self) -> None:
        try:
            self.pid, self._socket = self._house.start_template()
        except OSError as error:
            self._reason = (
                f"cannot fork the template: {error.strerror} (a limit: ulimit -u, ulimit -n, TasksMax?)"
            )
            self._by_signal = False
            self._step("ended")
            return
        self.threads = []
        self._loop.watch(self._socket.fileno(), self._hear_all)
        self._timer = self._loop.call_later(self._start_timeout_s, self._late)

    def _late(self) -> None:
        self._reason = f"the app did not finish importing within {self._start_timeout_s:g} s (start-timeout)"
        self._step("late")

    def _ask(self, number: int) -> None:
        fds: list[int] = []
        given: Any = None
        try:
            assert self._socket is not None
            fds, given = self._house.leash_for(number)
            order = json.dumps({"op": "fork", "seat": number, "watches": given[-1]}).encode()
            # Not socket.send_fds, which takes flags and, in some versions of Python, forgets them.
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))]
            self._socket.sendmsg([order], rights, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
        except OSError as error:
            why = f"the template cannot be asked for a worker: {error.strerror}"
            self._house.unseated(number, given, why, False, False)
            return
        self._asked[number] = given

    def _hear_all(self) -> None:
        while self._socket is not None:
            try:
                message = self._socket.recv(_MESSAGE_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self._close()  # SIGCHLD tells of its end
                return
            try:
                self._obey(json.loads(message))
            except (ValueError, KeyError, TypeError, AttributeError, LookupError, RecursionError) as error:
                self._house.note("warning", f"the template said what makes no sense: {error}")

    def _obey(self, said: Any) -> None:
        match said:
            case {"state": "loaded", "threads": list(threads)}:
                self.threads = [str(each)[:80] for each in threads[:16]]
                if self._timer is not None:
                    self._timer.cancel()
                if self.threads:
                    self._house.note("warning", self.trouble)
                self._step("loaded")
            case {"state": "failed", "reason": str(reason)}:
                self._reason = reason[:_REASON_CHARS]
                self._by_signal = False
                for text in str(said.get("traceback", ""))[: 4 * _REASON_CHARS].splitlines():
                    self._house.note("error", text)
                self._step("failed")
            case {"state": "forked", "seat": int(number), "pid": int(pid)}:
                end = self._gone.pop(pid, None)
                if end is None and pid not in process.children():
                    raise ValueError(f"pid {pid} is no child of the gateway")
                if (given := self._asked.pop(number, None)) is not None:
                    self._house.seated(number, pid, given, end)
            case {"state": "unforked", "seat": int(number), "reason": str(reason)}:
                if (given := self._asked.pop(number, None)) is not None:
                    self._house.unseated(number, given, reason[:_REASON_CHARS], False, False)
            case {"state": "hook"}:
                pass
            case _:
                raise ValueError(f"unknown: {str(said)[:80]}")

    @property
    def trouble(self) -> str:
        """What status says of it, or nothing."""
        if not self.threads:
            return ""
        return (
            f"preload: the app started threads while it was imported ({', '.join(self.threads)}): no worker has them; "
            "start them in a post-fork-hook"
        )

    def _close(self) -> None:
        if self._socket is not None:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._socket = None
