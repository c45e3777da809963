"""One app in a world without a clock of its own: clients, the router, its workers, and what goes between them, as events in
whole nanoseconds.

What chooses is the router's own code (`Pool`, `Queue`, `Exchange` and its table, `deck`); `Router` here joins it as
`emperor.router.app` does, whose rules these are: who has room gets the oldest, an idle worker takes half of what waits
behind a request that has run for a while, and all of what waits behind a long one goes back.

What the rest costs was measured (docs/architecture/performance.md): a worker that sleeps and has nothing on deck has a
request 0.2 to 0.3 ms after the one before; nothing is exact, and nothing needs to be: the decks are compared in one world.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

from decks import Deck

from emperor.protocol import packet
from emperor.router.exchange import Client, Exchange
from emperor.router.pool import Member, Pool
from emperor.router.queue import Queue
from emperor.router.states import Event

US, MS, S = 1_000, 1_000_000, 1_000_000_000

ROUTER_NS = 4 * US
"""The router's own time for a request, and again for its answer; it does one thing at a time."""
THERE_NS = 60 * US
"""A message from the router until it lies in the worker's socket."""
WAKE_NS = 80 * US
"""A worker that slept, until it looks."""
BACK_NS = 15 * US
"""An answer in the ring until a router that watches sees it."""
CALL_NS = 90 * US
"""The same for a router that rests and must be called."""
WATCH_NS = 30 * US
"""So long after it has last had something to do the router rests."""
BETWEEN_NS = 4 * US
"""A worker from the end of a request to the next one on its deck."""
REVOKED_NS = 500
"""What dropping a revoked record costs it."""
CLIENT_NS = 30 * US
"""A client from an answer to its next request."""

STALLS_PER_S = 2.0
STALL_NS = (1 * MS, 20 * MS)
"""Scheduling noise: so often a process is put aside, wherever it is, the router as well, for so long."""
LATE_NS = 60 * US
"""And all that wakes somebody is later than that by chance, on average by so much."""

NOTICED_NS = 1 * MS
"""A death until the router has answered for it."""
RESTART_NS = 100 * MS
"""A death until the next process of the seat is ready."""
LOOK_NS = 1 * MS
"""So often at most the router looks at decks (`RELIEF_NS` and the timer of emperor/router/app.py)."""
WORDS = 64
"""Words of a worker's page beyond its slot."""

_ENTRY = packet.admit(
    packet.encode([(b"REQUEST_METHOD", b"GET"), (b"HTTP_HOST", b"a"), (b"PATH_INFO", b"/")])
)


@dataclass(frozen=True)
class Kind:
    """An app: what its requests take, one in so many being slow."""

    name: str
    quick_ns: int
    slow_ns: int = 0
    slow_share: float = 0.0

    def mean_ns(self) -> float:
        return self.quick_ns * (1 - self.slow_share) + self.slow_ns * self.slow_share

    def best_per_s(self, workers: int) -> float:
        return best_per_s(self.mean_ns(), workers)


def best_per_s(mean_ns: float, workers: int) -> float:
    """What workers without a gap and a router without a pause could answer; a worker's stalls are taken off."""
    awake = 1 - STALLS_PER_S * sum(STALL_NS) / 2 / S
    return awake * min(workers / (mean_ns + BETWEEN_NS), 1 / (2 * ROUTER_NS)) * S


class Noise:
    """When the kernel puts one process aside. Time must not go back by more than the last piece of work."""

    def __init__(self, seed: str) -> None:
        self._chance = random.Random(seed)
        self._from_ns = self._to_ns = 0
        self._next(0)

    def _next(self, after_ns: int) -> None:
        self._from_ns = after_ns + int(self._chance.expovariate(STALLS_PER_S) * S)
        self._to_ns = self._from_ns + self._chance.randint(*STALL_NS)

    def done_ns(self, now_ns: int, work_ns: int) -> int:
        """When so much work is done that begins now."""
        while self._to_ns <= now_ns:
            self._next(self._to_ns)
        if self._from_ns <= now_ns:
            now_ns = self._to_ns
            self._next(now_ns)
        while now_ns + work_ns > self._from_ns:
            work_ns -= self._from_ns - now_ns
            now_ns = self._to_ns
            self._next(now_ns)
        return now_ns + work_ns

    def late_ns(self) -> int:
        """How much later than it could somebody wakes up."""
        return int(self._chance.expovariate(1 / LATE_NS))


