"""The gateway: one process per vassal and generation that supervises the app's workers, as the vassal's own
user.

This is the shell round `seats.py`, which decides: what an emperor says (`control`), what happens to the workers
(`workers`) and what the operator's commands come to (`hooks`) are steps of the seats, and what follows from a step
is carried out. It carries no request and loads no app code, runs no thread and no event loop but a poll, because
there is one on the machine for every vassal.

It starts with the descriptors below (docs/specs/control.md), whether the spawner forked it or exec'd it.
The emperor may die: a gateway goes on, restarts its workers, keeps the last log lines, and answers the next
emperor that connects. It drains when none has for `orphan_timeout_s`. One that no emperor has ever connected to
leaves when its spawner does, since nobody knows of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any, NoReturn

from emperor.control.messages import GatewaySpec
from emperor.log import ChannelSink
from emperor.privileges import drop
from emperor.supervisor import process, signals
from emperor.supervisor.loop import Loop, Timer
from emperor.supervisor.restart import Backoff
from vassals import bells, pages, tracing

from .commands import Commands
from .control import ControlEnd
from .files import remove_pidfile, write_pidfile
from .forking import BOARD_FD, flush_streams, print_traceback
from .hooks import Hooks
from .output import Output
from .recycler import Recycler
from .rest import Rest
from .seats import EXIT_APP_FAILED, Effect, Seats
from .workers import Workers

CONTROL_FD = 3
"""The bound control socket; we call listen(), so that peer credentials name us."""
SPEC_FD = 4
"""A memfd with the JSON of `GatewaySpec`; the backplane's token is in it."""
SPAWNER_FD = 6
"""The read end of a pipe whose write end only the spawner holds."""

STOP_TIMEOUT_S = 0.2
UNHEARD_S = 10.0
"""How long a gateway that failed waits for an emperor to tell."""
LEFTOVERS_S = 1.0
"""How long leaving may take to kill what the app left running."""


