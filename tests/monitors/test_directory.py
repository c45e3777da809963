"""The monitor on a real directory: inotify notes, settling, and trouble that must change nothing."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from emperor.config.problems import Source
from emperor.monitors.directory import DirectoryMonitor, open_for_writing, read_digest, see
from emperor.monitors.places import Place, Places, look
from emperor.monitors.scan import Change
from emperor.supervisor.loop import Loop
from tests.reach import reachable

TENANT = 54321
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, which alone has rights to lend")


class Told:
    """A log that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def warning(self, text: str) -> None:
        self.lines.append(text)


class Watched:
    """A monitor with its loop, and what it has reported."""

    def __init__(self, path: Path, rescan_s: float) -> None:
        self.loop = Loop()
        self.log = Told()
        self.batches: list[list[tuple[str, str]]] = []
        self.monitor = DirectoryMonitor(
            self.loop, Places([Place(str(path))]), self._changed, self.log, rescan_s
        )
        self.monitor.start()

    def _changed(self, changes: Sequence[Change]) -> None:
        self.batches.append([(change.kind.value, change.file) for change in changes])

    def wait_until(self, condition: Callable[[], bool], deadline_s: float = 5.0) -> float:
        """Turn the loop until the condition holds; how long it took. Fails at the deadline."""
        start = self.loop.now()
        while not condition():
            assert self.loop.now() - start < deadline_s, f"not within {deadline_s} s; seen: {self.batches}"
            self.loop.step(0.02)
        return self.loop.now() - start

    def close(self) -> None:
        self.monitor.close()
        self.loop.close()


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Callable[..., Watched]]:
    started: list[Watched] = []

    def start(rescan_s: float = 60.0) -> Watched:
        started.append(Watched(tmp_path, rescan_s))
        return started[-1]

    yield start
    for each in started:
        each.close()


def test_the_first_report_comes_once_even_from_an_empty_directory(watch: Callable[..., Watched]) -> None:
    watched = watch()
    watched.wait_until(lambda: watched.batches == [[]])


def test_a_file_is_reported_within_a_moment_of_its_writers_close(
    watch: Callable[..., Watched], tmp_path: Path
) -> None:
    (tmp_path / "old.ini").write_text("[vassal]\n")
    watched = watch()
    watched.wait_until(lambda: watched.batches == [[("new", "old.ini")]])
    with (tmp_path / "new.ini").open("w") as file:
        file.write("[vassal]\n")
        file.flush()
        watched.wait_until(lambda: bool(watched.monitor._scan._pending))
        end = watched.loop.now() + 0.5
        watched.wait_until(lambda: watched.loop.now() >= end)
        assert len(watched.batches) == 1, "taken while its writer was still at it"
    watched.wait_until(lambda: len(watched.batches) == 2)
    assert watched.batches[1] == [("new", "new.ini")]


def test_a_file_that_was_already_being_written_when_we_came_waits(
    watch: Callable[..., Watched], tmp_path: Path
) -> None:
    with (tmp_path / "half.ini").open("w") as file:
        file.write("[vassal]\n")
        file.flush()
        watched = watch()
        watched.wait_until(lambda: watched.batches == [[]])
        end = watched.loop.now() + 0.5
        watched.wait_until(lambda: watched.loop.now() >= end)
        assert watched.batches == [[]]
        file.write("uid = nobody\n")
    watched.wait_until(lambda: watched.batches == [[], [("new", "half.ini")]])


def test_touch_rename_and_removal(watch: Callable[..., Watched], tmp_path: Path) -> None:
    file = tmp_path / "a.ini"
    file.write_text("[vassal]\n")
    watched = watch()
    watched.wait_until(lambda: len(watched.batches) == 1)
    os.utime(file)
    watched.wait_until(lambda: len(watched.batches) == 2)
    file.rename(tmp_path / "b.ini")
    watched.wait_until(lambda: sum(map(len, watched.batches)) == 4)
    (tmp_path / "b.ini").unlink()
    watched.wait_until(lambda: sum(map(len, watched.batches)) == 5)
    assert [change for batch in watched.batches for change in batch] == [
        ("new", "a.ini"),
        ("changed", "a.ini"),
        *sorted([("removed", "a.ini"), ("new", "b.ini")], key=lambda change: watched_order(watched, change)),
        ("removed", "b.ini"),
    ]


