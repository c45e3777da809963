"""What becomes of requests that go to upstreams: chosen, brought there, streamed both ways, tried again or answered for.

An app hands a request over once it may begin (``App._place``), and this is its place from then on: what its connection says
comes here. One try is an `Attempt`, whose phases are a table; what it looks like on the wire is the links' (``upstream_uwsgi``,
``upstream_http``). The rules:

* What was never sent goes to another upstream, whatever it is; when there is none left, the client gets the maintenance page.
* While all that are in service have as many connections as they may have, it waits in the app's queue, by the app's rules.
* What was sent and got no byte back is sent once more if its method is idempotent and all of it is in hand (RFC 9110, 9.2.2),
  where `retries` is on and as far as the budget allows (`retries.Budget`, the workers' rule). What went by a kept connection
  that its server closed meanwhile costs nothing of it: nobody has run that.
* What would go out again while the app is paused and refuses is refused, too.
* What has begun to be answered and cannot be finished is aborted, and never ended as if it were whole.
* A client that has gone takes its upstream's connection along.
"""

import asyncio
import random
import ssl
import traceback
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from emperor.config.upstreams import NONE, UWSGI, Address
from emperor.config.upstreams import Upstreams as Said
from emperor.protocol import packet, records
from emperor.protocol.errors import ResponseError
from emperor.protocol.replies import End, Head, Interim, Trailers
from emperor.router import overdue, pages, policies, retries, shares, states
from emperor.router.attempts import DEADLINES, NO_BYTE, UNSENT, Attempt, Event, Phase
from emperor.router.checks import Checks
from emperor.router.exchange import Exchange
from emperor.router.health import Outcome, State
from emperor.router.probes import Probes
from emperor.router.queue import Queue
from emperor.router.upstream_http import HttpLink
from emperor.router.upstream_link import MOST_PASSES, OUR_OWN, UpstreamLink, connect, passes
from emperor.router.upstream_tls import Tls
from emperor.router.upstream_uwsgi import UwsgiLink
from emperor.router.upstreams import Upstream, Upstreams

if TYPE_CHECKING:
    from emperor.router.app import App

WINDOW: Final = 64 * 1024
"""Bytes of a response that its client has not taken, from which on the upstream is not read: what a read brings more, and what
`response-buffer` allows, comes on top."""

KEPT_S: Final = 30.0
"""How long an idle connection is kept."""

KEPT_FOR_ALL_S: Final = 1.0
"""A server closes what is idle for seconds, and what it gets at that moment is lost. What must not be sent twice goes by a
connection that was used just now, or by a new one: and by a new one where none has served twice, since a server may close each
behind its answer without a word (uWSGI's ``http-socket`` does)."""

HALF_CLOSED_S: Final = 10.0
"""How long an upstream may be silent in a WebSocket whose client has ended its side."""

MOST_SHOWN: Final = 1000
"""Requests of one vassal that `emperor trace` is told of."""

AS_GOOD_AS_NONE: Final = frozenset({502, 503, 504})
"""What an upstream answers that is one without its backends: counts as a failure of it, and is passed on all the same."""

REPEATED: Final = "repeated"
STALE: Final = "stale"
UNSENT_BEFORE: Final = "unsent"
WAITED: Final = "waited"
NOBODY: Final = "nobody"
NOBODY_ELSE: Final = "nobody_else"
OFF: Final = "off"

CAUSES: Final = (
    UNSENT_BEFORE,
    REPEATED,
    STALE,
    NOBODY,
    WAITED,
    OFF,
    NOBODY_ELSE,
    *retries.CAUSES[retries.CAUSES.index(retries.NO_SECOND) :],
)
"""What is counted of second tries: those that were made, and why others were not."""


