"""What is tried: apps, numbers of workers, and what is measured of a deck that serves them."""

from __future__ import annotations

from dataclasses import dataclass

from decks import Deck
from world import MS, US, Kind, S, World

KINDS = (
    Kind("20 µs", 20 * US),
    Kind("200 µs", 200 * US),
    Kind("2 ms", 2 * MS),
    Kind("20 ms", 20 * MS),
    Kind("50 µs, 2 % 200 ms", 50 * US, 200 * MS, 0.02),
    Kind("50 µs, 20 % 5 ms", 50 * US, 5 * MS, 0.2),
    Kind("1 ms, 10 % 20 ms", 1 * MS, 20 * MS, 0.1),
    Kind("5 ms, 20 % 50 ms", 5 * MS, 50 * MS, 0.2),
)
WORKERS = (1, 4)
CLIENTS = 64
LOAD = 0.5
"""Of what the workers could do, for those that come when they come: with more it is the queue that is measured."""
CRASH_EVERY_NS = 150 * MS


@dataclass(frozen=True)
class Length:
    """How much is simulated: so many requests, but at least so many seconds, in which stalls and slow requests come, and no
    more than so many requests for that."""

    requests: int
    seconds_least: float
    requests_most: int
    seeds: int
    crashes: int

    def until_ns(self, best_per_s: float) -> int:
        seconds = max(self.requests / best_per_s, self.seconds_least)
        return int(min(seconds, self.requests_most / best_per_s) * S)


WHOLE = Length(8_000, 15.0, 50_000, seeds=2, crashes=10)
SHORT = Length(3_000, 10.0, 12_000, seeds=1, crashes=4)


@dataclass(frozen=True)
class Busy:
    """All clients always wait for an answer. ``share``: answers per second, of what workers without a gap could give;
    ``p99_ms`` of quick requests; ``taken_back`` for each that was answered."""

    share: float
    p99_ms: float
    taken_back: float


def busy(kind: Kind, deck: Deck, workers: int, length: Length) -> Busy:
    until_ns = length.until_ns(kind.best_per_s(workers))
    runs = [
        World(kind, deck, workers, seed).closed(CLIENTS, until_ns, until_ns // 10)
        for seed in range(length.seeds)
    ]
    return Busy(
        share=sum(run.share() for run in runs) / len(runs),
        p99_ms=p99_ms([wait for run in runs for wait in run.waits_ns]),
        taken_back=sum(run.revoked for run in runs) / sum(run.answered for run in runs),
    )


def open_p99_ms(kind: Kind, deck: Deck, workers: int, length: Length) -> float:
    """Of quick requests that come when they come."""
    until_ns = length.until_ns(kind.best_per_s(workers))
    waits: list[int] = []
    for seed in range(length.seeds):
        waits += World(kind, deck, workers, seed).open(LOAD, until_ns, until_ns // 10).waits_ns
    return p99_ms(waits)


def lost_per_crash(kind: Kind, deck: Deck, workers: int, length: Length) -> float:
    times = tuple(number * CRASH_EVERY_NS for number in range(1, length.crashes + 1))
    lost = World(kind, deck, workers, 0).closed(CLIENTS, times[-1] + 20 * MS, 0, times).lost
    return sum(lost) / len(lost)


def p99_ms(waits_ns: list[int]) -> float:
    return sorted(waits_ns)[len(waits_ns) * 99 // 100] / MS
