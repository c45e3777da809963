"""Requests that go to upstreams, through a real router, with upstreams that do as the test says."""

import asyncio
import contextlib
import os
import resource
import select
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from emperor.config.balancing import Balancing
from emperor.protocol import packet
from emperor.router import forwarding
from emperor.router.attempts import Attempt, Phase
from tests.router.backend import Backend, Peer, backends
from tests.router.client import Connection, CutShort, get, post, request
from tests.router.stage import Vassal
from tests.scenarios.harness.waiting import wait_for


@pytest.fixture
def backend() -> Iterator[Backend]:
    with backends() as (made,):
        yield made


@pytest.fixture
def web() -> Iterator[Backend]:
    with backends(protocol="http") as (made,):
        yield made


def use(vassal: Vassal, *said: Backend | str, **keys: Any) -> Vassal:
    """Have these upstreams: a backend, or one with words behind it."""
    upstreams = []
    for each in said:
        address, *words = (each.address if isinstance(each, Backend) else each).split()
        found: dict[str, Any] = {"address": address}
        for word in words:
            key, equals, value = word.partition("=")
            found[key] = int(value) if equals else True
        upstreams.append(found)
    vassal.tell(upstreams={"upstreams": upstreams, **keys}, balancing={"retries": True})
    return vassal


def until(client: Connection, mark: bytes) -> bytes:
    """All that comes up to this, and this."""
    got = b""
    while not got.endswith(mark):
        got += client.read_exactly(1)
    return got


def cut(client: Connection) -> str:
    """How the connection ends before what it has promised."""
    try:
        while True:
            client.read_exactly(1)
    except CutShort as short:
        return short.how


def upstream(vassal: Vassal, number: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = vassal.stats()["upstreams"][number]
    return found


def tries(vassal: Vassal) -> dict[str, int]:
    """Second tries, as far as there were some."""
    return {cause: count for cause, count in vassal.stats()["upstream_retries"].items() if count}


# Who gets it (`tests/router/test_upstreams.py` has the policies themselves)


def test_a_cookie_leads_to_the_same_upstream(blog: Vassal) -> None:
    with backends(2) as (one, other):
        use(blog, one, other).tell(balancing={"balance": "round-robin", "sticky": "where"})

        def ask(backend: Backend, *fields: str) -> dict[str, str]:
            client = blog.stage.http(get("blog.localhost", "/", *fields))
            backend.asked().send(b"HTTP/1.1 200 OK\r\nX-A: b\r\n\r\nhello").close()
            answer = client.response()
            assert (answer.status, answer.body, answer.headers["x-a"]) == (200, b"hello", "b")
            return answer.headers

        cookie, _, attributes = ask(one)["set-cookie"].partition("; ")
        assert (cookie.partition("=")[0], attributes) == ("where", "Path=/; HttpOnly; SameSite=Lax")
        assert ask(other)["set-cookie"].startswith("where=")  # each in turn, for those who are nobody's yet
        for _ in range(3):
            assert "set-cookie" not in ask(one, f"Cookie: a=b; {cookie}")
        one.listener.close()
        assert not ask(other, f"Cookie: {cookie}")["set-cookie"].startswith(cookie)


def test_a_field_of_the_request_leads_to_the_same_upstream(blog: Vassal) -> None:
    with backends(3) as found:
        use(blog, *found).tell(balancing={"balance": "hash", "hash_by": "header X-User"})
        for user in range(6):
            for _ in range(2):
                client = blog.stage.http(get("blog.localhost", "/", f"X-User: {user}"))
                there = select.select([each.listener for each in found], [], [], 10)[0]
                (backend,) = (each for each in found if each.listener in there)
                backend.asked().send(b"HTTP/1.1 200 OK\r\n\r\n", backend.address.encode()).close()
                assert client.response().status == 200
        asked = [upstream(blog, number)["requests"] for number in range(3)]
        assert sum(asked) == 12 and all(each % 2 == 0 for each in asked), asked


# What goes there, and what comes back


def test_a_uwsgi_upstream_gets_the_packet_and_its_answer_comes_back(blog: Vassal, backend: Backend) -> None:
    use(blog, f"{backend.address} modifier1=5 modifier2=9")
    client = blog.stage.http(get(path="/a%20b?x=1"))
    peer = backend.accept()
    variables = peer.packet()
    assert variables["modifiers"] == "5 9"
    assert variables["PATH_INFO"] == "/a b"
    assert variables["QUERY_STRING"] == "x=1"
    assert variables["HTTP_HOST"] == "blog.localhost"
    peer.send(b"HTTP/1.1 201 Created\r\nContent-Type: text/plain\r\nX-Mine: 1\r\n\r\nwhole")
    peer.close()
    answer = client.response()
    assert (answer.status, answer.body, answer.headers["x-mine"]) == (201, b"whole", "1")
    assert (answer.framing, answer.closes) == ("chunked", False)
    stats = blog.stats()
    assert stats["responses"] == {"2xx": 1}
    assert (upstream(blog)["requests"], upstream(blog)["outstanding"], stats["forwarded"]) == (1, 0, 0)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"Status: 404 Not Here\r\nContent-Type: text/plain\r\n\r\n", 404),
        (b"Content-Type: text/plain\r\n\r\n", 200),
        (b"Location: /there\r\n\r\n", 302),
    ],
)
def test_a_head_as_of_cgi(blog: Vassal, backend: Backend, head: bytes, status: int) -> None:
    use(blog, backend)
    client = blog.stage.http(get())
    peer = backend.accept()
    peer.packet()
    peer.send(head, b"body").close()
    answer = client.response()
    assert (answer.status, answer.body) == (status, b"body")
    assert "status" not in answer.headers


