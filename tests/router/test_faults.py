"""Workers that break the protocol: each loses its link, its requests are answered for, and nobody else notices."""

import struct
import time

import pytest

from emperor.protocol import records
from emperor.protocol.records import FIN, NO_WORD
from tests.router.client import CutShort, get, post
from tests.router.stage import TIMEOUT_S, Stage, Vassal, said_of
from tests.router.worker import FakeWorker, Request, who_hears
from tests.scenarios.harness.waiting import wait_for

STRAY = 0xDEAD_0000_0001
OVERLONG = struct.pack("<BBHIQ", records.DATA, 0, NO_WORD, 1000, STRAY) + b"short"


def link_faults(vassal: Vassal) -> int:
    faults: int = vassal.stats()["link_faults"]
    return faults


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"", id="no record at all"),
        pytest.param(b"\x24", id="half a header"),
        pytest.param(records.pack(records.PONG, 0, NO_WORD, 0, b"") * 1025, id="1025 records"),
        pytest.param(OVERLONG, id="a length past the end"),
        pytest.param(records.pack(records.PONG, 0, NO_WORD, 0, b"") + b"tail", id="a tail"),
        pytest.param(records.pack(99, 0, NO_WORD, 0, b""), id="an unknown type"),
        pytest.param(records.pack(records.WELCOME, 0, NO_WORD, 0, bytes(32)), id="a router's record"),
        pytest.param(records.pack(records.PING, 0, NO_WORD, 0, bytes(8)), id="a PING"),
        pytest.param(records.pack_hello(0, 0, 1, 1, bytes(32), "blog"), id="a second HELLO"),
        pytest.param(records.pack_ready(bytes(16), 1), id="a second READY"),
        pytest.param(
            records.pack_response(FIN, NO_WORD, 0, 0, b"200 OK\r\n", b""), id="RESPONSE on no stream"
        ),
        pytest.param(records.pack(records.ABORT, FIN, NO_WORD, 0, b""), id="ABORT on no stream"),
        pytest.param(records.pack(records.RETURN, FIN, NO_WORD, 0, b""), id="RETURN on no stream"),
    ],
)
def test_a_message_that_faults_the_link(blog: Vassal, message: bytes) -> None:
    worker = blog.active().worker()
    worker.send(message)
    assert worker.expect_refused() == 8
    assert link_faults(blog) == 1
    blog.stage.wait_log(r"^\[blog\] worker 0 .* broke the backplane protocol: ")
    blog.stage.wait_event("link", name="blog", up=False)
    worker.join()  # the same process may come again
    blog.wait_link()


def running(blog: Vassal) -> tuple[FakeWorker, Request]:
    """A worker inside a request."""
    worker = blog.active().worker()
    blog.stage.http(get())
    return worker, worker.take()


@pytest.mark.parametrize(
    ("record", "payload"),
    [
        pytest.param(records.DATA, b"body", id="DATA before RESPONSE"),
        pytest.param(records.DATA, b"", id="empty DATA before RESPONSE"),
        pytest.param(records.TRAILERS, b"", id="TRAILERS before RESPONSE"),
        pytest.param(records.RESPONSE, b"\x00", id="half a RESPONSE"),
        pytest.param(records.RESPONSE, b"\xff\xff\0\0\0\x00200 OK\r\n", id="RESPONSE head past its record"),
        pytest.param(records.CREDIT, b"\x01\x02", id="half a CREDIT"),
        pytest.param(records.CREDIT, b"\xff\xff\xff\xff", id="credit overflow"),
        pytest.param(records.REQUEST, b"", id="REQUEST"),
        pytest.param(records.CANCEL, b"", id="CANCEL"),
        pytest.param(200, b"", id="an unknown type"),
    ],
)
def test_a_record_that_must_not_come_on_a_running_stream(blog: Vassal, record: int, payload: bytes) -> None:
    worker = blog.active().worker()
    client = blog.stage.http(get())
    request = worker.take()
    worker.send(records.pack(record, 0, NO_WORD, request.stream, payload))
    assert worker.expect_refused() == 8
    assert client.response().status == 502
    client.send(get(path="/again"))  # it was not the client's fault: its connection lives
    worker.let_go(request)
    worker.join()
    worker.respond(worker.take(), body=b"again")
    assert client.response().body == b"again"


def test_credit_overflows_in_small_steps_too(blog: Vassal) -> None:
    worker = blog.active().worker()
    client = blog.stage.http(post(b"x" * 10).replace(b"Content-Length: 10", b"Content-Length: 99"))
    request = worker.take()
    for _ in range(5):
        worker.send(records.pack_credit(request.stream, 1 << 28))
    assert worker.expect_refused() == 8
    assert client.response().status == 502


