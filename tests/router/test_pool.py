"""Choosing among workers."""

import pytest

from emperor.router.pool import SETTLED_NS, Member, Pool

NOW = 10**12
YOUNG, SETTLED, LONG = SETTLED_NS // 2, SETTLED_NS * 2, 50_000_001


class Worker(Member):
    def __init__(
        self,
        name: str,
        slots: int = 1,
        in_flight: int = 0,
        accepting: bool = True,
        words: int = 32,
        running: int = -1,
    ) -> None:
        super().__init__(slots)
        self.name = name
        self.in_flight = in_flight
        self.accepting = accepting
        self.words = words
        self.running = running

    def room(self) -> bool:
        return self.in_flight < self.words

    def running_ns(self, now_ns: int) -> int:
        assert now_ns == NOW
        return self.running

    def waiting(self) -> int:
        return self.in_flight - self.slots


def pool_of(*workers: Worker) -> Pool:
    pool = Pool()
    for worker in workers:
        pool.join(worker)
    return pool


def test_an_empty_pool_has_nobody() -> None:
    pool = Pool()
    assert pool.idle_member() is None
    assert pool.deck_member(NOW) is None
    assert pool.blocked_member(NOW) == (None, False)


def test_the_last_to_become_idle_is_the_first_to_be_used() -> None:
    one, two, three = workers = [Worker(name) for name in ("one", "two", "three")]
    pool = pool_of(*workers)
    for worker in workers:
        worker.in_flight = 1
    assert pool.idle_member() is None
    for worker in (two, three, one):
        worker.in_flight = 0
        pool.became_idle(worker)
    assert pool.idle_member() is one
    one.in_flight = 1
    assert pool.idle_member() is three


def test_a_member_with_several_slots_is_idle_until_all_are_taken() -> None:
    one = Worker("one", slots=2)
    pool = pool_of(one)
    assert pool.idle_member() is one
    one.in_flight = 1
    assert pool.idle_member() is one
    one.in_flight = 2
    assert pool.idle_member() is None


def test_of_members_with_several_slots_the_least_busy_is_used() -> None:
    one, two, three = (Worker(name, slots=3) for name in ("one", "two", "three"))
    pool = pool_of(one, two, three)
    assert pool.idle_member() is three
    three.in_flight = 1
    assert pool.idle_member() is two
    two.in_flight = 2
    assert pool.idle_member() is one
    one.in_flight = 2
    assert pool.idle_member() is three
    three.words = 1
    assert pool.idle_member() in (one, two)


def test_becoming_idle_twice_is_being_idle_once() -> None:
    one = Worker("one")
    pool = pool_of(one)
    pool.became_idle(one)
    pool.leave(one)
    assert pool.idle_member() is None


@pytest.mark.parametrize("how", ["retired", "left", "not accepting", "busy when it said so"])
def test_who_is_not_chosen_when_idle(how: str) -> None:
    one = Worker("one")
    pool = pool_of(one)
    match how:
        case "retired":
            one.accepting = False
            pool.retire(one)
        case "left":
            pool.leave(one)
        case "not accepting":
            one.accepting = False
        case "busy when it said so":
            one.in_flight = 1
            pool.idle_member()
            pool.became_idle(one)
    assert pool.idle_member() is None


def test_the_deck_of_the_least_loaded() -> None:
    pool = pool_of(Worker("a", in_flight=3), Worker("b", in_flight=1), Worker("c", in_flight=2))
    member = pool.deck_member(NOW)
    assert isinstance(member, Worker)
    assert member.name == "b"


def test_nothing_goes_on_deck_behind_a_request_that_has_run_long() -> None:
    behind = Worker("behind", in_flight=1, running=LONG)
    pool = pool_of(behind)
    assert pool.deck_member(NOW) is None
    other = Worker("other", in_flight=5, running=SETTLED)
    pool.join(other)
    assert pool.deck_member(NOW) is other


def test_when_all_have_long_requests_one_waits_behind_the_oldest() -> None:
    younger = Worker("younger", in_flight=1, running=LONG)
    oldest = Worker("oldest", in_flight=1, running=3 * LONG)
    pool = pool_of(younger, oldest)
    assert pool.stuck_member(NOW) is oldest
    oldest.in_flight = 2
    assert pool.stuck_member(NOW) is younger
    younger.in_flight = 2
    assert pool.stuck_member(NOW) is None


def test_nobody_waits_behind_a_long_request_while_there_are_others() -> None:
    stuck = Worker("stuck", in_flight=1, running=LONG)
    other = Worker("other", in_flight=9, running=SETTLED)
    pool = pool_of(stuck, other)
    assert pool.stuck_member(NOW) is None
    other.accepting = False
    assert pool.stuck_member(NOW) is stuck
    stuck.words = 1
    assert pool.stuck_member(NOW) is None
    assert Pool().stuck_member(NOW) is None


