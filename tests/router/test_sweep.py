"""How often the router looks at each app's deadlines."""

from typing import Any, cast

from tests.router.inside import router_with_a_client, run


class _App:
    """What is swept of one, and how often it was."""

    def __init__(self, passed_over: bool) -> None:
        self.passed_over = passed_over
        self.sweeps = 0

    def sweep(self, _now: float) -> None:
        self.sweeps += 1


def test_an_app_without_requests_is_passed_over_three_times_in_four() -> None:
    async def play() -> None:
        async with router_with_a_client() as (router, *_):
            busy, idle = _App(False), _App(True)
            router.apps |= cast(Any, {"busy": busy, "idle": idle})
            for _ in range(8):
                router._sweep()
            assert (busy.sweeps, idle.sweeps) == (8, 2)
            router.apps.clear()

    run(play())
