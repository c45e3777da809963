"""To which routers of uWSGI's a vassal is announced, and as what: the words of `subscribe-to` and `subscribe2`. Pure.

Our router sends the announcements (``emperor.router.announcing``): it knows whether the app is there, where it listens, and
it lives on when the emperor does not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from emperor.config import parts
from emperor.config.listening import Listener, Listening
from emperor.config.peers import numeric
from emperor.config.problems import Mistake

MOST: Final = 64
"""Announcements of one vassal: each is a datagram every few seconds."""

LOOPBACK: Final = "127.0.0.1:0"
"""Where the router listens for an app that is announced and has no uwsgi listener of its own."""

_SHAPE: Final = "write 127.0.0.1:7000:blog.example.com or /run/fastrouter.sock:blog.example.com"
_SHAPE2: Final = "write server=127.0.0.1:7000,key=blog.example.com"
_DIGESTS: Final = ("sha512", "sha384", "sha256", "sha224", "sha1", "md5")
_WORDS: Final = {
    "server": "server",
    "key": "key",
    "socket": "socket",
    "addr": "address",
    "weight": "weight",
    "modifier1": "modifier1",
    "modifier2": "modifier2",
    "backup": "backup",
    "sign": "sign",
    "sni_key": "sni_key",
    "sni_crt": "sni_crt",
    "sni_ca": "sni_ca",
}


@dataclass(frozen=True)
class Announcement:
    """`server` is an address of numbers or an absolute path, `key` the host. `address` is what is announced; empty: that of
    the vassal's uwsgi listener of number `socket`. `digest` and `pem` (an absolute path) sign it, if it is signed; the
    `sni_` paths are for the router that is told."""

    server: str = ""
    key: str = ""
    address: str = ""
    socket: int = 0
    modifier1: int = 0
    modifier2: int = 0
    weight: int = 1
    backup: int = 0
    digest: str = ""
    pem: str = ""
    sni_key: str = ""
    sni_crt: str = ""
    sni_ca: str = ""

    def to_json(self) -> dict[str, Any]:
        """A dict of text and numbers."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_json(cls, document: Any) -> Announcement:
        """The inverse of `to_json`. Raises ValueError naming the key of a wrong type."""
        return cls(**parts.keys_of(cls, "announcement", document))


@dataclass(frozen=True)
class Announcing:
    """All of a vassal's, sent every `every_s`."""

    announcements: tuple[Announcement, ...] = ()
    every_s: float = 10.0

    def __bool__(self) -> bool:
        return bool(self.announcements)

    def to_json(self) -> dict[str, Any]:
        """A dict ready for `json.dumps`."""
        return {"announcements": [each.to_json() for each in self.announcements], "every_s": self.every_s}

    @classmethod
    def from_json(cls, document: Any) -> Announcing:
        """The inverse of `to_json`. Raises ValueError."""
        if not isinstance(document, dict) or not isinstance(document.get("announcements", []), list):
            raise ValueError("announcing: an object with a list of announcements expected")
        rest = {key: value for key, value in document.items() if key != "announcements"}
        said = tuple(map(Announcement.from_json, document.get("announcements", [])))
        return cls(**parts.keys_of(cls, "announcing", rest), announcements=said)


NONE: Final = Announcing()


def subscribe_to(text: str) -> Announcement:
    """uWSGI's ``[ADDRESS=|=NUMBER=]SERVER:KEY[,MODIFIER1[,DIGEST:FILE]]``. Raises `Mistake`."""
    found: dict[str, Any] = {}
    if text.startswith("="):
        number, equals, text = text[1:].partition("=")
        if not equals:
            raise Mistake("a number of a socket without a `=` behind it", "write =0=SERVER:KEY")
        found["socket"] = _number("socket", number, MOST)
    elif "=" in text.partition(",")[0]:
        address, _, text = text.partition("=")
        found["address"] = announced(address)
    if text.startswith("/"):
        server, colon, rest = text.partition(":")
    else:
        host, colon, rest = text.partition(":")
        port, colon, rest = rest.partition(":")
        server = f"{host}:{port}"
    if not colon or not rest:
        raise Mistake(f"{text[:80]!r} names no server and key", _SHAPE)
    key, _, rest = rest.partition(",")
    modifier, comma, sign = rest.partition(",")
    if not comma and ":" in modifier:
        modifier, sign = "", modifier
    if modifier:
        found["modifier1"] = _number("modifier1", modifier, 255)
    return _made(server, key, sign, found)


