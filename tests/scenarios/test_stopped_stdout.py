"""Whoever reads the emperor's standard output and error stops reading, under load: requests do not notice, lines are
dropped, counted, and told of when it reads on. Short here; STOPPED_S=10 is the promise's own length."""

import fcntl
import os
import threading
import time

from .harness import Fleet, fetch, wait_for

STOPPED_S = float(os.environ.get("STOPPED_S", "2"))

APP = """
def application(environ, start_response):
    print("x" * 2000)
    print("y" * 2000, file=environ["wsgi.errors"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]
"""


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
    try:
        fleet.start()
        before = _load(fleet, STOPPED_S / 2)
        reading.clear()
        stopped = _load(fleet, STOPPED_S)
        assert len(stopped) > 50
        wait_for(lambda: fleet.status()["routers"][0]["stdout_log_dropped"] > 0, 30.0, _driven(fleet))
        status = fleet.status()
        assert status["emperor"]["log_dropped"] + status["emperor"]["vassal_log_dropped"] >= 0
        # No noise of a shared machine takes ten times as long, and a wait for the reader would take all of it.
        assert _p99(stopped) < max(10 * _p99(before), 0.25), (_p99(before), _p99(stopped))
        reading.set()
        wait_for(lambda: b"lines of access logs were dropped here" in got, 10.0)
        fleet.get("noisy", "/reads-on")
        wait_for(lambda: b"/reads-on" in got, 10.0)
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


def _load(fleet: Fleet, for_s: float) -> list[float]:
    took = []
    end = time.monotonic() + for_s
    while time.monotonic() < end:
        start = time.monotonic()
        assert fetch(fleet.http_port, "noisy.localhost", "/?" + "z" * 4000).status == 200
        took.append(time.monotonic() - start)
    return took


def _driven(fleet: Fleet) -> str:
    return str(fleet.status()["routers"][0])


def _p99(took: list[float]) -> float:
    return sorted(took)[int(len(took) * 0.99)]
