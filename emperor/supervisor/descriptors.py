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


class Room:
    """Tells whether there are enough. To be asked before each generation, of which there are a thousand at a start: the
    descriptors of all are not counted for each."""

    def __init__(self) -> None:
        self._limit = 0
        self._uncounted = 0
        """So many may be taken before they are counted again, where the kernel does not tell."""

    def shortage(self, seats: int) -> str:
        """Why no generation of so many seats can be started now, with what to do; empty when one can."""
        limit = _limit()
        if limit == resource.RLIM_INFINITY:
            return ""
        wanted = OF_A_GENERATION + OF_A_SEAT * seats + KEPT
        used = _told()
        if used < 0:
            if limit == self._limit and wanted <= self._uncounted:
                self._uncounted -= wanted
                return ""
            used = _counted(limit)
            # The other half is for what is taken without being asked for here.
            self._limit, self._uncounted = limit, (limit - used) // 2
        if used + wanted <= limit:
            return ""
        return (
            f"the emperor has {used} of {limit} descriptors in use, and keeps the last {KEPT} for itself: raise its limit "
            "(ulimit -n, LimitNOFILE= of the unit); it is tried again by itself"
        )


def _limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _told() -> int:
    """In use, as the kernel tells it at no cost (Linux 6.2 and later: proc_pid_fd(5)); −1 where it does not."""
    try:
        return os.stat("/proc/self/fd").st_size or -1
    except OSError:
        return -1


def _counted(limit: int) -> int:
    """In use, counted one by one: a microsecond for each."""
    try:
        return len(os.listdir("/proc/self/fd")) - 1
    except OSError:  # not one is left to look with
        return limit


def raise_limit() -> None:
    """Every vassal costs five descriptors; the usual soft limit of 1024 is for programs that use select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Enough for ten thousand, and no more: vassals inherit it, and some libraries loop up to their limit.
    wanted = hard if hard != resource.RLIM_INFINITY and hard < 65536 else 65536
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
