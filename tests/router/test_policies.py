"""Choosing a worker by the policies that an app can ask for."""

import random
from collections import Counter
from dataclasses import dataclass

import pytest

from emperor.router import policies
from emperor.router.policies import Seated, Turns


@dataclass
class Worker:
    seat: int
    in_flight: int = 0
    slots: int = 1
    fresh: bool = False


def workers(*in_flight: int) -> list[Seated]:
    return [Worker(seat, busy) for seat, busy in enumerate(in_flight)]


def test_each_in_turn() -> None:
    turns, all_of_them = Turns(), workers(0, 0, 0)
    assert [turns.next(all_of_them).seat for _ in range(5)] == [0, 1, 2, 0, 1]
    assert turns.next(all_of_them[:1]).seat == 0
    assert turns.next(all_of_them[2:]).seat == 2


def test_the_one_with_the_fewest_and_of_equals_in_turn() -> None:
    turns = Turns()
    assert policies.least(workers(3, 1, 2), turns).seat == 1
    assert [policies.least(workers(0, 0, 1), turns).seat for _ in range(3)] == [0, 1, 0]


def test_the_better_of_two() -> None:
    assert policies.better_of_two(workers(5), lambda below: 0).seat == 0
    draws = iter([0, 1])
    assert policies.better_of_two(workers(2, 0, 1), lambda below: next(draws)).seat == 2
    draws = iter([2, 0])
    assert policies.better_of_two(workers(2, 0, 1), lambda below: next(draws)).seat == 2


def test_two_that_are_drawn_differ() -> None:
    chance = random.Random(1)
    found = Counter(policies.better_of_two(workers(1, 0), chance.randrange).seat for _ in range(100))
    assert found == {1: 100}


def test_a_key_has_its_worker() -> None:
    four = workers(0, 0, 0, 0)
    keys = [b"%d" % number for number in range(400)]
    first = {key: policies.ordered(key, four)[0].seat for key in keys}
    shares = Counter(first.values())
    assert set(shares) == {0, 1, 2, 3} and min(shares.values()) > 60
    assert first == {key: policies.ordered(key, list(reversed(four)))[0].seat for key in keys}


def test_when_a_worker_goes_only_its_own_keys_go_elsewhere() -> None:
    four = workers(0, 0, 0, 0)
    for number in range(200):
        key = b"%d" % number
        before = policies.ordered(key, four)[0].seat
        after = policies.ordered(key, [each for each in four if each.seat != 2])[0].seat
        assert before in (after, 2)


@pytest.mark.parametrize(
    ("in_flight", "most"), [((), 0), ((0,), 2), ((0, 0, 0, 0), 1), ((4, 4, 4, 4), 6), ((16, 0, 0, 0), 6)]
)
def test_a_worker_has_its_share_and_a_quarter_at_most(in_flight: tuple[int, ...], most: int) -> None:
    assert policies.bound(workers(*in_flight)) == most


@pytest.mark.parametrize(
    ("header", "value"),
    [
        (None, b""),
        (b"", b""),
        (b"sid=1", b"1"),
        (b"a=b; sid=two ; c=d", b"two"),
        (b'sid="quoted"', b"quoted"),
        (b"xsid=1; sid", b""),
        (b"sid=a=b", b"a=b"),
    ],
)
def test_a_cookie(header: bytes | None, value: bytes) -> None:
    assert policies.cookie(header, b"sid") == value


def test_what_a_client_is_told_of_its_worker_says_nothing_of_the_inside() -> None:
    told = {policies.token("blog", seat) for seat in range(20)}
    assert len(told) == 20
    assert policies.token("blog", 1) == policies.token("blog", 1) != policies.token("shop", 1)
    assert all(len(each) == 16 and "blog" not in each for each in told)