def test_a_second_response_faults_the_link_and_cuts_the_first(blog: Vassal) -> None:
    worker = blog.active().worker()
    client = blog.stage.http(get())
    request = worker.take()
    worker.respond(request, "200 OK\r\nContent-Length: 100\r\n", b"some", fin=False)
    worker.respond(request, "200 OK\r\n", b"other", fin=False)
    assert worker.expect_refused() == 8
    with pytest.raises(CutShort) as cut:
        client.response()
    assert cut.value.how == "reset"
    assert b"other" not in str(cut.value).encode()


def test_more_body_than_credit_faults_the_link(blog: Vassal) -> None:
    """A worker that sends on while the client takes nothing: its credit is not given back, and it does not care."""
    worker = blog.active().worker()
    client = blog.stage.http(get())
    request = worker.take()
    worker.respond(request, fin=False)
    piece = records.pack(records.DATA, 0, NO_WORD, request.stream, bytes(65536))
    sent = 0
    while not blog.stats()["link_faults"]:
        worker.send(piece, piece)
        sent += 2 * 65536
        assert sent < 1 << 28
    assert worker.expect_refused() == 8
    assert "credit" in blog.stage.wait_log("broke the backplane protocol")
    with pytest.raises(CutShort) as cut:
        client.response()
    assert cut.value.how == "reset"


def test_a_return_of_what_has_begun_faults_the_link(blog: Vassal) -> None:
    """Run twice would be worse than an error."""
    worker = blog.active().worker()
    client = blog.stage.http(post(b"x" * 10).replace(b"Content-Length: 10", b"Content-Length: 99"))
    worker.give_back(worker.take())
    assert worker.expect_refused() == 8
    assert client.response().status == 502


def test_an_end_without_a_response_is_a_502(blog: Vassal) -> None:
    worker = blog.active().worker()
    client = blog.stage.http(get())
    worker.abort(worker.take(), "the app raised")
    assert client.response().status == 502
    blog.stage.wait_log("the app raised")
    client.send(get())
    worker.respond(worker.take())
    assert client.response().status == 200
    assert link_faults(blog) == 0


@pytest.mark.parametrize(
    "kind", [records.RESPONSE, records.DATA, records.CREDIT, records.ABORT, records.RETURN]
)
def test_a_record_of_an_unknown_stream_reaches_nobody(blog: Vassal, kind: int) -> None:
    worker, request = running(blog)
    payload = b"\0" * 6 + b"200 OK\r\n" if kind == records.RESPONSE else b"\1\0\0\0"
    for stray in (STRAY, request.stream + 1, request.stream ^ 1 << 40):
        worker.send(records.pack(kind, FIN, NO_WORD, stray, payload))
    blog.wait_stat("stale_records", 3)
    assert link_faults(blog) == 0
    worker.expect_nothing(0.01)
    worker.respond(request)
    blog.wait_stat("running", 0)


def test_the_stream_of_another_worker_is_an_unknown_one(blog: Vassal) -> None:
    generation = blog.active()
    workers = generation.worker(0), generation.worker(1)
    client = blog.stage.http(get())
    holder, thief = who_hears(*workers)
    request = holder.take()
    thief.send(records.pack_response(FIN, NO_WORD, request.stream, 0, b"200 OK\r\n", b"stolen"))
    blog.wait_stat("stale_records", 1)
    holder.respond(request, body=b"own")
    assert client.response().body == b"own"


def test_an_answer_after_the_end_reaches_nobody(blog: Vassal) -> None:
    worker = blog.active().worker()
    client = blog.stage.http(get(path="/one"))
    request = worker.take()
    worker.respond(request, body=b"one")
    worker.send(records.pack_response(FIN, NO_WORD, request.stream, 0, b"200 OK\r\n", b"one again"))
    assert client.response().body == b"one"
    client.send(get(path="/two"))
    worker.respond(worker.take(), body=b"two")
    assert client.response().body == b"two"
    blog.wait_stat("stale_records", 1)


@pytest.mark.parametrize("kind", [records.PONG, records.CREDIT, records.GRANT, records.RECALL])
def test_a_record_without_use_is_dropped_and_counted(blog: Vassal, kind: int) -> None:
    worker = blog.active().worker()
    worker.send(records.pack(kind, 0, NO_WORD, 0, bytes(2 if kind in (records.GRANT, records.RECALL) else 4)))
    blog.wait_stat("unasked_messages", 1)
    assert link_faults(blog) == 0
    assert blog.links()


