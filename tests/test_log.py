"""Log lines, and readers that do not read."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
import tracemalloc
from pathlib import Path

from emperor.control.channel import Channel
from emperor.log import ChannelSink, FdSink, Log


def test_a_line_has_time_name_pid_level_and_text(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    sink = FdSink(fd)
    log = Log("emperor", sink)
    log.info("started é")
    log.write("error", "bad")
    log.write("odd", "taken as info")
    log.vassal("blog", "hello")
    assert log.flush(5)
    sink.close()
    os.close(fd)
    first, second, third, fourth = (tmp_path / "log").read_text().splitlines()
    stamp = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}"
    assert re.fullmatch(rf"{stamp} emperor\[{os.getpid()}\] info started é", first)
    assert second.endswith("] error bad") and third.endswith("] info taken as info")
    assert re.fullmatch(rf"{stamp} \[blog\] hello", fourth)


def test_an_app_cannot_forge_lines_or_drive_a_terminal(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    sink = FdSink(fd)
    Log("emperor", sink).vassal("blog", "a\n2026 emperor[1] info all is well\x1b[2J\tb")
    sink.close()
    os.close(fd)
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert line.endswith("[blog] a\\n2026 emperor[1] info all is well\\x1b[2J\tb")


def test_a_stalled_reader_costs_lines_and_never_time() -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write_end, b"x" * 4096)
    os.set_blocking(write_end, True)
    sink = FdSink(write_end, bound=20_000)
    log = Log("emperor", sink)
    before = time.monotonic()
    for number in range(5000):
        log.info(f"{number} " + "x" * 100)
    assert time.monotonic() - before < 5
    assert not log.flush(0.05)
    assert log.dropped > 1000
    os.set_blocking(read_end, False)
    text = b""
    deadline = time.monotonic() + 10
    while b"lines were dropped" not in text and time.monotonic() < deadline:
        log.info("once more")
        try:
            text += os.read(read_end, 1 << 20)
        except BlockingIOError:
            time.sleep(0.01)
    assert b"log lines were dropped: their reader was too slow" in text
    sink.close()
    os.close(read_end)
    os.close(write_end)


def test_what_waits_is_bounded_in_bytes_and_nobody_fills_it_alone() -> None:
    """A tenant's longest lines, four times as long once they are escaped, while nobody reads."""
    read_end, write_end = os.pipe()
    bound = 1 << 20
    sink = FdSink(write_end, bound)
    log = Log("emperor", sink)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(60):
        log.vassal("noisy", "\x01" * 16_000)
        log.write("info", "x" * 16_000, "louder")
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert held < bound + (256 << 10)
    lost = log.dropped
    assert 60 < lost < 120
    log.vassal("blog", "is heard")
    log.error("so is the emperor")
    assert log.dropped == lost
    got = b""
    while b"so is the emperor" not in got:
        got += os.read(read_end, 1 << 20)
    sink.close()
    os.close(write_end)
    while piece := os.read(read_end, 1 << 20):
        got += piece
    os.close(read_end)
    assert b"[blog] is heard" in got
    assert got.count(b"[noisy]") > 1 and got.count(b"info xxx") > 1
    assert got.count(b"\n") - got.count(b"lines were dropped") == 122 - lost


def test_a_reader_that_has_gone_is_counted_and_nothing_else() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    sink = FdSink(write_end)
    log = Log("emperor", sink)
    log.info("into the void")
    assert log.flush(5)
    assert log.dropped == 1
    sink.close()
    log.info("after the end")
    assert log.dropped == 2
    os.close(write_end)


def test_a_descriptor_that_somebody_made_non_blocking_is_waited_for() -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    sink = FdSink(write_end)
    log = Log("emperor", sink)
    for number in range(2000):
        log.info(f"{number:04} " + "x" * 100)
    text = b""
    while text.count(b"\n") < 2000:
        text += os.read(read_end, 1 << 20)
    assert b"1999 xxx" in text and log.dropped == 0
    sink.close()
    os.close(read_end)
    os.close(write_end)


def test_lines_go_over_a_channel_and_wait_for_one() -> None:
    sink = ChannelSink(keep=3)
    log = Log("router 0", sink)
    for number in range(5):
        log.info(str(number))
    assert log.dropped == 2
    one, other = (Channel(sock) for sock in socket.socketpair())
    sink.attach(one)
    log.error("now")
    sink.lines([("app", "a"), ("app", "b")])
    assert log.flush(1)
    kept, now, more = (message for message, _ in other.receive())
    assert kept == {"op": "log", "lines": [["info", "2"], ["info", "3"], ["info", "4"]], "dropped": 2}
    assert now["lines"] == [["error", "now"]] and more["lines"] == [["app", "a"], ["app", "b"]]
    one.close()
    log.info("lost")
    assert log.dropped == 3
    sink.attach(None)
    log.info("kept")
    assert log.dropped == 3
    other.close()
