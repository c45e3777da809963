"""The ring of events: what it keeps, and who is told of the next."""

import json

import pytest

from emperor.supervisor.events import BY_CHARS, KINDS, TEXT_CHARS, Events


def test_the_last_ones_are_kept_in_order_whatever_the_clock_says() -> None:
    times = iter((50.5, 10.25, 99.0))
    events = Events(lambda: next(times), most=2)
    for text in ("one", "two", "three"):
        events.add("ready", "blog", text, "by hand")
    assert [(each.number, each.at, each.text) for each in events.after(0)] == [
        (2, 10250, "two"),
        (3, 99000, "three"),
    ]
    assert (events.last, events.lost_after(0), events.lost_after(1), events.lost_after(3)) == (3, 1, 0, 0)


def test_of_one_vassal_and_behind_a_number() -> None:
    events = Events(lambda: 0.0)
    for vassal in ("blog", "shop", "blog"):
        events.add("died", vassal, "x")
    assert [each.number for each in events.after(1)] == [2, 3]
    assert [each.number for each in events.after(0, "blog")] == [1, 3]


def test_who_waits_is_told_once() -> None:
    events = Events(lambda: 0.0)
    told: list[str] = []
    events.call_next(lambda: told.append("a"))
    forgotten = lambda: told.append("b")  # noqa: E731
    events.call_next(forgotten)
    events.forget(forgotten)
    events.add("ready", "blog", "x")
    events.add("ready", "blog", "x")
    assert told == ["a"]


def test_texts_are_bounded_and_kinds_are_known() -> None:
    events = Events(lambda: 0.0)
    events.add("ready", "blog", "x" * 5000, "y" * 5000)
    (event,) = events.after(0)
    assert (len(event.text), len(event.by)) == (TEXT_CHARS, BY_CHARS)
    assert set(event.to_json()) == {"number", "at", "kind", "vassal", "text", "by"}
    with pytest.raises(KeyError):
        events.add("something", "blog", "x")
    assert all(KINDS.values())


def test_another_program_goes_on_counting_where_this_one_was() -> None:
    before = Events(lambda: 5.0, most=2)
    for text in ("one", "two", "three"):
        before.add("ready", "blog", text)
    after = Events(lambda: 6.0, most=2)
    after.resume(json.loads(json.dumps(before.hand_over())))
    after.add("upgrade", "", "four")
    assert [(each.number, each.text) for each in after.after(0)] == [(3, "three"), (4, "four")]
    for nonsense in ({}, {"ring": [{}], "last": 1}, {"ring": [], "last": None}, None):
        with pytest.raises(ValueError, match="events"):
            Events(lambda: 0.0).resume(nonsense)
