"""What every scenario gets: a subreaper, and a fleet that is gone afterwards."""

from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from .harness import Fleet, Orphans
from .harness.http import close_all


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, Any]:
    report = yield
    if call.when == "call" and report.failed:
        close_all()
    return report


@pytest.fixture
def orphans() -> Iterator[Orphans]:
    """The harness as a subreaper. At the end, a process that is still there fails the test."""
    reaper = Orphans()
    reaper.start()
    yield reaper
    reaper.close()


@pytest.fixture
def make_fleet(orphans: Orphans) -> Iterator[Callable[..., Fleet]]:
    """Makes fleets with these environment variables; all are stopped at the end."""
    fleets: list[Fleet] = []

    def make(**environment: str) -> Fleet:
        fleets.append(Fleet(orphans, **environment))
        return fleets[-1]

    yield make
    for made in fleets:
        made.close()


@pytest.fixture
def fleet(make_fleet: Callable[..., Fleet]) -> Fleet:
    """One fleet, not started."""
    return make_fleet()
