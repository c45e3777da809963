"""Small WebSocket apps in one, by path; each shows one thing that a server may get wrong."""

import asyncio
import contextlib
import json
import os
import time
from typing import Any

SEEN: dict[str, Any] = {"ends": [], "waits": 0, "sent": 0}
HELD: list[asyncio.Event] = []


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        body = json.dumps(SEEN) if scope["path"] == "/seen" else f"HTTP {scope['path']} {os.getpid()}"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body.encode()})
        return
    if scope["type"] != "websocket":
        raise ValueError(scope["type"])
    name = scope["path"].strip("/").partition("/")[0]
    try:
        await PAGES[name](scope, receive, send)
    finally:
        SEEN["ends"].append([name, "returned"])


async def connected(receive: Any, send: Any, **accept: Any) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept", **accept})


async def until_gone(name: str, receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            SEEN["ends"].append([name, message["code"], message.get("reason", "")])
            return
        # What came before a close that has come meanwhile cannot be answered.
        with contextlib.suppress(OSError):
            await send({"type": "websocket.send", **{k: v for k, v in message.items() if k != "type"}})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await connected(receive, send)
    await until_gone("echo", receive, send)


async def scope_page(scope: Any, receive: Any, send: Any) -> None:
    await connected(
        receive, send, subprotocol=(scope["subprotocols"] or [None])[-1], headers=[(b"x-made", b"here")]
    )
    shown = {
        key: scope[key]
        for key in ("type", "scheme", "http_version", "path", "root_path", "asgi", "subprotocols")
    }
    shown |= {
        "query": scope["query_string"].decode(),
        "headers": {name.decode(): value.decode() for name, value in scope["headers"]},
        "state": dict(scope["state"]),
        "extensions": sorted(scope["extensions"]),
        "task": asyncio.current_task() is not None,
        "pid": os.getpid(),
    }
    await send({"type": "websocket.send", "text": json.dumps(shown)})
    await until_gone("scope", receive, send)


async def closes(scope: Any, receive: Any, send: Any) -> None:
    await connected(receive, send)
    await send({"type": "websocket.send", "text": "last words"})
    await send({"type": "websocket.close", "code": 4001, "reason": "enough"})
    SEEN["ends"].append(["closes", (await receive())["code"]])


async def returns(scope: Any, receive: Any, send: Any) -> None:
    await connected(receive, send)


async def raises(scope: Any, receive: Any, send: Any) -> None:
    await connected(receive, send)
    raise ValueError("on purpose")


async def raises_first(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("before it was accepted")


async def returns_first(scope: Any, receive: Any, send: Any) -> None:
    await receive()


async def rejects(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.close"})


async def denies(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
    await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b'{"who":', "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b'"are you"}'})


async def flood(scope: Any, receive: Any, send: Any) -> None:
    """As much as goes; SEEN says how much that was."""
    await connected(receive, send)
    piece = bytes(64 * 1024)
    for _ in range(int(scope["query_string"] or 1000)):
        await send({"type": "websocket.send", "bytes": piece})
        SEEN["sent"] += len(piece)
    await send({"type": "websocket.close"})


async def deaf(scope: Any, receive: Any, send: Any) -> None:
    """Reads nothing before it is told to, by the next client of `/hear`."""
    await connected(receive, send)
    event = asyncio.Event()
    HELD.append(event)
    SEEN["waits"] += 1
    await event.wait()
    size = 0
    while (message := await receive())["type"] != "websocket.disconnect":
        if message.get("text") == "how much":
            await send({"type": "websocket.send", "text": str(size)})
        size += len(message.get("bytes") or b"")
    SEEN["ends"].append(["deaf", message["code"]])


async def hear(scope: Any, receive: Any, send: Any) -> None:
    await connected(receive, send)
    for event in HELD:
        event.set()


async def slow(scope: Any, receive: Any, send: Any) -> None:
    """A handshake that takes a while."""
    await asyncio.sleep(float(scope["query_string"]))
    await echo(scope, receive, send)


async def stubborn(scope: Any, receive: Any, send: Any) -> None:
    """Goes on when it is told that it is over."""
    await connected(receive, send)
    await until_gone("stubborn", receive, send)
    await asyncio.sleep(float(scope["query_string"] or 60))


async def holds(scope: Any, receive: Any, send: Any) -> None:
    await connected(receive, send)
    await receive()
    time.sleep(float(scope["query_string"]))
    await send({"type": "websocket.send", "text": "held"})


async def cancels(scope: Any, receive: Any, send: Any) -> None:
    """A send that is given up in the middle of its frame; what follows must be read all the same."""
    await connected(receive, send)
    try:
        await asyncio.wait_for(send({"type": "websocket.send", "bytes": bytes(8_000_000)}), 0.2)
    except TimeoutError:
        SEEN["ends"].append(["cancels", "timeout"])
    await send({"type": "websocket.send", "text": "after"})
    await send({"type": "websocket.close"})


async def many(scope: Any, receive: Any, send: Any) -> None:
    """Several tasks send at once."""
    await connected(receive, send)
    await asyncio.gather(
        *(send({"type": "websocket.send", "bytes": bytes((each,)) * 300_000}) for each in range(8))
    )
    await send({"type": "websocket.close"})


async def late(scope: Any, receive: Any, send: Any) -> None:
    """What an app does wrong, each told by its exception."""
    told = []

    async def attempt(message: Any) -> None:
        try:
            await send(message)
        except Exception as error:
            told.append(f"{type(error).__name__}: {error}")

    await attempt({"type": "websocket.send", "text": "too early"})
    await attempt({"type": "http.response.start", "status": 200})
    await attempt({"type": "websocket.accept", "subprotocol": "never offered"})
    await attempt({"type": "websocket.accept", "headers": [(b"sec-websocket-protocol", b"x")]})
    await connected(receive, send)
    await attempt({"type": "websocket.accept"})
    await attempt({"type": "websocket.send"})
    await attempt({"type": "websocket.send", "text": b"bytes"})
    await attempt({"type": "websocket.send", "bytes": "text"})
    await attempt({"type": "websocket.send", "text": "\ud800"})
    await attempt({"type": "websocket.close", "code": 1005})
    await attempt("no dict")
    await send({"type": "websocket.send", "text": json.dumps(told)})
    await send({"type": "websocket.close"})
    told.clear()
    await attempt({"type": "websocket.send", "text": "too late"})
    await attempt({"type": "websocket.close"})
    SEEN["ends"].append(["late", told[:]])


PAGES = {
    "echo": echo,
    "scope": scope_page,
    "closes": closes,
    "returns": returns,
    "raises": raises,
    "raises_first": raises_first,
    "returns_first": returns_first,
    "rejects": rejects,
    "denies": denies,
    "flood": flood,
    "deaf": deaf,
    "hear": hear,
    "slow": slow,
    "stubborn": stubborn,
    "holds": holds,
    "cancels": cancels,
    "many": many,
    "late": late,
}