def test_a_request_over_uwsgi_goes_on_and_back(blog: Vassal, backend: Backend) -> None:
    use(blog, backend)
    pairs = [(b"REQUEST_METHOD", b"GET"), (b"HTTP_HOST", b"blog.localhost"), (b"PATH_INFO", b"/x")]
    client = blog.stage.uwsgi(packet.encode(pairs))
    peer = backend.accept()
    assert peer.packet()["PATH_INFO"] == "/x"
    peer.answer(b"over uwsgi")
    assert client.response().body == b"over uwsgi"
    assert peer.at_end()


def test_an_http_upstream_gets_the_request_put_anew(blog: Vassal, web: Backend) -> None:
    use(blog, web)
    fields = (
        "X-Own: 1",
        "Connection: X-Hop",
        "X-Hop: secret",
        "TE: trailers",
        "Expect: 100-continue",
        "Cookie: a=1",
        "X-Forwarded-For: 6.6.6.6",
        "X-Forwarded-Proto: https",
        "Content-Type: text/plain",
    )
    client = blog.stage.http(post(b"body", "blog.localhost", "/a%2Fb?q=%20", *fields).removesuffix(b"body"))
    peer = web.accept()
    line, found = peer.head()
    assert line == "POST /a%2Fb?q=%20 HTTP/1.1"
    assert found["host"] == "blog.localhost"
    assert found["content-length"] == "4"
    assert found["content-type"] == "text/plain"
    assert (found["x-own"], found["cookie"]) == ("1", "a=1")
    assert not {"connection", "x-hop", "te", "expect", "transfer-encoding"} & found.keys()
    assert (found["x-forwarded-for"], found["x-forwarded-proto"]) == ("127.0.0.1", "http")
    assert found["x-forwarded-host"] == "blog.localhost"
    assert found["via"].startswith("1.1 emperor-")
    client.send(b"body")
    assert peer.take(4) == b"body"
    peer.answer(b"got it")
    answer = client.response()
    assert (answer.status, answer.body, answer.interim) == (200, b"got it", [100])


def test_what_a_front_server_has_decoded_or_said_twice_is_put_anew(blog: Vassal, web: Backend) -> None:
    use(blog, web)
    pairs = {
        "REQUEST_METHOD": "POST",
        "HTTP_HOST": "blog.localhost",
        "PATH_INFO": "/a b\r\nX: 1",
        "REQUEST_URI": "/a b HTTP/1.1",
        "CONTENT_TYPE": "text/plain",
        "HTTP_CONTENT_TYPE": "text/html",
        "CONTENT_LENGTH": "4",
        "HTTP_CONTENT_LENGTH": "400",
        "HTTP_TRANSFER_ENCODING": "chunked",
    }
    client = blog.stage.uwsgi(packet.encode([(k.encode(), v.encode()) for k, v in pairs.items()]) + b"body")
    peer = web.accept()
    line, found = peer.head()
    assert line == "POST /a%20b%0D%0AX:%201 HTTP/1.1"
    assert (found["content-type"], found["content-length"]) == ("text/plain", "4")
    assert "transfer-encoding" not in found
    assert peer.take(4) == b"body"
    peer.answer()
    assert client.response().status == 200


def test_a_connection_serves_one_request_after_another(blog: Vassal, web: Backend) -> None:
    use(blog, web)
    client = blog.stage.http()
    peer: Peer | None = None
    for number in range(3):
        client.send(get(path=f"/{number}"))
        peer = peer or web.accept()
        assert peer.head()[0] == f"GET /{number} HTTP/1.1"
        peer.answer(b"%d" % number)
        assert client.response().body == b"%d" % number
    assert upstream(blog)["idle_connections"] == 1
    assert upstream(blog)["requests"] == 3


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n",
    ],
    ids=["it says close", "HTTP/1.0", "bytes behind the end"],
)
def test_a_connection_that_is_not_used_again(blog: Vassal, web: Backend, answer: bytes) -> None:
    use(blog, web)
    client = blog.stage.http(get())
    peer = web.accept()
    peer.head()
    peer.send(answer)
    assert client.response().body == b"ok"
    assert peer.at_end()
    assert upstream(blog)["idle_connections"] == 0


def test_chunked_interim_and_trailers(blog: Vassal, web: Backend) -> None:
    use(blog, web)
    client = blog.stage.http(get())
    peer = web.accept()
    peer.head()
    peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    peer.send(b"4;x=y\r\ndefg\r\n0\r\nX-Sum: 7\r\n\r\n")
    answer = client.response()
    assert (answer.body, answer.framing, answer.interim) == (b"abcdefg", "chunked", [103])
    client.send(get())
    peer.head()
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    whole = client.response()
    assert (whole.body, whole.framing) == (b"abc", "length")


