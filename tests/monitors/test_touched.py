"""What counts as a touch, and how it is found where the kernel tells nothing."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emperor.monitors import watches
from emperor.monitors.touched import Target, TouchMonitor
from emperor.supervisor.loop import Loop

from .test_directory import Told


class Watched:
    def __init__(self, look_s: float = 60.0, poll_s: float = 60.0) -> None:
        self.loop = Loop()
        self.log = Told()
        self.touched: list[tuple[str, str]] = []
        self.monitor = TouchMonitor(
            self.loop, lambda key, path: self.touched.append((key, path)), self.log, look_s, poll_s
        )

    def wait_until(self, condition: Callable[[], bool], deadline_s: float = 5.0) -> None:
        start = self.loop.now()
        while not condition():
            assert self.loop.now() - start < deadline_s, f"seen: {self.touched}, said: {self.log.lines}"
            self.loop.step(0.02)

    def rest(self, seconds: float = 0.3) -> None:
        end = self.loop.now() + seconds
        self.wait_until(lambda: self.loop.now() >= end)

    def close(self) -> None:
        self.monitor.close()
        self.loop.close()


@pytest.fixture
def watched() -> Iterator[Watched]:
    made = Watched()
    yield made
    made.close()


def test_a_touch_is_told_once_and_reading_is_none(watched: Watched, tmp_path: Path) -> None:
    path = tmp_path / "reload"
    path.write_text("x")
    watched.monitor.want("a", [Target(str(path))])
    path.read_text()
    watched.rest()
    assert watched.touched == []
    os.utime(path)
    watched.wait_until(lambda: bool(watched.touched))
    watched.rest()
    assert watched.touched == [("a", str(path))]


def test_an_older_time_a_new_file_and_a_return_count_and_removal_does_not(
    watched: Watched, tmp_path: Path
) -> None:
    path = tmp_path / "reload"
    path.write_text("x")
    watched.monitor.want("a", [Target(str(path))])
    os.utime(path, (1, 1))
    watched.wait_until(lambda: len(watched.touched) == 1)
    (tmp_path / "new").write_text("y")
    (tmp_path / "new").replace(path)
    watched.wait_until(lambda: len(watched.touched) == 2)
    path.unlink()
    watched.rest()
    assert len(watched.touched) == 2
    path.touch()
    watched.wait_until(lambda: len(watched.touched) == 3)


def test_a_link_that_leads_elsewhere_is_a_touch(watched: Watched, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "current").symlink_to("one")
    watched.monitor.want("a", [Target(str(tmp_path / "current"))])
    (tmp_path / "fresh").symlink_to("two")
    (tmp_path / "fresh").replace(tmp_path / "current")
    watched.wait_until(lambda: len(watched.touched) == 1)


def test_one_file_of_two_is_told_to_both_and_a_replaced_wish_counts(watched: Watched, tmp_path: Path) -> None:
    path = tmp_path / "reload"
    path.touch()
    for key in ("a", "b"):
        watched.monitor.want(key, [Target(str(path))])
    os.utime(path)
    watched.wait_until(lambda: len(watched.touched) == 2)
    assert sorted(watched.touched) == [("a", str(path)), ("b", str(path))]
    watched.monitor.want("a", [])
    os.utime(path)
    watched.wait_until(lambda: len(watched.touched) == 3)
    watched.rest()
    assert watched.touched[2:] == [("b", str(path))]


@pytest.mark.parametrize("why", ["missing", "full"])
def test_what_cannot_be_watched_is_said_and_polled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    if why == "full":
        monkeypatch.setattr(watches, "MOST_WATCHES", 0)
    directory = tmp_path / "later" if why == "missing" else tmp_path
    watched = Watched(poll_s=0.1)
    try:
        watched.monitor.want("a", [Target(str(directory / "reload"))])
        (said,) = watched.log.lines
        assert str(directory) in said
        assert ("it is not there" if why == "missing" else "no watch left") in said
        directory.mkdir(exist_ok=True)
        (directory / "reload").touch()
        watched.wait_until(lambda: bool(watched.touched))
        watched.rest()
        assert len(watched.log.lines) == 1
    finally:
        watched.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to lend")
def test_what_the_apps_user_may_not_see_is_not_there(watched: Watched, tmp_path: Path) -> None:
    os.chmod(tmp_path.parent, 0o755)
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    secret = hidden / "file"
    secret.touch()
    open_to_all = tmp_path / "open"
    open_to_all.touch()
    for directory in (tmp_path, *tmp_path.parents):
        if os.stat(directory).st_uid == 0 and str(directory).startswith("/tmp/"):
            os.chmod(directory, os.stat(directory).st_mode | 0o011)
    watched.monitor.want("a", [Target(str(secret), 65534), Target(str(open_to_all), 65534)])
    os.utime(secret)
    watched.rest()
    os.utime(open_to_all)
    watched.wait_until(lambda: bool(watched.touched))
    assert watched.touched == [("a", str(open_to_all))]


def test_what_was_touched_while_another_program_took_our_place(watched: Watched, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("touched", "left", "comes")]
    for path in paths[:2]:
        path.write_text("x")
    watched.monitor.want("a", [Target(str(path)) for path in paths])
    handed = json.loads(json.dumps(watched.monitor.hand_over()))
    os.utime(paths[0], (1, 1))
    paths[2].write_text("x")
    after = Watched()
    after.monitor.resume(handed)
    after.monitor.want("a", [Target(str(path)) for path in paths])
    after.wait_until(lambda: len(after.touched) == 2)
    after.rest()
    assert sorted(after.touched) == [("a", str(paths[2])), ("a", str(paths[0]))]
    after.close()
    with pytest.raises(ValueError, match="files whose touch counts"):
        Watched().monitor.resume([1])