class Forwarding:
    """An app's requests at upstreams. A `Place` of exchanges, an `Owner` of links and of bodies on disk."""

    def __init__(self, app: "App") -> None:
        self.app = app
        self.name = app.name
        self.core = app.core
        self.loop = app.core.loop
        self.via = b"1.1 emperor-%08x" % app.core.epoch
        self.said: Said = NONE
        self.upstreams = Upstreams(self.loop.time, random.random)
        self.upstreams.policy = app.balancer.options.balance
        self.attempts: set[Attempt] = set()
        self.counts: Counter[str] = Counter()
        self.budget = retries.Budget(self.loop.time())
        self._idle: dict[Upstream, list[UpstreamLink]] = {}
        self._goes_on = False  # those that wait are about to be looked at
        self.tls = Tls()
        self._checks = Checks(self.loop, self._checked, self.place_of, self.tls)
        self._probes = Probes(self.loop, self._tried, self.place_of, self.tls)

    # What the app says

    def use(self, said: Said, host: str) -> None:
        """Have these upstreams, and those that others have added. ``host`` is what health checks ask for."""
        self.said = said
        self._checks.host = host
        self.upstreams.replace(said.upstreams)
        self.upstreams.policy = self.app.balancer.options.balance
        others = self.tls.use(said)
        for upstream in [each for each in self._idle if each.removed or (others and each.address.tls)]:
            self._close_idle(upstream)

    def take(self, exchange: Exchange) -> None:
        """Bring a request that may begin to an upstream."""
        if exchange.head.content_length < 0 and exchange.body_done:
            packet.tell_length(exchange.head, exchange.buffered + exchange.rest)
        if exchange.head.content_length < 0 and self._needs_length():
            if exchange.body_done:
                self.app._answer(exchange, 431, "its length does not fit into a uwsgi packet any more")
            else:
                self.app._receive(exchange)  # it comes back when it is whole
            return
        if passes(exchange.head, self.via) >= MOST_PASSES:
            self.app._answer(
                exchange, 508, f"it has come from its own upstreams {MOST_PASSES} times: they lead back here"
            )
            return
        exchange.app = self
        if exchange.spooled is not None:
            exchange.spooled.hand_to(self)
        self._try(exchange, frozenset(), 0)

    def has_room(self) -> bool:
        """A request need not wait in the app's queue."""
        return self.upstreams.has_room()

    def take_waiting(self, queue: Queue) -> None:
        """Those that wait, as far as there is room."""
        while len(queue) and self.upstreams.has_room():
            waiting = queue.take()
            assert waiting is not None
            self.take(waiting)

    def _go_on(self) -> None:
        """A connection is free; soon, since whoever says so is in the middle of something."""
        if len(self.app.queue) and not self._goes_on:
            self._goes_on = True
            self.loop.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._goes_on = False
        self.app.dispatch()

    async def place_of(self, upstream: Upstream) -> Address:
        """Where to connect to, by its numbers. Raises OSError."""
        address = upstream.address
        if not upstream.named:
            return address
        ip = upstream.ip
        if not ip:
            ip = (await self.core.names.first(address.host, self.name))[0]
            self._resolve()
        return replace(address, host=ip)

    def _resolve(self) -> None:
        """Have the addresses that names lead to by now."""
        for address in {each.address for each in self.upstreams if each.named}:
            ips = self.core.names.known(address.host, self.name)
            before = {each for each in self.upstreams if each.address == address}
            if not self.upstreams.resolved(str(address), ips):
                continue
            for gone in before - set(self.upstreams):
                self._close_idle(gone)
            text = f"upstream {address} leads to {', '.join(ips)}"
            self.core.log("info", f"[{self.name}] {text}")
            self._go_on()

    def _needs_length(self) -> bool:
        """A uwsgi packet says how long the body is that follows it."""
        return bool(self._of_uwsgi())

    def _of_uwsgi(self) -> frozenset[Upstream]:
        return frozenset(each for each in self.upstreams if each.address.protocol == UWSGI)

    def sweep(self, now: float) -> None:
        """Deadlines, health checks, names, and who comes back: a few times a second."""
        self._resolve()
        for upstream in self.upstreams.look():
            if upstream.health.state is State.WARMING:
                self._say("info", upstream, "is tried again, slowly at first")
        self._checks.look(now, list(self.upstreams), self.said)
        self._probes.look(now, list(self.upstreams), self.said)
        for attempt in list(self.attempts):
            self._look(attempt, now)
        for upstream, links in list(self._idle.items()):
            most = self.said.keepalive
            for link in [each for each in links if now - each.idle_since > KEPT_S] or links[
                : max(0, len(links) - most)
            ]:
                self._forget_idle(link)
                link.close()
            if not links:
                del self._idle[upstream]
        if len(self.app.queue) and self.app.forwards:
            self.app.dispatch()

    def close(self) -> None:
        """The app has gone: what is under way is answered for."""
        for attempt in list(self.attempts):
            self._fail(attempt, 503, "the vassal has gone", Outcome.UNKNOWN, pages.GONE)
        for upstream in list(self._idle):
            self._close_idle(upstream)
        self._checks.close()
        self._probes.close()

    def report(self) -> list[dict[str, Any]]:
        """For the statistics."""
        for upstream in self.upstreams:
            upstream.connections = len(self._idle.get(upstream, ()))
        return self.upstreams.report()

    def running(self) -> list[dict[str, Any]]:
        """Where a request goes now: the upstreams, each with the requests that are there, the oldest first."""
        now = self.loop.time()
        at: dict[Upstream, list[Attempt]] = {}
        for attempt in sorted(self.attempts, key=lambda each: each.exchange.arrived)[:MOST_SHOWN]:
            at.setdefault(attempt.upstream, []).append(attempt)
        return [
            {
                **said,
                "now": [
                    {
                        "request": overdue.told(attempt.exchange),
                        "phase": attempt.phase.name.lower(),
                        "arrived_ms": max(0, round((now - attempt.exchange.arrived) * 1000)),
                    }
                    for attempt in at.get(upstream, ())
                ],
            }
            for upstream, said in zip(self.upstreams, self.upstreams.report(), strict=True)
        ]

    def tries(self) -> dict[str, int]:
        """For the statistics: second tries, by what became of them."""
        return {cause: self.counts[cause] for cause in CAUSES}

    def retries_left(self) -> int:
        """How many requests may be sent a second time now."""
        return int(self.budget.left(self.loop.time(), self.app.counts.requests))

    def limits(self) -> dict[str, int]:
        """Its deadlines, in milliseconds."""
        said = self.said
        return {
            "upstream-connect-timeout": round(said.connect_s * 1000),
            "upstream-first-byte-timeout": round(said.first_byte_s * 1000),
            "upstream-idle-timeout": round(said.idle_s * 1000),
            "upstream-total-timeout": round(said.total_s * 1000),
            "upstream-tunnel-timeout": round(said.tunnel_s * 1000),
        }

    # Trying

    def _try(self, exchange: Exchange, tried: frozenset[Upstream], times: int) -> None:
        # One may have come since the request was taken.
        unfit: frozenset[Upstream] = self._of_uwsgi() if exchange.head.content_length < 0 else frozenset()
        upstream = self._choose(exchange, tried | unfit)
        if upstream is None:
            if tried and not unfit and self.upstreams.busy(tried):
                self._wait_again(exchange)
            else:
                self._nobody(exchange, tried)
            return
        self._bring(exchange, upstream, tried, times, fresh=times > 0)

    def _choose(self, exchange: Exchange, apart: frozenset[Upstream]) -> Upstream | None:
        balancer = self.app.balancer
        options = balancer.options
        key = balancer.key(exchange) if options.balance == policies.HASH else b""
        wish = None
        if options.sticky and (said := balancer.said(exchange)):
            wish = next((each for each in self.upstreams if self._token(each) == said), None)
        return self.upstreams.choose(apart, key, wish)

    def _token(self, upstream: Upstream) -> str:
        return policies.token(self.name, str(upstream))

    def _wait_again(self, exchange: Exchange) -> None:
        """Those that are left have no room: it waits as long as it would have, and not for its next turn at once."""
        exchange.app = self.app
        if exchange.spooled is not None:
            exchange.spooled.hand_to(self.app)
        self.counts[WAITED] += 1
        self.app.queue.put_back(exchange)

    def _bring(
        self, exchange: Exchange, upstream: Upstream, tried: frozenset[Upstream], times: int, *, fresh: bool
    ) -> None:
        attempt = Attempt(exchange, upstream, tried, times)
        exchange.step(states.Event.OFFER)
        exchange.link = attempt
        exchange.worker = upstream
        exchange.window = WINDOW
        exchange.owed = 0
        self.attempts.add(attempt)
        self.upstreams.began(upstream)
        link = None if fresh or exchange.head.websocket else self._take_idle(exchange, upstream)
        if link is not None:
            attempt.reused = True
            self._connected(attempt, link)
            return
        idle = self._idle.get(upstream)
        if upstream.most and idle and upstream.outstanding + len(idle) > upstream.most:
            idle.pop(0).close()
        attempt.due = self.loop.time() + self.said.connect_s
        attempt.task = self.loop.create_task(self._connect(attempt))

    async def _connect(self, attempt: Attempt) -> None:
        upstream = attempt.upstream
        link: UpstreamLink
        if upstream.address.protocol != UWSGI:
            link = HttpLink(self, upstream)
            link.closes = not self.said.keepalive
        else:
            link = UwsgiLink(self, upstream)
        try:
            tls = await self.tls.keys(upstream.address)
            await connect(self.loop, await self.place_of(upstream), link, tls)
        except asyncio.CancelledError:
            link.close()
            raise
        except OSError as error:
            why = self.tls.fault(error, upstream.address)
            attempt.task = None
            if attempt.phase is not Phase.CONNECTING:
                return
            if error.errno in OUR_OWN and not isinstance(error, ssl.SSLError):
                self.say(why, "error", f"the router can make no connection: {why}")
                self._fail(
                    attempt, 503, f"no connection could be made: {why}", Outcome.UNKNOWN, pages.CONNECTIONS
                )
            else:
                if upstream.named:
                    self.core.names.hurry(upstream.address.host)
                self._lost(attempt, f"it cannot be reached: {why}")
            return
        if attempt.phase is not Phase.CONNECTING:
            link.close()
        elif link.closing:
            # While this task had not gone on yet: nobody would say so a second time.
            attempt.task = None
            self._lost(attempt, "it closed the connection at once")
        else:
            self._connected(attempt, link)

    def _connected(self, attempt: Attempt, link: UpstreamLink) -> None:
        exchange = attempt.exchange
        attempt.link = link
        attempt.task = None
        attempt.step(Event.CONNECTED)
        link.attempt = attempt
        exchange.front.begun(exchange)
        head = link.request(exchange)
        first = exchange.first()
        attempt.whole = exchange.fin_sent
        link.write(head + link.body(first) + (link.last() if exchange.fin_sent else b""))
        if exchange.fin_sent:
            self._sent(attempt)
        else:
            self._pump(attempt)

    def _sent(self, attempt: Attempt) -> None:
        exchange = attempt.exchange
        if exchange.spooled is not None and not attempt.whole:
            exchange.spooled.close()
            exchange.spooled = None
        if attempt.step(Event.SENT) is Phase.WAITING:
            attempt.due = self._in(self.said.first_byte_s)

    def _pump(self, attempt: Attempt) -> None:
        """Pass on what the client has sent, as far as the upstream takes it."""
        exchange, link = attempt.exchange, attempt.link
        while not link.full and not exchange.fin_sent:
            exchange.credit = records.BODY_LIMIT
            pieces = exchange.credited()
            if not pieces:
                break
            for piece, fin in pieces:
                if piece:
                    link.write(link.body(piece))
                    exchange.first_part = b""
                if fin and attempt.phase is Phase.TUNNEL:
                    link.write_eof()
                elif fin:
                    link.write(link.last())
                    self._sent(attempt)
        exchange.credit = 0
        if attempt.phase is Phase.TUNNEL:
            attempt.due = self._silent_until(attempt)
        elif attempt.phase is Phase.SENDING:
            attempt.due = self._in(self.said.idle_s) if link.full else 0.0
        if self.app.times_requests and attempt.phase in NO_BYTE:
            self.app._time(exchange, self.loop.time())
        exchange.front.drained(exchange)
        if exchange.rest and exchange.spooled is not None and exchange.has_room():
            exchange.spooled.pull()

    def _in(self, seconds: float) -> float:
        return self.loop.time() + seconds if seconds else 0.0

    def _silent_until(self, attempt: Attempt) -> float:
        """When a WebSocket has passed no byte for too long. A client that has ended its side has most likely gone."""
        limit_s = self.said.tunnel_s
        if attempt.exchange.fin_sent:
            limit_s = min(limit_s or HALF_CLOSED_S, HALF_CLOSED_S)
        return self._in(limit_s)

    # What upstreams say (upstream_link.Owner)

    def came(self, attempt: Attempt, data: bytes) -> None:
        link = attempt.link
        try:
            if attempt.phase is Phase.TUNNEL:
                attempt.due = self._silent_until(attempt)
                self._more(attempt, data, False)
                return
            link.replies.feed(data)
            self._read(attempt)
        except ResponseError as error:
            self._spoiled(attempt, error)
        except Exception as error:
            # Ours to mend; until then it costs the request that set it off, and nobody else.
            self.core.log("error", f"[{self.name}] {''.join(traceback.format_exception(error))}")
            if attempt.phase is not Phase.OVER:
                self._fail(attempt, 502, f"the router stumbled over it: {error!r}", Outcome.UNKNOWN)
        if attempt.phase is Phase.ANSWERING:
            attempt.due = self._in(self.said.idle_s) if link.reading else 0.0

    def ended(self, attempt: Attempt) -> None:
        link = attempt.link
        try:
            whole = link.replies.ended()
        except ResponseError as error:
            self._lost(attempt, str(error))
            return
        if whole:
            self._finish(attempt, b"", None)

    def broke(self, attempt: Attempt, error: Exception) -> None:
        self._lost(attempt, f"the connection broke: {self.tls.fault(error, attempt.upstream.address)}")

    def takes_more(self, attempt: Attempt) -> None:
        self._pump(attempt)

    def idled_out(self, link: UpstreamLink) -> None:
        if self._forget_idle(link) and self.loop.time() - link.idle_since <= KEPT_FOR_ALL_S:
            link.upstream.keeps = False
        link.close()

    def _read(self, attempt: Attempt) -> None:
        """All that has come. Raises ResponseError."""
        exchange, replies = attempt.exchange, attempt.link.replies
        head: Head | None = None
        trailers: bytes | None = None
        pieces: list[bytes] = []
        while (event := replies.next()) is not None:
            if isinstance(event, bytes):
                pieces.append(event)
            elif isinstance(event, Head):
                head = event
                if event.status == 101:
                    break
            elif isinstance(event, Interim):
                exchange.interims += 1
                exchange.front.interim(exchange, event.lines)
            elif isinstance(event, Trailers):
                trailers = event.fields
            else:
                assert isinstance(event, End)
                body = b"".join(pieces)
                if head is not None and trailers is None:
                    self._respond(attempt, head, body, True)
                    return
                if head is not None:
                    self._respond(attempt, head, body, False)
                    body = b""
                if attempt.phase is Phase.ANSWERING:
                    self._finish(attempt, body, trailers)
                return
        body = b"".join(pieces) if len(pieces) != 1 else pieces[0]
        if head is None:
            if body:
                self._more(attempt, body, False)
        elif head.status == 101:
            self._switch(attempt, head)
        else:
            self._respond(attempt, head, body, False)

    def _respond(self, attempt: Attempt, head: Head, body: bytes, fin: bool) -> None:
        exchange = attempt.exchange
        attempt.step(Event.HEAD)
        exchange.step(states.Event.HEAD)
        attempt.upstream.keeps = attempt.upstream.keeps or attempt.reused
        exchange.window -= len(body)
        failed = head.status in AS_GOOD_AS_NONE
        outcome = Outcome.FAILED if failed else Outcome.ERROR if head.status >= 500 else Outcome.ANSWERED
        # What it cannot write is a fault of the upstream's, so this comes first.
        lines = head.lines
        if self.app.shared is not None:
            lines = shares.told(self.app.shared, exchange.head, self.app, lines)
        if self.app.balancer.options.sticky:
            lines += self.app.balancer.cookie_for(exchange, self._token(attempt.upstream))
        exchange.front.respond(exchange, lines, body, fin)
        self.app.counts.answered[head.status // 100] += 1
        if attempt.phase is not Phase.ANSWERING:
            return  # the connection has ended over it
        if fin:
            self._over(attempt, outcome, f"it answered {head.status}", states.Event.FINISH)
            return
        attempt.outcome = outcome
        self._hold_back(attempt)

    def _switch(self, attempt: Attempt, head: Head) -> None:
        """It takes the WebSocket that the client has asked for."""
        exchange = attempt.exchange
        exchange.step(states.Event.HEAD)
        exchange.open_tunnel()
        attempt.step(Event.SWITCHED)
        attempt.due = self._silent_until(attempt)
        self.app.counts.websockets += 1
        self.app.counts.websockets_opened += 1
        exchange.front.switch(exchange, head.lines)
        self.app.counts.answered[1] += 1
        if attempt.phase is Phase.TUNNEL:
            while isinstance(rest := attempt.link.replies.next(), bytes):
                self._more(attempt, rest, False)

    def _more(self, attempt: Attempt, body: bytes, fin: bool) -> None:
        exchange = attempt.exchange
        exchange.window -= len(body)
        exchange.front.more(exchange, body, fin)
        if attempt.phase is not Phase.OVER:
            self._hold_back(attempt)

    def _hold_back(self, attempt: Attempt) -> None:
        if attempt.exchange.window <= 0 and attempt.link.reading:
            attempt.link.pause()
            if attempt.phase is not Phase.TUNNEL:
                attempt.due = 0.0

    def _finish(self, attempt: Attempt, body: bytes, trailers: bytes | None) -> None:
        """The response that has begun is whole."""
        exchange = attempt.exchange
        why = "it answered 502, 503 or 504"
        self._over(attempt, attempt.outcome, why, states.Event.FINISH)
        if trailers is not None:
            try:
                exchange.front.trailers(exchange, trailers)
            except ResponseError as error:
                self._complain(attempt, f"trailers that no client may see: {error}")
        exchange.front.more(exchange, body, True)

    # What went wrong

    def _spoiled(self, attempt: Attempt, error: ResponseError) -> None:
        if attempt.phase is not Phase.OVER:
            self._complain(attempt, f"a response that no client may see: {error}")
            self._fail(attempt, 502, f"upstream {attempt.upstream}: {error}", Outcome.FAILED)

    def _lost(self, attempt: Attempt, why: str) -> None:
        """The connection is of no more use, and the response not whole."""
        exchange, upstream, cause = attempt.exchange, attempt.upstream, ""
        if attempt.phase in UNSENT:
            self._over(attempt, Outcome.UNREACHED, why, states.Event.REVOKE)
            if self._paused(exchange):
                return
            self.counts[UNSENT_BEFORE] += 1
            self._try(exchange, attempt.tried | {upstream}, attempt.times)
        elif attempt.phase in NO_BYTE and not (cause := self._objection(attempt)):
            # It went by a connection that the other end was about to close: that is nobody's failure.
            stale = attempt.reused
            if stale:
                upstream.keeps = False
            self._over(attempt, Outcome.UNKNOWN if stale else Outcome.FAILED, why, states.Event.REVOKE)
            exchange.take_back()
            if self._paused(exchange):
                return
            self.counts[STALE if stale else REPEATED] += 1
            if stale and not upstream.removed:
                self._bring(exchange, upstream, attempt.tried, attempt.times + 1, fresh=True)
            else:
                self._try(exchange, attempt.tried | {upstream}, attempt.times + 1)
        elif attempt.phase is Phase.TUNNEL:
            self._finish(attempt, b"", None)
        else:
            self.counts[cause or retries.ANSWERING] += 1
            self._fail(attempt, 502, f"upstream {upstream}: {why}", Outcome.FAILED)

    def _paused(self, exchange: Exchange) -> bool:
        """The app has been paused meanwhile, and answers: nothing begins there again, nor waits for it (``App._requeue``)."""
        if self.app.refuses:
            self.app._answer(exchange, 503, "it is paused", pages.PAUSED)
        return self.app.refuses

    def _objection(self, attempt: Attempt) -> str:
        """Why a request that was sent, and is lost, is not sent once more, as a cause to count; empty: it may be."""
        exchange = attempt.exchange
        if not attempt.link.replies.silent or exchange.interims:
            return retries.ANSWERING
        if not exchange.head.idempotent:
            return retries.NOT_IDEMPOTENT
        if attempt.times:
            return retries.NO_SECOND
        if not attempt.whole:
            return retries.NO_BODY
        if attempt.reused:
            return ""
        if not self.app.retries:
            return OFF
        if self.upstreams.choose(attempt.tried | {attempt.upstream}) is None:
            return NOBODY_ELSE
        return "" if self.budget.take(self.loop.time(), self.app.counts.requests) else retries.NO_BUDGET

    def _fail(self, attempt: Attempt, status: int, reason: str, outcome: Outcome, cause: str = "") -> None:
        exchange = attempt.exchange
        self._over(attempt, outcome, reason.partition(": ")[2] or reason, states.Event.LOST)
        self.app._fail(exchange, status, reason, cause)

    def _over(self, attempt: Attempt, outcome: Outcome, why: str, event: int) -> None:
        """This try is over, and the exchange goes on by this event."""
        exchange, link = attempt.exchange, attempt.link
        tunnelled = attempt.phase is Phase.TUNNEL
        attempt.step(Event.ENDED)
        attempt.due = 0.0
        self.attempts.discard(attempt)
        if attempt.task is not None:
            task, attempt.task = attempt.task, None
            task.cancel()
        ends_well = event == states.Event.FINISH and exchange.fin_sent and not tunnelled
        exchange.step(event)
        exchange.link = None
        if tunnelled:
            self.app.counts.websockets -= 1
        if event != states.Event.REVOKE:
            exchange.forget_body()
        if link is not None:
            if ends_well and link.serves_again and link.replies.reusable:
                self._keep(link)
            else:
                link.close()
        self._go_on()
        if self.upstreams.ended(attempt.upstream, outcome, why):
            out_s = attempt.upstream.health.until - self.loop.time()
            self._say(
                "warning", attempt.upstream, f"is left out for {out_s:.0f} s after failures in a row: {why}"
            )

    def _nobody(self, exchange: Exchange, tried: frozenset[Upstream]) -> None:
        """No upstream is in service, or none that is could be reached."""
        last = next(iter(tried), None)
        reason = (
            "no upstream is in service"
            if last is None
            else f"no upstream can be reached: {last}: {last.last_failure}"
        )
        exchange.step(states.Event.GIVE_UP)
        self.counts[NOBODY] += 1
        if not self.said.maintenance:
            self.app._fail(exchange, 503, reason, pages.UPSTREAMS)
            return
        exchange.forget_body()
        self.app.counts.errors["503"] += 1
        self.say(pages.UPSTREAMS, "warning", f"503: {reason}")
        page = self.said.maintenance.encode()
        head = (
            b"503 Service Unavailable\r\nContent-Type: %b\r\nCache-Control: no-store\r\nRetry-After: %d\r\n"
            b"Unavailable-Reason: %b\r\n"
        ) % (
            self.said.maintenance_type.encode(),
            pages.CAUSES[pages.UPSTREAMS],
            pages.UPSTREAMS.encode(),
        )
        exchange.front.respond(exchange, head, page, True)

    def _look(self, attempt: Attempt, now: float) -> None:
        exchange, said = attempt.exchange, self.said
        if attempt.phase is Phase.OVER:
            return
        if attempt.phase is Phase.TUNNEL:
            if 0 < attempt.due <= now:
                self.app.counts.hits[DEADLINES[Phase.TUNNEL]] += 1
                self._finish(attempt, b"", None)
            return
        unanswered = attempt.phase in (UNSENT | NO_BYTE) and exchange.unanswered(now)
        total = said.total_s and now - exchange.submitted >= said.total_s
        if not unanswered and not total and not 0 < attempt.due <= now:
            return
        option = (
            "request-timeout"
            if unanswered
            else "upstream-total-timeout"
            if total
            else DEADLINES[attempt.phase]
        )
        self.app.counts.hits[option] += 1
        if attempt.phase in UNSENT and not unanswered and not total:
            what = (
                "no connection, with its TLS handshake," if attempt.upstream.address.tls else "no connection"
            )
            self._lost(attempt, f"{what} within {said.connect_s:g} s ({option})")
            return
        text = f"upstream {attempt.upstream}: too late, {now - exchange.arrived:.1f} s after it arrived ({option})"
        self._fail(attempt, 504, text, Outcome.FAILED)

    # Connections that wait for a request

    def _take_idle(self, exchange: Exchange, upstream: Upstream) -> UpstreamLink | None:
        links = self._idle.get(upstream)
        while links:
            link = links[-1]
            if not exchange.head.idempotent and (
                not upstream.keeps or self.loop.time() - link.idle_since > KEPT_FOR_ALL_S
            ):
                return None
            links.pop()
            if not link.closing:
                return link
        return None

    def _keep(self, link: UpstreamLink) -> None:
        links = self._idle.setdefault(link.upstream, [])
        link.attempt = None
        # More than are to be kept may be for a moment: all that come back in one turn of the loop go out again in the next.
        if link.upstream.removed or link.closing or not self.said.keepalive:
            link.close()
            return
        link.idle_since = self.loop.time()
        link.resume()
        links.append(link)

    def _forget_idle(self, link: UpstreamLink) -> bool:
        """False: it was not among them."""
        links = self._idle.get(link.upstream, [])
        if link not in links:
            return False
        links.remove(link)
        return True

    def _close_idle(self, upstream: Upstream) -> None:
        for link in self._idle.pop(upstream, []):
            link.close()

    # What clients say (exchange.Place)

    def submit(self, exchange: Exchange) -> None:
        self.app.submit(exchange)

    def body_arrived(self, exchange: Exchange) -> None:
        attempt = exchange.link
        if isinstance(attempt, Attempt) and attempt.link is not None:
            self._pump(attempt)

    def carry(self, exchange: Exchange, source: int, owed: int) -> bool:
        return False

    def written(self, exchange: Exchange, count: int) -> None:
        attempt = exchange.link
        exchange.owed += count
        if exchange.state != states.State.ANSWERING or not isinstance(attempt, Attempt):
            return
        exchange.window += exchange.owed
        exchange.owed = 0
        if exchange.window > 0 and not attempt.link.reading:
            attempt.link.resume()
            if attempt.phase is Phase.ANSWERING:
                attempt.due = self._in(self.said.idle_s)

    def give_up(self, exchange: Exchange) -> None:
        if exchange.state in (states.State.ENDED, states.State.ABANDONED):
            return
        attempt = exchange.link
        if isinstance(attempt, Attempt):
            self._over(attempt, Outcome.UNKNOWN, "", states.Event.LOST)
        else:
            exchange.step(states.Event.GIVE_UP)
            exchange.forget_body()
        self.app.counts.cancelled += 1

    def send_away(self, exchange: Exchange) -> None:
        """A WebSocket at an upstream is not ours to say goodbye in: it goes on as long as we do."""

    def waits(self, exchange: Exchange) -> bool:
        attempt = exchange.link
        return isinstance(attempt, Attempt) and attempt.phase in UNSENT

    def withdraw(self, exchange: Exchange) -> bool:
        if not self.waits(exchange):
            return False
        self.give_up(exchange)
        return True

    def refused(self, status: int, limit: str) -> None:
        self.app.refused(status, limit)

    def say(self, kind: str, level: str, text: str) -> None:
        self.app.say(kind, level, text)

    @property
    def response_buffer(self) -> int:
        return self.app.response_buffer

    # Bodies that lie on disk (spool.Owner)

    def body_stored(self, exchange: Exchange) -> None:
        """All of it is: it was whole before it came here."""

    def body_carried(self, exchange: Exchange, count: int, how: int) -> None:
        """None is, here."""

    def body_fetched(self, exchange: Exchange, piece: bytes) -> None:
        exchange.fetched(piece)
        assert exchange.spooled is not None
        exchange.spooled.recount(exchange.buffered + len(exchange.first_part))
        self.body_arrived(exchange)

    def body_lost(self, exchange: Exchange, status: int, reason: str) -> None:
        attempt = exchange.link
        if isinstance(attempt, Attempt):
            self._fail(attempt, 500, reason, Outcome.UNKNOWN)

    # Saying so

    def _checked(self, upstream: Upstream, why: str) -> None:
        if self.upstreams.checked(upstream, not why, why):
            if why:
                self._say("warning", upstream, f"is left out until its health check passes: {why}")
            else:
                self._say("info", upstream, "passes its health check again, and is tried slowly at first")

    def _tried(self, upstream: Upstream, why: str) -> None:
        if self.upstreams.tried(upstream, f"it cannot be reached: {why}" if why else ""):
            self._say("info", upstream, "can be reached again")
            self._go_on()

    def _say(self, level: str, upstream: Upstream, text: str) -> None:
        self.core.log(level, f"[{self.name}] upstream {upstream} {text}")

    def _complain(self, attempt: Attempt, what: str) -> None:
        address = str(attempt.upstream)
        self.say(address, "error", f"upstream {address} sent {what}")
