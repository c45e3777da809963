"""A vassal that floods its backplane shuts itself out for a while. Its neighbours are served as if nothing were."""

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zmq

from emperor.protocol import records
from emperor.protocol.records import NO_WORD
from tests.router.client import chunked, get, request
from tests.router.stage import Stage, Vassal
from tests.router.worker import CREDIT, FakeWorker, shown
from tests.scenarios.harness import machine
from tests.scenarios.harness.waiting import wait_for


@contextlib.contextmanager
def flooding(worker: FakeWorker, message: bytes) -> Iterator[None]:
    """The worker's socket is the flooding thread's meanwhile."""
    stop = threading.Event()

    def pour() -> None:
        while not stop.is_set():
            with contextlib.suppress(zmq.ZMQError):
                worker.socket.send(message, zmq.NOBLOCK)
                continue
            time.sleep(0.001)

    worker.socket.setsockopt(zmq.SNDHWM, 1000)
    thread = threading.Thread(target=pour)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def trickling(worker: FakeWorker, stream: int) -> Iterator[None]:
    """A response in pieces of one byte, a thousand to a message, as fast as the router gives credit for it."""
    message = records.pack(records.DATA, 0, NO_WORD, stream, b"x") * 1000
    stop = threading.Event()

    def pour() -> None:
        credit = {0: CREDIT * worker.seat.slots, stream: CREDIT}  # the link's, and the response's
        while not stop.is_set():
            if min(credit.values()) >= 1000:
                worker.send(message)
                credit = {of: left - 1000 for of, left in credit.items()}
            elif (got := worker.receive(0.1)) is not None:
                kind, _, _, of, payload = got
                assert kind == records.CREDIT, shown(got)
                credit[of] += records.unpack_credit(payload)

    with ThreadPoolExecutor(1) as pool:
        poured = pool.submit(pour)
        try:
            yield
        finally:
            stop.set()
        poured.result()


STALE = records.pack(records.DATA, 0, NO_WORD, 0xDEAD, b"")


@pytest.mark.parametrize(
    ("message", "joined"),
    [
        pytest.param(b"noise", False, id="strangers"),
        pytest.param(bytes(1 << 20), False, id="strangers, 1 MiB of records at a time"),
        pytest.param(records.pack_hello(0, 0, 1, 1, bytes(32), "blog"), False, id="wrong tokens"),
        pytest.param(STALE, True, id="unknown streams"),
        pytest.param(STALE * 1000, True, id="unknown streams, 1000 at a time"),
        pytest.param(records.pack(records.PONG, 0, NO_WORD, 0, bytes(8)), True, id="PONGs"),
    ],
)
def test_a_flood_shuts_its_own_backplane(stage: Stage, blog: Vassal, message: bytes, joined: bool) -> None:
    other = stage.vassal("other")
    other.active().answering()
    client = stage.http(get("other.localhost"))
    assert client.response().status == 200
    generation = blog.active(seats=2)
    running = None
    if joined:
        flooder = generation.worker(1)
        running = stage.http(get(path="/running"))
        flooder.take()
    else:
        flooder = generation.stranger(1)
    took: list[float] = []
    moment = machine.now()
    with flooding(flooder, message):
        deadline = time.monotonic() + 30
        while not (took and blog.stats()["floods"]):
            start = time.monotonic()
            client.send(get("other.localhost"))
            assert client.response().status == 200
            took.append(time.monotonic() - start)
            assert time.monotonic() < deadline, blog.stats()
    assert stage.wait_log(r"^\[blog\].* closed for")
    assert max(took) < machine.allowed(1.0, moment), took
    if running is not None:
        assert running.response().status == 502
    assert blog.stats()["links"] == []
    # And it is let in again.
    worker = generation.stranger(0)

    def is_heard() -> bool:
        # libzmq closes a socket in a thread of its own: who connects just then may meet the old one, and comes again.
        worker.connect()
        if not worker.socket.poll(100, zmq.POLLOUT):
            return False
        worker.hello()
        return bool(worker.socket.poll(3000, zmq.POLLIN))

    wait_for(is_heard, 30)
    worker.welcomed()
    worker.ready()
    blog.wait_link(seat=0)
    late = stage.http(get())
    worker.respond(worker.take(), body=b"back")
    assert late.response().body == b"back"


