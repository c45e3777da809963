"""One connection to an upstream, whatever it speaks: bytes out with back-pressure, bytes in to whoever has a request there.

What is sent in ``upstream_uwsgi`` and ``upstream_http``, what comes of it in ``forwarding``.
"""

import asyncio
import errno
import socket
from typing import Any, Final, Protocol, cast

from emperor.config.upstreams import Address
from emperor.protocol.packet import RequestHead, variables
from emperor.protocol.replies import Replies
from emperor.router import upstream_tls
from emperor.router.attempts import Attempt
from emperor.router.exchange import Exchange
from emperor.router.upstreams import Upstream

WRITE_HIGH: Final = 64 * 1024
"""Bytes in our memory that the upstream has not taken, from which on the client's body is not passed on."""

OUR_OWN: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL))
"""Why we could not connect, when it is for want of something here: no failure of the upstream's."""

FULL_S: Final = 0.02
"""How soon a unix socket whose queue is full is tried again: the kernel does not say when there is room."""


MOST_PASSES: Final = 4
"""So often a request may have gone to upstreams from here already. Each pass takes two connections of everybody's: an upstream
whose requests end here again would use them up with one request."""


def passes(head: RequestHead, name: bytes) -> int:
    """How often a request has come by the router of this name, as an upstream's request (RFC 9110, 7.6.3)."""
    return variables(head.packet).get(b"HTTP_VIA", b"").count(name) if b"HTTP_VIA" in head.packet else 0


class Owner(Protocol):
    """Whose connections they are. `via` is the name by which they go there."""

    via: bytes

    def came(self, attempt: Attempt, data: bytes) -> None:
        """Bytes of a response."""

    def ended(self, attempt: Attempt) -> None:
        """It sends no more."""

    def broke(self, attempt: Attempt, error: Exception) -> None:
        """The connection was reset."""

    def takes_more(self, attempt: Attempt) -> None:
        """What was written has gone out."""

    def idled_out(self, link: "UpstreamLink") -> None:
        """One that had no request has ended, or has said what nobody asked for."""


class UpstreamLink(asyncio.Protocol):
    """A subclass knows how a request is put (`request`) and its body framed (`body`, `last`)."""

    cgi = False
    serves_again = False
    """It may have another request after this one."""

    def __init__(self, owner: Owner, upstream: Upstream) -> None:
        self.owner = owner
        self.upstream = upstream
        self.replies = Replies(cgi=self.cgi)
        self.attempt: Attempt | None = None
        self.idle_since = 0.0
        self.full = False  # it takes no more for now
        self.reading = True
        self._tls = upstream.address.tls
        self._said_farewell = False
        self._transport: asyncio.Transport | None = None

    # For subclasses

    def request(self, exchange: Exchange) -> bytes:
        """The head of a request, and the response that it is to have."""
        raise NotImplementedError

    def body(self, piece: bytes) -> bytes:
        """A piece of a body as it is sent."""
        return piece

    def last(self) -> bytes:
        """What is sent behind a body."""
        return b""

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH)

    def data_received(self, data: bytes) -> None:
        if self.attempt is None:
            self.owner.idled_out(self)
        else:
            self.owner.came(self.attempt, data)

    def eof_received(self) -> bool:
        # Over TLS: its close_notify. The end of the connection alone is not told so.
        self._said_farewell = True
        if self.attempt is None:
            self.owner.idled_out(self)
        else:
            self.owner.ended(self.attempt)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        attempt = self.attempt
        if attempt is None:
            self.owner.idled_out(self)
        elif exc is None and self._tls and not self._said_farewell:
            self.owner.broke(attempt, upstream_tls.CutOff())
        elif exc is None:
            self.owner.ended(attempt)
        else:
            self.owner.broke(attempt, exc)

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        if self.attempt is not None:
            self.owner.takes_more(self.attempt)

    # What its owner does

    def write(self, data: bytes) -> None:
        if self._transport is not None and data:
            self._transport.write(data)

    def write_eof(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._tls:
            # TLS has an end of one side, and Python's transports have not: this is the end of both, behind what was written.
            self._transport.close()
        else:
            self._transport.write_eof()

    def pause(self) -> None:
        if self.reading and self._transport is not None:
            self.reading = False
            self._transport.pause_reading()

    def resume(self) -> None:
        if not self.reading and self._transport is not None and not self._transport.is_closing():
            self.reading = True
            self._transport.resume_reading()

    @property
    def closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def close(self) -> None:
        """Now, whatever is under way."""
        self.attempt = None
        if self._transport is not None:
            self._transport.abort()


async def connect(
    loop: asyncio.AbstractEventLoop, address: Address, link: asyncio.Protocol, tls: dict[str, Any]
) -> None:
    """``tls`` is what `Tls.keys` gives. Raises OSError."""
    if address.path:
        await loop.create_unix_connection(lambda: link, sock=await unix_socket(address.path))
    else:
        # uvloop looks up no numbers; a socket that we had connected ourselves costs it more than one of its own.
        await loop.create_connection(lambda: link, address.host, address.port, **tls)


async def unix_socket(path: str) -> socket.socket:
    """A socket that is connected to this path, or abstract name (``@name``, which uvloop itself does not know). Waits while
    the server's queue is full, as TCP does: whoever asks has a deadline. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.setblocking(False)
        while True:
            try:
                sock.connect("\0" + path[1:] if path.startswith("@") else path)
                break
            except BlockingIOError:
                # Its queue is full. The loop's own `sock_connect` takes that for a connection under way, and soon for one.
                await asyncio.sleep(FULL_S)
    except BaseException:
        sock.close()
        raise
    return sock
