"""Workers that leave, and routers that tell them to: BYE, RETURN, DRAIN; nothing that was not begun is lost."""

import asyncio
import os
import signal

import pytest

from emperor.protocol import records
from emperor.router.main import ACCEPTED_S
from tests.router.client import Connection, CutShort, get, post, request
from tests.router.inside import router_with_a_client, run
from tests.router.stage import Stage, Vassal, said_of
from tests.scenarios.harness.waiting import wait_for


def test_bye_is_acknowledged(blog: Vassal) -> None:
    worker = blog.active().worker()
    worker.bye()
    worker.expect(records.BYE_ACK)
    blog.wait_stat("links", [])
    blog.stage.wait_event("link", name="blog", up=False)


def test_bye_before_ready_too(blog: Vassal) -> None:
    worker = blog.active().stranger()
    worker.hello()
    worker.welcomed()
    worker.bye()
    worker.expect(records.BYE_ACK)
    blog.wait_stat("links", [])


def test_the_last_answer_of_a_worker_that_leaves_is_not_lost(blog: Vassal) -> None:
    worker = blog.active().worker()
    client = blog.stage.http(get())
    taken = worker.take()
    worker.let_go(taken)
    worker.send(
        records.pack_response(records.FIN, records.NO_WORD, taken.stream, 0, b"200 OK\r\n", b"last"),
        records.pack(records.BYE, 0, records.NO_WORD, 0, b""),
    )
    assert client.response().body == b"last"
    worker.expect(records.BYE_ACK)


def test_what_a_leaving_worker_returns_goes_to_another_in_its_order(blog: Vassal) -> None:
    generation = blog.active(seats=2)
    leaving = generation.worker(0)
    clients = []
    for index in range(3):
        clients.append(blog.stage.http(get(path=f"/{index}")))
        blog.wait_stat("requests", index + 1)
    taken = [leaving.offered() for _ in clients]
    # From here on it claims and returns, as a worker that was told to go does; the newest first, to no effect.
    for each in reversed(taken):
        assert leaving.claim(each)
        leaving.give_back(each)
    blog.wait_stat("queued", 3)
    assert blog.wait_link(seat=0)["accepting"] == 0  # who returns is leaving: it gets nothing more
    leaving.bye()
    leaving.expect(records.BYE_ACK)
    heir = generation.answering(seat=1)
    assert [client.response().status for client in clients] == [200] * 3
    assert [each.path for each in heir.seen] == ["/0", "/1", "/2"]


def test_a_body_is_whole_again_after_a_return(blog: Vassal) -> None:
    generation = blog.active(seats=2)
    leaving = generation.worker(0)
    body = bytes(range(256)) * 1024
    client = blog.stage.http(post(body))
    taken = leaving.offered()
    assert not taken.whole and taken.body == body[:65536]
    assert leaving.claim(taken)
    leaving.give_back(taken)
    heir = generation.worker(1)
    again = heir.take()
    assert again.stream != taken.stream
    assert again.body + heir.rest_of_body(again) == body
    heir.respond(again)
    assert client.response().status == 200


def test_a_return_after_the_client_has_gone_ends_it_and_costs_the_worker_nothing(blog: Vassal) -> None:
    """A worker that meets a request already cancelled returns it, and is not leaving."""
    worker = blog.active().worker()
    gone = blog.stage.http(get(path="/gone"))
    taken = worker.offered()
    assert worker.claim(taken)
    gone.reset()
    worker.expect(records.CANCEL)
    worker.give_back(taken)
    blog.wait_stat("running", 0)
    client = blog.stage.http(get(path="/next"))
    worker.respond(worker.take(), body=b"next")
    assert client.response().body == b"next"
    assert blog.stats()["queued"] == 0


