"""Who is replaced, when and why: the table of `vassals.gateway.recycling`, row by row."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emperor.config.recycling import NEVER, Recycling
from vassals.gateway.recycling import LOOK_S, MB, RULES, Decision, Seen, decide, look_again_s, verdict

OLD_S = 1000.0


def seen(seat: int = 0, age_s: float = OLD_S, rss: int = 0, size: int = 0, **more: object) -> Seen:
    return Seen(seat, age_s, rss_bytes=rss * MB, as_bytes=size * MB, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("limits", "worker", "action", "reason"),
    [
        (
            Recycling(evil_rss_bytes=400 * MB),
            seen(rss=412),
            "kill",
            "evil-reload-on-rss: 412 of at most 400 MB",
        ),
        (Recycling(evil_as_bytes=9 * MB), seen(size=9), "kill", "evil-reload-on-as: 9.0 of at most 9.0 MB"),
        (Recycling(), seen(worn="max-requests: 1000 served"), "replace", "max-requests: 1000 served"),
        (Recycling(rss_bytes=400 * MB), seen(rss=412), "replace", "reload-on-rss: 412 of at most 400 MB"),
        (Recycling(as_bytes=400 * MB), seen(size=400), "replace", "reload-on-as: 400 of at most 400 MB"),
        (Recycling(max_lifetime_s=900), seen(limit_s=990.0), "replace", "max-worker-lifetime: 1000 s old"),
    ],
)
def test_each_row(limits: Recycling, worker: Seen, action: str, reason: str) -> None:
    assert verdict(limits, worker) == Decision(action, 0, reason)
    young = worker._replace(age_s=limits.min_lifetime_s - 0.1)
    found = verdict(limits, young)
    assert (found is None) == (action == "replace"), "only the evil ones strike before min-worker-lifetime"


def test_nothing_is_due_without_a_limit_or_below_it() -> None:
    assert verdict(NEVER, seen(rss=10**6, size=10**6)) is None
    below = Recycling(rss_bytes=400 * MB, as_bytes=400 * MB, evil_rss_bytes=400 * MB, evil_as_bytes=400 * MB)
    assert verdict(below, seen(rss=399, size=399, limit_s=OLD_S + 1)) is None
    assert verdict(below, seen()) is None, "one that is gone measures 0"


def test_the_worst_row_comes_first() -> None:
    limits = Recycling(rss_bytes=100 * MB, evil_rss_bytes=200 * MB)
    found = verdict(limits, seen(rss=300, worn="max-requests: 5 served"))
    assert found is not None and found.action == "kill"
    assert [action for action, _, _ in RULES] == sorted(action for action, _, _ in RULES)


def test_one_at_a_time_the_oldest_first_and_only_where_there_is_a_seat() -> None:
    tired = [seen(0, 50.0, worn="a"), seen(1, 70.0, worn="b"), seen(2, 60.0, worn="c")]
    assert decide(NEVER, tired, can_replace=True) == [Decision("replace", 1, "b")]
    assert decide(NEVER, tired, can_replace=False) == []
    limits = Recycling(evil_rss_bytes=MB)
    assert [each.seat for each in decide(limits, [seen(2, rss=2), *tired[:1], seen(3, rss=2)], False)] == [
        2,
        3,
    ]


def test_nobody_looks_without_need() -> None:
    assert look_again_s(NEVER, [seen()], True) is None
    assert look_again_s(Recycling(max_requests=10), [seen()], True) is None, "that one says so itself"
    assert look_again_s(Recycling(rss_bytes=1), [seen()], False) == LOOK_S
    assert look_again_s(Recycling(rss_bytes=1), [], True) is None
    life = Recycling(max_lifetime_s=100)
    assert look_again_s(life, [seen(0, 20.0, limit_s=105.0), seen(1, 20.0, limit_s=101.0)], True) == 81.0
    assert look_again_s(life, [seen(0, 20.0, limit_s=105.0)], False) is None, "the spare seat tells"
    assert look_again_s(NEVER, [seen(0, 4.0, worn="x")], True) == 6.0
    assert look_again_s(NEVER, [seen(0, 40.0, worn="x")], True) == 0.0


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0, 1, exclude_max=True), st.floats(0, 10**6))
def test_a_workers_own_limit_is_the_limit_and_a_part_of_the_delta(
    requests: int, delta: int, random: float, life_s: float
) -> None:
    limits = Recycling(
        max_requests=requests,
        max_requests_delta=delta,
        max_lifetime_s=life_s,
        max_lifetime_delta_s=float(delta),
    )
    if requests:
        assert requests <= limits.requests_of(random) <= requests + delta
    else:
        assert limits.requests_of(random) == 0
    assert limits.life_of(random) == 0.0 if not life_s else life_s <= limits.life_of(random) <= life_s + delta


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100), st.booleans()), max_size=5),
    st.booleans(),
    st.floats(0, 50),
)
def test_whoever_is_not_due_now_is_due_when_it_says(
    ages: list[tuple[float, float, bool]], can_replace: bool, min_s: float
) -> None:
    """Never a timer that rings too late: at the time it names somebody is due, and before nobody is."""
    limits = Recycling(min_lifetime_s=min_s, max_lifetime_s=1.0)
    workers = [
        Seen(seat, age, limit, worn="worn" if worn else "") for seat, (age, limit, worn) in enumerate(ages)
    ]
    again = look_again_s(limits, workers, can_replace)
    if decide(limits, workers, can_replace):
        assert again == 0.0
    elif again is not None:
        later = [each._replace(age_s=each.age_s + again + 1e-6) for each in workers]
        assert decide(limits, later, can_replace)
