"""Clients that stop sending and read on are answered for all that they have asked; those that have gone are not worked for
(docs/decisions/0005)."""

import pytest

from tests.router.client import CutShort, chunked, get, post, request
from tests.router.stage import Vassal


def test_all_of_a_pipeline_is_answered(blog: Vassal) -> None:
    blog.active().answering()
    sent = (
        get(path="/1")
        + post(b"x" * 100, path="/2")
        + request("blog.localhost", "/3", "Transfer-Encoding: chunked", method="POST")
        + chunked(b"abc")
        + get("nobody.test")
        + get(path="/5")
    )
    client = blog.stage.http(sent)
    client.half_close()
    got = [client.response() for _ in range(5)]
    assert [each.status for each in got] == [200, 200, 200, 404, 200]
    assert [each.body for each in got if each.status == 200] == [
        b"GET /1 0",
        b"POST /2 100",
        b"POST /3 3",
        b"GET /5 0",
    ]
    assert [each.closes for each in got] == [False] * 4 + [True]
    assert client.end() == "closed"


def test_hundreds_more_than_are_read_ahead(blog: Vassal) -> None:
    """The end comes while the connection is not read."""
    blog.active().answering()
    client = blog.stage.http(b"".join(get(path=f"/{index}", host="blog.localhost") for index in range(3000)))
    client.half_close()
    for index in range(3000):
        assert client.response().body == b"GET /%d 0" % index
    assert client.end() == "closed"


@pytest.mark.parametrize("rest", [get()[:-1], b"GET /", post(b"abc")[:-1], b"\r\n"])
def test_half_a_request_behind_is_nothing(blog: Vassal, rest: bytes) -> None:
    worker = blog.active().worker()
    client = blog.stage.http(get(path="/whole") + rest)
    client.half_close()
    # Who comes later is answered later: the router has seen the end by then. Else it might offer the half, and cancel it.
    assert blog.stage.http(get("nobody.test")).response().status == 404
    taken = worker.take()
    assert taken.path == "/whole"
    worker.respond(taken, body=b"here")
    assert client.response().body == b"here"
    assert client.end() == "closed"
    worker.expect_nothing(0.05)
    assert (blog.stats()["running"], blog.stats()["queued"]) == (0, 0)


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_half_a_body_and_the_end_of_an_answer_that_has_begun(blog: Vassal, version: str) -> None:
    """What of the answer is there must not pass for the whole."""
    blog.tell(request_buffering=False)
    worker = blog.active().worker()
    client = blog.stage.http(post(b"abc").replace(b"1.1", version.encode(), 1)[:-1])
    taken = worker.take()
    worker.respond(taken, body=b"half", fin=False)
    client.head()
    client.half_close()
    worker.expect_cancel(taken)
    worker.abort(taken)
    with pytest.raises(CutShort) as cut:
        client.read_exactly(1 << 20)
    assert cut.value.how == "reset"


def test_half_a_request_and_the_end(blog: Vassal) -> None:
    client = blog.stage.http(post(b"abc")[:-1])
    client.half_close()
    assert client.end() == "closed"


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_who_waits_in_the_queue_is_answered(blog: Vassal, version: str) -> None:
    """HTTP/1.1 is asked whether it is there, by a response that it must read over; HTTP/1.0 cannot be."""
    client = blog.stage.http(request(path="/waits", version=version))
    client.half_close()
    blog.wait_stat("queued", 1)
    # Long enough for the router to look several times.
    for _ in range(5):
        blog.stage.stats()
    worker = blog.active().worker()
    taken = worker.take()
    assert taken.path == "/waits"
    worker.respond(taken, body=b"here")
    response = client.response()
    assert (response.status, response.body, response.closes) == (200, b"here", True)
    assert response.interim == ([100] if version == "1.1" else [])
    assert client.end() == "closed"


def test_who_waits_behind_a_busy_worker_is_answered(blog: Vassal) -> None:
    worker = blog.active(seats=1).worker()
    first = blog.stage.http(get(path="/first"))
    ahead = worker.take(timed=False)
    second = blog.stage.http(get(path="/second"))
    blog.wait_stat("on_deck", 1)
    second.half_close()
    # Long enough for the router to look whether it is there.
    for _ in range(5):
        blog.stage.stats()
    worker.respond(ahead)
    assert first.response().status == 200
    worker.respond(worker.take(), body=b"second")
    assert second.response().body == b"second"


def test_who_has_gone_from_the_queue_after_stopping_is_noticed(blog: Vassal) -> None:
    """It half-closes first, and closes while it waits."""
    client = blog.stage.http(get(path="/gone"))
    client.half_close()
    blog.wait_stat("queued", 1)
    client.close()
    blog.wait_stat("queued", 0)
    assert blog.stats()["cancelled"] == 1


def test_a_response_that_streams_when_the_end_comes(blog: Vassal) -> None:
    worker = blog.active().worker()
    client = blog.stage.http(get())
    taken = worker.take()
    worker.respond(taken, body=b"one ", fin=False)
    client.head()
    assert client.read_exactly(9) == b"4\r\none \r\n"
    client.half_close()
    blog.stage.stats()
    worker.data(taken, b"two", fin=True)
    assert client.read_exactly(13) == b"3\r\ntwo\r\n0\r\n\r\n"
    assert client.end() == "closed"


def test_a_response_that_has_a_pause_when_the_end_comes(blog: Vassal) -> None:
    """Whether its client is there is found out by a zero, which the size of the next chunk then begins with."""
    worker = blog.active().worker()
    client = blog.stage.http(get())
    taken = worker.take()
    worker.respond(taken, body=b"one ", fin=False)
    client.head()
    assert client.read_exactly(9) == b"4\r\none \r\n"
    client.half_close()
    assert client.read_exactly(1) == b"0"
    worker.data(taken, b"two", fin=True)
    assert client.read_exactly(13) == b"3\r\ntwo\r\n0\r\n\r\n"
    assert client.end() == "closed"


def test_an_early_answer_and_the_end(blog: Vassal) -> None:
    """The answer came before the body was whole, and the body will not come: nothing is left to do."""
    worker = blog.active().worker()
    client = blog.stage.http(post(b"x" * 1000)[:-900])
    worker.respond(worker.take(), "403 Forbidden\r\n", b"no")
    assert client.response().status == 403
    client.half_close()
    with pytest.raises(CutShort) as cut:
        client.response()
    assert cut.value.how == "closed"
