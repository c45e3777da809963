"""The source files of one app: what counts as a change, and what is not looked at."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emperor.monitors import code
from emperor.monitors.code import CodeMonitor, source_directories
from emperor.supervisor.loop import Loop

from .test_directory import Told


class Watched:
    def __init__(self, root: Path) -> None:
        self.loop = Loop()
        self.log = Told()
        self.changes: list[str] = []
        self.monitor = CodeMonitor(self.loop, [str(root)], self.changes.append, self.log)

    def wait_until(self, condition: Callable[[], bool], deadline_s: float = 5.0) -> None:
        start = self.loop.now()
        while not condition():
            assert self.loop.now() - start < deadline_s, f"seen: {self.changes}"
            self.loop.step(0.02)

    def rest(self) -> None:
        """Longer than a burst lasts."""
        end = self.loop.now() + 3 * code.QUIET_S
        self.wait_until(lambda: self.loop.now() >= end)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    for directory in ("pkg/sub", "pkg/__pycache__", ".git/hooks", "venv/lib/x", "node_modules/a"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "venv/pyvenv.cfg").touch()
    (tmp_path / "pkg/sub/a.py").write_text("1")
    made = Watched(tmp_path)
    yield made
    made.monitor.close()
    made.loop.close()


def test_a_burst_of_changes_is_told_once(watched: Watched, tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"pkg/sub/m{number}.py").write_text("x")
    watched.wait_until(lambda: bool(watched.changes))
    watched.rest()
    assert len(watched.changes) == 1


@pytest.mark.parametrize("way", ["write", "replace", "remove", "touch"])
def test_every_way_to_change_a_file_counts(watched: Watched, tmp_path: Path, way: str) -> None:
    path = tmp_path / "pkg/sub/a.py"
    match way:
        case "write":
            path.write_text("2")
        case "replace":
            (tmp_path / "new").write_text("2")
            (tmp_path / "new").rename(path)
        case "remove":
            path.unlink()
        case "touch":
            with path.open("a"):
                os.utime(path)
    watched.wait_until(lambda: watched.changes == [str(path)])


def test_what_holds_no_source_of_the_app_s_is_not_watched(watched: Watched, tmp_path: Path) -> None:
    for path in (
        "pkg/__pycache__/a.py",
        ".git/hooks/b.py",
        "venv/lib/x/c.py",
        "node_modules/a/d.py",
        "e.txt",
        ".#f.py",
    ):
        (tmp_path / path).write_text("x")
    watched.rest()
    assert watched.changes == []
    assert {os.path.relpath(each, tmp_path) for each, _ in source_directories(str(tmp_path))} == {
        ".",
        "pkg",
        "pkg/sub",
    }


def test_new_directories_are_watched_with_what_is_in_them(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "new/deep").mkdir(parents=True)
    (tmp_path / "new/deep/a.py").write_text("x")
    watched.wait_until(lambda: bool(watched.changes))
    watched.rest()
    before = len(watched.changes)
    (tmp_path / "new/deep/a.py").write_text("y")
    watched.wait_until(lambda: len(watched.changes) > before)


def test_too_many_directories_are_said_and_what_fits_is_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code, "MOST_DIRECTORIES", 2)
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    watched = Watched(tmp_path)
    try:
        assert len(watched.log.lines) == 1 and "--reload-dir" in watched.log.lines[0]
        (tmp_path / "a/x.py").write_text("x")
        watched.wait_until(lambda: bool(watched.changes))
    finally:
        watched.monitor.close()
        watched.loop.close()
