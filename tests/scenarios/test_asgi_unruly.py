"""ASGI apps that do to their worker what no app should: it goes on, or is replaced, and the log says why."""

import pytest

from .harness import Fleet, wait_for
from .harness.fleet import APPS

SOURCE = """
    import asyncio, sys

    async def app(scope, receive, send):
        if scope["type"] != "http":
            raise AssertionError
        await PAGES[scope["path"]](scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"fine"})

    async def fine(scope):
        pass

    async def stops_the_loop(scope):
        asyncio.get_running_loop().stop()
        await asyncio.sleep(10)

    async def exits_from_a_callback(scope):
        asyncio.get_running_loop().call_soon(sys.exit, 3)
        await asyncio.sleep(10)

    async def raises_in_a_callback(scope):
        asyncio.get_running_loop().call_soon(fails)
        await asyncio.sleep(0.05)

    async def raises_in_a_task(scope):
        async def run():
            fails()
        asyncio.create_task(run())
        await asyncio.sleep(0.05)

    def fails():
        raise ValueError("on purpose")

    async def runs_a_loop(scope):
        asyncio.run(fine(scope))

    async def cancels_itself(scope):
        asyncio.current_task().cancel()
        await asyncio.sleep(10)

    async def recurses(scope):
        await recurses(scope)

    async def spoils_its_scope(scope):
        scope.clear()
        fails()

    async def forgets_the_loop(scope):
        asyncio.set_event_loop(None)

    async def closes_descriptors(scope):
        sys.stdin.close()

    PAGES = {"/" + name: value for name, value in globals().items() if asyncio.iscoroutinefunction(value)}
"""


@pytest.fixture(params=["uvloop", "asyncio"])
def unruly(request: pytest.FixtureRequest, fleet: Fleet) -> Fleet:
    (fleet.root / "unruly.py").write_text("\n".join(line[4:] for line in SOURCE.splitlines()))
    fleet.vassal(
        "a", asgi="unruly:app", pythonpath=[APPS, fleet.root], asgi_loop=request.param, retries="false"
    )
    fleet.start()
    return fleet


@pytest.mark.parametrize(
    ("page", "status", "told"),
    [
        ("raises_in_a_callback", 200, "ValueError: on purpose"),
        ("raises_in_a_task", 200, "ValueError: on purpose"),
        ("runs_a_loop", 500, "cannot be called from a running event loop"),
        ("cancels_itself", 500, "CancelledError"),
        ("recurses", 500, "RecursionError"),
        ("spoils_its_scope", 500, "ValueError: on purpose"),
        ("forgets_the_loop", 200, ""),
        ("closes_descriptors", 200, ""),
    ],
)
def test_what_costs_the_request_alone(unruly: Fleet, page: str, status: int, told: str) -> None:
    before = unruly.pid("worker", "a")
    for _ in range(3):
        assert unruly.get("a", f"/{page}").status == status
    wait_for(lambda: told in unruly.log(), 5, unruly.log)
    assert unruly.get("a", "/fine").body == b"fine"
    assert unruly.pid("worker", "a") == before


@pytest.mark.parametrize(
    ("page", "told"),
    [
        ("stops_the_loop", "Event loop stopped before Future completed"),
        ("exits_from_a_callback", "SystemExit: 3"),
    ],
)
def test_what_costs_the_worker(unruly: Fleet, page: str, told: str) -> None:
    before = unruly.pid("worker", "a")
    assert unruly.get("a", f"/{page}").status == 502
    wait_for(lambda: before not in unruly.pids().values(), 10, unruly.log)
    unruly.wait_ready("a")
    assert unruly.get("a", "/fine").body == b"fine"
    wait_for(lambda: told in unruly.log(), 5, unruly.log)
