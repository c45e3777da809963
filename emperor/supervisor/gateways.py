"""The emperor's end of every gateway: spawned or taken over, listened to, told to leave, buried.

Owns for each generation its page, its control socket's path, its state file, the connection and the
process. What any of it means is the supervisor's to decide; this carries it out and tells.
"""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Protocol

from emperor.config.spec import RemoteRouter
from emperor.control.channel import Channel
from emperor.control.conversation import FIRST_ID, Conversation
from emperor.control.messages import GatewaySpec
from emperor.protocol import guards, scoreboard
from emperor.supervisor import descriptors, sockets, statefile
from emperor.supervisor.bells import Bells
from emperor.supervisor.children import Child, Children
from emperor.supervisor.connecting import Connecting
from emperor.supervisor.fleet import LAST_EXIT_CHARS, REASON_CHARS, Generation, Worker
from emperor.supervisor.handover import Keep
from emperor.supervisor.logpipe import LogPipe
from emperor.supervisor.loop import Loop, Timer
from emperor.supervisor.process import UNSEEN, Exit
from emperor.supervisor.reading import deck_words
from emperor.supervisor.rundir import RunDir
from emperor.supervisor.spawner import Spawner
from emperor.supervisor.statefile import GenerationState
from emperor.supervisor.wanted import ROUTERS

KILL_GRACE_S = 2.0
"""How much later than asked a gateway may end before it is killed."""

END_S = 0.3
"""A gateway that serves nobody has this long; it kills its workers after 0.2 s itself."""


class Logger(Protocol):
    """What is needed of `emperor.log.Log`."""

    def warning(self, text: str) -> None: ...
    def write(self, level: str, text: str, vassal: str = "") -> None: ...
    def vassal(self, name: str, text: str) -> None: ...


class Listening(Protocol):
    """Who is told of what happens to gateways: the supervisor's verbs, with whatever goes round them."""

    def spawned(self, generation: Generation, pid: int) -> None: ...
    def spawn_lost(self, generation: Generation) -> None: ...
    def ready(self, generation: Generation) -> None: ...
    def failed(self, generation: Generation, reason: str) -> None: ...
    def gone(self, generation: Generation, exit_text: str, killed: bool) -> None: ...
    def worker(self, generation: Generation, before: Worker | None, now: Worker) -> None: ...
    def code_changed(self, generation: Generation, path: str) -> None: ...


ROUTER_ORPHAN_S = 3600.0


class _Gateway:
    """What is held for one generation."""

    def __init__(self, generation: Generation, page: int) -> None:
        self.generation = generation
        self.page = page
        self.bells: Bells | None = None
        self.routers: list[tuple[int, str]] = []  # as it knows them; empty: that is not known
        self.child: Child | None = None
        self.conversation: Conversation | None = None
        self.connecting: Connecting | None = None
        self.pipe: LogPipe | None = None
        self.leave_within_s: float | None = None  # told, or to be told once it listens
        self.kill_timer: Timer | None = None
        self.seats: dict[str, Any] | None = None  # which are to be open, said again to one that is met again
        self.ever_ready = False
        self.met = self.greeted = False
        self.last_line = ""  # what it said on its own output


def _hello() -> dict[str, Any]:
    return {"op": "hello", "pid": os.getpid(), "version": 1}


def _how(gateway: _Gateway, end: Exit) -> str:
    """How it ended; for a program that was executed and never became a gateway, which one, and its last words."""
    argv = gateway.generation.reading.argv
    if gateway.met or not argv or gateway.generation.adopted:
        return end.text
    said = f": {gateway.last_line[:200]}" if gateway.last_line else ""
    return f"{argv[0]} {end.text} before it was a gateway{said}"


