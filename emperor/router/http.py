"""An HTTP/1.1 client connection: bytes through ``protocol.http1`` into exchanges, one after another.

========  ==================================================================================
phase     meaning
========  ==================================================================================
HEAD      between requests, or inside a head
BODY      the request's body is coming in
WAIT      the request is whole, its response is not
DISCARD   the response went out before the body was whole: what is left is read and dropped
LINGER    our side is closed; the client's last bytes are dropped so that it sees the answer
TUNNEL    a WebSocket: all that comes goes to its worker, unread
========  ==================================================================================
"""

import asyncio
import select
import socket
from enum import IntEnum
from typing import Final

from emperor.protocol import http1, packet
from emperor.protocol.errors import HttpError, PacketError
from emperor.protocol.packet import RequestHead
from emperor.protocol.scoreboard import monotonic_s
from emperor.router.exchange import Exchange, new_exchange
from emperor.router.forwarded import believed
from emperor.router.front import Door, Front
from emperor.router.shares import Shares
from emperor.router.spool import BROKEN, MORE
from emperor.router.terms import SHARED, Ends, Terms

PROBE_FIRST_S: Final = 0.01
PROBE_LAST_S: Final = 1.0
PROBE_RUNNING_LAST_S: Final = 60.0
"""Of a client whose request runs: what it has not been sent by then, only the app's own next piece tells."""
"""How soon, and then how often, a client that has stopped sending is looked at: is it still there?"""


DRIP: Final = 512
"""A piece of a head or body of fewer bytes, in the middle of it, is a drip: reading it costs more than what it brings."""

FAST: Final = 64 * 1024
"""A piece of a body of so many bytes: its client sends faster than we read."""

CARRY_LEAST: Final = 1 << 20
"""What is still to come of a body that is worth a thread's turn."""

CARRY_WORTH: Final = 256 * 1024
"""Of fewer bytes a thread's turn was in vain."""

CARRY_VAIN: Final = 4
"""After so many of those, and as many more as there were that were worth it, the rest of the body comes by the loop: nobody is
to have a thread to himself by sending a little now and then."""

CARRY_MOST: Final = 16
"""So many are remembered."""

DRIP_AFTER_S: Final = 0.1
"""How long the head or body must have been coming in by then: one that was cut up on its way is no slow one."""


class Phase(IntEnum):
    HEAD = 0
    BODY = 1
    WAIT = 2
    DISCARD = 3
    LINGER = 4
    TUNNEL = 5


# Named several times per request: see states.py.
_HEAD: Final = Phase.HEAD
_BODY: Final = Phase.BODY
_WAIT: Final = Phase.WAIT
_DISCARD: Final = Phase.DISCARD
_LINGER: Final = Phase.LINGER
_TUNNEL: Final = Phase.TUNNEL


_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


def hung_up(sock: socket.socket) -> bool:
    """The connection is over in both directions, which is not the same as that no more comes in."""
    poll = select.poll()
    poll.register(sock.fileno(), 0)
    return bool(poll.poll(0))