def test_drain_offers_nothing_more_and_takes_back_what_has_not_begun(blog: Vassal) -> None:
    old = blog.active(1).worker()
    running = blog.stage.http(get(path="/running"))
    taken = old.take(timed=False)
    waiting = blog.stage.http(get(path="/waiting"))
    blog.wait_stat("on_deck", 1)
    revoked = old.offered()
    new = blog.active(2).worker()
    old.expect(records.DRAIN)
    assert not old.claim(revoked)
    again = new.take()
    assert again.path == "/waiting"
    new.respond(again, body=b"by the new one")
    assert waiting.response().body == b"by the new one"
    old.respond(taken, body=b"by the old one")
    assert running.response().body == b"by the old one"
    old.bye()
    old.expect(records.BYE_ACK)


def router_of_its_own(fresh: Stage) -> Vassal:
    fresh.vassal("neighbour")
    blog = fresh.vassal("blog")
    fresh.open_for_business()
    return blog


def test_the_router_drains(fresh: Stage) -> None:
    """It answers what was asked, closes what is idle, takes in what has already connected, and exits 0."""
    blog = router_of_its_own(fresh)
    worker = blog.active().worker()
    idle = fresh.http()
    kept = fresh.http(get(path="/kept"))
    worker.respond(worker.take())
    assert not kept.response().closes
    running = fresh.http(get(path="/running"))
    taken = worker.take()
    half = fresh.http(get(path="/half")[:-2])
    wait_for(lambda: fresh.stats()["connections"] == 4, 5, fresh.stats)
    with fresh.frozen():
        late = [Connection(fresh.http_address).send(get(path="/late")) for _ in range(20)]
        fresh.channel.send({"op": "drain", "timeout_s": 10, "id": 99})
    assert idle.end() == "closed"
    assert kept.end() == "closed"
    worker.respond(taken, body=b"done")
    assert running.response().closes
    for client in late:
        with client:
            worker.respond(worker.take(), body=b"late")
            assert client.response().body == b"late"
            assert client.end() == "closed"
    half.send(b"\r\n")
    worker.respond(worker.take(), body=b"half")
    response = half.response()
    assert (response.body, response.closes) == (b"half", True)
    assert fresh.wait_exit() == 0


def test_a_router_that_leaves_keeps_idle_connections_for_a_moment() -> None:
    """In this process, where the order of two timers is the order of what they do."""

    async def leaves() -> None:
        async with router_with_a_client() as (router, _, reader, writer), asyncio.timeout(20):
            router.start_drain(8.0)
            await asyncio.sleep(0.2)
            writer.write(post(b"abc", "nobody.test"))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 404 ") and b"\r\nConnection: close\r\n" in head
            await router.stopped

    run(leaves())


def test_a_connection_whose_answer_said_that_it_stays_does(fresh: Stage) -> None:
    """Its head went out before the router was to leave: the client may send its next request as soon as it has the rest."""
    blog = router_of_its_own(fresh)
    worker = blog.active().worker()
    client = fresh.http(get(path="/stream"))
    taken = worker.take()
    worker.respond(taken, body=b"a", fin=False)
    assert not client.head().closes
    fresh.tell("drain", timeout_s=400, grace_s=100)
    worker.data(taken, b"b", fin=True)
    assert client.read_exactly(17) == b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n"
    client.send(get(path="/next"))
    worker.respond(worker.take(), body=b"next")
    response = client.response()
    assert (response.body, response.closes) == (b"next", True)
    assert client.end() == "closed"
    assert fresh.wait_exit() == 0


def test_it_does_not_stay_for_long(fresh: Stage) -> None:
    blog = router_of_its_own(fresh)
    worker = blog.active().worker()
    client = fresh.http(get(path="/stream"))
    taken = worker.take()
    worker.respond(taken, body=b"a", fin=False)
    client.head()
    fresh.tell("drain", timeout_s=400, grace_s=0.1)
    worker.data(taken, fin=True)
    assert client.everything_to_the_end() == b"1\r\na\r\n0\r\n\r\n"
    assert fresh.wait_exit() == 0


