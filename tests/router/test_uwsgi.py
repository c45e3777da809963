"""The uwsgi front: packets of a front server, one a connection."""

import socket

import pytest

from emperor.protocol import packet, records
from tests.router.client import Connection, CutShort, get, uwsgi
from tests.router.stage import Stage, Vassal
from tests.router.worker import FakeWorker, Request


def test_a_packet_is_served_and_the_connection_closed(blog: Vassal) -> None:
    blog.active().answering()
    client = blog.stage.uwsgi(uwsgi(path="/page"))
    response = client.response()
    assert (response.status, response.body) == (200, b"GET /page 0")
    assert client.end() == "closed"


def test_what_an_app_is_told(blog: Vassal) -> None:
    worker = blog.active().worker()
    pairs = [
        (b"REQUEST_METHOD", b"GET"),
        (b"PATH_INFO", b"/"),
        (b"HTTP_HOST", b"blog.localhost"),
        (b"SERVER_PORT", b"443"),
        (b"REMOTE_ADDR", b"192.0.2.1"),
        (b"HTTPS", b"on"),
        (b"UWSGI_FILE", b"/etc/passwd"),
        (b"UWSGI_SETENV", b"A=b"),
        (b"HTTP_PROXY", b"evil"),
        (b"HTTP_CONNECTION", b"close"),
        (b"http_lower", b"x"),
        (b"HTTP_X-DASH", b"x"),
        (b"X_TWICE", b"first"),
        (b"X_TWICE", b"last"),
    ]
    blog.stage.uwsgi(packet.encode(pairs))
    assert worker.take().variables == {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/",
        "HTTP_HOST": "blog.localhost",
        "SERVER_PORT": "443",
        "REMOTE_ADDR": "192.0.2.1",
        "HTTPS": "on",
        "X_TWICE": "last",
        "SCRIPT_NAME": "",
        "QUERY_STRING": "",
        "SERVER_NAME": "blog.localhost",
        "SERVER_PROTOCOL": "HTTP/1.1",
    }


def test_split_anywhere_it_is_the_same_packet(blog: Vassal) -> None:
    blog.active().answering()
    client = blog.stage.uwsgi()
    for byte in uwsgi(path="/split", body=b"hello"):
        client.send(bytes([byte]))
    assert client.response().body == b"POST /split 5"


