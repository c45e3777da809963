"""Which upstream gets a request, as the set and the health of its members change; chance and time are the test's."""

import random
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emperor.config import upstreams as config
from emperor.config.problems import Mistake
from emperor.router import policies
from emperor.router.health import CHECKS_FAILED, EJECTION_S, FAILURES, SLOW_START_S, Outcome, State
from emperor.router.upstreams import TOLD_S, Upstream, Upstreams

SIM = Path(__file__).parents[2] / "ops" / "sim"
sys.path.insert(0, str(SIM))

import upstreams as sim  # noqa: E402

sys.path.remove(str(SIM))


class World:
    """Some upstreams at second 0."""

    def __init__(self, *said: str, seed: int = 1) -> None:
        self.now = 0.0
        self.upstreams = Upstreams(lambda: self.now, random.Random(seed).random)
        self.upstreams.replace([config.Upstream.parse(each) for each in said])

    def chosen(self, times: int = 1000) -> Counter[str]:
        """Of requests that take no time."""
        found: Counter[str] = Counter()
        for _ in range(times):
            upstream = self.upstreams.choose()
            assert upstream is not None
            found[str(upstream.address)] += 1
        return found

    def __getitem__(self, number: int) -> Upstream:
        return list(self.upstreams)[number]

    def fail(self, upstream: Upstream, times: int = FAILURES) -> bool:
        ejected = False
        for _ in range(times):
            self.upstreams.began(upstream)
            ejected = self.upstreams.ended(upstream, Outcome.FAILED, "refused")
        return ejected


A, B, C, D = (f"uwsgi://10.0.0.{number}:3031" for number in range(1, 5))


def test_idle_ones_get_requests_by_their_weights() -> None:
    found = World(f"{A} weight=2", B, f"{C} weight=1").chosen(4000)
    assert found[A] == pytest.approx(2000, rel=0.1)
    assert found[B] == pytest.approx(1000, rel=0.15)


def test_the_one_with_less_to_do_for_its_weight() -> None:
    world = World(f"{A} weight=2", B)
    for _ in range(3):
        world.upstreams.began(world[0])
    for _ in range(2):
        world.upstreams.began(world[1])
    assert world.chosen(100) == {A: 100}
    world[0].reported = 2.0
    assert world.chosen(100) == {B: 100}


def test_a_backup_only_while_no_other_is_in_service() -> None:
    world = World(A, B, f"{C} backup", f"{D} backup")
    assert set(world.chosen()) == {A, B}
    assert world.fail(world[0])
    assert set(world.chosen()) == {B}
    assert world.fail(world[1])
    assert set(world.chosen()) == {C, D}
    world.now = EJECTION_S
    assert {str(each.address) for each in world.upstreams.look()} == {A, B}
    assert set(world.chosen()) == {A, B}


def test_each_in_turn_as_often_as_its_weight_says() -> None:
    world = World(f"{A} weight=2", B, C)
    world.upstreams.policy = policies.ROUND_ROBIN
    turns = [world.chosen(1).popitem()[0] for _ in range(8)]
    assert turns == [A, B, C, A] * 2  # spread, and not all of one's at once
    assert world.fail(world[0])
    assert world.chosen(10) == {B: 5, C: 5}


def test_the_least_of_all_for_its_weight() -> None:
    world = World(f"{A} weight=2", B, C)
    world.upstreams.policy = policies.LEAST
    for number in (0, 0, 1, 2):
        world.upstreams.began(world[number])
    assert set(world.chosen(20)) == {A, B, C}  # of equals, in turn
    world.upstreams.ended(world[2], Outcome.ANSWERED)
    assert world.chosen(20) == {C: 20}


def test_a_key_has_its_upstream() -> None:
    world = World(f"{A} weight=3", B, C)
    world.upstreams.policy = policies.HASH

    def whose() -> dict[bytes, str]:
        found = {}
        for number in range(400):
            chosen = world.upstreams.choose(key=b"%d" % number)
            assert chosen is not None and chosen is world.upstreams.choose(key=b"%d" % number)
            found[b"%d" % number] = str(chosen)
        return found

    before = whose()
    assert Counter(before.values())[A] == pytest.approx(240, rel=0.15)
    assert world.fail(world[1])
    after = whose()
    assert all(after[key] == where for key, where in before.items() if where != B)
    assert set(world.chosen(100)) == {A, C}  # who has no key


