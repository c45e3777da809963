"""How many descriptors are left: asked of the kernel, or counted now and then, and said where there are too few."""

from __future__ import annotations

import os

import pytest

from emperor.supervisor import descriptors
from emperor.supervisor.descriptors import KEPT, OF_A_GENERATION, OF_A_SEAT, Room

ONE = OF_A_GENERATION + OF_A_SEAT + KEPT


def holding(
    monkeypatch: pytest.MonkeyPatch, *, limit: int, told: int = -1, counted: int | None = None
) -> list[str]:
    """A process that holds so many. Returns a list that grows by one for each count."""
    looks: list[str] = []

    def listed(path: str) -> range:
        assert counted is not None, "counted one by one"
        looks.append(path)
        return range(counted + 1)

    monkeypatch.setattr(descriptors, "_limit", lambda: limit)
    monkeypatch.setattr(descriptors, "_told", lambda: told)
    monkeypatch.setattr(os, "listdir", listed)
    return looks


def test_the_kernel_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room()
    holding(monkeypatch, limit=1000, told=1000 - ONE)
    assert room.shortage(1) == ""
    assert room.shortage(2).startswith(f"the emperor has {1000 - ONE} of 1000 descriptors in use")
    holding(monkeypatch, limit=1000, told=1001 - ONE)
    assert "LimitNOFILE=" in room.shortage(1)


def test_a_thousand_starts_do_not_count_a_thousand_times(monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room()
    looks = holding(monkeypatch, limit=65536, counted=10_000)
    assert not any(room.shortage(1) for _ in range(1000))
    assert 0 < len(looks) < 10


def test_few_are_counted_each_time_and_so_is_another_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room()
    looks = holding(monkeypatch, limit=1000, counted=1000 - ONE)
    assert room.shortage(1) == room.shortage(1) == ""
    assert len(looks) == 2
    holding(monkeypatch, limit=65536, counted=10)
    assert room.shortage(1) == ""
    holding(monkeypatch, limit=1000, counted=1001 - ONE)
    assert room.shortage(1)


def test_when_not_even_a_look_is_possible_all_are_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: str) -> list[str]:
        raise OSError(24, "Too many open files")

    holding(monkeypatch, limit=1000)
    monkeypatch.setattr(os, "listdir", refused)
    assert "1000 of 1000" in Room().shortage(1)


def test_what_the_kernel_tells_is_what_there_is() -> None:
    before = descriptors._told()
    if before < 0:
        pytest.skip("Linux before 6.2")
    with open(os.devnull) as one, open(os.devnull) as another:
        assert one.fileno() != another.fileno()
        assert descriptors._told() == before + 2
