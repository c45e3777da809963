"""What cannot be had from a real router on demand: a machine that is out of descriptors or ports."""

import asyncio
import errno
import os
from types import SimpleNamespace
from typing import Any

import pytest

from emperor.config.balancing import Balancing
from emperor.config.upstreams import Upstream, Upstreams
from emperor.router.forwarding import CAUSES, Forwarding
from emperor.router.health import State
from emperor.router.states import State as Life
from tests.router.parts import exchange


class App:
    """As much of one as a request that fails asks for."""

    name = "blog"
    times_requests = False

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.core = SimpleNamespace(loop=loop, epoch=7, log=lambda *_: None)
        self.failed: list[tuple[int, str]] = []
        self.retries = True
        self.queue: list[object] = []
        self.counts = SimpleNamespace(requests=1)
        self.balancer = SimpleNamespace(options=Balancing())

    def say(self, kind: str, level: str, text: str) -> None: ...

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


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        ("", {}),
        ("answering", {"silent": False}),
        ("not_idempotent", {"idempotent": False}),
        ("no_second", {"times": 1}),
        ("no_body", {"whole": False}),
        ("", {"reused": True, "retries": False, "budget": 0.0}),  # nobody has run that
        ("off", {"retries": False}),
        ("nobody_else", {"others": 0}),
        ("no_budget", {"budget": 0.0}),
    ],
)
def test_why_a_request_that_was_lost_is_not_sent_again(cause: str, said: dict[str, Any]) -> None:
    async def scene() -> None:
        app = App(asyncio.get_running_loop())
        app.retries = said.get("retries", True)
        forwarding = Forwarding(app)  # type: ignore[arg-type]
        named = [Upstream(f"uwsgi://127.0.0.1:{port}") for port in range(1, 2 + said.get("others", 1))]
        forwarding.use(Upstreams(tuple(named)), "blog.localhost")
        forwarding.budget = SimpleNamespace(take=lambda *_: said.get("budget", 1.0) >= 1.0)  # type: ignore[assignment]
        attempt: Any = SimpleNamespace(
            exchange=SimpleNamespace(
                interims=0, head=SimpleNamespace(idempotent=said.get("idempotent", True))
            ),
            link=SimpleNamespace(replies=SimpleNamespace(silent=said.get("silent", True))),
            upstream=next(iter(forwarding.upstreams)),
            tried=frozenset(),
            times=said.get("times", 0),
            whole=said.get("whole", True),
            reused=said.get("reused", False),
        )
        assert forwarding._objection(attempt) == cause
        assert not cause or cause in CAUSES

    asyncio.run(scene())
