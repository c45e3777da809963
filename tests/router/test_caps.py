"""How many connections there may be, and what becomes of those beyond."""

from hypothesis import given
from hypothesis import strategies as st

from emperor.router.caps import Caps, Verdict, whose


def test_what_the_descriptors_allow() -> None:
    caps = Caps(20_000)
    assert (caps.most, caps.most_each) == (15_000, 7_500)
    assert (Caps(20_000, 100).most, Caps(20_000, 100).most_each) == (100, 50)
    assert Caps(20_000, 100, 30).most_each == 30


def test_beyond_the_cap_of_all() -> None:
    caps = Caps(1000, 32, 32)
    assert [caps.came(f"10.0.0.{index}") for index in range(32)] == [Verdict.ADMITTED] * 32
    assert [caps.came("") for _ in range(3)] == [Verdict.FULL, Verdict.FULL, Verdict.RESET]
    for _ in range(3):
        caps.left("")
    caps.left("10.0.0.0")
    assert caps.came("10.0.0.9") is Verdict.ADMITTED
    assert caps.report() == {
        "limit": 32,
        "limit_per_address": 32,
        "refused": 2,
        "refused_per_address": 0,
        "reset": 1,
    }


def test_beyond_the_cap_of_one_address() -> None:
    caps = Caps(1000, 32, 2)
    mine = [caps.came("10.0.0.1") for _ in range(5)]
    assert mine == [Verdict.ADMITTED] * 2 + [Verdict.FULL_ADDRESS] * 2 + [Verdict.RESET]
    assert caps.came("10.0.0.2") is Verdict.ADMITTED
    assert [caps.came("") for _ in range(5)] == [Verdict.ADMITTED] * 5


def test_who_cannot_be_told_is_reset() -> None:
    caps = Caps(1000, 32, 2)
    assert [caps.came("a", told=False) for _ in range(3)] == [Verdict.ADMITTED] * 2 + [Verdict.RESET]
    assert caps.reached == "max-connections-per-address"
    assert caps.report()["reset"] == 1


def test_other_caps_count_for_who_comes_then() -> None:
    caps = Caps(1000, 32, 2)
    assert [caps.came("a") for _ in range(2)] == [Verdict.ADMITTED] * 2
    caps.use(1000, 32, 3)
    assert [caps.came("a") for _ in range(2)] == [Verdict.ADMITTED, Verdict.FULL_ADDRESS]
    caps.use(1000, 1, 0)
    assert (caps.came("b"), caps.reached) == (Verdict.RESET, "max-connections")


def test_an_address_is_half_of_what_ipv6_has() -> None:
    assert whose("10.0.0.1") == "10.0.0.1"
    assert whose("2001:db8::1") == whose("2001:db8::ffff:1") != whose("2001:db8:0:1::1")
    assert whose("fe80::1%eth0") == "fe80::"


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["", "a", "b"])), max_size=60))
def test_all_that_came_and_left_leave_nothing(steps: list[tuple[bool, str]]) -> None:
    caps, here = Caps(0, 8, 3), []
    for comes, address in steps:
        if comes:
            caps.came(address)
            here.append(address)
        elif here:
            caps.left(here.pop(0))
        assert caps.open == len(here)
    for address in here:
        caps.left(address)
    assert caps.open == 0
    assert [caps.came("a") for _ in range(4)][:3] == [Verdict.ADMITTED] * 3
