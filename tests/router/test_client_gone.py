"""Clients that go away: what has not begun is never run, and what runs keeps its slot until the worker ends it."""

import pytest

from emperor.protocol import records
from tests.router.client import get, post, uwsgi
from tests.router.stage import Vassal


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("front", ["http", "uwsgi"])
def test_gone_while_queued(blog: Vassal, how: str, front: str) -> None:
    client = blog.stage.http(get(path="/gone")) if front == "http" else blog.stage.uwsgi(uwsgi(path="/gone"))
    blog.wait_stat("queued", 1)
    getattr(client, how)()
    blog.wait_stat("queued", 0)
    assert blog.stats()["cancelled"] == 1
    worker = blog.active().answering()
    assert blog.stage.http(get(path="/next")).response().status == 200
    assert [request.path for request in worker.seen] == ["/next"]


@pytest.mark.parametrize("how", ["close", "reset"])
def test_gone_while_on_deck(blog: Vassal, how: str) -> None:
    worker = blog.active(seats=1).worker()
    first = blog.stage.http(get(path="/first"))
    taken = worker.take(timed=False)
    gone = blog.stage.http(get(path="/gone"))
    blog.wait_stat("on_deck", 1)
    getattr(gone, how)()
    blog.wait_stat("on_deck", 0)
    offered = worker.offered()
    assert offered.path == "/gone"
    assert worker.word_state(offered) == "REVOKED"
    assert not worker.claim(offered)
    worker.respond(taken)
    assert first.response().status == 200


@pytest.mark.parametrize(("front", "how"), [("http", "reset"), ("http", "close"), ("uwsgi", "reset")])
def test_gone_while_running(blog: Vassal, front: str, how: str) -> None:
    """CANCEL; the slot is busy until the worker says that it has ended; nothing of the answer reaches anybody."""
    worker = blog.active(seats=1).worker()
    client = blog.stage.http(get(path="/runs")) if front == "http" else blog.stage.uwsgi(uwsgi(path="/runs"))
    running = worker.take()
    getattr(client, how)()
    assert worker.expect(records.CANCEL)[3] == running.stream
    assert blog.stats()["running"] == 1
    patient = blog.stage.http(get(path="/waits"))
    blog.wait_stat("requests", 2)
    worker.respond(running, body=b"for nobody", fin=False)
    worker.data(running, b"at all", fin=True)
    worker.respond(worker.take(), body=b"for somebody")
    assert patient.response().body == b"for somebody"
    assert blog.stats()["link_faults"] == 0


@pytest.mark.parametrize("how", ["reset", "close"])
def test_gone_inside_a_response(blog: Vassal, how: str) -> None:
    """Nothing is sent meanwhile: a stream of events may have none for minutes."""
    worker = blog.active(seats=1).worker()
    client = blog.stage.http(get())
    running = worker.take()
    worker.respond(running, body=b"some", fin=False)
    client.head()
    assert client.read_exactly(9) == b"4\r\nsome\r\n"
    getattr(client, how)()
    worker.expect(records.CANCEL)
    worker.data(running, b"more")
    worker.abort(running)
    blog.wait_stat("running", 0)


def test_gone_inside_an_upload(blog: Vassal) -> None:
    worker = blog.active(seats=1).worker()
    client = blog.stage.http(post(b"x" * 1000)[:-500])
    running = worker.take()
    client.close()
    assert worker.expect(records.CANCEL)[3] == running.stream
    worker.respond(running)
    blog.wait_stat("running", 0)


def test_gone_with_the_upload_in_the_queue(blog: Vassal) -> None:
    client = blog.stage.http(post(b"x" * 1000)[:-500])
    blog.wait_stat("queued", 1)
    client.close()
    blog.wait_stat("queued", 0)


def test_a_client_that_only_stops_sending_gets_its_answer(blog: Vassal) -> None:
    worker = blog.active(seats=1).worker()
    client = blog.stage.http(get())
    running = worker.take()
    client.half_close()
    blog.stage.stats()
    worker.respond(running, body=b"here")
    response = client.response()
    assert (response.body, response.closes) == (b"here", True)
    assert client.end() == "closed"


def test_a_client_that_stops_sending_after_its_request_has_moved_up_gets_its_answer(blog: Vassal) -> None:
    """It waited on deck, and has begun since; the router cannot know that without asking the page."""
    worker = blog.active(seats=1).worker()
    first = blog.stage.http(get(path="/first"))
    ahead = worker.take(timed=False)
    second = blog.stage.http(get(path="/second"))
    blog.wait_stat("on_deck", 1)
    worker.respond(ahead)
    assert first.response().status == 200
    running = worker.take()
    second.half_close()
    blog.stage.stats()
    worker.expect_nothing(0.05)
    worker.respond(running, body=b"second")
    assert second.response().body == b"second"


def test_gone_between_two_requests_is_nothing(blog: Vassal) -> None:
    worker = blog.active(seats=1).worker()
    client = blog.stage.http(get())
    worker.respond(worker.take())
    client.response()
    client.close()
    worker.expect_nothing(0.05)
    assert blog.stats()["cancelled"] == 0
