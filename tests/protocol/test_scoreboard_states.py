"""The claim protocol (docs/specs/backplane.md, section 4) in every state that it can reach, on a real page.

Routers, workers and what is on its way between them are one value, `State`; `Protocol.steps` gives all that can happen next,
each one operation on the page or one on the wire, and a death of a router or worker between any two. Unlike the orders
of test_scoreboard_model.py, states that are met again are not followed twice, so that requeueing, RETURN, successors in
seats and a successor of the router are all in one search.

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
from emperor.protocol.scoreboard import CLAIMED, FREE, REVOKED, Board

from .search import Wrong, explore, must

SEATS = 2
REQUESTS = (1, 2)
LATER = 3
"""The request that a router's successor has."""


class Offer(NamedTuple):
    """What a router remembers of the word of a seat."""

    stream: int
    request: int
    sent: bool


class Work(NamedTuple):
    """What a worker is at: ``phase`` is what it does next."""

    phase: str
    stream: int = 0
    request: int = 0


IDLE = Work("take")


class Seat(NamedTuple):
    """``link``: up; stale (its process is dead, and the router has not seen that); replaced (stale, and the next process is
    there); lost (a process that is to say HELLO); greeted (HELLO came, WELCOME is on its way); none (no process)."""

    link: str = "up"
    accepting: bool = True
    offer: Offer | None = None
    revoked: bool = False  # the router waits for the word to become free
    wire: tuple[tuple[int, int], ...] = ()  # REQUESTs: stream, request
    back: tuple[tuple[str, int], ...] = ()  # ends and RETURNs: stream
    work: Work = IDLE
    leaving: bool = False

    def lives(self) -> bool:
        return self.link in ("up", "lost", "greeted", "replaced")


class State(NamedTuple):
    page: tuple[int, ...] = (0,) * SEATS
    seats: tuple[Seat, ...] = (Seat(),) * SEATS
    queue: tuple[int, ...] = REQUESTS
    router: int = 0
    """0 the first; from 1 on it is dead, and so many seats less 1 has the next one seen to; after the last it is open."""
    streams: int = 0
    # What became of requests, and of streams
    begun: frozenset[int] = frozenset()
    taken: frozenset[int] = frozenset()  # streams that a router was told it has back
    refused: frozenset[int] = frozenset()  # streams that a leaving worker claimed to give them back
    answered: frozenset[int] = frozenset()
    failed: frozenset[int] = frozenset()
    orphans: frozenset[int] = frozenset()  # of a dead router
    buried: frozenset[int] = frozenset()  # those of them that must not begin any more
    # What chance may still do
    revokes: int = 2
    router_deaths: int = 1
    worker_deaths: int = 1
    leaves: int = 1

    def routed(self) -> bool:
        return self.router in (0, 1 + SEATS)

    def put(self, number: int, seat: Seat, **changed: object) -> "State":
        return self._replace(seats=(*self.seats[:number], seat, *self.seats[number + 1 :]), **changed)  # type: ignore[arg-type]


def tidy(state: State) -> State:
    """The same state with its streams numbered from 1 in their order, and what was known of streams that are nowhere any more
    forgotten: all that counts about a stream is that a new one is new."""
    seats = state.seats
    alive = {word >> 2 for word in state.page}
    for seat in seats:
        alive.update(stream for stream, _ in seat.wire)
        alive.update(stream for _, stream in seat.back)
        alive.add(seat.work.stream)
        if seat.offer is not None:
            alive.add(seat.offer.stream)
    alive.discard(0)
    if not state.taken <= alive or not state.refused <= alive:
        state = state._replace(taken=state.taken & alive, refused=state.refused & alive)
    if state.streams == len(alive):
        return state
    new = {stream: number for number, stream in enumerate(sorted(alive), 1)}
    new[0] = 0
    return state._replace(
        page=tuple(new[word >> 2] << 2 | word & 3 for word in state.page),
        seats=tuple(
            seat._replace(
                wire=tuple((new[stream], request) for stream, request in seat.wire),
                back=tuple((kind, new[stream]) for kind, stream in seat.back),
                work=seat.work._replace(stream=new[seat.work.stream]),
                offer=seat.offer and seat.offer._replace(stream=new[seat.offer.stream]),
            )
            for seat in seats
        ),
        taken=frozenset(new[stream] for stream in state.taken),
        refused=frozenset(new[stream] for stream in state.refused),
        streams=len(alive),
    )


