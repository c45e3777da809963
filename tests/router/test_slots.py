"""Workers that run several requests at once, as the router sees them."""

import time
from dataclasses import replace

from emperor.protocol import records
from tests.router.client import get
from tests.router.stage import Vassal
from tests.scenarios.harness.waiting import wait_for


def test_slots_that_ready_does_not_count_come_by_grant(blog: Vassal) -> None:
    """A worker that lost its router still runs what came before: it joins with what is free."""
    worker = blog.active(seats=1, slots=3, deck=8).stranger()
    worker.hello()
    worker.welcomed()
    worker.ready(free=1)
    assert blog.wait_link(seat=0)["free"] == 1
    worker.send(records.pack_grant(1))
    blog.wait_link(seat=0, free=2)
    # One more than there are, or none, is what nobody asked for.
    worker.send(records.pack_grant(2))
    worker.send(records.pack_grant(0))
    blog.wait_stat("unasked_messages", 2)
    worker.send(records.pack_grant(1))
    blog.wait_link(seat=0, free=3)
    assert blog.stats()["link_faults"] == 0


def test_requests_are_spread_over_workers_and_fill_all_slots(blog: Vassal) -> None:
    generation = blog.active(seats=2, slots=2, deck=8)
    workers = [generation.worker(seat) for seat in range(2)]
    clients = [blog.stage.http(get(path=f"/{n}")) for n in range(4)]
    blog.wait_stat("running", 4)
    assert blog.stats()["on_deck"] == 0
    for worker in workers:
        for request in [worker.take(), worker.take()]:
            worker.respond(request, body=b"done")
    assert [client.response().body for client in clients] == [b"done"] * 4


def test_of_workers_with_several_slots_the_least_busy_is_next(blog: Vassal) -> None:
    generation = blog.active(seats=2, slots=2, deck=8)
    for seat in range(2):
        generation.worker(seat)
    for n in range(2):
        blog.stage.http(get(path=f"/{n}"))
        blog.wait_stat("running", n + 1)
    assert [link["free"] for link in blog.links()] == [1, 1]


def test_a_worker_that_uses_few_of_the_pages_slots_is_judged_by_those(blog: Vassal) -> None:
    """The page has room for what an app might have turned out to be; HELLO says what it is."""
    generation = blog.active(seats=2, slots=4, deck=8)
    first, second = (generation.stranger(seat) for seat in range(2))
    for worker in (first, second):
        worker.seat = replace(worker.seat, slots=1)
    first.join()
    assert blog.wait_link(seat=0)["free"] == 1
    # It never has more slots than it said.
    first.send(records.pack_grant(1))
    blog.wait_stat("unasked_messages", 1)
    long = blog.stage.http(get(path="/long"))
    running = first.take()
    wait_for(lambda: first.board.running_ns(0, time.monotonic_ns(), 1) > 60_000_000, 5)
    # All of its slots, one, have been busy for long: one may wait behind that, and no more.
    waits = blog.stage.http(get(path="/waits"))
    blog.wait_stat("on_deck", 1)
    later = blog.stage.http(get(path="/later"))
    blog.wait_stat("queued", 1)
    second.join()
    for client in (waits, later):
        second.respond(second.take(), body=b"elsewhere")
        assert client.response().body == b"elsewhere"
    first.respond(running, body=b"long")
    assert long.response().body == b"long"
