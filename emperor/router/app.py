"""One vassal as the router sees it: its queue, its pool of links, and every rule of section 3 of the architecture that
joins them. It decides with the pure modules and acts through its links and fronts.

What happens to a request is told by the table in ``states``; who may speak on the backplane by ``comings``.
"""

import asyncio
import os
import random
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from emperor.config.accesslog import STDOUT, AccessLog
from emperor.config.deadlines import ByPath
from emperor.control.messages import RouterEntry
from emperor.protocol import chute, packet, records, scoreboard
from emperor.protocol.errors import BoardError, RecordError, ResponseError
from emperor.protocol.records import NAMES
from emperor.protocol.scoreboard import Board, monotonic_s, now_ns
from emperor.router import pages, states
from emperor.router.abroad import Abroad
from emperor.router.access import Access, Writer, let_go, note_of
from emperor.router.balancer import Balancer
from emperor.router.bells import Bells
from emperor.router.chutes import LIFTED, PATIENCE_S
from emperor.router.comings import REFUSE_VASSAL, STREAM_CREDIT, Comings
from emperor.router.culprits import Culprits
from emperor.router.exchange import Exchange, Streams
from emperor.router.forwarding import Forwarding
from emperor.router.link import Backplane, Link, Receiver, who
from emperor.router.mirror import Mirror
from emperor.router.names import Names
from emperor.router.pool import Pool
from emperor.router.queue import Queue
from emperor.router.repeats import Repeats
from emperor.router.retries import RETURNED
from emperor.router.routes import Routes, mounts_of
from emperor.router.sharing import Sharing
from emperor.router.spool import Body, Refused, Spool
from emperor.router.states import IllegalTransition

CREDIT_LIMIT: Final = 1 << 30
"""More credit than this outstanding on a stream is an overflow, not a wish."""

RECORDS_LIMIT: Final = 1024
"""The most records of one message of a worker: what it costs to look at them is paid by everybody's clients."""

INTERIM_LIMIT: Final = 16
"""The most interim responses to one request: they cost no credit, and are no body."""

CREDIT_LEAST: Final = 1024
"""A worker may give smaller CREDIT once for each DATA it got; what is more counts as unasked for."""

KINDS: Final = 32
"""Of what an app is to blame for, lines that are told apart in one second: there may be a thousand apps."""

RELIEF_NS: Final = 1_000_000
"""So often at most decks are looked at for what waits behind a long request."""


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