class Protocol:
    """The steps of both sides, as emperor/router/app.py and vassals/worker/link.py take them, over one word for each seat."""

    def __init__(self, board: Board, memory: mmap) -> None:
        self.board = board
        self.memory = memory
        row = scoreboard.row_bytes(1, 1, 1)
        self.places = [scoreboard.HEADER_BYTES + seat * row + 16 for seat in range(SEATS)]

    # The page

    def load(self, page: tuple[int, ...]) -> None:
        for place, word in zip(self.places, page, strict=True):
            struct.pack_into("<Q", self.memory, place, word)

    def take_step(self, state: State, step: Callable[[], State]) -> State:
        self.load(state.page)
        return tidy(step())

    def is_nothing(self, name: str, state: State, following: State) -> bool:
        return name.startswith("!")

    def page(self) -> tuple[int, ...]:
        return tuple(struct.unpack_from("<Q", self.memory, place)[0] for place in self.places)

    # What a mistake may be made in

    def claim(self, seat: int, stream: int) -> bool:
        return self.board.claim(seat, 0, 0, stream)

    def revoke(self, seat: int, stream: int) -> int:
        return self.board.revoke(seat, 0, 0, stream)

    def revoke_all(self, seat: int) -> None:
        self.board.revoke_all(seat, 0)

    def inherit(self, seat: int) -> None:
        self.board.inherit(seat)

    def reclaim(self, seat: int) -> None:
        self.board.reclaim(seat, 0)

    sends_before_it_offers = False
    says_before_it_frees = False
    drops_without_freeing = False
    returns_without_claiming = False

    # What can happen

    def steps(self, state: State) -> Iterator[tuple[str, Callable[[], State]]]:
        """``(what, how)``; those whose name begins with "!" need not ever happen."""
        if state.routed():
            for number, seat in enumerate(state.seats):
                for what, how in self.router_steps(state, number, seat):
                    yield f"router: {what} {number}", how
        elif state.router > 0:
            yield f"next router: revoke all of seat {state.router - 1}", lambda: self.succeed(state)
        if state.router == 0 and state.router_deaths:
            yield "!router: dies", lambda: self.router_dies(state)
        for number, seat in enumerate(state.seats):
            if seat.lives():
                for what, how in self.worker_steps(state, number, seat):
                    yield f"worker {number}: {what}", how
                if state.worker_deaths:
                    yield f"!worker {number}: dies", self._bind(self.worker_dies, state, number, seat)
                if state.leaves and not seat.leaving:
                    yield (
                        f"!worker {number}: is to leave",
                        self._bind(self.is_to_leave, state, number, seat),
                    )
            elif seat.link in ("stale", "none"):
                yield f"worker {number}: the next one starts", self._bind(self.restart, state, number, seat)

    @staticmethod
    def _bind(
        step: Callable[[State, int, Seat], State], state: State, number: int, seat: Seat
    ) -> Callable[[], State]:
        return lambda: step(state, number, seat)

    def router_steps(
        self, state: State, number: int, seat: Seat
    ) -> Iterator[tuple[str, Callable[[], State]]]:
        offer = seat.offer
        if seat.link in ("up", "stale", "replaced"):
            if offer is None:
                if state.queue and seat.accepting and not seat.revoked:
                    yield "offer to", self._bind(self.offer, state, number, seat)
            elif not offer.sent:
                yield "send to", self._bind(self.send, state, number, seat)
            elif state.revokes:
                yield "!revoke from", self._bind(self.take_back, state, number, seat)
            if seat.revoked and self.board_state(state, number) == FREE:
                yield (
                    "see free the word of",
                    lambda: state.put(number, seat._replace(revoked=False)),
                )
            if seat.back:
                yield "read from", self._bind(self.read, state, number, seat)
        if seat.link in ("stale", "replaced") and not seat.back and (offer is None or offer.sent):
            yield "see dead", self._bind(self.bury, state, number, seat)
        if seat.link == "lost":
            yield "hear HELLO of", self._bind(self.greet, state, number, seat)

    @staticmethod
    def board_state(state: State, number: int) -> int:
        return state.page[number] & 3

    def offer(self, state: State, number: int, seat: Seat) -> State:
        stream, request = state.streams + 1, state.queue[0]
        if self.sends_before_it_offers:
            wire = (*seat.wire, (stream, request)) if seat.link == "up" else ()
            return state.put(
                number,
                seat._replace(offer=Offer(stream, request, False), wire=wire),
                streams=stream,
                queue=state.queue[1:],
            )
        must(self.board.offer(number, 0, 0, stream), "a word that the router thinks free is not free")
        return state.put(
            number,
            seat._replace(offer=Offer(stream, request, False)),
            streams=stream,
            queue=state.queue[1:],
            page=self.page(),
        )

    def send(self, state: State, number: int, seat: Seat) -> State:
        offer = seat.offer
        assert offer is not None
        if self.sends_before_it_offers:
            must(
                self.board.offer(number, 0, 0, offer.stream), "a word that the router thinks free is not free"
            )
            return state.put(number, seat._replace(offer=offer._replace(sent=True)), page=self.page())
        wire = (*seat.wire, (offer.stream, offer.request)) if seat.link == "up" else ()
        return state.put(number, seat._replace(offer=offer._replace(sent=True), wire=wire))

    def has_back(self, state: State, number: int, offer: Offer) -> bool:
        """What revoking says, which must be true."""
        outcome = self.revoke(number, offer.stream)
        must(outcome in (REVOKED, CLAIMED, FREE), "the word holds what nobody wrote")
        if outcome == REVOKED:
            must(offer.request not in state.begun, "the router is told that it has back what had begun")
            must(offer.stream not in state.refused, "the router has it back, and will be given it back")
        else:
            claimed = offer.request in state.begun or offer.stream in state.refused
            must(claimed, "the router is told that it had begun, and it had not")
        return outcome == REVOKED

    def take_back(self, state: State, number: int, seat: Seat) -> State:
        offer = seat.offer
        assert offer is not None
        if not self.has_back(state, number, offer):
            return state._replace(revokes=state.revokes - 1)
        return state.put(
            number,
            seat._replace(offer=None, revoked=True),
            queue=self.requeued(state, offer.request),
            taken=state.taken | {offer.stream},
            revokes=state.revokes - 1,
            page=self.page(),
        )

    @staticmethod
    def requeued(state: State, request: int) -> tuple[int, ...]:
        must(request not in state.queue, "queued twice")
        return tuple(sorted((*state.queue, request)))

    def read(self, state: State, number: int, seat: Seat) -> State:
        kind, stream = seat.back[0]
        seat = seat._replace(back=seat.back[1:])
        offer = seat.offer
        if offer is None or offer.stream != stream:
            return state.put(number, seat)  # a stream that is not known is dropped
        must(self.board.state(number, 0, 0) == (stream, FREE), "the end came before the word was free")
        seat = seat._replace(offer=None)
        if kind == "return":
            queue = self.requeued(state, offer.request)
            return state.put(number, seat._replace(accepting=False), queue=queue)
        must(offer.request in state.begun, "answered, and never begun")
        must(offer.request not in state.answered, "answered twice")
        return state.put(number, seat, answered=state.answered | {offer.request})

    def bury(self, state: State, number: int, seat: Seat) -> State:
        """Its process is dead: what it had not begun goes back into the queue."""
        offer = seat.offer
        link = {"stale": "none", "replaced": "lost"}[seat.link]
        seat = seat._replace(link=link, offer=None, revoked=False, accepting=True)
        if offer is None:
            return state.put(number, seat)
        if self.has_back(state, number, offer):
            queue = self.requeued(state, offer.request)
            taken = state.taken | {offer.stream}
            return state.put(number, seat, queue=queue, taken=taken, page=self.page())
        # Or had been claimed to be given back: nobody can know, so it is as lost as what had begun.
        return state.put(number, seat, failed=state.failed | {offer.request})

    def greet(self, state: State, number: int, seat: Seat) -> State:
        self.revoke_all(number)
        seat = seat._replace(link="greeted", offer=None, revoked=True, accepting=True, back=(), wire=())
        return state.put(number, seat, page=self.page())

    def router_dies(self, state: State) -> State:
        after = {"up": "lost", "stale": "none", "replaced": "lost", "greeted": "lost"}
        orphans = set(state.queue) | {seat.offer.request for seat in state.seats if seat.offer}
        return state._replace(
            seats=tuple(
                seat._replace(link=after.get(seat.link, seat.link), offer=None, revoked=False, back=())
                for seat in state.seats
            ),
            queue=(),
            router=1,
            orphans=frozenset(orphans),
            router_deaths=0,
        )

    def succeed(self, state: State) -> State:
        self.revoke_all(state.router - 1)
        done = state.router == SEATS
        return state._replace(
            router=state.router + 1,
            queue=(LATER,) if done else (),
            buried=state.orphans - state.begun if done else frozenset(),
            page=self.page(),
        )

    # A worker

    def worker_steps(
        self, state: State, number: int, seat: Seat
    ) -> Iterator[tuple[str, Callable[[], State]]]:
        work = seat.work
        match work.phase:
            case "take":
                if seat.wire and seat.link in ("up", "lost"):
                    yield (
                        "take a record",
                        lambda: state.put(
                            number, seat._replace(wire=seat.wire[1:], work=Work("claim", *seat.wire[0]))
                        ),
                    )
                elif seat.leaving and seat.link in ("up", "lost"):
                    yield "leave", self._bind(self.leave, state, number, seat)
                if seat.link == "greeted":
                    yield "read WELCOME", self._bind(self.welcome, state, number, seat)
            case "claim":
                yield "claim", self._bind(self.met, state, number, seat)
            case "drop":
                yield "drop", self._bind(self.dropped, state, number, seat)
            case "run":
                yield "finish", self._bind(self.finished, state, number, seat)
            case "free, to return" | "free":
                yield "free", self._bind(self.freed, state, number, seat)
            case "return" | "end":
                yield f"say {work.phase}", self._bind(self.said, state, number, seat)

    def met(self, state: State, number: int, seat: Seat) -> State:
        work = seat.work
        if seat.leaving and self.returns_without_claiming:
            refused = state.refused | {work.stream}
            return state.put(number, seat._replace(work=work._replace(phase="return")), refused=refused)
        if not self.claim(number, work.stream):
            return state.put(number, seat._replace(work=work._replace(phase="drop")), page=self.page())
        must(work.stream not in state.taken, "claimed after it was taken back")
        if seat.leaving:
            after = "return" if self.says_before_it_frees else "free, to return"
            refused = state.refused | {work.stream}
            seat = seat._replace(work=work._replace(phase=after))
            return state.put(number, seat, refused=refused, page=self.page())
        must(work.request not in state.begun, "begun twice")
        must(work.request not in state.buried, "a dead router's deck is run")
        seat = seat._replace(work=work._replace(phase="run"))
        return state.put(number, seat, begun=state.begun | {work.request}, page=self.page())

    def dropped(self, state: State, number: int, seat: Seat) -> State:
        if not self.drops_without_freeing:
            self.board.free(number, 0, 0)
        return state.put(number, seat._replace(work=IDLE), page=self.page())

    def finished(self, state: State, number: int, seat: Seat) -> State:
        after = "end" if self.says_before_it_frees else "free"
        return state.put(number, seat._replace(work=seat.work._replace(phase=after)))

    def freed(self, state: State, number: int, seat: Seat) -> State:
        self.board.free(number, 0, 0)
        after = IDLE
        if not self.says_before_it_frees:
            after = seat.work._replace(phase="end" if seat.work.phase == "free" else "return")
        return state.put(number, seat._replace(work=after), page=self.page())

    def said(self, state: State, number: int, seat: Seat) -> State:
        work = seat.work
        after = work._replace(phase="free") if self.says_before_it_frees else IDLE
        seat = seat._replace(work=after)
        # The answer belongs to the connection that the request came by.
        if seat.link == "up":
            seat = seat._replace(back=(*seat.back, (work.phase, work.stream)))
        return state.put(number, seat)

    def leave(self, state: State, number: int, seat: Seat) -> State:
        link = "stale" if seat.link == "up" else "none"
        return state.put(number, seat._replace(link=link, leaving=False, wire=()))

    def is_to_leave(self, state: State, number: int, seat: Seat) -> State:
        return state.put(number, seat._replace(leaving=True), leaves=state.leaves - 1)

    def worker_dies(self, state: State, number: int, seat: Seat) -> State:
        link = "stale" if seat.link in ("up", "replaced") else "none"
        seat = seat._replace(link=link, leaving=False, wire=(), work=IDLE)
        return state.put(number, seat, worker_deaths=state.worker_deaths - 1)

    def restart(self, state: State, number: int, seat: Seat) -> State:
        self.inherit(number)
        link = "replaced" if seat.link == "stale" else "lost"
        return state.put(number, seat._replace(link=link), page=self.page())

    def welcome(self, state: State, number: int, seat: Seat) -> State:
        self.reclaim(number)
        return state.put(number, seat._replace(link="up", wire=()), page=self.page())


