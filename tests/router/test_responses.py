"""How a worker's response reaches a client: its framing, and that a cut one never passes for a whole one."""

import socket

import psutil
import pytest

from emperor.protocol import records
from emperor.protocol.records import FIN, NO_WORD
from emperor.router.front import FLOOR
from tests.router.client import Connection, CutShort, get, post, request, uwsgi
from tests.router.stage import Vassal
from tests.router.worker import FakeWorker, Request
from tests.scenarios.harness.waiting import wait_for


def asked(blog: Vassal, what: bytes, *, packet: bool = False) -> tuple[FakeWorker, Connection, Request]:
    worker = blog.active().worker()
    client = blog.stage.uwsgi(what) if packet else blog.stage.http(what)
    return worker, client, worker.take()


def test_a_response_in_one_record_has_a_length(blog: Vassal) -> None:
    worker, client, request = asked(blog, get())
    worker.respond(request, "201 Created\r\nX-One: 1\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n", b"body")
    response = client.response()
    assert (response.status, response.framing, response.body) == (201, "length", b"body")
    assert response.headers["x-one"] == "1"
    assert response.headers["date"].endswith("GMT")
    assert not response.closes


def test_a_response_in_several_records_is_chunked(blog: Vassal) -> None:
    worker, client, request = asked(blog, get())
    worker.respond(request, body=b"one ", fin=False)
    worker.data(request)  # an empty piece must not look like the end
    worker.data(request, b"two ")
    worker.data(request, b"three", fin=True)
    response = client.response()
    assert (response.framing, response.body) == ("chunked", b"one two three")
    assert not response.closes


def test_a_streamed_response_with_a_length_is_not_chunked(blog: Vassal) -> None:
    worker, client, request = asked(blog, get())
    worker.respond(request, "200 OK\r\nContent-Length: 6\r\n", b"abc", fin=False)
    worker.data(request, b"def")
    worker.data(request, fin=True)
    response = client.response()
    assert (response.framing, response.body) == ("length", b"abcdef")


def test_the_first_bytes_reach_the_client_before_the_last_are_made(blog: Vassal) -> None:
    worker, client, request = asked(blog, get())
    worker.respond(request, body=b"first", fin=False)
    client.head()
    assert client.read_exactly(10) == b"5\r\nfirst\r\n"
    worker.data(request, b"last", fin=True)
    assert client.read_exactly(14) == b"4\r\nlast\r\n0\r\n\r\n"


def test_to_http_1_0_a_body_of_unknown_length_ends_with_the_connection(blog: Vassal) -> None:
    worker, client, request_ = asked(blog, request(version="1.0"))
    worker.respond(request_, body=b"one ", fin=False)
    worker.data(request_, b"two", fin=True)
    response = client.response()
    assert (response.framing, response.body) == ("close", b"one two")
    assert "transfer-encoding" not in response.headers


def test_hop_by_hop_fields_of_a_worker_go_no_further(blog: Vassal) -> None:
    worker, client, request = asked(blog, get())
    worker.respond(
        request,
        "200 OK\r\nTransfer-Encoding: chunked\r\nKeep-Alive: 9\r\nUpgrade: x\r\nX-Kept: 1\r\n",
        b"body",
    )
    response = client.response()
    assert response.body == b"body"
    assert {"transfer-encoding", "keep-alive", "upgrade"}.isdisjoint(response.headers)
    assert response.headers["x-kept"] == "1"


def test_a_worker_may_ask_for_the_connection_to_close(blog: Vassal) -> None:
    worker, client, request = asked(blog, get())
    worker.respond(request, "200 OK\r\nConnection: close\r\n", b"bye")
    assert client.response().closes
    assert client.end() == "closed"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_a_response_that_has_no_body_gets_none(blog: Vassal, status: str) -> None:
    worker, client, request = asked(blog, get())
    worker.respond(request, f"{status}\r\n", b"must not be sent")
    assert client.response().body == b""
    client.send(get())
    worker.respond(worker.take(), body=b"next")
    assert client.response().body == b"next"


@pytest.mark.parametrize("fin", [True, False])
def test_head_gets_the_fields_and_no_body(blog: Vassal, fin: bool) -> None:
    worker, client, request_ = asked(blog, request(method="HEAD"))
    assert request_.variables["REQUEST_METHOD"] == "HEAD"
    worker.respond(request_, "200 OK\r\nContent-Length: 12\r\n", b"must not be ", fin=fin)
    if not fin:
        worker.data(request_, b"sent", fin=True)
    response = client.response(to_head=True)
    assert response.headers["content-length"] == "12"
    client.send(get())
    worker.respond(worker.take(), body=b"next")
    assert client.response().body == b"next"


