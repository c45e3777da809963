"""Whether an upstream that has failed can be reached again, found out without a request of anybody's.

Only of one that nobody asks otherwise (`checks`), and only until a connection comes about: soon after the failure at first,
then ever less often. A connection counts, with its TLS handshake, if it stays for a moment: what stands before a server that
has gone (a proxy, a container's port) often takes connections and ends them at once. What comes of it says `Upstreams.tried`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from random import random
from typing import Final

from emperor.config.upstreams import Address, Upstreams
from emperor.router.checks import AT_ONCE, asks, in_vain, reach
from emperor.router.upstream_tls import Tls
from emperor.router.upstreams import Upstream

FIRST_S: Final = 1.0
MOST_S: Final = 10.0
"""Between two tries: twice as long each time. More or less, since many may have failed at once."""

PATIENCE_S: Final = 5.0
"""`upstream-connect-timeout` counts, but no more than that. With `MOST_S` it is less than what a try in vain keeps one out for
(`health.TRIED_S`)."""

STAYS_S: Final = 0.1


class Probes:
    """Those of one app."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        told: Callable[[Upstream, str], None],
        place_of: Callable[[Upstream], Awaitable[Address]],
        tls: Tls,
    ) -> None:
        """``told``: an upstream was reached, or was not, and why not. The rest is as of `Checks`."""
        self._loop = loop
        self._told = told
        self._place_of = place_of
        self._tls = tls
        self._due: dict[Upstream, tuple[float, float]] = {}
        """When the next try is due, and how long it is to the one after that."""
        self._under_way: dict[Upstream, asyncio.Task[None]] = {}

    def look(self, now: float, upstreams: list[Upstream], said: Upstreams) -> None:
        """Begin what is due."""
        doubted = [each for each in upstreams if each.health.doubted and not asks(each, said)]
        for gone in self._due.keys() - set(doubted):
            del self._due[gone]
        for each in doubted:
            due, pause_s = self._due.setdefault(each, (now + _about(FIRST_S), 2 * FIRST_S))
            if now >= due and each not in self._under_way and len(self._under_way) < AT_ONCE:
                self._due[each] = now + _about(pause_s), min(2 * pause_s, MOST_S)
                self._under_way[each] = self._loop.create_task(self._try(each, said))

    def close(self) -> None:
        for task in self._under_way.values():
            task.cancel()
        self._under_way.clear()

    async def _try(self, upstream: Upstream, said: Upstreams) -> None:
        limit_s = min(said.connect_s, PATIENCE_S)
        try:
            why = await in_vain(
                self._reach(upstream),
                limit_s + STAYS_S,
                f"no connection within {limit_s:g} s",
                lambda error: self._tls.fault(error, upstream.address),
            )
        finally:
            self._under_way.pop(upstream, None)
        if why is not None and not upstream.removed:
            self._told(upstream, f"it cannot be reached: {why}" if why else "")

    async def _reach(self, upstream: Upstream) -> str:
        """Why it cannot be; empty: it can."""
        reader, writer = await reach(await self._place_of(upstream), await self._tls.keys(upstream.address))
        try:
            return await _ends(reader)
        finally:
            writer.transport.abort()


async def _ends(reader: asyncio.StreamReader) -> str:
    """Why a connection is none; empty: it stays, or is spoken on."""
    try:
        async with asyncio.timeout(STAYS_S):
            return "" if await reader.read(1) else "it closes connections at once"
    except TimeoutError:
        return ""


def _about(seconds: float) -> float:
    return seconds * (0.75 + random() / 2)
