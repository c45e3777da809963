"""Whose a slot is (docs/specs/backplane.md, section 4), in every state that two routers and a worker can reach, on a real page.

Beside the claim words of `test_scoreboard_states`: a router takes a slot that nobody holds, lets go of one that it does not
need when the other wants it, and offers no more than it has slots for and one on deck; a worker runs what has a slot of the
router that offered it; either router may die at any time, and one may come after it in its seat; the worker may die, or lose a
connection whose router lives.

`MISTAKES` are protocols with one thing done wrong. The search must find fault with each: it could not be trusted else.
"""

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from mmap import mmap
from typing import NamedTuple

import pytest

from emperor.protocol import scoreboard
from emperor.protocol.scoreboard import BUSY, CLAIMED, FREE, HELD, REVOKED, UNHELD, Board

from .search import Wrong, explore, must

ROUTERS = 2
WORDS = 2
"""Of each router's deck."""


class Work(NamedTuple):
    """What a worker does in one of its slots; ``phase`` is what it does next."""

    phase: str = ""
    router: int = 0
    word: int = 0
    request: int = 0
    epoch: int = 0
    came_by: int = 0  # which of the router's connections


class Router(NamedTuple):
    """One router and its connection. ``link``: up; lost (the worker does not know, or is to say HELLO again); none (it is
    dead)."""

    epoch: int
    link: str = "up"
    knows: bool = True  # the worker has this connection
    greeted: int = 0  # so many there were before
    slots: frozenset[int] = frozenset()  # that it thinks its own
    queue: tuple[int, ...] = ()
    offered: tuple[tuple[int, int], ...] = ()  # word, request
    revoked: frozenset[int] = frozenset()  # words that it waits for
    wire: tuple[tuple[int, int], ...] = ()  # word, request
    back: tuple[int, ...] = ()  # words of requests that have ended


class State(NamedTuple):
    grants: tuple[int, ...]
    words: tuple[tuple[int, ...], ...]
    routers: tuple[Router, ...]
    works: tuple[Work, ...]
    begun: frozenset[int] = frozenset()
    answered: frozenset[int] = frozenset()
    lost: frozenset[int] = frozenset()  # that had begun when their connection went, or whose router died
    alive: bool = True
    # What chance may still do
    revokes: int = 1
    router_deaths: int = 1
    worker_deaths: int = 1
    losses: int = 1
    scribbles: int = 0
    scribbled: bool = False


def start(slots: int, requests: tuple[tuple[int, ...], ...], **chance: int) -> State:
    return State(
        grants=(0,) * slots,
        words=((0,) * WORDS,) * ROUTERS,
        routers=tuple(Router(epoch, queue=queue) for epoch, queue in enumerate(requests, 1)),
        works=(Work(),) * slots,
        **chance,  # type: ignore[arg-type]
    )


