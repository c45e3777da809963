"""A router in this process with one client, for moments between two turns of its loop that cannot be met from outside."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import uvloop

from emperor.config.settings import RouterSettings
from emperor.router.http import HttpConnection
from emperor.router.main import Router


@asynccontextmanager
async def router_with_a_client() -> AsyncIterator[
    tuple[Router, HttpConnection, asyncio.StreamReader, asyncio.StreamWriter]
]:
    """The router, its connection, and the client's two ends."""
    loop = asyncio.get_running_loop()
    router = Router(loop, 0, RouterSettings())
    fronts: list[HttpConnection] = []

    def front() -> asyncio.Protocol:
        fronts.append(HttpConnection(router))
        return fronts[0]  # type: ignore[return-value]

    server = await loop.create_server(front, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
    async with asyncio.timeout(20):
        while not router.fronts:
            await asyncio.sleep(0.01)
    yield router, fronts[0], reader, writer
    writer.close()
    server.close()
    router.close()


def run(what: Coroutine[Any, Any, None]) -> None:
    """In the loop that a router has."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(what)
