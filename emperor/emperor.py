"""Assembly of the emperor process: the one place where the parts meet.

Owns the lock on the vassal directory, the run directory, every listening socket, and the order in which
things start and end. It decides nothing about vassals (the supervisor does) and runs none of their code; it
imports no ZeroMQ and no HTTP server, since what aborts or is attacked must not take everything with it.

Files and signals set the wish, the supervisor's actions are carried out, and the router is told the
difference. A kill -9 of this process harms nobody: routers and gateways serve on, and the next emperor
takes them over (`adoption`).
"""

from __future__ import annotations

import os
import random
import secrets
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from emperor import notify, privileges
from emperor.config import ConfigError
from emperor.config.keys import default_directory
from emperor.config.settings import Settings, take_up
from emperor.control.server import Refused, Reply
from emperor.log import FdSink, Log
from emperor.monitors.code import CodeMonitor
from emperor.monitors.directory import DirectoryMonitor
from emperor.monitors.places import PlaceError, Places
from emperor.monitors.scan import Change
from emperor.protocol import guards
from emperor.stats.model import EmperorReport
from emperor.supervisor import (
    adoption,
    descriptors,
    handover,
    pauses,
    process,
    rehearsal,
    room,
    several,
    sharedout,
    signals,
    summary,
)
from emperor.supervisor.accesslogs import AccessLogs
from emperor.supervisor.actions import End, Forget, Leave, Remember, Reread, Say, Seats, Settled, Spawn, Tell
from emperor.supervisor.adoption import Found
from emperor.supervisor.announcements import Announcements
from emperor.supervisor.children import Children
from emperor.supervisor.commands import Commands
from emperor.supervisor.doors import Doors, Shared
from emperor.supervisor.emptying import Emptying
from emperor.supervisor.ending import STOP_TIMEOUT_S, Ending
from emperor.supervisor.environment import environment_of
from emperor.supervisor.estate import Estate
from emperor.supervisor.events import Events
from emperor.supervisor.fifos import Fifos
from emperor.supervisor.files import Files
from emperor.supervisor.fleet import Generation, Vassal, Worker
from emperor.supervisor.forwarded import Forwarded
from emperor.supervisor.gateways import Gateways
from emperor.supervisor.handover import Handover, Keep, Unreadable
from emperor.supervisor.keyring import Keyring
from emperor.supervisor.listeners import SharedListeners
from emperor.supervisor.locks import Locks
from emperor.supervisor.looking import look
from emperor.supervisor.loop import Loop, Timer
from emperor.supervisor.mending import Mending
from emperor.supervisor.ownsockets import OwnSockets
from emperor.supervisor.probation import Probations
from emperor.supervisor.reader import Reader
from emperor.supervisor.reading import Reading
from emperor.supervisor.reporting import Reporting
from emperor.supervisor.routers import Listener, Router
from emperor.supervisor.routeruser import router_user
from emperor.supervisor.rundir import (
    RunDir,
    RunDirError,
    derived,
    run_root,
)
from emperor.supervisor.silence import Silence
from emperor.supervisor.sockets import BindError
from emperor.supervisor.spawner import Spawner
from emperor.supervisor.subscribed import Subscribed
from emperor.supervisor.succession import Routers
from emperor.supervisor.supervisor import Supervisor
from emperor.supervisor.table import RouterTable
from emperor.supervisor.takeover import TakeOver
from emperor.supervisor.tenant import Tenants
from emperor.supervisor.triggers import Triggers
from emperor.supervisor.vassal import State
from emperor.supervisor.versions import Versions
from emperor.supervisor.wanted import ROUTERS

EXIT_STOPPED = 0
EXIT_FAILED = 1


@dataclass(frozen=True)
class Single:
    """One app that is all there is to serve, for `emperor run`: it sees the whole environment, and when it does not
    start there is nothing left to do. `title` is how the user named it, `sources` the directories whose source files
    start it anew; with some, a failed start waits for the next change."""

    title: str
    sources: tuple[str, ...] = ()


