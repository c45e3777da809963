"""A worker that serves a router of another host as well: what it answers together, and what becomes of that."""

import random
from collections.abc import Iterator

import pytest
import zmq

from emperor.config.spec import RemoteRouter
from emperor.protocol import packet, records
from emperor.protocol.records import AGAIN, FIN, IDEMPOTENT, NO_WORD
from tests.scenarios.harness.waiting import wait_for
from tests.worker.peer import NONCE, TIMEOUT_S, WINDOW, Record, Stage, open_stage

APP = """
    import mmap, sys

    def application(environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/spins":
            sys.setswitchinterval(60)  # nobody else has the interpreter
            with open("go", "r+b") as file, mmap.mmap(file.fileno(), 1) as go:
                while not go[0]:
                    pass
            sys.setswitchinterval(0.005)
        start_response("200 OK", [])
        return [path.encode()]
"""

MAY_WAIT = IDEMPOTENT | AGAIN

UP_S = 60.0


class FarRouter:
    """The end of a router on another host, as section 11 of docs/specs/backplane.md has it."""

    def __init__(self) -> None:
        self.public, secret = (each.decode() for each in zmq.curve_keypair())
        self._zmq = zmq.Context()
        self.socket = self._zmq.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.CURVE_SERVER, 1)
        self.socket.setsockopt(zmq.CURVE_SECRETKEY, secret.encode())
        port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        self.address = f"tcp://127.0.0.1:{port}"
        self.epoch = 99
        self._last = 0
        self._identity = b""

    def remote(self) -> dict[str, str | int]:
        """As a worker's specification has it."""
        public, secret = (each.decode() for each in zmq.curve_keypair())
        return RemoteRouter(self.address, self.public, public, secret, "ab" * 32).to_json()

    def welcome(self) -> None:
        self._identity, hello = self.socket.recv_multipart()
        assert records.unpack(hello)[0][0] == records.HELLO
        self.send(records.pack_welcome(0, self.epoch, WINDOW, WINDOW, NONCE))
        (ready,) = self.message()
        assert ready[0] == records.READY and ready[1] & records.GIVES_BACK

    def send(self, *parts: bytes) -> None:
        self.socket.send_multipart([self._identity, b"".join(parts)])

    def offer(self, *paths: str, flags: int = MAY_WAIT) -> list[int]:
        """Whole requests, in one message. Returns their streams."""
        made = []
        for path in paths:
            self._last += 1
            pairs = {"REQUEST_METHOD": "GET", "REQUEST_URI": path, "PATH_INFO": path, "QUERY_STRING": ""}
            pairs |= {"SERVER_NAME": "localhost", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1"}
            encoded = packet.encode((name.encode(), value.encode()) for name, value in pairs.items())
            stream = self.epoch << 32 | self._last
            made.append((stream, records.pack_request(FIN | flags, NO_WORD, stream, encoded, b"")))
        self.send(*(record for _, record in made))
        return [stream for stream, _ in made]

    def message(self, timeout_s: float = TIMEOUT_S) -> list[Record]:
        """The records of the next one."""
        assert self.socket.poll(int(timeout_s * 1000)), "nothing comes"
        identity, message = self.socket.recv_multipart()
        assert identity == self._identity
        return records.unpack(message)

    def answers(self, streams: list[int]) -> list[list[Record]]:
        """The messages in which all of these are answered, each once and in their turn."""
        messages: list[list[Record]] = []
        while sum(map(len, messages)) < len(streams):
            messages.append(self.message())
        assert [record[3] for message in messages for record in message] == streams
        assert {record[0] for message in messages for record in message} == {records.RESPONSE}
        return messages

    def close(self) -> None:
        self.socket.close(0)
        self._zmq.destroy(0)


@pytest.fixture
def stage() -> Iterator[Stage]:
    with open_stage(routers=2) as stage:
        yield stage


@pytest.fixture
def far() -> Iterator[FarRouter]:
    far = FarRouter()
    yield far
    far.close()


def serving(stage: Stage, far: FarRouter) -> None:
    stage.router()  # of its own host: it is there, and has nothing to do
    worker = stage.worker(APP, remotes=[far.remote()])
    worker.told("loaded")
    far.welcome()


def test_answers_go_together_while_the_next_request_is_here(stage: Stage, far: FarRouter) -> None:
    serving(stage, far)
    paths = [f"/{number}" for number in range(8)]

    def together() -> bool:
        """Not when the machine puts the worker aside between any two."""
        return len(far.answers(far.offer(*paths))) < len(paths)

    wait_for(together, UP_S)
    # And what comes alone is answered at once.
    assert len(far.answers(far.offer("/alone"))) == 1


def test_what_would_not_be_run_again_is_answered_by_itself(stage: Stage, far: FarRouter) -> None:
    serving(stage, far)
    for _ in range(4):
        streams = far.offer("/1", "/2", "/3", flags=IDEMPOTENT)
        assert len(far.answers(streams)) == len(streams)


def test_an_answer_does_not_wait_for_a_request_that_runs_long(stage: Stage, far: FarRouter) -> None:
    """Not even where that lets nobody else have the interpreter."""
    serving(stage, far)
    go = stage.directory / "go"
    go.write_bytes(b"\0")
    far.answers(far.offer("/warm"))
    quick, spins = far.offer("/quick", "/spins")
    far.answers([quick])
    with go.open("r+b") as file:
        file.write(b"\1")
    far.answers([spins])


def test_what_comes_is_seen_however_it_comes(stage: Stage, far: FarRouter) -> None:
    """In one message or in several, to be kept or not, while the worker runs, looks, sends or goes to sleep: it does not look
    at a socket whose descriptor says nothing, unless it has made a call on it since it looked last."""
    serving(stage, far)
    chance = random.Random(11)
    for _ in range(2000):
        streams = []
        for _ in range(chance.choice((1, 1, 2, 5))):
            paths = ["/"] * chance.choice((1, 1, 2, 3, 40))
            streams += far.offer(*paths, flags=chance.choice((MAY_WAIT, MAY_WAIT, IDEMPOTENT)))
        far.answers(streams)
