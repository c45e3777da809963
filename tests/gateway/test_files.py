"""The files a gateway writes for its tenant: what is lost is counted, names are followed, nothing is waited for."""

import os
from pathlib import Path

import pytest

from vassals.gateway.files import LogFile, remove_pidfile, write_pidfile


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 2.0  # every look is due
        return self.now


class Said:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, level: str, text: str) -> None:
        self.lines.append(f"{level}: {text}")


@pytest.fixture
def said() -> Said:
    return Said()


def test_lines_follow_the_name_of_the_file(tmp_path: Path, said: Said) -> None:
    path = tmp_path / "out.log"
    log = LogFile(str(path), said, clock=Clock())
    log.lines(["one", "two"])
    path.rename(tmp_path / "moved")
    log.lines(["three"])
    path.unlink()
    log.lines(["four"])
    assert (tmp_path / "moved").read_text() == "one\ntwo\n"
    assert path.read_text() == "four\n"
    assert said.lines == []


def test_what_cannot_be_written_is_given_back_counted_and_told_of_once(tmp_path: Path, said: Said) -> None:
    path = tmp_path / "no" / "out.log"
    clock = Clock()
    log = LogFile(str(path), said, clock=clock)
    for _ in range(3):
        assert log.lines(["one", "two"]) == ["one", "two"]
    assert said.lines == [f"error: logto: {path} cannot be opened: No such file or directory"]
    path.parent.mkdir()
    clock.now += 20
    assert log.trouble == f"logto: {path} cannot be opened: No such file or directory"
    assert not log.lines(["kept"])
    assert path.read_text() == "# 6 lines went to the emperor's log: this file could not be written\nkept\n"
    assert said.lines[1:] == [f"warning: logto: {path} is written again; 6 lines went to the emperor's log"]
    assert log.trouble == ""


@pytest.mark.parametrize("what", ["FIFO", "device", "directory"])
def test_only_a_regular_file_will_do(tmp_path: Path, said: Said, what: str) -> None:
    path = tmp_path / "out.log"
    match what:
        case "FIFO":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/full")
        case "directory":
            path.mkdir()
    log = LogFile(str(path), said, clock=Clock())
    assert log.lines(["kept"]) == ["kept"]
    assert said.lines == [f"error: logto: {path} cannot be opened: it is no regular file"]
    assert write_pidfile(str(path), 1) == f"pidfile: {path} cannot be written: it is no regular file"


def test_a_full_file_is_moved_away(tmp_path: Path, said: Said) -> None:
    path, old = tmp_path / "out.log", tmp_path / "old"
    log = LogFile(str(path), said, 10, str(old), Clock())
    log.lines(["0123456789"])
    assert (old.read_text(), path.exists()) == ("0123456789\n", False)
    log.lines(["next"])
    assert path.read_text() == "next\n"


def test_a_pidfile_is_its_own_generations(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("something longer\n")
    assert write_pidfile(str(path), 12) == ""
    assert path.read_text() == "12\n"
    remove_pidfile(str(path), 11)
    assert path.exists()
    remove_pidfile(str(path), 12)
    remove_pidfile(str(path), 12)
    assert not path.exists()


def test_a_pidfile_is_never_written_through_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "pid").symlink_to("kept")
    assert "symbolic links" in write_pidfile(str(tmp_path / "pid"), 1)
    assert (tmp_path / "kept").read_text() == "kept"
