"""Requests that go to upstreams over TLS, through a real router, to servers with certificates of every kind."""

import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emperor.config.upstreams import Address, Upstreams
from emperor.router.upstream_tls import Tls, context_of
from tests.router.authority import HOUR, Authority
from tests.router.backend import TIMEOUT_S, Backend, Peer
from tests.router.client import CutShort, get, post
from tests.router.stage import Vassal
from tests.router.test_forwarding import cut, open_websocket, tries, until, upstream, use
from tests.scenarios.harness.waiting import wait_for


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


class Secure(Backend):
    """A backend that speaks TLS, by this context; without one it does whatever the test does with the bare socket."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        super().__init__("https")
        self.context = context
        self.failures: list[Exception] = []

    def accept(self) -> Peer:
        sock, _ = self.listener.accept()
        sock.settimeout(TIMEOUT_S)
        if self.context is not None:
            try:
                sock = self.context.wrap_socket(sock, server_side=True)
            except OSError as error:
                self.failures.append(error)
                sock.close()
                raise
        self.peers.append(Peer(sock))
        return self.peers[-1]


@contextlib.contextmanager
def secure(context: ssl.SSLContext | None) -> Iterator[Secure]:
    made = Secure(context)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def there(authority: Authority) -> Iterator[Secure]:
    """One that is as it should be."""
    with secure(authority.server("127.0.0.1", "app.internal")) as made:
        yield made


def farewell(peer: Peer) -> None:
    """TLS's own end, which is answered if the router has not gone yet."""
    assert isinstance(peer.sock, ssl.SSLSocket)
    with contextlib.suppress(OSError, ssl.SSLError):
        peer.sock.unwrap()
    peer.close()


def test_requests_go_by_one_connection_that_is_kept(
    blog: Vassal, there: Secure, authority: Authority
) -> None:
    use(blog, there, ca=authority.pem)
    client = blog.stage.http(get(path="/a?b=1"))
    peer = there.accept()
    line, fields = peer.head()
    assert (line, fields["host"]) == ("GET /a?b=1 HTTP/1.1", "blog.localhost")
    peer.answer(b"one")
    assert client.response().body == b"one"
    assert isinstance(peer.sock, ssl.SSLSocket)
    assert peer.sock.version() in ("TLSv1.2", "TLSv1.3")
    client.send(get())
    peer.head()
    peer.answer()
    assert client.response().status == 200
    for size in (10, 70_000, 1_000_000):
        body = b"x" * size
        client.send(post(body))
        _, fields = peer.head()
        assert fields["content-length"] == str(size) and peer.take(size) == body
        peer.answer(body)
        assert client.response().body == body
    found = upstream(blog)
    assert (found["requests"], found["idle_connections"], found["failures"]) == (5, 1, 0)
    assert found["address"] == f"https://127.0.0.1:{there.port}"
    # It says goodbye while nobody uses it: the next request makes another.
    farewell(peer)
    wait_for(lambda: upstream(blog)["idle_connections"] == 0, TIMEOUT_S)
    client.send(get())
    there.asked().answer(b"two")
    assert client.response().body == b"two"


def test_a_websocket_goes_through(blog: Vassal, there: Secure, authority: Authority) -> None:
    use(blog, there, ca=authority.pem)
    client, peer = open_websocket(blog, there)
    peer.send(b"\x81\x02hi")
    assert client.read_exactly(4) == b"\x81\x02hi"
    client.send(b"\x81\x80abcd")
    assert peer.take(6) == b"\x81\x80abcd"
    client.close()
    assert peer.at_end()
    peer.close()
    blog.wait_stat("websockets", 0)


BAD: dict[str, tuple[dict[str, Any], tuple[str, ...], str]] = {
    "expired": ({"since": -48 * HOUR, "until": -HOUR}, ("127.0.0.1",), "has expired: renew it there"),
    "not valid yet": ({"since": HOUR}, ("127.0.0.1",), "is not valid yet"),
    "of another name": ({}, ("app.internal",), "its certificate is not of 127.0.0.1: set upstream-name"),
}


@pytest.mark.parametrize(("dates", "names", "said"), BAD.values(), ids=BAD)
def test_a_certificate_that_is_not_right(
    blog: Vassal, authority: Authority, dates: dict[str, Any], names: tuple[str, ...], said: str
) -> None:
    with secure(authority.server(*names, **dates)) as there:
        use(blog, there, ca=authority.pem)
        client = blog.stage.http(post(b"secret"))
        with contextlib.suppress(OSError):  # what it sees of it is up to the version of TLS
            assert there.accept().at_end()
        answer = client.response()
        assert (answer.status, answer.headers["unavailable-reason"]) == (503, "upstreams")
        assert said in upstream(blog)["last_failure"]
        assert tries(blog) == {"unsent": 1, "nobody": 1}


