"""The emperor's end of a router: started or taken over, told what it must know, replaced when it dies.

Owns the listening sockets and the backplanes, of which the router has copies: a new router gets the same
ones, so that no client meets a closed door, and workers find their backplane where it was.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from socket import socket
from typing import Any, Protocol

from emperor.control.channel import Channel
from emperor.control.conversation import FIRST_ID, Conversation
from emperor.supervisor import process, sockets
from emperor.supervisor.children import Child, Children
from emperor.supervisor.connecting import Connecting
from emperor.supervisor.handover import Keep
from emperor.supervisor.logpipe import LogPipe
from emperor.supervisor.loop import Loop, Timer
from emperor.supervisor.process import UNSEEN, Exit, StartError
from emperor.supervisor.replacing import Replacing
from emperor.supervisor.rundir import RunDir
from emperor.supervisor.telling import Told, orders, told_by_hello
from emperor.supervisor.wanted import Wanted

SEAT = 0
"""Of the first router. One that takes another's place takes another seat, of `ROUTERS`."""

ALONE = frozenset({"subscription", "workers"})
"""Kinds of listeners that one router has for all: a datagram, and a worker of another host, comes to one process."""


IDLE_S = 5.0
"""How long a router that leaves while another serves keeps connections on which nothing is asked: a client that is about to use
one again gets its answer, with `Connection: close`. Nobody is in a hurry then."""

KILL_AFTER_S = 2.0
"""A router that leaves ends by itself when its time is up; so much later it is killed."""


AGAIN_S = 1.0
AGAIN_MOST_S = 30.0
"""How soon a router is asked what it knows, and told the rest, after it could not take something, or we could not give it: for
want of descriptors, mostly. The wait doubles."""


class Logger(Protocol):
    """What is needed of `emperor.log.Log`."""

    def info(self, text: str) -> None: ...
    def warning(self, text: str) -> None: ...
    def error(self, text: str) -> None: ...
    def write(self, level: str, text: str) -> None: ...


@dataclass(frozen=True)
class Listener:
    """A listening socket of ours: `kind` is http or uwsgi, `address` its one spelling. `vassal` is whose own it is;
    `terms` is `emperor.router.terms.Terms` as JSON; `pem` is a descriptor with key and certificates, for TLS.
    `on_refused` is told why the router cannot use it."""

    kind: str
    address: str
    sock: socket
    vassal: str = ""
    terms: Mapping[str, Any] = field(default_factory=dict)
    pem: int = -1
    on_refused: Callable[[str], None] | None = field(default=None, compare=False)

    @property
    def place(self) -> tuple[str, str, str]:
        """By which a router knows it."""
        return self.vassal, self.kind, self.address


class Table(Protocol):
    """Where the router's end looks up what is wanted."""

    def router_names(self) -> list[str]: ...
    def wanted(self, name: str) -> Wanted | None: ...
    def page(self, name: str, generation: int) -> int:
        """The descriptor of a generation's page."""

    def rows(self, name: str, generation: int) -> int:
        """For how many routers its page has room."""

    def bells(self, name: str, generation: int, router_seat: int) -> list[int]:
        """Those of its bells that the router in this seat gets."""

    def entry_told(self, name: str) -> None:
        """The router has been told a new entry of this vassal, or that it is gone."""

    def log_full(self, name: str, opening: int | None) -> None:
        """The router says that this vassal's access log, as it was opened then, has grown to its limit."""

    def subscribed(self) -> Iterable[dict[str, Any]]:
        """What it has to know of those who have subscribed at the router before it."""

    def overran(self, name: str, generation: int, message: dict[str, Any]) -> None:
        """The router says that a request has held a worker of this generation for too long, and it is to be ended."""

    def poisoned(self, name: str, text: str) -> None:
        """The router says that a request of this vassal is given to no worker for a while."""


