"""A WSGI app in the threads of a worker that has an event loop (`wsgi-on-loop`): threads run the app, and nothing else.

The link is the loop's, as for ASGI (`vassals.worker.asynclink`). A request waits in a queue until one of the threads takes
it, which is at once: there are as many of them as slots. What the app does of its exchange is done in the loop's thread. A
response that is whole is handed over, and its thread is free while it goes out; who sends more than there is credit for, or
reads a body that has not come, waits there.

A thread cannot be cancelled, so late requests are dealt with as those of any WSGI worker (docs/decisions/0021): READY does
not say CANCELS, and the deadline is the router's.

Imported by workers with `wsgi-on-loop` alone.
"""

import asyncio
import concurrent.futures
import dataclasses
import queue
import sys
import traceback
from collections.abc import Callable, Coroutine
from io import BufferedReader, BytesIO, RawIOBase
from typing import TYPE_CHECKING, Any, Final

from emperor.protocol import records
from vassals.adapters.asgi import no_app
from vassals.adapters.wsgi import Wsgi
from vassals.worker import link as single
from vassals.worker.aio import Server, new_loop
from vassals.worker.asynclink import LoopExchange, LoopLink
from vassals.worker.crew import Crew
from vassals.worker.offspring import forked_off
from vassals.worker.orders import Orders

if TYPE_CHECKING:
    from emperor.control.messages import GatewaySpec

_HEAD_BYTES: Final = 4
"""Of a packet: its size stands in the second and third."""


class ThreadExchange(LoopExchange):
    """See `vassals.adapters.answer.Answer`, which this is for the thread that runs the app."""

    def __init__(self, link: LoopLink, word: int, stream: int, payload: bytes) -> None:
        LoopExchange.__init__(self, link, word, stream, payload)
        self._loop: asyncio.AbstractEventLoop
        self._ended: Callable[[ThreadExchange], None] = _nothing
        self._body: tuple[bytes, bool] | None = None
        self._rest_of_it: asyncio.Task[None] | None = None

    def begin(self, loop: asyncio.AbstractEventLoop, ended: Callable[["ThreadExchange"], None]) -> None:
        """In the loop, before the thread has it. `ended` is told once nothing more of it is to come or to go."""
        self._loop = loop
        self._ended = ended
        size = self.payload[1] | self.payload[2] << 8 if len(self.payload) >= _HEAD_BYTES else 0
        self.read_from(_HEAD_BYTES + size)
        self._body = self.take()

    def close(self) -> None:
        LoopExchange.close(self)
        self._ended(self)

    def cut(self, reason: str) -> None:
        """In the loop: ends it in the app's place. Whoever waits for something of it is told."""
        LoopExchange.abort(self, reason)

    # In a thread.

    def body(self, offset: int) -> BytesIO | BufferedReader:
        if self._body is not None and not self._body[1]:
            return BytesIO(self._body[0])
        return BufferedReader(Input(self, self._body), records.BODY_LIMIT)

    def finish(self, head: bytes, body: bytes) -> None:
        self._hand_over(self._finish, head, body)

    def start(self, head: bytes, body: bytes) -> None:
        self.wait_for_loop(self._start(head, body))

    def send(self, body: bytes) -> None:
        self.wait_for_loop(self._send(body, 0))

    def look(self) -> None:
        """The loop looks."""
        if forked_off():
            single._end_foreign_process()

    def end(self) -> None:
        self._hand_over(LoopExchange.end, self)

    def abort(self, reason: str) -> None:
        self._hand_over(LoopExchange.abort, self, reason)

    def _hand_over(self, act: Callable[..., object], *what: object) -> None:
        if forked_off():
            single._end_foreign_process()
        self._loop.call_soon_threadsafe(act, *what)

    def wait_for_loop(self, act: Coroutine[Any, Any, Any]) -> Any:
        """Has the loop do it."""
        if forked_off():
            single._end_foreign_process()
        try:
            return asyncio.run_coroutine_threadsafe(act, self._loop).result()
        except concurrent.futures.CancelledError:
            # The loop has ended before it: the worker leaves, and has waited for as long as it may.
            raise single.ClientGone("the worker leaves") from None

    # In the loop.

    def _finish(self, head: bytes, body: bytes) -> None:
        if not self.finish_now(head, body):
            self._rest_of_it = self._loop.create_task(self._finish_by_pieces(head, body))

    async def _finish_by_pieces(self, head: bytes, body: bytes) -> None:
        await self._start(head, body)
        LoopExchange.end(self)

    async def _start(self, head: bytes, body: bytes) -> None:
        await self._send(body, self.start_now(head, body))

    async def _send(self, body: bytes, at: int) -> None:
        while at < len(body) and not self.gone:
            at += self.send_now(body, at)
            if at < len(body) and not self.gone:
                await self.changed()

    async def read(self) -> tuple[bytes, bool]:
        """The next piece of the body, and whether more follows. Raises ClientGone."""
        while not self.gone:
            piece = self.take()
            if piece is not None:
                return piece
            await self.changed()
        raise single.ClientGone(f"{self.gone}, in the middle of the request's body")