class Front(Client):
    """Nobody looks at the bytes."""


_FRONT = Front()


class Request(Exchange):
    """`service_ns` is what it takes in a slot where nothing disturbs it."""

    def __init__(self, now_ns: int, service_ns: int, slow: bool, app: Any) -> None:
        super().__init__(_FRONT, _ENTRY, now_ns / S, app)
        self.due_ns = now_ns
        self.service_ns = service_ns
        self.slow = slow
        self.done = False


@dataclass
class Word:
    """A word of the page with the record that names it. The record outlives a revoke: it lies in the worker's socket."""

    request: Request
    state: str = "offered"
    revocable: bool = True


class Worker(Member):
    """A seat: the process in it, and the router's link to that."""

    def __init__(self, world: World, seat: int) -> None:
        super().__init__(1)
        self.world = world
        self.seat = seat
        self.incarnation = 0
        self.accepting = True
        self.words: dict[Request, Word] = {}  # what the router thinks is there
        self.unmet = 0  # words revoked and not yet met
        self.inbox: deque[Word] = deque()
        self.running: Word | None = None
        self.begun_ns = 0
        self.asleep = True
        self.alive = True
        self.noise = Noise(f"worker {world.seed} {seat}")

    # What the pool asks

    def room(self) -> bool:
        return len(self.words) + self.unmet < self.slots + WORDS

    def waiting(self) -> int:
        return self.in_flight - self.slots

    def running_ns(self, now_ns: int) -> int:
        return -1 if self.running is None else max(0, now_ns - self.begun_ns)

    # The process

    def receive(self, word: Word) -> None:
        self.inbox.append(word)
        if self.asleep:
            self.asleep = False
            wakes_ns = self.noise.done_ns(self.world.now_ns, WAKE_NS + self.noise.late_ns())
            self.world.at(wakes_ns, self.turn, self.incarnation)

    def turn(self, incarnation: int) -> None:
        """Out of app code, or awake."""
        if incarnation != self.incarnation:
            return
        spent = 0
        while self.inbox:
            word = self.inbox.popleft()
            if word.state == "revoked":
                self.unmet -= 1
                spent += REVOKED_NS
                continue
            word.state = "claimed"
            self.running = word
            self.begun_ns = self.noise.done_ns(self.world.now_ns, spent)
            self.world.begun(word.request)
            self.world.at(
                self.noise.done_ns(self.begun_ns, word.request.service_ns), self.finish, incarnation
            )
            return
        self.asleep = True

    def finish(self, incarnation: int) -> None:
        if incarnation != self.incarnation:
            return
        world, word = self.world, self.running
        assert word is not None
        self.running = None
        word.state = "free"
        delay = BACK_NS if world.router.watches() else CALL_NS + self.noise.late_ns()
        world.at(
            world.now_ns + delay, world.router.hear_end, self, word.request, world.now_ns - self.begun_ns
        )
        world.at(self.noise.done_ns(world.now_ns, BETWEEN_NS), self.turn, incarnation)

    def die(self) -> None:
        if not self.alive:
            return
        world = self.world
        self.alive = False
        self.incarnation += 1
        self.inbox.clear()
        world.at(world.now_ns + NOTICED_NS, world.router.lose, self)


