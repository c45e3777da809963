"""One vassal as the router sees it: its queue, its pool of links, and every rule of section 3 of the architecture that
joins them. It decides with the pure modules and acts through its links and fronts.

What happens to a request is told by the table in ``states``; who may speak on the backplane by ``_hello``.
"""

import asyncio
import hmac
import os
import random
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import zmq

from emperor.config.accesslog import STDOUT, AccessLog
from emperor.config.deadlines import ByPath
from emperor.control.messages import RouterEntry
from emperor.protocol import chute, guards, packet, records, scoreboard
from emperor.protocol.errors import BoardError, RecordError, ResponseError
from emperor.protocol.records import NAMES
from emperor.protocol.ring import Reader
from emperor.protocol.ring import Writer as RingWriter
from emperor.protocol.scoreboard import Board, monotonic_s, now_ns
from emperor.router import pages, states
from emperor.router.abroad import Abroad
from emperor.router.access import Access, Writer, let_go, note_of
from emperor.router.balancer import Balancer
from emperor.router.bells import Bells
from emperor.router.chutes import LIFTED, PATIENCE_S, Chutes
from emperor.router.exchange import Exchange, Streams
from emperor.router.forwarding import Forwarding
from emperor.router.link import PROBE_S, Backplane, Link, Receiver, process_gone
from emperor.router.mirror import Mirror
from emperor.router.names import Names
from emperor.router.overdue import Overdue, overdue, told, variables_of
from emperor.router.poison import Poison, fingerprint
from emperor.router.pool import Pool
from emperor.router.queue import Queue
from emperor.router.retries import RETURNED, UNBEGUN
from emperor.router.routes import Routes, mounts_of
from emperor.router.sharing import Sharing
from emperor.router.spool import Body, Refused, Spool
from emperor.router.states import IllegalTransition

STREAM_CREDIT: Final = 256 * 1024
CREDIT_LIMIT: Final = 1 << 30
"""More credit than this outstanding on a stream is an overflow, not a wish."""

LEFT: Final = "the worker left"
"""Why a link has ended whose worker has said BYE."""

RECORDS_LIMIT: Final = 1024
"""The most records of one message of a worker: what it costs to look at them is paid by everybody's clients."""

CANCEL_GRACE_S: Final = 1.0
"""A worker that ends what runs too long by itself (ASGI) gets so much longer: then it cannot, and is ended as any other. Less
than what its gateway waits for us (`vassals.gateway.harakiri`)."""

INTERIM_LIMIT: Final = 16
"""The most interim responses to one request: they cost no credit, and are no body."""

CREDIT_LEAST: Final = 1024
"""A worker may give smaller CREDIT once for each DATA it got; what is more counts as unasked for."""

HELLO_LIMIT: Final = 1024
"""A longer message is no HELLO, and is not looked into."""

RELIEF_NS: Final = 1_000_000
"""So often at most decks are looked at for what waits behind a long request."""

REFUSE_VERSION, REFUSE_VASSAL, REFUSE_GENERATION, REFUSE_TOKEN, REFUSE_UID = 1, 2, 3, 4, 5
REFUSE_SEAT, REFUSE_NONCE, REFUSE_FAULT, REFUSE_RETIRED = 6, 7, 8, 9

RUNNING_LIMIT: Final = 1000
"""Requests that are told of one by one."""

UNTOLD_LIMIT: Final = 64
"""Orders about workers that are kept for an emperor that is away."""

_CHECK_TOKEN: Final = not guards.omitted("token")
_CHECK_UID: Final = not guards.omitted("uid")
_CHECK_NONCE: Final = not guards.omitted("nonce")

_PROBE: Final = records.pack(records.PING, 0, records.NO_WORD, 0, bytes(8))


@dataclass
class Generation:
    """Workers that may say HELLO: one start of the vassal."""

    number: int
    token: bytes
    uid: int
    seats: int
    slots: int
    deck: int
    board: Board
    board_fd: int
    bells: tuple[int, ...] = ()
    """Of its workers, by seat; a seat beyond them has none."""
    own_bell: int = -1
    """By which its workers call us."""
    retired: bool = False


class Counts:
    """What an app counts, for the statistics; all since this router started."""

    __slots__ = (
        "answered",
        "cancelled",
        "errors",
        "hits",
        "link_faults",
        "recovered",
        "refused_hellos",
        "rejected",
        "requests",
        "requeued",
        "revoked",
        "spooled",
        "stale_records",
        "websockets",
        "websockets_opened",
    )

    def __init__(self) -> None:
        self.requests = 0
        self.answered = [0] * 10  # by the first digit of their status
        self.errors: Counter[str] = Counter()
        self.hits: Counter[str] = Counter()  # how often which of its options was the reason, by name
        self.rejected: Counter[str] = Counter()  # answers in the app's place, by the reason that was told
        self.spooled = 0
        self.requeued = 0
        self.recovered = 0
        self.revoked = 0
        self.cancelled = 0
        self.stale_records = 0
        self.refused_hellos = 0
        self.link_faults = 0
        self.websockets = 0  # that are open now
        self.websockets_opened = 0


class Core(Protocol):
    """What an app needs of the router."""

    loop: asyncio.AbstractEventLoop
    epoch: int
    seat: int
    streams: Streams
    stdout_log: Writer
    spool: Spool
    bells: Bells
    names: Names

    def app(self, name: str) -> "App | None":
        """Another vassal's."""

    def tell(self, message: dict[str, Any]) -> bool:
        """An event for the emperor. False: it did not get it."""

    def catch_up(self) -> None:
        """Carry out what the emperor has said, should there be anything that the loop has not come to yet."""

    def log(self, level: str, text: str) -> None:
        """A line for the emperor's log."""

    def complain(self, key: str, level: str, text: str) -> None:
        """The same about what can be repeated, of each key one in a second."""


