"""Which worker of another host gets a request: by load, by failures, and not before the own host's have had their time."""

import random
from collections import Counter
from heapq import heappop, heappush
from itertools import count

import pytest

from emperor.router.far import (
    FAILED_S,
    FAILURES_MOST,
    IN_A_ROW,
    NEAR_MOST,
    NEAR_NS,
    OUT_MOST_S,
    OUT_S,
    PATIENCE_S,
    PROVES,
    Far,
)

NOW = 1000.0

_numbers = count()


class Worker:
    def __init__(
        self, host: str, slots: int = 1, in_flight: int = 0, rtt_s: float = 0.001, weight: int = 1
    ) -> None:
        self.host = host
        self.weight = weight
        self.slots = self.width = slots
        self.in_flight = in_flight
        self.accepting = True
        self.rtt_s = rtt_s
        self.gives_back = True
        self.stuck = False
        self.turn = 0.0
        self.place = f"{host} {next(_numbers)}"

    @property
    def outstanding(self) -> int:
        return self.in_flight


def far_of(*workers: Worker, seed: int = 1) -> Far:
    far = Far(random.Random(seed).random)
    for worker in workers:
        far.join(worker, NOW)
    return far


def chosen(far: Far, now: float = NOW, times: int = 200) -> Counter[str]:
    """Of which hosts, when all stays as it is."""
    found = [far.choose(now) for _ in range(times)]
    return Counter("nobody" if worker is None else worker.host for worker in found)


def fail(far: Far, worker: Worker, times: int, now: float = NOW) -> float:
    """For how long the last one has put its host out."""
    left_alone_s = 0.0
    for _ in range(times):
        left_alone_s = far.answered(worker, True, now)
    return left_alone_s


# Whom


def test_nobody_is_there() -> None:
    assert far_of().choose(NOW) is None


def test_one_without_a_free_slot_gets_nothing() -> None:
    full, leaves, free = Worker("a", in_flight=1), Worker("b"), Worker("c")
    leaves.accepting = False
    far = far_of(full, leaves, free)
    assert chosen(far) == {"c": 200}
    free.in_flight = 1
    assert chosen(far) == {"nobody": 200}


def test_of_two_that_are_drawn_the_less_busy_host_gets_it() -> None:
    busy, idle = Worker("busy", slots=4, in_flight=3), Worker("idle", slots=4, in_flight=1)
    assert chosen(far_of(busy, idle)) == {"idle": 200}


def test_what_a_host_has_to_do_counts_and_not_what_one_of_its_workers_has() -> None:
    far = far_of(Worker("a"), Worker("a", slots=3, in_flight=3), Worker("b", slots=4, in_flight=1))
    # Two of a's in three are drawn against b, or one another; b wins wherever it is drawn.
    assert chosen(far_of(Worker("a"), Worker("b"))).keys() == {"a", "b"}
    assert chosen(far)["b"] == 200


def test_a_host_with_more_free_workers_is_drawn_more_often() -> None:
    """Its share is its size, where no weight is said."""
    far = far_of(*(Worker("large") for _ in range(6)), Worker("small"))
    found = chosen(far, times=2000)
    assert 1400 < found["large"] < 1950


def test_of_idle_hosts_each_gets_its_weight() -> None:
    found = chosen(far_of(Worker("light"), Worker("heavy", weight=3)), times=4000)
    assert 2.6 < found["heavy"] / found["light"] < 3.4


