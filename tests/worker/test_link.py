"""The worker's end of the backplane, driven by a router that the test plays."""

import json
import os
import signal
from typing import Any

import pytest

from emperor.protocol import records, ring
from emperor.protocol.records import FIN, NO_WORD
from tests.scenarios.harness import machine
from tests.scenarios.harness.waiting import wait_for
from tests.worker.peer import TIMEOUT_S, WINDOW, Stage, now
from vassals.worker.link import BODY_WINDOW

HELLO_APP = """
    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello " + environ["PATH_INFO"].encode()]
"""

# Each call leaves a line, so that a test can tell what was run, and how often.
DIARY_APP = """
    import time

    def application(environ, start_response):
        with open("diary", "a") as diary:
            diary.write(environ["PATH_INFO"] + "\\n")
        if environ["PATH_INFO"].startswith("/sleep"):
            while True:
                time.sleep(0.01)
                try:
                    open("wake").close()
                    break
                except FileNotFoundError:
                    pass
        start_response("200 OK", [])
        return [b"done"]
"""


# Each `write` that is kept may still spend a stream's credit of 256 KiB: together more than the window of the link.
KEPT_WRITES = 5
KEPT_WRITE_APP = """
    kept = []

    def application(environ, start_response):
        write = start_response("200 OK", [])
        if environ["PATH_INFO"] == "/keep":
            kept.append(write)
            write(b"kept")
            return []
        for late in kept:
            for _ in range(6):
                late(b"z" * 60_000)
        return [b"z" * 60_000]
"""


def diary(stage: Stage) -> list[str]:
    path = stage.directory / "diary"
    return path.read_text().split() if path.exists() else []


def wake(stage: Stage) -> None:
    (stage.directory / "wake").touch()


def test_says_who_it_is_and_echoes_the_nonce(stage: Stage) -> None:
    router, _worker = stage.serving(HELLO_APP)
    assert router.free == 1
    assert router.hello == (1, 0, 0, 1, 3, bytes.fromhex("ab" * 32), "blog")
    assert len(router.identity) == 16
    assert router.identity[0] != 0


def test_answers_in_one_record_and_leaves_word_and_slot_free(stage: Stage) -> None:
    router, _worker = stage.serving(HELLO_APP)
    stream = router.request({"PATH_INFO": "/a"}, word=3)
    _, flags, _, at, payload = router.expect(records.RESPONSE)
    # Free before the record with FIN was sent: no waiting here.
    assert (stage.word(3), stage.running()) == ("FREE", 0)
    assert (at, flags & FIN) == (stream, FIN)
    _, head, body = records.unpack_response(payload)
    assert head == b"200 OK\r\nContent-Type: text/plain\r\nContent-Length: 8\r\n"
    assert body == b"hello /a"


def test_a_batch_is_answered_in_order(stage: Stage) -> None:
    router, _worker = stage.serving(HELLO_APP)
    offers = [router.offer({"PATH_INFO": f"/{n}"}, word=n) for n in range(8)]
    router.send(*(record for _, record in offers))
    for n, (stream, _) in enumerate(offers):
        assert router.reply(stream).body == b"hello /%d" % n


def test_an_answer_is_out_of_its_hands_before_the_app_is_entered_again(stage: Stage) -> None:
    router, worker = stage.serving(DIARY_APP)
    router.ring.watch()  # and need not be called
    first, record1 = router.offer({"PATH_INFO": "/first"}, word=0)
    second, record2 = router.offer({"PATH_INFO": "/sleep"}, word=1)
    router.send(record1, record2)
    stage.wait_running(second)
    worker.process.kill()
    worker.process.wait()
    ((kind, flags, _, at, _),) = records.unpack(router.ring.take())
    assert (kind, flags & FIN, at) == (records.RESPONSE, FIN, first)


def test_a_router_that_does_not_see_the_page_gets_messages(stage: Stage) -> None:
    router = stage.router()
    stage.worker(HELLO_APP)
    router.welcome(deck=0)
    stream = router.request({"PATH_INFO": "/x"})
    assert router.expect(records.RESPONSE)[3] == stream
    assert not router.ring.has()


