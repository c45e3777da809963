"""Interim responses and trailers of a worker: to whom they go, and that they are never more than advice."""

import pytest

from emperor.protocol import records
from emperor.protocol.records import FIN, NO_WORD
from tests.router.client import Connection, get, post, request, uwsgi
from tests.router.stage import Vassal
from tests.router.worker import FakeWorker, Request

HINTS = "103 Early Hints\r\nLink: </style.css>; rel=preload\r\nContent-Length: 5\r\n"


def interim(worker: FakeWorker, request: Request, head: str = HINTS) -> None:
    worker.send(records.pack(records.INTERIM, 0, NO_WORD, request.stream, head.encode("latin-1")))


def raw_head(client: Connection) -> str:
    return client._until(b"\r\n\r\n").decode("latin-1")


def test_early_hints_come_before_the_answer(blog: Vassal) -> None:
    worker = blog.active().worker()
    client = blog.stage.http(get())
    taken = worker.take()
    interim(worker, taken)
    assert raw_head(client) == "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload"
    interim(worker, taken, "102 Processing\r\n")
    worker.respond(taken, body=b"here")
    response = client.response()
    assert (response.interim, response.status, response.body) == ([102], 200, b"here")
    assert blog.stats()["unasked_messages"] == 0


def test_a_request_whose_worker_dies_after_a_hint_is_not_run_again(blog: Vassal) -> None:
    """It has begun: 502, and the connection lives, since no final answer was."""
    generation = blog.active(seats=2)
    worker = generation.worker(seat=0)
    client = blog.stage.http(get())
    taken = worker.take()
    interim(worker, taken)
    raw_head(client)
    worker.abort(taken)
    response = client.response()
    assert (response.status, response.closes) == (502, False)


@pytest.mark.parametrize("kind", ["HTTP/1.0", "uwsgi"])
def test_who_cannot_read_them_gets_none(blog: Vassal, kind: str) -> None:
    worker = blog.active().worker()
    client = blog.stage.http(request(version="1.0")) if kind == "HTTP/1.0" else blog.stage.uwsgi(uwsgi())
    taken = worker.take()
    interim(worker, taken)
    worker.respond(taken, body=b"here")
    response = client.response()
    assert (response.interim, response.body) == ([], b"here")


def test_100_continue_is_sent_once_whatever_the_worker_says(blog: Vassal) -> None:
    worker = blog.active().worker()
    client = blog.stage.http(
        request("blog.localhost", "/", "Content-Length: 3", "Expect: 100-continue", method="POST")
    )
    taken = worker.take()
    interim(worker, taken, "100 Continue\r\n")
    interim(worker, taken, "103 Early Hints\r\n")
    assert raw_head(client) == "HTTP/1.1 100 Continue"
    assert raw_head(client) == "HTTP/1.1 103 Early Hints"
    client.send(b"abc")
    assert taken.body + worker.rest_of_body(taken) == b"abc"
    worker.respond(taken)
    assert client.response().interim == []


@pytest.mark.parametrize(
    "head", ["101 Switching Protocols\r\nUpgrade: x\r\n", "103 x\r\nA: \0\r\n", "200 OK\r\n", ""]
)
def test_a_bad_one_is_dropped_and_told(blog: Vassal, head: str) -> None:
    worker = blog.active().worker()
    client = blog.stage.http(get())
    taken = worker.take()
    interim(worker, taken, head)
    worker.respond(taken, body=b"here")
    response = client.response()
    assert (response.interim, response.body) == ([], b"here")
    blog.stage.wait_log("an interim response that no client may see")
    assert blog.stats()["link_faults"] == 0


def test_there_are_at_most_so_many(blog: Vassal) -> None:
    worker = blog.active().worker()
    client = blog.stage.http(get())
    taken = worker.take()
    for _ in range(20):
        interim(worker, taken)
    worker.respond(taken)
    assert client.response().interim == [103] * 16
    assert blog.stats()["unasked_messages"] == 4


def test_one_after_the_head_is_dropped(blog: Vassal) -> None:
    worker = blog.active().worker()
    client = blog.stage.http(get())
    taken = worker.take()
    worker.respond(taken, body=b"a", fin=False)
    interim(worker, taken)
    worker.data(taken, b"b", fin=True)
    assert client.response().body == b"ab"
    assert blog.stats()["unasked_messages"] == 1


# Trailers


def answered(
    worker: FakeWorker, taken: Request, fields: bytes, head: str = "200 OK\r\nTrailer: X-Sum\r\n"
) -> None:
    worker.respond(taken, head, b"body", fin=False)
    worker.let_go(taken)
    worker.send(records.pack(records.TRAILERS, FIN, NO_WORD, taken.stream, fields))


