from collections.abc import Iterator

import pytest

from tests.router.stage import Stage, Vassal, open_stage


@pytest.fixture
def fresh() -> Iterator[Stage]:
    """A router of the test's own, with an empty table, that has not been told that it is whole."""
    with open_stage() as stage:
        yield stage


@pytest.fixture(scope="package")
def shared() -> Iterator[Stage]:
    with open_stage() as stage:
        stage.vassal("neighbour")
        stage.open_for_business()
        yield stage


@pytest.fixture(scope="package")
def short() -> Iterator[Stage]:
    """Shared too, with short deadlines for its clients."""
    names = ("head", "idle", "body", "write", "linger")
    with open_stage(*(part for name in names for part in (f"--{name}-timeout", "0.3"))) as stage:
        stage.vassal("neighbour")
        stage.open_for_business()
        yield stage


@pytest.fixture
def stage(shared: Stage) -> Iterator[Stage]:
    """A router that is open for business and shared by all tests. It has a vassal, so that another is no default."""
    with shared.scene():
        yield shared


@pytest.fixture
def blog(stage: Stage) -> Vassal:
    """A vassal of the shared router, for this test alone."""
    return stage.vassal("blog")
