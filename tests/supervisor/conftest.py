"""The emperor's loop, for each test a new one."""

from collections.abc import Iterator

import pytest

from emperor.supervisor.loop import Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()
