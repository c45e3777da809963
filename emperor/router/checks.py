"""Asking upstreams whether they are well, without a request of anybody's: ``health-path`` by GET, or a uwsgi ping.

Each is asked every ``health_s``, at a moment of its own, on a connection of its own, and has that long to answer. 200 to 399
is well. What comes of it is `Upstreams.checked`'s to say.
"""

import asyncio
from random import random
from typing import Final

from emperor.config.upstreams import UWSGI, Upstreams
from emperor.protocol import packet
from emperor.protocol.errors import ResponseError
from emperor.protocol.replies import Head, Replies
from emperor.router.rounds import Rounds
from emperor.router.upstream_uwsgi import PING, is_pong
from emperor.router.upstreams import Upstream

READ: Final = 16 * 1024


class Checks(Rounds):
    """Those of one app; ``told``: why an upstream is not well, or that it is."""

    host = "localhost"
    """What is asked for there."""

    def look(self, now: float, upstreams: list[Upstream], said: Upstreams) -> None:
        """Begin what is due."""
        self.go_round(
            now,
            [each for each in upstreams if asks(each, said)],
            lambda times: said.health_s if times else said.health_s * random(),
            lambda upstream: self._ask(upstream, said),
            said.health_s,
            "no answer in time",
        )

    async def _ask(self, upstream: Upstream, said: Upstreams) -> str:
        """Why it is not well; empty: it is."""
        reader, writer = await self.reach(upstream)
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


def asks(upstream: Upstream, said: Upstreams) -> bool:
    """It is asked every now and then, however it is."""
    return bool(said.health_path) or (said.ping and upstream.address.protocol == UWSGI)
