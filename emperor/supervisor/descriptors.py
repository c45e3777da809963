"""Whether this process has descriptors left for another vassal.

A generation that is started takes some for good and some for a moment. Where the last were given to it, the emperor could
replace no router, answer no command and read no file: so that many are kept from it.
"""

from __future__ import annotations

import contextlib
import os
import resource

OF_A_GENERATION = 21
"""What one may take while it starts; nine of them stay."""

OF_A_SEAT = 4
"""The same of each of its seats, for their bells; one of them stays."""

KEPT = 24
"""For the emperor's own: a router or spawner that is replaced, commands, statistics, files that are read."""


def shortage(seats: int) -> str:
    """Why no generation of so many seats can be started now, with what to do; empty when one can."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return ""
    try:
        used = len(os.listdir("/proc/self/fd")) - 1
    except OSError:
        used = limit
    if used + OF_A_GENERATION + OF_A_SEAT * seats + KEPT <= limit:
        return ""
    return (
        f"the emperor has {used} of {limit} descriptors in use, and keeps the last {KEPT} for itself: raise its limit "
        "(ulimit -n, LimitNOFILE= of the unit); it is tried again by itself"
    )


def raise_limit() -> None:
    """Every vassal costs five descriptors; the usual soft limit of 1024 is for programs that use select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Enough for ten thousand, and no more: vassals inherit it, and some libraries loop up to their limit.
    wanted = hard if hard != resource.RLIM_INFINITY and hard < 65536 else 65536
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
