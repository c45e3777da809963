"""Links of an app's workers come and go: who may speak on its backplane, from when on a worker gets requests, and what becomes
of what it had when its link ends.

A HELLO of an unknown identity makes a link, if its vassal, generation, token, user and seat are right; READY with the nonce of
our WELCOME makes it one that gets requests. It ends by BYE, with its process, by a send that fails, by a fault, or when another
worker has its seat. What it had not begun is queued again then, and what it had is answered for.
"""

import asyncio
import hmac
import os
from typing import TYPE_CHECKING, Any, Final

from emperor.protocol import guards, records, scoreboard
from emperor.protocol.errors import RecordError
from emperor.protocol.ring import Reader
from emperor.protocol.ring import Writer as RingWriter
from emperor.router.abroad import Abroad
from emperor.router.chutes import Chutes
from emperor.router.exchange import Exchange
from emperor.router.link import PROBE_S, Link, process_gone, who
from emperor.router.retries import UNBEGUN
from emperor.router.states import Event, IllegalTransition, State

if TYPE_CHECKING:
    from emperor.router.app import App

STREAM_CREDIT: Final = 256 * 1024

LEFT: Final = "the worker left"
"""Why a link has ended whose worker has said BYE."""

CANCEL_GRACE_S: Final = 1.0
"""A worker that ends what runs too long by itself (ASGI) gets so much longer: then it cannot, and is ended as any other. Less
than what its gateway waits for us (`vassals.gateway.harakiri`)."""

HELLO_LIMIT: Final = 1024
"""A longer message is no HELLO, and is not looked into."""

REFUSE_VERSION, REFUSE_VASSAL, REFUSE_GENERATION, REFUSE_TOKEN, REFUSE_UID = 1, 2, 3, 4, 5
REFUSE_SEAT, REFUSE_NONCE, REFUSE_FAULT, REFUSE_RETIRED = 6, 7, 8, 9

_CHECK_TOKEN: Final = not guards.omitted("token")
_CHECK_UID: Final = not guards.omitted("uid")
_CHECK_NONCE: Final = not guards.omitted("nonce")

_PROBE: Final = records.pack(records.PING, 0, records.NO_WORD, 0, bytes(8))

Hello = tuple[int, int, int, int, int, bytes, str]
"""Version, router's seat, seat, slots, generation, token (or gateway), vassal (`records.unpack_hello`)."""


