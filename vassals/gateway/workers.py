"""The workers of one gateway: forked, listened to, given deadlines, looked into, and dealt with when they have ended.

What is to become of a seat is decided in `seats`; here is what happens to the processes that sit there.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn, Protocol

from emperor.control.messages import GatewaySpec
from emperor.supervisor import process
from emperor.supervisor.loop import Loop
from vassals import tracing

from . import forking
from .forking import BOARD_FD
from .harakiri import Harakiri
from .leash import Worker, cut, lines_of, short
from .output import Output
from .recycler import Recycler
from .seats import EXIT_APP_FAILED, EXIT_LEFT, REPORTED, Effect, Seats
from .template import Template
from .trace import BYTES, Traces

TEMPLATE = -1
"""The template's place among the seats' log pipes."""

_LONGEST_LIMIT_S = 7 * 86400.0
_TRACES_BYTES = 3 * 2**20
"""Of all workers' stacks together: what an answer has room for."""

_MEANING: dict[int | None, str] = {
    EXIT_APP_FAILED: "could not load the app (exit code 70)",
}


class House(Protocol):
    """What is needed of the gateway."""

    def carry_out(self, effects: list[Effect]) -> None:
        """Do what has followed for the seats."""

    def report(self, number: int) -> None:
        """Tell the emperor how the worker in this seat is."""

    def report_troubles(self) -> None:
        """Something that could not be done may be done now, or the other way round."""

    def changed(self, path: str) -> None:
        """A worker has seen that the app's code has changed."""

    def accepting(self, number: int) -> None:
        """The worker in this seat serves."""

    def fault(self, error: Exception) -> None:
        """We got something wrong."""

    def forget(self) -> None:
        """In a fork: let go of the control socket."""


