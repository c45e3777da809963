"""Connections that have had their answer and stay: what one costs in memory."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass

from client import Connection, request
from processes import pss_bytes
from row import Figures, Row, Size, Spoiled
from stacks import Stack

CONNECTIONS = 10_000
FIRST = 100
"""So many are opened before the first look at the memory: what only the first ones take is not theirs."""
PER_ADDRESS = 5_000
"""By default a router gives one address half of its connections, and one address has some 28,000 ports."""


@dataclass(frozen=True)
class Idle(Row):
    def measure(self, stack: Stack, size: Size) -> Figures:
        count = size.many(CONNECTIONS)
        raise_descriptors(count + 200)
        stack.start()
        connections: list[Connection] = []
        try:
            self.open(stack, connections, FIRST)
            before = pss_bytes(stack.roots)
            self.open(stack, connections, count)
            time.sleep(size.settle_s)
            return {"connection_kb": (pss_bytes(stack.roots) - before) / count / 1024}
        finally:
            for connection in connections:
                connection.close()

    def open(self, stack: Stack, connections: list[Connection], count: int) -> None:
        """So many more, each with one request and its answer behind it."""
        asked = request(stack.host)
        for _ in range(count):
            connection = Connection(stack.address, f"127.0.0.{2 + len(connections) // PER_ADDRESS}")
            connections.append(connection)
            answer = connection.ask(asked)
            if answer.status != 200 or not connection.alive:
                raise Spoiled(f"connection {len(connections)}: status {answer.status}, not kept open")


def raise_descriptors(count: int) -> None:
    """Of this process and of the stacks that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise SystemExit(
            f"bench: {count} descriptors are needed, {hard} allowed: raise `ulimit -Hn`, or use --shrink"
        )
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