def test_what_has_come_meanwhile_is_answered() -> None:
    """A request that lies in the kernel when the idle connection's time is up: a close would reset it."""

    async def leaves() -> None:
        async with router_with_a_client() as (router, front, reader, writer), asyncio.timeout(20):
            router.start_drain(400.0, 0.0)
            os.write(writer.get_extra_info("socket").fileno(), post(b"abc", "nobody.test"))
            wait_for(front.is_asked, 10, every_s=0.001)
            router._leave()
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 404 ") and b"\r\nConnection: close\r\n" in head
            await router.stopped

    run(leaves())


def test_a_drain_waits_for_who_has_a_handshake_to_go_through() -> None:
    """TLS, or a PROXY header: the kernel has connected it, and it is no client yet."""

    async def leaves() -> None:
        async with router_with_a_client() as (router, _, _, writer), asyncio.timeout(20):
            assert router.meets("")
            router.start_drain(400.0, 0.0)
            writer.close()
            while router.fronts:
                await asyncio.sleep(0.01)
            await asyncio.sleep(3 * ACCEPTED_S)
            assert not router.stopped.done()
            router.missed(None, "")
            await router.stopped

    run(leaves())


def test_a_drain_with_nothing_to_do_is_over_at_once(fresh: Stage) -> None:
    router_of_its_own(fresh)
    fresh.tell("drain", timeout_s=30)
    assert fresh.wait_exit(2.0) == 0


def test_a_drain_ends_at_its_time(fresh: Stage) -> None:
    blog = router_of_its_own(fresh)
    worker = blog.active().worker()
    stuck = fresh.http(get())
    request_ = worker.take()
    worker.respond(request_, body=b"never finished", fin=False)
    stuck.head()
    fresh.tell("drain", timeout_s=0.3)
    assert fresh.wait_exit(3.0) == 0
    assert stuck.read_exactly(3)  # the size of the only chunk
    with pytest.raises(CutShort) as cut:
        stuck.read_exactly(1000)
    assert cut.value.how == "reset"


def test_what_was_held_back_is_told_at_the_end(fresh: Stage) -> None:
    blog = router_of_its_own(fresh)
    worker = blog.active().worker()
    for _ in range(5):
        worker.send(b"?")
        assert worker.expect_refused() == 8
        worker.join()
    for _ in range(5):
        assert fresh.http(b"bad\r\n\r\n").response().status == 400
    fresh.tell("drain", timeout_s=0.1)
    assert fresh.wait_exit() == 0
    lines = fresh.logged()
    assert said_of(lines, "400: ") == 5, lines
    assert said_of(lines, "broke the backplane protocol") == 5, lines


def test_what_was_held_back_of_a_vassal_is_told_when_it_goes(stage: Stage) -> None:
    blog = stage.vassal()
    worker = blog.active().worker()
    for _ in range(5):
        worker.send(b"?")
        assert worker.expect_refused() == 8
        worker.join()
    stage.tell("remove", name="blog")
    lines = stage.logged()
    assert said_of(lines, "broke the backplane protocol") == 5, lines


def test_term_is_a_drain(fresh: Stage) -> None:
    router_of_its_own(fresh)
    client = fresh.http()
    os.kill(fresh.pid, signal.SIGTERM)
    assert client.end() == "closed"
    assert fresh.wait_exit() == 0


def test_ctrl_c_and_hangup_are_the_emperors_business(stage: Stage) -> None:
    os.kill(stage.pid, signal.SIGINT)
    os.kill(stage.pid, signal.SIGHUP)
    client = stage.http(request("nobody.test"))
    assert client.response().status == 404


def test_a_body_that_is_being_dropped_does_not_hold_up_a_drain(fresh: Stage) -> None:
    router_of_its_own(fresh)
    idle = fresh.http()
    client = fresh.http(post(b"x" * 1000, "nobody.test")[:-500])
    assert client.response().status == 404
    fresh.tell("drain", timeout_s=30)
    assert idle.end() == "closed"
    client.send_as_far_as_it_goes(b"x" * 500)
    assert fresh.wait_exit(5.0) == 0
