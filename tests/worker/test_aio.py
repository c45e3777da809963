"""A worker of an ASGI app, driven by a router that the test plays."""

import asyncio
import hashlib
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from emperor.config.deadlines import Deadlines
from emperor.config.spec import EngineSpec
from emperor.protocol import packet, records
from emperor.protocol.records import FIN, NO_WORD
from tests.adapters.test_asgi import Kept
from tests.scenarios.harness.waiting import wait_for
from tests.worker.peer import WINDOW, Router, Stage, Worker, open_stage
from tests.worker.test_main import make_virtualenv
from vassals.worker.aio import Server

SLOTS = 4

# /sleep: until the file `wake` is there. /gone: until the client goes, which `gone` tells.
APP = """
    import asyncio, hashlib, os

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            raise AssertionError
        path, body = scope["path"], b"done"
        if path == "/sleep":
            while not os.path.exists("wake"):
                await asyncio.sleep(0.01)
        elif path == "/read":
            found, more = hashlib.sha256(), True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    open("gone", "w").close()
                    return
                found.update(message["body"])
                more = message["more_body"]
            body = found.hexdigest().encode()
        elif path == "/gone":
            await receive()
            assert (await receive())["type"] == "http.disconnect"
            open("gone", "w").close()
            return
        elif path.startswith("/large/"):
            body = b"x" * int(path[7:])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})
"""


@pytest.fixture(params=["uvloop", "asyncio"])
def served(request: pytest.FixtureRequest) -> Iterator[tuple[Stage, Router, Worker]]:
    with open_stage(SLOTS) as stage:
        router, worker = stage.serving(
            APP, interface="asgi", soft=SLOTS, hard=SLOTS, loop=request.param, lag_s=0.0
        )
        yield stage, router, worker


def ask(router: Router, path: str, **options: object) -> int:
    return router.request({"PATH_INFO": path, "REQUEST_URI": path}, **options)


def wake(stage: Stage) -> None:
    (stage.directory / "wake").touch()


def test_all_slots_run_at_once_and_the_rest_waits_revocable(served: tuple[Stage, Router, Worker]) -> None:
    stage, router, _ = served
    assert (router.hello[3], router.free) == (SLOTS, SLOTS)
    running = [ask(router, "/sleep", word=n) for n in range(SLOTS)]
    stage.wait_all_running(*running)
    revoked, late = (ask(router, "/late", word=n) for n in (SLOTS, SLOTS + 1))
    assert stage.board.revoke(0, 0, SLOTS, revoked) == 3
    wake(stage)
    assert set(router.replies([*running, late])) == {*running, late}
    router.expect_nothing()
    assert stage.all_running() == set()


def test_a_response_waits_for_credit_and_others_go_on(served: tuple[Stage, Router, Worker]) -> None:
    _, router, _ = served
    large = ask(router, "/large/1000000")
    got = 0
    while got < WINDOW:
        found = router.receive()
        assert found is not None, f"the response stops after {got} bytes, with credit left"
        type, _, _, at, payload = found[1]
        assert at == large
        got += len(records.unpack_response(payload)[2] if type == records.RESPONSE else payload)
    assert got == WINDOW
    assert router.get("/x").body == b"done"
    router.send(records.pack_credit(large, 1 << 20), records.pack_credit(0, 1 << 20))
    assert got + len(router.reply(large, credit=False).body) == 1_000_000


def test_a_body_comes_by_records_as_it_is_read(served: tuple[Stage, Router, Worker]) -> None:
    _, router, _ = served
    content = os.urandom(3 * WINDOW)
    stream = ask(router, "/read", body=content[:1000], fin=False)
    at, credit = 1000, 0
    while at < len(content):
        while not credit:
            record = router.expect(records.CREDIT)
            credit += records.unpack_credit(record[4])
        piece = content[at : at + min(credit, records.BODY_LIMIT)]
        at, credit = at + len(piece), credit - len(piece)
        flags = FIN if at == len(content) else 0
        router.send(records.pack(records.DATA, flags, NO_WORD, stream, piece))
    assert router.reply(stream).body == hashlib.sha256(content).hexdigest().encode()


