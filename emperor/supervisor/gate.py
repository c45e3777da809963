"""Whether a new generation does worse than the one before it: the health gate of `probation`. Pure.

It compares what the two have done: a share of 5xx that was there before is no reason to go back. A jump needs enough
answers to be seen, or the first request of a night would decide; what it needs is on this page.
"""

from __future__ import annotations

from typing import NamedTuple

LEAST_ANSWERS = 10
LEAST_FAILED = 5
FACTOR = 2.0
POINTS = 0.05
"""Judged from ten answers on, with five of them failed: a share of 5xx falls when it is more than twice what it was before,
and more than five points above it."""

LEAST_DEATHS = 3
DEATHS_FACTOR = 3.0
"""Three deaths of workers, at more than three times the rate of before. The gateway's death is one too many by itself, and is
not asked about here."""


class Record(NamedTuple):
    """What one generation has done: requests answered, those of them with 5xx, workers that died, and in how long."""

    answered: int = 0
    failed: int = 0
    deaths: int = 0
    seconds: float = 0.0

    @property
    def share(self) -> float:
        return self.failed / self.answered if self.answered else 0.0


def fall(before: Record, now: Record) -> str:
    """Why the generation that serves `now` is taken back; empty: it is not."""
    if (
        now.answered >= LEAST_ANSWERS
        and now.failed >= LEAST_FAILED
        and now.share > before.share * FACTOR
        and now.share > before.share + POINTS
    ):
        return (
            f"{now.failed} of its {now.answered} answers were 5xx ({now.share:.0%}); "
            f"of the generation before {before.failed} of {before.answered} ({before.share:.0%})"
        )
    rate = before.deaths / before.seconds if before.seconds > 0 else 0.0
    if now.deaths >= LEAST_DEATHS and now.deaths > rate * now.seconds * DEATHS_FACTOR:
        return (
            f"{now.deaths} of its workers died in {now.seconds:.0f} s; "
            f"of the generation before {before.deaths} in {before.seconds:.0f} s"
        )
    return ""