def test_trailers_go_to_who_takes_them(blog: Vassal) -> None:
    worker = blog.active().worker()
    client = blog.stage.http(get("blog.localhost", "/", "TE: trailers", "Connection: TE"))
    answered(worker, worker.take(), b"X-Sum: 1\r\nSet-Cookie: a=b\r\nTransfer-Encoding: x\r\n")
    head = client.head()
    assert (head.headers["transfer-encoding"], head.headers["trailer"]) == ("chunked", "X-Sum")
    assert client.read_exactly(9 + 3 + 10 + 2) == b"4\r\nbody\r\n0\r\nX-Sum: 1\r\n\r\n"
    client.send(get())
    worker.respond(worker.take(), body=b"next", fin=False)
    assert client.head().status == 200
    assert client.read_exactly(9) == b"4\r\nnext\r\n"


@pytest.mark.parametrize("why", ["not asked for", "HTTP/1.0", "a length", "HEAD", "uwsgi"])
def test_nobody_else_gets_any(blog: Vassal, why: str) -> None:
    worker = blog.active().worker()
    sends = {
        "not asked for": get(),
        "HTTP/1.0": request("blog.localhost", "/", "TE: trailers", version="1.0"),
        "HEAD": request("blog.localhost", "/", "TE: trailers", method="HEAD"),
    }.get(why, get("blog.localhost", "/", "TE: trailers"))
    client = blog.stage.uwsgi(uwsgi(HTTP_TE="trailers")) if why == "uwsgi" else blog.stage.http(sends)
    head = "200 OK\r\nContent-Length: 4\r\n" if why == "a length" else "200 OK\r\n"
    answered(worker, worker.take(), b"X-Sum: 1\r\n", head)
    response = client.response(to_head=why == "HEAD")
    assert response.body == (b"" if why == "HEAD" else b"body")
    assert "trailer" not in response.headers
    if why in ("not asked for", "a length", "HEAD"):
        client.send(get("nobody.test"))
        assert client.response().status == 404


@pytest.mark.parametrize("fields", [b"X-Sum: a\0\r\n", b"X-Sum: 1\r\n\r\nHTTP/1.1 200 OK\r\n", b"X-Sum"])
def test_bad_trailers_are_dropped_and_told(blog: Vassal, fields: bytes) -> None:
    worker = blog.active().worker()
    client = blog.stage.http(get("blog.localhost", "/", "TE: trailers"))
    answered(worker, worker.take(), fields)
    assert client.response().body == b"body"
    blog.stage.wait_log("trailers that no client may see")
    client.send(get("nobody.test"))
    assert client.response().status == 404


def test_trailers_of_a_request_are_checked_and_dropped(blog: Vassal) -> None:
    worker = blog.active().worker()
    head = request("blog.localhost", "/", "Transfer-Encoding: chunked", "Trailer: X-Sum", method="POST")
    client = blog.stage.http(
        head + b"1\r\na\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\n" + get(path="/next")
    )
    taken = worker.take()
    assert taken.body + worker.rest_of_body(taken) == b"a"
    assert not {"HTTP_X_SUM", "HTTP_TRAILER", "CONTENT_LENGTH"} & set(taken.variables)
    worker.respond(taken)
    worker.respond(worker.take(), body=b"next")
    assert [client.response().body for _ in range(2)] == [b"", b"next"]


# What has no body


@pytest.mark.parametrize("fin", [True, False])
@pytest.mark.parametrize(
    ("status", "method", "length"),
    [
        ("204 No Content", "GET", None),
        ("304 Not Modified", "GET", None),
        ("205 Reset Content", "GET", "0"),
        ("200 OK", "HEAD", None),
        ("205 Reset Content", "HEAD", "0"),
    ],
)
def test_what_has_no_body_gets_none_whatever_the_worker_sends(
    blog: Vassal, status: str, method: str, length: str | None, fin: bool
) -> None:
    worker = blog.active().worker()
    client = blog.stage.http(request(method=method))
    taken = worker.take()
    worker.respond(taken, f"{status}\r\n", b"forbidden", fin=fin)
    if not fin:
        worker.data(taken, b"more", fin=True)
    client.send(post(b"x", path="/next"))
    response = client.response(to_head=True)
    assert response.status == int(status[:3])
    assert response.headers.get("content-length") == length
    worker.respond(worker.take(), body=b"next")
    assert client.response().body == b"next"
