"""The other ends of a worker, in the test's process: a router that speaks docs/specs/backplane.md over a real
ROUTER socket, the page, the leash and the log pipe."""

import contextlib
import itertools
import json
import mmap
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq

from emperor.config.spec import AppSpec, EngineSpec
from emperor.protocol import chute, packet, records, ring, scoreboard
from emperor.protocol.bell import ring_worker
from emperor.protocol.chute import Chute
from emperor.protocol.records import CREDIT, DATA, FIN, NO_WORD, RESPONSE
from emperor.protocol.ring import Reader, Writer
from emperor.protocol.scoreboard import DOWN, UP
from emperor.supervisor.bells import Bells
from tests.scenarios.harness.waiting import wait_for

TOKEN = "ab" * 32
NONCE = b"n" * 16
TIMEOUT_S = 10.0
WINDOW = 256 * 1024
OTHER_STREAM = 0xFFFF
DECK = 8
LAUNCH = Path(__file__).with_name("launch.py")


@dataclass
class Reply:
    """What came back for one request. `aborted` is None, or the reason of the ABORT."""

    head: str = ""
    body: bytes = b""
    aborted: str | None = None
    records: list[int] = field(default_factory=list)

    @property
    def status(self) -> str:
        return self.head.partition("\r\n")[0]

    def header(self, name: str) -> str | None:
        for line in self.head.split("\r\n")[1:]:
            key, _, value = line.partition(": ")
            if key.lower() == name.lower():
                return value
        return None


Record = tuple[int, int, int, int, bytes]


def cost(type: int, piece: bytes) -> int:
    """The credit that a record with these bytes of a response took."""
    return max(len(piece), records.DATA_LEAST) if type == DATA else len(piece)


