"""Backends of a vassal that has no app of its own: what its file says of them, as data. Pure.

It travels to the router, which chooses among them (``emperor.router.upstreams``), in a message that every gateway knows the
form of, so it depends on next to nothing. An address is text in one spelling, by which an upstream is known everywhere:
``uwsgi://10.0.0.2:3031``, ``http://[::1]:8000``, ``https://app.internal:443``, ``uwsgi:///run/app.sock``, ``http://@abstract``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Final

from emperor.config import parts
from emperor.config.problems import Mistake

UWSGI: Final = "uwsgi"
HTTP: Final = "http"
HTTPS: Final = "https"
PROTOCOLS: Final = (UWSGI, HTTP, HTTPS)

_PORTS: Final = {HTTP: 80, HTTPS: 443}

MOST_WEIGHT: Final = 1000
MOST_CONNECTIONS: Final = 65_535
MOST_PATH: Final = 107
"""Bytes of a unix socket's path (sockaddr_un)."""

MOST_MAINTENANCE: Final = 64 * 1024
"""Bytes of the page that is served when nobody is there: it is told to the router with the vassal's entry."""

MOST_PEM: Final = 64 * 1024
"""Bytes of a file of certificates or of a key, for the same reason."""

_HINT: Final = (
    "write uwsgi://10.0.0.2:3031, http://127.0.0.1:8000, https://app.internal or uwsgi:///run/app.sock"
)
_IN_NUMBERS: Final = frozenset("0123456789.")
_IN_NAMES: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-")


@dataclass(frozen=True)
class Address:
    """Where an upstream is and what it speaks. With `path` (a unix socket's; ``@name`` is abstract) there is no `host`."""

    protocol: str
    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises `Mistake`."""
        protocol, slashes, rest = text.partition("://")
        if not slashes or protocol.lower() not in PROTOCOLS:
            raise Mistake(f"{text[:80]!r} is no address of an upstream", _HINT)
        protocol = protocol.lower()
        if rest.startswith(("/", "@")):
            if protocol == HTTPS:
                raise Mistake(f"{text[:80]!r} is TLS within this machine", f"write http://{rest[:60]}")
            if len(rest) < 2 or "\0" in rest or len(rest.encode()) > MOST_PATH:
                raise Mistake(f"{text[:80]!r} names no unix socket: 2 to {MOST_PATH} bytes", _HINT)
            return cls(protocol, path=rest)
        host, port = _host_and_port(text, rest)
        if port < 0:
            if protocol not in _PORTS:
                raise Mistake(f"{text[:80]!r} names no port", _HINT)
            port = _PORTS[protocol]
        return cls(protocol, host, port)

    @property
    def tls(self) -> bool:
        """Its connections are encrypted."""
        return self.protocol == HTTPS

    @property
    def is_name(self) -> bool:
        """The host has to be looked up: it is no address."""
        return bool(self.host) and ":" not in self.host and not set(self.host) <= _IN_NUMBERS

    def __str__(self) -> str:
        if self.path:
            return f"{self.protocol}://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.protocol}://{host}:{self.port}"


def _host_and_port(text: str, rest: str) -> tuple[str, int]:
    """−1: no port is named."""
    if "@" in rest:
        raise Mistake(f"{text[:80]!r} names a user, which no upstream is told", _HINT)
    rest, slash, path = rest.partition("/")
    if path or "?" in rest or "#" in rest:
        raise Mistake(f"{text[:80]!r} has a path: a request keeps its own", _HINT)
    if slash:
        raise Mistake(
            f"{text[:80]!r} ends in a slash",
            f"write {text[:80].removesuffix('/')}: a request keeps its own path",
        )
    if rest.startswith("["):
        host, _, after = rest[1:].partition("]")
        host = _ipv6(host, text)
        if after and not after.startswith(":"):
            raise Mistake(f"{text[:80]!r} is no address of an upstream", _HINT)
    else:
        host, colon, after = rest.partition(":")
        after = colon + after
        host = host.lower()
        if not _is_host(host):
            raise Mistake(f"{text[:80]!r} names no host", _HINT)
    if not after:
        return host, -1
    port = _number(after[1:])
    if not 0 < port < 65536:
        raise Mistake(f"{text[:80]!r} has no port from 1 to 65535", _HINT)
    return host, port


def _is_host(host: str) -> bool:
    """A name, or an address of IPv4."""
    return (
        0 < len(host) <= 253
        and not set(host) - _IN_NAMES
        and (host[0] + host[-1].rstrip(".")).isalnum()
        and all(0 < len(label) < 64 for label in host.removesuffix(".").split("."))
    )


def server_name(text: str) -> str:
    """The name that a certificate is to have: of a host, or an address. Raises `Mistake`."""
    name = text.strip().lower().removesuffix(".")
    if ":" in name:
        return _ipv6(name.removeprefix("[").removesuffix("]"), text)
    if not _is_host(name):
        raise Mistake(
            f"{text[:80]!r} is no name of a host", "write the name in its certificate: app.internal"
        )
    return name


def certificates(text: str) -> str:
    """The text of a file of certificates. Raises `Mistake`."""
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise Mistake("holds no certificate", "it begins with -----BEGIN CERTIFICATE----- (PEM)")
    return text


def private_key(text: str) -> str:
    """The text of a file with a key. Raises `Mistake`."""
    if "PRIVATE KEY-----" not in text:
        raise Mistake("holds no private key", "it begins with -----BEGIN PRIVATE KEY----- (PEM)")
    if "ENCRYPTED" in text:
        raise Mistake(
            "has a passphrase",
            "nobody is there to type it: save the key without one, and readable by you alone",
        )
    return text


def _ipv6(host: str, text: str) -> str:
    import ipaddress  # large, and a gateway that knows the form of this message has no use for it

    try:
        return str(ipaddress.IPv6Address(host))
    except ValueError:
        raise Mistake(f"{text[:80]!r} has no IPv6 address in its brackets", _HINT) from None


def _number(text: str) -> int:
    """−1 for what is none of up to five digits."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else -1