def test_of_many_that_are_idle_each_gets_its_weight() -> None:
    """They are not all looked at."""
    workers = [
        Worker(name, weight=weight) for name, weight in (("light", 1), ("heavy", 3)) for _ in range(20)
    ]
    found = chosen(far_of(*workers), times=4000)
    assert 2.6 < found["heavy"] / found["light"] < 3.4


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_under_load_each_has_as_much_to_do_as_its_weight_says(seed: int) -> None:
    """40 at once, Poisson, and service times that are as random."""
    chance = random.Random(seed)
    light, heavy = Worker("light", slots=60), Worker("heavy", slots=60, weight=3)
    far = far_of(light, heavy, seed=seed)
    found: Counter[str] = Counter()
    ends: list[tuple[float, int, Worker]] = []
    now = NOW
    for number in range(6000):
        now += chance.expovariate(40)
        while ends and ends[0][0] <= now:
            heappop(ends)[2].in_flight -= 1
        worker = far.choose(now)
        assert isinstance(worker, Worker)
        worker.in_flight += 1
        found[worker.host] += 1
        heappush(ends, (now + chance.expovariate(1), number, worker))
    assert 2.6 < found["heavy"] / found["light"] < 3.4


def test_a_full_host_gets_nothing_for_its_weight() -> None:
    assert chosen(far_of(Worker("light"), Worker("heavy", in_flight=1, weight=100))) == {"light": 200}


def test_two_are_drawn_and_not_all() -> None:
    """Many routers that each took the best of all would all take the same."""
    far = far_of(*(Worker(f"h{number}", slots=10, in_flight=number) for number in range(8)))
    found = chosen(far, times=1000)
    assert found["h0"] < 400 and len(found) > 4
    assert "h7" not in found  # whoever is drawn with it has less to do


# The own host first


def test_it_is_worth_the_way_and_a_little_to_wait_for_a_worker_here() -> None:
    far = far_of(Worker("near", rtt_s=0.001), Worker("far", rtt_s=0.1))
    assert far.patience_s() == pytest.approx(0.001 + PATIENCE_S)
    assert far_of().patience_s() == PATIENCE_S


# Failures


def test_a_failure_counts_as_a_full_host_for_a_while() -> None:
    failing, other = Worker("failing"), Worker("other", slots=10, in_flight=9)
    far = far_of(failing, other)
    fail(far, failing, 1)
    assert chosen(far) == {"other": 200}
    assert chosen(far, NOW + FAILED_S)["failing"] == 200


def test_no_more_failures_are_remembered_than_so_many() -> None:
    far = far_of(Worker("a"), Worker("b"))
    fail(far, far.members[0], 100)  # type: ignore[arg-type]
    assert far.hosts["a"].failures == FAILURES_MOST


def test_one_that_fails_now_and_then_is_not_left_alone() -> None:
    worker = Worker("a")
    far = far_of(worker, Worker("b"))
    for _ in range(10):
        assert fail(far, worker, IN_A_ROW - 1) == 0
        far.answered(worker, False, NOW)
    assert far.left_alone_s("a", NOW) == 0


def test_one_that_fails_so_often_in_a_row_is_left_alone_for_longer_each_time() -> None:
    worker, other = Worker("a"), Worker("b")
    far = far_of(worker, other)
    now = NOW
    for times in (1, 2, 3):
        assert fail(far, worker, IN_A_ROW, now) == OUT_S * times
        assert chosen(far, now + OUT_S * times - 0.1) == {"b": 200}
        now += OUT_S * times
        assert far.left_alone_s("a", now) == 0
    for _ in range(20):
        longest = fail(far, worker, IN_A_ROW, now)
        now += longest
    assert longest == OUT_MOST_S


def test_while_it_is_left_alone_what_it_had_does_not_make_it_longer() -> None:
    worker = Worker("a")
    far = far_of(worker, Worker("b"))
    fail(far, worker, IN_A_ROW)
    assert fail(far, worker, 3 * IN_A_ROW, NOW + 1) == 0
    assert far.left_alone_s("a", NOW + 1) == OUT_S - 1


def test_what_is_lost_counts_as_what_is_answered_so() -> None:
    worker = Worker("a")
    far = far_of(worker, Worker("b"))
    assert [far.failed(worker, NOW) for _ in range(IN_A_ROW)] == [0.0] * (IN_A_ROW - 1) + [OUT_S]