class Protocol:
    """The steps of all sides, as emperor/router/grants.py and vassals/worker/link.py take them."""

    def __init__(self, board: Board, memory: mmap) -> None:
        self.board = board
        self.memory = memory
        self.slots = board.slots
        decks = scoreboard.HEADER_BYTES + 16 * self.slots
        self.words_at = [
            [decks + 8 * (router * WORDS + word) for word in range(WORDS)] for router in range(ROUTERS)
        ]
        self.grants_at = [decks + 8 * (ROUTERS * WORDS + slot) for slot in range(self.slots)]

    def load(self, state: State) -> None:
        for place, word in zip(self.grants_at, state.grants, strict=True):
            struct.pack_into("<Q", self.memory, place, word)
        for places, words in zip(self.words_at, state.words, strict=True):
            for place, word in zip(places, words, strict=True):
                struct.pack_into("<Q", self.memory, place, word)

    def take_step(self, state: State, step: Callable[[], State]) -> State:
        self.load(state)
        return step()

    def is_nothing(self, name: str, state: State, following: State) -> bool:
        # Who tries in vain stays where it is: that is not something that happens.
        return name.startswith("!") or following == state

    def read_page(self, state: State) -> State:
        # How often a holder has changed is of no consequence where every step is atomic: without it the states are finite.
        return state._replace(
            grants=tuple(self.word(place) & ~0xFFFFFFFC for place in self.grants_at),
            words=tuple(tuple(self.word(place) for place in places) for places in self.words_at),
        )

    def word(self, place: int) -> int:
        return int(struct.unpack_from("<Q", self.memory, place)[0])

    # What a mistake may be made in

    def take(self, slot: int, epoch: int) -> bool:
        return self.board.take(0, slot, epoch)

    def release(self, slot: int, epoch: int) -> bool:
        return self.board.release(0, slot, epoch)

    def enter(self, slot: int, epoch: int) -> bool:
        return self.board.enter(0, slot, epoch)

    def vacate(self, slot: int, epoch: int) -> bool:
        return self.board.vacate(0, slot, epoch)

    def bereave(self, epoch: int) -> None:
        self.board.bereave(0, epoch)

    def mend(self, epochs: set[int], running: set[int]) -> int:
        return self.board.mend(0, self.slots, epochs, running)

    def inherit(self) -> None:
        self.board.inherit(0)

    releases_what_it_needs = False
    ends_before_it_vacates = False

    # What can happen

    def steps(self, state: State) -> Iterator[tuple[str, Callable[[], State]]]:
        """``(what, how)``; those whose name begins with "!" need not ever happen."""
        for number, router in enumerate(state.routers):
            for what, how in self.router_steps(state, number, router):
                mark, what = ("!", what[1:]) if what.startswith("!") else ("", what)
                yield f"{mark}router {number}: {what}", how
        if state.alive:
            for slot, work in enumerate(state.works):
                for what, how in self.work_steps(state, slot, work):
                    yield f"slot {slot}: {what}", how
            for number, router in enumerate(state.routers):
                if router.knows and router.link != "up":
                    yield f"worker: sees that it has lost {number}", lambda n=number: self.lose(state, n)  # type: ignore[misc]
                if not router.knows and router.link == "lost":
                    yield f"worker: says HELLO to {number}", lambda n=number: self.greet(state, n)  # type: ignore[misc]
            for number, router in enumerate(state.routers):
                if router.knows and router.link == "up" and (router.wire or router.queue):
                    yield f"worker: looks for a slot for {number}", lambda n=number: self.looks(state, n)  # type: ignore[misc]
            if state.scribbles:
                for slot in range(self.slots):
                    for word in SCRIBBLES:
                        yield (
                            f"!its app writes {word:#x} over slot {slot}",
                            lambda s=slot, w=word: self.scribble(state, s, w),  # type: ignore[misc]
                        )
            if state.worker_deaths:
                yield "!worker: dies", lambda: self.worker_dies(state)
        else:
            yield "the next worker starts", lambda: self.restart(state)

    def put(self, state: State, number: int, router: Router, **changed: object) -> State:
        routers = (*state.routers[:number], router, *state.routers[number + 1 :])
        return state._replace(routers=routers, **changed)  # type: ignore[arg-type]

    def router_steps(
        self, state: State, number: int, router: Router
    ) -> Iterator[tuple[str, Callable[[], State]]]:
        if router.link == "none":
            if state.alive:
                yield "the next one starts", lambda: self.succeed(state, number, router)
            return
        if state.router_deaths:
            yield "!dies", lambda: self.router_dies(state, number, router)
        if router.link != "up":
            return
        busy = len(router.offered)
        if router.queue or busy > len(router.slots):
            for slot in range(self.slots):
                if slot not in router.slots or state.grants[slot] >> 32 != router.epoch:
                    yield f"take {slot}", lambda s=slot: self.takes(state, number, router, s)  # type: ignore[misc]
        free = [
            word
            for word in range(WORDS)
            if word not in router.revoked and all(word != used for used, _ in router.offered)
        ]
        if router.queue and router.slots and busy <= len(router.slots) and free:
            yield "offer", lambda: self.offers(state, number, router, free[0])
        other = state.routers[1 - number]
        has = any(word >> 32 == other.epoch for word in state.grants) if state.scribbled else other.slots
        wanted = (
            other.link == "up"
            and (other.queue or len(other.offered) > len(other.slots) or other.wire)
            and not has
        )
        if wanted and (busy < len(router.slots) or self.releases_what_it_needs):
            for slot in router.slots:
                yield f"release {slot}", lambda s=slot: self.releases(state, number, router, s)  # type: ignore[misc]
        # What lies on deck must not keep the last slot from who waits for it.
        if wanted and busy >= len(router.slots):
            for word, request in router.offered:
                yield (
                    f"take back {request}",
                    lambda w=word, r=request: self.revoke(state, number, router, w, r),
                )  # type: ignore[misc]
        elif state.revokes:
            for word, request in router.offered:
                yield (
                    f"!revoke {request}",
                    lambda w=word, r=request: self.revoke(  # type: ignore[misc]
                        state._replace(revokes=state.revokes - 1), number, router, w, r
                    ),
                )
        for word in router.revoked:
            if state.words[number][word] & 3 == FREE:
                yield (
                    f"see free word {word}",
                    lambda w=word: self.put(  # type: ignore[misc]
                        state, number, router._replace(revoked=router.revoked - {w})
                    ),
                )
        if router.back:
            yield "read an end", lambda: self.reads(state, number, router)
        if state.losses and router.knows:
            yield "!its connection breaks", lambda: self.breaks(state, number, router)

    def takes(self, state: State, number: int, router: Router, slot: int) -> State:
        if not self.take(slot, router.epoch):
            return state
        return self.read_page(self.put(state, number, router._replace(slots=router.slots | {slot})))

    def releases(self, state: State, number: int, router: Router, slot: int) -> State:
        if not self.release(slot, router.epoch):
            return state
        return self.read_page(self.put(state, number, router._replace(slots=router.slots - {slot})))

    def offers(self, state: State, number: int, router: Router, word: int) -> State:
        request = router.queue[0]
        must(
            self.board.offer(0, number, word, request * 8 + router.epoch), "a word that should be free is not"
        )
        router = router._replace(
            queue=router.queue[1:],
            offered=(*router.offered, (word, request)),
            wire=(*router.wire, (word, request)),
        )
        return self.read_page(self.put(state, number, router))

    def revoke(self, state: State, number: int, router: Router, word: int, request: int) -> State:
        if self.board.revoke(0, number, word, request * 8 + router.epoch) != REVOKED:
            return state
        must(request not in state.begun, "taken back, and it had begun")
        router = router._replace(
            queue=tuple(sorted((*router.queue, request))),
            offered=tuple(each for each in router.offered if each[0] != word),
            revoked=router.revoked | {word},
        )
        return self.read_page(self.put(state, number, router))

    def reads(self, state: State, number: int, router: Router) -> State:
        word = router.back[0]
        request = next((request for used, request in router.offered if used == word), 0)
        router = router._replace(
            back=router.back[1:], offered=tuple(each for each in router.offered if each[0] != word)
        )
        return self.put(state, number, router, answered=state.answered | ({request} if request else set()))

    def router_dies(self, state: State, number: int, router: Router) -> State:
        lost = state.lost | {*router.queue, *(request for _, request in router.offered)}
        router = Router(router.epoch, "none", router.knows, router.greeted)
        return self.put(state, number, router, lost=lost, router_deaths=state.router_deaths - 1)

    def succeed(self, state: State, number: int, router: Router) -> State:
        self.board.revoke_all(0, number)
        router = Router(router.epoch + ROUTERS, "lost", router.knows, router.greeted, queue=(100 + number,))
        return self.read_page(self.put(state, number, router))

    def breaks(self, state: State, number: int, router: Router) -> State:
        """A router that lives is not believed any more by this worker, or the other way round."""
        return self.drop(state._replace(losses=state.losses - 1), number, router)

    def drop(self, state: State, number: int, router: Router) -> State:
        queue, lost = list(router.queue), set(state.lost)
        for word, request in router.offered:
            outcome = self.board.revoke(0, number, word, request * 8 + router.epoch)
            if outcome == REVOKED:
                must(request not in state.begun, "taken back, and it had begun")
                queue.append(request)
            else:
                lost.add(request)
        router = Router(router.epoch, "lost", router.knows, router.greeted, queue=tuple(sorted(queue)))
        return self.read_page(self.put(state, number, router, lost=frozenset(lost)))

    # The worker

    def work_steps(self, state: State, slot: int, work: Work) -> Iterator[tuple[str, Callable[[], State]]]:
        match work.phase:
            case "":
                for number, router in enumerate(state.routers):
                    if router.knows and router.wire and router.link == "up":
                        yield f"enter for {number}", lambda n=number: self.enters(state, slot, n)  # type: ignore[misc]
            case "claim":
                yield "claim", lambda: self.claims(state, slot, work)
            case "run":
                yield "end", lambda: self.ends(state, slot, work)
            case "vacate":
                yield "vacate", lambda: self.vacates(state, slot, work)

    def set_work(self, state: State, slot: int, work: Work) -> State:
        return state._replace(works=(*state.works[:slot], work, *state.works[slot + 1 :]))

    def enters(self, state: State, slot: int, number: int) -> State:
        router = state.routers[number]
        if not self.enter(slot, router.epoch):
            return state
        (word, request), *rest = router.wire
        state = self.put(state, number, router._replace(wire=tuple(rest)))
        return self.read_page(
            self.set_work(state, slot, Work("claim", number, word, request, router.epoch, router.greeted))
        )

    def claims(self, state: State, slot: int, work: Work) -> State:
        if not self.board.claim(0, work.router, work.word, work.request * 8 + work.epoch):
            self.board.free(0, work.router, work.word)
            return self.vacates(state, slot, work)
        must(work.request not in state.begun, "begun twice")
        holder, holding, _ = self.board.holder(0, slot)
        must(state.scribbled or (holder, holding) == (work.epoch, BUSY), "run in a slot of somebody else's")
        state = self.set_work(state, slot, work._replace(phase="run"))
        return self.read_page(state._replace(begun=state.begun | {work.request}))

    def ends(self, state: State, slot: int, work: Work) -> State:
        if self.ends_before_it_vacates:
            state = self.set_work(state, slot, work._replace(phase="vacate"))
            return self.tell(state, work)
        return self.tell(self.vacates(state, slot, work), work)

    def tell(self, state: State, work: Work) -> State:
        self.board.free(0, work.router, work.word)
        state = self.read_page(state)
        router = state.routers[work.router]
        if router.link == "up" and self.still_connected(router, work):
            state = self.put(state, work.router, router._replace(back=(*router.back, work.word)))
        return state

    def vacates(self, state: State, slot: int, work: Work) -> State:
        same = self.still_connected(state.routers[work.router], work)
        self.vacate(slot, work.epoch if same else 0)
        return self.read_page(self.set_work(state, slot, Work()))

    @staticmethod
    def still_connected(router: Router, work: Work) -> bool:
        """As far as the worker knows."""
        return router.knows and (router.epoch, router.greeted) == (work.epoch, work.came_by)

    def lose(self, state: State, number: int) -> State:
        router = state.routers[number]
        for epoch in {router.epoch, router.epoch - ROUTERS}:
            if epoch > 0:
                self.bereave(epoch)
        return self.read_page(self.put(state, number, router._replace(knows=False, wire=())))

    def greet(self, state: State, number: int) -> State:
        router = state.routers[number]
        self.board.revoke_all(0, number)
        self.board.reclaim(0, number)
        revoked = frozenset(range(WORDS))  # until each is seen to be free
        router = Router(router.epoch, "up", True, router.greeted + 1, queue=router.queue, revoked=revoked)
        return self.read_page(self.put(state, number, router))

    def looks(self, state: State, number: int) -> State:
        """A router says that it wants a slot, or has offered something for which it has none (`Link._mend`)."""
        epochs = {
            epoch
            for router in state.routers
            for epoch in (router.epoch, router.epoch - ROUTERS)
            if router.knows and epoch > 0
        }
        running = {slot for slot, work in enumerate(state.works) if work.phase}
        mended = self.mend(epochs, running)
        router = state.routers[number]
        unheld, its = self.board.held(0, self.slots, router.epoch)
        if unheld and (mended or not its):
            taken = {slot for slot in range(self.slots) if self.take(slot, router.epoch)}
            state = self.put(state, number, router._replace(slots=router.slots | taken))
        return self.read_page(state)

    def scribble(self, state: State, slot: int, word: int) -> State:
        struct.pack_into("<Q", self.memory, self.grants_at[slot], word)
        return self.read_page(state._replace(scribbles=state.scribbles - 1, scribbled=True))

    def worker_dies(self, state: State) -> State:
        return state._replace(works=(Work(),) * self.slots, alive=False, worker_deaths=0)

    def restart(self, state: State) -> State:
        """The next one; the routers have seen, or see now, what became of the one before."""
        for number, router in enumerate(state.routers):
            if router.link == "up":
                state = self.drop(state, number, router)
        self.inherit()
        state = state._replace(
            alive=True, routers=tuple(each._replace(knows=False, wire=()) for each in state.routers)
        )
        return self.read_page(state)