class Gateway:
    """Assembly of the gateway process. `run` returns the exit code."""

    def __init__(
        self,
        spec: GatewaySpec,
        listener: socket.socket,
        *,
        trusted_uids: frozenset[int],
        workers: Callable[..., Workers] = Workers,
    ) -> None:
        """`workers` makes those that are supervised: in a rehearsal, of nothing that runs."""
        self._spec = spec
        self._pid = os.getpid()
        self._start_time = process.start_time(self._pid)
        self._loop = Loop(on_error=self.fault)
        self._seats = Seats(
            spec.processes,
            self._backoff,
            spec.spares,
            spec.seats_at_first,
            after_app=bool(spec.hooks.after),
        )
        sink = ChannelSink()
        self._output = Output(spec, self._loop, sink, self.report_troubles)
        self._note = self._output.note
        app = spec.app
        directory = app.chdir or os.path.dirname(spec.config_path) or "/"
        self._commands = Commands(self._loop, directory, app.umask, self._output.relay, self._note)
        self._hooks = Hooks(spec, self._commands, self._note)
        self._control = ControlEnd(
            listener,
            trusted_uids,
            spec.orphan_timeout_s,
            self._loop,
            sink,
            self._note,
            self._obey,
            self._nobody_came,
        )
        self._recycler = Recycler(
            spec.recycling, self._seats, self._loop, self.carry_out, self._note, _random
        )
        self._workers = workers(spec, self._pid, self._loop, self._seats, self._recycler, self._output, self)
        self._due: dict[int, Timer] = {}
        self._serving: list[int] = []  # whose commands wait for those of the app
        self._close_within_s = spec.stop_timeout_s
        self._pidfile_trouble = ""
        self._told: list[str] = []
        self._deadline: Timer | None = None
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
        self._output.finish_all()
        if self._spec.pidfile is not None:
            remove_pidfile(self._spec.pidfile, self._pid)
        self._control.close(flush_s=1.0)
        return self._code

    def begin(self, spawner_fd: int, start_failure: str = "") -> None:
        """Listen, and start the workers."""
        loop = self._loop
        loop.on_signal(signal.SIGCHLD, self._reap)
        loop.on_signal(signal.SIGTERM, self._terminated)
        loop.on_signal(signal.SIGINT, self._terminated)
        signals.set_action(signal.SIGHUP, signals.SIG_IGN)
        self._control.start()
        loop.watch(spawner_fd, self._spawner_gone)
        self._workers.harakiri.start()
        if start_failure:
            self.carry_out(self._seats.fail(start_failure))
        else:
            self._prepare()

    # -- what an emperor says ----------------------------------------------------------------------------

    def _obey(self, message: dict[str, Any]) -> None:
        match message.get("op"):
            case "hello":
                self._hello(message)
            case "drain":
                self._control.answer(message, {"ok": True})
                timeout_s = message.get("timeout_s")
                known = isinstance(timeout_s, int | float) and not isinstance(timeout_s, bool)
                self._drain(float(timeout_s) if known else self._spec.stop_timeout_s)  # type: ignore[arg-type]
            case "seats":
                self._control.answer(message, {"ok": True})
                self._set_open(message)
            case "reopen-logs":
                self._output.reopen()
                self._control.answer(message, {"ok": True})
            case "stop":
                self._control.answer(message, {"ok": True})
                self._drain(STOP_TIMEOUT_S)
            case "harakiri":
                self._workers.harakiri.order(message)
            case "routers":
                self._control.answer(message, {"ok": True})
                self._workers.use_routers(message.get("routers"))
            case "trace":
                answer = self._control.answer_later(message)
                self._workers.trace_all(lambda workers: answer({"ok": True, "workers": workers}))
            case op:
                error = (
                    f"gateway {self._spec.name}: there is no operation {op!r}: "
                    "is the emperor of another version?"
                )
                self._control.answer(message, {"ok": False, "error": error})

    def _set_open(self, message: dict[str, Any]) -> None:
        numbers, within_s = message.get("open"), message.get("timeout_s")
        if not isinstance(numbers, list) or not isinstance(within_s, int | float):
            return
        self._close_within_s = max(0.0, float(within_s))
        self.carry_out(self._seats.set_open([each for each in numbers if type(each) is int]))
        self._workers.limit_closing(self._close_within_s)

    def _hello(self, message: dict[str, Any]) -> None:
        answer = {
            "ok": True,
            "name": self._spec.name,
            "generation": self._spec.generation,
            "pid": self._pid,
            "start_time": self._start_time,
            "state": self._seats.state,
            "reason": self._seats.reason,
            "workers": [
                self._workers.describe(seat.number) for seat in self._seats.seats if seat.state != "spare"
            ],
            "troubles": self._troubles(),
        }
        self._control.answer(message, answer, (BOARD_FD,) if message.get("board") is True else ())
        self._control.greet()
        if self._leaving is not None:
            self._exit(self._leaving)

    # -- what is run for the app -------------------------------------------------------------------------

    def _prepare(self) -> None:
        """Run what is to be run before the app is loaded, then start."""

        def done(why: str) -> None:
            if self._seats.state != "starting":
                return  # told to leave meanwhile
            self.carry_out(self._seats.fail(why) if why else self._seats.start())

        self._hooks.before_app(done)

    def _after_app(self) -> None:
        def done(why: str) -> None:
            if self._seats.state == "loaded":
                self.carry_out(self._seats.stay(why) if why else self._seats.go())
                serving, self._serving = self._serving, []
                for number in serving if not why else ():
                    self._hooks.accepting(number)
                self._recycler.look()

        self._hooks.after_app(done)

    # -- carrying out ------------------------------------------------------------------------------------

    def carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect.kind:
                case "fork":
                    self._workers.start(effect.seat)
                case "start-later":
                    self._due[effect.seat] = self._loop.call_later(
                        effect.delay_s, self._start_due, effect.seat
                    )
                case "forget-start":
                    self._due.pop(effect.seat).cancel()
                case "tell-drain":
                    self._tell_to_drain(effect.seat)
                case "kill":
                    self._workers.kill(effect.seat)
                case "report":
                    self.report(effect.seat)
                case "replace-later":
                    self._recycler.postpone(effect.seat, effect.delay_s)
                    self.report_troubles()
                case "after-app":
                    self._after_app()
                case "report-state":
                    if self._seats.state == "ready":
                        self._look_at_files()
                    if self._seats.state == "failed":
                        self._note("error", f"failed to start: {self._seats.reason}")
                    self._control.tell(
                        {"op": "state", "state": self._seats.state, "reason": self._seats.reason}
                    )
                case "leave":
                    self._leave(effect.code)
                case unknown:
                    raise LookupError(f"the gateway has no way to do {unknown!r}")

    def _tell_to_drain(self, number: int) -> None:
        # What is condemned has a time of its own.
        condemned = bool(self._workers.harakiri.why(number))
        within_s = None if condemned else self._leaves_within(number)
        self._workers.tell(number, {"op": "drain", **({} if within_s is None else {"within_s": within_s})})
        if self._seats.seats[number].state == "retiring" and not condemned:
            self._workers.limit_retiring(number)

    def _leaves_within(self, number: int) -> float | None:
        """How long its worker has to finish, from now on."""
        match self._seats.seats[number].state:
            case "retiring":
                return self._spec.recycling.mercy_s
            case "closing":
                return self._close_within_s
            case _:
                return None if self._deadline is None else self._left_s()

    def _left_s(self) -> float:
        """Of the time to stop, if it has begun."""
        return 0.0 if self._deadline is None else max(0.0, self._deadline.when - self._loop.now())

    def _start_due(self, number: int) -> None:
        del self._due[number]
        self.carry_out(self._seats.step("start", number))

    # -- what the workers' end tells (workers.House) ------------------------------------------------------

    def report(self, number: int) -> None:
        self._control.tell({"op": "worker", **self._workers.describe(number)})

    def report_troubles(self) -> None:
        if self._told != (troubles := self._troubles()):
            self._told = troubles
            self._control.tell({"op": "troubles", "troubles": troubles})

    def changed(self, path: str) -> None:
        self._control.tell({"op": "changed", "path": path})

    def accepting(self, number: int) -> None:
        if self._spec.hooks.after and self._seats.state in ("starting", "loaded"):
            # It has met its router while the commands for the app still run: its own come after those.
            self._serving.append(number)
        else:
            self._hooks.accepting(number)

    def forget(self) -> None:
        self._control.forget()

    # -- leaving -----------------------------------------------------------------------------------------

    def _leave(self, code: int) -> None:
        self._leaving = code
        # An app can fail faster than the emperor connects, and then the reason would be lost.
        if code == EXIT_APP_FAILED and not self._control.ever_greeted and not self._orphan:
            self._loop.call_later(UNHEARD_S, self._exit, code)
        else:
            self._exit(code)

    def _exit(self, code: int) -> None:
        if self._hooks.has_last and self._seats.state == "gone":
            self._hooks.at_exit(self._left_s(), lambda: self._exit(code))
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
        self.carry_out(self._seats.drain())
        for number in leaving:
            self._workers.tell(number, {"op": "drain", "within_s": timeout_s})

    def _time_up(self) -> None:
        self.carry_out(self._seats.kill())

    def _terminated(self) -> None:
        self._drain(self._spec.stop_timeout_s)

    def _nobody_came(self) -> None:
        """No emperor has taken us over for so long that none will: routers have drained by now."""
        self._drain(self._spec.stop_timeout_s)

    def _spawner_gone(self) -> None:
        self._loop.unwatch(SPAWNER_FD)
        if self._control.ever_greeted:
            return
        self._orphan = True
        if self._leaving is not None:
            self._exit(self._leaving)
        else:
            self._drain(STOP_TIMEOUT_S)

    def _reap(self) -> None:
        for pid, end in process.reap():
            self._commands.reaped(pid, end)
            self._workers.reaped(pid, end)
        self._workers.bury()

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

    # -- small things ------------------------------------------------------------------------------------

    def _look_at_files(self) -> None:
        """The app is ready: write its pidfile, and see whether its log can be written."""
        if self._spec.pidfile is not None:
            self._pidfile_trouble = write_pidfile(self._spec.pidfile, self._pid)
            if self._pidfile_trouble:
                self._note("error", self._pidfile_trouble)
        self._output.look()
        self.report_troubles()

    def _troubles(self) -> list[str]:
        template = "" if self._workers.template is None else self._workers.template.trouble
        found = (self._output.trouble, self._pidfile_trouble, self._recycler.trouble, template)
        return [each for each in found if each]

    def fault(self, error: Exception) -> None:
        """A fault of ours. The workers serve on, so we do too, and say so."""
        import traceback

        where = traceback.extract_tb(error.__traceback__)[-1]
        self._note("error", f"gateway fault, please report: {error!r} at {where.filename}:{where.lineno}")

    def _backoff(self) -> Backoff:
        return Backoff(clock=self._loop.now, random=_random)


def run_gateway() -> NoReturn:
    """Be the gateway that descriptors 3 to 6 say; never returns.

    Exit codes: 0 left as told (or nobody knew of us), 70 the app, or the gateway itself, could not start.
    """
    code = EXIT_APP_FAILED
    try:
        code = _run()
    except BaseException:
        print_traceback()
    finally:
        flush_streams()
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
