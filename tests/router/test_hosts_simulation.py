"""`emperor.router.far` among simulated hosts (ops/sim/hosts.py): one that fails fast, or is slow, gets little, and the others
do not feel it."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "ops" / "sim"))

from hosts import Trial, run, without_it


@pytest.mark.parametrize("routers", [1, 4])
@pytest.mark.parametrize(("hosts", "workers"), [(4, 4), (10, 50)])
def test_a_host_that_fails_fast_gets_less_than_a_twentieth(hosts: int, workers: int, routers: int) -> None:
    trial = Trial(hosts=hosts, workers=workers, routers=routers, odd="fails", requests=6_000)
    assert run(trial).share < 0.05
    without = Trial(hosts=hosts, workers=workers, routers=routers, odd="fails", requests=6_000, rules=False)
    assert run(without).share > 0.1


@pytest.mark.parametrize("routers", [1, 4])
def test_a_slow_host_of_three_does_not_move_the_tail_of_the_others(routers: int) -> None:
    trial = Trial(hosts=3, workers=12, routers=routers, odd="slow", requests=10_000)
    assert run(trial).p99_ms < 1.1 * without_it(trial).p99_ms
