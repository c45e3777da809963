"""Subscription packets (uWSGI ``core/subscription.c``, ``plugins/corerouter``): one datagram, one node of one pool. Sans-I/O.

A datagram is a uwsgi packet of modifier1 224 whose modifier2 is the command. What a server reads is stricter here than
uWSGI's, which looks at neither modifier1 nor the size, takes the last of two equal keys and every command but 0 as
unsubscribe: of two readers of the same bytes, none may be led to another node. Whatever uWSGI 2.0 writes is taken.

A signature stands last, and signs all bytes between the header and itself. ``emperor.router.signatures`` checks it; whether
a packet is let in at all is told by ``emperor.router.subscriptions``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from emperor.protocol import packet
from emperor.protocol.errors import PacketError, ProtocolError

MODIFIER: Final = 224
SUBSCRIBE: Final = 0
UNSUBSCRIBE: Final = 1

LARGEST: Final = 4096
"""Bytes of a datagram. uWSGI reads so many, and cuts off what is longer."""

LONGEST_NAME: Final = 255
"""Bytes of a key, and of an address."""

_MOST_DIGITS: Final = 18
_SIGN: Final = b"sign"


class SubscriptionError(ProtocolError):
    """The bytes are no subscription. ``cause`` is a word to count by."""

    def __init__(self, cause: str, reason: str) -> None:
        super().__init__(reason)
        self.cause = cause


@dataclass(frozen=True, kw_only=True)
class Subscription:
    """`key` is the host whose requests the node at `address` takes, as uwsgi packets of `modifier1` and `modifier2`. `cores`
    is how many it runs at once, `load` what it has now, `weight` its share (0: nobody has said). `backup` above 0: asked when
    those of a lower number are gone. The `sni_` texts are paths, or PEM itself. `notify`: the unix datagram socket
    that is told what became of it. `unix` is the time of a signed one, 0 where there is none; `sign` the signature, of the
    bytes `signed`."""

    command: int = SUBSCRIBE
    key: str
    address: str
    modifier1: int = 0
    modifier2: int = 0
    cores: int = 0
    load: int = 0
    weight: int = 0
    backup: int = 0
    sni_key: str = ""
    sni_crt: str = ""
    sni_ca: str = ""
    notify: str = ""
    algo: str = ""
    proto: str = ""
    vassal: str = ""
    unix: int = 0
    sign: bytes = b""
    signed: bytes = b""


def parse(data: bytes) -> Subscription:
    """One datagram. Keys that are not known are passed over. Raises SubscriptionError."""
    if len(data) > LARGEST:
        raise SubscriptionError("oversized", f"a datagram of more than {LARGEST} bytes")
    try:
        modifier1, command, pairs = packet.decode(data)
    except PacketError as error:
        raise SubscriptionError("malformed", str(error)) from None
    if modifier1 != MODIFIER:
        raise SubscriptionError("malformed", f"modifier1 {modifier1}, and {MODIFIER} is a subscription")
    if command not in (SUBSCRIBE, UNSUBSCRIBE):
        raise SubscriptionError("malformed", f"command {command}: 0 subscribes, 1 unsubscribes")
    found = dict(pairs)
    if len(found) != len(pairs):
        raise SubscriptionError("malformed", "a key that is there twice")
    if _SIGN in found and pairs[-1][0] != _SIGN:
        raise SubscriptionError("malformed", "something behind the signature, which it does not sign")
    sign = found.get(_SIGN, b"")
    read = _Reader(found)
    subscription = Subscription(
        command=command,
        key=read.name(b"key"),
        address=read.name(b"address"),
        modifier1=read.number(b"modifier1", 255),
        modifier2=read.number(b"modifier2", 255),
        cores=read.number(b"cores"),
        load=read.number(b"load"),
        weight=read.number(b"weight"),
        backup=read.number(b"backup"),
        sni_key=read.text(b"sni_key"),
        sni_crt=read.text(b"sni_crt"),
        sni_ca=read.text(b"sni_ca"),
        notify=read.text(b"notify"),
        algo=read.text(b"algo"),
        proto=read.text(b"proto"),
        vassal=read.text(b"vassal"),
        unix=read.number(b"unix"),
        sign=sign,
        signed=data[4 : len(data) - _size(_SIGN, sign)] if sign else b"",
    )
    if sign and not subscription.unix:
        raise SubscriptionError("malformed", "a signature without `unix`: it could be sent again for ever")
    return subscription


def build(subscription: Subscription, sign: Callable[[bytes], bytes] | None = None) -> bytes:
    """The datagram, in the order in which uWSGI 2.0 writes it; its `sign` and `signed` do not count. With `sign`, which makes
    a signature of bytes, `unix` has to be set. Raises ValueError for what does not fit into one."""
    pairs = [(b"key", subscription.key), (b"address", subscription.address)]
    for name in ("modifier1", "modifier2", "cores", "load", "weight"):
        pairs.append((name.encode(), str(getattr(subscription, name))))
    if subscription.backup:
        pairs.append((b"backup", str(subscription.backup)))
    for name in ("sni_key", "sni_crt", "sni_ca", "notify", "algo", "proto", "vassal"):
        if getattr(subscription, name):
            pairs.append((name.encode(), getattr(subscription, name)))
    if subscription.unix:
        pairs.append((b"unix", str(subscription.unix)))
    raw = [(name, text.encode("utf-8")) for name, text in pairs]
    if sign is not None:
        raw.append((_SIGN, sign(packet.encode_vars(raw))))
    data = packet.encode(raw, MODIFIER, subscription.command)
    if len(data) > LARGEST:
        raise ValueError(f"a subscription of {len(data)} bytes: at most {LARGEST} are read")
    return data


def sanitized(key: str) -> str:
    """The name of a key's file in a directory of keys or owners (uWSGI ``uwsgi_sanitize_cert_filename``): what is no letter,
    digit, dot, dash or underscore is an underscore."""
    return "".join(each if each.isascii() and (each.isalnum() or each in ".-_") else "_" for each in key)


def _size(name: bytes, value: bytes) -> int:
    return 4 + len(name) + len(value)


class _Reader:
    def __init__(self, found: dict[bytes, bytes]) -> None:
        self._found = found

    def text(self, name: bytes) -> str:
        try:
            text = self._found.get(name, b"").decode("utf-8")
        except UnicodeDecodeError:
            raise SubscriptionError("malformed", f"{name.decode()} is no text") from None
        if "\0" in text:
            raise SubscriptionError("malformed", f"a NUL in {name.decode()}")
        return text

    def name(self, name: bytes) -> str:
        text, size = self.text(name), len(self._found.get(name, b""))
        if not size:
            raise SubscriptionError("malformed", f"no {name.decode()}")
        if size > LONGEST_NAME:
            raise SubscriptionError("malformed", f"{name.decode()} of more than {LONGEST_NAME} bytes")
        if not text.isprintable() or " " in text:
            raise SubscriptionError("malformed", f"{name.decode()} has a blank or a control character in it")
        return text

    def number(self, name: bytes, most: int = 0) -> int:
        raw = self._found.get(name, b"0")
        if not raw.isdigit() or len(raw) > _MOST_DIGITS or (most and int(raw) > most):
            limit = f" up to {most}" if most else ""
            raise SubscriptionError("malformed", f"{name.decode()} {raw[:20]!r} is no number{limit}")
        return int(raw)