def test_more_of_a_body_than_there_was_credit_for_is_a_fault_of_the_link(
    served: tuple[Stage, Router, Worker],
) -> None:
    stage, router, worker = served
    stream = ask(router, "/sleep", fin=False)
    router.expect(records.CREDIT)
    for _ in range(WINDOW // records.BODY_LIMIT + 1):
        router.send(records.pack(records.DATA, 0, NO_WORD, stream, bytes(records.BODY_LIMIT)))
    router.welcome()
    wait_for(lambda: "more of a body than it had credit for" in worker.log(), 5, worker.log)
    assert router.free == SLOTS - 1
    assert router.get("/x").body == b"done"
    wake(stage)
    assert records.unpack_grant(router.expect(records.GRANT)[4]) == 1


def test_a_lost_connection_is_a_client_that_has_gone(served: tuple[Stage, Router, Worker]) -> None:
    stage, router, _ = served
    stage.wait_all_running(ask(router, "/gone"))
    router.close()
    wait_for((stage.directory / "gone").exists, 5)
    wait_for(lambda: stage.all_running() == set(), 5)


def test_cancel_is_http_disconnect_at_once(served: tuple[Stage, Router, Worker]) -> None:
    stage, router, _ = served
    stream = ask(router, "/gone")
    stage.wait_all_running(stream)
    router.send(records.pack(records.CANCEL, 0, NO_WORD, stream, b""))
    assert router.reply(stream).aborted == "the client has gone"
    assert (stage.directory / "gone").exists()


def test_rejoins_with_the_slots_that_are_free_and_grants_the_rest(
    served: tuple[Stage, Router, Worker],
) -> None:
    stage, router, worker = served
    running = [ask(router, "/sleep") for _ in range(3)]
    stage.wait_all_running(*running)
    router.close()
    router = stage.router()
    router.welcome()
    assert router.free == SLOTS - 3
    assert router.get("/x").body == b"done"
    wake(stage)
    granted = 0
    while granted < 3:
        granted += records.unpack_grant(router.expect(records.GRANT)[4])
    assert granted == 3
    router.close()
    assert "cannot" not in worker.log()


def test_leaves_when_what_runs_has_ended_and_gives_back_the_rest(
    served: tuple[Stage, Router, Worker],
) -> None:
    stage, router, worker = served
    running = ask(router, "/sleep")
    stage.wait_all_running(running)
    late, record = router.offer({"PATH_INFO": "/late"})
    router.send(records.pack(records.DRAIN, 0, NO_WORD, 0, b""), record)
    assert router.expect(records.RETURN)[3] == late
    wake(stage)
    assert router.reply(running).body == b"done"
    router.expect(records.BYE)
    router.send(records.pack(records.BYE_ACK, 0, NO_WORD, 0, b""))
    assert worker.exit_code() == 0, worker.log()


LOOP_APP = """
    import asyncio, sys

    async def app(scope, receive, send):
        assert scope["type"] == "http"
        try:
            import click
            found = "the emperor's packages"
        except ImportError:
            found = "its own alone"
        body = f"{type(asyncio.get_running_loop()).__module__} {found}".encode()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": body})
"""


def test_a_virtualenv_without_uvloop_gets_the_emperors_and_none_of_its_other_packages() -> None:
    with open_stage(SLOTS) as stage:
        make_virtualenv(stage.directory / "venv")
        router, _ = stage.serving(
            LOOP_APP,
            interface="asgi",
            soft=SLOTS,
            hard=SLOTS,
            loop="uvloop",
            lag_s=0.0,
            virtualenv=str(stage.directory / "venv"),
        )
        assert router.get("/").body == b"uvloop its own alone"


def test_a_request_that_has_ended_is_not_kept_until_its_deadline() -> None:
    """At thousands a second, timers of a minute would keep hundreds of thousands of them."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"done"})

    spec: Any = SimpleNamespace(
        engine=EngineSpec(interface="asgi", lag_s=0.0),
        deadlines=Deadlines(harakiri_s=60.0),
        stop_timeout_s=8.0,
    )
    timers: list[asyncio.TimerHandle] = []

    async def one() -> None:
        loop = asyncio.get_running_loop()
        call_later = loop.call_later
        loop.call_later = lambda *call: timers.append(call_later(*call)) or timers[-1]  # type: ignore
        orders: Any = None
        server = Server(app, spec, orders, None, loop, None, print)
        exchange: Any = Kept(packet.encode([(b"REQUEST_METHOD", b"GET")]))
        server._begin(exchange)
        await asyncio.gather(*server._tasks.values())
        assert exchange.events == ["finish"] and not server._tasks

    asyncio.run(one())
    assert [timer.cancelled() for timer in timers] == [True]
