"""What a gateway says of its workers: taken where it makes sense, whoever wrote that gateway."""

import errno
from pathlib import Path
from typing import Any

import pytest

from emperor.supervisor import statefile
from emperor.supervisor.fleet import LAST_EXIT_CHARS, Generation, Phase, Worker
from emperor.supervisor.gateways import Gateways, take_workers
from emperor.supervisor.rundir import RunDir

from .test_supervisor import reading

SAID = {"seat": 1, "pid": 7, "state": "ready", "reason": "", "started": 5}


def told(*workers: Any) -> dict[int, Worker]:
    generation = Generation("blog.ini", 1, reading(), "ab" * 32, Phase.READY, 0.0, 0)
    take_workers(generation, list(workers))
    return generation.workers


def test_restarts_and_the_last_exit_are_taken() -> None:
    said = {**SAID, "restarts": 2, "last_exit": "killed by signal 9 (SIGKILL)"}
    assert told(said) == {1: Worker(1, 7, "ready", 5, 2, "killed by signal 9 (SIGKILL)")}


def test_an_older_gateway_says_less() -> None:
    assert told(SAID) == {1: Worker(1, 7, "ready", 5, 0, "")}


@pytest.mark.parametrize("restarts", ["2", True, None, 1.5])
@pytest.mark.parametrize("last_exit", [3, None, ["killed"]])
def test_what_makes_no_sense_counts_as_not_said(restarts: Any, last_exit: Any) -> None:
    assert told({**SAID, "restarts": restarts, "last_exit": last_exit}) == {
        1: Worker(1, 7, "ready", 5, 0, "")
    }


def test_a_worker_that_is_none_is_dropped_and_a_long_exit_is_cut() -> None:
    long = {**SAID, "last_exit": "x" * 5000}
    assert told({**SAID, "seat": 3}, {**SAID, "pid": "7"}, "nobody", long) == {
        1: Worker(1, 7, "ready", 5, 0, "x" * LAST_EXIT_CHARS)
    }


class Heard:
    """Who is told, and a log."""

    def __init__(self) -> None:
        self.ready_: list[int] = []
        self.warnings: list[str] = []

    def ready(self, generation: Generation) -> None:
        self.ready_.append(generation.number)

    def warning(self, text: str) -> None:
        self.warnings.append(text)


def test_a_full_disk_does_not_keep_a_generation_that_is_ready_from_taking_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: str, _state: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", path)

    heard: Any = Heard()
    nobody: Any = None
    gateways = Gateways(
        nobody, nobody, nobody, heard, RunDir(str(tmp_path)), heard, nobody, nobody, lambda _file: False
    )
    generation = Generation("blog.ini", 1, reading(), "ab" * 32, Phase.STARTING, 0.0, 0)
    monkeypatch.setattr(statefile, "write", full)
    gateway = gateways._expect(generation)
    gateways._state(gateway, {"state": "ready"})
    gateways._state(gateway, {"state": "ready"})
    assert heard.ready_ == [1, 1]
    assert len(heard.warnings) == 1 and "No space left on device" in heard.warnings[0]
