"""What is executed in the place of the running emperor."""

import os
from pathlib import Path

import pytest

from emperor.supervisor import upgrading
from emperor.supervisor.upgrading import program_of


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """We were started as ./bin/emperor start /v, a script; the path of it."""
    script = tmp_path / "bin" / "emperor"
    script.parent.mkdir()
    script.write_text("#!/usr/bin/python3\n")
    script.chmod(0o755)
    monkeypatch.setattr(upgrading, "_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(upgrading, "_FIRST_ARGUMENTS", ["bin/emperor", "start", "/v"])
    monkeypatch.setattr(upgrading, "_ORIGINAL", ["/old/python", "bin/emperor", "start", "/v"])
    return script


def test_a_script_is_executed_itself_since_its_first_line_may_be_another_by_now(started: Path) -> None:
    assert program_of("") == [str(started), "start", "/v"]


def test_another_installation_gets_our_arguments(started: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    assert program_of(str(other)) == [str(other), "start", "/v"]
    other.chmod(0o644)
    with pytest.raises(LookupError, match="chmod"):
        program_of(str(other))
    with pytest.raises(LookupError, match="is not there: install it"):
        program_of(str(tmp_path / "gone"))


def test_flags_of_the_interpreter_are_kept(started: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrading, "_ORIGINAL", ["python", "-X", "dev", "bin/emperor", "start", "/v"])
    argv = program_of("")
    assert os.path.isabs(argv[0]) and argv[1:] == ["-X", "dev", "bin/emperor", "start", "/v"]


def test_a_script_that_is_gone_is_left_to_its_interpreter(started: Path) -> None:
    started.unlink()
    argv = program_of("")
    assert os.path.isabs(argv[0]) and argv[1:] == ["bin/emperor", "start", "/v"]
