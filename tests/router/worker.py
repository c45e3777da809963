"""A worker's end of the backplane, as docs/specs/backplane.md has it, that does only what a test tells it to: raw pyzmq
and the page, none of `vassals.worker`, so that both readings of the specification meet in the tests."""

import contextlib
import fcntl
import os
import signal
import stat
import termios
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import zmq

from emperor.protocol import bell, chute, packet, records, ring
from emperor.protocol.chute import Chute
from emperor.protocol.records import FIN, NO_WORD
from emperor.protocol.ring import Reader, Writer
from emperor.protocol.scoreboard import DOWN, STATE_NAMES, UP, Board
from tests.scenarios.harness.waiting import wait_for

Record = tuple[int, int, int, int, bytes]
TIMEOUT_S = 10.0
CREDIT = 256 * 1024


@dataclass(frozen=True)
class Seat:
    """All that a worker is told by its gateway."""

    endpoint: str
    name: str
    generation: int
    token: bytes
    seat: int
    seats: int
    slots: int
    deck: int
    routers: int = 1


@dataclass
class Request:
    """A REQUEST as it came. ``body`` is what came with it; ``whole`` when that is all."""

    word: int
    stream: int
    flags: int
    variables: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.variables["PATH_INFO"]

    @property
    def whole(self) -> bool:
        return bool(self.flags & FIN)


class Cancelled(Exception):
    """The client has gone inside its body."""


def shown(record: Record) -> str:
    kind, flags, word, stream, payload = record
    return f"{records.NAMES.get(kind, kind)} flags {flags} word {word} stream {stream:#x} {payload[:80]!r}"


