"""What decision 0018 claims of the deck, in the simulation that it was decided by (ops/sim), made short. Seeds decide all that
is left to chance there, so that these figures are the same on any machine."""

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

SIM = Path(__file__).parents[2] / "ops" / "sim"
sys.path.insert(0, str(SIM))

import decks  # noqa: E402
import trial  # noqa: E402
import world  # noqa: E402

sys.path.remove(str(SIM))

KINDS = {kind.name: kind for kind in trial.KINDS}
DECKS = {deck.name: deck for deck in decks.DECKS}
UNIFORM = ("20 µs", "200 µs", "2 ms", "20 ms")
MIXED = ("50 µs, 2 % 200 ms", "50 µs, 20 % 5 ms", "1 ms, 10 % 20 ms", "5 ms, 20 % 50 ms")
SHORT = trial.Length(2_000, 12.0, 6_000, seeds=2, crashes=3)
# Stalls come twice a second: an app of microseconds must be watched for more than one of them.
LONGER = trial.Length(2_000, 6.0, 60_000, seeds=2, crashes=3)


@cache
def busy(kind: str, deck: str, workers: int, length: trial.Length = SHORT) -> Any:
    return trial.busy(KINDS[kind], DECKS[deck], workers, length)


@cache
def open_p99_ms(kind: str, deck: str, workers: int) -> float:
    return float(trial.open_p99_ms(KINDS[kind], DECKS[deck], workers, SHORT))


@pytest.mark.parametrize("workers", trial.WORKERS)
@pytest.mark.parametrize("kind", UNIFORM + MIXED)
def test_workers_have_no_gaps(kind: str, workers: int) -> None:
    # But for those that a stall of the router's makes, which no deck hides from an app of microseconds.
    most = max(busy(kind, deck, workers).share for deck in ("former", "64"))
    assert busy(kind, "adaptive", workers).share > 0.95 * most


def test_the_worst_of_the_last_second_makes_an_app_of_microseconds_collapse() -> None:
    """Because the kernel puts a process aside now and then."""
    adaptive = busy("20 µs", "adaptive", 1, LONGER)
    assert adaptive.share > 0.95
    assert busy("20 µs", "worst case", 1, LONGER).share < 0.8 * adaptive.share


def test_a_shallow_deck_starves_an_app_of_microseconds() -> None:
    adaptive = busy("20 µs", "adaptive", 1)
    for shallow in ("0", "1", "2"):
        assert busy("20 µs", shallow, 1).share < 0.4 * adaptive.share
    assert busy("200 µs", "0", 1).share < 0.6 * busy("200 µs", "adaptive", 1).share
    assert busy("2 ms", "0", 1).share < 0.95 * busy("2 ms", "adaptive", 1).share


@pytest.mark.parametrize("kind", ["2 ms", "1 ms, 10 % 20 ms", "5 ms, 20 % 50 ms"])
def test_a_deep_deck_makes_an_app_of_milliseconds_wait(kind: str) -> None:
    adaptive, deep = busy(kind, "adaptive", 4), busy(kind, "64", 4)
    assert deep.p99_ms > 1.2 * adaptive.p99_ms
    assert deep.taken_back > 3 * adaptive.taken_back


def test_quick_requests_do_not_wait_behind_slow_ones() -> None:
    quick = busy("50 µs, 2 % 200 ms", "adaptive", 4)
    # Nearly as if there were no deck.
    assert quick.p99_ms < 1.15 * busy("50 µs, 2 % 200 ms", "0", 4).p99_ms
    assert busy("50 µs, 2 % 200 ms", "former", 4).p99_ms > 1.5 * quick.p99_ms
    for bound in ("8 bound", "64 bound"):
        assert busy("50 µs, 2 % 200 ms", bound, 4).p99_ms > 1.5 * quick.p99_ms
        assert open_p99_ms("50 µs, 2 % 200 ms", bound, 4) > 1.5 * open_p99_ms(
            "50 µs, 2 % 200 ms", "adaptive", 4
        )


@pytest.mark.parametrize("kind", MIXED)
def test_the_wait_is_nowhere_far_from_the_best(kind: str) -> None:
    others = ("former", "worst case", "mean", "0", "1", "64")
    best = min(open_p99_ms(kind, deck, 4) for deck in others)
    assert open_p99_ms(kind, "adaptive", 4) < 1.35 * best


@pytest.mark.parametrize(("kind", "workers"), [("200 µs", 1), ("2 ms", 4), ("50 µs, 2 % 200 ms", 4)])
def test_a_crash_loses_what_ran_and_nothing_that_waited(kind: str, workers: int) -> None:
    def lost(deck: str) -> float:
        return float(trial.lost_per_crash(KINDS[kind], DECKS[deck], workers, SHORT))

    assert lost("adaptive") <= 1
    assert lost("2 bound") == 3
    assert lost("8 bound") == 9


def test_the_same_seed_is_the_same_world() -> None:
    def waits() -> list[int]:
        made = world.World(KINDS["50 µs, 2 % 200 ms"], DECKS["adaptive"], 4, 7)
        return list(made.open(0.5, world.S, 0).waits_ns)

    first = waits()
    assert first and first == waits()


def test_the_command_prints_its_tables() -> None:
    said = subprocess.run(
        [sys.executable, SIM / "run.py", "--short", "--jobs", "1", "--decks", "adaptive", "--apps", "20 ms"],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    ).stdout
    assert said.count("**") == 2 * 5
    assert said.count("| 20 ms | 1 | ") == said.count("| 20 ms | 4 | ") == 5
