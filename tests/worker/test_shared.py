"""A worker of several slots, with threads and with greenlets, driven by a router that the test plays."""

import hashlib
import os
import random
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from emperor.protocol import records
from emperor.protocol.records import FIN, NO_WORD
from tests.scenarios.harness.waiting import wait_for
from tests.worker.peer import TIMEOUT_S, WINDOW, Router, Stage, Worker, cost, open_stage
from tests.worker.test_link import KEPT_WRITE_APP, KEPT_WRITES
from tests.worker.test_main import make_virtualenv

SLOTS = 4

# /meet: as many as there are slots must be inside at once. /sleep: until the file `wake` is there.
APP = """
    import hashlib, json, os, sys, threading, time

    meeting = threading.Barrier(4, timeout=10)

    def application(environ, start_response):
        path = environ["PATH_INFO"]
        body = b"done"
        if path == "/meet":
            meeting.wait()
        elif path.startswith("/sleep"):
            while not os.path.exists("wake"):
                time.sleep(0.01)
            body = b"z" * int(environ["QUERY_STRING"] or 4)
        elif path == "/read":
            body = hashlib.sha256(environ["wsgi.input"].read()).hexdigest().encode()
        elif path.startswith("/large/"):
            start_response("200 OK", [])
            return [b"x" * int(path[7:]), b""]
        elif path == "/forever":
            return forever(start_response)
        elif path == "/exit":
            sys.exit(3)
        elif path == "/interrupt":
            raise KeyboardInterrupt
        elif path == "/eval":
            body = json.dumps(eval(environ["QUERY_STRING"])).encode()
        start_response("200 OK", [])
        return [body]

    def forever(start_response):
        start_response("200 OK", [])
        try:
            while True:
                yield b"y" * 1000
        finally:
            open("closed", "w").close()
"""

ENGINES = {"threads": {}, "gevent": {"gevent": True}}


@pytest.fixture
def wide() -> Iterator[Stage]:
    with open_stage(SLOTS) as stage:
        yield stage


@pytest.fixture(params=ENGINES)
def served(request: pytest.FixtureRequest, wide: Stage) -> tuple[Stage, Router, Worker]:
    router, worker = wide.serving(APP, **ENGINES[request.param])
    return wide, router, worker


def ask(router: Router, path: str, body: bytes = b"", **options: Any) -> int:
    return router.request({"PATH_INFO": path, "REQUEST_URI": path}, body, **options)


def wake(stage: Stage) -> None:
    (stage.directory / "wake").touch()


def leave(router: Router, worker: Worker) -> None:
    router.expect(records.BYE)
    router.send(records.pack(records.BYE_ACK, 0, NO_WORD, 0, b""))
    assert worker.exit_code() == 0, worker.log()


def test_all_slots_are_in_the_app_at_once(served: tuple[Stage, Router, Worker]) -> None:
    stage, router, _worker = served
    assert (router.hello[3], router.free) == (SLOTS, SLOTS)
    for _ in range(5):
        streams = [ask(router, "/meet", word=n) for n in range(SLOTS)]
        assert {reply.body for reply in router.replies(streams).values()} == {b"done"}
    assert stage.all_running() == set()
    assert [stage.word(n) for n in range(SLOTS)] == ["FREE"] * SLOTS


def test_what_is_too_much_waits_on_deck_and_can_be_revoked(served: tuple[Stage, Router, Worker]) -> None:
    stage, router, _worker = served
    running = [ask(router, "/sleep", word=n) for n in range(SLOTS)]
    stage.wait_all_running(*running)
    revoked, late = (ask(router, "/late", word=n) for n in (SLOTS, SLOTS + 1))
    assert stage.word(SLOTS + 1) == "OFFERED"
    assert stage.board.revoke(0, 0, SLOTS, revoked) == 3
    wake(stage)
    assert set(router.replies([*running, late])) == {*running, late}
    router.expect_nothing()


