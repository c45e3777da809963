"""Server-sent events at /events: one a second, numbered, until the client goes."""

import asyncio
import contextlib

from asgi_hello import application as hello

START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")],
}
PERIOD_S = 1.0


async def application(scope, receive, send):
    if scope["type"] != "http" or scope["path"] != "/events":
        await hello(scope, receive, send)
        return
    await send(START)
    with contextlib.suppress(OSError):
        number = 0
        while True:
            event = b"data: %d\n\n" % number
            await send({"type": "http.response.body", "body": event, "more_body": True})
            number += 1
            await asyncio.sleep(PERIOD_S)
