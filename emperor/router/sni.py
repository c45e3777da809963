"""Certificates that nodes bring: ``sni_key`` and ``sni_crt`` of a subscription, at the TLS listeners of the vassal that they
have joined (docs/specs/subscription.md).

Who asks there for a name that a node has subscribed to is shown that node's certificate, and everybody else the listener's own.
The files are read when a client first asks, as the router's user, and again when they are others. What cannot be used is said
in the log, and the listener's own is shown in its place: a node must not end what was served before it came.
"""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from emperor.router.listener import tls_context
from emperor.router.subscriptions import Node

LARGEST: Final = 65536
MOST: Final = 1024
"""Contexts that are kept, some 20 KiB each."""

LOOK_S: Final = 1.0
"""So often at most it is looked whether the files are others."""


@dataclass
class _Known:
    looked: float
    marks: tuple[tuple[int, ...], ...]
    context: ssl.SSLContext | None


class Certificates:
    """``named(vassal, name)``: the nodes in this vassal that serve this name, the nearest first."""

    def __init__(
        self,
        named: Callable[[str, str], Iterable[Node]],
        clock: Callable[[], float],
        complain: Callable[[str, str, str], None],
    ) -> None:
        self._named = named
        self._clock = clock
        self._complain = complain
        self._known: dict[tuple[str, str, str], _Known] = {}

    def serve(self, context: ssl.SSLContext, vassal: str, ciphers: str) -> None:
        """Have this listener's context look here first."""

        def asked(connection: ssl.SSLObject, name: str | None, _own: Any) -> None:
            found = self.find(vassal, name, ciphers) if name else None
            if found is not None:
                connection.context = found

        context.sni_callback = asked

    def find(self, vassal: str, name: str, ciphers: str) -> ssl.SSLContext | None:
        """What to show who asks for this name; None: the listener's own."""
        for node in self._named(vassal, name.lower()):
            # PEM in a datagram is no path: a private key does not belong there.
            if node.sni_key.startswith("/") and node.sni_crt.startswith("/"):
                return self._context(node, ciphers)
        return None

    def _context(self, node: Node, ciphers: str) -> ssl.SSLContext | None:
        place = (node.sni_key, node.sni_crt, ciphers)
        known, now = self._known.get(place), self._clock()
        if known is not None and now - known.looked < LOOK_S:
            return known.context
        marks: tuple[tuple[int, ...], ...] = ()
        context = None
        try:
            texts, marks = zip(*(_read(path) for path in dict.fromkeys(place[:2])), strict=True)
            if known is not None and known.marks == marks:
                known.looked = now
                return known.context
            context = _made(b"\n".join(texts), ciphers)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            self._complain(
                f"sni {node.host}",
                "warning",
                f"{node.host}: the certificate that {node.address} names cannot be used, and the listener's own is shown "
                f"({node.sni_key}, {node.sni_crt}: {why})",
            )
        if len(self._known) >= MOST:
            self._known.clear()
        self._known[place] = _Known(now, marks, context)
        return context


def _read(path: str) -> tuple[bytes, tuple[int, ...]]:
    """A file's text, and what it is known by. Nothing that could be waited for: no pipe, no device."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
            raise ValueError(f"{path} is no file of a key or certificate")
        mark = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
        return os.read(fd, LARGEST), mark
    finally:
        os.close(fd)


def _made(pem: bytes, ciphers: str) -> ssl.SSLContext:
    if b"ENCRYPTED" in pem:
        raise ValueError("the key is encrypted, and nobody is here to say its passphrase")
    fd = os.memfd_create("sni")
    try:
        os.write(fd, pem)
        return tls_context(fd, ciphers)
    finally:
        os.close(fd)
