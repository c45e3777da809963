"""What is run again, and what is not; in the pure module, and by a router whose workers die."""

import pytest

from emperor.router import retries
from emperor.router.exchange import Exchange
from emperor.router.retries import PER_S, SAVED_S, SHARE, Budget
from tests.router.client import CutShort, get, request
from tests.router.parts import exchange
from tests.router.stage import Vassal

FULL = int(PER_S * SAVED_S)


def spend(budget: Budget, now: float, requests: int) -> int:
    count = 0
    while budget.take(now, requests):
        count += 1
    return count


def test_a_few_are_saved_up() -> None:
    budget = Budget(0.0)
    assert spend(budget, 0.0, 0) == FULL
    assert spend(budget, 1.0, 0) == PER_S
    assert spend(budget, 100.0, 0) == FULL


def test_and_a_fifth_of_the_requests() -> None:
    budget = Budget(0.0)
    spend(budget, 0.0, 0)
    assert spend(budget, 1.0, 1000) == PER_S + SHARE * 1000
    assert spend(budget, 1001.0, 101_000) == FULL + SHARE * 1000, "of the last seconds alone"


def test_a_clock_that_goes_back_gives_nothing() -> None:
    budget = Budget(10.0, 50)
    spend(budget, 10.0, 50)
    assert spend(budget, 5.0, 40) == 0


def begun(**changed: object) -> Exchange:
    made = exchange()
    made.whole_in_hand = True
    for name, value in changed.items():
        setattr(made, name, value)
    return made


def test_what_may_be_run_again() -> None:
    assert retries.objection(begun(), answering=False) == ""


@pytest.mark.parametrize(
    ("made", "answering", "cause"),
    [
        (begun(), True, retries.ANSWERING),
        (begun(interims=1), False, retries.ANSWERING),
        (begun(tunnel=True), False, retries.ANSWERING),
        (begun(retried=True), False, retries.NO_SECOND),
        (begun(whole_in_hand=False), False, retries.NO_BODY),
    ],
)
def test_what_may_not(made: Exchange, answering: bool, cause: str) -> None:
    assert retries.objection(made, answering) == cause


def test_a_method_that_is_not_idempotent_is_never() -> None:
    assert retries.objection(exchange(content_length=0), answering=False) == retries.NOT_IDEMPOTENT


# By a router

ON = {"retries": True}


@pytest.fixture
def app(blog: Vassal) -> Vassal:
    blog.tell(balancing=ON)
    return blog


def causes(blog: Vassal) -> dict[str, int]:
    return {name: count for name, count in blog.stats()["balancing"]["retries"].items() if count}


def test_a_get_whose_worker_dies_is_run_by_another(app: Vassal) -> None:
    generation = app.active(seats=2)
    doomed = generation.remote()
    doomed.call("join")
    client = app.stage.http(get(path="/once-more"))
    doomed.call("take")
    doomed.kill()
    heir = generation.answering(seat=1)
    assert client.response().body == b"GET /once-more 0"
    assert [each.path for each in heir.seen] == ["/once-more"]
    assert causes(app) == {"again": 1}
    assert app.stats()["errors"] == {}


def test_its_body_is_sent_again(app: Vassal) -> None:
    app.tell(request_buffering=True)
    generation = app.active(seats=2)
    doomed = generation.remote()
    doomed.call("join")
    body = b"x" * 50_000
    client = app.stage.http(
        request("blog.localhost", "/", f"Content-Length: {len(body)}", method="PUT") + body
    )
    doomed.call("take")
    doomed.kill()
    generation.answering(seat=1)
    assert client.response().body == b"PUT / 50000"


def test_it_is_run_twice_and_no_more(app: Vassal) -> None:
    generation = app.active(seats=2)
    client = app.stage.http(get(path="/kills"))
    for seat in (0, 1):
        doomed = generation.remote(seat)
        doomed.call("join")
        doomed.call("take")
        doomed.kill()
        app.wait_no_link(seat=seat)
    heir = generation.answering(seat=0)
    assert client.response().status == 502
    assert causes(app) == {"again": 1, "no_second": 1}
    # It has ended two workers: its like are not given a third.
    assert app.stage.http(get(path="/kills")).response().status == 500
    assert app.stage.http(get(path="/innocent")).response().status == 200
    assert [each.path for each in heir.seen] == ["/innocent"]


@pytest.mark.parametrize(
    ("method", "size", "cause"), [("POST", 0, "not_idempotent"), ("PUT", 100_000, "no_body")]
)
def test_what_is_not_run_again_is_answered_502(app: Vassal, method: str, size: int, cause: str) -> None:
    app.tell(request_buffering=True)
    generation = app.active(seats=2)
    doomed = generation.remote()
    doomed.call("join")
    body = b"x" * size
    client = app.stage.http(request("blog.localhost", "/", f"Content-Length: {size}", method=method) + body)
    doomed.call("take")
    doomed.kill()
    assert client.response().status == 502
    assert causes(app) == {cause: 1}


def test_nothing_is_run_again_that_the_client_has_seen_a_byte_of(app: Vassal) -> None:
    doomed = app.active(seats=2).remote()
    doomed.call("join")
    client = app.stage.http(get())
    doomed.call("respond", doomed.call("take"), body="half", fin=False)
    client.head()
    doomed.kill()
    with pytest.raises(CutShort):
        client.read_exactly(1000)
    assert causes(app) == {"answering": 1}


def test_what_one_had_that_was_told_to_leave_is_not_run_again(app: Vassal) -> None:
    """It has had its time."""
    generation = app.active(seats=2)
    leaving = generation.remote()
    leaving.call("join")
    client = app.stage.http(get())
    leaving.call("take")
    app.active(2).answering(seat=0)
    generation.retire()
    leaving.kill()
    assert client.response().status == 502
    assert causes(app) == {}


def test_what_was_not_begun_is_counted_apart(app: Vassal) -> None:
    generation = app.active(seats=2)
    doomed = generation.remote()
    doomed.call("join")
    client = app.stage.http(get())
    doomed.call("offered")
    doomed.kill()
    generation.answering(seat=1)
    assert client.response().status == 200
    assert causes(app) == {"unbegun": 1}
