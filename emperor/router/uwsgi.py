"""A uwsgi client connection: one packet, its body, one response until close (uWSGI ``proto/uwsgi.c``; nginx ``uwsgi_pass``)."""

import asyncio
import time
from typing import Final

from emperor.protocol import http1
from emperor.protocol.errors import PacketError
from emperor.protocol.packet import admit
from emperor.router.exchange import Exchange
from emperor.router.front import BODY_HIGH, Door, Front

_METHOD_STARTS: Final = (
    b"GET ",
    b"POST",
    b"HEAD",
    b"PUT ",
    b"DELE",
    b"OPTI",
    b"PATC",
    b"CONN",
    b"TRAC",
    b"PRI ",
)


class UwsgiConnection(Front):
    """One connection of a uwsgi listener."""

    def __init__(self, door: Door) -> None:
        super().__init__(door)
        self._buffer = bytearray()
        self._left_in = -1  # body bytes still to come; −1: not known
        self._reading = True
        self._is_head = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.peer = (
            f"uwsgi {peer[0]}:{peer[1]}" if isinstance(peer, tuple) and len(peer) >= 2 else "uwsgi unix"
        )
        self.deadline = self.door.loop.time() + self.door.deadlines.head_s

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if self.exchange is not None:
            self._body(self.exchange, data)
            return
        buffer = self._buffer
        buffer += data
        if len(buffer) < 4:
            return
        if buffer[0] != 0:
            self._refuse_kind(bytes(buffer[:4]))
            return
        size = 4 + (buffer[1] | buffer[2] << 8)
        if len(buffer) < size:
            return
        self._packet(bytes(buffer[:size]), bytes(buffer[size:]))

    def _refuse_kind(self, first: bytes) -> None:
        if first in _METHOD_STARTS:
            self.door.log(
                "warning", f"{self.peer}: HTTP was sent to a uwsgi socket; use the HTTP address instead"
            )
            self.door.count_error(400)
            self.answer(400)
        elif first[:2] == b"\x16\x03" or (first.isascii() and first.decode().isprintable()):
            # TLS, or a protocol of words; uwsgi's sizes and modifiers do not look like either.
            self.door.log("warning", f"{self.peer}: {first!r} is no uwsgi packet; closed without an answer")
            self.door.count_error(400)
            self._closing = True
            self.transport.close()
        else:
            self.door.log(
                "warning", f"{self.peer}: modifier1 {first[0]} is not served here (only 0, a WSGI request)"
            )
            self.door.count_error(501)
            self.answer(501)

    def _packet(self, packet: bytes, body: bytes) -> None:
        self._buffer.clear()
        try:
            head = admit(packet)
        except PacketError as error:
            self.door.log("warning", f"{self.peer}: {error.status}: {error}")
            self.door.count_error(error.status)
            self.answer(error.status)
            return
        self._is_head = head.is_head
        self._left_in = head.content_length
        app = self.door.route(head.host, head.path)
        if app is None:
            self.door.log("info", f"{self.peer}: 404: no vassal answers to {head.host.decode('latin-1')!r}")
            self.door.count_error(404)
            self._left_in = max(0, self._left_in - len(body))
            self.answer(404)
            return
        limit = app.body_limit
        if limit and head.content_length > limit:
            self.door.log(
                "info",
                f"[{app.name}] {self.peer}: 413: a body of {head.content_length} bytes (body-limit {limit})",
            )
            self.door.count_error(413)
            self._left_in = max(0, self._left_in - len(body))
            self.answer(413)
            return
        exchange = Exchange(self, head, time.monotonic(), app)
        self.exchange = exchange
        self.deadline = 0.0
        if self._left_in:
            self.deadline = self.door.loop.time() + self.door.deadlines.body_s
            if body:
                self._take(exchange, body)
        app.submit(exchange)

    def _take(self, exchange: Exchange, data: bytes) -> None:
        if len(data) > self._left_in:
            data = data[: self._left_in]  # what follows CONTENT_LENGTH is nobody's
        self._left_in -= len(data)
        if data:
            exchange.body(data)
        if not self._left_in:
            exchange.body_done = True
            self.deadline = 0.0

    def _body(self, exchange: Exchange, data: bytes) -> None:
        if not self._left_in:
            return
        self.deadline = self.door.loop.time() + self.door.deadlines.body_s
        self._take(exchange, data)
        exchange.app.body_arrived(exchange)
        if exchange.buffered > BODY_HIGH and self._reading:
            self._reading = False
            self.deadline = 0.0
            self.transport.pause_reading()

    def drained(self, exchange: Exchange) -> None:
        if not self._reading and exchange.buffered < BODY_HIGH // 2:
            self._reading = True
            if self._left_in:
                self.deadline = self.door.loop.time() + self.door.deadlines.body_s
            self.transport.resume_reading()

    def response_flags(self, exchange: Exchange | None) -> int:
        return http1.UWSGI | http1.HTTP11 | (http1.HEAD if self._is_head else 0)

    def response_sent(self, keep: bool) -> None:
        self._closing = True
        if self._left_in and self.transport.can_write_eof():
            # The front server may still be writing the body; a close over unread bytes would take the answer away.
            self.transport.write_eof()
            self.deadline = self.door.loop.time() + self.door.deadlines.linger_s
            if not self._reading:
                self._reading = True
                self.transport.resume_reading()
        else:
            self.transport.close()

    def eof_received(self) -> bool:
        # A front server does not half-close: end of file means that its client has gone.
        return False

    def expired(self) -> None:
        deadlines = self.door.deadlines
        if self._closing:
            self.transport.abort()
        elif self.exchange is not None:
            self.door.log(
                "info", f"{self.peer}: 408: no byte of a body that is due for {deadlines.body_s:g} s"
            )
            self.door.count_error(408)
            exchange = self.exchange
            exchange.app.give_up(exchange)
            self.abort() if self._head_sent else self.answer(408)
        else:
            self.door.log("info", f"{self.peer}: 408: no whole packet within {deadlines.head_s:g} s")
            self.door.count_error(408)
            self.answer(408)

    def leave(self) -> None:
        if self.exchange is None and not self._buffer and not self._closing:
            self._closing = True
            self.transport.close()
