"""HELLO, WELCOME, READY, and everyone who is refused."""

import os
import secrets
from typing import Any

import pytest
import zmq

from emperor.protocol import records
from emperor.protocol.records import NO_WORD
from tests.router.client import get
from tests.router.stage import Stage, Vassal
from tests.router.worker import FakeWorker

NOBODY = 65534


def test_the_handshake(stage: Stage, blog: Vassal) -> None:
    generation = blog.active(7, seats=2, deck=8)
    worker = generation.stranger(seat=1)
    worker.hello()
    worker.welcomed()
    assert worker.deck == 8
    assert worker.epoch == stage.hello()["epoch"] != 0
    assert blog.links() == []
    worker.ready()
    link = blog.wait_link()
    assert (link["seat"], link["generation"], link["pid"], link["accepting"]) == (1, 7, os.getpid(), 1)
    stage.wait_event("link", name="blog", generation=7, seat=1, pid=os.getpid(), up=True)
    client = stage.http(get())
    request = worker.take()
    assert request.stream >> 32 == worker.epoch
    worker.respond(request, body=b"hi")
    assert client.response().body == b"hi"


def test_a_worker_that_is_faster_than_the_word_of_its_generation(stage: Stage, blog: Vassal) -> None:
    """The emperor tells of a generation before it starts it. A router that slept meanwhile finds both at once."""
    for number in range(7, 17):
        generation = blog.generation(number, tell=False)
        worker = generation.stranger()
        assert worker.socket.poll(10_000, zmq.POLLOUT)
        with stage.frozen():
            worker.hello()
            # From an emperor that it has not met: the connection is another thing that it has to come to.
            stage.connect().send(generation.order(), [generation.board_fd])
        worker.welcomed()
        worker.ready()
        blog.wait_link(generation=number)
        worker.disconnect()
    assert blog.stats()["refused_hellos"] == 0


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        pytest.param({"version": 2}, 1, id="version"),
        pytest.param({"version": 0}, 1, id="version 0"),
        pytest.param({"name": "neighbour"}, 2, id="vassal"),
        pytest.param({"generation": 8}, 3, id="generation"),
        pytest.param({"token": bytes(32)}, 4, id="token"),
        pytest.param({"seat": 2}, 6, id="seat"),
        pytest.param({"seat": 65535}, 6, id="seat 65535"),
        pytest.param({"router_seat": 1}, 6, id="router seat"),
        pytest.param({"slots": 2}, 6, id="slots"),
        pytest.param({"slots": 0}, 6, id="no slot"),
    ],
)
def test_a_hello_that_is_refused(stage: Stage, blog: Vassal, changed: dict[str, Any], code: int) -> None:
    worker = blog.active(7, seats=2).stranger()
    worker.hello(**changed)
    assert worker.expect_refused() == code
    stage.wait_log(rf"^\[blog\] HELLO of process {os.getpid()} \(uid \d+\) refused: ")
    worker.ready(nonce=secrets.token_bytes(16))  # what is refused is not half inside
    worker.expect_nothing()
    worker.hello()  # and may say the right thing
    worker.welcomed()
    assert blog.stats()["refused_hellos"] == 1


def test_the_checks_come_in_the_order_of_their_codes(blog: Vassal) -> None:
    """So that a stranger learns nothing: who has no token is not told which seats there are."""
    worker = blog.active().stranger()
    worker.hello(token=bytes(32), seat=9)
    assert worker.expect_refused() == 4
    worker.hello(token=bytes(32), seat=9, generation=5)
    assert worker.expect_refused() == 3


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_another_uid_is_refused_even_with_the_token(blog: Vassal) -> None:
    generation = blog.active()
    os.chmod(blog.endpoint, 0o666)  # the first line of defence, out of the way
    other = generation.remote(uid=NOBODY)
    other.call("hello")
    assert other.call("expect_refused") == 5


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_the_uid_of_the_vassal_is_let_in(blog: Vassal) -> None:
    generation = blog.active(uid=NOBODY)
    os.chmod(blog.endpoint, 0o666)
    worker = generation.remote(uid=NOBODY)
    worker.call("join")
    assert blog.wait_link()["pid"] == worker.pid


def test_a_wrong_nonce_is_refused(blog: Vassal) -> None:
    worker = blog.active().stranger()
    worker.hello()
    worker.welcomed()
    worker.ready(nonce=bytes(16))
    assert worker.expect_refused() == 7
    assert blog.links() == []
    assert blog.stats()["refused_hellos"] == 1


def test_more_free_slots_than_there_are_is_a_fault(blog: Vassal) -> None:
    worker = blog.active().stranger()
    worker.hello()
    worker.welcomed()
    worker.ready(free=2)
    assert worker.expect_refused() == 8
    assert blog.stats()["link_faults"] == 1


