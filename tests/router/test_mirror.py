"""`mirror`: another vassal gets copies, and nobody notices but its app."""

from typing import Any

import pytest

from emperor.protocol import records
from emperor.router.mirror import MARK
from tests.scenarios.harness.waiting import wait_for

from .client import get, post, request
from .stage import TIMEOUT_S, Stage, Vassal
from .worker import FakeWorker, Request

NAME = MARK.decode()
OTHER = 0x7FFF_FFFF
"""Another router's epoch."""


class Seen:
    """What the mirror's app was asked."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.status = "200 OK"
        self.body = b"dropped"

    def __call__(self, worker: FakeWorker, asked: Request) -> None:
        self.requests.append(asked)
        worker.respond(asked, f"{self.status}\r\n", self.body)


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def pair(stage: Stage, seen: Seen) -> tuple[Vassal, Vassal]:
    """A vassal with a worker, and its mirror with one."""
    blog = stage.vassal("blog", sharing={"mirror": "next"})
    mirror = stage.vassal("next", request_id=True)
    blog.active(seats=1).answering()
    mirror.active(seats=1).answering(seen)
    return blog, mirror


def mirror_of(blog: Vassal) -> dict[str, Any]:
    (found,) = blog.stats()["mirrors"]
    return dict(found)


def wait_mirror(blog: Vassal, **wanted: int) -> None:
    wait_for(lambda: wanted.items() <= mirror_of(blog).items(), TIMEOUT_S, lambda: mirror_of(blog))


def test_a_get_is_copied_with_a_mark_and_the_answer_dropped(pair: tuple[Vassal, Vassal], seen: Seen) -> None:
    blog, mirror = pair
    assert blog.stage.http(get(path="/a?b=c")).response().body == b"GET /a 0"
    wait_mirror(blog, copied=1, answered=1, open=0, failed=0, shed=0)
    (copy,) = seen.requests
    assert (copy.path, copy.variables["QUERY_STRING"], copy.variables[NAME]) == ("/a", "b=c", "blog")
    assert len(copy.variables["HTTP_X_REQUEST_ID"]) == 32
    assert blog.stage.http(request(method="HEAD")).response(to_head=True).status == 200
    wait_mirror(blog, copied=2)
    assert blog.stage.http(post(b"x")).response().status == 200
    assert blog.stage.http(get("blog.localhost", "/", "X-Mirrored-From: other")).response().status == 200
    assert blog.stage.http(get("next.localhost")).response().body == b"dropped"
    assert (blog.stats()["requests"], mirror.stats()["requests"], mirror_of(blog)["copied"]) == (4, 3, 2)


def test_two_that_mirror_each_other_copy_once(pair: tuple[Vassal, Vassal], seen: Seen) -> None:
    blog, mirror = pair
    mirror.tell(sharing={"mirror": "blog"})
    assert blog.stage.http(get()).response().status == 200
    wait_mirror(blog, answered=1)
    assert (blog.stats()["requests"], mirror.stats()["requests"], mirror_of(mirror)["copied"]) == (1, 1, 0)


def test_a_copy_may_have_a_slot_that_another_router_does_not_use(stage: Stage) -> None:
    blog, mirror = stage.vassal("blog", sharing={"mirror": "next"}), stage.vassal("next")
    blog.active(seats=1).answering()
    worker = mirror.active(seats=1, routers=2).stranger()
    assert worker.board.take(0, 0, OTHER)
    worker.join()
    mirror.wait_link(slots=0)
    worker.board.begin(0, 0, 7)
    assert stage.http(get()).response().status == 200
    wait_mirror(blog, copied=0, shed=1)
    worker.board.end(0, 0)
    assert stage.http(get()).response().status == 200
    wait_mirror(blog, copied=1, open=1, shed=1)
    worker.expect(records.DEMAND)


def test_what_goes_wrong_with_a_copy_is_nobodys(pair: tuple[Vassal, Vassal], seen: Seen) -> None:
    blog, _ = pair
    seen.status = "500 Oops"
    assert blog.stage.http(get()).response().status == 200
    wait_mirror(blog, failed=1)
    seen.status = "none"
    assert blog.stage.http(get()).response().status == 200
    wait_mirror(blog, failed=2, open=0)
    seen.status, seen.body = "200 OK", b"x" * 60_000
    assert blog.stage.http(get()).response().status == 200
    wait_mirror(blog, answered=1, open=0)


def test_a_mirror_without_an_idle_slot_gets_nothing(stage: Stage) -> None:
    blog, mirror = stage.vassal("blog", sharing={"mirror": "next"}), stage.vassal("next")
    blog.active(seats=1).answering()
    assert blog.stage.http(get()).response().status == 200
    wait_mirror(blog, copied=0, shed=1)
    worker = mirror.active(seats=1).worker()
    assert blog.stage.http(get()).response().status == 200
    copy = worker.take(timed=False)
    assert blog.stage.http(get()).response().status == 200
    wait_mirror(blog, copied=1, open=1, shed=2)
    worker.abort(copy)
    wait_mirror(blog, open=0, failed=1)
    assert copy.variables[NAME] == "blog"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"sharing": {"mirror": "nobody"}}, "there is no vassal nobody"),
        ({"uid": 4711}, "runs as another user"),
    ],
)
def test_a_mirror_that_cannot_be_one(
    pair: tuple[Vassal, Vassal], seen: Seen, entry: dict[str, Any], said: str
) -> None:
    blog, mirror = pair
    blog.tell(**entry)
    assert blog.stage.http(get()).response().status == 200
    assert said in mirror_of(blog)["trouble"]
    wait_mirror(blog, copied=0, shed=1)
    assert not seen.requests and mirror.stats()["requests"] == 0


def test_a_share_of_the_requests(pair: tuple[Vassal, Vassal], seen: Seen) -> None:
    blog, _ = pair
    blog.tell(sharing={"mirror": "next", "mirror_share": 0.001})
    assert [blog.stage.http(get()).response().status for _ in range(10)] == [200] * 10
    found = mirror_of(blog)
    # One of these in a hundred thousand requests: twice in ten never.
    assert found["copied"] + found["shed"] < 2
    blog.tell(sharing={})
    assert blog.stats()["mirrors"] == []
