"""Assembly of the router process: its event loop, the table that the emperor fills, the clock of every deadline.

The router holds nothing that the emperor cannot send again, but for connections and queues. It accepts neither clients nor
HELLOs before the table is complete. It lives on without an emperor until ``orphan-timeout``, then drains.
"""

import argparse
import asyncio
import gc
import os
import random
import resource
import signal
import socket
import stat
import sys
import time
from collections import Counter, deque
from email.utils import formatdate
from typing import Any, Final, NoReturn

import uvloop
import zmq

from emperor import __version__, privileges
from emperor.allocator import keep_freed
from emperor.config.keys import is_key
from emperor.config.options import Kind
from emperor.config.peers import UNIX
from emperor.config.problems import Mistake
from emperor.config.settings import SETTINGS, RouterSettings, as_arguments, from_arguments, from_flags
from emperor.config.sharing import COOKIE
from emperor.control.channel import Channel
from emperor.control.messages import RouterEntry
from emperor.protocol import guards
from emperor.protocol.errors import BoardError
from emperor.protocol.scoreboard import Board
from emperor.router import figures
from emperor.router.access import Writer, let_go
from emperor.router.announcing import Announcer
from emperor.router.app import App, Generation
from emperor.router.bells import Bells
from emperor.router.caps import Caps, Verdict, whose
from emperor.router.control import HANDOVER_FDS, Control, Refused
from emperor.router.descriptors import Descriptors
from emperor.router.disk import Files
from emperor.router.exchange import Streams
from emperor.router.front import Door, Front
from emperor.router.link import Backplane, context
from emperor.router.listener import KINDS, Listener, tls_context
from emperor.router.names import Names
from emperor.router.remote import KIND as WORKERS
from emperor.router.remote import Entrance, Gate
from emperor.router.shares import Shares, routes_of
from emperor.router.sni import Certificates
from emperor.router.spool import Limits, Spool
from emperor.router.subscribed import Joined, SubscribedApps
from emperor.router.subscribing import KIND as SUBSCRIPTION
from emperor.router.subscribing import Datagrams, Subscribing, is_one_of
from emperor.router.terms import Terms, plain
from emperor.supervisor import process

CONTROL_FD: Final = 3

MOST_ROUTERS: Final = 4
"""Rows of a page for routers that this version knows to share. One that says nothing of it knows of one."""

LATE_AT_ONCE: Final = 4
"""Clients that are cut off in one turn of the loop: a few hundred µs of work."""

KEPT_BYTES: Final = 4 << 20
"""Freed memory that is kept: some pieces of bodies."""

SWEEP_S: Final = 0.25
"""How often queue deadlines are looked at: the precision of ``queue-timeout``."""
SWEEPS_OF_ALL: Final = 4
"""An app that had nothing to look at is passed over until a request comes or a sweep is of all: of a thousand, nearly each."""

ACCEPTED_S: Final = 0.05
"""For what was just accepted, before a router without clients leaves."""

ACCEPTED_TURNS: Final = 4
"""And so many turns of its loop, should it have stood still for that time."""

GRACE_S: Final = 1.0
"""For how long a connection may be idle in a router that leaves, at most a quarter of its time: a client that has just sent a
request on one gets its answer, with ``Connection: close``, and no reset."""

LOGS_S: Final = 0.5
"""How long a router that leaves waits for its access logs, in all."""

STDOUT_NOTE: Final = b"# %d lines of access logs were dropped here: writing was too slow, or failed\n"