def test_a_retired_generation_is_told_to_go(stage: Stage, blog: Vassal) -> None:
    old = blog.active(1)
    worker = old.worker()
    blog.active(2)
    worker.expect(records.DRAIN)
    old.retire()
    worker.expect(records.DRAIN)
    late = old.stranger(seat=1)
    late.hello()
    assert late.expect_refused() == 9
    worker.bye()
    worker.expect(records.BYE_ACK)
    blog.wait_stat("links", [])
    late.hello()
    assert late.expect_refused() == 9
    assert not [line for line in stage.logged() if "refused" in line]


def test_a_generation_that_is_retired_before_any_worker_came_is_refused_as_retired(blog: Vassal) -> None:
    generation = blog.generation(3)
    generation.retire()
    worker = generation.stranger()
    worker.hello()
    assert worker.expect_refused() == 9


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(records.pack(records.BYE, 0, NO_WORD, 0, b""), id="BYE"),
        pytest.param(records.pack_ready(bytes(16), 1), id="READY"),
        pytest.param(
            records.pack_response(records.FIN, NO_WORD, 1 << 32 | 1, 0, b"200 OK\r\n", b""), id="RESPONSE"
        ),
        pytest.param(b"", id="nothing"),
        pytest.param(b"HELLO", id="no record"),
        pytest.param(bytes(400_000), id="25,000 records"),
        pytest.param(b"\xff" * 64, id="a length past the end"),
        pytest.param(records.pack(records.HELLO, 0, NO_WORD, 0, bytes(40)), id="half a HELLO"),
        pytest.param(records.pack_hello(0, 0, 1, 1, bytes(32), "blog") * 2, id="two HELLOs at once"),
        pytest.param(
            records.pack(records.HELLO, 0, NO_WORD, 0, bytes(44) + b"\x02\xff\xfe"),
            id="a name that is no UTF-8",
        ),
    ],
)
def test_what_is_no_hello_is_dropped_and_counted(blog: Vassal, message: bytes) -> None:
    worker = blog.active().stranger()
    worker.send(message)
    blog.wait_stat("unasked_messages", 1)
    worker.join()
    blog.wait_link()
    assert blog.stats()["refused_hellos"] == 0


def test_two_frames_are_no_hello(blog: Vassal) -> None:
    worker = blog.active().stranger()
    worker.send_frames(records.pack_hello(0, 0, 1, 1, worker.seat.token, "blog"), b"more")
    blog.wait_stat("unasked_messages", 1)
    worker.expect_nothing(0.05)


def test_another_process_cannot_take_a_seat(blog: Vassal) -> None:
    generation = blog.active()
    generation.worker()
    other = generation.remote()
    other.call("hello")
    assert other.call("expect_refused") == 6
    assert blog.wait_link()["pid"] == os.getpid()


def test_the_same_process_replaces_its_connection(stage: Stage, blog: Vassal) -> None:
    worker = blog.active().worker()
    before = stage.http(get(path="/before"))
    request = worker.take()
    worker.connect()
    worker.join()
    assert before.response().status == 502  # it had begun, and its answer has nowhere to come from
    worker.let_go(request)
    blog.wait_link()
    after = stage.http(get(path="/after"))
    worker.respond(worker.take(), body=b"after")
    assert after.response().body == b"after"
    assert len(blog.stats()["links"]) == 1


def test_a_seat_is_free_again_when_its_process_has_died(blog: Vassal) -> None:
    generation = blog.active()
    first = generation.remote()
    first.call("join")
    assert blog.wait_link()["pid"] == first.pid
    first.kill()
    generation.worker()
    assert blog.wait_link()["pid"] == os.getpid()


def test_no_hello_is_answered_before_the_table_is_whole_and_none_is_lost(fresh: Stage) -> None:
    """A worker that found the new router before the emperor was done with it must not have to say HELLO again."""
    blog = fresh.vassal()
    worker = blog.active().stranger()
    said = bool(worker.socket.poll(200, zmq.POLLOUT))
    if said:
        worker.hello()
        worker.expect_nothing()
    fresh.open_for_business()
    if not said:
        worker.hello()
    worker.welcomed()
    worker.ready()
    blog.wait_link()


def test_a_vassal_that_comes_later_gets_its_workers_too(stage: Stage, blog: Vassal) -> None:
    late = stage.vassal("late")
    worker: FakeWorker = late.active().worker()
    client = stage.http(get("late.localhost"))
    worker.respond(worker.take(), body=b"late")
    assert client.response().body == b"late"
