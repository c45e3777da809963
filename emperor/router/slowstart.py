"""How a fresh worker is brought in (option ``slow-start``). Pure; time comes in as seconds.

Its first requests import, connect and fill caches, so what it is given waits longer there than elsewhere. While it is fresh
it is chosen last, nothing is put on its deck, and of several slots it works with one more at a time. That holds only while
at least half of the slots are those of workers that have been there for longer: at the start of a whole app, or after most
of it has died, everybody is fresh, and sparing all would be sparing nobody.

A worker of one slot is not spared: it runs one request at a time anyway, and if it is chosen last, it is given those
that would better have waited for a moment (ops/sim/workers.py).
"""

import math


def slots(width: int, age_s: float, window_s: float) -> int:
    """With how many of its slots a worker of this age works: at first 1, all of them after ``window_s``."""
    if age_s >= window_s:
        return width
    return max(1, math.ceil(width * max(0.0, age_s) / window_s))


def spares(fresh: int, settled: int) -> bool:
    """Whether so many fresh slots can be spared, beside so many settled ones."""
    return 0 < fresh <= settled
