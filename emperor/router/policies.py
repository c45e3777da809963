"""Which of an app's workers gets a request (option ``balance``). Pure: chance is a parameter.

| policy | an idle slot | when none is idle |
| --- | --- | --- |
| ``slots`` | the worker that became idle last; of threaded ones the least busy | the least loaded deck (``pool``) |
| ``least`` | the worker with the fewest requests; of equals, in turn | the same |
| ``round-robin`` | the next one in turn that has one | the same |
| ``p2c`` | of two that are drawn, the one with fewer requests | the same |
| ``hash`` | the first of its key's order that is not too full | that one's deck, if it runs nothing long, else the next one's |

Upstreams (``upstreams``) and workers of other hosts (``far``) are chosen among by the same policies, by weight and load; there
``slots`` is ``p2c``.

None of them has a request wait behind a busy worker while another has a free slot but ``hash``, which gives away some of that
for a worker that knows the key; its load is bounded: a worker with more than ``BOUND`` of what is everybody's share is
passed over (consistent hashing with bounded loads, Mirrokni and others, 2018). A key's order is that of the highest random
weight (Thaler and Ravishankar, 1998): when a worker goes, only its own keys go to others.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol, TypeVar

SLOTS: Final = "slots"
LEAST: Final = "least"
ROUND_ROBIN: Final = "round-robin"
P2C: Final = "p2c"
HASH: Final = "hash"

BOUND: Final = 1.25

Chance = Callable[[int], int]
"""A whole number from 0 up to, and without, the argument."""


class Seated(Protocol):
    """What a policy reads of a worker."""

    seat: int
    slots: int
    in_flight: int
    fresh: bool


class Weighed(Protocol):
    """What they read of an upstream, or of a worker of another host. ``turn``: how far it is from being next; theirs."""

    turn: float

    @property
    def outstanding(self) -> int:
        """Requests of ours that it has."""

    @property
    def place(self) -> str:
        """Where it is, by which a key knows it: another one in its place has its keys."""


W = TypeVar("W", bound=Seated)
V = TypeVar("V", bound=Weighed)


class Turns:
    """Round robin, by seats."""

    def __init__(self) -> None:
        self._last = -1

    def next(self, idle: Sequence[W]) -> W:
        """The one after the last, of some."""
        best = min(idle, key=lambda each: (each.seat <= self._last, each.seat))
        self._last = best.seat
        return best


def least(idle: Sequence[W], turns: Turns) -> W:
    """The one with the fewest requests."""
    fewest = min(each.in_flight for each in idle)
    return turns.next([each for each in idle if each.in_flight == fewest])


def better_of_two(idle: Sequence[W], chance: Chance) -> W:
    """Two are drawn, and differ where there are two."""
    if len(idle) == 1:
        return idle[0]
    first = chance(len(idle))
    second = (first + 1 + chance(len(idle) - 1)) % len(idle)
    one, other = idle[first], idle[second]
    return other if other.in_flight < one.in_flight else one


def ordered(key: bytes, workers: Sequence[W]) -> list[W]:
    """All of them, the one that this key belongs to first."""
    return sorted(workers, key=lambda each: weight(key, each.seat), reverse=True)


def weight(key: bytes, seat: int) -> bytes:
    return hashlib.blake2b(key, digest_size=8, salt=seat.to_bytes(8, "little")).digest()


def score(key: bytes, name: str, weight: float) -> float:
    """Of several by name and weight, the one with the greatest has this key: weighted rendezvous hashing (Schindelhauer and
    Schomaker, 2005)."""
    digest = hashlib.blake2b(
        key, digest_size=8, key=hashlib.blake2b(name.encode(), digest_size=16).digest()
    ).digest()
    point = (int.from_bytes(digest, "little") + 0.5) / 2**64
    return -weight / math.log(point) if point < 1.0 else math.inf


def in_turn(members: Sequence[V], shares: Sequence[float]) -> V:
    """Each as often as its share says, and evenly mixed (as nginx does it)."""
    for each, share in zip(members, shares, strict=True):
        each.turn += share
    best = max(members, key=lambda each: each.turn)
    best.turn -= sum(shares)
    return best


def least_of(members: Sequence[V], loads: Sequence[float], shares: Sequence[float]) -> V:
    """The one with the least to do; of equals, in turn."""
    least = min(loads)
    found = [at for at, load in enumerate(loads) if load == least]
    return in_turn([members[at] for at in found], [shares[at] for at in found])


def by_key(key: bytes, members: Sequence[V], shares: Sequence[float]) -> Iterator[V]:
    """The key's order, without those that have more than their part of what is under way, and a quarter; they come last."""
    one_more = sum(each.outstanding for each in members) + 1
    most = BOUND * one_more / sum(shares)
    scores = [score(key, each.place, share) for each, share in zip(members, shares, strict=True)]
    order = sorted(range(len(members)), key=lambda at: scores[at], reverse=True)
    full = []
    for at in order:
        if members[at].outstanding < math.ceil(most * shares[at]):
            yield members[at]
        else:
            full.append(members[at])
    yield from full


def bound(workers: Sequence[Seated]) -> int:
    """How many requests one worker may have, with one more to come."""
    in_all = sum(each.in_flight for each in workers) + 1
    return math.ceil(BOUND * in_all / len(workers)) if workers else 0


def token(name: str, seat: int | str) -> str:
    """What a sticky cookie says of a worker: the same for each worker of that seat, and nothing of how many there are. Of an
    upstream, or a worker of another host, ``seat`` is where it is."""
    return hashlib.blake2b(f"{name}\0{seat}".encode(), digest_size=8).hexdigest()


def cookie(header: bytes | None, name: bytes) -> bytes:
    """The value of a cookie (RFC 6265, 5.4), the first of that name; empty: it is not there."""
    return next(cookies(header, name), b"")


def cookies(header: bytes | None, name: bytes) -> Iterator[bytes]:
    """The values of all cookies of a name. There are several where they were set for several paths or domains: a client sends
    those of the longest path first, and does not say which is which."""
    for pair in (header or b"").split(b";"):
        found, _, value = pair.strip().partition(b"=")
        if found == name:
            yield value.strip(b'"')