class Router:
    """One incarnation of the router's end."""

    def __init__(self, stage: "Stage", epoch: int, seat: int = 0) -> None:
        self.stage = stage
        self.seat = seat
        self.epoch = epoch
        self.identity = b""
        self.hello: tuple[Any, ...] = ()
        self.free = 0
        self.ring: Reader | None = None
        self.by_ring = 0  # requests that went there
        self._counter = itertools.count(1)
        self._waiting: list[Record] = []
        self._zmq = zmq.Context()
        self.socket = self._zmq.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        # Adopted as the emperor's routers adopt it: the listening socket outlives every router.
        self.socket.setsockopt(zmq.USE_FD, os.dup(stage.listeners[seat].fileno()))
        self.socket.bind(f"ipc://{stage.endpoints[seat]}")

    def close(self) -> None:
        self.socket.close(0)
        self._zmq.destroy(0)

    def receive(self, timeout_s: float = TIMEOUT_S) -> tuple[bytes, Record] | None:
        """The next record of any link."""
        while not self._waiting:
            if not self._heard(timeout_s):
                return None
            if self._waiting:
                break
            identity, message = self.socket.recv_multipart()
            if identity != self.identity:
                return identity, records.unpack(message)[0]
            for record in records.unpack(message):
                self._waiting += self._called() if record[0] == records.CALL else [record]
        return self.identity, self._waiting.pop(0)

    def _heard(self, timeout_s: float) -> bool:
        """A message has come, or what a bell was rung for is in ``_waiting``. False: neither, in time."""
        bell = self.bell
        poller = zmq.Poller()
        poller.register(self.socket, zmq.POLLIN)
        if bell >= 0:
            poller.register(bell, zmq.POLLIN)
        deadline = time.monotonic() + timeout_s
        while ready := dict(poller.poll(max(0, int((deadline - time.monotonic()) * 1000)))):
            if bell in ready:
                os.eventfd_read(bell)
                self._waiting += self._called()
            if self._waiting or self.socket in ready:
                return True
        return False

    @property
    def bell(self) -> int:
        return -1 if self.stage.bells is None else self.stage.bells.for_router(self.seat)[0]

    def _called(self) -> list[Record]:
        """What is in the ring. This router never looks by itself: whoever puts something there while it rests must call."""
        if self.ring is None:
            return []  # an earlier router was meant
        self.ring.rest(self.bell >= 0)
        return records.unpack(self.ring.take())

    def expect(self, type: int, timeout_s: float = TIMEOUT_S) -> Record:
        """The next record of the current link, which must be of this type."""
        got = self.receive(timeout_s)
        assert got is not None, f"no {records.NAMES[type]} within {timeout_s} s"
        assert records.NAMES[got[1][0]] == records.NAMES[type], got[1]
        return got[1]

    def expect_nothing(self, for_s: float = 0.2) -> None:
        got = self.receive(for_s)
        assert got is None, got

    def meet(self) -> None:
        """Waits for a HELLO and takes its link for the current one."""
        self._waiting.clear()
        got = self.receive()
        assert got is not None, "no HELLO"
        self.identity, (type, _, word, stream, payload) = got
        assert (type, word, stream) == (records.HELLO, NO_WORD, 0)
        self.hello = records.unpack_hello(payload)

    def welcome(
        self, *, credit: int = WINDOW, window: int = 4 * WINDOW, deck: int = DECK, chutes: bool = False
    ) -> None:
        """The handshake, to READY. Without ``chutes`` the one for responses is another's, and stays so."""
        self.meet()
        self.ring = Reader(self.stage.board, 0, self.seat)
        self.ring.rest(self.bell >= 0)
        self.requests = Writer(self.stage.board, 0, self.seat, UP)
        self.requests.offer_nothing()
        self.down = Chute(self.stage.board, 0, self.seat, DOWN)
        self.up = Chute(self.stage.board, 0, self.seat, UP)
        self.down.clear()
        self.up.clear()
        if not chutes:
            assert self.down.enter(OTHER_STREAM)
        self.send(records.pack_welcome(deck, self.epoch, credit, window, NONCE))
        *_, payload = self.expect(records.READY)
        nonce, self.free = records.unpack_ready(payload)
        assert nonce == NONCE
        self.take()

    def take(self) -> int:
        """Takes all slots that nobody holds. Returns how many."""
        board = self.stage.board
        if board.routers == 1:
            return 0
        return sum(board.take(0, slot, self.epoch) for slot in range(board.slots))

    def release(self, slot: int = 0) -> None:
        """Lets go of a slot, and says so."""
        assert self.stage.board.release(0, slot, self.epoch)
        self.send(records.pack(records.RELEASE, 0, NO_WORD, 0, records.pack_slots(1)))

    def refuse(self, code: int, reason: str) -> None:
        self.meet()
        self.send(records.pack_refused(code, reason))

    def send(self, *parts: bytes) -> None:
        """Records as one message."""
        self.socket.send_multipart([self.identity, b"".join(parts)])

    def new_stream(self) -> int:
        return self.epoch << 32 | next(self._counter)

    def offer(
        self,
        variables: dict[str, str] | None = None,
        body: bytes = b"",
        *,
        word: int = NO_WORD,
        fin: bool = True,
    ) -> tuple[int, bytes]:
        """A new stream and its REQUEST record, offered on the page under `word`, not sent yet."""
        stream = self.new_stream()
        if word != NO_WORD:
            assert self.stage.board.offer(0, self.seat, word, stream)
        pairs = {
            "REQUEST_METHOD": "GET",
            "REQUEST_URI": "/",
            "PATH_INFO": "/",
            "QUERY_STRING": "",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            **(variables or {}),
        }
        encoded = packet.encode((k.encode("latin-1"), v.encode("latin-1")) for k, v in pairs.items())
        return stream, records.pack_request(FIN if fin else 0, word, stream, encoded, body)

    def request(self, variables: dict[str, str] | None = None, body: bytes = b"", **options: Any) -> int:
        stream, record = self.offer(variables, body, **options)
        if self.bell < 0 or not self.put(record):
            self.send(record)
        return stream

    def put(self, record: bytes) -> bool:
        """A whole request into the ring, and ring. False: it does not go there."""
        _, flags, word, stream, payload = records.unpack(record)[0]
        if not flags & FIN or not self.requests.is_read():
            return False
        if not self.requests.put_request(flags, word, stream, payload, b""):
            return False
        self.by_ring += 1
        self.ring_worker()
        return True

    def ring_worker(self, *, always: bool = False) -> None:
        """If it rests."""
        how = self.requests.must_call()
        if how or always:
            assert how in (ring.BY_BELL, ring.NEITHER) and self.stage.bells is not None
            ring_worker(self.stage.bells.for_router(self.seat)[1])

    def get(self, path: str = "/", **options: Any) -> Reply:
        return self.reply(self.request({"PATH_INFO": path, "REQUEST_URI": path}, **options))

    def reply(self, stream: int, *, credit: bool = True) -> Reply:
        """All of the response to `stream`; gives credit back as a router does, unless told not to."""
        reply = Reply()
        while True:
            got = self.receive()
            assert got is not None, f"the response stops after {reply.records}"
            type, flags, _, at, payload = got[1]
            if type in (records.GRANT, records.RECALL):
                continue  # it only says that it may be worth a look
            assert at == stream, f"{records.NAMES[type]} for {at:#x}, wanted {stream:#x}"
            reply.records.append(type)
            piece = b""
            if type == RESPONSE:
                _, head, piece = records.unpack_response(payload)
                reply.head = head.decode("latin-1")
            elif type == DATA:
                piece = payload
            elif type == records.ABORT:
                reply.aborted = payload.decode()
                return reply
            elif type != CREDIT:
                raise AssertionError(f"{records.NAMES[type]} in a response")
            reply.body += piece
            if flags & FIN:
                return reply
            if piece and credit:
                count = cost(type, piece)
                self.send(records.pack_credit(stream, count), records.pack_credit(0, count))

    def wake(self, chute: Chute, stream: int) -> None:
        """As a router does that has moved bytes in a chute."""
        if chute.wake():
            self.send(records.pack_credit(stream, 0))

    def by_chute(self, stream: int, *, most: int = 1 << 20) -> Reply:
        """What follows BY-CHUTE of a response, to its end; the chute is free then."""
        reply = Reply()
        self.down.lend(stream)
        last = time.monotonic()
        # A CALL ends no wait for a record: it is short.
        while (got := self.receive(0.001)) is None or got[1][0] == CREDIT:
            if piece := self.down.take(most):
                last = time.monotonic()
                reply.body += piece
                self.wake(self.down, stream)
            assert time.monotonic() < last + TIMEOUT_S, f"the response stops after {len(reply.body)} bytes"
        reply.body += self.down.take(1 << 20)
        type, flags, _, at, payload = got[1]
        assert at == stream
        reply.records.append(type)
        if type == records.ABORT:
            reply.aborted = payload.decode()
        else:
            assert (type, flags, payload) == (DATA, FIN, b"")
        self.down.clear()
        return reply

    def lend(self, stream: int) -> None:
        """The rest of its body goes up by chute."""
        self.up.lend(stream)
        self.send(records.pack(records.BY_CHUTE, 0, NO_WORD, stream, b""))

    def lift(self, stream: int, body: bytes) -> None:
        """All of it, as the worker takes it; then the end."""
        at = 0

        def more() -> bool:
            nonlocal at
            at += self.up.put(body, at)
            self.wake(self.up, stream)
            return at == len(body)

        wait_for(more, TIMEOUT_S, lambda: f"stuck after {at} bytes", every_s=0.001)
        if self.up.end(chute.WHOLE):
            self.send(records.pack_credit(stream, 0))

    def replies(self, streams: Iterable[int], *, credit: bool = True) -> dict[int, Reply]:
        """The responses to all of these, which may come mixed; credit as in `reply`."""
        found = {stream: Reply() for stream in streams}
        open_ = set(found)
        while open_:
            got = self.receive()
            assert got is not None, f"the responses to {open_} stop"
            type, flags, _, at, payload = got[1]
            assert at in open_, f"{records.NAMES[type]} for {at:#x}, wanted {open_}"
            reply, piece = found[at], b""
            reply.records.append(type)
            if type == RESPONSE:
                _, head, piece = records.unpack_response(payload)
                reply.head = head.decode("latin-1")
            elif type == DATA:
                piece = payload
            elif type == records.ABORT:
                reply.aborted = payload.decode()
            reply.body += piece
            if flags & FIN:
                open_.remove(at)
            elif piece and credit:
                count = cost(type, piece)
                self.send(records.pack_credit(at, count), records.pack_credit(0, count))
        return found