def test_a_body_that_does_not_come_holds_up_nobody(served: tuple[Stage, Router, Worker]) -> None:
    _stage, router, _worker = served
    content = os.urandom(2 * WINDOW)
    readers = [ask(router, "/read", fin=False) for _ in range(SLOTS - 1)]
    credit = dict.fromkeys(readers, 0)
    for _ in readers:
        record = router.expect(records.CREDIT)
        credit[record[3]] += records.unpack_credit(record[4])
    assert router.get("/x").body == b"done"
    sent = dict.fromkeys(readers, 0)
    answers: dict[int, bytes] = {}
    while len(answers) < len(readers):
        for reader in readers:
            while size := min(records.BODY_LIMIT, credit[reader], len(content) - sent[reader]):
                piece = content[sent[reader] : sent[reader] + size]
                sent[reader] += size
                credit[reader] -= size
                flags = FIN if sent[reader] == len(content) else 0
                router.send(records.pack(records.DATA, flags, NO_WORD, reader, piece))
        got = router.receive()
        assert got is not None, f"{sent} sent, credit {credit}, answers {answers}"
        type, _, _, stream, payload = got[1]
        if type == records.CREDIT:
            credit[stream] += records.unpack_credit(payload)
        else:
            answers[stream] = records.unpack_response(payload)[2]
    assert set(answers.values()) == {hashlib.sha256(content).hexdigest().encode()}


