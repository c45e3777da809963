"""The limits of the HTTP front, each a setting of the router and each counted in the statistics when it is met."""

import contextlib
from collections.abc import Iterator

import pytest

from emperor.protocol import records
from tests.router.client import Connection, get, post, request, uwsgi
from tests.router.stage import Stage, Vassal, open_stage
from tests.scenarios.harness.waiting import wait_for

SETTINGS = {
    "request-line-limit": 100,
    "head-limit": 500,
    "fields-limit": 5,
    "trailers-limit": 64,
    "chunk-line-limit": 16,
    "chunk-extensions-limit": 20,
    "pipeline-limit": 1000,
    "discard-limit": 1000,
    "keepalive-requests": 3,
    "body-min-rate": 1000,
    "write-min-rate": 1000,
    "body-timeout": 0.3,
    "head-timeout": 0.3,
    "idle-timeout": 0.3,
}


@pytest.fixture(scope="module")
def strict() -> Iterator[Stage]:
    with open_stage(*(f"--{name}={value}" for name, value in SETTINGS.items())) as stage:
        stage.vassal("neighbour")
        stage.open_for_business()
        yield stage


@pytest.fixture
def stage(strict: Stage) -> Iterator[Stage]:
    with strict.scene():
        yield strict


def hits(stage: Stage, name: str) -> int:
    count: int = stage.stats()["limits"][name]["hits"]
    return count


def test_the_statistics_say_what_each_is_set_to(stage: Stage) -> None:
    limits = stage.stats()["limits"]
    for name, value in SETTINGS.items():
        assert limits[name]["value"] == (value if isinstance(value, int) else round(value * 1000)), name
    assert limits["write-timeout"]["value"] == 60_000
    assert all(type(each["hits"]) is int for each in limits.values())


def body(encoded: bytes) -> bytes:
    return request("blog.localhost", "/", "Transfer-Encoding: chunked", method="POST") + encoded


