"""Becoming another version: a trial, a moment of quiet, an exec.

The program that is to take over is first started as a child of ours that only looks (`rehearsal`): it reads what would be
handed to it, the run directory, the settings and the vassals' files, and loads what it would start. What it does not like,
the operator is told, and nothing has happened. Then we wait until nothing is half done that could not go on elsewhere, and
execute it: the process stays, with its children, its locks and its sockets (`handover`). An exec that fails returns, and we
go on as if nobody had asked.

Signals are blocked from before the exec until the new program can take them: the kernel keeps them meanwhile.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from emperor import __version__
from emperor.control.server import Refused, Reply
from emperor.supervisor import handover, process, signals
from emperor.supervisor.children import Child, Children
from emperor.supervisor.handover import Keep
from emperor.supervisor.logpipe import LogPipe
from emperor.supervisor.loop import Loop, Timer
from emperor.supervisor.process import Exit, StartError

TRIAL_S = 60.0
"""For a trial: a cold interpreter, and ten thousand files to read."""

QUIET_S = 20.0
"""For the moment of quiet: an errand to a tenant's file system alone may take half of it."""

LOOK_S = 0.01
LOG_S = 1.0
SAID_LINES = 6
"""Of what a trial that failed said, its last lines are told to the operator."""


class Ruler(Protocol):
    """What is needed of the emperor."""

    def hand_over(self, keep: Keep) -> dict[str, Any]:
        """All that the next program needs."""

    def unquiet(self) -> str:
        """What is half done, for people; empty when nothing is."""

    def settle_down(self) -> None:
        """Begin nothing new that would be in the way."""

    def go_on(self) -> None:
        """It has not come to it: go on as before."""

    def about_to(self, text: str) -> None:
        """Say to whom waits, and to who watches us, that it is now."""

    def note(self, level: str, text: str, by: str) -> None:
        """Log it, and write it down as an event."""

    def flush(self, timeout_s: float) -> None:
        """Let the log be written."""


