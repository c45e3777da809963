"""A worker on another host, as section 11 of docs/specs/backplane.md has it: CURVE over tcp, no page."""

import os
import socket
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import zmq

from emperor.protocol import records
from emperor.protocol.records import NO_WORD
from tests.router.stage import Stage
from tests.router.worker import CREDIT, TIMEOUT_S, FakeWorker, Request, Seat
from tests.scenarios.harness.waiting import wait_for


def pair() -> tuple[str, str]:
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


SERVER = pair()
"""The router's."""


class Far:
    """Where a stage's router lets in workers of other hosts, and with which keys."""

    def __init__(self, stage: Stage, allowed: Mapping[str, Sequence[str]]) -> None:
        self.stage = stage
        self.sock = socket.socket()
        stage.closing.callback(self.sock.close)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.listen(64)
        self.sock.setblocking(False)
        self.allow(allowed)
        stage.tell("listen", [self.sock.fileno()], kind="workers", address="far")
        stage.closing.callback(stage.tell, "unlisten", kind="workers", address="far")

    @property
    def endpoint(self) -> str:
        return f"tcp://127.0.0.1:{self.sock.getsockname()[1]}"

    def allow(self, allowed: Mapping[str, Sequence[str]], secret: str = SERVER[1]) -> None:
        fd = os.memfd_create("key")
        try:
            os.write(fd, secret.encode())
            os.lseek(fd, 0, os.SEEK_SET)
            self.stage.tell("keys", [fd], apps={key: list(names) for key, names in allowed.items()})
        finally:
            os.close(fd)

    def stranger(
        self,
        key: tuple[str, str] | None,
        name: str = "blog",
        *,
        seat: int = 0,
        slots: int = 1,
        takes: int = 1000,
    ) -> "FarWorker":
        """One that has not said HELLO. Its host holds so many messages for it that it has not read (``takes``)."""
        seated = Seat(self.endpoint, name, 7, b"g" * 32, seat, 1, slots, 0)
        worker = FarWorker(self.stage.context, seated, key, takes)
        return self.stage.keep(worker)

    def worker(
        self, key: tuple[str, str], name: str = "blog", *, seat: int = 0, slots: int = 1, takes: int = 1000
    ) -> "FarWorker":
        """One that is ready."""
        before = self._ready(name)
        worker = self.stranger(key, name, seat=seat, slots=slots, takes=takes)
        worker.join()
        # Its READY is on its way: until it has come the app may have nobody.
        wait_for(lambda: self._ready(name) > before, TIMEOUT_S)
        return worker

    def _ready(self, name: str) -> int:
        app = self.stage.stats()["apps"].get(name) or {"links": []}
        return sum(bool(link["ready"] and link["host"]) for link in app["links"])

    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = self.stage.stats()["remote"]
        return report


class FarWorker(FakeWorker):
    """One worker. ``key`` is its pair; None: it does not speak CURVE."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        seat: Seat,
        key: tuple[str, str] | None,
        takes: int = 1000,
    ) -> None:
        self.key = key
        self.takes = takes
        self.seat = seat
        self.bell = self.router_bell = -1
        self.requests = None
        self.context = context
        self._waiting: deque[Any] = deque()
        self._sockets: list[zmq.Socket[bytes]] = []
        self.connect()

    def connect(self) -> None:
        """A new connection under a new identity."""
        self.identity = b"\x01" + os.urandom(15)
        self.socket: zmq.Socket[bytes] = self.context.socket(zmq.DEALER)
        self._sockets.append(self.socket)
        for option, value in (
            (zmq.ROUTING_ID, self.identity),
            (zmq.IMMEDIATE, 1),
            (zmq.RECONNECT_IVL, -1),
            (zmq.LINGER, 0),
            (zmq.SNDHWM, 0),
            (zmq.RCVHWM, self.takes),
            (zmq.SNDTIMEO, int(TIMEOUT_S * 1000)),
        ):
            self.socket.setsockopt(option, value)
        if self.key is not None:
            self.socket.setsockopt(zmq.CURVE_SERVERKEY, SERVER[0].encode())
            self.socket.setsockopt(zmq.CURVE_PUBLICKEY, self.key[0].encode())
            self.socket.setsockopt(zmq.CURVE_SECRETKEY, self.key[1].encode())
        self.socket.connect(self.seat.endpoint)
        self._waiting.clear()

    def is_let_in(self, within_s: float = TIMEOUT_S) -> bool:
        return bool(self.socket.poll(int(within_s * 1000), zmq.POLLOUT))

    def close(self) -> None:
        for each in self._sockets:
            each.close(0)

    def receive(self, timeout_s: float = TIMEOUT_S) -> Any:
        """The next record that is no PING, which it answers."""
        deadline = time.monotonic() + timeout_s
        while True:
            got = FakeWorker.receive(self, max(0.0, deadline - time.monotonic()))
            if got is None or got[0] != records.PING:
                return got
            self.send(records.pack(records.PONG, 0, NO_WORD, 0, got[4]))

    def hello(self, **changed: Any) -> None:
        for _ in range(5):
            if self.is_let_in(2.0):
                break
            # As a worker does: what did not come about is never revived.
            self.disconnect()
            self.connect()
        FakeWorker.hello(self, **{"router_seat": 0xFFFF, **changed})

    def welcomed(self) -> None:
        payload = self.expect(records.WELCOME)[4]
        version, self.deck, self.epoch, credit, window, self.nonce = records.unpack_welcome(payload)
        assert (version, self.deck, credit) == (records.VERSION, 0, CREDIT)
        assert window >= CREDIT

    def claim(self, request: Request) -> bool:
        assert request.word == NO_WORD
        return True

    def begin(self, request: Request, *, timed: bool = True) -> None:
        if not request.whole:
            self.send(records.pack_credit(request.stream, CREDIT))

    def let_go(self, request: Request) -> None:
        """There is no page."""

    def grant(self, count: int) -> None:
        self.send(records.pack_grant(count))

    def expect_slots(self, kind: int) -> int:
        """The number in the record of this type that must come."""
        return int(records.unpack_grant(self.expect(kind)[4]))
