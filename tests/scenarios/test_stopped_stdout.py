"""Whoever reads the emperor's standard output and error stops reading, under load: requests do not notice, lines are
dropped, counted, and told of when it reads on.

`make slow-clients` asks for it as it was promised (10 s, p99 within 1.5 ×); `make test` has a form that noise cannot break.
"""

import fcntl
import os
import threading
import time

import pytest

from .harness import Answer, Fleet, Flood, Target, wait_for
from .harness.tails import PROMISE, p99_ms, within

STOPPED_S = 10.0 if PROMISE else 2.0
ROUNDS = 3 if PROMISE else 1
SERIES = 1 if PROMISE else 5
RATE = 150.0
TARGET = Target("noisy", "&z=" + "z" * 4000)

APP = """
import os

def application(environ, start_response):
    for _ in range(6):
        print("x" * 2000)
    print("y" * 2000, file=environ["wsgi.errors"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    nonce = environ["QUERY_STRING"].removeprefix("n=").partition("&")[0]
    return [f"{nonce} {os.getpid()} 0 -".encode()]
"""

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(400 if PROMISE else 180)]


def test_a_reader_that_stops_costs_lines_and_no_time(fleet: Fleet) -> None:
    """Access log, the emperor's own lines and a noisy app all go to one pipe that nobody empties for a while."""
    fleet.app("noisy", APP, access_log="-", processes=2)
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 65536)
    reading = threading.Event()
    reading.set()
    over = threading.Event()
    got = bytearray()

    def read() -> None:
        while chunk := os.read(read_end, 65536):
            got.extend(chunk)
            reading.wait()
            if over.is_set():
                return

    reader = threading.Thread(target=read, daemon=True)
    fleet.log_path = _Pipe(write_end)  # type: ignore[assignment]
    reader.start()
    calm_ms: list[float] = []
    stopped_ms: list[float] = []
    try:
        fleet.start()
        for series in range(SERIES):
            for number in range(ROUNDS):
                tag = f"{series}-{number}-"
                calm_ms.append(p99_ms(_load(fleet, f"calm{tag}")))
                before = _dropped(fleet)
                reading.clear()
                # The load goes on, and nobody reads, until lines of both logs have been lost.
                stopped_ms.append(p99_ms(_load(fleet, f"stopped{tag}", before)))
                at = len(got)
                reading.set()
                wait_for(lambda: got.find(b"lines of access logs were dropped here", at) >= 0, 20.0)  # noqa: B023
                wait_for(lambda: got.find(b" log lines were dropped: ", at) >= 0, 20.0)  # noqa: B023
            if within(calm_ms, stopped_ms, 1.5):
                break
        else:
            pytest.fail(f"p99 in ms, while it read and while it did not: {calm_ms}, {stopped_ms}")
        print(f"stdout: p99 in ms, while it read and while it did not: {calm_ms}, {stopped_ms}")
        fleet.get("noisy", "/?n=reads-on")
        wait_for(lambda: b"/?n=reads-on" in got, 20.0)
    finally:
        reading.set()
        fleet.stop()
        over.set()
        os.close(write_end)
        reader.join(10)
        os.close(read_end)


class _Pipe:
    """The fleet's log as a pipe of the test's."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def open(self, _mode: str) -> "object":
        return os.fdopen(os.dup(self.fd), "wb")

    def exists(self) -> bool:
        return False


def _dropped(fleet: Fleet) -> tuple[int, int]:
    """Lines that are lost of access logs, and of the emperor's log."""
    status = fleet.status()
    return status["routers"][0]["stdout_log_dropped"], status["emperor"]["log_dropped"]


def _load(fleet: Fleet, tag: str, before: tuple[int, int] | None = None) -> list[Answer]:
    """Requests on schedule, all of which are answered, for as long as was asked; and until more lines than `before` are lost
    of both logs."""
    flood = Flood(fleet.orphans, fleet.http_port, [TARGET], fleet.root / f"{tag}answers", RATE, tag)
    began = time.monotonic()
    flood.start()

    def over() -> bool:
        if time.monotonic() - began < STOPPED_S:
            return False
        return before is None or all(now > then for now, then in zip(_dropped(fleet), before, strict=True))

    wait_for(over, STOPPED_S + 30, lambda: f"{before} → {_dropped(fleet)}", every_s=0.1)
    answers = flood.stop()
    assert [answer for answer in answers if not answer.ok] == []
    return answers