class Router:
    """What `emperor.router.app.App` does with pool and queue."""

    def __init__(self, world: World, deck: Deck) -> None:
        self.world = world
        self.revocable = deck.revocable
        self.pool: Pool = deck.pool(lambda: world.now_ns)
        self.queue = Queue(1 << 30)
        self.free_ns = 0
        self._noise = Noise(f"router {world.seed}")
        self.decked = 0
        self.revoked = 0
        self._relief_due_ns = 0
        self._look_planned = False
        self._stream = 0

    def watches(self) -> bool:
        return self.world.now_ns < self.free_ns + WATCH_NS

    def _takes_its_turn(self, act: Callable[..., None], *told: Any) -> None:
        self.free_ns = self._noise.done_ns(max(self.world.now_ns, self.free_ns), ROUTER_NS)
        self.world.at(self.free_ns, act, *told)

    def submit(self, request: Request) -> None:
        self._takes_its_turn(self._place, request)

    def _place(self, request: Request) -> None:
        if not len(self.queue):
            member = self._taker()
            if member is not None:
                self._offer(request, member)
                return
        assert self.queue.add(request)

    def _taker(self) -> Member | None:
        """As the router's."""
        now = self.world.now_ns
        pool = self.pool
        return pool.idle_member() or pool.deck_member(now) or pool.stuck_member(now)

    def dispatch(self) -> None:
        while len(self.queue):
            member = self._taker()
            if member is None:
                return
            request = self.queue.take()
            assert isinstance(request, Request)
            self._offer(request, member)

    def _offer(self, request: Request, member: Member) -> None:
        assert isinstance(member, Worker)
        request.step(Event.OFFER)
        request.link = member
        request.on_deck = member.in_flight >= member.slots
        self.decked += request.on_deck
        self._stream += 1
        request.stream = self._stream
        member.in_flight += 1
        word = Word(request, revocable=self.revocable)
        member.words[request] = word
        if member.alive:
            there_ns = self.world.now_ns + THERE_NS + self._noise.late_ns()
            self.world.at(there_ns, self._arrive, member, member.incarnation, word)

    def _arrive(self, worker: Worker, incarnation: int, word: Word) -> None:
        if worker.incarnation == incarnation:
            worker.receive(word)

    def _unlink(self, request: Request, worker: Worker) -> None:
        del worker.words[request]
        worker.in_flight -= 1
        self.decked -= request.on_deck
        request.on_deck = False
        request.link = None

    def _revoke(self, request: Request, worker: Worker) -> bool:
        word = worker.words[request]
        if not self.revocable or word.state != "offered":
            return False
        word.state = "revoked"
        worker.unmet += 1
        self.revoked += 1
        self._unlink(request, worker)
        request.step(Event.REVOKE)
        self.pool.became_idle(worker)
        return True

    def hear_end(self, worker: Worker, request: Request, service_ns: int) -> None:
        self._takes_its_turn(self._ended, worker, request, service_ns)

    def _ended(self, worker: Worker, request: Request, service_ns: int) -> None:
        if request.link is not worker:
            return  # its worker was lost first, and it was answered for
        self.pool.took(service_ns)
        self._unlink(request, worker)
        request.step(Event.FINISH)
        self.world.answered(request)
        if self.decked and len(self.pool.members) > 1:
            self._relieve()
        self.pool.became_idle(worker)
        if len(self.queue):
            self.dispatch()
        elif self.decked:
            self._rebalance()

    def _relieve(self) -> None:
        now = self.world.now_ns
        if not self.revocable or now < self._relief_due_ns:
            return
        self._relief_due_ns = now + LOOK_NS
        for member in self.pool.stuck_members(now):
            assert isinstance(member, Worker)
            self._take_back(member)

    def _take_back(self, worker: Worker) -> None:
        for request in list(worker.words):
            if self._revoke(request, worker):
                self.queue.put_back(request)

    def _rebalance(self) -> None:
        if not self.revocable or self._look_planned or not self.decked or len(self.queue):
            return
        taker = self.pool.idle_member()
        if taker is None:
            return
        blocked, again = self.pool.blocked_member(self.world.now_ns)
        if blocked is not None:
            assert isinstance(blocked, Worker)
            wanted = (blocked.waiting() + 1) // 2
            for request in list(blocked.words):
                if not wanted or not taker.room():
                    break
                if self._revoke(request, blocked):
                    wanted -= 1
                    self._offer(request, taker)
            again = True
        if again:
            self._look_planned = True
            self.world.at(self.world.now_ns + LOOK_NS, self._look)

    def _look(self) -> None:
        self._look_planned = False
        self._relieve()
        self.dispatch()
        self._rebalance()

    def lose(self, worker: Worker) -> None:
        """A worker's end has been noticed: what it had not begun is queued again, what had is answered for."""
        worker.accepting = False
        self.pool.leave(worker)
        for request, word in list(worker.words.items()):
            if word.state == "free":
                continue  # its answer is in the ring
            if not self._revoke(request, worker):
                self._unlink(request, worker)
                request.step(Event.LOST)
                self.world.lost(request)
            else:
                self.queue.put_back(request)
        worker.running = None
        self.dispatch()
        self.world.at(self.world.now_ns + RESTART_NS, self._welcome, worker)

    def _welcome(self, worker: Worker) -> None:
        worker.alive = worker.accepting = worker.asleep = True
        worker.unmet = 0
        self.pool.join(worker)
        self.dispatch()
        self._rebalance()