def test_a_key_goes_on_when_its_upstream_has_more_than_its_share() -> None:
    world = World(A, B)
    world.upstreams.policy = policies.HASH
    first = world.upstreams.choose(key=b"key")
    assert first is not None
    world.upstreams.began(first)
    assert (
        world.upstreams.choose(key=b"key") is first
    )  # it would have 2 of 2, which is 1.25 of a half, rounded up
    world.upstreams.began(first)
    assert world.upstreams.choose(key=b"key") not in (first, None)


def test_whom_a_cookie_names_comes_first_while_it_is_in_service() -> None:
    world = World(A, f"{B} max-connections=1", f"{C} backup")
    named = world[1]
    assert world.upstreams.choose(wish=named) is named
    assert world.upstreams.choose({named}, wish=named) is world[0]
    world.upstreams.began(named)
    assert world.upstreams.choose(wish=named) is world[0]
    world.upstreams.ended(named, Outcome.ANSWERED)
    assert world.fail(named)
    assert world.upstreams.choose(wish=named) is world[0]
    assert world.upstreams.choose(wish=world[2]) is world[0]  # a backup's time has passed


def test_one_that_it_was_brought_to_is_not_tried_again() -> None:
    world = World(A, B, f"{C} backup")
    first = world.upstreams.choose()
    assert first is not None
    second = world.upstreams.choose({first})
    assert second is not None
    third = world.upstreams.choose({first, second})
    assert third is not None
    assert str(third.address) == C
    assert world.upstreams.choose({first, second, third}) is None


def test_what_fails_fast_does_not_draw_the_traffic() -> None:
    world = World(A, B, C, D)
    found: Counter[str] = Counter()
    for _ in range(4000):
        world.now += 0.005
        upstream = world.upstreams.choose()
        assert upstream is not None
        found[str(upstream.address)] += 1
        world.upstreams.began(upstream)
        # An app whose every answer is 500 is never ejected: its failures alone must tell.
        fails = str(upstream.address) == A
        world.upstreams.ended(upstream, Outcome.ERROR if fails else Outcome.ANSWERED)
    assert found[A] < 0.05 * 4000
    assert world[0].health.state is State.IN


def test_an_accident_now_and_then_changes_little() -> None:
    world = World(A, B)
    found: Counter[str] = Counter()
    for number in range(10_000):
        world.now += 0.01
        upstream = world.upstreams.choose()
        assert upstream is not None
        found[str(upstream.address)] += 1
        world.upstreams.began(upstream)
        world.upstreams.ended(upstream, Outcome.ERROR if number % 2000 == 0 else Outcome.ANSWERED)
    assert min(found.values()) > 0.3 * 10_000


def test_one_that_comes_to_others_begins_slowly() -> None:
    world = World(A)
    added = world.upstreams.add(B, source="subscription")
    assert added.health.state is State.WARMING
    assert world.chosen(2000)[B] == pytest.approx(2000 / 11, rel=0.3)
    world.now = SLOW_START_S
    assert world.upstreams.look() == [added]
    assert world.chosen(2000)[B] == pytest.approx(1000, rel=0.1)


def test_the_first_of_all_need_not() -> None:
    world = World()
    assert world.upstreams.choose() is None
    assert world.upstreams.add(A, source="subscription").health.state is State.IN
    assert {each.health.state for each in World(A, B, C).upstreams} == {State.IN}


def test_the_file_changes_what_it_has_named_and_nothing_else() -> None:
    world = World(f"{A} weight=5", B)
    own = world.upstreams.add(C, source="subscription", weight=3)
    world.upstreams.began(world[0])
    kept = world[0]
    world.upstreams.replace([config.Upstream.parse(f"{A} weight=7 backup")])
    assert [str(each.address) for each in world.upstreams] == [A, C]
    assert world[0] is kept
    assert (kept.weight, kept.backup, kept.outstanding) == (7, True, 1)
    assert world.upstreams.add(C, weight=9).weight == own.weight == 3
    assert not world.upstreams.remove(C)
    assert world.upstreams.remove(C, "subscription")
    assert own.removed
    assert world.upstreams.get(C) is None


def test_one_that_is_removed_finishes_what_it_has() -> None:
    world = World(A, B)
    upstream = world[0]
    world.upstreams.began(upstream)
    world.upstreams.remove(A)
    assert not world.upstreams.ended(upstream, Outcome.FAILED, "reset")
    assert upstream.outstanding == 0


