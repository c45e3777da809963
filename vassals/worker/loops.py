"""An ASGI worker's links to all routers that there are, on one loop (`vassals.worker.asynclink`)."""

import asyncio
from collections.abc import Callable
from typing import Any

from vassals.worker.asynclink import LoopLink
from vassals.worker.lines import GONE, Relay


class _Line:
    """One link, and the task that serves by it."""

    def __init__(self, seat: int, endpoint: str, link: LoopLink, relay: Relay) -> None:
        self.seat = seat
        self.endpoint = endpoint
        self.link = link
        self.relay = relay
        self.task: asyncio.Task[None] | None = None


class Loops:
    """What `LoopLink` is for one router: `serve`, `drained`, `part`, and `order` whenever there may be orders."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        orders: Any,
        first: tuple[int, str],
        make: Callable[[int, str, Any], LoopLink],
    ) -> None:
        """``make(router's seat, endpoint, orders)`` makes a link; ``first`` are the first's, if nobody says otherwise."""
        self._loop = loop
        self._orders = orders
        self._make = make
        self._lines: list[_Line] = []
        self._leaving: set[asyncio.Task[None]] = set()
        self._left: asyncio.Future[None] = loop.create_future()
        self._adapt(orders.turn() or (first,))

    async def serve(self) -> None:
        """Until it is time to leave."""
        self.order()
        await self._left
        await asyncio.gather(*(line.task for line in self._lines if line.task is not None))

    async def drained(self) -> None:
        """Until nothing that was begun is under way. To be called after `serve`."""
        await asyncio.gather(*(line.link.drained() for line in self._lines), *self._leaving)

    def part(self) -> None:
        """Leaves all routers."""
        for line in self._lines:
            line.link.part()

    def order(self) -> None:
        """There may be an order to leave, or other routers than before."""
        orders = self._orders
        if orders.leave:
            for line in self._lines:
                line.relay.leave = line.relay.leave or orders.leave
                line.link.order()
            if not self._left.done():
                self._left.set_result(None)
        elif orders.turned:
            self._adapt(orders.turn())

    def _adapt(self, routers: tuple[tuple[int, str], ...]) -> None:
        known = dict(routers)
        for line in self._lines[:]:
            if known.get(line.seat) != line.endpoint:
                self._lines.remove(line)
                line.relay.leave = GONE
                line.link.order()
                task = self._loop.create_task(self._leave(line))
                self._leaving.add(task)
                task.add_done_callback(self._leaving.discard)
        for seat, endpoint in routers:
            if all(line.seat != seat for line in self._lines):
                relay = Relay(self._orders, seat, lambda: self._loop.call_soon(self.order))
                line = _Line(seat, endpoint, self._make(seat, endpoint, relay), relay)
                self._lines.append(line)
                line.task = self._loop.create_task(self._serve(line))
        links: Any = [line.link for line in self._lines]
        for line in self._lines:
            line.link.beside(links)

    async def _serve(self, line: _Line) -> None:
        # Not the link's own: a compiled coroutine does not say where it is from, by which a trace knows our tasks.
        await line.link.serve()

    async def _leave(self, line: _Line) -> None:
        """Its router has gone: what came from there runs to its end, and is told to nobody."""
        if line.task is not None:
            await line.task
        await line.link.drained()
        line.link.part()
        if self._lines:
            self._lines[0].link.count_too(line.link.served)
