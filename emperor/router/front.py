"""What every client connection has in common: sending a response, by credit, and answering in a worker's place.

``http.HttpConnection`` and ``uwsgi.UwsgiConnection`` add how requests come in. A connection has at most one exchange at a time.
"""

import asyncio
import contextlib
import fcntl
import math
import socket
import struct
import sys
import termios
import traceback
from collections import Counter
from dataclasses import dataclass
from typing import Final, cast

from emperor.config.settings import RouterSettings
from emperor.protocol import http1, packet
from emperor.protocol.chute import Chute
from emperor.protocol.errors import HttpError
from emperor.protocol.packet import RequestHead, altered, variables
from emperor.router import pages, states
from emperor.router.access import CLIENT_GONE
from emperor.router.app import App
from emperor.router.comings import STREAM_CREDIT
from emperor.router.exchange import Client, Exchange, Place
from emperor.router.lane import Lane
from emperor.router.repeats import Repeats
from emperor.router.routes import Routes
from emperor.router.terms import SHARED, UNMET, Ends, Terms
from emperor.sending import send_now

WRITE_HIGH: Final = 64 * 1024
"""Bytes in our memory that the client has not taken, from which on the worker gets credit only for ``response-buffer``."""

FLOOR: Final = WRITE_HIGH + STREAM_CREDIT
"""What a client that does not keep up may have in our memory in any case: its worker's credit was given before."""

SMALL: Final = 4096
"""A piece of a response of fewer bytes costs more than those in our memory: an object and a place in lists, about 100 bytes."""

SMALL_PIECES: Final = 32
"""So many of them are given to a transport that does not get rid of them; what follows is gathered in one buffer."""

COPIED: Final = 64 * 1024
"""Bytes out of a chute that are copied at once, where they cannot be sent from there: chunked, by TLS, ahead of the client."""

SEND: Final = 32 * 1024
"""Bytes out of a chute that are sent at once. A client that waits is woken by the first of them, which takes a while, and reads
them all together. Of 64 KiB each it takes one after another, faster than we send them, and has to be woken for each."""

STOPGAP: Final = 4096
"""Bytes out of a chute that the transport gets when the socket is full, so that it says when it is not."""

KEPT_TURN: Final = 64
"""Connections that stay, read in one turn of the loop."""

READ: Final = 256 * 1024
"""Bytes read from a client at once."""

DRIPS_TURN: Final = 16
"""Clients that drip, read in one turn of the loop: about 100 µs."""

READ_DRIPS: Final = 4096
"""Bytes read at once from one of them."""

DRIPS_FEW: Final = 64
"""So many of them wake the router whenever they send: one may be somebody who sends little and waits for an answer to it."""

RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER, for no time: close() sends RST

_AT_ONCE: Final = 1e-9
"""A deadline that the router's next look finds passed: most connections that close are gone by then, and cost no look."""


@dataclass(frozen=True)
class Deadlines:
    """How long a client may take, in seconds; looked at once a second. Each is a setting (``RouterSettings``)."""

    head_s: float
    """From the first byte of a head or packet to its last; a drip does not extend it."""
    idle_s: float
    """Between two requests of a connection."""
    body_s: float
    """Without one byte of a body that is due."""
    write_s: float
    """Without taking one byte of what waits for it."""
    body_rate: int
    """Bytes a second of a body that is due, on average, once ``body_s`` has passed."""
    write_rate: int
    """Bytes a second taken of what waits, on average over each ``write_s``."""
    linger_s: float
    """After an early answer that the client has taken, while what it still sends is read and dropped, so that it sees the
    answer."""