def test_who_watches_is_not_called(stage: Stage) -> None:
    router, _worker = stage.serving(HELLO_APP)
    router.ring.watch()
    streams = [router.request({"PATH_INFO": f"/{n}"}) for n in range(3)]
    wait_for(lambda: stage.running() == 0 and router.ring.has(), 10)
    router.expect_nothing()
    found: list[Any] = []
    wait_for(lambda: found.extend(records.unpack(router.ring.take())) or len(found) == 3, 10)
    assert [record[3] for record in found] == streams


def test_what_the_ring_does_not_hold_is_a_message(stage: Stage) -> None:
    router, _worker = stage.serving(
        "def app(environ, start_response):\n"
        "    size = int(environ['QUERY_STRING'])\n"
        "    start_response('200 OK', [])\n"
        "    return [b'x' * size]\n"
    )
    router.ring.watch()
    # Larger than any that goes there; then more of them than it has room for, while nobody takes any out.
    sizes = [ring.LARGEST] + [ring.LARGEST // 2] * 16
    streams = [router.request({"QUERY_STRING": str(size)}) for size in sizes]
    messages = [
        router.expect(records.RESPONSE)[3] for _ in range(17 - ring.CAPACITY // (ring.LARGEST // 2 + 80))
    ]
    kept = [record[3] for record in records.unpack(router.ring.take())]
    assert messages[0] == streams[0]
    assert kept and sorted(messages + kept) == streams


def test_a_client_that_waits_for_100_continue_is_asked_when_the_app_reads(stage: Stage) -> None:
    router, _worker = stage.serving(
        """
        def application(environ, start_response):
            start_response("200 OK", [])
            return [environ["wsgi.input"].read() if environ["PATH_INFO"] == "/read" else b"unread"]
        """
    )
    for path, asked in (("/read", [0, BODY_WINDOW]), ("/unread", [0])):
        stream, record = router.offer({"PATH_INFO": path, "CONTENT_LENGTH": "5"}, fin=False)
        router.send(record[:1] + bytes([records.AWAITS]) + record[2:])
        for count in asked:
            assert records.unpack_credit(router.expect(records.CREDIT)[4]) == count
        if len(asked) > 1:
            router.send(records.pack(records.DATA, FIN, NO_WORD, stream, b"hello"))
        assert router.reply(stream).body == (b"hello" if len(asked) > 1 else b"unread")


def test_claims_before_it_calls_the_app(stage: Stage) -> None:
    router, _worker = stage.serving(DIARY_APP)
    stream = router.request({"PATH_INFO": "/sleep"}, word=0)
    stage.wait_running(stream)
    assert stage.word(0) == "CLAIMED"
    wake(stage)
    assert router.reply(stream).body == b"done"


def test_a_revoked_request_is_freed_and_never_run(stage: Stage) -> None:
    router, _worker = stage.serving(DIARY_APP)
    first, record1 = router.offer({"PATH_INFO": "/sleep"}, word=0)
    second, record2 = router.offer({"PATH_INFO": "/revoked"}, word=1)
    third, record3 = router.offer({"PATH_INFO": "/third"}, word=2)
    router.send(record1, record2, record3)
    stage.wait_running(first)
    assert stage.board.revoke(0, 0, 1, second) == 3
    wake(stage)
    assert router.reply(first).body == b"done"
    assert router.reply(third).body == b"done"
    assert diary(stage) == ["/sleep", "/third"]
    assert stage.word(1) == "FREE"


def test_without_the_claim_guard_a_revoked_request_is_run(stage: Stage) -> None:
    router, _worker = stage.serving(DIARY_APP, environment={"EMPEROR_TEST_OMIT": "claim"})
    stream, record = router.offer({"PATH_INFO": "/revoked"}, word=1)
    assert stage.board.revoke(0, 0, 1, stream) == 3
    router.send(record)
    assert router.reply(stream).body == b"done"


def test_a_cancelled_request_on_deck_is_given_back_and_not_run(stage: Stage) -> None:
    router, _worker = stage.serving(DIARY_APP)
    first, record1 = router.offer({"PATH_INFO": "/first"}, word=0)
    second, record2 = router.offer({"PATH_INFO": "/cancelled"}, word=1)
    router.send(record1, record2, records.pack(records.CANCEL, 0, 1, second, b""))
    assert router.reply(first).body == b"done"
    assert router.expect(records.RETURN)[3] == second
    assert diary(stage) == ["/first"]
    assert stage.word(1) == "FREE"


def test_ping_is_answered(stage: Stage) -> None:
    router, _worker = stage.serving(HELLO_APP)
    router.send(records.pack(records.PING, 0, NO_WORD, 0, b"12345678"))
    assert router.expect(records.PONG)[4] == b"12345678"


@pytest.mark.parametrize(
    "message",
    [
        b"\x03\x00",
        records.pack(99, 0, NO_WORD, 0, b""),
        records.pack(records.WELCOME, 0, NO_WORD, 0, b""),
        records.pack(records.CREDIT, 0, NO_WORD, 0, b"123"),
        records.pack(records.REQUEST, FIN, 77, 5, b"\0\0\0\0"),
    ],
)
def test_a_link_fault_makes_a_new_connection(stage: Stage, message: bytes) -> None:
    router, worker = stage.serving(HELLO_APP)
    before = router.identity
    router.send(message)
    router.welcome()
    assert router.identity != before
    assert "link fault" in worker.log()
    assert router.get("/after").body == b"hello /after"


def test_a_packet_that_cannot_be_read_ends_its_request_and_not_the_worker(stage: Stage) -> None:
    router, _worker = stage.serving(HELLO_APP)
    stream = router.new_stream()
    router.send(records.pack(records.REQUEST, FIN, NO_WORD, stream, b"\0\xff\xff\0"))
    assert router.reply(stream).status == "500 Internal Server Error"
    assert router.get("/after").body == b"hello /after"


# Losing the router.


def test_rejoins_the_next_router_under_a_new_identity(stage: Stage) -> None:
    router, worker = stage.serving(HELLO_APP)
    before = router.identity
    router.close()
    again = stage.router()
    again.welcome()
    worker.told("ready")
    assert again.identity != before
    assert again.get("/x", word=0).body == b"hello /x"


def test_routers_come_and_go_and_leave_nothing_behind(stage: Stage) -> None:
    """Each dies in the middle of a batch; no descriptor, word or request of its time outlives it."""
    router, worker = stage.serving(HELLO_APP)
    fds = f"/proc/{worker.process.pid}/fd"

    def words() -> list[str]:
        return [stage.word(n) for n in range(8)]

    router.get("/warm")
    before = len(os.listdir(fds))
    for round in range(12):
        offers = [router.offer({"PATH_INFO": f"/{n}"}, word=n) for n in range(8)]
        router.send(*(record for _, record in offers))
        for _ in range(round % 5):
            router.expect(records.RESPONSE)
        router.close()
        router = stage.router()
        stage.board.revoke_all(0, 0)
        router.welcome()
        wait_for(lambda: words() == ["FREE"] * 8, TIMEOUT_S, words)
        assert router.get(f"/round{round}", word=0).body == f"hello /round{round}".encode()
    # libzmq closes some of its descriptors a little later, those of the first connection too.
    wait_for(lambda: len(os.listdir(fds)) <= before, TIMEOUT_S, lambda: f"{len(os.listdir(fds))} > {before}")


def test_waits_in_the_backlog_while_no_router_lives(stage: Stage) -> None:
    worker = stage.worker(HELLO_APP)
    worker.told("loaded")
    # One connection, however long it takes: each more would use up the backlog.
    wait_for(lambda: os.path.exists(f"/proc/{worker.process.pid}/fd"), TIMEOUT_S)
    router = stage.router()
    router.welcome()
    assert router.get("/x").body == b"hello /x"


def test_the_old_deck_and_a_late_answer_die_with_their_router(stage: Stage) -> None:
    router, _worker = stage.serving(DIARY_APP)
    first, record1 = router.offer({"PATH_INFO": "/sleep"}, word=0)
    _, record2 = router.offer({"PATH_INFO": "/old-deck"}, word=1)
    router.send(record1, record2)
    stage.wait_running(first)
    router.close()
    again = stage.router()
    stage.board.revoke_all(0, 0)
    wake(stage)
    again.welcome()
    reply = again.get("/new", word=2)
    assert reply.body == b"done"
    again.expect_nothing()
    assert diary(stage) == ["/sleep", "/new"]
    assert [stage.word(n) for n in range(3)] == ["FREE"] * 3


def test_without_the_epoch_guard_the_late_answer_is_sent(without_bells: Stage) -> None:
    """Where it calls by a message, since that is how it learns in time that its link is lost."""
    stage = without_bells
    router, worker = stage.serving(DIARY_APP, environment={"EMPEROR_TEST_OMIT": "epoch"})
    stream = router.request({"PATH_INFO": "/sleep"}, word=0)
    stage.wait_running(stream)

    def sockets() -> int:
        fds = f"/proc/{worker.process.pid}/fd"
        return sum(os.readlink(f"{fds}/{fd}").startswith("socket:") for fd in os.listdir(fds))

    before = sockets()
    router.close()
    wait_for(lambda: sockets() < before, TIMEOUT_S)  # its own threads have noticed
    again = stage.router()
    wake(stage)
    again.welcome()
    assert again.reply(stream).body == b"done"


def test_retired_leaves_with_0(stage: Stage) -> None:
    router = stage.router()
    worker = stage.worker(HELLO_APP)
    worker.told("loaded")
    router.refuse(9, "the generation is leaving")
    assert worker.told("refused") == {"state": "refused", "code": 9, "reason": "the generation is leaving"}
    assert worker.exit_code() == 0


def test_refused_waits_a_second_and_tries_again(stage: Stage) -> None:
    router = stage.router()
    worker = stage.worker(HELLO_APP)
    worker.told("loaded")
    router.refuse(6, "the seat is taken")
    began, moment = now(), machine.now()
    worker.told("refused")
    router.welcome()
    assert 0.9 < now() - began < machine.allowed(5, moment)
    worker.told("ready")
    assert router.get("/x").body == b"hello /x"


def test_refused_after_ready_waits_a_second_too(stage: Stage) -> None:
    router, worker = stage.serving(HELLO_APP)
    router.send(records.pack_refused(7, "wrong nonce"))
    began, moment = now(), machine.now()
    assert worker.told("refused")["code"] == 7
    router.welcome()
    assert 0.9 < now() - began < machine.allowed(5, moment)
    assert router.get("/x").body == b"hello /x"


def test_an_endpoint_that_is_not_there_yet_is_tried_again(stage: Stage) -> None:
    hidden = stage.endpoint + ".hidden"
    os.rename(stage.endpoint, hidden)
    worker = stage.worker(HELLO_APP)
    worker.told("loaded")
    os.rename(hidden, stage.endpoint)
    stage.router().welcome()
    worker.told("ready")


# Leaving.


def drain_by_leash(stage: Stage, worker, router) -> None:  # type: ignore[no-untyped-def]
    worker.order("drain")


def drain_by_record(stage: Stage, worker, router) -> None:  # type: ignore[no-untyped-def]
    router.send(records.pack(records.DRAIN, 0, NO_WORD, 0, b""))


def drain_by_signal(stage: Stage, worker, router) -> None:  # type: ignore[no-untyped-def]
    os.kill(worker.process.pid, signal.SIGTERM)


def drain_by_the_gateways_death(stage: Stage, worker, router) -> None:  # type: ignore[no-untyped-def]
    worker.leash.close()


WAYS_TO_DRAIN = [drain_by_leash, drain_by_record, drain_by_signal, drain_by_the_gateways_death]


@pytest.mark.parametrize("drain", WAYS_TO_DRAIN)
def test_an_idle_worker_says_bye_and_leaves_on_the_answer(stage: Stage, drain) -> None:  # type: ignore[no-untyped-def]
    router, worker = stage.serving(HELLO_APP)
    drain(stage, worker, router)
    router.expect(records.BYE)
    began, moment = now(), machine.now()
    router.send(records.pack(records.BYE_ACK, 0, NO_WORD, 0, b""))
    assert worker.exit_code() == 0
    assert now() - began < machine.allowed(0.9, moment)


@pytest.mark.parametrize("drain", WAYS_TO_DRAIN)
def test_a_busy_worker_finishes_and_gives_its_deck_back(stage: Stage, drain) -> None:  # type: ignore[no-untyped-def]
    router, worker = stage.serving(
        """
        import time

        def application(environ, start_response):
            with open("diary", "a") as diary:
                diary.write(environ["PATH_INFO"] + "\\n")
            body = environ["wsgi.input"].read()
            time.sleep(0.002)  # long enough for the worker to look up before the next
            start_response("200 OK", [])
            return [body]
        """
    )
    offers = [router.offer({"PATH_INFO": f"/{n}"}, word=n, fin=n > 0) for n in range(4)]
    router.send(*(record for _, record in offers))
    router.expect(records.CREDIT)
    assert stage.board.revoke(0, 0, 2, offers[2][0]) == 3
    drain(stage, worker, router)
    # The order to leave has arrived by the time that the body has: the first request is still running.
    router.send(records.pack(records.DATA, FIN, 0, offers[0][0], b"body"))
    assert router.reply(offers[0][0]).body == b"body"
    returned = [router.expect(records.RETURN)[3] for _ in range(2)]
    assert returned == [offers[1][0], offers[3][0]]
    assert [stage.word(n) for n in range(4)] == ["FREE"] * 4
    router.expect(records.BYE)
    router.send(records.pack(records.BYE_ACK, 0, NO_WORD, 0, b""))
    assert worker.exit_code() == 0
    assert diary(stage) == ["/0"]


def test_leaves_within_a_second_of_a_bye_that_nobody_answers(stage: Stage) -> None:
    router, worker = stage.serving(HELLO_APP)
    worker.order("drain")
    router.expect(records.BYE)
    assert worker.exit_code(3) == 0


def test_leaves_at_once_while_it_waits_for_a_router(stage: Stage) -> None:
    worker = stage.worker(HELLO_APP)
    worker.told("loaded")
    worker.order("drain")
    assert worker.exit_code(3) == 0


def test_sigterm_ends_a_worker_whose_app_does_not_return(stage: Stage) -> None:
    router, worker = stage.serving(DIARY_APP, stop_timeout_s=0.3)
    stage.wait_running(router.request({"PATH_INFO": "/sleep"}))
    os.kill(worker.process.pid, signal.SIGTERM)
    assert worker.exit_code() == -signal.SIGALRM


def test_sigint_means_nothing(stage: Stage) -> None:
    router, worker = stage.serving(HELLO_APP)
    os.kill(worker.process.pid, signal.SIGINT)
    assert router.get("/x").body == b"hello /x"


# Bodies to the worker.

BODY_APP = """
    import json, hashlib

    def application(environ, start_response):
        body = environ["wsgi.input"]
        how = environ["PATH_INFO"]
        try:
            if how == "/all":
                parts = [body.read()]
            elif how == "/pieces":
                parts = list(iter(lambda: body.read(1000), b""))
            elif how == "/lines":
                parts = list(body)
            elif how == "/readline":
                parts = list(iter(body.readline, b""))
            elif how == "/readlines":
                parts = body.readlines()
            else:
                parts = []
        except OSError as error:
            with open("error", "w") as file:
                file.write(f"{type(error).__mro__[1].__name__} {error}")
            raise
        start_response("200 OK", [])
        return [json.dumps([len(parts), hashlib.sha256(b"".join(parts)).hexdigest()]).encode()]
"""


def summary(reply) -> list[object]:  # type: ignore[no-untyped-def]
    answer: list[object] = json.loads(reply.body)
    return answer


def expected(parts: list[bytes]) -> list[object]:
    import hashlib

    return [len(parts), hashlib.sha256(b"".join(parts)).hexdigest()]


LINES = b"".join(b"line %d\n" % n for n in range(3000)) + b"no end"


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/all", [LINES]),
        ("/pieces", [LINES[at : at + 1000] for at in range(0, len(LINES), 1000)]),
        ("/lines", LINES.splitlines(keepends=True)),
        ("/readline", LINES.splitlines(keepends=True)),
        ("/readlines", LINES.splitlines(keepends=True)),
    ],
)
@pytest.mark.parametrize("first", [len(LINES), 10, 0])
def test_every_way_to_read_a_body(stage: Stage, path: str, parts: list[bytes], first: int) -> None:
    router, _worker = stage.serving(BODY_APP)
    variables = {"PATH_INFO": path, "REQUEST_METHOD": "POST", "CONTENT_LENGTH": str(len(LINES))}
    whole = first == len(LINES)
    stream = router.request(variables, LINES[:first], fin=whole)
    if not whole:
        assert records.unpack_credit(router.expect(records.CREDIT)[4]) == WINDOW
        for at in range(first, len(LINES), 7001):
            router.send(
                records.pack(records.DATA, 0, NO_WORD, stream, LINES[at : min(at + 7001, len(LINES))])
            )
        router.send(records.pack(records.DATA, FIN, NO_WORD, stream, b""))
    assert summary(router.reply(stream)) == expected(parts)