@pytest.mark.parametrize(("hosts", "out_most"), [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (10, 5)])
def test_at_most_half_are_left_alone(hosts: int, out_most: int) -> None:
    """That so many fail is rather the app's fault."""
    workers = [Worker(f"h{number}") for number in range(hosts)]
    far = far_of(*workers)
    out = sum(
        bool(fail(far, worker, 2 * IN_A_ROW) or far.left_alone_s(worker.host, NOW)) for worker in workers
    )
    assert out == out_most


def test_hosts_that_have_gone_do_not_count_among_all() -> None:
    workers = [Worker(f"h{number}") for number in range(4)]
    far = far_of(*workers)
    for worker in workers[2:]:
        far.leave(worker)
    assert fail(far, workers[0], IN_A_ROW) == OUT_S
    assert fail(far, workers[1], IN_A_ROW) == 0


def test_one_that_is_left_alone_is_better_than_none() -> None:
    worker, other = Worker("a"), Worker("b")
    far = far_of(worker, other)
    fail(far, worker, IN_A_ROW)
    other.in_flight = 1
    assert far.choose(NOW + 1) is None  # the other will have room
    far.leave(other)
    assert far.choose(NOW + 1) is worker


def test_it_comes_back_by_one_request_at_a_time() -> None:
    one, two, other = Worker("a", slots=4), Worker("a", slots=4), Worker("b", slots=100, in_flight=99)
    far = far_of(one, two, other)
    fail(far, one, IN_A_ROW)
    back = NOW + OUT_S
    assert chosen(far, back)["a"] > 0
    for answered in range(PROVES):
        one.in_flight = 1
        assert chosen(far, back) == {"b": 200}, answered
        one.in_flight = 0
        far.answered(one, False, back)
    one.in_flight = 1
    assert chosen(far, back)["a"] > 0
    # What was is forgiven: the next time is a first time.
    assert fail(far, one, IN_A_ROW, back) == OUT_S


def test_one_that_fails_as_it_comes_back_goes_for_longer() -> None:
    worker = Worker("a")
    far = far_of(worker, Worker("b"))
    fail(far, worker, IN_A_ROW)
    far.answered(worker, False, NOW + OUT_S)
    assert fail(far, worker, IN_A_ROW, NOW + OUT_S) == 2 * OUT_S


# Coming and going


def test_a_host_that_leaves_and_comes_again_is_remembered() -> None:
    worker = Worker("a")
    far = far_of(worker, Worker("b"))
    fail(far, worker, IN_A_ROW)
    far.leave(worker)
    far.leave(worker)  # once more is as good as once
    far.join(Worker("a"), NOW + 1)
    assert chosen(far, NOW + 1) == {"b": 200}


def test_a_host_that_has_gone_for_long_is_forgotten() -> None:
    """Rented ones come and go, each with an address of its own."""
    far = far_of(Worker("stays"))
    for number in range(1000):
        worker = Worker(f"h{number}")
        far.join(worker, NOW + number)
        far.failed(worker, NOW + number)
        far.leave(worker)
    assert len(far.hosts) < 3 + FAILED_S
    far.join(Worker("last"), NOW + 2000)
    assert far.hosts.keys() == {"stays", "last"}


def test_news_of_a_host_that_nobody_knows_is_no_news() -> None:
    assert far_of().answered(Worker("gone"), True, NOW) == 0
    assert far_of().failed(Worker("gone"), NOW) == 0
    assert far_of().left_alone_s("gone", NOW) == 0


# On deck there


def three(worker: Worker) -> int:
    return 3


def test_the_least_loaded_for_its_slots_and_weight_has_one_more_on_deck() -> None:
    far = far_of(
        Worker("a", in_flight=2),
        Worker("b", slots=2, in_flight=3),
        Worker("c", in_flight=3, weight=5),
        Worker("d", in_flight=4),
    )
    found = far.choose_busy(NOW, three)  # type: ignore[arg-type]
    assert found is not None and found.host == "c"


