"""The HTTP front: requests in, their order, their bodies, and what keeps a connection."""

import pytest

from emperor.protocol import records
from tests.router.client import chunked, get, post, request
from tests.router.stage import Stage, Vassal
from tests.router.worker import FakeWorker, Request


def chunked_post(*pieces: bytes, path: str = "/") -> bytes:
    return request("blog.localhost", path, "Transfer-Encoding: chunked", method="POST") + chunked(*pieces)


def test_what_an_app_is_told(stage: Stage, blog: Vassal) -> None:
    worker = blog.active().worker()
    client = stage.http(
        b"GET /a%20b/c?x=1%202&y HTTP/1.1\r\nHost: BLOG.localhost:8080\r\nX-One: 1\r\nx-one: 2\r\n"
        b"Cookie: a=1\r\nCookie: b=2\r\nX_Forged: no\r\nProxy: no\r\nConnection: keep-alive\r\n\r\n"
    )
    variables = worker.take().variables
    host, port = stage.http_address
    assert variables == {
        "REQUEST_METHOD": "GET",
        "REQUEST_URI": "/a%20b/c?x=1%202&y",
        "PATH_INFO": "/a b/c",
        "QUERY_STRING": "x=1%202&y",
        "SCRIPT_NAME": "",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REQUEST_SCHEME": "http",
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": str(client.sock.getsockname()[1]),
        "HTTP_HOST": "BLOG.localhost:8080",
        "HTTP_X_ONE": "1, 2",
        "HTTP_COOKIE": "a=1; b=2",
    }


@pytest.mark.parametrize(
    ("method", "idempotent"),
    [("GET", True), ("HEAD", True), ("PUT", True), ("DELETE", True), ("POST", False), ("PATCH", False)],
)
def test_a_request_says_whether_it_may_be_repeated(blog: Vassal, method: str, idempotent: bool) -> None:
    worker = blog.active().worker()
    blog.stage.http(request(method=method))
    assert bool(worker.take().flags & records.IDEMPOTENT) is idempotent


def test_split_anywhere_it_is_the_same_request(blog: Vassal) -> None:
    """Byte by byte, head and chunked body alike."""
    blog.active().answering()
    client = blog.stage.http()
    client.sock.setsockopt(6, 1, 1)  # TCP_NODELAY
    for byte in chunked_post(b"hello", b", ", b"world", path="/split"):
        client.send(bytes([byte]))
    assert client.response().body == b"POST /split 12"


# One connection, many requests


def test_keep_alive(blog: Vassal) -> None:
    blog.active().answering()
    client = blog.stage.http()
    for index in range(5):
        client.send(get(path=f"/{index}"))
        response = client.response()
        assert (response.body, response.closes) == (f"GET /{index} 0".encode(), False)


def test_pipelined_requests_are_answered_in_order(blog: Vassal) -> None:
    """Also when there is a worker for each: the second is taken up when the first has been answered."""
    generation = blog.active(seats=2)
    one, two = generation.answering(seat=0), generation.answering(seat=1)
    client = blog.stage.http(b"".join(get(path=f"/{index}") for index in range(3)))
    assert [client.response().body for _ in range(3)] == [f"GET /{index} 0".encode() for index in range(3)]
    assert sorted(each.path for each in one.seen + two.seen) == ["/0", "/1", "/2"]


def test_hundreds_of_pipelined_requests(blog: Vassal) -> None:
    blog.active().answering()
    client = blog.stage.http(b"".join(get(path=f"/{index}") for index in range(300)))
    for index in range(300):
        assert client.response().body == f"GET /{index} 0".encode()


def test_pipelined_behind_bodies_of_both_kinds(blog: Vassal) -> None:
    blog.active().answering()
    client = blog.stage.http(
        post(b"x" * 10, path="/one") + chunked_post(b"abc", b"de", path="/two") + get(path="/three")
    )
    assert [client.response().body for _ in range(3)] == [b"POST /one 10", b"POST /two 5", b"GET /three 0"]


def test_pipelined_pages_of_our_own(stage: Stage, blog: Vassal) -> None:
    blog.active().answering()
    client = stage.http(get("nobody.test") * 50 + get(path="/last"))
    assert [client.response().status for _ in range(51)] == [404] * 50 + [200]


