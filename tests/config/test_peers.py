import re

import pytest

from emperor.config.peers import ABSTRACT, UNIX, Peers, _parsed, numeric


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("", (), ("127.0.0.1", UNIX)),
        ("unix", (UNIX,), ("127.0.0.1", "::1", ABSTRACT)),
        ("abstract", (ABSTRACT,), ("127.0.0.1", UNIX)),
        ("127.0.0.1", ("127.0.0.1", "::ffff:127.0.0.1"), ("127.0.0.2", "::1", UNIX)),
        ("10.0.0.0/8, ::1 fe80::/10", ("10.255.0.1", "::1", "fe80::1%eth0"), ("11.0.0.0", "::2")),
        ("*", ("192.0.2.1", "::1", UNIX, ABSTRACT), ("unknown", "_hidden", "1.2.3", "01.2.3.4")),
        ("0.0.0.0/0", ("192.0.2.1",), ("::1", UNIX)),
    ],
)
def test_who_is_in_a_list(text: str, inside: tuple[str, ...], outside: tuple[str, ...]) -> None:
    peers = Peers.parse(text)
    assert all(each in peers for each in inside)
    assert not any(each in peers for each in outside)
    assert 7 not in peers
    assert bool(peers) == bool(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("localhost", "'localhost' is no address, network, unix, abstract or *"),
        ("10.0.0.1/8", "'10.0.0.1/8' has bits beyond its mask: write 10.0.0.0/8, or the address alone"),
        ("10.0.0.0/33", "'10.0.0.0/33' is no address"),
        ("127.0.0.1:80", "'127.0.0.1:80' is no address"),
    ],
)
def test_what_is_no_list(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        Peers.parse(text)


def test_lists_are_values() -> None:
    assert Peers.parse("unix,::1") == Peers(("unix", "::1"))
    assert hash(Peers(("*",))) == hash(Peers.parse("*"))
    assert (str(Peers()), str(Peers(("unix", "::1")))) == ("nobody", "unix, ::1")
    assert str(numeric("fe80::1%eth0")) == "fe80::1"


def test_a_long_text_is_no_address_and_is_not_remembered() -> None:
    for number in range(2000):
        assert numeric(f"fe80::1%{number:0>64}") is None
        assert numeric(f"10.0.{number // 256}.{number % 256}") is not None
    assert _parsed.cache_info().currsize <= 1024
    assert numeric("10.0.0.1%" + "z" * 1000) is None
