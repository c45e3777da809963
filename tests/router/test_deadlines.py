"""How long clients may take. The router looks once a second, so each of these takes one to two."""

import asyncio
from collections.abc import Iterator

import pytest

from emperor.protocol import records
from tests.router.client import CutShort, get, post, uwsgi
from tests.router.inside import router_with_a_client, run
from tests.router.stage import Stage, Vassal, open_stage
from tests.scenarios.harness.waiting import wait_for


@pytest.fixture
def stage(short: Stage) -> Iterator[Stage]:
    with short.scene():
        yield short


def test_a_head_that_drips(stage: Stage) -> None:
    """Each byte comes in time, the head does not."""
    client = stage.http(b"GET / HTTP/1.1\r\nHost: blog.localhost\r\nX-Slow: ", timeout_s=0.05)
    for _ in range(100):
        try:
            response = client.response()
            break
        except TimeoutError:
            client.send_as_far_as_it_goes(b"x")
    else:
        raise AssertionError("it may drip for ever")
    assert (response.status, response.closes) == (408, True)


def test_a_connection_without_a_byte_is_closed_without_an_answer(stage: Stage) -> None:
    assert stage.http().end() == "closed"


def test_an_idle_connection_is_closed_without_an_answer(stage: Stage) -> None:
    client = stage.http(get("nobody.test"))
    assert client.response().status == 404
    assert client.end() == "closed"


def test_a_second_head_that_never_ends(stage: Stage) -> None:
    client = stage.http(get("nobody.test") + b"GET / HTT")
    assert client.response().status == 404
    assert client.response().status == 408
    assert client.end() == "closed"


def test_a_body_that_stalls_in_the_queue(stage: Stage, blog: Vassal) -> None:
    client = stage.http(post(b"x" * 100)[:-50])
    assert client.response().status == 408
    assert client.end() == "closed"
    assert blog.stats()["queued"] == 0


@pytest.mark.parametrize("sent", [0, 50])
def test_a_body_that_stalls_while_the_worker_reads_it(stage: Stage, blog: Vassal, sent: int) -> None:
    worker = blog.active().worker()
    client = stage.http(post(b"x" * 100)[: -100 + sent])
    request = worker.take()
    assert client.response().status == 408
    assert worker.expect(records.CANCEL)[3] == request.stream
    worker.abort(request)
    blog.wait_stat("running", 0)


def test_a_body_has_its_own_time_after_a_slow_head() -> None:
    """The head's deadline must not run on into the body."""
    with open_stage("--head-timeout=0.3", "--body-timeout=30") as stage:
        blog = stage.vassal("blog")
        stage.open_for_business()
        worker = blog.active().worker()
        client = stage.http(
            post(b"x" * 3)[:-3], timeout_s=0.6
        )  # three times that is more than 0.3 s and a look
        request = worker.take()
        body = bytearray()
        for _ in range(3):
            with pytest.raises(TimeoutError):
                client.response()
            client.send(b"x")
            body += worker.expect(records.DATA)[4]
        assert bytes(body) == b"xxx"
        worker.respond(request, body=b"whole")
        client.sock.settimeout(10)
        assert client.response().body == b"whole"


def test_who_waits_for_100_continue_owes_nothing(stage: Stage, blog: Vassal) -> None:
    """It may wait in the queue for longer than any body may stall."""
    client = stage.http(post(b"", "blog.localhost", "/", "Expect: 100-continue").replace(b": 0", b": 3"))
    blog.wait_stat("queued", 1)
    bystander = stage.http()
    assert bystander.end() == "closed"  # two looks of the router's clock are over
    assert stage.http().end() == "closed"
    assert blog.stats()["queued"] == 1
    worker = blog.active().worker()
    request = worker.take()
    assert client.read_exactly(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"abc")
    assert request.body + worker.rest_of_body(request) == b"abc"
    worker.respond(request)
    assert client.response().status == 200


def test_who_was_told_to_continue_and_does_not(stage: Stage, blog: Vassal) -> None:
    worker = blog.active().worker()
    client = stage.http(post(b"", "blog.localhost", "/", "Expect: 100-continue").replace(b": 0", b": 3"))
    request = worker.take()
    response = client.response()
    assert (response.interim, response.status) == ([100], 408)
    worker.abort(request)


def test_a_client_that_takes_nothing_is_cut_off(stage: Stage, blog: Vassal) -> None:
    worker = blog.active().worker()
    client = stage.http(get())
    request = worker.take()
    worker.respond(request, fin=False)
    credit, cancelled = 256 * 1024, False
    while not cancelled:
        if credit >= 65536:
            worker.data(request, bytes(65536))
            credit -= 65536
            continue
        got = worker.receive()
        assert got is not None, "it is waited for for ever"
        cancelled = got[0] == records.CANCEL
        if got[0] == records.CREDIT and got[3] == request.stream:
            credit += records.unpack_credit(got[4])
    stage.wait_log("it took nothing")
    worker.abort(request)
    with pytest.raises(CutShort) as cut:
        client.response()
    assert cut.value.how == "reset"


