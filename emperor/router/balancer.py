"""What of an app's balancing is not the ordinary path: overload, parts of an app with slots of their own, other policies than
the pool's own, limits of clients, workers that are fresh or fail, and requests that are run again. It decides by the pure
modules ``shedding``, ``bulkheads``, ``policies``, ``limits``, ``slowstart``, ``failing`` and ``retries``, and acts on its app.

``App.careful`` says that placing and dispatching are to come by here; while nothing special is going on, a request costs one
look at that.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from emperor.config.balancing import Balancing
from emperor.protocol import logline
from emperor.protocol.scoreboard import monotonic_s, now_ns
from emperor.router import failing, pages, policies, retries, shares, slowstart
from emperor.router.bulkheads import Part, Parts
from emperor.router.canary import Canary
from emperor.router.caps import whose
from emperor.router.exchange import Exchange
from emperor.router.grants import ALL
from emperor.router.limits import CONCURRENCY, CONCURRENCY_EACH, Limits
from emperor.router.queue import Queue
from emperor.router.shedding import Shedding, retry_after_s
from emperor.router.states import Event, State

if TYPE_CHECKING:
    from emperor.router.app import App
    from emperor.router.link import Link

SHED_TURN: Final = 256
"""So many at most are answered in one sweep: each answer costs some microseconds, and clients of others wait."""


class Balancer:
    """One app's."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.options = Balancing()
        self.shedding = Shedding(0.0)
        self.parts = Parts((), (), app.queue)
        self.limits = Limits()
        self.retried: Counter[str] = Counter()  # by `retries.CAUSES`
        self.budget = retries.Budget(monotonic_s())
        self.canary: Canary | None = None
        self.set_aside = 0  # how often a worker was
        self._turns = policies.Turns()
        self._fresh: dict[Link, float] = {}  # and since when
        self._since: dict[Link, float] = {}
        self._aside: dict[Link, int] = {}  # and until when, in ns

    def use(self, options: Balancing, queue_limit: int) -> None:
        """From now on. Who waits goes on waiting, where its path has it now."""
        app = self.app
        old, self.options = self.options, options
        self.shedding.target_s = options.queue_target_s
        if (old.bulkheads, old.reserve) != (options.bulkheads, options.reserve):
            moved = self.parts.all_waiting() + app.queue.clear()
            self.parts = Parts(options.bulkheads, options.reserve, app.queue)
            for exchange in sorted(moved, key=lambda each: each.submitted):
                self._assign(exchange)
                self.queue_of(exchange).put_back(exchange)
        for part in self.parts:
            part.queue.limit = queue_limit
        app.limited = self.limits.use(
            options.rate, options.rate_each, options.concurrency, options.concurrency_each
        )
        app.retries = options.retries
        self.be_sticky()
        self._be_careful()

    def try_out(self, number: int, share: float) -> None:
        """Of two generations that serve, this one gets so many in a hundred requests; 0: as it comes."""
        self.canary = Canary(self.app.name, number, share) if share else None
        self.be_sticky()
        self._be_careful()

    def be_sticky(self) -> None:
        """Clients are told whose they are, or not."""
        app = self.app
        app.sticks = bool(self.options.sticky) or app.shared is not None or self.canary is not None

    def _be_careful(self) -> None:
        options = self.options
        self.app.careful = bool(
            self.parts.named
            or self.shedding.overloaded
            or options.balance != policies.SLOTS
            or options.sticky
            or self.canary is not None
        )

    @property
    def watches(self) -> bool:
        """There is a worker to look at now and then."""
        return bool(self._fresh or self._aside)

    # Queues

    def _assign(self, exchange: Exchange) -> None:
        """To the part that its path belongs to."""
        part = self.parts.of(exchange.head.path)
        exchange.part = None if part is self.parts.rest else part

    def queue_of(self, exchange: Exchange) -> Queue:
        """Where it waits, or would."""
        part = exchange.part
        return self.app.queue if part is None else part.queue

    def queues(self) -> list[Queue]:
        """All of them."""
        return [self.app.queue, *(part.queue for part in self.parts)]

    def queued(self) -> int:
        """How many wait, of all parts."""
        return len(self.app.queue) + self.parts.queued()

    def wanting(self) -> int:
        """How many of them a free slot would help."""
        return self.parts.wanting()

    def oldest_wanting(self) -> tuple[Exchange | None, bool]:
        """The one of these that has waited longest, if any; and whether one of them waits for slots that are kept for it."""
        return self.parts.oldest_wanting()

    def waits_since(self) -> float:
        """When the one came that has waited longest; now, if none waits."""
        first = [oldest.submitted for queue in self.queues() if (oldest := queue.oldest()) is not None]
        return min(first, default=monotonic_s())

    # Limits of clients

    def admits(self, exchange: Exchange) -> bool:
        """It is within the limits, and counts from now on; else it was answered 429."""
        app = self.app
        if self.parts.of(exchange.head.path).reserved:
            return True  # a health check that is refused ends more than it protects
        address = logline.variable(exchange.head.packet, b"REMOTE_ADDR") or b""
        try:
            who = whose(address.decode()) if address else ""
        except ValueError:
            who = address[:64].decode("latin-1")  # a front server's word that is no address
        now = monotonic_s()
        refusal = self.limits.refusal(who, now)
        if refusal is None:
            self.limits.admit(exchange, who, now)
            return True
        option, wait_s = refusal
        app.counts.hits[option] += 1
        exchange.retry_s = max(1, min(3600, int(wait_s) + (wait_s % 1 > 0)))
        cause = pages.CONCURRENCY if option in (CONCURRENCY, CONCURRENCY_EACH) else pages.RATE
        app._answer(exchange, 429, f"too many requests ({option})", cause)
        return False

    # Placing

    def place(self, exchange: Exchange) -> None:
        """As ``App._place``, with all that may be special."""
        app = self.app
        self._assign(exchange)
        queue = self.queue_of(exchange)
        if not queue.add(exchange):
            if exchange.part is not None:
                exchange.part.refused += 1
            oldest = queue.take() if self.shedding.overloaded and queue is app.queue else None
            if oldest is None:
                app._answer_full(exchange)
                return
            self._shed(oldest)
            queue.add(exchange)
        self.dispatch()
        if app.short and self.queued():
            app.sharing.demand()

    def dispatch(self) -> None:
        """As ``App.dispatch``."""
        app, parts = self.app, self.parts
        if app.paused:
            return
        passed_over: list[Part] = []
        while (part := parts.next(passed_over)) is not None:
            newest = part is parts.rest and self.shedding.overloaded
            exchange = part.queue.newest() if newest else part.queue.oldest()
            assert exchange is not None
            if newest and monotonic_s() - exchange.submitted >= self.shedding.limit_s:
                part.queue.take_newest()
                self._shed(exchange)
                continue
            found = self._worker_for(exchange, part)
            if found is None and app.far is not None:
                found = app.far.member(exchange)
            if found is None:
                passed_over.append(part)
                continue
            if newest:
                part.queue.take_newest()
            else:
                part.queue.take()
            app._offer(exchange, found)

    def _worker_for(self, exchange: Exchange, part: Part) -> Link | None:
        """Who gets it, in a slot or on its deck; None: nobody here."""
        pool = self.app.pool
        options = self.options
        kept = self.parts.kept_from(part, pool.total_slots()) if self.parts.keeps else 0
        idle_for_us = not kept or pool.free_slots() > kept
        if self.canary is not None and (two := self.canary.sorted(self._members())) is not None:
            return self._by_canary(self.canary, exchange, *two, idle_for_us, bool(part.reserved))
        if (
            options.sticky
            and (worker := self._stuck(exchange)) is not None
            and (idle_for_us or worker.far or not _is_idle(worker))
        ):
            return worker
        if options.balance == policies.HASH:
            return self._by_hash(exchange, idle_for_us)
        if idle_for_us and (idle := self._idle_one()) is not None:
            return idle
        if part.reserved or options.sticky:
            return None  # on no deck where it would wait, or where those wait that must be there
        return self._behind_others() if self.parts.keeps else pool.deck_member(now_ns())  # type: ignore[return-value]

    def _by_canary(
        self,
        canary: Canary,
        exchange: Exchange,
        new: list[Link],
        old: list[Link],
        idle_for_us: bool,
        reserved: bool,
    ) -> Link | None:
        """One of the generation that is this client's. The new one's part goes to the old one where it has no room; the old
        one's part waits, or the new one would get more the more there is to do."""
        now = now_ns()
        for those in (new, old) if canary.takes(exchange) else (old,):
            ours = [link for link in those if link.slots]
            if not ours:
                self.app.sharing.ask(those)
            idle = [link for link in ours if _is_idle(link) and link.room()]
            if idle and idle_for_us:
                named = self.said(exchange) if self.options.sticky else ""
                own = [link for link in idle if named and link.token(self.app.name) == named]
                return (own or [policies.least(idle, self._turns)])[0]
            busy = [link for link in ours if not _is_idle(link) and self._takes(link, now)]
            if busy and not reserved:
                return min(busy, key=lambda each: each.in_flight)
        return None

    def _behind_others(self) -> Link | None:
        """The deck to put a request on where slots are kept for others: not theirs."""
        now = now_ns()
        best: Link | None = None
        for link in self._taking():
            if (
                _is_idle(link)
                or (best is not None and link.in_flight >= best.in_flight)
                or not self._takes(link, now)
            ):
                continue
            if not any(each.part is not None and each.part.reserved for each in link.streams.values()):
                best = link
        return best

    def _idle_one(self) -> Link | None:
        balance = self.options.balance
        if balance == policies.SLOTS:
            return self.app.pool.idle_member()  # type: ignore[return-value]
        idle = [link for link in self._taking() if _is_idle(link) and link.room()]
        idle = [link for link in idle if not link.fresh] or idle
        if not idle:
            return None
        if balance == policies.LEAST:
            return policies.least(idle, self._turns)
        if balance == policies.P2C:
            return policies.better_of_two(idle, random.randrange)
        return self._turns.next(idle)

    def _members(self) -> list[Link]:
        return [link for link in self._since if link.accepting and not link.aside]

    def _taking(self) -> list[Link]:
        return [link for link in self._members() if link.slots]

    def _takes(self, link: Link, now: int) -> bool:
        """It has room, and runs nothing that takes long."""
        pool = self.app.pool
        if _is_idle(link):
            return link.room()
        return (
            not link.fresh
            and not link.owed
            and link.waiting() < pool.depth(link.slots)
            and link.room()
            and link.running_ns(now) <= pool.long_ns()
        )

    def _by_hash(self, exchange: Exchange, idle_for_us: bool) -> Link | None:
        taking = self._taking()
        most = policies.bound(taking)
        now = now_ns()
        for link in policies.ordered(self.key(exchange), taking):
            may = idle_for_us or not _is_idle(link)
            if may and link.in_flight < max(most, 1) and self._takes(link, now):
                return link
        return None

    def key(self, exchange: Exchange) -> bytes:
        """What `balance = hash` knows its client by; empty: it is not known."""
        kind, _, name = self.options.hash_by.partition(" ")
        packet = exchange.head.packet
        if kind == "cookie":
            return policies.cookie(logline.variable(packet, b"HTTP_COOKIE"), name.encode())
        if kind == "header":
            key = b"HTTP_" + name.upper().replace("-", "_").encode()
            return logline.variable(packet, key) or b""
        return logline.variable(packet, b"REMOTE_ADDR") or b""

    # Sticky sessions

    def said(self, exchange: Exchange) -> str:
        """What its cookie says."""
        header = logline.variable(exchange.head.packet, b"HTTP_COOKIE")
        return policies.cookie(header, self.options.sticky.encode()).decode("latin-1") if header else ""

    def _stuck(self, exchange: Exchange) -> Link | None:
        """The worker that its cookie names, if that takes it."""
        said = self.said(exchange)
        if not said:
            return None
        now = now_ns()
        for link in self._taking():
            if link.token(self.app.name) == said:
                return link if self._takes(link, now) else None
        return None if self.app.far is None else self.app.far.named(said)

    def stick(self, exchange: Exchange, link: Link, head: bytes) -> bytes:
        """The head of a response, with the cookies where the client has none of this vassal or of this worker."""
        if self.app.shared is not None:
            head = shares.told(self.app.shared, exchange.head, self.app, head)
        if self.canary is not None:
            head += self.canary.cookie_for(exchange, link.generation)
        if not self.options.sticky:
            return head
        return head + self.cookie_for(exchange, link.token(self.app.name))

    def cookie_for(self, exchange: Exchange, token: str) -> bytes:
        """The field of a response that tells a client whose it is now; empty: it knows."""
        if self.said(exchange) == token:
            return b""
        secure = "; Secure" if logline.variable(exchange.head.packet, b"HTTPS") == b"on" else ""
        line = f"Set-Cookie: {self.options.sticky}={token}; Path=/; HttpOnly; SameSite=Lax{secure}\r\n"
        return line.encode()

    # Overload

    def retry_after_s(self) -> int:
        """For who is turned away now."""
        pool = self.app.pool
        return retry_after_s(self.queued(), pool.mean_ns, self.slots())

    def slots(self) -> int:
        """Of all workers that take requests, here and on other hosts, as far as they are ours; 1 where other routers have
        all of them, which is no want of workers."""
        app = self.app
        slots = app.pool.total_slots() + (0 if app.far is None else app.far.slots())
        return slots or int(app.short and app.pool.serves())

    def _shed(self, exchange: Exchange) -> None:
        app = self.app
        app.counts.hits["queue-target"] += 1
        exchange.retry_s = self.retry_after_s()
        waited_s = monotonic_s() - exchange.submitted
        app._answer(
            exchange,
            503,
            f"it waited {waited_s:.1f} s while more come than can be served, and those who came later are served first "
            f"(queue-target: {self.shedding.limit_s:.1f} s)",
            pages.OVERLOAD,
        )

    def sweep(self, now: float) -> None:
        """Several times a second, while something waits or is special."""
        if self.watches:
            self._look_at_workers(now)
        app = self.app
        if app.paused or not (self.shedding.target_s or self.shedding.overloaded):
            return
        queue, pool = app.queue, app.pool
        oldest = queue.oldest()
        was = self.shedding.overloaded
        overloaded = self.shedding.look(
            now,
            0.0 if oldest is None else now - oldest.submitted,
            len(queue),
            self.slots(),
            pool.mean_ns,
            app.queue_timeout_s,
        )
        if overloaded != was:
            self._be_careful()
            self._tell(overloaded)
        shed = 0
        while overloaded and shed < SHED_TURN:
            oldest = queue.oldest()
            if oldest is None or now - oldest.submitted < self.shedding.limit_s:
                break
            queue.take()
            self._shed(oldest)
            shed += 1

    def _tell(self, overloaded: bool) -> None:
        app = self.app
        if overloaded:
            text = (
                f"overloaded: {len(app.queue)} requests wait, of {app.pool.mean_ns / 1e6:.3g} ms each on average, for "
                f"{self.slots()} slots; who has waited for {self.shedding.limit_s:.3g} s is turned away "
                "(queue-target)"
            )
        else:
            text = "no longer overloaded"
        app.core.log("warning" if overloaded else "info", f"[{app.name}] {text}")

    # Requests that are run again

    def again(self, exchange: Exchange) -> bool:
        """A worker that had begun it is lost. True: it waits for another one, or was answered for."""
        app = self.app
        if not app.retries:
            return False
        now = monotonic_s()
        cause = retries.objection(exchange, exchange.state == State.ANSWERING)
        if not cause and not self.budget.take(now, app.counts.requests):
            cause = retries.NO_BUDGET
        self.retried[cause or retries.AGAIN] += 1
        if cause:
            return False
        exchange.step(Event.RETRY)
        exchange.retry(now)
        if app.wary and app.culprits.refuses(exchange):
            return True
        exchange.queue_deadline = now + app.queue_timeout_s
        self.queue_of(exchange).put_back(exchange)
        return True

    # Workers that are fresh

    def joined(self, link: Link) -> None:
        """A worker is ready, and is about to take requests."""
        now = monotonic_s()
        self._since[link] = now
        if self.options.slow_start_s and link.width > 1 and self._can_spare(now, link):
            link.fresh = True
            self._fresh[link] = now
            self._ramp(link, 1)

    def left(self, link: Link) -> None:
        """It is lost."""
        self._since.pop(link, None)
        self._fresh.pop(link, None)
        self._aside.pop(link, None)
        if self.watches:
            self._look_at_workers(monotonic_s())

    def _can_spare(self, now: float, also: Link | None = None) -> bool:
        window_s = self.options.slow_start_s
        fresh = settled = 0
        for link, since in self._since.items():
            if link is also or link in self._fresh:
                fresh += link.width
            elif link.accepting and now - since >= window_s:
                settled += link.width
        return slowstart.spares(fresh, settled)

    def _ramp(self, link: Link, most: int) -> None:
        """It works with so many of its slots."""
        link.most = most
        link.slots = min(link.own(), most)
        self.app.pool.became_idle(link)

    def _look_at_workers(self, now: float) -> None:
        window_s = self.options.slow_start_s
        spares = self._can_spare(now)
        for link, since in list(self._fresh.items()):
            if spares and window_s and now - since < window_s:
                if link.failing < failing.OFTEN:
                    self._ramp(link, slowstart.slots(link.width, now - since, window_s))
                continue
            del self._fresh[link]
            if link.failing < failing.OFTEN:
                self._release(link)
        if self._aside and not self._others_do(0):
            for link in list(self._aside):
                self._release(link)
        self.app.dispatch()

    def _release(self, link: Link) -> None:
        """It is one like any other."""
        self._aside.pop(link, None)
        link.aside = link.fresh = False
        self.app.pool.retire(link)  # to its place among the others
        self._ramp(link, ALL)

    # Workers that fail

    def failed(self, link: Link, service_ns: int) -> None:
        """It has answered 5xx, or what it was to answer was answered so."""
        mean_ns = self.app.pool.mean_ns
        if not failing.is_fast(service_ns, mean_ns):
            return
        link.failing = min(link.failing + 1, failing.MOST_IN_A_ROW)
        wait_ns = failing.aside_ns(link.failing, mean_ns)
        if not wait_ns or not link.accepting or not self._others_do(1):
            return
        app = self.app
        if link not in self._aside:
            self.set_aside += 1
            if link.failing == failing.OFTEN:
                app.say(
                    "failing",
                    "warning",
                    f"worker {link.seat} (pid {link.pid}) has failed {link.failing} times in a row, much faster "
                    "than requests take elsewhere: it gets one now and then, until one does not fail",
                )
        self._aside[link] = now_ns() + wait_ns
        link.aside = True
        self._ramp(link, 1)
        app.pool.retire(link)
        app.core.loop.call_later(wait_ns / 1e9, self._look_again, link)

    def _look_again(self, link: Link) -> None:
        if link in self._aside and now_ns() >= self._aside[link]:
            self._back(link)
            self.app.dispatch()

    def _back(self, link: Link) -> None:
        """One is tried: it is chosen last, has one slot, and nothing waits for it."""
        del self._aside[link]
        link.aside = False
        link.fresh = True
        self._ramp(link, 1)

    def _others_do(self, one_more: int) -> bool:
        """Most workers do not fail."""
        taking = [link for link in self._since if link.accepting and link.ready]
        bad = sum(link.failing >= failing.OFTEN for link in taking)
        return failing.it_is_the_worker(max(bad, one_more), len(taking))

    def succeeded(self, link: Link) -> None:
        """It has answered, and not 5xx, after it had failed."""
        was = link.failing
        link.failing = 0
        if was >= failing.OFTEN and link not in self._fresh:
            self._release(link)

    # For the statistics

    def waited_ms(self) -> int:
        """For how long the oldest in the queue has."""
        oldest = self.app.queue.oldest()
        return 0 if oldest is None else max(0, round((monotonic_s() - oldest.submitted) * 1000))

    def values(self) -> list[tuple[str, int, int]]:
        """``(option, what it is, what there is of it now)``."""
        return [
            ("queue-target", round(self.options.queue_target_s * 1000), self.waited_ms()),
            *self.limits.values(monotonic_s()),
        ]

    def report(self) -> dict[str, Any]:
        """Part of the app's."""
        return {
            "policy": self.options.balance,
            "mean_us": self.app.pool.mean_ns // 1000,
            "queue_limit_ms": round(self.shedding.limit_s * 1000),
            "overloaded": int(self.shedding.overloaded),
            "overloads": self.shedding.times,
            "parts": self.parts.report(),
            "fresh": len(self._fresh),
            "aside": len(self._aside),
            "set_aside": self.set_aside,
            "retries": {cause: self.retried[cause] for cause in retries.CAUSES},
            "retries_left": int(self.budget.left(monotonic_s(), self.app.counts.requests)),
            **self.limits.report(),
        }


def _is_idle(link: Link) -> bool:
    """It has a free slot."""
    return link.in_flight < link.slots