def test_credit_comes_back_only_as_the_app_reads(stage: Stage) -> None:
    router, _worker = stage.serving(BODY_APP)
    body = os.urandom(3 << 20)
    first = 64 * 1024
    stream = router.request({"PATH_INFO": "/pieces", "REQUEST_METHOD": "POST"}, body[:first], fin=False)
    at, credit, grants = first, 0, []
    while at < len(body):
        if credit == 0:
            grants.append(records.unpack_credit(router.expect(records.CREDIT)[4]))
            credit += grants[-1]
        size = min(credit, 65536, len(body) - at)
        last = FIN if at + size == len(body) else 0
        router.send(records.pack(records.DATA, last, NO_WORD, stream, body[at : at + size]))
        at += size
        credit -= size
    assert grants[0] == WINDOW
    assert all(grant >= WINDOW // 2 for grant in grants[1:])
    assert sum(grants[1:]) <= len(body) - first
    reply = router.reply(stream)
    assert summary(reply) == expected([body[at : at + 1000] for at in range(0, len(body), 1000)])


def test_an_unread_body_gets_no_more_credit(stage: Stage) -> None:
    router, _worker = stage.serving(BODY_APP)
    stream = router.request({"PATH_INFO": "/none", "REQUEST_METHOD": "POST"}, b"x" * 65536, fin=False)
    assert records.unpack_credit(router.expect(records.CREDIT)[4]) == WINDOW
    reply = router.reply(stream)
    assert (reply.status, reply.records) == ("200 OK", [records.RESPONSE])
    router.send(records.pack(records.DATA, FIN, NO_WORD, stream, b"late"))
    assert router.get("/none").status == "200 OK"


def test_a_body_beyond_its_credit_is_a_link_fault(stage: Stage) -> None:
    router, worker = stage.serving(BODY_APP)
    stream = router.request({"PATH_INFO": "/all", "REQUEST_METHOD": "POST"}, b"", fin=False)
    router.expect(records.CREDIT)
    stage.wait_running(stream)
    flood = records.pack(records.DATA, 0, NO_WORD, stream, b"x" * 65536)
    router.send(flood, flood, flood, flood, flood)
    router.welcome()
    assert "more of a body than it had credit for" in worker.log()


def test_a_client_that_goes_while_its_body_is_read_is_named(stage: Stage) -> None:
    router, _worker = stage.serving(BODY_APP)
    stream = router.request({"PATH_INFO": "/all", "REQUEST_METHOD": "POST"}, b"abc", fin=False)
    router.expect(records.CREDIT)
    router.send(records.pack(records.CANCEL, 0, NO_WORD, stream, b""))
    assert router.reply(stream).status == "500 Internal Server Error"
    error = (stage.directory / "error").read_text()
    assert error == "ConnectionError the client has gone: 3 bytes of the request's body had been read"
    assert (stage.running(), router.get("/none").status) == (0, "200 OK")


def test_a_router_that_goes_while_a_body_is_read_ends_the_request(stage: Stage) -> None:
    router, _worker = stage.serving(BODY_APP)
    router.request({"PATH_INFO": "/all", "REQUEST_METHOD": "POST"}, b"abc", fin=False)
    router.expect(records.CREDIT)
    router.close()
    again = stage.router()
    again.welcome()
    assert "the link to the router was lost" in (stage.directory / "error").read_text()
    assert again.get("/none").status == "200 OK"


def test_trailers_end_a_body(stage: Stage) -> None:
    router, _worker = stage.serving(BODY_APP)
    stream = router.request({"PATH_INFO": "/all", "REQUEST_METHOD": "POST"}, b"abc", fin=False)
    router.expect(records.CREDIT)
    router.send(records.pack(records.DATA, 0, NO_WORD, stream, b"def"))
    router.send(records.pack(records.TRAILERS, FIN, NO_WORD, stream, b"x: y\r\n"))
    assert summary(router.reply(stream)) == expected([b"abcdef"])


# Bodies from the worker.

STREAM_APP = """
    import os

    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        size = int(environ["QUERY_STRING"])
        if environ["PATH_INFO"] == "/list":
            return [b"x" * size]
        return pieces(size)

    def pieces(size):
        try:
            for at in range(0, size, 10000):
                open("progress", "w").write(str(at))
                yield b"x" * min(10000, size - at)
        finally:
            open("closed", "a").write("closed\\n")
"""


@pytest.mark.parametrize("path", ["/list", "/pieces"])
@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 1 << 20])
def test_a_body_of_any_size_arrives_whole(stage: Stage, path: str, size: int) -> None:
    router, _worker = stage.serving(STREAM_APP)
    reply = router.reply(router.request({"PATH_INFO": path, "QUERY_STRING": str(size)}))
    assert (reply.status, reply.body) == ("200 OK", b"x" * size)
    if path == "/list" and size <= 65536:
        assert reply.records == [records.RESPONSE]


