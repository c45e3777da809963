"""Output that costs lines, never requests."""

import fcntl
import io
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from vassals.worker import output
from vassals.worker.output import Outlet, text_outlet

PIPE_SIZE = 65536


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    yield reader, writer
    os.close(reader)
    os.close(writer)


def drain(reader: int) -> bytes:
    out = b""
    try:
        while piece := os.read(reader, 1 << 20):
            out += piece
    except BlockingIOError:
        pass
    return out


def no_proc(target: int) -> tuple[int, bool]:
    return fcntl.fcntl(target, fcntl.F_DUPFD_CLOEXEC, 3), True


@pytest.mark.parametrize("fallback", [False, True])
def test_drops_and_counts_and_says_so(
    pipe: tuple[int, int], fallback: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fallback:
        monkeypatch.setattr(output, "_reopen", no_proc)
    reader, writer = pipe
    with text_outlet(writer) as out:
        outlet = out.buffer
        assert isinstance(outlet, Outlet)
        for n in range(10000):
            print(f"line {n}", file=out)
        kept = drain(reader)
        assert len(kept) <= PIPE_SIZE
        assert kept.startswith(b"line 0\nline 1\n")
        assert outlet.dropped_lines > 1000
        print("after", file=out)
        note, after = drain(reader).strip().split(b"\n")
        assert note == b"[%d lines dropped here: the log was not read in time]" % outlet.dropped_lines
        assert after == b"after"
        # The note is told once.
        print("more", file=out)
        assert drain(reader) == b"more\n"


def test_a_vanished_reader_breaks_nothing() -> None:
    reader, writer = os.pipe()
    with text_outlet(writer) as out:
        os.close(reader)
        print("nobody", file=out)
        outlet = out.buffer
        assert isinstance(outlet, Outlet)
        assert outlet.dropped_lines == 1
    os.close(writer)


def test_the_given_descriptor_stays_blocking(pipe: tuple[int, int]) -> None:
    _, writer = pipe
    with text_outlet(writer) as out:
        print("x", file=out)
        assert os.get_blocking(writer)
        assert out.fileno() == writer


def test_lines_come_whole_and_with_any_character(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    with text_outlet(writer) as out:
        print("a", "b", sep="", end="")
        out.write("a")
        assert drain(reader) == b""
        out.write("\u20ac\udcff\n")
        assert drain(reader) == b"a\xe2\x82\xac\\udcff\n"
        out.buffer.write(b"raw\n")
        assert drain(reader) == b"raw\n"


def test_a_file_is_added_to_and_not_written_over(tmp_path: object) -> None:
    path = f"{tmp_path}/log"
    with open(path, "wb", buffering=0) as file:
        file.write(b"before\n")
        with text_outlet(file.fileno()) as out:
            print("after", file=out)
    with open(path, "rb") as file:
        assert file.read() == b"before\nafter\n"


def test_a_closed_descriptor_is_no_error() -> None:
    out = io.TextIOWrapper(Outlet(999), line_buffering=True)
    print("x", file=out)
    out.detach()


def test_an_app_that_prints_with_nobody_reading_goes_on() -> None:
    """A real process, whose log pipe is full: each print returns at once."""
    reader, writer = os.pipe()
    source = (
        "import sys; from vassals.worker import output; output.redirect()\n"
        "for n in range(20000): print('x' * 100); print('y' * 100, file=sys.stderr)\n"
        "sys.__stderr__.write('z\\n'); sys.exit(7)"
    )
    process = subprocess.run(
        [sys.executable, "-c", source], stdout=writer, stderr=writer, timeout=20, check=False
    )
    os.close(reader)
    os.close(writer)
    assert process.returncode == 7
