"""The router's end of the backplane, and the only module of the router that knows ZeroMQ (docs/specs/backplane.md).

A ``Backplane`` is one vassal's socket; a ``Link`` is one worker's connection to it. The socket's descriptor is edge-triggered:
it is drained to EAGAIN within a budget, and ``EVENTS`` is looked at again after every burst of sends, because a send can
eat the edge.
"""

import asyncio
import errno
import os
import select
import socket
import time
from typing import Final

import zmq

from emperor.protocol import records
from emperor.protocol.bell import ring_worker
from emperor.protocol.errors import BoardError, RecordError
from emperor.protocol.records import MESSAGE_LIMIT
from emperor.protocol.ring import Reader, Writer
from emperor.protocol.scoreboard import Board
from emperor.router import policies
from emperor.router.chutes import Chutes
from emperor.router.exchange import Exchange
from emperor.router.grants import ALL
from emperor.router.pool import Member
from emperor.zeromq import Wire

BUDGET: Final = 64
"""Messages read from one socket in one turn of the loop; a message of many records counts as many."""

RECEIVE_HWM: Final = 64
"""Messages libzmq holds for us per connection: credits cannot fill it, and a flooding tenant cannot fill our memory."""

SEND_HWM: Final = 4096
"""Messages libzmq holds for a worker inside app code. Credits keep far below it: EAGAIN is a link fault."""

FLOOD_PER_S: Final = 500
"""Messages that nobody asked for, per second, from which on a backplane is closed and remade."""

FLOOD_BYTES: Final = 64 * 1024
"""A large one counts as one more for each so many bytes."""

LOOKS: Final = 1
"""So many turns of the loop in which no ring had anything end the watch. A router that looks on keeps its core, and has the
worker waked on another, which takes longer than to be waked itself (decision 0027)."""

BULK_LOOKS: Final = 24
"""The same while a body comes or goes by a chute: the next piece of it is some microseconds away."""

CALLS_MOST: Final = 16
"""Calls of a worker that may still be on their way when we rest again: we were woken by something else."""

PROBE_S: Final = 0.25
"""How long a dead worker's last bytes are waited for (a forked child may hold the descriptor)."""


_POLLIN: Final = int(zmq.POLLIN)


class Unreachable(Exception):
    """The peer is gone, or does not take what its credit allows: a link fault."""