def check(state: State) -> None:
    """What holds at every moment. A router does not see at once that what it has was written over."""
    if state.scribbled:
        return
    connected = [router for router in state.routers if router.link == "up" and router.knows]
    for router in connected:
        for other in connected:
            must(router is other or not router.slots & other.slots, "a slot has two owners")
        runs = sum(
            work.phase in ("claim", "run") and Protocol.still_connected(router, work) for work in state.works
        )
        must(runs <= len(router.slots), "more is run for a router than it has slots")


def check_end(state: State) -> None:
    """Nothing more happens by itself: all must be well."""
    epochs = {router.epoch for router in state.routers}
    for slot, word in enumerate(state.grants):
        if state.scribbled:
            break  # nobody wants it
        must(word & 3 in (UNHELD, HELD), f"slot {slot} is busy for ever")
        must(word & 3 == UNHELD or word >> 32 in epochs, f"slot {slot} was lost with its router")
    asked: set[int] = set()
    for router in state.routers:
        must(router.link == "up" and router.knows, "not connected")
        must(not router.queue, "a request waits for ever")
        must(not router.offered and not router.revoked, "a router waits for a word")
        if router.epoch > ROUTERS:
            asked.add(100 + (router.epoch - 1) % ROUTERS)
    must(asked <= state.answered | state.lost, "a request was forgotten")
    must(not state.answered & state.lost, "answered, and lost")
    for words in state.words:
        must(all(word & 3 in (FREE, CLAIMED) for word in words), "a word was lost")


