"""One document per connection, to whoever asks in whichever way, and a slow reader holds up nobody."""

import json
import socket
from collections.abc import Callable, Iterator

import pytest

from emperor.stats.server import SILENCE_S, StatsServer
from emperor.supervisor.loop import Loop
from tests.scenarios.harness import machine

DOCUMENT = json.dumps({"version": "x"}).encode() + b"\n"


class Served:
    """A server on a loopback port, and a loop to turn."""

    def __init__(self, document: bytes = DOCUMENT) -> None:
        self.loop = Loop()
        self.asked = 0
        self.document = document
        self.server = StatsServer(self.loop, self._give)
        listening = socket.create_server(("127.0.0.1", 0))
        self.port = listening.getsockname()[1]
        self.server.listen(listening, "here")
        self.clients: list[socket.socket] = []

    def _give(self, take: Callable[[bytes], None]) -> None:
        self.asked += 1
        take(self.document)

    def connect(self) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port))
        client.setblocking(False)
        self.clients.append(client)
        return client

    def read(self, client: socket.socket, deadline_s: float = 5.0) -> tuple[bytes, float]:
        """All that comes until the end, and how long it took."""
        start, found = self.loop.now(), b""
        while self.loop.now() < start + deadline_s:
            self.loop.step(0.01)
            try:
                chunk = client.recv(65536)
            except BlockingIOError:
                continue
            if not chunk:
                return found, self.loop.now() - start
            found += chunk
        raise AssertionError(f"no end within {deadline_s} s; so far {found[:100]!r}")

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.server.close()
        self.loop.close()


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    yield made
    made.close()


def test_a_client_that_says_nothing_is_answered_after_a_moment(served: Served) -> None:
    moment = machine.now()
    found, took = served.read(served.connect(), 30.0)
    assert found == DOCUMENT and took < SILENCE_S + machine.allowed(0.5, moment)


def test_a_client_that_has_closed_its_side_is_answered_at_once(served: Served) -> None:
    client = served.connect()
    client.shutdown(socket.SHUT_WR)
    assert served.read(client)[0] == DOCUMENT


def test_http_whole_and_byte_by_byte(served: Served) -> None:
    request = b"GET /any?thing HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n"
    for pieces in ([request], [bytes([byte]) for byte in request]):
        client = served.connect()
        for piece in pieces:
            client.send(piece)
            served.loop.step(0.0)
        head, _, body = served.read(client)[0].partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n") and b"Content-Type: application/json" in head
        assert f"Content-Length: {len(body)}".encode() in head and body == DOCUMENT
    assert served.asked == 2


def test_head_has_no_body_and_post_is_refused(served: Served) -> None:
    client = served.connect()
    client.send(b"HEAD / HTTP/1.1\r\n\r\n")
    assert served.read(client)[0].endswith(b"\r\n\r\n")
    client = served.connect()
    client.send(b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
    assert served.read(client)[0].startswith(b"HTTP/1.1 405 ")


def test_noise_gets_the_bare_document(served: Served) -> None:
    client = served.connect()
    client.send(b"\x00\x01\x02\x03")
    assert served.read(client)[0] == DOCUMENT


def test_a_slow_reader_holds_up_nobody() -> None:
    served = Served(b"x" * (16 << 20))
    try:
        slow = [served.connect() for _ in range(5)]
        for client in slow:
            client.send(b"GET / HTTP/1.0\r\n\r\n")
        end = served.loop.now() + 2
        while served.asked < 5 and served.loop.now() < end:
            served.loop.step(0.01)
        served.document = DOCUMENT
        moment = machine.now()
        found, took = served.read(served.connect(), 30.0)
        assert found == DOCUMENT and took < machine.allowed(0.5, moment)
        spent = served.loop.now()
        turns = 0
        while served.loop.now() < spent + 0.2:
            served.loop.step(0.1)
            turns += 1
        assert turns < 20, "waiting for a slow reader spins"
    finally:
        served.close()


def test_too_many_at_once_are_turned_away_and_room_comes_back(served: Served) -> None:
    crowd = [served.connect() for _ in range(70)]
    for client in crowd:
        client.send(b"GET / HTTP/1.1\r\n")  # and never the rest
    for _ in range(20):
        served.loop.step(0.01)
    assert len(served.server._connections) == 64
    for client in crowd:
        client.close()
    for _ in range(20):
        served.loop.step(0.01)
    assert served.read(served.connect())[0] == DOCUMENT
