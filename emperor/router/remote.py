"""Workers of other hosts: where they come in, who they are, and when they have gone (docs/specs/backplane.md, section 11).

There is one ROUTER for those of all apps, on the tcp socket that the emperor has bound, in a ZeroMQ context of its own: what
CURVE costs is paid by that one's I/O thread, and local links do not wait for it. It speaks nothing but CURVE. Who a peer is
says its key: our ZAP handler lets in those that may serve something, libzmq proves that they have them, and each message names
its sender's.

* **What a key may do** is looked at with each HELLO, and again whenever the emperor tells of other keys: links that may not be
  any more end at once.
* **A worker there is no process here.** No page, no pidfd, no deck: its links count what they send. libzmq's I/O threads ask
  each other every `HEARTBEAT_MS` and give up after `SILENCE_MS`, also while the worker is inside app code. Stable libzmq does
  not say whose connection has ended, only that one has: then, and every `PING_S`, each link is tried with a PING, which fails
  for the one.
* **A flood costs its key**: its links end and it is let in no more for a while. If it goes on over the connection that it has,
  the socket is made anew, since a single peer cannot be cut off; others connect again within half a second.
"""

import asyncio
import itertools
import os
import socket
import struct
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, Protocol

import zmq
from zmq.utils.monitor import recv_monitor_message

from emperor.config.keys import may_serve, to_text
from emperor.protocol import records
from emperor.protocol.errors import RecordError
from emperor.router import policies
from emperor.router.app import App
from emperor.router.comings import (
    LEFT,
    REFUSE_SEAT,
    REFUSE_VASSAL,
    REFUSE_VERSION,
    STREAM_CREDIT,
    Hello,
    hello_in,
)
from emperor.router.handshakes import Handshakes
from emperor.router.link import FLOOD_BYTES, FLOOD_PER_S, Backplane, Link, Receiver, context
from emperor.router.terms import SHARED, Terms

KIND: Final = "workers"
"""Of the listening socket, among those for clients."""

HEARTBEAT_MS: Final = 500
SILENCE_MS: Final = 2000
"""A partition has ended every connection in so long, on both sides."""

PING_S: Final = 1.0

PROBES_S: Final = (0.005, 0.1)
"""How long after news of an end the links are tried: on a send, libzmq looks only every millisecond or so what its I/O thread
says."""

DOMAIN: Final = b"workers"
ZAP: Final = "inproc://zeromq.zap.01"

CAUSES: Final = ("curve", "crowd", "key", "hello")
"""Why somebody is not let in; each is counted."""

REFUSE_KEY: Final = 10
REFUSE_LEAVES: Final = 11

KEEP_S: Final = 6.0
"""A router that leaves keeps a worker of each app so long for what its clients may still ask."""

SLOTS_MOST: Final = 4096
LINKS_MOST: Final = 4096
"""Of one key."""

BAN_S: Final = 30.0

UNLISTENED_S: Final = 0.1
AGAIN_S: Final = 0.05
UNOPENED_S: Final = 1.0

FAR_WINDOW: Final = 64
"""Streams of a worker on another host whose credit its link has room for at once: what is on its way is in our memory."""

_MONITORED: Final = (
    zmq.EVENT_ACCEPTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_DISCONNECTED
)

_names = itertools.count()

_STAMP: Final = struct.Struct("<Q")


class House(Protocol):
    """What is needed of the router."""

    loop: asyncio.AbstractEventLoop
    draining: bool

    def app(self, name: str) -> App | None: ...
    def log(self, level: str, text: str) -> None: ...


