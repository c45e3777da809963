"""Where an app's requests wait for a free slot: one bounded queue, oldest first. Pure; time comes in as seconds."""

from collections import deque
from collections.abc import Iterator

from emperor.router.exchange import Exchange


class Queue:
    """Requests in the order in which they were submitted.

    ``limit`` bounds what clients can add. What comes back from a worker (revoked, or its worker died) goes to its old place
    and is never refused: it was admitted once.
    """

    __slots__ = ("_waiting", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._waiting: deque[Exchange] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Exchange]:
        return iter(self._waiting)

    def add(self, exchange: Exchange) -> bool:
        """Append a new request; False when the queue is full."""
        if len(self._waiting) >= self.limit:
            return False
        self._waiting.append(exchange)
        return True

    def put_back(self, exchange: Exchange) -> None:
        """Insert by the time at which it was submitted."""
        waiting = self._waiting
        index = 0
        for other in waiting:
            if other.submitted > exchange.submitted:
                break
            index += 1
        waiting.insert(index, exchange)

    def take(self) -> Exchange | None:
        """The oldest, or None."""
        return self._waiting.popleft() if self._waiting else None

    def take_newest(self) -> Exchange | None:
        """The one that came last, or None."""
        return self._waiting.pop() if self._waiting else None

    def newest(self) -> Exchange | None:
        """The one that came last, which stays; or None."""
        return self._waiting[-1] if self._waiting else None

    def oldest(self) -> Exchange | None:
        """The one that has waited longest, which stays; or None."""
        return self._waiting[0] if self._waiting else None

    def remove(self, exchange: Exchange) -> None:
        """Forget one that waits here."""
        self._waiting.remove(exchange)

    def overdue(self, now: float) -> list[Exchange]:
        """Take out and return those of whose deadlines one has passed."""
        late = [
            exchange
            for exchange in self._waiting
            if exchange.queue_deadline <= now or exchange.unanswered(now)
        ]
        for exchange in late:
            self._waiting.remove(exchange)
        return late

    def clear(self) -> list[Exchange]:
        """Take out and return all."""
        everything = list(self._waiting)
        self._waiting.clear()
        return everything
