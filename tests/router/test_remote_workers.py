"""Workers of other hosts at a router: who is let in, what they are given, and what becomes of it when they go."""

import socket
import threading
import time

import pytest

from emperor.protocol import records
from emperor.protocol.records import FIN, NO_WORD
from emperor.router import policies
from emperor.router.grants import SHARE_NS
from emperor.router.handshakes import MOST
from tests.router.client import get, post
from tests.router.far import SERVER, Far, FarWorker, pair
from tests.router.stage import TIMEOUT_S, Stage, Vassal
from tests.scenarios.harness.waiting import wait_for

KEY, OTHER, BAD = pair(), pair(), pair()


@pytest.fixture
def far(stage: Stage) -> Far:
    return Far(stage, {KEY[0]: ["blog"], OTHER[0]: ["shop"], BAD[0]: ["*"]})


@pytest.fixture
def blog(stage: Stage) -> Vassal:
    """It has no workers here, and is served all the same once there are some elsewhere."""
    return stage.vassal("blog", available=False)


def wait_links(far: Far, count: int) -> None:
    wait_for(lambda: far.report()["links"] == count, TIMEOUT_S, far.report, every_s=0.01)


def test_a_worker_far_away_serves(stage: Stage, far: Far, blog: Vassal) -> None:
    assert stage.http(get()).response().status == 503
    worker = far.worker(KEY)
    blog.wait_link(slots=1, pid=0)
    client = stage.http(get(path="/far"))
    request = worker.take()
    assert request.path == "/far" and request.word == NO_WORD
    worker.respond(request, body=b"from afar")
    assert client.response().body == b"from afar"
    assert blog.stats()["responses"] == {"2xx": 1}


def test_bodies_go_both_ways(stage: Stage, far: Far) -> None:
    stage.vassal("blog", request_buffering=False)
    worker = far.worker(KEY)
    body = b"b" * 300_000
    client = stage.http(post(body))
    request = worker.offered()
    worker.begin(request)
    assert request.body + worker.rest_of_body(request) == body
    worker.respond(request, body=b"x" * 1000, fin=False)
    for _ in range(3):
        worker.data(request, b"y" * 60_000)
    worker.data(request, fin=True)
    assert len(client.response().body) == 181_000


def test_no_more_at_once_than_it_has_slots(stage: Stage, far: Far, blog: Vassal) -> None:
    worker = far.worker(KEY, slots=2)
    clients = [stage.http(get(path=f"/{number}")) for number in range(3)]
    first, second = worker.take(), worker.take()
    blog.wait_stat("queued", 1)
    worker.expect_nothing()
    worker.respond(second)
    third = worker.take()
    worker.respond(third)
    worker.respond(first)
    assert [client.response().status for client in clients] == [200, 200, 200]


@pytest.mark.parametrize("who", ["a key that nobody knows", "no CURVE at all"])
def test_who_is_not_known_is_not_let_in(stage: Stage, far: Far, blog: Vassal, who: str) -> None:
    cause = "key" if "key" in who else "curve"
    before = far.report()["refusals"][cause]
    worker = far.stranger(pair() if "key" in who else None)
    assert not worker.is_let_in(0.5)
    wait_for(lambda: far.report()["refusals"][cause] > before, TIMEOUT_S, far.report, every_s=0.01)
    assert stage.wait_log("an unknown key" if "key" in who else "does not speak CURVE")
    assert far.report()["links"] == 0


def test_a_key_serves_what_it_may_and_nothing_else(stage: Stage, far: Far, blog: Vassal) -> None:
    stage.vassal("shop")
    before = far.report()["refusals"]["hello"]
    thief = far.stranger(OTHER)
    thief.hello()
    assert thief.expect_refused() == 10
    thief.hello(name="neighbour")
    assert thief.expect_refused() == 10
    assert stage.wait_log("this key may not serve 'blog' here")
    assert far.report()["refusals"]["hello"] == before + 2
    # The connection is as good as any for what it may.
    thief.hello(name="shop")
    thief.welcomed()


