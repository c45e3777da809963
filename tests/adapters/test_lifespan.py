"""ASGI's lifespan with an app of the test's, on an event loop."""

import asyncio
from typing import Any

import pytest

from vassals.adapters.lifespan import Lifespan, StartupFailed


def live(app: Any, mode: str = "auto") -> tuple[str, list[str], dict[str, Any]]:
    """Start-up and shutdown of ``app``: why it failed, what was logged, the state."""
    log: list[str] = []

    async def run() -> tuple[str, dict[str, Any]]:
        loop = asyncio.get_running_loop()
        lifespan = Lifespan(app, mode, asyncio.Event, loop.create_task, log.append)
        try:
            await asyncio.wait_for(lifespan.startup(), 5)
        except StartupFailed as error:
            return str(error), lifespan.state
        await asyncio.sleep(0)
        await asyncio.wait_for(lifespan.shutdown(), 5)
        return "", lifespan.state

    failed, state = asyncio.run(run())
    return failed, log, state


def saying(*steps: Any) -> Any:
    """An app that does these in turn: receives (None), sends a message, or raises."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan" and scope["asgi"] == {"version": "3.0", "spec_version": "2.0"}
        scope["state"]["key"] = "value"
        for step in steps:
            if step is None:
                await receive()
            elif isinstance(step, BaseException):
                raise step
            else:
                await send(step)

    return app


UP = {"type": "lifespan.startup.complete"}
DOWN = {"type": "lifespan.shutdown.complete"}


def test_up_and_down() -> None:
    got: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["key"] = "value"
        got.append((await receive())["type"])
        await send(UP)
        got.append((await receive())["type"])
        await send(DOWN)

    assert live(app) == ("", [], {"key": "value"})
    assert got == ["lifespan.startup", "lifespan.shutdown"]


def test_off_does_not_ask() -> None:
    assert live(saying(ValueError("asked")), "off") == ("", [], {})


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("the database is away", "lifespan startup failed: the database is away"),
        ("Traceback\n  File x\nValueError: no\n", "lifespan startup failed: ValueError: no"),
        ("", "lifespan startup failed: the app does not say why"),
    ],
)
def test_a_startup_that_fails_says_why(message: str, said: str) -> None:
    failed = {"type": "lifespan.startup.failed", "message": message}
    for steps in ((None, failed), (None, failed, ValueError("again"))):
        assert live(saying(*steps))[0] == said


def test_an_app_that_exits_fails_the_start() -> None:
    assert live(saying(None, SystemExit(3)))[0] == "lifespan startup failed: the app called sys.exit(3)"


@pytest.mark.parametrize(
    ("steps", "why"),
    [((), "it returned at once"), ((None, ValueError("no")), "it raised ValueError: no")],
)
def test_an_app_without_one(steps: tuple[Any, ...], why: str) -> None:
    failed, log, _ = live(saying(*steps))
    assert failed == "" and log == ([f"the app has no lifespan: asked for one, {why}"] if steps else [])
    assert live(saying(*steps), "on")[0] == f"lifespan = on, but the app has none: {why}"


def test_what_goes_wrong_later_is_logged() -> None:
    failed, log, _ = live(saying(None, UP, ValueError("early")))
    assert failed == "" and len(log) == 1 and "between startup and shutdown" in log[0] and "early" in log[0]
    failed, log, _ = live(saying(None, UP, None, ValueError("late")))
    assert failed == "" and "during shutdown" in log[0]
    failed, log, _ = live(saying(None, UP, None, {"type": "lifespan.shutdown.failed", "message": "stuck"}))
    assert log == ["lifespan shutdown failed: stuck"]
    failed, log, _ = live(saying(None, UP, UP))
    assert "lifespan.startup.complete came between startup and shutdown of the lifespan" in log[0]
    assert live(saying(None, UP, None))[1] == []
