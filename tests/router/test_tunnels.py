"""A WebSocket as the router has it: a request whose answer is 101, then bytes both ways by credit, until one side ends."""

import pytest

from emperor.protocol import records
from tests.router.client import Connection, get, uwsgi
from tests.router.stage import Vassal, open_stage
from tests.router.worker import FIN, NO_WORD, FakeWorker, Request

ASK = get("blog.localhost", "/chat", "Upgrade: websocket", "Connection: Upgrade")
SWITCH = b"101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\n"


def switch(worker: FakeWorker, request: Request, head: bytes = SWITCH, credit: int = 65536) -> None:
    record = records.pack_response(records.UPGRADE, NO_WORD, request.stream, 0, head, b"")
    worker.send(record, records.pack_credit(request.stream, credit))


def opened(blog: Vassal, behind: bytes = b"") -> tuple[FakeWorker, Request, Connection]:
    worker = blog.active().worker()
    client = blog.stage.http(ASK + behind)
    request = worker.take()
    switch(worker, request)
    assert switched(client) == {"upgrade": "websocket", "connection": "Upgrade", "sec-websocket-accept": "x"}
    return worker, request, client


def switched(client: Connection) -> dict[str, str]:
    """The fields of a 101, but the request's id."""
    line, *fields = client._until(b"\r\n\r\n").decode().split("\r\n")
    assert line == "HTTP/1.1 101 Switching Protocols"
    found = dict(field.split(": ", 1) for field in fields)
    return {name.lower(): value for name, value in found.items() if name != "X-Request-ID"}


def data(worker: FakeWorker) -> tuple[bytes, bool]:
    _, flags, _, _, payload = worker.expect(records.DATA)
    return payload, bool(flags & FIN)


def test_bytes_go_both_ways_unread(blog: Vassal) -> None:
    worker, request, client = opened(blog)
    assert request.flags & records.UPGRADE and request.whole
    client.send(b"\x00GET / HTTP/1.1\r\n\r\n")
    assert data(worker) == (b"\x00GET / HTTP/1.1\r\n\r\n", False)
    worker.data(request, b"\xffanything")
    assert client.read_exactly(9) == b"\xffanything"
    found = blog.wait_stat("websockets", 1)
    assert found["websockets_opened"] == 1 and found["responses"] == {"1xx": 1}
    worker.data(request, b"last", fin=True)
    assert client.everything_to_the_end() == b"last"
    assert blog.wait_stat("websockets", 0)["running"] == 0


def test_what_came_before_the_answer_waits_for_it(blog: Vassal) -> None:
    worker = blog.active().worker()
    client = blog.stage.http(ASK + b"early")
    request = worker.take()
    client.send(b" bird")
    switch(worker, request)
    got = b""
    while got != b"early bird":
        got += data(worker)[0]
    client.close()


def test_over_uwsgi_as_well(blog: Vassal) -> None:
    """nginx passes a 101 on, and from then on bytes both ways (`ngx_http_uwsgi_module`)."""
    worker = blog.active().worker()
    ask = uwsgi(path="/chat", HTTP_UPGRADE="WebSocket", HTTP_CONNECTION="keep-alive, Upgrade")
    client = blog.stage.uwsgi(ask + b"early")
    request = worker.take()
    assert request.flags & records.UPGRADE and request.whole
    client.send(b" bird")
    switch(worker, request)
    got = b""
    while got != b"early bird":
        got += data(worker)[0]
    assert switched(client)["upgrade"] == "websocket"
    client.send_until_blocked(bytes(65536), limit_bytes=16 << 20)
    got = b""
    while len(got) < 65536 - 10:
        got += data(worker)[0]
    worker.expect_nothing()
    worker.send(records.pack_credit(request.stream, 1000))
    got = b""
    while len(got) < 1000:
        got += data(worker)[0]
    assert len(got) == 1000
    worker.expect_nothing()
    worker.data(request, b"\xfflast", fin=True)
    assert client.everything_to_the_end() == b"\xfflast"
    assert blog.wait_stat("websockets", 0)["running"] == 0


def test_over_uwsgi_the_end_of_the_clients_bytes_is_told(blog: Vassal) -> None:
    worker = blog.active().worker()
    client = blog.stage.uwsgi(uwsgi(path="/chat", HTTP_UPGRADE="websocket", HTTP_CONNECTION="upgrade"))
    request = worker.take()
    switch(worker, request)
    switched(client)
    client.half_close()
    assert data(worker) == (b"", True)
    worker.data(request, b"bye", fin=True)
    assert client.everything_to_the_end() == b"bye"


@pytest.mark.parametrize(
    "variables",
    [
        {"HTTP_UPGRADE": "websocket"},
        {"HTTP_CONNECTION": "upgrade"},
        {"HTTP_UPGRADE": "h2c", "HTTP_CONNECTION": "upgrade"},
        {"HTTP_UPGRADE": "websocket", "HTTP_CONNECTION": "upgrade", "REQUEST_METHOD": "PUT"},
        {"HTTP_UPGRADE": "websocket", "HTTP_CONNECTION": "upgrade", "SERVER_PROTOCOL": "HTTP/1.0"},
    ],
)
def test_over_uwsgi_what_is_no_handshake_is_plain_http(blog: Vassal, variables: dict[str, str]) -> None:
    worker = blog.active().worker()
    client = blog.stage.uwsgi(uwsgi(path="/chat", **variables) + b"behind")
    request = worker.take()
    assert not request.flags & records.UPGRADE
    worker.respond(request, body=b"plain")
    assert client.response().body == b"plain"


