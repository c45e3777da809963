"""How slow the machine is just now.

Promises of time are for a machine that has time, where a make target sets PROMISE: there they are held, stretched by what
takes time away all the same. Elsewhere `allowed` is a safety net, so wide that noise cannot break it: what it catches is
something that waits for a timeout where it should not.

Two things take time away from a process here: others that want the same cores, which the load shows, and a host that
gives the virtual machine's cores to somebody else, which only `steal` in /proc/stat shows.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

MOST = 20.0
PROMISE = bool(os.environ.get("PROMISE"))
NET = 1.0 if PROMISE else 10.0


@dataclass(frozen=True)
class Instant:
    """A moment: CLOCK_MONOTONIC, and what /proc/stat had counted of all cores by then, in ticks."""

    at_s: float
    total: int
    stolen: int


def now() -> Instant:
    """This moment."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return Instant(time.monotonic(), sum(fields), fields[7])


def slowness(since: Instant) -> float:
    """How many times longer than on a quiet machine something that began then may have taken; at least 1."""
    end = now()
    total = max(1, end.total - since.total)
    given = max(0.05, 1.0 - (end.stolen - since.stolen) / total)
    crowd = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    return min(MOST, crowd / given)


def allowed(promised_s: float, since: Instant) -> float:
    """How long that may have taken, in seconds, which began then and is promised to take `promised_s` on a quiet machine."""
    return promised_s * NET * slowness(since)
