"""The emperor's end of the spawner: started, asked for gateways, replaced when it dies.

The spawner holds no state, so a new one is as good as the old. What was asked of the old one and not
answered is given back as lost: perhaps there is a gateway, perhaps not, and nobody will ever say.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from emperor.control.channel import Channel
from emperor.control.conversation import Conversation
from emperor.supervisor import process
from emperor.supervisor.children import Child, Children
from emperor.supervisor.logpipe import LogPipe
from emperor.supervisor.loop import Loop, Timer
from emperor.supervisor.process import Exit, StartError
from emperor.supervisor.replacing import Replacing

ARGV = (sys.executable, "-P", "-m", "vassals.spawner")

Started = Callable[[int], None]
Refused = Callable[[str], None]
Lost = Callable[[], None]


class Logger(Protocol):
    """What is needed of `emperor.log.Log`."""

    def info(self, text: str) -> None: ...
    def warning(self, text: str) -> None: ...
    def error(self, text: str) -> None: ...


class Spawner:
    """Call `start` once; from then on there is one, or soon will be."""

    def __init__(
        self,
        loop: Loop,
        children: Children,
        log: Logger,
        env: Mapping[str, str],
        argv: Sequence[str] = ARGV,
    ) -> None:
        self._loop = loop
        self._children = children
        self._log = log
        self._env = env
        self._argv = argv
        self._child: Child | None = None
        self._conversation: Conversation | None = None
        self._asked: dict[int, Lost] = {}
        self._last = 0
        self._since = 0.0
        self._replacing = Replacing()
        self.last_exit = ""  # how the one before this ended, or why none could be started
        self._timer: Timer | None = None
        self._waiting: list[tuple[dict[str, Any], list[int], Started, Refused, Lost]] = []
        self._closing: Callable[[], None] | None = None

    @property
    def pid(self) -> int:
        """0 while there is none."""
        return self._child.pid if self._child is not None else 0

    @property
    def restarts(self) -> int:
        return self._replacing.count

    def start(self) -> None:
        """Start it, and send it what was asked meanwhile."""
        self._timer = None
        ours = theirs = pipe = None
        try:
            ours, theirs = socket.socketpair()
            pipe = LogPipe(self._loop, lambda line: self._log.warning(f"spawner: {line}"))
            pid = process.spawn_exec(
                self._argv,
                self._env,
                {1: pipe.write_fd, 2: pipe.write_fd, 3: theirs.fileno()},
                "the spawner",
            )
            self._child = self._children.watch_started(pid, self._died, "the spawner")
        except (StartError, OSError) as error:
            if ours is not None:
                ours.close()
            self.last_exit = _why(error)
            self._log.error(self.last_exit)
            self._timer = self._loop.call_later(self._replacing.died(0.0) or 0.1, self.start)
            return
        finally:
            if theirs is not None:
                theirs.close()
            if pipe is not None:
                pipe.started()
        self._since = self._loop.now()
        self._conversation = Conversation(self._loop, Channel(ours), _ignore_message, _ignore_text)
        waiting, self._waiting = self._waiting, []
        for message, fds, started, refused, lost in waiting:
            self._ask(message, fds, started, refused, lost)

    @property
    def quiet(self) -> bool:
        """It is there, and has done all that it was asked for."""
        return self._child is not None and not self._asked and not self._waiting

    def hand_over(self) -> dict[str, Any]:
        """What another program in this process wants to know. It is not handed over itself: what it forks would be of the
        version before. Its connection ends with this program, and it with that."""
        return {"restarts": self.restarts, "last_exit": self.last_exit}

    def resume(self, document: dict[str, Any]) -> None:
        """Go on counting where the program before us was."""
        self._replacing.count = document["restarts"]
        self.last_exit = document["last_exit"]

    def spawn(
        self, message: dict[str, Any], fds: Sequence[int], started: Started, refused: Refused, lost: Lost
    ) -> None:
        """Ask for a gateway. Exactly one is called, once: `started(pid)`, `refused(reason)` or `lost()`.
        `fds` are duplicated."""
        if self._conversation is None:
            self._waiting.append((message, [os.dup(fd) for fd in fds], started, refused, lost))
        else:
            self._ask(message, [os.dup(fd) for fd in fds], started, refused, lost)

    def stop(self, done: Callable[[], None]) -> None:
        """Hang up on it, which ends it, and call `done` when it has gone."""
        self._closing = done
        if self._timer is not None:
            self._timer.cancel()
        for _, fds, _, _, _ in self._waiting:
            _close_all(fds)
        self._waiting.clear()
        if self._conversation is not None:
            self._conversation.close()
            self._conversation = None
        if self._child is None:
            self._loop.call_soon(done)

    def kill(self) -> None:
        if self._child is not None:
            self._child.signal(signal.SIGKILL)

    def close(self) -> None:
        """Hang up on it, and do not wait for its end."""
        if self._closing is None:
            self.stop(_ignore_end)

    def _ask(
        self, message: dict[str, Any], fds: list[int], started: Started, refused: Refused, lost: Lost
    ) -> None:
        assert self._conversation is not None
        self._last += 1
        number = self._last
        self._asked[number] = lost

        def answered(answer: dict[str, Any]) -> None:
            if self._asked.pop(number, None) is None:
                return
            pid = answer.get("pid")
            if answer.get("ok") is True and type(pid) is int and pid > 1:
                started(pid)
            else:
                refused(str(answer.get("error", "the spawner refused without a reason")))

        self._conversation.request(message, answered, fds)
        _close_all(fds)

    def _died(self, end: Exit) -> None:
        self._child = None
        if self._conversation is not None:
            self._conversation.receive_now()
            if self._conversation is not None:
                self._conversation.close()
                self._conversation = None
        asked, self._asked = self._asked, {}
        if self._closing is not None:
            self._closing()
            return
        self.last_exit = end.text
        delay_s = self._replacing.died(self._loop.now() - self._since)
        self._log.warning(f"the spawner {end.text}; another one is started")
        if delay_s:
            self._timer = self._loop.call_later(delay_s, self.start)
        else:
            self.start()
        for lost in asked.values():
            lost()


def _why(error: StartError | OSError) -> str:
    return str(error) if isinstance(error, StartError) else f"cannot start the spawner: {error.strerror}"


def _ignore_message(_message: dict[str, Any]) -> None:
    """The spawner says nothing unasked."""


def _ignore_end() -> None:
    """Nobody is there any more to be told."""


def _ignore_text(_why: str) -> None:
    """Its end shows by its pidfd."""


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