def test_one_whom_nobody_vouches_for(blog: Vassal, there: Secure, tmp_path: Path) -> None:
    """By whom the system trusts, and by a CA of another house."""
    for ca in ("", Authority(tmp_path, "another").pem):
        use(blog, there, ca=ca)
        client = blog.stage.http(get())
        with contextlib.suppress(OSError):
            assert there.accept().at_end()
        assert client.response().status == 503
        assert "vouches for its certificate" in upstream(blog)["last_failure"]
        assert "upstream-ca" in upstream(blog)["last_failure"]


def test_the_name_that_it_is_to_have_is_asked_for_too(blog: Vassal, authority: Authority) -> None:
    context = authority.server("app.internal")
    asked: list[str | None] = []
    context.sni_callback = lambda _sock, name, _context: asked.append(name)
    with secure(context) as there:
        use(blog, there, ca=authority.pem, tls_name="app.internal")
        client = blog.stage.http(get())
        there.asked().answer()
        assert client.response().status == 200
        assert asked == ["app.internal"]
        # Another name: the connection that is kept was to somebody else.
        use(blog, there, ca=authority.pem, tls_name="other.internal")
        client = blog.stage.http(get())
        with contextlib.suppress(OSError):
            assert there.accept().at_end()
        assert client.response().status == 503
        assert "is not of other.internal" in upstream(blog)["last_failure"]


def test_without_verification_anybody_will_do(blog: Vassal, tmp_path: Path) -> None:
    with secure(Authority(tmp_path).server("nobody", until=-HOUR, since=-2 * HOUR)) as there:
        use(blog, there, verify=False)
        client = blog.stage.http(get())
        there.asked().answer()
        assert client.response().status == 200


def test_a_certificate_of_ours(blog: Vassal, authority: Authority, tmp_path: Path) -> None:
    context = authority.server("127.0.0.1")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=authority.pem)
    with secure(context) as there:
        use(blog, there, ca=authority.pem, cert=authority.certificate("router"))
        client = blog.stage.http(get())
        peer = there.asked().answer()
        assert client.response().status == 200
        assert isinstance(peer.sock, ssl.SSLSocket)
        shown = peer.sock.getpeercert()
        assert shown is not None and shown["subjectAltName"] == (("DNS", "router"),)
        for cert, said in (
            ("", "it wants a certificate of ours: name one in upstream-cert"),
            (Authority(tmp_path, "x").certificate("router"), "it refuses our certificate (upstream-cert): "),
        ):
            use(blog, there, ca=authority.pem, cert=cert)
            client = blog.stage.http(post(b"x"))
            with contextlib.suppress(OSError):
                there.accept().at_end()
            assert there.failures
            # TLS 1.3 says so only once the request may have gone.
            assert client.response().status in (502, 503)
            assert said in upstream(blog)["last_failure"]


def test_keys_that_cannot_be_used_are_named(blog: Vassal, there: Secure, authority: Authority) -> None:
    key = authority.certificate("a").partition("-----BEGIN CERTIFICATE")[0]
    chain = "-----BEGIN CERTIFICATE" + authority.certificate("b").partition("-----BEGIN CERTIFICATE")[2]
    for keys, said in (
        (
            {"ca": authority.pem, "cert": key + chain},
            "upstream-cert, or its key, cannot be used: key values mismatch",
        ),
        ({"ca": "-----BEGIN CERTIFICATE-----\nx\n"}, "upstream-ca cannot be used: "),
    ):
        use(blog, there, **keys)
        assert blog.stage.http(get()).response().status == 503
        assert said in upstream(blog)["last_failure"]
    # Mended, it is used at once.
    use(blog, there, ca=authority.pem)
    client = blog.stage.http(get())
    there.asked().answer()
    assert client.response().status == 200


def test_one_that_speaks_no_tls_says_so(blog: Vassal, authority: Authority) -> None:
    with secure(None) as there:
        use(blog, there, ca=authority.pem)
        client = blog.stage.http(get())
        there.accept().send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        assert client.response().status == 503
        assert "it does not speak TLS there: write http:// if that is meant" in upstream(blog)["last_failure"]
        client = blog.stage.http(get())
        there.accept().close()
        assert client.response().status == 503
        assert (
            "it closed the connection" in upstream(blog)["last_failure"]
            or "reset" in upstream(blog)["last_failure"]
        )


def test_a_handshake_that_stalls_is_no_connection(blog: Vassal, authority: Authority) -> None:
    with secure(None) as there:
        use(blog, there, ca=authority.pem, connect_s=0.3)
        client = blog.stage.http(get())
        peer = there.accept()
        assert client.response().status == 503
        assert blog.stats()["limits"]["upstream-connect-timeout"]["hits"] == 1
        assert "no connection, with its TLS handshake, within 0.3 s" in upstream(blog)["last_failure"]
        peer.take(1)
        assert peer.at_end()


def test_another_is_asked_where_the_handshake_fails(
    blog: Vassal, there: Secure, authority: Authority
) -> None:
    """Nothing was sent, so whatever the request is."""
    with secure(authority.server("127.0.0.1", since=-2 * HOUR, until=-HOUR)) as ill:
        use(blog, ill, f"{there.address} backup", ca=authority.pem)
        client = blog.stage.http(post(b"x"))
        with contextlib.suppress(OSError):
            assert ill.accept().at_end()
        there.asked().answer(b"from the backup")
        assert client.response().body == b"from the backup"