def drink(router, stream: int) -> int:  # type: ignore[no-untyped-def]
    """Body bytes that arrive until nothing more does."""
    taken = 0
    while (got := router.receive(0.3)) is not None:
        type, _, _, at, payload = got[1]
        assert at == stream
        taken += len(records.unpack_response(payload)[2] if type == records.RESPONSE else payload)
    return taken


@pytest.mark.parametrize("path", ["/list", "/pieces"])
def test_sends_no_more_than_its_credit(stage: Stage, path: str) -> None:
    router, _worker = stage.serving(STREAM_APP)
    stream = router.request({"PATH_INFO": path, "QUERY_STRING": str(1 << 20)})
    taken = drink(router, stream)
    # It may wait for room for a fair piece rather than send crumbs.
    assert WINDOW - 16384 < taken <= WINDOW
    router.send(records.pack_credit(stream, 100_000), records.pack_credit(0, 100_000))
    taken += drink(router, stream)
    assert WINDOW + 100_000 - 16384 < taken <= WINDOW + 100_000


def test_the_link_window_bounds_all_streams_together(stage: Stage) -> None:
    router = stage.router()
    stage.worker(STREAM_APP).told("loaded")
    router.welcome(credit=WINDOW, window=100_000)
    stream = router.request({"PATH_INFO": "/list", "QUERY_STRING": "60000"})
    assert len(router.reply(stream, credit=False).body) == 60000
    stream = router.request({"PATH_INFO": "/list", "QUERY_STRING": "60000"})
    assert drink(router, stream) == 40000
    router.send(records.pack_credit(0, 60000))
    assert drink(router, stream) == 20000


