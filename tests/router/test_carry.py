"""A thread that takes a body from its client's socket to disk: by itself, and in a running router."""

import errno
import hashlib
import itertools
import os
import random
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from emperor.router.carry import carry
from emperor.router.spool import BROKEN, CARRIED_MOST, ENDED, FULL, MORE, QUIET
from tests.router.client import get, post
from tests.router.stage import Stage, Vassal
from tests.router.test_spooling import wait_none, whole
from tests.scenarios.harness.waiting import wait_for

LARGE = random.Random(11).randbytes(12_000_000)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """``(client, ours)``, over TCP, since only there is a reset."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    ours.setblocking(False)
    with client, ours:
        yield client, ours


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "body", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def held(fd: int) -> bytes:
    return os.pread(fd, 1 << 25, 0)


def test_no_more_than_was_asked_for(pair: tuple[socket.socket, socket.socket], file: int) -> None:
    """What comes behind a body is another request."""
    client, ours = pair
    client.sendall(b"body" + b"GET /next")
    assert carry(ours.fileno(), file, 4) == (4, MORE, 0)
    assert held(file) == b"body"
    assert ours.recv(100) == b"GET /next"


def test_who_stops_sending_is_left_to_the_loop(pair: tuple[socket.socket, socket.socket], file: int) -> None:
    client, ours = pair
    assert carry(ours.fileno(), file, 100) == (0, QUIET, 0)
    client.sendall(b"some")
    assert carry(ours.fileno(), file, 100) == (4, QUIET, 0)
    client.sendall(b" more")
    assert carry(ours.fileno(), file, 5) == (5, MORE, 0)
    assert held(file) == b"some more"


def test_who_ends(pair: tuple[socket.socket, socket.socket], file: int) -> None:
    client, ours = pair
    client.sendall(b"some")
    client.shutdown(socket.SHUT_WR)
    assert carry(ours.fileno(), file, 100) == (4, ENDED, 0)
    # The loop meets the end, too.
    assert ours.recv(1) == b""


def test_who_resets(pair: tuple[socket.socket, socket.socket], file: int) -> None:
    client, ours = pair
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    assert carry(ours.fileno(), file, 100) == (0, BROKEN, errno.ECONNRESET)


def test_a_file_that_takes_no_more(pair: tuple[socket.socket, socket.socket]) -> None:
    client, ours = pair
    client.sendall(b"some")
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        assert carry(ours.fileno(), full, 100) == (0, FULL, errno.ENOSPC)
    finally:
        os.close(full)


def test_a_fast_client_is_not_carried_for_ever(pair: tuple[socket.socket, socket.socket], file: int) -> None:
    """Others wait for the thread."""
    client, ours = pair
    stop = threading.Event()

    def floods() -> None:
        piece = bytes(1 << 20)
        while not stop.is_set():
            client.send(piece)

    flood = threading.Thread(target=floods)
    flood.start()
    # Now and then the machine itself keeps the client from sending.
    ends = {carry(ours.fileno(), file, 1 << 40)[1] for _ in range(20)}
    stop.set()
    while flood.is_alive():
        carry(ours.fileno(), file, 1 << 40)
        flood.join(0.01)
    assert MORE in ends


def test_who_sends_a_little_now_and_then_has_no_thread_to_himself(
    pair: tuple[socket.socket, socket.socket], file: int
) -> None:
    client, ours = pair
    stop = threading.Event()

    def drips() -> None:
        while not stop.wait(0.0005):
            client.send(b"x")

    drip = threading.Thread(target=drips)
    drip.start()
    try:
        # Now and then the machine itself stands still for as long as its turn is.
        assert QUIET in [carry(ours.fileno(), file, 1 << 20)[1] for _ in range(20)]
    finally:
        stop.set()
        drip.join()


# In a router


@pytest.fixture
def blog(blog: Vassal) -> Vassal:
    blog.tell(request_buffering=True)
    return blog


def carried_bytes(stage: Stage) -> int:
    count: int = stage.stats()["bodies"]["carried_bytes"]
    return count


def test_a_large_body_goes_past_us_and_is_what_was_sent(blog: Vassal) -> None:
    """With another request right behind it, on the same connection, and one more body."""
    worker = blog.active().worker()
    before = carried_bytes(blog.stage)
    client = blog.stage.http()
    all_of_it = post(LARGE, path="/1") + get(path="/2") + post(LARGE[::-1], path="/3")
    sender = threading.Thread(target=client.send, args=(all_of_it,))
    sender.start()
    for path, body in (("/1", LARGE), ("/2", b""), ("/3", LARGE[::-1])):
        taken = worker.take()
        assert taken.path == path
        assert hashlib.sha256(whole(worker, taken)).digest() == hashlib.sha256(body).digest()
        worker.respond(taken, body=path.encode())
        assert client.response().body == path.encode()
    sender.join()
    assert carried_bytes(blog.stage) - before > CARRIED_MOST
    wait_none(blog.stage)


def test_a_body_that_comes_in_bursts(blog: Vassal) -> None:
    worker = blog.active().worker()
    before = carried_bytes(blog.stage)
    client = blog.stage.http()
    data = post(LARGE)
    cuts = [0, 3_000_000, 3_000_001, 6_000_000, 6_000_500, 9_000_000, len(data) - 1, len(data)]
    for start, end in itertools.pairwise(cuts):
        client.send(data[start:end])
        # Until it is all with the router, which looks for more then.
        sent = end - len(data) + len(LARGE)
        wait_for(lambda sent=sent: held_of(blog) >= sent, 10, blog.stage.stats, every_s=0.005)
    taken = worker.take()
    assert hashlib.sha256(whole(worker, taken)).digest() == hashlib.sha256(LARGE).digest()
    worker.respond(taken)
    assert client.response().status == 200
    assert carried_bytes(blog.stage) > before
    wait_none(blog.stage)


def held_of(blog: Vassal) -> int:
    """Bytes of bodies that the router has; all of it, once a worker is offered it."""
    bodies = blog.stage.stats()["bodies"]
    if not blog.stats()["receiving"]:
        return len(LARGE)
    count: int = bodies["memory_bytes"] + bodies["disk_bytes"]
    return count


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_goes_in_the_middle(blog: Vassal, how: str) -> None:
    worker = blog.active().worker()
    before = carried_bytes(blog.stage)
    client = blog.stage.http(post(LARGE)[:-1])
    wait_for(lambda: carried_bytes(blog.stage) > before, 10, blog.stage.stats)
    getattr(client, how)()
    blog.wait_stat("receiving", 0)
    wait_none(blog.stage)
    worker.expect_nothing(0.05)
    assert blog.stats()["cancelled"] == 1


def test_an_app_that_goes_while_a_body_is_carried(blog: Vassal) -> None:
    """The answer comes, and the connection is closed behind it: nobody knows what a thread has read of it."""
    client = blog.stage.http()
    before = carried_bytes(blog.stage)
    data = post(bytes(1 << 28))
    sender = threading.Thread(target=client.send_as_far_as_it_goes, args=(data,))
    sender.start()
    wait_for(lambda: carried_bytes(blog.stage) > before, 10, blog.stage.stats)
    blog.stage.tell("remove", name="blog")
    response = client.response()
    sender.join(20)
    assert (response.status, response.closes) == (503, True)
    wait_none(blog.stage)
    blog.tell()