class FakeWorker:
    """One worker process's seat. Use from one thread."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        seat: Seat,
        board_fd: int,
        bells: tuple[int, int] = (-1, -1),
    ) -> None:
        """``bells`` are its own and the router's; without them it takes and sends all by messages but its responses."""
        self.bell, self.router_bell = bells
        self.requests: Reader | None = None
        self.seat = seat
        self.board = Board(board_fd, seat.seats, seat.slots, seat.routers, seat.deck)
        self.down = Chute(self.board, seat.seat, 0, DOWN)
        self.up = Chute(self.board, seat.seat, 0, UP)
        self.context = context
        self.identity = b""
        self.epoch = 0
        self.nonce = b""
        self.deck = 0
        self._waiting: deque[Record] = deque()
        self._sockets: list[zmq.Socket[bytes]] = []
        self.connect()

    def connect(self) -> None:
        """A new connection under a new identity; the old one stays, unread."""
        self.requests = None
        self.identity = b"\x01" + os.urandom(15)
        self.socket: zmq.Socket[bytes] = self.context.socket(zmq.DEALER)
        self._sockets.append(self.socket)
        self.socket.setsockopt(zmq.ROUTING_ID, self.identity)
        self.socket.setsockopt(zmq.IMMEDIATE, 1)
        self.socket.setsockopt(zmq.RECONNECT_IVL, -1)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.SNDHWM, 0)
        self.socket.setsockopt(zmq.SNDTIMEO, int(TIMEOUT_S * 1000))
        self.socket.connect("ipc://" + self.seat.endpoint)
        self._waiting.clear()

    def disconnect(self) -> None:
        self.socket.close(0)

    def close(self) -> None:
        for each in self._sockets:
            each.close(0)
        self.board.close()

    # Records

    def send(self, *parts: bytes) -> None:
        """Records as one message."""
        self.socket.send(b"".join(parts))

    def send_frames(self, *frames: bytes) -> None:
        self.socket.send_multipart(list(frames))

    def receive(self, timeout_s: float = TIMEOUT_S) -> Record | None:
        """The next record; None when none came in time."""
        while not self._waiting:
            if self.requests is not None:
                if not self._take_in(self.requests, timeout_s):
                    return None
                continue
            if not self.socket.poll(int(timeout_s * 1000)):
                return None
            self._waiting.extend(records.unpack(self.socket.recv()))
        return self._waiting.popleft()

    def _take_in(self, requests: Reader, timeout_s: float) -> bool:
        """What has come by the ring, or after a rest by either. False: nothing, in time."""
        requests.rest(True)
        if not requests.has():
            poller = zmq.Poller()
            poller.register(self.socket, zmq.POLLIN)
            poller.register(self.bell, zmq.POLLIN)
            ready = dict(poller.poll(int(timeout_s * 1000)))
            if not ready:
                return False
            if self.bell in ready:
                bell.hear(self.bell)
            if self.socket in ready:
                self._waiting.extend(records.unpack(self.socket.recv()))
        requests.watch()
        self._waiting.extend(records.unpack(requests.take()))
        return True

    def expect_any(self) -> Record:
        """The next record, whatever it is."""
        got = self.receive()
        assert got is not None, "no record came"
        return got

    def expect(self, kind: int) -> Record:
        """The next record, which must be of this type."""
        got = self.receive()
        assert got is not None, f"no {records.NAMES[kind]} came"
        assert got[0] == kind, f"{shown(got)} instead of {records.NAMES[kind]}"
        return got

    def expect_nothing(self, for_s: float = 0.1) -> None:
        got = self.receive(for_s)
        assert got is None, shown(got)

    def expect_refused(self) -> int:
        """The code of the REFUSED that must come; credit given before it is read over."""
        while (got := self.receive()) is not None and got[0] == records.CREDIT:
            pass
        assert got is not None, "no REFUSED came"
        assert got[0] == records.REFUSED, shown(got)
        return records.unpack_refused(got[4])[0]

    def expect_cancel(self, request: Request) -> None:
        """The CANCEL of a request that must come; pieces of its body before it are read over."""
        while (got := self.receive()) is not None and got[0] == records.DATA:
            pass
        assert got is not None, "no CANCEL came"
        assert (got[0], got[3]) == (records.CANCEL, request.stream), shown(got)

    # Handshake

    def hello(self, **changed: Any) -> None:
        seat = self.seat
        says: dict[str, Any] = {
            "router_seat": 0,
            "seat": seat.seat,
            "slots": seat.slots,
            "generation": seat.generation,
            "token": seat.token,
            "name": seat.name,
            "version": records.VERSION,
            **changed,
        }
        self.send(records.pack_hello(**says))

    def welcomed(self) -> None:
        """Read the WELCOME, and free what the last connection left revoked."""
        payload = self.expect(records.WELCOME)[4]
        version, self.deck, self.epoch, credit, window, self.nonce = records.unpack_welcome(payload)
        assert (version, credit, window) == (records.VERSION, CREDIT, CREDIT * self.seat.slots)
        self.board.reclaim(self.seat.seat, 0)
        self.ring = Writer(self.board, self.seat.seat, 0)
        self.ring.begin()
        if self.bell >= 0:
            self.requests = Reader(self.board, self.seat.seat, 0, UP)
            self.requests.begin()
            self.requests.watch()

    def ready(
        self,
        nonce: bytes | None = None,
        free: int | None = None,
        weight: int = records.NO_WORD,
        flags: int = 0,
    ) -> None:
        self.send(
            records.pack_ready(
                self.nonce if nonce is None else nonce,
                self.seat.slots if free is None else free,
                flags,
                weight,
            )
        )

    def join(self) -> None:
        """The whole handshake."""
        self.hello()
        self.welcomed()
        self.ready()

    def bye(self) -> None:
        self.send(records.pack(records.BYE, 0, NO_WORD, 0, b""))

    # Requests

    def met(self, record: Record) -> Request:
        _, flags, word, stream, payload = record
        end = 4 + int.from_bytes(payload[1:3], "little")
        _, _, pairs = packet.decode(payload[:end])
        variables = {key.decode(): value.decode("latin-1") for key, value in pairs}
        return Request(word, stream, flags, variables, payload[end:])

    def offered(self) -> Request:
        """The next REQUEST, met and not claimed."""
        return self.met(self.expect(records.REQUEST))

    def claim(self, request: Request) -> bool:
        """False: revoked; its word is free again, as a worker leaves it."""
        if request.word == NO_WORD:
            return True
        if self.board.claim(self.seat.seat, 0, request.word, request.stream):
            return True
        self.board.free(self.seat.seat, 0, request.word)
        return False

    def begin(self, request: Request, *, timed: bool = True) -> None:
        """Into app code: the page's slot, and the begun signal if the body is still coming."""
        if timed:
            self.board.begin(self.seat.seat, 0, request.stream)
        if not request.whole:
            self.send(records.pack_credit(request.stream, CREDIT))

    def take(self, *, timed: bool = True) -> Request:
        """The next REQUEST, claimed and begun.

        Not `timed`, the page does not say since when it runs. To the router it is then always young, and others are put on
        deck behind it however slow the machine is.
        """
        request = self.offered()
        assert self.claim(request), f"{request} was revoked"
        self.begin(request, timed=timed)
        return request

    def word_state(self, request: Request) -> str:
        return STATE_NAMES[self.board.state(self.seat.seat, 0, request.word)[1]]

    def rest_of_body(self, request: Request) -> bytes:
        """What follows the first part, given credit as it comes. Requests that come meanwhile wait on the deck.

        Raises Cancelled.
        """
        body = bytearray()
        whole = request.whole
        deck: list[Record] = []
        while not whole:
            got = self.receive()
            assert got is not None, f"the body stops after {len(body)} bytes"
            kind, flags, _, stream, payload = got
            if kind == records.REQUEST:
                deck.append(got)
                continue
            if (kind, stream) == (records.CANCEL, request.stream):
                raise Cancelled
            if (kind, stream) == (records.BY_CHUTE, request.stream):
                assert self.up.enter(stream)
                self.draw(body)
                break
            assert (kind, stream) == (records.DATA, request.stream), shown(got)
            body += payload
            whole = bool(flags & FIN)
            if not whole:
                self.send(records.pack_credit(stream, len(payload)))
        self._waiting.extendleft(reversed(deck))
        return bytes(body)

    def draw(self, into: bytearray, size: int = -1) -> None:
        """The rest of a body out of the chute, or until there are ``size`` bytes in all, calling as it gets empty. Raises
        Cancelled."""

        def more() -> bool:
            # In this order: the word that it is whole comes after the last bytes.
            ended = self.up.ended()
            if piece := self.up.take(100_000):
                into.extend(piece)
                if self.up.calls() and self.ring.must_call():
                    self.call()
            elif ended == chute.GONE:
                raise Cancelled
            return len(into) == size or (not piece and ended == chute.WHOLE)

        wait_for(more, TIMEOUT_S, lambda: f"the body stops after {len(into)} bytes", every_s=0.0)

    # Answers

    def let_go(self, request: Request) -> None:
        """The page, before the last record: slot and word are free."""
        self.board.end(self.seat.seat, 0)
        if request.word != NO_WORD:
            self.board.free(self.seat.seat, 0, request.word)

    def respond(
        self, request: Request, head: str = "200 OK\r\n", body: bytes = b"", *, fin: bool = True
    ) -> None:
        if fin:
            self.let_go(request)
        self.send(
            records.pack_response(FIN if fin else 0, NO_WORD, request.stream, 0, head.encode("latin-1"), body)
        )

    def put(self, request: Request, body: bytes = b"", *, call: bool = True) -> bool:
        """A whole response into the ring. Returns whether the router had to be called, which with ``call`` it was."""
        self.let_go(request)
        assert self.ring.put(request.stream, 0, b"200 OK\r\n", body)
        must = self.ring.must_call()
        if must and call:
            self.call(by_bell=must == ring.BY_BELL)
        return bool(must)

    def call(self, *, by_bell: bool = False) -> None:
        if by_bell and self.router_bell >= 0:
            bell.ring_router(self.router_bell)
            return
        self.send(records.pack(records.CALL, 0, NO_WORD, 0, b""))

    def respond_after(self, request: Request, service_us: int) -> None:
        """A whole response into the ring, of an app that took so long by the worker's word."""
        self.let_go(request)
        assert self.ring.put(request.stream, service_us, b"200 OK\r\n", b"")
        if self.ring.must_call():
            self.call()

    def data(self, request: Request, body: bytes = b"", *, fin: bool = False) -> None:
        if fin:
            self.let_go(request)
        self.send(records.pack(records.DATA, FIN if fin else 0, NO_WORD, request.stream, body))

    def enter(self, request: Request) -> None:
        """Its response goes by chute from now on."""
        assert self.down.enter(request.stream)
        self.send(records.pack(records.BY_CHUTE, 0, NO_WORD, request.stream, b""))

    def pour(self, body: bytes, start: int = 0) -> int:
        """What of a response goes into the chute now. Returns how many bytes; calls a router that rests."""
        count = self.down.put(body, start)
        if count and self.down.calls() and self.ring.must_call():
            self.call()
        return count

    def pour_all(self, body: bytes) -> None:
        """All of it, as the client takes it."""
        at = 0

        def more() -> bool:
            nonlocal at
            at += self.pour(body, at)
            return at == len(body)

        wait_for(more, TIMEOUT_S, lambda: f"stuck after {at} of {len(body)} bytes", every_s=0.0)

    def give_back(self, request: Request) -> None:
        """RETURN: the request is claimed, and not begun."""
        self.let_go(request)
        self.send(records.pack(records.RETURN, FIN, NO_WORD, request.stream, b""))

    def give_back_late(self, *requests: Request) -> None:
        """RETURN of what waits behind one that runs long (of a worker on another host)."""
        flags = FIN | records.LATE
        self.send(*(records.pack(records.RETURN, flags, NO_WORD, each.stream, b"") for each in requests))

    def abort(self, request: Request, reason: str = "the app raised") -> None:
        self.let_go(request)
        self.send(records.pack(records.ABORT, FIN, NO_WORD, request.stream, reason.encode()))

    # For workers in a process of their own

    def fork_a_child(self) -> int:
        """A child that inherits the connection, as an app's might, and stays. Returns its pid."""
        pid = os.fork()
        if not pid:
            signal.pause()
            os._exit(0)
        return pid

    def wait_written(self) -> None:
        """Until what was sent is in the kernel, beyond the reach of a kill, and the router (stopped) has not read it."""

        def unread() -> bool:
            for fd in map(int, os.listdir("/proc/self/fd")):
                with contextlib.suppress(OSError):
                    if stat.S_ISSOCK(os.fstat(fd).st_mode) and any(
                        fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4))
                    ):
                        return True
            return False

        wait_for(unread, TIMEOUT_S, every_s=0.001)


