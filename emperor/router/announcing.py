"""Announcing our apps to routers of uWSGI's: what `subscribe-to` in a vassal's file asks for, sent as uWSGI's master would.

An app is announced while it serves and is not paused, at the address of its listener, and taken back as soon as that is
over: before the listener closes, so that nobody is sent to a closed door. A router whose place another takes says nothing at
its end, as the other goes on with the same sockets. Datagrams do not block, and what is lost is made up for by the next.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from emperor.config.announcing import Announcement
from emperor.protocol import subscription
from emperor.protocol.subscription import SUBSCRIBE, UNSUBSCRIBE, Subscription
from emperor.router import signatures

AT_ONCE: Final = 16
"""Datagrams of one turn: to sign one takes up to a millisecond, which everybody's clients wait for."""

NEXT_S: Final = 0.01

COMPLAIN_S: Final = 60.0
"""So often at most it is said that one cannot be sent."""

_KEY_LIMIT: Final = 65536


class Surroundings(Protocol):
    """What the announcer needs to know of its router."""

    def served(self, name: str) -> tuple[bool, int, int]:
        """Whether this app is to be announced, how many requests its workers run at once, and how many wait."""

    def bound(self, name: str, address: str) -> str:
        """Where the uwsgi listener of its that its file calls so really listens; empty: it does not yet, or no more."""


@dataclass(eq=False)
class _Said:
    """One announcement. `last` is what was sent last, None: it does not stand there."""

    asked: Announcement
    key: Any = None
    last: Subscription | None = None
    due: float = 0.0
    sent: int = 0
    error: str = ""
    complained: float = -COMPLAIN_S


@dataclass(eq=False)
class _App:
    every_s: float
    sockets: tuple[str, ...]
    said: list[_Said] = field(default_factory=list)