@pytest.mark.parametrize(
    ("changed", "code"),
    [({"version": 99}, 1), ({"slots": 0}, 6), ({"slots": 65535}, 6)],
)
def test_a_hello_that_is_wrong(far: Far, blog: Vassal, changed: dict[str, int], code: int) -> None:
    worker = far.stranger(KEY)
    worker.hello(**changed)
    assert worker.expect_refused() == code


def test_an_app_that_is_not_here(far: Far) -> None:
    worker = far.stranger(KEY)
    worker.hello()
    assert worker.expect_refused() == 2


def test_the_nonce_counts_here_too(far: Far, blog: Vassal) -> None:
    worker = far.stranger(KEY)
    worker.hello()
    worker.welcomed()
    worker.ready(nonce=bytes(16))
    assert worker.expect_refused() == 7


@pytest.mark.parametrize(("said", "counts"), [(NO_WORD, 1), (4, 4), (100, 100), (0, 1), (101, 100)])
def test_a_worker_says_its_hosts_weight(far: Far, blog: Vassal, said: int, counts: int) -> None:
    """One of the version before says none."""
    worker = far.stranger(KEY)
    worker.hello()
    worker.welcomed()
    worker.ready(weight=said)
    blog.wait_link(slots=1, pid=0)
    assert blog.links()[0]["weight"] == counts


def test_a_weight_says_what_share_a_worker_gets(stage: Stage, far: Far, blog: Vassal) -> None:
    """Of two that are idle a hundred to one, so of 60 requests this one gets nearly all."""
    light, heavy = far.stranger(KEY, seat=0), far.stranger(KEY, seat=1)
    for worker, weight in ((light, 1), (heavy, 100)):
        worker.hello()
        worker.welcomed()
        worker.ready(weight=weight)
    wait_for(lambda: len(blog.links()) == 2 and all(each["ready"] for each in blog.links()), TIMEOUT_S)
    for _ in range(60):
        client = stage.http(get())
        # What comes may be a PING, which is answered, and no request.
        worker, record = wait_for(
            lambda: next(
                ((each, got) for each in (heavy, light) if (got := each.receive(0.005)) is not None), None
            ),
            TIMEOUT_S,
            every_s=0.001,
        )
        worker.respond(worker.met(record))
        assert client.response().status == 200
    assert blog.links()[1]["requests"] > 45


def test_in_overload_the_oldest_is_turned_away_here_too(stage: Stage, far: Far, blog: Vassal) -> None:
    blog.tell(balancing={"queue_target_s": 0.2})
    worker = far.worker(KEY)
    first = stage.http(get())
    request = worker.take()
    worker.send(records.pack_response(FIN, NO_WORD, request.stream, 20_000, b"200 OK\r\n", b""))
    assert first.response().status == 200
    runs = stage.http(get(path="/runs"))
    request = worker.take()
    waiting = [stage.http(get(path=f"/{number}")) for number in range(60)]
    refused = [client.response() for client in waiting]
    assert {(each.status, each.headers["unavailable-reason"]) for each in refused} == {(503, "overload")}
    assert {int(each.headers["retry-after"]) for each in refused} <= {1, 2}
    assert "60 requests wait" in stage.wait_log("overloaded: .* for 1 slots")
    worker.respond(request)
    assert runs.response().status == 200


def test_a_cookie_leads_to_the_same_worker_there(stage: Stage, far: Far, blog: Vassal) -> None:
    blog.tell(balancing={"sticky": "worker"})
    workers = [far.worker(KEY, seat=seat) for seat in range(3)]

    def ask(worker: FarWorker, cookie: str) -> str:
        client = stage.http(get("blog.localhost", "/", f"Cookie: {cookie}"))
        worker.respond(worker.take())
        return client.response().headers.get("set-cookie", "").partition(";")[0]

    clients = [stage.http(get(path=f"/{number}")) for number in range(3)]  # one for each
    cookies = []
    for worker, path in [(worker, worker.take()) for worker in workers]:
        worker.respond(path)
        cookies.append(clients[int(path.path[1:])].response().headers["set-cookie"].partition(";")[0])
    assert len(set(cookies)) == 3
    assert f"worker={policies.token('blog', 0)}" not in cookies  # that is who has this seat here
    for worker, cookie in zip(workers, cookies, strict=True):
        assert ask(worker, cookie) == ask(worker, cookie) == ""