@pytest.mark.parametrize(
    ("method", "answer", "status"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", 200),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\nETag: x\r\n\r\n", 304),
    ],
)
def test_an_answer_without_a_body(
    blog: Vassal, web: Backend, method: str, answer: bytes, status: int
) -> None:
    use(blog, web)
    client = blog.stage.http(request(method=method))
    peer = web.accept()
    peer.head()
    peer.send(answer)
    assert client.response(to_head=method == "HEAD").status == status
    client.send(get(path="/next"))
    assert peer.head()[0].startswith("GET /next")
    peer.answer(b"next")
    assert client.response().body == b"next"


def test_a_chunked_body_goes_on_chunked_over_http_and_whole_over_uwsgi(
    blog: Vassal, web: Backend, backend: Backend
) -> None:
    head = b"POST / HTTP/1.1\r\nHost: blog.localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    use(blog, web)
    client = blog.stage.http(head + b"3\r\nabc\r\n")
    peer = web.accept()
    assert peer.head()[1]["transfer-encoding"] == "chunked"
    assert peer.take(8) == b"3\r\nabc\r\n"  # before the rest has been sent
    client.send(b"2\r\nde\r\n0\r\n\r\n")
    assert peer.chunks() == b"de"
    peer.answer()
    assert client.response().status == 200
    use(blog, backend)
    client.send(head, b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    other = backend.accept()
    assert other.packet()["CONTENT_LENGTH"] == "5"
    assert other.take(5) == b"abcde"
    other.answer()
    assert client.response().status == 200


_ASKS = (
    b"GET /chat HTTP/1.1\r\nHost: blog.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_TAKES = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"


def open_websocket(blog: Vassal, there: Backend, *first: bytes) -> tuple[Connection, Peer]:
    client = blog.stage.http(_ASKS)
    peer = there.accept()
    if there.protocol != "uwsgi":
        found = peer.head()[1]
        assert (found["upgrade"], found["connection"]) == ("websocket", "Upgrade")
        assert found["sec-websocket-key"] == "dGhlIHNhbXBsZSBub25jZQ=="
    else:
        asked = peer.packet()
        assert (asked["HTTP_UPGRADE"], asked["HTTP_CONNECTION"]) == ("websocket", "Upgrade")
        assert asked["HTTP_SEC_WEBSOCKET_KEY"] == "dGhlIHNhbXBsZSBub25jZQ=="
    peer.send(_TAKES, *first)
    head = until(client, b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101")
    assert b"Sec-WebSocket-Accept: x" in head
    return client, peer


@pytest.mark.parametrize("protocol", ["http", "uwsgi"])
def test_a_websocket_is_passed_on_both_ways(blog: Vassal, protocol: str) -> None:
    with backends(protocol=protocol) as (there,):
        use(blog, there)
        client, peer = open_websocket(blog, there, b"first")
        assert client.read_exactly(5) == b"first"
        client.send(b"\x81\x80abcd")
        assert peer.take(6) == b"\x81\x80abcd"
        assert blog.stats()["websockets"] == 1
        # Whoever says goodbye first, his code and his reason arrive.
        peer.send(b"\x88\x05\x0f\xa1bye")
        assert client.read_exactly(7) == b"\x88\x05\x0f\xa1bye"
        client.send(b"\x88\x82\0\0\0\0\x03\xe8")
        assert peer.take(8) == b"\x88\x82\0\0\0\0\x03\xe8"
        peer.close()
        assert client.end() == "closed"
        blog.wait_stat("websockets", 0)
        client, peer = open_websocket(blog, there)
        client.close()
        assert peer.at_end()
        peer.close()
        blog.wait_stat("websockets", 0)


def test_a_websocket_without_a_byte_ends(blog: Vassal, web: Backend) -> None:
    use(blog, web, tunnel_s=0.5)
    client, peer = open_websocket(blog, web)
    assert client.end() == "closed"
    assert peer.at_end()
    stats = blog.stats()
    assert (stats["websockets"], stats["limits"]["upstream-tunnel-timeout"]["hits"]) == (0, 1)


def test_101_that_nobody_asked_for_is_502(blog: Vassal, web: Backend) -> None:
    use(blog, web)
    client = blog.stage.http(get())
    web.asked().send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")
    assert client.response().status == 502


# Upstreams that misbehave

_GARBAGE = {
    "no HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "no HTTP response"),
    "a bare LF": (b"HTTP/1.1 200 OK\nContent-Length: 0\n\n\r\n\r\n", "malformed|control"),
    "no status": (b"HTTP/1.1 OK\r\n\r\n", "malformed status line"),
    "HTTP/2": (b"HTTP/2.0 200 OK\r\n\r\n", "no HTTP response"),
    "two lengths": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "two Content-Length",
    ),
    "no length": (b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx", "no length"),
    "both framings": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Content-Length beside Transfer-Encoding",
    ),
    "another coding": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "other than chunked"),
    "a coding twice": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
        "other than chunked",
    ),
    "chunked in 1.0": (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.0"),
    "a blank in a name": (b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n", "without a proper name"),
    "a folded line": (b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n", "without a proper name"),
    "a NUL": (b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n", "control character"),
    "no end of a head": (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, "a head of more than"),
    "half a head": (b"HTTP/1.1 200 OK\r\nX: ", "half a head"),
    "nothing at all": (b"", "closed the connection before its answer"),
}


@pytest.mark.parametrize("name", _GARBAGE)
def test_an_answer_that_no_client_may_see_is_502(blog: Vassal, web: Backend, name: str) -> None:
    sent, reason = _GARBAGE[name]
    use(blog, web)
    client = blog.stage.http(get())
    peer = web.accept()
    peer.head()
    peer.send(sent)
    peer.sock.shutdown(socket.SHUT_WR)
    answer = client.response()
    assert answer.status == 502
    assert b"SSH" not in answer.body
    blog.stage.wait_log(reason)
    assert upstream(blog)["failures"] == 1
    assert peer.at_end()


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nx\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhalf\r\n0\r\n\r\n",
    ],
)
def test_an_answer_that_ends_early_never_looks_whole(blog: Vassal, web: Backend, sent: bytes) -> None:
    use(blog, web)
    client = blog.stage.http(get())
    peer = web.accept()
    peer.head()
    # The head alone first, so that it is on its way to the client.
    head, _, rest = sent.partition(b"\r\n\r\n")
    peer.send(head + b"\r\n\r\n")
    until(client, b"\r\n\r\n")
    peer.send(rest)
    peer.sock.shutdown(socket.SHUT_WR)
    assert cut(client) == "reset"
    blog.wait_stat("forwarded", 0)


def test_a_reset_in_the_middle_is_no_end(blog: Vassal, backend: Backend) -> None:
    use(blog, backend)
    client = blog.stage.http(get())
    peer = backend.accept()
    peer.packet()
    peer.send(b"HTTP/1.1 200 OK\r\n\r\npart")
    until(client, b"part")
    peer.reset()
    assert cut(client) == "reset"


def test_too_much_body_is_cut_and_the_connection_closed(blog: Vassal, backend: Backend) -> None:
    use(blog, backend)
    client = blog.stage.http(get())
    peer = backend.accept()
    peer.packet()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokand more")
    assert client.response().body == b"ok"
    assert peer.at_end()


def test_an_answer_before_the_request_is_whole(blog: Vassal, web: Backend) -> None:
    use(blog, web)
    client = blog.stage.http(post(b"x" * 1000)[:-500])
    peer = web.accept()
    peer.head()
    peer.answer(b"no", "413 Content Too Large")
    answer = client.response()
    assert (answer.status, answer.body) == (413, b"no")
    assert peer.at_end()  # it waits for a body that will not come by this connection


@pytest.mark.parametrize(
    ("keys", "option"),
    [
        ({"first_byte_s": 0.3}, "upstream-first-byte-timeout"),
        ({"total_s": 0.3}, "upstream-total-timeout"),
    ],
)
def test_one_that_never_answers_is_504(
    blog: Vassal, backend: Backend, keys: dict[str, float], option: str
) -> None:
    use(blog, backend, **keys)
    client = blog.stage.http(get())
    peer = backend.accept()
    peer.packet()
    assert client.response().status == 504
    assert peer.at_end()
    assert blog.stats()["limits"][option]["hits"] == 1
    assert upstream(blog)["failures"] == 1


def test_a_drip_does_not_extend_the_wait_for_a_head(blog: Vassal, backend: Backend) -> None:
    use(blog, backend, first_byte_s=0.5)
    client = blog.stage.http(get())
    peer = backend.accept()
    peer.packet()
    drips = iter(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000)

    def answered() -> bool:
        with contextlib.suppress(ConnectionError):
            peer.sock.sendall(bytes((next(drips),)))
        return bool(select.select([client.sock], [], [], 0)[0])

    wait_for(answered, 20, every_s=0.05)
    assert client.response().status == 504


def test_an_answer_that_stops_is_aborted(blog: Vassal, backend: Backend) -> None:
    use(blog, backend, idle_s=0.3)
    client = blog.stage.http(get())
    peer = backend.accept()
    peer.packet()
    peer.send(b"HTTP/1.1 200 OK\r\n\r\npart")
    until(client, b"part")
    assert cut(client) == "reset"
    assert peer.at_end()
    assert blog.stats()["limits"]["upstream-idle-timeout"]["hits"] == 1


def test_request_timeout_holds_for_upstreams_too(blog: Vassal, backend: Backend) -> None:
    blog.tell(request_timeout_s=0.3)
    use(blog, backend)
    client = blog.stage.http(get())
    backend.accept().packet()
    assert client.response().status == 504
    assert blog.stats()["limits"]["request-timeout"]["hits"] == 1


def test_a_client_that_leaves_takes_the_upstreams_connection_along(blog: Vassal, backend: Backend) -> None:
    use(blog, backend)
    client = blog.stage.http(get())
    peer = backend.accept()
    peer.packet()
    client.reset()
    assert peer.at_end()
    assert blog.wait_stat("cancelled", 1)["forwarded"] == 0
    assert upstream(blog)["failures"] == 0
    # And in the middle of an answer.
    client = blog.stage.http(get())
    peer = backend.accept()
    peer.packet()
    peer.send(b"HTTP/1.1 200 OK\r\n\r\npart")
    until(client, b"part")
    client.reset()
    assert peer.at_end()


@pytest.mark.parametrize("protocol", ["http", "uwsgi"])
def test_an_upstream_that_leads_back_here_is_found_out(blog: Vassal, protocol: str) -> None:
    host, port = blog.stage.http_address
    where = f"{host}:{port}" if protocol == "http" else blog.stage.uwsgi_address
    use(blog, f"{protocol}://{where}")
    answer = blog.stage.http(get(path="/circle")).response()
    assert answer.status == 508
    blog.stage.wait_log("they lead back here")
    assert upstream(blog)["requests"] == 4
    assert upstream(blog)["state"] == "in"


def test_a_via_that_came_goes_on(blog: Vassal, backend: Backend) -> None:
    use(blog, backend)
    client = blog.stage.http(get("blog.localhost", "/", "Via: 1.1 nginx"))
    peer = backend.accept()
    assert peer.packet()["HTTP_VIA"].startswith("1.1 nginx, 1.1 emperor-")
    peer.answer()
    assert client.response().status == 200


# Choosing again


def test_one_that_refuses_is_passed_over_for_any_method(blog: Vassal) -> None:
    with backends(2) as (dead, alive):
        dead.refuse()
        use(blog, dead, alive)
        for number in range(8):
            client = blog.stage.http(post(b"%d" % number))
            peer = alive.accept()
            peer.packet()
            assert peer.take(1) == b"%d" % number
            peer.answer(b"done")
            assert client.response().body == b"done"
        stats = blog.stats()
        assert stats["upstream_retries"].get("unsent", 0) == upstream(blog, 0)["failures"]
        assert stats["responses"] == {"2xx": 8}


def test_after_failures_in_a_row_it_is_left_out_and_said_to_be(blog: Vassal) -> None:
    with backends(2) as (bad, good):
        use(blog, bad, f"{good.address} backup")
        for _ in range(5):
            client = blog.stage.http(post(b"x"))
            bad.asked().close()
            assert client.response().status == 502
        blog.stage.wait_log("is left out for 30 s after failures in a row")
        assert upstream(blog, 0)["state"] == "ejected"
        client = blog.stage.http(get())
        peer = good.accept()
        peer.packet()
        peer.answer(b"backup")
        assert client.response().body == b"backup"


def test_a_get_without_an_answer_is_asked_elsewhere_once(blog: Vassal) -> None:
    with backends(3) as made:
        use(blog, made[0], f"{made[1].address} backup", f"{made[2].address} backup")
        client = blog.stage.http(get())
        first = made[0].accept()
        first.packet()
        first.close()
        made[1].listener.settimeout(0.05)
        made[2].listener.settimeout(0.05)

        def next_peer() -> Peer | None:
            for each in made[1:]:
                try:
                    return each.accept()
                except TimeoutError:
                    continue
            return None

        second = wait_for(next_peer, 10)
        assert second is not None
        second.packet()
        second.close()
        assert client.response().status == 502
        assert tries(blog) == {"repeated": 1, "no_second": 1}


def test_a_post_that_was_sent_is_not_sent_again(blog: Vassal) -> None:
    with backends(2) as (first, other):
        use(blog, first, f"{other.address} backup")
        client = blog.stage.http(post(b"once"))
        peer = first.accept()
        peer.packet()
        peer.close()
        assert client.response().status == 502
        other.expect_nobody()
        assert tries(blog) == {"not_idempotent": 1}


def test_a_kept_connection_that_is_closed_meanwhile_costs_a_get_nothing(blog: Vassal, web: Backend) -> None:
    use(blog, web)
    client = blog.stage.http(get())
    peer = web.accept()
    peer.head()
    peer.answer(b"one")
    client.response()
    with blog.stage.frozen():
        # The request is there before the end of the connection is seen: it may go into the void.
        client.send(get(path="/two"))
        peer.close()
    fresh = web.accept()
    assert fresh.head()[0] == "GET /two HTTP/1.1"
    fresh.answer(b"two")
    assert client.response().body == b"two"
    assert upstream(blog)["failures"] == 0
    # Both are there when it goes on, and now and then the kernel tells it of the end first: then there is nothing to try again.
    assert tries(blog) in ({"stale": 1}, {})


def test_a_post_goes_by_a_kept_connection_where_those_are_known_to_be_kept(
    blog: Vassal, web: Backend
) -> None:
    use(blog, web)
    client = blog.stage.http()

    def ask(sends: bytes, peer: Peer | None) -> Peer:
        client.send(sends)
        peer = peer or web.accept()
        peer.head()
        peer.answer(b"well")
        assert client.response().body == b"well"
        return peer

    first = ask(get(), None)
    second = ask(post(b""), None)  # it may be about to close the first
    ask(get(), second)
    ask(post(b""), second)
    second.close()
    wait_for(lambda: upstream(blog)["idle_connections"] == 1, 10)
    ask(post(b""), None)
    assert first.sock.fileno() >= 0


def test_one_with_as_many_connections_as_it_may_have_is_waited_for(blog: Vassal, web: Backend) -> None:
    use(blog, f"{web.address} max-connections=1".replace("max-connections", "most"))
    first = blog.stage.http(get(path="/1"))
    peer = web.asked()
    second = blog.stage.http(post(b"body"))
    wait_for(lambda: blog.stats()["queued"] == 1, 10)
    found = upstream(blog)
    assert (found["max_connections"], found["outstanding"]) == (1, 1)
    peer.answer(b"one")
    assert first.response().body == b"one"
    # It is not known to be kept, so the post goes by a new connection: instead of the idle one, and not beside it.
    assert peer.at_end()
    web.asked().answer(b"two")
    assert second.response().body == b"two"
    assert blog.stats()["queued"] == 0


def test_a_request_that_was_refused_by_one_waits_for_another_that_has_no_room(blog: Vassal) -> None:
    with backends(2) as (busy, gone):
        use(blog, f"{busy.address} most=1")
        first = blog.stage.http(get())
        peer = busy.asked()
        gone.refuse()
        use(blog, f"{busy.address} most=1", gone)
        second = blog.stage.http(get())
        wait_for(lambda: tries(blog).get("waited"), 10)
        peer.answer(b"one").close()
        assert first.response().body == b"one"
        busy.asked().answer(b"two")
        assert second.response().body == b"two"


def test_a_name_stands_for_its_addresses(blog: Vassal, web: Backend) -> None:
    use(blog, f"http://localhost:{web.port}")
    client = blog.stage.http(get())
    web.asked().answer(b"by name")
    assert client.response().body == b"by name"
    ips = {each["ip"] for each in blog.stats()["upstreams"]}
    assert "127.0.0.1" in ips
    assert ips <= {"127.0.0.1", "::1"}
    names = blog.stage.stats()["names"]
    assert (names["names"], names["unknown"]) == (1, 0)
    use(blog, f"http://nowhere.invalid:{web.port}")
    answer = blog.stage.http(get()).response()
    assert (answer.status, answer.headers["unavailable-reason"]) == (503, "upstreams")
    blog.stage.wait_log("nowhere.invalid")


def test_when_nobody_is_there_the_page_says_so(blog: Vassal, backend: Backend) -> None:
    backend.refuse()
    use(blog, backend)
    answer = blog.stage.http(get()).response()
    assert (answer.status, answer.headers["unavailable-reason"]) == (503, "upstreams")
    assert answer.headers["retry-after"] == "5"
    use(blog, backend, maintenance="<h1>Zurück um acht</h1>", maintenance_type="text/html; charset=utf-8")
    client = blog.stage.http(post(b"x" * 100))
    answer = client.response()
    assert (answer.status, answer.body.decode()) == (503, "<h1>Zurück um acht</h1>")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["retry-after"] == "5"
    client.send(request(method="HEAD"))
    assert client.response(to_head=True).body == b""
    blog.stage.wait_log(
        f"no upstream can be reached: {backend.address}: it cannot be reached: Connection refused"
    )
    backend.listen_again()
    client.send(get())
    backend.asked().answer(b"back")
    assert client.response().body == b"back"


def test_one_that_closes_before_it_is_asked_was_sent_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop may tell of the end before the task that waits for the connection goes on, and tells of it once."""
    why: list[str] = []

    async def closed(_loop: object, _address: object, link: Any, _tls: Any) -> None:
        link._transport = SimpleNamespace(is_closing=lambda: True)

    async def bring() -> None:
        core = SimpleNamespace(loop=asyncio.get_running_loop(), epoch=1)
        balancer = SimpleNamespace(options=Balancing())
        made = forwarding.Forwarding(SimpleNamespace(name="blog", core=core, balancer=balancer))  # type: ignore[arg-type]
        monkeypatch.setattr(made, "_lost", lambda _attempt, said: why.append(said))
        attempt = Attempt(None, made.upstreams.add("uwsgi://127.0.0.1:3031"), frozenset(), 0)
        await made._connect(attempt)
        assert attempt.phase is Phase.CONNECTING

    monkeypatch.setattr(forwarding, "connect", closed)
    asyncio.run(bring())
    assert why == ["it closed the connection at once"]


def test_no_connection_in_time_is_nobody(blog: Vassal) -> None:
    # A backlog that is full: the kernel drops what comes, and nobody says no.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for each in fillers:
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        use(blog, f"uwsgi://127.0.0.1:{listener.getsockname()[1]}", connect_s=0.3)
        assert blog.stage.http(get()).response().status == 503
        assert blog.stats()["limits"]["upstream-connect-timeout"]["hits"] == 1
        for each in fillers:
            each.close()


def test_a_unix_socket_and_an_abstract_one(blog: Vassal) -> None:
    path = str(blog.stage.directory / "app.sock")
    for where, address in ((path, f"uwsgi://{path}"), (f"\0{path}", f"http://@{path}")):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(where)
            listener.listen()
            listener.settimeout(10)
            use(blog, address)
            client = blog.stage.http(get())
            peer = Peer(listener.accept()[0])
            peer.packet() if address.startswith("uwsgi") else peer.head()
            peer.answer(b"unix")
            assert client.response().body == b"unix"
            peer.close()


def test_a_unix_socket_whose_queue_is_full_is_waited_for(blog: Vassal) -> None:
    path = str(blog.stage.directory / "queue.sock")
    with contextlib.ExitStack() as closing:
        listener = closing.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen(0)
        listener.settimeout(10)
        first = closing.enter_context(socket.socket(socket.AF_UNIX))
        first.connect(path)
        use(blog, f"uwsgi://{path}")
        client = blog.stage.http(post(b"once"))
        blog.wait_stat("forwarded", 1)
        listener.accept()[0].close()
        peer = Peer(listener.accept()[0])
        peer.packet()
        assert peer.take(4) == b"once"
        peer.answer(b"at last").close()
        assert client.response().body == b"at last"
        # And no longer than for any connection.
        second = closing.enter_context(socket.socket(socket.AF_UNIX))
        second.connect(path)
        use(blog, f"uwsgi://{path}", connect_s=0.2)
        answer = blog.stage.http(post(b"twice")).response()
        assert (answer.status, answer.headers["unavailable-reason"]) == (503, "upstreams")
    assert blog.stats()["limits"]["upstream-connect-timeout"]["hits"] == 1


def test_who_has_no_descriptor_left_blames_no_upstream(blog: Vassal, backend: Backend) -> None:
    use(blog, backend)
    client = blog.stage.http()
    wait_for(lambda: blog.stage.stats()["connections"], 10)
    pid = blog.stage.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    most = 1 + max(int(each) for each in os.listdir(f"/proc/{pid}/fd"))
    fillers = [client] + [blog.stage.http() for _ in range(most - len(os.listdir(f"/proc/{pid}/fd")))]
    wait_for(lambda: len(os.listdir(f"/proc/{pid}/fd")) >= most, 10)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, hard))
    try:
        client.send(get())
        assert client.response().status == 503
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    assert upstream(blog)["failures"] == 0
    for each in fillers:
        each.close()


def test_a_body_without_a_length_goes_to_no_uwsgi_upstream_that_comes_later(
    blog: Vassal, backend: Backend
) -> None:
    path = str(blog.stage.directory / "full.sock")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(path)
        listener.listen(0)
        first.connect(path)
        use(blog, f"http://{path}", connect_s=0.5)
        client = blog.stage.http(
            b"POST / HTTP/1.1\r\nHost: blog.localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        blog.wait_stat("forwarded", 1)
        use(blog, backend, connect_s=0.5)
        assert client.response().status == 503
        backend.expect_nobody()


# Health checks


def test_one_that_fails_its_checks_gets_nothing_until_it_passes(blog: Vassal, web: Backend) -> None:
    web.refuse()
    use(blog, web, health_path="/healthz?x=1", health_s=0.05)
    blog.stage.wait_log("is left out until its health check passes")
    assert upstream(blog)["state"] == "down"
    before = upstream(blog)["requests"]
    assert blog.stage.http(get()).response().status == 503
    assert upstream(blog)["requests"] == before
    web.listen_again()

    def passed() -> bool:
        peer = web.accept()
        line, fields = peer.head()
        assert (line, fields["host"]) == ("GET /healthz?x=1 HTTP/1.1", "blog.localhost")
        peer.answer(b"", "204 No Content")
        peer.close()
        return str(upstream(blog)["state"]) == "warming"

    wait_for(passed, 20)
    blog.stage.wait_log("passes its health check again")


def test_a_uwsgi_ping(blog: Vassal, backend: Backend) -> None:
    use(blog, backend, ping=True, health_s=0.05)
    for _ in range(3):
        peer = backend.accept()
        assert peer.take(4) == b"\x64\0\0\0"
        peer.send(b"\x64\0\0\x01").close()
    assert upstream(blog)["state"] == "in"
    for _ in range(3):
        peer = backend.accept()
        peer.take(4)
        peer.send(b"\x64\x02\0\x01no").close()  # a warning is not well
    blog.stage.wait_log("answers a ping with")


def test_a_check_over_uwsgi_asks_with_a_packet(blog: Vassal, backend: Backend) -> None:
    use(blog, f"{backend.address} modifier1=9", health_path="/up", health_s=0.05)
    variables = backend.accept().packet()
    assert (variables["PATH_INFO"], variables["REQUEST_METHOD"], variables["modifiers"]) == (
        "/up",
        "GET",
        "9 0",
    )


def test_one_that_could_not_be_reached_is_found_again_without_a_request(blog: Vassal, web: Backend) -> None:
    web.refuse()
    use(blog, web)
    assert blog.stage.http(get()).response().status == 503
    assert (upstream(blog)["failures_in_a_row"], upstream(blog)["reached"]) == (1, 0)
    web.listen_again()
    # What stands before a server that has gone takes a connection and ends it at once.
    web.listener.accept()[0].close()
    wait_for(lambda: upstream(blog)["last_failure"].endswith("it closes connections at once"), 20)
    assert upstream(blog)["failures_in_a_row"] == 1
    with web.listener.accept()[0] as tried:
        wait_for(lambda: upstream(blog)["failures_in_a_row"] == 0, 20)
        assert tried.recv(1) == b"", "nothing was asked"
    blog.stage.wait_log("can be reached again")
    assert upstream(blog)["requests"] == 1
    client = blog.stage.http(get())
    web.asked().answer(b"back")
    assert client.response().body == b"back"


# Large bodies, and changes


def test_a_body_that_nobody_takes_is_held_back_both_ways(blog: Vassal, backend: Backend) -> None:
    use(blog, backend)
    # Up: the upstream does not read.
    client = blog.stage.http(b"POST / HTTP/1.1\r\nHost: blog.localhost\r\nContent-Length: 200000000\r\n\r\n")
    peer = backend.accept()
    peer.packet()
    assert client.send_until_blocked(bytes(1 << 20)) < 40 << 20
    client.close()
    # Down: the client does not.
    client = blog.stage.http(get())
    peer = backend.accept()
    peer.packet()
    peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
    peer.sock.settimeout(0.3)
    sent = 0
    piece = bytes(1 << 20)
    while sent < 64 << 20:
        try:
            sent += peer.sock.send(piece)
        except TimeoutError:
            break
    assert sent < 40 << 20
    client.close()


def test_a_reload_from_workers_to_upstreams_and_back(blog: Vassal, backend: Backend) -> None:
    worker = blog.active(1).worker()
    client = blog.stage.http(get(path="/old"))
    running = worker.take(timed=False)
    use(blog, backend)
    blog.stage.tell("activate", name="blog", generation=2)
    blog.stage.tell("retire", name="blog", generation=1)
    other = blog.stage.http(get(path="/new"))
    peer = backend.accept()
    assert peer.packet()["PATH_INFO"] == "/new"
    worker.respond(running, body=b"old")
    assert client.response().body == b"old"
    # Back: what is at the upstream stays there.
    blog.tell(upstreams={"upstreams": []})
    new = blog.active(3).worker()
    third = blog.stage.http(get(path="/third"))
    new.respond(new.take(), body=b"third")
    assert third.response().body == b"third"
    peer.answer(b"new")
    assert other.response().body == b"new"


def test_paused_requests_wait_for_upstreams_too(blog: Vassal, backend: Backend) -> None:
    use(blog, backend)
    blog.tell(paused="hold")
    client = blog.stage.http(get())
    blog.wait_stat("queued", 1)
    blog.tell(paused="")
    peer = backend.accept()
    peer.packet()
    peer.answer(b"resumed")
    assert client.response().body == b"resumed"


def test_what_would_be_run_again_while_it_is_paused_is_refused(blog: Vassal) -> None:
    with backends(2) as (one, other):
        use(blog, one, f"{other.address} backup")
        client = blog.stage.http(get())
        peer = one.asked()
        blog.tell(paused="refuse")
        assert blog.stats()["forwarded"] == 1  # and it has been told
        peer.close()
        answer = client.response()
        assert (answer.status, answer.headers["unavailable-reason"]) == (503, "paused")
        assert answer.headers["retry-after"] == "30"
        other.expect_nobody()
        assert tries(blog) == {} and blog.stats()["queued"] == 0


def test_what_would_wait_again_while_it_is_paused_is_refused(blog: Vassal, backend: Backend) -> None:
    path = str(blog.stage.directory / "paused.sock")
    with contextlib.ExitStack() as closing:
        listener = closing.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen(0)
        closing.enter_context(socket.socket(socket.AF_UNIX)).connect(path)  # its queue is full
        use(blog, f"{backend.address} most=1")
        first = blog.stage.http(get())
        peer = backend.asked()
        use(blog, f"{backend.address} most=1", f"uwsgi://{path}")
        second = blog.stage.http(post(b"body"))
        blog.wait_stat("forwarded", 2)
        blog.tell(paused="refuse")
        assert blog.stats()["forwarded"] == 2
        listener.close()
        answer = second.response()
        assert (answer.status, answer.headers["unavailable-reason"]) == (503, "paused")
        peer.answer(b"finished")
        assert first.response().body == b"finished"
        assert tries(blog) == {}
        blog.tell(paused="")
        third = blog.stage.http(get())
        backend.asked().answer(b"again")
        assert third.response().body == b"again"


def test_an_app_that_goes_answers_for_what_is_under_way(blog: Vassal, backend: Backend) -> None:
    use(blog, backend)
    client = blog.stage.http(get())
    peer = backend.accept()
    peer.packet()
    blog.stage.tell("remove", name="blog")
    answer = client.response()
    assert (answer.status, answer.headers["unavailable-reason"]) == (503, "gone")
    assert peer.at_end()
