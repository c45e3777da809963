"""Django with Channels: its router of protocols, consumers of HTTP, and Django's views behind them."""

import asyncio
import hashlib
import threading
from typing import Any

import django
from channels.generic.http import AsyncHttpConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path, re_path

settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="x",
    DEBUG=False,
    INSTALLED_APPS=["channels"],
)
django.setup()
SEEN: list[str] = []


class Upload(AsyncHttpConsumer):  # type: ignore[misc,unused-ignore]
    async def handle(self, body: bytes) -> None:
        found = f'[{len(body)}, "{hashlib.sha256(body).hexdigest()}"]'
        await self.send_response(200, found.encode(), headers=[(b"content-type", b"application/json")])


class Stream(AsyncHttpConsumer):  # type: ignore[misc,unused-ignore]
    async def handle(self, body: bytes) -> None:
        await self.send_headers(headers=[(b"content-type", b"text/plain")])
        for line in range(200):
            await self.send_body(f"{line}\n".encode(), more_body=True)
        await self.send_body(b"")


class Endless(AsyncHttpConsumer):  # type: ignore[misc,unused-ignore]
    """A long poll as Channels' own documentation has it: it answers in tasks of its own, and is told of its client's end."""

    async def handle(self, body: bytes) -> None:
        await self.send_headers(headers=[(b"content-type", b"text/event-stream")])
        self.running = asyncio.create_task(self.events())

    async def events(self) -> None:
        while True:
            await self.send_body(b"data: x\n\n", more_body=True)
            await asyncio.sleep(0.01)

    async def http_request(self, message: dict[str, Any]) -> None:
        if "body" in message:
            self.body.append(message["body"])
        if not message.get("more_body"):
            await self.handle(b"".join(self.body))

    async def disconnect(self) -> None:
        self.running.cancel()
        SEEN.append("the stream was closed")


def in_a_thread(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"main": threading.current_thread() is threading.main_thread()})


async def seen(request: HttpRequest) -> JsonResponse:
    return JsonResponse(SEEN, safe=False)


async def fails(request: HttpRequest) -> JsonResponse:
    raise ValueError("on purpose")


urlpatterns: list[Any] = [path("thread", in_a_thread), path("seen", seen), path("fails", fails)]
views = get_asgi_application()
application = ProtocolTypeRouter(
    {
        "http": URLRouter(
            [
                path("upload", Upload.as_asgi()),
                path("stream", Stream.as_asgi()),
                path("endless", Endless.as_asgi()),
                re_path("", views),
            ]
        )
    }
)