def test_nobody_has_more_on_deck_than_was_said() -> None:
    assert far_of(Worker("a", in_flight=4)).choose_busy(NOW, three) is None  # type: ignore[arg-type]
    assert far_of(Worker("a", in_flight=3)).choose_busy(NOW, three) is not None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("attribute", "value"), [("gives_back", False), ("stuck", True), ("accepting", False), ("slots", 0)]
)
def test_who_has_no_deck(attribute: str, value: object) -> None:
    worker = Worker("a", in_flight=1)
    setattr(worker, attribute, value)
    assert far_of(worker).choose_busy(NOW, three) is None  # type: ignore[arg-type]


def test_nothing_waits_where_the_last_answer_was_a_failure_or_nobody_is_to_be_asked() -> None:
    worker, other = Worker("a", in_flight=1), Worker("b", in_flight=1)
    far = far_of(worker, other)
    fail(far, worker, 1)
    assert {far.choose_busy(NOW, three) for _ in range(20)} == {other}  # type: ignore[arg-type]
    far.answered(worker, False, NOW)
    assert far.choose_busy(NOW, three) is worker  # type: ignore[arg-type]
    fail(far, worker, IN_A_ROW)
    # Left alone, and then on trial: one at a time.
    for now in (NOW, NOW + OUT_S):
        assert far.choose_busy(now, three) is other  # type: ignore[arg-type]


def test_of_many_some_are_looked_at() -> None:
    far = far_of(*(Worker(f"h{number}", in_flight=1 + number % 3) for number in range(100)))
    found = Counter(far.choose_busy(NOW, three).in_flight for _ in range(200))  # type: ignore
    assert found[1] > 150


# Where the last one went


def last_of(far: Far) -> Worker:
    worker = far.choose(NOW)
    assert isinstance(worker, Worker)
    worker.in_flight += 1
    return worker


def plenty(_: object) -> int:
    return 100


def test_what_takes_microseconds_goes_where_the_last_one_went() -> None:
    far = far_of(*(Worker(name) for name in "abc"))
    assert far.near(NOW, 1000, plenty) is None, "there is no last one"
    last = last_of(far)
    for _ in range(NEAR_MOST - 1):
        assert far.near(NOW, 1000, plenty) is last
        last.in_flight += 1
    assert far.near(NOW, 1000, plenty) is None, "that is enough"
    other = last_of(far)
    assert other is not last
    assert far.near(NOW, 1000, plenty) is other


