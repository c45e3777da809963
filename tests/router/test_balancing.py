"""Overload, paths with slots of their own, fresh and failing workers, policies and limits, in a router with workers."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from emperor.protocol import records
from tests.router.client import Response, get, uwsgi
from tests.router.stage import TIMEOUT_S, Generation, Vassal
from tests.router.worker import FIN, NO_WORD, Answering, FakeWorker, Request
from tests.scenarios.harness.waiting import wait_for


def answer(worker: FakeWorker, request: Request, status: str = "200 OK", service_us: int = 0) -> None:
    """With the path and the worker's seat as its body; it says that it took so long."""
    worker.let_go(request)
    head = f"{status}\r\n".encode()
    body = f"{request.path} {worker.seat.seat}".encode()
    worker.send(records.pack_response(FIN, NO_WORD, request.stream, service_us, head, body))


class Held:
    """Requests of paths that end with ``hold`` are answered once this is let go."""

    def __init__(self) -> None:
        self.free = threading.Event()

    def __call__(self, worker: FakeWorker, request: Request) -> None:
        if request.path.endswith("hold"):
            assert self.free.wait(TIMEOUT_S)
        answer(worker, request)


@pytest.fixture
def held() -> Iterator[Held]:
    made = Held()
    yield made
    made.free.set()


def served_by(response: Response) -> int:
    assert response.status == 200, response
    return int(response.body.rpartition(b" ")[2])


def workers(
    generation: Generation, count: int, how: Callable[[FakeWorker, Request], None] = answer
) -> list[Answering]:
    return [generation.answering(how, seat) for seat in range(count)]


def part(blog: Vassal) -> dict[str, int]:
    found: dict[str, int] = blog.stats()["balancing"]["parts"][0]
    return found


# Overload


def test_in_overload_the_newest_is_served_and_the_oldest_is_turned_away(blog: Vassal) -> None:
    blog.tell(balancing={"queue_target_s": 0.2})
    worker = blog.active(seats=1, deck=1).worker()
    first = blog.stage.http(get())
    answer(worker, worker.take(), service_us=20_000)
    assert first.response().status == 200
    runs = blog.stage.http(get(path="/runs"))
    taken = worker.take(timed=False)
    waiting = [blog.stage.http(get(path=f"/{number}")) for number in range(60)]
    refused = [client.response() for client in waiting]
    assert {(each.status, each.headers["unavailable-reason"]) for each in refused} == {(503, "overload")}
    # What waited is 60 requests of 20 ms.
    assert {int(each.headers["retry-after"]) for each in refused} <= {1, 2}
    stats = blog.stats()
    assert stats["rejected"] == {"overload": 60}
    assert stats["limits"]["queue-target"]["hits"] == 60
    assert stats["balancing"]["overloads"] == 1
    assert "overloaded" in blog.stage.wait_log("60 requests wait, of 20 ms each")
    answer(worker, taken)
    assert runs.response().status == 200
    blog.wait_stat("queued", 0)
    wait_for(lambda: not blog.stats()["balancing"]["overloaded"], TIMEOUT_S)


def test_a_few_that_wait_for_a_long_request_are_not_turned_away(blog: Vassal) -> None:
    blog.tell(balancing={"queue_target_s": 0.1})
    worker = blog.active(seats=1, deck=1).worker()
    first = blog.stage.http(get())
    answer(worker, worker.take(), service_us=1_000)
    assert first.response().status == 200
    clients = [blog.stage.http(get(path="/long"))]
    taken = worker.take(timed=False)
    clients.append(blog.stage.http(get(path="/waits")))
    wait_for(lambda: blog.stats()["limits"]["queue-target"]["now"] > 400, TIMEOUT_S)
    answer(worker, taken, service_us=1_000)
    answer(worker, worker.take(timed=False))
    assert [client.response().status for client in clients] == [200, 200]


# Paths with slots of their own


