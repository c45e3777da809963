"""What cannot be had from a real router on demand: a machine that is out of descriptors or ports."""

import asyncio
import errno
import os
from types import SimpleNamespace
from typing import Any

import pytest

from emperor.config.upstreams import Upstream, Upstreams
from emperor.router.forwarding import Forwarding
from emperor.router.health import State
from emperor.router.states import State as Life
from tests.router.parts import exchange


class App:
    """As much of one as a request that fails asks for."""

    name = "blog"
    times_requests = False

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.core = SimpleNamespace(loop=loop, epoch=7, log=lambda *_: None, complain=lambda *_: None)
        self.failed: list[tuple[int, str]] = []

    def _fail(self, exchange: Any, status: int, reason: str, cause: str = "") -> None:
        self.failed.append((status, reason))


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EADDRNOTAVAIL])
def test_a_want_of_our_own_is_no_failure_of_the_upstreams(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    async def scene() -> None:
        app = App(asyncio.get_running_loop())
        forwarding = Forwarding(app)  # type: ignore[arg-type]
        forwarding.use(
            Upstreams((Upstream("uwsgi://127.0.0.1:1"), Upstream("uwsgi://127.0.0.1:2"))), "blog.localhost"
        )

        async def connect(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("emperor.router.forwarding.connect", connect)
        for _ in range(10):
            request = exchange()
            forwarding.take(request)
            while forwarding.attempts:
                await asyncio.sleep(0)
            assert request.state == Life.ENDED
        assert app.failed == [(503, f"no connection could be made: {os.strerror(number)}")] * 10
        assert [each.failures for each in forwarding.upstreams] == [0, 0]
        assert {each.health.state for each in forwarding.upstreams} == {State.IN}

    asyncio.run(scene())