def test_no_more_work_lies_there_than_a_message_costs() -> None:
    far = far_of(Worker("a"), Worker("b"))
    last = last_of(far)
    assert far.near(NOW, NEAR_NS - 1, plenty) is last
    assert far.near(NOW, NEAR_NS, plenty) is None
    last.in_flight = 10
    assert far.near(NOW, NEAR_NS // 10 - 1, plenty) is last
    assert far.near(NOW, NEAR_NS // 10, plenty) is None


def test_who_has_nothing_more_to_do_is_not_near() -> None:
    """So that a single client's requests go to all."""
    far = far_of(Worker("a"), Worker("b"))
    last_of(far).in_flight = 0
    assert far.near(NOW, 1000, plenty) is None


@pytest.mark.parametrize(
    ("attribute", "value"), [("gives_back", False), ("stuck", True), ("accepting", False), ("slots", 0)]
)
def test_who_has_no_deck_is_not_near(attribute: str, value: object) -> None:
    far = far_of(Worker("a"), Worker("b"))
    setattr(last_of(far), attribute, value)
    assert far.near(NOW, 1000, plenty) is None


def test_nobody_is_near_whose_last_answer_was_a_failure_or_whose_deck_is_full() -> None:
    far = far_of(Worker("a"), Worker("b"))
    last = last_of(far)
    last.in_flight = 4
    assert far.near(NOW, 1000, three) is None
    assert far.near(NOW, 1000, plenty) is last
    fail(far, last, 1)
    assert far.near(NOW, 1000, plenty) is None


def test_where_weights_differ_each_is_chosen_by_them() -> None:
    far = far_of(Worker("a"), Worker("b", weight=2))
    last_of(far)
    assert far.near(NOW, 1000, plenty) is None


def test_one_that_has_left_is_not_near() -> None:
    far = far_of(Worker("a"), Worker("b"))
    far.leave(last_of(far))
    assert far.near(NOW, 1000, plenty) is None


def test_what_went_on_a_deck_is_near_as_well() -> None:
    far = far_of(Worker("a", in_flight=2), Worker("b", in_flight=1))
    on_deck = far.choose_busy(NOW, plenty)
    assert far.near(NOW, 1000, plenty) is on_deck


# By what an app says of balancing


def test_each_in_turn_as_often_as_its_weight_says() -> None:
    far = far_of(Worker("a"), Worker("b", weight=2), Worker("full", in_flight=1))
    found = [far.choose_in_turn(NOW) for _ in range(6)]
    assert "".join(each.host for each in found if each is not None) in ("babbab", "bbabba", "abbabb")


def test_the_least_of_all_and_of_equals_in_turn() -> None:
    one, other = Worker("a", slots=4, in_flight=2), Worker("b", slots=4, in_flight=2)
    far = far_of(one, other, Worker("c", slots=4, in_flight=3))
    assert {far.choose_least(NOW) for _ in range(2)} == {one, other}
    one.in_flight = 1
    assert {far.choose_least(NOW) for _ in range(5)} == {one}
    fail(far, one, 1)
    assert {far.choose_least(NOW) for _ in range(5)} == {other}


def test_nobody_is_there_for_any_of_them() -> None:
    for far in (far_of(), far_of(Worker("a", in_flight=1))):
        assert far.choose_in_turn(NOW) is far.choose_least(NOW) is far.choose_by_key(b"me", NOW, None) is None


KEYS = [f"client{number}".encode() for number in range(200)]


def homes(far: Far) -> dict[bytes, str]:
    found = {key: far.choose_by_key(key, NOW, None) for key in KEYS}
    return {key: worker.place for key, worker in found.items() if worker is not None}  # type: ignore[attr-defined]


def test_a_key_has_its_worker_whatever_else_there_is() -> None:
    workers = [Worker(host) for host in "aabbc"]
    far = far_of(*workers)
    before = homes(far)
    shares = Counter(before.values())
    assert len(shares) == len(workers) and min(shares.values()) > 15
    # Another router, which has met them in another order and has more of the slots there, says the same.
    for worker in workers:
        worker.slots += 1
    assert homes(far_of(*reversed(workers))) == before
    gone = workers.pop()
    far.leave(gone)
    after = homes(far)
    assert {key for key in KEYS if after[key] != before[key]} == {
        key for key in KEYS if before[key] == gone.place
    }


def test_a_key_goes_on_where_its_worker_is_full_or_left_alone() -> None:
    workers = [Worker(host, slots=4) for host in "abc"]
    far = far_of(*workers)
    home = far.choose_by_key(b"me", NOW, None)
    assert isinstance(home, Worker)
    home.in_flight = 2
    assert far.choose_by_key(b"me", NOW, None) is not home, "that is more than its share and a quarter"
    for worker in workers:
        worker.in_flight = 2
    assert far.choose_by_key(b"me", NOW, None) is home
    home.in_flight = 0
    fail(far, home, IN_A_ROW)
    assert far.choose_by_key(b"me", NOW, None) is not home


def test_a_key_waits_on_the_deck_of_its_worker() -> None:
    far = far_of(*(Worker(host) for host in "abc"))
    home = far.choose_by_key(b"me", NOW, plenty)
    assert isinstance(home, Worker)
    for worker in far.members:
        worker.in_flight = 1
    assert far.choose_by_key(b"me", NOW, None) is None
    assert far.choose_by_key(b"me", NOW, plenty) is home
    home.stuck = True
    assert far.choose_by_key(b"me", NOW, plenty) not in (None, home)
