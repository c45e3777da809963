"""The deck in the router: it learns from what workers say, and what waits behind a long request goes to the others."""

import time

from tests.router.client import Connection, get
from tests.router.stage import Vassal
from tests.router.worker import FakeWorker, Request, who_hears
from tests.scenarios.harness.waiting import wait_for


def test_the_deck_gets_shallow_for_slow_requests_and_deep_for_quick_ones(blog: Vassal) -> None:
    worker = blog.active(seats=1, deck=40).worker()
    assert (blog.stats()["deck_depth"], blog.stats()["service_us"]) == (64, 128)
    for _ in range(30):
        client = blog.stage.http(get())
        worker.respond_after(worker.take(), 20_000)
        assert client.response().status == 200
    assert (blog.stats()["deck_depth"], blog.stats()["service_us"]) == (2, 16_000)
    first = worker_is_asked(blog, worker, 5)
    stats = blog.stats()
    assert (stats["running"], stats["on_deck"], stats["queued"]) == (1, 2, 2)
    worker.respond_after(first, 5)
    for _ in range(4):
        worker.respond_after(worker.take(), 5)
    for _ in range(110):
        client = blog.stage.http(get())
        worker.respond_after(worker.take(), 5)
        assert client.response().status == 200
    stats = blog.stats()
    assert (stats["deck_depth"], stats["service_us"]) == (64, 31)
    worker_is_asked(blog, worker, 45)
    stats = blog.stats()
    # The page has no more words.
    assert (stats["running"], stats["on_deck"], stats["queued"]) == (1, 39, 5)


def worker_is_asked(blog: Vassal, worker: FakeWorker, count: int) -> Request:
    """So many requests at once; the first is taken, and the page does not say since when it runs."""
    before = blog.stats()["requests"]
    blog.stage.http(get())
    first = worker.take(timed=False)
    for index in range(2, count + 1):
        blog.stage.http(get())
        blog.wait_stat("requests", before + index)
    return first


def test_an_answer_in_pieces_takes_until_its_last(blog: Vassal) -> None:
    worker = blog.active(seats=1).worker()
    for _ in range(12):
        client = blog.stage.http(get())
        request = worker.take()
        worker.respond(request, body=b"first, ", fin=False)
        time.sleep(0.02)
        worker.data(request, b"last", fin=True)
        assert client.response().body == b"first, last"
    # Each time by a quarter, since each took longer than what was usual.
    assert blog.stats()["service_us"] > 1000


def test_when_all_are_long_one_waits_with_each_until_somebody_is_free(blog: Vassal) -> None:
    generation = blog.active(seats=2, deck=8)
    workers = generation.worker(0), generation.worker(1)
    clients = [blog.stage.http(get(path="/long"))]
    older, younger = who_hears(*workers)
    long = [older.take()]
    clients.append(blog.stage.http(get(path="/long")))
    long.append(younger.take())
    for worker in workers:
        wait_for(lambda w=worker: w.board.running_ns(w.seat.seat, time.monotonic_ns()) > 5_000_000, 5)
    for index in range(3):
        before = blog.stats()["requests"]
        clients.append(blog.stage.http(get(path=f"/{index}")))
        blog.wait_stat("requests", before + 1)
    stats = blog.stats()
    assert (stats["on_deck"], stats["queued"]) == (2, 1)
    # The younger ends first: it has what lay there at once, and then what waited behind the older one.
    younger.respond(long[1])
    order = []
    for _ in range(3):
        request = younger.take()
        order.append(request.path)
        younger.respond(request)
    assert order == ["/1", "/0", "/2"]
    older.respond(long[0])
    for client in clients:
        assert client.response().status == 200
    assert not older.claim(older.offered())


def test_what_waits_behind_a_long_request_goes_before_what_came_later(blog: Vassal) -> None:
    """Both workers are busy all the time, so that nobody is ever idle and takes half."""
    ahead = 7
    generation = blog.active(seats=2, deck=1 + ahead)
    workers = generation.worker(0), generation.worker(1)
    clients: list[Connection] = []

    def ask(path: str) -> None:
        before = blog.stats()["requests"]
        clients.append(blog.stage.http(get(path=path)))
        blog.wait_stat("requests", before + 1)

    ask("/long")
    slow, quick = who_hears(*workers)
    long = slow.take(timed=False)
    ask("/quick")
    first = quick.take(timed=False)
    # Until both decks are full, and the queue is where the last ones wait.
    for index in range(2 * ahead + 3):
        ask(f"/{index}")
    stats = blog.stats()
    assert (stats["on_deck"], stats["queued"]) == (2 * ahead, 3)
    slow.begin(long)
    wait_for(lambda: slow.board.running_ns(slow.seat.seat, time.monotonic_ns()) > 5_000_000, 5)
    quick.begin(first)
    quick.respond(first)
    order = []
    for _ in range(2 * ahead + 3):
        request = quick.take()
        order.append(int(request.path[1:]))
        quick.respond(request)
    assert sorted(order) == list(range(2 * ahead + 3))
    # What lay on its own deck was there before anything was taken back.
    own = order[:ahead]
    rest = order[ahead:]
    assert own == sorted(own) and rest == sorted(rest)
    assert blog.stats()["revoked"] == ahead
    slow.respond(long)
    for client in clients:
        assert client.response().status == 200
    for _ in range(ahead):
        assert not slow.claim(slow.offered())


def test_with_nobody_else_it_stays(blog: Vassal) -> None:
    worker = blog.active(seats=1).worker()
    clients = [blog.stage.http(get(path="/long"))]
    long = worker.take(timed=False)
    for index in range(3):
        clients.append(blog.stage.http(get(path=f"/{index}")))
        blog.wait_stat("on_deck", index + 1)
    worker.begin(long)
    wait_for(lambda: worker.board.running_ns(0, time.monotonic_ns()) > 300_000_000, 5)
    assert (blog.stats()["on_deck"], blog.stats()["revoked"]) == (3, 0)
    worker.respond(long)
    for _ in range(3):
        worker.respond(worker.take())
    for client in clients:
        assert client.response().status == 200
