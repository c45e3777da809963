"""Listeners that are one vassal's own, that speak TLS, or that stand behind a proxy which says who its client is."""

import asyncio
import contextlib
import socket
import ssl
import subprocess
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import uvloop

from emperor.control.channel import ControlError
from emperor.protocol import packet
from emperor.router.listener import FULL_REST_S, FULL_RESTS, FULL_S, STEP, STEP_REST_S, Listener
from emperor.router.terms import Terms
from tests.router.client import Connection, CutShort, get, post, uwsgi
from tests.router.stage import Stage
from tests.router.worker import FakeWorker, Request


def listening(stage: Stage, kind: str, fds: tuple[int, ...] = (), **terms: Any) -> tuple[str, int]:
    """A TCP listener with these terms; its address."""
    sock = stage.keep(socket.socket())
    sock.bind(("127.0.0.1", 0))
    sock.listen(64)
    sock.setblocking(False)
    host, port = sock.getsockname()
    stage.tell("listen", [sock.fileno(), *fds], kind=kind, address=f"{host}:{port}", terms=terms)
    told = {"kind": kind, "address": f"{host}:{port}", "vassal": terms.get("vassal", "")}
    stage.closing.callback(lambda: stage.tell("unlisten", **told))
    return host, port


def connect(stage: Stage, address: tuple[str, int], sends: bytes = b"") -> Connection:
    return stage.keep(Connection(address)).send(sends)


# Whose it is


@pytest.mark.parametrize("kind", ["http", "uwsgi"])
def test_requests_go_to_the_vassal_whose_listener_it_is_whatever_they_say(stage: Stage, kind: str) -> None:
    stage.vassal("other", default=True).active().answering()
    worker = stage.vassal("blog").active().worker()
    address = listening(stage, kind, vassal="blog")
    for host in ("other.localhost", "nobody.test"):
        client = connect(stage, address, get(host=host) if kind == "http" else uwsgi(host))
        taken = worker.take()
        assert taken.variables["HTTP_HOST"] == host
        worker.respond(taken)
        assert client.response().status == 200


def test_a_listener_whose_vassal_is_not_known_answers_404(stage: Stage) -> None:
    stage.vassal("other", default=True)
    assert connect(stage, listening(stage, "http", vassal="gone"), get()).response().status == 404


def test_the_same_place_again_replaces_it_and_keeps_its_clients(stage: Stage) -> None:
    stage.vassal("blog").active().answering()
    sock = stage.bind("own.sock")
    keys = {"kind": "http", "address": "unix:own", "terms": {"vassal": "blog"}}
    stage.tell("listen", [sock.fileno()], **keys)
    path = str(stage.directory / "own.sock")
    before = stage.keep(Connection(path)).send(get())
    assert before.response().status == 200
    stage.tell("listen", [sock.fileno()], **keys)
    assert before.send(get()).response().status == 200
    assert stage.keep(Connection(path)).send(get()).response().status == 200
    [own] = [each for each in stage.hello()["listeners"] if each["vassal"]]
    assert (own["vassal"], own["kind"], own["bound"]) == ("blog", "http", f"unix:{path}")
    stage.tell("unlisten", kind="http", address="unix:own", vassal="blog")
    assert before.send(get()).response().status == 200


class Tidy(uvloop.Loop):
    """As from Python 3.13 on: a server that closes takes its path away, unless told not to."""

    async def create_unix_server(
        self, factory: Any, *args: Any, cleanup_socket: bool = True, **keys: Any
    ) -> Any:
        return await super().create_unix_server(factory, *args, cleanup_socket=cleanup_socket, **keys)


def test_a_socket_that_is_let_go_stays_where_the_emperor_made_it(tmp_path: Path) -> None:
    path = tmp_path / "own.sock"
    with (
        contextlib.closing(socket.socket(socket.AF_UNIX)) as sock,
        asyncio.Runner(loop_factory=Tidy) as runner,
    ):
        sock.bind(str(path))
        sock.listen()
        door: Any = SimpleNamespace(loop=runner.get_loop())
        listener = Listener(door, "http", f"unix:{path}", sock.dup())
        runner.run(listener.start())
        listener.close()
        runner.run(asyncio.sleep(0))
        assert path.exists()