def watched_order(watched: Watched, change: tuple[str, str]) -> int:
    return [each for batch in watched.batches for each in batch].index(change)


def test_what_a_link_leads_to_is_watched_by_the_rescan(watch: Callable[..., Watched], tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "real").write_text("[vassal]\n")
    (tmp_path / "a.ini").symlink_to("elsewhere/real")
    watched = watch(rescan_s=0.2)
    watched.wait_until(lambda: len(watched.batches) == 1)
    (elsewhere / "real").write_text("[vassal]\nmodule = x\n")
    watched.wait_until(lambda: watched.batches[1:] == [[("changed", "a.ini")]])


def test_a_directory_that_goes_away_changes_nothing_and_is_told_once(
    watch: Callable[..., Watched], tmp_path: Path
) -> None:
    (tmp_path / "a.ini").write_text("[vassal]\n")
    watched = watch(rescan_s=0.1)
    watched.wait_until(lambda: len(watched.batches) == 1)
    away = tmp_path.with_name(tmp_path.name + "-away")
    tmp_path.rename(away)
    try:
        watched.wait_until(lambda: bool(watched.monitor.trouble))
        end = watched.loop.now() + 0.6
        watched.wait_until(lambda: watched.loop.now() >= end)
    finally:
        away.rename(tmp_path)
    assert len(watched.batches) == 1
    assert len(watched.log.lines) == 1 and str(tmp_path) in watched.log.lines[0]
    watched.wait_until(lambda: not watched.monitor.trouble)
    (tmp_path / "b.ini").write_text("[vassal]\n")
    watched.wait_until(lambda: watched.batches[1:] == [[("new", "b.ini")]])


def test_a_listing_has_regular_files_and_links_to_them_only(tmp_path: Path) -> None:
    (tmp_path / "file.ini").write_text("x")
    (tmp_path / "link.ini").symlink_to("file.ini")
    (tmp_path / "nowhere.ini").symlink_to("nothing")
    (tmp_path / "directory.ini").mkdir()
    os.mkfifo(tmp_path / "fifo.ini")
    found = look(Place(str(tmp_path))).files
    listing = {Path(path).name: seen for path in found if (seen := see(path)) is not None}
    assert sorted(listing) == ["file.ini", "link.ini"]
    assert (listing["file.ini"].link, listing["link.ini"].link) == (None, "file.ini")