class HttpConnection(Front):
    """One connection of an HTTP listener."""

    reader: http1.Reader

    def __init__(self, door: Door, terms: Terms = SHARED, ends: Ends | None = None) -> None:
        super().__init__(door, terms, ends)
        self.phase: int = _HEAD
        self._due: Exchange | None = None  # made, and not yet submitted: its body may be in the same read
        self._nudged = False
        self._body_seen = 0
        self._limit = 0
        self._pipeline_limit: int = door.settings.pipeline_limit
        self._discard_limit: int = door.settings.discard_limit
        self._served = 0
        self._interim = False
        self._believes = False
        self._half_closed = False
        self._drips = False  # read among its kind
        self._carried = False  # a thread reads what comes
        self._goes = CARRY_VAIN  # that may be in vain, of this body

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        ends = self.ends
        self.peer = ends.text
        # Asked once a connection: from whom we believe nothing, nothing is to be looked at in a request.
        self._believes = ends.peer in self.terms.forwarded
        self.reader = http1.Reader(ends.variables(self.terms.tls), self._believes, self.door.limits)
        self.reader.secure = self.reader.secure or self.terms.tls
        self.deadline = self.door.loop.time() + min(self.door.deadlines.head_s, self.door.parting_s)
        self.door.opened(self)

    def data_received(self, data: bytes) -> None:
        if self.phase == _TUNNEL:
            self._tunnelled(data)
            return
        if self.phase == _LINGER:
            return
        idle = self.reader.idle()
        self.reader.feed(data)
        self._advance()
        if self.phase == _HEAD and idle and not self.reader.idle():
            # Absolute from the first byte of a head on, whatever drips in after it.
            self.deadline = monotonic_s() + self.door.head_s
        elif self._drips:
            if len(data) >= DRIP or self.phase >= _WAIT or self.reader.idle():
                self._drips = False
                self._read_by(self.door.kept)
        elif len(data) < DRIP and not idle and self.phase < _WAIT:
            self._set_apart()

    def _tunnelled(self, data: bytes) -> None:
        exchange = self.exchange
        assert exchange is not None
        exchange.body(data)
        exchange.app.body_arrived(exchange)
        if exchange.full():
            self._pause()

    def _set_apart(self) -> None:
        """A small piece has come in the middle of something: if that goes on for a while already, read it among its kind."""
        deadlines = self.door.deadlines
        since = self.deadline - deadlines.head_s if self.phase == _HEAD else self._body_from
        if self.deadline and self._reading and self.door.loop.time() - since >= DRIP_AFTER_S:
            self._drips = self._read_by(self.door.dripping)

    def _advance(self) -> None:
        """Take from the reader until it has no more, or the request is whole."""
        reader = self.reader
        try:
            while self.phase < _WAIT or self.phase == _DISCARD:
                piece = reader.next()
                if piece is None:
                    break
                if piece is True:
                    self._request_end()
                elif type(piece) is bytes:
                    self._request_body(piece)
                else:
                    assert isinstance(piece, RequestHead)
                    self._request_head(piece)
        except HttpError as error:
            self._refuse(error)
        except Exception as error:
            self.own_up("500", error)
            self._refuse(HttpError(500, f"the router stumbled over it: {error!r}"))
        if self._half_closed and self.phase < _WAIT:
            self._cut_short()
            return
        due = self._due
        if due is not None:
            self._due = None
            if self.exchange is due:
                due.app.submit(due)
                if self.exchange is due and not self._reading:
                    # So much of it lay behind the request before that we stopped reading. It may be kept on disk now.
                    self.drained(due)
        elif self.phase == _WAIT and reader.buffered() > self._pipeline_limit:
            self._pause()

    def _request_head(self, head: RequestHead) -> None:
        self._head = head
        if head.forwarded:
            head = self._head = self._believed(head)
        self._served += 1
        self._body_seen = 0
        self._goes = CARRY_VAIN
        self._interim = head.expect_continue
        self.phase = _BODY
        if head.content_length:
            # Who waits for 100 Continue owes no byte before it.
            self._body_from = self.door.loop.time()
            self.deadline = 0.0 if head.expect_continue else self._body_from + self.door.deadlines.body_s
        routes = self.door.routes
        found = self.door.app(self.vassal) if self.vassal else routes.find(head.host, head.path)
        app = found.choose(head) if routes.shared and type(found) is Shares else found
        if app is None:
            self.turn_down(head, found is not None)
            return
        if app.mounts is not None:
            head = self.mounted(app, head)
        self._limit = app.body_limit
        # Not the loop's time, which is that of its turn, in milliseconds: what comes back to the queue is sorted by this.
        exchange = new_exchange(self, head, monotonic_s(), app)
        exchange.access = app.access
        if app.request_id:
            exchange.request_id = packet.identify(head, self._believes)
        self.exchange = exchange
        if self._limit and head.content_length > self._limit:
            self._too_large(exchange, head.content_length)
            return
        self._due = exchange

    def _believed(self, head: RequestHead) -> RequestHead:
        """What a proxy that we trust says of its client. Raises HttpError."""
        try:
            return believed(head, self.terms, self.ends.client)
        except PacketError as error:
            raise HttpError(error.status, str(error)) from error

    def _request_body(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            self._body_seen += len(data)
            if self._body_seen > self._discard_limit * 4:
                self.door.hits["discard-limit"] += 1
                self._linger()
            else:
                self.deadline = self.body_deadline(self._body_seen)
            return
        self._body_seen += len(data)
        if self._limit and self._body_seen > self._limit:
            self._too_large(exchange, self._body_seen)
            return
        exchange.body(data)
        if exchange is not self._due:
            exchange.app.body_arrived(exchange)
        if exchange.full() or (len(data) >= FAST and exchange.to_disk and self._is_carried(exchange)):
            self._pause()
        else:
            self.deadline = self.body_deadline(self._body_seen)

    def _is_carried(self, exchange: Exchange) -> bool:
        """It comes fast, and much is to come: a thread reads it straight to disk, if it can."""
        if not self._goes or self._fd < 0 or not self._reading or self.reader.owed() < CARRY_LEAST:
            return False
        self._carried = True
        self._carried = exchange.app.carry(exchange, self._fd, self.reader.owed()) and self._carried
        return self._carried

    def _request_end(self) -> None:
        self.deadline = 0.0
        exchange = self.exchange
        if exchange is None:
            # Answered already: the connection is ready for the next request.
            self._next_request()
            return
        self.phase = _WAIT
        if not exchange.body_done:
            exchange.body_done = True
            if exchange is not self._due:
                exchange.app.body_arrived(exchange)

    def _too_large(self, exchange: Exchange, size: int) -> None:
        self._due = None
        app = exchange.app
        app.say(
            "413",
            "info",
            f"{self.peer}: 413: a body of {size} bytes or more (body-limit {self._limit}){self.named()}",
        )
        self.count(413, "body-limit")
        app.give_up(exchange)
        if self._head_sent:
            self.abort()
        else:
            self.answer(413)

    def _refuse(self, error: HttpError, kind: str = "") -> None:
        """The bytes cannot be understood: answer, and close, since nothing behind them can be trusted."""
        limit = error.limit
        self.refuse(error.status, f"{error} ({limit})" if limit else str(error), kind)
        if limit:
            self.door.hits[limit] += 1
        self._due = None
        exchange = self.exchange
        if exchange is not None:
            self.exchange = None
            exchange.app.give_up(exchange)
            if self._head_sent:
                self.noted(exchange, True)
                self.abort()
                return
        self.answer(error.status, "", error)
        if exchange is not None:
            self.noted(exchange, False)

    # exchange.Client

    def response_flags(self, exchange: Exchange | None) -> int:
        head = self._head
        if head is None:
            return 0
        flags = http1.HTTP11 if head.http11 else 0
        if head.is_head:
            flags |= http1.HEAD
        if head.takes_trailers:
            flags |= http1.TRAILERS
        if (
            head.keep_alive
            and not (self._half_closed and not self.reader.buffered())
            and not self.door.draining
            and self._rest_is_small(head)
        ):
            most = self.door.keepalive_requests
            if not most or self._served < most:
                flags |= http1.KEEP_ALIVE
            elif self._served == most:
                self.door.hits["keepalive-requests"] += 1
        return flags

    def _rest_is_small(self, head: RequestHead) -> bool:
        """What of the body is still to come may be read and dropped, so that the connection can be kept."""
        if self.phase == _WAIT:
            return True
        if self._carried:
            return False  # a thread takes some of it, nobody knows how much
        if head.chunked or self._interim:
            # A client that waits for 100 Continue may or may not send its body after a final answer.
            return False
        return head.content_length - self._body_seen <= self._discard_limit

    def begun(self, exchange: Exchange) -> None:
        if self._interim and not self._head_sent and self.phase == _BODY:
            self._write(_CONTINUE)
            self._body_from = self.door.loop.time()
            self.deadline = self._body_from + self.door.deadlines.body_s
        self._interim = False

    def switch(self, exchange: Exchange, head: bytes) -> None:
        Front.switch(self, exchange, head)
        self.phase = _TUNNEL
        self.deadline = 0.0
        # A client that did not wait for the answer has sent this on the chance.
        early = self.reader.rest()
        if early:
            exchange.body(early)
        exchange.body_done = self._half_closed
        if early or self._half_closed:
            exchange.app.body_arrived(exchange)
        if not self._reading and exchange.has_room():
            self._resume()
        if self._lane is None and self._reading:
            self._read_by(self.door.kept)
        if self.door.draining:
            self.leave()

    def interim(self, exchange: Exchange, head: bytes) -> None:
        status, out = http1.interim(head)
        # RFC 9110, 15.2: never to HTTP/1.0. 100 is ours to send, once (`begun`). Who takes nothing gets no advice.
        if status != 100 and exchange.head.http11 and not self._paused and not self._head_sent:
            self._write(out)

    def drained(self, exchange: Exchange) -> None:
        if not self._reading and not self._carried and exchange.has_room():
            self._resume()

    def carried(self, exchange: Exchange, count: int, how: int) -> None:
        self._body_seen += count
        self.reader.skip(count)
        self._goes = min(self._goes + 1, CARRY_MOST) if count >= CARRY_WORTH else self._goes - 1
        if how == BROKEN:
            self.broken()
        elif (
            how != MORE
            or not self._goes
            or not self.reader.owed()
            or not exchange.app.carry(exchange, self._fd, self.reader.owed())
        ):
            self._carried = False
            self._resume()
            self._advance()

    def response_sent(self, keep: bool) -> None:
        if not keep:
            whole = self.phase == _WAIT and self._reading and not self.reader.buffered()
            if whole or self._half_closed:
                self._close()
            else:
                self._linger()
            return
        if self.phase == _WAIT:
            self._next_request()
            if self._lane is None and self._reading:
                # It stays: the lane's reading is cheaper, once it was taken up.
                self._read_by(self.door.kept)
            if self.reader.buffered():
                # Pipelined behind: taken up in a turn of its own, since we may be inside the reading of a worker's records.
                self.door.loop.call_soon(self._go_on)
            elif self._half_closed:
                self._close()
        else:
            self.phase = _DISCARD
            self.deadline = self.body_deadline(self._body_seen)
        if not self._reading:
            self._resume()

    def _go_on(self) -> None:
        if not self._closing and self.phase == _HEAD:
            self._advance()

    def _close(self) -> None:
        """Once what was written has gone out."""
        self.phase = _LINGER
        self.finish()

    def _next_request(self) -> None:
        self.phase = _HEAD
        self._head = None
        # The clock itself, which is the loop's and costs a third of asking that.
        self.deadline = monotonic_s() + (self.door.head_s if self.reader.buffered() else self.door.idle_s)

    def _linger(self) -> None:
        """Close our side, and go on reading for a moment."""
        if self._closing:
            return
        self.phase = _LINGER
        if not self._reading:
            self._resume()
        self.finish_writing()

    # Ends

    def eof_received(self) -> bool:
        """The client sends no more. It may still read: what it has asked for whole is answered (decision 0005)."""
        if self.phase == _LINGER:
            return False
        if self.phase == _BODY or self.phase == _DISCARD or self._encrypted:
            self._cut_short()  # also with TLS: the library ends both directions
            return False
        self._half_closed = True
        if self.phase == _TUNNEL:
            exchange = self.exchange
            assert exchange is not None
            exchange.body_done = True
            exchange.app.body_arrived(exchange)
            return True
        if self.phase == _HEAD:
            # Requests may wait here for their turn behind the one that was just answered; half a head is nothing.
            self._advance()
            return not self._closing
        exchange = self.exchange
        assert exchange is not None
        self._ask_whether_it_is_there(exchange)
        return True

    def _cut_short(self) -> None:
        """Less than a request has come, and no more will."""
        self._due = None
        exchange = self.exchange
        if self._head_sent:
            self.abort()
            return
        if exchange is not None:
            self.exchange = None
            self.noted(exchange, True)
            exchange.app.give_up(exchange)
        if not self._closing:
            self._close()

    def _ask_whether_it_is_there(self, exchange: Exchange) -> None:
        """TCP says the same for a client that reads on and for one that has gone; only what we write tells them apart, by the
        reset that it brings. An interim response may be sent at any time before the response and is read over (RFC 9110,
        15.2)."""
        if exchange.head.http11 and not self._head_sent:
            self._write(_CONTINUE)
        self.door.loop.call_later(PROBE_FIRST_S, self._look_whether_it_is_there, exchange, PROBE_FIRST_S)

    def _look_whether_it_is_there(self, exchange: Exchange, waited_s: float) -> None:
        if self._closing or self.exchange is not exchange:
            return
        if hung_up(self.transport.get_extra_info("socket")):
            self.abort()
            return
        if waited_s >= PROBE_LAST_S and not self._nudged and self._is_between_chunks():
            # What comes next is the size of a chunk, which may begin with zeros (RFC 9112, 7.1).
            self._nudged = True
            self._write(b"0")
        most_s = PROBE_LAST_S if exchange.app.waits(exchange) else PROBE_RUNNING_LAST_S
        again_s = min(2 * waited_s, most_s)
        self.door.loop.call_later(again_s, self._look_whether_it_is_there, exchange, again_s)

    def _is_between_chunks(self) -> bool:
        return self._head_sent and self._framing == http1.CHUNKED

    def expired(self) -> None:
        deadlines = self.door.deadlines
        if self.phase == _LINGER:
            self.lingered()
        elif self._rests():
            if self.is_asked():
                self.deadline = self.door.loop.time() + deadlines.head_s
                return
            if not self.door.draining:
                self.door.hits["idle-timeout" if self._served else "head-timeout"] += 1
            self._close()
        elif self.phase == _HEAD:
            self._refuse(HttpError(408, f"no whole head within {deadlines.head_s:g} s", "head-timeout"))
        elif self.phase == _BODY and self._reading:
            self._refuse(HttpError(408, self.late_body(self._body_seen)), "body")
        elif self.phase == _DISCARD:
            self.late_body(self._body_seen)
            self.abort()

    def _rests(self) -> bool:
        return self.phase == _HEAD and self.reader.idle() and not self._closing

    def part(self, until: float) -> None:
        if self._rests():
            self.deadline = min(self.deadline, until)

    def leave(self) -> None:
        if self.phase == _TUNNEL:
            exchange = self.exchange
            assert exchange is not None
            exchange.app.send_away(exchange)
        elif self._rests() and self.deadline <= self.door.loop.time():
            self.deadline = 0.0
            self.expired()

    def _pause(self) -> None:
        if self._reading:
            self._unread_from = self.door.loop.time()
            self.deadline = 0.0
            self._stop_reading()

    def _resume(self) -> None:
        if not self._reading and not self.transport.is_closing():
            self._go_on_reading()
            self._body_from += self.door.loop.time() - self._unread_from
            if self.phase == _BODY:
                self.deadline = self.body_deadline(self._body_seen)