def test_a_bulkhead_leaves_the_rest_to_the_others(blog: Vassal, held: Held) -> None:
    blog.tell(balancing={"bulkheads": [["/slow", 1]]})
    workers(blog.active(), 2, held)
    slow = [blog.stage.http(get(path="/slow/hold")) for _ in range(2)]
    wait_for(lambda: (part(blog)["now"], part(blog)["queued"]) == (1, 1), TIMEOUT_S)
    for number in range(5):
        assert blog.stage.http(get(path=f"/{number}")).response().status == 200
    assert blog.stats()["queued"] == 1
    held.free.set()
    assert [client.response().status for client in slow] == [200, 200]
    assert (part(blog)["now"], part(blog)["limit"]) == (0, 1)


def test_the_queue_of_a_bulkhead_is_its_own(blog: Vassal, held: Held) -> None:
    blog.tell(queue=1, balancing={"bulkheads": [["/slow", 1]]})
    workers(blog.active(), 2, held)
    slow = [blog.stage.http(get(path="/slow/hold"))]
    wait_for(lambda: part(blog)["now"] == 1, TIMEOUT_S)
    slow.append(blog.stage.http(get(path="/slow/hold")))
    wait_for(lambda: part(blog)["queued"] == 1, TIMEOUT_S)
    response = blog.stage.http(get(path="/slow/hold")).response()
    assert (response.status, response.headers["unavailable-reason"]) == (503, "queue-full")
    assert part(blog)["refused"] == 1
    assert blog.stage.http(get()).response().status == 200
    slow.pop().close()
    wait_for(lambda: part(blog)["queued"] == 0, TIMEOUT_S, lambda: part(blog))


def test_who_waits_in_a_bulkhead_may_go_on_when_it_is_gone(blog: Vassal, held: Held) -> None:
    blog.tell(balancing={"bulkheads": [["/slow", 1]]})
    workers(blog.active(), 2, held)
    blog.stage.http(get(path="/slow/hold"))
    wait_for(lambda: part(blog)["now"] == 1, TIMEOUT_S)
    waits = blog.stage.http(get(path="/slow/next"))
    wait_for(lambda: part(blog)["queued"] == 1, TIMEOUT_S)
    blog.tell(balancing={})
    assert waits.response().status == 200


def test_a_slot_is_kept_for_a_health_check(blog: Vassal, held: Held) -> None:
    blog.tell(balancing={"reserve": [["/healthz", 1]]})
    workers(blog.active(deck=2), 2, held)
    holds = [blog.stage.http(get(path="/hold"))]
    blog.wait_stat("running", 1)
    holds += [blog.stage.http(get(path=f"/{number}/hold")) for number in range(3)]
    wait_for(lambda: blog.stats()["queued"] + blog.stats()["on_deck"] == 3, TIMEOUT_S, blog.stats)
    for _ in range(3):
        assert blog.stage.http(get(path="/healthz")).response().status == 200
    assert blog.stats()["running"] == 1
    held.free.set()
    assert [client.response().status for client in holds] == [200] * 4


def test_with_one_worker_it_is_first_and_nothing_is_kept(blog: Vassal, held: Held) -> None:
    blog.tell(balancing={"reserve": [["/healthz", 5]]})
    (worker,) = workers(blog.active(seats=1, deck=1), 1, held)
    clients = [blog.stage.http(get(path="/hold"))]
    blog.wait_stat("running", 1)
    clients.append(blog.stage.http(get(path="/other")))
    blog.wait_stat("queued", 1)
    clients.append(blog.stage.http(get(path="/healthz")))
    blog.wait_stat("queued", 2)
    held.free.set()
    assert [client.response().status for client in clients] == [200] * 3
    assert [each.path for each in worker.seen] == ["/hold", "/healthz", "/other"]


# Workers that are fresh or fail


def test_a_fresh_worker_has_one_more_slot_at_a_time(blog: Vassal) -> None:
    blog.tell(balancing={"slow_start_s": 1.5})
    generation = blog.active(slots=4)
    generation.answering(answer, 0)
    assert blog.wait_link(seat=0)["fresh"] == 0, "at the start of the app there is none to spare it"
    since = time.monotonic()
    wait_for(lambda: time.monotonic() - since > 1.6, TIMEOUT_S)
    generation.answering(answer, 1)
    link = blog.wait_link(seat=1)
    assert (link["fresh"], link["offered"]) == (1, 4) and link["slots"] < 4
    assert blog.stats()["balancing"]["fresh"] == 1
    assert {served_by(blog.stage.http(get()).response()) for _ in range(5)} == {0}, "it is chosen last"
    wait_for(lambda: blog.links(seat=1, slots=4, fresh=0), TIMEOUT_S, blog.links)