class Worker:
    """The worker's process, with the gateway's ends of its leash and log pipe."""

    def __init__(self, stage: "Stage", spec: dict[str, Any], environment: dict[str, str]) -> None:
        self.leash, theirs = socket.socketpair()
        self.log_fd, log_write = os.pipe()
        bells = stage.bells.for_gateway() if stage.bells is not None else []
        arguments = [json.dumps(spec), 0, stage.board_fd, theirs.fileno(), self.log_fd, *bells]
        self.process = subprocess.Popen(
            [sys.executable, str(LAUNCH), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=log_write,
            stderr=log_write,
            pass_fds=(stage.board_fd, theirs.fileno(), self.log_fd, *bells),
            env={**os.environ, **environment},
            start_new_session=True,
        )
        theirs.close()
        os.close(log_write)
        self._told = b""
        self._log = b""

    def turn(self, *routers: tuple[int, str]) -> None:
        """What a gateway says of the routers that there are."""
        self.leash.send(json.dumps({"op": "routers", "routers": routers}).encode() + b"\n")

    def told(self, state: str | None) -> dict[str, Any]:
        """The next thing on the leash, which must be of this state; None: of any."""
        self.leash.settimeout(TIMEOUT_S)
        while b"\n" not in self._told:
            piece = self.leash.recv(65536)
            assert piece, f"the worker left without saying {state}: {self.log()}"
            self._told += piece
        line, _, self._told = self._told.partition(b"\n")
        document: dict[str, Any] = json.loads(line)
        assert state in (None, document["state"]), document
        return document

    def log(self) -> str:
        """What the worker has written so far."""
        while select.select([self.log_fd], [], [], 0)[0]:
            piece = os.read(self.log_fd, 65536)
            if not piece:
                break
            self._log += piece
        return self._log.decode()

    def wait_log(self, text: str) -> str:
        return wait_for(lambda: text in self.log() and self._log.decode(), TIMEOUT_S, self.log)

    def order(self, op: str) -> None:
        self.leash.sendall(json.dumps({"op": op}).encode() + b"\n")

    def exit_code(self, timeout_s: float = TIMEOUT_S) -> int:
        return self.process.wait(timeout_s)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(TIMEOUT_S)
        self.leash.close()
        os.close(self.log_fd)


class Stage:
    """A directory, a backplane endpoint held open as the emperor holds it, and a page of one seat with `slots`. ``bells``:
    the seat and the router have one, and what may go by the ring of requests does."""

    def __init__(self, directory: Path, slots: int = 1, bells: bool = True, routers: int = 1) -> None:
        self.directory = directory
        self.slots = slots
        self.routers = routers
        self.endpoints = [str(directory / f"bp{seat or ''}") for seat in range(routers)]
        self.endpoint = self.endpoints[0]
        self.listeners = []
        for endpoint in self.endpoints:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(endpoint)
            listener.listen(64)
            listener.setblocking(False)
            self.listeners.append(listener)
        self.board_fd = scoreboard.create(1, slots, routers, DECK)
        self.board = scoreboard.Board(self.board_fd, 1, slots, routers, DECK)
        self.bells = Bells(1, routers) if bells else None
        self._epochs = itertools.count(7)
        self._closing = contextlib.ExitStack()

    def router(self, seat: int = 0) -> Router:
        router = Router(self, next(self._epochs), seat)
        self._closing.callback(router.close)
        return router

    def worker(self, source: str, *, environment: dict[str, str] | None = None, **options: Any) -> Worker:
        """A worker of an app module with this source. `options` override the app's spec or the gateway's."""
        (self.directory / "blog.py").write_text(textwrap.dedent(source))
        app = AppSpec(module="blog", chdir=str(self.directory)).to_json()
        spec = {
            "name": "blog",
            "generation": 3,
            "processes": 1,
            "seats": 1,
            "recycling": {},
            "hooks": {},
            "slots": self.slots,
            "deck": DECK,
            "routers": self.routers,
            "router_seat": 0,
            "remotes": [],
            "endpoint": self.endpoint,
            "token": TOKEN,
            "stop_timeout_s": 8.0,
            "need_app": True,
            "config_path": str(self.directory / "blog.ini"),
            "ready_path": "",
            "code_s": 0.0,
            "code_ignore": [],
            "watched": [],
            "ready_host": "blog.example.com",
        }
        engine = EngineSpec(slots=self.slots).to_json()
        for key, value in options.items():
            (app if key in app else engine if key in engine else spec)[key] = value
        worker = Worker(self, {**spec, "app": app, "engine": engine}, environment or {})
        self._closing.callback(worker.close)
        return worker

    def serving(self, source: str, **options: Any) -> tuple[Router, Worker]:
        """A router and a worker that has said READY to it."""
        router = self.router()
        worker = self.worker(source, **options)
        worker.told("loaded")
        router.welcome()
        worker.told("ready")
        return router, worker

    @contextlib.contextmanager
    def page(self) -> Iterator[mmap.mmap]:
        """Its bytes."""
        with mmap.mmap(self.board_fd, scoreboard.size_bytes(1, self.slots, self.routers, DECK)) as page:
            yield page

    def word(self, index: int) -> str:
        return scoreboard.STATE_NAMES[self.board.state(0, 0, index)[1]]

    def running(self) -> int:
        """The stream that the page says is running; 0 for none."""
        return self.board.slot(0, 0)[0]

    def all_running(self) -> set[int]:
        """The streams that the page says are running."""
        return {self.board.slot(0, slot)[0] for slot in range(self.slots)} - {0}

    def wait_all_running(self, *streams: int) -> None:
        wait_for(lambda: self.all_running() == set(streams), TIMEOUT_S, lambda: f"{self.all_running()}")

    def wait_running(self, stream: int) -> None:
        wait_for(lambda: self.running() == stream, TIMEOUT_S, lambda: f"running: {self.running():#x}")

    def close(self) -> None:
        self._closing.close()
        self.board.close()
        os.close(self.board_fd)
        if self.bells is not None:
            self.bells.close()
        for listener in self.listeners:
            listener.close()


@contextlib.contextmanager
def open_stage(slots: int = 1, bells: bool = True, routers: int = 1) -> Iterator[Stage]:
    # pytest's own directories can be longer than a socket's path may be.
    directory = Path(tempfile.mkdtemp(prefix="ev-"))
    stage = Stage(directory, slots, bells, routers)
    try:
        yield stage
    finally:
        stage.close()
        shutil.rmtree(directory)


def file_has(path: Path, text: str) -> bool:
    return path.exists() and text in path.read_text()


def now() -> float:
    return time.monotonic()
