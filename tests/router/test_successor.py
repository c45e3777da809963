"""The router dies and another takes its place, on the sockets and pages that the emperor kept."""

import os
import socket

import pytest

from emperor.protocol import records
from tests.router.client import CutShort, get
from tests.router.stage import Stage, Vassal


@pytest.fixture
def blog(fresh: Stage) -> Vassal:
    fresh.vassal("neighbour")
    blog = fresh.vassal("blog")
    fresh.open_for_business()
    return blog


def replace(stage: Stage) -> None:
    """kill -9, a new process, and what an emperor tells it."""
    stage.kill()
    stage.start()
    for vassal in stage.vassals.values():
        vassal.tell()
        for generation in vassal.generations.values():
            generation.tell()
            generation.activate()
    stage.open_for_business()


def test_old_answers_reach_nobody_and_the_old_deck_is_never_run(fresh: Stage, blog: Vassal) -> None:
    worker = blog.active(seats=1).worker()
    lost = fresh.http(get(path="/lost"))
    running = worker.take(timed=False)
    deck = fresh.http(get(path="/deck"))
    blog.wait_stat("on_deck", 1)
    waiting = worker.offered()
    old_epoch = worker.epoch
    replace(fresh)
    for client in (lost, deck):
        with pytest.raises(CutShort):
            client.response()
    # The new router has taken back what the old one offered: the page says so before any worker speaks.
    assert worker.word_state(waiting) == "REVOKED"
    assert worker.word_state(running) == "CLAIMED"
    assert not worker.claim(waiting)
    worker.connect()
    worker.hello()
    worker.welcomed()
    assert worker.epoch not in (0, old_epoch)
    worker.ready()
    fresh_client = fresh.http(get(path="/fresh"))
    new = worker.offered()
    assert worker.claim(new)
    # It finishes the old one now, and says so on the new connection, under the old stream.
    worker.send(
        records.pack_response(
            records.FIN, records.NO_WORD, running.stream, 0, b"200 OK\r\n", b"somebody else's"
        )
    )
    worker.respond(new, body=b"fresh")
    assert fresh_client.response().body == b"fresh"
    assert blog.stats()["stale_records"] == 1


def test_a_word_that_the_old_request_still_holds_is_not_used(fresh: Stage, blog: Vassal) -> None:
    """A worker inside app code when the router died: its word is CLAIMED until it ends, and then free for use."""
    worker = blog.active(seats=1, deck=1).worker()
    fresh.http(get(path="/old"))
    running = worker.take()
    replace(fresh)
    worker.connect()
    worker.join()
    blog.wait_link()
    client = fresh.http(get(path="/new"))
    blog.wait_stat("queued", 1)
    worker.let_go(running)
    worker.respond(worker.take(), body=b"new")
    assert client.response().body == b"new"
    assert blog.stats()["link_faults"] == 0


def test_no_client_that_connects_meanwhile_is_refused(fresh: Stage, blog: Vassal) -> None:
    generation = blog.active(seats=1)
    fresh.kill()
    clients = [fresh.http(get()) for _ in range(20)]
    fresh.start()
    for vassal in fresh.vassals.values():
        vassal.tell()
    generation.tell()
    generation.activate()
    # Until the table is whole nobody is answered; above all not with 404.
    assert fresh.stats()["connections"] == 0
    fresh.open_for_business()
    generation.answering()
    assert [client.response().status for client in clients] == [200] * 20


def test_a_worker_notices_and_rejoins_while_no_router_lives(fresh: Stage, blog: Vassal) -> None:
    worker = blog.active().worker()
    fresh.kill()
    worker.connect()  # waits in the kernel, on the socket that the emperor kept
    fresh.start()
    for vassal in fresh.vassals.values():
        vassal.tell()
    blog.generations[1].tell()
    fresh.open_for_business()
    worker.join()
    blog.wait_link()


def test_a_new_emperor_takes_over_a_living_router(fresh: Stage, blog: Vassal) -> None:
    worker = blog.active().worker()
    client = fresh.http(get())
    request = worker.take()
    before = fresh.hello()
    fresh.connect()
    assert {**fresh.hello(), "re": 0} == {**before, "re": 0}
    assert before["complete"]
    assert [(each["kind"], each["address"]) for each in before["listeners"]] == [
        ("http", "http"),
        ("uwsgi", "uwsgi"),
    ]
    assert before["vassals"] == [
        {"name": "neighbour", "generations": [], "active": 0},
        {"name": "blog", "generations": [1], "active": 1},
    ]
    worker.respond(request)
    assert client.response().status == 200


def test_the_newest_emperor_counts(fresh: Stage, blog: Vassal) -> None:
    old = fresh.channel
    fresh._channel = None
    try:
        fresh.connect()
        assert fresh.hello()["complete"]
        with pytest.raises(Exception, match="closed"):
            old.receive_wait(5.0)
    finally:
        old.close()


def test_it_serves_on_without_an_emperor(fresh: Stage, blog: Vassal) -> None:
    blog.active().answering()
    fresh.channel.close()
    assert fresh.http(get()).response().status == 200
    fresh.connect()
    assert blog.stats()["requests"] == 1


def test_handover_gives_every_socket(fresh: Stage, blog: Vassal) -> None:
    answer, fds = fresh.channel.request({"op": "handover"})
    try:
        assert answer["last"]
        assert [each["kind"] for each in answer["listeners"]] == ["http", "uwsgi"]
        assert [each["name"] for each in answer["backplanes"]] == ["neighbour", "blog"]
        names = []
        for fd in fds:
            with socket.socket(fileno=os.dup(fd)) as sock:
                names.append(sock.getsockname())
        assert names == [
            fresh.http_address,
            fresh.uwsgi_address,
            fresh.vassals["neighbour"].endpoint,
            blog.endpoint,
        ]
    finally:
        for fd in fds:
            os.close(fd)