def test_a_worker_that_fails_fast_gets_next_to_nothing(blog: Vassal) -> None:
    generation = blog.active()
    good = generation.answering(lambda worker, request: answer(worker, request, service_us=40_000), 0)
    for _ in range(3):
        assert served_by(blog.stage.http(get()).response()) == 0
    bad = generation.answering(
        lambda worker, request: answer(worker, request, "500 Gone Wrong", service_us=50), 1
    )
    statuses = Counter(blog.stage.http(get()).response().status for _ in range(60))
    assert statuses[500] == len(bad.seen) < 8
    assert len(good.seen) == 3 + statuses[200]
    assert blog.stats()["balancing"]["set_aside"] >= 1
    assert "failed 4 times in a row" in blog.stage.wait_log("worker 1")


def test_where_all_fail_nobody_is_set_aside(blog: Vassal) -> None:
    generation = blog.active()
    well = [True]

    def fails(worker: FakeWorker, request: Request) -> None:
        if well[0]:
            answer(worker, request, service_us=40_000)
        else:
            answer(worker, request, "500 Gone Wrong", service_us=50)

    workers(generation, 2, fails)
    for _ in range(4):
        blog.stage.http(get()).response()
    well[0] = False
    for _ in range(30):
        blog.stage.http(get()).response()
    stats = blog.stats()["balancing"]
    assert (stats["set_aside"] <= 1, stats["aside"] <= 1) == (True, True)
    well[0] = True
    wait_for(lambda: blog.stage.http(get()).response().status == 200, TIMEOUT_S)


# Policies


def test_each_in_turn(blog: Vassal) -> None:
    blog.tell(balancing={"balance": "round-robin"})
    workers(blog.active(seats=3), 3)
    assert [served_by(blog.stage.http(get()).response()) for _ in range(6)] == [0, 1, 2] * 2
    assert blog.stats()["balancing"]["policy"] == "round-robin"


@pytest.mark.parametrize("policy", ["least", "p2c"])
def test_no_policy_lets_anybody_wait_behind_a_busy_worker(blog: Vassal, held: Held, policy: str) -> None:
    blog.tell(balancing={"balance": policy})
    workers(blog.active(seats=2), 2, held)
    blog.stage.http(get(path="/hold"))
    blog.wait_stat("running", 1)
    for _ in range(8):
        assert blog.stage.http(get()).response().status == 200


def test_a_key_has_its_worker(blog: Vassal) -> None:
    blog.tell(balancing={"balance": "hash", "hash_by": "header X-User"})
    workers(blog.active(seats=3), 3)
    found = {
        user: {
            served_by(blog.stage.http(get("blog.localhost", "/", f"X-User: {user}")).response())
            for _ in range(3)
        }
        for user in "abcdefgh"
    }
    assert all(len(each) == 1 for each in found.values())
    assert len(set.union(*found.values())) > 1


def test_a_key_whose_worker_is_busy_is_served_by_another(blog: Vassal, held: Held) -> None:
    blog.tell(balancing={"balance": "hash", "hash_by": "cookie user"})
    workers(blog.active(seats=2), 2, held)
    one = blog.stage.http(get("blog.localhost", "/hold", "Cookie: user=7"))
    blog.wait_stat("running", 1)
    assert blog.stage.http(get("blog.localhost", "/", "Cookie: user=7")).response().status == 200
    held.free.set()
    assert one.response().status == 200