def test_only_quick_ones_wait_behind_a_long_request() -> None:
    """A swap of two costs as much as one of them takes."""
    pool = pool_of(Worker("stuck", in_flight=1, running=50 * LONG))
    for _ in range(200):
        pool.took(2_000_000)
    assert pool.stuck_member(NOW) is None


def test_a_deck_is_as_deep_as_is_worth_it() -> None:
    one = Worker("one", in_flight=1)
    pool = pool_of(one, Worker("other", accepting=False))
    for _ in range(200):
        pool.took(10_000_000)
    assert pool.depth(1) == 1
    assert pool.deck_member(NOW) is one
    one.in_flight = 2
    assert pool.deck_member(NOW) is None
    for _ in range(200):
        pool.took(100_000)
    assert 16 < pool.depth(1) < 26
    assert pool.deck_member(NOW) is one
    one.in_flight = 1 + pool.depth(1)
    assert pool.deck_member(NOW) is None
    # The words of its page are fewer.
    one.words = 8
    one.in_flight = 8
    assert pool.deck_member(NOW) is None


def test_an_only_worker_has_a_deeper_deck() -> None:
    pool = pool_of(Worker("one"))
    for _ in range(200):
        pool.took(2_000_000)
    alone = pool.depth(1)
    other = Worker("two")
    pool.join(other)
    assert alone > 3 * pool.depth(1)
    pool.leave(other)
    assert pool.depth(1) == alone


def test_the_words_of_the_page_bound_it() -> None:
    one = Worker("one")
    pool = pool_of(one)
    one.in_flight = one.words = 2
    assert pool.deck_member(NOW) is None


def test_a_worker_whose_deck_is_full_does_not_hide_the_others() -> None:
    full = Worker("full", in_flight=2, words=2)
    other = Worker("other", in_flight=4)
    assert pool_of(full, other).deck_member(NOW) is other


def test_what_is_long_goes_by_what_is_usual() -> None:
    pool = pool_of(Worker("one", in_flight=1, running=5_000_000))
    assert pool.deck_member(NOW) is None
    for _ in range(200):
        pool.took(10_000_000)
    assert pool.deck_member(NOW) is not None


def test_what_waits_behind_a_long_request_is_taken_back_for_others_to_have() -> None:
    stuck = Worker("stuck", in_flight=3, running=LONG)
    alone = Worker("alone with its request", in_flight=1, running=LONG)
    busy = Worker("busy", in_flight=3, running=SETTLED)
    assert pool_of(stuck, alone, busy).stuck_members(NOW) == [stuck]
    assert pool_of(stuck, Worker("idle")).stuck_members(NOW) == [stuck]


def test_nothing_is_taken_back_that_has_nowhere_to_go() -> None:
    a = Worker("a", in_flight=3, running=LONG)
    b = Worker("b", in_flight=1, running=LONG)
    leaving = Worker("leaving", accepting=False)
    assert pool_of(a).stuck_members(NOW) == []
    assert pool_of(a, b, leaving).stuck_members(NOW) == []
    assert Pool().stuck_members(NOW) == []
    # But where other routers have slots it has.
    assert pool_of(a).stuck_members(NOW, True) == [a]


def test_no_deck_without_room_or_when_not_accepting() -> None:
    pool = pool_of(Worker("full", in_flight=2, words=2), Worker("leaving", in_flight=1, accepting=False))
    assert pool.deck_member(NOW) is None


def test_an_idle_member_takes_from_the_one_with_most_behind_a_settled_request() -> None:
    a = Worker("a", in_flight=3, running=SETTLED)
    b = Worker("b", in_flight=6, running=SETTLED)
    idle = Worker("idle")
    assert pool_of(a, b, idle).blocked_member(NOW) == (b, False)


def test_nothing_is_taken_from_behind_a_young_request_but_it_is_looked_at_again() -> None:
    young = Worker("young", in_flight=6, running=YOUNG)
    assert pool_of(young, Worker("idle")).blocked_member(NOW) == (None, True)
    settled = Worker("settled", in_flight=2, running=SETTLED)
    assert pool_of(young, settled, Worker("idle")).blocked_member(NOW) == (settled, True)


def test_a_member_that_leaves_gives_what_waits_at_once() -> None:
    leaving = Worker("leaving", in_flight=2, running=YOUNG, accepting=False)
    assert pool_of(leaving).blocked_member(NOW) == (leaving, False)


def test_one_request_in_work_is_nobody_waiting() -> None:
    assert pool_of(Worker("one", in_flight=1, running=LONG)).blocked_member(NOW) == (None, False)