class Workers:
    """By their seats. `parent` is the gateway's pid, `fork` makes a worker's process. `harakiri` ends those that are stuck,
    `template` forks them where there is ``preload``."""

    def __init__(
        self,
        spec: GatewaySpec,
        parent: int,
        loop: Loop,
        seats: Seats,
        recycler: Recycler,
        output: Output,
        house: House,
        fork: Callable[[Callable[[], NoReturn]], int] = forking.fork,
    ) -> None:
        self._spec = spec
        self._parent = parent
        self._loop = loop
        self._seats = seats
        self._recycler = recycler
        self._output = output
        self._house = house
        self._fork = fork
        self._workers: dict[int, Worker] = {}
        self._dead: list[tuple[int, Worker, process.Exit]] = []
        self._traces = Traces(loop)
        self._routers: dict[str, Any] | None = None  # as the emperor has said last
        self.harakiri = Harakiri(spec.deadlines, spec.stop_timeout_s, loop, self)
        self.template = Template(self, loop, spec.start_timeout_s) if spec.preload else None

    def describe(self, number: int) -> dict[str, Any]:
        """How the worker in this seat is (docs/specs/control.md)."""
        seat, worker = self._seats.seats[number], self._workers.get(number)
        condemned = self.harakiri.why(number) and seat.state == "ready"
        return {
            "seat": number,
            "pid": worker.pid if worker is not None else 0,
            "state": "draining" if condemned else REPORTED[seat.state],
            "reason": seat.reason,
            "started": worker.started if worker is not None else 0,
            "restarts": seat.restarts,
            "last_exit": seat.last_exit,
            "recycled": seat.recycled,
        }

    def tell(self, number: int, order: dict[str, Any]) -> None:
        worker = self._workers.get(number)
        if worker is not None:
            worker.tell(order)

    def use_routers(self, routers: Any) -> None:
        """These are the routers now, by seat, and where each is met."""
        if isinstance(routers, list) and routers:
            self._routers = {"op": "routers", "routers": routers}
            for worker in self._workers.values():
                worker.tell(self._routers)

    # -- starting ----------------------------------------------------------------------------------------

    def start(self, number: int) -> None:
        """A worker for this seat. What cannot be begun is a step of the seat."""
        if self.template is not None:
            self.template.want(number)
            return
        leash = leash_of_worker = None
        try:
            pipe = self._output.pipe(number)
            leash, leash_of_worker = socket.socketpair()
            trace_fd = tracing.new_file()
        except OSError as error:
            for end in (leash, leash_of_worker):
                if end is not None:
                    end.close()
            why = f"cannot start a worker: {error.strerror} (a limit on descriptors: ulimit -n, LimitNOFILE?)"
            self._not_begun(number, why)
            return
        watches = self._is_to_watch(number)

        def forget() -> None:
            leash.detach()
            self._forget()

        try:
            pid = self._fork(
                partial(
                    forking.become_worker,
                    self._spec,
                    number,
                    self._parent,
                    leash_of_worker,
                    pipe,
                    trace_fd,
                    watches,
                    forget,
                )
            )
        except OSError as error:
            leash.close()
            leash_of_worker.close()
            os.close(trace_fd)
            why = f"cannot fork a worker: {error.strerror} (a limit on processes: ulimit -u, TasksMax?)"
            self._not_begun(number, why)
            return
        leash_of_worker.close()
        self.seat(number, Worker(pid, leash, trace_fd, watches))

    def _is_to_watch(self, number: int) -> bool:
        """One worker looks whether the app's code has changed, or the one that takes its place."""
        old = self._seats.seats[number].replaces
        return not any(worker.watches for seat, worker in self._workers.items() if seat != old)

    def _forget(self) -> None:
        """In a fork: sockets that close when they are collected would close whatever has their number by then."""
        for worker in self._workers.values():
            worker.leash.detach()
        self._house.forget()

    def _not_begun(self, number: int, why: str) -> None:
        self.note("error", f"worker {number}: {why}; it is tried again")
        self._step("ended", number, why)

    def seat(self, number: int, worker: Worker) -> None:
        """It sits there from now on."""
        worker.leash.setblocking(False)
        self._workers[number] = worker
        self._recycler.started(number, worker.pid)
        worker.timer = self._loop.call_later(self._spec.start_timeout_s, self._late, number)
        self._loop.watch(worker.leash.fileno(), lambda: self._listen(number, worker))
        self._house.report(number)
        if self._routers is not None:
            worker.tell(self._routers)

    def _late(self, number: int) -> None:
        limit = f"{self._spec.start_timeout_s:g} s"
        waits_for = self._workers[number].waits_for
        why = f"the app did not finish importing within {limit} (start-timeout)"
        if waits_for:
            why = f"the app was not ready within {limit} (start-timeout): {waits_for}"
        self._step("late", number, why)

    # -- with a template (template.House) ----------------------------------------------------------------

    def start_template(self) -> tuple[int, socket.socket]:
        pipe = self._output.pipe(TEMPLATE)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

        def forget() -> None:
            ours.detach()
            self._forget()

        try:
            pid = forking.fork(
                partial(forking.become_template, self._spec, self._parent, theirs, pipe, forget)
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return pid, ours

    def leash_for(self, number: int) -> tuple[list[int], Any]:
        pipe = self._output.pipe(number)
        leash, leash_of_worker = socket.socketpair()
        trace_fd = tracing.new_file()
        watches = self._is_to_watch(number)
        fds = [leash_of_worker.fileno(), pipe.write_fd, pipe.read_fd, trace_fd]
        return fds, (leash, leash_of_worker, trace_fd, watches)

    def seated(self, number: int, pid: int, given: Any, end: process.Exit | None) -> None:
        leash, leash_of_worker, trace_fd, watches = given
        leash_of_worker.close()
        worker = Worker(pid, leash, trace_fd, watches)
        self.seat(number, worker)
        if end is not None:
            worker.reaped = True
            self._ended(number, worker, end)

    def unseated(self, number: int, given: Any, reason: str, failed: bool, by_signal: bool) -> None:
        if given is not None:
            leash, leash_of_worker, trace_fd, _ = given
            leash.close()
            leash_of_worker.close()
            os.close(trace_fd)
        if failed and self._seats.seats[number].state == "loading":
            self._step("failed", number, reason)
        # In the next turn: what follows from the failure may have been to kill all, this one among them.
        self._loop.call_soon(self._never_was, number, reason, by_signal)

    def _never_was(self, number: int, reason: str, by_signal: bool = False) -> None:
        awaited = self._seats.seats[number].state in ("loading", "ending", "leaving")
        if number not in self._workers and awaited:
            self._house.carry_out(self._seats.step("ended", number, reason, by_signal=by_signal))

    # -- what they say -----------------------------------------------------------------------------------

    def _listen(self, number: int, worker: Worker) -> None:
        lines = worker.hear()
        if lines is None:
            self._loop.unwatch(worker.leash.fileno())
            return
        for line in lines:
            try:
                said = json.loads(line)
                effects = self._hear(number, worker, said)
            except (ValueError, KeyError, TypeError, AttributeError, LookupError, RecursionError) as error:
                self.note("warning", f"worker {number} said on its leash what makes no sense: {error}")
                continue
            if effects is not None:
                self._has_come_to(number, worker, said, effects)

    def _hear(self, number: int, worker: Worker, said: Any) -> list[Effect] | None:
        """What follows for the seats; None: it is no state of the worker's. Raises many an error for what makes no sense."""
        state, reason = said["state"], said.get("reason", "")
        match state:
            case "hook":
                self._limit_hook(number, worker, short(reason))
            case "limit":
                self._limit_request(number, worker, short(said["key"]), float(said["seconds"]))
            case "worn":
                self._recycler.worn(number, short(reason))
            case "changed":
                self._house.changed(cut(reason))
            case "waiting" | "loaded" | "ready" | "failed":
                return self._seats.step(state, number, cut(reason))
            case "refused":
                return self._seats.step(state, number, cut(f"the router refuses it: {reason}"))
            case _:
                raise ValueError(f"unknown state {state!r}")
        return None

    def _has_come_to(self, number: int, worker: Worker, said: dict[str, Any], effects: list[Effect]) -> None:
        state = said["state"]
        if state == "waiting":
            worker.waits_for = cut(said.get("reason", ""))
            self.note("info", f"worker {number} is not ready yet: {worker.waits_for}")
        if state == "loaded":
            worker.shows_tasks = said.get("tasks") is True
            if worker.timer is not None:
                worker.timer.cancel()
        for text in lines_of(said.get("traceback", "")):
            self.note("error", text)
        self._house.carry_out(effects)
        if state == "ready" and not worker.served:
            worker.served = True
            self._house.accepting(number)
        if state in ("loaded", "ready"):
            self._recycler.look()

    def _limit_hook(self, number: int, worker: Worker, what: str) -> None:
        """A worker calls a hook of the app's (`what`), or has come back from it (nothing)."""
        if worker.hook_timer is not None:
            worker.hook_timer.cancel()
            worker.hook_timer = None
        if what:
            limit_s = self._spec.hooks.timeout_s
            worker.hook_timer = self._loop.call_later(limit_s, self._hook_hangs, number, worker, what)

    def _limit_request(self, number: int, worker: Worker, key: str, seconds: float) -> None:
        """Its app gives what runs in one of its threads (`key`) so long; 0: no such limit any more."""
        limits = worker.limits = worker.limits or {}
        if (timer := limits.pop(key, None)) is not None:
            timer.cancel()
        if 0 < seconds < _LONGEST_LIMIT_S and len(limits) < self._spec.slots:
            limits[key] = self._loop.call_later(seconds, self.harakiri.overran, number, worker.pid)

    def _hook_hangs(self, number: int, worker: Worker, what: str) -> None:
        why = f"{what} did not finish within {self._spec.hooks.timeout_s:g} s (hook-timeout)"
        seat = self._seats.seats[number]
        self.note("error", f"worker {number} (pid {worker.pid}) is killed: {why}")
        # It leads a session of its own: what the hook has started goes with it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(worker.pid, signal.SIGKILL)
        event = "evil" if seat.state in ("loaded", "ready") else "late"
        self._step(event, number, why)

    # -- leaving -----------------------------------------------------------------------------------------

    def limit_retiring(self, number: int) -> None:
        """One that is recycled has been told to leave. Another has its place."""
        worker = self._workers.get(number)
        if worker is not None:
            if worker.timer is not None:
                worker.timer.cancel()
            worker.timer = self._loop.call_later(self._spec.recycling.mercy_s, self._overdue, number)

    def _overdue(self, number: int) -> None:
        limit = f"{self._spec.recycling.mercy_s:g} s"
        why = f"what it had begun did not finish within {limit} (worker-reload-mercy)"
        self.note("warning", f"worker {number} (pid {self._workers[number].pid}) is killed: {why}")
        self._step("late", number, why)

    def limit_closing(self, within_s: float) -> None:
        """Those whose seats are closing have so long to finish."""
        for seat in self._seats.seats:
            worker = self._workers.get(seat.number)
            if seat.state == "closing" and worker is not None:
                self._loop.call_later(within_s, self._closes_late, seat.number, worker)

    def _closes_late(self, number: int, worker: Worker) -> None:
        if self._workers.get(number) is worker and self._seats.seats[number].state == "closing":
            self._step("late", number)

    def kill(self, number: int) -> None:
        worker = self._workers.get(number)
        if worker is not None and not worker.reaped:  # so the pid is still its own
            os.kill(worker.pid, signal.SIGKILL)
        elif worker is None and self.template is not None:
            given = self.template.forget(number)
            self.unseated(number, given, "was not started", False, False)

    def reaped(self, pid: int, end: process.Exit) -> None:
        """A child of ours has ended. Call it for all of them, then `bury`, which may lead to killing others."""
        if self.template is not None:
            self.template.reaped(pid, end)
        for number, worker in self._workers.items():
            if worker.pid == pid:
                worker.reaped = True
                self._dead.append((number, worker, end))

    def bury(self) -> None:
        """Deal with those that have ended."""
        dead, self._dead = self._dead, []
        for number, worker, end in dead:
            try:
                self._ended(number, worker, end)
            except Exception as error:  # one worker's end that we got wrong must not lose another's
                self._house.fault(error)

    def _ended(self, number: int, worker: Worker, end: process.Exit) -> None:
        # Its last words first: they say why.
        while worker.has_said_more():
            before = len(worker.partial)
            self._listen(number, worker)
            if len(worker.partial) == before:
                break
        self._loop.unwatch(worker.leash.fileno())
        self._traces.ended(worker.pid)
        worker.close()
        sentence = self.harakiri.why(number)
        self.harakiri.ended(number)
        self._output.finish(number)
        del self._workers[number]
        self._recycler.ended(number)
        seat = self._seats.seats[number]
        recycled = seat.state == "retiring"
        asked = seat.state in ("leaving", "closing", "retiring") and end.code == EXIT_LEFT
        why = sentence or self._why(number, worker, end, asked)
        if not asked and seat.state != "ending":
            self.note("warning", f"worker {number} (pid {worker.pid}) {why}")
        if sentence:
            self._seats.spare(number)
        if recycled and asked:
            self.note("info", f"worker {number} (pid {worker.pid}) has left, recycled: {seat.why}")
        self._house.carry_out(self._seats.step("ended", number, why, by_signal=end.signal is not None))
        if recycled:
            self._recycler.replaced()
            self._house.report_troubles()

    def _why(self, number: int, worker: Worker, end: process.Exit, asked: bool) -> str:
        """How it ended, for people; nothing for one that has left as it was asked to."""
        seat = self._seats.seats[number]
        why = "" if asked else _MEANING.get(end.code, end.text) if end.signal is None else end.text
        if seat.state == "loading":
            why += " while the app answered ready-path" if worker.waits_for else " while it imported the app"
        if end.code == EXIT_LEFT and seat.state == "loaded" and seat.reason:
            why = f"left, since {seat.reason}"
        return why

    # -- those that are stuck (harakiri.Prison) ----------------------------------------------------------

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
            self.note("error", f"the page cannot be read: {error}")
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
        self.tell(seat, {"op": "drain"})
        self._house.report(seat)
        # While the others of that worker finish, another serves in its place; one that runs nothing else is ended at once.
        waits = self._spec.slots > 1 and self._seats.seats[seat].state == "ready"
        if waits and self._seats.can_replace():
            self._house.carry_out(self._seats.replace(seat, self.harakiri.why(seat)))

    def say(self, lines: list[str]) -> None:
        self._output.relay(lines)

    def note(self, level: str, text: str) -> None:
        self._output.note(level, text)

    def trace_all(self, take: Callable[[list[dict[str, Any]]], None]) -> None:
        """The stacks of all; `take` is called when the last has shown them, or has not in time."""
        living = sorted(number for number in self._workers if self.pid_at(number))
        found: dict[int, dict[str, Any]] = {}
        share = max(4096, _TRACES_BYTES // max(1, len(living)))

        def taken(number: int, pid: int, lines: list[str], why: str) -> None:
            text = "\n".join(lines)[: min(share, BYTES)]
            described = {**self.describe(number), "pid": pid}
            found[number] = {**described, "stacks": text.splitlines(), "mute": why}
            if len(found) == len(living):
                take([found[number] for number in living])

        for number in living:
            self.trace(number, partial(taken, number, self.pid_at(number)))
        if not living:
            take([])

    # -- inside ------------------------------------------------------------------------------------------

    def _step(self, event: str, number: int, why: str = "") -> None:
        self._house.carry_out(self._seats.step(event, number, why))
