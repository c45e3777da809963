"""A worker's ends of the chutes, with one slot, threads and greenlets, driven by a router that the test plays."""

import hashlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from emperor.protocol import chute, records
from emperor.protocol.records import NO_WORD
from tests.scenarios.harness.waiting import wait_for
from tests.worker.peer import TIMEOUT_S, Router, Stage, Worker, open_stage

SIZE = 3_000_000
APP = """
    import hashlib, os, signal

    def ring(number, frame):
        raise TimeoutError("oh no")

    def application(environ, start_response):
        path = environ["PATH_INFO"]
        size = int(environ.get("QUERY_STRING") or 0)
        if path == "/signal":
            signal.signal(signal.SIGUSR1, ring)
        if path == "/read":
            body = environ["wsgi.input"].read()
            start_response("200 OK", [])
            return [b"%d %s" % (len(body), hashlib.sha256(body).hexdigest().encode())]
        start_response("200 OK", [])
        if path == "/pieces":
            return pieces(size)
        return [bytes(range(250)) * (size // 250)]

    def pieces(size):
        try:
            for at in range(0, size, 10000):
                yield bytes(range(250)) * 40
        finally:
            open("closed", "a").write("closed\\n")
"""
BODY = bytes(range(250)) * (SIZE // 250)

Serving = Callable[..., tuple[Router, Worker]]


@pytest.fixture(params=["one", "threads", "gevent"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    with open_stage(1 if request.param == "one" else 4) as stage:
        yield stage


@pytest.fixture
def serving(request: pytest.FixtureRequest, stage: Stage) -> Serving:
    engine = request.node.callspec.params["stage"]

    def serve() -> tuple[Router, Worker]:
        options: dict[str, Any] = {"gevent": True} if engine == "gevent" else {}
        router = stage.router()
        worker = stage.worker(APP, **options)
        worker.told("loaded")
        router.welcome(chutes=True)
        worker.told("ready")
        return router, worker

    return serve


def begun(router: Router, path: str, size: int = SIZE, **options: Any) -> tuple[int, bytes]:
    """A request and what of its response came before BY-CHUTE."""
    stream = router.request({"PATH_INFO": path, "QUERY_STRING": str(size)}, **options)
    body = b""
    while True:
        got = router.receive()
        assert got is not None, f"no BY-CHUTE after {len(body)} bytes"
        kind, flags, _, at, payload = got[1]
        assert (at, flags) == (stream, 0)
        if kind == records.BY_CHUTE:
            return stream, body
        body += records.unpack_response(payload)[2] if kind == records.RESPONSE else payload


def stuck(router: Router) -> None:
    """The worker has filled the chute, and waits."""
    wait_for(lambda: router.down.held() == router.down.size, TIMEOUT_S, router.down.held)


@pytest.mark.parametrize("path", ["/list", "/pieces"])
def test_a_large_response(serving: Serving, path: str) -> None:
    """More than its credit, of which it needs none; and the next one goes the same way."""
    router, _worker = serving()
    for most in (1 << 20, 30_000):
        stream, first = begun(router, path)
        assert len(first) <= 65536 + 10000
        reply = router.by_chute(stream, most=most)
        assert first + reply.body == BODY
        assert reply.aborted is None


def test_a_small_response_does_not(serving: Serving) -> None:
    router, _worker = serving()
    reply = router.reply(router.request({"PATH_INFO": "/list", "QUERY_STRING": "60000"}))
    assert len(reply.body) == 60000
    reply = router.reply(router.request({"PATH_INFO": "/pieces", "QUERY_STRING": "60000"}))
    assert len(reply.body) == 60000
    assert records.BY_CHUTE not in reply.records


@pytest.mark.parametrize("filled", [True, False])
def test_a_client_that_goes(serving: Serving, stage: Stage, filled: bool) -> None:
    """The chute says so at once, wherever the worker is."""
    router, _worker = serving()
    stream, _ = begun(router, "/pieces", 1 << 30)
    if filled:
        stuck(router)
    router.down.quiet(True)
    if router.down.end(chute.GONE):
        router.send(records.pack_credit(stream, 0))
    router.send(records.pack(records.CANCEL, 0, NO_WORD, stream, b""))
    assert router.by_chute(stream).aborted == "the client has gone"
    wait_for((stage.directory / "closed").exists, TIMEOUT_S)
    assert stage.all_running() == set()


def test_a_router_that_goes(serving: Serving, stage: Stage) -> None:
    router, _worker = serving()
    begun(router, "/pieces", 1 << 30)
    stuck(router)
    router.close()
    again = stage.router()
    again.welcome(chutes=True)
    wait_for((stage.directory / "closed").exists, TIMEOUT_S)
    wait_for(lambda: not stage.all_running(), TIMEOUT_S)
    # What the lost connection had is nobody's: the chute is the next one's.
    while (got := again.receive(0.1)) is not None:
        assert got[1][0] == records.GRANT
    stream, first = begun(again, "/pieces")
    assert first + again.by_chute(stream).body == BODY


@pytest.mark.parametrize("stage", ["one"], indirect=True)
def test_a_signal_while_it_waits(serving: Serving) -> None:
    """A timeout of the app's own ends the wait, and the request."""
    router, worker = serving()
    stream, _ = begun(router, "/signal")
    stuck(router)
    worker.process.send_signal(signal.SIGUSR1)
    assert router.by_chute(stream).aborted == "the app raised TimeoutError in the middle of its response"


@pytest.mark.parametrize("slow", [True, False])
def test_a_large_request(serving: Serving, slow: bool) -> None:
    router, _worker = serving()
    body = os.urandom(SIZE)
    for _ in range(2):
        stream = router.request({"PATH_INFO": "/read"}, body[:1000], fin=False)
        router.expect(records.CREDIT)
        router.send(records.pack(records.DATA, 0, NO_WORD, stream, body[1000:50_000]))
        router.lend(stream)
        at = 50_000
        if slow:
            for _ in range(5):
                time.sleep(0.02)
                at += router.up.put(body[at : at + 100], 0)
                router.wake(router.up, stream)
        router.lift(stream, body[at:])
        assert router.reply(stream).body == b"%d %s" % (SIZE, hashlib.sha256(body).hexdigest().encode())
        router.up.clear()


def test_a_client_that_goes_inside_its_body(serving: Serving) -> None:
    router, worker = serving()
    stream = router.request({"PATH_INFO": "/read"}, b"first", fin=False)
    router.expect(records.CREDIT)
    router.lend(stream)
    router.up.put(b"some", 0)
    router.wake(router.up, stream)
    wait_for(lambda: router.up.room() == router.up.size, TIMEOUT_S)
    router.up.end(chute.GONE)
    router.send(records.pack(records.CANCEL, 0, NO_WORD, stream, b""))
    assert router.reply(stream).status == "500 Internal Server Error"
    worker.wait_log("the client has gone: 9 bytes of the request's body had been read")


def test_a_chute_that_was_not_lent_is_a_link_fault(serving: Serving) -> None:
    router, worker = serving()
    stream = router.request({"PATH_INFO": "/read"}, b"first", fin=False)
    router.expect(records.CREDIT)
    router.send(records.pack(records.BY_CHUTE, 0, NO_WORD, stream, b""))
    worker.wait_log("link fault: BY-CHUTE for a chute that was not lent")