class RemoteLink(Link):
    """A worker on another host. ``sender`` is what tells its process's seat from every other: key, gateway, generation,
    seat."""

    def __init__(
        self,
        plane: Backplane,
        identity: bytes,
        app: App,
        host: str,
        sender: tuple[str, bytes, int, int],
        slots: int,
    ) -> None:
        super().__init__(plane, identity, -1, sender[3], slots, None, 0)
        self.far = True
        self.app = app
        self.host = host
        self.sender = sender
        self.rtt_s = 0.001
        self.weight = 1  # until READY
        self.gives_back = False  # what waits there behind a request that runs long
        self.stuck = False  # it runs one
        self.turn = 0.0  # how far it is from being next (`policies.in_turn`)
        self._told = False  # that this router leaves
        self.stays = False  # and has said that it meets the next one besides
        self._pinged = 0
        self._measured = False
        self.gate: Gate
        # The same for whoever comes after it there, by whatever gateway.
        self._token = policies.token(app.name, f"{sender[0]}\0{sender[3]}")

    def __repr__(self) -> str:
        return f"worker {self.seat} on {self.host}"

    @property
    def place(self) -> str:
        return self._token

    @property
    def outstanding(self) -> int:
        return self.in_flight

    @property
    def key(self) -> str:
        return self.sender[0]

    def ping(self) -> None:
        """Ask how far it is. It answers when its app lets it, so the shortest time counts."""
        self._pinged += 1
        payload = _STAMP.pack(time.monotonic_ns())
        self.send(records.pack(records.PING, 0, records.NO_WORD, 0, payload))

    def part(self) -> None:
        """Tell it that this router leaves and that another has its place: it meets that one besides, if it is of a version that
        can, and says so."""
        self._told = True
        self.send(records.pack(records.DRAIN, 0, records.NO_WORD, 0, b""))

    def ponged(self, payload: bytes) -> bool:
        if not payload and self._told and not self.stays:
            self.stays = True
            return True
        if not self._pinged or len(payload) != _STAMP.size:
            return False
        self._pinged -= 1
        took_s = (time.monotonic_ns() - _STAMP.unpack(payload)[0]) / 1e9
        if took_s >= 0:
            # A way that has become longer is believed by and by.
            self._measured = True
            self.rtt_s = min(took_s, self.rtt_s * 1.1 + 1e-5)
        return True

    def token(self, name: str) -> str:
        return self._token

    def whereabouts(self) -> dict[str, str | int]:
        far = self.app.far
        return {
            "host": self.host,
            "weight": self.weight,
            "rtt_us": int(self.rtt_s * 1e6) if self._measured else 0,
            "left_alone_s": 0 if far is None else far.left_alone_s(self),
        }

    def unwanted(self, size_bytes: int = 0) -> None:
        self.gate.unasked(self.key, 1 + size_bytes // FLOOD_BYTES)

    def call_back(self) -> None:
        """Have it return what it has not begun, if it can."""
        if self.gives_back and self.streams:
            self.send(records.pack(records.CANCEL, 0, records.NO_WORD, 0, b""))

    def joined(self) -> None:
        """It serves from now on."""
        self.gate.joined(self)

    def ended(self, reason: str) -> None:
        """It was ready, and is no link any more."""
        self.gate.ended(self, reason)

    def close(self) -> None:
        super().close()
        self.gate.forget(self)


class RemotePlane(Backplane):
    """The one socket of all of them."""

    def __init__(
        self, gate: "Gate", zcontext: "zmq.Context[zmq.Socket[bytes]]", listener: socket.socket
    ) -> None:
        super().__init__(zcontext, gate.house.loop, listener, gate)
        self._gate = gate
        self._monitor: zmq.Socket[bytes] | None = None
        self._own: zmq.Socket[bytes] | None = None
        self.bound = _bound(listener)
        self._handshakes = gate.handshakes

    def _prepare(self, sock: "zmq.Socket[bytes]") -> None:
        sock.setsockopt(zmq.CURVE_SERVER, 1)
        sock.setsockopt(zmq.CURVE_SECRETKEY, self._gate.secret.encode())
        sock.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)
        sock.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        sock.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        sock.setsockopt(zmq.HEARTBEAT_TIMEOUT, SILENCE_MS)
        sock.setsockopt(zmq.HEARTBEAT_TTL, SILENCE_MS)
        self._own = sock
        # A name of its own: pyzmq's is made of a descriptor's number, which a socket that is being closed may still have. And
        # no limit: where there is no room for news of a connection, libzmq's I/O thread waits for some, and does nothing else.
        news = f"inproc://far-{next(_names)}"
        sock.monitor(news, _MONITORED)
        self._monitor = self.context.socket(zmq.PAIR)
        self._monitor.setsockopt(zmq.RCVHWM, 0)
        self._monitor.connect(news)
        self.loop.add_reader(int(self._monitor.getsockopt(zmq.FD)), self._happened)
        self.loop.call_soon(self._happened)  # the descriptor is silent until somebody has asked what there is

    def _bind(self, sock: "zmq.Socket[bytes]") -> None:
        sock.setsockopt(zmq.USE_FD, os.dup(self.listener.fileno()))
        sock.bind(self.bound)

    def _meet(self, identity: bytes, frame: zmq.Frame) -> None:
        self._gate.met(identity, frame.bytes, _said(frame, "User-Id"), _said(frame, "Peer-Address"))

    def unwanted(self, size_bytes: int = 0) -> None:
        """Of nobody that is known; whose is, is counted by the link."""
        self.unasked_total += 1

    def _happened(self) -> None:
        monitor = self._monitor
        while monitor is not None and int(monitor.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            event = recv_monitor_message(monitor)
            match event["event"]:
                case zmq.EVENT_DISCONNECTED:
                    self._gate.somebody_left()
                case zmq.EVENT_ACCEPTED:
                    if not self._handshakes.begun(self.loop.time()):
                        self._gate.refused("crowd", "too many at once that have not proved who they are")
                        _hang_up(int(event["value"]), self.listener)
                case zmq.EVENT_HANDSHAKE_SUCCEEDED:
                    self._handshakes.came_about()
                case zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                    # The ZAP handler has counted it.
                    self._handshakes.failed()
                case _:
                    if self._handshakes.failed() and not self._gate.house.draining:
                        self._gate.refused(
                            "curve",
                            "a peer that does not speak CURVE, has another key of ours, or has gone before its turn",
                        )

    def shut(self) -> None:
        monitor, self._monitor = self._monitor, None
        own, self._own = self._own, None
        if own is not None and not own.closed:
            # First: for news that nobody takes the I/O thread would wait for ever.
            own.disable_monitor()
        if monitor is not None:
            self.loop.remove_reader(int(monitor.getsockopt(zmq.FD)))
            monitor.close(0)
        super().shut()


class Gate(Receiver):
    """All links to workers of other hosts, and their keys. It is there without a listener, too: then nobody comes."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.secret = ""
        self.refusals: Counter[str] = Counter()
        self.handshakes = Handshakes()
        self.admitted = 0
        self.lost = 0
        self._apps: Mapping[str, tuple[str, ...]] = {}
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._zap: zmq.Socket[bytes] | None = None
        self._plane: RemotePlane | None = None
        self._entrance: Entrance | None = None
        self._leaves_at = 0.0
        self._senders: dict[tuple[str, bytes, int, int], RemoteLink] = {}
        self._banned: dict[str, float] = {}
        self._unasked: Counter[str] = Counter()
        self._second = 0
        self._untold: Counter[str] = Counter()
        self._gone: Counter[str] = Counter()
        self._come: Counter[str] = Counter()
        self._trials: list[asyncio.TimerHandle] = []
        self._pinged_at = 0.0
        self._remade = 0

    # What the emperor says

    def use(self, secret: str, apps: Mapping[str, tuple[str, ...]]) -> None:
        """Our own secret key, and what each key of others may serve."""
        self._apps = apps
        for link in list(self._senders.values()):
            if not may_serve(apps.get(link.key, ()), link.app.name):
                self._cut(link, REFUSE_KEY, "its key may not serve this app any more")
        if secret != self.secret:
            self.secret = secret
            self._remake("the router has another key")

    def listen(self, entrance: "Entrance") -> None:
        """Where they come in, from now on."""
        self._entrance = entrance
        if self._plane is not None and self._plane.bound != entrance.bound:
            self._close_plane("the router listens elsewhere")
        # The loop is to have forgotten the descriptors of one that was just closed, whose numbers may come again.
        self.house.loop.call_later(AGAIN_S, self._begin)

    def unlisten(self, entrance: "Entrance") -> None:
        """Nobody comes in there any more. Who has, stays while the router drains."""
        if self._entrance is not entrance:
            return
        self._entrance = None
        if self.house.draining:
            # Who comes from now on is told so (`_hello`), and comes again until it meets whoever else has the listening socket.
            # Not `unbind`: libzmq ends with a listener the connections that came by it, and what is on its way there is lost.
            self._leaves_at = self.house.loop.time() + KEEP_S
            for link in self._senders.values():
                link.part()
        else:
            # On other terms it is listened to again in this very turn.
            self.house.loop.call_later(UNLISTENED_S, self._look_for_entrance)

    def _look_for_entrance(self) -> None:
        if self._entrance is None:
            self._close_plane("the router lets in nobody any more")

    def _begin(self) -> None:
        if self._entrance is None or not self.secret or self._plane is not None:
            return
        try:
            if self._context is None:
                self._context = context()
            if self._zap is None:
                self._zap = self._listen_for_keys(self._context)
            listener = self._entrance.sock.dup()
        except (zmq.ZMQError, OSError) as error:
            self._try_again(error)
            return
        self._plane = RemotePlane(self, self._context, listener)
        try:
            self._plane.open()
        except (zmq.ZMQError, OSError) as error:
            self._plane.close()
            self._plane = None
            self._try_again(error)

    def _try_again(self, error: Exception) -> None:
        self.house.log(
            "error",
            f"workers of other hosts: the router cannot let them in: {error}; it tries again in {UNOPENED_S:g} s (descriptors: "
            "ulimit -n, LimitNOFILE= of the unit)",
        )
        self.house.loop.call_later(UNOPENED_S, self._begin)

    def _remake(self, reason: str) -> None:
        self._close_plane(reason)
        self.house.loop.call_later(AGAIN_S, self._begin)

    def _close_plane(self, reason: str) -> None:
        plane, self._plane = self._plane, None
        if plane is None:
            return
        for link in list(self._senders.values()):
            _end(link, reason)
        plane.close()

    def close(self) -> None:
        for trial in self._trials:
            trial.cancel()
        self._close_plane("the router ends")
        if self._zap is not None:
            self.house.loop.remove_reader(int(self._zap.getsockopt(zmq.FD)))
            self._zap.close(0)
        if self._context is not None:
            self._context.destroy(linger=100)

    def flush(self) -> None:
        if self._plane is not None:
            self._plane.flush()

    # Who comes

    def _listen_for_keys(self, zcontext: "zmq.Context[zmq.Socket[bytes]]") -> "zmq.Socket[bytes]":
        zap: zmq.Socket[bytes] = zcontext.socket(zmq.ROUTER)
        zap.setsockopt(zmq.LINGER, 0)
        zap.bind(ZAP)
        self.house.loop.add_reader(int(zap.getsockopt(zmq.FD)), self._judge)
        self.house.loop.call_soon(self._judge)
        return zap

    def _judge(self) -> None:
        """RFC 27: who asks, an empty frame, version, request, domain, address, identity, mechanism, and the key."""
        zap = self._zap
        while zap is not None and int(zap.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            frames = zap.recv_multipart(zmq.DONTWAIT)
            if len(frames) < 8:
                continue
            key = _text(frames[8]) if frames[7] == b"CURVE" and len(frames) == 9 else ""
            welcome = bool(self._apps.get(key)) and not self._is_banned(key)
            if not welcome:
                self.refused("key", "an unknown key", f"'{key}' at {frames[5].decode(errors='replace')}")
            verdict = (b"200", b"OK", key.encode()) if welcome else (b"400", b"no such key here", b"")
            zap.send_multipart([frames[0], b"", frames[2], frames[3], *verdict, b""], zmq.DONTWAIT)

    def _is_banned(self, key: str) -> bool:
        return self._banned.get(key, 0.0) > self.house.loop.time()

    def met(self, identity: bytes, message: bytes, key: str, address: str) -> None:
        """A message of nobody we know: a HELLO makes it a link."""
        plane = self._plane
        if plane is None:
            return
        try:
            hello = hello_in(message)
        except RecordError:
            plane.unwanted()
            self.unasked(key, 1 + len(message) // FLOOD_BYTES)
            return
        refusal = self._hello(plane, identity, key, address, hello)
        if refusal is not None:
            code, reason = refusal
            plane.send_past(identity, records.pack_refused(code, reason))
            if code != REFUSE_LEAVES:
                self.refused("hello", f"HELLO: {reason}", f"'{key}' at {address}")
                self.unasked(key, 1)

    def _hello(
        self,
        plane: RemotePlane,
        identity: bytes,
        key: str,
        address: str,
        hello: Hello,
    ) -> tuple[int, str] | None:
        """Make a link, or say why not."""
        version, _, seat, slots, generation, gateway, name = hello
        if version != records.VERSION:
            return REFUSE_VERSION, f"version {version}; this router speaks {records.VERSION}"
        if self.house.draining:
            return REFUSE_LEAVES, "this router leaves"
        if self._is_banned(key) or not may_serve(self._apps.get(key, ()), name):
            return REFUSE_KEY, f"this key may not serve {name!r} here (emperor keys allow)"
        app = self.house.app(name)
        if app is None:
            return REFUSE_VASSAL, f"there is no vassal {name!r} here"
        if not 0 < slots <= SLOTS_MOST:
            return REFUSE_SEAT, f"{slots} slots"
        sender = (key, gateway, generation, seat)
        before = self._senders.get(sender)
        if before is not None:
            _end(before, "the worker connected anew")
        if identity in app.backplane.links:
            return REFUSE_SEAT, "an identity that is another's"
        if sum(link.key == key for link in self._senders.values()) >= LINKS_MOST:
            return REFUSE_SEAT, f"{LINKS_MOST} workers with this key"
        link = RemoteLink(plane, identity, app, address, sender, slots)
        link.gate = self
        plane.links[identity] = self._senders[sender] = link
        self.admitted += 1
        link.nonce = os.urandom(records.NONCE_SIZE)
        app.backplane.links[identity] = link
        credit = STREAM_CREDIT * min(slots, FAR_WINDOW)
        link.send(records.pack_welcome(0, app.core.epoch, STREAM_CREDIT, credit, link.nonce))
        return None

    def forget(self, link: RemoteLink) -> None:
        """It has ended."""
        if self._senders.get(link.sender) is link:
            del self._senders[link.sender]
        if link.backplane.links.get(link.identity) is link:
            del link.backplane.links[link.identity]

    def _cut(self, link: RemoteLink, code: int, reason: str) -> None:
        link.backplane.send_past(link.identity, records.pack_refused(code, reason))
        _end(link, reason)

    # Receiver

    def message(self, link: Link, message: bytes) -> int:
        return int(link.app.message(link, message))  # type: ignore[attr-defined]

    def bulk(self, link: Link) -> bool:
        return False

    def stranger(self, identity: bytes, message: bytes, peer: tuple[int, int] | None) -> None:
        raise AssertionError("`met` has them")

    def unreachable(self, link: Link, reason: str) -> None:
        link.app.unreachable(link, reason)  # type: ignore[attr-defined]

    def broken(self, link: Link, reason: str) -> None:
        link.app.broken(link, reason)  # type: ignore[attr-defined]

    def flooded(self, count: int) -> None:
        raise AssertionError("`unasked` counts, by keys")

    # Floods

    def unasked(self, key: str, count: int) -> None:
        """So many messages that nobody asked for, of this key."""
        second = int(time.monotonic())
        if second != self._second:
            self._second = second
            self._unasked.clear()
        before = self._unasked[key]
        self._unasked[key] += count
        if not before < FLOOD_PER_S <= before + count:
            return
        goes_on = self._is_banned(key)
        self._banned[key] = self.house.loop.time() + BAN_S
        self.house.log(
            "error",
            f"workers of other hosts: {before + count} unasked-for messages in a second with the key '{key}', which is let in "
            f"no more for {BAN_S:g} s",
        )
        # Not from within the message that was one too many.
        self.house.loop.call_soon(self._ban, key, goes_on)

    def _ban(self, key: str, goes_on: bool) -> None:
        for link in list(self._senders.values()):
            if link.key == key:
                self._cut(link, REFUSE_KEY, "it sent what nobody asked for")
        if goes_on:
            self._remade += 1
            self._remake("a flood of another's")

    # Who has gone

    def somebody_left(self) -> None:
        """A connection has ended, and nobody says whose."""
        if not self._trials and self._senders:
            self._trials = [self.house.loop.call_later(after_s, self._try, after_s) for after_s in PROBES_S]

    def _try(self, after_s: float) -> None:
        if after_s == PROBES_S[-1]:
            self._trials = []
        self._ping()

    def _ping(self) -> None:
        for link in self._senders.values():
            link.ping()
        # At once: a link whose connection is gone ends by it.
        if self._plane is not None:
            self._plane.flush()

    def tick(self) -> None:
        """Once a second."""
        now = self.house.loop.time()
        if now - self._pinged_at >= PING_S * 0.9:
            self._pinged_at = now
            self._ping()
        if self.house.draining:
            self.let_go()
        self._banned = {key: until for key, until in self._banned.items() if until > now}
        untold, self._untold = self._untold, Counter()
        gone, self._gone = self._gone, Counter()
        come, self._come = self._come, Counter()
        for level, what, which in (
            ("warning", "refused", untold),
            ("warning", "lost", gone),
            ("info", "joined", come),
        ):
            if which:
                self.house.log(
                    level, f"workers of other hosts {what} in the last second: {_summed_up(which)}"
                )

    def refused(self, cause: str, reason: str, who: str = "") -> None:
        """Count it by its cause, one of CAUSES, and say so with the next tick."""
        self.refusals[cause] += 1
        if len(self._untold) < 100:
            self._untold[f"{reason}, {who}" if who else reason] += 1

    def joined(self, link: RemoteLink) -> None:
        """A worker serves. Say so with the next tick."""
        if len(self._come) < 100:
            self._come[f"{link.app.name} on {link.host}"] += 1

    def ended(self, link: RemoteLink, reason: str) -> None:
        """A worker that was ready is no more. Count it, and say so with the next tick, unless it has said so itself."""
        if reason == LEFT or self.house.draining:
            return
        self.lost += 1
        if len(self._gone) < 100:
            self._gone[f"{link.app.name} on {link.host}, {reason}"] += 1

    def let_go(self) -> None:
        """The router drains: who has nothing to do for it, and cannot have links to two routers at one door, may go to the one
        that takes its place."""
        late = self.house.loop.time() >= self._leaves_at
        for link in list(self._senders.values()):
            if link.stays:
                continue
            app = link.app
            others = app.far is not None and len(app.far.members) > 1
            if not link.streams and not len(app.queue) and (late or others):
                self._cut(link, REFUSE_LEAVES, "this router leaves")

    def report(self) -> dict[str, Any]:
        """For the statistics."""
        return {
            "address": "" if self._entrance is None else self._entrance.bound,
            "keys": len(self._apps),
            "links": len(self._senders),
            "admitted": self.admitted,
            "lost": self.lost,
            "refused": sum(self.refusals.values()),
            "refusals": {cause: self.refusals[cause] for cause in CAUSES},
            "handshakes": self.handshakes.waiting(self.house.loop.time()),
            "hung_up": self.handshakes.refused,
            "banned": len(self._banned),
            "remade": self._remade,
        }


class Entrance:
    """The listening socket of the gate, as the router's table of listeners has it."""

    kind = KIND

    def __init__(self, gate: Gate, address: str, sock: socket.socket, terms: Terms = SHARED) -> None:
        self.gate = gate
        self.address = address
        self.sock = sock
        self.terms = terms
        sock.setblocking(False)
        sock.listen(terms.backlog)

    @property
    def bound(self) -> str:
        return _bound(self.sock)

    async def start(self) -> None:
        """Let in who waits."""
        self.gate.listen(self)

    def pause(self) -> None:
        """Clients have no room; workers are what makes some."""

    def close(self) -> None:
        self.gate.unlisten(self)
        self.sock.close()


def _summed_up(texts: Counter[str]) -> str:
    """The most frequent."""
    what = "; ".join(f"{text} ({count})" if count > 1 else text for text, count in texts.most_common(3))
    return f"{what}, and {len(texts) - 3} other kinds" if len(texts) > 3 else what


def _end(link: RemoteLink, reason: str) -> None:
    """There is no connection to this worker any more, or it is to have none."""
    link.app.comings.lost(link, reason)


def _bound(sock: socket.socket) -> str:
    host, port, *_ = sock.getsockname()
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def _hang_up(fd: int, listener: socket.socket) -> None:
    """End a connection of libzmq's, which closes it then. It may have closed it before, and the number be another's by now: so
    what is looked at is a duplicate, and it has to be one that came by this port."""
    try:
        with socket.socket(fileno=os.dup(fd)) as connection:
            if connection.getsockname()[1:2] == listener.getsockname()[1:2] and connection.getpeername():
                connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def _text(key: bytes) -> str:
    try:
        return to_text(key)
    except ValueError:
        return ""


def _said(frame: zmq.Frame, what: str) -> str:
    """A property of a message, or nothing."""
    try:
        return str(frame.get(what))
    except zmq.ZMQError:
        return ""
