"""More than an app can do, open loop: what comes out of it, and how long what is answered has taken."""

from __future__ import annotations

import random
import selectors
import time
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import quantiles

from client import Connection, request
from row import Figures, Row, Size, Spoiled
from stacks import Stack

OFFERED = 1.5
"""Of what the app was able to do just before, with clients that wait for their answers."""

CLOSED_CONNECTIONS = 16
LATE_S = 10.0


@dataclass(frozen=True)
class Finished:
    """Seconds since the load began, and since the instant for which the request was scheduled."""

    at_s: float
    took_s: float
    status: int
    body: bytes = b""


@dataclass(frozen=True)
class Overload(Row):
    def measure(self, stack: Stack, size: Size) -> Figures:
        able_per_s = capacity(stack, max(1.0, size.seconds / 3))
        seconds = max(2.0, size.seconds)
        done = offer(stack, list(arrivals(able_per_s * OFFERED, seconds)))
        answered = [each for each in done if each.status == 200]
        # What comes out while all workers have something to do.
        settled_s = 0.1 * seconds
        within = sum(settled_s <= each.at_s < seconds for each in answered)
        percent = quantiles([each.took_s for each in answered], n=100)
        return {
            "goodput_percent": 100 * within / (seconds - settled_s) / able_per_s,
            "p50_ms": percent[49] * 1000,
            "p99_ms": percent[98] * 1000,
            "refused_percent": 100 * (1 - len(answered) / len(done)),
        }


def capacity(stack: Stack, seconds: float) -> float:
    """Requests/s of clients each of which waits for its answer. Raises Spoiled at anything but 200."""
    connections = [Connection(stack.address) for _ in range(CLOSED_CONNECTIONS)]
    target = request(stack.host)
    count = 0
    try:
        with selectors.SelectSelector() as selector:
            for connection in connections:
                selector.register(connection, selectors.EVENT_READ)
                connection.send(target)
            began = time.monotonic()
            while (left_s := began + seconds - time.monotonic()) > 0:
                for key, _ in selector.select(left_s):
                    connection = key.fileobj
                    answer = connection.receive()
                    if answer is None:
                        continue
                    if answer.status != 200 or not connection.alive:
                        raise Spoiled(f"status {answer.status} of a connection that asks one thing at a time")
                    count += 1
                    connection.send(target)
        return count / (time.monotonic() - began)
    finally:
        for connection in connections:
            connection.close()


def arrivals(per_s: float, seconds: float) -> Iterable[float]:
    """Poisson, from a fixed seed."""
    chance = random.Random(5)
    at_s = 0.0
    while (at_s := at_s + chance.expovariate(per_s)) < seconds:
        yield at_s


def offer(
    stack: Stack, schedule: list[float], path: str = "/", allowed: tuple[int, ...] = (200, 503)
) -> list[Finished]:
    """Each request at its instant, however many have no answer yet. Raises Spoiled at any status but those ``allowed``."""
    target = request(stack.host, path)
    taken: dict[Connection, float] = {}
    spare: list[Connection] = []
    done: list[Finished] = []
    began = time.monotonic()
    with selectors.SelectSelector() as selector:
        for at_s in [*schedule, None]:
            due = began + (schedule[-1] + LATE_S if at_s is None else at_s)
            while (wait_s := due - time.monotonic()) > 0 and (at_s is not None or taken):
                for key, _ in selector.select(wait_s):
                    connection = key.fileobj
                    answer = connection.receive()
                    if answer is None:
                        continue
                    scheduled_s, now_s = taken.pop(connection), time.monotonic() - began
                    if answer.status not in allowed:
                        raise Spoiled(f"status {answer.status}, {now_s:.3f} s after the load began")
                    done.append(Finished(now_s, now_s - scheduled_s, answer.status, answer.body))
                    selector.unregister(connection)
                    if connection.alive:
                        spare.append(connection)
            if at_s is not None:
                connection = spare.pop() if spare else Connection(stack.address)
                taken[connection] = at_s
                selector.register(connection, selectors.EVENT_READ)
                connection.send(target)
    for connection in (*spare, *taken):
        connection.close()
    if taken:
        raise Spoiled(f"{len(taken)} of {len(schedule)} requests have no answer after {LATE_S:g} s")
    return done
