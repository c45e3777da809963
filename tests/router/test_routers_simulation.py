"""What decision 0045 claims of several routers over the same workers, in the simulation ops/sim/routers.py. Seeds decide all
that is left to chance there, so that these figures are the same on any machine."""

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