class Backplanes:
    """The backplane socket of each vassal for one router seat, bound when first asked for."""

    def __init__(self, run_dir: RunDir, seat: int) -> None:
        self._run_dir = run_dir
        self._seat = seat
        self._socks: dict[str, socket] = {}

    def adopt(self, name: str, sock: socket) -> None:
        """Take over one that a router handed back."""
        self._socks[name] = sock

    def hand_over(self, keep: Keep) -> dict[str, int]:
        """Their descriptors by names, for another program in this process."""
        return {name: keep(sock.fileno()) for name, sock in self._socks.items()}

    def endpoint(self, name: str) -> str:
        return self._run_dir.backplane(name, self._seat)

    def fd(self, name: str) -> int:
        """Raises BindError."""
        if name not in self._socks:
            self._socks[name] = sockets.listen_backplane(
                self._run_dir.backplane(name, self._seat), None, None
            )
        return self._socks[name].fileno()

    @property
    def names(self) -> list[str]:
        """Whose there are."""
        return list(self._socks)

    def held(self) -> dict[str, str]:
        """The paths of those that are bound, and whose each is."""
        return {self._run_dir.backplane(name, self._seat): name for name in self._socks}

    def bind_again(self, name: str, uid: int | None, gid: int | None) -> int:
        """Another socket, at the same path, which has vanished; its descriptor. Raises BindError."""
        sock = sockets.listen_backplane(self._run_dir.backplane(name, self._seat), uid, gid)
        self._socks.pop(name).close()
        self._socks[name] = sock
        return sock.fileno()

    def give(self, name: str, uid: int | None, gid: int | None) -> None:
        """Let the workers of this user connect. Raises BindError."""
        self.fd(name)
        sockets.own(self._run_dir.backplane(name, self._seat), uid, gid)

    def forget(self, name: str) -> None:
        sock = self._socks.pop(name, None)
        if sock is not None:
            sock.close()
            sockets.remove(self._run_dir.backplane(name, self._seat))

    def forget_all(self) -> None:
        """Nobody is met there any more."""
        for name in list(self._socks):
            self.forget(name)

    def close(self) -> None:
        for sock in self._socks.values():
            sock.close()
        self._socks.clear()


def _nothing() -> None:
    """Nobody minds that it has ended."""


def can_share(hello: Mapping[str, Any]) -> bool:
    """Whether the router that says this can serve workers beside another one."""
    routers = hello.get("routers")
    return type(routers) is int and routers > 1