def check_end(state: State, asked: tuple[int, ...]) -> None:
    """Nothing more happens by itself: all must be well."""
    must(state.routed(), "no router comes")
    must(not state.queue, "a request waits for ever")
    wanted = set(asked) - state.orphans | ({LATER} if state.router else set())
    must(wanted <= state.answered | state.failed, "a request was forgotten")
    must(not state.answered & state.failed, "answered, and failed")
    for number, seat in enumerate(state.seats):
        must(seat.offer is None and not seat.revoked, "the router waits for a word")
        must(state.page[number] & 3 == FREE, "a word was lost")


@contextmanager
def protocol_of(kind: type[Protocol]) -> Iterator[Protocol]:
    fd = scoreboard.create(SEATS, 1, 1, 1)
    board = Board(fd, SEATS, 1, 1, 1)
    with mmap(fd, 0) as memory:
        yield kind(board, memory)
    board.close()
    os.close(fd)


class ClaimsWhatItMeets(Protocol):
    """As if there were no word: what has been sent is begun."""

    def claim(self, seat: int, stream: int) -> bool:
        struct.pack_into("<Q", self.memory, self.places[seat], stream << 2 | CLAIMED)
        return True


class RevokesWithoutComparing(Protocol):
    def revoke(self, seat: int, stream: int) -> int:
        struct.pack_into("<Q", self.memory, self.places[seat], stream << 2 | REVOKED)
        return REVOKED