@pytest.mark.parametrize("front", ["http", "uwsgi"])
def test_a_cookie_leads_to_the_same_worker(blog: Vassal, front: str) -> None:
    blog.tell(balancing={"sticky": "worker"})
    workers(blog.active(seats=3), 3)

    def ask(cookie: str) -> Response:
        if front == "http":
            fields = [f"Cookie: a=b; {cookie}"] if cookie else []
            return blog.stage.http(get("blog.localhost", "/", *fields)).response()
        variables = {"HTTP_COOKIE": cookie} if cookie else {}
        return blog.stage.uwsgi(uwsgi(**variables)).response()

    first = ask("")
    cookie, _, attributes = first.headers["set-cookie"].partition("; ")
    assert attributes == "Path=/; HttpOnly; SameSite=Lax"
    for _ in range(4):
        again = ask(cookie)
        assert served_by(again) == served_by(first)
        assert "set-cookie" not in again.headers
    assert "set-cookie" in ask("worker=somebody-s").headers


def test_a_cookie_whose_worker_has_gone_leads_to_another(blog: Vassal) -> None:
    blog.tell(balancing={"sticky": "worker"})
    generation = blog.active(seats=2)
    gone = generation.worker(0)
    client = blog.stage.http(get())
    answer(gone, gone.take())
    cookie = client.response().headers["set-cookie"].partition(";")[0]
    generation.answering(answer, 1)
    gone.bye()
    blog.wait_no_link(seat=0)
    response = blog.stage.http(get("blog.localhost", "/", f"Cookie: {cookie}")).response()
    assert served_by(response) == 1 and "set-cookie" in response.headers


# Limits of clients


def test_requests_a_second_of_one_address(blog: Vassal) -> None:
    blog.tell(balancing={"rate_each": [0.05, 2], "reserve": [["/healthz", 1]]})
    blog.active().answering(answer)
    found = [blog.stage.http(get()).response() for _ in range(4)]
    assert [each.status for each in found] == [200, 200, 429, 429]
    assert found[2].headers["unavailable-reason"] == "rate"
    assert 10 <= int(found[2].headers["retry-after"]) <= 20
    assert blog.stage.http(get(path="/healthz")).response().status == 200
    stats = blog.stats()
    assert stats["errors"] == {"429": 2} and stats["rejected"] == {"rate": 2}
    limit = stats["limits"]["limit-requests-per-address"]
    assert limit == {"value": 3, "now": 1, "hits": 2}


def test_the_address_is_the_one_that_a_trusted_front_server_names(blog: Vassal) -> None:
    blog.tell(balancing={"rate_each": [0.05, 1]})
    blog.active().answering(answer)
    found = {}
    for address in (
        "192.0.2.1",
        "192.0.2.2",
        "2001:db8::1",
        "2001:db8::2",
        "2001:db8:1::1",
        "192.0.2.1",
        "?",
    ):
        found[address] = blog.stage.uwsgi(uwsgi(REMOTE_ADDR=address)).response().status
    # A /64 of IPv6 is one.
    assert [address for address, status in found.items() if status == 429] == ["192.0.2.1", "2001:db8::2"]


def test_requests_at_once(blog: Vassal, held: Held) -> None:
    blog.tell(balancing={"concurrency": 2})
    workers(blog.active(), 1, held)
    holds = [blog.stage.http(get(path="/hold")) for _ in range(2)]
    wait_for(lambda: blog.stats()["limits"]["limit-concurrency"]["now"] == 2, TIMEOUT_S)
    response = blog.stage.http(get()).response()
    assert (response.status, response.headers["unavailable-reason"]) == (429, "concurrency")
    held.free.set()
    assert [client.response().status for client in holds] == [200, 200]
    assert blog.stage.http(get()).response().status == 200


def test_a_client_that_goes_away_counts_until_its_worker_is_free(blog: Vassal, held: Held) -> None:
    """Else the limit would be evaded by hanging up."""
    blog.tell(balancing={"concurrency_each": 1})
    workers(blog.active(), 1, held)
    client = blog.stage.http(get(path="/hold"))
    blog.wait_stat("running", 1)
    client.reset()
    blog.wait_stat("cancelled", 1)
    assert blog.stage.http(get()).response().status == 429
    held.free.set()
    wait_for(lambda: blog.stage.http(get()).response().status == 200, TIMEOUT_S)
