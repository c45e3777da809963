from collections.abc import Iterator

import pytest

from tests.worker.peer import Stage, open_stage


@pytest.fixture
def stage() -> Iterator[Stage]:
    with open_stage() as stage:
        yield stage


@pytest.fixture
def without_bells() -> Iterator[Stage]:
    with open_stage(bells=False) as stage:
        yield stage