def test_where_others_accept_as_well_one_comes_in_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the first to wake would have all who come at once."""
    taken: list[Any] = []
    monkeypatch.setattr(Listener, "_hold", lambda _, work: taken.append(work))
    readers: list[Any] = []
    rests: list[float] = []
    now = 100.0
    loop = SimpleNamespace(
        add_reader=lambda _, call: readers.append(call),
        remove_reader=lambda _: readers.pop(),
        call_later=lambda seconds, call: rests.append(seconds) or readers.append(call),
        time=lambda: now,
    )
    door: Any = SimpleNamespace(loop=loop)
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.socket())
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        for _ in range(2 * STEP + 1):
            stack.enter_context(socket.create_connection(sock.getsockname()))
        listener = Listener(
            door, "http", "here", sock.dup(), Terms(among=2), clients=lambda: len(taken) - gone
        )
        asyncio.run(listener.start())
        gone = 0
        for count in range(1, STEP + 1):
            readers[-1]()
            assert len(taken) == count
        assert not rests
        # Others have time to come in between; of whom this one has had before none waits.
        readers[-1]()
        assert rests == [STEP_REST_S]
        readers.pop()()
        assert len(taken) == STEP + 1
        gone = STEP
        for _ in range(STEP):
            readers[-1]()
        assert len(taken) == 2 * STEP + 1 and rests == [STEP_REST_S]
        readers[-1]()
        assert len(taken) == 2 * STEP + 1, "nobody is left"
        listener.pause()
        listener.close()
    for work in taken:
        work.cr_frame.f_locals["connection"].close()
        work.close()


def test_one_that_is_full_lets_others_have_who_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """If they have room; where all are full, whoever comes is told so, and only the first of a second waits for it."""
    taken: list[Any] = []
    monkeypatch.setattr(Listener, "_hold", lambda _, work: taken.append(work))
    rests: list[float] = []
    now = 100.0
    loop = SimpleNamespace(
        add_reader=lambda *_: None,
        remove_reader=lambda _: None,
        call_later=lambda seconds, call: rests.append(seconds) or later.append(call),
        time=lambda: now,
    )
    later: list[Any] = []
    door: Any = SimpleNamespace(loop=loop)
    full = False
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.socket())
        sock.bind(("127.0.0.1", 0))
        sock.listen()

        def comes() -> None:
            stack.enter_context(socket.create_connection(sock.getsockname()))

        listener = Listener(door, "http", "here", sock.dup(), Terms(among=2), is_full=lambda _: full)
        asyncio.run(listener.start())
        comes()
        listener._accept()
        assert (len(taken), rests) == (1, [])
        full = True
        comes()
        for turn in range(1, FULL_RESTS):
            listener._accept()
            later.pop()()
            assert (len(taken), rests) == (1, [FULL_REST_S] * turn)
        sock.accept()[0].close()  # as the other one does
        listener._go_on()
        comes()
        for _ in range(FULL_RESTS):
            listener._accept()
            later.pop()()
            assert len(taken) == 1, "the next one may have a place there as well"
        rests.clear()
        for count in (2, 3):
            listener._accept()
            assert len(taken) == count, "nobody has, for a second"
            comes()
        now += FULL_S
        listener._accept()
        assert (len(taken), rests) == (3, [FULL_REST_S])
        sock.accept()[0].close()
        listener.pause()
        listener.close()
    for work in taken:
        work.cr_frame.f_locals["connection"].close()
        work.close()


def test_terms_that_make_no_sense_are_refused(stage: Stage) -> None:
    sock = stage.bind("odd.sock")
    for terms in ({"backlog": "many"}, {"trusted": ["nowhere"]}, {"vassal": 7}, []):
        with pytest.raises(ControlError):
            stage.tell("listen", [sock.fileno()], kind="http", address="odd", terms=terms)
    with pytest.raises(ControlError, match="2 descriptors"):
        stage.tell("listen", [sock.fileno()], kind="http", address="odd", terms={"tls": True})


# uwsgi: whose word is taken

CLAIMS = {
    b"REMOTE_ADDR": b"192.0.2.66",
    b"REMOTE_PORT": b"1",
    b"HTTPS": b"on",
    b"REQUEST_SCHEME": b"https",
    b"REMOTE_USER": b"admin",
    b"AUTH_TYPE": b"Basic",
    b"SSL_CLIENT_VERIFY": b"SUCCESS",
    b"SSL_CLIENT_S_DN": b"CN=admin",
    b"HTTP_X_FORWARDED_FOR": b"192.0.2.67",
    b"HTTP_FORWARDED": b"for=192.0.2.67",
    b"HTTP_X_REAL_IP": b"192.0.2.67",
    b"SERVER_ADDR": b"192.0.2.68",
}
PLAIN = [(b"REQUEST_METHOD", b"GET"), (b"PATH_INFO", b"/"), (b"HTTP_HOST", b"blog.localhost")]


def told(stage: Stage, worker: FakeWorker, address: Any, pairs: list[tuple[bytes, bytes]]) -> Request:
    client = stage.keep(Connection(address)).send(packet.encode(pairs))
    taken = worker.take()
    worker.respond(taken)
    client.response()
    return taken


def test_who_the_client_is_is_believed_from_trusted_front_servers_only(stage: Stage) -> None:
    worker = stage.vassal("blog").active().worker()
    pairs = [*PLAIN, *CLAIMS.items()]
    trusted = listening(stage, "uwsgi", trusted=["127.0.0.0/8"])
    stranger = listening(stage, "uwsgi")
    for address in (trusted, stage.uwsgi_address):
        seen = told(stage, worker, address, pairs).variables
        assert {key: seen.get(key.decode()) for key in CLAIMS} == {
            key: value.decode() for key, value in CLAIMS.items()
        }
    seen = told(stage, worker, stranger, pairs).variables
    left = {key: seen[key.decode()] for key in CLAIMS if key.decode() in seen}
    assert left.keys() == {b"REMOTE_ADDR", b"REMOTE_PORT"}
    assert left[b"REMOTE_ADDR"] == "127.0.0.1"
    assert left[b"REMOTE_PORT"] != "1"


@pytest.mark.parametrize("proxied", [False, True], ids=["accepted by the loop", "by us"])
@pytest.mark.parametrize("kind", ["uwsgi", "http"])
def test_whoever_comes_over_an_abstract_socket_is_not_unix(stage: Stage, kind: str, proxied: bool) -> None:
    """It has no permissions: anybody on the machine can open it."""
    worker = stage.vassal("blog").active().worker()
    for listed, abstract, believed in (("unix", False, 1), ("unix", True, 0), ("abstract", True, 1)):
        sock = stage.keep(socket.socket(socket.AF_UNIX))
        path = f"{stage.directory}/{uuid4().hex[:8]}.sock"
        sock.bind(f"\0{path}" if abstract else path)
        sock.listen()
        terms = {"vassal": "blog", "trusted": [listed], "forwarded": [listed]}
        # A listener that may have proxies accepts by our own code.
        terms["proxies"] = ["192.0.2.0/24"] if proxied else []
        place = {"kind": kind, "address": f"{listed} {abstract}"}
        stage.tell("listen", [sock.fileno()], **place, terms=terms)
        client = stage.keep(Connection(f"\0{path}" if abstract else path))
        if kind == "uwsgi":
            client.send(packet.encode([*PLAIN, (b"REMOTE_ADDR", b"192.0.2.66")]))
        else:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.66\r\n\r\n")
        taken = worker.take()
        assert taken.variables["REMOTE_ADDR"] == ("192.0.2.66" if believed else ""), (listed, abstract)
        worker.respond(taken)
        assert client.response().status == 200
        stage.tell("unlisten", **place, vassal="blog")


def test_the_routing_key_of_a_trusted_front_server_beats_the_host(stage: Stage) -> None:
    blog = stage.vassal("blog").active().worker()
    other = stage.vassal("other").active().worker()
    pairs = [*PLAIN, (b"UWSGI_FASTROUTER_KEY", b"Other.localhost:80")]
    seen = told(stage, other, stage.uwsgi_address, pairs).variables
    assert seen["HTTP_HOST"] == "blog.localhost"
    assert "UWSGI_FASTROUTER_KEY" not in seen
    assert "UWSGI_FASTROUTER_KEY" not in told(stage, blog, listening(stage, "uwsgi"), pairs).variables


def test_a_routing_key_that_is_no_host_is_400(stage: Stage) -> None:
    client = stage.uwsgi(packet.encode([*PLAIN, (b"UWSGI_FASTROUTER_KEY", b"a/b")]))
    assert client.response().status == 400


def test_the_order_is_key_host_server_name(stage: Stage) -> None:
    blog = stage.vassal("blog").active().worker()
    name = [PLAIN[0], PLAIN[1], (b"SERVER_NAME", b"blog.localhost")]
    told(stage, blog, stage.uwsgi_address, name)
    told(stage, blog, stage.uwsgi_address, [*PLAIN, (b"SERVER_NAME", b"other.localhost")])


# Pings and other modifiers


def test_a_ping_is_answered_without_a_worker(stage: Stage) -> None:
    client = stage.uwsgi(b"\x64\0\0\0")
    assert client.everything_to_the_end() == b"\x64\0\0\1"


def test_a_ping_on_a_vassals_own_listener_tells_whether_it_takes_requests(stage: Stage) -> None:
    blog = stage.vassal("blog")
    address = listening(stage, "uwsgi", vassal="blog")
    assert connect(stage, address, b"\x64\0\0\0").everything_to_the_end() == b"\x64\0\0\1"
    blog.tell(available=False)
    assert connect(stage, address, b"\x64\0\0\0").everything_to_the_end() == b"\x64\x0b\0\1unavailable"
    assert (
        connect(stage, listening(stage, "uwsgi", vassal="gone"), b"\x64\0\0\0").everything_to_the_end()[3:]
        != b"\1"
    )


def test_a_ping_waits_for_what_its_header_promises(stage: Stage) -> None:
    client = stage.uwsgi(b"\x64\3\0\0ab")
    client.send(b"c")
    assert client.everything_to_the_end() == b"\x64\0\0\1"


@pytest.mark.parametrize("modifier", range(256))
def test_every_other_modifier_is_refused_with_a_line_for_the_log(stage: Stage, modifier: int) -> None:
    if modifier in (0, 100):
        return
    # Those that spell a word of another protocol are closed without an answer; these bytes spell none.
    client = stage.uwsgi(bytes((modifier, 0, 0, 0)))
    assert client.response().status == 501
    assert client.end() == "closed"
    assert stage.wait_log(rf"501: modifier1 {modifier}( \(.*\))? is not served")


# The PROXY protocol

V1 = b"PROXY TCP4 203.0.113.7 198.51.100.2 4711 443\r\n"
V2 = (
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x14" + bytes((203, 0, 113, 7, 198, 51, 100, 2)) + b"\x12\x67\x01\xbb"
    b"\x20\0\5\1\0\0\0\0"
)
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"


@pytest.mark.parametrize(("head", "scheme"), [(V1, "http"), (V2, "https")], ids=["1", "2"])
def test_the_client_is_who_the_proxy_says(stage: Stage, head: bytes, scheme: str) -> None:
    worker = stage.vassal("blog").active().worker()
    client = connect(stage, listening(stage, "http", proxies=["127.0.0.1"]))
    for byte in head:
        client.send(bytes((byte,)))
    client.send(get() + get())
    for _ in range(2):
        taken = worker.take()
        seen = taken.variables
        assert (seen["REMOTE_ADDR"], seen["REMOTE_PORT"]) == ("203.0.113.7", "4711")
        assert (seen["SERVER_NAME"], seen["SERVER_PORT"]) == ("198.51.100.2", "443")
        assert (seen["REQUEST_SCHEME"], seen.get("HTTPS")) == (scheme, "on" if scheme == "https" else None)
        worker.respond(taken)
        assert client.response().status == 200


@pytest.mark.parametrize("head", [V1, V2], ids=["1", "2"])
def test_who_sends_no_more_is_answered_behind_a_proxy_too(stage: Stage, head: bytes) -> None:
    """It was its client who spoke TLS, to the proxy: this connection can be closed by halves."""
    worker = stage.vassal("blog").active().worker()
    client = connect(stage, listening(stage, "http", proxies=["127.0.0.1"]), head + get())
    taken = worker.take()
    client.half_close()
    worker.expect_nothing(0.05)
    worker.respond(taken, body=b"here")
    assert client.response().body == b"here"
    assert client.end() == "closed"


def test_a_body_in_the_same_packet_as_the_header_arrives_whole(stage: Stage) -> None:
    stage.vassal("blog").active().answering()
    address = listening(stage, "http", proxies=["127.0.0.1"])
    assert connect(stage, address, V1 + post(b"x" * 100_000)).response().body == b"POST / 100000"


def test_the_proxys_own_connection_is_its_own(stage: Stage) -> None:
    worker = stage.vassal("blog").active().worker()
    address = listening(stage, "http", proxies=["127.0.0.1"])
    for head in (LOCAL, b"PROXY UNKNOWN\r\n"):
        client = connect(stage, address, head + get())
        taken = worker.take()
        assert taken.variables["REMOTE_ADDR"] == "127.0.0.1"
        worker.respond(taken)
        assert client.response().status == 200


@pytest.mark.parametrize("sends", [get(), b"\x16\x03\x01\x02\0\1", b"PROXY TCP4 a b c d\r\n"])
def test_a_proxy_without_its_header_is_closed_and_the_log_says_why(stage: Stage, sends: bytes) -> None:
    client = connect(stage, listening(stage, "http", proxies=["127.0.0.1"]), sends)
    assert client.end() in ("closed", "reset")
    assert stage.wait_log("PROXY (header|line).*; closed")


@pytest.mark.parametrize("kind", ["http", "uwsgi"])
@pytest.mark.parametrize("head", [V1, V2], ids=["1", "2"])
def test_from_others_a_proxy_header_is_no_request(stage: Stage, kind: str, head: bytes) -> None:
    address = listening(stage, kind, proxies=["192.0.2.1"])
    client = connect(stage, address, head + (get() if kind == "http" else uwsgi()))
    if kind == "http":
        assert client.response().status == 400
    else:
        assert client.end() in ("closed", "reset")
        assert stage.wait_log("a PROXY header, from an address that proxy-protocol does not name")


def test_forwarded_fields_count_from_the_address_that_the_header_names(stage: Stage) -> None:
    worker = stage.vassal("blog").active().worker()
    terms = {"proxies": ["127.0.0.1"], "forwarded": ["203.0.113.7"]}
    address = listening(stage, "http", **terms)
    connect(stage, address, V1 + get("blog.localhost", "/", "X-Forwarded-For: 192.0.2.9"))
    assert worker.take().variables["REMOTE_ADDR"] == "192.0.2.9"


def test_a_header_that_drips_is_closed_in_time(short: Stage) -> None:
    with short.scene():
        client = connect(short, listening(short, "http", proxies=["127.0.0.1"]))
        client.send(V1[:10])
        assert client.end() in ("closed", "reset")
        assert short.wait_log("no whole PROXY header within 0.3 s")


# TLS


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for localhost, in one file."""
    directory = tmp_path_factory.mktemp("tls")
    subprocess.run(
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost "
        f"-addext subjectAltName=DNS:localhost -keyout {directory}/key -out {directory}/crt".split(),
        check=True,
        capture_output=True,
    )  # fmt: skip
    both = directory / "both.pem"
    both.write_bytes((directory / "key").read_bytes() + (directory / "crt").read_bytes())
    return both


