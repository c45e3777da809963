"""Many apps under one emperor: how soon all of them answer, and what they take while nobody asks."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from client import Connection, request
from processes import cpu_seconds, pss_bytes
from row import Figures, Row, Size, Spoiled, Stand
from stacks import Stack, fleet_names

UP_S = 120.0
PAUSE_S = 0.02


@dataclass(frozen=True)
class Fleet(Row):
    vassals: int = 100

    def stands(self, size: Size) -> list[Stand]:
        site = replace(self.site, vassals=size.many(self.vassals))
        return [Stand(kind.name, kind, site) for kind in self.kinds]

    def measure(self, stack: Stack, size: Size) -> Figures:
        began = time.monotonic()
        stack.begin()
        names = fleet_names(stack.site)
        wait_all_answer(stack, names, began + UP_S)
        up_s = time.monotonic() - began
        time.sleep(size.settle_s)
        before, looked = cpu_seconds(stack.roots), time.monotonic()
        time.sleep(size.seconds)
        spent, window = cpu_seconds(stack.roots) - before, time.monotonic() - looked
        return {
            "up_s": up_s,
            "pss_mb": pss_bytes(stack.roots) / len(names) / 1e6,
            "idle_percent": 100 * spent / window,
        }


def wait_all_answer(stack: Stack, names: list[str], until: float) -> None:
    """Asks one app after the other until each has answered 200 once. One that does not is asked again after a pause, and no
    other meanwhile: the asking must not take the processors from those who start. Raises Spoiled after the deadline."""
    connection: Connection | None = None
    for name in names:
        asked = request(f"{name}.localhost")
        while True:
            try:
                if connection is None or not connection.alive:
                    connection = Connection(stack.address)
                    connection.socket.settimeout(5)
                if connection.ask(asked).status == 200:
                    break
            except OSError:
                connection = None
            if time.monotonic() > until:
                raise Spoiled(f"{name} does not answer; {stack.logs()[-1000:]}")
            time.sleep(PAUSE_S)
    if connection:
        connection.close()