def test_a_flood_of_pipelined_requests_is_not_read_ahead_of_its_answers(blog: Vassal) -> None:
    worker = blog.active().worker()
    client = blog.stage.http(get(path="/first"))
    held = worker.take()
    assert client.send_until_blocked(get(path="/next") * 1000) < 32 << 20
    worker.respond(held, body=b"first")
    assert client.response().body == b"first"
    worker.respond(worker.take(), body=b"next")
    assert client.response().body == b"next"


def test_a_client_may_close_after_its_request(blog: Vassal) -> None:
    worker = blog.active().worker()
    client = blog.stage.http(get("blog.localhost", "/", "Connection: close") + get(path="/not-asked"))
    worker.respond(worker.take(), body=b"last")
    response = client.response()
    assert (response.body, response.closes) == (b"last", True)
    assert client.end() == "closed"
    worker.expect_nothing(0.05)


def test_http_1_0_closes_unless_asked(blog: Vassal) -> None:
    blog.active().answering()
    client = blog.stage.http(request(version="1.0"))
    assert client.response().closes
    assert client.end() == "closed"
    client = blog.stage.http(request("blog.localhost", "/", "Connection: keep-alive", version="1.0"))
    assert client.response().headers["connection"] == "keep-alive"
    client.send(get())
    assert client.response().status == 200


def test_http_1_0_without_a_host_goes_to_the_default(fresh: Stage) -> None:
    default = fresh.vassal("first", default=True)
    fresh.vassal("second")
    fresh.open_for_business()
    default.active().answering()
    assert fresh.http(b"GET /old HTTP/1.0\r\n\r\n").response().body == b"GET /old 0"
    assert fresh.http(get("unknown.test")).response().status == 200


def test_an_empty_line_before_a_request_is_forgiven(blog: Vassal) -> None:
    blog.active().answering()
    client = blog.stage.http(b"\r\n" + get() + b"\r\n" + get())
    assert [client.response().status for _ in range(2)] == [200, 200]


