"""Who holds which name. Pure.

A vassal claims its own name, every domain it answers to, and the place of the default. The one that holds a
claim keeps it while it lives; whoever comes later is told who holds it. A vassal that reloads holds the names
of both readings until the move, or a neighbour could take one in between.

An address is claimed among the vassals of one user: whether another user may have it is the kernel's to say, when it is
bound. A claim costs nothing, and by a path that he cannot bind a tenant would lock out whose it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Claim(NamedTuple):
    """`kind` is vassal, domain, listener or default; `value` is the name or address, or empty for the default. `uid` is
    there for a listener, -1 for the emperor's own user."""

    kind: str
    value: str
    uid: int = -1

    def __str__(self) -> str:
        return self.kind if self.kind == "default" else f"{self.kind} {self.value}"


@dataclass(frozen=True)
class Conflict:
    """`claim` belongs to the vassal of `holder`, a file."""

    claim: Claim
    holder: str

    def __str__(self) -> str:
        if self.claim.kind == "default":
            return f"default: {self.holder} is the default vassal: remove `default` there or here"
        if self.claim.kind == "vassal":
            return f"{self.holder} is the vassal {self.claim.value!r} already: rename or remove one"
        if self.claim.kind == "listener":
            return f"socket: {self.claim.value} is listened on for {self.holder}: remove it there or here"
        return f"domain: {self.claim.value} is held by {self.holder}: remove it there or here"


def claims_of(
    name: str, domains: Iterable[str], default: bool, addresses: Iterable[str] = (), uid: int | None = None
) -> frozenset[Claim]:
    """All that a vassal of this name, with these domains and addresses of its own, claims; it runs as `uid`."""
    claims = {Claim("vassal", name), *(Claim("domain", domain) for domain in domains)}
    claims.update(Claim("listener", address, -1 if uid is None else uid) for address in addresses)
    if default:
        claims.add(Claim("default", ""))
    return frozenset(claims)


class Names:
    """The claims that are held, by the file that holds them."""

    def __init__(self) -> None:
        self._holder: dict[Claim, str] = {}
        self._claims: dict[str, frozenset[Claim]] = {}

    @property
    def holders(self) -> Mapping[Claim, str]:
        return self._holder

    def conflicts(self, file: str, claims: Iterable[Claim]) -> list[Conflict]:
        """What of `claims` somebody else holds, in a stable order."""
        return [
            Conflict(claim, self._holder[claim])
            for claim in sorted(claims)
            if self._holder.get(claim, file) != file
        ]

    def of(self, file: str) -> frozenset[Claim]:
        return self._claims.get(file, frozenset())

    def hold(self, file: str, claims: frozenset[Claim]) -> frozenset[Claim]:
        """Let `file` hold exactly `claims`; returns what it gave up. Raises ValueError for one that is
        another's."""
        taken = self.conflicts(file, claims)
        if taken:
            raise ValueError(str(taken[0]))
        given_up = self.of(file) - claims
        for claim in given_up:
            del self._holder[claim]
        self._holder.update(dict.fromkeys(claims, file))
        if claims:
            self._claims[file] = claims
        else:
            self._claims.pop(file, None)
        return given_up
