"""When memory is short: by the machine's word, or by that of a control group above us."""

from pathlib import Path

import pytest

from emperor.supervisor.room import is_short


def meminfo(path: Path, available: int) -> Path:
    path.write_text(f"MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  {available} kB\nHuge: x\n")
    return path


def group(directory: Path, most: str, current: int, inactive: int) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "memory.max").write_text(f"{most}\n")
    (directory / "memory.current").write_text(f"{current}\n")
    (directory / "memory.stat").write_text(f"anon 5\ninactive_file {inactive}\n")


@pytest.mark.parametrize(("available", "short"), [(99, True), (100, False), (900, False)])
def test_the_machine(tmp_path: Path, available: int, short: bool) -> None:
    assert is_short(meminfo(tmp_path / "m", available), tmp_path / "no", tmp_path) is short


@pytest.mark.parametrize(
    ("most", "current", "inactive", "short"),
    [("1000", 901, 0, True), ("1000", 950, 100, False), ("max", 10_000, 0, False), ("nonsense", 1, 0, False)],
)
def test_the_group_above_ours(tmp_path: Path, most: str, current: int, inactive: int, short: bool) -> None:
    groups = tmp_path / "cgroup"
    group(groups / "pod", most, current, inactive)
    group(groups / "pod" / "app", "max", 5, 0)
    own = tmp_path / "own"
    own.write_text("0::/pod/app\n")
    assert is_short(meminfo(tmp_path / "m", 900), own, groups) is short


def test_what_cannot_be_read_bounds_nothing(tmp_path: Path) -> None:
    assert not is_short(tmp_path / "no", tmp_path / "no", tmp_path / "no")
