"""Upstreams that are asked something by ourselves every now and then, each at moments of its own, on a connection of its own.

What is asked, of whom and how often is for `checks` and `probes` to say, which are made of this; here is when each is due, and
what is under way.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final

from emperor.config.upstreams import Address
from emperor.router.upstream_link import OUR_OWN, unix_socket
from emperor.router.upstream_tls import Tls
from emperor.router.upstreams import Upstream

AT_ONCE: Final = 64
"""Under way: of hundreds of upstreams that all take their time, the rest wait for their turn."""


class Rounds:
    """Those of one app, for one purpose."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        told: Callable[[Upstream, str], None],
        place_of: Callable[[Upstream], Awaitable[Address]],
        tls: Tls,
    ) -> None:
        """``told``: why an upstream was asked in vain; empty: it was not. ``place_of``: where one is, by its numbers. ``tls``:
        what is said of connections that are encrypted."""
        self._loop = loop
        self._told = told
        self._place_of = place_of
        self._tls = tls
        self._due: dict[Upstream, tuple[float, int]] = {}
        """When it is asked next, and how often it was."""
        self._under_way: dict[Upstream, asyncio.Task[None]] = {}

    def go_round(
        self,
        now: float,
        wanted: Collection[Upstream],
        pause_s: Callable[[int], float],
        ask: Callable[[Upstream], Awaitable[str]],
        limit_s: float,
        late: str,
    ) -> None:
        """Begin what is due. Each of ``wanted`` is asked ``pause_s(0)`` after it was seen first, and ``pause_s(N)`` after the
        Nth time. ``ask`` returns why it was in vain; empty: it was not. ``late`` is why, if it takes longer than `limit_s`."""
        for gone in self._due.keys() - set(wanted):
            del self._due[gone]
        for each in wanted:
            known = self._due.get(each)
            if known is None:
                known = self._due[each] = now + pause_s(0), 0
            due, times = known
            if now >= due and each not in self._under_way and len(self._under_way) < AT_ONCE:
                self._due[each] = now + pause_s(times + 1), times + 1
                self._under_way[each] = self._loop.create_task(self._turn(each, ask, limit_s, late))

    def close(self) -> None:
        """What is under way is given up, and nobody is told of it."""
        for task in self._under_way.values():
            task.cancel()
        self._under_way.clear()

    async def reach(self, upstream: Upstream) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to it, of its own. Raises OSError."""
        address = await self._place_of(upstream)
        tls: dict[str, Any] = await self._tls.keys(upstream.address)
        if address.path:
            return await asyncio.open_unix_connection(sock=await unix_socket(address.path))
        return await asyncio.open_connection(address.host, address.port, **tls)

    async def _turn(
        self, upstream: Upstream, ask: Callable[[Upstream], Awaitable[str]], limit_s: float, late: str
    ) -> None:
        try:
            async with asyncio.timeout(limit_s):
                why = await ask(upstream)
        except TimeoutError:
            why = late
        except OSError as error:
            if error.errno in OUR_OWN and not isinstance(error, ssl.SSLError):
                return  # it failed for want of something of ours, which says nothing of the upstream
            why = self._tls.fault(error, upstream.address)
        finally:
            self._under_way.pop(upstream, None)
        if not upstream.removed:
            self._told(upstream, why)
