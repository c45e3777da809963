"""The tail under a mixed load, open loop: requests come when they come, however long those before them take, and latency
counts from the instant for which a request was scheduled."""

from __future__ import annotations

import random
import selectors
import time
from dataclasses import dataclass
from statistics import quantiles

from client import Connection, request
from row import Figures, Row, Size, Spoiled
from stacks import Stack

PER_S = 400
SLOW_SHARE = 0.02
LEAST_S = 6
"""A run is no shorter: in the first 4.8 s of this schedule there is never a moment in which every worker has a slow request,
and such moments are what the tail of a mixed load is about."""

LATE_S = 15.0
"""How long the last answers are waited for."""


@dataclass(frozen=True)
class Arrival:
    at_s: float
    slow: bool


@dataclass(frozen=True)
class Mixed(Row):
    def measure(self, stack: Stack, size: Size) -> Figures:
        percent = quantiles(latencies(stack, arrivals(self.lasts(size))), n=100)
        return {f"p{n}_ms": percent[n - 1] * 1000 for n in (50, 90, 95, 99)}

    def lasts(self, size: Size) -> int:
        return max(size.seconds, LEAST_S) if size.shrink == 1 else size.seconds


def arrivals(seconds: float) -> list[Arrival]:
    """Poisson, and the same for all: the seed is fixed."""
    chance = random.Random(4)
    at_s = 0.0
    found = []
    while (at_s := at_s + chance.expovariate(PER_S)) < seconds:
        found.append(Arrival(at_s, chance.random() < SLOW_SHARE))
    return found


def latencies(stack: Stack, schedule: list[Arrival]) -> list[float]:
    """Seconds of each fast request, from its scheduled instant. Connections are kept and used again; one that is needed
    while all are taken is made, as a browser would. Raises Spoiled at anything but 200.

    `select` and not epoll: it waits with the precision of microseconds.
    """
    targets = {False: request(stack.host), True: request(stack.host, "/slow")}
    taken: dict[Connection, Arrival] = {}
    spare: list[Connection] = []
    done: list[float] = []
    began = time.monotonic()
    with selectors.SelectSelector() as selector:
        for arrival in [*schedule, None]:
            due = began + (arrival.at_s if arrival else schedule[-1].at_s + LATE_S)
            while (wait := due - time.monotonic()) > 0 and (arrival or taken):
                for key, _ in selector.select(wait):
                    connection = key.fileobj
                    answer = connection.receive()
                    if answer is None:
                        continue
                    finished = taken.pop(connection)
                    if answer.status != 200:
                        raise Spoiled(f"status {answer.status} for {finished}")
                    if not finished.slow:
                        done.append(time.monotonic() - began - finished.at_s)
                    selector.unregister(connection)
                    if connection.alive:
                        spare.append(connection)
            if arrival:
                connection = spare.pop() if spare else Connection(stack.address)
                taken[connection] = arrival
                selector.register(connection, selectors.EVENT_READ)
                connection.send(targets[arrival.slow])
    for connection in (*spare, *taken):
        connection.close()
    if taken:
        raise Spoiled(f"{len(taken)} of {len(schedule)} requests have no answer after {LATE_S:g} s")
    return done
