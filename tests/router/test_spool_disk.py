"""The files and threads behind the spool, on a real file system."""

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emperor.router import disk
from emperor.router.disk import File, Files, default_directory
from tests.scenarios.harness.waiting import wait_for


async def told(call: Callable[[Callable[[Any], None]], None]) -> Any:
    """What `done` is called with, in the loop's thread."""
    future = asyncio.get_running_loop().create_future()
    call(future.set_result)
    return await asyncio.wait_for(future, 10)


def links(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def open_in(directory: Path) -> list[str]:
    """Our descriptors of files there."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue
    return [path for path in found if path.startswith(str(directory))]


@pytest.mark.parametrize("tmpfile", [True, False], ids=["O_TMPFILE", "a file system without it"])
def test_there_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmpfile: bool) -> None:
    real = os.open

    def refuses(path: str, flags: int, *rest: int, **more: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "not here", path)
        return real(path, flags, *rest, **more)

    if not tmpfile:
        monkeypatch.setattr(disk.os, "open", refuses)

    async def run() -> None:
        files = Files(asyncio.get_running_loop(), str(tmp_path))
        file = files.open()
        assert await told(lambda done: files.write(file, [b"abc", b"defg"], done)) is None
        assert await told(lambda done: files.write(file, [b"h" * 1_000_000], done)) is None
        assert links(tmp_path) == [], "nobody else can open it, and nothing is left of it after a crash"
        assert os.fstat(file.fd).st_mode & 0o777 == 0o600
        assert await told(lambda done: files.read(file, 2, 5, done)) == b"cdefg"
        assert await told(lambda done: files.read(file, 7, 1_000_000, done)) == b"h" * 1_000_000
        short = await told(lambda done: files.read(file, 7, 1_000_001, done))
        assert isinstance(short, OSError)
        assert len(open_in(tmp_path)) == 1
        files.close(file)
        files.close(File())  # never written: nothing to close
        files.stop()

    asyncio.run(run())
    wait_for(lambda: not open_in(tmp_path), 10, lambda: open_in(tmp_path))


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    async def run() -> OSError:
        files = Files(asyncio.get_running_loop(), str(tmp_path / "gone"))
        file = files.open()
        error: OSError = await told(lambda done: files.write(file, [b"x"], done))
        files.close(file)
        files.stop()
        return error

    error = asyncio.run(run())
    assert error.errno == errno.ENOENT
    assert str(tmp_path / "gone") in str(error)


def test_a_disk_that_is_full() -> None:
    """/dev/full: the error of the write names the directory, since it is all that an operator can do something about."""
    file = File()
    file.fd = os.open("/dev/full", os.O_RDWR)
    error = disk._write("/var/spool/bodies", file, [b"x"])
    os.close(file.fd)
    assert error is not None
    assert error.errno == errno.ENOSPC
    assert "/var/spool/bodies" in str(error)


def test_where_bodies_lie_unless_told(tmp_path: Path) -> None:
    assert default_directory({"TMPDIR": str(tmp_path)}) == str(tmp_path)
    assert default_directory({"TMPDIR": str(tmp_path / "gone")}) == "/var/tmp"
    assert default_directory({}) == "/var/tmp"


@pytest.mark.parametrize("error", [None, errno.EAGAIN, errno.EOPNOTSUPP, errno.EIO])
def test_what_is_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int | None) -> None:
    """Without waiting for the disk; where that cannot be had nothing is at hand, and a thread reads it."""
    asked = []

    def refuses(*_: object) -> int:
        asked.append(error)
        raise OSError(error, "not now")

    async def run() -> None:
        files = Files(asyncio.get_running_loop(), str(tmp_path))
        file = files.open()
        assert await told(lambda done: files.write(file, [b"abc", b"defg"], done)) is None
        into = bytearray(5)
        if error is None:
            count = files.read_now(file, 1, memoryview(into))
            # Not every file system can; but then it says that it has none, and not something else.
            assert bytes(into[:count]) == b"bcdef"[:count]
        else:
            monkeypatch.setattr(disk.os, "preadv", refuses)
            assert files.read_now(file, 1, memoryview(into)) == 0
            assert files.read_now(file, 1, memoryview(into)) == 0
            assert len(asked) == (1 if error == errno.EOPNOTSUPP else 2)
        assert await told(lambda done: files.read(file, 1, 5, done)) == b"bcdef"
        await told(lambda done: (files.close(file), done(None)))
        files.stop()

    asyncio.run(run())


def test_many_pieces_and_a_disk_that_takes_them_in_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.writev

    def some(fd: int, data: list[bytes]) -> int:
        return real(fd, [b"".join(data)[:1000]])

    monkeypatch.setattr(disk.os, "writev", some)
    pieces = [bytes([number % 251]) * 7 for number in range(2 * disk.MOST_PIECES)]

    async def run() -> None:
        files = Files(asyncio.get_running_loop(), str(tmp_path))
        file = files.open()
        assert await told(lambda done: files.write(file, list(pieces), done)) is None
        whole = b"".join(pieces)
        assert await told(lambda done: files.read(file, 0, len(whole), done)) == whole
        files.close(file)
        files.stop()

    asyncio.run(run())
