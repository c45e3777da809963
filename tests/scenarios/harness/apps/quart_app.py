"""Quart: its hooks of start and end, sessions, uploads, streams, server-sent events, a view in a thread."""

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator
from typing import Any

from quart import Quart, Response, jsonify, request, session

app = Quart(__name__)
app.secret_key = "x"
app.config["MAX_CONTENT_LENGTH"] = None
SEEN: list[str] = []


@app.before_serving
async def start() -> None:
    await asyncio.sleep(0)
    SEEN.append("started")


@app.get("/visits")
async def visits() -> Response:
    session["visits"] = session.get("visits", 0) + 1
    return jsonify(visits=session["visits"])


@app.post("/upload")
async def upload() -> Response:
    found, size = hashlib.sha256(), 0
    async for piece in request.body:
        found.update(piece)
        size += len(piece)
    return jsonify([size, found.hexdigest()])


@app.get("/stream")
async def stream() -> Any:
    async def lines() -> AsyncIterator[str]:
        for line in range(200):
            yield f"{line}\n"

    return lines(), {"Content-Type": "text/plain"}


@app.get("/endless")
async def endless() -> Response:
    async def events() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"data: x\n\n"
                await asyncio.sleep(0.01)
        finally:
            SEEN.append("the stream was closed")

    response = Response(events(), content_type="text/event-stream")
    response.timeout = None
    return response


@app.get("/thread")
def in_a_thread() -> Response:
    return jsonify(main=threading.current_thread() is threading.main_thread())


@app.get("/seen")
async def seen() -> Response:
    return jsonify(SEEN)


@app.get("/fails")
async def fails() -> Response:
    raise ValueError("on purpose")
