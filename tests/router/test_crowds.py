"""More clients than there may be: told so while there is room for that, counted, and nobody else notices."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from emperor.protocol import records
from emperor.router.front import FLOOR
from emperor.router.listener import NOT_SENT
from tests.router.client import Connection, get
from tests.router.stage import Stage, Vassal, open_stage
from tests.router.test_listeners import Tls, listening, pem, secure
from tests.scenarios.harness.waiting import wait_for

__all__ = ["pem"]  # a fixture

REFUSED = ("refused", "refused_per_address", "reset")


@pytest.fixture
def few() -> Iterator[Vassal]:
    """A router that takes 16 connections and one more to be told so, 4 of them from one address."""
    with open_stage(
        "--max-connections=16", "--max-connections-per-address=4", "--linger-timeout=0.3s"
    ) as stage:
        blog = stage.vassal("blog")
        stage.open_for_business()
        yield blog


def wait_open(stage: Stage, count: int) -> None:
    wait_for(lambda: stage.stats()["connections"] == count, 10, stage.stats, every_s=0.01)


def test_one_address_too_many(few: Vassal) -> None:
    stage = few.stage
    few.active().answering()
    clients = [stage.http() for _ in range(4)]
    wait_open(stage, 4)
    refused = stage.http(get())
    response = refused.response()
    assert (response.status, response.closes) == (429, True)
    assert response.headers["retry-after"]
    assert response.headers["unavailable-reason"] == "connections"
    # It goes on for those that are in, and over the unix socket, of which nobody knows whose it is.
    clients[0].send(get())
    assert clients[0].response().status == 200
    others = [stage.uwsgi() for _ in range(6)]
    assert stage.stats()["caps"]["refused_per_address"] == 1
    assert stage.stats()["limits"]["max-connections-per-address"]["hits"] == 1
    stage.wait_log("max-connections-per-address")
    for client in (*clients, *others):
        client.close()
    wait_open(stage, 0)
    assert stage.http(get()).response().status == 200


def test_all_too_many(few: Vassal) -> None:
    stage = few.stage
    held = [stage.uwsgi() for _ in range(16)]
    wait_open(stage, 16)
    told = stage.uwsgi()
    assert told.response().status == 503
    assert stage.stats()["caps"]["refused"] == 1
    assert stage.stats()["limits"]["max-connections"]["hits"] == 1
    held.pop().close()
    wait_open(stage, 15)
    stage.uwsgi()
    wait_open(stage, 16)


def test_far_too_many_are_reset(few: Vassal) -> None:
    stage = few.stage
    clients = [stage.keep(Connection(stage.http_address)) for _ in range(12)]
    # Each is taken up in a turn of its own: all of them, before the shares are looked at.
    wait_for(lambda: sum(stage.stats()["caps"][key] for key in REFUSED) == 8, 10, stage.stats, every_s=0.01)
    caps = stage.stats()["caps"]
    assert caps["reset"] >= 1
    assert caps["refused_per_address"] + caps["reset"] == 8
    for client in clients:
        client.close()
    wait_open(stage, 0)


def test_a_worker_is_let_off_ahead_of_a_slow_client(stage: Stage, blog: Vassal) -> None:
    """As far as `response-buffer` goes, beyond what the kernel holds and the first credit allows."""
    sent = {}
    for buffer in (0, 2_000_000):
        blog.tell(response_buffer=buffer)
        worker = blog.generations[1].worker(len(sent)) if blog.generations else blog.active(seats=2).worker(0)
        client = stage.http()
        client.sock.setsockopt(1, 8, 4096)  # SOL_SOCKET, SO_RCVBUF
        client.send(get())
        request = worker.take()
        worker.respond(request, fin=False)
        credit, sent[buffer] = 256 * 1024, 0
        while (got := worker.receive(0.3 if credit < 65536 else 0)) is not None or credit >= 65536:
            if got is None:
                worker.data(request, bytes(65536))
                credit -= 65536
                sent[buffer] += 65536
            elif got[0] == records.CREDIT and got[3] == request.stream:
                credit += records.unpack_credit(got[4])
        stats = stage.stats()
        assert FLOOR <= stats["responses_ahead"] <= FLOOR + buffer
        assert (stats["responses_ahead"] > FLOOR) is bool(buffer)
        client.reset()
        worker.expect_cancel(request)
        worker.abort(request)
        wait_for(lambda: not stage.stats()["responses_ahead"], 10, stage.stats)
        worker.disconnect()
    # What the kernel takes differs from time to time, by less than this.
    assert sent[2_000_000] > sent[0] + 500_000
    # And it takes little: what nobody counts is bounded for each client.
    assert sent[0] < FLOOR + 3 * NOT_SENT, sent


def test_who_is_inside_a_handshake_counts(few: Vassal, pem: Path) -> None:
    stage = few.stage
    few.active().answering()
    address = secure(stage, "http", pem)
    silent = [stage.keep(Connection(address)) for _ in range(12)]
    wait_for(lambda: sum(stage.stats()["caps"][key] for key in REFUSED) == 8, 10, stage.stats, every_s=0.01)
    # None of them was told anything.
    assert stage.stats()["caps"]["reset"] == 8
    assert stage.stats()["limits"]["max-connections-per-address"]["hits"] == 8
    for client in silent:
        client.close()
    wait_for(lambda: stage.http(get()).response().status == 200, 10, stage.stats)
    assert stage.keep(Tls(address, pem)).send(get()).response().status == 200


def test_a_tenants_lists_free_nobody_from_the_caps_of_all(few: Vassal) -> None:
    stage = few.stage
    few.active().answering()
    address = listening(stage, "http", vassal="blog", forwarded=["*"], trusted=["*"])
    held = [stage.keep(Connection(address)) for _ in range(4)]
    wait_open(stage, 4)
    assert stage.keep(Connection(address)).send(get()).response().status == 429
    assert stage.stats()["caps"]["refused_per_address"] == 1
    assert len(held) == 4