def test_a_client_that_takes_little_is_not() -> None:
    """A slow client is not a dead one: it takes less in its time than it is behind, and is served on."""
    with open_stage("--write-timeout=1", "--idle-timeout=0.3") as stage:
        blog = stage.vassal("blog")
        stage.open_for_business()
        worker = blog.active().worker()
        client = stage.http(get())
        client.sock.setsockopt(1, 8, 4096)  # SOL_SOCKET, SO_RCVBUF
        request = worker.take()
        worker.respond(request, fin=False)
        client.head()
        credit, looks = 256 * 1024, 0
        bystander = stage.http()
        while looks < 3:
            got = worker.receive(0)
            if got is not None:
                assert got[0] == records.CREDIT, "the slow client was cut off"
                credit += records.unpack_credit(got[4]) if got[3] == request.stream else 0
            elif credit >= 65536:
                worker.data(request, bytes(65536))
                credit -= 65536
            else:
                client.sock.recv(2048)
                bystander.sock.settimeout(0.001)
                try:
                    bystander.end()
                except TimeoutError:
                    continue
                looks += 1
                bystander = stage.http()
        worker.abort(request)


def test_a_connection_has_its_idle_time_again_after_a_large_response(stage: Stage, blog: Vassal) -> None:
    """Writing was paused, and went on: the deadline of what follows is still there."""
    worker = blog.active().worker()
    client = stage.http(get())
    request = worker.take()
    worker.respond(request, fin=False)
    credit = 256 * 1024
    sent = 0
    while True:
        while credit >= 65536:
            worker.data(request, bytes(65536))
            credit -= 65536
            sent += 65536
        got = worker.receive(0.05)
        if got is None:
            break
        credit += records.unpack_credit(got[4]) if got[3] == request.stream else 0
    worker.data(request, fin=True)
    blog.wait_stat("running", 0)
    assert len(client.response().body) == sent
    assert client.end() == "closed"


def test_an_early_answer_is_not_waited_on_for_ever(stage: Stage, blog: Vassal) -> None:
    blog.tell(body_limit=10)
    before = stage.stats()["connections"]
    client = stage.http(post(b"x" * 1_000_000)[:-999_000])
    assert client.response().status == 413
    wait_for(lambda: stage.stats()["connections"] == before, 5, stage.stats)


def test_a_packet_that_drips(stage: Stage) -> None:
    client = stage.uwsgi(uwsgi()[:20])
    assert client.response().status == 408
    assert client.end() == "closed"


def test_a_body_behind_a_packet_that_stalls(stage: Stage, blog: Vassal) -> None:
    worker = blog.active().worker()
    client = stage.uwsgi(uwsgi(body=b"x" * 100)[:-50])
    request = worker.take()
    assert client.response().status == 408
    worker.expect(records.CANCEL)
    worker.abort(request)


@pytest.mark.parametrize("sent", [200_000, 350_000], ids=["read", "not read for a while"])
def test_an_answered_upload_that_stalls(stage: Stage, blog: Vassal, sent: int) -> None:
    """The answer keeps the connection, for the little of the body that is left; it may not be kept for nothing."""
    blog.tell(request_timeout_s=0.3)
    client = stage.http(post(bytes(sent + 100_000))[:-100_000])
    assert client.response().status == 504
    with pytest.raises(CutShort):
        client.response()
    assert blog.stats()["queued"] == 0


def test_an_answered_upload_that_goes_on(stage: Stage, blog: Vassal) -> None:
    """What is left is read and dropped, however slowly it comes, and the next request is served."""
    blog.tell(request_timeout_s=0.3)
    left = 100_000
    client = stage.http(post(bytes(2 * left))[:-left])
    assert client.response().status == 504
    blog.tell(request_timeout_s=0.0)
    # Another upload, which is cut off meanwhile, shows that the time would be over.
    clock = stage.http(post(b"x" * 100)[:-50], timeout_s=0.05)
    while True:
        try:
            assert clock.response().status == 408
            break
        except TimeoutError:
            client.send(b"x")
            left -= 1
    client.send(bytes(left) + get("nobody.test"))
    assert client.response().status == 404


def test_who_leaves_while_it_waits_to_be_looked_at_does_not_stop_the_clock() -> None:
    """The router's own clock, in this process: the moment between two turns of its loop cannot be met from outside."""

    async def leaves() -> None:
        async with router_with_a_client() as (router, front, _, writer):
            front.pause_writing()
            front.write_deadline = 0.001
            router._late.append(front)
            writer.transport.abort()
            async with asyncio.timeout(20):
                while router.fronts:
                    await asyncio.sleep(0.01)
                for _ in range(2):  # two ticks
                    date = router.date
                    while router.date == date:
                        await asyncio.sleep(0.05)
            assert not router._late

    run(leaves())
