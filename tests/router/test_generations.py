"""A reload as the router sees it: generations come, are switched to, drain and go."""

import os
from pathlib import Path

import pytest

from emperor.control.channel import ControlError
from emperor.protocol import records
from tests.router.client import get
from tests.router.stage import Vassal
from tests.scenarios.harness.waiting import wait_for


def test_a_generation_that_is_not_active_gets_nothing(blog: Vassal) -> None:
    new = blog.generation(2).worker()
    assert blog.wait_link(generation=2)["accepting"] == 0
    client = blog.stage.http(get())
    blog.wait_stat("queued", 1)
    new.expect_nothing(0.05)
    blog.generations[2].activate()
    new.respond(new.take(), body=b"active")
    assert client.response().body == b"active"


def test_activate_moves_over_without_losing_a_request(blog: Vassal) -> None:
    """What runs ends where it runs; what waits on the old deck goes to the new worker, in its order; the old one leaves."""
    old = blog.active(1).worker()
    first = blog.stage.http(get(path="/first"))
    running = old.take(timed=False)
    waiting = []
    for index in range(3):
        waiting.append(blog.stage.http(get(path=f"/{index}")))
        blog.wait_stat("on_deck", index + 1)
    new = blog.generation(2).worker()
    blog.generations[2].activate()
    served = []
    for client in waiting:
        request = new.take()
        served.append(request.path)
        new.respond(request, body=b"new")
        assert client.response().body == b"new"
    assert served == ["/0", "/1", "/2"]
    for _ in waiting:
        assert not old.claim(old.offered())
    old.expect(records.DRAIN)
    old.respond(running, body=b"old")
    assert first.response().body == b"old"
    old.bye()
    old.expect(records.BYE_ACK)
    blog.wait_no_link(generation=1)
    assert blog.stats()["active"] == 2


def test_a_worker_of_a_generation_that_drains_is_told_so_at_its_hello(blog: Vassal) -> None:
    """It was restarted, or reconnected, while its generation was on its way out."""
    old = blog.active(1)
    blog.active(2)
    late = old.stranger()
    late.hello()
    late.welcomed()
    late.ready()
    late.expect(records.DRAIN)
    assert blog.wait_link(generation=1)["accepting"] == 0


def test_going_back_to_an_older_generation(blog: Vassal) -> None:
    """`activate` names a generation, whichever it is."""
    two = blog.active(2)
    worker = two.worker()
    blog.active(3)
    worker.expect(records.DRAIN)
    two.activate()
    client = blog.stage.http(get())
    worker.respond(worker.take(), body=b"two")
    assert client.response().body == b"two"


def test_activate_is_idempotent(blog: Vassal) -> None:
    generation = blog.active(1)
    worker = generation.worker()
    client = blog.stage.http(get())
    request = worker.take()
    generation.activate()
    worker.expect_nothing(0.05)
    worker.respond(request)
    assert client.response().status == 200


def test_nothing_of_a_retired_generation_stays(blog: Vassal) -> None:
    """Neither its page's mapping nor its descriptor: a vassal that is reloaded a thousand times is no larger."""
    router = Path(f"/proc/{blog.stage.pid}")

    def pages() -> tuple[int, int]:
        mapped = sum("emperor-board" in line for line in (router / "maps").read_text().splitlines())
        held = sum("emperor-board" in os.readlink(fd) for fd in (router / "fd").iterdir())
        return mapped, held

    mapped, held = pages()
    for number in range(1, 6):
        generation = blog.active(number)
        if number % 2:
            worker = generation.worker()
            blog.generation(number + 100).activate()
            worker.expect(records.DRAIN)
            worker.bye()
            worker.expect(records.BYE_ACK)
            blog.generations[number + 100].retire()
        generation.retire()
    blog.wait_stat("links", [])
    wait_for(lambda: pages() == (mapped, held), 5, pages)


def test_a_retired_generation_keeps_its_page_until_its_last_worker_has_gone(blog: Vassal) -> None:
    generation = blog.active(1)
    worker = generation.worker()
    client = blog.stage.http(get())
    request = worker.take()
    generation.retire()
    worker.expect(records.DRAIN)
    worker.respond(request, body=b"finished")
    assert client.response().body == b"finished"
    worker.bye()
    worker.expect(records.BYE_ACK)