# The end of a response


def test_what_ends_with_its_connection_ends_with_a_farewell(
    blog: Vassal, there: Secure, authority: Authority
) -> None:
    use(blog, there, ca=authority.pem)
    client = blog.stage.http(get())
    farewell(there.asked().send(b"HTTP/1.1 200 OK\r\n\r\nwhole"))
    assert client.response().body == b"whole"
    assert upstream(blog)["failures"] == 0


def test_without_one_it_was_cut_off(blog: Vassal, there: Secure, authority: Authority) -> None:
    use(blog, there, ca=authority.pem)
    client = blog.stage.http(get())
    peer = there.asked().send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
    until(client, b"half")
    peer.close()
    assert cut(client) in ("closed", "reset")
    wait_for(lambda: upstream(blog)["failures"] == 1, TIMEOUT_S)
    assert "close_notify" in upstream(blog)["last_failure"]


def test_a_large_one_that_is_not_read_yet_is_cut_off_too(
    blog: Vassal, there: Secure, authority: Authority
) -> None:
    """Its end is met while the router holds back what the client has not taken."""
    use(blog, there, ca=authority.pem)
    client = blog.stage.http(get())
    body = b"x" * 300_000
    there.asked().send(b"HTTP/1.1 200 OK\r\n\r\n", body).close()
    with pytest.raises(CutShort):
        client.response()


def test_one_with_a_length_is_whole_by_its_length(blog: Vassal, there: Secure, authority: Authority) -> None:
    use(blog, there, ca=authority.pem)
    client = blog.stage.http(get())
    there.asked().answer(b"whole").close()
    assert client.response().body == b"whole"
    client = blog.stage.http(get())
    there.asked().send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").close()
    with pytest.raises(CutShort):
        client.response()


def test_a_kept_one_that_ends_as_the_request_comes_costs_a_get_nothing(
    blog: Vassal, there: Secure, authority: Authority
) -> None:
    use(blog, there, ca=authority.pem)
    client = blog.stage.http(get())
    peer = there.asked().answer()
    assert client.response().status == 200
    client.send(get(path="/again"))
    peer.head()
    peer.close()  # without a farewell, and without a byte
    there.asked().answer(b"again")
    assert client.response().body == b"again"
    assert upstream(blog)["failures"] == 0
    assert tries(blog) == {"stale": 1}


def test_health_checks_go_over_tls(blog: Vassal, there: Secure, authority: Authority) -> None:
    use(blog, there, ca=authority.pem, health_path="/up", health_s=0.05)
    line, fields = there.accept().head()
    assert (line, fields["host"]) == ("GET /up HTTP/1.1", "blog.localhost")
    use(blog, there, ca="", health_path="/up", health_s=0.5)

    def failed() -> bool:
        there.listener.settimeout(0.1)
        with contextlib.suppress(OSError):
            there.accept().at_end()
        return "health check: nobody who is trusted here vouches for" in str(upstream(blog)["last_failure"])

    wait_for(failed, 20)


# Alone


def test_no_context_is_made_twice_and_none_trusts_what_it_need_not() -> None:
    assert context_of("", "", True).verify_mode is ssl.CERT_REQUIRED
    assert context_of("", "", True).check_hostname
    made = context_of("", "", False)
    assert (made.verify_mode, made.check_hostname) == (ssl.CERT_NONE, False)


def test_what_went_wrong_in_words() -> None:
    tls, plain, secured = Tls(), Address.parse("http://h"), Address.parse("https://h")
    assert tls.fault(ConnectionRefusedError(111, "Connection refused"), plain) == "Connection refused"
    assert tls.fault(ConnectionRefusedError(111, "Connection refused"), secured) == "Connection refused"
    assert "in the TLS handshake" in tls.fault(ConnectionResetError(), secured)
    for reason, said in (
        ("TLSV1_ALERT_PROTOCOL_VERSION", "no TLS from 1.2 on"),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", "it may want a certificate of ours"),
        ("TLSV1_UNRECOGNIZED_NAME", "set upstream-name"),
        ("TLSV1_ALERT_INTERNAL_ERROR", "TLS: tlsv1 alert internal error"),
    ):
        error = ssl.SSLError(1, f"[SSL: {reason}] said otherwise")
        error.reason = reason
        assert said in tls.fault(error, secured)
    assert not tls.use(Upstreams())
    assert tls.use(Upstreams(tls_name="a.internal")) and tls.name_of(secured) == "a.internal"
    assert tls.name_of(secured) == "a.internal"


def test_an_address_that_speaks_no_tls_needs_nothing() -> None:
    with pytest.raises(StopIteration) as told:
        Tls().keys(Address.parse("http://h")).send(None)
    assert told.value.value == {}