@contextmanager
def protocol_of(kind: type[Protocol], slots: int) -> Iterator[Protocol]:
    shape = (1, slots, ROUTERS, WORDS)
    fd = scoreboard.create(*shape)
    board = Board(fd, *shape)
    with mmap(fd, 0) as memory:
        yield kind(board, memory)
    board.close()
    os.close(fd)


class TakesWhatIsHeld(Protocol):
    def take(self, slot: int, epoch: int) -> bool:
        struct.pack_into("<Q", self.memory, self.grants_at[slot], epoch << 32 | HELD)
        return True


class ReleasesWithoutComparing(Protocol):
    """Lets go of a slot in which something has just begun."""

    releases_what_it_needs = True

    def release(self, slot: int, epoch: int) -> bool:
        struct.pack_into("<Q", self.memory, self.grants_at[slot], 0)
        return True


class RunsAnywhere(Protocol):
    """A worker that looks whether a slot is idle, and not whose it is."""

    def enter(self, slot: int, epoch: int) -> bool:
        return self.board.holder(0, slot)[1] != BUSY


class LosesWithItsRouter(Protocol):
    def bereave(self, epoch: int) -> None:
        pass


class GivesBackToTheDead(Protocol):
    """A slot whose router has gone while something ran there."""

    def vacate(self, slot: int, epoch: int) -> bool:
        return self.board.vacate(0, slot, self.board.holder(0, slot)[0])