def test_a_field_of_the_request_leads_to_the_same_worker_there(stage: Stage, far: Far, blog: Vassal) -> None:
    blog.tell(balancing={"balance": "hash", "hash_by": "header X-User"})
    workers = {policies.token("blog", f"{KEY[0]}\0{seat}"): far.worker(KEY, seat=seat) for seat in range(3)}
    seen = set()
    for number in range(12):
        user = f"user{number}"
        home = max(workers, key=lambda place: policies.score(user.encode(), place, 1))
        seen.add(home)
        client = stage.http(get("blog.localhost", "/", f"X-User: {user}"))
        workers[home].respond(workers[home].take())
        assert client.response().status == 200
    assert len(seen) == 3


def test_each_in_turn_there(stage: Stage, far: Far, blog: Vassal) -> None:
    blog.tell(balancing={"balance": "round-robin"})
    workers = [far.worker(KEY, seat=seat) for seat in range(3)]
    wait_for(lambda: sum(each["ready"] for each in blog.links()) == 3, TIMEOUT_S, blog.stats)
    for worker in workers * 2:
        client = stage.http(get())
        worker.respond(worker.take())
        assert client.response().status == 200


def test_a_key_that_is_revoked_is_cut_off(stage: Stage, far: Far, blog: Vassal) -> None:
    worker = far.worker(KEY)
    client = stage.http(get())
    worker.take()
    far.allow({OTHER[0]: ["shop"]})
    assert worker.expect_refused() == 10
    assert client.response().status == 502
    worker.hello()
    assert worker.expect_refused() == 10
    assert not far.stranger(KEY).is_let_in(0.3)


def test_a_connection_that_ends_costs_what_was_sent_and_no_more(stage: Stage, far: Far, blog: Vassal) -> None:
    one = far.worker(KEY, seat=0)
    other = far.worker(KEY, seat=1)
    clients = [stage.http(get(path=f"/{number}")) for number in range(3)]
    has, stays = one.take(), other.take()
    blog.wait_stat("queued", 1)
    one.disconnect()
    wait_links(far, 1)
    other.respond(stays)
    waited = other.take()
    other.respond(waited)
    answers = {f"/{number}": client.response().status for number, client in enumerate(clients)}
    assert answers == {has.path: 502, stays.path: 200, waited.path: 200}


def test_the_same_worker_anew_replaces_its_old_connection(far: Far, blog: Vassal) -> None:
    worker = far.worker(KEY)
    worker.connect()
    worker.join()
    wait_links(far, 1)
    # Of another gateway it is another worker.
    far.stranger(KEY).hello(token=b"h" * 32)
    wait_links(far, 2)


def test_when_the_last_far_away_has_left_who_waits_waits_for_those_here(
    stage: Stage, far: Far, blog: Vassal
) -> None:
    """The emperor has said that there will be some, which is more than that there are none now."""
    generation = blog.active(slots=1, deck=1)
    afar = far.worker(KEY)
    clients = [stage.http(get(path=f"/{number}")) for number in range(2)]
    afar.take()
    blog.wait_stat("queued", 1)
    afar.disconnect()
    wait_links(far, 0)
    assert clients[0].response().status == 502
    blog.wait_stat("queued", 1)
    near = generation.worker()
    near.respond(near.take())
    assert clients[1].response().status == 200


def test_leaving_loses_nothing(stage: Stage, far: Far) -> None:
    stage.vassal("blog")
    worker = far.worker(KEY)
    client = stage.http(get())
    request = worker.offered()
    worker.give_back(request)
    worker.bye()
    worker.expect(records.BYE_ACK)
    wait_links(far, 0)
    heir = far.worker(KEY, seat=1)
    heir.respond(heir.take())
    assert client.response().status == 200


# Slots that it shares with routers of its own host


