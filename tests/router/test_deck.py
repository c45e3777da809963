"""How deep a deck is, by what requests usually take."""

import random

import pytest

from emperor.router import deck
from emperor.supervisor.reading import AHEAD

US, MS, S = 1_000, 1_000_000, 1_000_000_000


def after(services_ns: list[int], usual_ns: int = 128 * US) -> int:
    for service_ns in services_ns:
        usual_ns = deck.learn(usual_ns, service_ns)
    return usual_ns


@pytest.mark.parametrize(
    ("usual_ns", "slots", "ahead", "alone"),
    [
        (1, 1, 64, 64),
        (20 * US, 1, 64, 64),
        (128 * US, 1, 16, 64),
        (200 * US, 1, 11, 64),
        (200 * US, 4, 41, 64),
        (MS, 1, 3, 17),
        (2 * MS, 1, 2, 9),
        (2 * MS, 8, 9, 64),
        (16 * MS, 1, 1, 2),
        (10 * S, 1, 1, 1),
        (10 * S, 64, 1, 1),
    ],
)
def test_depth(usual_ns: int, slots: int, ahead: int, alone: int) -> None:
    assert (deck.depth(usual_ns, slots, False), deck.depth(usual_ns, slots, True)) == (ahead, alone)


def test_the_deepest_deck_has_words_on_the_page() -> None:
    assert deck.depth(1, 1, False) == deck.depth(1, 1000, True) == AHEAD


@pytest.mark.parametrize("service_ns", [20 * US, 200 * US, 2 * MS, 10 * MS])
def test_what_is_always_the_same_is_learnt_within_a_hundred_requests(service_ns: int) -> None:
    for usual_ns in (1 * US, 128 * US, 16 * MS):
        service_ns = max(service_ns, 31_250)
        assert 0.7 * service_ns < after([service_ns] * 120, usual_ns) < 1.3 * service_ns


def test_the_first_request_says_what_is_usual_within_bounds() -> None:
    assert [deck.first(service_ns) for service_ns in (0, 2 * MS, 10 * S)] == [31_250, 2 * MS, 16 * MS]
    # One that was slow for being the first is forgotten within a hundred.
    assert deck.depth(after([50 * US] * 100, deck.first(S)), 1, False) > 30


def test_it_is_bounded_whatever_a_worker_says() -> None:
    assert after([0] * 1000) == 31_250
    assert after([2**32 * 1000] * 1000) == 16 * MS
    # So that what is quick again is believed soon.
    assert deck.depth(after([20 * US] * 120, 16 * MS), 1, False) == 64


def test_a_few_slow_requests_do_not_count_however_slow() -> None:
    chance = random.Random(1)
    services_ns = [200 * MS if chance.random() < 0.05 else 50 * US for _ in range(5000)]
    depths = []
    usual_ns = 128 * US
    for service_ns in services_ns:
        usual_ns = deck.learn(usual_ns, service_ns)
        depths.append(deck.depth(usual_ns, 1, False))
    assert sum(depths[500:]) / len(depths[500:]) > 24


def test_when_half_of_them_are_slow_those_are_the_usual_ones() -> None:
    chance = random.Random(1)
    assert (
        deck.depth(after([20 * MS if chance.random() < 0.5 else 50 * US for _ in range(5000)]), 1, False) == 1
    )


def test_it_settles_where_a_fifth_takes_longer() -> None:
    chance = random.Random(1)
    usual_ns, longer = 128 * US, 0
    for _ in range(20_000):
        service_ns = int(chance.uniform(100, 1100) * US)
        longer += service_ns > usual_ns
        usual_ns = deck.learn(usual_ns, service_ns)
    assert 0.18 < longer / 20_000 < 0.27


def test_how_long_is_long() -> None:
    # Never less than the kernel puts a process aside for, never more than is long for anybody.
    assert deck.long_ns(20 * US) == deck.long_ns(1 * MS) == 4 * MS
    assert deck.long_ns(5 * MS) == 20 * MS
    assert deck.long_ns(16 * MS) == 50 * MS
