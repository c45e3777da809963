"""Every socket that the emperor binds: listeners for clients, the backplane's, control sockets.

They are bound here and handed on, so that no restart of a router ever closes one. Errors name the address,
why it cannot be had, and, where the system shows it, who has it.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
from dataclasses import dataclass

from emperor.supervisor.stale import is_stale

BACKLOG = 2048
"""Connections that wait to be accepted, as far as net.core.somaxconn allows."""

BACKPLANE_BACKLOG = 512

SO_PASSRIGHTS = 83
"""Linux, unix(7); Python does not name it."""


class BindError(Exception):
    """An address cannot be listened on; the text names it, says why and what to do."""


class AddressError(ValueError):
    """A text that is no address; the text says what one looks like."""


@dataclass(frozen=True)
class Address:
    """Where clients connect: a unix socket's `path`, or `host` and `port`. `str()` is its one spelling, by
    which listeners are compared."""

    path: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Address:
        """HOST:PORT, :PORT (every address of this host), [::1]:PORT, unix:PATH or /PATH. Raises
        AddressError."""
        if text.startswith(("unix:", "/")):
            path = text.removeprefix("unix:")
            if not path:
                raise AddressError(f"{text!r} names no path: write unix:/run/NAME.sock")
            return cls(path=os.path.abspath(path))
        host, colon, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise AddressError(f"{text!r}: write an IPv6 address in brackets, like [::1]:8080")
        if not colon or not (port.isascii() and port.isdigit()) or not 0 <= int(port) <= 65535:
            raise AddressError(f"{text!r} is no address: write HOST:PORT, :PORT, [IPV6]:PORT or unix:/PATH")
        return cls(host=host or "0.0.0.0", port=int(port))

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_every(self) -> bool:
        """Whether it is every address of this host."""
        with contextlib.suppress(ValueError):
            return not self.path and ipaddress.ip_address(self.host).is_unspecified
        return False

    @property
    def url(self) -> str:
        """What a user on this host types."""
        if self.path:
            return str(self)
        return f"http://127.0.0.1:{self.port}/" if self.is_every else f"http://{self}/"


def listen(address: Address, mode: int = 0o660) -> socket.socket:
    """A listening, non-blocking socket at `address`; `mode` is a unix socket's. A stale unix socket is
    replaced, a living one never. Raises BindError."""
    return _listen_unix(address.path, mode, BACKLOG) if address.path else _listen_tcp(address)


def open_at(kind: str, address: Address, mode: int = 0o660) -> socket.socket:
    """The socket of a listener of this kind: one that listens, or for subscriptions one that datagrams come to. Raises
    BindError."""
    return receive(address, mode) if kind == "subscription" else listen(address, mode)


def receive(address: Address, mode: int = 0o660) -> socket.socket:
    """A non-blocking datagram socket at `address`; `mode` is a unix socket's, whose kernel says who sends. A stale unix
    socket is replaced, a living one never. Raises BindError."""
    if address.path:
        return _receive_unix(address.path, mode)
    sock = None
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            address.host,
            address.port,
            type=socket.SOCK_DGRAM,
            flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV,
        )[0]
        sock = socket.socket(family, kind, protocol)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(place)
        sock.setblocking(False)
    except OSError as error:
        if sock is not None:
            sock.close()
        why = "another program has it" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        raise BindError(
            f"cannot take subscriptions at {address} (UDP): {why}: choose another address"
        ) from error
    return sock


def _receive_unix(path: str, mode: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        if is_stale(path, socket.SOCK_DGRAM):
            os.unlink(path)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        _bind_unix(sock, path, mode)
        take_no_descriptors(sock)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        why = {
            errno.EADDRINUSE: "another program reads there: stop it, or choose another path",
            errno.ENAMETOOLONG: "the path of a unix socket may have 107 bytes",
        }.get(error.errno or 0, error.strerror or str(error))
        raise BindError(f"cannot take subscriptions at unix:{path}: {why}") from error
    return sock


def listen_backplane(path: str, uid: int | None, gid: int | None) -> socket.socket:
    """A listening, non-blocking socket for one vassal's workers, 0600 and its uid's. Whatever was at `path`
    is replaced: only we bind there. Raises BindError."""
    remove(path)
    sock = _listen_unix(path, 0o600, BACKPLANE_BACKLOG)
    try:
        own(path, uid, gid)
    except BindError:
        sock.close()
        raise
    return sock


def own(path: str, uid: int | None, gid: int | None) -> None:
    """Give a backplane's path to a vassal's user. Raises BindError."""
    if uid is None and gid is None:
        uid, gid = os.geteuid(), os.getegid()
    try:
        os.chown(path, -1 if uid is None else uid, -1 if gid is None else gid)
    except OSError as error:
        raise BindError(f"{path} cannot be given to uid {uid}: {error.strerror}") from error


def take_no_descriptors(sock: socket.socket) -> None:
    """Whoever connects to this unix socket can send bytes, and no descriptors (Linux 6.16 and later).

    Nobody asks for them, and whoever is sent one closes it: of a TCP connection that lingers, that takes as long as its sender
    likes.
    """
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)


def dress(path: str, mode: int, uid: int | None, gid: int | None) -> None:
    """Give a unix socket of ours its mode and owner. Raises BindError."""
    try:
        if uid is not None or gid is not None:
            os.chown(path, -1 if uid is None else uid, -1 if gid is None else gid)
        os.chmod(path, mode)
    except OSError as error:
        raise BindError(
            f"unix:{path} cannot have mode {mode:o} and owner {uid}:{gid}: {error.strerror}: "
            "change chmod-socket or chown-socket, or start the emperor as root"
        ) from error


def bind_control(path: str) -> socket.socket:
    """A bound control socket, 0600, that does not listen: who is handed it does, so that peer credentials
    name him. Whatever was at `path` is replaced. Raises BindError."""
    remove(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _bind_unix(sock, path, 0o600)
    except OSError as error:
        sock.close()
        raise BindError(f"{path} cannot be bound: {error.strerror}") from error
    return sock


def is_bound(path: str) -> bool:
    """True while some process holds a socket that was bound to `path`, listening or not (from
    /proc/net/unix)."""
    end = " " + path
    try:
        with open("/proc/net/unix", encoding="utf-8", errors="surrogateescape") as file:
            return any(line.rstrip("\n").endswith(end) for line in file)
    except OSError:
        return False


def _listen_tcp(address: Address) -> socket.socket:
    try:
        found = socket.getaddrinfo(
            address.host,
            address.port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV,
        )
    except OSError as error:
        raise BindError(
            f"cannot listen on {address}: {address.host} is no address of this host: {error}"
        ) from error
    family, kind, protocol, _, place = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(place)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise BindError(f"cannot listen on {address}: {_why_tcp(address, error)}") from error
    return sock


def _why_tcp(address: Address, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            who = _who_listens(address.host, address.port)
            return f"{who or 'another program'} has it: stop that, or choose another address"
        case errno.EACCES:
            return (
                f"ports below {_first_port()} are for root: start as root, with CAP_NET_BIND_SERVICE, or choose "
                "another port"
            )
        case errno.EADDRNOTAVAIL:
            return f"{address.host} is no address of this host"
    return error.strerror or str(error)


def _first_port() -> str:
    try:
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return "1024"


_EVERYWHERE = ("", "0.0.0.0", "::")


def _who_listens(host: str, port: int) -> str:
    """ "nginx (pid 812)", as far as the system shows it to us; empty when it does not."""
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status != psutil.CONN_LISTEN or not connection.pid:
                continue
            where = tuple(connection.laddr)
            # Another program may have the same port of another address.
            if where[1:] == (port,) and (host in _EVERYWHERE or where[0] in (host, *_EVERYWHERE)):
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return ""


def _listen_unix(path: str, mode: int, backlog: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if is_stale(path):
            os.unlink(path)
        _bind_unix(sock, path, mode)
        take_no_descriptors(sock)
        sock.listen(backlog)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        why = {
            errno.EADDRINUSE: "another program listens there: stop it, or choose another path",
            errno.ENAMETOOLONG: "the path of a unix socket may have 107 bytes",
        }.get(error.errno or 0, error.strerror or str(error))
        raise BindError(f"cannot listen on unix:{path}: {why}") from error
    return sock


def _bind_unix(sock: socket.socket, path: str, mode: int) -> None:
    # The mode from the beginning: between bind and chmod anybody could connect. The emperor changes it in one
    # thread, and the others (the log's writer, the directory's observer) make no files.
    before = os.umask(0o777 & ~mode)
    try:
        sock.bind(path)
    finally:
        os.umask(before)
    os.chmod(path, mode)


def remove(path: str) -> None:
    """Unlink what may be there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
