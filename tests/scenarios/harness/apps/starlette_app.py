"""Starlette: a lifespan, middleware of both kinds, sessions, uploads, streams, files, a mount, background tasks, contextvars
and anyio."""

import contextlib
import contextvars
import hashlib
import os
from collections.abc import AsyncIterator
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

SEEN: list[str] = []
number: contextvars.ContextVar[str] = contextvars.ContextVar("number", default="none")


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
    async with anyio.create_task_group() as group:
        started = anyio.Event()
        group.start_soon(ticking, started)
        await started.wait()
        yield {"shared": {"visits": 0}}
        group.cancel_scope.cancel()


async def ticking(started: anyio.Event) -> None:
    while True:
        started.set()
        await anyio.sleep(0.01)


class Named(BaseHTTPMiddleware):
    """The kind of middleware that wraps receive and send in tasks of its own."""

    async def dispatch(self, request: Request, call_next: Any) -> Response:
        number.set(request.headers.get("x-number", "none"))
        response: Response = await call_next(request)
        response.headers["x-named"] = number.get()
        return response


async def visits(request: Request) -> JSONResponse:
    request.state.shared["visits"] += 1
    await anyio.sleep(0)
    return JSONResponse({"visits": request.state.shared["visits"], "number": number.get()})


async def together(request: Request) -> JSONResponse:
    """A task group, a deadline, and a thread, each of anyio's."""
    found: list[Any] = []

    async def one(value: int) -> None:
        await anyio.sleep(0.01 * value)
        found.append(value)

    async with anyio.create_task_group() as group:
        for value in (3, 1, 2):
            group.start_soon(one, value)
    with anyio.move_on_after(0.01) as scope:
        await anyio.sleep(10)
    found.append(scope.cancelled_caught)
    found.append(await anyio.to_thread.run_sync(number.get))
    return JSONResponse(found)


async def upload(request: Request) -> JSONResponse:
    found, size = hashlib.sha256(), 0
    try:
        async for piece in request.stream():
            found.update(piece)
            size += len(piece)
    except ClientDisconnect:
        SEEN.append("gone in the middle of its body")
        raise
    return JSONResponse([size, found.hexdigest()])


async def form(request: Request) -> JSONResponse:
    async with request.form() as fields:
        file: Any = fields["file"]
        content = await file.read()
        return JSONResponse({"note": fields["note"], "sha256": hashlib.sha256(content).hexdigest()})


async def stream(request: Request) -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        for line in range(200):
            yield f"{line}\n"
            await anyio.sleep(0)

    return StreamingResponse(lines(), media_type="text/plain")


async def endless(request: Request) -> StreamingResponse:
    async def lines() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"line\n"
                await anyio.sleep(0.01)
        finally:
            SEEN.append("the stream was closed")

    return StreamingResponse(lines())


async def still_there(request: Request) -> PlainTextResponse:
    while not await request.is_disconnected():
        await anyio.sleep(0.01)
    SEEN.append("is_disconnected")
    return PlainTextResponse("for nobody")


async def file(request: Request) -> FileResponse:
    return FileResponse(os.path.abspath(__file__))


async def background(request: Request) -> PlainTextResponse:
    async def later() -> None:
        await anyio.sleep(0.05)
        SEEN.append("background")

    return PlainTextResponse("now", background=BackgroundTask(later))


async def seen(request: Request) -> JSONResponse:
    return JSONResponse(SEEN)


async def fails(request: Request) -> Response:
    raise ValueError("on purpose")


routes = [
    Route("/visits", visits),
    Route("/together", together),
    Route("/upload", upload, methods=["POST"]),
    Route("/form", form, methods=["POST"]),
    Route("/stream", stream),
    Route("/endless", endless),
    Route("/still_there", still_there),
    Route("/file", file),
    Route("/background", background),
    Route("/seen", seen),
    Route("/fails", fails),
]
app = Starlette(routes=[*routes, Mount("/under", routes=routes)], lifespan=lifespan)
wrapped = Starlette(
    routes=routes, lifespan=lifespan, middleware=[Middleware(GZipMiddleware), Middleware(Named)]
)