@pytest.mark.parametrize(
    "head",
    [
        pytest.param("", id="empty"),
        pytest.param("200 OK", id="no line end"),
        pytest.param("20 OK\r\n", id="two digits"),
        pytest.param("2000 OK\r\n", id="four digits"),
        pytest.param("099 Low\r\n", id="below 100"),
        pytest.param("100 Continue\r\n", id="interim"),
        pytest.param("OK\r\n", id="no number"),
        pytest.param("200 O\nK\r\n", id="LF in the status"),
        pytest.param("200 OK\r\nX: a\nSet-Cookie: b\r\n", id="LF in a value"),
        pytest.param("200 OK\r\nX: a\rb\r\n", id="CR in a value"),
        pytest.param("200 OK\r\nX: a\0b\r\n", id="NUL in a value"),
        pytest.param("200 OK\r\nX\n: a\r\n", id="LF in a name"),
        pytest.param("200 OK\r\nX Y: a\r\n", id="blank in a name"),
        pytest.param("200 OK\r\n: a\r\n", id="no name"),
        pytest.param("200 OK\r\nX\r\n", id="no colon"),
        pytest.param("200 OK\r\n\r\nX: a\r\n", id="an empty line"),
        pytest.param("200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n", id="two lengths"),
        pytest.param("200 OK\r\nContent-Length: -1\r\n", id="a negative length"),
        pytest.param("200 OK\r\nContent-Length: x\r\n", id="a length of letters"),
    ],
)
@pytest.mark.parametrize("fin", [True, False])
def test_a_head_that_no_client_may_see(blog: Vassal, head: str, fin: bool) -> None:
    worker, client, request = asked(blog, get())
    worker.respond(request, head, b"secret", fin=fin)
    response = client.response()
    assert response.status == 502
    assert b"secret" not in response.body
    assert "worker 0 " in blog.stage.wait_log(r"^\[blog\].* that no client may see")
    if not fin:
        worker.expect(records.CANCEL)
        assert blog.stats()["running"] == 1  # its slot is the worker's until it ends
        worker.data(request, b"more of it", fin=True)
    client.send(get())
    worker.respond(worker.take(), body=b"next")
    assert client.response().body == b"next"
    assert blog.stats()["link_faults"] == 0


@pytest.mark.parametrize("fin", [True, False])
def test_a_body_longer_than_its_length_is_cut_there(blog: Vassal, fin: bool) -> None:
    worker, client, request = asked(blog, get())
    worker.respond(request, "200 OK\r\nContent-Length: 4\r\n", b"body and another response", fin=fin)
    if not fin:
        worker.data(request, b" more", fin=True)
    assert client.response().body == b"body"
    assert client.end() == "closed"
    blog.stage.wait_log("longer than its Content-Length")


@pytest.mark.parametrize("fin", [True, False])
def test_a_body_shorter_than_its_length_is_no_whole_response(blog: Vassal, fin: bool) -> None:
    worker, client, request = asked(blog, get())
    worker.respond(request, "200 OK\r\nContent-Length: 9\r\n", b"body", fin=fin)
    if not fin:
        worker.data(request, fin=True)
    with pytest.raises(CutShort) as cut:
        client.response()
    assert cut.value.how == "reset"


@pytest.mark.parametrize(
    ("version", "head"),
    [
        pytest.param("1.1", "200 OK\r\nContent-Length: 100\r\n", id="length"),
        pytest.param("1.1", "200 OK\r\n", id="chunked"),
        pytest.param("1.0", "200 OK\r\n", id="until close"),
    ],
)
@pytest.mark.parametrize("how", ["abort", "death"])
def test_a_response_that_cannot_be_finished_is_reset(blog: Vassal, version: str, head: str, how: str) -> None:
    """Above all where only the end of the connection ends the body: it would look whole."""
    remote = blog.active().remote()
    remote.call("join")
    client = blog.stage.http(request(version=version))
    taken = remote.call("take")
    remote.call("respond", taken, head, body="part of it", fin=False)
    got = client.head()
    assert got.status == 200
    if how == "abort":
        remote.call("abort", taken)
    else:
        remote.kill()
    with pytest.raises(CutShort) as cut:
        client.read_exactly(1000)
    assert cut.value.how == "reset"


def test_a_front_server_gets_no_chunks_and_no_word_on_the_connection(blog: Vassal) -> None:
    worker, client, request = asked(blog, uwsgi(), packet=True)
    worker.respond(request, body=b"one ", fin=False)
    worker.data(request, b"two", fin=True)
    response = client.response()
    assert (response.framing, response.body) == ("close", b"one two")
    assert "connection" not in response.headers