@dataclass
class Outcome:
    """What came of a run. ``waits_ns`` are of quick requests, from the instant they were due to their answer; those that came
    within the warm-up count nowhere."""

    seconds: float = 0.0
    workers: int = 1
    answered: int = 0
    service_ns: int = 0  # of all that were answered
    revoked: int = 0
    waits_ns: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)  # requests, per crash

    def per_s(self) -> float:
        return self.answered / self.seconds

    def share(self) -> float:
        """Of what could be, with the requests that chance gave it."""
        return self.per_s() / best_per_s(self.service_ns / max(1, self.answered), self.workers)

    def p99_ns(self) -> int:
        return sorted(self.waits_ns)[len(self.waits_ns) * 99 // 100] if self.waits_ns else 0

    def lost_per_crash(self) -> float:
        return sum(self.lost) / len(self.lost) if self.lost else 0.0


class World:
    """``seed`` decides everything that is left to chance: the same arrivals, services and stalls for every deck."""

    def __init__(
        self,
        kind: Kind,
        deck: Deck,
        workers: int,
        seed: int,
        router: Callable[[World, Deck], Router] = Router,
    ) -> None:
        self.kind = kind
        self.seed = seed
        self.now_ns = 0
        self.outcome = Outcome(workers=workers)
        self._events: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0
        self._made = random.Random(f"requests {seed}")
        self._arrivals = random.Random(f"arrivals {seed}")
        self._on_end: Callable[[], None] = lambda: None
        self._warm_ns = 0
        self._begun: set[Request] = set()
        self.router = router(self, deck)
        self.workers = [Worker(self, seat) for seat in range(workers)]
        for worker in self.workers:
            self.router.pool.join(worker)

    def at(self, at_ns: int, act: Callable[..., None], *told: Any) -> None:
        self._order += 1
        heappush(self._events, (at_ns, self._order, act, told))

    def _run(self, until_ns: int, warm_ns: int) -> Outcome:
        self._warm_ns = warm_ns
        events = self._events
        while events and events[0][0] <= until_ns:
            self.now_ns, _, act, told = heappop(events)
            act(*told)
        self.outcome.seconds = (until_ns - warm_ns) / S
        self.outcome.revoked = self.router.revoked
        return self.outcome

    def closed(self, clients: int, until_ns: int, warm_ns: int, crashes_ns: tuple[int, ...] = ()) -> Outcome:
        """So many clients, each with a request under way at all times. The first worker is killed at these instants."""
        self._on_end = lambda: self.at(self.now_ns + CLIENT_NS, self._arrive)
        for number in range(clients):
            self.at(number * US, self._arrive)
        for at_ns in crashes_ns:
            self.at(at_ns, self._crash)
        return self._run(until_ns, warm_ns)

    def open(self, load: float, until_ns: int, warm_ns: int) -> Outcome:
        """Requests come when they come, at this share of what the workers could do; nobody waits for an answer."""
        per_s = load * self.kind.best_per_s(len(self.workers))

        def arrive() -> None:
            self._arrive()
            self.at(self.now_ns + int(self._arrivals.expovariate(per_s) * S), arrive)

        self.at(0, arrive)
        return self._run(until_ns, warm_ns)

    def _arrive(self) -> None:
        slow = self._made.random() < self.kind.slow_share
        # No two requests take the same: a tenth more or less.
        service_ns = int((self.kind.slow_ns if slow else self.kind.quick_ns) * self._made.uniform(0.9, 1.1))
        self.router.submit(Request(self.now_ns, service_ns, slow, self))

    def _crash(self) -> None:
        self.outcome.lost.append(0)
        self.workers[0].die()

    def begun(self, request: Request) -> None:
        assert request not in self._begun, "begun twice"
        self._begun.add(request)

    def answered(self, request: Request) -> None:
        self._begun.discard(request)
        if self.now_ns >= self._warm_ns:
            self.outcome.answered += 1
            self.outcome.service_ns += request.service_ns
            if not request.slow:
                self.outcome.waits_ns.append(self.now_ns - request.due_ns)
        self._on_end()

    def lost(self, request: Request) -> None:
        self._begun.discard(request)
        if self.outcome.lost:
            self.outcome.lost[-1] += 1
        self._on_end()
