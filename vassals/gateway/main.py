"""The gateway: one process per vassal and generation that supervises the app's workers, as the vassal's own
user.

This is the shell round `seats.py`, which decides. It owns the control socket's listening end, the control
connection, the workers with a leash and a log pipe each, and the page's descriptor. It carries no request
and loads no app code, runs no thread and no event loop but a poll, because there is one on the machine for
every vassal.

It starts with the descriptors below (docs/specs/control.md), whether the spawner forked it or exec'd it.
The emperor may die: a gateway goes on, restarts its workers, keeps the last log lines, and answers the next
emperor that connects. It drains when none has for `orphan_timeout_s`. One that no emperor has ever connected to
leaves when its spawner does, since nobody knows of it.

How a worker's output stays harmless (architecture, section 5): descriptors 1 and 2 of a worker are one pipe
per seat, of which the gateway keeps both ends and each worker keeps the read end. So neither the gateway's
death nor a worker's ends the pipe for anybody, and what an app left running may go on writing.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

from emperor.control.channel import Channel, ChannelClosed
from emperor.control.messages import GatewaySpec
from emperor.log import ChannelSink
from emperor.privileges import drop
from emperor.supervisor import process, signals
from emperor.supervisor.loop import Loop, Timer
from emperor.supervisor.restart import Backoff
from vassals import atfork, bells, pages, tracing

from .commands import Commands
from .files import LogFile, remove_pidfile, write_pidfile
from .harakiri import Harakiri
from .lines import Lines
from .recycler import Recycler
from .rest import Rest
from .seats import EXIT_APP_FAILED, EXIT_LEFT, REPORTED, Effect, Seats
from .template import Template
from .trace import BYTES, Traces

CONTROL_FD = 3
"""The bound control socket; we call listen(), so that peer credentials name us."""
SPEC_FD = 4
"""A memfd with the JSON of `GatewaySpec`; the backplane's token is in it."""
BOARD_FD = 5
"""The page that router and workers share."""
SPAWNER_FD = 6
"""The read end of a pipe whose write end only the spawner holds."""

NO_ROOM_S = 0.5
"""How long nobody is accepted when there is no descriptor left."""

TEMPLATE = -1
"""The template's place among the seats' log pipes."""

STOP_TIMEOUT_S = 0.2
UNHEARD_S = 10.0
"""How long a gateway that failed waits for an emperor to tell."""
AT_EXIT_S = 1.0
"""The least time for what is run at the end. The emperor kills two seconds after the time to stop is up."""
LEFTOVERS_S = 1.0
"""How long leaving may take to kill what the app left running."""

_SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LEASH_BYTES = 256 * 1024
_REASON_CHARS = 4096
_WORN_CHARS = 160
_LONGEST_LIMIT_S = 7 * 86400.0
_PIPE_READ_BYTES = 64 * 1024
_CREDENTIALS = struct.Struct("3i")


class _Worker:
    """What the shell holds for the worker that sits in a seat now."""

    __slots__ = (
        "hook_timer",
        "leash",
        "limits",
        "partial",
        "pid",
        "reaped",
        "served",
        "shows_tasks",
        "started",
        "timer",
        "trace_fd",
        "waits_for",
        "watches",
    )

    def __init__(self, pid: int, leash: socket.socket, trace_fd: int) -> None:
        self.pid = pid
        self.leash = leash
        self.trace_fd = trace_fd
        self.partial = b""
        self.reaped = False
        self.started = int(time.time())
        self.timer: Timer | None = None
        self.hook_timer: Timer | None = None
        self.limits: dict[str, Timer] | None = None  # that its app has set for what it runs
        self.served = False
        self.shows_tasks = False  # in a trace, beside its threads
        self.waits_for = ""  # what its app answers to ready-path
        self.watches = False  # it looks whether the app's code has changed, for all


class _LogPipe:
    """The pipe that is 1 and 2 of every worker of one seat, and the lines read from it."""

    __slots__ = ("lines", "read_fd", "write_fd")

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        self.lines = Lines()