class Announcer:
    """`clock` is monotonic, `wall` what a signature's time is; `later` calls back; `log` takes a level and a text."""

    def __init__(
        self,
        around: Surroundings,
        clock: Callable[[], float],
        wall: Callable[[], float],
        later: Callable[[float, Callable[[], None]], Any],
        log: Callable[[str, str], None],
    ) -> None:
        self._around = around
        self._clock = clock
        self._wall = wall
        self._later = later
        self._log = log
        self._apps: dict[str, _App] = {}
        self._udp: socket.socket | None = None
        self._unix: socket.socket | None = None
        self._waits = False
        self._closed = False

    def use(self, name: str, message: dict[str, Any], fds: Sequence[int]) -> None:
        """These are the announcements of an app from now on; `fds` hold the keys to sign with, one for each that is signed.
        Raises ValueError, and then nothing has changed."""
        sockets = tuple(map(str, message["sockets"]))
        app = _App(float(message["every_s"]), sockets)
        keys = list(fds)
        for document in message["announcements"]:
            said = _Said(Announcement.from_json(document))
            if said.asked.digest:
                if not keys:
                    raise ValueError(f"{said.asked.key}: its key is missing")
                said.key = _key(keys.pop(0), said.asked)
            app.said.append(said)
        before = self._apps.pop(name, None)
        for old in [] if before is None else before.said:
            same = next((each for each in app.said if _place(each) == _place(old)), None)
            if same is not None:
                same.last, same.sent, same.error = old.last, old.sent, old.error
                same.due = min(old.due, self._clock() + app.every_s)
            elif old.last is not None:
                self._send(name, old, UNSUBSCRIBE, old.last)
        if app.said:
            self._apps[name] = app
        self.look()

    def forget(self, name: str) -> None:
        """The vassal has gone."""
        app = self._apps.pop(name, None)
        for said in [] if app is None else app.said:
            self._take_back(name, said)

    def look(self) -> None:
        """Once a second, and when something has changed: announce what is due, take back what is not served any more."""
        if self._closed:
            return
        now, sent = self._clock(), 0
        for name, app in self._apps.items():
            serves, cores, load = self._around.served(name)
            for said in app.said:
                address = self._address(name, app, said.asked) if serves else ""
                if said.last is not None and said.last.address != address:
                    self._take_back(name, said)
                    said.due = 0.0
                    sent += 1
                if not address or now + 0.5 < said.due:
                    continue
                if sent >= AT_ONCE:
                    self._look_again()
                    return
                sent += 1
                said.due = now + app.every_s
                self._send(name, said, SUBSCRIBE, _subscription(said.asked, address, cores, load))

    def close(self, leave: bool) -> None:
        """No more of it. `leave`: nobody goes on in our place, and what is announced is taken back."""
        for name in list(self._apps):
            if leave:
                self.forget(name)
        self._closed = True
        self._apps.clear()
        for sock in (self._udp, self._unix):
            if sock is not None:
                sock.close()
        self._udp = self._unix = None

    def report(self, name: str) -> list[dict[str, Any]]:
        """For the statistics."""
        app = self._apps.get(name)
        return [
            {
                "server": each.asked.server,
                "key": each.asked.key,
                "address": "" if each.last is None else each.last.address,
                "signed": int(bool(each.asked.digest)),
                "sent": each.sent,
                "error": each.error,
            }
            for each in ([] if app is None else app.said)
        ]

    def _look_again(self) -> None:
        if not self._waits:
            self._waits = True
            self._later(NEXT_S, self._again)

    def _again(self) -> None:
        self._waits = False
        self.look()

    def _take_back(self, name: str, said: _Said) -> None:
        last, said.last = said.last, None
        if last is not None:
            self._send(name, said, UNSUBSCRIBE, last)

    def _address(self, name: str, app: _App, asked: Announcement) -> str:
        if asked.address:
            return asked.address
        place = self._around.bound(name, app.sockets[asked.socket]) if asked.socket < len(app.sockets) else ""
        if place.startswith("unix:"):
            return place.removeprefix("unix:")
        host, _, port = place.rpartition(":")
        if host in ("0.0.0.0", "[::]"):
            return _toward(asked.server, port)
        return place

    def _send(self, name: str, said: _Said, command: int, what: Subscription) -> None:
        key, digest = said.key, said.asked.digest
        unix = int(self._wall()) + command if key is not None else 0
        sign = None if key is None else lambda data: signatures.signature(key, digest, data)
        try:
            made = subscription.build(_with(what, command, unix), sign)
            self._transmit(said.asked.server, made)
        except (OSError, ValueError) as error:
            said.error = _why(error)
            now = self._clock()
            if command == SUBSCRIBE and now - said.complained >= COMPLAIN_S:
                said.complained = now
                self._log(
                    "warning",
                    f"[{name}] {said.asked.key} could not be announced to {said.asked.server}: {said.error}",
                )
            return
        if said.error:
            self._log("info", f"[{name}] {said.asked.key} is announced to {said.asked.server} again")
        elif said.last is None and command == SUBSCRIBE and not said.sent:
            self._log(
                "info", f"[{name}] {said.asked.key} is announced to {said.asked.server}, at {what.address}"
            )
        said.error = ""
        said.sent += 1
        if command == SUBSCRIBE:
            said.last = what

    def _transmit(self, server: str, data: bytes) -> None:
        if server.startswith("/"):
            if self._unix is None:
                self._unix = _datagrams(socket.AF_UNIX)
            self._unix.sendto(data, server)
            return
        if self._udp is None:
            self._udp = _datagrams(socket.AF_INET)
        host, _, port = server.rpartition(":")
        self._udp.sendto(data, (host, int(port)))


def _datagrams(family: int) -> socket.socket:
    return socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)


def _toward(server: str, port: str) -> str:
    """Our address as this server sees it, by the kernel's table of routes; no packet is sent."""
    if server.startswith("/"):
        return f"127.0.0.1:{port}"
    host, _, other = server.rpartition(":")
    with contextlib.suppress(OSError), _datagrams(socket.AF_INET) as sock:
        sock.connect((host, int(other)))
        return f"{sock.getsockname()[0]}:{port}"
    return ""


def _place(said: _Said) -> tuple[str, str, str, int]:
    return said.asked.server, said.asked.key, said.asked.address, said.asked.socket


def _subscription(asked: Announcement, address: str, cores: int, load: int) -> Subscription:
    return Subscription(
        key=asked.key,
        address=address,
        modifier1=asked.modifier1,
        modifier2=asked.modifier2,
        cores=cores,
        load=load,
        weight=asked.weight,
        backup=asked.backup,
        sni_key=asked.sni_key,
        sni_crt=asked.sni_crt,
        sni_ca=asked.sni_ca,
    )


def _with(what: Subscription, command: int, unix: int) -> Subscription:
    return Subscription(**{**vars(what), "command": command, "unix": unix})


def _key(fd: int, asked: Announcement) -> Any:
    try:
        return signatures.private_key(os.pread(fd, _KEY_LIMIT, 0))
    except (ValueError, signatures.Unsigned) as error:
        raise ValueError(f"{asked.pem}: {error}") from None


def _why(error: Exception) -> str:
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return "nobody listens there"
    if isinstance(error, PermissionError):
        return f"the router's user (uid {os.geteuid()}) may not write there"
    if isinstance(error, BlockingIOError):
        return "it does not read what it is sent"
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
