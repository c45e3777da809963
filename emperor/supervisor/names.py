"""Who holds which name. Pure.

A vassal claims its own name, every domain it answers to, and the place of the default. The one that holds a
claim keeps it while it lives; whoever comes later is told who holds it. A vassal that reloads holds the names
of both readings until the move, or a neighbour could take one in between.

A domain and the default may be held by several, if each of them says so (`weight`) and all run as the same user: a tenant
chooses what his file says, and not his user (docs/decisions/0014).

An address is claimed among the vassals of one user: whether another user may have it is the kernel's to say, when it is
bound. A claim costs nothing, and by a path that he cannot bind a tenant would lock out whose it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Claim(NamedTuple):
    """`kind` is vassal, domain, listener or default; `value` is the name or address, or empty for the default. `uid` is
    there for a listener and for what is `shared`, -1 for the emperor's own user."""

    kind: str
    value: str
    uid: int = -1
    shared: bool = False

    def __str__(self) -> str:
        return self.kind if self.kind == "default" else f"{self.kind} {self.value}"

    @property
    def place(self) -> Claim:
        """What it is about, whoever claims it and how."""
        return self if self.kind == "listener" else Claim(self.kind, self.value)

    def goes_with(self, other: Claim) -> bool:
        """Two vassals may have these two claims of one place."""
        return self.shared and self == other


@dataclass(frozen=True)
class Conflict:
    """`claim` belongs to the vassal of `holder`, a file, which holds it as `held`."""

    claim: Claim
    holder: str
    held: Claim

    def __str__(self) -> str:
        if self.claim.shared or self.held.shared:
            return self._unshared()
        if self.claim.kind == "default":
            return f"default: {self.holder} is the default vassal: remove `default` there or here"
        if self.claim.kind == "vassal":
            return f"{self.holder} is the vassal {self.claim.value!r} already: rename or remove one"
        if self.claim.kind == "listener":
            return f"socket: {self.claim.value} is listened on for {self.holder}: remove it there or here"
        return f"domain: {self.claim.value} is held by {self.holder}: remove it there or here"

    def _unshared(self) -> str:
        kind = self.claim.kind
        what = f"{kind}: {self.claim.value or 'it'} is held by {self.holder}"
        if not self.held.shared:
            return f"{what}, which has no weight: give it one as well to share, or remove the {kind} there or here"
        if not self.claim.shared:
            return f"{what}, which shares it (weight): set a weight here as well, or remove the {kind} there or here"
        return f"{what}, which runs as another user: only vassals of one user share (weight): remove the {kind} there or here"


def claims_of(
    name: str,
    domains: Iterable[str],
    default: bool,
    addresses: Iterable[str] = (),
    uid: int | None = None,
    *,
    shared: bool = False,
) -> frozenset[Claim]:
    """All that a vassal of this name, with these domains and addresses of its own, claims; it runs as `uid`. `shared`: it
    shares its domains and the default."""
    user = -1 if uid is None else uid
    of = user if shared else -1
    claims = {Claim("vassal", name), *(Claim("domain", domain, of, shared) for domain in domains)}
    claims.update(Claim("listener", address, user) for address in addresses)
    if default:
        claims.add(Claim("default", "", of, shared))
    return frozenset(claims)


class Names:
    """The claims that are held, by the file that holds them."""

    def __init__(self) -> None:
        self._held: dict[Claim, dict[str, tuple[Claim, ...]]] = {}  # by place and file
        self._claims: dict[str, frozenset[Claim]] = {}

    def holders(self, place: Claim) -> list[str]:
        """The files that hold a place (`Claim.place`): none, one, or those that share it."""
        return list(self._held.get(place, ()))

    def conflicts(self, file: str, claims: Iterable[Claim]) -> list[Conflict]:
        """What of `claims` somebody else holds, in a stable order."""
        return [
            Conflict(claim, holder, held)
            for claim in sorted(claims)
            for holder, all_held in self._held.get(claim.place, {}).items()
            if holder != file
            for held in all_held
            if not claim.goes_with(held)
        ]

    def of(self, file: str) -> frozenset[Claim]:
        return self._claims.get(file, frozenset())

    def hold(self, file: str, claims: frozenset[Claim]) -> frozenset[Claim]:
        """Let `file` hold exactly `claims`; returns what it gave up. Raises ValueError for one that is
        another's."""
        taken = self.conflicts(file, claims)
        if taken:
            raise ValueError(str(taken[0]))
        before = self.of(file)
        given_up = before - claims
        for place in {claim.place for claim in before}:
            files = self._held[place]
            del files[file]
            if not files:
                del self._held[place]
        for claim in sorted(claims):
            files = self._held.setdefault(claim.place, {})
            files[file] = (*files.get(file, ()), claim)
        if claims:
            self._claims[file] = claims
        else:
            self._claims.pop(file, None)
        return given_up