class Link(Member):
    """One worker's connection: what was sent over it, and which deck words it uses.

    ``board`` is None for a worker whose process cannot be seen: it gets no deck. ``outbox`` is what the next flush sends.
    """

    __slots__ = (
        "answered",
        "asked_ns",
        "backplane",
        "bell",
        "board",
        "chutes",
        "crashed",
        "failed",
        "failing",
        "free_words",
        "generation",
        "grace_s",
        "has_bell",
        "held",
        "identity",
        "may_call",
        "most",
        "nonce",
        "offered",
        "outbox",
        "pid",
        "pidfd",
        "ready",
        "recalled",
        "received",
        "request_ring",
        "requests",
        "revoked_words",
        "ring",
        "router_seat",
        "seat",
        "since_ns",
        "sleeps",
        "streams",
        "unsent",
        "wanted_since_ns",
        "watched",
        "width",
    )

    def __init__(
        self,
        backplane: "Backplane",
        identity: bytes,
        generation: int,
        seat: int,
        slots: int,
        board: Board | None,
        deck: int,
    ) -> None:
        super().__init__(slots)
        self.backplane = backplane
        self.identity = identity
        self.generation = generation
        self.seat = seat
        self.grace_s = 0.0  # it ends what runs too long by itself, and has so long for it
        self.width = slots  # those that it works with, of the page's; `slots` are those that are ours
        self.offered = slots  # by its word, those that it has free or had; `slots` may be fewer for now
        self.most = ALL  # of them that it may have to work with (`balancer`)
        self.crashed = False  # its process has ended, and was not to
        self.failing = 0  # times in a row that it has failed fast
        self.held: list[int] | None = None  # the slots that are ours, where routers share a worker (`grants`)
        self.recalled = 0  # so many of them others want
        self.wanted_since_ns = 0  # and since when; 0: that was not said
        self.since_ns = 0  # when we took the last of them
        self.asked_ns = 0  # when we last said that we want some
        self.router_seat = 0
        self.board = board
        self.pid = 0
        self.pidfd = -1
        self.nonce = b""
        self.ready = False
        self.requests = 0
        self.answered = 0  # by the app, or for it where it failed; of these
        self.failed = 0  # with 5xx
        self.received = 0
        self.ring: Reader | None = None
        self.request_ring: Writer | None = None
        self.bell = -1  # the worker's, and its generation's
        self.has_bell = False  # by which it calls us
        self.sleeps = False  # and will be looked after at the end of this turn
        self.chutes: Chutes | None = None
        self.watched = False  # it need not call: its ring is looked into
        self.may_call = 1  # so often: once for each time that we rest
        self.streams: dict[int, Exchange] = {}
        self.free_words = list(range(deck - 1, -1, -1)) if board is not None else []
        self.revoked_words: list[int] = []
        self.outbox: list[bytes] = []
        self.unsent: list[bytes] = []  # the message that found no connection

    def __repr__(self) -> str:
        return f"<Link seat {self.seat} of generation {self.generation}, pid {self.pid}>"

    def room(self) -> bool:
        """Another request may be offered."""
        if self.board is None:
            return self.in_flight < self.slots
        if not self.free_words and self.revoked_words:
            self._reclaim_words(self.board)
        return bool(self.free_words)

    def _reclaim_words(self, board: Board) -> None:
        # The worker frees a revoked word when it meets the record; nothing tells us, so we look when we need one.
        still = []
        for word in self.revoked_words:
            if board.state(self.seat, self.router_seat, word)[1] == 0:
                self.free_words.append(word)
            else:
                still.append(word)
        self.revoked_words = still

    def running_ns(self, now_ns: int) -> int:
        """How long every slot has been busy; −1 when one is idle or it cannot be known."""
        board = self.board
        if board is None:
            return -1
        held = self.held
        if held is None or len(held) == self.width:
            return board.running_ns(self.seat, now_ns, self.width)
        return board.running_there_ns(self.seat, now_ns, held)

    def waiting(self) -> int:
        """Requests offered beyond the slots."""
        return self.in_flight - self.slots

    def own(self) -> int:
        """Slots that are ours, spared or not."""
        return self.offered if self.held is None else len(self.held)

    def send(self, record: bytes) -> None:
        """Put a record into the next message to this worker."""
        outbox = self.outbox
        if not outbox:
            self.backplane.want_flush(self)
        outbox.append(record)

    def put(self, flags: int, word: int, stream: int, packet: bytes, body: bytes) -> bool:
        """A whole request into its ring, if it reads that. False: send a message.

        A worker that rests is waked for all that this turn of the loop brings.
        """
        ring = self.request_ring
        if ring is None or not ring.is_read() or not ring.put_request(flags, word, stream, packet, body):
            return False
        if not self.sleeps and ring.rests():
            self.wake()
            self.sleeps = True
            self.backplane.want_wake(self)
        return True

    def unwanted(self, size_bytes: int = 0) -> None:
        """It has sent what nobody asked for."""
        self.backplane.unwanted(size_bytes)

    def ponged(self, payload: bytes) -> bool:
        """It has answered a PING. False: nobody had asked."""
        return False

    def whereabouts(self) -> dict[str, str | int]:
        """On which host it is, its weight, how far that is, and for how long it is left alone; of this one nothing."""
        return {"host": "", "weight": 0, "rtt_us": 0, "left_alone_s": 0}

    def token(self, name: str) -> str:
        """What a sticky cookie of the vassal ``name`` calls it."""
        return policies.token(name, self.seat)

    def never_sent(self) -> set[int]:
        """The streams of what was offered and never left: it was to go with the message that could not be sent, or the next."""
        unsent, self.outbox = [*self.unsent, *self.outbox], []
        self.unsent = []
        return {record[3] for record in records.unpack(b"".join(unsent)) if record[0] == records.REQUEST}

    def is_rung(self) -> bool:
        """Small requests and their answers need no message either way."""
        ring = self.request_ring
        return ring is not None and ring.is_read() and self.has_bell

    def wake(self) -> None:
        """Ring its bell, if it rests."""
        self.sleeps = False
        ring = self.request_ring
        if ring is not None and ring.must_call():
            ring_worker(self.bell)

    def close(self) -> None:
        """Let go of the pidfd. The connection itself cannot be closed alone; its records are dropped from now on."""
        self.ring = self.request_ring = None
        if self.pidfd >= 0:
            self.backplane.loop.remove_reader(self.pidfd)
            os.close(self.pidfd)
            self.pidfd = -1