def test_slots_are_asked_for_when_somebody_waits(stage: Stage, far: Far, blog: Vassal) -> None:
    worker = far.stranger(KEY, slots=2)
    worker.hello()
    worker.welcomed()
    worker.ready(free=0)
    blog.wait_link(slots=0)
    clients = [stage.http(get(path=f"/{number}")) for number in range(2)]
    assert worker.expect_slots(records.DEMAND) >= 1
    worker.grant(1)
    first = worker.take()
    worker.expect_any()  # it asks for the other
    worker.respond(first)
    worker.respond(worker.take())
    assert [client.response().status for client in clients] == [200, 200]


def test_slots_that_others_want_are_given_back(stage: Stage, far: Far, blog: Vassal) -> None:
    worker = far.worker(KEY, slots=2)
    worker.send(records.pack(records.RECALL, 0, NO_WORD, 0, records.pack_slots(2)))
    assert worker.expect_slots(records.RELEASE) == 2
    blog.wait_link(slots=0, free=0)
    client = stage.http(get())
    worker.expect(records.DEMAND)
    worker.grant(1)
    request = worker.take()
    worker.send(records.pack(records.RECALL, 0, NO_WORD, 0, records.pack_slots(1)))
    worker.expect_nothing()  # not while it runs
    worker.respond(request)
    assert worker.expect_slots(records.RELEASE) == 1
    assert client.response().status == 200


def test_more_than_it_has_is_granted_to_nobody(far: Far, blog: Vassal) -> None:
    worker = far.worker(KEY, slots=2)
    worker.grant(1)
    worker.grant(60_000)
    blog.wait_link(slots=2)


# On deck there


@pytest.fixture
def again(blog: Vassal) -> Vassal:
    blog.tell(balancing={"retries": True})
    return blog


def ahead(far: Far, blog: Vassal, seat: int = 0, flags: int = records.GIVES_BACK) -> FarWorker:
    """A worker that may have requests ahead, of an app that runs them again (`again`)."""
    before = len(blog.links())
    worker = far.stranger(KEY, seat=seat)
    worker.hello()
    worker.welcomed()
    worker.ready(flags=flags)
    wait_for(lambda: sum(each["ready"] for each in blog.links()) == before + 1, TIMEOUT_S, blog.stats)
    if not blog.stats()["requests"]:
        # What a request takes is known from now on.
        client = blog.stage.http(get())
        worker.respond(worker.take())
        assert client.response().status == 200
    return worker


def test_nothing_is_sent_ahead_before_it_is_known_what_a_request_takes(
    stage: Stage, far: Far, again: Vassal
) -> None:
    worker = far.stranger(KEY)
    worker.hello()
    worker.welcomed()
    worker.ready(flags=records.GIVES_BACK)
    wait_for(lambda: sum(each["ready"] for each in again.links()) == 1, TIMEOUT_S, again.stats)
    clients = [stage.http(get()) for _ in range(3)]
    first = worker.take()
    again.wait_stat("queued", 2)
    worker.expect_nothing()
    worker.respond(first)
    for request in [worker.take() for _ in clients[1:]]:
        worker.respond(request)
    assert [client.response().status for client in clients] == [200] * 3


def test_requests_are_sent_ahead_and_answered_in_their_turn(stage: Stage, far: Far, again: Vassal) -> None:
    worker = ahead(far, again)
    clients = [stage.http(get(path=f"/{number}")) for number in range(4)]
    requests = [worker.take() for _ in clients]
    assert (again.links()[0]["deck"], again.stats()["on_deck"], again.stats()["running"]) == (3, 3, 1)
    for request in requests:
        worker.respond(request, body=request.path.encode())
    for client in clients:
        assert client.response().status == 200
    assert sorted(request.path for request in requests) == ["/0", "/1", "/2", "/3"]
    assert again.links()[0]["deck"] == 0


