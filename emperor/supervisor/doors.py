"""The listeners of the vassals' own: opened as the tenant, handed to the router, kept over reloads, removed at the end.

The wish is the readings of each vassal that count (`Supervisor.readings`); `want` brings reality to it, and may be called
as often as one likes. What is the same before and after a reload is not touched. What is new is open before the old one
closes, unless both have one address: then the socket itself goes over. What cannot be opened is tried again, and says why
meanwhile; its vassal is served by its domains all the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from socket import socket
from typing import Any, Protocol

from emperor.config.listening import Listener as Asked
from emperor.config.listening import Listening
from emperor.supervisor.loop import Loop, Timer
from emperor.supervisor.reading import Reading
from emperor.supervisor.routers import Listener
from emperor.supervisor.tenant import (
    BindTcp,
    BindUnix,
    DressSocket,
    Outcome,
    Read,
    Step,
    Tenant,
    Tenants,
    UnlinkSocket,
)

FIRST_RETRY_S = 1.0
LAST_RETRY_S = 30.0

PEM_LIMIT = 1 << 20


class Logger(Protocol):
    """What is needed of `emperor.log.Log`."""

    def info(self, text: str) -> None: ...
    def warning(self, text: str) -> None: ...
    def error(self, text: str) -> None: ...


class Router(Protocol):
    """What is needed of `routers.Router`."""

    def listen(self, listener: Listener) -> None: ...
    def unlisten(self, listener: Listener) -> None: ...


@dataclass(frozen=True)
class Shared:
    """What holds where a vassal says nothing: the emperor's own settings. `among`: so many routers accept."""

    forwarded: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    among: int = 1


@dataclass(eq=False)
class _Door:
    """One listener of one vassal. `reading` None: taken over, and not compared with a file yet."""

    name: str
    asked: Asked
    tenant: Tenant
    reading: Reading | None = None
    dress: tuple[int, int | None, int | None] | None = None
    terms: Mapping[str, Any] = field(default_factory=dict)
    open: Listener | None = None
    device: int = 0
    inode: int = 0
    reason: str = ""
    busy: bool = False
    newer: tuple[Asked, Reading] | None = None  # came while it was busy
    closed: bool = False
    retry_s: float = FIRST_RETRY_S
    timer: Timer | None = None

    @property
    def state(self) -> str:
        return "failed" if self.reason else "open" if self.open is not None else "opening"

    @property
    def note(self) -> str:
        """What an emperor after us has to know to remove it."""
        numbers = (
            self.device,
            self.inode,
            *(-1 if x is None else x for x in (self.tenant.uid, self.tenant.gid)),
        )
        return ":".join(map(str, numbers))