class App(Receiver):
    """Queue, pool and backplane of one vassal."""

    def __init__(self, core: Core, entry: RouterEntry, make_backplane: Callable[["App"], Backplane]) -> None:
        self.core = core
        self.streams = core.streams
        self.name = entry.name
        self.access: Access | None = None
        self.poison: Poison | None = None
        self.forwarding: Forwarding | None = None
        self._log_opening: int | None = None
        self._logged = (0, 0)  # lines, and lost ones, of access logs before this one
        self.queue = Queue(entry.queue)
        self.pool = Pool()
        self.careful = False  # placing and dispatching are the balancer's, for now
        self.limited = False  # so is letting in
        self.retries = False  # a request that a lost worker had begun may be run again
        self.sticks = False  # clients are told which worker is theirs
        self.shared: Routes | None = None  # clients are told which of those that share a domain is theirs
        self.mirrors: Mirror | None = None  # another vassal gets copies
        self.balancer = Balancer(self)
        self._note(entry)
        self.generations: dict[int, Generation] = {}
        self.receiving: set[Exchange] = set()
        self.gone: set[int] = set()  # retired and forgotten: their late workers are told so
        self.active = 0
        self.kept: frozenset[int] = frozenset()  # these rest, and may be active again
        self.beside: frozenset[int] = frozenset()  # these serve as well
        self._totals: dict[int, tuple[int, int]] = {}  # of links that have ended, by generation
        self.counts = Counts()
        self.decked = 0  # at least how many wait on decks; 0 means: nobody does
        self.backplane = make_backplane(self)
        self.condemned: dict[
            bytes, set[int]
        ] = {}  # links whose workers are to be ended, and for which streams
        self._untold: list[dict[str, Any]] = []
        self._look_again: asyncio.TimerHandle | None = None
        self._relief_due_ns = 0
        self._reopening: asyncio.TimerHandle | None = None
        self._floods = 0
        self.closed = False
        self.sharing = Sharing(self)
        self.short = False  # some of its workers' slots are others'
        self.far: Abroad | None = None  # workers on other hosts, if there are any

    # What the emperor says

    def set_entry(self, entry: RouterEntry) -> None:
        """New names or limits."""
        was_paused = self.paused
        self._note(entry)
        self.refuse_in_vain()
        if self.paused != was_paused:
            if self.paused:
                self._pause()
            else:
                self.dispatch()
        if self.refuses:
            self._refuse_waiting("it is paused", pages.PAUSED)
        if self.forwards:
            self.dispatch()

    def share_by(self, routes: Routes | None) -> None:
        """Clients are given to this vassal by a cookie, where these routes say that it shares."""
        self.shared = routes
        self.balancer.be_sticky()

    def ready(self) -> bool:
        """Somebody can take a request now, and there is room for it to wait."""
        if self.paused or len(self.queue) >= self.queue.limit:
            return False
        if self.forwards:
            return self.forwarding.upstreams.answering  # type: ignore[union-attr]
        return self.pool.serves() or self.far is not None

    def forward(self) -> Forwarding:
        """Its upstreams, which may be added to and taken from at any time; with some, all requests go there."""
        if self.forwarding is None:
            self.forwarding = Forwarding(self)
        return self.forwarding

    def _pause(self) -> None:
        """What runs is finished, and nothing begins: what is offered and not begun waits in the queue again."""
        for link in list(self.backplane.links.values()):
            for exchange in list(link.streams.values()):
                if exchange.state == states.OFFERED and self._revoke(exchange, link):
                    self._requeue(exchange)

    def _note(self, entry: RouterEntry) -> None:
        # What each request asks for stands in fields of its own, as C values.
        self.entry = entry
        self.available = entry.available
        self.paused = bool(entry.paused)
        self.refuses = entry.paused == "refuse"
        self.body_limit = entry.body_limit
        self.mounts: Routes | None = mounts_of(entry.domains) if entry.script_name else None
        self.request_buffering = entry.request_buffering
        self.post_buffering = entry.post_buffering
        self.response_buffer = entry.response_buffer
        self.queue_timeout_s = entry.queue_timeout_s
        self.queue.limit = entry.queue
        self.balancer.use(entry.balancing, entry.queue)
        self.request_limits = ByPath(entry.request_timeout_s, entry.deadlines.request_paths)
        self.times_requests = self.request_limits.least_s > 0
        self.harakiri = entry.deadlines.harakiri
        self.limits_runs = self.harakiri.least_s > 0
        if self.poison is None or self.poison.deaths != entry.deadlines.poison_deaths:
            self.poison = Poison(entry.deadlines.poison_deaths)
            self.wary = False
        self.request_id = entry.request_id
        if entry.upstreams or self.forwarding is not None:
            host = entry.domains[0].partition("/")[0] if entry.domains else f"{self.name}.localhost"
            self.forward().use(entry.upstreams, host)
        # Also for who has come by himself.
        upstreams = self.forwarding is not None and len(self.forwarding.upstreams) > 0
        self.forwards = upstreams or bool(entry.upstreams)
        if entry.sharing.mirror != ("" if self.mirrors is None else self.mirrors.said.mirror):
            self.mirrors = Mirror(self, entry.sharing, random.random) if entry.sharing.mirror else None
        if self.mirrors is not None:
            self.mirrors.said = entry.sharing
        if entry.access != (None if self.access is None else self.access.log):
            self._log_by(entry.access)

    def _log_by(self, log: AccessLog | None) -> None:
        old, self.access = self.access, None
        if old is not None:
            lines, lost = self._logged
            self._logged = (lines + old.lines, lost + old.lost)
        keep = old is not None and log is not None and old.log.place == log.place
        if log is not None:
            if log.place == STDOUT:
                writer = self.core.stdout_log
            elif keep and old is not None:
                writer = old.writer
            else:
                writer = Writer(self.core.loop, note_of(log), self._log_is_full)
            self.access = Access(self.name, log, writer)
            writer.limit = log.max_bytes
        if old is not None and not keep and old.log.place != STDOUT:
            old.writer.close()

    def _log_is_full(self, limit: int) -> None:
        self.core.tell({"op": "log-full", "name": self.name, "bytes": limit, "opening": self._log_opening})

    def log_to(self, fd: int, size: int, limit: int, opening: int | None = None) -> None:
        """Write the access log to this file of so many bytes from now on, and say when it has grown to `limit` (0: never);
        the descriptor is ours. The emperor knows this one by `opening`."""
        if self.access is None or self.access.log.place == STDOUT:
            let_go(fd)
            return
        self.access.writer.use(fd, size)
        self.access.writer.limit = limit
        self._log_opening = opening

    def add_generation(self, generation: Generation) -> None:
        """Expect workers of this generation. Its page replaces one of the same number, whose links end."""
        old = self.generations.get(generation.number)
        if old is not None:
            for link in self._links_of(generation.number):
                self._lost(link, "its page was replaced")
            self._close_page(old)
        self.generations[generation.number] = generation
        if generation.own_bell >= 0:
            try:
                self.core.bells.add(generation.own_bell, lambda: self.backplane.rung(generation.number))
            except OSError as error:
                self.core.log(
                    "warning", f"[{self.name}] no bell of its workers: {error}; they call by messages"
                )
                let_go(generation.own_bell)
                generation.own_bell = -1
        if generation.number == self.active:
            self.balancer.limits.share(generation.board, self.core.seat, monotonic_s())
        self.sharing.say()
        self.gone.discard(generation.number)
        # A router that died may have left offers that nobody stands behind any more.
        for seat in range(generation.seats):
            generation.board.revoke_all(seat, self.core.seat)

    def activate(
        self, number: int, kept: Iterable[int] = (), beside: Iterable[int] = (), share: float = 0.0
    ) -> None:
        """New requests go to this generation and to those ``beside`` it; the links of all others leave, but those of
        ``kept``, which rest. ``share``: so many in a hundred go to it, and the others to those beside it; 0: as it comes."""
        if number != self.active and self.poison is not None:
            self.poison.pardon()
            self.wary = False
        self.active = number
        if number in self.generations:
            self.balancer.limits.share(self.generations[number].board, self.core.seat, monotonic_s())
        self.kept = frozenset(kept)
        self.beside = frozenset(beside)
        self.balancer.try_out(number, share if beside else 0.0)
        for link in list(self.backplane.links.values()):
            if link.far:
                continue
            if link.generation == number or link.generation in self.beside:
                if link.ready and not link.accepting and link.identity not in self.condemned:
                    link.accepting = True
                    self.pool.became_idle(link)
            elif link.generation in self.kept:
                self._rest_link(link)
            else:
                self.drain_link(link)
        self.dispatch()
        self._rebalance()

    def retire(self, number: int) -> None:
        """Forget a generation: its links leave, its HELLOs are refused."""
        generation = self.generations.get(number)
        if generation is None:
            return
        generation.retired = True
        if self.active == number:
            self.active = 0
        for link in self._links_of(number):
            self.drain_link(link)
        self.forget_generation_if_empty(number)
        self.refuse_in_vain()

    def forget_generation_if_empty(self, number: int) -> None:
        """Unmap the page of a retired generation once its last link is gone."""
        generation = self.generations.get(number)
        if generation is not None and generation.retired and not self._links_of(number):
            self.gone.add(number)
            del self.generations[number]
            self._totals.pop(number, None)
            self._close_page(generation)

    def close(self) -> None:
        """The vassal has gone."""
        self.closed = True
        for link in list(self.backplane.links.values()):
            if link.far:
                refused = records.pack_refused(REFUSE_VASSAL, "the vassal has gone")
                link.backplane.send_past(link.identity, refused)
            self._lost(link, "the vassal has gone")
        self._refuse_waiting("the vassal has gone")
        for timer in (self._look_again, self._reopening):
            if timer is not None:
                timer.cancel()
        if self.forwarding is not None:
            self.forwarding.close()
        self.sharing.say()
        self._log_by(None)
        self.backplane.close()
        for generation in self.generations.values():
            self._close_page(generation)
        self.generations.clear()

    def _close_page(self, generation: Generation) -> None:
        limits = self.balancer.limits
        if limits.shared is not None and limits.shared.board is generation.board:
            limits.share(None, self.core.seat, monotonic_s())
        self.core.bells.drop(generation.own_bell)
        generation.own_bell = -1
        for fd in generation.bells:
            os.close(fd)
        generation.bells = ()
        generation.board.close()
        if generation.board_fd >= 0:
            os.close(generation.board_fd)
            generation.board_fd = -1

    def _links_of(self, number: int) -> list[Link]:
        return [link for link in self.backplane.links.values() if link.generation == number]

    def refuse_in_vain(self, reason: str = "not available") -> None:
        """Turn away those who wait if nobody will come for them.

        While a generation is active its workers may come: a new emperor says that the vassal is not available before it has
        heard of its gateway, which may be when a new router has no links yet.
        """
        if not self.available and not self.active and not self.pool.members and self.far is None:
            self._refuse_waiting(self.entry.reason or reason)

    def _refuse_waiting(self, reason: str, cause: str = pages.NOT_READY) -> None:
        waiting = [exchange for queue in self.balancer.queues() for exchange in queue.clear()]
        for exchange in (*waiting, *self.receiving):
            self._answer(exchange, 503, reason, pages.GONE if self.closed else cause)

    # What clients want

    def submit(self, exchange: Exchange) -> None:
        """Take a request: to a worker at once, or into the queue, once its body is whole if that is waited for; 503 when the
        queue is full or nobody will come."""
        self.counts.requests += 1
        if self.refuses:
            self._answer(exchange, 503, "it is paused", pages.PAUSED)
            return
        if not self.available and not self.active and self.far is None:
            self._answer(
                exchange, 503, self.entry.reason or "the app has not been ready yet", pages.NOT_READY
            )
            return
        if self.limited and not self.balancer.admits(exchange):
            return
        if self.wary and self._refuses(exchange):
            return
        if self.request_buffering:
            if not exchange.body_done:
                self._receive(exchange)
                return
            if exchange.head.content_length < 0:
                packet.tell_length(exchange.head, exchange.buffered)
        self._place(exchange)
        if self.mirrors is not None:
            self.mirrors.copy(exchange)

    def _place(self, exchange: Exchange) -> None:
        self.passed_over = False
        exchange.queue_deadline = exchange.submitted + self.queue_timeout_s
        if self.times_requests:
            self._time(exchange, exchange.submitted)
        if self.forwards and not len(self.queue) and not self.paused and self.forwarding.has_room():  # type: ignore[union-attr]
            self.forwarding.take(exchange)  # type: ignore[union-attr]
            return
        if self.careful and not self.forwards:
            self.balancer.place(exchange)
            return
        if not len(self.queue) and not self.paused:
            member = self._taker(exchange)
            if member is not None:
                self._offer(exchange, member)
                return
        if not self.queue.add(exchange):
            self._answer_full(exchange)
        elif self.short:
            self.sharing.demand()

    def _taker(self, exchange: Exchange) -> Link | None:
        """Who gets it now: who is idle here, else whose deck has room, else a worker of another host, or where there is none
        who has run the longest; None: it waits."""
        pool = self.pool
        member = pool.idle_member()
        if member is None:
            member = pool.deck_member(now_ns())
            if member is None:
                member = pool.stuck_member(now_ns()) if self.far is None else self.far.member(exchange)
        return member  # type: ignore[return-value]

    def _time(self, exchange: Exchange, since: float) -> None:
        """It is to be answered within so long from ``since``."""
        limit_s = self.request_limits.of(exchange.head.path)
        exchange.answer_deadline = since + limit_s if limit_s else 0.0

    # Bodies that are read to their end first

    def _receive(self, exchange: Exchange) -> None:
        if len(self.queue) >= self.queue.limit and not self.careful:
            # It may be otherwise by the time the body is whole; but why let a client send it for that?
            self._answer_full(exchange)
            return
        exchange.step(states.RECEIVE)
        self.receiving.add(exchange)
        exchange.spooled = Body(self.core.spool, self, exchange)
        exchange.front.begun(exchange)
        if exchange.buffered:
            self._keep(exchange)

    def _keep(self, exchange: Exchange) -> None:
        """There is more of it, or all."""
        body = exchange.spooled
        assert body is not None
        try:
            body.count(exchange.buffered)
            waits = not exchange.to_disk and not exchange.body_done
            if waits and body.wants_disk(exchange.buffered, self.post_buffering):
                self._to_disk(exchange)
            if exchange.to_disk:
                body.push(exchange.body_done)
                body.carry()
        except Refused as refused:
            self._answer(exchange, refused.status, str(refused), pages.BODIES)
            return
        if exchange.body_done and body.settled:
            self._whole(exchange)

    def _to_disk(self, exchange: Exchange) -> None:
        self.counts.spooled += 1
        exchange.to_disk = True
        if self.core.spool.crowded():
            exchange.spill()

    def _whole(self, exchange: Exchange) -> None:
        """Nothing more will come, and nothing is under way to disk: now it is a request like any other."""
        if exchange.rest and not exchange.buffered:
            # None of it stayed in memory. What a worker is offered is there before it is offered.
            exchange.spooled.pull()  # type: ignore[union-attr]
            return
        self.receiving.discard(exchange)
        exchange.step(states.WHOLE)
        exchange.submitted = monotonic_s()
        if exchange.head.content_length < 0:
            packet.tell_length(exchange.head, exchange.buffered + exchange.rest)
        self._place(exchange)

    def body_stored(self, exchange: Exchange) -> None:
        if exchange.state == states.RECEIVING:
            exchange.front.drained(exchange)
        if exchange.state == states.RECEIVING:
            self._keep(exchange)

    def carry(self, exchange: Exchange, source: int, owed: int) -> bool:
        body = exchange.spooled
        if exchange.state != states.RECEIVING or not exchange.to_disk or body is None:
            return False
        body.carries = (source, owed)
        self._keep(exchange)
        # It may have been refused for it.
        return exchange.state == states.RECEIVING

    def body_carried(self, exchange: Exchange, count: int, how: int) -> None:
        exchange.rest += count
        exchange.front.carried(exchange, count, how)

    def body_fetched(self, exchange: Exchange, piece: bytes) -> None:
        exchange.fetched(piece)
        assert exchange.spooled is not None
        exchange.spooled.recount(exchange.buffered + len(exchange.first_part))
        if exchange.state == states.RECEIVING:
            self._whole(exchange)
        elif exchange.state in (states.BEGUN, states.ANSWERING):
            self._pump(exchange)

    def body_lost(self, exchange: Exchange, status: int, reason: str) -> None:
        if exchange.state == states.RECEIVING:
            self._answer(exchange, status, reason, pages.BODIES)
        elif exchange.state in (states.BEGUN, states.ANSWERING):
            # The app has had part of it. What is missing is ours to answer for.
            link = exchange.link
            assert isinstance(link, Link)
            self._abandon(exchange, link)
            self._fail(exchange, 500, reason)

    def give_up(self, exchange: Exchange) -> None:
        """The client no longer waits: what has not begun is never run, what runs keeps its slot until it ends."""
        if exchange.state in (states.ENDED, states.ABANDONED) or self.withdraw(exchange):
            return
        link = exchange.link
        assert isinstance(link, Link)
        self._abandon(exchange, link)
        self.counts.cancelled += 1

    def _abandon(self, exchange: Exchange, link: Link) -> None:
        """Tell the worker that nobody waits; its slot is busy until it ends all the same."""
        exchange.step(states.GIVE_UP)
        exchange.forget_body()
        self._cancel(link, exchange)

    def _cancel(self, link: Link, exchange: Exchange) -> None:
        if link.chutes is not None:
            # Who waits to be told by a message is told by this one.
            link.chutes.leave(exchange)
        link.send(records.pack(records.CANCEL, 0, exchange.word, exchange.stream, b""))

    def waits(self, exchange: Exchange) -> bool:
        """It waits behind others, as far as can be known without asking the page."""
        return exchange.state == states.QUEUED or (exchange.state == states.OFFERED and exchange.on_deck)

    def withdraw(self, exchange: Exchange) -> bool:
        """End a request that has not begun. False: it has, or it cannot be known, and nothing is changed."""
        link = exchange.link
        if exchange.state == states.QUEUED:
            queue = self.balancer.queue_of(exchange)
            if exchange in queue:
                queue.remove(exchange)
        elif exchange.state == states.RECEIVING:
            self.receiving.discard(exchange)
        elif exchange.state != states.OFFERED or not self._revoke(exchange, link):  # type: ignore[arg-type]
            return False
        exchange.step(states.GIVE_UP)
        exchange.forget_body()
        self.counts.cancelled += 1
        if link is not None:
            self.dispatch()
        return True

    def body_arrived(self, exchange: Exchange) -> None:
        """More of the request body is in the exchange."""
        if exchange.state == states.RECEIVING:
            self._keep(exchange)
            return
        if self.times_requests:
            self._time(exchange, self.core.loop.time())
        if exchange.state in (states.BEGUN, states.ANSWERING):
            self._pump(exchange)

    def written(self, exchange: Exchange, count: int) -> None:
        """``count`` body bytes have gone into the client's socket: the worker may send as many more. 0: more may go there."""
        if not count:
            self._unstick(exchange)
        exchange.owed += count
        if exchange.owed >= STREAM_CREDIT // 2 and exchange.state == states.ANSWERING:
            link = exchange.link
            assert isinstance(link, Link)
            link.send(records.pack_credit(exchange.stream, exchange.owed))
            exchange.window += exchange.owed
            exchange.owed = 0

    def send_away(self, exchange: Exchange) -> None:
        """The router leaves: the worker is to end this WebSocket, which would not end by itself."""
        link = exchange.link
        if exchange.tunnel and exchange.state == states.ANSWERING:
            assert isinstance(link, Link)
            link.send(records.pack(records.DRAIN, 0, records.NO_WORD, exchange.stream, b""))

    # Bodies by chute

    def bulk(self, link: Link) -> bool:
        """Move on what is in the chutes of a link, or goes into them."""
        chutes = link.chutes
        if chutes is None:
            return False
        try:
            moved = chutes.pour()
            if moved and chutes.down.wake():
                self._tell(link, chutes.sender)
            if chutes.stuck and not chutes.relieved:
                chutes.relieved = True
                self.core.loop.call_later(PATIENCE_S, self._take_off, link, chutes.sender)
            lifted = 0
            taker = chutes.taker
            if taker is not None and not taker.fin_sent:
                lifted = chutes.lift()
                if lifted or taker.fin_sent:
                    self._lift(link, taker)
        except (RecordError, BoardError) as error:
            self._fault(link, str(error))
            return False
        except Exception as error:
            self._stumbled(link, error)
            return False
        return bool(moved or lifted)

    def _lift(self, link: Link, exchange: Exchange) -> None:
        """Some of its body has just gone up."""
        chutes = link.chutes
        assert chutes is not None
        if exchange.fin_sent:
            if exchange.spooled is not None:
                exchange.spooled.close()
                exchange.spooled = None
            tell = chutes.up.end(chute.WHOLE)
        else:
            tell = chutes.up.wake()
        if tell:
            self._tell(link, exchange)
        if exchange.answer_deadline:
            self._time(exchange, self.core.loop.time())
        exchange.front.drained(exchange)

    def _tell(self, link: Link, exchange: Exchange | None) -> None:
        """Look into your chute, by a message: credit of nothing."""
        if exchange is not None:
            link.send(records.pack_credit(exchange.stream, 0))

    def _take_off(self, link: Link, exchange: Exchange | None) -> None:
        """If its client still takes nothing, some of its response is taken off its worker."""
        chutes = link.chutes
        if chutes is None or exchange is None or chutes.sender is not exchange:
            return
        chutes.relieved = False
        if not chutes.stuck or exchange.state != states.ANSWERING:
            return
        chutes.relieved = True
        left_s = chutes.since + PATIENCE_S - monotonic_s()
        if left_s > 0:
            # It took some meanwhile, and stopped again.
            self.core.loop.call_later(left_s, self._take_off, link, exchange)
        else:
            chutes.unstick(True)
            self._go_on(link)

    def _unstick(self, exchange: Exchange) -> None:
        """Its client takes bytes again."""
        link = exchange.link
        assert isinstance(link, Link)
        chutes = link.chutes
        if chutes is not None and chutes.sender is exchange:
            if chutes.ahead:
                chutes.relieved = False
            chutes.unstick(False)
            self._go_on(link)

    def _go_on(self, link: Link) -> None:
        self.bulk(link)
        if link.identity in self.backplane.links:
            self.backplane.watch(link)

    def _by_chute(self, link: Link, exchange: Exchange) -> None:
        """The worker has taken its chute for this response."""
        chutes = link.chutes
        if chutes is None or chutes.sender is not None:
            raise RecordError("BY-CHUTE for a chute that is not there or not free")
        if exchange.tunnel or exchange.state not in (states.ANSWERING, states.ABANDONED):
            raise RecordError("BY-CHUTE before RESPONSE, or for a WebSocket")
        chutes.begin(exchange)
        if exchange.state == states.ABANDONED:
            chutes.leave(exchange)
        else:
            self.backplane.watch(link)

    # Placing

    def dispatch(self) -> None:
        """Give queued requests to whoever has room."""
        if self.paused:
            return
        if self.careful and not self.forwards:
            self.balancer.dispatch()
            return
        queue = self.queue
        if self.forwards:
            self.forwarding.take_waiting(queue)  # type: ignore[union-attr]
            return
        while True:
            first = queue.oldest()
            if first is None:
                return
            member = self._taker(first)
            if member is None:
                return
            queue.take()
            self._offer(first, member)

    def _offer(self, exchange: Exchange, link: Link) -> None:
        stream = self.streams.next()
        word = records.NO_WORD
        if link.board is not None:
            word = link.free_words.pop()
            if not link.board.offer(link.seat, link.router_seat, word, stream):
                self.balancer.queue_of(exchange).put_back(exchange)
                self.core.loop.call_soon(
                    self._fault, link, f"word {word} of its page is not free, though we use it"
                )
                link.accepting = False
                self.pool.retire(link)
                return
        exchange.step(states.OFFER)
        exchange.link = exchange.worker = link
        exchange.stream = stream
        exchange.word = word
        exchange.on_deck = link.in_flight >= link.slots
        if exchange.on_deck:
            self.decked += 1
        exchange.window = STREAM_CREDIT
        exchange.owed = 0
        link.streams[stream] = exchange
        link.in_flight += 1
        link.requests += 1
        if exchange.part is not None:
            exchange.part.in_flight += 1
        self.backplane.watch(link)
        first = exchange.first()
        flags = records.IDEMPOTENT if exchange.head.idempotent else 0
        if exchange.head.websocket:
            flags |= records.UPGRADE
        if exchange.fin_sent:
            flags |= records.FIN
            if flags & records.IDEMPOTENT and self.retries:
                exchange.whole_in_hand = True
            if link.put(flags, word, stream, exchange.head.packet, first):
                return
        elif exchange.head.expect_continue:
            flags |= records.AWAITS
        link.send(records.pack_request(flags, word, stream, exchange.head.packet, first))

    def _revoke(self, exchange: Exchange, link: Link) -> bool:
        """Take an OFFERED request back. True: it is QUEUED (in no queue yet) and will not be run by that worker."""
        if link.board is None:
            return False
        outcome = link.board.revoke(link.seat, link.router_seat, exchange.word, exchange.stream)
        if outcome == scoreboard.REVOKED:
            link.revoked_words.append(exchange.word)
            self._unlink(exchange, link)
            exchange.step(states.REVOKE)
            exchange.take_back()
            self.counts.revoked += 1
            self.pool.became_idle(link)
            return True
        if outcome < 0:
            self.core.loop.call_soon(
                self._fault, link, f"word {exchange.word} of its page holds what nobody wrote"
            )
        return False

    def _unlink(self, exchange: Exchange, link: Link) -> None:
        del link.streams[exchange.stream]
        link.in_flight -= 1
        if exchange.on_deck:
            exchange.on_deck = False
            self.decked -= 1
        exchange.link = None
        if exchange.part is not None:
            exchange.part.in_flight -= 1
        if exchange.tunnel:
            self.counts.websockets -= 1
        if link.chutes is not None:
            link.chutes.release(exchange)

    def _requeue(self, exchange: Exchange) -> None:
        self.counts.requeued += 1
        self.balancer.queue_of(exchange).put_back(exchange)

    def _rebalance(self) -> None:
        """An idle worker takes half of what waits behind a long request elsewhere."""
        if self._look_again is not None or not self.decked or len(self.queue) or self.paused or self.careful:
            return
        taker = self.pool.idle_member()
        if taker is None:
            return
        blocked, again = self.pool.blocked_member(now_ns())
        if blocked is not None:
            assert isinstance(blocked, Link) and isinstance(taker, Link)
            wanted = (blocked.waiting() + 1) // 2
            for exchange in list(blocked.streams.values()):
                if not wanted or not taker.room():
                    break
                if exchange.state == states.OFFERED and self._revoke(exchange, blocked):
                    wanted -= 1
                    self._offer(exchange, taker)
            again = True
        if again:
            self.look_soon()

    def _relieve(self) -> None:
        """Take back what waits behind long requests, when others may have room: the caller dispatches.

        Without this it would be served after what came later and lies on a luckier deck, or in the queue.
        """
        now = now_ns()
        if now < self._relief_due_ns:
            return
        self._relief_due_ns = now + RELIEF_NS
        for member in self.pool.stuck_members(now):
            assert isinstance(member, Link)
            self.take_back(member)

    def take_back(self, link: Link) -> None:
        """Queue again all that it has not begun."""
        for exchange in list(link.streams.values()):
            if exchange.state == states.OFFERED and self._revoke(exchange, link):
                self._requeue(exchange)

    def look_soon(self) -> None:
        """Look at decks and queue in a millisecond."""
        if self._look_again is None:
            self._look_again = self.core.loop.call_later(0.001, self._look)

    def _look(self) -> None:
        self._look_again = None
        self._relieve()
        self.dispatch()
        self._rebalance()

    # What workers say

    def message(self, link: Link, message: bytes) -> int:
        """Every record of one message of a link. Returns how many there were, at least 1."""
        count = 1
        try:
            record = records.Cursor(message)
            count = record.count
            if not 0 < count <= RECORDS_LIMIT:
                raise RecordError(f"a message of {count} records")
            while record.next():
                self._record(link, record)
                if link.identity not in self.backplane.links:
                    break
        except (RecordError, BoardError, IllegalTransition) as error:
            self._fault(link, str(error))
        except Exception as error:
            self._stumbled(link, error)
        return count or 1

    def _stumbled(self, link: Link, error: Exception) -> None:
        # Ours to mend; until then it costs the link that set it off, and nobody else.
        self.core.log("error", f"[{self.name}] {''.join(traceback.format_exception(error))}")
        self._fault(link, f"the router stumbled over it: {error!r}")

    def _record(self, link: Link, record: records.Cursor) -> None:
        kind = record.type
        if not link.ready:
            if kind == records.READY:
                self._ready(link, record.payload(), record.flags, record.word)
            elif kind == records.BYE:
                self._bye(link)
            else:
                raise RecordError(f"{NAMES.get(kind, kind)} before READY")
            return
        if record.stream:
            exchange = link.streams.get(record.stream)
            if exchange is None:
                # Late news of a request that has ended here, or an invention; neither reaches anybody.
                self.counts.stale_records += 1
                link.unwanted(record.size)
                return
            fin = bool(record.flags & records.FIN)
            chutes = link.chutes
            if (
                chutes is not None
                and chutes.sender is exchange
                and kind in (records.DATA, records.TRAILERS)
                and exchange.state == states.ANSWERING
            ):
                chutes.empty()
            if kind == records.RESPONSE and record.flags & records.UPGRADE:
                self._switch(link, exchange, record)
            elif kind == records.RESPONSE:
                self._response(link, exchange, record, fin)
            elif kind == records.DATA:
                self._data(link, exchange, record.payload(), fin)
            elif kind == records.CREDIT:
                self._credit(link, exchange, records.unpack_credit(record.payload()))
            elif kind == records.ABORT:
                self._abort(link, exchange, record.payload().decode(errors="replace"))
            elif kind == records.TRAILERS:
                self._trailers(exchange, record.payload())
                self._data(link, exchange, b"", True)
            elif kind == records.RETURN:
                self._returned(link, exchange, bool(record.flags & records.LATE))
            elif kind == records.INTERIM:
                self._interim(link, exchange, record.payload())
            elif kind == records.BY_CHUTE:
                self._by_chute(link, exchange)
            else:
                raise RecordError(f"{NAMES.get(kind, kind)} on a stream")
        elif kind == records.BYE:
            self._bye(link)
        elif kind == records.GRANT:
            self._granted(link, record)
        elif kind == records.CALL:
            if link.may_call:
                link.may_call -= 1
            else:
                link.unwanted(record.size)
            self.backplane.watch(link)
        elif kind == records.RECALL:
            self.sharing.recalled(link, record)
        elif kind == records.PONG:
            if not link.ponged(record.payload()):
                link.unwanted(record.size)
        elif kind == records.CREDIT:
            link.unwanted(record.size)
        else:
            raise RecordError(f"{NAMES.get(kind, kind)} without a stream")

    def _response(self, link: Link, exchange: Exchange, record: records.Cursor, fin: bool) -> None:
        record.read_response()
        head, body = record.head, record.body
        exchange.step(states.HEAD)
        self._received(link, exchange, len(body))
        service_ns = record.service_us
        service_ns *= 1000  # not in one: the record's is a number of 32 bits
        if fin:
            if head and head[0] == 53:  # b"5"
                self.pool.took_in_vain(service_ns)
            else:
                self.pool.took(service_ns)
        else:
            exchange.begun_ns = now_ns() - service_ns
        if exchange.state == states.ABANDONED:
            if fin:
                self._ended(link, exchange)
            return
        if fin:
            self._ended(link, exchange)
        if self.sticks:
            head = self.balancer.stick(exchange, link, head)
        try:
            exchange.front.respond(exchange, head, body, fin)
        except ResponseError as error:
            self._complain_of(link, "a response", error)
            if not fin:
                exchange.step(states.GIVE_UP)
                self._cancel(link, exchange)
            self._fail(exchange, 502, f"bad response head: {error}")
            self._failed_for(link)
            return
        self.counts.answered[head[0] - 48] += 1
        link.answered += 1
        if head[0] == 53:  # b"5"
            link.failed += 1
            if not link.far:
                self.balancer.failed(link, service_ns)
        elif link.failing:
            self.balancer.succeeded(link)
        if link.far and self.far is not None:
            self.far.answered(link, head[0] == 53)

    def _switch(self, link: Link, exchange: Exchange, record: records.Cursor) -> None:
        """The worker takes the WebSocket that the client has asked for."""
        record.read_response()
        if not exchange.head.websocket or record.flags & records.FIN or record.body:
            raise RecordError("a RESPONSE with UPGRADE that is not the answer to one")
        exchange.step(states.HEAD)
        exchange.begun_ns = now_ns()
        if exchange.state == states.ABANDONED:
            return
        exchange.open_tunnel()
        self.counts.websockets += 1
        self.counts.websockets_opened += 1
        try:
            exchange.front.switch(exchange, record.head)
        except ResponseError as error:
            self._complain_of(link, "a response", error)
            exchange.step(states.GIVE_UP)
            self._cancel(link, exchange)
            self._fail(exchange, 502, f"bad response head: {error}")
            self._failed_for(link)
            return
        self.counts.answered[1] += 1
        link.answered += 1

    def _interim(self, link: Link, exchange: Exchange, head: bytes) -> None:
        """It is advice (RFC 9110, 15.2): what is late, wrong or too much is dropped, and costs the request nothing."""
        exchange.interims += 1
        if exchange.state in (states.ANSWERING, states.ABANDONED) or exchange.interims > INTERIM_LIMIT:
            link.unwanted(len(head))
            return
        if exchange.state == states.OFFERED:
            exchange.step(states.BEGIN)
            exchange.forget_first()
        try:
            exchange.front.interim(exchange, head)
        except ResponseError as error:
            self._complain_of(link, "an interim response", error)

    def _trailers(self, exchange: Exchange, fields: bytes) -> None:
        if exchange.state == states.ANSWERING:
            try:
                exchange.front.trailers(exchange, fields)
            except ResponseError as error:
                self._complain_of(exchange.link, "trailers", error)

    def _complain_of(self, link: object, what: str, error: ResponseError) -> None:
        assert isinstance(link, Link)
        self.core.log(
            "error",
            f"[{self.name}] {who(link)} sent {what} that no client may see: {error}",
        )

    def _data(self, link: Link, exchange: Exchange, body: bytes, fin: bool) -> None:
        if exchange.state not in (states.ANSWERING, states.ABANDONED):
            raise RecordError("DATA before RESPONSE")
        if not body and not fin:
            link.unwanted()
            return
        size = len(body)
        if 0 < size < records.DATA_LEAST:
            self._received(link, exchange, records.DATA_LEAST)
            exchange.owed += records.DATA_LEAST - size
        else:
            self._received(link, exchange, size)
        abandoned = exchange.state == states.ABANDONED
        if fin:
            # Its slot was busy until now, whoever was slow.
            if not exchange.tunnel:
                self.pool.took(now_ns() - exchange.begun_ns)
            self._ended(link, exchange)
        if not abandoned:
            exchange.front.more(exchange, body, fin)

    def _received(self, link: Link, exchange: Exchange, size: int) -> None:
        exchange.window -= size
        if exchange.window < 0:
            raise RecordError(f"{-exchange.window} body bytes more than its credit")
        link.received += size
        if link.received >= STREAM_CREDIT // 2:
            # The link's window is given back as records leave our socket, whatever becomes of their streams.
            link.send(records.pack_credit(0, link.received))
            link.received = 0

    def _credit(self, link: Link, exchange: Exchange, count: int) -> None:
        exchange.credit += count
        if exchange.credit > CREDIT_LIMIT:
            raise RecordError(f"credit of {exchange.credit} bytes on one stream")
        was = exchange.state
        # None comes with the claim of a request whose client waits for 100 Continue: that is for when the app reads.
        if count < CREDIT_LEAST and (count or was != states.OFFERED):
            exchange.uncredited -= 1
            if exchange.uncredited < 0:
                link.unwanted()
                if exchange.link is not link:
                    return  # that was one too many: the backplane is shut
        exchange.step(states.BEGIN)
        if was == states.OFFERED and not exchange.whole_in_hand:
            exchange.first_part = b""
        if count:
            exchange.front.begun(exchange)
        if exchange.state != states.ABANDONED:
            self._pump(exchange)

    def _pump(self, exchange: Exchange) -> None:
        link = exchange.link
        assert isinstance(link, Link)
        chutes = link.chutes
        if (
            chutes is not None
            and not exchange.tunnel
            and (chutes.taker is exchange or self._lends(link, exchange))
        ):
            self._go_on(link)
            return
        pieces = exchange.credited()
        if exchange.fin_sent and exchange.spooled is not None:
            # The worker has begun and has all of it: its file and its share of the quotas are free for others.
            exchange.spooled.close()
            exchange.spooled = None
        for piece, fin in pieces:
            link.send(
                records.pack(records.DATA, records.FIN if fin else 0, exchange.word, exchange.stream, piece)
            )
        if pieces:
            exchange.uncredited += len(pieces)
            if self.times_requests:
                self._time(exchange, self.core.loop.time())
            exchange.front.drained(exchange)
        if exchange.rest and exchange.spooled is not None and exchange.has_room():
            exchange.spooled.pull()

    def _lends(self, link: Link, exchange: Exchange) -> bool:
        """The rest of its body is to go up by chute, from now on."""
        chutes = link.chutes
        assert chutes is not None
        if (
            chutes.taker is not None
            or exchange.credit <= 0
            or exchange.fin_sent
            or exchange.buffered + exchange.rest <= LIFTED
        ):
            return False
        chutes.lend(exchange)
        link.send(records.pack(records.BY_CHUTE, 0, exchange.word, exchange.stream, b""))
        return True

    def _abort(self, link: Link, exchange: Exchange, reason: str) -> None:
        abandoned = exchange.state == states.ABANDONED
        self._ended(link, exchange)
        if not abandoned:
            self._fail(exchange, 502, f"the worker aborted it: {reason}")
            self._failed_for(link)
            # It has not said how long it took: no longer than this.
            self.balancer.failed(link, int((monotonic_s() - exchange.submitted) * 1e9))

    def _returned(self, link: Link, exchange: Exchange, late: bool) -> None:
        """``late``: it has waited behind one that runs long, on another host."""
        abandoned = exchange.state == states.ABANDONED
        exchange.step(states.REVOKE)
        if exchange.word != records.NO_WORD:
            link.free_words.append(exchange.word)
        self._unlink(exchange, link)
        if abandoned:
            # It met a request that was cancelled. One that returns what somebody wants is leaving.
            self.pool.became_idle(link)
        else:
            if late and link.far and self.far is not None:
                self.far.stuck(link)
            else:
                link.accepting = False
                self.pool.retire(link)
            exchange.take_back()
            self.balancer.retried[RETURNED] += 1
            self._requeue(exchange)
        self.dispatch()

    def _ended(self, link: Link, exchange: Exchange) -> None:
        """The worker's end of a request: its slot and word are free, and the next one may go there."""
        if exchange.word != records.NO_WORD:
            link.free_words.append(exchange.word)
        self._unlink(exchange, link)
        exchange.step(states.FINISH)
        if self.wary:
            self._survived(exchange)
        exchange.forget_body()
        if link.far and self.far is not None:
            self.far.moves(link)
        if link.recalled:
            self.sharing.give(link)
        if self.decked and len(self.pool.members) > 1:
            self._relieve()
        if len(self.queue) or self.careful:
            self.pool.became_idle(link)
            self.dispatch()
            if self.short:
                self.sharing.say()
        elif link.in_flight < link.slots:
            self.pool.became_idle(link)
            if self.decked:
                self._rebalance()

    # Links coming and going

    def stranger(self, identity: bytes, message: bytes, peer: tuple[int, int] | None) -> None:
        """A message of an unknown identity: a HELLO makes it a link, anything else is dropped and counted."""
        try:
            if len(message) > HELLO_LIMIT:
                raise RecordError("no HELLO")
            first = records.unpack(message)
            if len(first) != 1 or first[0][0] != records.HELLO:
                raise RecordError("no HELLO")
            hello = records.unpack_hello(first[0][4])
        except RecordError:
            self.backplane.unwanted(len(message))
            return
        refusal = self._hello(identity, hello, peer)
        if refusal is not None:
            code, reason = refusal
            self.backplane.unwanted()
            self.counts.refused_hellos += 1
            self.backplane.send_past(identity, records.pack_refused(code, reason))
            if code != REFUSE_RETIRED:
                self.core.tell({"op": "fault", "name": self.name, "reason": f"HELLO refused: {reason}"})

    def _hello(
        self, identity: bytes, hello: tuple[int, int, int, int, int, bytes, str], peer: tuple[int, int] | None
    ) -> tuple[int, str] | None:
        """Make a link, or say why not. The order of the checks is the order of the codes."""
        version, router_seat, seat, slots, number, token, name = hello
        if version != records.VERSION:
            return REFUSE_VERSION, f"version {version}; this router speaks {records.VERSION}"
        if name != self.name:
            return REFUSE_VASSAL, "this is another vassal's backplane"
        generation = self.generations.get(number)
        if generation is None and number not in self.gone:
            self.core.catch_up()
            generation = self.generations.get(number)
        if generation is None:
            if number in self.gone:
                return REFUSE_RETIRED, f"generation {number} has gone"
            return REFUSE_GENERATION, f"generation {number} is not expected"
        if _CHECK_TOKEN and not hmac.compare_digest(token, generation.token):
            return REFUSE_TOKEN, "wrong token"
        uid, pid = peer if peer is not None else (-1, 0)
        if _CHECK_UID and peer is not None and uid != generation.uid:
            return REFUSE_UID, f"uid {uid}; workers of this vassal run as {generation.uid}"
        if generation.retired:
            return REFUSE_RETIRED, f"generation {number} is leaving"
        if seat >= generation.seats or router_seat != self.core.seat or not 0 < slots <= generation.slots:
            return REFUSE_SEAT, f"seat {seat} with {slots} slots at router {router_seat} is not in the page"
        pidfd = -1
        if pid:
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                return REFUSE_SEAT, f"process {pid} has ended"
            except OSError as error:
                self.core.log("warning", f"[{self.name}] pidfd_open({pid}): {error}; the worker gets no deck")
        for other in self._links_of(number):
            if other.seat == seat:
                if other.pid != pid and other.pidfd >= 0 and not process_gone(other.pidfd):
                    if pidfd >= 0:
                        os.close(pidfd)
                    return REFUSE_SEAT, f"seat {seat} is process {other.pid}'s"
                self._lost(other, "the worker connected anew")
        local = pidfd >= 0
        board = generation.board if local else None
        link = Link(self.backplane, identity, number, seat, slots, board, generation.deck)
        link.router_seat = self.core.seat
        link.pid = pid
        link.pidfd = pidfd
        link.nonce = os.urandom(records.NONCE_SIZE)
        if local:
            generation.board.revoke_all(seat, self.core.seat)
            # Words of the old connection: the worker frees the revoked ones at WELCOME; a claimed one when it ends.
            link.free_words = []
            link.revoked_words = list(range(generation.deck))
            link.ring = Reader(generation.board, seat, self.core.seat)
            if seat < len(generation.bells):
                link.has_bell = generation.own_bell >= 0
                link.bell = generation.bells[seat]
                link.request_ring = RingWriter(generation.board, seat, self.core.seat, scoreboard.UP)
                link.request_ring.offer_nothing()
            link.chutes = Chutes(generation.board, seat, self.core.seat)
            if generation.board.routers > 1:
                link.held = []
            self.core.loop.add_reader(pidfd, self._process_gone, link)
        self.backplane.links[identity] = link
        deck = generation.deck if local else 0
        link.send(
            records.pack_welcome(deck, self.core.epoch, STREAM_CREDIT, STREAM_CREDIT * slots, link.nonce)
        )
        return None

    def _ready(self, link: Link, payload: bytes, flags: int, word: int) -> None:
        nonce, free = records.unpack_ready(payload)
        if _CHECK_NONCE and not hmac.compare_digest(nonce, link.nonce):
            link.backplane.send_past(link.identity, records.pack_refused(REFUSE_NONCE, "wrong nonce"))
            self._lost(link, "READY with a wrong nonce")
            self.counts.refused_hellos += 1
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
            self.sharing.take(link)
        if link.far:
            if self.far is None:
                self.far = Abroad(self)
            self.far.join(link, word, bool(flags & records.GIVES_BACK))
            return
        self.core.tell(self._link_event(link, up=True))
        generation = self.generations.get(link.generation)
        late = link.generation < self.active and link.generation not in self.kept | self.beside
        if generation is None or generation.retired or late:
            # Its generation is on its way out: it came back, or came late.
            self.drain_link(link)
            return
        link.accepting = link.generation == self.active or link.generation in self.beside
        self.balancer.joined(link)
        self.pool.join(link)
        self.sharing.count_short()
        if self.decked:
            self._relieve()
        self.dispatch()
        self._rebalance()

    def _granted(self, link: Link, record: records.Cursor) -> None:
        """Slots more than READY said: what ran in them had come by the worker's last connection, or was another router's."""
        if link.held is not None or link.far:
            self.sharing.granted(link, record)
            return
        count = records.unpack_grant(record.payload())
        if link.generation not in self.generations or not 0 < count <= link.width - link.offered:
            link.unwanted(record.size)
            return
        link.offered += count
        link.slots = min(link.offered, link.most)
        self.have_room(link)

    def have_room(self, link: Link) -> None:
        """It has room for more than before."""
        self.pool.became_idle(link)
        self.dispatch()
        self._rebalance()

    def drain_link(self, link: Link) -> None:
        """Offer nothing more; what was not begun goes elsewhere; the worker leaves when it is done."""
        if not link.ready and not link.accepting and not link.streams:
            link.send(records.pack(records.DRAIN, 0, records.NO_WORD, 0, b""))
            return
        self._rest_link(link)
        link.send(records.pack(records.DRAIN, 0, records.NO_WORD, 0, b""))
        self.dispatch()

    def _rest_link(self, link: Link) -> None:
        """Offer nothing more for now; what was not begun goes elsewhere."""
        link.accepting = False
        self.pool.retire(link)
        self.take_back(link)

    def _bye(self, link: Link) -> None:
        # Sent at once and by itself: the link ends here, and flushing the others would read on from inside this message.
        link.backplane.send_past(link.identity, records.pack(records.BYE_ACK, 0, records.NO_WORD, 0, b""))
        self._lost(link, LEFT)

    def _process_gone(self, link: Link) -> None:
        """The pidfd fired. What the worker wrote before may still be on its way to us."""
        self.core.loop.remove_reader(link.pidfd)
        # One that was to leave is ended when its time is up, whatever it runs.
        self._crashed(link)
        link.accepting = False
        self.pool.retire(link)
        self._probe(link, self.core.loop.time() + PROBE_S)

    def _probe(self, link: Link, deadline: float) -> None:
        if self.backplane.links.get(link.identity) is not link:
            return
        self.backplane.drain_all()
        if self.backplane.links.get(link.identity) is not link:
            return
        if self.core.loop.time() < deadline and self.backplane.reachable(link, _PROBE):
            self.core.loop.call_later(0.002, self._probe, link, deadline)
            return
        self.backplane.drain_all()
        self._lost(link, "the worker died")

    def broken(self, link: Link, reason: str) -> None:
        self._fault(link, reason)

    def unreachable(self, link: Link, reason: str) -> None:
        """A send failed. Its last words may be there to read."""
        link.backplane.drain_all()
        self._lost(link, reason)

    def _fault(self, link: Link, reason: str) -> None:
        """The peer broke the protocol: it is no link any more, whatever it goes on sending."""
        if self.backplane.links.get(link.identity) is not link:
            return
        self.counts.link_faults += 1
        self.core.log(
            "error",
            f"[{self.name}] {who(link)} broke the backplane protocol: {reason}",
        )
        self.core.tell({"op": "fault", "name": self.name, "reason": reason})
        link.backplane.send_past(link.identity, records.pack_refused(REFUSE_FAULT, reason[:200]))
        self._lost(link, reason, faulty=True)

    def _lost(self, link: Link, reason: str, faulty: bool = False) -> None:
        """A link ends: what had not begun is queued again, what had is answered for. ``faulty``: it is not believed."""
        if self.backplane.links.pop(link.identity, None) is None:
            return
        if link.pidfd >= 0 and process_gone(link.pidfd):
            self._crashed(link)
        # What one runs that was told to leave, or is ended for what it runs, has had its time.
        again = link.crashed or (link.accepting and link.identity not in self.condemned)
        self.condemned.pop(link.identity, None)
        link.accepting = False
        if link.far:
            if self.far is not None:
                self.far.leave(link, reason)
        else:
            self.pool.leave(link)
        self.balancer.left(link)
        ring = link.ring
        link.close()
        if ring is not None and not faulty:
            self._read_out(link, ring)
        failed: list[Exchange] = []
        unsent = link.never_sent() if link.far else ()
        for exchange in list(link.streams.values()):
            if exchange.stream in unsent and exchange.state == states.OFFERED:
                self._unlink(exchange, link)
                exchange.step(states.REVOKE)
                exchange.take_back()
                self._requeue(exchange)
                continue
            if exchange.state == states.OFFERED and self._revoke(exchange, link):
                self.balancer.retried[UNBEGUN] += 1
                self._requeue(exchange)
                continue
            abandoned = exchange.state == states.ABANDONED
            self._unlink(exchange, link)
            if again and not abandoned and not self.closed and self.balancer.again(exchange):
                continue
            exchange.step(states.LOST)
            if not abandoned:
                failed.append(exchange)
        if link.ready and not link.far:
            self.core.tell(self._link_event(link, up=False))
        for exchange in failed:
            self._fail(exchange, 502, f"{who(link)} {'had it' if link.far else 'had begun it'}: {reason}")
            self._failed_for(link)
        answered, fell = self._totals.get(link.generation, (0, 0))
        self._totals[link.generation] = (answered + link.answered, fell + link.failed)
        self.forget_generation_if_empty(link.generation)
        if self.short:
            self.sharing.count_short()
        if not self.closed:
            self.dispatch()

    def _read_out(self, link: Link, ring: Reader) -> None:
        """What a worker that is gone has finished, and we had not come to."""
        try:
            record = records.Cursor(ring.take())
            while record.next():
                exchange = link.streams.get(record.stream)
                if exchange is not None and record.type == records.RESPONSE:
                    self.counts.recovered += 1
                    self._response(link, exchange, record, bool(record.flags & records.FIN))
        except (RecordError, IllegalTransition) as error:
            self.core.log(
                "error", f"[{self.name}] what worker {link.seat} (pid {link.pid}) left in its ring: {error}"
            )

    def _link_event(self, link: Link, *, up: bool) -> dict[str, Any]:
        return {
            "op": "link",
            "name": self.name,
            "generation": link.generation,
            "seat": link.seat,
            "pid": link.pid,
            "up": up,
        }

    def flooded(self, count: int) -> None:
        """Close the backplane for a while: the flood is its vassal's own, and so is the silence."""
        self._floods += 1
        pause_s = min(30.0, 0.5 * 2.0 ** min(self._floods, 6))
        reason = f"{count} unasked-for messages in a second; its backplane is closed for {pause_s:g} s"
        self.core.log("error", f"[{self.name}] {reason}")
        self.core.tell({"op": "fault", "name": self.name, "reason": reason})
        for link in list(self.backplane.links.values()):
            if not link.far:
                self._lost(link, "the backplane was flooded")
        self.backplane.shut()
        for generation in self.generations.values():
            self.core.bells.mute(generation.own_bell)
        self._reopening = self.core.loop.call_later(pause_s, self._reopen)

    def _reopen(self) -> None:
        for generation in self.generations.values():
            self.core.bells.listen(generation.own_bell)
        self.backplane.open()

    # Deadlines and answers in a worker's place

    def sweep(self, now: float) -> None:
        """Answer what has waited too long: in the queue, on a deck, before a worker that does not wake up, in the app."""
        if self._untold:
            self._untold = [message for message in self._untold if not self.core.tell(message)]
        if self.wary:
            self._be_wary(now)
        if self.forwarding is not None:
            self.forwarding.sweep(now)
        if self.limited:
            self.balancer.limits.go_on(now)
        if self.short:
            self.sharing.say()
        if self.careful or self.queue or self.balancer.watches:
            self.balancer.sweep(now)
        if not self.balancer.queued():
            for link in self.backplane.links.values():
                if link.streams:
                    break
            else:
                self.passed_over = not (
                    self._untold
                    or self.wary
                    or self.forwarding is not None
                    or self.careful
                    or self.balancer.watches
                )
                return  # as most of a thousand apps
        for queue in self.balancer.queues():
            for exchange in queue.overdue(now):
                self._answer_late(exchange, now, "in the queue")
        for link in list(self.backplane.links.values()):
            for exchange in list(link.streams.values()):
                self._look_at_waiting(exchange, link, now)
            if self.limits_runs and link.streams and link.board is not None:
                self._look_at_running(link)
        if self.decked:
            self._relieve()
        if self.short and self.balancer.queued():
            self.sharing.demand()
        # A worker frees the word of a revoked request without a word to us: somebody may have room by now.
        self.dispatch()

    def _look_at_waiting(self, exchange: Exchange, link: Link, now: float) -> None:
        if exchange.state not in (states.OFFERED, states.BEGUN):
            return
        unanswered = exchange.unanswered(now)
        overdue = exchange.state == states.OFFERED and (unanswered or exchange.queue_deadline <= now)
        if overdue and self._revoke(exchange, link):
            self._answer_late(exchange, now, "on deck")
        elif unanswered:
            self._abandon(exchange, link)
            self.counts.hits["request-timeout"] += 1
            self._fail(
                exchange,
                504,
                f"{who(link)} has begun it, and no answer came in time, "
                f"{now - exchange.arrived:.1f} s after it arrived (request-timeout)",
            )
            self._failed_for(link)

    def _failed_for(self, link: Link) -> None:
        """A request that it had begun was answered 5xx in its place."""
        link.answered += 1
        link.failed += 1
        if link.far and self.far is not None:
            self.far.failed(link)

    def counted(self) -> dict[str, dict[str, int]]:
        """How many requests each generation has answered, and how many of them with 5xx."""
        totals = {number: self._totals.get(number, (0, 0)) for number in self.generations}
        for link in self.backplane.links.values():
            if link.generation in totals:
                answered, failed = totals[link.generation]
                totals[link.generation] = (answered + link.answered, failed + link.failed)
        return {
            str(number): {"answered": answered, "failed": failed}
            for number, (answered, failed) in sorted(totals.items())
        }

    # Workers that are held too long, and requests that end them

    def _look_at_running(self, link: Link) -> None:
        """Answer in the app's place what has run for too long, and have its worker ended once the others are done."""
        board = link.board
        assert board is not None
        slots = [board.slot(link.seat, slot) for slot in range(board.slots)]
        late = overdue(slots, link.streams, self.harakiri, now_ns(), link.grace_s)
        if not late:
            return
        known = self.condemned.get(link.identity)
        if known is None:
            known = self.condemned[link.identity] = set()
            self.drain_link(link)
        for each in late:
            if each.exchange.stream not in known:
                known.add(each.exchange.stream)
                self._overran(link, each)

    def _overran(self, link: Link, late: Overdue) -> None:
        exchange = late.exchange
        message = {
            "op": "harakiri",
            "name": self.name,
            "generation": link.generation,
            "seat": link.seat,
            "pid": link.pid,
            "stream": exchange.stream,
            "request": told(exchange),
            "ran_ms": round(late.ran_s * 1000),
            "limit_ms": round(late.limit_s * 1000),
            "variables": variables_of(exchange) if self.entry.deadlines.verbose else [],
        }
        if not self.core.tell(message):
            self._untold = [*self._untold, message][-UNTOLD_LIMIT:]
        self.counts.hits["harakiri"] += 1
        self._blame([exchange], f"ran for {late.ran_s:.1f} s")
        if exchange.state != states.ABANDONED:
            self._abandon(exchange, link)
            self._fail(
                exchange,
                504,
                f"worker {link.seat} (pid {link.pid}) has run it for {late.ran_s:.1f} s (harakiri = {late.limit_s:g} s), "
                "and is ended once its other requests are done",
            )

    def _crashed(self, link: Link) -> None:
        """Its process is gone, and was not to go: what was under way may be why."""
        if not link.accepting or link.identity in self.condemned:
            return
        link.crashed = True
        running = []
        if link.board is not None:
            slots = [link.board.slot(link.seat, slot) for slot in range(link.board.slots)]
            running = [
                exchange
                for stream, _ in slots
                # One that is open has done nothing now that the others had not.
                if (exchange := link.streams.get(stream)) is not None and not exchange.tunnel
            ]
        self._blame(running, "was under way when it died")

    def _blame(self, exchanges: list[Exchange], what: str) -> None:
        poison = self.poison
        assert poison is not None
        if exchanges:
            found = poison.died(self.core.loop.time(), [exchange.head for exchange in exchanges])
            self._convicted(found, what, exchanges)

    def _convicted(self, found: list[str], what: str, exchanges: list[Exchange]) -> None:
        poison = self.poison
        assert poison is not None
        self.wary = poison.watching
        for who in found:
            same = (each for each in exchanges if fingerprint(each.head) == who)
            named = next((f": {told(each)}" for each in same), "")
            text = (
                f"poison {who}{named} {what}, as it had before: its like are answered 500 for {poison.banned_s(who):g} s "
                f"(poison-deaths = {poison.deaths})"
            )
            self.core.log("error", f"[{self.name}] {text}")
            self.core.tell({"op": "poison", "name": self.name, "text": text})

    def _refuses(self, exchange: Exchange) -> bool:
        """It is poison, and was answered for."""
        poison = self.poison
        assert poison is not None
        who = poison.refuses(exchange.head, self.core.loop.time())
        if who:
            self.counts.hits["poison-deaths"] += 1
            self._answer(
                exchange, 500, f"it has ended workers before: poison {who} (poison-deaths)", "poison"
            )
        return bool(who)

    def _survived(self, exchange: Exchange) -> None:
        poison = self.poison
        assert poison is not None
        found = poison.survived(exchange.head, self.core.loop.time())
        self._convicted(found, "was under way when workers died", [])

    def _be_wary(self, now: float) -> None:
        poison = self.poison
        assert poison is not None
        poison.tidy(now)
        self.wary = poison.watching

    def _answer_late(self, exchange: Exchange, now: float, where: str) -> None:
        late = exchange.unanswered(now)
        status, option = (504, "request-timeout") if late else (503, "queue-timeout")
        cause = "" if late else pages.QUEUE_TIMEOUT
        self.counts.hits[option] += 1
        exchange.retry_s = self.balancer.retry_after_s()
        self._answer(exchange, status, f"it waited {now - exchange.arrived:.1f} s {where} ({option})", cause)

    def refused(self, status: int, limit: str) -> None:
        """A connection has answered of its own; for the statistics."""
        self.counts.errors[str(status)] += 1
        if limit:
            self.counts.hits[limit] += 1

    def _answer_full(self, exchange: Exchange) -> None:
        self.counts.hits["queue"] += 1
        exchange.retry_s = self.balancer.retry_after_s()
        self._answer(exchange, 503, f"the queue is full ({self.queue.limit})", pages.QUEUE_FULL)

    def _answer(self, exchange: Exchange, status: int, reason: str, cause: str = "") -> None:
        if exchange.state == states.RECEIVING:
            self.receiving.discard(exchange)
        exchange.step(states.GIVE_UP)
        self._fail(exchange, status, reason, cause)

    def _fail(self, exchange: Exchange, status: int, reason: str, cause: str = "") -> None:
        self.counts.errors[str(status)] += 1
        if cause:
            self.counts.rejected[cause] += 1
        exchange.forget_body()
        exchange.front.fail(exchange, status, reason, cause)

    def running(self) -> list[dict[str, Any]]:
        """The requests in workers' slots now, as the pages say, the oldest first."""
        now = now_ns()
        found: list[dict[str, Any]] = []
        for link in self.backplane.links.values():
            board = link.board
            for slot in range(0 if board is None else board.slots):
                stream, start = board.slot(link.seat, slot)  # type: ignore[union-attr]
                exchange = link.streams.get(stream) if stream else None
                if exchange is not None:
                    found.append(
                        {
                            "generation": link.generation,
                            "seat": link.seat,
                            "pid": link.pid,
                            "request": told(exchange),
                            "ran_ms": max(0, now - (exchange.begun_ns if exchange.tunnel else start))
                            // 1_000_000,
                            "wanted": int(exchange.state != states.ABANDONED),
                        }
                    )
        return sorted(found, key=lambda each: -each["ran_ms"])[:RUNNING_LIMIT]

    def rests(self) -> bool:
        """Nothing is under way here."""
        return not (
            len(self.queue) or self.receiving or any(link.streams for link in self.backplane.links.values())
        )

    def report(self) -> dict[str, Any]:
        """This app's part of the statistics. Integers and names only."""
        links = list(self.backplane.links.values())
        counts = self.counts
        return {
            "active": self.active,
            "available": int(self.entry.available),
            "receiving": len(self.receiving),
            "spooled": counts.spooled,
            "spool_bytes": self.core.spool.of_vassal[self.name],
            "queued": self.balancer.queued(),
            "queue_limit": self.queue.limit,
            "running": sum(min(link.in_flight, link.slots) for link in links),
            "on_deck": sum(max(0, link.waiting()) for link in links),
            "deck_depth": self.pool.depth(max((link.slots for link in links), default=1)),
            "service_us": self.pool.usual_ns // 1000,
            "requests": counts.requests,
            "responses": {f"{digit}xx": count for digit, count in enumerate(counts.answered) if count},
            "errors": dict(counts.errors),
            "rejected": dict(counts.rejected),
            "balancing": self.balancer.report(),
            "websockets": counts.websockets,
            "websockets_opened": counts.websockets_opened,
            "limits": {
                name: {"value": value, "hits": counts.hits[name], "now": now}
                for name, value, now in (
                    ("body-limit", self.body_limit, 0),
                    ("queue", self.queue.limit, len(self.queue)),
                    ("queue-timeout", round(self.queue_timeout_s * 1000), self.balancer.waited_ms()),
                    ("request-timeout", round(self.entry.request_timeout_s * 1000), 0),
                    ("harakiri", round(self.entry.deadlines.harakiri_s * 1000), 0),
                    ("poison-deaths", self.entry.deadlines.poison_deaths, 0),
                    *self.balancer.values(),
                    *(
                        (name, value, 0)
                        for name, value in (
                            () if self.forwarding is None else self.forwarding.limits().items()
                        )
                    ),
                )
            },
            "forwarded": 0 if self.forwarding is None else len(self.forwarding.attempts),
            "upstreams": [] if self.forwarding is None else self.forwarding.report(),
            "upstream_retries": {} if self.forwarding is None else self.forwarding.tries(),
            "upstream_retries_left": 0 if self.forwarding is None else self.forwarding.retries_left(),
            "poison": self.poison.report(self.core.loop.time()),  # type: ignore[union-attr]
            "requeued": counts.requeued,
            "recovered": counts.recovered,
            "revoked": counts.revoked,
            "cancelled": counts.cancelled,
            "stale_records": counts.stale_records,
            "refused_hellos": counts.refused_hellos,
            "link_faults": counts.link_faults,
            "unasked_messages": self.backplane.unasked_total,
            "floods": self.backplane.remade,
            "mirrors": [] if self.mirrors is None else [self.mirrors.report()],
            "log_lines": self._logged[0] + (0 if self.access is None else self.access.lines),
            "log_dropped": self._logged[1] + (0 if self.access is None else self.access.lost),
            "links": [
                {
                    "seat": link.seat,
                    "generation": link.generation,
                    "pid": link.pid,
                    "ready": int(link.ready),
                    "accepting": int(link.accepting),
                    "slots": link.slots,
                    "offered": link.own(),
                    "fresh": int(link.fresh),
                    "aside": int(link.aside),
                    "free": max(0, link.slots - link.in_flight),
                    "deck": max(0, link.waiting()),
                    "requests": link.requests,
                    "bell": int(link.is_rung()),
                    **link.whereabouts(),
                }
                for link in sorted(links, key=lambda link: (link.generation, link.seat))
            ],
        }


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
