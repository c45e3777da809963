#!/usr/bin/env python3
"""``ops/sim/run.py``: how deep a worker's deck should be, tried out. Every deck of `decks.py` serves the same requests in the
same world (`world.py`): answers per second, how long quick requests wait, and what a crash of a worker costs.

``--short`` is a look of some seconds; ``--decks`` and ``--apps`` choose by name. It prints the tables of
docs/architecture/performance.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from decks import DECKS  # noqa: E402
from trial import (  # noqa: E402
    CLIENTS,
    KINDS,
    LOAD,
    SHORT,
    WHOLE,
    WORKERS,
    Busy,
    Length,
    busy,
    lost_per_crash,
    open_p99_ms,
)


@dataclass(frozen=True)
class Case:
    """By their places in `KINDS`, `DECKS` and `WORKERS`: a deck has functions in it, which do not go to another process."""

    kind: int
    deck: int
    workers: int
    length: Length


@dataclass(frozen=True)
class Found:
    busy: Busy
    open_p99_ms: float
    lost: float


def measure(case: Case) -> Found:
    what = (KINDS[case.kind], DECKS[case.deck], WORKERS[case.workers], case.length)
    return Found(busy(*what), open_p99_ms(*what), lost_per_crash(*what))


TABLES: tuple[tuple[str, Callable[[Found], str]], ...] = (
    (
        f"Answers, {CLIENTS} clients, in % of what workers without a gap could give",
        lambda found: f"{100 * found.busy.share:.0f}",
    ),
    (f"p99 of quick requests, {CLIENTS} clients, in ms", lambda found: f"{found.busy.p99_ms:.3g}"),
    (
        f"p99 of quick requests that come at {100 * LOAD:.0f} % of what could be done, in ms",
        lambda found: f"{found.open_p99_ms:.3g}",
    ),
    (
        f"Taken back, {CLIENTS} clients, for 100 that are answered",
        lambda found: f"{100 * found.busy.taken_back:.0f}",
    ),
    ("Lost per crash of a worker", lambda found: f"{found.lost:.2g}"),
)


def tables(found: dict[Case, Found]) -> str:
    """One per figure: a line per app and number of workers, a column per deck."""
    decks = sorted({case.deck for case in found})
    lines = sorted({(case.workers, case.kind) for case in found})
    at = {(case.workers, case.kind, case.deck): figures for case, figures in found.items()}
    out = []
    for title, show in TABLES:
        out += [f"**{title}**", ""]
        out.append("| app | workers | " + " | ".join(DECKS[deck].name for deck in decks) + " |")
        out.append("| --- " * (2 + len(decks)) + "|")
        for workers, kind in lines:
            cells = [KINDS[kind].name, str(WORKERS[workers])]
            cells += [show(at[workers, kind, deck]) for deck in decks]
            out.append("| " + " | ".join(cells) + " |")
        out.append("")
    return "\n".join(out)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    decks, apps = [deck.name for deck in DECKS], [kind.name for kind in KINDS]
    parser.add_argument("--short", action="store_true", help="a look, not the figures")
    parser.add_argument(
        "--decks", nargs="*", metavar="DECK", choices=decks, default=decks, help="; ".join(decks)
    )
    # argparse formats its help with %.
    parser.add_argument(
        "--apps",
        nargs="*",
        metavar="APP",
        choices=apps,
        default=apps,
        help="; ".join(apps).replace("%", "%%"),
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    arguments = parser.parse_args(argv)
    length = SHORT if arguments.short else WHOLE
    cases = [
        Case(apps.index(app), decks.index(deck), workers, length)
        for app in arguments.apps
        for deck in arguments.decks
        for workers in range(len(WORKERS))
    ]
    with get_context("fork").Pool(arguments.jobs) as processes:
        figures = processes.map(measure, cases, chunksize=1)
    print(tables(dict(zip(cases, figures, strict=True))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