# Request bodies


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 300_000, 3_000_000])
@pytest.mark.parametrize("kind", ["length", "chunked"])
def test_bodies_of_all_sizes_arrive_whole(blog: Vassal, size: int, kind: str) -> None:
    body = (bytes(range(256)) * (size // 256 + 1))[:size]
    got = []

    def answer(worker: FakeWorker, request: Request) -> None:
        got.append(request.body + worker.rest_of_body(request))
        worker.respond(request)

    blog.active().answering(answer)
    pieces = [body[at : at + 10_000] for at in range(0, size, 10_000)]
    client = blog.stage.http(post(body) if kind == "length" else chunked_post(*pieces))
    assert client.response().status == 200
    assert got == [body]
    client.send(post(b"next"))
    assert client.response().status == 200


def test_a_body_reaches_the_worker_as_it_comes(blog: Vassal) -> None:
    worker = blog.active().worker()
    client = blog.stage.http(request("blog.localhost", "/", "Content-Length: 6", method="POST"))
    taken = worker.take()
    assert (taken.body, taken.whole) == (b"", False)
    client.send(b"abc")
    assert worker.expect(records.DATA)[4] == b"abc"
    client.send(b"def")
    assert worker.rest_of_body(taken) == b"def"
    worker.respond(taken)
    assert client.response().status == 200


def test_a_client_is_read_no_faster_than_the_worker_takes(blog: Vassal) -> None:
    """What the router holds of a body is bounded; the rest stays with the client."""
    worker = blog.active().worker()
    size = 64 << 20
    client = blog.stage.http(request("blog.localhost", "/", f"Content-Length: {size}", method="POST"))
    worker.take()
    assert client.send_until_blocked(bytes(65536), size) < 32 << 20


def test_100_continue_is_sent_when_the_app_reads(blog: Vassal) -> None:
    client = blog.stage.http(
        request("blog.localhost", "/", "Content-Length: 3", "Expect: 100-continue", method="POST")
    )
    worker = blog.active().worker()
    taken = worker.offered()
    assert taken.flags & records.AWAITS and not taken.flags & records.FIN
    assert worker.claim(taken)
    worker.send(records.pack_credit(taken.stream, 0))  # it has begun
    client.sock.settimeout(0.05)
    with pytest.raises(TimeoutError):
        client.head()
    client.sock.settimeout(10)
    worker.send(records.pack_credit(taken.stream, 65536))  # and reads
    assert client.read_exactly(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"abc")
    assert worker.rest_of_body(taken) == b"abc"
    worker.respond(taken, body=b"thanks")
    assert client.response().body == b"thanks"
    assert blog.stats()["unasked_messages"] == 0


def test_an_app_that_does_not_read_asks_for_no_body(blog: Vassal) -> None:
    client = blog.stage.http(
        request("blog.localhost", "/", "Content-Length: 3", "Expect: 100-continue", method="POST")
    )
    worker = blog.active().worker()
    taken = worker.offered()
    assert worker.claim(taken)
    worker.send(records.pack_credit(taken.stream, 0))
    worker.respond(taken, "403 Forbidden\r\n", b"no")
    response = client.response()
    assert (response.interim, response.status, response.closes) == ([], 403, True)


def test_100_continue_is_sent_when_the_worker_begins(blog: Vassal) -> None:
    client = blog.stage.http(
        request("blog.localhost", "/", "Content-Length: 3", "Expect: 100-continue", method="POST")
    )
    blog.wait_stat("queued", 1)
    client.sock.settimeout(0.05)
    with pytest.raises(TimeoutError):
        client.head()
    client.sock.settimeout(10)
    worker = blog.active().worker()
    taken = worker.take()
    assert client.read_exactly(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"abc")
    assert worker.rest_of_body(taken) == b"abc"
    worker.respond(taken, body=b"thanks")
    response = client.response()
    assert (response.interim, response.body, response.closes) == ([], b"thanks", False)


def test_an_answer_without_100_continue_ends_the_connection(blog: Vassal) -> None:
    """The client may or may not send its body after it: nothing behind it could be told apart."""
    blog.tell(body_limit=2)
    client = blog.stage.http(
        request("blog.localhost", "/", "Content-Length: 3", "Expect: 100-continue", method="POST")
    )
    response = client.response()
    assert (response.interim, response.status, response.closes) == ([], 413, True)
    assert client.end() == "closed"


def test_who_does_not_wait_for_100_continue_gets_none(blog: Vassal) -> None:
    blog.active().answering()
    client = blog.stage.http(post(b"abc", "blog.localhost", "/", "Expect: 100-continue"))
    response = client.response()
    assert (response.interim, response.body) == ([], b"POST / 3")


@pytest.mark.parametrize("kind", ["length", "chunked"])
def test_a_body_within_the_limit(blog: Vassal, kind: str) -> None:
    blog.tell(body_limit=1000)
    blog.active().answering()
    client = blog.stage.http(post(b"x" * 1000) if kind == "length" else chunked_post(b"x" * 500, b"x" * 500))
    assert client.response().body == b"POST / 1000"


@pytest.mark.parametrize("kind", ["length", "chunked"])
@pytest.mark.parametrize("where", ["queue", "worker"])
def test_a_body_over_the_limit(blog: Vassal, kind: str, where: str) -> None:
    """With a length the app never hears of it. Chunked, it may have begun: it is cancelled."""
    blog.tell(body_limit=1000)
    worker = blog.active().worker() if where == "worker" else None
    head = request(
        "blog.localhost",
        "/",
        "Content-Length: 1001" if kind == "length" else "Transfer-Encoding: chunked",
        method="POST",
    )
    client = blog.stage.http(head)
    if kind == "chunked":
        client.send(b"%x\r\n%b\r\n" % (600, b"x" * 600))
        taken = worker.take() if worker else None
        if worker is None:
            blog.wait_stat("queued", 1)
        client.send(b"%x\r\n%b\r\n" % (600, b"x" * 600))
        if worker and taken:
            worker.expect_cancel(taken)
            worker.abort(taken)
    response = client.response()
    assert (response.status, response.closes) == (413, kind == "chunked")
    stats = blog.stats()
    assert (stats["queued"], stats["requests"]) == (0, 0 if kind == "length" else 1)


def test_a_small_body_that_nobody_read_is_dropped_and_the_connection_lives(
    stage: Stage, blog: Vassal
) -> None:
    blog.active().answering()
    client = stage.http(post(b"x" * 100_000, "nobody.test") + get(path="/next"))
    assert client.response().status == 404
    assert client.response().body == b"GET /next 0"


def test_a_large_body_that_nobody_read_costs_the_connection(stage: Stage) -> None:
    """But the client sees the answer, however busy it is with sending."""
    client = stage.http(request("nobody.test", "/", "Content-Length: 1000000000", method="POST"))
    client.send(bytes(1_000_000))
    response = client.response()
    assert (response.status, response.closes) == (404, True)
    client.send_as_far_as_it_goes(bytes(100_000))
    assert client.end() in ("closed", "reset")


def test_an_answer_before_the_body_is_whole(blog: Vassal) -> None:
    """The app did not want to read it; the next request of the connection is none of its bytes."""
    worker = blog.active().worker()
    client = blog.stage.http(post(b"x" * 1000)[:-900])
    taken = worker.take()
    worker.respond(taken, "403 Forbidden\r\n", b"no")
    response = client.response()
    assert (response.status, response.closes) == (403, False)
    client.send(
        b"GET /smuggled HTTP/1.1\r\nHost: blog.localhost\r\n\r\n".ljust(900, b"x") + get(path="/next")
    )
    again = worker.take()
    assert again.path == "/next"
    worker.respond(again, body=b"next")
    assert client.response().body == b"next"


def test_a_response_may_stream_while_the_body_comes(blog: Vassal) -> None:
    worker = blog.active().worker()
    client = blog.stage.http(request("blog.localhost", "/", "Content-Length: 6", method="POST"))
    taken = worker.take()
    worker.respond(taken, body=b"a", fin=False)
    client.head()
    assert client.read_exactly(6) == b"1\r\na\r\n"
    client.send(b"abc")
    assert worker.expect(records.DATA)[4] == b"abc"
    worker.data(taken, b"b")
    assert client.read_exactly(6) == b"1\r\nb\r\n"
    client.send(b"def")
    assert worker.rest_of_body(taken) == b"def"
    worker.data(taken, fin=True)
    assert client.read_exactly(5) == b"0\r\n\r\n"
    client.send(get(path="/next"))
    worker.respond(worker.take())
    assert client.response().status == 200


def test_a_bad_chunk_inside_a_running_request(blog: Vassal) -> None:
    worker = blog.active().worker()
    client = blog.stage.http(request("blog.localhost", "/", "Transfer-Encoding: chunked", method="POST"))
    client.send(b"3\r\nabc\r\n")
    taken = worker.take()
    client.send(b"zzz\r\n")
    response = client.response()
    assert (response.status, response.closes) == (400, True)
    worker.expect_cancel(taken)
    worker.abort(taken)
    blog.wait_stat("running", 0)


def test_a_bad_chunk_inside_a_response_resets(blog: Vassal) -> None:
    worker = blog.active().worker()
    client = blog.stage.http(request("blog.localhost", "/", "Transfer-Encoding: chunked", method="POST"))
    taken = worker.take()
    worker.respond(taken, body=b"part", fin=False)
    client.head()
    assert client.read_exactly(9) == b"4\r\npart\r\n"
    client.send(b"zzz\r\n")
    assert client.end() == "reset"
    worker.expect(records.CANCEL)


def test_the_last_answer_survives_what_was_pipelined_behind_it(blog: Vassal) -> None:
    """Closing over unread bytes would reset the answer away."""
    worker = blog.active().worker()
    client = blog.stage.http(get("blog.localhost", "/", "Connection: close"))
    taken = worker.take()
    assert client.send_until_blocked(get() * 1000)
    # More than the client's kernel takes before it reads: the rest is ours to keep until it does.
    worker.respond(taken, f"200 OK\r\nContent-Length: {4 * 60_000}\r\n", fin=False)
    for _ in range(4):
        worker.data(taken, b"x" * 60_000)
    worker.data(taken, fin=True)
    blog.wait_stat("running", 0)
    assert len(client.response().body) == 4 * 60_000