def test_a_client_that_takes_nothing_holds_up_nobody(served: tuple[Stage, Router, Worker]) -> None:
    _stage, router, _worker = served
    slow = ask(router, f"/large/{2 * WINDOW}")
    got = 0
    while got < WINDOW:
        type, _, _, _, payload = (router.receive() or pytest.fail("nothing came"))[1]
        got += len(records.unpack_response(payload)[2] if type == records.RESPONSE else payload)
    for n in range(20):
        assert router.get(f"/{n}").body == b"done"
    while got < 2 * WINDOW:
        router.send(records.pack_credit(slow, WINDOW // 2), records.pack_credit(0, WINDOW // 2))
        need = WINDOW // 2
        while need > 0:
            need -= len(router.expect(records.DATA)[4])
        got += WINDOW // 2
    assert router.expect(records.DATA)[1] & FIN


@pytest.mark.parametrize("engine", ENGINES)
def test_a_kept_write_costs_the_next_requests_no_window(wide: Stage, engine: str) -> None:
    router, _worker = wide.serving(KEPT_WRITE_APP, **ENGINES[engine])
    for _ in range(KEPT_WRITES):
        assert router.get("/keep").body == b"kept"
    reply = router.get("/late")
    assert (reply.body, reply.records) == (b"z" * 60_000, [records.RESPONSE])
    router.expect_nothing()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_client_that_goes_ends_a_response_of_empty_pieces(wide: Stage, engine: str) -> None:
    router, _worker = wide.serving(
        """
        def application(environ, start_response):
            start_response("200 OK", [])
            while True:
                yield b""
        """,
        **ENGINES[engine],
    )
    # All of them: nobody rests, and polls for the others. A greenlet that never waits holds up the next.
    streams = [router.request() for _ in range(SLOTS)]
    for stream in streams:
        wait_for(lambda stream=stream: stream in wide.all_running(), TIMEOUT_S)  # type: ignore[misc]
        router.send(records.pack(records.CANCEL, 0, NO_WORD, stream, b""))
    assert {reply.aborted for reply in router.replies(streams).values()} == {"the client has gone"}


def test_cancel_ends_one_and_not_the_others(served: tuple[Stage, Router, Worker]) -> None:
    stage, router, _worker = served
    forever = ask(router, "/forever")
    router.expect(records.RESPONSE)
    router.send(records.pack(records.CANCEL, 0, NO_WORD, forever, b""))
    while (got := router.receive()) is not None and got[1][0] == records.DATA:
        pass
    assert got is not None and got[1][0] == records.ABORT
    assert (stage.directory / "closed").exists()
    assert router.get("/x").body == b"done"


def test_a_body_whose_client_goes_is_an_error_to_its_reader_alone(
    served: tuple[Stage, Router, Worker],
) -> None:
    _stage, router, worker = served
    reader = ask(router, "/read", b"start", fin=False)
    router.expect(records.CREDIT)
    router.send(records.pack(records.CANCEL, 0, NO_WORD, reader, b""))
    assert router.reply(reader).status == "500 Internal Server Error"
    assert "ClientGone" in worker.wait_log("ClientGone")
    assert router.get("/x").body == b"done"


@pytest.mark.parametrize("path", ["/exit", "/interrupt"])
def test_what_ends_a_thread_ends_its_request_alone(served: tuple[Stage, Router, Worker], path: str) -> None:
    _stage, router, worker = served
    for _ in range(SLOTS + 1):
        assert router.get(path).status == "500 Internal Server Error"
    streams = [ask(router, "/meet") for n in range(SLOTS)]
    assert {reply.body for reply in router.replies(streams).values()} == {b"done"}
    assert "Traceback" in worker.log()


def test_it_says_what_it_is(served: tuple[Stage, Router, Worker]) -> None:
    _stage, router, _worker = served
    expression = "[environ['wsgi.multithread'], environ['wsgi.multiprocess']]"
    assert (
        router.reply(router.request({"PATH_INFO": "/eval", "QUERY_STRING": expression})).body
        == b"[true, false]"
    )


# Leaving.


@pytest.mark.parametrize("how", ["leash", "record", "signal", "gateway"])
def test_leaves_when_all_have_finished(served: tuple[Stage, Router, Worker], how: str) -> None:
    stage, router, worker = served
    running = [ask(router, "/sleep", word=n) for n in range(SLOTS)]
    stage.wait_all_running(*running)
    waiting = ask(router, "/never", word=SLOTS)
    if how == "leash":
        worker.order("drain")
    elif how == "record":
        router.send(records.pack(records.DRAIN, 0, NO_WORD, 0, b""))
    elif how == "signal":
        os.kill(worker.process.pid, signal.SIGTERM)
    else:
        worker.leash.close()
    wake(stage)
    ends: dict[int, int] = {}
    while (got := router.receive()) is not None and got[1][0] != records.BYE:
        ends[got[1][3]] = got[1][0]
    assert [ends.pop(stream) for stream in running] == [records.RESPONSE] * SLOTS
    # It may have been met before the order was, or not at all.
    assert ends in ({waiting: records.RESPONSE}, {waiting: records.RETURN}, {})
    assert stage.word(SLOTS) == ("FREE" if ends else "OFFERED")
    router.send(records.pack(records.BYE_ACK, 0, NO_WORD, 0, b""))
    assert worker.exit_code() == 0, worker.log()
    assert [stage.word(n) for n in range(SLOTS)] == ["FREE"] * SLOTS


@pytest.mark.parametrize("how", ["leash", "record", "signal", "gateway"])
def test_leaves_at_once_when_idle(served: tuple[Stage, Router, Worker], how: str) -> None:
    _stage, router, worker = served
    router.get("/x")
    if how == "leash":
        worker.order("drain")
    elif how == "record":
        router.send(records.pack(records.DRAIN, 0, NO_WORD, 0, b""))
    elif how == "signal":
        os.kill(worker.process.pid, signal.SIGTERM)
    else:
        worker.leash.close()
    leave(router, worker)


@pytest.mark.parametrize("engine", ENGINES)
def test_sigterm_ends_a_worker_whose_app_does_not_return(wide: Stage, engine: str) -> None:
    router, worker = wide.serving(APP, stop_timeout_s=0.3, **ENGINES[engine])
    streams = [ask(router, "/sleep") for _ in range(SLOTS)]
    wide.wait_all_running(*streams)
    os.kill(worker.process.pid, signal.SIGTERM)
    assert worker.exit_code() == -signal.SIGALRM


def test_leaves_while_it_waits_for_a_router(wide: Stage) -> None:
    for engine in ENGINES.values():
        worker = wide.worker(APP, **engine)
        worker.told("loaded")
        worker.order("drain")
        assert worker.exit_code() == 0


# Losing the router.


def test_rejoins_with_the_slots_that_are_free_and_grants_the_rest(
    served: tuple[Stage, Router, Worker],
) -> None:
    stage, router, worker = served
    old = [router.request({"PATH_INFO": "/sleep", "QUERY_STRING": "50000"}, word=n) for n in range(2)]
    stage.wait_all_running(*old)
    router.close()
    again = stage.router()
    stage.board.revoke_all(0, 0)
    again.welcome()
    worker.told("ready")
    assert again.free == SLOTS - 2
    assert again.get("/x", word=2).body == b"done"
    wake(stage)
    # Their answers reach nobody; their slots are told.
    for _ in old:
        _, _, _, stream, payload = again.expect(records.GRANT)
        assert (stream, records.unpack_grant(payload)) == (0, 1)
    streams = [ask(again, "/meet", word=n) for n in range(SLOTS)]
    assert {reply.body for reply in again.replies(streams).values()} == {b"done"}
    assert stage.all_running() == set()
    # Nor did they cost the new connection's window, which is as much as all slots may send; a little went into the above.
    size = WINDOW - 1000
    streams = [ask(again, f"/large/{size}", word=n) for n in range(SLOTS)]
    assert {len(reply.body) for reply in again.replies(streams, credit=False).values()} == {size}


def test_routers_come_and_go(served: tuple[Stage, Router, Worker]) -> None:
    """Each dies while requests of its are on deck, run, wait for credit and wait for a body."""
    stage, router, worker = served

    def words() -> list[str]:
        return [stage.word(n) for n in range(8)]

    for _ in range(8):
        # What ran for the last router frees its words as it ends.
        wait_for(lambda: words() == ["FREE"] * 8, TIMEOUT_S, words)
        offers = [router.offer({"PATH_INFO": f"/large/{3 * WINDOW}"}, word=n) for n in range(2)]
        offers += [router.offer({"PATH_INFO": "/read"}, word=2, fin=False)]
        offers += [router.offer({"PATH_INFO": "/x"}, word=n) for n in range(3, 8)]
        router.send(*(record for _, record in offers))
        assert router.receive() is not None
        router.close()
        router = stage.router()
        stage.board.revoke_all(0, 0)
        router.welcome()
        worker.told("ready")
    for _ in range(3):  # GRANTs of the last round may come before
        stream = ask(router, "/x")
        while (got := router.receive()) is not None and got[1][0] == records.GRANT:
            pass
        assert got is not None and got[1][3] == stream


# Much at once.


@pytest.mark.slow
def test_nothing_is_lost_when_much_goes_on(served: tuple[Stage, Router, Worker]) -> None:
    """Bodies, answers above the credit, cancels and small requests over each other: every one comes to its end."""
    _stage, router, _worker = served
    dice = random.Random(7)
    open_: dict[int, tuple[str, int]] = {}
    credit: dict[int, int] = {}
    unsent: dict[int, int] = {}
    got: dict[int, int] = {}
    started, wanted = 0, 600
    while started < wanted or open_:
        while len(open_) < 8 and started < wanted:
            started += 1
            kind = dice.choice(["small", "small", "large", "body"])
            if kind == "large":
                size = dice.randrange(1, 3 * WINDOW)
                stream = ask(router, f"/large/{size}")
            elif kind == "body":
                size = dice.randrange(1, WINDOW)
                stream = ask(router, "/read", fin=False)
                unsent[stream] = size
            else:
                size = 4
                stream = ask(router, "/x")
            open_[stream] = (kind, size)
            got[stream] = credit[stream] = 0
        for stream in list(unsent):
            size = min(unsent[stream], credit[stream], dice.randrange(1, records.BODY_LIMIT))
            if size:
                unsent[stream] -= size
                credit[stream] -= size
                flags = 0 if unsent[stream] else FIN
                router.send(records.pack(records.DATA, flags, NO_WORD, stream, bytes(size)))
                if flags:
                    del unsent[stream]
        answer = router.receive(0 if any(credit[stream] for stream in unsent) else 10)
        if answer is None:
            assert any(credit[stream] for stream in unsent), f"nothing comes for {open_}"
            continue
        type, flags, _, stream, payload = answer[1]
        if type == records.CREDIT:
            credit[stream] += records.unpack_credit(payload)
            continue
        piece = records.unpack_response(payload)[2] if type == records.RESPONSE else payload
        got[stream] += len(piece)
        if flags & FIN:
            kind, size = open_.pop(stream)
            assert got[stream] == (64 if kind == "body" else size)
        elif piece:
            count = cost(type, piece)
            router.send(records.pack_credit(stream, count), records.pack_credit(0, count))


# Threads.


def test_threads_have_names_and_the_stack_that_was_asked_for(wide: Stage) -> None:
    router, _worker = wide.serving(APP, thread_stack_bytes=256 * 1024)
    names = "sorted(t.name for t in threading.enumerate())"
    answer = router.reply(router.request({"PATH_INFO": "/eval", "QUERY_STRING": names}))
    assert answer.body == b'["MainThread", "request 0", "request 1", "request 2", "request 3"]'
    # The app's own threads have the system's.
    assert (
        router.reply(router.request({"PATH_INFO": "/eval", "QUERY_STRING": "threading.stack_size()"})).body
        == b"0"
    )


def test_a_stack_that_cannot_be_had_is_said(wide: Stage) -> None:
    worker = wide.worker(APP, thread_stack_bytes=1024)
    assert "threads-stacksize = 1" in worker.told("failed")["reason"]
    assert worker.exit_code() == 70


def test_a_child_that_comes_back_from_a_thread_sends_nothing(wide: Stage) -> None:
    router, worker = wide.serving(
        """
        import os

        def application(environ, start_response):
            child = os.fork()
            start_response("200 OK", [])
            return [b"parent" if child else b"child"]
        """
    )
    assert [router.get("/x", word=n).body for n in range(3)] == [b"parent"] * 3
    router.expect_nothing()
    assert worker.process.poll() is None


# Greenlets.


def test_without_gevent_the_start_fails_and_names_the_command(wide: Stage) -> None:
    venv = wide.directory / "venv"
    make_virtualenv(venv)
    worker = wide.worker(APP, gevent=True, virtualenv=str(venv))
    told = worker.told("failed")
    assert "gevent" in told["reason"]
    assert f"{venv}/bin/python -m pip install gevent" in told["reason"]
    assert worker.exit_code() == 70


@pytest.mark.parametrize("patched", [True, False])
def test_the_library_is_patched_before_the_app_is_imported(wide: Stage, patched: bool) -> None:
    source = "from time import sleep\n" + APP.replace("\n    ", "\n")
    router, _worker = wide.serving(source, gevent=True, monkey_patch=patched)
    expression = (
        "[sleep.__module__.startswith('gevent'), threading.current_thread() is threading.main_thread()]"
    )
    answer = router.reply(router.request({"PATH_INFO": "/eval", "QUERY_STRING": expression})).body
    assert answer == (b"[true, false]" if patched else b"[false, true]")


def test_a_timeout_of_the_apps_while_it_reads_harms_nobody(wide: Stage) -> None:
    router, _worker = wide.serving(
        """
        import gevent

        def application(environ, start_response):
            body = b"read"
            if environ["PATH_INFO"] == "/read":
                try:
                    with gevent.Timeout(0.05):
                        environ["wsgi.input"].read()
                except gevent.Timeout:
                    body = b"timeout"
            start_response("200 OK", [])
            return [body]
        """,
        gevent=True,
    )
    for _ in range(3):
        streams = [ask(router, "/read", fin=False) for _ in range(SLOTS)]
        assert {reply.body for reply in router.replies(streams).values()} == {b"timeout"}
        assert router.get("/x").body == b"read"


def test_a_timeout_that_an_app_leaves_running_meets_no_other_request(wide: Stage) -> None:
    router, _worker = wide.serving(
        """
        import gevent

        def application(environ, start_response):
            if environ["PATH_INFO"] == "/leave":
                gevent.Timeout.start_new(0.05)
            elif environ["PATH_INFO"] == "/outlive":
                gevent.sleep(0.2)
            start_response("200 OK", [])
            return [b"here"]
        """,
        gevent=True,
    )
    for _ in range(SLOTS + 1):
        assert router.get("/leave").body == b"here"
        assert router.get("/outlive").body == b"here"
    streams = [ask(router, "/outlive") for _ in range(SLOTS)]
    assert {reply.body for reply in router.replies(streams).values()} == {b"here"}
