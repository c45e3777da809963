"""Whether an upstream that has failed can be reached again, found out without a request of anybody's.

Only of one that nobody asks otherwise (`checks`), and only until a connection comes about: soon after the failure at first,
then ever less often. A connection counts, with its TLS handshake, if it stays for a moment: what stands before a server that
has gone (a proxy, a container's port) often takes connections and ends them at once. What comes of it says `Upstreams.tried`.
"""

import asyncio
from random import random
from typing import Final

from emperor.config.upstreams import Upstreams
from emperor.router.checks import asks
from emperor.router.rounds import Rounds
from emperor.router.upstreams import Upstream

FIRST_S: Final = 1.0
MOST_S: Final = 10.0
"""Between two tries: twice as long each time. More or less, since many may have failed at once."""

PATIENCE_S: Final = 5.0
"""`upstream-connect-timeout` counts, but no more than that. With `MOST_S` it is less than what a try in vain keeps one out for
(`health.TRIED_S`)."""

STAYS_S: Final = 0.1


class Probes(Rounds):
    """Those of one app; ``told``: why an upstream cannot be reached, or that it was."""

    def look(self, now: float, upstreams: list[Upstream], said: Upstreams) -> None:
        """Begin what is due."""
        limit_s = min(said.connect_s, PATIENCE_S)
        self.go_round(
            now,
            [each for each in upstreams if each.health.doubted and not asks(each, said)],
            _pause_s,
            self._reach,
            limit_s + STAYS_S,
            f"no connection within {limit_s:g} s",
        )

    async def _reach(self, upstream: Upstream) -> str:
        """Why it cannot be; empty: it can."""
        reader, writer = await self.reach(upstream)
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


def _pause_s(times: int) -> float:
    """After so many tries."""
    return min(FIRST_S * 2.0 ** min(times, 10), MOST_S) * (0.75 + random() / 2)