def test_an_answer_in_http_leaves_the_connection_to_http(blog: Vassal) -> None:
    worker = blog.active().worker()
    client = blog.stage.http(ASK + get(path="/next"))
    worker.respond(worker.take(), "403 Forbidden\r\nContent-Length: 0\r\n")
    assert client.response().status == 403
    again = worker.take()
    assert again.path == "/next" and not again.flags & records.UPGRADE
    worker.respond(again, body=b"as before")
    assert client.response().body == b"as before"


def test_the_worker_gets_no_more_than_its_credit(blog: Vassal) -> None:
    worker, request, client = opened(blog)
    client.send_until_blocked(bytes(65536), limit_bytes=16 << 20)
    got = 0
    while got < 65536:
        got += len(data(worker)[0])
    assert got == 65536
    worker.expect_nothing()
    worker.send(records.pack_credit(request.stream, 1000))
    assert len(data(worker)[0]) == 1000
    worker.expect_nothing()


def test_a_client_that_ends_its_half_is_told_as_the_end_of_its_bytes(blog: Vassal) -> None:
    worker, request, client = opened(blog)
    client.send(b"last")
    client.half_close()
    got, fin = data(worker)
    while not fin:
        more, fin = data(worker)
        got += more
    assert got == b"last"
    worker.data(request, b"bye", fin=True)
    assert client.everything_to_the_end() == b"bye"


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_goes_is_told_and_keeps_its_slot_until_the_worker_ends(blog: Vassal, how: str) -> None:
    worker, request, client = opened(blog)
    if how == "reset":
        client.reset()
        worker.expect_cancel(request)
    else:
        client.close()
        assert data(worker) == (b"", True)
    assert blog.stats()["websockets"] == 1
    worker.let_go(request)
    worker.send(records.pack(records.ABORT, FIN, NO_WORD, request.stream, b""))
    blog.wait_stat("websockets", 0)


def test_a_worker_that_aborts_or_goes_resets_the_connection(blog: Vassal) -> None:
    worker, request, client = opened(blog)
    worker.data(request, b"some")
    assert client.read_exactly(4) == b"some"
    worker.let_go(request)
    worker.send(records.pack(records.ABORT, FIN, NO_WORD, request.stream, b"on purpose"))
    assert client.end() == "reset"
    client = blog.stage.http(ASK)
    switch(worker, worker.take())
    switched(client)
    worker.disconnect()
    worker.connect()
    worker.join()  # which shows that its last connection is gone
    assert client.end() == "reset"


@pytest.mark.parametrize(
    "record",
    [
        # Asked for by nobody, with a body, with an end, by chute
        lambda stream: records.pack_response(records.UPGRADE, NO_WORD, stream, 0, SWITCH, b""),
        lambda stream: records.pack_response(records.UPGRADE, NO_WORD, stream, 0, SWITCH, b"x"),
        lambda stream: records.pack_response(records.UPGRADE | FIN, NO_WORD, stream, 0, SWITCH, b""),
    ],
)
def test_a_worker_that_switches_unasked_breaks_the_protocol(blog: Vassal, record) -> None:  # type: ignore[no-untyped-def]
    worker = blog.active().worker()
    unasked = record(1)[20:] == records.pack_response(records.UPGRADE, NO_WORD, 1, 0, SWITCH, b"")[20:]
    client = blog.stage.http(get() if unasked else ASK)
    request = worker.take()
    worker.send(record(request.stream))
    assert client.response().status == 502
    assert blog.wait_stat("link_faults", 1)


def test_a_router_that_leaves_has_the_worker_end_it() -> None:
    with open_stage() as stage:
        blog = stage.vassal()
        stage.open_for_business()
        worker, request, client = opened(blog)
        stage.tell("drain", timeout_s=8.0)
        kind, _, _, stream, _ = worker.expect(records.DRAIN)
        assert (kind, stream) == (records.DRAIN, request.stream)
        # One that is accepted now is told at once.
        worker.data(request, b"bye", fin=True)
        assert client.everything_to_the_end() == b"bye"
        assert stage.wait_exit() == 0


def test_a_chute_is_not_for_it(blog: Vassal) -> None:
    worker, request, client = opened(blog)
    worker.enter(request)
    assert client.end() == "reset"
    assert blog.wait_stat("link_faults", 1)


@pytest.mark.parametrize("head", [b"200 OK\r\n", b"101 Switching Protocols\r\nA: b\0\r\n", b"101x\r\n"])
def test_a_head_that_no_client_may_see_is_502(blog: Vassal, head: bytes) -> None:
    worker = blog.active().worker()
    client = blog.stage.http(ASK)
    request = worker.take()
    switch(worker, request, head)
    assert client.response().status == 502
    worker.expect_cancel(request)
    worker.let_go(request)
    worker.send(records.pack(records.ABORT, FIN, NO_WORD, request.stream, b""))
    blog.wait_stat("websockets", 0)


def test_a_client_that_takes_nothing_is_cut_off() -> None:
    with open_stage("--write-timeout=0.3") as stage:
        blog = stage.vassal()
        stage.open_for_business()
        worker, request, _ = opened(blog)
        # As far as credit goes; what the client's kernel and the router hold has gone by then.
        credit = 256 * 1024
        while True:
            while credit >= 65536:
                worker.data(request, bytes(65536))
                credit -= 65536
            got = worker.receive()
            assert got is not None
            if got[0] == records.CANCEL:
                break
            if got[0] == records.CREDIT and got[3] == request.stream:
                credit += records.unpack_credit(got[4])
        stage.wait_log("write-timeout")
