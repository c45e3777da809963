"""`harakiri` in the router: who has run too long, by the page and by its path, and what it says of it and to whom."""

from emperor.protocol import records
from tests.router.client import get
from tests.router.stage import Vassal

SHORT = {"harakiri_s": 0.3}


def test_the_client_is_answered_and_the_emperor_told(blog: Vassal) -> None:
    blog.tell(deadlines={**SHORT, "verbose": True})
    worker = blog.active(seats=1).worker()
    client = blog.stage.http(get(path="/runs"))
    running = worker.take()
    response = client.response()
    assert response.status == 504
    assert b"harakiri" not in response.body and b"pid" not in response.body
    order = blog.stage.wait_event("harakiri", name="blog")
    assert (order["generation"], order["seat"], order["stream"]) == (1, 0, running.stream)
    assert order["pid"] == blog.links()[0]["pid"]
    assert order["request"] == "GET blog.localhost/runs"
    assert order["ran_ms"] >= order["limit_ms"] == 300
    assert "REQUEST_METHOD=GET" in order["variables"]
    assert "(harakiri = 0.3 s)" in blog.stage.wait_log("504")
    assert blog.stats()["limits"]["harakiri"] == {"value": 300, "hits": 1, "now": 0}


def test_what_waits_behind_it_goes_elsewhere(blog: Vassal) -> None:
    generation = blog.active(seats=2)
    blog.tell(deadlines={**SHORT, "poison_deaths": 0})
    worker = generation.worker(0)
    client = blog.stage.http(get(path="/runs"))
    running = worker.take(timed=False)
    waits = blog.stage.http(get(path="/waits"))
    blog.wait_stat("on_deck", 1)
    worker.begin(running)
    assert client.response().status == 504
    other = generation.worker(1)
    other.respond(other.take(), body=b"elsewhere")
    assert waits.response().body == b"elsewhere"
    assert [link["accepting"] for link in blog.links(seat=0)] == [0]
    # It ends after all: its slot is free, and it still gets nothing new.
    worker.respond(running, body=b"for nobody")
    third = blog.stage.http(get(path="/third"))
    other.respond(other.take(), body=b"not from the first")
    assert third.response().body == b"not from the first"
    assert blog.stats()["link_faults"] == 0


def test_what_has_not_begun_has_no_limit(blog: Vassal) -> None:
    blog.tell(deadlines=SHORT)
    worker = blog.active(seats=2).worker(0)
    late = blog.stage.http(get(path="/late"))
    offered = worker.offered()  # there, and not claimed
    # Another vassal's request that is late meanwhile shows that the time is over.
    other = blog.stage.vassal("clock", deadlines=SHORT)
    clock = blog.stage.http(get("clock.localhost"))
    other.active(seats=1).worker().take()
    assert clock.response().status == 504
    assert worker.claim(offered)
    worker.begin(offered)
    worker.respond(offered, body=b"in time")
    assert late.response().body == b"in time"


def test_a_path_of_its_own(blog: Vassal) -> None:
    blog.tell(deadlines={"harakiri_s": 0.2, "harakiri_paths": [["/export", 60.0]]})
    generation = blog.active(seats=2)
    first, second = generation.worker(0), generation.worker(1)
    export = blog.stage.http(get(path="/export/all"))
    by = {worker: request for worker in (first, second) if (request := worker.receive(0.5))}
    ((worker, record),) = by.items()
    running = worker.met(record)
    assert worker.claim(running)
    worker.begin(running)
    other = second if worker is first else first
    short = blog.stage.http(get(path="/exports"))
    other.take()
    assert short.response().status == 504
    worker.respond(running, body=b"all of it")
    assert export.response().body == b"all of it"


def test_a_request_whose_client_has_gone_holds_its_worker_all_the_same(blog: Vassal) -> None:
    blog.tell(deadlines=SHORT)
    worker = blog.active(seats=1).worker()
    client = blog.stage.http(get())
    running = worker.take()
    client.reset()
    worker.expect_cancel(running)
    assert blog.stage.wait_event("harakiri", name="blog")["stream"] == running.stream
    assert blog.stats()["errors"] == {}


def test_an_emperor_that_was_away_is_told_when_it_comes(blog: Vassal) -> None:
    blog.tell(deadlines=SHORT)
    worker = blog.active(seats=1).worker()
    blog.stage.channel.close()
    client = blog.stage.http(get())
    running = worker.take()
    assert client.response().status == 504
    blog.stage.connect()
    assert blog.stage.wait_event("harakiri", name="blog")["stream"] == running.stream


def test_a_limit_that_is_lifted_counts_no_more(blog: Vassal) -> None:
    blog.tell(deadlines={"harakiri_s": 60.0})
    worker = blog.active(seats=1).worker()
    client = blog.stage.http(get())
    running = worker.take()
    blog.tell(deadlines={})
    worker.respond(running, body=b"at leisure")
    assert client.response().body == b"at leisure"


def test_a_worker_that_ends_them_itself_has_a_second_more(blog: Vassal) -> None:
    blog.tell(deadlines=SHORT)
    worker = blog.active(seats=1).stranger()
    worker.hello()
    worker.welcomed()
    worker.send(records.pack_ready(worker.nonce, 1, records.CANCELS))
    client = blog.stage.http(get(path="/held"))
    worker.take()
    assert client.response().status == 504
    assert blog.stage.wait_event("harakiri", name="blog")["ran_ms"] >= 1300
