"""Large bodies by chute: whole, at the client's pace, counted against their length, and nobody else's when a worker lies."""

import mmap
import socket
import threading

import pytest

from emperor.protocol import chute, records, scoreboard
from emperor.protocol.records import NO_WORD
from tests.router.client import CutShort, get
from tests.router.stage import Generation, Vassal, open_stage
from tests.router.worker import FakeWorker, Request
from tests.scenarios.harness.waiting import wait_for

SIZE = 5_000_000
BODY = bytes(range(250)) * (SIZE // 250)
LENGTH = f"200 OK\r\nContent-Length: {SIZE}\r\n"
FIRST = 70_000


def begin(worker: FakeWorker, request: Request, head: str = LENGTH) -> None:
    worker.respond(request, head, BODY[:1000], fin=False)
    worker.data(request, BODY[1000 : FIRST - 10_000])
    worker.data(request, BODY[FIRST - 10_000 : FIRST])
    worker.enter(request)


def down(worker: FakeWorker, request: Request) -> None:
    head = "200 OK\r\n" if request.path == "/unknown" else LENGTH
    begin(worker, request, head)
    worker.pour_all(BODY[FIRST:])
    worker.data(request, fin=True)


@pytest.mark.parametrize("path", ["/known", "/unknown"])
@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
def test_a_response_comes_whole(blog: Vassal, path: str, version: str) -> None:
    """With a length, in chunks, to the end of the connection; and again, as the chute is free then."""
    blog.active(seats=1).answering(down)
    for _ in range(3):
        client = blog.stage.http(get(path=path).replace(b"HTTP/1.1", version.encode()))
        response = client.response()
        assert response.framing == (
            "length" if path == "/known" else "chunked" if version == "HTTP/1.1" else "close"
        )
        assert response.body == BODY
    stats = blog.stats()
    assert stats["link_faults"] == stats["unasked_messages"] == stats["stale_records"] == 0


def test_a_client_that_takes_nothing_holds_its_worker_and_no_memory(blog: Vassal) -> None:
    """Beyond what may be taken off the worker: the chute stays full, and nobody is called for it."""
    generation = blog.active(seats=1)
    worker = generation.worker()
    huge = 64 << 20
    client = blog.stage.http(get())
    request = worker.take()
    worker.respond(request, f"200 OK\r\nContent-Length: {huge}\r\n", BODY[:1000], fin=False)
    worker.enter(request)
    poured = [1000]

    def full() -> bool:
        before = poured[0]
        piece = bytes(100_000)
        while count := worker.pour(piece[: huge - poured[0]]):
            poured[0] += count
        return poured[0] == before and not worker.down.calls()

    wait_for(full, 10, lambda: f"{poured} bytes poured", every_s=0.3)
    assert poured[0] < 16 << 20
    report = blog.stage.stats()
    assert 0 < report["responses_ahead"] <= report["responses_ahead_limit"] + (1 << 20)
    taken = [0]

    def read_on() -> None:
        while count := client.sock.recv_into(bytearray(1 << 20)):
            taken[0] += count

    reader = threading.Thread(target=read_on)
    reader.start()
    worker.pour_all(bytes(huge - poured[0]))
    worker.data(request, fin=True)
    wait_for(lambda: huge < taken[0] < huge + 1000, 10, lambda: f"{taken} bytes came")
    client.sock.shutdown(socket.SHUT_RDWR)
    reader.join(10)
    wait_for(lambda: blog.stage.stats()["responses_ahead"] == 0, 10)


def test_others_go_on_beside_it(blog: Vassal) -> None:
    """A second large response of the same worker by messages, while a client that takes nothing has the chute."""
    worker = blog.active(seats=1, slots=2).worker()
    blog.stage.http(get(path="/stuck"))
    stuck = worker.take(timed=False)
    worker.respond(stuck, "200 OK\r\nContent-Length: 1000000000\r\n", fin=False)
    worker.enter(stuck)
    wait_for(lambda: not worker.pour(bytes(1 << 20)) and not worker.down.calls(), 10, every_s=0.3)
    client = blog.stage.http(get(path="/other"))
    other = worker.take(timed=False)
    worker.respond(other, "200 OK\r\nContent-Length: 100000\r\n", bytes(50_000), fin=False)
    worker.data(other, bytes(50_000))
    worker.data(other, fin=True)
    assert client.response().body == bytes(100_000)


def test_what_goes_beyond_its_length_is_cut(blog: Vassal) -> None:
    worker = blog.active(seats=1).worker()
    client = blog.stage.http(get())
    request = worker.take()
    worker.respond(request, "200 OK\r\nContent-Length: 2000\r\n", bytes(1000), fin=False)
    worker.enter(request)
    worker.pour_all(bytes(50_000))
    worker.data(request, fin=True)
    response = client.response()
    assert (len(response.body), client.end()) == (2000, "closed")
    blog.stage.wait_log("longer than its Content-Length")


def test_what_is_too_short_is_cut_off(blog: Vassal) -> None:
    worker = blog.active(seats=1).worker()
    client = blog.stage.http(get())
    request = worker.take()
    worker.respond(request, "200 OK\r\nContent-Length: 2000\r\n", bytes(1000), fin=False)
    worker.enter(request)
    worker.pour_all(bytes(999))
    worker.data(request, fin=True)
    with pytest.raises(CutShort):
        client.response()
    blog.stage.wait_log("1 bytes shorter than its Content-Length")


def test_a_client_that_goes(blog: Vassal) -> None:
    """Its worker is told by the chute and by CANCEL; what it puts there until it ends is nobody's."""
    worker = blog.active(seats=1).worker()
    client = blog.stage.http(get())
    request = worker.take()
    begin(worker, request)
    client.reset()
    wait_for(lambda: worker.down.ended() == chute.GONE, 10)
    worker.expect_cancel(request)
    worker.pour(BODY)
    worker.abort(request)
    blog.wait_stat("running", 0)
    client = blog.stage.http(get())
    again = worker.take()
    reader = threading.Thread(target=lambda: got.append(client.response()))
    got: list[object] = []
    reader.start()
    down(worker, again)
    reader.join(30)
    assert got[0].body == BODY  # type: ignore[attr-defined]


def test_a_worker_that_dies(blog: Vassal) -> None:
    """The response is cut off, the memory given back, and the next worker of the seat has a chute."""
    generation = blog.active(seats=1)
    worker = generation.worker()
    client = blog.stage.http(get())
    request = worker.take()
    begin(worker, request)
    worker.pour(BODY)
    worker.disconnect()
    worker.connect()
    worker.join()
    with pytest.raises(CutShort):
        client.response()
    worker.board.end(0, 0)
    worker.board.inherit(0)
    blog.stage.http(get())
    worker.enter(worker.take())


@pytest.mark.parametrize("when", ["before RESPONSE", "twice"])
def test_a_chute_out_of_turn_is_a_link_fault(blog: Vassal, when: str) -> None:
    worker = blog.active(seats=1).worker()
    blog.stage.http(get())
    request = worker.take()
    record = records.pack(records.BY_CHUTE, 0, NO_WORD, request.stream, b"")
    if when == "twice":
        worker.respond(request, LENGTH, fin=False)
        worker.send(record)
    worker.send(record)
    blog.wait_stat("link_faults", 1)
    blog.stage.wait_log(r"^\[blog\].* broke the backplane protocol: .*BY-CHUTE")


def whole_page(generation: Generation) -> mmap.mmap:
    size = scoreboard.size_bytes(generation.seats, generation.slots, 1, generation.deck)
    return mmap.mmap(generation.board_fd, size)


def test_a_chute_that_lies_is_a_link_fault_and_nobody_elses(blog: Vassal) -> None:
    generation = blog.active(seats=2)
    liar = generation.worker(1)
    client = blog.stage.http(get())
    request = liar.take()
    liar.respond(request, LENGTH, bytes(1000), fin=False)
    liar.enter(request)
    other = generation.answering(seat=0)
    rows = 64 + 2 * scoreboard.row_bytes(1, 1, generation.deck)
    with whole_page(generation) as page:
        start = rows + 2 * scoreboard.CHUTE_WORDS_BYTES
        page[start : start + 8] = (1 << 40).to_bytes(8, "little")
    liar.call()
    with pytest.raises(CutShort):
        client.response()
    blog.stage.wait_log(r"^\[blog\].* broke the backplane protocol: a chute that says it holds")
    assert blog.stage.http(get(path="/elsewhere")).response().status == 200
    assert len(other.seen) == 1


def test_an_upload_that_is_streamed(tmp_path: object) -> None:
    """By chute as soon as there is much of it, at the worker's pace, and the client sees the end of it."""
    with open_stage() as stage:
        blog = stage.vassal("blog", request_buffering=False)
        stage.open_for_business()
        worker = blog.active(seats=1).worker()
        client = stage.http(
            b"POST / HTTP/1.1\r\nHost: blog.localhost\r\nContent-Length: %d\r\n\r\n" % (64 << 20)
        )
        request = worker.take(timed=False)
        sent = client.send_until_blocked(bytes(65536))
        assert sent < 32 << 20, "nobody reads it"
        rest = threading.Thread(target=client.send, args=(bytes((64 << 20) - sent),))
        rest.start()
        assert len(request.body) + len(worker.rest_of_body(request)) == 64 << 20
        rest.join(30)
        worker.respond(request, body=b"got it")
        assert client.response().body == b"got it"
        assert blog.stats()["link_faults"] == blog.stats()["unasked_messages"] == 0