class Gateway:
    """Assembly of the gateway process. `run` returns the exit code."""

    def __init__(self, spec: GatewaySpec, listener: socket.socket, *, trusted_uids: frozenset[int]) -> None:
        self._spec = spec
        self._listener = listener
        self._trusted_uids = trusted_uids
        self._pid = os.getpid()
        self._start_time = process.start_time(self._pid)
        self._loop = Loop(on_error=self._fault)
        self._seats = Seats(
            spec.processes,
            self._backoff,
            spec.spares,
            spec.seats_at_first,
            after_app=bool(spec.hooks.after),
        )
        app = spec.app
        directory = app.chdir or os.path.dirname(spec.config_path) or "/"
        self._commands = Commands(self._loop, directory, app.umask, self._relay, self._note)
        self._at_exit = spec.hooks.atexit
        self._template = Template(self, self._loop, spec.start_timeout_s) if spec.preload else None
        self._has_served = False
        self._recycler = Recycler(
            spec.recycling, self._seats, self._loop, self._carry_out, self._note, _random
        )
        self._workers: dict[int, _Worker] = {}
        self._pipes: dict[int, _LogPipe] = {}
        self._due: dict[int, Timer] = {}
        self._traces = Traces(self._loop)
        self._close_within_s = spec.stop_timeout_s
        self._harakiri = Harakiri(spec.deadlines, spec.stop_timeout_s, self._loop, self)
        self._channel: Channel | None = None
        self._greeted = False
        self._ever_greeted = False
        self._sink = ChannelSink()
        self._file: LogFile | None = None
        if spec.logto is not None and spec.logto != "off":
            self._file = LogFile(spec.logto, self._note, spec.log_max_bytes, spec.log_backup or "")
        self._pidfile_trouble = ""
        self._told: list[str] = []
        self._routers: dict[str, Any] | None = None  # as the emperor has said last
        self._deadline: Timer | None = None
        self._forgotten: Timer | None = None
        self._rest = Rest(self._loop)
        self._orphan = False  # the spawner died before any emperor had connected
        self._leaving: int | None = None  # the exit code, while we still wait to be heard
        self._code: int | None = None

    def run(self, start_failure: str = "") -> int:
        """Supervise until told to leave; the exit code. `start_failure`: report this instead of starting
        workers."""
        self.begin(SPAWNER_FD, start_failure)
        while self._code is None:
            self._loop.step(None)
            self._rest.stirred()
        self._end_leftovers()
        self._read_all_output()
        if self._spec.pidfile is not None:
            remove_pidfile(self._spec.pidfile, self._pid)
        if self._channel is not None:
            self._channel.flush_wait(1.0)
            self._channel.close()
        return self._code

    def begin(self, spawner_fd: int, start_failure: str = "") -> None:
        """Listen, and start the workers."""
        loop = self._loop
        loop.on_signal(signal.SIGCHLD, self._reap)
        loop.on_signal(signal.SIGTERM, self._terminated)
        loop.on_signal(signal.SIGINT, self._terminated)
        signals.set_action(signal.SIGHUP, signals.SIG_IGN)
        self._listener.setblocking(False)
        self._listener.listen(8)
        loop.watch(self._listener.fileno(), self._accept)
        loop.watch(spawner_fd, self._spawner_gone)
        self._harakiri.start()
        if start_failure:
            self._carry_out(self._seats.fail(start_failure))
        else:
            self._prepare()

    # -- the control connection --------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            except (
                OSError
            ) as error:  # no descriptor for it; the socket stays readable, and we would do nothing but fail
                self._note("error", f"no emperor can connect: {error.strerror} (ulimit -n, LimitNOFILE?)")
                self._loop.unwatch(self._listener.fileno())
                self._loop.call_later(NO_ROOM_S, self._accept_again)
                return
            credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            pid, uid, _ = _CREDENTIALS.unpack(credentials)
            if uid not in self._trusted_uids:
                sock.close()
                self._note("warning", f"refused a control connection from pid {pid}, uid {uid}")
                continue
            self._hang_up()
            self._channel = Channel(sock)
            self._loop.watch_channel(self._channel, self._receive)

    def _accept_again(self) -> None:
        own = self._listener.fileno()
        self._loop.unwatch(own)  # where it was replaced meanwhile
        self._loop.watch(own, self._accept)

    def _hang_up(self) -> None:
        """Forget the emperor that was connected. Workers do not notice."""
        if self._channel is None:
            return
        self._loop.unwatch(self._channel.fileno())
        self._channel.close()
        self._channel = None
        self._sink.attach(None)
        if self._greeted:
            self._greeted = False
            self._forgotten = self._loop.call_later(self._spec.orphan_timeout_s, self._nobody_came)

    def _receive(self) -> None:
        assert self._channel is not None
        try:
            messages = self._channel.receive()
        except ChannelClosed:
            self._hang_up()
            return
        for message, fds in messages:
            if message.get("op") == "control" and len(fds) == 1:
                self._listen_at(fds[0])
                self._answer(message, {"ok": True})
            else:
                self._obey(message)
            for fd in fds:
                os.close(fd)

    def _listen_at(self, fd: int) -> None:
        """Listen at this socket from now on: nobody finds the one before any more. The connection that we have stays."""
        own = self._listener.fileno()
        self._loop.unwatch(own)
        os.dup2(fd, own, inheritable=False)
        self._listener.setblocking(False)
        self._listener.listen(8)
        self._loop.watch(own, self._accept)

    def _obey(self, message: dict[str, Any]) -> None:
        match message.get("op"):
            case "hello":
                self._hello(message)
            case "drain":
                self._answer(message, {"ok": True})
                timeout_s = message.get("timeout_s")
                known = isinstance(timeout_s, int | float) and not isinstance(timeout_s, bool)
                self._drain(float(timeout_s) if known else self._spec.stop_timeout_s)  # type: ignore[arg-type]
            case "seats":
                self._answer(message, {"ok": True})
                self._set_open(message)
            case "reopen-logs":
                if self._file is not None:
                    self._file.reopen()
                self._answer(message, {"ok": True})
            case "stop":
                self._answer(message, {"ok": True})
                self._drain(STOP_TIMEOUT_S)
            case "harakiri":
                self._harakiri.order(message)
            case "routers":
                self._answer(message, {"ok": True})
                self._turn(message.get("routers"))
            case "trace":
                self._trace_all(message)
            case op:
                error = (
                    f"gateway {self._spec.name}: there is no operation {op!r}: "
                    "is the emperor of another version?"
                )
                self._answer(message, {"ok": False, "error": error})

    def _turn(self, routers: Any) -> None:
        """These are the routers now, by seat, and where each is met."""
        if isinstance(routers, list) and routers:
            self._routers = {"op": "routers", "routers": routers}
            for number in self._workers:
                self._tell_worker(number, self._routers)

    def _set_open(self, message: dict[str, Any]) -> None:
        numbers, within_s = message.get("open"), message.get("timeout_s")
        if not isinstance(numbers, list) or not isinstance(within_s, int | float):
            return
        self._close_within_s = max(0.0, float(within_s))
        self._carry_out(self._seats.set_open([each for each in numbers if type(each) is int]))
        for seat in self._seats.seats:
            worker = self._workers.get(seat.number)
            if seat.state == "closing" and worker is not None:
                self._loop.call_later(max(0.0, float(within_s)), self._closes_late, seat.number, worker)

    def _closes_late(self, number: int, worker: _Worker) -> None:
        if self._workers.get(number) is worker and self._seats.seats[number].state == "closing":
            self._carry_out(self._seats.step("late", number))

    def _hello(self, message: dict[str, Any]) -> None:
        answer = {
            "ok": True,
            "name": self._spec.name,
            "generation": self._spec.generation,
            "pid": self._pid,
            "start_time": self._start_time,
            "state": self._seats.state,
            "reason": self._seats.reason,
            "workers": [self._describe(seat.number) for seat in self._seats.seats if seat.state != "spare"],
            "troubles": self._troubles(),
        }
        self._answer(message, answer, (BOARD_FD,) if message.get("board") is True else ())
        assert self._channel is not None
        self._greeted = self._ever_greeted = True
        if self._forgotten is not None:
            self._forgotten.cancel()
            self._forgotten = None
        self._sink.attach(self._channel)
        if self._leaving is not None:
            self._exit(self._leaving)

    def _answer(self, message: dict[str, Any], answer: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        if "id" in message and self._channel is not None:
            self._channel.send({"re": message["id"], **answer}, fds)

    def _tell(self, message: dict[str, Any]) -> None:
        # Before its hello an emperor would get changes to a state that it has not been told.
        if self._greeted and self._channel is not None:
            self._channel.send(message)

    def _describe(self, number: int) -> dict[str, Any]:
        seat, worker = self._seats.seats[number], self._workers.get(number)
        return {
            "seat": number,
            "pid": worker.pid if worker is not None else 0,
            "state": "draining"
            if self._harakiri.why(number) and seat.state == "ready"
            else REPORTED[seat.state],
            "reason": seat.reason,
            "started": worker.started if worker is not None else 0,
            "restarts": seat.restarts,
            "last_exit": seat.last_exit,
            "recycled": seat.recycled,
        }

    # -- what is run for the app ---------------------------------------------------------------------------

    def _prepare(self) -> None:
        """Run what is to be run before the app is loaded, then start."""

        def done(why: str) -> None:
            if self._seats.state != "starting":
                return  # told to leave meanwhile
            self._carry_out(self._seats.fail(why) if why else self._seats.start())

        hooks = self._spec.hooks
        self._commands.run(hooks.before, self._environment(), hooks.timeout_s, done)

    def _after_app(self) -> None:
        def done(why: str) -> None:
            if self._seats.state == "loaded":
                self._carry_out(self._seats.stay(why) if why else self._seats.go())
                self._recycler.look()

        hooks = self._spec.hooks
        self._commands.run(hooks.after, self._environment(), hooks.timeout_s, done)

    def _accepting(self, number: int) -> None:
        """A worker serves. What is run now holds up nobody, and fails nobody."""

        def done(why: str) -> None:
            if why:
                self._note("error", why)

        hooks = self._spec.hooks
        jobs = hooks.accepting if self._has_served else (*hooks.accepting1, *hooks.accepting)
        self._has_served = True
        if jobs:
            environ = {**self._environment(), "EMPEROR_WORKER": str(number)}
            self._commands.run(jobs, environ, hooks.timeout_s, done)

    def _run_at_exit(self, code: int) -> None:
        """The last worker has left. What is run now has what is left of the time to stop, and a second at least."""

        def done(why: str) -> None:
            if why:
                self._note("error", why)
            self._exit(code)

        jobs, self._at_exit = self._at_exit, ()
        left_s = 0.0 if self._deadline is None else self._deadline.when - self._loop.now()
        limit_s = min(self._spec.hooks.timeout_s, max(AT_EXIT_S, left_s + AT_EXIT_S))
        self._commands.run(jobs, self._environment(), limit_s, done)

    def _environment(self) -> dict[str, str]:
        """What the app has in its own."""
        spec, app = self._spec, self._spec.app
        environ = {**os.environ, **dict(app.env)}
        for name in app.unenv:
            environ.pop(name, None)
        return {**environ, "EMPEROR_VASSAL": spec.name, "EMPEROR_GENERATION": str(spec.generation)}

    # -- carrying out ------------------------------------------------------------------------------------

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect.kind:
                case "fork":
                    self._fork(effect.seat)
                case "start-later":
                    self._due[effect.seat] = self._loop.call_later(
                        effect.delay_s, self._start_due, effect.seat
                    )
                case "forget-start":
                    self._due.pop(effect.seat).cancel()
                case "tell-drain":
                    # What is condemned has a time of its own.
                    condemned = bool(self._harakiri.why(effect.seat))
                    within_s = None if condemned else self._leaves_within(effect.seat)
                    self._tell_worker(
                        effect.seat, {"op": "drain", **({} if within_s is None else {"within_s": within_s})}
                    )
                    if self._seats.seats[effect.seat].state == "retiring" and not condemned:
                        self._limit_leaving(effect.seat)
                case "kill":
                    worker = self._workers.get(effect.seat)
                    if worker is not None and not worker.reaped:  # so the pid is still its own
                        os.kill(worker.pid, signal.SIGKILL)
                    elif worker is None and self._template is not None:
                        given = self._template.forget(effect.seat)
                        self.unseated(effect.seat, given, "was not started", False, False)
                case "report":
                    self._tell({"op": "worker", **self._describe(effect.seat)})
                case "replace-later":
                    self._recycler.postpone(effect.seat, effect.delay_s)
                    self._tell_troubles()
                case "after-app":
                    self._after_app()
                case "report-state":
                    if self._seats.state == "ready":
                        self._look_at_files()
                    if self._seats.state == "failed":
                        self._note("error", f"failed to start: {self._seats.reason}")
                    self._tell({"op": "state", "state": self._seats.state, "reason": self._seats.reason})
                case "leave":
                    self._leave(effect.code)
                case unknown:
                    raise LookupError(f"the gateway has no way to do {unknown!r}")

    def _leave(self, code: int) -> None:
        self._leaving = code
        # An app can fail faster than the emperor connects, and then the reason would be lost.
        if code == EXIT_APP_FAILED and not self._ever_greeted and not self._orphan:
            self._loop.call_later(UNHEARD_S, self._exit, code)
        else:
            self._exit(code)

    def _exit(self, code: int) -> None:
        if self._at_exit and self._seats.state == "gone" and self._has_served:
            self._run_at_exit(code)
            return
        self._code = code

    def _drain(self, timeout_s: float) -> None:
        if self._seats.state in ("starting", "loaded"):
            self._commands.cancel()
        when = self._loop.now() + max(0.0, timeout_s)
        leaving: list[int] = []
        if self._deadline is None or when < self._deadline.when:
            if self._deadline is not None:
                self._deadline.cancel()
            self._deadline = self._loop.call_at(when, self._time_up)
            # They were told another time.
            leaving = [seat.number for seat in self._seats.seats if seat.state in ("leaving", "retiring")]
        self._carry_out(self._seats.drain())
        for number in leaving:
            self._tell_worker(number, {"op": "drain", "within_s": timeout_s})

    def _time_up(self) -> None:
        self._carry_out(self._seats.kill())

    def _terminated(self) -> None:
        self._drain(self._spec.stop_timeout_s)

    def _nobody_came(self) -> None:
        """No emperor has taken us over for so long that none will: routers have drained by now."""
        self._drain(self._spec.stop_timeout_s)

    def _spawner_gone(self) -> None:
        self._loop.unwatch(SPAWNER_FD)
        if self._ever_greeted:
            return
        self._orphan = True
        if self._leaving is not None:
            self._exit(self._leaving)
        else:
            self._drain(STOP_TIMEOUT_S)

    # -- workers -----------------------------------------------------------------------------------------

    # -- with a template ---------------------------------------------------------------------------------

    def start_template(self) -> tuple[int, socket.socket]:
        self._pipe(TEMPLATE)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        mask = signals.block_all()
        try:
            pid = os.fork()
            if pid == 0:
                self._become_template(ours, theirs)
        except OSError:
            ours.close()
            raise
        finally:
            signals.set_mask(signals.SIG_SETMASK, mask)
            theirs.close()
        return pid, ours

    def leash_for(self, number: int) -> tuple[list[int], Any]:
        pipe = self._pipe(number)
        leash, leash_of_worker = socket.socketpair()
        trace_fd = tracing.new_file()
        old = self._seats.seats[number].replaces
        watches = not any(worker.watches for seat, worker in self._workers.items() if seat != old)
        fds = [leash_of_worker.fileno(), pipe.write_fd, pipe.read_fd, trace_fd]
        return fds, (leash, leash_of_worker, trace_fd, watches)

    def seated(self, number: int, pid: int, given: Any, end: process.Exit | None) -> None:
        leash, leash_of_worker, trace_fd, watches = given
        leash_of_worker.close()
        self._seat(number, pid, leash, trace_fd, watches)
        if end is not None:
            self._workers[number].reaped = True
            self._ended(number, self._workers[number], end)

    def unseated(self, number: int, given: Any, reason: str, failed: bool, by_signal: bool) -> None:
        if given is not None:
            leash, leash_of_worker, trace_fd, _ = given
            leash.close()
            leash_of_worker.close()
            os.close(trace_fd)
        if failed and self._seats.seats[number].state == "loading":
            self._carry_out(self._seats.step("failed", number, reason))
        # In the next turn: what follows from the failure may have been to kill all, this one among them.
        self._loop.call_soon(self._never_was, number, reason, by_signal)

    def _never_was(self, number: int, reason: str, by_signal: bool = False) -> None:
        if number not in self._workers and self._seats.seats[number].state in (
            "loading",
            "ending",
            "leaving",
        ):
            self._carry_out(self._seats.step("ended", number, reason, by_signal=by_signal))

    def _become_template(self, ours: socket.socket, theirs: socket.socket) -> NoReturn:
        try:
            tracing.own(tracing.new_file())
            os.setsid()
            atfork.release()
            process.restore_signals(_SIGNALS)
            process.set_parent_death_signal(signal.SIGKILL)
            if os.getppid() != self._pid:
                os._exit(EXIT_LEFT)
            process.set_title(f"emperor template {self._spec.title}.{self._spec.generation}")
            for sock in (ours, self._listener, *(worker.leash for worker in self._workers.values())):
                sock.detach()
            if self._channel is not None:
                self._channel.forget()
            pipe = self._pipes[TEMPLATE]
            os.dup2(pipe.write_fd, 1)
            os.dup2(pipe.write_fd, 2)
            rings = range(bells.BELLS_FD, bells.BELLS_FD + bells.count(self._spec))
            process.close_except((0, 1, 2, BOARD_FD, theirs.fileno(), pipe.read_fd, tracing.TRACE_FD, *rings))
            from vassals.worker.template import run_template

            run_template(self._spec, BOARD_FD, theirs, self._pid, _settle_worker)
        except BaseException:
            _print_traceback()
        finally:
            _flush_streams()
            os._exit(EXIT_APP_FAILED)

    def _fork(self, number: int) -> None:
        if self._template is not None:
            self._template.want(number)
            return
        leash = leash_of_worker = None
        try:
            self._pipe(number)
            leash, leash_of_worker = socket.socketpair()
            trace_fd = tracing.new_file()
        except OSError as error:
            for end in (leash, leash_of_worker):
                if end is not None:
                    end.close()
            why = f"cannot start a worker: {error.strerror} (a limit on descriptors: ulimit -n, LimitNOFILE?)"
            self._not_begun(number, why)
            return
        old = self._seats.seats[number].replaces
        watches = not any(worker.watches for seat, worker in self._workers.items() if seat != old)
        # Until it has its own, a fork has our signals' wake-up descriptor, and would ring our bell.
        mask = signals.block_all()
        try:
            pid = os.fork()
        except OSError as error:
            signals.set_mask(signals.SIG_SETMASK, mask)
            leash.close()
            leash_of_worker.close()
            os.close(trace_fd)
            why = f"cannot fork a worker: {error.strerror} (a limit on processes: ulimit -u, TasksMax?)"
            self._not_begun(number, why)
            return
        if pid == 0:
            self._become_worker(number, leash, leash_of_worker, trace_fd, watches)
        signals.set_mask(signals.SIG_SETMASK, mask)
        leash_of_worker.close()
        self._seat(number, pid, leash, trace_fd, watches)

    def _not_begun(self, number: int, why: str) -> None:
        self._note("error", f"worker {number}: {why}; it is tried again")
        self._carry_out(self._seats.step("ended", number, why))

    def _seat(self, number: int, pid: int, leash: socket.socket, trace_fd: int, watches: bool) -> None:
        leash.setblocking(False)
        worker = self._workers[number] = _Worker(pid, leash, trace_fd)
        worker.watches = watches
        self._recycler.started(number, pid)
        worker.timer = self._loop.call_later(self._spec.start_timeout_s, self._late, number)
        self._loop.watch(leash.fileno(), lambda: self._listen(number, worker))
        self._tell({"op": "worker", **self._describe(number)})
        if self._routers is not None:
            self._tell_worker(number, self._routers)

    def _become_worker(
        self,
        number: int,
        leash_of_gateway: socket.socket,
        leash: socket.socket,
        trace_fd: int,
        watches: bool,
    ) -> NoReturn:
        code = 1
        try:
            tracing.own(trace_fd)
            os.setsid()
            atfork.release()
            process.restore_signals(_SIGNALS)
            process.set_parent_death_signal(signal.SIGTERM)
            if os.getppid() != self._pid:  # the gateway died before the line above
                os._exit(EXIT_LEFT)
            process.set_title(f"emperor worker {self._spec.title}.{self._spec.generation}/{number}")
            pipe = self._pipes[number]
            # Sockets that close when they are collected would close whatever has their number by then.
            for sock in (
                leash_of_gateway,
                self._listener,
                *(worker.leash for worker in self._workers.values()),
            ):
                sock.detach()
            if self._channel is not None:
                self._channel.forget()
            os.dup2(pipe.write_fd, 1)
            os.dup2(pipe.write_fd, 2)
            rings = bells.to_keep(self._spec, number)
            process.close_except((0, 1, 2, BOARD_FD, leash.fileno(), pipe.read_fd, tracing.TRACE_FD, *rings))
            try:
                from vassals.worker.main import run_worker
            except (
                Exception
            ) as error:  # an interpreter of the operator's choice, with a package that is not whole
                why = f"the worker's own code cannot be imported by {sys.executable}: {error}: install emperor-vassals"
                leash.sendall(json.dumps({"state": "failed", "reason": why}).encode() + b"\n")
                raise
            spec = self._spec if watches else replace(self._spec, code_s=0.0, watched=())
            run_worker(spec, number, BOARD_FD, leash, pipe.read_fd)
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 0 if leaving.code is None else 1
        except BaseException:
            _print_traceback()
        finally:
            _flush_streams()
            os._exit(code)

    def _tell_worker(self, number: int, order: dict[str, Any]) -> None:
        worker = self._workers.get(number)
        if worker is None:
            return
        # A leash that is full belongs to a worker that reads nothing: its deadline deals with it.
        with contextlib.suppress(OSError):
            worker.leash.send(json.dumps(order).encode() + b"\n", socket.MSG_NOSIGNAL)

    def _listen(self, number: int, worker: _Worker) -> None:
        """Take what a worker says on its leash. It is the tenant's process: nothing that it says may break
        us."""
        try:
            chunk = worker.leash.recv(_LEASH_BYTES)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk or len(worker.partial) > _LEASH_BYTES:
            self._loop.unwatch(worker.leash.fileno())  # SIGCHLD tells of its end
            return
        *lines, worker.partial = (worker.partial + chunk).split(b"\n")
        for line in lines:
            try:
                said = json.loads(line)
                state, reason, trace = said["state"], said.get("reason", ""), said.get("traceback", "")
                if state == "hook":
                    self._limit_hook(number, worker, str(reason)[:_WORN_CHARS])
                    continue
                if state == "limit":
                    self._limit_request(
                        number, worker, str(said["key"])[:_WORN_CHARS], float(said["seconds"])
                    )
                    continue
                if state == "worn":
                    self._recycler.worn(number, str(reason)[:_WORN_CHARS])
                    continue
                if state == "changed":
                    self._tell({"op": "changed", "path": str(reason)[:_REASON_CHARS]})
                    continue
                if state not in ("waiting", "loaded", "ready", "refused", "failed"):
                    raise ValueError(f"unknown state {state!r}")
                if state == "refused":
                    reason = f"the router refuses it: {reason}"
                effects = self._seats.step(state, number, str(reason)[:_REASON_CHARS])
            except (ValueError, KeyError, TypeError, AttributeError, LookupError, RecursionError) as error:
                self._note("warning", f"worker {number} said on its leash what makes no sense: {error}")
                continue
            if state == "waiting":
                worker.waits_for = str(reason)[:_REASON_CHARS]
                self._note("info", f"worker {number} is not ready yet: {str(reason)[:_REASON_CHARS]}")
            if state == "loaded":
                worker.shows_tasks = said.get("tasks") is True
                if worker.timer is not None:
                    worker.timer.cancel()
            for text in str(trace)[: 4 * _REASON_CHARS].splitlines():
                self._note("error", text)
            self._carry_out(effects)
            if state == "ready" and not worker.served:
                worker.served = True
                self._accepting(number)
            if state in ("loaded", "ready"):
                self._recycler.look()

    def _limit_hook(self, number: int, worker: _Worker, what: str) -> None:
        """A worker calls a hook of the app's (`what`), or has come back from it (nothing)."""
        if worker.hook_timer is not None:
            worker.hook_timer.cancel()
            worker.hook_timer = None
        if what:
            limit_s = self._spec.hooks.timeout_s
            worker.hook_timer = self._loop.call_later(limit_s, self._hook_hangs, number, worker, what)

    def _limit_request(self, number: int, worker: _Worker, key: str, seconds: float) -> None:
        """Its app gives what runs in one of its threads (`key`) so long; 0: no such limit any more."""
        limits = worker.limits = worker.limits or {}
        if (timer := limits.pop(key, None)) is not None:
            timer.cancel()
        if 0 < seconds < _LONGEST_LIMIT_S and len(limits) < self._spec.slots:
            limits[key] = self._loop.call_later(seconds, self._harakiri.overran, number, worker.pid)

    def _hook_hangs(self, number: int, worker: _Worker, what: str) -> None:
        why = f"{what} did not finish within {self._spec.hooks.timeout_s:g} s (hook-timeout)"
        seat = self._seats.seats[number]
        self._note("error", f"worker {number} (pid {worker.pid}) is killed: {why}")
        # It leads a session of its own: what the hook has started goes with it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(worker.pid, signal.SIGKILL)
        event = "evil" if seat.state in ("loaded", "ready") else "late"
        self._carry_out(self._seats.step(event, number, why))

    def _leaves_within(self, number: int) -> float | None:
        """How long its worker has to finish, from now on."""
        match self._seats.seats[number].state:
            case "retiring":
                return self._spec.recycling.mercy_s
            case "closing":
                return self._close_within_s
            case _:
                return None if self._deadline is None else max(0.0, self._deadline.when - self._loop.now())

    def _limit_leaving(self, number: int) -> None:
        worker = self._workers.get(number)
        if worker is not None:
            if worker.timer is not None:
                worker.timer.cancel()
            worker.timer = self._loop.call_later(self._spec.recycling.mercy_s, self._overdue, number)

    def _overdue(self, number: int) -> None:
        """One that is recycled has not finished. Another has its place."""
        limit = f"{self._spec.recycling.mercy_s:g} s"
        why = f"what it had begun did not finish within {limit} (worker-reload-mercy)"
        self._note("warning", f"worker {number} (pid {self._workers[number].pid}) is killed: {why}")
        self._carry_out(self._seats.step("late", number, why))

    def _start_due(self, number: int) -> None:
        del self._due[number]
        self._carry_out(self._seats.step("start", number))

    def _late(self, number: int) -> None:
        limit = f"{self._spec.start_timeout_s:g} s"
        waits_for = self._workers[number].waits_for
        why = f"the app did not finish importing within {limit} (start-timeout)"
        if waits_for:
            why = f"the app was not ready within {limit} (start-timeout): {waits_for}"
        self._carry_out(self._seats.step("late", number, why))

    def _reap(self) -> None:
        ended: list[tuple[int, _Worker, process.Exit]] = []
        for pid, end in process.reap():
            self._commands.reaped(pid, end)
            if self._template is not None:
                self._template.reaped(pid, end)
            for number, worker in self._workers.items():
                if worker.pid == pid:
                    # All of them before the first is dealt with, which may lead to killing the others.
                    worker.reaped = True
                    ended.append((number, worker, end))
        for number, worker, end in ended:
            try:
                self._ended(number, worker, end)
            except Exception as error:  # one worker's end that we got wrong must not lose another's
                self._fault(error)

    def _ended(self, number: int, worker: _Worker, end: process.Exit) -> None:
        # Its last words first: they say why.
        while worker.leash.fileno() >= 0 and _readable(worker.leash):
            before = len(worker.partial)
            self._listen(number, worker)
            if len(worker.partial) == before:
                break
        self._loop.unwatch(worker.leash.fileno())
        worker.leash.close()
        for timer in (worker.timer, worker.hook_timer, *(worker.limits or {}).values()):
            if timer is not None:
                timer.cancel()
        self._traces.ended(worker.pid)
        os.close(worker.trace_fd)
        sentence = self._harakiri.why(number)
        self._harakiri.ended(number)
        self._read_output(number)
        self._relay(self._pipes[number].lines.flush())
        del self._workers[number]
        self._recycler.ended(number)
        seat = self._seats.seats[number]
        recycled = seat.state == "retiring"
        asked = seat.state in ("leaving", "closing", "retiring") and end.code == EXIT_LEFT
        why = "" if asked else _MEANING.get(end.code, end.text) if end.signal is None else end.text
        if seat.state == "loading":
            why += " while the app answered ready-path" if worker.waits_for else " while it imported the app"
        if end.code == EXIT_LEFT and seat.state == "loaded" and seat.reason:
            why = f"left, since {seat.reason}"
        if sentence:
            why = sentence
        if not asked and seat.state != "ending":
            self._note("warning", f"worker {number} (pid {worker.pid}) {why}")
        if sentence:
            self._seats.spare(number)
        if recycled and asked:
            self._note("info", f"worker {number} (pid {worker.pid}) has left, recycled: {seat.why}")
        effects = self._seats.step("ended", number, why, by_signal=end.signal is not None)
        self._carry_out(effects)
        if recycled:
            self._recycler.replaced()
            self._tell_troubles()

    def _end_leftovers(self) -> None:
        """Kill what the app left running and we, as subreaper, have inherited. Children of theirs come to
        us in turn."""
        deadline = time.monotonic() + LEFTOVERS_S
        while time.monotonic() < deadline:
            process.reap()
            left = process.children()
            if not left:
                return
            for pid in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)

    # -- workers that are stuck (harakiri.Prison) ----------------------------------------------------------

    def serving(self) -> list[int]:
        loaded = ("loaded", "ready", "retiring", "closing", "leaving")
        return [
            seat.number for seat in self._seats.seats if seat.state in loaded and self.pid_at(seat.number)
        ]

    def pid_at(self, seat: int) -> int:
        worker = self._workers.get(seat)
        return 0 if worker is None or worker.reaped else worker.pid

    def slots_of(self, seat: int) -> list[tuple[int, int]]:
        # Mapped for the moment: what stays mapped is in every worker, too.
        from emperor.protocol.errors import BoardError
        from emperor.protocol.scoreboard import Board

        spec = self._spec
        try:
            board = Board(BOARD_FD, spec.seats, spec.slots, spec.routers, spec.deck)
        except BoardError as error:
            self._note("error", f"the page cannot be read: {error}")
            return []
        found = [board.slot(seat, slot) for slot in range(spec.slots)]
        board.close()
        return found

    def trace(self, seat: int, take: Callable[[list[str], str], None]) -> None:
        worker = self._workers.get(seat)
        if worker is None or worker.reaped:
            take([], "it has ended")
        else:
            more = self._spec.engine.gevent or worker.shows_tasks
            self._traces.ask(worker.pid, worker.trace_fd, more, take)

    def end(self, seat: int, signum: int) -> None:
        worker = self._workers.get(seat)
        if worker is not None and not worker.reaped:
            with contextlib.suppress(OSError):  # the number of a signal that this system does not have
                os.kill(worker.pid, signum)

    def condemned(self, seat: int) -> None:
        self._seats.spare(seat)
        self._tell_worker(seat, {"op": "drain"})
        self._tell({"op": "worker", **self._describe(seat)})
        # While the others of that worker finish, another serves in its place; one that runs nothing else is ended at once.
        waits = self._spec.slots > 1 and self._seats.seats[seat].state == "ready"
        if waits and self._seats.can_replace():
            self._carry_out(self._seats.replace(seat, self._harakiri.why(seat)))

    def say(self, lines: list[str]) -> None:
        self._relay(lines)

    def note(self, level: str, text: str) -> None:
        self._note(level, text)

    def _trace_all(self, message: dict[str, Any]) -> None:
        """The stacks of all workers; the answer goes when the last has shown them, or has not in time."""
        living = sorted(number for number in self._workers if self.pid_at(number))
        found: dict[int, dict[str, Any]] = {}
        channel, share = self._channel, max(4096, 3 * 2**20 // max(1, len(living)))

        def taken(number: int, pid: int, lines: list[str], why: str) -> None:
            text = "\n".join(lines)[: min(share, BYTES)]
            described = {**self._describe(number), "pid": pid}
            found[number] = {**described, "stacks": text.splitlines(), "mute": why}
            finish()

        def finish() -> None:
            if len(found) == len(living) and self._channel is channel:
                self._answer(message, {"ok": True, "workers": [found[number] for number in living]})

        for number in living:
            self.trace(number, partial(taken, number, self.pid_at(number)))
        if not living:
            finish()

    # -- output ------------------------------------------------------------------------------------------

    def _pipe(self, number: int) -> _LogPipe:
        """The pipe of a seat, made when first somebody sits there: the spare seat of most vassals is never taken."""
        pipe = self._pipes.get(number)
        if pipe is None:
            pipe = self._pipes[number] = _LogPipe()
            self._loop.watch(pipe.read_fd, partial(self._forward_output, number))
        return pipe

    def _forward_output(self, number: int) -> None:
        self._read_output(number)

    def _read_output(self, number: int) -> bool:
        """Forward one piece of a seat's output. False when there was none."""
        pipe = self._pipes[number]
        try:
            chunk = os.read(pipe.read_fd, _PIPE_READ_BYTES)
        except BlockingIOError:
            return False
        self._relay(pipe.lines.feed(chunk))
        return True

    def _read_all_output(self) -> None:
        for number, pipe in self._pipes.items():
            for _ in range(16):  # a full pipe; more is somebody who has not stopped
                if not self._read_output(number):
                    break
            self._relay(pipe.lines.flush())

    def _relay(self, lines: list[str]) -> None:
        if not lines or self._spec.logto == "off":
            return
        if self._file is None:
            self._sink.lines([("app", line) for line in lines])
            return
        left = self._file.lines(lines)
        if left:
            self._sink.lines([("app", line) for line in left])
        self._tell_troubles()

    def _look_at_files(self) -> None:
        """The app is ready: write its pidfile, and see whether its log can be written."""
        if self._spec.pidfile is not None:
            self._pidfile_trouble = write_pidfile(self._spec.pidfile, self._pid)
            if self._pidfile_trouble:
                self._note("error", self._pidfile_trouble)
        if self._file is not None:
            self._file.look()
        self._tell_troubles()

    def _troubles(self) -> list[str]:
        log = "" if self._file is None else self._file.trouble
        template = "" if self._template is None else self._template.trouble
        return [each for each in (log, self._pidfile_trouble, self._recycler.trouble, template) if each]

    def _tell_troubles(self) -> None:
        if self._told != (troubles := self._troubles()):
            self._told = troubles
            self._tell({"op": "troubles", "troubles": troubles})

    def _note(self, level: str, text: str) -> None:
        self._sink.line(self._spec.name, level, text)

    def _fault(self, error: Exception) -> None:
        """A fault of ours. The workers serve on, so we do too, and say so."""
        import traceback

        where = traceback.extract_tb(error.__traceback__)[-1]
        self._note("error", f"gateway fault, please report: {error!r} at {where.filename}:{where.lineno}")

    def _backoff(self) -> Backoff:
        return Backoff(clock=self._loop.now, random=_random)


_MEANING: dict[int | None, str] = {
    EXIT_APP_FAILED: "could not load the app (exit code 70)",
}


def run_gateway() -> NoReturn:
    """Be the gateway that descriptors 3 to 6 say; never returns.

    Exit codes: 0 left as told (or nobody knew of us), 70 the app, or the gateway itself, could not start.
    """
    code = EXIT_APP_FAILED
    try:
        code = _run()
    except BaseException:
        _print_traceback()
    finally:
        _flush_streams()
        os._exit(code)


def _run() -> int:
    starter_uid = os.getuid()
    for fd in (CONTROL_FD, SPEC_FD, BOARD_FD, SPAWNER_FD):
        os.set_inheritable(fd, False)
    tracing.prepare()
    spec = read_spec(SPEC_FD)
    process.set_title(f"emperor gateway {spec.title}.{spec.generation}")
    pages.see()  # which only the user that started us may
    for fd in range(bells.BELLS_FD, bells.BELLS_FD + bells.count(spec)):
        os.set_inheritable(fd, False)
    failure = ""
    try:
        drop(spec.uid, spec.gid)
    except ValueError as error:
        failure = str(error)
    process.set_subreaper()
    gateway = Gateway(spec, socket.socket(fileno=CONTROL_FD), trusted_uids=frozenset((0, starter_uid)))
    return gateway.run(failure)


def read_spec(fd: int) -> GatewaySpec:
    # pread: the offset is shared with the emperor, and with whoever else has this memfd.
    text = os.pread(fd, os.fstat(fd).st_size, 0)
    os.close(fd)
    return GatewaySpec.from_json(json.loads(text))


def _random() -> float:
    # Not the random module, which costs every gateway more memory than one system call a year is worth.
    return int.from_bytes(os.urandom(4)) / 2**32


def _readable(sock: socket.socket) -> bool:
    import select

    poller = select.poll()
    poller.register(sock.fileno(), select.POLLIN)
    return bool(poller.poll(0))


def _settle_worker(title: str) -> None:
    process.set_parent_death_signal(signal.SIGTERM)
    process.set_title(title)


def _print_traceback() -> None:
    import traceback

    with contextlib.suppress(Exception):
        traceback.print_exc()


def _flush_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