class SucceedsWithoutRevoking(Protocol):
    def revoke_all(self, seat: int) -> None:
        pass


class InheritsNothing(Protocol):
    def inherit(self, seat: int) -> None:
        pass


class InheritsOffersToo(Protocol):
    """Frees even what the router has yet to take back."""

    def inherit(self, seat: int) -> None:
        self.board.revoke_all(seat, 0)
        self.board.inherit(seat)


class ReclaimsNothing(Protocol):
    def reclaim(self, seat: int) -> None:
        pass


class SendsBeforeItOffers(Protocol):
    sends_before_it_offers = True


class SaysBeforeItFrees(Protocol):
    says_before_it_frees = True


class DropsWithoutFreeing(Protocol):
    drops_without_freeing = True


class ReturnsWithoutClaiming(Protocol):
    returns_without_claiming = True


MISTAKES = {
    ClaimsWhatItMeets: "claimed after it was taken back|begun twice",
    RevokesWithoutComparing: "has back what had begun",
    SucceedsWithoutRevoking: "a dead router's deck is run|waits for",
    InheritsNothing: "waits for|not free|lost",
    InheritsOffersToo: "had begun|forgotten|given|never",
    ReclaimsNothing: "waits for",
    SendsBeforeItOffers: "waits for|forgotten|had begun",
    SaysBeforeItFrees: "before the word was free|not free",
    DropsWithoutFreeing: "waits for|not free",
    ReturnsWithoutClaiming: "before the word was free|will be given it back",
}


@pytest.mark.parametrize(
    ("start", "least"),
    [
        pytest.param(State(router_deaths=0, worker_deaths=0), 20_000, id="two requests, a worker leaves"),
        pytest.param(State(router_deaths=0, leaves=0), 15_000, id="two requests, a worker dies"),
        pytest.param(State(worker_deaths=0, leaves=0), 30_000, id="two requests, the router dies"),
        pytest.param(
            State(queue=(1,), revokes=1),
            100_000,
            id="one request, all that can happen",
            marks=[pytest.mark.slow, pytest.mark.timeout(400)],
        ),
    ],
)
def test_every_state(start: State, least: int) -> None:
    with protocol_of(Protocol) as protocol:
        states, ends = explore(protocol, start, lambda state: check_end(state, start.queue))
    # As many as it was: a search that stopped short would find nothing either.
    assert states > least
    assert ends > 30


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_is_found(mistake: type[Protocol]) -> None:
    with protocol_of(mistake) as protocol, pytest.raises(Wrong, match=MISTAKES[mistake]):
        explore(protocol, State(queue=(1,), revokes=1), lambda state: check_end(state, (1,)))
