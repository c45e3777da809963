"""The words' protocol (docs/specs/backplane.md, section 4) against a model in plain Python, and over all interleavings."""

import itertools
import mmap
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from emperor.protocol import scoreboard
from emperor.protocol.scoreboard import CLAIMED, FREE, OFFERED, REVOKED, Board

SEATS, SLOTS, ROUTERS, DECK = 2, 1, 2, 3
SEAT, ROUTER = 1, 0


class Words(RuleBasedStateMachine):
    """One router and one worker as emperor/router/link.py and vassals/worker/link.py use a page; each may go and come back.

    A request is its stream. What the page must hold is kept beside it by the table of the specification; what must never
    happen to a request is an invariant.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fd = scoreboard.create(SEATS, SLOTS, ROUTERS, DECK)
        # Two mappings, as in life.
        self.router_board = Board(self.fd, SEATS, SLOTS, ROUTERS, DECK, check_seals=True)
        self.worker_board = Board(self.fd, SEATS, SLOTS, ROUTERS, DECK)
        self.streams = 0

        self.model = [(0, FREE)] * DECK  # the page
        # The router's books
        self.free_words = list(range(DECK))
        self.revoked_words: list[int] = []
        self.offers: dict[int, int] = {}  # stream: word
        self.router_lives = True
        self.linked = True
        # The worker
        self.inbox: list[tuple[int, int]] = []  # (word, stream), in order
        self.current: tuple[int, int] | None = None
        self.ends: list[int] = []  # streams whose end is on its way to the router

        # What became of each request
        self.ran: Counter[int] = Counter()
        self.taken_back: set[int] = set()
        self.dead: set[int] = (
            set()
        )  # offered by a router that a new one has followed: must not start any more

    def teardown(self) -> None:
        self.router_board.close()
        self.worker_board.close()
        os.close(self.fd)

    # The router

    @precondition(lambda self: self.router_lives and self.linked and self.free_words)
    @rule(which=st.integers(0, DECK - 1))
    def offer(self, which: int) -> None:
        word = self.free_words.pop(which % len(self.free_words))
        self.streams += 1
        assert word not in self.offers.values(), "a word was offered twice"
        assert self.router_board.offer(SEAT, ROUTER, word, self.streams)
        assert self.model[word][1] == FREE
        self.model[word] = (self.streams, OFFERED)
        self.offers[self.streams] = word
        self.inbox.append((word, self.streams))

    @precondition(lambda self: self.router_lives and self.linked)
    @rule(word=st.integers(0, DECK - 1))
    def offer_a_word_that_is_in_use(self, word: int) -> None:
        if self.model[word][1] != FREE:
            assert not self.router_board.offer(SEAT, ROUTER, word, 1 << 40)

    def take_back(self, stream: int) -> None:
        word = self.offers.pop(stream)
        outcome = self.router_board.revoke(SEAT, ROUTER, word, stream)
        found, state = self.model[word]
        if (found, state) == (stream, OFFERED):
            assert outcome == REVOKED
            self.model[word] = (stream, REVOKED)
            self.taken_back.add(stream)
            assert not self.ran[stream], "taken back, but it had begun"
            self.revoked_words.append(word)
        else:
            assert found == stream, "a word was given away under a request that was on it"
            assert outcome == state
            assert self.ran[stream] == 1, "neither taken back nor begun"

    @precondition(lambda self: self.router_lives and self.linked and self.offers)
    @rule(which=st.integers(0, DECK - 1))
    def revoke(self, which: int) -> None:
        stream = sorted(self.offers)[which % len(self.offers)]
        word = self.offers[stream]
        begun = self.ran[stream]
        self.take_back(stream)
        if begun:
            self.offers[stream] = word  # begun: it stays until its end comes

    @precondition(lambda self: self.router_lives and self.linked and self.revoked_words)
    @rule()
    def look_for_free_words(self) -> None:
        free = [word for word in self.revoked_words if self.router_board.state(SEAT, ROUTER, word)[1] == FREE]
        assert free == [word for word in self.revoked_words if self.model[word][1] == FREE]
        self.revoked_words = [word for word in self.revoked_words if word not in free]
        self.free_words += free

    @precondition(lambda self: self.router_lives and self.linked and self.ends)
    @rule()
    def read_an_end(self) -> None:
        stream = self.ends.pop(0)
        word = self.offers.pop(stream, None)
        if word is not None:  # a stream that is not known is dropped
            assert self.model[word] == (stream, FREE), "the end came before the word was free"
            self.free_words.append(word)

    @precondition(lambda self: self.router_lives)
    @rule()
    def the_router_dies(self) -> None:
        self.router_lives = self.linked = False
        self.offers.clear()
        self.free_words.clear()
        self.revoked_words.clear()

    def revoke_all(self) -> None:
        self.router_board.revoke_all(SEAT, ROUTER)
        for word, (stream, state) in enumerate(self.model):
            if state == OFFERED:
                self.model[word] = (stream, REVOKED)
        self.dead |= {stream for stream in range(1, self.streams + 1) if not self.ran[stream]}

    @precondition(lambda self: not self.router_lives)
    @rule()
    def a_new_router_comes(self) -> None:
        self.router_lives = True
        self.revoke_all()

    @precondition(lambda self: self.router_lives and self.linked)
    @rule()
    def the_link_is_lost(self) -> None:
        self.linked = False
        for stream in list(self.offers):
            self.take_back(stream)

    @precondition(lambda self: self.router_lives and not self.linked)
    @rule()
    def the_worker_says_hello(self) -> None:
        self.revoke_all()
        self.free_words = []
        self.revoked_words = list(range(DECK))
        # WELCOME
        self.linked = True
        self.inbox.clear()
        self.ends.clear()
        self.worker_board.reclaim(SEAT, ROUTER)
        self.model = [(stream, FREE if state == REVOKED else state) for stream, state in self.model]

    # The worker; it goes on with what it has when the router is gone, until it notices

    @precondition(lambda self: self.inbox and self.current is None)
    @rule()
    def meet_a_record(self) -> None:
        word, stream = self.inbox.pop(0)
        claimed = self.worker_board.claim(SEAT, ROUTER, word, stream)
        assert claimed == (self.model[word] == (stream, OFFERED))
        if claimed:
            assert stream not in self.taken_back, "taken back, and run"
            assert stream not in self.dead, "a dead router's deck was run"
            self.ran[stream] += 1
            self.model[word] = (stream, CLAIMED)
            self.current = (word, stream)
        else:
            self.worker_board.free(SEAT, ROUTER, word)
            if self.model[word][1] in (CLAIMED, REVOKED):
                self.model[word] = (self.model[word][0], FREE)

    @precondition(lambda self: self.current is not None)
    @rule()
    def finish(self) -> None:
        assert self.current is not None
        word, stream = self.current
        self.current = None
        assert self.model[word] == (stream, CLAIMED), "somebody changed a claimed word"
        self.worker_board.free(SEAT, ROUTER, word)
        self.model[word] = (stream, FREE)
        if self.linked:
            self.ends.append(stream)

    @precondition(lambda self: self.inbox)
    @rule()
    def claim_again_what_was_claimed_or_revoked(self) -> None:
        for stream, word in self.offers.items():
            if self.model[word] != (stream, OFFERED):
                assert not self.worker_board.claim(SEAT, ROUTER, word, stream)

    # Always

    @invariant()
    def the_page_is_what_the_table_says(self) -> None:
        for board in (self.router_board, self.worker_board):
            assert [board.state(SEAT, ROUTER, word) for word in range(DECK)] == self.model

    @invariant()
    def no_request_runs_twice_or_after_it_was_taken_back(self) -> None:
        assert all(count == 1 for count in self.ran.values())
        assert not self.ran.keys() & self.taken_back

    @invariant()
    def the_rest_of_the_page_is_untouched(self) -> None:
        for seat, router in ((1 - SEAT, ROUTER), (SEAT, 1 - ROUTER), (1 - SEAT, 1 - ROUTER)):
            assert [self.router_board.state(seat, router, word) for word in range(DECK)] == [(0, FREE)] * DECK

    @invariant()
    def a_quiet_link_has_all_its_words(self) -> None:
        if self.linked and not (self.inbox or self.current or self.ends or self.offers):
            assert all(state == FREE for _, state in self.model), "a word was lost"
            assert sorted(self.free_words + self.revoked_words) == list(range(DECK))


Words.TestCase.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
TestWords = Words.TestCase


# Every interleaving, for one word

Step = Generator[Callable[[], bool], None, None]


def always() -> bool:
    return True


OFFERS = (1, 2, 3)
"""The streams that the first router offers on the word, one after another; it wants each but the last back."""
LATER = 4
"""The stream that a new router offers."""


@dataclass
class World:
    """One word, a router and a worker that share it: generators that yield, before each step, when it can be taken.

    What stands between two yields is one operation on the page or on the wire.
    """

    board: Board
    wire: list[int] = field(default_factory=list)  # streams of REQUEST records, router to worker
    ran: list[int] = field(default_factory=list)
    taken_back: list[int] = field(default_factory=list)
    begun: list[int] = field(default_factory=list)  # as a revoke told the router
    dead: set[int] = field(default_factory=set)  # not begun when a new router had seen to the page
    welcome: bool = False
    actors: dict[str, Step] = field(default_factory=dict)
    waits: dict[str, Callable[[], bool]] = field(default_factory=dict)

    def start(self, name: str, actor: Step) -> None:
        self.actors[name] = actor
        self.advance(name)

    def kill(self, name: str) -> None:
        if name in self.actors:
            self.actors.pop(name).close()
            self.waits.pop(name)

    def advance(self, name: str) -> None:
        try:
            self.waits[name] = next(self.actors[name])
        except StopIteration:
            del self.actors[name]
            self.waits.pop(name, None)

    def ready(self) -> list[str]:
        return [name for name in self.actors if self.waits[name]()]

    def is_free(self) -> bool:
        return self.board.state(0, 0, 0)[1] == FREE

    def offer(self, stream: int) -> Step:
        yield self.is_free
        assert self.board.offer(0, 0, 0, stream)
        yield always
        self.wire.append(stream)

    def revoke(self, stream: int) -> Step:
        yield always
        outcome = self.board.revoke(0, 0, 0, stream)
        assert outcome in (REVOKED, CLAIMED, FREE)
        (self.taken_back if outcome == REVOKED else self.begun).append(stream)

    def router(self) -> Step:
        for stream in OFFERS:
            yield from self.offer(stream)
            if stream != OFFERS[-1]:
                yield from self.revoke(stream)

    def new_router(self) -> Step:
        yield always
        self.board.revoke_all(0, 0)
        self.dead = set(OFFERS) - set(self.ran)
        yield always
        self.wire.clear()
        self.welcome = True
        yield lambda: not self.welcome
        yield from self.offer(LATER)

    def worker(self) -> Step:
        while True:
            yield lambda: bool(self.wire) or self.welcome
            if self.welcome:
                self.board.reclaim(0, 0)
                self.welcome = False
                continue
            stream = self.wire.pop(0)
            yield always
            if self.board.claim(0, 0, 0, stream):
                self.ran.append(stream)
            yield always
            self.board.free(0, 0, 0)

    def death(self, victim: str, next_name: str, successor: Callable[[], Step]) -> Step:
        """May come between any two steps of the others."""
        yield always
        self.kill(victim)
        self.start(next_name, successor())


@contextmanager
def fresh_worlds() -> Iterator[Callable[[], World]]:
    """Makes worlds over one page, each with the word as it is on a new page."""
    fd = scoreboard.create(1, 1, 1, 1)
    board = Board(fd, 1, 1, 1, 1)
    with mmap.mmap(fd, 0) as page:

        def fresh() -> World:
            page[64:] = bytes(len(page) - 64)
            return World(board)

        yield fresh
    board.close()
    os.close(fd)


def all_interleavings(begin: Callable[[World], None]) -> Iterator[World]:
    """Every order in which the actors can take their steps, each run to its end on the real page."""
    with fresh_worlds() as fresh:
        pending: list[list[int]] = [[]]
        while pending:
            choices = pending.pop()
            world = fresh()
            begin(world)
            step = 0
            while ready := world.ready():
                if step == len(choices):
                    pending += [[*choices, other] for other in range(1, len(ready))]
                    choices = [*choices, 0]
                world.advance(ready[choices[step]])
                step += 1
            assert list(world.actors) in ([], ["worker"]), f"stuck: {list(world.actors)}"
            yield world
            world.kill("worker")


def fates(world: World) -> tuple[str, ...]:
    for stream in OFFERS:
        assert world.ran.count(stream) <= 1, "run twice"
        assert not (stream in world.ran and stream in world.taken_back), "run and taken back"
        assert not (stream in world.begun and stream in world.taken_back)
    return tuple(
        "run" if stream in world.ran else "taken back" if stream in world.taken_back else "-"
        for stream in OFFERS
    )


def test_claim_against_revoke_in_every_order() -> None:
    def begin(world: World) -> None:
        world.start("router", world.router())
        world.start("worker", world.worker())

    seen: Counter[tuple[str, ...]] = Counter()
    for world in all_interleavings(begin):
        seen[fates(world)] += 1
        assert world.begun == [stream for stream in OFFERS[:-1] if stream in world.ran], (
            "the router was told wrong"
        )
        assert world.is_free()
    both = ("run", "taken back")
    assert set(seen) == set(itertools.product(both, both, ("run",)))


def test_a_new_router_against_the_old_deck_in_every_order() -> None:
    def begin(world: World) -> None:
        world.start("router", world.router())
        world.start("worker", world.worker())
        world.start("death", world.death("router", "new router", world.new_router))

    seen: Counter[tuple[str, ...]] = Counter()
    for world in all_interleavings(begin):
        seen[fates(world)] += 1
        assert not world.dead & set(world.ran), "a dead router's deck was run"
        assert world.ran.count(LATER) == 1, "the new router's request did not run"
        assert world.is_free()
    assert sum(seen.values()) > 500
    for place in range(2):
        assert {"run", "taken back", "-"} <= {found[place] for found in seen}


def test_a_worker_that_dies_leaves_no_doubt_in_any_order() -> None:
    """What its router takes back had not begun, and what had begun is not taken back."""

    def begin(world: World) -> None:
        world.start("router", world.offer(1))
        world.start("worker", world.worker())
        world.start("death", world.death("worker", "late", lambda: late_revoke(world)))

    def late_revoke(world: World) -> Step:
        yield lambda: "router" not in world.actors
        yield from world.revoke(1)

    seen: Counter[tuple[str, ...]] = Counter()
    for world in all_interleavings(begin):
        seen[fates(world)] += 1
        assert world.begun == world.ran
        world.wire.clear()
    assert {found[0] for found in seen} == {"run", "taken back"}