class Door:
    """What a connection needs of the router. A base class, since its attributes are read several times per request."""

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: RouterSettings) -> None:
        self.loop = loop
        self.parting_s = math.inf  # so long at most a connection may rest
        self.use(settings)
        self.hits: Counter[str] = (
            Counter()
        )  # how often which setting was the reason of a refusal, by its name
        self._repeats = Repeats()
        self.date = b""  # a whole Date field, as of this second
        self.draining = False  # responses say that their connection ends with them
        self.routes = Routes()  # the app for a host and path
        self.kept = Lane(loop, KEPT_TURN, READ)  # reads connections that stay
        self.dripping = Lane(loop, DRIPS_TURN, READ_DRIPS, DRIPS_FEW)  # reads those who send little at a time
        self.ahead = 0  # bytes that may be in our memory for clients that do not keep up, of all of them

    def use(self, settings: RouterSettings) -> None:
        """From now on. A connection that is there keeps the limits on what it reads that it has begun with."""
        self.settings = settings
        self.deadlines = Deadlines(
            head_s=settings.head_timeout_s,
            idle_s=settings.idle_timeout_s,
            body_s=settings.body_timeout_s,
            write_s=settings.write_timeout_s,
            body_rate=settings.body_min_rate,
            write_rate=settings.write_min_rate,
            linger_s=settings.linger_timeout_s,
        )
        # Those of every request, where they are at hand.
        self.head_s = self.deadlines.head_s
        self.idle_s = min(self.deadlines.idle_s, self.parting_s)
        self.limits = http1.Limits(
            settings.request_line_limit,
            settings.head_limit,
            settings.fields_limit,
            settings.trailers_limit,
            settings.chunk_line_limit,
            settings.chunk_extensions_limit,
        )
        self.keepalive_requests = settings.keepalive_requests
        self.ahead_limit = settings.response_memory

    def part(self, rest_s: float) -> None:
        """From now on. Who was told before that its connection stays may be about to use it: for so long it may."""
        self.draining = True
        self.parting_s = rest_s
        self.idle_s = min(self.deadlines.idle_s, rest_s)

    def app(self, name: str) -> App | None:
        """The app of a vassal, for the listeners that are its own."""
        raise NotImplementedError

    def opened(self, front: "Front") -> None:
        """A connection was made, and is ready for whatever comes: the door may turn it away at once."""
        raise NotImplementedError

    def meets(self, address: str) -> bool:
        """A client has connected, and has a PROXY header or TLS to go through yet. False: there are too many."""
        raise NotImplementedError

    def met(self, front: "Front", address: str) -> None:
        """This is going to be it; `opened` follows, or `missed`."""
        raise NotImplementedError

    def missed(self, front: "Front | None", address: str) -> None:
        """It did not get through: one that `meets` was asked about, with its front if there was one."""
        raise NotImplementedError

    def closed(self, front: "Front") -> None:
        """It has ended."""
        raise NotImplementedError

    def count_error(self, status: int) -> None:
        """An answer of our own that no app was asked about."""
        raise NotImplementedError

    def log(self, level: str, text: str) -> None:
        """A line for the log."""
        raise NotImplementedError

    def complain(self, key: str, level: str, text: str) -> None:
        """A line for the log about what a peer can repeat: at most one a second of each key, and how many more there were."""
        if self._repeats.may(key, level, text, self.loop.time()):
            self.log(level, text)

    def summarize(self, now: float) -> None:
        """A few times a second: what `complain` has held back for one."""
        if self._repeats.waiting:
            for level, text in self._repeats.due(now):
                self.log(level, text)

    def summarize_at_last(self) -> None:
        """The router ends, and with it whatever is held back."""
        for level, text in self._repeats.rest():
            self.log(level, text)