class Router:
    """The router of one seat. Call `start` or `adopt` once; from then on there is one, or soon will be, until it drains.

    While another takes its place there are two (`succession`): the one that is to come is not replaced when it dies,
    `on_failed` is told; the one that leaves is told all that is new to its end.
    """

    def __init__(
        self,
        seat: int,
        loop: Loop,
        children: Children,
        log: Logger,
        run_dir: RunDir,
        table: Table,
        env: Mapping[str, str],
        user: str | None,
        arguments: Sequence[str] = (),
    ) -> None:
        """`arguments` are the settings of every router that is started, as its flags."""
        self.seat = seat
        self.backplanes = Backplanes(run_dir, seat)
        self.shares = True
        """It is of a version that can serve workers beside another router."""
        self.is_ours = False
        """This program has started it, and no other."""
        self.on_failed: Callable[[str], None] | None = None
        self._hands_on = False
        self._loop = loop
        self._children = children
        self._log = log
        self._run_dir = run_dir
        self._table = table
        self._env = env
        self._user = user
        self._arguments = tuple(arguments)
        self._listeners: list[Listener] = []
        self._child: Child | None = None
        self._conversation: Conversation | None = None
        self._connecting: Connecting | None = None
        self._told: dict[str, Told] = {}
        self._keys: tuple[str, dict[str, list[str]]] | None = None
        self._since = 0.0
        self._replacing = Replacing()
        self.last_exit = ""  # how the one before this ended, or why none could be started
        self._timer: Timer | None = None
        self._pipe: LogPipe | None = None
        self._was_met = False
        self._table_is_whole = False
        self._complete = False
        self._may_let_in = False  # it was asked to
        self._on_drained: Callable[[], None] | None = None
        self._drains_until = 0.0
        self._kill_timer: Timer | None = None
        self._on_complete: Callable[[], None] | None = None
        self._again: Timer | None = None
        self._again_s = AGAIN_S
        self._asks = False  # what it knows: until it has said so nothing is told

    @property
    def pid(self) -> int:
        """0 while there is none."""
        return self._child.pid if self._child is not None else 0

    @property
    def restarts(self) -> int:
        return self._replacing.count

    @property
    def state(self) -> str:
        if self._child is None:
            return "down"
        return "draining" if self._on_drained is not None else "running" if self._complete else "starting"

    @property
    def listeners(self) -> list[Listener]:
        return list(self._listeners)

    def listen(self, listener: Listener) -> None:
        """Accept clients from this socket too, or on other terms; it is ours to close."""
        self._listeners = [each for each in self._listeners if each.place != listener.place]
        self._listeners.append(listener)
        self._send_listener(listener)

    def start(self) -> None:
        """Start a router, tell it everything as soon as it listens."""
        self._timer = None
        self._told.clear()
        self._complete = self._was_met = self._may_let_in = False
        self.shares = self.is_ours = True
        path = self._run_dir.router(self.seat)
        argv = [sys.executable, "-P", "-m", "emperor.router", "--seat", str(self.seat)]
        if self._user is not None:
            argv += ["--user", self._user]
        argv += self._arguments
        pipe = None
        try:
            pipe = self._pipe = self._listen_to(None)
            with sockets.bind_control(path) as control:
                pid = process.spawn_exec(
                    argv,
                    self._env,
                    {1: pipe.write_fd, 2: pipe.write_fd, 3: control.fileno()},
                    f"router {self.seat}",
                )
            self._child = self._children.watch_started(pid, self._died, f"router {self.seat}")
        except (StartError, sockets.BindError, OSError) as error:
            self.last_exit = (
                f"cannot start router {self.seat}: {error.strerror}"
                if isinstance(error, OSError)
                else str(error)
            )
            self._log.error(self.last_exit)
            if self.on_failed is not None:
                self._loop.call_soon(self._fail, self.last_exit)
                return
            self._timer = self._loop.call_later(self._replacing.died(0.0) or 0.1, self.start)
            return
        finally:
            if pipe is not None:
                pipe.started()
        self._since = self._loop.now()
        self._connecting = Connecting(self._loop, path, self._connected)

    def adopt(self, channel: Channel, pid: int, hello: dict[str, Any], listeners: list[Listener]) -> None:
        """Take over a living router: its greeting and the listeners that it handed back are known already.
        Raises ProcessLookupError when it has gone meanwhile."""
        self._child = self._children.watch(pid, self._died)
        self._since = self._loop.now()
        self._listeners = listeners
        self._was_met = True
        self._told = dict(told_by_hello(hello.get("vassals")))
        self._complete = hello.get("complete") is True
        self.shares = can_share(hello)
        self._converse(channel)
        if hello.get("settings") != list(self._arguments):
            self._send_settings()  # it was started by an emperor of other ones

    def hand_over(self, keep: Keep) -> dict[str, Any]:
        """What `resume` needs, for another program in this process."""
        conversation = self._conversation
        return {
            "seat": self.seat,
            "shares": self.shares,
            "drains_until": self._drains_until,
            "pid": self.pid,
            "since": self._since,
            "met": self._was_met,
            "complete": self._complete,
            "restarts": self.restarts,
            "last_exit": self.last_exit,
            "pipe": keep.part(None if self._pipe is None else self._pipe.hand_over()),
            "channel": keep.part(None if conversation is None else conversation.hand_over()),
            "listeners": [
                {
                    "kind": each.kind,
                    "address": each.address,
                    "vassal": each.vassal,
                    "terms": dict(each.terms),
                    "fd": keep(each.sock.fileno()),
                    "pem": keep(each.pem),
                }
                for each in self._listeners
            ],
        }

    def resume(self, document: dict[str, Any], listeners: list[Listener]) -> None:
        """Go on with what the program before us in this process had. Its end, if it ended meanwhile, is told as any."""
        self._listeners = listeners
        self.last_exit = document["last_exit"]
        self._replacing.count = document["restarts"]
        self._since = document["since"]
        self._complete = document["complete"]
        self._was_met = document["met"]
        self.shares = document.get("shares", False)
        if document["pipe"] is not None:
            self._pipe = self._listen_to(document["pipe"])
        pid = document["pid"]
        if not pid:
            self.start()
            return
        try:
            self._child = self._children.watch(pid, self._died)
        except ProcessLookupError:  # somebody else has reaped it
            self._loop.call_soon(self._died, UNSEEN)
            return
        channel = document["channel"]
        if channel is not None:
            self._met_again(Channel.resume(channel), channel["last_id"])
        else:
            meet = self._met_again if self._was_met else self._connected
            self._connecting = Connecting(self._loop, self._run_dir.router(self.seat), meet)

    @property
    def quiet(self) -> bool:
        """Nothing that was asked of it is unanswered."""
        return self._conversation is None or (
            self._conversation.unanswered == 0 and self._conversation.flushed
        )

    def held(self) -> dict[str, Callable[[], None]]:
        """The path by which a next emperor finds it, and how that is made again. That raises BindError, OSError."""
        if self._child is None or self._on_drained is not None:
            return {}
        return {self._run_dir.router(self.seat): self._bind_again}

    def _bind_again(self) -> None:
        if self._conversation is None:
            self._log.warning(
                f"router {self.seat} has not been met yet, and cannot be any more: it is replaced"
            )
            self.kill()
            return
        with sockets.bind_control(self._run_dir.router(self.seat)) as control:
            self._conversation.request({"op": "control"}, self._check, [control.fileno()])

    def backplane_again(self, name: str, fd: int) -> None:
        """Let it accept workers of this vassal from this socket too. One that starts is told by its table."""
        if self._conversation is not None and name in self._told:
            self._conversation.request({"op": "backplane", "name": name}, self._check, [fd])

    def use_keys(self, secret: str, apps: Mapping[str, Sequence[str]]) -> None:
        """Who it is to workers of other hosts, and which key of theirs may serve which apps: from now on, and said to each
        that is met."""
        self._keys = (secret, {key: list(names) for key, names in apps.items()})
        self._send_keys()

    def _send_keys(self) -> None:
        if self._keys is None or self._conversation is None:
            return
        secret, apps = self._keys
        fd = os.memfd_create("key", os.MFD_CLOEXEC)
        os.write(fd, secret.encode())
        os.lseek(fd, 0, os.SEEK_SET)
        self._conversation.request({"op": "keys", "apps": apps}, self._check, [fd], os.close)
        os.close(fd)

    def use(self, arguments: Sequence[str]) -> None:
        """From now on these are the settings, of the router that runs as well."""
        if tuple(arguments) != self._arguments:
            self._arguments = tuple(arguments)
            self._send_settings()

    def _send_settings(self) -> None:
        if self._conversation is not None:
            order = {"op": "settings", "arguments": list(self._arguments)}
            self._conversation.request(order, self._check)

    def unlisten(self, listener: Listener) -> None:
        """Close this one, everywhere."""
        self._listeners = [each for each in self._listeners if each.place != listener.place]
        listener.sock.close()
        if self._conversation is not None:
            message = {"op": "unlisten", "kind": listener.kind, "address": listener.address}
            self._conversation.send({**message, "vassal": listener.vassal})

    def tell(self, name: str) -> None:
        """Send what has changed of one vassal. Before the table is whole nothing is sent: to a router that was taken
        over, a vassal that we have not met yet would look like one that is gone."""
        if self._conversation is None or not self._table_is_whole or self._asks:
            return
        if self._on_drained is not None and not self._hands_on:
            return
        found, told = orders(name, self._told.get(name), self._table.wanted(name), os.geteuid())
        for order in found:
            fds = []
            try:
                if order.backplane:
                    fds = [self.backplanes.fd(name)]
                elif order.page is not None:
                    fds = [
                        self._table.page(name, order.page),
                        *self._table.bells(name, order.page, self.seat),
                    ]
                rows = {} if order.page is None else {"routers": self._table.rows(name, order.page)}
                self._conversation.request({**order.message, **rows}, self._took, fds)
            except (OSError, sockets.BindError) as error:
                self._log.error(f"{name}: router {self.seat} cannot be told: {error}; tried again")
                self._tell_again()
                return
            if order.message["op"] in ("vassal", "remove"):
                self._table.entry_told(name)
        if told is None:
            self._told.pop(name, None)
        else:
            self._told[name] = told

    def send(
        self, message: dict[str, Any], fds: Sequence[int], close: Callable[[int], None] = os.close
    ) -> None:
        """Send what is not of the table; nothing while there is no router. `close` ends our duplicates of `fds`."""
        if self._conversation is not None and (self._on_drained is None or self._hands_on):
            self._conversation.request(message, self._check, list(fds), close)

    def table_is_whole(self, on_complete: Callable[[], None]) -> None:
        """Every vassal that was there at the start is known: the router may let clients in. `on_complete`
        is called once, when it has."""
        self._table_is_whole = True
        self._on_complete = on_complete
        self._tell_all()
        self._complete_if_whole()

    def stats(self, on_answer: Callable[[dict[str, Any]], None]) -> bool:
        """Ask for its part of the statistics. False: there is nobody to ask."""
        if self._conversation is None or self._conversation.unanswered > 1000:
            return False
        self._conversation.request({"op": "stats"}, on_answer)
        return True

    def ask(self, message: dict[str, Any], take: Callable[[dict[str, Any]], None]) -> bool:
        """Ask it something of that kind."""
        if self._conversation is None or self._conversation.unanswered > 1000:
            return False
        self._conversation.request(message, take)
        return True

    def counts(self, name: str, on_answer: Callable[[dict[str, Any]], None]) -> bool:
        """Ask how many requests each generation of a vassal has answered and failed. False: there is nobody to ask."""
        if self._conversation is None or self._conversation.unanswered > 1000:
            return False
        self._conversation.request({"op": "counts", "name": name}, on_answer)
        return True

    def hand_on(self, timeout_s: float, on_drained: Callable[[], None]) -> None:
        """Let it finish and go, while another has its place: the listeners, and its table, are that one's too."""
        self._hands_on = True
        self._listeners = []
        self.drain(timeout_s, on_drained)

    def goes_on_leaving(self, until: float, on_drained: Callable[[], None]) -> None:
        """It was told to leave by an emperor before us, or by the program before us in this process."""
        self._hands_on, self._on_drained = True, on_drained
        self._listeners = []
        self._drains_until = until
        self._kill_timer = self._loop.call_at(until + KILL_AFTER_S, self.kill)

    def drain(self, timeout_s: float, on_drained: Callable[[], None]) -> None:
        """Let it accept what has connected, finish and go; `on_drained` is called when it has gone. Our
        copies of the listeners are closed."""
        self._on_drained = on_drained
        self._drains_until = self._loop.now() + timeout_s
        if self._timer is not None:
            self._timer.cancel()
        if self._kill_timer is not None:
            self._kill_timer.cancel()
        if self._hands_on:
            self._kill_timer = self._loop.call_later(timeout_s + KILL_AFTER_S, self.kill)
        if self._conversation is not None:
            grace = {"grace_s": IDLE_S, "hands_on": True} if self._hands_on else {}
            self._conversation.send({"op": "drain", "timeout_s": timeout_s, **grace})
        elif self._child is not None:
            self._child.signal(signal.SIGTERM)
        for listener in self._listeners:
            listener.sock.close()
        self._listeners.clear()
        if self._child is None:
            self._loop.call_soon(on_drained)

    def kill(self) -> None:
        if self._child is not None:
            self._child.signal(signal.SIGKILL)

    @property
    def may_have_clients(self) -> bool:
        """It lives, and was told to let them in, whether it has said that it does or not."""
        return self._may_let_in and self._child is not None and self._conversation is not None

    def give_up(self) -> None:
        """It has not come up, or is not to: its listeners are another's as well."""
        self._on_drained = _nothing
        self._listeners = []
        if self._timer is not None:
            self._timer.cancel()
        self.forget()

    def forget(self) -> None:
        """It is to be no more, or is none: its backplanes and its path are removed."""
        self.close()
        self.kill()
        self.backplanes.forget_all()
        sockets.remove(self._run_dir.router(self.seat))

    def _fail(self, reason: str) -> None:
        on_failed, self.on_failed = self.on_failed, None
        if on_failed is not None:
            on_failed(reason)

    def close(self) -> None:
        """Let go of it without a word: it lives on."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._conversation is not None:
            self._conversation.close()
            self._conversation = None
        for listener in self._listeners:
            listener.sock.close()
        self._listeners.clear()

    def _listen_to(self, before: dict[str, Any] | None) -> LogPipe:
        return LogPipe(self._loop, lambda line: self._log.warning(f"router {self.seat}: {line}"), before)

    def _connected(self, channel: Channel) -> None:
        self._connecting = None
        self._was_met = True
        self._again_s = AGAIN_S
        self._converse(channel)
        assert self._conversation is not None
        self._conversation.send({"op": "hello", "pid": os.getpid(), "version": 1})
        for listener in self._listeners:
            self._send_listener(listener)

    def _converse(self, channel: Channel) -> None:
        self._conversation = Conversation(self._loop, channel, self._said, self._hung_up)
        self._send_keys()
        self._asks = False
        self._tell_all()

    def _tell_all(self) -> None:
        for name in sorted({*self._table.router_names(), *self._told}):
            self.tell(name)
        self._complete_if_whole()

    def _complete_if_whole(self) -> None:
        if not self._table_is_whole or self._conversation is None:
            return
        for message in self._table.subscribed() if not self._complete else ():
            self._conversation.request(message, self._check)

        def completed(answer: dict[str, Any]) -> None:
            self._took(answer)
            self._complete = True
            on_complete, self._on_complete = self._on_complete, None
            if on_complete is not None:
                on_complete()

        self._may_let_in = True
        self._conversation.request({"op": "complete"}, completed)

    def _send_listener(self, listener: Listener) -> None:
        if self._conversation is None or self._on_drained is not None:
            return
        fds = [listener.sock.fileno()]
        if listener.terms.get("tls"):
            if listener.pem < 0:
                return  # taken over; its certificate is being read, and then it is sent
            fds.append(listener.pem)
        message = {"op": "listen", "kind": listener.kind, "address": listener.address}

        def answered(answer: dict[str, Any]) -> None:
            self._check(answer)
            if answer.get("ok") is not True and listener.on_refused is not None:
                listener.on_refused(str(answer.get("error")))

        self._conversation.request({**message, "terms": dict(listener.terms)}, answered, fds)

    def _check(self, answer: dict[str, Any]) -> None:
        if answer.get("ok") is not True:
            self._log.error(f"router {self.seat}: {answer.get('error')}")

    def _took(self, answer: dict[str, Any]) -> None:
        """It has taken what is of the table; else it is told once more."""
        self._check(answer)
        if answer.get("ok") is not True:
            self._tell_again()

    def _tell_again(self) -> None:
        if self._again is None:
            self._again = self._loop.call_later(self._again_s, self._ask)
            self._again_s = min(AGAIN_MOST_S, self._again_s * 2)

    def _ask(self) -> None:
        """What it knows, and tell it the rest: it may have taken a part."""
        self._again = None
        if self._conversation is not None:
            self._asks = True
            self._conversation.request({"op": "hello", "pid": os.getpid(), "version": 1}, self._greeted)

    def _greeted(self, answer: dict[str, Any]) -> None:
        self._asks = False
        self._told = dict(told_by_hello(answer.get("vassals")))
        self.shares = can_share(answer)
        if answer.get("settings") != list(self._arguments):
            self._send_settings()  # the program before us in this process had others
        self._send_keys()
        self._tell_all()

    def _said(self, message: dict[str, Any]) -> None:
        match message:
            case {"op": "log", "lines": list(lines)}:
                for line in lines:
                    match line:
                        case [str(level), str(text)]:
                            self._log.write(level, f"router {self.seat}: {text}")
            case {"op": "harakiri", "name": str(name), "generation": int(generation)}:
                self._table.overran(name, generation, message)
            case {"op": "poison", "name": str(name), "text": str(text)}:
                self._table.poisoned(name, text)
            case {"op": "log-full", "name": str(name)}:
                opening = message.get("opening")
                self._table.log_full(name, opening if type(opening) is int else None)
            case {"op": "fault", "name": str(name), "reason": str(reason)}:
                # Of a router of a version before; now it is one of its lines.
                self._log.warning(f"{name}: link fault: {reason}")

    def _hung_up(self, _why: str) -> None:
        """Its end shows by its pidfd; if it lives, we meet it again."""
        self._conversation = None
        if self._child is not None and self._child.alive and (self._on_drained is None or self._hands_on):
            self._connecting = Connecting(self._loop, self._run_dir.router(self.seat), self._met_again)

    def _met_again(self, channel: Channel, last_id: int = FIRST_ID) -> None:
        self._connecting = None
        self._conversation = Conversation(self._loop, channel, self._said, self._hung_up, last_id)
        self._ask()

    def _died(self, end: Exit) -> None:
        self._child = None
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._conversation is not None:
            self._conversation.receive_now()
        if self._conversation is not None:
            self._conversation.close()
            self._conversation = None
        if self._kill_timer is not None:
            self._kill_timer.cancel()
            self._kill_timer = None
        if self._on_drained is not None:
            self._on_drained()
            return
        self.last_exit = end.text
        if self.on_failed is not None:
            self._fail(f"router {self.seat} {end.text}")
            return
        delay_s = self._replacing.died(self._loop.now() - self._since)
        self._log.error(f"router {self.seat} {end.text}; another one takes its sockets")
        if delay_s:
            self._timer = self._loop.call_later(delay_s, self.start)
        else:
            self.start()