def who_hears(*workers: FakeWorker) -> list[FakeWorker]:
    """The workers, the one that something has come for first."""
    poller = zmq.Poller()
    for worker in workers:
        poller.register(worker.socket, zmq.POLLIN)
    ready = dict(poller.poll(int(TIMEOUT_S * 1000)))
    assert ready, "none of them hears anything"
    return sorted(workers, key=lambda worker: worker.socket not in ready)


def echo(worker: FakeWorker, request: Request) -> None:
    """What an `Answering` worker says unless told otherwise: the method, the path and the size of the body."""
    size = len(request.body) + len(worker.rest_of_body(request))
    worker.respond(request, body=f"{request.variables['REQUEST_METHOD']} {request.path} {size}".encode())


class Answering(threading.Thread):
    """A worker that answers everything, in a thread of its own, until stopped."""

    def __init__(
        self, make: Callable[[], FakeWorker], answer: Callable[[FakeWorker, Request], None] = echo
    ) -> None:
        super().__init__(daemon=True)
        self.seen: list[Request] = []
        self.error: BaseException | None = None
        self._make = make
        self._answer = answer
        self._stopping = threading.Event()
        self._joined = threading.Event()
        self.start()
        assert self._joined.wait(TIMEOUT_S) and self.error is None, self.error

    def run(self) -> None:
        worker = self._make()
        try:
            worker.join()
            self._joined.set()
            while not self._stopping.is_set():
                record = worker.receive(0.02)
                if record is None or record[0] != records.REQUEST:
                    continue
                request = worker.met(record)
                if worker.claim(request):
                    worker.begin(request)
                    self.seen.append(request)
                    try:
                        self._answer(worker, request)
                    except Cancelled:
                        worker.abort(request)
        except BaseException as error:
            self.error = error
        finally:
            self._joined.set()
            with contextlib.suppress(zmq.ZMQError):
                worker.close()

    def stop(self) -> None:
        self._stopping.set()
        self.join(TIMEOUT_S)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error
