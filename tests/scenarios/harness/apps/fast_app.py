"""A FastAPI app with what most of them have: a lifespan, models, dependencies, a sync endpoint, streams, a file."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import BackgroundTasks, Depends, FastAPI, Request
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel

done: list[str] = []


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, bool]]:
    yield {"ready": True}


app = FastAPI(lifespan=lifespan)


class Item(BaseModel):
    name: str


def ready(request: Request) -> bool:
    return bool(request.state.ready)


@app.get("/items/{item}")
async def read(item: int, is_ready: Annotated[bool, Depends(ready)], q: str = "") -> dict[str, Any]:
    return {"item": item, "q": q, "ready": is_ready}


@app.post("/items")
async def write(item: Item) -> Item:
    return item


@app.get("/thread")
def in_a_thread() -> dict[str, str]:
    return {"thread": threading.current_thread().name}


@app.get("/stream")
async def stream() -> StreamingResponse:
    async def lines() -> AsyncIterator[bytes]:
        for number in range(50):
            await asyncio.sleep(0.001)
            yield b"line %d\n" % number

    return StreamingResponse(lines())


@app.get("/file")
async def file() -> FileResponse:
    return FileResponse(__file__)


@app.get("/background")
async def background(tasks: BackgroundTasks) -> dict[str, bool]:
    tasks.add_task(done.append, "done")
    return {"ok": True}


@app.get("/done")
async def what_is_done() -> list[str]:
    return done
