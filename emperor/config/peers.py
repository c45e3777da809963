"""Who is trusted: a list of networks, `unix`, `abstract` and `*`, and the question whether an address is in it. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

UNIX: Final = ""
"""The address of whoever comes over a unix socket that has a path."""

ABSTRACT: Final = "@"
"""The address of whoever comes over an abstract unix socket: it has no permissions, so that is anybody on this machine."""

_LONGEST: Final = 64
"""Characters of an address with the zone of an interface (45, 1 and 15), and of what may be remembered of others' words."""

_WORDS: Final = ("*", "unix", "abstract")

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Peers:
    """`items`: addresses and networks (``10.0.0.0/8``, ``::1``), ``unix`` (whoever may open a unix socket of ours),
    ``abstract`` (whoever comes over an abstract one) and ``*`` (everybody). Raises ValueError naming the item that is none
    of these."""

    __slots__ = ("_abstract", "_anybody", "_networks", "_unix", "items")

    def __init__(self, items: Iterable[str] = ()) -> None:
        self.items = tuple(items)
        self._anybody = "*" in self.items
        self._unix = self._anybody or "unix" in self.items
        self._abstract = self._anybody or "abstract" in self.items
        self._networks = tuple(_network(item) for item in self.items if item not in _WORDS)

    @classmethod
    def parse(cls, text: str) -> Peers:
        """Items between commas or blanks. Raises ValueError."""
        return cls(item for item in re.split(r"[,\s]+", text) if item)

    def __contains__(self, address: object) -> bool:
        """`address` is numeric text as the kernel or a proxy writes it, UNIX or ABSTRACT. What is no address is in no list, not
        even in ``*``: it proves nothing of whom it names."""
        if address == UNIX:
            return self._unix
        if address == ABSTRACT:
            return self._abstract
        if not self.items or not isinstance(address, str):
            return False
        found = numeric(address)
        if found is None:
            return False
        return self._anybody or any(
            found.version == network.version and found in network for network in self._networks
        )

    def __bool__(self) -> bool:
        return bool(self.items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Peers) and self.items == other.items

    def __hash__(self) -> int:
        return hash(self.items)

    def __str__(self) -> str:
        return ", ".join(self.items) or "nobody"


def numeric(text: str) -> _Address | None:
    """An IP address, without a zone, and IPv4 where it is written as IPv6 (::ffff:192.0.2.1); None when it is none."""
    # Asked five times for each connection: parsed each time, it took as long as all else that accepting one takes.
    return _parsed(text) if len(text) <= _LONGEST else None


@lru_cache(maxsize=1024)
def _parsed(text: str) -> _Address | None:
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found


def _network(item: str) -> _Network:
    try:
        return ipaddress.ip_network(item)
    except ValueError:
        pass
    try:
        found = ipaddress.ip_network(item, strict=False)
    except ValueError:
        raise ValueError(f"{item!r} is no address, network, unix, abstract or *") from None
    raise ValueError(f"{item!r} has bits beyond its mask: write {found}, or the address alone")
