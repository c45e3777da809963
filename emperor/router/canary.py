"""Two generations of one vassal, of which the new one gets a part of the requests (option ``canary``). Pure.

A client stays with the generation that served it first, by a cookie; who keeps none is dealt out anew. Who is dealt out where
is made of the instant at which his request arrived, so that it is the same each time that it is asked while the request waits.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import Final, Protocol, TypeVar

from emperor.protocol import logline
from emperor.router.exchange import Exchange
from emperor.router.policies import cookies

NAME: Final = "emperor-canary"
"""The cookie."""


class Member(Protocol):
    """A worker, as far as this goes."""

    generation: int


M = TypeVar("M", bound=Member)


class Canary:
    """``generation`` gets ``share`` in a hundred requests of the vassal ``name``."""

    def __init__(self, name: str, generation: int, share: float) -> None:
        self.name = name
        self.generation = generation
        self.share = share

    def sorted(self, workers: Sequence[M]) -> tuple[list[M], list[M]] | None:
        """Those of the new generation, and the others; None while there are not both."""
        new = [each for each in workers if each.generation == self.generation]
        old = [each for each in workers if each.generation != self.generation]
        return (new, old) if new and old else None

    def takes(self, exchange: Exchange) -> bool:
        """This request is for the new generation."""
        said = self._said(exchange)
        if said:
            return said == self.token(True)
        return chance(exchange.arrived) * 100 < self.share

    def _said(self, exchange: Exchange) -> str:
        """What its client's cookie says, if that is of these two."""
        header = logline.variable(exchange.head.packet, b"HTTP_COOKIE")
        tokens = (self.token(True), self.token(False)) if header else ()
        said = (each.decode("latin-1") for each in cookies(header, NAME.encode()))
        return next((each for each in said if each in tokens), "")

    def cookie_for(self, exchange: Exchange, generation: int) -> bytes:
        """The field that ties a client to this generation; empty: it is tied."""
        if self._said(exchange):
            return b""
        secure = "; Secure" if logline.variable(exchange.head.packet, b"HTTPS") == b"on" else ""
        token = self.token(generation == self.generation)
        return f"Set-Cookie: {NAME}={token}; Path=/; HttpOnly; SameSite=Lax{secure}\r\n".encode()

    def token(self, new: bool) -> str:
        """What the cookie is. One of a trial before says nothing in this one."""
        text = f"canary\0{self.name}\0{self.generation}\0{int(new)}"
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def chance(arrived: float) -> float:
    """A number in [0, 1), the same for the same instant."""
    digest = hashlib.blake2b(struct.pack("d", arrived), digest_size=4).digest()
    return int.from_bytes(digest, "little") / 2**32