@pytest.mark.parametrize("size", [1, 65535, 65536, 65537, 300_000, 3_000_000])
def test_bodies_of_all_sizes_arrive_whole(blog: Vassal, size: int) -> None:
    body = (bytes(range(256)) * (size // 256 + 1))[:size]
    got = []

    def answer(worker: FakeWorker, request: Request) -> None:
        got.append(request.body + worker.rest_of_body(request))
        worker.respond(request)

    blog.active().answering(answer)
    client = blog.stage.uwsgi(uwsgi(body=body))
    assert client.response().status == 200
    assert got == [body]


def test_a_body_reaches_the_worker_as_it_comes(blog: Vassal) -> None:
    """As nginx sends it with `uwsgi_request_buffering off`."""
    worker = blog.active().worker()
    client = blog.stage.uwsgi(uwsgi(body=b"abcdef")[:-6])
    taken = worker.take()
    assert not taken.whole
    client.send(b"abc")
    assert worker.expect(records.DATA)[4] == b"abc"
    client.send(b"def")
    assert worker.rest_of_body(taken) == b"def"
    worker.respond(taken)
    assert client.response().status == 200


def test_a_client_is_read_no_faster_than_the_worker_takes(blog: Vassal) -> None:
    worker = blog.active().worker()
    client = blog.stage.uwsgi(uwsgi(CONTENT_LENGTH=str(64 << 20), REQUEST_METHOD="POST"))
    taken = worker.take()
    sent = client.send_until_blocked(bytes(65536))
    assert sent < 32 << 20
    got = bytearray()
    while len(got) < sent:
        record = worker.receive()
        assert record is not None, f"the body stops after {len(got)} of {sent} bytes"
        if record[0] == records.BY_CHUTE:
            assert worker.up.enter(taken.stream)
            worker.draw(got, sent)
            break
        assert record[0] == records.DATA
        got += record[4]
        worker.send(records.pack_credit(taken.stream, len(record[4])))
    assert len(got) == sent


def test_what_follows_the_body_is_nobodys(blog: Vassal) -> None:
    got = []

    def answer(worker: FakeWorker, request: Request) -> None:
        got.append(request.body + worker.rest_of_body(request))
        worker.respond(request)

    blog.active().answering(answer)
    client = blog.stage.uwsgi(uwsgi(body=b"abc") + b"tail")
    assert client.response().status == 200
    assert got == [b"abc"]


def test_a_tail_behind_a_request_without_a_body_is_nobodys(blog: Vassal) -> None:
    blog.active().answering()
    assert blog.stage.uwsgi(uwsgi(path="/x") + b"tail").response().body == b"GET /x 0"


@pytest.mark.parametrize("status", [404, 413])
def test_a_front_server_that_is_still_writing_the_body_sees_the_answer(
    stage: Stage, blog: Vassal, status: int
) -> None:
    """nginx makes a 502 of a write that fails; the answer must be there to read, and the writing go on."""
    blog.tell(body_limit=1000)
    body = bytes(5_000_000)
    client = stage.uwsgi(uwsgi("nobody.test" if status == 404 else "blog.localhost", body=body))
    assert client.response().status == status
    assert client.end() == "closed"


def test_an_early_answer_of_the_app_too(blog: Vassal) -> None:
    worker = blog.active().worker()
    client = blog.stage.uwsgi(uwsgi(body=bytes(1_000_000))[:-900_000])
    taken = worker.take()
    worker.respond(taken, "403 Forbidden\r\n", b"no")
    client.send(bytes(900_000))
    response = client.response()
    assert (response.status, response.body) == (403, b"no")


def test_head_gets_no_body(stage: Stage, blog: Vassal) -> None:
    worker = blog.active().worker()
    client = stage.uwsgi(uwsgi(REQUEST_METHOD="HEAD"))
    worker.respond(worker.take(), "200 OK\r\nContent-Length: 4\r\n", b"body")
    assert client.response(to_head=True).headers["content-length"] == "4"
    assert client.end() == "closed"
    client = stage.uwsgi(uwsgi("nobody.test", REQUEST_METHOD="HEAD"))
    assert client.response(to_head=True).status == 404
    assert client.end() == "closed"


def test_a_length_lets_a_front_server_see_a_cut_response(blog: Vassal) -> None:
    """Without one it cannot: a unix socket knows no reset. (uWSGI is no different.)"""
    worker = blog.active().worker()
    client = blog.stage.uwsgi(uwsgi())
    taken = worker.take()
    worker.respond(taken, "200 OK\r\nContent-Length: 100\r\n", b"part", fin=False)
    worker.abort(taken)
    with pytest.raises(CutShort):
        client.response()


def test_over_tcp_a_cut_response_is_reset(stage: Stage, blog: Vassal) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        stage.tell("listen", [listener.fileno()], kind="uwsgi", address="tcp")
        try:
            worker = blog.active().worker()
            client: Connection = stage.keep(Connection(listener.getsockname())).send(uwsgi())
            taken = worker.take()
            worker.respond(taken, body=b"part", fin=False)
            client.head()
            worker.abort(taken)
            with pytest.raises(CutShort) as cut:
                client.read_exactly(100)
            assert cut.value.how == "reset"
        finally:
            stage.tell("unlisten", kind="uwsgi", address="tcp")


def test_http_sent_to_it_is_told_so(stage: Stage) -> None:
    assert stage.uwsgi(get()).response().status == 400
    stage.wait_log("HTTP was sent to a uwsgi socket")


def over_tcp(stage: Stage) -> tuple[str, int]:
    """A uwsgi listener of the emperor's with an address."""
    sock = stage.keep(socket.socket())
    sock.bind(("127.0.0.1", 0))
    sock.listen(64)
    host, port = sock.getsockname()
    place = {"kind": "uwsgi", "address": f"{host}:{port}"}
    stage.tell("listen", [sock.fileno()], **place)
    stage.closing.callback(lambda: stage.tell("unlisten", **place, vassal=""))
    return host, port


@pytest.mark.parametrize("body", [b"", b"hello"])
@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_a_peer_that_only_stops_sending_gets_its_answer(blog: Vassal, tcp: bool, body: bytes) -> None:
    worker = blog.active(seats=1).worker()
    address = over_tcp(blog.stage) if tcp else blog.stage.uwsgi_address
    client = blog.stage.keep(Connection(address)).send(uwsgi(path="/page", body=body))
    running = worker.take()
    client.half_close()
    blog.stage.stats()
    worker.respond(running, body=b"here")
    assert client.response().body == b"here"
    assert client.end() == "closed"
    assert blog.stats()["cancelled"] == 0


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_who_waits_is_answered_unless_it_hangs_up(blog: Vassal, tcp: bool) -> None:
    address = over_tcp(blog.stage) if tcp else blog.stage.uwsgi_address
    first = blog.stage.keep(Connection(address)).send(uwsgi(path="/stays"))
    second = blog.stage.keep(Connection(address)).send(uwsgi(path="/goes"))
    blog.wait_stat("queued", 2)
    first.half_close()
    second.half_close()
    for _ in range(5):  # long enough for the router to look several times
        blog.stage.stats()
    assert blog.stats()["queued"] == 2
    second.close()
    blog.wait_stat("queued", 1)
    worker = blog.active().worker()
    taken = worker.take()
    assert taken.path == "/stays"
    worker.respond(taken, body=b"here")
    assert first.response().body == b"here"
    assert first.end() == "closed"


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_who_closes_while_its_request_runs_has_gone(blog: Vassal, tcp: bool) -> None:
    """nginx ends like this when its own client has gone; the app is told though it sends nothing."""
    worker = blog.active(seats=1).worker()
    address = over_tcp(blog.stage) if tcp else blog.stage.uwsgi_address
    client = blog.stage.keep(Connection(address)).send(uwsgi(path="/poll"))
    running = worker.take()
    client.close()
    assert worker.expect(records.CANCEL)[3] == running.stream
    worker.respond(running)
    blog.wait_stat("running", 0)


@pytest.mark.parametrize("cut", [1, 5, -1])
def test_half_a_packet_and_the_end(blog: Vassal, cut: int) -> None:
    worker = blog.active().worker()
    client = blog.stage.uwsgi(uwsgi(body=b"hello")[:cut])
    client.half_close()
    assert client.end() == "closed"
    blog.wait_stat("running", 0)
    del worker