class Receiver:
    """What a backplane tells its app. A base class, since calls through it are on the path of every request."""

    def message(self, link: Link, message: bytes) -> int:
        """A message of a known link. Returns what it took of the budget: its records."""
        raise NotImplementedError

    def bulk(self, link: Link) -> bool:
        """Move on what is in its chutes. False: there was nothing to move."""
        raise NotImplementedError

    def stranger(self, identity: bytes, message: bytes, peer: tuple[int, int] | None) -> None:
        """A message of an unknown identity; ``peer`` is (uid, pid) as the kernel gave them, None over tcp."""
        raise NotImplementedError

    def unreachable(self, link: Link, reason: str) -> None:
        """The link broke while sending."""
        raise NotImplementedError

    def broken(self, link: Link, reason: str) -> None:
        """What stands on its page is not what the protocol allows."""
        raise NotImplementedError

    def flooded(self, count: int) -> None:
        """So many unasked-for messages in a second that the socket was closed for a while."""
        raise NotImplementedError


class Backplane:
    """One vassal's ROUTER socket on the listening descriptor that the emperor handed over.

    ``listener`` stays open as long as the backplane: the socket can be remade from it. Until ``open``, workers that connect
    wait in the kernel, and what they say waits with them.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        receiver: Receiver,
    ) -> None:
        self.context = context
        self.loop = loop
        self.listener = listener
        self.receiver = receiver
        self.links: dict[bytes, Link] = {}
        self.unasked = 0  # messages nobody asked for in this second
        self.unasked_total = 0
        self.remade = 0
        self._dirty: list[Link] = []
        self._sleepers: list[Link] = []
        self._flush_planned = False
        self._drain_planned = False
        self._second = 0
        self._watched: list[Link] = []
        self._looks = 0  # in vain, one after another
        self._rings_due = 1  # what they were for is found already, or was for the router before this one
        self._socket: zmq.Socket[bytes] | None = None
        self._wire: Wire | None = None
        self._fd = -1

    def open(self) -> None:
        """Make the socket: once the router's table is whole, and again after ``shut``."""
        if self._socket is not None or self.listener.fileno() < 0:
            return
        sock: zmq.Socket[bytes] = self.context.socket(zmq.ROUTER)
        sock.setsockopt(zmq.LINGER, 0)
        sock.setsockopt(zmq.ROUTER_MANDATORY, 1)
        sock.setsockopt(zmq.ROUTER_HANDOVER, 0)
        sock.setsockopt(zmq.MAXMSGSIZE, 1024 * 1024)
        sock.setsockopt(zmq.RCVHWM, RECEIVE_HWM)
        sock.setsockopt(zmq.SNDHWM, SEND_HWM)
        sock.setsockopt(zmq.HANDSHAKE_IVL, 3000)
        try:
            self._prepare(sock)
            self._bind(sock)
        except BaseException:
            sock.close(0)  # there are no descriptors left
            raise
        self._socket = sock
        self._wire = Wire(sock)
        self._fd = int(sock.getsockopt(zmq.FD))
        self.loop.add_reader(self._fd, self.drain)
        self._plan_drain()

    def _prepare(self, sock: "zmq.Socket[bytes]") -> None:
        """Before it is bound."""

    def _bind(self, sock: "zmq.Socket[bytes]") -> None:
        # libzmq closes the descriptor with the socket, so it gets a copy of its own.
        sock.setsockopt(zmq.USE_FD, os.dup(self.listener.fileno()))
        path = self.listener.getsockname()
        sock.bind(f"ipc://{path}")

    def listen_at(self, listener: socket.socket) -> None:
        """Let workers come by this socket from now on: nobody finds the one before any more. Who came by that stays, and
        until the backplane is remade, who is waiting there is let in."""
        self.listener.close()
        self.listener = listener
        if self._socket is not None:
            self._bind(self._socket)

    def shut(self) -> None:
        """Close the socket and with it every connection; the links are the caller's to end."""
        sock = self._socket
        if sock is None:
            return
        self._socket = self._wire = None
        self.loop.remove_reader(self._fd)
        sock.close(0)
        for identity, link in list(self.links.items()):
            if link.backplane is self:
                del self.links[identity]
        self._dirty.clear()
        self._watched.clear()

    def close(self) -> None:
        """For good."""
        self.shut()
        self.listener.close()

    # Receiving

    def drain(self) -> None:
        """Read what is there, at most ``BUDGET`` messages; the rest in the next turn."""
        wire = self._wire
        if wire is None:
            return
        links = self.links
        left = BUDGET
        while left > 0:
            left -= 1
            identity = wire.receive()
            if identity is None:
                return
            link = links.get(identity)
            if link is None:
                self._receive_stranger(identity)
            else:
                message = wire.receive()
                if message is None:
                    # Frames of one message arrive together: there is nothing to be done about one without its second.
                    return
                if wire.more:
                    # A second frame could be taken for another peer's identity.
                    link.unwanted(len(message) + self._skip(wire))
                else:
                    left -= self.receiver.message(link, message) - 1
            if self._wire is not wire:
                return
        self._plan_drain()

    def _plan_drain(self) -> None:
        if not self._drain_planned:
            self._drain_planned = True
            self.loop.call_soon(self._planned_drain)

    def _planned_drain(self) -> None:
        self._drain_planned = False
        self.drain()

    def drain_all(self) -> None:
        """Read everything that has arrived, within reason: what a dead worker left."""
        for _ in range(64):
            wire = self._wire
            if wire is None or not wire.events() & _POLLIN:
                return
            self.drain()

    # Rings

    def watch(self, link: Link) -> None:
        """It has been given something to do: look into its ring until there is nothing for a while."""
        ring = link.ring
        if ring is None:
            return
        self._looks = 0
        if not link.watched:
            link.watched = True
            if ring.watch() and link.has_bell:
                # It may be long heard; then it is one that we put up with.
                self._rings_due = min(self._rings_due + 1, CALLS_MOST)
            if not self._watched:
                self.loop.call_soon(self._look)
            self._watched.append(link)

    def _look(self) -> None:
        found = False
        busy = False
        most = LOOKS
        for link in self._watched[:]:
            if self.look_into(link):
                found = True
            if link.in_flight and link.ring is not None:
                busy = True
                if link.chutes is not None and link.chutes.active():
                    most = BULK_LOOKS
                    if self.receiver.bulk(link):
                        found = True
        self._looks = 0 if found else self._looks + 1
        if busy and self._looks < most:
            self.loop.call_soon(self._look)
        else:
            self._rest()

    def _rest(self) -> None:
        """From now on they must call. One that did not know is seen in a last look."""
        watched, self._watched = self._watched, []
        for link in watched:
            ring = link.ring
            link.watched = False
            if ring is not None:
                if link.may_call < CALLS_MOST:
                    link.may_call += 1
                ring.rest(link.has_bell)
                if ring.has() or (link.chutes is not None and link.chutes.rest()):
                    self.watch(link)

    def rung(self, generation: int) -> None:
        """The bell of a generation's workers. One that has rung for nothing is counted."""
        if self._socket is None:
            return
        found = False
        for link in list(self.links.values()):
            ring = link.ring
            if ring is None or link.watched or link.generation != generation or not ring.called():
                continue
            if link.chutes is not None and link.chutes.active():
                found = True
                self.watch(link)
                continue
            if self.look_into(link):
                found = True
            ring = link.ring
            if ring is None or link.watched:
                continue
            if link.in_flight:
                self.watch(link)
            else:
                ring.rest(True)
                if ring.has():
                    self.watch(link)
        if not found:
            if self._rings_due:
                self._rings_due -= 1
            else:
                self.unwanted()

    def look_into(self, link: Link) -> int:
        """Take what its ring holds. Returns how many records that were."""
        ring = link.ring
        try:
            if ring is None or not ring.has():
                return 0
            message = ring.take()
        except (RecordError, BoardError) as error:
            self.receiver.broken(link, str(error))
            return 0
        return self.receiver.message(link, message)

    def _receive_stranger(self, identity: bytes) -> None:
        assert self._socket is not None and self._wire is not None
        frame = self._socket.recv(copy=False)
        if frame.more:
            # The Wire has not seen this frame: what it knows is that of the identity before, which has more too.
            self.unwanted(len(frame) + self._skip(self._wire))
            return
        self._meet(identity, frame)

    def _meet(self, identity: bytes, frame: zmq.Frame) -> None:
        """A message of whoever is no link."""
        self.receiver.stranger(identity, frame.bytes, _peer(frame))

    @staticmethod
    def _skip(wire: Wire) -> int:
        """Drop the rest of a message. Returns its size in bytes, a small frame counted as 1 KiB: it costs as much to skip."""
        size = 0
        while wire.more:
            size += max(1024, len(wire.receive() or b""))
        return size

    def unwanted(self, size_bytes: int = 0) -> None:
        """Count a message that nobody asked for; too many in a second are a flood, and the socket is closed."""
        self.unasked_total += 1
        second = int(time.monotonic())
        if second != self._second:
            self._second = second
            self.unasked = 0
        before = self.unasked
        self.unasked += 1 + size_bytes // FLOOD_BYTES
        if before < FLOOD_PER_S <= self.unasked:
            self.remade += 1
            self.receiver.flooded(self.unasked)

    # Sending

    def want_flush(self, link: Link) -> None:
        self._dirty.append(link)
        if not self._flush_planned:
            self._flush_planned = True
            # After all that is readable in this turn has been read: one message carries what it brought.
            self.loop.call_soon(self.flush)

    def want_wake(self, link: Link) -> None:
        """Look at the end of this turn whether it is to be waked."""
        self._sleepers.append(link)
        if not self._flush_planned:
            self._flush_planned = True
            self.loop.call_soon(self.flush)

    def flush(self) -> None:
        """Wake whom there is something for, and send what the links gathered, one message each."""
        self._flush_planned = False
        if self._sleepers:
            sleepers, self._sleepers = self._sleepers, []
            for link in sleepers:
                link.wake()
        wire = self._wire
        dirty = self._dirty
        if wire is None or not dirty:
            return
        self._dirty = []
        for link in dirty:
            outbox = link.outbox
            link.outbox = []
            if not outbox or self.links.get(link.identity) is not link:
                continue
            sent = False
            try:
                if len(outbox) == 1:
                    self._send(link, outbox[0])
                else:
                    for message in _messages(outbox):
                        self._send(link, message)
                        sent = True
            except Unreachable as error:
                if not sent:
                    link.unsent = outbox
                self.receiver.unreachable(link, str(error))
                if self._wire is not wire:
                    return
        # The descriptor is edge-triggered, and a send may have taken the edge.
        if wire.events() & _POLLIN:
            self.drain()

    def _send(self, link: Link, message: bytes) -> None:
        wire = self._wire
        if wire is None:
            raise Unreachable("its backplane is closed")
        reason = wire.send(link.identity, True) or wire.send(message)
        if reason == errno.EAGAIN:
            raise Unreachable("the worker does not read, though its credit allowed what was sent")
        if reason:
            raise Unreachable(f"the connection is gone ({zmq.strerror(reason)})")

    def send_past(self, identity: bytes, record: bytes) -> None:
        """Send one record at once, past what is gathered for links: to a peer that is none, or is about to be none (REFUSED,
        BYE_ACK). Lost when the peer is gone or does not read."""
        wire = self._wire
        if wire is not None and not wire.send(identity, True) and not wire.send(record):
            self._plan_drain()

    def reachable(self, link: Link, probe: bytes) -> bool:
        """Whether libzmq still has a connection for this link: found out by sending ``probe``."""
        if self._socket is None:
            return False
        try:
            self._send(link, probe)
        except Unreachable:
            return False
        return True


