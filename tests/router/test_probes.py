"""When an upstream that has failed is tried without a request, under a clock of the test's own."""

from collections.abc import Coroutine
from typing import Any, cast

import pytest

from emperor.config.upstreams import UWSGI
from emperor.config.upstreams import Upstreams as Said
from emperor.router.health import TRIED_S, Outcome
from emperor.router.probes import FIRST_S, MOST_S, PATIENCE_S, Probes
from emperor.router.upstream_tls import Tls
from emperor.router.upstreams import Upstream, Upstreams

SAID = Said()


class Scene:
    """Probes of one app with one upstream, which has failed. Each try is noted, and over at once."""

    def __init__(self) -> None:
        self.now = 0.0
        self.tries: list[float] = []
        self.upstreams = Upstreams(lambda: self.now, lambda: 0.0)
        self.upstream = self.upstreams.add(f"{UWSGI}://127.0.0.1:9", warm=True)
        self.probes = Probes(cast(Any, self), lambda _upstream, _why: None, cast(Any, None), Tls())
        self.fail()

    def fail(self) -> None:
        self.upstreams.began(self.upstream)
        self.upstreams.ended(self.upstream, Outcome.UNREACHED, "refused")

    def create_task(self, task: Coroutine[Any, Any, None]) -> None:
        task.close()
        self.tries.append(self.now)

    def pass_by(self, seconds: float, said: Said = SAID) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += 0.25
            self.probes.look(self.now, list(self.upstreams), said)
            self.probes._under_way.clear()


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_soon_and_then_less_and_less_often(scene: Scene) -> None:
    scene.pass_by(100)
    gaps = [later - sooner for sooner, later in zip(scene.tries, scene.tries[1:], strict=False)]
    assert 0.5 * FIRST_S <= scene.tries[0] <= 2 * FIRST_S
    assert 8 <= len(scene.tries) <= 20
    assert max(gaps) <= 1.25 * MOST_S + 0.5
    assert gaps[-1] > 2 * gaps[0]


def test_who_is_out_stays_out_until_the_next_try() -> None:
    assert 1.25 * MOST_S + PATIENCE_S < TRIED_S


def test_not_one_that_is_well_or_was_reached(scene: Scene) -> None:
    scene.pass_by(5)
    assert scene.tries
    scene.upstreams.tried(scene.upstream, "")
    before = len(scene.tries)
    scene.pass_by(60)
    assert len(scene.tries) == before
    # The next time begins anew.
    scene.fail()
    scene.pass_by(2 * FIRST_S)
    assert len(scene.tries) == before + 1


@pytest.mark.parametrize("said", [Said(health_path="/up"), Said(ping=True)])
def test_not_one_that_is_asked_anyway(scene: Scene, said: Said) -> None:
    scene.pass_by(60, said)
    assert scene.tries == []


def test_not_one_that_was_removed(scene: Scene) -> None:
    upstream: Upstream = scene.upstream
    scene.pass_by(5)
    scene.upstreams.remove(str(upstream.address))
    before = len(scene.tries)
    scene.pass_by(60)
    assert len(scene.tries) == before
