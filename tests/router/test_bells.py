"""Whole requests by the ring on the page, and bells in place of messages: the same promises as without them."""

import mmap
import time

import pytest

from emperor.protocol import bell, records, scoreboard
from tests.router.client import get, post
from tests.router.stage import Generation, Stage, Vassal
from tests.router.test_successor import replace
from tests.router.worker import FakeWorker, Record
from tests.scenarios.harness.waiting import wait_for


def with_bells(vassal: Vassal, seats: int = 2, **shape: int) -> Generation:
    return vassal.active(seats=seats, bells=True, **shape)


def in_ring(worker: FakeWorker) -> list[Record]:
    """What the router has put there, and nothing that came by a message."""
    assert worker.requests is not None
    assert worker.socket.poll(0) == 0, "a message came"
    return records.unpack(worker.requests.take())


def whole_page(generation: Generation) -> mmap.mmap:
    size = scoreboard.size_bytes(generation.seats, generation.slots, 1, generation.deck)
    return mmap.mmap(generation.board_fd, size)


def request_ring(generation: Generation, seat: int = 0) -> int:
    """Where it begins in the page."""
    size = scoreboard.size_bytes(generation.seats, generation.slots, 1, generation.deck)
    return size - (2 * generation.seats - seat) * scoreboard.RING_BYTES


def test_there_and_back_without_a_message(blog: Vassal) -> None:
    """Over and over: whoever rests is waked."""
    with_bells(blog).answering(lambda worker, request: worker.put(request, request.path.encode()))
    client = blog.stage.http()
    for number in range(300):
        assert client.send(get(path=f"/{number}")).response().body == b"/%d" % number
    stats = blog.stats()
    assert (stats["unasked_messages"], stats["link_faults"], stats["requests"]) == (0, 0, 300)


def test_a_whole_request_is_in_the_ring_and_its_bell_has_rung(blog: Vassal) -> None:
    worker = with_bells(blog).worker()
    assert worker.requests is not None
    worker.requests.rest(True)
    client = blog.stage.http(post(b"a=1", path="/form"))
    assert bell.wait_readable((worker.bell,), 10_000)
    assert bell.hear(worker.bell) == 1
    (record,) = in_ring(worker)
    met = worker.met(record)
    assert (met.path, met.body, met.whole) == ("/form", b"a=1", True)
    assert worker.claim(met)
    worker.begin(met)
    worker.put(met, b"thanks")
    assert client.response().body == b"thanks"


def test_one_that_watches_is_not_rung_for(blog: Vassal) -> None:
    worker = with_bells(blog).worker()
    first = blog.stage.http(get(path="/1"))
    taken = worker.take(timed=False)
    second = blog.stage.http(get(path="/2"))
    wait_for(lambda: worker.requests is not None and worker.requests.has(), 10)
    assert bell.hear(worker.bell) <= 1  # that of the first, if it came late
    worker.put(taken, b"1")
    worker.put(worker.take(), b"2")
    assert (first.response().body, second.response().body) == (b"1", b"2")


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(post(b"x" * 20_000), id="too large"),
        pytest.param(get("blog.localhost", "/", "X-Long: " + "v" * 9_000), id="a long head"),
    ],
)
def test_what_does_not_fit_is_a_message(blog: Vassal, asked: bytes) -> None:
    worker = with_bells(blog).worker()
    client = blog.stage.http(asked)
    assert worker.socket.poll(10_000)
    worker.put(worker.take(), b"met")
    assert client.response().body == b"met"


def test_a_ring_that_is_full_leaves_messages(blog: Vassal) -> None:
    worker = with_bells(blog, seats=1, deck=65).worker()
    clients = [
        blog.stage.http(get("blog.localhost", f"/{number}", "X-Long: " + "v" * 3_000)) for number in range(16)
    ]
    assert worker.socket.poll(10_000), "none was sent"
    seen = set()
    for _ in clients:
        met = worker.take(timed=False)
        seen.add(met.path)
        worker.put(met, b"ok")
    assert [client.response().body for client in clients] == [b"ok"] * 16
    assert len(seen) == 16


def test_a_worker_that_says_nothing_gets_messages(blog: Vassal) -> None:
    """One of a version that has no bells, though its seat has."""
    generation = with_bells(blog)
    worker = blog.stage.keep(FakeWorker(blog.stage.context, generation.seat(0), generation.board_fd))
    worker.join()
    client = blog.stage.http(get())
    assert worker.socket.poll(10_000)
    worker.put(worker.take(), b"hi")  # and calls by one
    assert client.response().body == b"hi"


