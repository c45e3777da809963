"""What a row of the bench is: stacks, what one run of one of them gives, and what we have promised.

A row owns its measurement and nothing else: `run.py` starts the stacks, lets them take turns and judges.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from stacks import Emperor, Site, Stack

Figures = dict[str, float]
"""What one run gave, by names out of `FIGURES`."""

FIGURES: dict[str, tuple[str, str]] = {
    "requests_per_s": ("requests/s", "{:,.0f}"),
    "messages_per_s": ("messages/s", "{:,.0f}"),
    "mb_per_s": ("MB/s", "{:,.0f}"),
    "cpu_us": ("CPU per request", "{:.1f} µs"),
    "cpu_ms": ("CPU per transfer", "{:,.0f} ms"),
    "p50_ms": ("p50", "{:.2f} ms"),
    "p90_ms": ("p90", "{:.2f} ms"),
    "p95_ms": ("p95", "{:.2f} ms"),
    "p99_ms": ("p99", "{:.2f} ms"),
    "busy_percent": ("CPU, of one core", "{:.1f} %"),
    "goodput_percent": ("answered 200, of what it can do", "{:.1f} %"),
    "refused_percent": ("answered 503, of what came", "{:.1f} %"),
    "share_percent": ("its share of the requests", "{:.1f} %"),
    "growth_mb": ("memory growth at its highest", "{:.1f} MB"),
    "connection_kb": ("memory per connection", "{:.1f} KB"),
    "up_s": ("all answering after", "{:.1f} s"),
    "pss_mb": ("PSS per vassal", "{:.2f} MB"),
    "idle_percent": ("idle CPU, of one core", "{:.2f} %"),
    "answered": ("answered 200", "{:,.0f}"),
    "lost": ("not answered 200", "{:g}"),
    "lost_unbegun": ("of them not begun", "{:g}"),
    "twice": ("run twice", "{:g}"),
    "back_ms": ("next answer after", "{:,.0f} ms"),
}
"""In the order of a table's columns: title and format."""


class Spoiled(Exception):
    """A run that must not count; says what went wrong."""


@dataclass(frozen=True)
class Size:
    """How long a timed run is, and by how much what is counted (bytes, routes, connections, vassals) is divided for a run
    that is only to show that the bench works."""

    seconds: int
    shrink: int = 1

    @property
    def warm_up_s(self) -> int:
        """Before a timed run, so that it finds connections, caches and branch predictors as it leaves them."""
        return 1 if self.shrink == 1 else 0

    @property
    def settle_s(self) -> float:
        """Until what was started or left behind has come to rest."""
        return 2.0 if self.shrink == 1 else 0.1

    def many(self, count: int) -> int:
        return max(count // self.shrink, 5)


@dataclass(frozen=True)
class Goal:
    """A promise about one figure: ours over the rivals' in the same round, or without rivals our own. `most`: it has to
    stay below, not above. Without `floor` nothing is at stake, and the ratio is shown."""

    figure: str
    against: tuple[str, ...]
    floor: float | None
    goal: float | None = None
    most: bool = False
    ours: str = Emperor.name
    gather: Callable[[Sequence[float]], float] = median

    def reached(self, rounds: dict[str, list[Figures]]) -> float | None:
        """The figure, or the median over rounds of its ratio to the strongest rival; None when a stack was not measured.

        The strongest is who leaves us the worse ratio: it is chosen once for all rounds, after the medians.
        """
        ours = rounds.get(self.ours)
        if not ours:
            return None
        if not self.against:
            return self.gather([figures[self.figure] for figures in ours])
        if any(name not in rounds for name in self.against):
            return None
        ratios = [
            self.gather(
                [mine[self.figure] / its[self.figure] for mine, its in zip(ours, rounds[name], strict=True)]
            )
            for name in self.against
        ]
        return max(ratios) if self.most else min(ratios)

    def meets(self, value: float, bound: float) -> bool:
        return value <= bound if self.most else value >= bound


@dataclass(frozen=True)
class Stand:
    """One line of a row: a stack with what it serves, under the name that the row's goals use."""

    name: str
    kind: type[Stack]
    site: Site


@dataclass(frozen=True)
class Row:
    """One load on some stacks."""

    name: str
    title: str
    site: Site
    kinds: tuple[type[Stack], ...]
    goals: tuple[Goal, ...]
    how: str
    """One or two sentences for the page: what a run does, and what counts as its figures."""
    rounds_most: int = sys.maxsize
    rounds_least: int = 1
    """More than were asked for, where one run says little: a dozen requests of it decide a 99th percentile."""
    fresh: bool = False
    """Each run needs a stack that nobody used before: `measure` gets one that has not been started, and starts it."""

    def rounds(self, asked: int, size: Size) -> int:
        """How many runs of each stack there are. A run that is only to show that the bench works needs no more."""
        least = self.rounds_least if size.shrink == 1 else 1
        return min(max(asked, least), self.rounds_most)

    def lasts(self, size: Size) -> int:
        """Seconds of a run."""
        return size.seconds

    def stands(self, size: Size) -> list[Stand]:
        return [Stand(kind.name, kind, self.site) for kind in self.kinds]

    def measure(self, stack: Stack, size: Size) -> Figures:
        """One run. Raises Spoiled when it does not count."""
        raise NotImplementedError
