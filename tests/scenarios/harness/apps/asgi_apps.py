"""Small ASGI apps in one, by path; each shows one thing that a server may get wrong."""

import asyncio
import contextvars
import hashlib
import json
import os
import time
from typing import Any

STARTED = {"startups": 0}
SEEN: dict[str, Any] = {"disconnects": 0, "cancelled": 0, "background": 0}
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
        return
    assert scope["type"] == "http"
    # What stands before it may choose how a front server passes it on.
    name = scope["path"].removeprefix("/off").strip("/").partition("/")[0] or "hello"
    await PAGES[name](scope, receive, send)


async def lifespan(scope: dict[str, Any], receive: Any, send: Any) -> None:
    assert (await receive())["type"] == "lifespan.startup"
    if os.environ.get("FAIL_STARTUP"):
        await send({"type": "lifespan.startup.failed", "message": "the database is away"})
        return
    await asyncio.sleep(0)
    STARTED["startups"] += 1
    scope["state"]["started"] = STARTED["startups"]
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    await asyncio.sleep(0.05)
    if "SHUTDOWN_LOG" in os.environ:
        with open(os.environ["SHUTDOWN_LOG"], "a") as log:
            log.write("shutdown\n")
    await send({"type": "lifespan.shutdown.complete"})


async def say(send: Any, body: bytes, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await say(send, b"Hello, ASGI", 200, (b"content-type", b"text/plain"))


async def scope_page(scope: Any, receive: Any, send: Any) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    shown = {
        **{
            key: scope[key]
            for key in ("http_version", "method", "scheme", "path", "root_path", "asgi", "state")
        },
        "query": scope["query_string"].decode(),
        "raw_path": scope["raw_path"].decode(),
        "headers": {name.decode(): value.decode("latin-1") for name, value in scope["headers"]},
        "loop": type(loop).__module__,
        "task": task is not None,
        "variable": variable.get(),
        "pid": os.getpid(),
    }
    variable.set("set")
    scope["state"]["own"] = 1
    await say(send, json.dumps(shown).encode())


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Each piece of the body as it comes, once it comes."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            SEEN["disconnects"] += 1
            return
        more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})


async def digest(scope: Any, receive: Any, send: Any) -> None:
    found, size, more = hashlib.sha256(), 0, True
    while more:
        message = await receive()
        assert message["type"] == "http.request", message
        found.update(message["body"])
        size += len(message["body"])
        more = message["more_body"]
    await say(send, json.dumps([size, found.hexdigest()]).encode())


async def slow_reader(scope: Any, receive: Any, send: Any) -> None:
    """Reads nothing of the body until it is let."""
    while not os.path.exists(scope["query_string"].decode()):
        await asyncio.sleep(0.01)
    await digest(scope, receive, send)


async def ticks(scope: Any, receive: Any, send: Any) -> None:
    """An endless stream that ends when its client goes."""
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
    )

    async def wait() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        SEEN["disconnects"] += 1

    gone = asyncio.create_task(wait())
    count = 0
    try:
        while not gone.done():
            await send({"type": "http.response.body", "body": b"data: %d\n\n" % count, "more_body": True})
            count += 1
            await asyncio.sleep(0.02)
    except OSError:
        SEEN["refused"] = SEEN.get("refused", 0) + 1
    finally:
        gone.cancel()


async def poll(scope: Any, receive: Any, send: Any) -> None:
    """A long poll: answered when /publish is asked, which is asked with what."""
    news = SEEN.setdefault("news", asyncio.get_running_loop().create_future())

    async def wait() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    gone = asyncio.create_task(wait())
    await asyncio.wait((gone, news), return_when=asyncio.FIRST_COMPLETED)
    if gone.done():
        SEEN["disconnects"] += 1
        return
    gone.cancel()
    await say(send, news.result())


async def publish(scope: Any, receive: Any, send: Any) -> None:
    SEEN.pop("news").set_result(scope["query_string"])
    await say(send, b"published")


async def events(scope: Any, receive: Any, send: Any) -> None:
    """Server-sent events, one in so many seconds, as most frameworks send them: one task waits for the client to go."""
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
    )

    async def stream() -> None:
        number = 0
        while True:
            await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
            number += 1
            await asyncio.sleep(float(scope["query_string"]))

    streaming = asyncio.create_task(stream())
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
        SEEN["disconnects"] += 1
    finally:
        streaming.cancel()


async def flood(scope: Any, receive: Any, send: Any) -> None:
    """As much as is taken, up to the query's bytes."""
    left, piece = int(scope["query_string"] or 1 << 30), bytes(256 * 1024)
    SEEN["flooded"] = 0
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while left > 0:
        await send({"type": "http.response.body", "body": piece[:left], "more_body": True})
        SEEN["flooded"] += min(left, len(piece))
        left -= len(piece)
    await send({"type": "http.response.body"})


async def seen(scope: Any, receive: Any, send: Any) -> None:
    await say(send, json.dumps({key: value for key, value in SEEN.items() if key != "news"}).encode())


def enter() -> None:
    SEEN["inside"] = SEEN.get("inside", 0) + 1
    SEEN["most"] = max(SEEN.get("most", 0), SEEN["inside"])


async def sleep(scope: Any, receive: Any, send: Any) -> None:
    enter()
    try:
        await asyncio.sleep(float(scope["query_string"]))
    except asyncio.CancelledError:
        SEEN["cancelled"] += 1
        raise
    finally:
        SEEN["inside"] -= 1
    await say(send, b"slept")


async def busy(scope: Any, receive: Any, send: Any) -> None:
    """Computes, and lets others run now and then."""
    enter()
    for _ in range(10):
        until = time.monotonic() + 0.05
        while time.monotonic() < until:
            pass
        await asyncio.sleep(0)
    SEEN["inside"] -= 1
    await say(send, b"computed")


async def stubborn(scope: Any, receive: Any, send: Any) -> None:
    """Swallows its cancellation."""
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        SEEN["cancelled"] += 1
        await asyncio.sleep(3)


async def block(scope: Any, receive: Any, send: Any) -> None:
    time.sleep(float(scope["query_string"]))
    await say(send, b"blocked")


async def background(scope: Any, receive: Any, send: Any) -> None:
    await say(send, b"later")
    await asyncio.sleep(float(scope["query_string"]))
    SEEN["background"] += 1
    if "BACKGROUND_LOG" in os.environ:
        with open(os.environ["BACKGROUND_LOG"], "a") as log:
            log.write("done\n")


async def hints(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]})
    await say(send, b"hinted")


async def trailers(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
    await send({"type": "http.response.body", "body": b"body"})
    await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"42")]})


async def file(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.pathsend", "path": scope["query_string"].decode()})


async def fails(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("on purpose")


async def fails_late(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"part", "more_body": True})
    raise ValueError("on purpose, late")


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    pass


async def leave(scope: Any, receive: Any, send: Any) -> None:
    raise SystemExit(3)


PAGES = {
    "hello": hello,
    "scope": scope_page,
    "echo": echo,
    "digest": digest,
    "slow_reader": slow_reader,
    "ticks": ticks,
    "poll": poll,
    "publish": publish,
    "events": events,
    "flood": flood,
    "seen": seen,
    "sleep": sleep,
    "busy": busy,
    "stubborn": stubborn,
    "block": block,
    "background": background,
    "hints": hints,
    "trailers": trailers,
    "file": file,
    "fails": fails,
    "fails_late": fails_late,
    "nothing": nothing,
    "leave": leave,
}