@pytest.mark.parametrize(
    "why", ["its worker would not give it back", "it may not be run again", "not at all"]
)
def test_what_is_not_sent_ahead(stage: Stage, far: Far, again: Vassal, why: str) -> None:
    worker = ahead(far, again, flags=0 if "give" in why else records.GIVES_BACK)
    if why == "not at all":
        again.tell(balancing={"retries": False})
    first = stage.http(get())
    runs = worker.take()
    second = stage.http(post(b"once") if "again" in why else get())
    again.wait_stat("queued", 1)
    worker.expect_nothing()
    worker.respond(runs)
    last = worker.take()
    # Its answer may wait for others' if it would be run again without it.
    assert bool(last.flags & records.AGAIN) == ("give" in why)
    worker.respond(last)
    assert (first.response().status, second.response().status) == (200, 200)


def test_what_waits_behind_a_long_one_comes_back_and_goes_elsewhere(
    stage: Stage, far: Far, again: Vassal
) -> None:
    stuck = ahead(far, again)
    long = stage.http(get(path="/long"))
    runs = stuck.take()
    quick = [stage.http(get(path=f"/{number}")) for number in range(2)]
    waiting = [stuck.take() for _ in quick]
    stuck.give_back_late(*waiting)
    again.wait_stat("queued", 2)
    stuck.expect_nothing()  # nothing more goes there while it runs
    other = ahead(far, again, seat=1)
    for _ in quick:
        other.respond(other.take())
    assert [client.response().status for client in quick] == [200, 200]
    stuck.respond(runs)
    assert long.response().status == 200
    assert again.stats()["balancing"]["retries"]["returned"] == 2
    # It is a worker like any other again.
    other.disconnect()
    wait_links(far, 1)
    clients = [stage.http(get()) for _ in range(4)]
    again.wait_stat("on_deck", 3)
    for _ in clients:
        stuck.respond(stuck.take())
    assert [client.response().status for client in clients] == [200] * 4


def test_requests_of_microseconds_stay_together(stage: Stage, far: Far, again: Vassal) -> None:
    """But for what is not run again if it is lost, which goes to a free slot."""
    for seat in range(2):
        ahead(far, again, seat=seat)
    for _ in range(6):
        stage.http(get())
    again.wait_stat("on_deck", 5)
    assert again.stats()["running"] == 1
    stage.http(post(b"once"))
    again.wait_stat("running", 2)
    assert again.stats()["on_deck"] == 5


def test_what_was_ahead_of_a_worker_that_is_lost_is_run_again_once(
    stage: Stage, far: Far, again: Vassal
) -> None:
    worker = ahead(far, again)
    clients = [stage.http(get(path=f"/{number}")) for number in range(3)]
    assert all(worker.take().flags & records.AGAIN for _ in clients)
    worker.disconnect()
    wait_links(far, 0)
    again.wait_stat("queued", 3)
    heir = ahead(far, again, seat=1)
    # One after another: each may have ended a worker.
    for _ in clients:
        request = heir.take()
        assert not request.flags & records.AGAIN
        heir.respond(request)
    assert [client.response().status for client in clients] == [200] * 3
    assert again.stats()["balancing"]["retries"]["again"] == 3


def test_a_request_ahead_whose_client_has_gone_is_cancelled_and_returned(
    stage: Stage, far: Far, again: Vassal
) -> None:
    worker = ahead(far, again)
    stays = stage.http(get(path="/stays"))
    runs = worker.take()
    leaves = stage.http(get(path="/leaves"))
    waits = worker.take()
    leaves.close()
    worker.expect_cancel(waits)
    worker.give_back(waits)
    worker.respond(runs)
    assert stays.response().status == 200
    again.wait_link(accepting=1, deck=0)


@pytest.mark.parametrize("how", ["hold", "refuse"])
def test_what_is_ahead_is_called_back_when_the_app_is_paused(
    stage: Stage, far: Far, again: Vassal, how: str
) -> None:
    worker = ahead(far, again)
    first = stage.http(get(path="/first"))
    runs = worker.take()
    behind = stage.http(get(path="/behind"))
    waits = worker.take()
    again.tell(paused=how)
    assert worker.expect(records.CANCEL)[3] == 0, "of no stream: all that has not begun"
    worker.give_back_late(waits)
    if how == "refuse":
        assert behind.response().headers["unavailable-reason"] == "paused"
    else:
        again.wait_stat("queued", 1)
    worker.respond(runs)
    assert first.response().status == 200
    worker.expect_nothing()
    again.tell(paused="")
    if how == "refuse":
        behind = stage.http(get(path="/behind"))
    worker.respond(worker.take())
    assert behind.response().status == 200