def test_the_same_generation_again_replaces_its_page(blog: Vassal) -> None:
    """An emperor that made a new page for a living generation: the workers on the old one have to come again."""
    generation = blog.active(1)
    worker = generation.worker()
    client = blog.stage.http(get())
    request = worker.take()
    generation.tell()
    assert client.response().status == 502
    worker.let_go(request)
    worker.connect()
    worker.join()
    client.send(get())
    worker.respond(worker.take())
    assert client.response().status == 200


def test_a_generation_of_an_unknown_vassal_is_an_error_that_says_what_to_send(blog: Vassal) -> None:
    with pytest.raises(ControlError, match=r"nobody.*entry"):
        blog.stage.tell("activate", name="nobody", generation=1)


def test_a_generation_that_is_kept_rests_and_takes_over_again(blog: Vassal) -> None:
    """It finishes what runs, gives back what waits, is told nothing, and is as good as before when it is active again."""
    old = blog.active(1).worker()
    first = blog.stage.http(get(path="/first"))
    running = old.take(timed=False)
    second = blog.stage.http(get(path="/second"))
    blog.wait_stat("on_deck", 1)
    new = blog.generation(2).worker()
    blog.generations[2].activate(1)
    new.respond(new.take(), body=b"new")
    assert second.response().body == b"new"
    assert not old.claim(old.offered())
    old.respond(running, body=b"old")
    assert first.response().body == b"old"
    third = blog.stage.http(get(path="/third"))
    new.respond(new.take(), body=b"new")
    assert third.response().body == b"new"
    old.expect_nothing(0.05)
    blog.generations[1].activate()
    fourth = blog.stage.http(get(path="/fourth"))
    old.respond(old.take(), body=b"old again")
    assert fourth.response().body == b"old again"
    new.expect(records.DRAIN)


def test_a_worker_of_a_kept_generation_that_comes_back_may_stay(blog: Vassal) -> None:
    blog.active(1)
    blog.generation(2).worker()
    blog.generations[2].activate(1)
    again = blog.generations[1].worker()
    assert blog.wait_link(generation=1)["accepting"] == 0
    again.expect_nothing(0.05)
    blog.generations[2].activate()
    again.expect(records.DRAIN)


def test_the_answers_of_each_generation_are_counted(blog: Vassal) -> None:
    def counts() -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = blog.stage.tell("counts", name="blog")["counts"]
        return found

    old = blog.active(1).worker()
    for head in ("200 OK\r\n", "404 Not Found\r\n", "500 Oops\r\n"):
        client = blog.stage.http(get())
        old.respond(old.take(), head)
        client.response()
    new = blog.generation(2).worker()
    blog.generations[2].activate(1)
    client = blog.stage.http(get())
    new.respond(new.take(), "503 Not Now\r\n")
    client.response()
    client = blog.stage.http(get())
    new.abort(new.take(), "it stumbled")
    assert client.response().status == 502
    expected = {"1": {"answered": 3, "failed": 1}, "2": {"answered": 2, "failed": 2}}
    assert counts() == expected
    old.bye()
    old.expect(records.BYE_ACK)
    blog.wait_no_link(generation=1)
    assert counts() == expected


def test_generations_beside_each_other_both_serve_until_one_is_active_alone(blog: Vassal) -> None:
    old = blog.active(1).worker()
    new = blog.generation(2).worker()
    blog.stage.tell("activate", name="blog", generation=2, beside=[1])
    assert {blog.wait_link(generation=number)["accepting"] for number in (1, 2)} == {1}
    clients = [blog.stage.http(get(path=f"/{number}")) for number in range(2)]
    blog.wait_stat("running", 2)
    for worker in (old, new):
        worker.respond(worker.take(), body=b"x")
    assert [client.response().body for client in clients] == [b"x", b"x"]
    late = blog.generations[1].worker(1)
    assert blog.wait_link(generation=1, seat=1)["accepting"] == 1
    blog.generations[2].activate()
    for worker in (old, late):
        worker.expect(records.DRAIN)
