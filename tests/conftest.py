"""Order of the whole suite: quick first, scenarios with real processes after them, slow ones last."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: (item.get_closest_marker("slow") is not None, "scenarios" in item.path.parts))
