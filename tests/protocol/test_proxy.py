"""The PROXY protocol's header (haproxy, doc/proxy-protocol.txt)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emperor.protocol import proxy
from emperor.protocol.proxy import Proxied, ProxyError

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
FOUR = bytes((192, 0, 2, 1, 198, 51, 100, 2)) + b"\x30\x39\x01\xbb"
SIX = bytes.fromhex("20010db8" + "0" * 23 + "1" + "20010db8" + "0" * 23 + "2") + b"\x30\x39\x01\xbb"


def two(command: int, family: int, body: bytes, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return SIGNATURE + bytes((0x20 | command, family)) + size.to_bytes(2, "big") + body


def tlv(kind: int, value: bytes) -> bytes:
    return bytes((kind,)) + len(value).to_bytes(2, "big") + value


TAKEN = {
    "1, IPv4": (b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\r\n", ("192.0.2.1", 12345, "198.51.100.2", 443, False)),
    "1, IPv6": (b"PROXY TCP6 2001:DB8::1 2001:db8::2 1 65535\r\n", ("2001:db8::1", 1, "2001:db8::2", 65535, False)),
    "1, the longest line": (
        b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535".ljust(105, b"x") + b"\r\n", ("", 0, "", 0, False)
    ),
    "1, UNKNOWN": (b"PROXY UNKNOWN\r\n", ("", 0, "", 0, False)),
    "2, IPv4": (two(1, 0x11, FOUR), ("192.0.2.1", 12345, "198.51.100.2", 443, False)),
    "2, IPv6": (two(1, 0x21, SIX), ("2001:db8::1", 12345, "2001:db8::2", 443, False)),
    "2, LOCAL": (two(0, 0, b""), ("", 0, "", 0, False)),
    "2, LOCAL with addresses, which count for nothing": (two(0, 0x11, FOUR), ("", 0, "", 0, False)),
    "2, unspecified": (two(1, 0, b"whatever"), ("", 0, "", 0, False)),
    "2, unix": (two(1, 0x31, bytes(216)), ("", 0, "", 0, False)),
    "2, TLVs": (
        two(1, 0x11, FOUR + tlv(0x01, b"h2") + tlv(0x04, b"") + tlv(0x03, b"crc!")),
        ("192.0.2.1", 12345, "198.51.100.2", 443, False),
    ),
    "2, its client came over TLS": (
        two(1, 0x11, FOUR + tlv(0x20, b"\x01\0\0\0\0" + tlv(0x21, b"TLSv1.3"))),
        ("192.0.2.1", 12345, "198.51.100.2", 443, True),
    ),
    "2, its client did not come over TLS": (
        two(1, 0x11, FOUR + tlv(0x20, b"\0\0\0\0\0")), ("192.0.2.1", 12345, "198.51.100.2", 443, False)
    ),
}  # fmt: skip

REFUSED = {
    "HTTP": (b"GET / HTTP/1.1\r\n", "is no PROXY header"),
    "uwsgi": (b"\0\x10\0\0", "is no PROXY header"),
    "TLS": (b"\x16\x03\x01\x02\0", "is no PROXY header"),
    "lower case": (b"proxy TCP4", "is no PROXY header"),
    "a line of 108 bytes": (b"PROXY UNKNOWN " + b"x" * 93 + b"\r\n", "more than 107"),
    "a bare LF": (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", "bare LF"),
    "two blanks": (b"PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "is no PROXY line"),
    "five words": (b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", "is no PROXY line"),
    "another family": (b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n", "is no PROXY line"),
    "IPv6 in TCP4": (b"PROXY TCP4 ::1 ::1 1 2\r\n", "no address of IPv4"),
    "a zone": (b"PROXY TCP6 fe80::1%0 ::1 1 2\r\n", "no address of IPv6"),
    "an octet with a nought": (b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n", "no address"),
    "a port with a nought": (b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n", "no port"),
    "a port of 65536": (b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n", "no port"),
    "a port with a sign": (b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n", "no port"),
    "version 3": (SIGNATURE + b"\x31\x11\0\0", "version 3"),
    "command 2": (two(2, 0x11, FOUR), "command 2"),
    "a family that nobody knows": (two(1, 0x41, FOUR), "family 0x41"),
    "addresses that are cut off": (two(1, 0x11, FOUR[:-1]), "11 bytes of addresses"),
    "64 KB": (two(1, 0x11, b"", 65535), "65535 bytes"),
    "a TLV that is cut off": (two(1, 0x11, FOUR + b"\1\0"), "cut off"),
    "a TLV that goes past the header": (two(1, 0x11, FOUR + b"\1\0\2x"), "goes past"),
}  # fmt: skip


@pytest.mark.parametrize("name", TAKEN)
def test_taken(name: str) -> None:
    sent, wanted = TAKEN[name]
    found = proxy.read(sent + b"GET / HTTP/1.1\r\n")
    assert found == Proxied(len(sent), *wanted)
    # Peeked at in any pieces, what is asked for never goes past the header.
    for size in range(len(sent)):
        assert proxy.read(sent[:size]) == size


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    sent, why = REFUSED[name]
    with pytest.raises(ProxyError) as caught:
        proxy.read(sent)
    assert why in str(caught.value)


@given(
    st.tuples(st.sampled_from((b"", SIGNATURE, b"PROXY ", b"PROXY TCP4 ")), st.binary(max_size=150)).map(
        b"".join
    )
)
def test_whatever_comes_it_is_a_header_a_part_of_one_or_an_error(data: bytes) -> None:
    try:
        found = proxy.read(data)
    except ProxyError:
        return
    assert (found == len(data)) if isinstance(found, int) else (0 < found.size <= len(data))