class Gateways:
    """All of them, by name and generation."""

    def __init__(
        self,
        loop: Loop,
        children: Children,
        spawner: Spawner,
        log: Logger,
        run_dir: RunDir,
        listening: Listening,
        environment: Callable[[Generation], Mapping[str, str]],
        give_backplane: Callable[[str, int | None, int | None], None],
        is_only: Callable[[str], bool],
        router_orphan_s: float = ROUTER_ORPHAN_S,
        routers: Callable[[str], list[tuple[int, str]]] | None = None,
        rows: Callable[[], int] = lambda: ROUTERS,
        remotes: Callable[[Generation], tuple[RemoteRouter, ...]] = lambda _generation: (),
    ) -> None:
        """`routers` are the seats of those that there are, and where the workers of a vassal meet each, the first the one that
        stays; `rows`: for how many a new page has room; `remotes` those on other hosts. `router_orphan_s`: how long a router
        goes on without an emperor; a gateway waits a little longer."""
        self._loop = loop
        self._children = children
        self._spawner = spawner
        self._log = log
        self._run_dir = run_dir
        self._listening = listening
        self._remotes = remotes
        self._environment = environment
        self._give_backplane = give_backplane
        self._is_only = is_only
        self._routers = routers or (lambda name: [(0, run_dir.backplane(name))])
        self._rows = rows
        self._orphan_timeout_s = router_orphan_s + min(60.0, router_orphan_s)
        self._gateways: dict[tuple[str, int], _Gateway] = {}
        self._room = descriptors.Room()
        self.log_dropped = 0

    def __len__(self) -> int:
        return len(self._gateways)

    def page(self, generation: Generation) -> int:
        """The descriptor of its page, made when first asked for: a router expects a generation before there
        is one. Raises OSError."""
        gateway = self._expect(generation)
        if gateway.page < 0:
            if why := self._room.shortage(generation.reading.seats):
                raise OSError(errno.EMFILE, why)
            sealed = not guards.omitted("seals")
            reading = generation.reading
            words = deck_words(reading.slots)
            rows = self._rows()
            gateway.page = scoreboard.create(reading.seats, reading.slots, rows, words, sealed)
            gateway.bells = self._new_bells(generation, rows)
        return gateway.page

    def rows(self, generation: Generation) -> int:
        """For how many routers its page has room: no two shapes have one size."""
        reading = generation.reading
        size = os.fstat(self.page(generation)).st_size
        for rows in range(ROUTERS, 1, -1):
            if scoreboard.size_bytes(reading.seats, reading.slots, rows, deck_words(reading.slots)) == size:
                return rows
        return 1

    def bells(self, generation: Generation, router_seat: int) -> list[int]:
        """The descriptors of its bells that the router in this seat gets: first its own. Empty where there are none."""
        gateway = self._expect(generation)
        return [] if gateway.bells is None else gateway.bells.for_router(router_seat)

    def unshared(self) -> list[str]:
        """The vassals of which workers run that one router alone can serve: a version before started them."""
        known = [each.generation for each in self._gateways.values() if each.page >= 0]
        return sorted({generation.name for generation in known if self.rows(generation) == 1})

    def turn(self) -> None:
        """There are other routers than before: all workers are to serve them."""
        for gateway in self._gateways.values():
            self._turn(gateway)

    def _turn(self, gateway: _Gateway) -> None:
        if gateway.conversation is not None and self.rows(gateway.generation) > 1:
            routers = self._routers(gateway.generation.name)
            if routers != gateway.routers:
                gateway.routers = routers
                gateway.conversation.send({"op": "routers", "routers": [list(each) for each in routers]})

    def spawn(self, generation: Generation) -> None:
        """Start its gateway. What goes wrong here is told as its failure."""
        gateway = self._expect(generation)
        reading = generation.reading
        path = self._run_dir.gateway(generation.name, generation.number)
        if why := self._room.shortage(reading.seats):
            self._not_started(gateway, f"{generation.name} cannot be started: {why}")
            return
        try:
            self._give_backplane(generation.name, reading.uid, reading.gid)
            page = self.page(generation)
            try:
                self._write_state(gateway)
            except OSError as error:
                state = self._run_dir.state(generation.name, generation.number)
                why = f"{state} cannot be written, without which a next emperor would not know it: {error.strerror}"
                self._not_started(gateway, f"{generation.name} cannot be started: {why}")
                return
            whole = self._spec(generation)
            gateway.routers = [(whole.router_seat, whole.endpoint)]
            spec = _spec_fd(whole)
            control = sockets.bind_control(path)
        except (OSError, sockets.BindError) as error:
            self._not_started(gateway, str(error))
            return
        rings = [] if gateway.bells is None else gateway.bells.for_gateway()
        gateway.pipe = LogPipe(self._loop, lambda line: self._heard(gateway, line))
        message = {
            "op": "spawn",
            "name": generation.name,
            "generation": generation.number,
            "mode": "exec" if reading.argv else "fork",
            "argv": list(reading.argv),
            "env": dict(self._environment(generation)),
            "uid": reading.uid,
            "gid": reading.gid,
        }
        try:
            self._spawner.spawn(
                message,
                [control.fileno(), spec, page, gateway.pipe.write_fd, *rings],
                lambda pid: self._started(gateway, pid),
                lambda reason: self._not_started(gateway, reason),
                lambda: self._lost(gateway),
            )
        finally:
            control.close()
            os.close(spec)
            if gateway.bells is not None:
                gateway.bells.handed_over()
            gateway.pipe.started()

    def held(self) -> dict[str, Callable[[], None]]:
        """The paths by which a next emperor finds those that run, and how each is made again. That raises OSError,
        BindError."""
        found: dict[str, Callable[[], None]] = {}
        for gateway in self._gateways.values():
            if gateway.child is not None:
                name, number = gateway.generation.name, gateway.generation.number
                found[self._run_dir.gateway(name, number)] = partial(self._bind_again, gateway)
                found[self._run_dir.state(name, number)] = partial(self._write_state, gateway)
        return found

    def _bind_again(self, gateway: _Gateway) -> None:
        generation = gateway.generation
        name = f"{generation.name}.{generation.number}"
        if gateway.conversation is None:
            self._log.warning(f"gateway {name} has not been met yet, and cannot be any more: it is killed")
            self._kill(gateway)
            return

        def answered(answer: dict[str, Any]) -> None:
            if answer.get("ok") is not True:
                self._log.warning(
                    f"gateway {name} cannot be found by a next emperor: {answer.get('error')} "
                    f"(emperor reload {generation.name})"
                )

        with sockets.bind_control(self._run_dir.gateway(generation.name, generation.number)) as control:
            gateway.conversation.request({"op": "control"}, answered, [control.fileno()])

    def adopt(
        self,
        generation: Generation,
        channel: Channel,
        page: int,
        hello: dict[str, Any],
        bells: Bells | None = None,
    ) -> None:
        """Take over a living gateway; `page`, `channel` and `bells`, which a living router had, are ours from now on. Raises
        ProcessLookupError when it has gone meanwhile."""
        gateway = _Gateway(generation, page)
        gateway.bells = bells
        gateway.child = self._children.watch(generation.pid, lambda end: self._ended(gateway, end))
        gateway.ever_ready = generation.was_ready
        gateway.greeted = True
        self._gateways[generation.name, generation.number] = gateway
        take_workers(generation, hello.get("workers"))
        self._converse(gateway, channel)

    @property
    def strange(self) -> list[str]:
        """Who has been started and has not answered yet. One that no emperor has ever greeted ends with the spawner."""
        return [f"{name}.{number}" for (name, number), each in self._gateways.items() if not each.greeted]

    def hand_over(self, keep: Keep) -> list[dict[str, Any]]:
        """What `resume` needs of each of them."""
        found = []
        for gateway in self._gateways.values():
            if gateway.child is not None:
                conversation = gateway.conversation
                kill = gateway.kill_timer
                found.append(
                    {
                        "name": gateway.generation.name,
                        "generation": gateway.generation.number,
                        "pid": gateway.child.pid,
                        "page": keep(gateway.page),
                        "bells": None if gateway.bells is None else gateway.bells.hand_over(keep),
                        "pipe": keep.part(None if gateway.pipe is None else gateway.pipe.hand_over()),
                        "channel": keep.part(None if conversation is None else conversation.hand_over()),
                        "leave_within_s": gateway.leave_within_s,
                        "kill_at": kill.when if kill is not None and kill.pending else None,
                        "seats": gateway.seats,
                        "ever_ready": gateway.ever_ready,
                        "met": gateway.met,
                        "last_line": gateway.last_line,
                    }
                )
        return found

    def resume(self, generation: Generation, document: dict[str, Any]) -> None:
        """Go on with one that the program before us in this process had. Its end, if it ended meanwhile, is told as any."""
        gateway = _Gateway(generation, document["page"])
        self._gateways[generation.name, generation.number] = gateway
        if document.get("bells") is not None:
            gateway.bells = Bells.resume(document["bells"])
        gateway.leave_within_s = document["leave_within_s"]
        gateway.seats = document["seats"]
        gateway.ever_ready = document["ever_ready"]
        gateway.met = gateway.greeted = document["met"]
        gateway.last_line = document["last_line"]
        if document["pipe"] is not None:
            gateway.pipe = LogPipe(self._loop, lambda line: self._heard(gateway, line), document["pipe"])
        if document["kill_at"] is not None:
            gateway.kill_timer = self._loop.call_at(document["kill_at"], self._kill, gateway)
        try:
            gateway.child = self._children.watch(document["pid"], lambda end: self._ended(gateway, end))
        except ProcessLookupError:  # somebody else has reaped it: nobody will ever know
            self._loop.call_soon(self._ended, gateway, UNSEEN)
            return
        channel = document["channel"]
        if channel is None:
            path = self._run_dir.gateway(generation.name, generation.number)
            gateway.connecting = Connecting(self._loop, path, lambda channel: self._met(gateway, channel))
        else:
            self._converse(gateway, Channel.resume(channel), channel["last_id"])
            assert gateway.conversation is not None
            gateway.conversation.request(_hello(), lambda answer: self._greeted(gateway, answer))

    def leave(self, generation: Generation, timeout_s: float) -> None:
        """Let it finish what it has begun, within `timeout_s`, and go."""
        gateway = self._gateways.get((generation.name, generation.number))
        if gateway is None or (gateway.leave_within_s is not None and gateway.leave_within_s <= timeout_s):
            return
        gateway.leave_within_s = timeout_s
        self._tell_to_leave(gateway)
        if gateway.kill_timer is not None:
            gateway.kill_timer.cancel()
        gateway.kill_timer = self._loop.call_later(timeout_s + KILL_GRACE_S, self._kill, gateway)
        if gateway.child is None and gateway.pipe is None:
            self._loop.call_soon(self._ended, gateway, Exit())  # it never was

    def keep(self, generation: Generation) -> None:
        """It has another reading now, for whoever takes over."""
        gateway = self._gateways.get((generation.name, generation.number))
        if gateway is not None:
            self._write_state_again(gateway)

    def set_seats(self, generation: Generation, open_: Iterable[int], within_s: float) -> None:
        """Let these seats have workers, and no others; who leaves has `within_s`."""
        gateway = self._gateways.get((generation.name, generation.number))
        if gateway is not None:
            gateway.seats = {"op": "seats", "open": sorted(open_), "timeout_s": within_s}
            if gateway.conversation is not None:
                gateway.conversation.send(gateway.seats)

    def end(self, generation: Generation) -> None:
        """End it: it serves nobody."""
        self.leave(generation, END_S)

    def reopen_logs(self, name: str = "") -> None:
        """Let all of them, or those of one vassal, open the files of their apps' output anew."""
        for gateway in self._gateways.values():
            if gateway.conversation is not None and name in ("", gateway.generation.name):
                gateway.conversation.send({"op": "reopen-logs"})

    def ask(
        self, generation: Generation, message: dict[str, Any], take: Callable[[dict[str, Any]], None]
    ) -> bool:
        """Ask its gateway. False: there is nobody to ask."""
        gateway = self._gateways.get((generation.name, generation.number))
        if gateway is None or gateway.conversation is None:
            return False
        gateway.conversation.request(message, take)
        return True

    def pass_on(self, name: str, generation: int, message: dict[str, Any]) -> None:
        """Give the gateway of this generation what the router has to say of one of its workers."""
        gateway = self._gateways.get((name, generation))
        if gateway is not None and gateway.conversation is not None:
            gateway.conversation.send({key: value for key, value in message.items() if key != "name"})

    def leave_all(self, timeout_s: float) -> None:
        """Let all of them finish, in parallel."""
        for gateway in list(self._gateways.values()):
            self.leave(gateway.generation, timeout_s)

    def kill_all(self) -> None:
        for gateway in list(self._gateways.values()):
            self._kill(gateway)

    def close(self) -> None:
        """Let go of all of them without a word: they live on."""
        for gateway in self._gateways.values():
            self._let_go(gateway)
        self._gateways.clear()

    def _expect(self, generation: Generation) -> _Gateway:
        key = (generation.name, generation.number)
        return self._gateways.setdefault(key, _Gateway(generation, -1))

    # -- its life -----------------------------------------------------------------------------------------

    def _started(self, gateway: _Gateway, pid: int) -> None:
        generation = gateway.generation
        try:
            gateway.child = self._children.watch(pid, lambda end: self._ended(gateway, end))
        except ProcessLookupError:
            self._not_started(gateway, f"the spawner reported pid {pid}, which is no process of ours")
            return
        self._listening.spawned(generation, pid)
        path = self._run_dir.gateway(generation.name, generation.number)
        gateway.connecting = Connecting(self._loop, path, lambda channel: self._met(gateway, channel))

    def _heard(self, gateway: _Gateway, line: str) -> None:
        gateway.last_line = line or gateway.last_line
        self._log.vassal(gateway.generation.name, line)

    def _met(self, gateway: _Gateway, channel: Channel) -> None:
        gateway.connecting = None
        gateway.met = True
        self._converse(gateway, channel)
        assert gateway.conversation is not None
        gateway.conversation.request(_hello(), lambda answer: self._greeted(gateway, answer))

    def _converse(self, gateway: _Gateway, channel: Channel, last_id: int = FIRST_ID) -> None:
        gateway.conversation = Conversation(
            self._loop,
            channel,
            lambda message: self._said(gateway, message),
            lambda why: self._hung_up(gateway),
            last_id,
        )
        if gateway.seats is not None:
            assert gateway.conversation is not None
            gateway.conversation.send(gateway.seats)
        if gateway.leave_within_s is not None:
            self._tell_to_leave(gateway)

    def _greeted(self, gateway: _Gateway, answer: dict[str, Any]) -> None:
        gateway.greeted = True
        take_workers(gateway.generation, answer.get("workers"))
        take_troubles(gateway.generation, answer.get("troubles"))
        self._state(gateway, answer)
        self._turn(gateway)

    def _said(self, gateway: _Gateway, message: dict[str, Any]) -> None:
        """Its process is the tenant's: nothing that it says may do more than be wrong about itself."""
        generation = gateway.generation
        match message:
            case {"op": "state"}:
                self._state(gateway, message)
            case {"op": "worker", "seat": int(seat)}:
                before = generation.workers.get(seat)
                take_workers(generation, [message])
                now = generation.workers.get(seat)
                if now is not None and now != before:
                    self._listening.worker(generation, before, now)
            case {"op": "changed", "path": str(path)}:
                self._listening.code_changed(generation, path[:LAST_EXIT_CHARS])
            case {"op": "troubles"}:
                take_troubles(generation, message.get("troubles"))
            case {"op": "log", "lines": list(lines)}:
                for line in lines:
                    match line:
                        case ["app", str(text)]:
                            self._log.vassal(generation.name, text)
                        case [str(level), str(text)]:
                            self._log.write(level, f"{generation.name}: {text}", generation.name)
                lost = message.get("dropped")
                if type(lost) is int and lost > 0:
                    self.log_dropped += lost

    def _state(self, gateway: _Gateway, message: dict[str, Any]) -> None:
        match message.get("state"):
            case "ready":
                if not gateway.ever_ready:
                    gateway.ever_ready = True
                    # Else what was written before the spawn stands: a next emperor will not know that it had been ready.
                    self._write_state_again(gateway)
                self._listening.ready(gateway.generation)
            case "failed":
                self._listening.failed(gateway.generation, str(message.get("reason", ""))[:REASON_CHARS])

    def _hung_up(self, gateway: _Gateway) -> None:
        gateway.conversation, gateway.routers = None, []
        if gateway.child is not None and gateway.child.alive:
            path = self._run_dir.gateway(gateway.generation.name, gateway.generation.number)
            gateway.connecting = Connecting(self._loop, path, lambda channel: self._met(gateway, channel))

    def _tell_to_leave(self, gateway: _Gateway) -> None:
        if gateway.conversation is not None:
            gateway.conversation.send({"op": "drain", "timeout_s": gateway.leave_within_s})

    def _kill(self, gateway: _Gateway) -> None:
        if gateway.child is not None:
            gateway.child.signal(signal.SIGKILL)

    def _not_started(self, gateway: _Gateway, reason: str) -> None:
        self._listening.failed(gateway.generation, reason)
        if gateway.pipe is not None:
            gateway.pipe.close()
        self._ended(gateway, Exit(code=1))

    def _lost(self, gateway: _Gateway) -> None:
        key = (gateway.generation.name, gateway.generation.number)
        if self._gateways.get(key) is gateway:
            self._bury(gateway)
            self._listening.spawn_lost(gateway.generation)

    def _ended(self, gateway: _Gateway, end: Exit) -> None:
        key = (gateway.generation.name, gateway.generation.number)
        if self._gateways.get(key) is not gateway:
            return
        if gateway.conversation is not None:
            gateway.conversation.receive_now()  # its last words say why
        gateway.generation.workers.clear()
        self._bury(gateway)
        self._listening.gone(gateway.generation, _how(gateway, end), end.code is None)

    def _bury(self, gateway: _Gateway) -> None:
        generation = gateway.generation
        del self._gateways[generation.name, generation.number]
        self._let_go(gateway)
        sockets.remove(self._run_dir.gateway(generation.name, generation.number))
        sockets.remove(self._run_dir.state(generation.name, generation.number))

    def _let_go(self, gateway: _Gateway) -> None:
        if gateway.kill_timer is not None:
            gateway.kill_timer.cancel()
        if gateway.connecting is not None:
            gateway.connecting.cancel()
        if gateway.conversation is not None:
            gateway.conversation.close()
            gateway.conversation = None
        if gateway.pipe is not None:
            gateway.pipe.close()
        if gateway.page >= 0:
            os.close(gateway.page)
            gateway.page = -1
        if gateway.bells is not None:
            gateway.bells.close()
            gateway.bells = None

    def _seats_with_bells(self, generation: Generation) -> int:
        bells = self._expect(generation).bells
        return 0 if bells is None else bells.seats

    def _new_bells(self, generation: Generation, rows: int) -> Bells | None:
        try:
            return Bells(generation.reading.seats, rows)
        except OSError as error:
            self._log.warning(f"{generation.name}: no bells, messages are sent in their place: {error}")
            return None

    # -- what is handed over ------------------------------------------------------------------------------

    def _spec(self, generation: Generation) -> GatewaySpec:
        reading = generation.reading
        router_seat, endpoint = self._routers(generation.name)[0]
        return GatewaySpec(
            name=generation.name,
            generation=generation.number,
            app=reading.app,
            uid=reading.uid,
            gid=reading.gid,
            processes=reading.processes,
            spares=reading.seats - reading.processes,
            slots=reading.slots,
            deck=deck_words(reading.slots),
            routers=self.rows(generation),
            router_seat=router_seat,
            engine=reading.engine,
            endpoint=endpoint,
            token=generation.token,
            start_timeout_s=reading.start_timeout_s,
            stop_timeout_s=reading.stop_timeout_s,
            need_app=reading.need_app,
            config_path=reading.path,
            orphan_timeout_s=self._orphan_timeout_s,
            title=generation.name,
            logto=reading.logto,
            log_max_bytes=reading.log_max_bytes,
            log_backup=reading.log_backup,
            pidfile=reading.pidfile,
            deadlines=reading.deadlines,
            recycling=reading.recycling,
            hooks=reading.hooks,
            preload=reading.preload,
            warm_up=reading.warm_up,
            ready_path=reading.reloading.ready_path,
            ready_host=reading.reloading.ready_host,
            code_s=reading.reloading.code_s,
            code_ignore=reading.reloading.code_ignore,
            watched=reading.reloading.watched,
            seats_at_first=0 if generation.open is None else len(generation.open),
            bells=self._seats_with_bells(generation),
            remotes=self._remotes(generation),
        )

    def _write_state_again(self, gateway: _Gateway) -> None:
        try:
            self._write_state(gateway)
        except OSError as error:
            name, number = gateway.generation.name, gateway.generation.number
            path = self._run_dir.state(name, number)
            self._log.warning(f"{name}: its state cannot be written: {error.strerror} ({path})")

    def _write_state(self, gateway: _Gateway) -> None:
        generation = gateway.generation
        state = GenerationState(
            name=generation.name,
            generation=generation.number,
            token=generation.token,
            started=generation.started,
            was_ready=gateway.ever_ready or generation.was_ready,
            only=self._is_only(generation.file),
            reading=generation.reading,
        )
        statefile.write(self._run_dir.state(generation.name, generation.number), state)


