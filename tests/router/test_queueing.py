"""The one queue of an app: who waits there, how many, how long, and who is turned away."""

import pytest

from tests.router.client import get, post, uwsgi
from tests.router.stage import Vassal


def test_an_app_that_is_known_and_not_there_yet_queues(blog: Vassal) -> None:
    """A new router, or a worker just restarted: the client waits, and is never told 404 or 502."""
    client = blog.stage.http(get(path="/early"))
    blog.wait_stat("queued", 1)
    blog.active().answering()
    assert client.response().body == b"GET /early 0"


def test_what_waits_is_served_in_the_order_of_arrival(blog: Vassal) -> None:
    clients = []
    for index in range(10):
        clients.append(blog.stage.http(get(path=f"/{index}")))
        blog.wait_stat("queued", index + 1)
    worker = blog.active(deck=4).answering()
    for client in clients:
        assert client.response().status == 200
    assert [request.path for request in worker.seen] == [f"/{index}" for index in range(10)]


def test_a_full_queue_turns_away_at_once(blog: Vassal) -> None:
    blog.tell(queue=2)
    waiting = [blog.stage.http(get()) for _ in range(2)]
    blog.wait_stat("queued", 2)
    refused = blog.stage.http(get())
    response = refused.response()
    assert (response.status, response.headers["retry-after"], response.closes) == (503, "1", False)
    assert "queue is full" in blog.stage.wait_log("503")
    blog.active().answering()
    assert [client.response().status for client in waiting] == [200, 200]
    refused.send(get())
    assert refused.response().status == 200
    assert blog.stats()["errors"] == {"503": 1}


@pytest.mark.parametrize("front", ["http", "uwsgi"])
def test_who_has_waited_too_long_is_told_when_to_try_again(blog: Vassal, front: str) -> None:
    blog.tell(queue_timeout_s=0.2)
    client = blog.stage.http(get()) if front == "http" else blog.stage.uwsgi(uwsgi())
    response = client.response()
    assert (response.status, response.headers["retry-after"]) == (503, "1")
    blog.stage.wait_log("503: .*queue-timeout")
    assert blog.stats()["queued"] == 0
    worker = blog.active().answering()
    if front == "http":
        client.send(get(path="/again"))
        assert client.response().status == 200
    assert [request.path for request in worker.seen] == (["/again"] if front == "http" else [])


def test_who_waits_on_a_deck_too_long_is_told_too(blog: Vassal) -> None:
    blog.tell(queue_timeout_s=0.3)
    worker = blog.active(seats=1).worker()
    first = blog.stage.http(get(path="/first"))
    taken = worker.take(timed=False)
    second = blog.stage.http(post(b"x" * 100, path="/second"))
    blog.wait_stat("on_deck", 1)
    assert second.response().status == 503
    assert not worker.claim(worker.offered())  # never run
    worker.respond(taken, body=b"however long it ran")
    assert first.response().body == b"however long it ran"


def test_what_runs_has_no_queue_deadline(blog: Vassal) -> None:
    blog.tell(queue_timeout_s=0.2)
    worker = blog.active(seats=1).worker()
    runs = blog.stage.http(get(path="/runs"))
    taken = worker.take()
    assert blog.stage.http(get(path="/waits")).response().status == 503
    assert blog.stage.http(get(path="/waits")).response().status == 503
    worker.respond(taken)
    assert runs.response().status == 200


def test_an_app_that_has_never_been_ready_is_not_waited_for(blog: Vassal) -> None:
    blog.tell(available=False, reason="it does not import")
    response = blog.stage.http(get()).response()
    assert (response.status, response.headers["retry-after"]) == (503, "5")
    assert b"import" not in response.body
    blog.stage.wait_log("does not import")


def test_those_who_wait_are_told_when_the_app_is_given_up(blog: Vassal) -> None:
    client = blog.stage.http(get())
    blog.wait_stat("queued", 1)
    blog.tell(available=False, reason="given up")
    assert client.response().status == 503


def test_who_waits_for_workers_of_a_generation_that_is_active_is_not_told_so_early(blog: Vassal) -> None:
    """As in a new router, when a new emperor has not heard of the gateway yet."""
    generation = blog.active(seats=1)
    client = blog.stage.http(get())
    blog.wait_stat("queued", 1)
    blog.tell(available=False, reason="not taken over yet")
    assert blog.stats()["queued"] == 1
    blog.tell(available=True)
    worker = generation.worker()
    worker.respond(worker.take(), body=b"here it is")
    assert client.response().body == b"here it is"


def test_who_waits_for_workers_of_a_generation_that_goes_is_told(blog: Vassal) -> None:
    generation = blog.active(seats=1)
    client = blog.stage.http(get())
    blog.wait_stat("queued", 1)
    blog.tell(available=False, reason="its gateway has died")
    generation.retire()
    assert client.response().status == 503


def test_those_who_wait_are_told_when_the_vassal_is_removed(blog: Vassal) -> None:
    gone = blog.stage.vassal("gone")
    waiting = blog.stage.http(get("gone.localhost"))
    gone.wait_stat("queued", 1)
    blog.stage.tell("remove", name="gone")
    assert waiting.response().status == 503
    waiting.send(get("gone.localhost"))
    assert waiting.response().status == 404
    gone.tell()


def test_the_queue_of_one_app_is_not_in_the_way_of_another(blog: Vassal) -> None:
    blog.tell(queue=1)
    blog.stage.http(get())
    blog.wait_stat("queued", 1)
    other = blog.stage.vassal("other")
    other.active().answering()
    assert blog.stage.http(get("other.localhost")).response().status == 200