@pytest.mark.parametrize("size", [70_000, 1_000_000])
def test_a_large_response_comes_whole(blog: Vassal, size: int) -> None:
    body = bytes(range(256)) * (size // 256)

    def answer(worker: FakeWorker, request: Request) -> None:
        credit, sent = 256 * 1024, 0
        worker.respond(request, f"200 OK\r\nContent-Length: {len(body)}\r\n", fin=False)
        while sent < len(body):
            room = min(credit, 65536, len(body) - sent)
            if room:
                worker.send(records.pack(records.DATA, 0, NO_WORD, request.stream, body[sent : sent + room]))
                sent += room
                credit -= room
            else:
                _, _, _, stream, payload = worker.expect(records.CREDIT)
                credit += records.unpack_credit(payload) if stream == request.stream else 0
        worker.data(request, fin=True)

    blog.active().answering(answer)
    client = blog.stage.http(get())
    assert client.response().body == body
    client.send(post(b"x"))
    assert client.response().body == body


def test_a_small_piece_counts_for_more_than_its_bytes(blog: Vassal) -> None:
    """What waits between worker and router are records: 128 bytes at least, each, and given back so."""
    worker, client, request = asked(blog, get())
    worker.respond(request, fin=False)
    worker.send(records.pack(records.DATA, 0, NO_WORD, request.stream, b"x") * 1023)
    worker.expect_nothing()
    worker.data(request, b"x")
    given = {}
    for _ in range(2):
        record = worker.expect(records.CREDIT)
        given[record[3]] = records.unpack_credit(record[4])
    assert given == {0: 1024 * 128, request.stream: 1024 * 128}
    worker.data(request, fin=True)
    assert client.response().body == b"x" * 1024


def test_small_pieces_beyond_their_credit_are_a_link_fault(blog: Vassal) -> None:
    blog.tell(response_buffer=0)
    worker, _client, request = asked(blog, uwsgi(), packet=True)
    worker.respond(request, fin=False)
    fill(worker, request, b"x")
    worker.send(records.pack(records.DATA, 0, NO_WORD, request.stream, b"x") * 8)
    assert worker.expect_refused() == 8


def fill(worker: FakeWorker, request: Request, piece: bytes) -> int:
    """Sends pieces as far as credit goes, and as it comes back. Returns how many."""
    record = records.pack(records.DATA, 0, NO_WORD, request.stream, piece)
    credit, sent = 256 * 1024, 0
    while True:
        while count := min(credit // 128, 500):
            worker.send(record * count)
            credit -= count * 128
            sent += count
        got = worker.receive(0.5)
        if got is None:
            return sent
        if (got[0], got[3]) == (records.CREDIT, request.stream):
            credit += records.unpack_credit(got[4])


@pytest.mark.parametrize("size", [1, 50])
def test_small_pieces_cost_the_router_the_memory_of_their_bytes(blog: Vassal, size: int) -> None:
    """Those of clients that take nothing; and all of it arrives when they do."""
    clients, ahead = 4, 200_000
    blog.tell(response_buffer=ahead)
    generation = blog.active(seats=clients + 1)
    router = psutil.Process(blog.stage.pid)
    before, held = 0, []
    for seat in range(clients + 1):
        worker = generation.worker(seat)
        client = blog.stage.uwsgi(uwsgi())
        request = worker.take()
        worker.respond(request, fin=False)
        sent = fill(worker, request, b"x" * size)
        assert sent * size > ahead
        held.append((worker, client, request, sent))
        # What the first one took once is there for the others.
        before = before or router.memory_info().rss
    assert router.memory_info().rss - before < clients * 2 * (ahead + FLOOR)
    for worker, client, request, sent in held:
        worker.data(request, fin=True)
        assert client.response().body == b"x" * (sent * size)


@pytest.mark.parametrize(("version", "length"), [("1.1", False), ("1.1", True), ("1.0", False)])
def test_small_and_large_pieces_for_a_slow_client_arrive_in_order(
    blog: Vassal, version: str, length: bool
) -> None:
    blog.tell(response_buffer=4_000_000)
    worker = blog.active().worker()
    pieces = [b"%d," % n if n % 7 else b"%d" % (n % 10) * 9000 for n in range(2500)]
    whole = b"".join(pieces)
    client = blog.stage.http()
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    client.send(request(version=version))
    taken = worker.take()
    worker.respond(
        taken, f"200 OK\r\nContent-Length: {len(whole)}\r\n" if length else "200 OK\r\n", fin=False
    )
    credit = 256 * 1024
    for piece in pieces:
        while credit < max(len(piece), 128):
            record = worker.expect(records.CREDIT)
            credit += records.unpack_credit(record[4]) if record[3] == taken.stream else 0
        credit -= max(len(piece), 128)
        worker.data(taken, piece)
    worker.data(taken, fin=True)
    wait_for(lambda: blog.stage.stats()["responses_ahead"] > FLOOR, 10, blog.stage.stats)
    assert client.response().body == whole


def test_credit_is_not_given_back_while_the_client_takes_nothing(blog: Vassal) -> None:
    """What is held for a slow client is bounded by what it is held in, not by the length of the response."""
    worker, client, request = asked(blog, get())
    worker.respond(request, fin=False)
    credit, sent = 256 * 1024, 0
    while True:
        while credit >= 65536:
            worker.send(records.pack(records.DATA, 0, NO_WORD, request.stream, bytes(65536)))
            credit -= 65536
            sent += 65536
        got = worker.receive(0.3)
        if got is None:
            break
        if got[3] == request.stream:
            credit += records.unpack_credit(got[4])
        assert sent < 1 << 26, "64 MB were taken for a client that reads nothing"
    # The rest comes when the client reads.
    client.head()
    client.read_exactly(sent // 2)
    assert worker.expect(records.CREDIT)
    worker.let_go(request)
    worker.send(records.pack(records.DATA, FIN, NO_WORD, request.stream, b""))