class Router(Door):
    """One router process. Implements ``app.Core`` and ``control.Commands`` too."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seat: int, settings: RouterSettings) -> None:
        super().__init__(loop, settings)
        self.seat = seat
        self.epoch = 1 if guards.omitted("epoch") else random.SystemRandom().randrange(1, 1 << 32)
        self.streams = Streams(self.epoch)
        self.complete = False
        self.apps: dict[str, App] = {}
        self.listeners: dict[
            tuple[str, str, str], Listener | Datagrams | Entrance
        ] = {}  # by vassal, kind, address
        self.shares: list[Shares] = []
        self.fronts: dict[Front, str] = {}  # and by which address each counts
        self._met: dict[Front, str] = {}  # the same, before there is a whole connection
        self.stdout_log = Writer(loop, STDOUT_NOTE, _never_full)
        self.errors: Counter[str] = Counter()
        self.accepted = 0
        self.log_dropped = 0
        self.control: Control | None = None
        self.stopped = loop.create_future()
        self.caps = Caps(*_capped(settings))
        self._descriptors = Descriptors()
        self._no_room = False  # nobody is accepted, for want of descriptors
        self._late: deque[Front] = deque()
        self._refused_told = 0
        self._files = Files(loop, settings.spool_dir)
        self.bells = Bells(loop)
        self.names = Names(loop)
        self.subscribed = SubscribedApps(self._make_subscribed, loop.time, self._rebuild_routes)
        self.subscribing = Subscribing(self, loop.time)
        self.certificates = Certificates(self.subscribing.named, loop.time, self.complain)
        self.announcer = Announcer(self, loop.time, time.time, loop.call_later, self.log)
        self.gate = Gate(self)
        self.spool = Spool(self._files, _bodies(settings), self.hits)
        self._context: zmq.Context[zmq.Socket[bytes]] = context()
        self._orphaned_at: float | None = loop.time()
        self._drain_deadline = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = time.time()
        self._sweeps = 0
        self._tick()
        self._sweep()

    # app.Core

    def tell(self, message: dict[str, Any]) -> bool:
        return self.control is not None and self.control.tell(message)

    def catch_up(self) -> None:
        if self.control is not None:
            self.control.catch_up()

    def log(self, level: str, text: str) -> None:
        message: dict[str, Any] = {"op": "log", "lines": [[level, text]], "dropped": self.log_dropped}
        if self.control is not None and self.control.tell(message):
            self.log_dropped = 0
        else:
            self.log_dropped += 1

    # front.Door

    def app(self, name: str) -> App | None:
        return self.apps.get(name)

    def opened(self, front: Front) -> None:
        self.accepted += 1
        who = self._met.pop(front, None)
        if who is not None:
            self.caps.left(who)
        who = self.fronts[front] = _counted_as(front)
        match self.caps.came(who):
            case Verdict.ADMITTED:
                self._keep_room()
                return
            case Verdict.RESET:
                front.abort()
            case Verdict.FULL:
                front.turn_away()
            case Verdict.FULL_ADDRESS:
                front.turn_away(429)
        self.hits[self.caps.reached] += 1

    def closed(self, front: Front) -> None:
        who = self.fronts.pop(front, None)
        if who is not None:
            self.caps.left(who)
        if self.draining and not self.fronts:
            self._look_whether_alone()

    def meets(self, address: str) -> bool:
        if self.caps.came(address, told=False) is Verdict.ADMITTED:
            self._keep_room()
            return True
        self.hits[self.caps.reached] += 1
        return False

    def met(self, front: Front, address: str) -> None:
        self._met[front] = address

    def missed(self, front: Front | None, address: str) -> None:
        if front is None or self._met.pop(front, None) is not None:
            self.caps.left(address)

    # subscribing.Hosts

    def entries(self) -> list[RouterEntry]:
        return [app.entry for app in self.apps.values()]

    def place(self, host: str, vassal: str) -> Joined:
        return Joined(self.apps[vassal]) if vassal else self.subscribed.place(host)

    def displace(self, host: str, hide: bool) -> None:
        self.subscribed.displace(host, hide)

    def is_own(self, address: str) -> bool:
        places = [each.bound for each in self.listeners.values() if each.kind != SUBSCRIPTION]
        return is_one_of(address, places)

    def _make_subscribed(self, entry: RouterEntry) -> App:
        # Nobody connects to it: it has no workers.
        nowhere = socket.socket(socket.AF_UNIX)
        nowhere.close()
        return App(self, entry, lambda made: Backplane(self._context, self.loop, nowhere, made))

    # announcing.Surroundings

    def served(self, name: str) -> tuple[bool, int, int]:
        app = self.apps.get(name)
        if app is None:
            return False, 0, 0
        cores = sum(link.width for link in app.backplane.links.values() if link.accepting)
        return self.complete and app.available and not app.paused, cores, len(app.queue)

    def bound(self, name: str, address: str) -> str:
        listener = self.listeners.get((name, "uwsgi", address))
        return "" if listener is None else listener.bound

    def count_error(self, status: int) -> None:
        self.errors[str(status)] += 1

    # The clock

    def _tick(self) -> None:
        # First of all: whatever goes wrong below, there is a next time. Every deadline of a client hangs on it.
        self.loop.call_later(1.0 - time.time() % 1.0 + 0.001, self._tick)
        self.date = b"Date: " + formatdate(usegmt=True).encode() + b"\r\n"
        now = self.loop.time()
        self._late.extend(front for front in self.fronts if front.late(now))
        self._look_at_late()
        self._tell_refused()
        self._look_for_room()
        self.announcer.look()
        self.subscribing.look()
        self.gate.tick()
        orphaned_s = 0.0 if self._orphaned_at is None else now - self._orphaned_at
        if orphaned_s > self.settings.orphan_timeout_s and not self.draining:
            self.start_drain(30.0)

    def _look_at_late(self) -> None:
        # Ten thousand that were opened in one second are late in one second: the others' requests come in between.
        now = self.loop.time()
        for _ in range(min(LATE_AT_ONCE, len(self._late))):
            front = self._late.popleft()
            if front not in self.fronts:
                continue  # it has left while it waited for this look
            try:
                front.look(now)
            except Exception as error:
                front.own_up("late", error)
                front.abort()
        if self._late:
            self.loop.call_soon(self._look_at_late)

    def _keep_room(self) -> None:
        if not self._no_room and self._descriptors.stale(self.caps.open):
            self._look_for_room()

    def _look_for_room(self) -> None:
        """Stop accepting before the last descriptor is gone, and go on once there are some."""
        clients = self.caps.open
        none = self._descriptors.look(clients)
        if none == self._no_room or self.draining or not self.complete:
            return
        self._no_room = none
        for listener in self.listeners.values():
            if none:
                listener.pause()
            else:
                self._run(listener.start())
        if none:
            self.log(
                "error",
                f"descriptors: {clients + self._descriptors.others} of {self._descriptors.limit} are in use, {clients} of them "
                "by clients: nobody is accepted until some are free, who connects waits (ulimit -n, LimitNOFILE= of the unit, "
                "or a lower max-connections)",
            )
        else:
            self.log("info", "descriptors: there are some again, clients are accepted")

    def _tell_refused(self) -> None:
        refused = sum(self.caps.refused.values())
        if refused > self._refused_told:
            report = self.caps.report()
            self.log(
                "warning",
                f"{refused - self._refused_told} connections refused in the last second: {self.caps.open} are open, "
                f"{report['limit']} may be (max-connections), {report['limit_per_address']} of one address "
                "(max-connections-per-address)",
            )
            self._refused_told = refused

    def _sweep(self) -> None:
        now = self.loop.time()
        self.summarize(now)
        self._sweeps += 1
        everyone = self._sweeps % SWEEPS_OF_ALL == 0
        for app in self.apps.values():
            if everyone or not app.passed_over:
                app.sweep(now)
        self.subscribed.sweep(now)
        if self.draining and now >= self._drain_deadline:
            self._drained()
        self.loop.call_later(SWEEP_S, self._sweep)

    # control.Commands

    def emperor_came(self, channel: Channel) -> None:
        self._orphaned_at = None

    def emperor_left(self) -> None:
        self._orphaned_at = self.loop.time()

    def command(self, op: str, message: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        match op:
            case "hello":
                return self._hello()
            case "settings":
                self._use(from_flags(RouterSettings, [str(each) for each in message["arguments"]]))
            case "stats":
                return {"router": self.report()}
            case "running":
                app = self.apps.get(str(message["name"]))
                if app is None or not app.forwards:
                    return {"running": [] if app is None else figures.running(app)}
                return {"running": [], "upstreams": app.forward().running()}
            case "unneeded":
                return {"names": self.unneeded()}
            case "counts":
                return {"counts": self._known(message).counted()}
            case "listen":
                self._listen(message, fds)
            case "unlisten":
                listener = self.listeners.pop(_place(message), None)
                self.announcer.look()
                if listener is not None:
                    listener.close()
            case "control":
                assert self.control is not None
                self.control.listen_at(_one(op, fds))
            case "backplane":
                self._known(message).backplane.listen_at(socket.socket(fileno=_one(op, fds)))
            case "vassal":
                self._vassal(RouterEntry.from_json(message["entry"]), fds)
            case "access":
                self._access(message, _one(op, fds))
            case "nodes":
                return self.subscribing.nodes(int(message["known"]), int(message["start"]))
            case "subscribed":
                if message.get("copy") is True:
                    first, last = message.get("first") is True, message.get("last") is True
                    self.subscribing.copy(message["nodes"], first, last)
                else:
                    self.subscribing.restore(message["nodes"])
            case "announce":
                self.announcer.use(str(message["name"]), message, fds)
            case "generation":
                self._generation(message, fds)
            case "activate":
                kept = [int(each) for each in message.get("kept", ())]
                beside = [int(each) for each in message.get("beside", ())]
                share = float(message.get("share", 0.0))
                self._known(message).activate(int(message["generation"]), kept, beside, share)
            case "keys":
                self._keys(message, _one(op, fds))
            case "retire":
                self._known(message).retire(int(message["generation"]))
            case "remove":
                app = self.apps.pop(str(message["name"]), None)
                self.announcer.forget(str(message["name"]))
                if app is not None:
                    app.close()
                    self._rebuild_routes()
            case "complete":
                self._complete()
            case "drain":
                timeout_s = float(message.get("timeout_s", 8.0))
                self.announcer.close(leave=message.get("hands_on") is not True)
                self.start_drain(timeout_s, float(message.get("grace_s", GRACE_S)))
            case _:
                raise Refused(f"unknown; this is version {__version__}")
        return {}

    def _use(self, settings: RouterSettings) -> None:
        self.use(settings)
        self.caps.use(*_capped(settings))
        self.spool.limits = _bodies(settings)
        self._files.use(settings.spool_dir)
        self.subscribing.use(settings)

    def _hello(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "start_time": process.start_time(os.getpid()),
            "version": __version__,
            "epoch": self.epoch,
            "seat": self.seat,
            "complete": self.complete,
            "draining": self.draining,
            "routers": MOST_ROUTERS,
            "settings": as_arguments(self.settings),
            "listeners": [_described(listener) for listener in self.listeners.values()],
            "vassals": [
                {"name": app.name, "generations": sorted(app.generations), "active": app.active}
                for app in self.apps.values()
            ],
        }

    def handover(self) -> list[tuple[dict[str, Any], list[int]]]:
        things: list[tuple[str, dict[str, Any], int]] = [
            (
                "listeners",
                {**_described(listener), "terms": listener.terms.to_json()},
                listener.sock.fileno(),
            )
            for listener in self.listeners.values()
        ]
        things += [
            ("backplanes", {"name": app.name, "seat": self.seat}, app.backplane.listener.fileno())
            for app in self.apps.values()
        ]
        things += [
            ("bells", {"name": app.name, "generation": generation.number}, fd)
            for app in self.apps.values()
            for generation in app.generations.values()
            if generation.own_bell >= 0
            for fd in (generation.own_bell, *generation.bells)
        ]
        parts: list[tuple[dict[str, Any], list[int]]] = []
        for start in range(0, max(1, len(things)), HANDOVER_FDS):
            chunk = things[start : start + HANDOVER_FDS]
            part: dict[str, Any] = {
                kind: [what for name, what, _ in chunk if name == kind]
                for kind in ("listeners", "backplanes", "bells")
            }
            part["last"] = start + HANDOVER_FDS >= len(things)
            parts.append((part, [fd for _, _, fd in chunk]))
        return parts

    def _known(self, message: dict[str, Any]) -> App:
        app = self.apps.get(str(message["name"]))
        if app is None:
            raise Refused(f"no vassal {message['name']!r}; send its entry first")
        return app

    def _listen(self, message: dict[str, Any], fds: list[int]) -> None:
        """The listening socket, and for TLS a descriptor with key and certificates. One of the same place is replaced: its
        clients stay, and whom the kernel has connected by then is still accepted."""
        kind, terms = str(message["kind"]), Terms.from_json(message.get("terms", {}))
        if kind not in (*KINDS, SUBSCRIPTION, WORKERS):
            raise Refused(f"a listener of kind {kind!r}; known: {', '.join((*KINDS, SUBSCRIPTION, WORKERS))}")
        if len(fds) != 1 + terms.tls:
            raise Refused(f"listen needs {1 + terms.tls} descriptors, {len(fds)} came")
        address = str(message["address"])
        context = None
        if terms.tls:
            try:
                context = tls_context(fds[1], terms.ciphers)
            except OSError as error:
                raise Refused(f"{address}: the certificate cannot be used: {error}") from error
            os.close(fds[1])
            if terms.vassal:
                self.certificates.serve(context, terms.vassal, terms.ciphers)
        few = self._descriptors.few
        sock = socket.socket(fileno=fds[0])
        listener: Listener | Datagrams | Entrance
        if kind == SUBSCRIPTION:
            listener = Datagrams(self.loop, address, sock, self.subscribing.received, terms)
            self.subscribing.listens()
        elif kind == WORKERS:
            listener = Entrance(self.gate, address, sock, terms)
        else:
            caps = self.caps
            clients, is_full = (lambda: caps.open), (lambda more: caps.open + more >= caps.most)
            listener = Listener(self, kind, address, sock, terms, context, few, clients, is_full)
        place = (terms.vassal, kind, address)
        old = self.listeners.pop(place, None)
        if old is not None:
            old.close()
        self.listeners[place] = listener
        if self._no_room:
            listener.pause()
        elif self.complete:
            self._run(listener.start())

    def _keys(self, message: dict[str, Any], fd: int) -> None:
        """Our own secret key, in a file of memory, and what each key of others may serve."""
        with open(fd, encoding="ascii") as file:
            secret = file.read()
        if not is_key(secret):
            raise Refused("no secret key in the file that came")
        apps = {str(key): tuple(map(str, names)) for key, names in message["apps"].items()}
        self.gate.use(secret, apps)

    def _vassal(self, entry: RouterEntry, fds: list[int]) -> None:
        app = self.apps.get(entry.name)
        named = None if app is None else _named(app.entry)
        if app is None:
            listener = socket.socket(fileno=_one("vassal", fds))
            app = App(self, entry, lambda made: Backplane(self._context, self.loop, listener, made))
            try:
                if self.complete:
                    app.backplane.open()
            except BaseException:
                listener.detach()  # whoever tells the emperor that it is refused closes it, and it comes once more
                raise
            self.apps[entry.name] = app
        else:
            for fd in fds:
                os.close(fd)
            app.set_entry(entry)
        if named != _named(entry):
            self._rebuild_routes()

    def _generation(self, message: dict[str, Any], fds: list[int]) -> None:
        """The page, and, if there are any, the bells: that by which its workers call us, and theirs, by seat."""
        app = self._known(message)
        if not fds:
            raise Refused("generation needs its page, no descriptor came")
        fd, *bells = fds
        own_bell = bells.pop(0) if bells else -1
        seats, slots, deck = int(message["seats"]), int(message["slots"]), int(message["deck"])
        try:
            # An emperor from before routers could share workers says nothing: such a page has room for one.
            routers = int(message.get("routers", 1))
            board = Board(fd, seats, slots, routers, deck, check_seals=not guards.omitted("seals"))
        except BoardError as error:
            raise Refused(f"{app.name}: {error}") from error
        app.add_generation(
            Generation(
                number=int(message["generation"]),
                token=bytes.fromhex(message["token"]),
                uid=int(message["uid"]),
                seats=seats,
                slots=slots,
                deck=deck,
                board=board,
                board_fd=fd,
                bells=tuple(bells),
                own_bell=own_bell,
            )
        )

    def _access(self, message: dict[str, Any], fd: int) -> None:
        """Where an access log is written: that of the vassal named, or without a name the one of all on the emperor's
        standard output."""
        app = self.apps.get(str(message["name"])) if "name" in message else None
        if "name" not in message:
            status = os.fstat(fd)
            self.stdout_log.use(fd, status.st_size if stat.S_ISREG(status.st_mode) else -1)
        elif app is None:  # it went while its file was being opened
            let_go(fd)
        else:
            opening = message.get("opening")
            app.log_to(fd, int(message.get("size", -1)), int(message.get("limit", 0)), opening)

    def _complete(self) -> None:
        if self.complete:
            # It could not be, the first time.
            for app in self.apps.values():
                app.backplane.open()
            return
        self.complete = True
        self._rebuild_routes()
        if not self._files.writable():
            self.log(
                "warning",
                f"{self._files.directory} (spool-dir) cannot be written to by uid {os.geteuid()}: request bodies larger than "
                "post-buffering will be answered 507",
            )
        for listener in self.listeners.values():
            self._run(listener.start())
        for app in self.apps.values():
            app.backplane.open()

    def _rebuild_routes(self) -> None:
        if not self.complete:
            return  # nobody asks yet, and each of a thousand vassals that come one after another would have all of them made
        self.subscribing.vassals_changed()
        found = routes_of(self.apps.values(), self.subscribed.routes(), random.random, self.shares)
        self.routes, self.shares = found
        by_cookie = {app.name for each in self.shares if each.by == COOKIE for app in each.apps}
        for app in self.apps.values():
            app.share_by(self.routes if app.name in by_cookie else None)

    def _run(self, work: Any) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.log("error", f"a listener could not be started: {task.exception()}")

    # Leaving

    def start_drain(self, timeout_s: float, grace_s: float = GRACE_S) -> None:
        """Accept what has connected, answer what was asked, then go; at the latest after ``timeout_s``. A connection may be
        idle for ``grace_s``."""
        now = self.loop.time()
        self._drain_deadline = now + timeout_s
        rest_s = min(grace_s, timeout_s / 4, self.parting_s)
        for front in self.fronts:
            front.part(now + rest_s)
        self.loop.call_later(rest_s + 0.001, self._leave)  # rounded down, it would come too early
        if self.draining:
            self.part(rest_s)
            return
        self.part(rest_s)
        self.announcer.close(leave=True)
        self.subscribing.end()
        for listener in self.listeners.values():
            # Let go of, too: where another router goes on, nobody must wait at a door that is ours alone.
            listener.close()
        self.listeners.clear()
        for app in self.apps.values():
            app.sharing.leave_all()
        self._look_whether_alone()

    def unneeded(self) -> list[str]:
        """The vassals for which there is nothing here, nor can be any more: this router leaves, and nobody is left who may
        ask for something."""
        if not self.draining or self.caps.open > len(self.fronts):
            return []
        if any(front.exchange is None for front in self.fronts):
            return []
        return [app.name for app in self.apps.values() if app.rests()]

    def _look_whether_alone(self) -> None:
        """There are no clients. But whom the kernel has connected, and this loop has accepted, may not be among them yet."""
        self.loop.call_later(ACCEPTED_S, self._leave_if_alone, ACCEPTED_TURNS)

    def _leave_if_alone(self, turns: int) -> None:
        if self.fronts:
            return  # the last of them asks again
        if self.caps.open:
            self._look_whether_alone()  # somebody has a PROXY header or TLS to go through yet
        elif turns:
            self.loop.call_soon(self._leave_if_alone, turns - 1)
        else:
            self._drained()

    def _leave(self) -> None:
        for front in list(self.fronts):
            front.leave()

    def _drained(self) -> None:
        if not self.stopped.done():
            self.stopped.set_result(None)

    def close(self) -> None:
        """Let go of everything, in the order that loses nothing that was promised."""
        for front in list(self.fronts):
            front.abort()
        logs = [app.access.writer for app in self.apps.values() if app.access is not None]
        for app in self.apps.values():
            app.backplane.flush()
        self.gate.flush()
        for app in self.apps.values():
            app.close()
        self.subscribed.close()
        self.gate.close()
        self.stdout_log.close()
        end = time.monotonic() + LOGS_S
        for writer in [*logs, self.stdout_log]:
            writer.join(max(0.0, end - time.monotonic()))
        for listener in self.listeners.values():
            listener.close()
        self.subscribing.close()
        self.summarize_at_last()
        if self.control is not None:
            self.control.close()
        self._files.stop()
        self.bells.close()
        self._context.destroy(linger=100)

    def report(self) -> dict[str, Any]:
        """The router's part of the statistics."""
        return {
            "seat": self.seat,
            "pid": os.getpid(),
            "state": "draining" if self.draining else "running" if self.complete else "starting",
            "started": int(self._started),
            "connections": len(self.fronts),
            "dripping": len(self.dripping),
            "accepted": self.accepted,
            "errors": dict(self.errors),
            "log_dropped": self.log_dropped,
            "limits": {
                name: {"value": value, "hits": self.hits[name]}
                for name, value in _limits(self.settings).items()
            },
            "caps": self.caps.report(),
            "bodies": self.spool.report(),
            "names": self.names.report(),
            "remote": self.gate.report(),
            "responses_ahead": self.ahead,
            "responses_ahead_limit": self.ahead_limit,
            "listeners": [_described(listener) for listener in self.listeners.values()],
            "subscriptions": self.subscribing.report(),
            "subscribed": {app.name: figures.report(app) for app in self.subscribed},
            "shares": [each.report() for each in self.shares],
            "stdout_log_dropped": self.stdout_log.dropped,
            "apps": {
                app.name: {**figures.report(app), "announced": self.announcer.report(app.name)}
                for app in self.apps.values()
            },
        }