class Tls(Connection):
    """A client that speaks TLS, after what it sends in the clear."""

    def __init__(self, address: tuple[str, int], pem: Path, first: bytes = b"", **limits: Any) -> None:
        super().__init__(address)
        context = ssl.create_default_context(cafile=str(pem))
        for key, value in limits.items():
            setattr(context, key, value)
        self.sock.sendall(first)
        self.sock = context.wrap_socket(self.sock, server_hostname="localhost")


def secure(stage: Stage, kind: str, pem: Path, **terms: Any) -> tuple[str, int]:
    with pem.open("rb") as file:
        return listening(stage, kind, (file.fileno(),), tls=True, **terms)


@pytest.mark.parametrize("proxied", [False, True])
def test_https(stage: Stage, pem: Path, proxied: bool) -> None:
    worker = stage.vassal("blog").active().worker()
    address = secure(stage, "http", pem, proxies=["127.0.0.1"] if proxied else [])
    client = stage.keep(Tls(address, pem, V1 if proxied else b""))
    for _ in range(2):
        client.send(get())
        taken = worker.take()
        seen = taken.variables
        assert (seen["REQUEST_SCHEME"], seen["HTTPS"]) == ("https", "on")
        assert seen["REMOTE_ADDR"] == ("203.0.113.7" if proxied else "127.0.0.1")
        worker.respond(taken)
        assert client.response().status == 200


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
def test_bodies_over_tls_both_ways(stage: Stage, pem: Path, size: int) -> None:
    def answer(worker: FakeWorker, request: Request) -> None:
        body = request.body + worker.rest_of_body(request)
        worker.respond(request, body=body if len(body) < 500_000 else sha256(body).digest())

    stage.vassal("blog").active().answering(answer)
    client = stage.keep(Tls(secure(stage, "http", pem), pem))
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    client.send(post(body))
    assert client.response().body == (body if size < 500_000 else sha256(body).digest())