class NeverLooks(Protocol):
    """A worker that believes what stands there."""

    def mend(self, epochs: set[int], running: set[int]) -> int:
        return 0


class InheritsNothing(Protocol):
    def inherit(self) -> None:
        pass


ONE_EACH = ((1,), (2,))
TWO_AND_ONE = ((1, 3), (2,))
NOTHING = {"revokes": 0, "router_deaths": 0, "worker_deaths": 0, "losses": 0}
A_ROUTER_DIES = {**NOTHING, "router_deaths": 1}
SCRIBBLED = {**NOTHING, "scribbles": 1}
SCRIBBLES = (UNHELD, 99 << 32 | HELD, 99 << 32 | BUSY, 99 << 32 | 3)
"""What an app may write over whose a slot is."""

# Each with what has to happen for it to show.
MISTAKES = {
    TakesWhatIsHeld: ("two owners|somebody else", NOTHING),
    ReleasesWithoutComparing: ("somebody else|two owners|more is run", NOTHING),
    RunsAnywhere: ("somebody else|more is run", NOTHING),
    LosesWithItsRouter: ("lost with its router|waits for", A_ROUTER_DIES),
    GivesBackToTheDead: ("lost with its router|waits for", A_ROUTER_DIES),
    NeverLooks: ("waits", SCRIBBLED),
    InheritsNothing: ("busy for ever|lost with|waits for", {**NOTHING, "worker_deaths": 1}),
}


