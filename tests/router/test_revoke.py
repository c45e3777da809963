"""Requests on the deck of one worker go to another that is idle, each run once, with its body whole."""

import os
import signal
import time

import pytest

from tests.router.client import get, post
from tests.router.stage import Vassal
from tests.router.worker import who_hears
from tests.scenarios.harness.waiting import wait_for

SIZES = [0, 1, 63 * 1024, 65536, 65537, 1_000_000]


@pytest.mark.parametrize("size", SIZES)
def test_an_idle_worker_takes_what_waits_behind_a_long_request(blog: Vassal, size: int) -> None:
    generation = blog.active(seats=2)
    sleeper = generation.worker(0)
    first = blog.stage.http(get(path="/long"))
    long = sleeper.take(timed=False)
    clients = []
    for index in range(5):
        clients.append(blog.stage.http(get(path=f"/{index}") if not size else b""))
        if size:
            clients[-1].send(post(bytes([index]) * size, "blog.localhost", f"/{index}"))
        blog.wait_stat("on_deck", index + 1)
    sleeper.begin(long)
    generation.answering(seat=1)
    method = "POST" if size else "GET"
    for index, client in enumerate(clients):
        assert client.response().body.decode() == f"{method} /{index} {size}"
    # The sleeper wakes, and may have none of them.
    stats = blog.stats()
    assert (stats["running"], stats["revoked"]) == (1, 5)
    for _ in clients:
        assert not sleeper.claim(sleeper.offered())
    sleeper.respond(long, body=b"slept")
    assert first.response().body == b"slept"
    sleeper.expect_nothing(0.05)


def test_a_second_worker_that_becomes_idle_takes_over(blog: Vassal) -> None:
    generation = blog.active(seats=2)
    workers = generation.worker(0), generation.worker(1)
    clients = [blog.stage.http(get(path="/one"))]
    busy, other = who_hears(*workers)
    held = busy.take(timed=False)
    clients.append(blog.stage.http(get(path="/two")))
    quick = other.take(timed=False)
    clients.append(blog.stage.http(get(path="/three")))
    blog.wait_stat("on_deck", 1)
    # Both are inside a request; the third is on the deck of one of them and ends up with whoever is free first.
    busy.begin(held)
    other.respond(quick)
    third = other.offered()
    assert other.claim(third)
    other.begin(third)
    other.respond(third, body=b"three")
    assert clients[2].response().body == b"three"
    busy.respond(held)


def test_nothing_goes_on_deck_behind_a_request_that_has_run_long(blog: Vassal) -> None:
    """Unless requests are usually quick and there is nobody else (test_relief)."""
    worker = blog.active(seats=1).worker()
    for _ in range(12):
        client = blog.stage.http(get())
        worker.respond_after(worker.take(), 20_000)
        assert client.response().status == 200
    blog.stage.http(get(path="/long"))
    long = worker.take()
    wait_for(lambda: worker.board.running_ns(0, time.monotonic_ns()) > 50_000_000, 5)
    waiting = blog.stage.http(get(path="/waits"))
    blog.wait_stat("queued", 1)
    worker.expect_nothing(0.05)
    worker.respond(long)
    worker.respond(worker.take(), body=b"at last")
    assert waiting.response().body == b"at last"


def test_the_deck_is_bounded_by_the_words_of_the_page(blog: Vassal) -> None:
    worker = blog.active(seats=1, deck=3).worker()
    for index in range(6):
        blog.stage.http(get(path=f"/{index}"))
        blog.wait_stat("requests", index + 1)
    stats = blog.stats()
    assert (stats["running"], stats["on_deck"], stats["queued"]) == (1, 2, 3)
    paths = []
    for _ in range(6):
        request = worker.take()
        paths.append(request.path)
        worker.respond(request)
    assert paths == [f"/{index}" for index in range(6)]


def test_words_that_the_worker_has_not_freed_are_not_used_again(blog: Vassal) -> None:
    worker = blog.active(seats=1, deck=2).worker()
    for _ in range(2):
        client = blog.stage.http(get(path="/gone"))
        blog.wait_stat("running", 1)
        client.reset()
        blog.wait_stat("running", 0)
    waiting = blog.stage.http(get(path="/waits"))
    blog.wait_stat("queued", 1)
    for _ in range(2):
        assert not worker.claim(worker.offered())
    # It says nothing when it frees a word: the router has to look.
    worker.respond(worker.take(), body=b"at last")
    assert waiting.response().body == b"at last"


def test_a_request_that_a_frozen_worker_never_met_is_not_kept_beyond_its_deadline(blog: Vassal) -> None:
    blog.tell(queue_timeout_s=0.3)
    frozen = blog.active(seats=1).remote()
    frozen.call("join")
    wait_for(
        lambda: [link for link in blog.links() if link["accepting"]], 10, blog.stats
    )  # its READY has been read
    os.kill(frozen.pid, signal.SIGSTOP)
    client = blog.stage.http(get())
    response = client.response()
    assert (response.status, response.headers["retry-after"]) == (503, "1")
    os.kill(frozen.pid, signal.SIGCONT)
    request = frozen.call("offered")
    assert frozen.call("claim", request) is False