def test_reading_never_blocks_and_says_what_has_gone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.ini")
    assert read_digest(str(tmp_path / "fifo.ini")) == "unreadable: no regular file"
    reader = os.open(tmp_path / "fifo.ini", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(tmp_path / "fifo.ini", os.O_WRONLY)
    try:  # with a writer, there is nothing to read yet, which is no end of file
        assert read_digest(str(tmp_path / "fifo.ini")) == "unreadable: no regular file"
    finally:
        os.close(reader)
        os.close(writer)
    assert read_digest("/proc/self/status") == "unreadable: no regular file"
    assert read_digest(str(tmp_path / "none.ini")) is None


@as_root
def test_what_a_tenant_may_not_read_is_not_read_for_him(tmp_path: Path) -> None:
    reachable(tmp_path)
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    assert read_digest(str(secret), TENANT) == "unreadable: Permission denied"
    os.chown(secret, TENANT, 0)
    assert read_digest(str(secret), TENANT) == read_digest(str(secret))


@as_root
def test_what_a_tenant_may_not_look_at_changes_no_vassal_of_his(
    watch: Callable[..., Watched], tmp_path: Path
) -> None:
    """Neither that another's file is there nor that it changes is told; of the same file the emperor hears all."""
    reachable(tmp_path)
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (private / "secret").write_text("x")
    for name in ("tenants.ini", "roots.ini"):
        (tmp_path / name).write_text("[vassal]\n")
    watched = watch(rescan_s=60.0)
    watched.wait_until(lambda: len(watched.batches) == 1)
    watched.monitor.also("tenants.ini", [Source(f"{private}/secret", TENANT)])
    watched.monitor.also("roots.ini", [Source(f"{private}/secret")])
    watched.wait_until(lambda: bool(watched.monitor._paths.others))
    (private / "secret").write_text("y")
    watched.wait_until(lambda: len(watched.batches) == 2)
    assert watched.batches[1:] == [[("changed", "roots.ini")]]
    os.chown(private, TENANT, 0)
    os.chown(private / "secret", TENANT, 0)
    (private / "secret").write_text("z")
    watched.wait_until(
        lambda: ("changed", "tenants.ini") in [each for batch in watched.batches for each in batch]
    )


def test_a_writer_is_found_a_reader_is_none(tmp_path: Path) -> None:
    paths = [tmp_path / "a.ini", tmp_path / "b.ini", tmp_path / "c.ini"]
    files = []
    for path in paths:
        path.write_text("x")
        files.append((path.stat().st_dev, path.stat().st_ino))
    with paths[0].open():
        assert not open_for_writing(set(files))
        with paths[1].open("a"), paths[2].open("a"):
            assert open_for_writing(set(files[:2])) == {files[1]}
            assert open_for_writing(set(files)) == set(files[1:])


def test_a_change_of_a_link_is_told_by_the_kernel_not_by_the_rescan(
    watch: Callable[..., Watched], tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    for turn in ("1", "2"):
        (elsewhere / f"data.{turn}").mkdir(parents=True)
        (elsewhere / f"data.{turn}/real").write_text("[vassal]\n")
    (elsewhere / "data").symlink_to("data.1")
    (tmp_path / "a.ini").symlink_to("elsewhere/data/real")
    watched = watch(rescan_s=60.0)
    watched.wait_until(lambda: len(watched.batches) == 1)
    for number, change in enumerate(
        (
            lambda: (elsewhere / "data.1/real").write_text("[vassal]\nmodule = x\n"),
            lambda: os.utime(elsewhere / "data.1/real"),
            lambda: (
                (elsewhere / "new").symlink_to("data.2"),
                (elsewhere / "new").rename(elsewhere / "data"),
            ),
            lambda: os.utime(elsewhere / "data.2/real"),
        ),
        2,
    ):
        change()
        watched.wait_until(lambda number=number: len(watched.batches) == number, 10.0)  # type: ignore[misc]
    assert watched.batches[1:] == [[("changed", "a.ini")]] * 4


def test_the_other_files_of_a_vassal_change_it_too(watch: Callable[..., Watched], tmp_path: Path) -> None:
    other = tmp_path / "shared"
    other.mkdir()
    (other / "base").write_text("x")
    (tmp_path / "a.ini").write_text("[vassal]\n")
    (tmp_path / "b.ini").write_text("[vassal]\n")
    watched = watch(rescan_s=60.0)
    watched.wait_until(lambda: len(watched.batches) == 1)
    watched.monitor.also("a.ini", map(Source, [f"{other}/base", f"{other}/missing", str(tmp_path / "a.ini")]))
    watched.wait_until(lambda: bool(watched.monitor._paths.others))
    for number, change in enumerate(
        (
            lambda: (other / "base").write_text("y"),
            lambda: (other / "missing").write_text("z"),
            lambda: (other / "base").unlink(),
        ),
        2,
    ):
        change()
        watched.wait_until(lambda number=number: len(watched.batches) == number, 10.0)  # type: ignore[misc]
    assert watched.batches[1:] == [[("changed", "a.ini")]] * 3
    watched.monitor.also("a.ini", [])
    (other / "missing").write_text("zz")
    os.utime(tmp_path / "b.ini")
    watched.wait_until(lambda: len(watched.batches) == 5)
    assert watched.batches[4] == [("changed", "b.ini")]