class App(Receiver):
    """Queue, pool and backplane of one vassal."""

    def __init__(self, core: Core, entry: RouterEntry, make_backplane: Callable[["App"], Backplane]) -> None:
        self.core = core
        self.streams = core.streams
        self.name = entry.name
        self.access: Access | None = None
        self.forwarding: Forwarding | None = None
        self._log_opening: int | None = None
        self.logged = (0, 0)  # lines, and lost ones, of access logs before this one
        self.queue = Queue(entry.queue)
        self.pool = Pool()
        self.careful = False  # placing and dispatching are the balancer's, for now
        self.limited = False  # so is letting in
        self.retries = False  # a request that a lost worker had begun may be run again
        self.sticks = False  # clients are told which worker is theirs
        self.shared: Routes | None = None  # clients are told which of those that share a domain is theirs
        self.mirrors: Mirror | None = None  # another vassal gets copies
        self.balancer = Balancer(self)
        self.wary = False  # requests are looked at: they may end workers
        self.culprits = Culprits(self)
        self.comings = Comings(self)
        self._note(entry)
        self.generations: dict[int, Generation] = {}
        self.receiving: set[Exchange] = set()
        self.gone: set[int] = set()  # retired and forgotten: their late workers are told so
        self.active = 0
        self.kept: frozenset[int] = frozenset()  # these rest, and may be active again
        self.beside: frozenset[int] = frozenset()  # these serve as well
        self.totals: dict[int, tuple[int, int]] = {}  # of links that have ended, by generation
        self.counts = Counts()
        self.decked = 0  # at least how many wait on decks; 0 means: nobody does
        self.backplane = make_backplane(self)
        self._repeats = Repeats(KINDS)
        self._look_again: asyncio.TimerHandle | None = None
        self._relief_due_ns = 0
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
        if self.far is not None:
            self.far.call_back()

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
        self.culprits.use(entry.deadlines.poison_deaths)
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
            lines, lost = self.logged
            self.logged = (lines + old.lines, lost + old.lost)
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
            for link in self.links_of(generation.number):
                self.comings.lost(link, "its page was replaced")
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
        if number != self.active:
            self.culprits.poison.pardon()
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
                if link.ready and not link.accepting and link.identity not in self.culprits.condemned:
                    link.accepting = True
                    self.pool.became_idle(link)
            elif link.generation in self.kept:
                self.comings.rest(link)
            else:
                self.comings.drain(link)
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
        for link in self.links_of(number):
            self.comings.drain(link)
        self.forget_generation_if_empty(number)
        self.refuse_in_vain()

    def forget_generation_if_empty(self, number: int) -> None:
        """Unmap the page of a retired generation once its last link is gone."""
        generation = self.generations.get(number)
        if generation is not None and generation.retired and not self.links_of(number):
            self.gone.add(number)
            del self.generations[number]
            self.totals.pop(number, None)
            self._close_page(generation)

    def close(self) -> None:
        """The vassal has gone."""
        self.closed = True
        for link in list(self.backplane.links.values()):
            if link.far:
                refused = records.pack_refused(REFUSE_VASSAL, "the vassal has gone")
                link.backplane.send_past(link.identity, refused)
            self.comings.lost(link, "the vassal has gone")
        self._refuse_waiting("the vassal has gone")
        self.comings.close()
        if self._look_again is not None:
            self._look_again.cancel()
        if self.forwarding is not None:
            self.forwarding.close()
        self.sharing.say()
        self._log_by(None)
        self.backplane.close()
        for generation in self.generations.values():
            self._close_page(generation)
        self.generations.clear()
        for level, text in self._repeats.rest():
            self.core.log(level, text)

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

    def links_of(self, number: int) -> list[Link]:
        """Its workers'."""
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
        if self.wary and self.culprits.refuses(exchange):
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
                if self.far is not None:
                    return self.far.member(exchange)  # type: ignore[no-any-return]
                if self.short:
                    return None  # a queue asks other routers for their slots
                member = pool.stuck_member(now_ns())
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
            self.comings.fault(link, str(error))
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
                    self.comings.fault, link, f"word {word} of its page is not free, though we use it"
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
                if link.far and not exchange.retried:
                    flags |= records.AGAIN
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
                self.comings.fault, link, f"word {exchange.word} of its page holds what nobody wrote"
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
        if self.refuses:
            self._answer(exchange, 503, "it is paused", pages.PAUSED)
            return
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
        for member in self.pool.stuck_members(now, self.short):
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
            self.comings.fault(link, str(error))
        except Exception as error:
            self._stumbled(link, error)
        return count or 1

    def _stumbled(self, link: Link, error: Exception) -> None:
        # Ours to mend; until then it costs the link that set it off, and nobody else.
        self.say("stumbled", "error", "".join(traceback.format_exception(error)))
        self.comings.fault(link, f"the router stumbled over it: {error!r}")

    def _record(self, link: Link, record: records.Cursor) -> None:
        kind = record.type
        if not link.ready:
            if kind == records.READY:
                self.comings.ready(link, record.payload(), record.flags, record.word)
            elif kind == records.BYE:
                self.comings.bye(link)
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
            self.comings.bye(link)
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
        self.say(what, "error", f"{who(link)} sent {what} that no client may see: {error}")

    def say(self, kind: str, level: str, text: str) -> None:
        """A line for the log about what can be repeated: of each kind one a second. What a worker says may be in ``kind``."""
        text = f"[{self.name}] {text}"
        self.passed_over = False
        if self._repeats.may(kind, level, text, self.core.loop.time()):
            self.core.log(level, text)

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
            self.culprits.survived(exchange)
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

    # Links come and go

    def stranger(self, identity: bytes, message: bytes, peer: tuple[int, int] | None) -> None:
        self.comings.stranger(identity, message, peer)

    def broken(self, link: Link, reason: str) -> None:
        self.comings.fault(link, reason)

    def unreachable(self, link: Link, reason: str) -> None:
        self.comings.unreachable(link, reason)

    def flooded(self, count: int) -> None:
        self.comings.flooded(count)

    # Deadlines and answers in a worker's place

    def sweep(self, now: float) -> None:
        """Answer what has waited too long: in the queue, on a deck, before a worker that does not wake up, in the app."""
        if self.culprits.untold:
            self.culprits.tell()
        if self._repeats.waiting:
            for level, text in self._repeats.due(now):
                self.core.log(level, text)
        if self.wary:
            self.culprits.look_again(now)
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
                    self.culprits.untold
                    or self._repeats.waiting
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
                self.culprits.look_at(link)
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
        totals = {number: self.totals.get(number, (0, 0)) for number in self.generations}
        for link in self.backplane.links.values():
            if link.generation in totals:
                answered, failed = totals[link.generation]
                totals[link.generation] = (answered + link.answered, failed + link.failed)
        return {
            str(number): {"answered": answered, "failed": failed}
            for number, (answered, failed) in sorted(totals.items())
        }

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

    def rests(self) -> bool:
        """Nothing is under way here."""
        return not (
            len(self.queue) or self.receiving or any(link.streams for link in self.backplane.links.values())
        )