class Comings:
    """One app's."""

    def __init__(self, app: "App") -> None:
        self.app = app
        self._reopening: asyncio.TimerHandle | None = None
        self._floods = 0

    def close(self) -> None:
        """The vassal has gone."""
        if self._reopening is not None:
            self._reopening.cancel()

    def stranger(self, identity: bytes, message: bytes, peer: tuple[int, int] | None) -> None:
        """A message of an unknown identity: a HELLO makes it a link, anything else is dropped and counted."""
        app = self.app
        try:
            hello = hello_in(message)
        except RecordError:
            app.backplane.unwanted(len(message))
            return
        refusal = self._hello(identity, hello, peer)
        if refusal is not None:
            code, reason = refusal
            app.backplane.unwanted()
            app.counts.refused_hellos += 1
            app.backplane.send_past(identity, records.pack_refused(code, reason))
            if code != REFUSE_RETIRED:
                uid, pid = peer if peer is not None else (-1, 0)
                app.say("HELLO", "warning", f"HELLO of process {pid} (uid {uid}) refused: {reason}")

    def _hello(self, identity: bytes, hello: Hello, peer: tuple[int, int] | None) -> tuple[int, str] | None:
        """Make a link, or say why not. The order of the checks is the order of the codes."""
        app = self.app
        version, router_seat, seat, slots, number, token, name = hello
        if version != records.VERSION:
            return REFUSE_VERSION, f"version {version}; this router speaks {records.VERSION}"
        if name != app.name:
            return REFUSE_VASSAL, "this is another vassal's backplane"
        generation = app.generations.get(number)
        if generation is None and number not in app.gone:
            app.core.catch_up()
            generation = app.generations.get(number)
        if generation is None:
            if number in app.gone:
                return REFUSE_RETIRED, f"generation {number} has gone"
            return REFUSE_GENERATION, f"generation {number} is not expected"
        if _CHECK_TOKEN and not hmac.compare_digest(token, generation.token):
            return REFUSE_TOKEN, "wrong token"
        uid, pid = peer if peer is not None else (-1, 0)
        if _CHECK_UID and peer is not None and uid != generation.uid:
            return REFUSE_UID, f"uid {uid}; workers of this vassal run as {generation.uid}"
        if generation.retired:
            return REFUSE_RETIRED, f"generation {number} is leaving"
        if seat >= generation.seats or router_seat != app.core.seat or not 0 < slots <= generation.slots:
            return REFUSE_SEAT, f"seat {seat} with {slots} slots at router {router_seat} is not in the page"
        pidfd = -1
        if pid:
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                return REFUSE_SEAT, f"process {pid} has ended"
            except OSError as error:
                app.core.log("warning", f"[{app.name}] pidfd_open({pid}): {error}; the worker gets no deck")
        for other in app.links_of(number):
            if other.seat == seat:
                if other.pid != pid and other.pidfd >= 0 and not process_gone(other.pidfd):
                    if pidfd >= 0:
                        os.close(pidfd)
                    return REFUSE_SEAT, f"seat {seat} is process {other.pid}'s"
                self.lost(other, "the worker connected anew")
        local = pidfd >= 0
        board = generation.board if local else None
        link = Link(app.backplane, identity, number, seat, slots, board, generation.deck)
        link.router_seat = app.core.seat
        link.pid = pid
        link.pidfd = pidfd
        link.nonce = os.urandom(records.NONCE_SIZE)
        if local:
            generation.board.revoke_all(seat, app.core.seat)
            # Words of the old connection: the worker frees the revoked ones at WELCOME; a claimed one when it ends.
            link.free_words = []
            link.revoked_words = list(range(generation.deck))
            link.ring = Reader(generation.board, seat, app.core.seat)
            if seat < len(generation.bells):
                link.has_bell = generation.own_bell >= 0
                link.bell = generation.bells[seat]
                link.request_ring = RingWriter(generation.board, seat, app.core.seat, scoreboard.UP)
                link.request_ring.offer_nothing()
            link.chutes = Chutes(generation.board, seat, app.core.seat)
            if generation.board.routers > 1:
                link.held = []
            app.core.loop.add_reader(pidfd, self._process_gone, link)
        app.backplane.links[identity] = link
        deck = generation.deck if local else 0
        link.send(
            records.pack_welcome(deck, app.core.epoch, STREAM_CREDIT, STREAM_CREDIT * slots, link.nonce)
        )
        return None

    def ready(self, link: Link, payload: bytes, flags: int, word: int) -> None:
        app = self.app
        nonce, free = records.unpack_ready(payload)
        if _CHECK_NONCE and not hmac.compare_digest(nonce, link.nonce):
            link.backplane.send_past(link.identity, records.pack_refused(REFUSE_NONCE, "wrong nonce"))
            self.lost(link, "READY with a wrong nonce")
            app.counts.refused_hellos += 1
            app.say("HELLO", "warning", f"READY of {who(link)} refused: wrong nonce")
            return
        if free > link.slots:
            raise RecordError(f"READY with {free} free slots of {link.slots}")
        link.ready = True
        if flags & records.CANCELS:
            link.grace_s = CANCEL_GRACE_S
        # The others still run what came by the worker's last connection; it grants them as they end.
        link.slots = link.offered = free
        if link.held is not None:
            link.slots = 0
            app.sharing.take(link)
        if link.far:
            if app.far is None:
                app.far = Abroad(app)
            app.far.join(link, word, bool(flags & records.GIVES_BACK))
            return
        app.core.tell(self._link_event(link, up=True))
        generation = app.generations.get(link.generation)
        late = link.generation < app.active and link.generation not in app.kept | app.beside
        if generation is None or generation.retired or late:
            # Its generation is on its way out: it came back, or came late.
            self.drain(link)
            return
        link.accepting = link.generation == app.active or link.generation in app.beside
        app.balancer.joined(link)
        app.pool.join(link)
        app.sharing.count_short()
        if app.decked:
            app._relieve()
        app.dispatch()
        app._rebalance()

    def drain(self, link: Link) -> None:
        """Offer nothing more; what was not begun goes elsewhere; the worker leaves when it is done."""
        app = self.app
        if not link.ready and not link.accepting and not link.streams:
            link.send(records.pack(records.DRAIN, 0, records.NO_WORD, 0, b""))
            return
        self.rest(link)
        link.send(records.pack(records.DRAIN, 0, records.NO_WORD, 0, b""))
        app.dispatch()

    def rest(self, link: Link) -> None:
        """Offer nothing more for now; what was not begun goes elsewhere."""
        app = self.app
        link.accepting = False
        app.pool.retire(link)
        app.take_back(link)

    def bye(self, link: Link) -> None:
        # Sent at once and by itself: the link ends here, and flushing the others would read on from inside this message.
        link.backplane.send_past(link.identity, records.pack(records.BYE_ACK, 0, records.NO_WORD, 0, b""))
        self.lost(link, LEFT)

    def _process_gone(self, link: Link) -> None:
        """The pidfd fired. What the worker wrote before may still be on its way to us."""
        app = self.app
        app.core.loop.remove_reader(link.pidfd)
        # One that was to leave is ended when its time is up, whatever it runs.
        app.culprits.crashed(link)
        link.accepting = False
        app.pool.retire(link)
        self._probe(link, app.core.loop.time() + PROBE_S)

    def _probe(self, link: Link, deadline: float) -> None:
        app = self.app
        if app.backplane.links.get(link.identity) is not link:
            return
        app.backplane.drain_all()
        if app.backplane.links.get(link.identity) is not link:
            return
        if app.core.loop.time() < deadline and app.backplane.reachable(link, _PROBE):
            app.core.loop.call_later(0.002, self._probe, link, deadline)
            return
        app.backplane.drain_all()
        self.lost(link, "the worker died")

    def unreachable(self, link: Link, reason: str) -> None:
        """A send failed. Its last words may be there to read."""
        link.backplane.drain_all()
        self.lost(link, reason)

    def fault(self, link: Link, reason: str) -> None:
        """The peer broke the protocol: it is no link any more, whatever it goes on sending."""
        app = self.app
        if app.backplane.links.get(link.identity) is not link:
            return
        app.counts.link_faults += 1
        app.say("fault", "error", f"{who(link)} broke the backplane protocol: {reason}")
        link.backplane.send_past(link.identity, records.pack_refused(REFUSE_FAULT, reason[:200]))
        self.lost(link, reason, faulty=True)

    def lost(self, link: Link, reason: str, faulty: bool = False) -> None:
        """A link ends: what had not begun is queued again, what had is answered for. ``faulty``: it is not believed."""
        app = self.app
        if app.backplane.links.pop(link.identity, None) is None:
            return
        if link.pidfd >= 0 and process_gone(link.pidfd):
            app.culprits.crashed(link)
        # What one runs that was told to leave, or is ended for what it runs, has had its time.
        again = link.crashed or (link.accepting and link.identity not in app.culprits.condemned)
        app.culprits.condemned.pop(link.identity, None)
        link.accepting = False
        if link.far:
            if app.far is not None:
                app.far.leave(link, reason)
        else:
            app.pool.leave(link)
        app.balancer.left(link)
        ring = link.ring
        link.close()
        if ring is not None and not faulty:
            self._read_out(link, ring)
        failed: list[Exchange] = []
        unsent = link.never_sent() if link.far else ()
        for exchange in list(link.streams.values()):
            if exchange.stream in unsent and exchange.state == State.OFFERED:
                app._unlink(exchange, link)
                exchange.step(Event.REVOKE)
                exchange.take_back()
                app._requeue(exchange)
                continue
            if exchange.state == State.OFFERED and app._revoke(exchange, link):
                app.balancer.retried[UNBEGUN] += 1
                app._requeue(exchange)
                continue
            abandoned = exchange.state == State.ABANDONED
            app._unlink(exchange, link)
            if again and not abandoned and not app.closed and app.balancer.again(exchange):
                continue
            exchange.step(Event.LOST)
            if not abandoned:
                failed.append(exchange)
        if link.ready and not link.far:
            app.core.tell(self._link_event(link, up=False))
        for exchange in failed:
            app._fail(exchange, 502, f"{who(link)} {'had it' if link.far else 'had begun it'}: {reason}")
            app._failed_for(link)
        answered, fell = app.totals.get(link.generation, (0, 0))
        app.totals[link.generation] = (answered + link.answered, fell + link.failed)
        app.forget_generation_if_empty(link.generation)
        if app.short:
            app.sharing.count_short()
        if not app.closed:
            app.dispatch()

    def _read_out(self, link: Link, ring: Reader) -> None:
        """What a worker that is gone has finished, and we had not come to."""
        app = self.app
        try:
            record = records.Cursor(ring.take())
            while record.next():
                exchange = link.streams.get(record.stream)
                if exchange is not None and record.type == records.RESPONSE:
                    app.counts.recovered += 1
                    app._response(link, exchange, record, bool(record.flags & records.FIN))
        except (RecordError, IllegalTransition) as error:
            app.core.log(
                "error", f"[{app.name}] what worker {link.seat} (pid {link.pid}) left in its ring: {error}"
            )

    def _link_event(self, link: Link, *, up: bool) -> dict[str, Any]:
        app = self.app
        return {
            "op": "link",
            "name": app.name,
            "generation": link.generation,
            "seat": link.seat,
            "pid": link.pid,
            "up": up,
        }

    def flooded(self, count: int) -> None:
        """Close the backplane for a while: the flood is its vassal's own, and so is the silence."""
        app = self.app
        self._floods += 1
        pause_s = min(30.0, 0.5 * 2.0 ** min(self._floods, 6))
        reason = f"{count} unasked-for messages in a second; its backplane is closed for {pause_s:g} s"
        app.core.log("error", f"[{app.name}] {reason}")
        for link in list(app.backplane.links.values()):
            if not link.far:
                self.lost(link, "the backplane was flooded")
        app.backplane.shut()
        for generation in app.generations.values():
            app.core.bells.mute(generation.own_bell)
        self._reopening = app.core.loop.call_later(pause_s, self._reopen)

    def _reopen(self) -> None:
        app = self.app
        for generation in app.generations.values():
            app.core.bells.listen(generation.own_bell)
        app.backplane.open()


def hello_in(message: bytes) -> Hello:
    """Raises RecordError where it is anything else."""
    if len(message) > HELLO_LIMIT:
        raise RecordError("no HELLO")
    first = records.unpack(message)
    if len(first) != 1 or first[0][0] != records.HELLO:
        raise RecordError("no HELLO")
    return records.unpack_hello(first[0][4])
