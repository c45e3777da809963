"""The listeners of a vassal's own: what its file asks for, and the words it is asked in.

A request that comes by one of them is the vassal's, whatever its Host says. Addresses are spelled in one way
(``unix:/run/app.sock``, ``@name``, ``127.0.0.1:3031``, ``[::1]:80``), by which listeners are compared.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from emperor.config.peers import Peers
from emperor.config.problems import Mistake

MOST = 64
"""Listeners of one vassal: each costs two descriptors, and all tenants share them."""

FIRST_PORT = 1024
"""Ports below are for root (ip(7)). A tenant gets none even where the kernel would let it: it would be the one that
answers for the machine."""

FORWARDED_FIELDS = ("x-forwarded-for", "x-forwarded-proto")
"""Which fields of a trusted proxy are believed, unless said otherwise: those that every proxy sets itself. One that it
passes on as its client wrote it would let that client say who it is."""

TRUSTED = ("unix", "abstract", "127.0.0.0/8", "::1")
"""Front servers that are believed at a vassal's own uwsgi listeners, unless said otherwise: those of this host, as nginx in
front of uWSGI always was. A vassal risks nobody but itself; where other users of the host are not to be trusted, it says
``uwsgi-trusted = unix``."""

KNOWN_FORWARDED_FIELDS = (
    *FORWARDED_FIELDS,
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-real-ip",
    "forwarded",
)

_SHAPE = "write /run/app.sock, 127.0.0.1:3031, :3031, [::1]:3031 or @name"

_CLIENT_CERTIFICATES = (
    "it lets in clients with a certificate only, which is not supported, and ignoring it would open a door",
    "write ADDRESS,CERTIFICATE,KEY if the app is safe without it",
)


@dataclass(frozen=True)
class Listener:
    """One of them. `kind` is what is spoken, http or uwsgi; with a `certificate` and its `key` (absolute paths), over
    TLS, with these `ciphers` of OpenSSL's, empty for its own choice."""

    kind: str
    address: str
    certificate: str = ""
    key: str = ""
    ciphers: str = ""

    @property
    def path(self) -> str:
        """Of a unix socket in the file system, else empty."""
        return self.address.removeprefix("unix:") if self.address.startswith("unix:") else ""

    @property
    def any_port(self) -> bool:
        """The kernel chooses the port."""
        return self.address.endswith(":0")


@dataclass(frozen=True)
class Listening:
    """All of them and what they have in common. `owner` and `group` are of unix sockets, None: as they are made; the lists
    are those of `emperor.config.peers`; `forwarded` None: as for the emperor's own listeners."""

    listeners: tuple[Listener, ...] = ()
    mode: int = 0o660
    owner: int | None = None
    group: int | None = None
    backlog: int = 2048
    trusted: tuple[str, ...] = TRUSTED
    proxies: tuple[str, ...] = ()
    forwarded: tuple[str, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """A dict ready for `json.dumps`."""
        document = {each.name: getattr(self, each.name) for each in fields(self)}
        document["listeners"] = [vars(each) for each in self.listeners]
        return document

    @classmethod
    def from_json(cls, document: Any) -> Listening:
        """The inverse of `to_json`. Raises ValueError."""
        try:
            values = dict(document)
            values["listeners"] = tuple(Listener(**each) for each in values["listeners"])
            for key in ("trusted", "proxies", "forwarded"):
                values[key] = None if values[key] is None else tuple(values[key])
            return cls(**values)
        except (TypeError, KeyError) as error:
            raise ValueError(f"the listeners of a vassal: {error}") from None


NO_LISTENERS = Listening()


def address(value: Any) -> str:
    """An address in its one spelling; the path of a unix socket may still be relative. Raises `Mistake`."""
    if not isinstance(value, str) or not value.strip():
        raise Mistake("needs an address" if value in (None, "") else f"{value!r} is no address", _SHAPE)
    text = value.strip()
    if "\0" in text or "\n" in text:
        raise Mistake("holds a line break or a NUL byte")
    if text.startswith("="):
        raise Mistake(
            f"{text!r} is a shared socket of uWSGI's by its number",
            "write its address here: the emperor binds it",
        )
    if text.startswith("fd://"):
        raise Mistake(f"{text!r} is a descriptor of the emperor's, which a vassal cannot have", _SHAPE)
    if text.startswith("@"):
        if not 1 < len(text.encode()) <= 107:
            raise Mistake("the name of an abstract socket has between 1 and 106 bytes")
        return text
    if text.isdigit():
        raise Mistake(f"{text!r} is a number", f"a port is :{text}, a file of this name is ./{text}")
    if "/" in text or ":" not in text:
        path = text.removeprefix("unix:")
        if len(path.encode()) > 107:
            raise Mistake("the path of a unix socket may have 107 bytes")
        return f"unix:{path}"
    if text.startswith("unix:"):
        return text
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port[:6]) <= 65535):
        raise Mistake(f"{text!r} has no port", _SHAPE)
    return _spelled(text, host, int(port))


