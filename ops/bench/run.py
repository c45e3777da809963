"""Us beside our peers, on one machine, in one run: `make bench`, or `ops/bench/run.py --seconds 1 --rounds 1 --shrink 200`
for a look.

Runs alternate (every stack once per round, the order turning), ratios are taken round by round, and medians of them are
compared with what we promised: the machine's mood then falls on all alike. A run with one answer that is not what the app
sends, or one socket error, does not count: it is made again, a few times, and reported. What counts is the ratio, not the
figure.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from machine import describe_machine
from page import render
from plot import draw
from row import Figures, Goal, Row, Size, Spoiled, Stand
from stacks import Emperor, Stack
from table import PEERS, ROWS

AGAIN = 3
RESULTS = Path(__file__).with_name("results")
DOCS = Path(__file__).parents[2] / "docs"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [row.name for row in ROWS]
    parser.add_argument("--seconds", type=int, default=5, help="length of one run")
    parser.add_argument(
        "--rounds",
        type=int,
        default=5,
        help="runs per row and stack, more or fewer of some; medians are taken",
    )
    parser.add_argument(
        "--shrink", type=int, default=1, help="divides bytes, routes, idle connections, vassals"
    )
    parser.add_argument(
        "--rows", nargs="*", default=names, choices=names, metavar="ROW", help=", ".join(names)
    )
    parser.add_argument("--stacks", nargs="*", default=[kind.name for kind in PEERS], help="by name")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where latest.json, .md and .svg go")
    parser.add_argument(
        "--keep", action="store_true", help="keep the rows of latest.json that are not measured now"
    )
    parser.add_argument(
        "--docs", action="store_true", help="write page and plot to docs/ as bench.md, bench.svg, too"
    )
    parser.add_argument("--floors", action="store_true", help="exit 1 when a floor is missed")
    arguments = parser.parse_args(argv)

    latest = arguments.results / "latest.json"
    document: dict[str, Any] = {"rows": {}}
    if arguments.keep and latest.exists():
        document = json.loads(latest.read_text())
    machine = describe_machine()
    size = Size(arguments.seconds, arguments.shrink)
    with tempfile.TemporaryDirectory(prefix="ev-bench-", dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        field = Field(Path(directory), set(arguments.stacks))
        try:
            for row in ROWS:
                if row.name in arguments.rows:
                    document["rows"][row.name] = {
                        "machine": machine,
                        **measure_row(row, field, arguments.rounds, size),
                    }
                    # After each row: what was measured outlives a bench that is interrupted.
                    write_json(latest, document)
        finally:
            field.clear()
    document["rows"] = {name: document["rows"][name] for name in names if name in document["rows"]}
    write_json(latest, document)
    write_pages(arguments.results, document, DOCS if arguments.docs else None)
    missed = [
        f"{row['title']}: {goal['text']}: {goal['value']:.2f}"
        for name, row in document["rows"].items()
        for goal in row["goals"]
        if name in arguments.rows and goal["floor_met"] is False
    ]
    for line in missed:
        print(f"bench: below the floor: {line}")
    return 1 if missed and arguments.floors else 0


class Field:
    """The stacks that are up. Rows in succession that ask for the same ones find them running."""

    def __init__(self, directory: Path, allowed: set[str]) -> None:
        self.allowed = allowed
        self._directory = directory
        self._made = 0
        self._up: dict[Stand, Stack] = {}

    def place(self, stands: list[Stand]) -> dict[Stand, Stack]:
        """These, all of them running, and no others."""
        if set(stands) != set(self._up):
            self.clear()
            for stand in stands:
                self._up[stand] = stack = self.make(stand)
                stack.start()
        return self._up

    def make(self, stand: Stand) -> Stack:
        """One that has not been started; the caller stops it."""
        self._made += 1
        return stand.kind(self._directory / f"s{self._made}", stand.site)

    def clear(self) -> None:
        for stack in self._up.values():
            stack.stop()
        self._up.clear()


def measure_row(row: Row, field: Field, rounds: int, size: Size) -> dict[str, Any]:
    """What the document says of a row: every run of every stack, and each goal with what became of it."""
    stands = [stand for stand in row.stands(size) if stand.kind.name in field.allowed]
    rounds = row.rounds(rounds, size)
    runs: dict[str, list[Figures]] = {stand.name: [] for stand in stands}
    discarded = dict.fromkeys(runs, 0)
    without: dict[str, str] = {}
    for number in range(rounds):
        turn = number % max(len(stands), 1)
        for stand in stands[turn:] + stands[:turn]:
            if stand.name in without:
                continue
            try:
                figures, bad = measure_counting(row, stand, stands, field, size)
            except Spoiled as reason:
                if stand.kind is Emperor:
                    raise SystemExit(f"bench: {row.title}: {reason}") from None
                # A peer's own affair: what was measured of the others counts.
                without[stand.name] = str(reason)
                del runs[stand.name]
                continue
            discarded[stand.name] += bad
            runs[stand.name].append(figures)
            said = ", ".join(f"{key} {value:,.4g}" for key, value in figures.items())
            print(f"bench: {row.title}: {number + 1}/{rounds} {stand.name}: {said}", flush=True)
    return {
        "title": row.title,
        "how": row.how,
        "seconds": row.lasts(size),
        "shrink": size.shrink,
        "rounds": rounds,
        "stacks": {name: {"discarded": discarded[name], "runs": done} for name, done in runs.items()},
        "without": without,
        "goals": [judged(goal, runs) for goal in row.goals if goal.reached(runs) is not None],
    }


def measure_counting(
    row: Row, stand: Stand, stands: list[Stand], field: Field, size: Size
) -> tuple[Figures, int]:
    """A run that counts, and how many did not before it. Raises Spoiled when there is none."""
    last = ""
    for bad in range(AGAIN + 1):
        try:
            if not row.fresh:
                return row.measure(field.place(stands)[stand], size), bad
            field.clear()
            stack = field.make(stand)
            try:
                return row.measure(stack, size), bad
            finally:
                stack.stop()
        except Spoiled as reason:
            last = str(reason)
            print(f"bench: {row.title}: {stand.name}: does not count: {reason}", flush=True)
    raise Spoiled(f"{stand.name}: {AGAIN + 1} bad runs one after another, the last: {last}")


def judged(goal: Goal, runs: dict[str, list[Figures]]) -> dict[str, Any]:
    value = goal.reached(runs)
    assert value is not None
    return {
        "figure": goal.figure,
        "ours": goal.ours,
        "against": goal.against,
        "text": goal.figure + (f" against {' and '.join(goal.against)}" if goal.against else ""),
        "value": value,
        "most": goal.most,
        "floor": goal.floor,
        "floor_met": None if goal.floor is None else goal.meets(value, goal.floor),
        "goal": goal.goal,
        "goal_met": None if goal.goal is None else goal.meets(value, goal.goal),
    }


def write_json(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(json.dumps(document, indent=2) + "\n")


def write_pages(directory: Path, document: dict[str, Any], docs: Path | None) -> None:
    text, picture = render(document["rows"]), draw(document["rows"])
    print("\n" + text)
    for where, stem in ((directory, "latest"), *([(docs, "bench")] if docs else [])):
        (where / f"{stem}.md").write_text(text.replace("PICTURE", f"{stem}.svg"))
        (where / f"{stem}.svg").write_text(picture)
    print(f"bench: written to {directory}: latest.json, latest.md, latest.svg")


if __name__ == "__main__":
    sys.exit(main())