def test_a_dead_workers_ring_holds_nothing_back(blog: Vassal) -> None:
    """What it had not begun goes elsewhere, whether it had met it or not; what it had is answered for; and whoever takes
    its seat never runs what was left there."""
    generation = with_bells(blog, seats=1)
    doomed = generation.remote()
    doomed.call("join")
    clients = [blog.stage.http(get(path="/begun"))]
    blog.wait_stat("running", 1)
    for number in (1, 2, 3):
        clients.append(blog.stage.http(get(path=f"/{number}")))
        blog.wait_stat("on_deck", number)
    doomed.call("take")
    doomed.kill()
    assert clients[0].response().status == 502
    worker = generation.stranger()
    worker.board.inherit(0)  # as a new worker in the seat does
    worker.join()
    paths = []
    for _ in range(3):
        met = worker.take(timed=False)
        paths.append(met.path)
        worker.put(met, b"ok")
    worker.expect_nothing()
    assert sorted(paths) == ["/1", "/2", "/3"]
    assert [client.response().body for client in clients[1:]] == [b"ok"] * 3
    assert blog.stats()["requeued"] == 3


def test_one_that_is_revoked_in_the_ring_is_dropped_where_it_is_met(blog: Vassal) -> None:
    worker = with_bells(blog, seats=1).worker()
    first = blog.stage.http(get(path="/first"))
    taken = worker.take(timed=False)
    gone = blog.stage.http(get(path="/gone"))
    blog.wait_stat("on_deck", 1)
    gone.reset()
    blog.wait_stat("cancelled", 1)
    worker.put(taken, b"1")
    assert first.response().body == b"1"
    met = worker.offered()
    assert met.path == "/gone"
    assert not worker.claim(met)
    assert worker.word_state(met) == "FREE"


def test_a_router_that_follows_drops_what_is_in_the_rings(fresh: Stage) -> None:
    """After a kill -9: nobody waits for it, and its word was taken back before the worker was welcomed."""
    blog = fresh.vassal("blog")
    fresh.open_for_business()
    generation = with_bells(blog, seats=1)
    worker = generation.worker()
    fresh.http(get(path="/first"))
    met = worker.offered()  # not claimed
    fresh.http(get(path="/left"))
    wait_for(lambda: worker.requests is not None and worker.requests.has(), 10)
    replace(fresh)
    worker.connect()
    worker.join()
    assert not worker.claim(met)
    client = fresh.http(get(path="/new"))
    again = worker.take()
    assert again.path == "/new"
    worker.put(again, b"new")
    assert client.response().body == b"new"


def test_a_ring_that_lies_has_no_room(blog: Vassal) -> None:
    """Whatever a tenant writes into its ring of requests, it gets messages, and the router reads none of it."""
    generation = with_bells(blog, seats=1)
    worker = generation.worker()
    start = request_ring(generation)
    with whole_page(generation) as page:
        page[start + 64 : start + 72] = (1 << 63).to_bytes(8, "little")
    client = blog.stage.http(get())
    assert worker.socket.poll(10_000)
    worker.put(worker.met(worker.expect(records.REQUEST)), b"hi")
    assert client.response().body == b"hi"


def test_bells_for_nothing_are_a_flood_of_that_vassals_own(stage: Stage, blog: Vassal) -> None:
    other = stage.vassal("other")
    with_bells(other).answering()
    generation = with_bells(blog)
    worker = generation.worker()
    stage.http(get())
    worker.put(worker.take(), b"hi")

    def flooded() -> bool:
        for _ in range(200):
            bell.ring_router(worker.router_bell)
            time.sleep(0.0001)  # the router is to hear each by itself
        return bool(blog.stats()["floods"])

    wait_for(flooded, 30, blog.stats, every_s=0.0)
    blog.wait_no_link()
    assert stage.http(get("other.localhost")).response().status == 200
    # Closed for a while, it is not even looked at.
    before = blog.stats()["unasked_messages"]
    for _ in range(200):
        bell.ring_router(worker.router_bell)
        time.sleep(0.0001)
    assert blog.stats()["unasked_messages"] == before


def test_a_bell_after_the_answer_was_found_is_nothing_unasked_for(blog: Vassal) -> None:
    """The router, awake for something else, may have seen it before it heard."""
    worker = with_bells(blog).worker()
    client = blog.stage.http()
    for _ in range(50):
        client.send(get())
        met = worker.take()
        wait_for(lambda: blog.stats()["running"] == 1, 10)
        if worker.put(met, b"hi", call=False):
            bell.ring_router(worker.router_bell)
        assert client.response().body == b"hi"
    assert blog.stats()["unasked_messages"] == 0
