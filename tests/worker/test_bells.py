"""Requests by the ring on the page, and bells: what a real worker does with them, alone, with threads and with gevent."""

from collections.abc import Iterator

import pytest

from emperor.protocol import records
from emperor.protocol.records import FIN, NO_WORD
from tests.scenarios.harness.waiting import wait_for
from tests.worker.peer import TIMEOUT_S, Stage, open_stage

APP = """
    import os, time

    def application(environ, start_response):
        path = environ["PATH_INFO"]
        with open(f"{os.path.dirname(__file__)}/diary", "a") as diary:
            diary.write(path + "\\n")
        if path == "/sleep":
            while not os.path.exists(f"{os.path.dirname(__file__)}/wake"):
                time.sleep(0.005)
        start_response("200 OK", [])
        return [path.encode() + environ["wsgi.input"].read()]
"""


def options(kind: str) -> dict[str, bool]:
    return {"gevent": True} if kind == "gevent" else {}


@pytest.fixture(params=["alone", "threads", "gevent"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stage(kind: str) -> Iterator[Stage]:
    with open_stage(1 if kind == "alone" else 2) as stage:
        yield stage


def diary(stage: Stage) -> list[str]:
    path = stage.directory / "diary"
    return path.read_text().split() if path.exists() else []


def wake(stage: Stage) -> None:
    (stage.directory / "wake").touch()


def test_one_after_another_by_the_ring(stage: Stage, kind: str) -> None:
    """It rests before each: every one is rung for, and every answer rings."""
    router, _ = stage.serving(APP, **options(kind))
    for number in range(200):
        assert router.get(f"/{number}", word=number % 8).body == b"/%d" % number
    assert router.by_ring == 200


def test_many_at_once(stage: Stage, kind: str) -> None:
    router, _ = stage.serving(APP, **options(kind))
    for _ in range(30):
        streams = [router.request({"PATH_INFO": f"/{word}"}, b"+", word=word) for word in range(8)]
        found = router.replies(streams)
        assert sorted(reply.body for reply in found.values()) == [b"/%d+" % word for word in range(8)]
    assert router.by_ring == 240


def test_messages_and_ring_beside_each_other(stage: Stage, kind: str) -> None:
    router, _ = stage.serving(APP, **options(kind))
    for number in range(50):
        stream, record = router.offer({"PATH_INFO": "/message"}, b"x" * 20_000, word=0)
        router.send(record)
        other = router.request({"PATH_INFO": f"/{number}"}, word=1)
        found = router.replies([stream, other])
        assert found[stream].body == b"/message" + b"x" * 20_000
        assert found[other].body == b"/%d" % number
    assert router.by_ring == 50


def test_one_that_is_revoked_in_the_ring_is_not_run(stage: Stage, kind: str) -> None:
    router, _ = stage.serving(APP, **options(kind))
    running = [router.request({"PATH_INFO": "/sleep"}, word=word) for word in range(stage.slots)]
    stage.wait_all_running(*running)
    stream = router.request({"PATH_INFO": "/revoked"}, word=5)
    last = router.request({"PATH_INFO": "/last"}, word=6)
    assert stage.board.revoke(0, 0, 5, stream) == 3
    wake(stage)
    router.replies([*running, last])
    assert "/revoked" not in diary(stage)
    assert stage.word(5) == "FREE"


def test_a_cancel_finds_one_that_is_still_in_the_ring(stage: Stage, kind: str) -> None:
    """Whatever a router may do, the message does not miss what stood in the ring before it was sent."""
    router, _ = stage.serving(APP, **options(kind))
    running = [router.request({"PATH_INFO": "/sleep"}, word=word) for word in range(stage.slots)]
    stage.wait_all_running(*running)
    stream = router.request({"PATH_INFO": "/cancelled"}, word=5)
    router.send(records.pack(records.CANCEL, 0, 5, stream, b""))
    # A whole request does not make a worker look at the socket; one with a body does.
    wake(stage)
    got = [router.receive() for _ in range(len(running) + 1)]
    kinds = sorted(each[1][0] for each in got if each is not None)
    assert kinds == sorted([records.RESPONSE] * len(running) + [records.RETURN]) or "/cancelled" in diary(
        stage
    )


def test_drained_it_returns_what_is_in_the_ring(stage: Stage, kind: str) -> None:
    router, worker = stage.serving(APP, **options(kind))
    running = [router.request({"PATH_INFO": "/sleep"}, word=word) for word in range(stage.slots)]
    stage.wait_all_running(*running)
    waiting = [router.request({"PATH_INFO": f"/{word}"}, word=word) for word in (4, 5, 6)]
    worker.order("drain")
    wake(stage)
    seen: dict[int, int] = {}
    while (got := router.receive()) is not None and got[1][0] != records.BYE:
        seen[got[1][3]] = got[1][0]
    run = set(diary(stage)) - {"/sleep"}
    returned = {stream for stream, type in seen.items() if type == records.RETURN}
    assert len(run) + len(returned) == 3 and returned <= set(waiting)
    assert set(seen) == {*running, *waiting}
    router.send(records.pack(records.BYE_ACK, 0, NO_WORD, 0, b""))
    assert worker.exit_code() == 0
    assert [stage.word(word) for word in range(8)] == ["FREE"] * 8


def test_what_a_dead_router_left_in_the_ring_is_never_run(stage: Stage, kind: str) -> None:
    router, _ = stage.serving(APP, **options(kind))
    running = [router.request({"PATH_INFO": "/sleep"}, word=word) for word in range(stage.slots)]
    stage.wait_all_running(*running)
    for word in (4, 5, 6):
        router.request({"PATH_INFO": f"/left-{word}"}, word=word)
    router.close()
    again = stage.router()
    stage.board.revoke_all(0, 0)
    wake(stage)
    again.welcome()
    assert again.get("/new", word=2).body == b"/new"
    assert [each for each in diary(stage) if each.startswith("/left")] == []
    wait_for(lambda: [stage.word(word) for word in range(8)] == ["FREE"] * 8, TIMEOUT_S)


@pytest.mark.parametrize(
    "junk",
    [
        pytest.param(records.pack(records.REQUEST, 0, NO_WORD, 1, b""), id="not whole"),
        pytest.param(records.pack(records.DRAIN, 0, NO_WORD, 0, b""), id="no request"),
        pytest.param(b"\xff" * 64, id="no record"),
    ],
)
def test_junk_in_the_ring_is_a_link_fault_and_no_more(stage: Stage, kind: str, junk: bytes) -> None:
    router, worker = stage.serving(APP, **options(kind))
    # A whole record whose payload is the junk, of which the header is then overwritten by it: the counters are right.
    size = len(junk)
    assert router.requests.put_request(FIN, NO_WORD, router.new_stream(), b"j" * (size - 16), b"")
    with stage.page() as page:
        start = len(page) - 2 * 32768 + 192
        page[start : start + size] = junk
    router.ring_worker()
    assert "link fault" in worker.wait_log("link fault")
    router.welcome()
    assert router.get("/after", word=0).body == b"/after"


def test_a_bell_for_nothing_is_nothing(stage: Stage, kind: str) -> None:
    router, _ = stage.serving(APP, **options(kind))
    for _ in range(100):
        router.ring_worker(always=True)
    assert router.get("/", word=0).body == b"/"


def test_without_bells_all_is_by_messages(kind: str) -> None:
    with open_stage(1 if kind == "alone" else 2, bells=False) as stage:
        router, _ = stage.serving(APP, **options(kind))
        for number in range(20):
            assert router.get(f"/{number}", word=number % 8).body == b"/%d" % number
        assert router.by_ring == 0
