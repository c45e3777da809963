"""Django in one file, over ASGI: an asynchronous view, one in a thread, a stream, an upload."""

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator
from typing import Any

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", DEBUG=False)
django.setup()

gone: list[str] = []


async def asynchronous(request: HttpRequest) -> JsonResponse:
    await asyncio.sleep(0)
    return JsonResponse({"path": request.path, "query": request.GET.get("q")})


def in_a_thread(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"main": threading.current_thread() is threading.main_thread()})


async def upload(request: HttpRequest) -> HttpResponse:
    return HttpResponse(hashlib.sha256(request.body).hexdigest())


async def stream(request: HttpRequest) -> StreamingHttpResponse:
    async def lines() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"line\n"
                await asyncio.sleep(0.01)
        finally:
            gone.append("gone")

    return StreamingHttpResponse(lines())


async def fails(request: HttpRequest) -> HttpResponse:
    raise ValueError("on purpose")


async def what_has_gone(request: HttpRequest) -> JsonResponse:
    return JsonResponse(gone, safe=False)


urlpatterns: list[Any] = [
    path("async", asynchronous),
    path("thread", in_a_thread),
    path("upload", upload),
    path("stream", stream),
    path("fails", fails),
    path("gone", what_has_gone),
]
application = get_asgi_application()