class Front(Client):
    """One client connection, an ``asyncio.Protocol`` in all but its base. Subclasses add ``response_flags``,
    ``response_sent``, ``expired``, ``part`` and ``leave``."""

    transport: asyncio.Transport

    def __init__(self, door: Door, terms: Terms = SHARED, ends: Ends | None = None) -> None:
        self.door = door
        self.terms = terms
        self.vassal = terms.vassal
        self.ends = UNMET if ends is None else ends
        self.exchange: Exchange | None = None
        self.deadline = 0.0  # the loop's seconds after which `expired` is called; 0: none
        self.write_deadline = 0.0  # the same, for a client that takes nothing
        self._ahead = 0  # our part of the door's
        self._unsent = 0  # what would be on its way to it then, had it taken nothing; -1: not looked at yet
        self.peer = ""
        self._framing = http1.NO_BODY
        self._left = 0
        self._keep = False
        self._head_sent = False
        self._paused = False  # the client takes no more
        self._narrow = False  # the transport was told to pause whatever it holds
        self._small_pieces = 0  # that the transport may hold
        self._held: bytearray | None = None  # small pieces that wait for a client that takes no more, in one
        self._head: RequestHead | None = None  # of the request that an answer is for
        self._own_id = b""  # of a request that got none, once something has to be said of it
        self._trailer = b""  # for the end of a chunked response
        self._body_from = 0.0  # since when a body is due, not counting when it was not read
        self._unread_from = 0.0
        self._closing = False
        self._lost = False
        self._encrypted = False  # by us: a close waits for the client's word, which may never come
        self._status = 0  # of the answer, and what of it is on its way: for the access log
        self._fields = 0
        self._head_bytes = 0
        self._body_bytes = 0
        self._outcome = http1.Outcome()
        self._fd = -1  # of a plain socket
        self._lane: Lane | None = None  # that reads us, or does again when we go on; None: the transport
        self._reading = True
        self._met_the_end = False  # and the transport is to say so
        self._queued = False  # the transport has had something to send since we last saw it empty

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=WRITE_HIGH)
        sock = transport.get_extra_info("socket")
        if sock is not None and transport.get_extra_info("sslcontext") is None:
            self._fd = sock.fileno()
        if self.terms.tls:
            self._encrypted = transport.get_extra_info("ssl_object") is not None
        if self.ends is UNMET:
            name = transport.get_extra_info("sockname")
            self.ends = Ends.of(transport.get_extra_info("peername"), name)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = self._lost = True
        if self._lane is not None:
            self._lane.drop(self._fd, self)
            self._lane = None
        self._fd = -1
        self.deadline = self.write_deadline = 0.0
        self._held = None
        self._caught_up()
        self.door.closed(self)
        exchange = self.exchange
        if exchange is not None:
            self.exchange = None
            self.noted(exchange, True)
            app = exchange.app
            app.give_up(exchange)

    # Reading

    def _read_by(self, lane: Lane) -> bool:
        """This lane reads us from now on, if that can be: not if the transport has to decrypt, or to find the end. Who is not
        read now is read by it when that goes on."""
        if self._fd < 0 or self._closing or self._met_the_end:
            return False
        reading = self._reading
        if reading:
            self._stop_reading()
        self._lane = lane
        if reading:
            self._go_on_reading()
        return self._lane is lane

    def ended(self) -> None:
        """The lane has met the end: the transport is to meet it too, and to do what follows."""
        self._met_the_end = True
        if self._lane is not None:
            self._lane.drop(self._fd, self)
            self._lane = None
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def broken(self) -> None:
        """The client has reset the connection."""
        self.abort()

    def stumbled(self, error: Exception) -> None:
        """What came could not be made sense of, by a fault of ours."""
        self.own_up("500", error)
        self.abort()

    def own_up(self, kind: str, error: Exception) -> None:
        """Log a fault of ours. Until it is mended it costs the connection that set it off, and nobody else."""
        text = f"{self.peer}: {''.join(traceback.format_exception(error))}"
        self.door.complain(f"{kind} {error!r}", "error", text)

    def _stop_reading(self) -> None:
        self._reading = False
        if self._lane is None:
            self.transport.pause_reading()
        else:
            self._lane.drop(self._fd, self)

    def _go_on_reading(self) -> None:
        self._reading = True
        if self._lane is not None:
            try:
                self._lane.take(self._fd, self)
                return
            except OSError:
                self._lane = None  # the kernel has no room for it there
        self.transport.resume_reading()

    # Writing

    def pause_writing(self) -> None:
        self._paused = True
        if not self._ahead:
            self._ahead = FLOOR
            self.door.ahead += FLOOR
        self._unsent = self._unsent_bytes()
        self.write_deadline = self.door.loop.time() + self.door.deadlines.write_s

    def resume_writing(self) -> None:
        self._paused = False
        self._small_pieces = 0
        if self._narrow:
            self._narrow = False
            self.transport.set_write_buffer_limits(high=WRITE_HIGH)
        if self._held is not None:
            self._hand_over()
            if self._paused:
                return  # and all that we had for it counts on
        self._caught_up()
        if self._closing:
            return  # what is left of it has its deadline still
        self.write_deadline = 0.0
        exchange = self.exchange
        if exchange is not None and exchange.state == states.ANSWERING:
            app = exchange.app
            app.written(exchange, 0)

    def mounted(self, app: App, head: RequestHead) -> RequestHead:
        """For an app with ``manage-script-name``: the path that it is mounted at, as SCRIPT_NAME. Where a front server has
        said SCRIPT_NAME already, it knows."""
        mounts = app.mounts
        mount = None if mounts is None else mounts.find(head.host, head.path)
        if not mount or variables(head.packet).get(b"SCRIPT_NAME"):
            return head
        return altered(head, {b"SCRIPT_NAME": mount, b"PATH_INFO": head.path[len(mount) :]})

    def _caught_up(self) -> None:
        self.door.ahead -= self._ahead
        self._ahead = 0

    def _let_off(self, app: Place, size: int) -> bool:
        """A client that does not keep up may have so much more waiting for it in our memory."""
        door = self.door
        if self._ahead + size > FLOOR + app.response_buffer or door.ahead + size > door.ahead_limit:
            return False
        self._ahead += size
        door.ahead += size
        return True

    # For subclasses

    def response_flags(self, exchange: Exchange | None) -> int:
        """The flags of ``http1.response`` for this exchange, now."""
        raise NotImplementedError

    def data_received(self, data: bytes) -> None:
        """More has come from the client."""
        raise NotImplementedError

    def response_sent(self, keep: bool) -> None:
        """The response is whole (or never will be, with ``keep`` False)."""
        raise NotImplementedError

    def expired(self) -> None:
        """The deadline passed."""
        raise NotImplementedError

    def body_deadline(self, seen: int) -> float:
        """When more of the request body must have come, of which ``seen`` bytes are there."""
        deadlines = self.door.deadlines
        soon: float = self.door.loop.time() + deadlines.body_s
        rate = deadlines.body_rate
        return min(soon, self._body_from + deadlines.body_s + seen / rate) if rate else soon

    def late_body(self, seen: int) -> str:
        """Why the body is late, for the log; counted."""
        deadlines = self.door.deadlines
        rate = deadlines.body_rate
        if (
            rate
            and self.door.loop.time() - self._body_from >= deadlines.body_s + seen / rate > deadlines.body_s
        ):
            self.door.hits["body-min-rate"] += 1
            return f"{seen} bytes of a body in {self.door.loop.time() - self._body_from:.0f} s (body-min-rate {rate})"
        self.door.hits["body-timeout"] += 1
        return f"no byte of a body that is due for {deadlines.body_s:g} s (body-timeout)"

    def late(self, now: float) -> bool:
        """There is something to `look` at."""
        return 0 < self.write_deadline <= now or 0 < self.deadline <= now

    def look(self, now: float) -> None:
        """The router's clock, once a second."""
        if 0 < self.write_deadline <= now:
            self._look_at_writing(now)
        elif 0 < self.deadline <= now:
            self.deadline = 0.0
            self.expired()

    def _unsent_bytes(self) -> int:
        # The kernel holds megabytes, and asks us for more only when a third of them are free: a slow client takes minutes.
        sock = self.transport.get_extra_info("socket")
        if sock is None:
            return 0  # TLS whose connection has ended, which we are about to be told
        queued = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
        held = 0 if self._held is None else len(self._held)
        return self.transport.get_write_buffer_size() + held + int.from_bytes(queued, sys.byteorder)

    def _look_at_writing(self, now: float) -> None:
        deadlines = self.door.deadlines
        unsent = self._unsent_bytes()
        if self._closing and not unsent:
            self.write_deadline = 0.0
            if self._unsent > 0:
                self.deadline = now + deadlines.linger_s
            return
        taken = self._unsent - unsent
        if self._unsent < 0 or (taken > 0 and taken >= deadlines.write_rate * deadlines.write_s):
            self._unsent = unsent
            self.write_deadline = now + deadlines.write_s
            return
        self.write_deadline = 0.0
        limit = "write-min-rate" if taken > 0 else "write-timeout"
        self.door.hits[limit] += 1
        took = f"only {taken} bytes" if taken > 0 else "nothing"
        self.door.complain(
            limit, "info", f"{self.peer}: cut off, it took {took} in {deadlines.write_s:g} s ({limit})"
        )
        self.abort()

    def finish(self) -> None:
        """Close, once what was written has gone out: however little that is, the client has to take it in time."""
        self._closing = True
        self.deadline = self.door.loop.time() + self.door.deadlines.linger_s if self._encrypted else 0.0
        self._watch_the_rest()
        self.transport.close()

    def finish_writing(self) -> None:
        """Close our side alone, and go on reading until the client has taken what was written, and ``linger_s`` more: closing
        over unread bytes would reset the answer away. With TLS there is no such half."""
        self._closing = True
        self.deadline = self.door.loop.time() + self.door.deadlines.linger_s
        self._watch_the_rest()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def _watch_the_rest(self) -> None:
        # asyncio says when much waits for the client, and not when the last bytes do: without this they may wait for ever.
        self._unsent = -1
        self.write_deadline = _AT_ONCE

    def lingered(self) -> None:
        """The deadline of a connection that closes has passed. The time to see the answer begins when all of it is taken."""
        if self.write_deadline:
            if not self._unsent_bytes():
                self.write_deadline = 0.0
            self.deadline = self.door.loop.time() + self.door.deadlines.linger_s
            return
        self.door.hits["linger-timeout"] += 1
        self.transport.abort()

    def part(self, until: float) -> None:
        """The router drains: rest until then at most."""
        raise NotImplementedError

    def leave(self) -> None:
        """Close, if it rests and its time is up; otherwise that comes after the response."""
        raise NotImplementedError

    def is_asked(self) -> bool:
        """Something has come that is not read yet: a close would reset it."""
        sock = self.transport.get_extra_info("socket")
        return sock is not None and any(fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4)))

    # exchange.Client

    def respond(self, exchange: Exchange, head: bytes, body: bytes, fin: bool) -> None:
        outcome = self._outcome
        out = http1.respond(
            head,
            body,
            fin,
            self.response_flags(exchange),
            self.door.date,
            exchange.request_id,
            outcome,
        )
        self._status = outcome.status
        self._head_bytes = outcome.head_bytes
        self._body_bytes = 0
        if exchange.access is not None:
            self._fields = out.count(b"\r\n", 0, outcome.head_bytes) - 2
        self._framing = outcome.framing
        self._keep = outcome.keep
        self._head_sent = True
        if outcome.whole:
            # The common case: all of it in one write.
            self._write(out)
            self._body_bytes = len(body)
            self._done()
            return
        self._pass_on(out)
        self._left = outcome.length
        self.more(exchange, body, fin)

    def _write(self, data: bytes) -> None:
        """Send what is whole, or have the transport send what does not go out at once. The loop's way costs as much."""
        transport = self.transport
        if self._fd < 0 or transport.is_closing():
            transport.write(data)
            return
        if self._queued:
            if transport.get_write_buffer_size():
                transport.write(data)
                return
            self._queued = False
        sent = send_now(self._fd, data)
        if sent < len(data):
            self._pass_on(data[sent:] if sent else data)

    def _pass_on(self, data: bytes) -> None:
        """Have the transport send what comes in pieces. uvloop's does so at once, each by a call of its own, while the client
        takes them; what it does not take is gathered."""
        self._queued = True
        self.transport.write(data)

    def more(self, exchange: Exchange, body: bytes, fin: bool) -> None:
        size = len(body)
        if size:
            if self._framing == http1.LENGTH:
                if size > self._left:
                    self._cut(exchange)
                    body = body[: self._left]
                self._left -= len(body)
                if body:
                    self._put(body)
            elif self._framing == http1.CHUNKED or self._framing == http1.UNTIL_CLOSE:
                self._put(body)
        if not fin:
            if size:
                app = exchange.app
                if self._paused:
                    self._unsent += size
                    if self._let_off(app, size):
                        app.written(exchange, size)
                    else:
                        exchange.owed += size
                else:
                    app.written(exchange, size)
            return
        if self._framing == http1.LENGTH and self._left:
            self._complain_of(
                exchange, f"a response body {self._left} bytes shorter than its Content-Length: cut off"
            )
            self.abort()
            return
        if self._held is not None:
            self._hand_over()
        if self._framing == http1.CHUNKED:
            self._pass_on(b"0\r\n%b\r\n" % self._trailer if self._trailer else b"0\r\n\r\n")
        elif self._framing == http1.UNTIL_CLOSE:
            self._keep = False
        self._done()

    def _cut(self, exchange: Exchange) -> None:
        self._complain_of(exchange, "a response body longer than its Content-Length was cut")
        self._keep = False

    def pour(self, exchange: Exchange, chute: Chute, most: int, ahead: bool) -> int:
        size = min(most, chute.held())
        if not size:
            return 0
        framing = self._framing
        if framing == http1.LENGTH:
            if not self._left:
                self._cut(exchange)
                return len(chute.take(size))
            size = min(size, self._left)
        elif framing != http1.CHUNKED and framing != http1.UNTIL_CLOSE:
            return len(chute.take(size))
        if self._paused:
            size = min(size, COPIED)
            if not ahead or not self._let_off(exchange.app, size):
                return -1
            self._unsent += size
            self._count(size)
            self._put(chute.take(size))
            return size
        transport = self.transport
        if self._fd < 0 or framing == http1.CHUNKED or transport.is_closing():
            size = min(size, COPIED)
            self._count(size)
            self._put(chute.take(size))
            return size
        if self._queued:
            if transport.get_write_buffer_size():
                self._narrow_down()
                return -1 if self._paused else 0
            self._queued = False
        sent = 0
        while sent < size:
            want = min(size - sent, SEND)
            part = chute.send(self._fd, want)
            sent += part
            if part < want:
                break
        self._count(sent)
        self._body_bytes += sent
        if sent < size:
            # It takes no more. With a little for it to send, the transport tells us when that is over.
            size = min(size - sent, STOPGAP)
            self._count(size)
            self._body_bytes += size
            self._pass_on(chute.take(size))
            self._narrow_down()
            sent += size
        return sent

    def pour_all(self, exchange: Exchange, chute: Chute) -> None:
        while size := chute.held():
            if self._framing == http1.LENGTH:
                if not self._left:
                    self._cut(exchange)
                    chute.take(size)
                    return
                size = min(size, self._left)
            if self._paused:
                self._unsent += size
            self._count(size)
            body = chute.take(size)
            if self._framing != http1.NO_BODY:
                self._put(body)

    def _count(self, size: int) -> None:
        """So much of the length that was declared is on its way."""
        if self._framing == http1.LENGTH:
            self._left -= size

    def _narrow_down(self) -> None:
        """The transport holds something. It pauses us now, and resumes when it has got rid of all: at the end of this turn, if
        the client keeps up."""
        if not self._paused:
            self._narrow = True
            self.transport.set_write_buffer_limits(high=1)

    def _put(self, body: bytes) -> None:
        """A piece of the body, framed, into the transport, or to what waits to go there."""
        size = len(body)
        self._body_bytes += size
        if size < SMALL and self._paused:
            if self._held is None:
                self._held = bytearray()
            self._held += body
            return
        if self._held is not None:
            self._hand_over()
        self._pass_on(b"%x\r\n%b\r\n" % (size, body) if self._framing == http1.CHUNKED else body)
        if size < SMALL:
            transport = self.transport
            self._small_pieces += 1
            if self._small_pieces >= SMALL_PIECES:
                self._small_pieces = 0
                if transport.get_write_buffer_size():
                    self._narrow_down()

    def _hand_over(self) -> None:
        """What was gathered goes into the transport as one piece, which may pause us."""
        held, self._held = self._held, None
        assert held is not None
        self._pass_on(
            b"%x\r\n%b\r\n" % (len(held), bytes(held)) if self._framing == http1.CHUNKED else bytes(held)
        )

    def _complain_of(self, exchange: Exchange, what: str) -> None:
        """The app has done wrong, and may do it again with each request."""
        exchange.app.say("length", "error", f"{_line(exchange)}: {what}{self.named()}")

    def trailers(self, exchange: Exchange, fields: bytes) -> None:
        # Who has not said that it reads them gets none (RFC 9110, 6.5.1).
        if self._framing == http1.CHUNKED and exchange.head.takes_trailers:
            self._trailer = http1.trailers(fields)

    def fail(self, exchange: Exchange, status: int, reason: str, cause: str = "") -> None:
        if self.exchange is not exchange:
            return
        verdict = f"{status}" if not self._head_sent else f"aborted after the head ({status})"
        exchange.app.say(cause or reason, "warning", f"{_line(exchange)}: {verdict}: {reason}{self.named()}")
        if self._head_sent:
            # Part of a response has gone out: never end it as if it were complete.
            self.abort()
            return
        self.answer(status, cause)

    def begun(self, exchange: Exchange) -> None:
        """Nothing to say by default."""

    def switch(self, exchange: Exchange, head: bytes) -> None:
        out = http1.switching(head, exchange.request_id)
        self._status = 101
        self._head_bytes = len(out)
        self._body_bytes = 0
        self._fields = out.count(b"\r\n") - 2
        # Bytes that the end of the connection ends, as far as sending goes.
        self._framing = http1.UNTIL_CLOSE
        self._keep = False
        self._head_sent = True
        self._write(out)

    def drained(self, exchange: Exchange) -> None:
        """The worker has taken of the request's body: there may be room for more."""
        raise NotImplementedError

    # Own answers and ends

    def refuse(self, status: int, reason: str, kind: str = "") -> None:
        """Log and count an answer of our own that no app gave. ``kind``: of what there is one line a second, where
        the reason has numbers in it."""
        self.door.complain(
            f"{status} {kind or reason}", "info", f"{self.peer}: {status}: {reason}{self.named()}"
        )
        self.count(status)

    def count(self, status: int, limit: str = "") -> None:
        """An answer of our own: for the request of a vassal it is that vassal's, with the option of it that was the reason."""
        exchange = self.exchange
        if exchange is None:
            self.door.count_error(status)
            return
        exchange.app.refused(status, limit)

    def named(self) -> str:
        """`` (id …)``, for a line of the log about an answer of our own: the id that the client will see in it."""
        return f" (id {self._id().decode()})"

    def _id(self) -> bytes:
        exchange = self.exchange
        if exchange is not None and exchange.request_id:
            return exchange.request_id
        if not self._own_id:
            self._own_id = packet.new_id()
        return self._own_id

    def answer(self, status: int, cause: str = "", refusal: HttpError | None = None) -> None:
        """Send a page of our own, and finish the request with it. ``refusal``: nothing behind it can be trusted, and what of
        the request is known stands in it where there is no head."""
        exchange = self.exchange
        flags = self.response_flags(exchange)
        keep = bool(flags & http1.KEEP_ALIVE) and not self.door.draining and refusal is None
        told = refusal is not None and self._head is None
        page = pages.page(
            status,
            keep=keep,
            head_only=refusal.is_head if told else bool(flags & http1.HEAD),  # type: ignore[union-attr]
            date=self.door.date + b"X-Request-ID: " + self._id() + b"\r\n",
            uwsgi=bool(flags & http1.UWSGI),
            http11=bool(flags & http1.HTTP11),
            accept=refusal.accept if told else pages.accepted(self._head),  # type: ignore[union-attr]
            cause=cause,
            retry_s=0 if exchange is None else exchange.retry_s,
        )
        self._write(page)
        self._status = status
        end = page.find(b"\r\n\r\n") + 4
        self._head_bytes = end
        self._body_bytes = len(page) - end
        self._fields = page.count(b"\r\n", 0, end) - 2
        self._keep = keep
        self._done()

    def turn_down(self, head: RequestHead, shared: bool) -> None:
        """No vassal takes this request. `shared`: some have its domain, and none of them a weight."""
        status, why = 404, "no vassal answers to"
        if shared:
            status, why = 503, "all have weight = 0 that share"
        text = f"{self.peer}: {status}: {why} {head.host.decode('latin-1')!r}{self.named()}"
        self.door.complain(f"{status} {why}", "info", text)
        self.door.count_error(status)
        self.answer(status, pages.NOT_READY if shared else "")

    def turn_away(self, status: int = 503) -> None:
        """There is no room for this connection: say so, and end it."""
        if not self._closing and self.exchange is None:
            self.door.count_error(status)
            self.answer(status, pages.CONNECTIONS)

    def _done(self) -> None:
        exchange = self.exchange
        if exchange is not None and exchange.access is not None:
            self.noted(exchange, False)
        self._head_sent = False
        self._trailer = b""
        self._own_id = b""
        self.exchange = None
        # As its head has said, also where the router has begun to leave since: the client may have sent its next request.
        self.response_sent(self._keep)

    def noted(self, exchange: Exchange, cut: bool) -> None:
        """This exchange is over: tell the access log, if there is one. `cut`: the client did not get the whole answer."""
        if exchange.access is None:
            return
        access = exchange.access
        exchange.access = None  # it is told of once
        if cut and not self._head_sent:
            access.note(exchange, CLIENT_GONE, 0, 0, 0, True)
        else:
            access.note(exchange, self._status, self._head_bytes, self._body_bytes, self._fields, cut)

    def abort(self) -> None:
        """Reset the connection: what was sent must not pass for a whole response.

        A body that only the end of the connection ends would look whole after a FIN. A unix socket knows no reset: there
        a front server sees such a body end, as it does with uWSGI itself.
        """
        exchange = self.exchange
        self.exchange = None
        self._closing = True
        if exchange is not None:
            self.noted(exchange, True)
            app = exchange.app
            app.give_up(exchange)
        if not self._lost:
            # Also one that is closing: a FIN behind what it has not sent yet would be a lie.
            with contextlib.suppress(OSError, AttributeError):
                self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()


def _line(exchange: Exchange) -> str:
    path = exchange.head.path[:200].decode("latin-1")
    return f"{exchange.head.method.decode('latin-1')} {path!r}"
