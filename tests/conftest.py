"""Order of the whole suite: quick first, scenarios with real processes after them, slow ones last."""

import hypothesis
import pytest

# These machines are shared: how long one example took says nothing about the code (speed belongs in ops/bench).
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: (item.get_closest_marker("slow") is not None, "scenarios" in item.path.parts))