def test_uwsgi_over_tls(stage: Stage, pem: Path) -> None:
    worker = stage.vassal("blog").active().worker()
    client = stage.keep(Tls(secure(stage, "uwsgi", pem), pem))
    client.send(uwsgi(HTTPS="on"))
    taken = worker.take()
    assert "HTTPS" not in taken.variables  # TLS says nothing of who is at the other end
    worker.respond(taken)
    assert client.response().status == 200
    assert client.end() == "closed"


def test_tls_before_1_2_is_refused(stage: Stage, pem: Path) -> None:
    address = secure(stage, "http", pem)
    with pytest.raises((ssl.SSLError, OSError)), pytest.warns(DeprecationWarning, match="TLS"):
        Tls(address, pem, minimum_version=ssl.TLSVersion.TLSv1, maximum_version=ssl.TLSVersion.TLSv1_1)
    stage.vassal("blog").active().answering()
    assert stage.keep(Tls(address, pem)).send(get()).response().status == 200


def test_a_response_that_is_cut_off_does_not_look_whole_over_tls(stage: Stage, pem: Path) -> None:
    worker = stage.vassal("blog").active().worker()
    client = stage.keep(Tls(secure(stage, "http", pem), pem)).send(get())
    taken = worker.take()
    worker.respond(taken, "200 OK\r\nContent-Length: 8\r\n", b"half")
    with pytest.raises((CutShort, ssl.SSLError)):
        client.response()


def test_a_handshake_that_does_not_come_is_cut_off(short: Stage, pem: Path) -> None:
    with short.scene():
        client = connect(short, secure(short, "http", pem))
        assert client.end() in ("closed", "reset")


def test_a_certificate_that_is_none_is_refused_with_its_reason(stage: Stage, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("-----BEGIN NOTHING-----\n")
    sock = stage.bind("tls.sock")
    with wrong.open("rb") as file, pytest.raises(ControlError, match="the certificate cannot be used"):
        stage.tell("listen", [sock.fileno(), file.fileno()], kind="http", address="tls", terms={"tls": True})