def test_a_small_piece_costs_more_than_its_bytes(stage: Stage) -> None:
    """What is queued for a client that takes nothing are records."""
    router, _worker = stage.serving(
        """
        def application(environ, start_response):
            start_response("200 OK", [])
            while True:
                yield b"x"
        """
    )
    stream = router.request()
    # The first came with the head.
    assert drink(router, stream) == 1 + (WINDOW - 1) // 128
    router.send(records.pack_credit(stream, 1280), records.pack_credit(0, 1280))
    assert drink(router, stream) == 10


def test_a_window_smaller_than_a_fair_piece_still_moves(stage: Stage) -> None:
    router = stage.router()
    stage.worker(STREAM_APP).told("loaded")
    router.welcome(credit=200, window=200)
    reply = router.reply(router.request({"PATH_INFO": "/list", "QUERY_STRING": "1000"}))
    assert reply.body == b"x" * 1000


@pytest.mark.parametrize("waiting", [True, False])
def test_a_client_that_goes_ends_a_streaming_response(stage: Stage, waiting: bool) -> None:
    router, _worker = stage.serving(STREAM_APP)
    stream = router.request({"PATH_INFO": "/pieces", "QUERY_STRING": str(1 << 30)}, word=0)
    if waiting:
        drink(router, stream)
    router.send(records.pack(records.CANCEL, 0, NO_WORD, stream, b""))
    reply = router.reply(stream)
    assert reply.aborted == "the client has gone"
    assert (stage.word(0), stage.running()) == ("FREE", 0)
    assert (stage.directory / "closed").read_text() == "closed\n"