REFUSED = {
    "request-line-limit": (get(path="/" + "a" * 100), 414),
    "head-limit": (get("blog.localhost", "/", "X: " + "x" * 500), 431),
    "fields-limit": (get("blog.localhost", "/", "A: 1", "B: 2", "C: 3", "D: 4", "E: 5"), 431),
    "trailers-limit": (body(b"0\r\nA: " + b"b" * 70 + b"\r\n\r\n"), 431),
    "chunk-line-limit": (body(b"1;" + b"e" * 20 + b"\r\na\r\n"), 400),
    "chunk-extensions-limit": (body(b"1;eeeeeeeee\r\na\r\n" * 3), 413),
    "head-timeout": (get()[:-2], 408),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_goes_beyond_is_refused_and_counted(stage: Stage, blog: Vassal, name: str) -> None:
    sent, status = REFUSED[name]
    before = hits(stage, name)
    response = stage.http(sent).response()
    assert (response.status, response.closes) == (status, True)
    assert hits(stage, name) == before + 1
    assert name in stage.wait_log(name)


def test_just_within_is_taken(stage: Stage, blog: Vassal) -> None:
    blog.active().answering()
    for sent in (
        get(path="/" + "a" * 80),
        get("blog.localhost", "/", "A: 1", "B: 2", "C: 3", "D: 4"),
        body(b"1;eeeeeeee\r\na\r\n" * 2 + b"0\r\nA: " + b"b" * 50 + b"\r\n\r\n"),
    ):
        assert stage.http(sent).response().status == 200


def test_the_last_of_the_requests_of_a_connection_closes_it(stage: Stage, blog: Vassal) -> None:
    blog.active().answering()
    before = hits(stage, "keepalive-requests")
    client = stage.http(get(path="/1") + get(path="/2") + get("nobody.test") + get(path="/4"))
    got = [client.response() for _ in range(3)]
    assert [(each.status, each.closes) for each in got] == [(200, False), (200, False), (404, True)]
    assert client.end() == "closed"
    assert hits(stage, "keepalive-requests") == before + 1


def test_an_unread_body_beyond_the_limit_costs_the_connection(stage: Stage) -> None:
    small = stage.http(post(bytes(1000), "nobody.test")).response()
    large = stage.http(post(bytes(1001), "nobody.test")).response()
    assert (small.closes, large.closes) == (False, True)


def test_no_more_is_read_ahead_than_the_limit(stage: Stage, blog: Vassal) -> None:
    worker = blog.active().worker()
    client = stage.http(get(path="/first"))
    held = worker.take()
    client.send_until_blocked(get(path="/next") * 100)
    worker.respond(held)
    assert client.response().status == 200


def test_an_idle_connection_is_counted_as_such(stage: Stage) -> None:
    before = hits(stage, "idle-timeout"), hits(stage, "head-timeout")
    client = stage.http(get("nobody.test"))
    client.response()
    assert client.end() == "closed"
    assert stage.http().end() == "closed"  # not a byte ever
    assert (hits(stage, "idle-timeout"), hits(stage, "head-timeout")) == (before[0] + 1, before[1] + 1)


def drip(client: Connection, piece: bytes, times: int) -> int | None:
    """Send a piece now and again, until an answer comes; its status."""
    client.sock.settimeout(0.05)
    for _ in range(times):
        client.send_as_far_as_it_goes(piece)
        try:
            return client.response().status
        except TimeoutError:
            continue
    return None


def test_a_body_that_drips_is_cut_off(stage: Stage, blog: Vassal) -> None:
    """Each byte comes in time; all of them together would take for ever."""
    before = hits(stage, "body-min-rate")
    client = stage.http(post(b"x" * 100_000)[:-100_000])
    assert drip(client, b"x", 200) == 408
    assert hits(stage, "body-min-rate") == before + 1
    assert "body-min-rate 1000" in stage.wait_log("body-min-rate 1000")


def test_a_drip_of_chunks_that_are_mostly_extension_is_cut_off(stage: Stage, blog: Vassal) -> None:
    """The rate is one of the body's bytes."""
    client = stage.http(body(b""))
    assert drip(client, b"000000000001\r\na\r\n" * 5, 200) == 408


def test_a_packet_whose_body_drips_is_cut_off(stage: Stage, blog: Vassal) -> None:
    before = hits(stage, "body-min-rate")
    client = stage.uwsgi(uwsgi(body=b"x" * 100_000)[:-100_000])
    assert drip(client, b"x", 200) == 408
    assert hits(stage, "body-min-rate") == before + 1


def test_a_body_that_comes_fast_enough_is_not(stage: Stage, blog: Vassal) -> None:
    """Ten times the rate, for several looks of the router's clock."""
    worker = blog.active().answering()
    size = 20_000
    client = stage.http(post(bytes(size))[:-size], timeout_s=10)
    for _ in range(40):
        client.send(bytes(size // 40))
        clock = stage.stats()["accepted"]
        wait_for(lambda clock=clock: stage.stats()["accepted"] >= clock, 1)  # type: ignore[misc]
    assert client.response().status == 200
    assert worker.error is None


def test_a_client_that_takes_less_than_the_rate_is_cut_off() -> None:
    """It takes something in each period, and less than it must."""
    with open_stage("--write-timeout=0.3", "--write-min-rate=100m") as stage:
        blog = stage.vassal("blog")
        stage.open_for_business()
        worker = blog.active().worker()
        client = stage.http(get())
        client.sock.setsockopt(1, 8, 4096)  # SOL_SOCKET, SO_RCVBUF
        taken = worker.take()
        worker.respond(taken, fin=False)
        credit, cancelled = 256 * 1024, False
        while not cancelled:
            if credit >= 65536:
                worker.data(taken, bytes(65536))
                credit -= 65536
                continue
            got = worker.receive(0.02)
            if got is None:
                with contextlib.suppress(ConnectionResetError):
                    client.sock.recv(65536)
                continue
            cancelled = got[0] == records.CANCEL
            if got[0] == records.CREDIT and got[3] == taken.stream:
                credit += records.unpack_credit(got[4])
        assert hits(stage, "write-min-rate") == 1
        stage.wait_log("it took only [0-9]+ bytes")
        worker.abort(taken)


def test_a_reload_changes_what_is_in_force_and_not_only_what_is_said() -> None:
    with open_stage() as stage:
        stage.vassal("neighbour")
        stage.open_for_business()
        before = stage.http(get("nobody.test"))
        assert before.response().status == 404
        values = {
            "head-limit": 500,
            "keepalive-requests": 3,
            "max-connections": 7,
            "max-connections-per-address": 3,
            "response-memory": 4096,
            "spool-limit": 123,
            "body-memory": 1 << 20,
        }
        stage.tell("settings", arguments=[f"--{name}={value}" for name, value in values.items()])
        large = get("nobody.test", "/", "X: " + "x" * 500)
        refused = stage.http(large)
        assert refused.response().status == 431
        refused.close()
        assert before.send(large).response().status == 404  # what it reads by stays as it was
        last = before.send(get("nobody.test")).response()
        assert (last.status, last.closes) == (404, True)
        stats = stage.stats()
        assert {name: stats["limits"][name]["value"] for name in values} == values
        assert (stats["caps"]["limit"], stats["caps"]["limit_per_address"]) == (7, 3)
        assert stats["responses_ahead_limit"] == 4096
        assert (stats["bodies"]["disk_limit"], stats["bodies"]["memory_limit"]) == (123, 1 << 20)
        wait_for(lambda: not stage.stats()["connections"], 10, stage.stats, every_s=0.01)
        clients = [stage.http() for _ in range(3)]
        wait_for(lambda: stage.stats()["connections"] == 3, 10, stage.stats, every_s=0.01)
        assert stage.http(get("nobody.test")).response().status == 429
        assert len(clients) == 3
