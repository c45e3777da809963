"""Slots for some paths alone (``reserve``), and paths that may not have all (``bulkhead``). Pure.

The requests of an app fall into parts, by the longest path that is named; what no path takes is the rest. Each part has a
queue of its own, so that what may not run yet stands in nobody's way, and counts what of it workers have. Who comes next:
the parts with reserved slots first, then whoever has waited longest.

A reserved slot is one that is kept idle: a request of another part goes to an idle worker only if enough idle slots
remain, else it waits, or goes on the deck of a worker that is busy with others of its kind. The last slot of an app is
never kept: with one worker, ``reserve`` decides who is first.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from emperor.config.balancing import PathCounts
from emperor.router.exchange import Exchange
from emperor.router.queue import Queue

ANY: Final = 1 << 30


class Part:
    """Requests of one path. ``most`` slots they may hold, ``reserved`` are kept for them; ``in_flight``: offered or begun."""

    __slots__ = ("in_flight", "most", "path", "queue", "refused", "reserved")

    def __init__(self, path: str, queue: Queue, most: int = ANY, reserved: int = 0) -> None:
        self.path = path
        self.queue = queue
        self.most = most
        self.reserved = reserved
        self.in_flight = 0
        self.refused = 0

    def report(self) -> dict[str, Any]:
        """For the statistics."""
        return {
            "path": self.path,
            "limit": 0 if self.most == ANY else self.most,
            "reserved": self.reserved,
            "now": self.in_flight,
            "queued": len(self.queue),
            "refused": self.refused,
        }


class Parts:
    """The parts of one app. ``rest`` has the app's own queue."""

    def __init__(self, bulkheads: PathCounts, reserve: PathCounts, rest: Queue) -> None:
        self.rest = Part("", rest)
        most, reserved = dict(bulkheads), dict(reserve)
        self.named = [
            Part(path, Queue(rest.limit), most.get(path, ANY), reserved.get(path, 0))
            for path in {**most, **reserved}
        ]
        by_length = sorted(self.named, key=lambda part: -len(part.path))
        self._prefixes = [(part.path.rstrip("/").encode(), part) for part in by_length]
        self._keeping = [part for part in self.named if part.reserved]
        self.keeps = bool(self._keeping)

    def __iter__(self) -> Iterator[Part]:
        yield from self.named

    def of(self, path: bytes) -> Part:
        """Whole segments count: ``/slow`` is a part of ``/slow/er``, not of ``/slower``."""
        for prefix, part in self._prefixes:
            if path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in (b"", b"/"):
                return part
        return self.rest

    def queued(self) -> int:
        """How many wait, but for the rest."""
        return sum(len(part.queue) for part in self.named)

    def wanting(self) -> int:
        """How many wait that a free slot would help: not those of a part that has all its slots."""
        return len(self.rest.queue) + sum(
            max(0, min(len(part.queue), part.most - part.in_flight)) for part in self.named
        )

    def oldest_wanting(self) -> tuple[Exchange | None, bool]:
        """The one of these that has waited longest, if any; and whether one of them waits for a slot that is kept for it."""
        found: Exchange | None = None
        is_kept_for = False
        for part in (*self.named, self.rest):
            oldest = part.queue.oldest()
            if oldest is None or part.in_flight >= part.most:
                continue
            is_kept_for = is_kept_for or part.in_flight < part.reserved
            if found is None or oldest.submitted < found.submitted:
                found = oldest
        return found, is_kept_for

    def kept_from(self, part: Part, slots: int) -> int:
        """So many slots must stay idle when one of this part is given one, where there are ``slots`` in all."""
        kept = sum(max(0, each.reserved - each.in_flight) for each in self._keeping if each is not part)
        return min(kept, slots - 1)

    def next(self, passed_over: Iterable[Part]) -> Part | None:
        """Whose oldest request is next, but for these; None: nobody's."""
        best: Part | None = None
        since = 0.0
        for part in (*self.named, self.rest):
            oldest = part.queue.oldest()
            if oldest is None or part.in_flight >= part.most or part in passed_over:
                continue
            if part.reserved:
                return part
            if best is None or oldest.submitted < since:
                best, since = part, oldest.submitted
        return best

    def all_waiting(self) -> list[Exchange]:
        """Take out and return all that wait, but for the rest."""
        return [exchange for part in self.named for exchange in part.queue.clear()]

    def report(self) -> list[dict[str, Any]]:
        return [part.report() for part in self.named]