def test_nothing_more_is_sent_ahead_to_a_worker_whose_slot_others_want(
    stage: Stage, far: Far, again: Vassal
) -> None:
    worker = ahead(far, again)
    first = stage.http(get())
    runs = worker.take()
    time.sleep(2 * SHARE_NS / 1e9)
    worker.send(records.pack(records.RECALL, 0, NO_WORD, 0, records.pack_slots(1)))
    worker.send(records.pack(records.DATA, 0, NO_WORD, 0x1234, b"x"))
    wait_for(lambda: again.stats()["stale_records"] == 1, TIMEOUT_S, every_s=0.01)
    second = stage.http(get())
    again.wait_stat("queued", 1)
    worker.respond(runs)
    assert first.response().status == 200
    worker.expect(records.RELEASE)
    worker.expect(records.DEMAND)
    worker.grant(1)
    worker.respond(worker.take())
    assert second.response().status == 200


# The own host first


def test_workers_here_come_first_and_those_far_away_help(stage: Stage, far: Far, blog: Vassal) -> None:
    near = blog.active(slots=1, deck=1).worker()
    afar = far.worker(KEY)
    blog.wait_link(pid=0)
    first = stage.http(get(path="/near"))
    busy = near.take()
    second = stage.http(get(path="/helped"))
    helped = afar.take()
    afar.respond(helped)
    near.respond(busy)
    assert (first.response().status, second.response().status) == (200, 200)
    third = stage.http(get(path="/near-again"))
    near.respond(near.take())
    assert third.response().status == 200


# What is wrong costs the one who sends it


def test_a_protocol_fault_ends_the_link(stage: Stage, far: Far, blog: Vassal) -> None:
    worker = far.worker(KEY)
    client = stage.http(get())
    request = worker.take()
    worker.send(records.pack_credit(request.stream, 0xFFFF_FFFF))
    assert worker.expect_refused() == 8
    assert client.response().status == 502
    assert stage.wait_log(r"worker 0 on 127\.0\.0\.1 broke the backplane protocol: credit of")
    wait_links(far, 0)


def test_what_nobody_asked_for_is_dropped_and_a_flood_bans_the_key(
    stage: Stage, far: Far, blog: Vassal
) -> None:
    worker = far.worker(BAD)
    worker.send(records.pack(records.DATA, 0, NO_WORD, 0x1234, b"x"))
    wait_for(lambda: blog.stats()["stale_records"] == 1, TIMEOUT_S, every_s=0.01)
    flood = records.pack(records.DATA, 0, NO_WORD, 0x1234, b"x")
    for _ in range(2000):
        worker.send(flood)
    assert stage.wait_log("unasked-for messages in a second with the key")
    wait_links(far, 0)
    assert far.report()["banned"] == 1
    assert not far.stranger(BAD).is_let_in(0.3)
    # Nobody else is.
    stage.vassal("shop")
    other = far.worker(OTHER, "shop")
    client = stage.http(get(host="shop.localhost"))
    other.respond(other.take())
    assert client.response().status == 200


def test_one_that_stops_reading_is_given_up_and_nobody_else_is_held_up(
    stage: Stage, far: Far, blog: Vassal
) -> None:
    """What is sent to it stays in the kernels of both hosts, heartbeats too."""
    before = far.report()["lost"]
    deaf = far.worker(KEY, slots=4, takes=1)
    blog.wait_link(slots=4)
    unheard = [stage.http(get(path=f"/unheard/{number}")) for number in range(4)]
    blog.wait_stat("running", 4)
    stage.vassal("shop")
    other = far.worker(OTHER, "shop")
    began = time.monotonic()
    while far.report()["links"] > 1:
        assert time.monotonic() - began < TIMEOUT_S, far.report()
        client = stage.http(get(host="shop.localhost"))
        other.respond(other.take())
        assert client.response().status == 200
    assert [client.response().status for client in unheard] == [502] * 4
    assert far.report()["lost"] == before + 1
    assert stage.wait_log(
        r"workers of other hosts lost in the last second: blog on 127\.0\.0\.1, the connection"
    )
    assert deaf.takes == 1


