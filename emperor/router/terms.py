"""What holds for the connections of one listener, and who stands at the ends of one connection. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from emperor.config.listening import FORWARDED_FIELDS
from emperor.config.peers import ABSTRACT, UNIX, Peers, numeric
from emperor.protocol import packet


@dataclass(frozen=True)
class Terms:
    """`vassal` gets every request, whatever its Host says; empty: the routes decide. `forwarded`: whose `fields` are
    believed over HTTP; `trusted`: whose variables are, over uwsgi; `proxies`: who must begin with a PROXY header.
    `backlog`: connections that wait to be accepted, as far as the kernel allows. `note` is the emperor's own, for the
    emperor after it. `among`: so many routers accept from this socket."""

    vassal: str = ""
    forwarded: Peers = field(default_factory=Peers)
    fields: frozenset[str] = frozenset(FORWARDED_FIELDS)
    trusted: Peers = field(default_factory=lambda: Peers(("unix",)))
    proxies: Peers = field(default_factory=Peers)
    backlog: int = 4096
    tls: bool = False
    ciphers: str = ""
    note: str = ""
    among: int = 1

    def to_json(self) -> dict[str, Any]:
        """The inverse of `from_json`."""
        return {
            "vassal": self.vassal,
            "forwarded": list(self.forwarded.items),
            "fields": sorted(self.fields),
            "trusted": list(self.trusted.items),
            "proxies": list(self.proxies.items),
            "backlog": self.backlog,
            "tls": self.tls,
            "ciphers": self.ciphers,
            "note": self.note,
            "among": self.among,
        }

    @classmethod
    def from_json(cls, document: Any) -> Terms:
        """What a `listen` says of its listener; what is missing is the default. Raises ValueError."""
        if not isinstance(document, Mapping):
            raise ValueError("terms: an object expected")
        values: dict[str, Any] = {}
        for key, (kind, read) in _KEYS.items():
            if key in document:
                if type(document[key]) is not kind:
                    raise ValueError(f"terms: {key}: {kind.__name__} expected, not {document[key]!r}")
                values[key] = read(document[key])
        return cls(**values)


_KEYS: Final[dict[str, tuple[type, Callable[[Any], Any]]]] = {
    "vassal": (str, str),
    "forwarded": (list, Peers),
    "fields": (list, frozenset),
    "trusted": (list, Peers),
    "proxies": (list, Peers),
    "backlog": (int, int),
    "tls": (bool, bool),
    "ciphers": (str, str),
    "note": (str, str),
    "among": (int, int),
}

SHARED: Final = Terms()


@dataclass(frozen=True)
class Ends:
    """The addresses of one connection, numeric; `client` UNIX: over a unix socket, `abstract` or with a path."""

    client: str = UNIX
    client_port: int = 0
    server: str = UNIX
    server_port: int = 0
    abstract: bool = False

    @classmethod
    def of(cls, peer: Any, name: Any) -> Ends:
        """From what the kernel says of both ends."""
        if isinstance(peer, tuple) and len(peer) >= 2 and isinstance(name, tuple) and len(name) >= 2:
            return cls(plain(peer[0]), peer[1], plain(name[0]), name[1])
        return cls(abstract=isinstance(name, bytes) and name.startswith(b"\0"))

    @property
    def peer(self) -> str:
        """The client, for the question whether it is in a list of `Peers`."""
        return ABSTRACT if self.abstract else self.client

    @property
    def text(self) -> str:
        """The client, for the log."""
        if self.client == UNIX:
            return "unix"
        return (
            f"[{self.client}]:{self.client_port}"
            if ":" in self.client
            else f"{self.client}:{self.client_port}"
        )

    def client_variables(self) -> list[tuple[bytes, bytes]]:
        """REMOTE_ADDR, and REMOTE_PORT where there is one."""
        if self.client == UNIX:
            return [(b"REMOTE_ADDR", b"")]
        return [(b"REMOTE_ADDR", self.client.encode()), (b"REMOTE_PORT", b"%d" % self.client_port)]

    def variables(self, tls: bool) -> bytes:
        """What is the same for every HTTP request of the connection, encoded."""
        pairs = [(b"REQUEST_SCHEME", b"https" if tls else b"http"), (b"SCRIPT_NAME", b"")]
        if tls:
            pairs.append((b"HTTPS", b"on"))
        pairs += self.client_variables()
        if self.client == UNIX:
            # A unix socket has no addresses; PEP 3333 wants SERVER_NAME and SERVER_PORT all the same.
            pairs += [(b"SERVER_NAME", b"localhost"), (b"SERVER_PORT", b"443" if tls else b"80")]
        else:
            pairs += [(b"SERVER_NAME", self.server.encode()), (b"SERVER_PORT", b"%d" % self.server_port)]
        return packet.encode_vars(pairs)


UNMET: Final = Ends()
"""Before a connection is made, unless a PROXY header has said already."""


def plain(address: str) -> str:
    """An address as the kernel writes it, IPv4 where it is IPv4."""
    found = numeric(address)
    return address if found is None else str(found)
