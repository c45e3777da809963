"""How requests begin in an ASGI worker: at once, in tasks that are tasks as any other."""

import json

import pytest

from tests.scenarios.harness import wait_for
from tests.worker.peer import open_stage

# Answers with what it has found; its task factory asks the loop for something of its own, as those of tracers do.
APP = """
    import asyncio, contextvars, json

    found, own = [], contextvars.ContextVar("own", default=0)

    def factory(loop, coro, **options):
        loop.call_soon(found.append, "of the factory")
        return asyncio.Task(coro, loop=loop, **options)

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            raise AssertionError
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        own.set(own.get() + 1)
        found.append([task in asyncio.all_tasks(), own.get(), "call_soon" in vars(loop)])
        if scope["path"] == "/waits":
            async with asyncio.timeout(10):
                await asyncio.sleep(0)
            found.append([task is asyncio.current_task(), own.get()])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(found).encode()})
        found.clear()
        if scope["path"] == "/factory":
            loop.set_task_factory(factory)
"""


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_request_begins_at_once_in_a_task_and_context_of_its_own(loop: str) -> None:
    with open_stage(2) as stage:
        router, _ = stage.serving(APP, interface="asgi", soft=2, hard=2, loop=loop, lag_s=0.0)
        assert json.loads(router.get("/now").body) == [[True, 1, False]]
        assert json.loads(router.get("/waits").body) == [[True, 1, False], [True, 1]]
        assert json.loads(router.get("/factory").body) == [[True, 1, False]]
        # What the factory has asked for is done in the next turn: the app was there before. (The next request may begin in
        # the same turn.)
        assert json.loads(router.get("/now").body) == [[True, 1, False]]
        wait_for(lambda: "of the factory" in json.loads(router.get("/now").body), 20)
