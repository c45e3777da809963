"""The PROXY protocol, versions 1 and 2 (haproxy, doc/proxy-protocol.txt), the receiving side. Sans-I/O.

A proxy writes one header in front of the bytes of its client. A receiver that expects one must have it, or a client could
write its own: there is no looking whether it is there.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

from emperor.protocol.errors import ProtocolError

V1_LIMIT: Final = 107
"""Bytes of a line with its CRLF (2.1)."""

V2_HEAD: Final = 16
V2_LIMIT: Final = 4096
"""Bytes of addresses and TLVs that are taken. The format allows 65,535; what proxies write has less than 600 (2.2: a
receiver may abort on lengths it does not like)."""

_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_SSL: Final = 0x20
_CLIENT_SSL: Final = 0x01


class ProxyError(ProtocolError):
    """The bytes are no PROXY header."""


@dataclass(frozen=True)
class Proxied:
    """`size` bytes of header. Addresses are numeric text, empty for LOCAL (the proxy's own connection, a health check),
    UNKNOWN and unix: then the connection's own are true. `tls`: its client came over TLS (version 2 alone tells)."""

    size: int
    client: str = ""
    client_port: int = 0
    server: str = ""
    server_port: int = 0
    tls: bool = False


def read(data: bytes) -> Proxied | int:
    """The header at the start of `data`, or how many bytes of `data` surely belong to it, when it is not whole.

    So a caller can peek and take no byte too many. Raises ProxyError.
    """
    if data.startswith((_SIGNATURE[: len(data)], _SIGNATURE)):
        return _version2(data)
    if b"PROXY "[: len(data)] == data[:6]:
        return _version1(data)
    raise ProxyError(f"{data[:12]!r} is no PROXY header, which this address must begin with")


def _version1(data: bytes) -> Proxied | int:
    end = data.find(b"\n", 0, V1_LIMIT)
    if end < 0:
        if len(data) >= V1_LIMIT:
            raise ProxyError(f"a PROXY line of more than {V1_LIMIT} bytes")
        return len(data)
    if data[end - 1 : end] != b"\r":
        raise ProxyError("a PROXY line that ends in a bare LF")
    words = data[: end - 1].split(b" ")
    size = end + 1
    if words[1:2] == [b"UNKNOWN"]:
        return Proxied(size)  # whatever follows is to be ignored (2.1)
    if len(words) != 6 or words[1] not in (b"TCP4", b"TCP6"):
        raise ProxyError(f"{data[:end][:60]!r} is no PROXY line")
    version = 4 if words[1] == b"TCP4" else 6
    client, server = _address(words[2], version), _address(words[3], version)
    return Proxied(size, client, _port(words[4]), server, _port(words[5]))


def _address(word: bytes, version: int) -> str:
    try:
        found = ipaddress.ip_address(word.decode("ascii"))
    except ValueError:
        found = None
    if found is None or found.version != version or b"%" in word:
        raise ProxyError(f"{word[:50]!r} is no address of IPv{version} in a PROXY line")
    return str(found)


def _port(word: bytes) -> int:
    if not word.isdigit() or len(word) > 5 or (len(word) > 1 and word[:1] == b"0") or int(word) > 65535:
        raise ProxyError(f"{word[:10]!r} is no port in a PROXY line")
    return int(word)


def _version2(data: bytes) -> Proxied | int:
    if len(data) < V2_HEAD:
        return len(data)
    version, command, family = data[12] >> 4, data[12] & 15, data[13]
    length = int.from_bytes(data[14:16], "big")
    if version != 2:
        raise ProxyError(f"version {version} of the PROXY protocol; 1 and 2 are known")
    if command > 1:
        raise ProxyError(f"command {command} of the PROXY protocol; LOCAL and PROXY are known")
    if length > V2_LIMIT:
        raise ProxyError(f"a PROXY header of {length} bytes; at most {V2_LIMIT} are taken")
    size = V2_HEAD + length
    if len(data) < size:
        return len(data)
    body = data[V2_HEAD:size]
    if command == 0:
        return Proxied(size)
    shape = {0x11: 4, 0x21: 16}.get(family)
    if shape is None:
        if family in (0x00, 0x31, 0x12, 0x22, 0x32):
            return Proxied(size)  # unspecified, unix, datagrams: the connection's own addresses
        raise ProxyError(f"family {family:#04x} of the PROXY protocol")
    if length < 2 * shape + 4:
        raise ProxyError(f"{length} bytes of addresses for family {family:#04x}; {2 * shape + 4} are due")
    client, server = (str(ipaddress.ip_address(body[at : at + shape])) for at in (0, shape))
    ports = [int.from_bytes(body[at : at + 2], "big") for at in (2 * shape, 2 * shape + 2)]
    return Proxied(size, client, ports[0], server, ports[1], _tls(body[2 * shape + 4 :]))


def _tls(rest: bytes) -> bool:
    """Whether a PP2_TYPE_SSL says that the client came over TLS (2.2.5); other TLVs are passed over."""
    at, found = 0, False
    while at < len(rest):
        if len(rest) - at < 3:
            raise ProxyError("a TLV of the PROXY protocol that is cut off")
        length = int.from_bytes(rest[at + 1 : at + 3], "big")
        if length > len(rest) - at - 3:
            raise ProxyError("a TLV of the PROXY protocol that goes past its header")
        if rest[at] == _SSL and length >= 5:
            found = bool(rest[at + 3] & _CLIENT_SSL)
        at += 3 + length
    return found