@pytest.mark.parametrize(
    ("slots", "requests", "chance", "least"),
    [
        pytest.param(1, TWO_AND_ONE, {**NOTHING, "revokes": 1}, 10_000, id="one slot, nobody dies"),
        pytest.param(2, ONE_EACH, NOTHING, 10_000, id="two slots, nobody dies"),
        pytest.param(1, ONE_EACH, A_ROUTER_DIES, 40_000, id="one slot, a router dies"),
        pytest.param(1, ONE_EACH, {**NOTHING, "losses": 1}, 15_000, id="one slot, a connection breaks"),
        pytest.param(1, ONE_EACH, SCRIBBLED, 500, id="one slot, written over"),
        pytest.param(2, ((1, 3), ()), SCRIBBLED, 500, id="two slots, written over"),
        pytest.param(1, ONE_EACH, {**NOTHING, "worker_deaths": 1}, 13_000, id="one slot, the worker dies"),
        pytest.param(
            1,
            ONE_EACH,
            {**NOTHING, "router_deaths": 1, "losses": 1},
            300_000,
            id="one slot, a connection breaks and a router dies",
            marks=[pytest.mark.slow, pytest.mark.timeout(400)],
        ),
    ],
)
def test_every_state(
    slots: int, requests: tuple[tuple[int, ...], ...], chance: dict[str, int], least: int
) -> None:
    with protocol_of(Protocol, slots) as protocol:
        states, ends = explore(protocol, start(slots, requests, **chance), check_end, check)
    assert states > least, states
    assert ends >= 1


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_is_found(mistake: type[Protocol]) -> None:
    match, chance = MISTAKES[mistake]
    with protocol_of(mistake, 1) as protocol, pytest.raises(Wrong, match=match):
        explore(protocol, start(1, ONE_EACH, **chance), check_end, check)
