"""What stands in for coroutines, to those who take coroutines apart: asyncio, inspect, frameworks."""

import asyncio
import contextlib
import contextvars
import inspect
import io
from collections.abc import Awaitable
from typing import Any

import pytest

from emperor.protocol import packet
from vassals.adapters.asgi import Asgi, Request
from vassals.adapters.running import Running

from .test_asgi import GET, Call, Kept, body, start

PAYLOAD = packet.encode((key.encode(), value.encode()) for key, value in GET.items())


def served(app: Any) -> tuple[Kept, str]:
    """An app as the worker runs it, in a task of its own."""
    exchange, log = Kept(PAYLOAD), io.StringIO()
    adapter = Asgi(app, log)
    request = adapter.open(exchange)
    assert request is not None

    async def run() -> None:
        await asyncio.create_task(adapter.run(request))

    asyncio.run(run())
    return exchange, log.getvalue()


def test_sends_are_made_tasks_of_and_gathered_as_coroutines_are() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        sending = send(start())
        assert inspect.iscoroutine(sending) and inspect.isawaitable(sending) and asyncio.iscoroutine(sending)
        await asyncio.create_task(sending)
        await asyncio.gather(send(body(b"a", True)), send(body(b"b", True)))
        await asyncio.wait_for(send(body(b"c")), 5)

    exchange, log = served(app)
    assert (exchange.sent, log) == (b"abc", "")


def test_nothing_is_sent_before_it_is_awaited_and_nothing_twice() -> None:
    call = Call(lambda *_: None)
    sending = call.request.send(start())
    assert call.request.state == "before http.response.start"
    with pytest.raises(StopIteration):
        sending.send(None)
    assert call.request.state == "after http.response.start"
    for again in (sending.send, lambda _: sending.throw(ValueError("x"))):
        with pytest.raises((RuntimeError, ValueError)):
            again(None)
    dropped = call.request.send(body(b"x"))
    dropped.close()
    with pytest.raises(RuntimeError):
        dropped.send(None)
    thrown = call.request.send(body(b"x"))
    with pytest.raises(ValueError, match="of the test"):
        thrown.throw(ValueError("of the test"))
    assert not call.exchange.events


def test_what_is_wrong_is_raised_where_it_is_awaited() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        sending = send(start(headers=[(b"a\n", b"")]))
        with pytest.raises(ValueError, match="name that is none"):
            await sending
        await send(start())
        await send(body(b"well"))

    assert served(app)[0].sent == b"well"


def test_a_call_shows_where_the_app_is() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(inspect.getcoroutinestate(call.running))
        await receive()
        await receive()

    seen: list[str] = []
    call = Call(app)
    running: Any = call.adapter.run(call.request)
    call.running = running
    assert isinstance(running, Running) and inspect.iscoroutine(running)
    assert not call.go()
    assert seen == [inspect.CORO_RUNNING] and inspect.getcoroutinestate(running) == inspect.CORO_SUSPENDED
    assert running.cr_frame.f_code is app.__code__ is running.cr_code
    assert running.__qualname__ == app.__qualname__
    assert running.cr_await.cr_code is Request.receive.__code__
    call.exchange.gone = "of the test"
    assert call.go()
    with pytest.raises(RuntimeError, match="already awaited"):
        running.send(None)


@pytest.mark.parametrize("late", [False, True])
def test_a_call_that_is_cancelled_ends_its_exchange(late: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(60)

    exchange, log = Kept(PAYLOAD), io.StringIO()
    adapter = Asgi(app, log)
    among: dict[Any, Any] = {}
    over: list[Any] = []

    async def run() -> None:
        request = adapter.open(exchange)
        assert request is not None
        among[request] = task = asyncio.create_task(adapter.run(request, among, over.append))
        if late:
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert exchange.status.startswith("500") and "CancelledError" in log.getvalue()
    assert not among and len(over) == 1


class Later:
    """What an app may return that is no coroutine."""

    def __init__(self, awaited: Awaitable[None]) -> None:
        self.awaited = awaited

    def __await__(self) -> Any:
        return self.awaited.__await__()


def test_an_app_may_be_any_callable_that_returns_an_awaitable() -> None:
    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        await send(body(b"well"))

    assert served(lambda *given: Later(inner(*given)))[0].sent == b"well"
    exchange, log = served(lambda *given: 3)
    assert exchange.status.startswith("500") and "can't be used in 'await'" in log
    exchange, log = served(lambda scope: None)
    assert exchange.status.startswith("500") and "TypeError" in log


def test_each_call_has_a_task_and_a_context_of_its_own() -> None:
    own = contextvars.ContextVar[int]("own", default=0)
    found: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        own.set(own.get() + 1)
        await send(start())
        await asyncio.sleep(0)
        found.append((own.get(), asyncio.current_task() is not outer))
        async with asyncio.timeout(5):
            await send(body(b""))

    outer = None
    served(app)
    served(app)
    assert found == [(1, True), (1, True)] and own.get() == 0