@pytest.mark.parametrize("first", [b"", b"x"])
def test_a_client_that_goes_ends_a_response_of_empty_pieces(stage: Stage, first: bytes) -> None:
    router, _worker = stage.serving(
        f"""
        def application(environ, start_response):
            start_response("200 OK", [])
            yield {first!r}
            while True:
                yield b""
        """
    )
    stream = router.request(word=0)
    if first:
        router.expect(records.RESPONSE)
    stage.wait_running(stream)
    router.send(records.pack(records.CANCEL, 0, NO_WORD, stream, b""))
    assert router.reply(stream).aborted == "the client has gone"
    assert stage.running() == 0


def test_an_error_while_a_list_is_sent_costs_that_request_alone(stage: Stage) -> None:
    router, worker = stage.serving(
        """
        import signal

        def ring(number, frame):
            raise TimeoutError("oh no")

        signal.signal(signal.SIGUSR1, ring)

        def application(environ, start_response):
            start_response("200 OK", [])
            return [b"x" * int(environ["QUERY_STRING"] or 1)]
        """
    )
    stream = router.request({"QUERY_STRING": str(2 * WINDOW)})
    assert drink(router, stream) == WINDOW
    worker.process.send_signal(signal.SIGUSR1)
    assert router.reply(stream).aborted == "the app raised TimeoutError in the middle of its response"
    assert router.get("/next").body == b"x"


