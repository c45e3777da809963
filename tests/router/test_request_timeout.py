"""`request-timeout`: the app has to begin its answer by then, wherever its request is. The router looks four times a second."""

import pytest

from tests.router.client import Connection, get, request, uwsgi
from tests.router.stage import Vassal

SHORT_S = 0.3


def ask(blog: Vassal, front: str, path: str = "/") -> Connection:
    return blog.stage.http(get(path=path)) if front == "http" else blog.stage.uwsgi(uwsgi(path=path))


@pytest.mark.parametrize("front", ["http", "uwsgi"])
def test_in_the_queue(blog: Vassal, front: str) -> None:
    blog.tell(request_timeout_s=SHORT_S)
    client = ask(blog, front, "/late")
    assert client.response().status == 504
    assert "in the queue (request-timeout)" in blog.stage.wait_log("504")
    worker = blog.active().answering()
    assert blog.stage.http(get(path="/next")).response().status == 200
    assert [request.path for request in worker.seen] == ["/next"]
    assert blog.stats()["errors"] == {"504": 1}


def test_on_a_deck(blog: Vassal) -> None:
    worker = blog.active(seats=1).worker()
    first = blog.stage.http(get(path="/first"))
    taken = worker.take(timed=False)
    blog.tell(request_timeout_s=SHORT_S)
    second = blog.stage.http(get(path="/second"))
    assert second.response().status == 504
    assert "on deck (request-timeout)" in blog.stage.wait_log("504")
    assert not worker.claim(worker.offered())  # never run
    worker.respond(taken, body=b"from before there was a limit")
    assert first.response().body == b"from before there was a limit"


@pytest.mark.parametrize("front", ["http", "uwsgi"])
def test_in_the_app(blog: Vassal, front: str) -> None:
    """The client is answered, the worker told; its slot is busy until it ends, and what it says then reaches nobody."""
    blog.tell(request_timeout_s=SHORT_S)
    worker = blog.active(seats=1).worker()
    client = ask(blog, front, "/runs")
    running = worker.take()
    response = client.response()
    assert response.status == 504
    assert b"pid" not in response.body
    worker.expect_cancel(running)
    assert f"(pid {blog.links()[0]['pid']}) has begun it" in blog.stage.wait_log("504")
    assert blog.stats()["running"] == 1
    waits = blog.stage.http(get(path="/waits"))
    blog.wait_stat("requests", 2)
    worker.respond(running, body=b"for nobody")
    worker.respond(worker.take(), body=b"for somebody")
    assert waits.response().body == b"for somebody"
    if front == "http":
        client.send(get(path="/again"))
        worker.respond(worker.take(), body=b"on the same connection")
        assert client.response().body == b"on the same connection"
    assert blog.stats()["link_faults"] == 0


def test_an_answer_that_has_begun_may_take_its_time(blog: Vassal) -> None:
    blog.tell(request_timeout_s=SHORT_S)
    worker = blog.active(seats=2).worker()
    client = blog.stage.http(get())
    running = worker.take()
    worker.respond(running, "200 OK\r\nContent-Length: 8\r\n", b"half", fin=False)
    # Another request, which is cut off meanwhile, shows that the time is over.
    assert blog.stage.http(get()).response().status == 504
    worker.data(running, b"half", fin=True)
    assert client.response().body == b"halfhalf"


def test_each_piece_of_a_body_begins_the_time_anew(blog: Vassal) -> None:
    blog.tell(request_timeout_s=2.0)
    worker = blog.active(seats=2).worker()
    uploads = blog.stage.http(request("blog.localhost", "/", "Transfer-Encoding: chunked", method="POST"))
    running = worker.take()
    # Another request, which is cut off meanwhile, shows that the time would be over.
    clock = blog.stage.http(get(path="/clock"), timeout_s=0.05)
    while True:
        try:
            assert clock.response().status == 504
            break
        except TimeoutError:
            uploads.send(b"1\r\nx\r\n")
    uploads.send(b"0\r\n\r\n")
    assert set(worker.rest_of_body(running)) == set(b"x")
    worker.respond(running, body=b"all of it")
    assert uploads.response().body == b"all of it"


def test_without_it_there_is_no_limit(blog: Vassal) -> None:
    worker = blog.active(seats=1).worker()
    client = blog.stage.http(get())
    running = worker.take()
    blog.tell(request_timeout_s=SHORT_S)
    late = blog.stage.http(get())
    assert late.response().status == 504
    worker.respond(running, body=b"it came before the limit did")
    assert client.response().body == b"it came before the limit did"
