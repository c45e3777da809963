"""A worker's link to a router on another host, which the test plays."""

import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from emperor.config.spec import RemoteRouter
from emperor.protocol import packet, records, scoreboard
from emperor.protocol.records import FIN, NO_WORD
from emperor.protocol.scoreboard import Board
from tests.scenarios.harness.waiting import wait_for
from vassals.worker.link import Exchange, Link

TIMEOUT_MS = 20_000
SHAPE = (2, 1, 2, 8)
NONCE = b"n" * records.NONCE_SIZE
PACKET = packet.encode([(b"REQUEST_METHOD", b"GET"), (b"PATH_INFO", b"/")])


class NoOrders:
    """Nobody says anything to this worker."""

    leave = ""
    turned = False

    def fds(self) -> list[int]:
        return []

    def take(self) -> None: ...
    def wish(self, reason: str) -> None: ...
    def tell(self, state: str, **details: object) -> None: ...
    def superseded(self) -> None: ...
    def lost(self) -> None: ...


class HastyLink(Link):
    """Notes how long it was to wait between two tries, and does not."""

    def __init__(self, **link: Any) -> None:
        super().__init__(**link)
        self.pauses: list[float] = []

    def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


class FarRouter:
    """Its ROUTER, and a link that has met it, once it was refused as often as is said."""

    def __init__(self, refuses: int = 0, code: int = 11) -> None:
        (server, secret), (ours, our_secret) = zmq.curve_keypair(), zmq.curve_keypair()
        self._zmq = zmq.Context()
        self.socket = self._zmq.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.CURVE_SERVER, 1)
        self.socket.setsockopt(zmq.CURVE_SECRETKEY, secret)
        port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        self._fd = scoreboard.create(*SHAPE)
        self.board = Board(self._fd, *SHAPE)
        self.link = HastyLink(
            endpoint=f"tcp://127.0.0.1:{port}",
            router_seat=0,
            seat=0,
            slots=1,
            generation=1,
            token=bytes(32),
            name="blog",
            board=self.board,
            orders=NoOrders(),
            log=lambda _text: None,
            remote=RemoteRouter(
                f"tcp://127.0.0.1:{port}", server.decode(), ours.decode(), our_secret.decode(), "ab" * 32
            ),
        )
        meets = threading.Thread(target=self.link.meet)
        meets.start()
        for _ in range(refuses):
            self.identity, hello = self._receive()
            self.send(records.pack_refused(code, "since the test says so"))
        self.identity, hello = self._receive()
        assert hello[0][0] == records.HELLO
        self.send(records.pack_welcome(0, 77, 262_144, 262_144, NONCE))
        assert self._receive()[1][0][0] == records.READY
        meets.join(TIMEOUT_MS / 1000)

    def _receive(self) -> tuple[bytes, list[tuple[int, int, int, int, bytes]]]:
        assert self.socket.poll(TIMEOUT_MS)
        identity, message = self.socket.recv_multipart()
        return identity, records.unpack(message)

    def receive(self) -> list[tuple[int, int, int]]:
        """Type, flags and stream of each record of the next message."""
        return [(each[0], each[1], each[3]) for each in self._receive()[1]]

    def send(self, *said: bytes) -> None:
        self.socket.send_multipart([self.identity, b"".join(said)])

    def request(self, *streams: int) -> Exchange:
        """In one message; the first of them runs."""
        self.send(
            *(records.pack_request(FIN | records.IDEMPOTENT, NO_WORD, each, PACKET, b"") for each in streams)
        )
        exchange = self.link.next()
        assert exchange is not None and exchange.stream == streams[0]
        return exchange

    def close(self) -> None:
        self.socket.close(0)
        self.link.part_from()
        self._zmq.destroy(0)
        self.board.close()
        os.close(self._fd)


@pytest.fixture
def router() -> Iterator[FarRouter]:
    made = FarRouter()
    yield made
    made.close()


def test_what_has_not_begun_is_returned_when_its_router_asks_for_all_of_it(router: FarRouter) -> None:
    exchange = router.request(1, 2, 3)
    router.send(records.pack(records.CANCEL, 0, NO_WORD, 0, b""))

    def heeded() -> bool:
        exchange.look()
        return bool(router.socket.poll(1))

    wait_for(heeded, TIMEOUT_MS / 1000)
    late = FIN | records.LATE
    assert router.receive() == [(records.RETURN, late, 2), (records.RETURN, late, 3)]
    assert exchange.gone == "", "what runs is finished"
    exchange.finish(b"200 OK\r\n", b"done")
    assert router.receive() == [(records.RESPONSE, FIN, 1)]
    # It takes what comes after that.
    router.request(2).finish(b"200 OK\r\n", b"done")
    assert router.receive() == [(records.RESPONSE, FIN, 2)]


@pytest.mark.parametrize(("code", "least_s", "most_s"), [(11, 0.01, 0.1), (10, 2.0, 2.0)])
def test_a_router_that_leaves_is_asked_again_sooner_than_one_that_refuses(
    code: int, least_s: float, most_s: float
) -> None:
    """Its successor is at the same door, and who opens is chance."""
    router = FarRouter(refuses=12, code=code)
    router.close()
    pauses = [each for each in router.link.pauses if each]
    assert len(pauses) == 12
    assert (min(pauses), max(pauses)) == (least_s, most_s)