@dataclass(frozen=True)
class Upstream:
    """One backend. `weight` is its share among those of its kind; `backup`: only while no other is in service; the modifiers
    are those of its uwsgi packets; `most`: so many connections to it at once, 0 as many as there are requests."""

    address: str
    weight: int = 1
    backup: bool = False
    modifier1: int = 0
    modifier2: int = 0
    most: int = 0

    @classmethod
    def parse(cls, text: str) -> Upstream:
        """``uwsgi://10.0.0.2:3031 weight=2 backup``. Raises `Mistake`."""
        address, *words = text.split() or [""]
        where = Address.parse(address)
        found: dict[str, Any] = {}
        for word in words:
            key, equals, value = word.partition("=")
            if _NAMES.get(key, key) in found:
                raise Mistake(f"{key} is said twice of {address}")
            if key == "backup" and not equals:
                found[key] = True
            elif (name := _NAMES.get(key, "")) and equals:
                least, most = _NUMBERS[name]
                found[name] = _number(value)
                if not least <= found[name] <= most:
                    raise Mistake(f"{word[:40]!r} is out of range: a number from {least} to {most}")
            else:
                raise Mistake(
                    f"{word[:40]!r} says nothing of an upstream",
                    "behind the address stand weight=NUMBER, max-connections=NUMBER, backup, modifier1=NUMBER and "
                    "modifier2=NUMBER",
                )
        if where.protocol != UWSGI and ("modifier1" in found or "modifier2" in found):
            raise Mistake(
                f"{address} speaks HTTP, which has no modifiers", "leave modifier1 and modifier2 out"
            )
        return cls(str(where), **found)

    def __str__(self) -> str:
        said = [
            f"{word}={getattr(self, key)}"
            for word, key in _NAMES.items()
            if getattr(self, key) != _DEFAULTS[key]
        ]
        return " ".join([self.address, *said, *(["backup"] if self.backup else [])])

    def to_json(self) -> dict[str, Any]:
        """A dict of text, numbers and a boolean."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def from_json(cls, document: Any) -> Upstream:
        """The inverse of `to_json`. Raises ValueError."""
        if not isinstance(document, dict) or not isinstance(document.get("address"), str):
            raise ValueError("upstream.address: a string expected")
        try:
            address = str(Address.parse(document["address"]))
        except Mistake as mistake:
            raise ValueError(f"upstream.address: {mistake.reason}") from None
        found: dict[str, Any] = {}
        for key, default in _DEFAULTS.items():
            value = document.get(key, default)
            if type(value) is not type(default) or (key in _NUMBERS and not 0 <= value <= _NUMBERS[key][1]):
                raise ValueError(f"upstream.{key}: {type(default).__name__} expected, not {value!r}")
            found[key] = value
        return cls(address, **found)


_NUMBERS: Final = {
    "weight": (1, MOST_WEIGHT),
    "modifier1": (0, 255),
    "modifier2": (0, 255),
    "most": (1, MOST_CONNECTIONS),
}
_DEFAULTS: Final = {"weight": 1, "backup": False, "modifier1": 0, "modifier2": 0, "most": 0}
_NAMES: Final = {
    "weight": "weight",
    "modifier1": "modifier1",
    "modifier2": "modifier2",
    "max-connections": "most",
}
"""How a file says each number."""


@dataclass(frozen=True)
class Upstreams:
    """All that a vassal's file says of its upstreams; without any the vassal has an app of its own. `subscriptions`: those who
    subscribe to one of its domains are upstreams as well.

    `connect_s`: until a connection stands; `first_byte_s`: from the request's last byte to the answer's first; `idle_s`:
    between two pieces of either; `total_s`: for all of it, 0 for ever; `tunnel_s`: without a byte either way of a WebSocket.
    `keepalive`: idle connections that are kept to each
    HTTP upstream. `health_path` is asked of each every `health_s`, or with `ping` a uwsgi ping is sent; neither: nothing is
    asked. `maintenance` is the page for when none is there (text, empty: the router's own), of `maintenance_type`.

    Of TLS: `ca` are the certificates of who may vouch for them (PEM; empty: whom the system trusts), `cert` those that we show,
    with their key (empty: none), `tls_name` what their certificates are to be of (empty: the host of each); without `verify`
    anybody is believed.
    """

    upstreams: tuple[Upstream, ...] = ()
    connect_s: float = 5.0
    first_byte_s: float = 60.0
    idle_s: float = 60.0
    total_s: float = 0.0
    tunnel_s: float = 3600.0
    keepalive: int = 32
    health_path: str = ""
    health_s: float = 5.0
    ping: bool = False
    maintenance: str = ""
    maintenance_type: str = "text/html"
    subscriptions: bool = False
    ca: str = ""
    cert: str = field(default="", repr=False)
    tls_name: str = ""
    verify: bool = True

    def __bool__(self) -> bool:
        return bool(self.upstreams) or self.subscriptions

    def to_json(self) -> dict[str, Any]:
        """A dict ready for `json.dumps`."""
        return {
            key.name: [each.to_json() for each in self.upstreams]
            if key.name == "upstreams"
            else getattr(self, key.name)
            for key in fields(self)
        }

    @classmethod
    def from_json(cls, document: Any) -> Upstreams:
        """The inverse of `to_json`; what is missing is the default. Raises ValueError naming the key of a wrong type or
        value."""
        if not isinstance(document, dict):
            raise ValueError(f"upstreams: an object expected, not {type(document).__name__}")
        rest = {key: value for key, value in document.items() if key != "upstreams"}
        named = document.get("upstreams", [])
        if not isinstance(named, list):
            raise ValueError("upstreams.upstreams: a list expected")
        upstreams = tuple(map(Upstream.from_json, named))
        return cls(**parts.keys_of(cls, "upstreams", rest), upstreams=upstreams)


NONE: Final = Upstreams()