def test_small_pieces_in_large_messages_do_not_hold_up_a_neighbour(stage: Stage, blog: Vassal) -> None:
    """No flood, and within its credit: a tenant that makes as much work of a body as it can."""
    other = stage.vassal("other")
    other.active().answering()
    client = stage.http(get("other.localhost"))
    assert client.response().status == 200
    worker = blog.active().worker()
    tenant = stage.http(get())
    request = worker.take()
    worker.respond(request, fin=False)
    took = []
    moment = machine.now()

    def drink() -> None:
        with contextlib.suppress(ConnectionResetError):
            while tenant.sock.recv(1 << 16):
                pass

    with ThreadPoolExecutor(1) as pool:
        drunk = pool.submit(drink)
        with trickling(worker, request.stream):
            for _ in range(20):
                start = time.monotonic()
                client.send(get("other.localhost"))
                assert client.response().status == 200
                took.append(time.monotonic() - start)
        assert not drunk.done(), "it has been cut off"
        tenant.sock.shutdown(socket.SHUT_RDWR)
        drunk.result()
    assert sorted(took)[10] < machine.allowed(0.1, moment), took


def test_a_hundred_megabytes_are_a_flood_in_a_hundred_messages(blog: Vassal) -> None:
    """Not the number of messages alone: moving them costs the router's machine more than reading 500 small ones."""
    stranger = blog.active().stranger()
    wait_for(lambda: stranger.socket.poll(0, zmq.POLLOUT), 5)
    with contextlib.suppress(zmq.Again):  # it has been shut out
        for _ in range(100):
            stranger.socket.send(bytes(1000 * 1024), zmq.NOBLOCK)
    wait_for(lambda: blog.stats()["floods"], 5, blog.stats)


def useless(kind: int, payload: bytes = b"") -> Callable[[int], bytes]:
    return lambda stream: records.pack(kind, 0, NO_WORD, stream, payload)


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(useless(records.INTERIM), id="INTERIM"),
        pytest.param(useless(records.DATA), id="empty DATA"),
        pytest.param(useless(records.CREDIT, b"\1\0\0\0"), id="CREDIT of a byte"),
    ],
)
def test_records_that_do_nothing_are_a_flood_too(blog: Vassal, record: Callable[[int], bytes]) -> None:
    """They name a stream that lives, so that no lookup fails; what they cost is the same."""
    worker = blog.active().worker()
    client = blog.stage.http(get())
    request = worker.take()
    worker.respond(request, fin=False)
    client.head()
    worker.send(record(request.stream) * 1000)
    wait_for(lambda: blog.stats()["floods"], 5, blog.stats)


def test_a_credit_for_each_small_piece_is_no_flood(blog: Vassal) -> None:
    """A worker that gives back what it got, record by record, for a client that uploads in drops."""
    blog.active().answering()
    client = blog.stage.http(request("blog.localhost", "/", "Transfer-Encoding: chunked", method="POST"))
    client.send(chunked(*[b"x"] * 3000))
    assert client.response().body == b"POST / 3000"
    assert blog.stats()["floods"] == 0


def test_a_busy_worker_is_no_flood(blog: Vassal) -> None:
    """Thousands of small records a second that say something are a stream, not a flood."""
    worker = blog.active().worker()
    client = blog.stage.http(get())
    request = worker.take()
    worker.respond(request, fin=False)
    for _ in range(20):
        worker.send(records.pack(records.DATA, 0, NO_WORD, request.stream, b"x") * 500)
    worker.data(request, fin=True)
    assert client.response().body == b"x" * 10_000
    assert blog.stats()["floods"] == 0


def test_a_fault_and_a_flood_are_counted_apart(blog: Vassal) -> None:
    worker = blog.active().worker()
    worker.send(b"?")
    assert worker.expect_refused() == 8
    stats = blog.stats()
    assert (stats["link_faults"], stats["floods"]) == (1, 0)


def test_byes_without_end_do_not_pile_up_on_the_stack(stage: Stage, blog: Vassal) -> None:
    """Each BYE is answered; reading on from inside the answer went one call deeper for each, down to the end of the stack."""
    streams = 14
    worker = blog.active(seats=1, slots=streams, deck=32).worker()
    for _ in range(streams):
        stage.http(get())
    requests = [worker.offered() for _ in range(streams)]
    bye = records.pack(records.BYE, 0, NO_WORD, 0, b"")
    worker.socket.setsockopt(zmq.SNDHWM, 0)
    with stage.frozen():
        # Credits, which are no flood, keep the router busy while more comes in behind them.
        for number in range(3500):
            stream = requests[number % streams].stream
            worker.send(records.pack_credit(stream, 1024) * 1000 + bye)
    blog.wait_no_link()
    stack = re.search(r"VmStk:\s+(\d+) kB", Path(f"/proc/{stage.pid}/status").read_text())
    assert stack is not None and int(stack[1]) < 1024