def _nothing(exchange: ThreadExchange) -> None:
    pass


class Input(RawIOBase):
    """The raw stream below ``wsgi.input`` for a body that was not whole in its REQUEST."""

    def __init__(self, exchange: ThreadExchange, first: tuple[bytes, bool] | None) -> None:
        super().__init__()
        self._exchange = exchange
        self._piece, self._more = first or (b"", True)

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any, /) -> int:
        while not self._piece:
            if not self._more:
                return 0
            self._piece, self._more = self._exchange.wait_for_loop(self._exchange.read())
        target = memoryview(into).cast("B")
        size = min(len(self._piece), target.nbytes)
        target[:size] = self._piece[:size]
        self._piece = self._piece[size:]
        return size


class ThreadLink(LoopLink):
    """Its exchanges are for threads."""

    def _new(self, word: int, stream: int, payload: bytes) -> ThreadExchange:
        return ThreadExchange(self, word, stream, payload)


class ThreadServer(Server):
    """One worker: `vassals.worker.aio.Server`, whose requests run in threads and have no tasks."""

    def __init__(
        self,
        adapter: Wsgi,
        crew: Crew,
        spec: "GatewaySpec",
        orders: Orders,
        hooks: Any,
        loop: asyncio.AbstractEventLoop,
        log: Callable[[str], None],
    ) -> None:
        Server.__init__(self, no_app, _without_asgi(spec), orders, hooks, loop, None, log)
        self._limits = None  # the router's to see to
        self._wsgi = adapter
        self._crew = crew
        self._slots = spec.engine.slots
        self._calls: queue.SimpleQueue[ThreadExchange | None] = queue.SimpleQueue()
        self._running: set[ThreadExchange] = set()

    def serve(self, make: Callable[..., LoopLink], start: Callable[[], int | None]) -> int:
        """Until it is time to leave. ``start`` may return an exit code, and then nothing is served. Raises CrewError."""
        code = start()
        if code is not None:
            return code
        for number in range(self._slots):
            self._crew.start(self._work, number)
        return self.run(make, lambda _ask, _pause: None)

    def _work(self) -> None:
        while (exchange := self._calls.get()) is not None:
            # As in any thread, SystemExit ends what runs there and not the process: the reason to leave is dropped.
            self._wsgi.run(exchange)

    def _shows_tasks(self) -> bool:
        return False

    def _new_link(
        self, make: Callable[..., LoopLink], router_seat: int, endpoint: str, orders: Any
    ) -> LoopLink:
        its: dict[str, Any] = {
            "loop": self._loop,
            "begin": self._begin,
            "soft": self._slots,
            "cancels": False,
        }
        return make(ThreadLink, router_seat, endpoint, orders, **its)

    def _begin(self, exchange: LoopExchange) -> None:
        assert isinstance(exchange, ThreadExchange)
        self._running.add(exchange)
        exchange.begin(self._loop, self._running.discard)
        self._calls.put(exchange)

    def _cut_off(self, why: str) -> None:
        if self._running:
            frames = sys._current_frames()
            self._say(f"worker: {why}: {len(self._running)} requests are cut off. Its threads are at:")
            for frame in frames.values():
                self._say("".join(traceback.format_stack(frame)))
        for exchange in list(self._running):
            exchange.cut(f"the worker leaves and {why}")

    async def _close(self) -> None:
        for _ in range(self._slots):
            self._calls.put(None)
        await Server._close(self)


def _without_asgi(spec: "GatewaySpec") -> "GatewaySpec":
    """No lifespan, and no watch for a loop that runs no app."""
    return dataclasses.replace(spec, engine=dataclasses.replace(spec.engine, lifespan="off", lag_s=0.0))


def serve(
    adapter: Wsgi,
    crew: Crew,
    spec: "GatewaySpec",
    orders: Orders,
    hooks: Any,
    path: list[str],
    make: Callable[..., LoopLink],
    start: Callable[[], int | None],
    log: Callable[[str], None],
) -> int:
    """Serves until it is time to leave. Returns the exit code. Raises LoopError, CrewError."""
    server = ThreadServer(adapter, crew, spec, orders, hooks, new_loop(spec.engine.loop, path), log)
    return server.serve(make, start)