def test_a_lost_link_ends_a_streaming_response(stage: Stage) -> None:
    router, _worker = stage.serving(STREAM_APP)
    drink(router, router.request({"PATH_INFO": "/pieces", "QUERY_STRING": str(1 << 30)}))
    router.close()
    again = stage.router()
    again.welcome()
    assert (stage.directory / "closed").read_text() == "closed\n"
    again.expect_nothing()


def test_a_piece_is_not_held_back_while_the_app_makes_the_next(stage: Stage) -> None:
    router, _worker = stage.serving(
        """
        import os, time

        def application(environ, start_response):
            start_response("200 OK", [("Content-Length", "2")])
            yield b"a"
            while not os.path.exists("wake"):
                time.sleep(0.01)
            yield b"b"
        """
    )
    stream = router.request()
    assert records.unpack_response(router.expect(records.RESPONSE)[4])[2] == b"a"
    assert stage.running() == stream
    wake(stage)
    assert router.expect(records.DATA)[4] == b"b"
    _, flags, _, _, payload = router.expect(records.DATA)
    assert (flags & FIN, payload) == (FIN, b"")


def test_a_kept_input_reads_nothing_of_the_next_request(stage: Stage) -> None:
    router, worker = stage.serving(
        """
        kept = []

        def application(environ, start_response):
            write = start_response("200 OK", [])
            kept.append((environ["wsgi.input"], write))
            if len(kept) == 1:
                return [b"kept"]
            input, write = kept[0]
            write(b"to nobody" * 100_000)
            input.read()
        """
    )
    first = router.request(fin=False)
    router.expect(records.CREDIT)
    assert router.reply(first).body == b"kept"
    assert router.get("/x").status == "500 Internal Server Error"
    assert "wsgi.input was read after its request had ended" in worker.log()


