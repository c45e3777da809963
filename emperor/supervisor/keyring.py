"""The keys of this host, and those of others, as they are now (`emperor.config.keys`): what the routers are told of them, and
what the workers of a vassal that serve a router on another host are given.

The files are looked at once a second, so what `emperor keys` changes is in effect without a word to the emperor. What is wrong
with them is logged once, and what was known before stays in effect: but a list that cannot be read any more lets in nobody new.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from emperor.config.keys import ALLOWED, HOST, NOBODY, Allowed, KeysError, KeyStore, sorted_out
from emperor.config.remote import weights
from emperor.config.spec import RemoteRouter
from emperor.supervisor.fleet import Generation
from emperor.supervisor.loop import Loop

WORKERS = "workers"
"""The kind of the listening socket for workers of other hosts, among a router's."""

LOOK_S = 1.0

REMOTES_MOST = 32
"""Routers on other hosts to which a worker has a link each; beside their sockets it waits on a few descriptors more, of 64 in
all (`emperor.protocol.bell`)."""

_Marks = tuple[tuple[int, int, int] | None, ...]


class Logger(Protocol):
    """What is needed of `emperor.log.Log`."""

    def info(self, text: str) -> None: ...
    def error(self, text: str) -> None: ...


class Keyring:
    """`routers` are those on other hosts that every vassal here serves; `tell`, if there is one, is told our own secret key and
    which keys may serve which apps, whenever that is new."""

    def __init__(
        self,
        loop: Loop,
        directory: str,
        routers: Sequence[str],
        log: Logger,
        tell: Callable[[str, Mapping[str, Sequence[str]]], None] | None,
    ) -> None:
        self._loop = loop
        self._store = KeyStore(directory)
        self._routers = tuple(dict.fromkeys(routers))
        self._log = log
        self._tell = tell
        self._seen: _Marks | None = None
        self._wrong = ""
        self._complained: dict[str, str] = {}
        if tell is not None:
            self._look()

    # -- what the routers are told ------------------------------------------------------------------------

    def _look(self) -> None:
        self._loop.call_later(LOOK_S, self._look)
        now = tuple(_mark(os.path.join(self._store.directory, each)) for each in (f"{HOST}.key", ALLOWED))
        if now == self._seen:
            return
        self._seen = now
        assert self._tell is not None
        try:
            secret = self._store.pair(HOST).secret
            allowed = sorted_out(self._store.allowed(), self._store.allowed_path)
        except KeysError as error:
            if str(error) != self._wrong:
                self._wrong = str(error)
                self._log.error(
                    f"backplane: {error}; until then no worker of another host is let in that was not before"
                )
            return
        self._wrong = ""
        self._tell(secret, allowed.apps)

    # -- what workers are given ---------------------------------------------------------------------------

    def remotes(self, generation: Generation) -> tuple[RemoteRouter, ...]:
        """The routers on other hosts that its workers serve. One whose key, or ours, is not there is left out, and said."""
        reading = generation.reading
        addresses = weights((*self._routers, *reading.routers))
        if not addresses:
            return ()
        found = []
        gateway = hashlib.sha256(bytes.fromhex(generation.token)).hexdigest()
        wrong = ""
        try:
            pair = self._store.pair(self._whose(generation))
            allowed = sorted_out(self._store.allowed(), self._store.allowed_path)
        except KeysError as error:
            wrong, allowed = str(error), NOBODY
        for address, weight in addresses.items():
            server = _server(allowed, address)
            if not wrong and not server:
                wrong = (
                    f"the key of the router at {address} is not known (ask `emperor keys show` on its host, then here: emperor "
                    f"keys allow 'KEY' {address})"
                )
            elif server:
                found.append(RemoteRouter(address, server, pair.public, pair.secret, gateway, weight))
        if len(found) > REMOTES_MOST:
            wrong = wrong or (
                f"{len(found)} routers on other hosts, and a worker serves {REMOTES_MOST} at most: name fewer (router =, or "
                "--router of the emperor)"
            )
            del found[REMOTES_MOST:]
        if wrong and self._complained.get(generation.name) != wrong:
            served = ", ".join(each.address for each in found)
            until = f"this host and {served}" if found else "only this host"
            self._log.error(
                f"{generation.name}: router = {', '.join(addresses)}: {wrong}; its workers serve {until} until then"
            )
        self._complained[generation.name] = wrong
        return tuple(found)

    def _whose(self, generation: Generation) -> str:
        """Which pair its workers have: one of its own, else the host's, which a tenant whose file it is does not get."""
        name = generation.name
        if self._store.has(name):
            return name
        reading = generation.reading
        own = weights(reading.routers).keys() - weights(self._routers).keys()
        if own and _owner(reading.path) not in (0, os.geteuid()):
            # Its app could say that it is any other of this host's.
            return name
        return HOST


def _server(allowed: Allowed, address: str) -> str:
    return allowed.routers.get(address, "")


def _owner(path: str) -> int:
    try:
        return os.stat(path).st_uid
    except OSError:
        return -1


def _mark(path: str) -> tuple[int, int, int] | None:
    """What changes whenever the file does: it is never written over."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
