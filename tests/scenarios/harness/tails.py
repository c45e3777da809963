"""What a disturbance does to the tail of a neighbour's latencies: the promise, and a form of it that noise cannot break.

The promise is for a machine with nothing else to do, where a make target sets PROMISE: medians of the phases' p99. Noise of a
shared machine only ever adds, and what does harm does it in every phase: so `make test` compares the best phases, allows 5 ms,
and a test repeats its phases a few times before it fails.
"""

from collections.abc import Sequence
from statistics import median

from .flood import Answer
from .machine import PROMISE

ALLOWED_MS = 5.0


def p99_ms(answers: Sequence[Answer]) -> float:
    """Of requests that were all answered, in ms."""
    ordered = sorted(answer.latency_ms for answer in answers)
    return ordered[int(0.99 * (len(ordered) - 1))]


def within(calm_ms: Sequence[float], attacked_ms: Sequence[float], times: float) -> bool:
    """Whether the attacked phases' p99 is at most so many times the calm ones'."""
    if PROMISE:
        return median(attacked_ms) <= times * median(calm_ms)
    calm = min(calm_ms)
    return min(attacked_ms) <= max(times * calm, calm + ALLOWED_MS)