class Doors:
    """All of them."""

    def __init__(self, loop: Loop, tenants: Tenants, router: Router, log: Logger, shared: Shared) -> None:
        self._loop = loop
        self._tenants = tenants
        self._router = router
        self._log = log
        self._shared = shared
        self._doors: list[_Door] = []
        self._leaving = 0

    @property
    def busy(self) -> bool:
        """Something is still to be removed."""
        return self._leaving > 0

    def adopt(self, listeners: Iterable[Listener]) -> None:
        """Take over what an emperor before us had opened. Call `want` for each vassal, then `settle`."""
        for each in listeners:
            device, inode, uid, gid = _noted(each.terms.get("note"))
            tenant = Tenant(None if uid < 0 else uid, None if gid < 0 else gid)
            asked = Asked(each.kind, each.address)
            door = _Door(each.vassal, asked, tenant, device=device, inode=inode, terms=each.terms, open=each)
            self._doors.append(door)

    def settle(self, names: Iterable[str]) -> None:
        """These vassals are all there are: what was taken over for others is closed."""
        known = set(names)
        for door in [each for each in self._doors if each.name not in known]:
            self._close(door)

    def want(self, name: str, readings: Sequence[Reading]) -> None:
        """What a vassal is to have: of each reading, all listeners; of two that ask for the same, the first counts."""
        wanted: dict[tuple[str, str], tuple[Asked, Reading]] = {}
        for reading in readings:
            for asked in reading.listening.listeners:
                wanted.setdefault((asked.kind, asked.address), (asked, reading))
        for door in [each for each in self._doors if each.name == name]:
            found = wanted.get((door.asked.kind, door.asked.address))
            if found is None or door.tenant != _tenant(found[1]):
                self._close(door)
            else:
                del wanted[door.asked.kind, door.asked.address]
                self._adapt(door, *found)
        for asked, reading in wanted.values():
            door = _Door(name, asked, _tenant(reading), reading)
            self._doors.append(door)
            self._open(door)

    def report(self, name: str) -> list[dict[str, Any]]:
        """For the statistics."""
        return [
            {
                "kind": each.asked.kind,
                "address": each.asked.address,
                "bound": _bound(each.open.sock) if each.open is not None else "",
                "state": each.state,
                "reason": each.reason,
            }
            for each in self._doors
            if each.name == name
        ]

    def remove_all(self) -> None:
        """The emperor stops, and the router has closed them all: take away what is left in file systems."""
        for door in self._doors:
            door.closed = True
            if door.timer is not None:
                door.timer.cancel()
            self._remove(door)
        self._doors.clear()

    # -- opening ------------------------------------------------------------------------------------------

    def _open(self, door: _Door) -> None:
        door.timer = None
        if door.closed or any(each is not door and _same_place(each, door) for each in self._doors):
            return  # `_close` of the other one goes on from here
        assert door.reading is not None
        self._ask(door, [_bind(door.asked, door.reading.listening)])

    def _ask(self, door: _Door, steps: list[Step]) -> None:
        """Bind, and read what TLS needs, in one go."""
        if door.asked.certificate:
            steps = [*steps, Read(door.asked.key), Read(door.asked.certificate)]
        door.busy = True
        self._tenants.ask(door.tenant, steps, lambda outcomes: self._done(door, outcomes))

    def _done(self, door: _Door, outcomes: list[Outcome]) -> None:
        door.busy = False
        self._take(door, outcomes)
        newer, door.newer = door.newer, None
        if newer is not None and not door.closed:
            self._adapt(door, *newer)

    def _take(self, door: _Door, outcomes: list[Outcome]) -> None:
        wrong = next((each.error for each in outcomes if not each.ok), "")
        pem = -1
        if not wrong and door.asked.certificate:
            pem, wrong = _pem([each.fd for each in outcomes[-2:]])
        files = outcomes[-2:] if door.asked.certificate else []
        for each in files:
            if each.fd >= 0:
                os.close(each.fd)
        bound = outcomes[0] if len(outcomes) > len(files) and outcomes[0].ok else None
        if bound is not None:
            door.device, door.inode = bound.device, bound.inode
        if door.closed or wrong:
            if bound is not None:
                os.close(bound.fd)
                self._remove(door)
            if pem >= 0:
                os.close(pem)
            if door.closed:
                self._closed(door)
            else:
                self._failed(door, wrong)
            return
        assert door.reading is not None
        listening = door.reading.listening
        door.dress = (listening.mode, listening.owner, listening.group)
        if bound is not None:
            self._say_clipped(door, listening)
            self._let_in(door, socket(fileno=bound.fd), pem)
        elif door.open is not None:
            self._let_in(door, door.open.sock, pem)

    def _let_in(self, door: _Door, sock: socket, pem: int) -> None:
        """Hand it to the router, or hand it again on new terms."""
        sock.setblocking(False)
        new = door.open is None
        if door.open is not None and door.open.pem >= 0:
            os.close(door.open.pem)
        door.terms = self._terms(door)
        place = (door.asked.kind, door.asked.address, sock, door.name)
        door.open = Listener(*place, door.terms, pem, lambda reason: self._refused(door, reason))
        door.reason = ""
        door.retry_s = FIRST_RETRY_S
        self._router.listen(door.open)
        if new:
            self._log.info(f"{door.name}: {door.asked.kind} at {_bound(sock)}")

    def _refused(self, door: _Door, reason: str) -> None:
        """By the router: a key that is not the certificate's, ciphers that nobody knows."""
        if not door.closed:
            self._failed(door, reason)

    def _failed(self, door: _Door, reason: str) -> None:
        if door.reason != reason:
            self._log.error(f"{door.name}: {reason}; tried again until it can be had")
        door.reason = reason
        if door.open is None:
            door.timer = self._loop.call_later(door.retry_s, self._open, door)
            door.retry_s = min(door.retry_s * 2, LAST_RETRY_S)

    def _terms(self, door: _Door) -> dict[str, Any]:
        assert door.reading is not None
        listening = door.reading.listening
        forwarded = self._shared.forwarded if listening.forwarded is None else listening.forwarded
        return {
            "vassal": door.name,
            "forwarded": list(forwarded),
            "fields": sorted(self._shared.fields),
            "trusted": list(listening.trusted),
            "proxies": list(listening.proxies),
            "backlog": listening.backlog,
            "tls": bool(door.asked.certificate),
            "ciphers": door.asked.ciphers,
            "note": door.note,
            "among": self._shared.among,
        }

    def _say_clipped(self, door: _Door, listening: Listening) -> None:
        most = somaxconn()
        if listening.backlog > most and listening.backlog != Listening.backlog:
            self._log.warning(
                f"{door.name}: listen = {listening.backlog}: the kernel allows {most} (sysctl net.core.somaxconn)"
            )

    # -- another reading ----------------------------------------------------------------------------------

    def _adapt(self, door: _Door, asked: Asked, reading: Reading) -> None:
        if door.busy:
            door.newer = (asked, reading)
            return
        if door.reading is reading:
            return
        before, door.reading, door.asked = door.reading, reading, asked
        if door.open is None:
            if door.timer is not None:  # it may be the very thing that was wrong
                door.timer.cancel()
                self._open(door)
            return
        self._dress(door)
        if asked.certificate:
            # Also when nothing else is new: a renewed certificate is taken up by a reload.
            self._ask(door, [])
        elif before is None or self._terms(door) != door.terms:
            self._let_in(door, door.open.sock, -1)

    def _dress(self, door: _Door) -> None:
        """Mode and owner as the newest reading has them."""
        assert door.reading is not None
        listening = door.reading.listening
        dress = (listening.mode, listening.owner, listening.group)
        if door.asked.path and door.dress != dress:
            door.dress = dress
            step = DressSocket(door.asked.path, door.device, door.inode, *dress)
            self._tenants.ask(door.tenant, [step], lambda outcomes: self._dressed(door, outcomes))

    def _dressed(self, door: _Door, outcomes: list[Outcome]) -> None:
        wrong = outcomes[0].error
        if wrong and not door.closed:
            self._failed(door, wrong)

    # -- closing ------------------------------------------------------------------------------------------

    def _close(self, door: _Door) -> None:
        self._doors.remove(door)
        door.closed = True
        if door.timer is not None:
            door.timer.cancel()
        heir = next((each for each in self._doors if _same_place(each, door)), None)
        found, door.open = door.open, None
        if found is not None:
            sock = found.sock.dup() if heir is not None and heir.tenant == door.tenant else None
            self._router.unlisten(found)
            if found.pem >= 0:
                os.close(found.pem)
            self._log.info(f"{door.name}: {door.asked.kind} at {door.asked.address} is closed")
            if heir is not None and sock is not None:
                heir.device, heir.inode = door.device, door.inode
                self._inherit(heir, sock)
                return
        if not door.busy:
            self._remove(door)
            self._closed(door)

    def _inherit(self, door: _Door, sock: socket) -> None:
        """It had waited for the one that had its address."""
        door.open = Listener(door.asked.kind, door.asked.address, sock, door.name, {}, -1)
        self._dress(door)
        if door.asked.certificate:
            self._ask(door, [])
        else:
            self._let_in(door, sock, -1)

    def _closed(self, door: _Door) -> None:
        for each in self._doors:
            if _same_place(each, door) and each.open is None and not each.busy and each.timer is None:
                # In the order asked: after the removal.
                self._open(each)

    def _remove(self, door: _Door) -> None:
        if not door.asked.path or not door.inode:
            return
        self._leaving += 1
        step = UnlinkSocket(door.asked.path, door.device, door.inode)
        self._tenants.ask(door.tenant, [step], self._removed)
        door.inode = 0

    def _removed(self, _outcomes: list[Outcome]) -> None:
        # Another one there by now, or a directory that is gone: there is nothing of ours.
        self._leaving -= 1


