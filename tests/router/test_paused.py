"""A paused app as its clients see it: 503 with Retry-After, or a wait in the queue; what has begun is finished."""

from emperor.protocol import records
from tests.router.client import get
from tests.router.stage import Vassal


def test_refused_while_it_is_paused_and_what_runs_is_finished(blog: Vassal) -> None:
    worker = blog.active(1).worker()
    first = blog.stage.http(get(path="/first"))
    running = worker.take(timed=False)
    waits = blog.stage.http(get(path="/waits"))
    blog.wait_stat("on_deck", 1)
    blog.tell(paused="refuse")
    for client in (waits, blog.stage.http(get(path="/late"))):
        answer = client.response()
        assert answer.status == 503
        assert answer.headers["retry-after"] == "30"
        assert answer.headers["unavailable-reason"] == "paused"
    assert not worker.claim(worker.offered())
    worker.respond(running, body=b"finished")
    assert first.response().body == b"finished"
    blog.tell(paused="")
    again = blog.stage.http(get(path="/again"))
    worker.respond(worker.take(), body=b"again")
    assert again.response().body == b"again"


def test_held_until_it_is_resumed_in_their_order(blog: Vassal) -> None:
    worker = blog.active(1).worker()
    blog.tell(paused="hold")
    clients = []
    for number in range(3):
        clients.append(blog.stage.http(get(path=f"/{number}")))
        blog.wait_stat("queued", number + 1)
    worker.expect_nothing(0.05)
    blog.tell(paused="")
    for number, client in enumerate(clients):
        request = worker.take()
        assert request.path == f"/{number}"
        worker.respond(request, body=b"x")
        assert client.response().status == 200


def test_held_no_longer_than_queue_timeout(blog: Vassal) -> None:
    blog.active(1).worker()
    blog.tell(paused="hold", queue_timeout_s=0.3)
    answer = blog.stage.http(get()).response()
    assert (answer.status, answer.headers["unavailable-reason"]) == (503, "queue-timeout")


def test_a_reload_while_it_is_held_takes_what_waits_along(blog: Vassal) -> None:
    old = blog.active(1).worker()
    blog.tell(paused="hold")
    client = blog.stage.http(get())
    blog.wait_stat("queued", 1)
    new = blog.generation(2).worker()
    blog.generations[2].activate()
    old.expect(records.DRAIN)
    new.expect_nothing(0.05)
    blog.tell(paused="")
    new.respond(new.take(), body=b"new")
    assert client.response().body == b"new"