def test_one_that_connects_and_says_nothing_is_let_go(far: Far, blog: Vassal) -> None:
    with socket.create_connection(("127.0.0.1", far.sock.getsockname()[1]), TIMEOUT_S) as silent:
        while silent.recv(64):
            pass  # ZeroMQ's greeting
    assert far.report()["links"] == 0


def test_connections_that_end_as_the_socket_is_made_anew_stop_nobody(far: Far, blog: Vassal) -> None:
    """The I/O thread tells of each; it waited for ever for somebody to take the news."""
    address = ("127.0.0.1", far.sock.getsockname()[1])
    for secret in (pair()[1], SERVER[1]) * 10:
        crowd = [socket.create_connection(address, TIMEOUT_S) for _ in range(20)]
        for each in crowd:
            each.recv(64)
        leaving = threading.Thread(target=lambda crowd=crowd: [each.close() for each in crowd])
        leaving.start()
        far.allow({KEY[0]: ["blog"]}, secret)
        leaving.join()
    assert far.worker(KEY).is_let_in()


def test_who_says_nothing_holds_so_many_connections_and_no_more(stage: Stage, far: Far, blog: Vassal) -> None:
    worker = far.worker(KEY)
    wait_for(lambda: far.report()["handshakes"] == 0, TIMEOUT_S, far.report, every_s=0.01)
    address = ("127.0.0.1", far.sock.getsockname()[1])
    crowd = []
    try:
        # Faster than they are given up. Few at a time: the listening socket of this test has a short queue.
        while not far.report()["hung_up"] and len(crowd) < 2 * MOST:
            crowd += [socket.create_connection(address, TIMEOUT_S) for _ in range(32)]
        assert far.report()["hung_up"]
        assert stage.wait_log("too many at once that have not proved who they are")
        # Who has come stays.
        client = stage.http(get())
        worker.respond(worker.take())
        assert client.response().status == 200
    finally:
        for each in crowd:
            each.close()
    wait_for(lambda: far.report()["handshakes"] == 0, TIMEOUT_S, far.report, every_s=0.01)
    assert far.worker(KEY, seat=1).is_let_in()


def test_it_is_known_how_far_it_is(far: Far, blog: Vassal) -> None:
    worker = far.worker(KEY)
    got = None
    deadline = time.monotonic() + TIMEOUT_S
    while got is None or got[0] != records.PING:
        assert time.monotonic() < deadline
        got = super(FarWorker, worker).receive(TIMEOUT_S)
    worker.send(records.pack(records.PONG, 0, NO_WORD, 0, got[4]))
    worker.send(records.pack(records.PONG, 0, NO_WORD, 0, got[4]))  # nobody asked for a second
    wait_for(lambda: blog.links()[0]["rtt_us"] > 0, TIMEOUT_S, blog.stats, every_s=0.01)
    assert blog.links()[0]["host"] == "127.0.0.1"


def test_a_router_that_leaves_hears_what_its_workers_answer(fresh: Stage) -> None:
    """It tells them that it leaves, and lets in nobody else, who would have no use for it."""
    fresh.vassal("blog", available=False)
    fresh.open_for_business()
    far = Far(fresh, {KEY[0]: ["blog"]})
    worker = far.worker(KEY)
    client = fresh.http(get())
    request = worker.take()
    fresh.tell("drain", timeout_s=30.0)
    worker.expect(records.DRAIN)
    worker.send(records.pack(records.PONG, 0, NO_WORD, 0, b""))  # it meets the next one besides
    late = far.stranger(KEY, seat=1)
    late.hello()
    assert late.expect_refused() == 11
    assert far.report()["refused"] == 0, "it has done nothing wrong"
    worker.respond(request, body=b"whole")
    answer = client.response()
    assert (answer.status, answer.body) == (200, b"whole")
