"""Asking upstreams whether they are well, without a request of anybody's: ``health-path`` by GET, or a uwsgi ping.

Each is asked every ``health_s``, at a moment of its own, on a connection of its own, and has that long to answer. 200 to 399
is well. What comes of it is `Upstreams.checked`'s to say.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from random import random
from typing import Any, Final

from emperor.config.upstreams import UWSGI, Address, Upstreams
from emperor.protocol import packet
from emperor.protocol.errors import ResponseError
from emperor.protocol.replies import Head, Replies
from emperor.router.upstream_link import OUR_OWN, unix_socket
from emperor.router.upstream_tls import Tls
from emperor.router.upstream_uwsgi import PING, is_pong
from emperor.router.upstreams import Upstream

READ: Final = 16 * 1024
AT_ONCE: Final = 64
"""Checks under way: of hundreds of upstreams that all take their time, the rest wait for their turn."""


class Checks:
    """Those of one app."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        host: str,
        told: Callable[[Upstream, bool, str], None],
        place_of: Callable[[Upstream], Awaitable[Address]],
        tls: Tls,
    ) -> None:
        """``told``: an upstream is well or not, and why not. ``place_of``: where one is, by its numbers. ``tls``: what is said
        of connections that are encrypted."""
        self._loop = loop
        self.host = host
        self._told = told
        self._place_of = place_of
        self._tls = tls
        self._due: dict[Upstream, float] = {}
        self._under_way: dict[Upstream, asyncio.Task[None]] = {}

    def look(self, now: float, upstreams: list[Upstream], said: Upstreams) -> None:
        """Begin what is due."""
        asked = [each for each in upstreams if asks(each, said)]
        for gone in self._due.keys() - set(asked):
            del self._due[gone]
        for each in asked:
            due = self._due.setdefault(each, now + said.health_s * random())
            if now >= due and each not in self._under_way and len(self._under_way) < AT_ONCE:
                self._due[each] = now + said.health_s
                self._under_way[each] = self._loop.create_task(self._check(each, said))

    def close(self) -> None:
        for task in self._under_way.values():
            task.cancel()
        self._under_way.clear()

    async def _check(self, upstream: Upstream, said: Upstreams) -> None:
        try:
            why = await in_vain(
                self._ask(upstream, said),
                said.health_s,
                "no answer in time",
                lambda error: self._tls.fault(error, upstream.address),
            )
        finally:
            self._under_way.pop(upstream, None)
        if why is not None and not upstream.removed:
            self._told(upstream, not why, why)

    async def _ask(self, upstream: Upstream, said: Upstreams) -> str:
        """Why it is not well; empty: it is."""
        reader, writer = await reach(await self._place_of(upstream), await self._tls.keys(upstream.address))
        try:
            if not said.health_path:
                writer.write(PING)
                answer = await reader.readexactly(4)
                return "" if is_pong(answer) else f"answers a ping with {answer!r}"
            writer.write(self._request(upstream, said.health_path))
            return await _answered(reader, Replies(cgi=upstream.address.protocol == UWSGI))
        except asyncio.IncompleteReadError:
            return "it closed the connection without an answer"
        finally:
            writer.transport.abort()

    def _request(self, upstream: Upstream, path: str) -> bytes:
        host = self.host.encode()
        if upstream.address.protocol != UWSGI:
            lines = (b"GET %b HTTP/1.1" % path.encode(), b"Host: %b" % host, b"Connection: close", b"", b"")
            return b"\r\n".join(lines)
        plain, _, query = path.partition("?")
        return packet.encode(
            [
                (b"REQUEST_METHOD", b"GET"),
                (b"REQUEST_URI", path.encode()),
                (b"PATH_INFO", plain.encode()),
                (b"QUERY_STRING", query.encode()),
                (b"SCRIPT_NAME", b""),
                (b"SERVER_PROTOCOL", b"HTTP/1.1"),
                (b"SERVER_NAME", host),
                (b"SERVER_PORT", b"80"),
                (b"HTTP_HOST", host),
                (b"CONTENT_LENGTH", b""),
                (b"REMOTE_ADDR", b"127.0.0.1"),
            ],
            upstream.modifier1,
            upstream.modifier2,
        )


async def _answered(reader: asyncio.StreamReader, replies: Replies) -> str:
    replies.expect(is_head=False)
    try:
        while True:
            data = await reader.read(READ)
            replies.feed(data)
            while (event := replies.next()) is not None:
                if isinstance(event, Head):
                    return "" if 200 <= event.status < 400 else f"answers {event.status}"
            if not data:
                replies.ended()
    except ResponseError as error:
        return str(error)


async def in_vain(
    attempt: Awaitable[str], limit_s: float, late: str, fault: Callable[[OSError], str]
) -> str | None:
    """Why an attempt was, by its own word, for being ``late`` or for a ``fault``; empty: it was not. None: it failed for want
    of something of ours, which says nothing of the upstream."""
    try:
        async with asyncio.timeout(limit_s):
            return await attempt
    except TimeoutError:
        return late
    except OSError as error:
        if error.errno in OUR_OWN and not isinstance(error, ssl.SSLError):
            return None
        return fault(error)


async def reach(address: Address, tls: dict[str, Any]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection of its own. ``tls`` is what `Tls.keys` gives. Raises OSError."""
    if address.path:
        return await asyncio.open_unix_connection(sock=await unix_socket(address.path))
    return await asyncio.open_connection(address.host, address.port, **tls)


def asks(upstream: Upstream, said: Upstreams) -> bool:
    """It is asked every now and then, however it is."""
    return bool(said.health_path) or (said.ping and upstream.address.protocol == UWSGI)
