"""1 GB down to a client that is slow at first, and 1 GB up to an app that is: router and worker grow by 32 MB
at most."""

import threading
import time

import psutil
import pytest

from .harness import Connection, Fleet
from .harness.fleet import APPS

SIZE = 1_000_000_000
GROWTH = 32 * 1024 * 1024


class Growth:
    """The largest sum of these processes' resident memory over what it was at first."""

    def __init__(self, pids: list[int]) -> None:
        self._processes = [psutil.Process(pid) for pid in pids]
        self._first = self._now()
        self.most = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Growth":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _now(self) -> int:
        return sum(process.memory_info().rss for process in self._processes)

    def _run(self) -> None:
        while not self._stopping.wait(0.05):
            self.most = max(self.most, self._now() - self._first)


@pytest.fixture
def bulk(fleet: Fleet) -> Fleet:
    fleet.vassal("bulk", wsgi_file=APPS / "bulk.py")
    fleet.start()
    assert len(fleet.get("bulk", "/?size=5000000").body) == 5_000_000
    return fleet


@pytest.mark.slow
def test_down(bulk: Fleet) -> None:
    with (
        Growth([bulk.pid("router"), bulk.pid("worker", "bulk")]) as growth,
        Connection(bulk.http_port) as client,
    ):
        client.send(f"GET /?size={SIZE} HTTP/1.1\r\nHost: bulk.localhost\r\n\r\n".encode())
        status, fields = client.read_head()
        assert (status, dict(fields)["content-length"]) == (200, str(SIZE))
        got = 0
        for _ in range(20):  # slow: the worker could have sent it all meanwhile
            got += len(client.read_some())
            time.sleep(0.1)
        while got < SIZE:
            piece = client.read_some()
            assert piece
            got += len(piece)
    assert got == SIZE
    assert growth.most <= GROWTH


@pytest.mark.slow
@pytest.mark.parametrize("chunked", [False, True])
def test_up(bulk: Fleet, chunked: bool) -> None:
    piece = bytes(1_000_000)
    with (
        Growth([bulk.pid("router"), bulk.pid("worker", "bulk")]) as growth,
        Connection(bulk.http_port, 60) as client,
    ):
        framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {SIZE}"
        client.send(f"POST /?late=2000 HTTP/1.1\r\nHost: bulk.localhost\r\n{framing}\r\n\r\n".encode())
        for _ in range(SIZE // len(piece)):
            client.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            client.send(b"0\r\n\r\n")
        assert client.read_response().text == str(SIZE)
    assert growth.most <= GROWTH
