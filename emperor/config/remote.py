"""Routers on other hosts: how they are written, with the weight that this host has there. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Any

from emperor.config.problems import Mistake
from emperor.config.spec import MOST_WEIGHT

SCHEME = "tcp://"

_SHAPE = "write tcp://HOST:PORT or tcp://[ADDRESS]:PORT"
_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*\.?")


def is_address(text: str) -> bool:
    return text.startswith(SCHEME)


def address(value: Any) -> str:
    """`tcp://HOST:PORT` in its one spelling. Raises Mistake."""
    if not isinstance(value, str) or not is_address(value.strip()):
        raise Mistake(f"{value!r} is no address of a router", _SHAPE)
    text = value.strip()
    host, separator, port = text[len(SCHEME) :].rpartition(":")
    if not separator or not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= 65535):
        raise Mistake(f"{text!r} has no port between 1 and 65535", _SHAPE)
    return f"{SCHEME}{_host(host, text)}:{int(port)}"


def router(value: Any) -> str:
    """`tcp://HOST:PORT`, behind it `weight=N` if that is said, in its one spelling. Raises Mistake."""
    said, *words = value.split() if isinstance(value, str) and value.strip() else [value]
    where = address(said)
    if not words:
        return where
    name, equals, number = words[0].partition("=")
    if len(words) > 1 or name != "weight" or not equals:
        raise Mistake(
            f"{' '.join(words)[:40]!r} says nothing of a router", "behind the address may stand weight=NUMBER"
        )
    if not (number.isascii() and number.isdigit() and len(number) <= 5 and 1 <= int(number) <= MOST_WEIGHT):
        raise Mistake(f"{words[0][:40]!r} is out of range: a number from 1 to {MOST_WEIGHT}")
    return f"{where} weight={int(number)}"


def weights(routers: Iterable[str]) -> dict[str, int]:
    """Of each address, as `router` spells them, the weight that is said last; 1: none is."""
    found: dict[str, int] = {}
    for each in routers:
        where, _, weight = each.partition(" weight=")
        found[where] = int(weight) if weight else found.get(where, 1)
    return found


def _host(host: str, text: str) -> str:
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        found = ipaddress.ip_address(bare)
    except ValueError:
        if bare != host or not _NAME.fullmatch(host):
            raise Mistake(f"{text!r} names no host", _SHAPE) from None
        return host.lower()
    if found.version == 6 and bare == host:
        raise Mistake(f"{text!r} has an IPv6 address without brackets", _SHAPE)
    return f"[{found}]" if found.version == 6 else str(found)


def listening_address(value: Any) -> str:
    """The same for where a router listens: an address of this host, not a name. Raises Mistake."""
    text = address(value)
    host = text[len(SCHEME) :].rpartition(":")[0].strip("[]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise Mistake(
            f"{text!r} names a host", "write an address of this host, or 0.0.0.0 for all: tcp://0.0.0.0:5555"
        ) from None
    return text