def test_a_kept_write_costs_the_next_requests_no_window(stage: Stage) -> None:
    router, _worker = stage.serving(KEPT_WRITE_APP)
    for _ in range(KEPT_WRITES):
        assert router.get("/keep").body == b"kept"
    reply = router.get("/late")
    # In one record: there is window for all of it.
    assert (reply.body, reply.records) == (b"z" * 60_000, [records.RESPONSE])
    router.expect_nothing()


# Apps that fork.


def test_a_child_that_comes_back_from_the_app_sends_nothing(stage: Stage) -> None:
    router, worker = stage.serving(
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


def test_an_apps_child_process_can_be_terminated(stage: Stage) -> None:
    router, _worker = stage.serving(
        """
        import multiprocessing, time

        def application(environ, start_response):
            child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
            child.start()
            child.terminate()
            child.join(10)
            start_response("200 OK", [])
            return [str(child.exitcode).encode()]
        """
    )
    assert router.get("/x").body == b"-15"


def test_a_new_worker_frees_what_a_dead_one_had_claimed(stage: Stage) -> None:
    assert stage.board.offer(0, 0, 5, 77)
    assert stage.board.claim(0, 0, 5, 77)
    stage.board.begin(0, 0, 77)
    stage.serving(HELLO_APP)
    assert (stage.word(5), stage.running()) == ("FREE", 0)
