"""Vassals that share a domain: which of them gets a request. Pure: chance is a parameter, and readiness is asked for.

A request goes to one of those that are ready, by their weights; who is not ready leaves its part to the others. How a client
stays with one of them:

| by | who stays with whom |
| --- | --- |
| ``cookie`` | the router gives each client a cookie that names its vassal; new clients are dealt out by weight |
| ``address``, ``header NAME``, ``cookie NAME`` | of a vassal's name and a client's key a number is made, the greatest wins |
| ``request`` | nobody: each request is dealt out anew, and so is one that has no key |

The numbers are those of weighted rendezvous hashing (Schindelhauer and Schomaker, 2005): as many keys belong to a vassal as
its weight says, and when a weight changes, or somebody is not ready, no key moves that need not.

Weight 0 takes nobody, not even who has its cookie. Where none is ready, one that will be gets the request, which waits there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from emperor.config.sharing import COOKIE, REQUEST
from emperor.protocol import logline
from emperor.protocol.packet import RequestHead
from emperor.router.caps import whose
from emperor.router.policies import cookie, cookies, score
from emperor.router.routes import Routes

NAME: Final = "emperor-share"
"""The cookie of ``weight-by = cookie``."""

Chance = Callable[[], float]
"""A number in [0, 1)."""


class Sharer(Protocol):
    """What is asked of a vassal's app."""

    name: str
    entry: Any
    available: bool

    def ready(self) -> bool:
        """It can take a request now, and will not answer 503 in the app's place."""


class Shares:
    """One domain that several vassals have: the target of its route."""

    def __init__(self, route: str, apps: Iterable[Sharer], chance: Chance) -> None:
        self.route = route
        self.apps = sorted(apps, key=lambda each: each.name)
        self.weights = [each.entry.sharing.weight for each in self.apps]
        self.by = next((by for each in self.apps if (by := each.entry.sharing.by)), COOKIE)
        self.chosen = [0] * len(self.apps)
        self._chance = chance
        self._tokens = {token(each.name): index for index, each in enumerate(self.apps)}
        self._path = "".join(route.partition("/")[1:]) or "/"

    def choose(self, head: RequestHead) -> Any:
        """The app for this request, one of `apps`; None: every weight is 0."""
        among = self._among()
        if not among:
            return None
        said = self._cookie(head) if self.by == COOKIE else None
        if said in among:
            index = said
        elif key := self._key(head):
            index = max(among, key=lambda each: score(key, self.apps[each].name, self.weights[each]))
        else:
            index = self._draw(among)
        self.chosen[index] += 1
        return self.apps[index]

    def _among(self) -> list[int]:
        """Those that are chosen from."""
        weighted = [index for index, weight in enumerate(self.weights) if weight]
        ready = [index for index in weighted if self.apps[index].ready()]
        return ready or [index for index in weighted if self.apps[index].available] or weighted

    def _draw(self, among: Sequence[int]) -> int:
        point = self._chance() * sum(self.weights[each] for each in among)
        for each in among:
            point -= self.weights[each]
            if point < 0:
                return each
        return among[-1]

    def _key(self, head: RequestHead) -> bytes:
        """What its client is known by; empty: it is not."""
        kind, _, name = self.by.partition(" ")
        if kind == REQUEST or self.by == COOKIE:
            return b""
        if kind == "cookie":
            return cookie(logline.variable(head.packet, b"HTTP_COOKIE"), name.encode())
        if kind == "header":
            return logline.variable(head.packet, b"HTTP_" + name.upper().replace("-", "_").encode()) or b""
        address = logline.variable(head.packet, b"REMOTE_ADDR") or b""
        try:
            return whose(address.decode()).encode() if address else b""
        except ValueError:
            return address[:64]  # a front server's word that is no address

    def _cookie(self, head: RequestHead) -> int | None:
        """Whom its client has been given to, if that takes anybody."""
        for said in cookies(logline.variable(head.packet, b"HTTP_COOKIE"), NAME.encode()):
            index = self._tokens.get(said.decode("latin-1"))
            if index is not None and self.weights[index]:
                return index
        return None

    def cookie_for(self, head: RequestHead, app: Sharer) -> bytes:
        """The field that gives a client to this one; empty: it has been given to somebody, or not now.

        While one of them is not ready all that comes goes to the others: who comes then is not to stay there for good.
        """
        if self.by != COOKIE or self._cookie(head) is not None:
            return b""
        if not all(each.ready() for each, weight in zip(self.apps, self.weights, strict=True) if weight):
            return b""
        secure = "; Secure" if logline.variable(head.packet, b"HTTPS") == b"on" else ""
        field = f"Set-Cookie: {NAME}={token(app.name)}; Path={self._path}; HttpOnly; SameSite=Lax{secure}\r\n"
        return field.encode()

    def report(self) -> dict[str, Any]:
        """For the statistics."""
        in_all = sum(self.weights)
        return {
            "route": self.route,
            "by": self.by,
            "members": [
                {
                    "name": app.name,
                    "weight": weight,
                    "percent": round(100 * weight / in_all) if in_all else 0,
                    "ready": int(app.ready()),
                    "chosen": chosen,
                    "cookie": token(app.name) if self.by == COOKIE else "",
                }
                for app, weight, chosen in zip(self.apps, self.weights, self.chosen, strict=True)
            ],
        }


def told(routes: Routes, head: RequestHead, app: Sharer, response: bytes) -> bytes:
    """The head of a response, with the cookie where its client has yet to be given to this one."""
    found = routes.find(head.host, head.path)
    return response + found.cookie_for(head, app) if isinstance(found, Shares) else response


def token(name: str) -> str:
    """What the cookie says of a vassal: not its name, which is nobody's but the operator's."""
    return hashlib.blake2b(b"share\0" + name.encode(), digest_size=8).hexdigest()


def routes_of(
    apps: Iterable[Any], others: Iterable[tuple[str, Any]], chance: Chance, before: Iterable[Shares]
) -> tuple[Routes, list[Shares]]:
    """The table of all apps' domains and of what ``others`` have, and what of it is shared. What was counted ``before`` goes
    on being counted."""
    by_route: dict[str, list[Any]] = {}
    defaults: list[Any] = []
    only: list[Any] = []
    for app in apps:
        for domain in app.entry.domains:
            by_route.setdefault(domain, []).append(app)
        if app.entry.default:
            defaults.append(app)
        elif app.entry.only:
            only.append(app)
    counted = {
        (each.route, app.name): count
        for each in before
        for app, count in zip(each.apps, each.chosen, strict=True)
    }
    found: list[Shares] = []

    def target(route: str, those: list[Any]) -> Any:
        sharing = [each for each in those if each.entry.sharing.shares]
        if not sharing or (len(those) == 1 and _alone(route, those[0])):
            return those[0]
        shares = Shares(route, sharing, chance)
        shares.chosen = [counted.get((route, each.name), 0) for each in shares.apps]
        found.append(shares)
        return shares

    pairs = [(route, target(route, those)) for route, those in by_route.items()]
    fallback = target("", defaults) if defaults else only[0] if only else None
    made = Routes([*pairs, *others], fallback)
    made.shared = bool(found)
    return made, found


def _alone(route: str, app: Sharer) -> bool:
    """It gets all that comes there. Its own name leads to it even with a weight of 0: so it is looked at before it counts."""
    return app.entry.sharing.weight > 0 or route == f"{app.name.lower()}.localhost"
