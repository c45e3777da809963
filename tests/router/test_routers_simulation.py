"""What decisions 0045, 0052 and 0061 claim of several routers over the same workers, in the simulation ops/sim/routers.py.
Seeds decide all that is left to chance there, so that these figures are the same on any machine."""

import sys
from pathlib import Path

import pytest

SIM = Path(__file__).parents[2] / "ops" / "sim"
sys.path.insert(0, str(SIM))

import routers  # noqa: E402

sys.path.remove(str(SIM))

SHORT = 6_000


@pytest.mark.parametrize("skew", [0.5, 0.8, 0.95])
def test_two_routers_are_nearly_as_good_as_one_queue(skew: float) -> None:
    shared, single = routers.ratio(routers.Trial(skew=skew))
    assert shared < 1.1 * single


@pytest.mark.parametrize("seed", range(1, 6))
def test_no_slot_is_lost_with_a_router_that_dies(seed: int) -> None:
    world = routers.run(routers.Trial(requests=SHORT, dies_at=SHORT // 2, seed=seed))
    assert routers.held(world) == 4
    # Every request was answered but those that the dead one had.
    assert len(world.waits) <= SHORT <= len(world.waits) + world.lost


HERE = [
    pytest.param(service_ms, skew, burst, id=f"{service_ms} ms, {skew:.0%}, {burst} at once")
    for service_ms in (2, 20)
    for skew, burst in ((0.5, 1), (0.9, 1), (0.9, 8))
]


@pytest.mark.parametrize(("service_ms", "skew", "burst"), HERE)
def test_two_routers_of_one_host_serve_four_workers_as_one_queue_would(
    service_ms: int, skew: float, burst: int
) -> None:
    """Workers of one request at a time, which hear nothing meanwhile; and neither router's clients have the worse of it."""
    single = routers.quantile_ms(
        routers.run(routers.here(service_ms * routers.MS, skew, 0.7, burst, routers=1)), 0.99
    )
    world = routers.run(routers.here(service_ms * routers.MS, skew, 0.7, burst))
    assert routers.quantile_ms(world, 0.99) < 1.1 * single
    assert routers.second_ms(world, 0.99) < 1.3 * single


def test_how_long_a_queue_has_waited_makes_it_one_queue() -> None:
    """Without it each router gets as many slots, and waits for as long as it is asked for more."""
    single = routers.quantile_ms(routers.run(routers.here(20 * routers.MS, 0.9, 0.7, 8, routers=1)), 0.99)
    silent = routers.run(routers.here(20 * routers.MS, 0.9, 0.7, 8, ages=False, pages=False))
    assert routers.quantile_ms(silent, 0.99) > 1.15 * single
    assert routers.second_ms(silent, 0.99) < 0.7 * single


@pytest.mark.parametrize("clients", [(16, 16), (28, 4)], ids=str)
def test_two_queues_that_never_end_are_one(clients: tuple[int, int]) -> None:
    """Of clients who ask again as soon as they are answered, with a request on each deck: that keeps no slot."""
    trial = routers.closed(2 * routers.MS, *clients, requests=SHORT // 2)
    shared, single = routers.ratio(trial)
    assert shared < 1.4 * single
    world = routers.run(trial)
    assert max(world.waits) < 2 * max(routers.run(routers.alone(trial)).waits)


def test_it_takes_to_know_who_waits_now() -> None:
    """By what was said when a slot was asked for, a router with few clients has as many as one with many."""
    single = routers.quantile_ms(routers.run(routers.alone(routers.closed(20 * routers.MS, 28, 4))), 0.99)
    known, said = (
        routers.quantile_ms(routers.run(routers.closed(20 * routers.MS, 28, 4, pages=pages)), 0.99)
        for pages in (True, False)
    )
    assert known < 1.3 * single and said > 2.5 * single


@pytest.mark.parametrize("at_a_time", [True, False], ids=["here", "far away"])
def test_of_four_routers_none_keeps_what_it_does_not_need(at_a_time: bool) -> None:
    """A slot that is let go of is for whoever has waited longest, and not for whoever looks first."""
    trial = routers.Trial(
        routers=4, workers=16, skew=0.5, way_ns=100 * routers.US, requests=SHORT, at_a_time=at_a_time
    )
    shared, single = routers.ratio(trial)
    assert shared < 1.1 * single


@pytest.mark.parametrize("seed", range(1, 4))
def test_no_slot_is_lost_on_one_host_either(seed: int) -> None:
    trial = routers.here(20 * routers.MS, 0.5, 0.7, 1, dies_at=2000, silence_ns=routers.MS, seed=seed)
    world = routers.run(trial)
    assert routers.held(world) == 4
    assert len(world.waits) <= trial.requests <= len(world.waits) + world.lost