def test_two_frames_are_dropped_and_counted(blog: Vassal) -> None:
    worker, request = running(blog)
    worker.send_frames(
        records.pack_response(FIN, NO_WORD, request.stream, 0, b"200 OK\r\n", b"no"), worker.identity
    )
    blog.wait_stat("unasked_messages", 1)
    assert blog.stats()["running"] == 1
    worker.respond(request)
    blog.wait_stat("running", 0)


def test_an_interim_response_is_only_advice(blog: Vassal) -> None:
    worker = blog.active().worker()
    client = blog.stage.http(get())
    request = worker.take()
    worker.send(records.pack(records.INTERIM, 0, NO_WORD, request.stream, b"103 Early Hints\r\n"))
    worker.respond(request, body=b"final")
    response = client.response()
    assert (response.interim, response.body) == ([103], b"final")


def test_trailers_end_a_response(blog: Vassal) -> None:
    worker = blog.active().worker()
    client = blog.stage.http(get())
    request = worker.take()
    worker.respond(request, body=b"part", fin=False)
    worker.let_go(request)
    worker.send(records.pack(records.TRAILERS, FIN, NO_WORD, request.stream, b"x-sum: 1\r\n"))
    response = client.response()
    assert (response.framing, response.body) == ("chunked", b"part")


def test_unknown_flags_are_ignored(blog: Vassal) -> None:
    worker = blog.active().worker()
    client = blog.stage.http(get())
    request = worker.take()
    worker.let_go(request)
    worker.send(records.pack_response(0xF0 | FIN, NO_WORD, request.stream, 0, b"200 OK\r\n", b"fine"))
    assert client.response().body == b"fine"


def test_a_message_larger_than_any_may_be_costs_the_connection(blog: Vassal) -> None:
    worker = blog.active().worker()
    worker.send(records.pack(records.PONG, 0, NO_WORD, 0, bytes(2 << 20)))
    client = blog.stage.http(get())
    worker.connect()
    worker.join()
    worker.respond(worker.take(), body=b"served all the same")
    assert client.response().body == b"served all the same"


def test_a_neighbour_does_not_notice(stage: Stage, blog: Vassal) -> None:
    other = stage.vassal("other")
    other.active().answering()
    client = stage.http(get("other.localhost"))
    assert client.response().status == 200
    worker = blog.active().worker()
    for _ in range(5):
        worker.send(b"?")
        assert worker.expect_refused() == 8
        client.send(get("other.localhost"))
        assert client.response().status == 200
        worker.join()
    assert other.stats()["link_faults"] == 0


@pytest.mark.parametrize(
    "what", ["broke the backplane protocol", "that no client may see", "HELLO of process"]
)
def test_a_worker_that_goes_on_is_logged_once_a_second(blog: Vassal, what: str) -> None:
    generation = blog.active()
    worker = generation.worker()
    began = time.monotonic()
    for _ in range(30):
        if what == "that no client may see":
            client = blog.stage.http(get())
            worker.respond(worker.take(), "200 OK\r\nBad\r\n")
            assert client.response().status == 502
        elif what == "HELLO of process":
            worker.send(b"?")
            assert worker.expect_refused() == 8
            worker.hello(token=bytes(32))
            assert worker.expect_refused() == 4
            worker.join()
        else:
            worker.send(b"?")
            assert worker.expect_refused() == 8
            worker.join()
    blog.stage.wait_log(f"{what}.* such lines in a second")
    took_s = time.monotonic() - began
    assert len([line for line in blog.stage.logged() if what in line]) <= 2 + took_s, took_s


def test_what_one_app_says_in_ever_new_words_hides_nothing_of_another(stage: Stage) -> None:
    noisy, quiet = stage.vassal("noisy"), stage.vassal("quiet")
    shouts, worker = noisy.active().worker(), quiet.active().worker()

    def shout(*numbers: int) -> None:
        for number in numbers:
            client = stage.http(get("noisy.localhost"))
            shouts.abort(shouts.take(), f"reason {number}")
            assert client.response().status == 502

    shout(*range(300))
    client = stage.http(get("quiet.localhost"))
    worker.abort(worker.take(), "the only one")
    assert client.response().status == 502
    shout(300)
    stage.wait_log(r"^\[quiet\] .*: 502: the worker aborted it: the only one \(id [0-9a-f]+\)$")
    wait_for(
        lambda: said_of(stage.logged(), "the worker aborted it: reason ") == 301, TIMEOUT_S, stage.logged
    )
