"""Who the client is, behind proxies: the rows of docs/specs/forwarded.md."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emperor.config.listening import KNOWN_FORWARDED_FIELDS
from emperor.config.peers import Peers
from emperor.protocol import http1, packet
from emperor.protocol.errors import PacketError
from emperor.protocol.packet import RequestHead
from emperor.router.forwarded import believed, elements_of
from emperor.router.terms import Ends, Terms

PROXY = "10.0.0.1"
TERMS = Terms(forwarded=Peers.parse("10.0.0.0/8, unix"))
ALL = Terms(forwarded=TERMS.forwarded, fields=frozenset(KNOWN_FORWARDED_FIELDS))
CLIENT = "203.0.113.7"


def head_of(*fields: str, believes: bool = True) -> RequestHead:
    reader = http1.Reader(Ends(PROXY, 4711, "10.0.0.2", 8000).variables(False), believes)
    lines = ["GET /a HTTP/1.1", "Host: a.example:8000", *fields]
    reader.feed("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
    head = reader.next()
    assert isinstance(head, RequestHead)
    return head


def seen(terms: Terms, *fields: str) -> dict[str, str]:
    head = head_of(*fields)
    assert head.forwarded
    head = believed(head, terms, PROXY)
    return {key.decode(): value.decode() for key, value in packet.variables(head.packet).items()}


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        (CLIENT, CLIENT),
        (f"{CLIENT}, 10.1.1.1", CLIENT),
        (f"192.0.2.66, {CLIENT}, 10.1.1.1,10.2.2.2", CLIENT),  # what the client itself wrote is left of it
        ("10.1.1.1, 10.2.2.2", "10.1.1.1"),  # all trusted: the farthest
        (f"{CLIENT}, unknown", PROXY),  # nobody can say who is behind what is no address
        (f"{CLIENT}, unknown, 10.1.1.1", "10.1.1.1"),
        ("nonsense", PROXY),
        ("", PROXY),
        (",,", PROXY),
        (f"{CLIENT}:1234", CLIENT),
        ("2001:DB8::1", "2001:db8::1"),
        ("[2001:db8::1]:99", "2001:db8::1"),
        ("::ffff:203.0.113.7", CLIENT),
        ("fe80::1%eth0", PROXY),
        ("[203.0.113.7]", PROXY),
        ("203.0.113.7\"; drop", PROXY),
        (", ".join([CLIENT] + ["10.1.1.1"] * 70), "10.1.1.1"),  # 64 hops are looked at
    ],
)  # fmt: skip
def test_the_chain_is_read_from_its_right_end(chain: str, client: str) -> None:
    assert seen(TERMS, f"X-Forwarded-For: {chain}")["REMOTE_ADDR"] == client


def test_several_fields_are_one_chain() -> None:
    assert seen(TERMS, f"X-Forwarded-For: {CLIENT}", "X-Forwarded-For: 10.9.9.9")["REMOTE_ADDR"] == CLIENT


def test_the_port_of_the_proxy_is_not_the_clients() -> None:
    assert "REMOTE_PORT" not in seen(TERMS, f"X-Forwarded-For: {CLIENT}")
    assert seen(TERMS, f"X-Forwarded-For: {CLIENT}:99")["REMOTE_PORT"] == "99"
    assert seen(TERMS, "X-Forwarded-For: ?")["REMOTE_PORT"] == "4711"


def test_a_scheme() -> None:
    told = seen(TERMS, "X-Forwarded-Proto: HTTPS")
    assert (told["REQUEST_SCHEME"], told["HTTPS"], told["SERVER_PORT"]) == ("https", "on", "443")
    assert seen(TERMS, "X-Forwarded-Proto: https, http")["REQUEST_SCHEME"] == "http"
    assert "HTTPS" not in seen(TERMS, "X-Forwarded-Proto: http")
    assert seen(TERMS, "X-Forwarded-Proto: gopher")["REQUEST_SCHEME"] == "http"


def test_what_a_proxy_may_only_have_passed_on_is_not_believed_unasked() -> None:
    told = seen(
        TERMS,
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Port: 1",
        "X-Forwarded-Prefix: /evil",
        "X-Real-IP: 192.0.2.66",
        "Forwarded: for=192.0.2.66;proto=https;host=evil.example",
    )
    assert (told["REMOTE_ADDR"], told["HTTP_HOST"], told["SERVER_PORT"]) == (PROXY, "a.example:8000", "8000")
    assert (told["REQUEST_SCHEME"], told["SCRIPT_NAME"]) == ("http", "")
    assert told["HTTP_X_FORWARDED_HOST"] == "evil.example"  # the app may know more about its proxy


def test_host_port_prefix_and_real_ip_when_asked_for() -> None:
    told = seen(
        ALL,
        "X-Forwarded-Host: old.example, New.Example:8443",
        "X-Forwarded-Prefix: /shop/",
        f"X-Real-IP: {CLIENT}",
    )
    assert (told["HTTP_HOST"], told["SERVER_NAME"], told["SERVER_PORT"]) == (
        "New.Example:8443",
        "New.Example",
        "8443",
    )
    assert (told["SCRIPT_NAME"], told["PATH_INFO"], told["REMOTE_ADDR"]) == ("/shop", "/a", CLIENT)
    assert seen(ALL, "X-Forwarded-Port: 8443")["SERVER_PORT"] == "8443"
    head = believed(head_of("X-Forwarded-Host: new.example"), ALL, PROXY)
    assert head.host == b"new.example"  # what is routed by
    for bad in ("a b", "a/b", "[::1", "[x]", "a:b", ":80", "a@b", "a:65536", "a:0", "a:000000080"):
        assert seen(ALL, f"X-Forwarded-Host: {bad}")["HTTP_HOST"] == "a.example:8000"
    for bad in ("0", "65536", "-1", "x", "044365536"):
        assert seen(ALL, f"X-Forwarded-Port: {bad}")["SERVER_PORT"] == "8000"
    for bad in ("shop", "//evil.example"):
        assert seen(ALL, f"X-Forwarded-Prefix: {bad}")["SCRIPT_NAME"] == ""


@pytest.mark.parametrize(
    ("value", "client", "scheme", "host"),
    [
        (f"for={CLIENT}", CLIENT, "http", ""),
        (f'For="{CLIENT}:99"; Proto=https ;host="new.example:81"', CLIENT, "https", "new.example:81"),
        ('for="[2001:db8::1]:_obf"', "2001:db8::1", "http", ""),
        (f"for=192.0.2.66;proto=https, for={CLIENT};proto=http, for=10.1.1.1;proto=https", CLIENT, "http", ""),
        (f"for={CLIENT}, for=unknown", PROXY, "http", ""),
        (f"for={CLIENT}, for=_hidden, for=10.1.1.1;proto=https", "10.1.1.1", "https", ""),
        ("by=10.0.0.9;proto=https", PROXY, "http", ""),
        (f"for={CLIENT};for=1.1.1.1", PROXY, "http", ""),  # a parameter twice: no Forwarded at all
        (f'for="{CLIENT}', PROXY, "http", ""),
        (f"for = {CLIENT}", PROXY, "http", ""),
        (f"for={CLIENT} for=1.1.1.1", PROXY, "http", ""),
        ("for=", PROXY, "http", ""),
        (f"for=2001:db8::1,,for={CLIENT},", CLIENT, "http", ""),
        (r'for="203.0.113\.7"', CLIENT, "http", ""),
    ],
)  # fmt: skip
def test_forwarded(value: str, client: str, scheme: str, host: str) -> None:
    told = seen(ALL, f"Forwarded: {value}")
    assert (told["REMOTE_ADDR"], told["REQUEST_SCHEME"]) == (client, scheme)
    assert told["HTTP_HOST"] == (host or "a.example:8000")


def test_forwarded_wins_where_both_are_believed() -> None:
    told = seen(ALL, f"Forwarded: for={CLIENT}", "X-Forwarded-For: 192.0.2.66", "X-Forwarded-Proto: https")
    assert (told["REMOTE_ADDR"], told["REQUEST_SCHEME"]) == (CLIENT, "http")


def test_from_others_the_fields_are_dropped() -> None:
    sent = (
        "X-Forwarded-For: 192.0.2.66", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil.example", "X-Forwarded-Whatever: 1",
        "Forwarded: for=192.0.2.66", "X-Real-IP: 192.0.2.66", "X-Forward: stays", "Forwarded-Not: stays",
    )  # fmt: skip
    head = head_of(*sent, believes=False)
    assert not head.forwarded
    keys = packet.variables(head.packet).keys()
    assert {key for key in keys if b"FORWARD" in key or b"REAL" in key} == {
        b"HTTP_X_FORWARD",
        b"HTTP_FORWARDED_NOT",
    }


def test_what_does_not_fit_any_more_is_431() -> None:
    fields = [f"X-{number}: {'x' * 8000}" for number in range(8)]
    head = head_of("X-Forwarded-Prefix: /" + "p" * 700, *fields)
    with pytest.raises(PacketError) as caught:
        believed(head, ALL, PROXY)
    assert caught.value.status == 431


@given(st.text(max_size=80) | st.text('for="=;, []:\\_.1a', max_size=60))
def test_no_field_is_too_odd(text: str) -> None:
    found = elements_of(text)
    assert found is None or all(found)


def test_a_client_cannot_have_the_proxys_words_dropped() -> None:
    """A proxy that passes on its client's Connection: what it names would end at the next hop."""
    told = seen(
        TERMS,
        "Connection: X-Forwarded-For, X-Forwarded-Proto, keep-alive",
        f"X-Forwarded-For: {CLIENT}",
        "X-Forwarded-Proto: https",
    )
    assert (told["REMOTE_ADDR"], told["REQUEST_SCHEME"]) == (CLIENT, "https")
