"""What a router is sent: only differences, in an order that never leaves a vassal unserved."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from emperor.control.messages import RouterEntry
from emperor.supervisor.telling import Order, Told, orders, told_by_hello
from emperor.supervisor.wanted import Wanted, WantedGeneration

ENTRY = RouterEntry(name="blog", domains=("blog.localhost",))
TOKEN = "ab" * 32


def wanted(*numbers: int, active: int | None = None, entry: RouterEntry = ENTRY) -> Wanted:
    return Wanted(entry, {number: WantedGeneration(TOKEN, None, 2) for number in numbers}, active)


def ops(found: list[Order]) -> list[tuple[str, int | None]]:
    return [(order.message["op"], order.message.get("generation")) for order in found]


def test_a_new_router_is_told_everything_with_its_descriptors() -> None:
    found, told = orders("blog", None, wanted(1, 2, active=1), 1000)
    assert ops(found) == [("vassal", None), ("generation", 1), ("generation", 2), ("activate", 1)]
    assert [(order.backplane, order.page) for order in found] == [
        (True, None),
        (False, 1),
        (False, 2),
        (False, None),
    ]
    assert found[1].message["uid"] == 1000, "a vassal without a uid runs as we do"
    assert told == Told(ENTRY, {1, 2}, 1)


def test_a_reload_moves_before_the_old_one_is_retired() -> None:
    _, told = orders("blog", None, wanted(1, active=1), 0)
    found, told = orders("blog", told, wanted(1, 2, active=1), 0)
    assert ops(found) == [("generation", 2)]
    found, told = orders("blog", told, wanted(1, 2, active=2), 0)
    assert ops(found) == [("activate", 2)]
    found, told = orders("blog", told, wanted(2, active=2), 0)
    assert ops(found) == [("retire", 1)]
    assert orders("blog", told, wanted(2, active=2), 0) == ([], told)


def test_a_dead_generation_is_retired_and_nothing_is_active() -> None:
    _, told = orders("blog", None, wanted(1, active=1), 0)
    found, told = orders("blog", told, wanted(2), 0)
    assert ops(found) == [("generation", 2), ("retire", 1)]
    assert told is not None and told.active is None


def test_a_changed_entry_is_sent_without_the_backplane_again() -> None:
    _, told = orders("blog", None, wanted(), 0)
    found, _ = orders("blog", told, wanted(entry=replace(ENTRY, available=True)), 0)
    assert ops(found) == [("vassal", None)] and not found[0].backplane


def test_a_vassal_that_is_gone_is_removed_once() -> None:
    _, told = orders("blog", None, wanted(1, active=1), 0)
    found, told = orders("blog", told, None, 0)
    assert ops(found) == [("remove", None)]
    assert orders("blog", told, None, 0) == ([], None)


def test_a_living_router_is_told_what_it_does_not_know() -> None:
    known = told_by_hello(
        [
            {"name": "blog", "generations": [1], "active": 1},
            {"name": 5},
            "x",
            {"name": "b", "generations": None},
        ]
    )
    assert known == {"blog": Told(None, {1}, 1)}
    found, _ = orders("blog", known["blog"], wanted(1, 2, active=1), 0)
    assert ops(found) == [("vassal", None), ("generation", 2)]
    assert not found[0].backplane, "it has the backplane, and we may not"
    assert told_by_hello(None) == {}


@st.composite
def wishes(draw: st.DrawFn) -> Wanted | None:
    numbers = draw(st.sets(st.integers(1, 4)))
    active = draw(st.sampled_from(sorted(numbers))) if numbers and draw(st.booleans()) else None
    if draw(st.integers(0, 5)) == 0:
        return None
    return wanted(*sorted(numbers), active=active, entry=replace(ENTRY, available=draw(st.booleans())))


@given(st.lists(wishes(), max_size=10))
def test_a_router_that_obeys_knows_what_is_wanted(steps: list[Wanted | None]) -> None:
    told: Told | None = None
    entry: RouterEntry | None = None
    generations: set[int] = set()
    active: int | None = None
    for wish in steps:
        found, told = orders("blog", told, wish, 0)
        for order in found:
            number = order.message.get("generation", 0)
            match order.message["op"]:
                case "vassal":
                    assert order.backplane == (entry is None)
                    entry = RouterEntry.from_json(order.message["entry"])
                case "generation":
                    assert entry is not None
                    generations.add(number)
                case "activate":
                    assert number in generations
                    active = number
                case "retire":
                    generations.discard(number)
                    active = None if active == number else active
                case "remove":
                    entry, generations, active = None, set(), None
        if wish is None:
            assert entry is None
        else:
            assert (entry, generations) == (wish.entry, set(wish.generations))
            assert wish.active in (None, active)
