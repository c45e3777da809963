"""Litestar: a lifespan, dependencies, models, uploads, streams, server-sent events, a view in a thread."""

import asyncio
import gc
import hashlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from litestar import Litestar, Request, get, post
from litestar.response import ServerSentEvent, Stream

SEEN: list[str] = []


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    SEEN.append("started")
    yield


@dataclass
class Item:
    name: str
    count: int = 1


@get("/items/{number:int}")
async def read(number: int, name: str) -> Item:
    return Item(name, number)


@post("/items")
async def write(data: Item) -> Item:
    return data


@post("/upload", status_code=200)
async def upload(request: Request[Any, Any, Any]) -> list[Any]:
    found, size = hashlib.sha256(), 0
    async for piece in request.stream():
        found.update(piece)
        size += len(piece)
    return [size, found.hexdigest()]


@get("/stream")
async def stream() -> Stream:
    async def lines() -> AsyncIterator[str]:
        for line in range(200):
            yield f"{line}\n"

    return Stream(lines(), media_type="text/plain")


@get("/endless")
async def endless() -> ServerSentEvent:
    async def events() -> AsyncIterator[str]:
        try:
            while True:
                yield "x"
                await asyncio.sleep(0.01)
        finally:
            SEEN.append("the stream was closed")

    return ServerSentEvent(events())


@get("/thread", sync_to_thread=True)
def in_a_thread() -> dict[str, bool]:
    return {"main": threading.current_thread() is threading.main_thread()}


@get("/seen")
async def seen() -> list[str]:
    # A stream whose send() has raised ends when its generator is collected, and Litestar leaves it in a cycle.
    gc.collect()
    return SEEN


@get("/fails")
async def fails() -> None:
    raise ValueError("on purpose")


app = Litestar(
    [read, write, upload, stream, endless, in_a_thread, seen, fails],
    lifespan=[lifespan],
    request_max_body_size=None,
)
