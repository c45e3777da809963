"""What decision 0041 claims of overload, of a worker that fails fast and of one that has just come, in the simulations that it
was decided by (ops/sim), made short. Seeds decide what is left to chance there: the figures are the same on any machine."""

import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

SIM = Path(__file__).parents[2] / "ops" / "sim"
sys.path.insert(0, str(SIM))

import overload  # noqa: E402
import workers  # noqa: E402

sys.path.remove(str(SIM))

KINDS = {kind.name: kind for kind in overload.KINDS}


@cache
def served(kind: str, rule: str, load: float, target_s: float = 1.0, seconds: float = 16.0) -> Any:
    return overload.serve(KINDS[kind], rule, 4, load, seconds, target_s)


@pytest.mark.parametrize("kind", ["20 ms", "200 ms", "5 ms, 5 % 500 ms"])
def test_at_half_as_much_again_the_workers_are_busy_and_nobody_waits_beyond_the_limit(kind: str) -> None:
    found = served(kind, "newest", 1.5)
    assert found.goodput >= 0.95
    assert found.p99_ms <= found.limit_ms + 300  # and what it takes itself
    assert 0.2 < found.shed < 0.45


def test_the_newest_first_waits_next_to_nothing() -> None:
    newest, oldest = served("20 ms", "newest", 1.5), served("20 ms", "oldest", 1.5)
    assert newest.p50_ms < oldest.p50_ms / 5
    assert newest.goodput > 0.95 and oldest.goodput > 0.95


def test_a_bounded_queue_alone_has_everybody_wait_for_all_of_it() -> None:
    assert served("20 ms", "none", 1.5).p50_ms > 3 * served("20 ms", "oldest", 1.5).p50_ms


@pytest.mark.parametrize("kind", ["20 ms", "200 ms", "5 ms, 5 % 500 ms"])
def test_nobody_is_turned_away_below_what_can_be_served(kind: str) -> None:
    assert served(kind, "newest", 0.85, 5.0).shed == 0


def test_a_worker_that_fails_fast_gets_a_twentieth_at_the_most() -> None:
    assert workers.fails_fast(4, 0.9, spared=True) < 0.05
    assert workers.fails_fast(4, 0.9, spared=False) > 0.3
    assert workers.fails_fast(100, 0.9, spared=True) < 0.005


def test_a_fresh_worker_of_many_slots_is_brought_in_slowly() -> None:
    assert workers.just_came(4, 0.5, True, 8, 2) < 0.6 * workers.just_came(4, 0.5, False, 8, 2)