def _spelled(text: str, host: str, port: int) -> str:
    if host in ("", "*"):
        return f"0.0.0.0:{port}"
    if host == "localhost":
        return f"127.0.0.1:{port}"
    inner = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        found = ipaddress.ip_address(inner)
    except ValueError:
        raise Mistake(
            f"{text!r}: {host!r} is no address, and names are not looked up for a listener", _SHAPE
        ) from None
    if found.version == 6:
        if inner == host:
            raise Mistake(f"{text!r}: an IPv6 address stands in brackets", f"write [{found}]:{port}")
        return f"[{found}]:{port}"
    return f"{found}:{port}"


def secure_address(value: Any) -> tuple[str, str, str, str]:
    """``ADDRESS,CERTIFICATE,KEY[,CIPHERS]`` or ``addr=…,cert=…,key=…[,ciphers=…]`` (uWSGI's two forms) → address,
    certificate, key, ciphers or empty. Raises `Mistake`."""
    parts = [part.strip() for part in (value if isinstance(value, str) else "").split(",")]
    if "=" in parts[0].partition(":")[0] and not parts[0].startswith("="):
        pairs = dict(part.partition("=")[::2] for part in parts)
        pairs.setdefault("cert", pairs.pop("crt", ""))
        if "client_ca" in pairs:
            raise Mistake(*_CLIENT_CERTIFICATES)
        # SPDY has been dead for long; who still asks for it asks for speed.
        if unknown := sorted(pairs.keys() - {"addr", "cert", "key", "ciphers", "spdy"}):
            raise Mistake(f"{unknown[0]!r} cannot be set", "keys are addr, cert, key and ciphers")
        parts = [pairs.get(key, "") for key in ("addr", "cert", "key", "ciphers")]
    if len(parts) > 4:
        raise Mistake(*_CLIENT_CERTIFICATES)
    place, certificate, key, ciphers = (*parts, "", "", "")[:4]
    if not (place and certificate and key):
        raise Mistake("a listener with TLS needs a certificate and its key", "write ADDRESS,CERTIFICATE,KEY")
    return address(place), certificate, key, ciphers


def mode(value: Any) -> str:
    """A file mode, in octal digits; alone, as in uWSGI, everybody may connect (666)."""
    if value is None or value is True:
        return "666"
    text = str(value) if type(value) is int else value
    if not isinstance(text, str) or not text or set(text) - set("01234567") or int(text, 8) > 0o777:
        raise Mistake(f"{value!r} is no file mode", "write 660, 664 or 666")
    return f"{int(text, 8):o}"


def owner(value: Any) -> str:
    """``user``, ``user:group`` or ``:group``; names or numbers."""
    text = str(value) if type(value) is int else value
    if not isinstance(text, str) or not text.strip(": "):
        raise Mistake("needs a user or group", "write USER, USER:GROUP or :GROUP")
    if text.count(":") > 1:
        raise Mistake(f"{text!r} has more than one colon", "write USER, USER:GROUP or :GROUP")
    return text.strip()


