"""A uwsgi client connection: one packet, its body, one response until close (uWSGI ``proto/uwsgi.c``; nginx ``uwsgi_pass``).

What each input gets is the table of docs/specs/uwsgi.md.
"""

import asyncio
import socket
import time
from typing import Final

from emperor.protocol import http1, packet
from emperor.protocol.errors import PacketError
from emperor.router.exchange import Exchange
from emperor.router.front import Door, Front
from emperor.router.http import PROBE_FIRST_S, PROBE_LAST_S, PROBE_RUNNING_LAST_S, hung_up
from emperor.router.otherend import OtherEnd, other_end
from emperor.router.shares import Shares
from emperor.router.terms import SHARED, Ends, Terms

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


EARLY_LIMIT: Final = 16 * 1024
"""Bytes of a client that are held before it is known that it gets the WebSocket that it has asked for."""

PING: Final = 100
_PONG: Final = packet.encode((), PING, 1)
_UNAVAILABLE: Final = b"unavailable"
_PONG_WITH_WARNING: Final = bytes((PING, len(_UNAVAILABLE), 0, 1)) + _UNAVAILABLE
"""uWSGI's reply that is no failure and not well either: ``uwsgi --ping`` then exits 2."""

MODIFIERS: Final[dict[int, str]] = {
    5: "PSGI",
    6: "Lua",
    7: "Rack",
    8: "JVM",
    9: "CGI",
    10: "management",
    11: "Go",
    14: "PHP",
    15: "Mono",
    17: "the spooler",
    18: "symcall",
    19: "SSI",
    22: "eval",
    23: "XSLT",
    24: "V8",
    30: "WSGI with SCRIPT_NAME cut off the path: use modifier1 0 and manage-script-name",
    31: "message passing",
    32: "message passing",
    33: "message passing",
    35: "WebDAV",
    48: "SNMP",
    72: "HTTP",
    73: "multicast",
    74: "multicast",
    95: "cluster membership",
    96: "remote logging",
    97: "a reload",
    98: "a reload",
    99: "cluster configuration",
    101: "echo",
    109: "the legion",
    110: "a signal",
    111: "the cache",
    115: "an emperor's configuration",
    123: "raw mode",
    173: "a remote call",
    200: "a close mark",
    224: "a subscription",
    250: "the example plugin",
    255: "a response",
}
"""What others mean by a modifier1 that is not served (uWSGI ``docs:Protocol.rst``), for the log."""


