"""Which workers a rolling reload wants next: of the new generation, and of the old. Pure.

One more worker than there are seats lives at a time: the next of the new ones is started when an old one has gone, and an
old one is told to go when a new one serves in its place. When all of the new ones serve, what is left of the old
generation leaves as in any reload.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

SERVES = "ready"
CLOSED = "closed"
"""States of a worker's seat, as its gateway tells them."""


class Wish(NamedTuple):
    """So many seats of each generation are to be open: of the new one the first, of the old one the last. `done`: all of the
    new ones serve."""

    new: int
    old: int
    done: bool


def wish(new: Iterable[str], new_count: int, old: Iterable[str], old_count: int) -> Wish:
    """What is wanted, from the states of the seats that are known; `…_count` is how many there are."""
    serve = sum(state == SERVES for state in new)
    closed = sum(state == CLOSED for state in old)
    if serve >= new_count:
        return Wish(new_count, max(0, old_count - closed), True)
    rest = old_count - min(old_count, serve)
    # Once none of the old ones is left, nothing speaks against the rest of the new ones at once.
    room = new_count if closed >= old_count else closed + 1
    return Wish(min(new_count, max(room, serve)), rest, False)