class Upgrades:
    """One emperor's. `environ` is what its own program was started with, as far as the next one is to have it."""

    def __init__(
        self,
        loop: Loop,
        children: Children,
        ruler: Ruler,
        more_environ: Callable[[], Mapping[str, str]],
        execute: Callable[[str, list[str], dict[str, str]], Any] = os.execve,
    ) -> None:
        self._loop = loop
        self._children = children
        self._ruler = ruler
        self._more_environ = more_environ
        self._execute = execute
        self._argv: list[str] = []
        self._by = ""
        self._reply: Reply | None = None
        self._child: Child | None = None
        self._timer: Timer | None = None
        self._pipe: LogPipe | None = None
        self._said: list[str] = []
        self._answer = -1
        self._deadline = 0.0
        self._version = ""

    @property
    def under_way(self) -> bool:
        return self._reply is not None

    @property
    def asker(self) -> Reply | None:
        """Who waits for the outcome."""
        return self._reply

    @property
    def by(self) -> str:
        """Whose hand it is."""
        return self._by

    def ask(self, program: str, by: str, reply: Reply) -> None:
        """Become what is installed at `program` now (empty: what we were started as). Raises Refused."""
        if self.under_way:
            raise Refused(f"upgrade: one is under way already ({self._by}): wait for its outcome")
        try:
            self._argv = program_of(program)
        except LookupError as error:
            raise Refused(f"upgrade: {error.args[0]}") from None
        self._reply, self._by, self._said, self._version = reply, by, [], ""
        self._ruler.note("info", f"an upgrade is tried: {' '.join(self._argv[:3])}", by)
        try:
            self._try()
        except (StartError, OSError) as error:
            self._fail(f"the trial cannot be started: {error}")

    def close(self, why: str) -> None:
        """Stop whatever is under way."""
        if self._child is not None:
            self._child.signal(signal.SIGKILL)
        if self.under_way:
            self._fail(why)

    # -- the trial ----------------------------------------------------------------------------------------

    def _try(self) -> None:
        keep = Keep()
        document = handover.write(self._ruler.hand_over(keep), keep)
        pipe = self._pipe = LogPipe(self._loop, self._heard)
        self._answer, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        environ = {**os.environ, handover.TRIAL: "3:4"}
        fds = {1: pipe.write_fd, 2: pipe.write_fd, 3: document, 4: theirs}
        try:
            pid = process.spawn_exec(self._argv, environ, fds, "the trial")
        finally:
            pipe.started()
            os.close(document)
            os.close(theirs)
        self._child = self._children.watch(pid, self._tried)
        self._timer = self._loop.call_later(TRIAL_S, self._too_late)

    def _heard(self, line: str) -> None:
        self._said = [*self._said, line][-SAID_LINES:]

    def _too_late(self) -> None:
        self._heard(f"no answer within {TRIAL_S:g} s: it is killed")
        if self._child is not None:
            self._child.signal(signal.SIGKILL)

    def _tried(self, end: Exit) -> None:
        self._child = None
        if not self.under_way:
            return
        if self._pipe is not None:
            self._pipe.close()
        answer = self._read_answer()
        problems = answer.get("problems")
        if end.code == 0 and problems == [] and isinstance(answer.get("version"), str):
            self._version = answer["version"]
            self._stop_waiting()
            self._deadline = self._loop.now() + QUIET_S
            self._ruler.settle_down()
            self._look()
            return
        if isinstance(problems, list) and problems:
            said = "; ".join(str(each) for each in problems)
            self._fail(f"version {answer.get('version')} cannot take over: {said}")
        else:
            said = "\n".join(self._said)
            self._fail(f"the trial of {self._argv[0]} {end.text}" + (f":\n{said}" if said else ""))

    def _read_answer(self) -> dict[str, Any]:
        pieces = []
        try:
            while piece := os.read(self._answer, 65536):
                pieces.append(piece)
        except BlockingIOError:
            pass  # somebody else still holds the other end
        try:
            answer = json.loads(b"".join(pieces))
        except ValueError:
            return {}
        return answer if isinstance(answer, dict) else {}

    # -- the moment of quiet, and the exec ------------------------------------------------------------------

    def _look(self) -> None:
        what = self._ruler.unquiet()
        if not what:
            self._become()
        elif self._loop.now() >= self._deadline:
            self._ruler.go_on()
            self._fail(f"after {QUIET_S:g} s this is still under way: {what}: ask again")
        else:
            self._timer = self._loop.call_later(LOOK_S, self._look)

    def _become(self) -> None:
        assert self._reply is not None
        self._ruler.about_to(f"the emperor becomes version {self._version}: ask again")
        self._ruler.note("info", f"version {__version__} becomes {self._version}", self._by)
        self._ruler.flush(LOG_S)
        before = signals.block_all()
        noted = self._loop.take_signals()
        keep = Keep()
        document = -1
        try:
            handed = {**self._ruler.hand_over(keep), "signals": noted}
            document = handover.write(handed, keep)
            environ = {**os.environ, **self._more_environ(), handover.VARIABLE: str(document)}
            process.forbid_inheritance()
            for fd in (*keep.fds, document):
                os.set_inheritable(fd, True)
            self._execute(self._argv[0], self._argv, environ)
            raise OSError(0, "it came back")  # only a test's does
        except (OSError, ValueError) as error:
            process.forbid_inheritance()
            if document >= 0:
                os.close(document)
            self._loop.put_signals(noted)
            why = error.strerror if isinstance(error, OSError) else error
            reason = f"{self._argv[0]} cannot be executed: {why}"
        finally:
            signals.set_mask(signals.SIG_SETMASK, before)
        self._ruler.go_on()
        self._fail(reason)

    # -- the outcome --------------------------------------------------------------------------------------

    def _fail(self, reason: str) -> None:
        reply, by = self._reply, self._by
        self._forget()
        self._ruler.note("error", f"no upgrade, version {__version__} goes on: {reason}", by)
        if reply is not None:
            reply.refuse(f"no upgrade, version {__version__} goes on: {reason}")

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        if self._answer >= 0:
            os.close(self._answer)
            self._answer = -1

    def _forget(self) -> None:
        self._stop_waiting()
        self._child = None
        self._reply, self._by = None, ""


_FIRST_ARGUMENTS = list(sys.argv)
_ORIGINAL = list(sys.orig_argv)
_DIRECTORY = os.getcwd() if os.path.exists(".") else "/"


def program_of(named: str) -> list[str]:
    """What to execute: the program that we were started as, or `named`, with our arguments. A script with its own first line
    is executed itself, as it is found now: that line says which interpreter, and may be another one by now. Raises
    LookupError, saying what is not there."""
    script = named or _FIRST_ARGUMENTS[0]
    path = os.path.join(_DIRECTORY, script)
    if named or (_ORIGINAL[1:] == _FIRST_ARGUMENTS and os.access(path, os.X_OK)):
        if not os.path.isfile(path):
            raise LookupError(f"{path} is not there: install it, or name another with --program")
        if not os.access(path, os.X_OK):
            raise LookupError(f"{path} cannot be executed: chmod +x it, or name another with --program")
        return [path, *_FIRST_ARGUMENTS[1:]]
    return [sys.executable, *_ORIGINAL[1:]]
