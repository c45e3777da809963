"""Workers that fail fast, and when one of them is set aside. Pure; whole nanoseconds.

A worker that answers 5xx in no time is idle before all others, and so would be given most of the requests: one of four that
lost its database takes nearly all of them. So who has failed ``OFTEN`` times in a row, each time much faster than requests of
this app usually take, gets nothing for as long as some of those take, then one request as a trial, and after each that fails
as well it waits twice as long. The first that does not fail makes it a worker like any other.

Where most workers fail it is not the worker: nobody is set aside then, since waiting would help nobody.
"""

from typing import Final

OFTEN: Final = 4
"""So many in a row: one bad request must not look like a bad worker."""

FASTER: Final = 4
"""In so many times less than the mean it is fast: what takes as long as others gets no more than others."""

TIMES: Final = 4
"""Set aside for so many times the mean at first."""

LEAST_NS: Final = 50_000_000
MOST_NS: Final = 10_000_000_000
MOST_IN_A_ROW: Final = 40
"""Counted no further."""


def is_fast(service_ns: int, mean_ns: int) -> bool:
    """Whether an answer took much less time than requests that succeed; never before one has."""
    return service_ns * FASTER < mean_ns


def aside_ns(in_a_row: int, mean_ns: int) -> int:
    """For how long a worker is set aside after so many fast failures; 0: not yet."""
    if in_a_row < OFTEN:
        return 0
    wait: int = max(LEAST_NS, TIMES * mean_ns) << (in_a_row - OFTEN)
    return min(MOST_NS, wait)


def it_is_the_worker(failing: int, workers: int) -> bool:
    """Whether so many failing ones of so many leave it to the others, or the app fails everywhere."""
    return failing * 2 <= workers and failing < workers
