"""Variables of a uwsgi packet: rows of docs/specs/uwsgi.md that need no listener of their own."""

import pytest

from emperor.protocol import packet
from emperor.protocol.errors import PacketError
from tests.router.client import uwsgi
from tests.router.stage import Vassal

PLAIN = [(b"REQUEST_METHOD", b"GET"), (b"PATH_INFO", b"/"), (b"HTTP_HOST", b"a.example")]


@pytest.mark.parametrize(
    "key",
    [
        *("REQUEST_URI", "QUERY_STRING", "CONTENT_TYPE", "SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL"),
        *("REMOTE_ADDR", "REMOTE_PORT", "REMOTE_USER", "REQUEST_SCHEME", "HTTP_X_ANY"),
    ],
)
@pytest.mark.parametrize("value", [b"a\r\nb", b"a\nb", b"a\0b", b"a\x1bb", b"a\x7fb"])
def test_control_characters_of_variables_of_one_line(key: str, value: bytes) -> None:
    with pytest.raises(PacketError, match=f"a control character in b'{key}'"):
        packet.admit(packet.encode([*PLAIN, (key.encode(), value)]))


def test_a_variable_that_is_dropped_may_hold_what_it_likes() -> None:
    sent = packet.encode([*PLAIN, (b"REMOTE_USER", b"a\nb")])
    head = packet.admit(sent, packet.encode_vars([(b"REMOTE_ADDR", b"192.0.2.1")]))
    assert packet.variables(head.packet)[b"REMOTE_ADDR"] == b"192.0.2.1"
    assert b"REMOTE_USER" not in packet.variables(head.packet)


REQUEST = {
    b"REQUEST_METHOD": b"POST",
    b"REQUEST_URI": b"/s/p?q",
    b"PATH_INFO": b"/p",
    b"SCRIPT_NAME": b"/s",
    b"QUERY_STRING": b"q",
    b"CONTENT_TYPE": b"text/plain",
    b"CONTENT_LENGTH": b"3",
    b"SERVER_NAME": b"a.example",
    b"SERVER_PORT": b"80",
    b"SERVER_PROTOCOL": b"HTTP/1.0",
    b"HTTP_HOST": b"a.example",
    b"HTTP_COOKIE": b"c",
    b"HTTP_X_ANY": b"x",
}
ODD = """
    REDIRECT_REMOTE_USER REMOTE_GROUPS AUTH_USER LOGON_USER OIDC_CLAIM_EMAIL MELLON_NAME_ID CERT_SUBJECT
    DOCUMENT_ROOT PYTHONPATH SERVER_PORT_SECURE GATEWAY_INTERFACE SSLX HTTP_
    """


@pytest.mark.parametrize("key", ODD.split())
def test_of_a_stranger_only_the_request_is_passed_on(key: str) -> None:
    sent = packet.encode([*REQUEST.items(), (key.encode(), b"admin")])
    of_stranger = packet.admit(sent, packet.encode_vars([(b"REMOTE_ADDR", b"192.0.2.1")]))
    assert packet.variables(of_stranger.packet) == {**REQUEST, b"REMOTE_ADDR": b"192.0.2.1"}
    assert packet.variables(packet.admit(sent).packet) == {**REQUEST, key.encode(): b"admin"}


def test_a_request_uri_that_says_something_else(blog: Vassal) -> None:
    worker = blog.active().worker()
    client = blog.stage.uwsgi(uwsgi(REQUEST_URI="/other%20place?x", PATH_INFO="/here", QUERY_STRING="y"))
    taken = worker.take()
    seen = taken.variables
    assert (seen["REQUEST_URI"], seen["PATH_INFO"], seen["QUERY_STRING"]) == (
        "/other%20place?x",
        "/here",
        "y",
    )
    worker.respond(taken)
    assert client.response().status == 200


def test_a_request_that_is_altered_keeps_all_else() -> None:
    head = packet.admit(packet.encode([*PLAIN, (b"HTTP_X_A", b"1"), (b"CONTENT_LENGTH", b"7")]))
    made = packet.altered(head, {b"HTTP_X_A": None, b"SCRIPT_NAME": b"/s", b"HTTP_HOST": b"B.example:1"})
    seen = packet.variables(made.packet)
    assert (seen[b"SCRIPT_NAME"], seen[b"HTTP_HOST"], b"HTTP_X_A" in seen) == (b"/s", b"B.example:1", False)
    assert (made.host, made.path, made.method, made.content_length) == (b"b.example", b"/", b"GET", 7)
    with pytest.raises(PacketError, match="no host"):
        packet.altered(head, {b"HTTP_HOST": b"a/b"})
    with pytest.raises(PacketError) as caught:
        packet.altered(head, {b"HTTP_X_A": b"x" * 65535})
    assert caught.value.status == 431