def _capped(settings: RouterSettings) -> tuple[int, int, int]:
    """What the caps are made of."""
    return _descriptors(), settings.max_connections, settings.max_connections_per_address


def _bodies(settings: RouterSettings) -> Limits:
    return Limits(settings.body_memory, settings.spool_limit, settings.spool_limit_each, _descriptors() // 8)


def _descriptors() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _limits(settings: RouterSettings) -> dict[str, int]:
    """What every number among the settings is: durations in milliseconds, the others as they are."""
    return {
        row.name: round(getattr(settings, row.attribute) * (1000 if row.kind is Kind.DURATION else 1))
        for row in SETTINGS
        if row.part == "router" and row.kind in (Kind.DURATION, Kind.SIZE, Kind.COUNT)
    }


def _counted_as(front: Front) -> str:
    """Who is capped by address: not a unix socket, and not a proxy that speaks for many and is believed about it."""
    client, terms = front.ends.client, front.terms
    if terms.vassal:
        # Its lists are a tenant's, whose word about addresses would be worth everybody's connections.
        peer = front.transport.get_extra_info("peername")
        return whose(plain(peer[0])) if isinstance(peer, tuple) and len(peer) >= 2 else ""
    if client == UNIX or client in terms.forwarded or (terms.trusted and client in terms.trusted):
        return ""
    return whose(client)


def _named(entry: RouterEntry) -> tuple[tuple[str, ...], bool, bool, int, str]:
    """What routes are made from."""
    return entry.domains, entry.default, entry.only, entry.sharing.weight, entry.sharing.by


def _place(message: dict[str, Any]) -> tuple[str, str, str]:
    """By what a listener is known: two vassals may both ask for a port that the kernel chooses."""
    return str(message.get("vassal", "")), str(message["kind"]), str(message["address"])


def _described(listener: Listener | Datagrams | Entrance) -> dict[str, Any]:
    terms = listener.terms
    return {
        "kind": listener.kind,
        "address": listener.address,
        "vassal": terms.vassal,
        "bound": listener.bound,
        "tls": int(terms.tls),
    }


def _never_full(_limit: int) -> None:
    """A standard output is not rotated."""


def _one(op: str, fds: list[int]) -> int:
    if len(fds) != 1:
        raise Refused(f"{op} needs one descriptor, {len(fds)} came")
    return fds[0]


async def _serve(seat: int, user: str | None, settings: RouterSettings) -> None:
    loop = asyncio.get_running_loop()
    router = Router(loop, seat, settings)
    sock = socket.socket(fileno=CONTROL_FD)
    router.control = Control(loop, sock, router)
    if user is not None:
        who = privileges.resolve_user(user, "router-user")
        # A number that the system does not know has the group of that number.
        privileges.drop(who.uid, who.uid if who.gid is None else who.gid, who.name)
    for signum in (signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(signum, lambda: None)
    loop.add_signal_handler(signal.SIGTERM, router.start_drain, 8.0)
    gc.collect()
    gc.freeze()
    await router.stopped
    router.close()


def main() -> NoReturn:
    """The process. Exit codes: 0 drained, 64 bad arguments."""
    parser = argparse.ArgumentParser(prog="emperor.router")
    parser.add_argument("--seat", type=int, default=0)
    parser.add_argument("--user", default=None)
    rows = parser.add_argument_group("settings of the emperor's for its routers")
    for row in SETTINGS:
        if row.part == "router":
            rows.add_argument(row.flag, dest=row.attribute, action="append", help=row.text.replace("%", "%%"))
    options = parser.parse_args()
    try:
        settings = from_arguments(RouterSettings, vars(options))
    except Mistake as mistake:
        parser.error(str(mistake))
    process.set_title(f"emperor router {options.seat}")
    keep_freed(KEPT_BYTES)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 1 << 20), hard))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(options.seat, options.user, settings))
    sys.exit(0)
