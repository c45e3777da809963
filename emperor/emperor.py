"""Assembly of the emperor process: the one place where the parts meet.

Owns the lock on the vassal directory, the run directory, every listening socket, and the order in which
things start and end. It decides nothing about vassals (the supervisor does) and runs none of their code; it
imports no ZeroMQ and no HTTP server, since what aborts or is attacked must not take everything with it.

Files and signals set the wish, the supervisor's actions are carried out, and the router is told the
difference. A kill -9 of this process harms nobody: routers and gateways serve on, and the next emperor
takes them over (`adoption`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pwd
import random
import resource
import secrets
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from socket import socket
from typing import Any

from emperor import __version__, notify, privileges
from emperor.config import ConfigError, load_vassal, rights
from emperor.config.keys import default_directory
from emperor.config.problems import Problem, Source
from emperor.config.remote import SCHEME
from emperor.config.settings import SETTINGS, Settings, as_arguments, layers_of
from emperor.control.server import ControlServer, Refused, Reply
from emperor.log import FdSink, Log
from emperor.monitors.code import CodeMonitor
from emperor.monitors.directory import DirectoryMonitor, read_digest
from emperor.monitors.places import PlaceError, Places
from emperor.monitors.scan import Change, Identity, Kind
from emperor.protocol import guards
from emperor.stats.model import ROUTER_ANSWER_S, EmperorReport, RouterReport, SpawnerReport, document
from emperor.stats.server import StatsServer
from emperor.supervisor import (
    adoption,
    edits,
    handover,
    interpreter,
    pauses,
    process,
    rehearsal,
    room,
    signals,
    sockets,
)
from emperor.supervisor.accesslogs import AccessLogs
from emperor.supervisor.announcements import Announcements
from emperor.supervisor.children import Children
from emperor.supervisor.commands import Commands
from emperor.supervisor.doors import Doors, Shared
from emperor.supervisor.events import Events
from emperor.supervisor.fifos import Fifos
from emperor.supervisor.forwarded import Forwarded
from emperor.supervisor.gateways import Gateways
from emperor.supervisor.handover import Handover, Keep, Unreadable
from emperor.supervisor.keyring import WORKERS, Keyring
from emperor.supervisor.looking import Look
from emperor.supervisor.loop import Loop, Timer
from emperor.supervisor.mending import Mending
from emperor.supervisor.probation import Probations
from emperor.supervisor.reading import Reading
from emperor.supervisor.routers import SEAT, Listener, Router
from emperor.supervisor.rundir import (
    RunDir,
    RunDirError,
    derived,
    lock_directory,
    lock_pattern,
    pattern_lock,
    run_root,
)
from emperor.supervisor.sockets import Address, BindError
from emperor.supervisor.spawner import Spawner
from emperor.supervisor.stopping import Unneeded
from emperor.supervisor.subscribed import Subscribed
from emperor.supervisor.succession import Routers
from emperor.supervisor.supervisor import (
    ROUTERS,
    End,
    Forget,
    Generation,
    Leave,
    Phase,
    Remember,
    Reread,
    Say,
    Seats,
    Settled,
    Spawn,
    Supervisor,
    Tell,
    Vassal,
    Wanted,
    Worker,
)
from emperor.supervisor.tenant import Tenant, Tenants
from emperor.supervisor.triggers import Triggers
from emperor.supervisor.upgrading import Upgrades
from emperor.supervisor.vassal import SERVING, State

STOP_TIMEOUT_S = 8.0
"""For everything together: below the 10 s that container run-times wait before they kill."""

ROUTER_DRAIN_S = 6.8
LAST_S = 0.7  # before the end, what is left of gateways is ended
FAST_S = 1.5

QUEUE_LOOK_S = 0.05

OWN_STATS = "stats.sock"
"""The one in the run directory, among the addresses of statistics."""

EXIT_STOPPED = 0
EXIT_FAILED = 1

_PASSED_ON = ("PATH", "TZ", "TMPDIR", "LANG", "LANGUAGE")
"""What a vassal gets of the emperor's environment, and LC_*: nothing that one tenant should not know of
another."""


_LIVE = (
    "vassal_set",
    "vassals_include",
    "vassals_include_before",
    "vassals_inherit",
    "vassals_inherit_before",
    "refuse_root",
    "auto_reload",
    "router_mercy_s",
)
"""Settings of the emperor's own that a reload takes up; the others are for its start."""


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
        self._http = tuple(Address.parse(each) for each in settings.emperor.http)
        self._log = log
        try:
            self._places = Places.named(settings.emperor.vassals)
        except PlaceError as error:
            raise StartFailed(str(error)) from error
        self._run_root = run_root(os.geteuid(), dict(os.environ))
        self._router_user = _router_user(settings.emperor.router_user, log)
        run_dir = settings.emperor.run_dir or str(derived(self._run_root, Path(self._places.places[0].path)))
        self._layers = layers_of(settings.emperor, settings.origins)
        self._run_dir = RunDir(run_dir)
        self._use_modes()
        self._notify = notify.Notify()
        self._handed = handed
        self._since = int(time.time())
        before: Mapping[str, Any] = {} if handed is None else handed.document
        self._started = before.get("started", self._since)
        self._upgrades_done = before.get("upgrades", -1) + 1
        self._began = time.monotonic()
        self._adopted = bool(before.get("adopted", False))
        self._loop = Loop(on_error=self._fault)
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
        self._routers = Routers(
            self._loop,
            log,
            lambda seat: Router(
                seat,
                self._loop,
                self._children,
                log,
                self._run_dir,
                self,
                env,
                None if self._router_user is None else str(self._router_user.uid),
                as_arguments(self._settings.router),
            ),
            lambda: self._gateways.turn(),
            self._give_backplanes,
            lambda: self._settings.emperor.router_mercy_s,
        )
        self._tenants = Tenants(self._loop, self._children)
        self._fifos = Fifos(self._loop, self._tenants, log, self._commands.letter)
        self._triggers = Triggers(self._loop, log, self.reload_file, self._fifos)
        self._probations = Probations(
            self._loop, self._supervisor, lambda *asked: self._router.counts(*asked), self._act
        )
        said = settings.emperor
        self._doors = Doors(
            self._loop, self._tenants, self._routers, log, Shared(said.forwarded_allow, said.forwarded_fields)
        )
        self._access_logs = AccessLogs(self._loop, self._tenants, log, self._routers.send)
        self._subscribed = Subscribed(
            self._loop, lambda *asked: self._router.ask(*asked), lambda: (self._router.seat, self._router.pid)
        )
        self._announcements = Announcements(self._loop, self._tenants, log, self._routers.send)
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
            self._environment,
            self._routers.give,
            lambda file: file == self._only,
            settings.router.orphan_timeout_s,
            self._routers.endpoints,
            lambda: ROUTERS if self._router.shares else 1,
            self._keyring.remotes,
        )
        self._forwarded = Forwarded(self._loop, self, lambda take: self._routers.stats(take))
        self._monitor = DirectoryMonitor(self._loop, self._places, self._changed, log)
        self._mending = Mending(self._loop, self._run_dir, log, self._lock_run_dir, self._held)
        self._stats = StatsServer(self._loop, self._stats_document)
        self._control: ControlServer | None = None
        self._paused = pauses.Kept(self._run_dir.paused, log)
        self._locks: list[int] = []
        self._run_dir_lock = -1
        self._identities: dict[str, Identity] = {}
        self._identities_before: dict[str, Identity] = {}
        self._upgrades = Upgrades(self._loop, self._children, self, lambda: self._notify.variables)
        self._keeps_router = False
        self._owed: list[Reply] = []  # who waits to hear that we are the new version
        self._only: str | None = None
        self._former: set[str] = set()  # files that the emperor before us knew
        self._seen_first = False
        self._up = False
        self._reloading = False
        self._reload_waits = False
        self._acting = False
        self._tick: Timer | None = None
        self._stopping: str = ""
        self._unneeded: Unneeded | None = None
        self._deadline = 0.0
        self._ending = False

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
        self._lock_places()
        self._run_dir.make()
        self._lock_run_dir()
        process.set_title(f"emperor: {self._places}")
        process.set_subreaper()
        _raise_descriptor_limit()
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
            found = adoption.find(self._run_dir, self._log)
            self._open_doors(found)  # what can fail comes before what would have to be ended again
            self._write_places()
            self._spawner.start()
            self._take_over(found)
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

    def _lock_run_dir(self) -> None:
        """Hold the run directory, the one that has this path now. Raises Locked, RunDirError."""
        if self._run_dir_lock >= 0:
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(self._run_dir_lock), os.stat(self._run_dir.path)):
                    return
        held = self._lock_of(self._run_dir.path)
        fd = lock_directory(self._run_dir.path) if held is None else held
        if self._run_dir_lock >= 0:
            os.close(self._run_dir_lock)
        self._run_dir_lock = fd

    def _held(self) -> dict[str, Callable[[], None]]:
        """What has to be in the run directory now, and how each thing is made again."""
        found: dict[str, Callable[[], None]] = {
            self._run_dir.control: self._listen_for_commands,
            self._run_dir.stats: self._listen_for_statistics,
            self._run_dir.places: self._write_places,
            **self._paused.held(),
            **self._routers.held(),
            **self._gateways.held(),
        }
        for listener in self._router.listeners:
            if listener.address == f"unix:{self._run_dir.uwsgi}":
                found[self._run_dir.uwsgi] = partial(self._listen_again, listener)
        for path, (router, name) in self._routers.backplanes_held().items():
            found[path] = partial(self._bind_backplane, router, name)
        return found

    def _listen_for_commands(self) -> None:
        sock = sockets.listen(Address(path=self._run_dir.control), 0o600)
        if self._control is None:
            self._control = ControlServer(self._loop, sock, self._commands.operations())
        else:
            self._control.listen_at(sock)

    def _listen_for_statistics(self) -> None:
        if OWN_STATS in self._stats.listening:
            self._stats.unlisten(OWN_STATS)
        self._stats.listen(sockets.listen(Address(path=self._run_dir.stats), 0o600), OWN_STATS)

    def _listen_again(self, listener: Listener) -> None:
        """Another socket for a listener of all vassals, whose path has vanished."""
        mode, user, group = self._dress()
        address = Address.parse(listener.address)
        sock = sockets.listen(address, mode)
        sockets.dress(address.path, mode, user, group)
        self._routers.listen(replace(listener, sock=sock))
        listener.sock.close()

    @property
    def _router(self) -> Router:
        """The one that lets clients in."""
        return self._routers.main

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

    def _lock_places(self) -> None:
        held: set[tuple[int, int]] = set()
        for place in self._places.places:
            if place.is_pattern:
                held_already = self._lock_of(pattern_lock(self._run_root, place.path))
                self._locks.append(
                    lock_pattern(self._run_root, place.path) if held_already is None else held_already
                )
                continue
            with contextlib.suppress(OSError):
                status = os.stat(place.path)
                if (status.st_dev, status.st_ino) in held:
                    continue  # the same one by another path
                held.add((status.st_dev, status.st_ino))
            self._lock(place.path)

    def _lock(self, path: str) -> None:
        held = self._lock_of(path)
        self._locks.append(lock_directory(path) if held is None else held)

    def _lock_of(self, path: str) -> int | None:
        return None if self._handed is None else self._handed.lock_on(path)

    def _wanted_listeners(self) -> list[tuple[str, Address]]:
        """What all vassals share, by kind and address."""
        wanted = [("http", address) for address in self._http]
        wanted += [("uwsgi", Address(path=self._run_dir.uwsgi))]
        wanted += [("uwsgi", Address.parse(each)) for each in self._settings.emperor.uwsgi]
        wanted += [
            ("subscription", Address.parse(each)) for each in self._settings.emperor.subscription_server
        ]
        backplane = self._settings.emperor.backplane
        if backplane is not None:
            wanted.append((WORKERS, Address.parse(backplane.removeprefix(SCHEME))))
        return wanted

    def _open_doors(self, found: adoption.Found) -> None:
        """Bind what the router has not handed back. Raises BindError, and then nothing has been changed."""
        wanted = self._wanted_listeners()
        handed = {
            (each.kind, each.address): each
            for each in (found.router.listeners if found.router is not None else [])
            if not each.vassal
        }
        terms = self._terms()
        fresh: list[Listener] = []
        try:
            mode, user, group = self._dress()
            for kind, address in dict.fromkeys(wanted):
                before = handed.get((kind, str(address)))
                if before is None:
                    fresh.append(
                        Listener(kind, str(address), sockets.open_at(kind, address, mode), terms=terms)
                    )
                elif before.terms != terms:
                    fresh.append(Listener(kind, str(address), before.sock, terms=terms))
                if address.path:
                    sockets.dress(address.path, mode, user, group)
            if self._settings.emperor.stats is not None:
                address = Address.parse(self._settings.emperor.stats)
                self._stats.listen(sockets.listen(address), str(address))
            self._listen_for_statistics()
            self._listen_for_commands()
        except BindError:
            for each in [*fresh, *handed.values()]:
                each.sock.close()
            raise
        if found.router is not None:
            self._adopt_router(found.router, {(kind, str(address)) for kind, address in wanted})
        for other in found.leaving:
            self._adopt_leaving(other)
        for listener in fresh:
            self._routers.listen(listener)
        if not self._router.pid:
            self._routers.start()

    def _adopt_router(self, found: adoption.FoundRouter, wanted: set[tuple[str, str]]) -> None:
        router = self._routers.main_in(found.seat)
        for name, sock in found.backplanes.items():
            router.backplanes.adopt(name, sock)
        try:
            router.adopt(found.channel, found.pid, found.hello, found.listeners)
        except ProcessLookupError:
            found.channel.close()
            for listener in found.listeners:
                router.listen(listener)
            return
        self._adopted = True
        self._log.info(f"took over router {found.seat}, pid {found.pid}")
        for listener in found.listeners:
            if not listener.vassal and (listener.kind, listener.address) not in wanted:
                self._routers.unlisten(listener)
        self._doors.adopt(each for each in found.listeners if each.vassal)

    def _adopt_leaving(self, found: adoption.FoundRouter) -> None:
        """Another router than the one that serves: it was to leave, or was to come and has not let anybody in yet."""
        for listener in found.listeners:
            listener.sock.close()
        mercy_s = self._settings.emperor.router_mercy_s if found.hello.get("complete") is True else 0.0
        try:
            self._routers.adopt_leaving(
                found.seat, found.channel, found.pid, found.hello, found.backplanes, mercy_s
            )
        except ProcessLookupError:
            return
        self._log.info(f"took over router {found.seat}, pid {found.pid}, which leaves")

    def _terms(self) -> dict[str, Any]:
        """What holds at the listeners that all vassals share."""
        said = self._settings.emperor
        return {
            "vassal": "",
            "forwarded": list(said.forwarded_allow),
            "fields": sorted(said.forwarded_fields),
            "trusted": list(said.uwsgi_trusted),
            "proxies": list(said.proxy_protocol),
            "backlog": sockets.BACKLOG,
            "tls": False,
            "ciphers": "",
            "note": "",
        }

    def _dress(self) -> tuple[int, int | None, int | None]:
        """Mode, owner and group of unix sockets that all vassals share. Raises BindError."""
        said = self._settings.emperor
        user, _, group = (said.chown_socket or "").partition(":")
        try:
            return (
                int(said.chmod_socket, 8),
                privileges.resolve_user(user, "chown-socket").uid if user else None,
                privileges.resolve_group(group, "chown-socket").gid if group else None,
            )
        except privileges.PrivilegeError as error:
            raise BindError(str(error)) from error

    def _take_over(self, found: adoption.Found) -> None:
        self._supervisor.remember_paused(self._paused.read())
        for state in [*found.dead, *(each.state for each in found.gateways)]:
            self._supervisor.remember(state.name, state.generation, state.was_ready)
            file = self._places.key(state.reading.path)
            self._former.add(file)
            if state.only:
                self._only = file
        for each in found.gateways:
            phase = {"ready": Phase.READY, "starting": Phase.STARTING}.get(
                str(each.hello.get("state")), Phase.LEAVING
            )
            # Its key may be another now: one directory has become two.
            reading = replace(each.state.reading, file=self._places.key(each.state.reading.path))
            generation = Generation(
                file=reading.file,
                number=each.state.generation,
                reading=reading,
                token=each.state.token,
                phase=phase,
                since=self._loop.now(),
                started=each.state.started,
                pid=each.pid,
                adopted=True,
                was_ready=each.state.was_ready or phase is Phase.READY,
            )
            bells = None
            if found.router is not None:
                bells = found.router.take_bells(generation.name, generation.number, reading.seats)
            for other in found.leaving:
                if bells is None:
                    bells = other.take_bells(generation.name, generation.number, reading.seats)
            try:
                self._gateways.adopt(generation, each.channel, each.page, each.hello, bells)
            except ProcessLookupError:
                each.channel.close()
                os.close(each.page)
                if bells is not None:
                    bells.close()
                continue
            self._adopted = True
            self._supervisor.adopt(generation)
        for each_router in (*([] if found.router is None else [found.router]), *found.leaving):
            each_router.close_bells()
        what = f"pid {os.getpid()}, {self._places}"
        if found.gateways:
            self._log.info(f"took over {len(found.gateways)} gateways")
            what += f"; took over {len(found.gateways)} gateways"
        self._events.add("emperor", "", f"has started: {what}")
        self._act()

    # -- becoming another version -------------------------------------------------------------------------

    def rehearse(self, handed: Handover) -> list[str]:
        """As the trial of a version that is to take over: look at everything, and change nothing. What is wrong."""
        document = handed.document
        try:
            self._supervisor.resume(document["supervisor"])
            self._events.resume(document["events"])
            self._triggers.resume(document["touched"])
            self._identities = _identities(document)
        except (KeyError, ValueError) as error:
            return [f"what version {document.get('version')} hands over cannot be understood: {error}"]
        places = [place.path for place in self._places.places]
        found = rehearsal.rehearse(document, self._run_dir, places, self._check_unless_edited)
        return found + rehearsal.new_addresses(document, self._wanted_listeners())

    def _check_unless_edited(self, file: str) -> None:
        """Read a file as for a reload, unless it is another one than was read before: somebody is about to edit it, and it is
        judged when it is taken up. Raises ValueError."""
        known = self._identities[file]
        with contextlib.suppress(OSError):
            found = os.stat(self._places.path(file))
            if (found.st_dev, found.st_ino, found.st_mtime_ns) != (known.device, known.inode, known.mtime_ns):
                return
        self._check(file)

    def _go_on_from(self, handed: Handover) -> None:
        """Take up everything where the program before us in this process has left it. Raises StartFailed."""
        document = handed.document
        for signum in document.get("signals", ()):
            os.kill(os.getpid(), signum)  # they had come before the exec, and nobody had acted on them
        signals.set_mask(signals.SIG_SETMASK, ())
        try:
            self._supervisor.resume(document["supervisor"])
            self._events.resume(document["events"])
            self._triggers.resume(document["touched"])
            self._identities_before = _identities(document)
            self._only = document["only"]
            self._former.update(self._supervisor.vassals)
            self._resume_listening(handed)
            self._spawner.resume(document["spawner"])
            self._spawner.start()
            self._resume_gateways(handed)
        except (KeyError, TypeError, ValueError) as error:
            raise StartFailed(
                f"what version {document.get('version')} has handed over cannot be understood: {error!r}; the apps "
                "serve on: start the emperor again, and it takes them over"
            ) from error
        handed.close_rest()
        self._write_places()
        self._act()

    def _resume_listening(self, handed: Handover) -> None:
        document = handed.document
        handed.take_all(document["backplanes_fds"])
        main = self._routers.main_in(document["router"].get("seat", SEAT))
        leaving = {each["seat"]: each for each in document.get("leaving", ())}
        for each in document["backplanes_fds"]:
            seat = each.get("seat", SEAT)
            router = main if seat == main.seat else self._routers.leaving_in(seat)
            router.backplanes.adopt(each["name"], socket(fileno=each["fd"]))
        handed.take_all(document["router"])
        listeners = [
            Listener(
                each["kind"],
                each["address"],
                socket(fileno=each["fd"]),
                each["vassal"],
                each["terms"],
                each["pem"],
            )
            for each in document["router"]["listeners"]
        ]
        main.resume(document["router"], listeners)
        for seat, each in leaving.items():
            handed.take_all(each)
            self._routers.leaving_in(seat).resume(each, [])
            self._routers.go_on_leaving(seat, each["drains_until"])
        self._doors.adopt(each for each in listeners if each.vassal)
        terms = self._terms()
        wanted = {(kind, str(address)): address for kind, address in self._wanted_listeners()}
        shared = {(each.kind, each.address): each for each in listeners if not each.vassal}
        for place in shared.keys() - wanted.keys():
            self._routers.unlisten(shared[place])
        mode, user, group = self._dress()
        for (kind, text), address in wanted.items():
            known = shared.get((kind, text))
            try:
                sock = sockets.open_at(kind, address, mode) if known is None else known.sock
                if address.path:
                    sockets.dress(address.path, mode, user, group)
            except BindError as error:
                self._log.error(str(error))
                continue
            if known is None or known.terms != terms:
                self._routers.listen(Listener(kind, text, sock, terms=terms))
        handed.take_all(document["control"])
        control = socket(fileno=document["control"]["fd"])
        self._control = ControlServer(self._loop, control, self._commands.operations())
        owed = self._control.resume(document["control"])
        self._owed = owed.pop("", [])
        self._commands.resume(owed)
        said = self._settings.emperor.stats
        for each in document["stats"]:
            if each["address"] in (OWN_STATS, None if said is None else str(Address.parse(said))):
                self._stats.listen(socket(fileno=handed.take(each["fd"])), each["address"])

    def _resume_gateways(self, handed: Handover) -> None:
        found = {(each["name"], each["generation"]): each for each in handed.document["gateways"]}
        for vassal in self._supervisor.vassals.values():
            for generation in vassal.generations.values():
                reading = generation.reading
                self._children.stranger_s = max(self._children.stranger_s, reading.stop_timeout_s)
                gateway = found.get((generation.name, generation.number))
                if reading.elsewhere:
                    self._forwarded.resume(generation)
                elif gateway is not None:
                    handed.take_all(gateway)
                    self._gateways.resume(generation, gateway)
                elif generation.phase is not Phase.QUEUED:
                    self._loop.call_soon(self.gone, generation, process.UNSEEN.text, True)

    def upgrade(self, program: str, by: str, reply: Reply, keep_router: bool) -> None:
        """Become another version, and replace the router then, if it is not to be kept. Raises Refused."""
        if self._single is not None:
            raise Refused(
                f"upgrade: {self._single.title} is served without a file: end `emperor run` and start it anew"
            )
        if not self._up or not self._seen_first:
            raise Refused("upgrade: the emperor is still starting: ask again when it has")
        self._keeps_router = keep_router
        self._upgrades.ask(program, by, reply)

    def replace_router(self, by: str, reply: Reply) -> None:
        """Put another router in the place of the one that runs. Raises Refused."""
        if not self._up or not self._seen_first:
            raise Refused("upgrade: the emperor is still starting: ask again when it has")
        if self._upgrades.under_way:
            raise Refused("upgrade: one is under way already: wait for its outcome")

        def done(router: dict[str, Any]) -> None:
            if router["stays"]:
                reply.refuse(f"upgrade: the router stays: {router['stays']}")
            else:
                reply({"router": router})

        self._change_router(by, done)

    def _change_router(self, by: str, done: Callable[[dict[str, Any]], None]) -> None:
        """`done` is told which router there is then, which there was, and why it stays if it does."""
        before = self._router.seat

        def settled(why: str) -> None:
            router = self._router
            if why:
                self.note("error", f"router {router.seat} stays: {why}", by)
            else:
                text = f"router {router.seat} (pid {router.pid}) has taken the place of router {before}"
                self._events.add("upgrade", "", text, by)
            done({"seat": router.seat, "pid": router.pid, "before": before, "stays": why})

        if why := self._why_router_stays():
            settled(why)
        else:
            self._routers.replace(settled)

    def _why_router_stays(self) -> str:
        """Nobody can serve beside it; empty: somebody can."""
        if not self._router.shares:
            return (
                "it is of a version that cannot share workers with another: it serves on with its code until it or the "
                "emperor is started anew"
            )
        if unshared := self._gateways.unshared():
            names = ", ".join(unshared[:10]) + (" …" if len(unshared) > 10 else "")
            return (
                f"the workers of {names} were started by a version without room for a second router: `emperor reload` them, "
                "then `emperor upgrade --router-only`"
            )
        return ""

    def hand_over(self, keep: Keep) -> dict[str, Any]:
        """All that the next program needs (`handover`)."""
        assert self._control is not None
        waiting: dict[str, list[Reply]] = self._commands.waiting
        if self._upgrades.asker is not None:
            waiting[""] = [self._upgrades.asker]
        vassals = self._supervisor.vassals.items()
        return {
            "version": __version__,
            "pid": os.getpid(),
            "uid": os.geteuid(),
            "by": self._upgrades.by,
            "keep_router": self._keeps_router,
            "began": time.monotonic(),
            "started": self._started,
            "upgrades": self._upgrades_done,
            "adopted": self._adopted,
            "run_dir": self._run_dir.path,
            "places": [place.path for place in self._places.places],
            "only": self._only,
            "locks": [keep(fd) for fd in (*self._locks, self._run_dir_lock)],
            "control": self._control.hand_over(keep, waiting),
            "stats": [
                {"address": address, "fd": keep(sock.fileno())}
                for address, sock in self._stats.listening.items()
            ],
            "router": self._router.hand_over(keep),
            "leaving": self._routers.hand_over_leaving(keep),
            "backplanes_fds": [
                {"name": name, "fd": fd, "seat": each.seat}
                for each in self._routers.all
                for name, fd in each.backplanes.hand_over(keep).items()
            ],
            "spawner": self._spawner.hand_over(),
            "gateways": self._gateways.hand_over(keep),
            "identities": {file: each.to_json() for file, each in self._identities.items()},
            "well": [
                file
                for file, each in vassals
                if each.wish is not None
                and not each.problem
                and not each.pending
                and file in self._identities
            ],
            "supervisor": self._supervisor.hand_over(),
            "events": self._events.hand_over(),
            "touched": self._triggers.hand_over(),
        }

    def unquiet(self) -> str:
        """What is half done and could not go on in another program, for people; empty when nothing is."""
        if self._stopping:
            return "the emperor stops"
        found = {
            "a start by the spawner": self._spawner.quiet,
            "a start of " + ", ".join(self._gateways.strange): not self._gateways.strange,
            "an errand to a file of a vassal's": self._tenants.quiet,
            "a question to the router": self._routers.quiet,
            "a touch": self._triggers.quiet,
            "an answer with statistics": self._stats.quiet,
            "calls": self._loop.is_idle,
        }
        return ", ".join(what for what, quiet in found.items() if not quiet)

    def settle_down(self) -> None:
        """Begin nothing new that would be in the way of becoming another version."""
        self._stats.rest()

    def go_on(self) -> None:
        """It has not come to it."""
        self._stats.go_on()
        self._notify.ready(self._summary())

    def about_to(self, text: str) -> None:
        """It is now."""
        assert self._control is not None
        waiting = [reply for replies in self._commands.waiting.values() for reply in replies]
        asker = self._upgrades.asker
        self._control.refuse_waiting(text, waiting if asker is None else [*waiting, asker])
        self._notify.reloading()

    def note(self, level: str, text: str, by: str) -> None:
        """Log it, and write it down as an event."""
        for line in text.splitlines():
            self._log.write(level, f"{line} ({by})" if by and "\n" not in text else line)
        self._events.add("upgrade", "", text, by)

    def flush(self, timeout_s: float) -> None:
        self._log.flush(timeout_s)

    def _has_become(self, handed: Handover) -> None:
        """We govern again: say so to whom waits for it."""
        document = handed.document
        self._handed = None
        took_s = time.monotonic() - document["began"]
        what = f"version {document['version']} has become {__version__}"
        self.note("info", f"{what} after {took_s:.2f} s: {self._summary()}", document["by"])
        owed, self._owed = self._owed, []
        outcome = {"from": document["version"], "version": __version__, "pid": os.getpid(), "took_s": took_s}

        def done(router: dict[str, Any]) -> None:
            for reply in owed:
                reply({**outcome, "router": router})

        kept = bool(document.get("keep_router"))
        if kept or self._router.is_ours:  # one that died meanwhile has been replaced by one of this version
            seat, pid = self._router.seat, self._router.pid
            done({"seat": seat, "pid": pid, "before": seat, "stays": "it was to be kept" if kept else ""})
        else:
            self._change_router(document["by"], done)

    # -- files --------------------------------------------------------------------------------------------

    def _changed(self, changes: Sequence[Change]) -> None:
        if self._stopping:
            return
        if not self._seen_first:
            self._first(changes)
        by = "" if self._seen_first else "the start"
        for change in changes:
            try:
                self._take(change, by or ("a new file" if change.kind is Kind.NEW else "an edit of its file"))
            except Exception as error:
                # One file that we cannot cope with must not be the end of all others.
                self._fault(error)
        self._act()
        if not self._seen_first:
            self._seen_first = True
            self._doors.settle(each.name for each in self._supervisor.vassals.values())
            self._routers.table_is_whole(self._maybe_up)
            self._maybe_up()
            if self._reload_waits:
                self._reload_asked()

    def _use_modes(self) -> None:
        """What `auto-reload` says of each place."""
        self._modes = edits.Modes(
            self._settings.emperor.auto_reload, [place.path for place in self._places.places]
        )
        for warning in self._modes.warnings:
            self._log.warning(warning)

    def _waits(self, change: Change) -> bool:
        """True for an edit that is not to be in effect before somebody asks for it; what there is to say of it is said."""
        file = change.file
        place, vassal = self._places.place(file), self._supervisor.vassals.get(file)
        # One that had gone, and is back, starts. At the start of an emperor that took it over, what it was started from counts.
        if (
            place is None
            or vassal is None
            or vassal.wish is None
            or (change.kind is Kind.NEW and self._seen_first)
        ):
            return False
        said = self._modes.judge(place.path, lambda: self._check(file))
        if said:
            self._supervisor.edited(file, said)
        return bool(said)

    def _check(self, file: str) -> None:
        """Read a file as for a reload, without one. Raises ValueError with all that is wrong."""
        try:
            self._reading(file, self._places.path(file))
        except (ConfigError, interpreter.WrongInterpreter, privileges.PrivilegeError) as error:
            raise ValueError(str(error)) from error

    def _take(self, change: Change, by: str) -> None:
        if change.kind is Kind.REMOVED:
            self._identities.pop(change.file, None)
            self._triggers.want(change.file, None)
            self._supervisor.removed(change.file)
            return
        assert change.identity is not None
        self._identities[change.file] = change.identity
        if self._serves_this(change.file, change.identity):
            wish = self._supervisor.vassals[change.file].wish
            self._monitor.also(change.file, wish.others if wish is not None else ())
            self._triggers.want(change.file, wish)
        elif self._waits(change):
            self._triggers.want(change.file, self._supervisor.vassals[change.file].wish)
        else:
            self._read(change.file, by, live=True)

    def _first(self, changes: Sequence[Change]) -> None:
        for text in self._places.unread():
            self._log.warning(text)
        files = {change.file for change in changes}
        if self._only is None and not self._former and len(files) == 1:
            (self._only,) = files
        self._supervisor.only(self._only)
        for file in sorted(self._supervisor.vassals.keys() - files):
            if self._monitor.knows(file) and not self._monitor.sees(file):
                self._supervisor.removed(file)

    def _serves_this(self, file: str, identity: Identity) -> bool:
        """True for a vassal that was taken over and whose file is what it was then."""
        before = self._identities_before.pop(file, None)
        if self._seen_first and before is None:
            return False
        vassal = self._supervisor.vassals.get(file)
        if before is not None and vassal is not None:
            # The program before us in this process knew it: what it was then counts, whatever has become of that.
            wish = vassal.wish
            same = wish is None or wish.others_digest == self._digest_of(wish.others)
            return same and before == identity
        return (
            vassal is not None
            and vassal.state in (State.READY, State.STARTING)
            and vassal.wish is not None
            and vassal.wish.identity == identity
            and vassal.wish.path == self._places.path(file)
            and vassal.wish.others_digest == self._digest_of(vassal.wish.others)
        )

    def _read(self, file: str, by: str, rolling: bool = False, live: bool = False) -> None:
        path = self._places.path(file)
        try:
            self._read_file(file, path, by, rolling, live)
        except Exception as error:
            # One file that we cannot cope with must not be the end of all others.
            self._fault(error)
            text = f"{path}: a fault of the emperor's, please report: {error!r}"
            self._supervisor.wrong(file, path, text, by=by)

    def _read_file(self, file: str, path: str, by: str, rolling: bool, live: bool) -> None:
        try:
            reading, warnings = self._reading(file, path)
        except ConfigError as error:
            self._monitor.also(file, error.sources)
            self._supervisor.wrong(file, path, str(error), by=by)
        except (interpreter.WrongInterpreter, privileges.PrivilegeError) as error:
            self._supervisor.wrong(file, path, f"{path}: {error}", by=by)
        else:
            for warning in warnings:
                self._log.warning(warning)
            # Workers that outlive their gateway may take as long as their vassal may.
            self._children.stranger_s = max(self._children.stranger_s, reading.stop_timeout_s)
            self._supervisor.checked(reading, warnings, by, rolling, live)
            self._triggers.want(file, reading)

    def _reading(self, file: str, path: str) -> tuple[Reading, list[str]]:
        """Read and check one file. Raises ConfigError, WrongInterpreter, PrivilegeError."""
        try:
            name = self._places.name(file)
        except ValueError as error:
            raise ConfigError([Problem(path, None, None, str(error), "rename it")]) from None
        config = load_vassal(
            Path(path), directory=Path(self._places.directory(file)), layers=self._layers, name=name
        )
        others = tuple(
            sorted((each for each in config.sources if each.path != path), key=lambda each: each.path)
        )
        self._monitor.also(file, others)
        own = os.geteuid()
        warnings = [str(each) for each in config.warnings]
        if own != 0 and config.uid not in (None, own):
            raise privileges.PrivilegeError(
                f"uid: {config.uid} is another user, and the emperor runs as {own}: start it as root, or remove uid"
            )
        if own == 0 and config.uid in (None, 0) and self._settings.emperor.refuse_root:
            raise privileges.PrivilegeError(
                "uid: would run as root, and refuse-root is set: set uid = NAME of another user"
            )
        if own == 0 and config.uid is not None and config.uid in self._router_uids():
            raise privileges.PrivilegeError(
                f"uid: {config.uid} is the user that the router runs as, and the app could stop the router for all: "
                "set uid to a user of its own, or start the emperor with another --router-user"
            )
        if own == 0 and config.uid in (None, 0) and self._single is None:
            warnings.append(f"{path}: uid: runs as root, since it names no other user (set uid = NAME)")
        reading = Reading(
            name=config.name,
            file=file,
            path=path,
            identity=self._identities[file],
            app=config.app,
            uid=config.uid,
            gid=config.gid,
            processes=config.processes,
            engine=config.engine,
            domains=config.domains,
            default=config.default,
            need_app=config.need_app,
            argv=interpreter.argv_of(
                config.app.virtualenv, config.spawn, rights.owner_of(config.uid or 0, config.gid)
            ),
            queue=config.queue,
            queue_timeout_s=config.queue_timeout_s,
            request_timeout_s=config.request_timeout_s,
            body_limit=config.body_limit,
            request_buffering=config.request_buffering,
            post_buffering=config.post_buffering,
            response_buffer=config.response_buffer,
            start_timeout_s=config.start_timeout_s,
            stop_timeout_s=config.stop_timeout_s,
            access=config.access,
            request_id=config.request_id,
            logto=config.logto,
            log_max_bytes=config.log_max_bytes,
            log_backup=config.log_backup,
            pidfile=config.pidfile,
            others=others,
            others_digest=self._digest_of(others),
            listening=config.listening,
            announcing=config.announcing,
            manage_script_name=config.manage_script_name,
            deadlines=config.deadlines,
            balancing=config.balancing,
            recycling=config.recycling,
            hooks=config.hooks,
            preload=config.preload,
            warm_up=config.warm_up,
            reloading=config.reloading,
            routers=config.routers,
            remote=config.remote,
            upstreams=config.upstreams,
            sharing=config.sharing,
        )
        return reading, warnings

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
        if not self._stopping:
            self._arm_tick()
            self._probations.watch()
            self._maybe_up()

    def _carry_out(self, action: Any) -> None:
        match action:
            case Tell(name):
                self._routers.tell(name)
                if not self._stopping:
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
                    self._leave_with_empty_queue(generation, generation.leave_within_s)
                else:
                    self._gateways.leave(generation, generation.leave_within_s)
            case End(generation):
                self._gateways.end(generation)
            case Reread(file):
                if file in self._identities and not self._stopping:
                    self._read(file, "a name that it wants has become free")
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

    def _leave_with_empty_queue(self, generation: Generation, left_s: float) -> None:
        """Nobody comes after this generation: what waits for it is served first, as long as there is time."""

        def answered(said: Mapping[int, Mapping[str, Any]]) -> None:
            apps = [(each.get("apps") or {}).get(generation.name) or {} for each in said.values()]
            waits = sum(int(app.get("queued", 0)) + int(app.get("on_deck", 0)) for app in apps)
            if waits == 0 or left_s <= QUEUE_LOOK_S or self._stopping:
                self._gateways.leave(generation, max(left_s, 1.0))
            else:
                again = left_s - QUEUE_LOOK_S
                self._loop.call_later(QUEUE_LOOK_S, self._leave_with_empty_queue, generation, again)

        if not self._routers.stats(answered):
            self._gateways.leave(generation, max(left_s, 1.0))

    def _code_changed(self, path: str) -> None:
        if not self._stopping:
            text = f"{path or 'a source file'} has changed"
            self._log.info(text)
            self.reload_all(text)

    def _give_up_if_alone(self, file: str) -> None:
        """One app without a file, that did not start: nobody will edit it while we wait."""
        if self._single is None or self._single.sources or self._stopping:
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
        if not self._stopping:
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
        if not self._stopping:
            self._supervisor.ready(generation)
            self._act()

    def failed(self, generation: Generation, reason: str) -> None:
        if not self._stopping:
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
        if self._stopping and not len(self._gateways):
            self._no_gateway_left()

    # -- what the router's end asks (routers.Table) -------------------------------------------------------

    def router_names(self) -> list[str]:
        return self._supervisor.router_names()

    def wanted(self, name: str) -> Wanted | None:
        return self._supervisor.wanted(name)

    def page(self, name: str, generation: int) -> int:
        vassal = self._supervisor.by_name(name)
        if vassal is None or generation not in vassal.generations:
            raise OSError(f"generation {generation} is no more")
        return self._gateways.page(vassal.generations[generation])

    def rows(self, name: str, generation: int) -> int:
        vassal = self._supervisor.by_name(name)
        if vassal is None or generation not in vassal.generations:
            raise OSError(f"generation {generation} is no more")
        return self._gateways.rows(vassal.generations[generation])

    def bells(self, name: str, generation: int, router_seat: int) -> list[int]:
        vassal = self._supervisor.by_name(name)
        if vassal is None or generation not in vassal.generations:
            return []
        return self._gateways.bells(vassal.generations[generation], router_seat)

    def entry_told(self, name: str) -> None:
        vassal, wanted = self._supervisor.by_name(name), self._supervisor.wanted(name)
        if vassal is None or wanted is None:
            self._access_logs.forget(name)
            self._announcements.forget(name)
            return
        reading = vassal.current.reading if vassal.current is not None else vassal.wish
        self._announcements.told(name, reading)
        tenant = Tenant() if reading is None else Tenant(reading.uid, reading.gid)
        self._access_logs.told(name, wanted.entry.access, tenant)

    def _serving(self, name: str) -> Reading | None:
        """The reading by which a vassal is served now."""
        vassal = self._supervisor.by_name(name)
        return None if vassal is None or vassal.current is None else vassal.current.reading

    def log_full(self, name: str) -> None:
        self._access_logs.full(name)

    def subscribed(self) -> Iterable[dict[str, Any]]:
        return self._subscribed.messages()

    def overran(self, name: str, generation: int, message: dict[str, Any]) -> None:
        self._gateways.pass_on(name, generation, message)
        match message:
            case {"seat": int(seat), "pid": int(pid), "request": str(request), "ran_ms": int(ran_ms)}:
                text = f"worker {seat} (pid {pid}): {request} had run for {ran_ms / 1000:.1f} s"
                self._events.add("harakiri", name, text, "harakiri")

    def poisoned(self, name: str, text: str) -> None:
        self._events.add("poison", name, text, "poison-deaths")

    # -- being up -----------------------------------------------------------------------------------------

    def _maybe_up(self) -> None:
        """Say so once what was there at the start has come up, or has failed to."""
        if self._stopping or not self._seen_first or self._router.state != "running":
            return
        if self._handed is not None:
            self._up = True
            self._notify.ready(self._summary())
            self._has_become(self._handed)
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
        states = [vassal.state for vassal in self._supervisor.vassals.values()]
        ready = sum(state in SERVING for state in states)
        return f"{ready} of {len(states)} vassal{'s' * (len(states) != 1)} ready"

    def _addresses(self) -> list[str]:
        """What to type, to see each vassal."""
        lines = []
        if self._single is not None:
            return [
                f"serving {self._single.title} at {address.url}"
                + (", and at every other address of this host" if address.is_every else "")
                for address in self._http
            ]
        http = next((address for address in self._http if not address.path), None)
        for vassal in sorted(self._supervisor.vassals.values(), key=lambda each: each.name):
            if http is not None and vassal.state is State.READY:
                lines.append(f"try http://{vassal.name.lower()}.localhost:{http.port}/")
        if not self._supervisor.vassals:
            lines.append(f"no vassal yet: put NAME.ini or NAME.toml into {self._places}")
        return lines

    # -- signals and the operator -------------------------------------------------------------------------

    def _reload_asked(self) -> None:
        if not self._seen_first:
            self._reload_waits = True  # nobody knows yet what there is to reload
        elif not self._stopping:
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
        old = self._settings.emperor
        fixed = {row.attribute: getattr(old, row.attribute) for row in SETTINGS if row.part == "emperor"}
        for name in _LIVE:
            del fixed[name]
        waiting = [name for name, value in fixed.items() if getattr(new.emperor, name) != value]
        if waiting:
            names = ", ".join(name.removesuffix("_s").replace("_", "-") for name in waiting)
            self._log.warning(f"the new {names} will count from the next start on")
        self._settings = replace(new, emperor=replace(new.emperor, **fixed))
        self._layers = layers_of(self._settings.emperor, self._settings.origins)
        self._use_modes()
        self._routers.use(as_arguments(new.router))

    @property
    def stopping(self) -> bool:
        return bool(self._stopping)

    def has_file(self, file: str) -> bool:
        return file in self._identities

    def reload_all(self, by: str) -> list[str]:
        """Read the settings and the files of all vassals again and start new generations; their names."""
        self._take_new_settings()
        return self._reload(sorted(self._identities), by)

    def reload_file(self, file: str, by: str, rolling: bool = False) -> None:
        """The same for one vassal's file, if it is there; `rolling`: worker by worker, whatever it says."""
        if file in self._identities and not self._stopping:
            self._reload([file], by, rolling)

    def _reload(self, files: list[str], by: str, rolling: bool = False) -> list[str]:
        self._reloading = True
        self._notify.reloading()
        for file in files:
            self._read(file, by, rolling)
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
        if not self._stopping:
            self.reopen_logs()

    def stop(self) -> None:
        """Drain, and the second time be fast."""
        self._stop_asked()

    def trace(self, vassal: Vassal, take: Callable[[dict[str, Any]], None]) -> None:
        """Where its workers are, of all its generations."""
        running = [each for each in vassal.generations.values() if each.phase is not Phase.QUEUED]
        running.sort(key=lambda each: each.number)
        Look(vassal.name, running, self._gateways, self._routers.all, self._loop, take)

    # -- statistics ---------------------------------------------------------------------------------------

    def _stats_document(self, take: Callable[[bytes], None]) -> None:
        self.whole_document(lambda found: take(json.dumps(found, indent=1).encode() + b"\n"))

    def whole_document(self, take: Callable[[dict[str, Any]], None]) -> None:
        """Ask the router for its part and put the document together, without it after `ROUTER_ANSWER_S`."""
        taken = False

        def answer(said: Mapping[int, Mapping[str, Any]]) -> None:
            nonlocal taken
            if not taken:
                taken = True
                timer.cancel()
                take(self._document(said))

        timer = self._loop.call_later(ROUTER_ANSWER_S, answer, {})
        if not self._routers.stats(answer):
            answer({})

    def _document(self, said: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
        router = self._router
        report = EmperorReport(
            pid=os.getpid(),
            uid=os.geteuid(),
            directory=str(self._places),
            run_dir=self._run_dir.path,
            started=self._started,
            since=self._since,
            upgrades=self._upgrades_done,
            state="stopping" if self._stopping else "running" if self._up else "starting",
            adopted=int(self._adopted),
            log_dropped=self._log.dropped,
            vassal_log_dropped=self._gateways.log_dropped,
            trouble="; ".join(filter(None, (self._monitor.trouble, self._mending.trouble))),
            listeners=[
                {"kind": each.kind, "address": each.address} for each in router.listeners if not each.vassal
            ],
            omitted=guards.environment().get(guards.VARIABLE, ""),
        )
        routers = [
            (
                RouterReport(each.seat, each.pid, each.state, each.restarts, each.last_exit),
                said.get(each.seat),
            )
            for each in self._routers.all
        ]
        spawner = SpawnerReport(self._spawner.pid, self._spawner.restarts, self._spawner.last_exit)
        vassals = self._supervisor.vassals.values()
        paused = self._supervisor.paused
        listeners = {each.name: self._doors.report(each.name) for each in vassals}
        troubles = dict(self._access_logs.troubles)
        for name, text in (*self._fifos.troubles.items(), *self._announcements.troubles.items()):
            troubles[name] = "; ".join(filter(None, (troubles.get(name, ""), text)))
        return document(report, spawner, routers, vassals, self._loop.now(), listeners, troubles, paused)

    # -- the end ------------------------------------------------------------------------------------------

    def _stop_asked(self) -> None:
        """TERM, INT or `emperor stop`: drain. The second time: fast."""
        if self._stopping:
            self._stop_fast()
            return
        self._stopping = "drain"
        self._upgrades.close("the emperor is stopping")
        self._deadline = self._loop.now() + STOP_TIMEOUT_S
        self._log.info("stopping: what has begun is finished; a second signal is fast")
        self._notify.stopping()
        self._monitor.close()
        self._mending.close()
        self._triggers.close()
        self._subscribed.close()
        self._fifos.remove_all()
        self._supervisor.close()
        if self._tick is not None:
            self._tick.cancel()
        self._routers.drain(ROUTER_DRAIN_S, self._router_gone)
        self._unneeded = Unneeded(self._loop, lambda: self._routers.all, self._leave_early)
        self._doors.remove_all()
        self._loop.call_later(ROUTER_DRAIN_S + 0.2, self._routers.kill)
        self._loop.call_at(self._deadline, self._time_is_up)

    def _stop_fast(self) -> None:
        if self._stopping == "fast":
            return
        self._stopping = "fast"
        self._deadline = self._loop.now() + FAST_S
        self._log.warning("stopping fast: what has not finished is lost")
        self._routers.kill()
        self._gateways.leave_all(0.1)
        self._loop.call_at(self._deadline, self._time_is_up)
        if not len(self._gateways):
            self._no_gateway_left()

    def _leave_early(self, names: list[str]) -> None:
        for vassal in self._supervisor.vassals.values():
            if vassal.name in names:
                for generation in vassal.generations.values():
                    self._gateways.leave(generation, max(0.2, self._deadline - self._loop.now() - LAST_S))

    def _router_gone(self) -> None:
        if self._unneeded is not None:
            self._unneeded.close()
        self._gateways.leave_all(max(0.2, self._deadline - self._loop.now() - LAST_S))
        if not len(self._gateways):
            self._no_gateway_left()

    def _no_gateway_left(self) -> None:
        if any(each.pid for each in self._routers.all) or self._ending:
            return
        self._ending = True
        self._children.stranger_s = 0.0
        self._spawner.stop(self._spawner_gone)

    def _spawner_gone(self) -> None:
        """Last: what dead gateways had left behind, and is now ours to end."""
        if (
            self._children.kill_strangers() or self._doors.busy or self._fifos.busy
        ) and self._loop.now() < self._deadline:
            self._loop.call_later(0.02, self._spawner_gone)
            return
        self._log.info("stopped")
        self._run_dir.clear()
        self._loop.stop()

    def _time_is_up(self) -> None:
        self._log.warning("the time to stop is up: what is left is killed")
        self._routers.kill()
        self._gateways.kill_all()
        self._spawner.kill()
        self._children.kill_strangers()
        self._deadline = self._loop.now()
        self._loop.call_later(0.5, self._spawner_gone)

    def _let_go(self) -> None:
        """Give back what this process holds. Processes live on: after a stop there are none."""
        self._monitor.close()
        self._mending.close()
        self._triggers.close()
        self._fifos.close()
        if self._code is not None:
            self._code.close()
        self._stats.close()
        if self._control is not None:
            self._control.close()
        self._routers.close()
        self._gateways.close()
        self._spawner.close()
        self._tenants.close()
        self._children.close()
        self._loop.close()
        for fd in (*self._locks, *([self._run_dir_lock] if self._run_dir_lock >= 0 else ())):
            os.close(fd)
        self._locks.clear()
        self._run_dir_lock = -1

    # -- small things -------------------------------------------------------------------------------------

    def _digest_of(self, others: tuple[Source, ...]) -> str:
        """What a vassal is read from beside its own file: an emperor that takes over compares it."""
        parts = [repr(self._layers), *(f"{each.path} {read_digest(*each)}" for each in others)]
        return hashlib.sha256("\n".join(parts).encode(errors="surrogateescape")).hexdigest()

    def _environment(self, generation: Generation) -> dict[str, str]:
        """The whole environment of a vassal's processes, before its `env`."""
        whole = self._single is not None
        env = {
            key: value
            for key, value in os.environ.items()
            if whole or key in _PASSED_ON or key.startswith("LC_")
        }
        uid = os.geteuid() if generation.reading.uid is None else generation.reading.uid
        with contextlib.suppress(KeyError):
            user = pwd.getpwuid(uid)
            env |= {
                "USER": user.pw_name,
                "LOGNAME": user.pw_name,
                "HOME": user.pw_dir,
                "SHELL": user.pw_shell,
            }
        if whole:
            env |= os.environ
        for name in generation.reading.app.unenv:
            env.pop(name, None)
        return {**env, **guards.environment(), **dict(generation.reading.app.env)}

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


def _identities(document: Mapping[str, Any]) -> dict[str, Identity]:
    """Raises ValueError."""
    return {file: Identity.from_json(each) for file, each in document["identities"].items()}


def _router_user(named: str | None, log: Log) -> privileges.User | None:
    """Whom the router becomes; None: it stays who we are. Raises StartFailed."""
    own = os.geteuid()
    try:
        user = privileges.resolve_user(named or "nobody", "router-user")
    except privileges.PrivilegeError as error:
        if named is not None:
            raise StartFailed(str(error)) from error
        if own == 0:
            log.warning("there is no user nobody: the router runs as root (name one with --router-user)")
        return None
    if own == 0:
        if user.uid == 0:
            log.warning("router-user: the router runs as root")
        return user
    if named is not None and user.uid != own:
        raise StartFailed(
            f"router-user: cannot become {named}, running as uid {own}: start the emperor as root, or remove it"
        )
    return None


def _raise_descriptor_limit() -> None:
    """Every vassal costs five descriptors; the usual soft limit of 1024 is for programs that use select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Enough for ten thousand, and no more: vassals inherit it, and some libraries loop up to their limit.
    wanted = hard if hard != resource.RLIM_INFINITY and hard < 65536 else 65536
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