def subscribe2(text: str) -> Announcement:
    """uWSGI's ``server=SERVER,key=KEY`` and what else it knows there. Raises `Mistake`."""
    said: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        name = name.strip()
        if name == "check":
            raise Mistake(
                "check: uWSGI's manual and its code say opposite things of it",
                "leave it out; emperor pause NAME ends the announcements of a vassal",
            )
        if name not in _WORDS or not equals:
            raise Mistake(f"{part[:60]!r} says nothing of a subscription", f"keys are {', '.join(_WORDS)}")
        if name in said:
            raise Mistake(f"{name} is said twice")
        said[name] = value.strip()
    if not (said.get("server") and said.get("key")):
        raise Mistake("names no server, or no key", _SHAPE2)
    found: dict[str, Any] = {}
    for name, most in (
        ("socket", MOST),
        ("weight", 10**9),
        ("modifier1", 255),
        ("modifier2", 255),
        ("backup", 255),
    ):
        if name in said:
            found[name] = _number(name, said[name], most)
    if "addr" in said:
        found["address"] = announced(said["addr"])
    found |= {name: said[name] for name in ("sni_key", "sni_crt", "sni_ca") if name in said}
    return _made(said["server"], said["key"], said.get("sign", ""), found)


def of_options(values: Mapping[str, Any], parent: str) -> Announcing:
    """What a vassal's options come to; files are looked for in the directory `parent`."""
    said = [
        *(subscribe_to(each) for each in values["subscribe-to"]),
        *(subscribe2(each) for each in values["subscribe2"]),
    ]
    absolute = [
        Announcement(**{**each.to_json(), "pem": os.path.normpath(os.path.join(parent, each.pem))})
        if each.pem
        else each
        for each in said
    ]
    return Announcing(tuple(absolute), values["subscribe-freq"])


def checked(
    announcing: Announcing, listening: Listening, refuse: Callable[[str, str, str | None], None]
) -> tuple[Listener, ...]:
    """The listener that the announcements need, where the vassal has none that they can name. `refuse(option, reason, hint)`
    notes what is wrong."""
    sockets = uwsgi_listeners(listening)
    if len(announcing.announcements) > MOST:
        refuse("subscribe-to", f"more than {MOST} announcements", None)
    places = [(each.server, each.key, each.address, each.socket) for each in announcing.announcements]
    if len(set(places)) < len(places):
        refuse("subscribe-to", "the same is announced twice to one server", "keep one")
    own = [each for each in announcing.announcements if not each.address]
    for each in own:
        if sockets and each.socket >= len(sockets):
            refuse(
                "subscribe-to",
                f"socket {each.socket}: the app has {len(sockets)} listeners of the uwsgi protocol, counted from 0",
                None,
            )
        elif not sockets and each.socket:
            refuse(
                "subscribe-to", f"socket {each.socket}: the app has no listener of the uwsgi protocol", None
            )
        elif not sockets and not is_here(each.server):
            refuse(
                "subscribe-to",
                f"the router at {each.server} is on another host, and has to reach this app",
                "write socket = ADDRESS:PORT with an address of this host, and uwsgi-trusted = ITS-ADDRESS",
            )
    return (Listener("uwsgi", LOOPBACK),) if own and not sockets else ()


def uwsgi_listeners(listening: Listening) -> list[Listener]:
    """Those that an announcement can name: uWSGI's routers speak no TLS to a node."""
    return [each for each in listening.listeners if each.kind == "uwsgi" and not each.certificate]


def is_here(server: str) -> bool:
    """Whether this server is on this host."""
    if server.startswith("/"):
        return True
    found = numeric(server.rpartition(":")[0])
    return found is not None and found.is_loopback


def announced(text: str) -> str:
    """An address that a router of uWSGI's can connect to. Raises `Mistake`."""
    if text.startswith(("/", "@")) and 1 < len(text.encode()) <= 107:
        return text
    host, _, port = text.rpartition(":")
    found = numeric(host.strip("[]"))
    if found is None or found.is_unspecified or not _is_port(port):
        raise Mistake(
            f"{text[:80]!r} is no address to be reached at",
            "write 10.0.0.1:3031, or the path of a unix socket",
        )
    return text


def _made(server: str, key: str, sign: str, found: dict[str, Any]) -> Announcement:
    host, _, port = server.rpartition(":")
    address = numeric(host)
    if server.startswith("/"):
        if len(server.encode()) > 102:
            raise Mistake(f"{server[:80]!r}: uWSGI's path of a subscription server has at most 102 bytes")
    elif address is None or address.version != 4 or not _is_port(port):
        raise Mistake(
            f"{server[:80]!r} is no address of a subscription server: uWSGI's take IPv4 in numbers, or a path",
            _SHAPE,
        )
    if key.startswith("@"):
        raise Mistake(f"{key[:80]!r}: a file of keys is not read", "write a line for each key")
    if not key or len(key.encode()) > 255 or not key.isprintable() or " " in key:
        raise Mistake(f"{key[:80]!r} is no key", _SHAPE)
    if sign:
        digest, colon, pem = sign.partition(":")
        name = digest.lower().replace("-", "")
        if not colon or not pem or name not in _DIGESTS:
            raise Mistake(
                f"{sign[:80]!r} signs nothing",
                f"write SHA256:/path/of/key.pem; digests are {', '.join(_DIGESTS)}",
            )
        found |= {"digest": name.upper(), "pem": pem}
    return Announcement(server=server, key=key, **found)


def _number(name: str, text: str, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) <= most):
        raise Mistake(f"{name}: {text[:40]!r} is no number from 0 to {most}")
    return int(text)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= 65535