def take_workers(generation: Generation, workers: Any) -> None:
    """Note what a gateway says of its workers; what makes no sense is dropped. `started`, `restarts`, `recycled` and
    `last_exit` may be missing: of a gateway that was taken over and is of another version. A seat that is spare has no
    worker."""
    for each in workers if isinstance(workers, list) else []:
        match each:
            case {"seat": int(seat), "state": "spare"}:
                generation.workers.pop(seat, None)
            case {"seat": int(seat), "pid": int(pid), "state": str(state)} if (
                0 <= seat < generation.reading.seats
            ):
                started, restarts, last_exit = map(each.get, ("started", "restarts", "last_exit"))
                recycled = each.get("recycled")
                generation.workers[seat] = Worker(
                    seat,
                    pid,
                    state[:20],
                    started if type(started) is int else 0,
                    restarts if type(restarts) is int else 0,
                    last_exit[:LAST_EXIT_CHARS] if isinstance(last_exit, str) else "",
                    recycled if type(recycled) is int else 0,
                )


MOST_TROUBLES = 8


def take_troubles(generation: Generation, troubles: Any) -> None:
    """Note what a gateway says of the files that its vassal names; nothing, of a gateway of a version without."""
    texts = troubles if isinstance(troubles, list) else []
    generation.troubles = tuple(
        text[:REASON_CHARS] for text in texts[:MOST_TROUBLES] if isinstance(text, str)
    )


def _spec_fd(spec: GatewaySpec) -> int:
    """A memfd with the specification: the token in it must be in no file, argument or environment."""
    fd = os.memfd_create("emperor-spec", os.MFD_CLOEXEC)
    try:
        os.write(fd, json.dumps(spec.to_json()).encode())
    except OSError:
        os.close(fd)
        raise
    return fd