def test_an_address_that_is_none_is_not_added() -> None:
    with pytest.raises(Mistake):
        World().upstreams.add("10.0.0.1:3031")


def test_one_has_no_more_connections_than_it_may_have() -> None:
    world = World(f"{A} max-connections=2", f"{B} weight=9", f"{C} backup")
    for _ in range(2):
        world.upstreams.began(world[0])
    world.upstreams.began(world[1])
    assert world.chosen(50) == {B: 50}
    assert (world[0].full, world.upstreams.has_room()) == (50, True)
    world.upstreams.remove(B)
    # A backup is not for those that are busy.
    assert (world.upstreams.choose(), world.upstreams.has_room()) == (None, False)
    world.upstreams.ended(world[0], Outcome.ANSWERED)
    assert world.chosen(1) == {A: 1}
    world.upstreams.replace([config.Upstream.parse(A)])
    assert not world.upstreams.bounded


def test_one_that_is_tried_again_begins_with_a_part_of_its_connections() -> None:
    world = World(f"{A} max-connections=20", B, C)
    world.fail(world[0])
    world.now += EJECTION_S
    world.upstreams.look()
    assert world[0].health.state is State.WARMING
    for _ in range(2):
        assert world[0].has_room(world.now)
        world.upstreams.began(world[0])
    assert not world[0].has_room(world.now)
    world.now += SLOW_START_S / 2
    assert world[0].has_room(world.now)


NAMED = "http://app.internal:8000"


def test_a_name_stands_for_all_its_addresses() -> None:
    world = World(f"{NAMED} weight=3 max-connections=5", A)
    assert (str(world[0]), world[0].named, world[1].named) == (NAMED, True, False)
    assert world.upstreams.resolved(NAMED, ["10.0.0.7", "10.0.0.8", "fd00::7"])
    found = {each.ip: each for each in world.upstreams if each.named}
    assert set(found) == {"10.0.0.7", "10.0.0.8", "fd00::7"}
    assert {(each.weight, each.most, each.health.state) for each in found.values()} == {(3, 5, State.IN)}
    # Another kind of address is most likely another way to the same server.
    assert [each.second for each in found.values()] == [False, False, True]
    assert not world.upstreams.resolved(NAMED, ["10.0.0.7", "10.0.0.8", "fd00::7"])
    world.upstreams.began(found["10.0.0.8"])
    assert world.upstreams.resolved(NAMED, ["10.0.0.7", "10.0.0.9"])
    now = {each.ip: each for each in world.upstreams if each.named}
    assert now["10.0.0.7"] is found["10.0.0.7"]
    assert now["10.0.0.9"].health.state is State.WARMING
    assert found["10.0.0.8"].removed
    assert not world.upstreams.resolved(NAMED, [])  # a name server that knows nothing any more
    world.upstreams.ended(found["10.0.0.8"], Outcome.ANSWERED)


def test_a_reload_keeps_what_is_known_of_a_name() -> None:
    world = World(NAMED)
    world.upstreams.resolved(NAMED, ["10.0.0.7", "10.0.0.8"])
    world.fail(world[0])
    world.upstreams.replace([config.Upstream.parse(f"{NAMED} weight=2"), config.Upstream.parse(A)])
    assert [(each.ip, each.weight) for each in world.upstreams] == [("10.0.0.7", 2), ("10.0.0.8", 2), ("", 1)]
    assert world[0].health.state is State.EJECTED
    world.upstreams.replace([config.Upstream.parse(A)])
    assert [str(each) for each in world.upstreams] == [A]


def test_cores_are_weights_while_nobody_has_any() -> None:
    world = World()
    small, large = (world.upstreams.add(each, source="subscription", warm=True) for each in (A, B))
    world.upstreams.tell(small, 2, 0)
    assert not small.by_cores  # the other has said nothing
    world.upstreams.tell(large, 6, 0)
    found = world.chosen(4000)
    assert found[B] == pytest.approx(3000, rel=0.1)
    assert [each["weight"] for each in world.upstreams.report()] == [2, 6]
    world.upstreams.add(A, weight=3, source="subscription")
    found = world.chosen(4000)
    assert found[A] == pytest.approx(3000, rel=0.1)
    world.upstreams.add(A, source="subscription")
    assert large.by_cores
    world.upstreams.replace([config.Upstream.parse(C)])
    assert not large.by_cores  # the file's have no cores, and are no weaker for it
    world.upstreams.tell(small, 2, 8)
    assert small.load(0.0) == 8.0