class UwsgiConnection(Front):
    """One connection of a uwsgi listener."""

    def __init__(self, door: Door, terms: Terms = SHARED, ends: Ends | None = None) -> None:
        super().__init__(door, terms, ends)
        self._instead: bytes | None = None  # what stands for the words of a front server that is not trusted
        self._buffer = bytearray()
        self._left_in = -1  # body bytes still to come; −1: not known
        self._early = b""  # of one that asks for a WebSocket, before the answer
        self._tunnel = False
        self._is_head = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        ends = self.ends
        self.peer = f"uwsgi {ends.text}"
        if ends.peer not in self.terms.trusted:
            self._instead = packet.encode_vars(ends.client_variables())
        self.deadline = self.door.loop.time() + self.door.deadlines.head_s
        self.door.opened(self)

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
        size = 4 + (buffer[1] | buffer[2] << 8)
        if buffer[0] != 0:
            if buffer[0] != PING or buffer[3] != 0:
                self._refuse_kind(bytes(buffer[:4]))
            elif len(buffer) >= size:
                self._pong()
            return
        if len(buffer) < size:
            return
        self._packet(bytes(buffer[:size]), bytes(buffer[size:]))

    def _pong(self) -> None:
        """A ping is answered without a worker (uWSGI ``plugins/ping``): it asks whether we listen, on a vassal's own
        listener whether that vassal takes requests."""
        app = self.door.app(self.vassal) if self.vassal else None
        well = not self.vassal or (app is not None and app.entry.available)
        self._write(_PONG if well else _PONG_WITH_WARNING)
        self.finish()

    def _refuse_kind(self, first: bytes) -> None:
        if first in _METHOD_STARTS:
            text = f"{self.peer}: HTTP was sent to a uwsgi socket; use the HTTP address instead"
            self.door.complain("uwsgi: HTTP", "warning", text)
            self.door.count_error(400)
            self.answer(400)
        elif first == b"PROX" or first == b"\r\n\r\n":
            self.door.complain(
                "uwsgi: PROXY",
                "warning",
                f"{self.peer}: a PROXY header, from an address that proxy-protocol does not name; closed",
            )
            self.door.count_error(400)
            self.finish()
        elif first[:2] == b"\x16\x03" or (first.isascii() and first.decode().isprintable()):
            # TLS, or a protocol of words; uwsgi's sizes and modifiers do not look like either.
            text = f"{self.peer}: {first!r} is no uwsgi packet; closed without an answer"
            self.door.complain("uwsgi: no packet", "warning", text)
            self.door.count_error(400)
            self.finish()
        else:
            means = f" ({MODIFIERS[first[0]]})" if first[0] in MODIFIERS else ""
            self.door.complain(
                f"uwsgi: modifier1 {first[0]}",
                "warning",
                f"{self.peer}: 501: modifier1 {first[0]}{means} is not served: only 0, a request, and 100, a ping",
            )
            self.door.count_error(501)
            self.answer(501)

    def _packet(self, sent: bytes, body: bytes) -> None:
        self._buffer.clear()
        try:
            head = packet.admit(sent, self._instead)
        except PacketError as error:
            self.door.complain(f"uwsgi: {error}", "warning", f"{self.peer}: {error.status}: {error}")
            self.door.count_error(error.status)
            self.answer(error.status)
            return
        self._head = head
        self._is_head = head.is_head
        self._left_in = head.content_length
        routes = self.door.routes
        found = self.door.app(self.vassal) if self.vassal else routes.find(head.host, head.path)
        app = found.choose(head) if routes.shared and type(found) is Shares else found
        if app is None:
            self._left_in = max(0, self._left_in - len(body))
            self.turn_down(head, found is not None)
            return
        if app.mounts is not None:
            head = self.mounted(app, head)
        exchange = Exchange(self, head, time.monotonic(), app)
        exchange.access = app.access
        if app.request_id:
            exchange.request_id = packet.identify(head, self._instead is None)
        self.exchange = exchange
        self.deadline = 0.0
        limit = app.body_limit
        if limit and head.content_length > limit:
            app.say(
                "uwsgi 413",
                "info",
                f"{self.peer}: 413: a body of {head.content_length} bytes (body-limit {limit}){self.named()}",
            )
            self.count(413, "body-limit")
            self._left_in = max(0, self._left_in - len(body))
            app.give_up(exchange)
            self.answer(413)
            return
        if self._left_in:
            self._body_from = self.door.loop.time()
            self.deadline = self._body_from + self.door.deadlines.body_s
            if body:
                self._take(exchange, body)
        elif head.websocket:
            self._hold(body)
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

    def _hold(self, data: bytes) -> None:
        """What a client has sent on the chance that it is a WebSocket."""
        self._early += data
        if self._reading and len(self._early) > EARLY_LIMIT:
            self._stop_reading()

    def switch(self, exchange: Exchange, head: bytes) -> None:
        Front.switch(self, exchange, head)
        self._tunnel = True
        early, self._early = self._early, b""
        if early:
            exchange.body(early)
            exchange.app.body_arrived(exchange)
        if not self._reading and exchange.has_room() and not self.transport.is_closing():
            self._go_on_reading()
        if self.door.draining:
            self.leave()

    def _body(self, exchange: Exchange, data: bytes) -> None:
        if self._tunnel:
            exchange.body(data)
            exchange.app.body_arrived(exchange)
            if self._reading and exchange.full():
                self._stop_reading()
            return
        if not self._left_in:
            if exchange.head.websocket and not self._head_sent:
                self._hold(data)
            return
        self.deadline = self.body_deadline(exchange.head.content_length - self._left_in + len(data))
        self._take(exchange, data)
        exchange.app.body_arrived(exchange)
        if self._reading and exchange.full():
            self._unread_from = self.door.loop.time()
            self.deadline = 0.0
            self._stop_reading()

    def drained(self, exchange: Exchange) -> None:
        if not self._reading and exchange.has_room():
            self._body_from += self.door.loop.time() - self._unread_from
            if self._left_in:
                self.deadline = self.body_deadline(exchange.head.content_length - self._left_in)
            self._go_on_reading()

    def response_flags(self, exchange: Exchange | None) -> int:
        return http1.UWSGI | http1.HTTP11 | (http1.HEAD if self._is_head else 0)

    def response_sent(self, keep: bool) -> None:
        self._early = b""
        if self._left_in or self._tunnel:
            # The front server may still be writing the body, or the client's word for the end.
            self.finish_writing()
            if not self._reading and not self.transport.is_closing():
                self._go_on_reading()
        else:
            self.finish()

    def eof_received(self) -> bool:
        """The peer sends no more. What it has asked for whole is answered, unless it has gone (decision 0005): of a peer on
        this host the kernel tells, and one on another has closed, as nginx does when its own client has gone."""
        exchange = self.exchange
        if exchange is not None and self._tunnel:
            exchange.body_done = True
            exchange.app.body_arrived(exchange)
            return not self.terms.tls
        if exchange is None or self._left_in or self._closing or self.terms.tls:
            return False  # half a request; with TLS, the library ends both directions
        if self._other_end() is not OtherEnd.ELSEWHERE:
            return self._is_there(exchange, PROBE_FIRST_S)
        if exchange.app.waits(exchange) and exchange.app.withdraw(exchange):
            # The app would run it for nobody; should there be somebody, it is told.
            self.door.count_error(503)
            self.answer(503)
            return True
        return False

    def _other_end(self) -> OtherEnd:
        sock = self.transport.get_extra_info("socket")
        if sock.family != socket.AF_UNIX:
            return other_end(sock)
        return OtherEnd.GONE if hung_up(sock) else OtherEnd.HELD

    def _is_there(self, exchange: Exchange, again_s: float) -> bool:
        """False: it has gone. This is asked again: who has not yet may do so, and a close is seen a moment after its FIN."""
        if self._other_end() is OtherEnd.GONE:
            return False
        wait_s = min(again_s, PROBE_LAST_S if exchange.app.waits(exchange) else PROBE_RUNNING_LAST_S)
        self.door.loop.call_later(wait_s, self._look_whether_it_is_there, exchange, wait_s)
        return True

    def _look_whether_it_is_there(self, exchange: Exchange, waited_s: float) -> None:
        if self._closing or self.exchange is not exchange:
            return
        if not self._is_there(exchange, 2 * waited_s):
            self.abort()

    def expired(self) -> None:
        deadlines = self.door.deadlines
        if self._closing:
            self.lingered()
        elif self.exchange is not None:
            exchange = self.exchange
            self.refuse(408, self.late_body(exchange.head.content_length - self._left_in), "body")
            exchange.app.give_up(exchange)
            self.abort() if self._head_sent else self.answer(408)
        else:
            self.refuse(408, f"no whole packet within {deadlines.head_s:g} s (head-timeout)")
            self.door.hits["head-timeout"] += 1
            self.answer(408)

    def part(self, until: float) -> None:
        """It rests before its only request alone, which is under way."""

    def leave(self) -> None:
        if self.exchange is not None and self._tunnel:
            self.exchange.app.send_away(self.exchange)
        elif self.exchange is None and not self._buffer and not self._closing and not self.is_asked():
            self.finish()
