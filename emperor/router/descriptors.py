"""How many of the process's descriptors are left for clients. Pure but for the look.

The loop that we accept with sheds load when accept(2) finds no descriptor (libuv: it closes whoever waits, without a word and
without a line in a log). So it must never come to that: before the last are gone nobody is accepted, who has connected waits in
the kernel, and those who are in are served. That loop also takes all who wait in one turn, before we hear of the first: where
there are few descriptors clients are accepted by us, one by one.
"""

import os
import resource
from typing import Final

BURST: Final = 2048
"""Clients that may be accepted in one turn: as many as wait in the kernel (``backlog``). Kept free where there are many."""

LEAST_FREE: Final = 32
"""Where there are few: for a worker that comes, a body on disk, an emperor. Of very few an eighth."""

EVERY: Final = 10
"""Looks for one that counts them one by one: a microsecond for each, in which nobody is served."""


class Descriptors:
    """Counts. Call ``look`` each second, and ask ``short`` for each client that has come."""

    def __init__(self) -> None:
        self.limit = _limit()
        self.others = 0  # all but clients
        self._until = 0
        self._clients = 0  # at the last look

    @property
    def few(self) -> bool:
        """Whether clients are accepted one by one."""
        return self.limit < 4 * BURST

    @property
    def free(self) -> int:
        """So many are kept free of clients."""
        return min(LEAST_FREE, self.limit // 8) if self.few else BURST

    def short(self, clients: int) -> bool:
        """Whether there is no room for one more beside so many."""
        return self.others + clients > self.limit - self.free

    def stale(self, clients: int) -> bool:
        """Whether so many have come since the last look that it is time for another, or there seems to be no room."""
        many = 2 * (self.others + clients) > self.limit
        return (many and clients - self._clients >= self.free // 2) or self.short(clients)

    def look(self, clients: int) -> bool:
        """See what is in use. Returns whether there is no room for another client."""
        limit = _limit()
        self._until -= 1
        used = _told()
        if used < 0 and (limit != self.limit or self._until <= 0 or self.stale(clients)):
            self._until = EVERY
            used = _counted(limit)
        if used >= 0:
            self.limit, self._clients = limit, clients
            self.others = max(0, used - clients)
        return self.short(clients)


def _told() -> int:
    """In use, as the kernel tells it at no cost (Linux 6.2 and later: proc_pid_fd(5)); −1 where it does not."""
    return os.stat("/proc/self/fd").st_size or -1


def _counted(limit: int) -> int:
    try:
        return len(os.listdir("/proc/self/fd")) - 1
    except OSError:  # not one is left to look with
        return limit


def _limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