def peers(value: Any) -> tuple[str, ...]:
    """Addresses, networks, ``unix``, ``abstract`` or ``*``, between commas or blanks, or in TOML a list."""
    text = " ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
    if not isinstance(text, str):
        raise Mistake("needs addresses", "write addresses, networks such as 10.0.0.0/8, unix, abstract or *")
    try:
        return Peers.parse(text).items
    except ValueError as error:
        raise Mistake(str(error)) from None


def forwarded_fields(value: Any) -> tuple[str, ...]:
    """Names of fields between commas or blanks, or in TOML a list."""
    text = " ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
    names = tuple(text.lower().replace(",", " ").split()) if isinstance(text, str) else ()
    for name in names:
        if name not in KNOWN_FORWARDED_FIELDS:
            raise Mistake(f"{name!r} is none of {', '.join(KNOWN_FORWARDED_FIELDS)}")
    return names


PLAIN = {"socket": "", "uwsgi-socket": "uwsgi", "http-socket": "http"}
SECURE = {"https-socket": "http", "suwsgi-socket": "uwsgi"}


def gathered(
    values: Mapping[str, Any],
    uid: int | None,
    parent: str,
    refuse: Callable[..., None],
    find: Callable[..., Any],
) -> Listening:
    """What a file's values ask for together. `refuse(option, reason, hint)` notes what is wrong; `find(user or group)`
    gives numbers."""
    found: list[Listener] = []

    def add(name: str, each: Listener) -> None:
        port = each.address.rpartition(":")[2] if not each.path and not each.address.startswith("@") else ""
        if any(other.address == each.address for other in found) and not each.any_port:
            refuse(name, f"{each.address} is listened on twice", "keep one")
        elif any((other.kind, other.address) == (each.kind, each.address) for other in found):
            # A listener is known by what it speaks and where, over reloads and to whoever takes it over.
            refuse(
                name,
                f"{each.address} is asked for twice to speak {each.kind}: the two could not be told apart",
                "keep one, or choose the ports",
            )
        elif port and uid not in (None, 0) and 0 < int(port) < FIRST_PORT:
            refuse(
                name,
                f"{each.address}: a port below {FIRST_PORT}, and the app runs as uid {uid}",
                "choose another port, and let the emperor's own --http or a web server in front have this one",
            )
        elif len(found) == MOST:
            refuse(name, f"more than {MOST} listeners")
        else:
            found.append(each)

    for name, kind in PLAIN.items():
        for text in values[name]:
            add(name, Listener(kind or values["protocol"], _absolute(text, parent)))
    for name, kind in SECURE.items():
        for text, certificate, key, ciphers in values[name]:
            crt, pem = (os.path.normpath(os.path.join(parent, each)) for each in (certificate, key))
            add(name, Listener(kind, _absolute(text, parent), crt, pem, ciphers))
    user, group = _owner(values["chown-socket"], find, refuse)
    if user is not None and uid not in (None, user):
        refuse(
            "chown-socket",
            f"the socket is made by the app's own user, uid {uid}, who cannot give it to uid {user}",
            "name the group alone (chown-socket = :GROUP), one that the user is in, and chmod-socket = 660",
        )
    return Listening(
        tuple(found),
        int(values["chmod-socket"], 8),
        user,
        group,
        values["listen"],
        values["uwsgi-trusted"],
        values["proxy-protocol"],
        values["forwarded-allow"],
    )


def _owner(
    text: str | None, find: Callable[..., Any], refuse: Callable[..., None]
) -> tuple[int | None, int | None]:
    user, _, group = (text or "").partition(":")
    numbers: list[int | None] = []
    for kind, name in (("user", user.strip()), ("group", group.strip())):
        try:
            numbers.append(find(kind, name) if name else None)
        except Mistake as mistake:
            refuse("chown-socket", mistake.reason, mistake.hint)
            numbers.append(None)
    return numbers[0], numbers[1]


def _absolute(text: str, parent: str) -> str:
    if not text.startswith("unix:"):
        return text
    path = os.path.normpath(os.path.join(parent, text.removeprefix("unix:")))
    return f"unix:{path}"