def _messages(outbox: list[bytes]) -> list[bytes]:
    whole = b"".join(outbox)
    if len(whole) <= MESSAGE_LIMIT:
        return [whole]
    out: list[bytes] = []
    part: list[bytes] = []
    size = 0
    for record in outbox:
        if part and size + len(record) > MESSAGE_LIMIT:
            out.append(b"".join(part))
            part, size = [], 0
        part.append(record)
        size += len(record)
    out.append(b"".join(part))
    return out


def _peer(frame: zmq.Frame) -> tuple[int, int] | None:
    """(uid, pid) from the frame's Peer-Address, which for ipc ends in ``:uid:gid:pid`` (libzmq stream_engine_base.cpp)."""
    try:
        uid, _gid, pid = str(frame.get("Peer-Address")).rsplit(":", 3)[-3:]
        return int(uid), int(pid)
    except (zmq.ZMQError, ValueError):
        return None


def process_gone(pidfd: int) -> bool:
    """Whether the process behind the pidfd has ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def who(link: Link) -> str:
    """A worker, for people."""
    if link.far:
        return repr(link)
    return f"worker {link.seat} (pid {link.pid})"


def context() -> "zmq.Context[zmq.Socket[bytes]]":
    """The router's one ZeroMQ context, with room for a socket per vassal."""
    made: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    made.set(zmq.MAX_SOCKETS, 65535)
    return made