def test_a_load_that_it_has_told_of_fades() -> None:
    world = World(A, B)
    world[0].reported = 4.0
    assert world.chosen(20) == {B: 20}
    assert world[0].told(world.now + TOLD_S / 2) == 2.0
    assert world[0].told(world.now + TOLD_S) == 0.0


def test_all_that_fail_their_checks_are_nobody() -> None:
    world = World(A, B)
    for upstream in world.upstreams:
        for _ in range(CHECKS_FAILED):
            world.upstreams.checked(upstream, False, "refused")
    assert world.upstreams.choose() is None
    assert world.upstreams.serving == 0
    assert world.upstreams.report()[0]["last_failure"] == "health check: refused"


def test_the_last_in_service_is_not_ejected() -> None:
    world = World(A, B)
    for _ in range(CHECKS_FAILED):
        world.upstreams.checked(world[0], False, "refused")
    assert not world.fail(world[1])
    assert world.upstreams.choose() is world[1]


def test_one_alone_that_fails_all_is_for_those_who_have_nothing_else() -> None:
    world = World(A)
    assert not world.fail(world[0], FAILURES - 1)
    assert world.upstreams.answering
    assert not world.fail(world[0], 1)
    assert world.upstreams.serving == 1
    assert not world.upstreams.answering
    world.now += EJECTION_S
    assert world.upstreams.answering, "it is tried again"
    assert not world.fail(world[0], 1)
    assert not world.upstreams.answering
    world.upstreams.began(world[0])
    world.upstreams.ended(world[0], Outcome.ANSWERED)
    assert world.upstreams.answering


@pytest.mark.parametrize("how", ["removed", "down"])
def test_who_was_ejected_is_asked_when_nobody_else_is_left(how: str) -> None:
    world = World(A, B)
    out, other = world[0], world[1]
    assert world.fail(out)
    assert world.upstreams.choose({other}) is None
    if how == "removed":
        world.upstreams.replace([config.Upstream.parse(A)])
    else:
        for _ in range(CHECKS_FAILED):
            world.upstreams.checked(other, False, "refused")
    assert world.upstreams.choose() is out
    assert not world.fail(out)
    assert world.upstreams.choose({out}) is None


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=6),
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(list(Outcome)), st.floats(0, 20)),
        max_size=300,
    ),
)
def test_no_more_than_half_are_ever_ejected(
    weights: list[int], happened: list[tuple[int, Outcome, float]]
) -> None:
    said = [f"uwsgi://10.0.1.{number}:1 weight={each + 1}" for number, each in enumerate(weights)]
    world = World(*said)
    for number, outcome, later_s in happened:
        world.now += later_s
        world.upstreams.look()
        upstream = world[number % len(weights)]
        world.upstreams.began(upstream)
        world.upstreams.ended(upstream, outcome)
        ejected = [each for each in world.upstreams if each.health.state is State.EJECTED]
        assert 2 * len(ejected) <= len(weights)
        chosen = world.upstreams.choose()
        assert chosen is not None
        assert chosen.health.serving
        assert upstream.outstanding == 0


# In the simulation (ops/sim/upstreams.py), where requests take their time and seeds decide all that is left to chance


@pytest.mark.parametrize(
    "bad", [bad for bad in sim.BAD if bad.outcome is not Outcome.ANSWERED], ids=lambda bad: bad.name
)
def test_in_the_simulation_what_fails_fast_gets_next_to_nothing(bad: sim.Bad) -> None:
    found = sim.run(sim.ours, bad, seconds=12.0)
    assert found.errors < 0.01 * found.requests
    if bad.until_s > 12.0 and not bad.since_s:
        assert found.share < 0.05
    # And it is the choice that does it: who goes by requests under way alone sends most of them there.
    assert sim.run(sim.least, bad, seconds=40.0).errors > 0.2 * found.requests


def test_in_the_simulation_one_slow_of_three_leaves_the_others_alone() -> None:
    slow = next(bad for bad in sim.BAD if bad.slower > 1)
    well = sim.run(sim.ours, sim.BAD[0], members=3, seconds=20.0)
    found = sim.run(sim.ours, slow, members=3, seconds=20.0)
    assert found.share < 0.1
    assert found.p99_ms < 1.3 * well.p99_ms
