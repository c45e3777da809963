"""The bench runs, every row of it, counts only clean runs, leaves nothing behind. Its figures are for a quiet machine."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from .harness import Orphans

BENCH = Path(__file__).parents[2] / "ops" / "bench"
# Rows, and how many figures each stack has in it: all but `curve`, which is `wait2` by one more pair of emperors.
ROWS = {
    "hello-c1": 4,
    "hello": 4,
    "hello-c512": 4,
    "wait02": 4,
    "wait2": 4,
    "wait20": 4,
    "wait20-w8": 4,
    "mixed": 4,
    "overload": 4,
    "down": 2,
    "up": 2,
    "routes": 4,
    "idle": 1,
    "fleet-100": 3,
    "fleet-1000": 3,
    "crash": 5,
    "asgi-hello": 4,
    "asgi-json": 4,
    "asgi-events": 2,
    "asgi-down": 1,
    "asgi-up": 1,
    "ws-echo": 4,
    "ws-idle": 1,
}


BESIDE = ("hello", "down", "fleet-100")
"""Rows in which our peers are run as well: one of each kind of measurement."""


@pytest.mark.slow
@pytest.mark.alone
def test_every_row_in_its_shortest_form(orphans: Orphans, tmp_path: Path) -> None:
    rows = run(orphans, tmp_path, ("emperor",), tuple(ROWS))
    assert list(rows) == list(ROWS)
    for name, row in rows.items():
        (figures,) = row["stacks"]["emperor"]["runs"]
        assert len(figures) == ROWS[name]
    (crash,) = rows["crash"]["stacks"]["emperor"]["runs"]
    assert crash["twice"] == 0
    assert crash["answered"] > 0


@pytest.mark.slow
@pytest.mark.alone
def test_rows_beside_our_peers_in_their_shortest_form(orphans: Orphans, tmp_path: Path) -> None:
    # Without granian, gunicorn and uvicorn, which are the bench's own extra.
    rows = run(orphans, tmp_path, ("emperor", "nginx + uWSGI", "uWSGI Emperor"), BESIDE)
    beside = {name: sorted(row["stacks"]) for name, row in rows.items()}
    assert beside == {
        "hello": ["emperor", "nginx + uWSGI"],
        "down": ["emperor", "nginx + uWSGI"],
        "fleet-100": ["emperor", "uWSGI Emperor"],
    }
    for name, row in rows.items():
        for stack in row["stacks"].values():
            (figures,) = stack["runs"]
            assert len(figures) == ROWS[name]
        assert all(goal["floor_met"] in (None, True, False) for goal in row["goals"])


def run(orphans: Orphans, results: Path, stacks: tuple[str, ...], names: tuple[str, ...]) -> dict[str, Any]:
    """The rows, from the JSON; table and picture have them all as well, and nothing is left behind."""
    size = ("--seconds", "1", "--rounds", "1", "--shrink", "200")
    bench = orphans.popen(
        [
            sys.executable,
            BENCH / "run.py",
            *size,
            "--results",
            results,
            "--stacks",
            *stacks,
            "--rows",
            *names,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    said, _ = bench.communicate(timeout=118)
    assert bench.returncode == 0, said.decode()
    rows: dict[str, Any] = json.loads((results / "latest.json").read_text())["rows"]
    page = (results / "latest.md").read_text()
    assert all(f"## {row['title']}\n" in page for row in rows.values())
    ElementTree.parse(results / "latest.svg")
    assert orphans.end_all() == []
    return rows


def test_judged_by_the_median_over_rounds_against_the_strongest_rival() -> None:
    judged = """
from row import Goal
from stacks import Emperor
rounds = {"emperor": [{"p99_ms": 3.0}, {"p99_ms": 1.0}, {"p99_ms": 2.0}],
          "a": [{"p99_ms": 6.0}, {"p99_ms": 4.0}, {"p99_ms": 4.0}],
          "b": [{"p99_ms": 4.0}, {"p99_ms": 1.0}, {"p99_ms": 2.0}]}
goal = Goal("p99_ms", ("a", "b"), 0.5, most=True)
print(goal.reached(rounds), goal.meets(1.0, 0.5), goal.meets(0.5, 0.5), Goal("p99_ms", ("c",), 1.0).reached(rounds))
print(Goal("p99_ms", (), 1.0).reached(rounds), Goal("p99_ms", (), 1.0, gather=max).reached(rounds))
"""
    done = subprocess.run(
        [sys.executable, "-c", judged],
        env={**os.environ, "PYTHONPATH": str(BENCH)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == ["1.0 False True None", "2.0 3.0"], done.stderr


def test_a_peer_that_gives_no_figure_spoils_nobody_elses() -> None:
    judged = """
import run
from row import Row, Size, Spoiled, Stand
from stacks import Emperor, Granian, Site

class Broken(Row):
    def measure(self, stack, size):
        if stack == "granian":
            raise Spoiled("it does not come back")
        return {"requests_per_s": 5.0}

class Ready(run.Field):
    def place(self, stands):
        return {stand: stand.name for stand in stands}

row = Broken(name="row", title="a row", how="", goals=(), site=Site("hello"), kinds=(Granian, Emperor))
done = run.measure_row(row, Ready(None, {"emperor", "granian"}), 2, Size(1, 1))
print(list(done["stacks"]), len(done["stacks"]["emperor"]["runs"]), done["without"])
"""
    done = subprocess.run(
        [sys.executable, "-c", judged],
        env={**os.environ, "PYTHONPATH": str(BENCH)},
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout.splitlines()[-1:]
    without = "{'granian': 'granian: 4 bad runs one after another, the last: it does not come back'}"
    assert said == [f"['emperor'] 2 {without}"], done.stderr


def test_the_steps_of_a_request_can_be_priced() -> None:
    done = subprocess.run(
        [sys.executable, BENCH / "costs.py", "--calls", "50", "--goes", "1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    prices = [float(line.split(" | ")[2]) for line in done.stdout.splitlines()[2:-1]]
    assert len(prices) > 15
    assert min(prices) >= 0
