"""Rates and numbers of requests, of each address and of all."""

from emperor.router.limits import CONCURRENCY, CONCURRENCY_EACH, RATE, RATE_EACH, Limits, Meter
from tests.router.parts import exchange

NONE = (0.0, 0)


def taken(meter: Meter, key: str, now: float) -> bool:
    if meter.wait_s(key, now) > 0:
        return False
    meter.take(key, now)
    return True


def test_a_burst_and_then_the_rate() -> None:
    meter = Meter((10.0, 3))
    assert [taken(meter, "a", 5.0) for _ in range(4)] == [True, True, True, False]
    assert abs(meter.wait_s("a", 5.0) - 0.1) < 1e-9
    assert not taken(meter, "a", 5.09)
    assert taken(meter, "a", 5.11)
    assert not taken(meter, "a", 5.12)
    assert [taken(meter, "a", 60.0) for _ in range(4)] == [True, True, True, False], "no more is saved up"


def test_over_a_long_time_it_is_the_rate() -> None:
    meter = Meter((10.0, 5))
    assert 100 <= sum(taken(meter, "a", number / 100) for number in range(1000)) <= 105


def test_each_key_has_its_own() -> None:
    meter = Meter((1.0, 1))
    assert taken(meter, "a", 0.0) and taken(meter, "b", 0.0)
    assert not taken(meter, "a", 0.5)


def test_who_was_seen_longest_ago_is_forgotten_first() -> None:
    meter = Meter((0.001, 1), most=2)
    for key in ("a", "b", "a", "c"):
        taken(meter, key, 0.0)
    assert len(meter) == 2 and meter.forgotten == 1
    assert meter.wait_s("a", 0.0) == 0, "it came first, and was refused since, which is not being seen"
    assert meter.wait_s("b", 0.0) > 0


def admitted(limits: Limits, address: str = "192.0.2.1", now: float = 0.0) -> str:
    """The option that refuses it, or nothing."""
    refusal = limits.refusal(address, now)
    if refusal is not None:
        return refusal[0]
    limits.admit(exchange(), address, now)
    return ""


def test_no_limits_are_none() -> None:
    assert not Limits().use(NONE, NONE, 0, 0)


def test_requests_at_once_of_an_address_and_of_all() -> None:
    limits = Limits()
    assert limits.use(NONE, NONE, 3, 2)
    assert [admitted(limits) for _ in range(3)] == ["", "", CONCURRENCY_EACH]
    assert admitted(limits, "192.0.2.2") == ""
    assert admitted(limits, "192.0.2.3") == CONCURRENCY


def test_what_has_ended_does_not_count() -> None:
    limits = Limits()
    limits.use(NONE, NONE, 1, 1)
    one = exchange()
    limits.admit(one, "192.0.2.1", 0.0)
    assert admitted(limits) == CONCURRENCY
    assert one.ticket is not None
    one.ticket.release()
    assert (limits.in_hand, dict(limits.each)) == (0, {})
    assert admitted(limits) == ""


def test_requests_a_second_of_an_address_and_of_all() -> None:
    limits = Limits()
    limits.use((10.0, 3), (10.0, 2), 0, 0)
    assert [admitted(limits) for _ in range(3)] == ["", "", RATE_EACH]
    assert admitted(limits, "192.0.2.2") == ""
    assert admitted(limits, "192.0.2.3") == RATE
    assert admitted(limits, "192.0.2.3", 1.0) == ""


def test_who_has_no_address_counts_among_all_alone() -> None:
    limits = Limits()
    limits.use((10.0, 3), (10.0, 1), 0, 1)
    assert [admitted(limits, "") for _ in range(4)] == ["", "", "", RATE]


def test_the_same_limits_again_forget_nothing() -> None:
    limits = Limits()
    for _ in range(2):
        limits.use((1.0, 1), NONE, 0, 0)
        found = admitted(limits)
    assert found == RATE


def test_what_it_reports() -> None:
    limits = Limits()
    limits.use((2.0, 5), (1.0, 5), 7, 3)
    admitted(limits)
    admitted(limits, "192.0.2.2")
    assert limits.values(0.0) == [
        (RATE, 120, 2),
        (RATE_EACH, 60, 2),
        (CONCURRENCY, 7, 2),
        (CONCURRENCY_EACH, 3, 1),
    ]
    assert limits.report()["addresses"] == 2
