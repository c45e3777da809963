"""The table of an exchange, and that no byte of a request's body is lost or doubled on any way through it."""

import itertools

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from emperor.protocol.records import BODY_LIMIT
from emperor.router.exchange import Exchange
from emperor.router.states import TRANSITIONS, Event, IllegalTransition, State
from tests.router.parts import exchange

LISTED = [pytest.param(*pair, id=f"{pair[0].name}-{pair[1].name}") for pair in TRANSITIONS]
UNLISTED = [
    pytest.param(state, event, id=f"{state.name}-{event.name}")
    for state, event in itertools.product(State, Event)
    if (state, event) not in TRANSITIONS
]


@pytest.mark.parametrize(("state", "event"), LISTED)
def test_every_row_of_the_table(state: State, event: Event) -> None:
    one = exchange()
    one.state = state
    assert one.step(event) == TRANSITIONS[state, event]
    assert one.state == TRANSITIONS[state, event]


@pytest.mark.parametrize(("state", "event"), UNLISTED)
def test_every_other_pair_is_an_error_that_names_both(state: State, event: Event) -> None:
    one = exchange()
    one.state = state
    with pytest.raises(IllegalTransition, match=f"{event.name} while {state.name}"):
        one.step(event)
    assert one.state == state


def test_nothing_leads_out_of_the_end() -> None:
    assert not [pair for pair in TRANSITIONS if pair[0] is State.ENDED]


def test_every_state_is_reached_and_reaches_the_end() -> None:
    reached = {State.QUEUED}
    while more := {to for (state, _), to in TRANSITIONS.items() if state in reached} - reached:
        reached |= more
    assert reached == set(State)
    ends = {State.ENDED}
    while more := {state for (state, _), to in TRANSITIONS.items() if to in ends} - ends:
        ends |= more
    assert ends == set(State)


def test_what_has_begun_is_queued_again_only_to_be_retried() -> None:
    into_queue = {pair for pair, to in TRANSITIONS.items() if to is State.QUEUED}
    assert into_queue == {
        (State.RECEIVING, Event.WHOLE),
        (State.OFFERED, Event.REVOKE),
        (State.OFFERED, Event.RETRY),
        (State.BEGUN, Event.RETRY),
    }


def test_a_whole_small_body_goes_with_the_request() -> None:
    one = exchange(content_length=5)
    one.body(b"he")
    one.body(b"llo")
    one.body_done = True
    assert one.first() == b"hello"
    assert one.fin_sent
    assert one.buffered == 0


def test_no_body_is_whole_at_once() -> None:
    one = exchange()
    assert one.first() == b""
    assert one.fin_sent


def test_a_body_that_is_still_to_come_is_not_whole() -> None:
    one = exchange(content_length=5)
    assert one.first() == b""
    assert not one.fin_sent
    one.credit = 10
    assert one.credited() == []
    one.body(b"hello")
    one.body_done = True
    assert one.credited() == [(b"hello", True)]


def test_a_body_of_exactly_one_record_is_whole_and_one_byte_more_is_not() -> None:
    for size, whole in ((BODY_LIMIT, True), (BODY_LIMIT + 1, False)):
        one = exchange(content_length=size)
        one.body(bytes(size))
        one.body_done = True
        assert len(one.first()) == BODY_LIMIT
        assert one.fin_sent is whole
        assert one.buffered == size - BODY_LIMIT


def test_the_end_of_a_body_costs_no_credit_and_is_said_once() -> None:
    one = exchange(content_length=3)
    one.first()
    one.body(b"abc")
    one.credit = 3
    assert one.credited() == [(b"abc", False)]
    one.body_done = True
    assert one.credited() == [(b"", True)]
    assert one.credited() == []


class Bodies(RuleBasedStateMachine):
    """A client that sends, a worker that is offered the request, may have it taken back, begins, and gives credit."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.received = bytearray()
        self.ends = 0
        self.offered = b""
        self.fresh = itertools.cycle(range(256))

    @initialize()
    def start(self) -> None:
        self.one: Exchange = exchange(content_length=10**9)

    @precondition(lambda self: not self.one.body_done)
    @rule(size=st.sampled_from([1, 2, 1000, BODY_LIMIT - 1, BODY_LIMIT, BODY_LIMIT + 1, 3 * BODY_LIMIT]))
    def client_sends(self, size: int) -> None:
        piece = bytes(itertools.islice(self.fresh, size % 251 + 1)) * (size // (size % 251 + 1) + 1)
        self.sent += piece[:size]
        self.one.body(piece[:size])
        self.passed_on()

    @precondition(lambda self: not self.one.body_done)
    @rule()
    def client_ends(self) -> None:
        self.one.body_done = True
        self.passed_on()

    @precondition(lambda self: self.one.state == State.QUEUED)
    @rule()
    def offer(self) -> None:
        self.one.step(Event.OFFER)
        self.offered = self.one.first()
        assert len(self.offered) <= BODY_LIMIT
        assert self.one.fin_sent == (self.one.body_done and bytes(self.offered) == bytes(self.sent))

    @precondition(lambda self: self.one.state == State.OFFERED)
    @rule()
    def revoke(self) -> None:
        self.one.step(Event.REVOKE)
        self.one.take_back()
        self.offered = b""
        assert self.one.buffered == len(self.sent)

    @precondition(lambda self: self.one.state in (State.OFFERED, State.BEGUN))
    @rule(credit=st.sampled_from([1, 100, BODY_LIMIT, 4 * BODY_LIMIT]))
    def worker_credits(self, credit: int) -> None:
        if self.one.state == State.OFFERED:
            self.received += self.offered
            self.ends += self.one.fin_sent
            self.one.first_part = b""
        self.one.step(Event.BEGIN)
        self.one.credit += credit
        self.passed_on()

    def passed_on(self) -> None:
        if self.one.state != State.BEGUN:
            return
        before = self.one.credit
        for piece, fin in self.one.credited():
            assert len(piece) <= BODY_LIMIT
            assert piece or fin
            before -= len(piece)
            self.received += piece
            self.ends += fin
        assert before == self.one.credit >= 0

    @invariant()
    def no_byte_is_lost_doubled_or_out_of_order(self) -> None:
        one = self.one
        held = sum(map(len, one.chunks or ()))
        assert one.buffered == held
        if one.state == State.BEGUN:
            assert self.sent.startswith(self.received)
            assert len(self.received) + held == len(self.sent)
            assert self.ends == int(one.body_done and not held)
            assert not held or one.credit == 0
        else:
            assert len(self.offered) + held == len(self.sent)


TestBodies = Bodies.TestCase