class StartFailed(Exception):
    """The emperor cannot start; the text says what, why and what to do."""


class Emperor:
    """One emperor, from `run` to its exit code."""

    def __init__(
        self,
        settings: Settings,
        log: Log,
        single: Single | None = None,
        reread: Callable[[], Settings] | None = None,
        handed: Handover | None = None,
    ) -> None:
        """`handed` is what the program before us in this process has left. Raises StartFailed for settings that name nothing
        to serve."""
        self._settings = settings
        self._single = single
        self._reread_settings = reread
        self._code: CodeMonitor | None = None
        self._failure = ""
        if settings.router.subscriptions_sign_check and find_spec("cryptography") is None:
            raise StartFailed(
                "subscriptions-sign-check: signatures need the package cryptography: pip install 'emperor-vassals[signed]'"
            )
        if refused := sharedout.refusal(settings):
            raise StartFailed(refused)
        self._log = log
        try:
            self._places = Places.named(settings.emperor.vassals)
        except PlaceError as error:
            raise StartFailed(str(error)) from error
        root = run_root(os.geteuid(), dict(os.environ))
        try:
            self._router_user = router_user(settings.emperor.router_user, log)
        except privileges.PrivilegeError as error:
            raise StartFailed(str(error)) from error
        run_dir = settings.emperor.run_dir or str(derived(root, Path(self._places.places[0].path)))
        self._run_dir = RunDir(run_dir)
        self._locks = Locks(self._places, root, self._run_dir)
        self._notify = notify.Notify()
        self._handed = handed
        self._since = int(time.time())
        before: Mapping[str, Any] = {} if handed is None else handed.document
        self._started = before.get("started", self._since)
        self._upgrades_done = before.get("upgrades", -1) + 1
        self._began = time.monotonic()
        self._adopted = bool(before.get("adopted", False))
        self._loop = Loop(on_error=self._fault, many=True)
        self._children = Children(self._loop, log, STOP_TIMEOUT_S)
        self._supervisor = Supervisor(
            clock=self._loop.now,
            wall=time.time,
            random=random.random,
            token=lambda: secrets.token_hex(32),
            name_of=self._places.name,
            rank_of=self._places.rank,
            has_room=lambda: not room.is_short(),
        )
        self._events = Events(time.time)
        self._commands = Commands(self._loop, self._supervisor, self._events, self)
        env = {**os.environ, **guards.environment()}
        self._spawner = Spawner(self._loop, self._children, log, env)
        table = RouterTable(self._supervisor, self._events, settings.emperor.routers)
        self._routers = Routers(
            self._loop,
            log,
            lambda seat: Router(
                seat,
                self._loop,
                self._children,
                log,
                self._run_dir,
                table,
                env,
                None if self._router_user is None else str(self._router_user.uid),
                sharedout.arguments_of_each(self._settings),
            ),
            lambda: self._gateways.turn(),
            self._give_backplanes,
            lambda: self._settings.emperor.router_mercy_s,
        )
        self._tenants = Tenants(self._loop, self._children)
        self._fifos = Fifos(self._loop, self._tenants, log, self._commands.letter)
        self._triggers = Triggers(self._loop, log, self.reload_file, self._fifos)
        self._probations = Probations(self._loop, self._supervisor, self._routers.counts, self._act)
        said = settings.emperor
        self._listeners = SharedListeners(said, self._run_dir, self._routers, log)
        self._doors = Doors(
            self._loop,
            self._tenants,
            self._routers,
            log,
            Shared(said.forwarded_allow, said.forwarded_fields, said.routers),
        )
        self._access_logs = AccessLogs(self._loop, self._tenants, log, self._routers.send)
        self._subscribed = Subscribed(
            self._loop,
            lambda *asked: self._router.ask(*asked),
            lambda: (self._router.seat, self._router.pid),
            lambda: self._routers.peers,
        )
        self._announcements = Announcements(self._loop, self._tenants, log, self._routers.announce)
        self._keyring = Keyring(
            self._loop,
            settings.emperor.keys_dir or default_directory(os.geteuid(), os.environ),
            settings.emperor.router,
            log,
            self._routers.use_keys if settings.emperor.backplane is not None else None,
        )
        self._gateways = Gateways(
            self._loop,
            self._children,
            self._spawner,
            log,
            self._run_dir,
            self,
            lambda generation: environment_of(generation.reading, whole=single is not None),
            self._routers.give,
            lambda file: file == self._files.only,
            settings.router.orphan_timeout_s,
            self._routers.endpoints,
            lambda: ROUTERS if self._routers.share else 1,
            self._keyring.remotes,
        )
        table.use(self._gateways, self._access_logs, self._announcements, self._subscribed)
        self._emptying = Emptying(self._loop, self._routers, self._gateways.leave, lambda: self.stopping)
        self._forwarded = Forwarded(self._loop, self, lambda take: self._routers.stats(take))
        self._monitor = DirectoryMonitor(self._loop, self._places, self._changed, log)
        self._files = Files(
            settings,
            self._places,
            self._supervisor,
            Reader(settings, self._places, single is not None, self._monitor.also, self._router_uids),
            self._triggers,
            self._monitor,
            log,
            self._fault,
            self._children.may_stay,
        )
        self._mending = Mending(self._loop, self._run_dir, log, self._locks.lock_run_dir, self._held)
        self._reporting = Reporting(
            self._loop,
            self._supervisor,
            self._routers,
            self._spawner,
            self._doors,
            self._report,
            lambda: [self._access_logs.troubles, self._fifos.troubles, self._announcements.troubles],
        )
        self._sockets = OwnSockets(
            self._loop, self._run_dir, said.stats, self._commands.operations(), self._reporting.give_text
        )
        self._paused = pauses.Kept(self._run_dir.paused, log)
        self._estate = Estate(
            self._loop,
            self._children,
            self._supervisor,
            self._events,
            self._triggers,
            self._files,
            self._tenants,
            self._spawner,
            self._routers,
            self._listeners,
            self._doors,
            self._sockets,
            self._commands,
            self._gateways,
            self._forwarded,
            listening=self,
        )
        self._ending = Ending(
            self._loop,
            self._children,
            self._supervisor,
            self._routers,
            self._gateways,
            self._spawner,
            self._doors,
            self._fifos,
            log,
            self._rest,
            self._ended,
        )
        self._versions = Versions(
            self._loop,
            self._children,
            self._estate,
            self._commands,
            self._events,
            log,
            self._notify,
            self._facts,
            self._summary,
            lambda: self.stopping,
        )
        self._seen_first = False
        self._up = False
        self._reloading = False
        self._reload_waits = False
        self._acting = False
        self._tick: Timer | None = None

    def run(self) -> int:
        """Be the emperor until told to stop; the exit code. Raises StartFailed."""
        try:
            self._begin()
        except (RunDirError, BindError, OSError) as error:
            self._let_go()
            self._run_dir.clear_if_empty()
            raise StartFailed(str(error)) from error
        try:
            self._loop.run()
        finally:
            self._let_go()
        if self._failure:
            raise StartFailed(self._failure)
        return EXIT_STOPPED

    # -- the start ----------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._locks.lock_places(self._handed)
        self._run_dir.make()
        self._locks.lock_run_dir(self._handed)
        process.set_title(f"emperor: {self._places}")
        process.set_subreaper()
        descriptors.raise_limit()
        if guards.environment():
            self._log.warning(f"guards are left out for a test: {guards.environment()}")
        for signum, act in (
            (signal.SIGTERM, self._stop_asked),
            (signal.SIGINT, self._stop_asked),
            (signal.SIGHUP, self._reload_asked),
            (signal.SIGUSR1, self._reopen_asked),
        ):
            self._loop.on_signal(signum, act)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        if self._handed is None:
            self._take_over(adoption.find(self._run_dir, self._log))
        else:
            self._go_on_from(self._handed)
        if self._single is None:
            self._log.info(f"watching {self._places}, run directory {self._run_dir.path}")
        elif self._single.sources:
            self._code = CodeMonitor(self._loop, self._single.sources, self._code_changed, self._log)
            self._log.info(f"serving {self._single.title}, watching {', '.join(self._single.sources)}")
        self._monitor.start()
        self._mending.start()
        if self._settings.emperor.subscription_server:
            self._subscribed.start()
        self._watchdog()

    def _write_places(self) -> None:
        Path(self._run_dir.places).write_text("".join(f"{place.path}\n" for place in self._places.places))

    def _held(self) -> dict[str, Callable[[], None]]:
        """What has to be in the run directory now, and how each thing is made again."""
        found: dict[str, Callable[[], None]] = {
            self._run_dir.places: self._write_places,
            **self._sockets.held(),
            **self._paused.held(),
            **self._routers.held(),
            **self._gateways.held(),
        }
        for listener in self._router.listeners:
            if listener.address == f"unix:{self._run_dir.uwsgi}":
                found[self._run_dir.uwsgi] = partial(self._listeners.listen_again, listener)
        for path, (router, name) in self._routers.backplanes_held().items():
            found[path] = partial(self._bind_backplane, router, name)
        return found

    @property
    def _router(self) -> Router:
        """The one that lets clients in."""
        return self._routers.main

    def _let_routers_be(self) -> None:
        """As many as the settings say, now that those of the emperor before us are known."""
        count = self._settings.emperor.routers
        several.settle(self._routers, self._gateways, count, self._log)
        if count > 1:
            Silence(self._loop, lambda: self._routers.all, self._log.error).watch()

    def _owner(self, name: str) -> tuple[int | None, int | None]:
        """Whose the workers of a vassal are."""
        vassal = self._supervisor.by_name(name)
        reading = None if vassal is None else vassal.current.reading if vassal.current else vassal.wish
        return (None, None) if reading is None else (reading.uid, reading.gid)

    def _bind_backplane(self, router: Router, name: str) -> None:
        router.backplane_again(name, router.backplanes.bind_again(name, *self._owner(name)))

    def _give_backplanes(self, router: Router) -> None:
        """Let the workers of all vassals that have a backplane reach this router too."""
        for name in self._router.backplanes.names:
            try:
                router.backplanes.give(name, *self._owner(name))
            except BindError as error:
                self._log.error(f"{name}: {error}")

    def _watchdog(self) -> None:
        """Say twice within the time that systemd waits that this loop still turns: also while it stops."""
        if self._notify.watchdog_s is not None:
            self._notify.watchdog()
            self._loop.call_later(self._notify.watchdog_s / 2, self._watchdog)

    def _take_over(self, found: Found) -> None:
        """Open what is not open yet, and go on with what an emperor before us has left. Raises BindError, and then nothing has
        been changed."""
        took = TakeOver(
            self._loop,
            self._supervisor,
            self._routers,
            self._gateways,
            self._listeners,
            self._doors,
            self._places,
            self._log,
            lambda: self._settings.emperor.router_mercy_s,
        )
        # What can fail comes before what would have to be ended again.
        handed = [] if found.router is None else [each for each in found.router.listeners if not each.vassal]
        fresh: list[Listener] = []
        try:
            fresh = self._listeners.open(handed)
            self._sockets.open()
        except BindError:
            for each in [*fresh, *handed]:
                each.sock.close()
            raise
        took.use_routers(found)
        for listener in fresh:
            self._routers.listen(listener)
        self._routers.start()
        self._write_places()
        self._spawner.start()
        self._supervisor.remember_paused(self._paused.read())
        took.use_gateways(found)
        self._files.remember(took.files, took.only)
        self._adopted = took.adopted
        what = f"pid {os.getpid()}, {self._places}"
        if found.gateways:
            what += f"; took over {len(found.gateways)} gateways"
        self._events.add("emperor", "", f"has started: {what}")
        self._let_routers_be()
        self._act()

    # -- becoming another version -------------------------------------------------------------------------

    def rehearse(self, handed: Handover) -> list[str]:
        """As the trial of a version that is to take over: look at everything, and change nothing. What is wrong."""
        document = handed.document
        try:
            self._estate.recall(document)
            self._files.rehearse(document)
        except (KeyError, ValueError) as error:
            return [f"what version {document.get('version')} hands over cannot be understood: {error}"]
        places = [place.path for place in self._places.places]
        found = rehearsal.rehearse(document, self._run_dir, places, self._files.check_unless_edited)
        return found + rehearsal.new_addresses(document, self._listeners.wanted())

    def _go_on_from(self, handed: Handover) -> None:
        """Take up everything where the program before us in this process has left it. Raises StartFailed."""
        document = handed.document
        for signum in document.get("signals", ()):
            os.kill(os.getpid(), signum)  # they had come before the exec, and nobody had acted on them
        signals.set_mask(signals.SIG_SETMASK, ())
        try:
            self._versions.resume(handed)
        except (KeyError, TypeError, ValueError) as error:
            raise StartFailed(
                f"what version {document.get('version')} has handed over cannot be understood: {error!r}; the apps "
                "serve on: start the emperor again, and it takes them over"
            ) from error
        self._write_places()
        self._let_routers_be()
        self._act()

    def upgrade(self, program: str, by: str, reply: Reply, keep_router: bool) -> None:
        """Become another version, and replace the router then, if it is not to be kept. Raises Refused."""
        if self._single is not None:
            raise Refused(
                f"upgrade: {self._single.title} is served without a file: end `emperor run` and start it anew"
            )
        if not self._up or not self._seen_first:
            raise Refused("upgrade: the emperor is still starting: ask again when it has")
        self._versions.upgrade(program, by, reply, keep_router)

    def replace_router(self, by: str, reply: Reply) -> None:
        """Put another router in the place of the one that runs. Raises Refused."""
        if not self._up or not self._seen_first:
            raise Refused("upgrade: the emperor is still starting: ask again when it has")
        self._versions.replace_router(by, reply)

    def _facts(self, keep: Keep) -> dict[str, Any]:
        """What the next program needs to know of this process."""
        return {
            "pid": os.getpid(),
            "uid": os.geteuid(),
            "started": self._started,
            "upgrades": self._upgrades_done,
            "adopted": self._adopted,
            "run_dir": self._run_dir.path,
            "places": [place.path for place in self._places.places],
            "locks": [keep(fd) for fd in self._locks.fds],
        }

    # -- files --------------------------------------------------------------------------------------------

    def _changed(self, changes: Sequence[Change]) -> None:
        if self.stopping:
            return
        self._files.take(changes, first=not self._seen_first)
        self._act()
        if not self._seen_first:
            self._seen_first = True
            self._doors.settle(each.name for each in self._supervisor.vassals.values())
            self._routers.table_is_whole(self._maybe_up)
            self._maybe_up()
            if self._reload_waits:
                self._reload_asked()

    def _router_uids(self) -> set[int]:
        """Whom the router runs as, but root; one that was taken over may be another user's than the next."""
        started = set() if self._router_user is None else {self._router_user.uid}
        running = {process.uid_of(each.pid) for each in self._routers.all if each.pid}
        return {uid for uid in started | running if uid}

    # -- carrying out -------------------------------------------------------------------------------------

    def _act(self) -> None:
        """Carry out what the supervisor has decided, until nothing is left."""
        if self._acting:
            return
        self._acting = True
        try:
            while actions := self._supervisor.take_actions():
                for action in actions:
                    self._carry_out(action)
        finally:
            self._acting = False
        if not self.stopping:
            self._arm_tick()
            self._probations.watch()
            self._maybe_up()

    def _carry_out(self, action: Any) -> None:
        match action:
            case Tell(name):
                self._routers.tell(name)
                if not self.stopping:
                    self._doors.want(name, self._supervisor.readings(name))
                    self._announcements.want(name, self._serving(name))
            case Spawn(generation) if generation.reading.elsewhere:
                self._forwarded.start(generation)
            case Leave(generation, empty_queue) if generation.reading.elsewhere:
                self._forwarded.leave(generation, generation.leave_within_s if empty_queue else 0.0)
            case End(generation) if generation.reading.elsewhere:
                self._forwarded.leave(generation, 0.0)
            case Remember(generation):
                self._gateways.keep(generation)
            case Seats(generation, open_, within_s):
                self._gateways.set_seats(generation, open_, within_s)
            case Spawn(generation):
                self._mending.before_spawn()
                self._gateways.spawn(generation)
            case Leave(generation, empty_queue):
                if empty_queue and generation.was_ready:
                    self._emptying.leave(generation, generation.leave_within_s)
                else:
                    self._gateways.leave(generation, generation.leave_within_s)
            case End(generation):
                self._gateways.end(generation)
            case Reread(file):
                if file in self._files and not self.stopping:
                    self._files.read(file, "a name that it wants has become free")
            case Forget(name):
                self._routers.forget(name)
                self._commands.forgotten()
                self._paused.save(self._supervisor.paused)
            case Settled(file):
                self._commands.settled(file)
                self._give_up_if_alone(file)
                if self._up:
                    self._notify.status(self._summary())
            case Say(level, text, kind, name, by):
                for line in text.splitlines() if level else ():
                    self._log.write(level, line)
                if kind:
                    self._events.add(kind, name, text.removeprefix(f"{name}: ").removeprefix(f"{name} "), by)

    def _code_changed(self, path: str) -> None:
        if not self.stopping:
            text = f"{path or 'a source file'} has changed"
            self._log.info(text)
            self.reload_all(text)

    def _give_up_if_alone(self, file: str) -> None:
        """One app without a file, that did not start: nobody will edit it while we wait."""
        if self._single is None or self._single.sources or self.stopping:
            return
        vassal = self._supervisor.vassals.get(file)
        failed = (State.BACKOFF, State.GIVEN_UP, State.REFUSED)
        if vassal is not None and vassal.state in failed and not vassal.ever_ready:
            self._failure = f"{self._single.title} did not start: {vassal.reason}"
            self._loop.call_soon(self._stop_asked)

    def _arm_tick(self) -> None:
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        when = self._supervisor.wake_at()
        if when is not None:
            self._tick = self._loop.call_at(when, self._ticked)

    def _ticked(self) -> None:
        self._tick = None
        if not self.stopping:
            self._supervisor.tick()
            self._act()

    # -- what the gateways' end tells (Gateways.Listening) ------------------------------------------------

    def spawned(self, generation: Generation, pid: int) -> None:
        self._supervisor.spawned(generation, pid)
        self._act()

    def spawn_lost(self, generation: Generation) -> None:
        self._supervisor.spawn_lost(generation)
        self._after_an_end()

    def ready(self, generation: Generation) -> None:
        if not self.stopping:
            self._supervisor.ready(generation)
            self._act()

    def failed(self, generation: Generation, reason: str) -> None:
        if not self.stopping:
            self._supervisor.failed(generation, reason)
            self._act()

    def gone(self, generation: Generation, exit_text: str, killed: bool) -> None:
        self._supervisor.gone(generation, exit_text, killed)
        self._after_an_end()

    def worker(self, generation: Generation, before: Worker | None, now: Worker) -> None:
        self._supervisor.worker(generation, before, now)
        self._act()

    def code_changed(self, generation: Generation, path: str) -> None:
        vassal = self._supervisor.vassals.get(generation.file)
        if vassal is not None and vassal.serving == generation.number:
            self._triggers.fire(generation.file, f"{path} has changed")

    def _after_an_end(self) -> None:
        self._act()
        self._ending.look()

    def _serving(self, name: str) -> Reading | None:
        """The reading by which a vassal is served now."""
        vassal = self._supervisor.by_name(name)
        return None if vassal is None or vassal.current is None else vassal.current.reading

    # -- being up -----------------------------------------------------------------------------------------

    def _maybe_up(self) -> None:
        """Say so once what was there at the start has come up, or has failed to."""
        if self.stopping or not self._seen_first or not self._routers.are_up:
            return
        if self._handed is not None:
            document, self._handed = self._handed.document, None
            self._up = True
            self._notify.ready(self._summary())
            self._versions.has_become(document)
            return
        if not self._supervisor.all_settled():
            return
        if self._reloading and self._up:
            self._reloading = False
            self._notify.ready(self._summary())
        if not self._up:
            self._up = True
            self._notify.ready(self._summary())
            self._log.info(f"{self._summary()} after {time.monotonic() - self._began:.2f} s")
            for line in self._addresses():
                self._log.info(line)

    def _summary(self) -> str:
        return summary.summary(self._supervisor.vassals.values())

    def _addresses(self) -> list[str]:
        """What to type, to see each vassal."""
        if self._single is not None:
            return summary.where_it_is(self._single.title, self._listeners.http)
        vassals = self._supervisor.vassals.values()
        return summary.where_to_look(vassals, self._listeners.http, str(self._places))

    # -- signals and the operator -------------------------------------------------------------------------

    def _reload_asked(self) -> None:
        if not self._seen_first:
            self._reload_waits = True  # nobody knows yet what there is to reload
        elif not self.stopping:
            self.reload_all("SIGHUP")

    def _take_new_settings(self) -> None:
        """What the settings file says now, as far as it can be had without a new start."""
        if self._reread_settings is None:
            return
        try:
            new = self._reread_settings()
        except ConfigError as error:
            for line in str(error).splitlines():
                self._log.error(f"the settings stay as they are: {line}")
            return
        self._settings, waiting = take_up(self._settings, new)
        if waiting:
            self._log.warning(f"the new {', '.join(waiting)} will count from the next start on")
        self._files.use(self._settings)
        self._routers.use(sharedout.arguments_of_each(self._settings))

    @property
    def stopping(self) -> bool:
        return self._ending.begun

    def has_file(self, file: str) -> bool:
        return file in self._files

    def reload_all(self, by: str) -> list[str]:
        """Read the settings and the files of all vassals again and start new generations; their names."""
        self._take_new_settings()
        return self._reload(self._files.all, by)

    def reload_file(self, file: str, by: str, rolling: bool = False) -> None:
        """The same for one vassal's file, if it is there; `rolling`: worker by worker, whatever it says."""
        if file in self._files and not self.stopping:
            self._reload([file], by, rolling)

    def _reload(self, files: list[str], by: str, rolling: bool = False) -> list[str]:
        self._reloading = True
        self._notify.reloading()
        for file in files:
            self._files.read(file, by, rolling)
        names = [self._supervisor.vassals[file].name for file in files if file in self._supervisor.vassals]
        self._log.info(f"reload of {', '.join(names) or 'nothing'} ({by})")
        for name in names:
            self._events.add("reload", name, "reload", by)
        self._act()
        return names

    def roll_back(self, file: str, by: str) -> str:
        """Go back to the reading before. Raises LookupError, saying why not."""
        try:
            said = self._supervisor.roll_back(file, by)
        finally:
            self._act()
        self._triggers.want(file, self._supervisor.vassals[file].wish)
        return said

    def promote(self, file: str, by: str) -> str:
        """Let the generation that proves itself have all requests. Raises LookupError, saying why not."""
        try:
            return self._supervisor.promote(file, by)
        finally:
            self._act()

    def pause(self, name: str, mode: str, by: str) -> None:
        """`refuse` or `hold` a vassal's requests, or (empty) serve them again."""
        self._supervisor.pause(name, mode, by)
        self._act()
        self._paused.save(self._supervisor.paused)

    def log_line(self, text: str) -> None:
        self._log.info(text)

    def reopen_logs(self, name: str = "") -> list[str]:
        """Open every log file, or those of one vassal, by its name again: what had it has been moved away."""
        self._gateways.reopen_logs(name)
        names = self._access_logs.reopen(name)
        self._log.info(f"log files are opened anew ({len(names)} access log{'s' * (len(names) != 1)})")
        return names

    def _reopen_asked(self) -> None:
        if not self.stopping:
            self.reopen_logs()

    def stop(self) -> None:
        """Drain, and the second time be fast."""
        self._stop_asked()

    def trace(self, vassal: Vassal, take: Callable[[dict[str, Any]], None]) -> None:
        """Where its workers are, of all its generations."""
        look(vassal, self._gateways, self._routers.all, self._loop, take)

    # -- statistics ---------------------------------------------------------------------------------------

    def whole_document(self, take: Callable[[dict[str, Any]], None]) -> None:
        self._reporting.give(take)

    def _report(self) -> EmperorReport:
        return EmperorReport(
            pid=os.getpid(),
            uid=os.geteuid(),
            directory=str(self._places),
            run_dir=self._run_dir.path,
            started=self._started,
            since=self._since,
            upgrades=self._upgrades_done,
            state="stopping" if self.stopping else "running" if self._up else "starting",
            adopted=int(self._adopted),
            log_dropped=self._log.dropped,
            vassal_log_dropped=self._gateways.log_dropped,
            trouble="; ".join(filter(None, (self._monitor.trouble, self._mending.trouble))),
            listeners=[
                {"kind": each.kind, "address": each.address}
                for each in self._router.listeners
                if not each.vassal
            ],
            omitted=guards.environment().get(guards.VARIABLE, ""),
        )

    # -- the end ------------------------------------------------------------------------------------------

    def _stop_asked(self) -> None:
        """TERM, INT or `emperor stop`: drain. The second time: fast."""
        self._ending.ask()

    def _rest(self) -> None:
        """The end has begun: nothing else does."""
        self._versions.close("the emperor is stopping")
        self._notify.stopping()
        self._monitor.close()
        self._mending.close()
        self._triggers.close()
        self._subscribed.close()
        self._fifos.remove_all()
        self._supervisor.close()
        if self._tick is not None:
            self._tick.cancel()

    def _ended(self) -> None:
        self._run_dir.clear()
        self._loop.stop()

    def _let_go(self) -> None:
        """Give back what this process holds. Processes live on: after a stop there are none."""
        self._monitor.close()
        self._mending.close()
        self._triggers.close()
        self._fifos.close()
        if self._code is not None:
            self._code.close()
        self._sockets.close()
        self._routers.close()
        self._gateways.close()
        self._spawner.close()
        self._tenants.close()
        self._children.close()
        self._loop.close()
        self._locks.close()

    # -- small things -------------------------------------------------------------------------------------

    def _fault(self, error: Exception) -> None:
        """A fault of ours in one callback: say where, and go on governing."""
        self._log.error(f"a fault of the emperor's, please report: {error!r}")
        for line in "".join(traceback.format_exception(error)).splitlines():
            self._log.error(line)


def run(
    settings: Settings, single: Single | None = None, reread: Callable[[], Settings] | None = None
) -> int:
    """Be an emperor that logs to standard error; its exit code. `reread` gives the settings anew, at a reload of all.
    Raises StartFailed."""
    trial, fd = handover.trial_of(os.environ), handover.taken(os.environ)
    sink = FdSink(sys.stderr.fileno())
    log = Log("emperor", sink)
    try:
        for warning in settings.warnings:
            log.warning(str(warning))
        if trial is not None:
            return _try(settings, log, *trial)
        return Emperor(settings, log, single, reread, None if fd is None else handover.read(fd)).run()
    except Unreadable as error:
        raise StartFailed(str(error)) from error
    finally:
        sink.close()


def _try(settings: Settings, log: Log, document: int, answer: int) -> int:
    """Be the trial of a version that is to take over; an exit code. Raises Unreadable, StartFailed."""
    process.set_parent_death_signal(signal.SIGKILL)
    handed = handover.read(document)
    if os.getppid() != handed.document["pid"]:
        return EXIT_FAILED  # it has ended, and nobody waits for the answer
    rehearsal.answer(answer, Emperor(settings, log, handed=handed).rehearse(handed))
    return EXIT_STOPPED