def _same_place(one: _Door, other: _Door) -> bool:
    return (one.name, one.asked.address) == (other.name, other.asked.address) and not one.asked.any_port


def _tenant(reading: Reading) -> Tenant:
    return Tenant(reading.uid, reading.gid)


def _bind(asked: Asked, listening: Listening) -> Step:
    if asked.path:
        return BindUnix(asked.path, listening.mode, listening.group, listening.backlog, listening.owner)
    if asked.address.startswith("@"):
        return BindUnix("\0" + asked.address[1:], backlog=listening.backlog)
    host, _, port = asked.address.rpartition(":")
    return BindTcp(host.strip("[]"), int(port), listening.backlog)


def _bound(sock: socket) -> str:
    name = sock.getsockname()
    if isinstance(name, bytes):
        return "@" + name[1:].decode(errors="replace")
    if isinstance(name, str):
        return f"unix:{name}"
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


def _pem(fds: list[int]) -> tuple[int, str]:
    """Key and certificates as one file in memory, for the router; or -1 and what is wrong."""
    content = b"".join(os.read(fd, PEM_LIMIT) + b"\n" for fd in fds)
    for what in (b"PRIVATE KEY-----", b"BEGIN CERTIFICATE-----"):
        if what not in content:
            return -1, f"there is no {what.strip(b'-').decode()} in its certificate and key files (PEM)"
    made = os.memfd_create("pem", os.MFD_CLOEXEC)
    os.write(made, content)
    return made, ""


def _noted(note: Any) -> tuple[int, int, int, int]:
    try:
        device, inode, uid, gid = map(int, str(note).split(":"))
    except ValueError:
        return 0, 0, -1, -1
    return device, inode, uid, gid


def somaxconn() -> int:
    """The most connections that the kernel lets wait at a listener."""
    try:
        with open("/proc/sys/net/core/somaxconn", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 1 << 30
