"""The true client of a request that came through proxies (docs/specs/forwarded.md). Pure.

Only asked when the peer is a proxy that the operator trusts (`forwarded-allow`) and the request has such fields. The chain
of addresses is read from its right end, which the proxy nearest to us wrote, leftwards past every trusted one: the first
that is not trusted is the client, and what stands left of it is what that client said of itself.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from emperor.config.listening import KNOWN_FORWARDED_FIELDS
from emperor.config.peers import Peers, numeric
from emperor.protocol import packet
from emperor.protocol.packet import RequestHead, altered, variables
from emperor.router.terms import Terms

CHAIN_LIMIT: Final = 64
"""Hops that are looked at, from the right."""

CACHED_CHARS: Final = 200
"""A chain that is longer is read anew each time: clients choose what is in it, and the memory is ours."""

_KEYS: Final = {name: b"HTTP_" + name.upper().replace("-", "_").encode() for name in KNOWN_FORWARDED_FIELDS}

_OWS: Final = " \t"
_SCHEMES: Final = ("http", "https")


def believed(head: RequestHead, terms: Terms, peer: str) -> RequestHead:
    """The request as its true client sent it. `peer` is who connected. Raises PacketError, 431, for variables that do not
    fit any more. What cannot be understood is left out, as if the proxy had not said it."""
    pairs = variables(head.packet)
    changes: dict[bytes, bytes | None] = {}
    client, scheme, host = (_standard if _uses(terms, pairs, "forwarded") else _de_facto)(pairs, terms, peer)
    if client is not None:
        address, port = client
        changes[b"REMOTE_ADDR"] = address.encode()
        # The port that was there is the proxy's.
        changes[b"REMOTE_PORT"] = port.encode() if port else None
    if scheme in _SCHEMES:
        changes[b"REQUEST_SCHEME"] = scheme.encode()
        changes[b"HTTPS"] = b"on" if scheme == "https" else None
        changes[b"SERVER_PORT"] = b"443" if scheme == "https" else b"80"
    if host and host.isascii() and packet.host_of(host.encode()):
        changes[b"HTTP_HOST"] = host.encode()
        name, port = _split_port(host)
        changes[b"SERVER_NAME"] = name.encode()
        if port:
            changes[b"SERVER_PORT"] = port.encode()
    if _uses(terms, pairs, "x-forwarded-port"):
        port = _last(_text(pairs, b"HTTP_X_FORWARDED_PORT"))
        if port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536:
            changes[b"SERVER_PORT"] = port.encode()
    if _uses(terms, pairs, "x-forwarded-prefix"):
        prefix = _last(_text(pairs, b"HTTP_X_FORWARDED_PREFIX")).rstrip("/")
        if prefix.startswith("/") and not prefix.startswith("//"):
            changes[b"SCRIPT_NAME"] = prefix.encode("latin-1")
    return altered(head, changes) if changes else head


_Client = tuple[str, str] | None
"""Address and port (empty: not known)."""


def _de_facto(pairs: dict[bytes, bytes], terms: Terms, peer: str) -> tuple[_Client, str, str]:
    """X-Forwarded-For and its like."""
    client: _Client = None
    if _uses(terms, pairs, "x-forwarded-for"):
        chain = _text(pairs, b"HTTP_X_FORWARDED_FOR")
        client = (_walk_cached if len(chain) <= CACHED_CHARS else _walk_chain)(chain, terms.forwarded)
    elif _uses(terms, pairs, "x-real-ip"):
        client = _walk([_text(pairs, b"HTTP_X_REAL_IP").strip(_OWS)], Peers())
    scheme = (
        _last(_text(pairs, b"HTTP_X_FORWARDED_PROTO")).lower()
        if _uses(terms, pairs, "x-forwarded-proto")
        else ""
    )
    host = _last(_text(pairs, b"HTTP_X_FORWARDED_HOST")) if _uses(terms, pairs, "x-forwarded-host") else ""
    return client, scheme, host


def _standard(pairs: dict[bytes, bytes], terms: Terms, peer: str) -> tuple[_Client, str, str]:
    """Forwarded (RFC 7239). Scheme and host are those of the element that names the client."""
    elements = elements_of(_text(pairs, b"HTTP_FORWARDED"))
    if elements is None:
        return None, "", ""
    found: dict[str, str] = {}
    client: _Client = None
    for element in reversed(elements[-CHAIN_LIMIT:]):
        node = _node(element.get("for", ""))
        if node is None:
            # unknown, _hidden, or nothing: nobody to name, and nobody to go on from.
            break
        found, client = element, node
        if node[0] not in terms.forwarded:
            break
    return client, found.get("proto", "").lower(), found.get("host", "")


def _walk_chain(chain: str, trusted: Peers) -> _Client:
    return _walk([each.strip(_OWS) for each in chain.split(",")], trusted)


# A client sends more than one request, and reading addresses is most of the work.
_walk_cached = lru_cache(1024)(_walk_chain)


def _walk(hops: list[str], trusted: Peers) -> _Client:
    """The first from the right that is not trusted; the leftmost when all are; before one that is no address."""
    client: _Client = None
    for hop in reversed(hops[-CHAIN_LIMIT:]):
        node = _node(hop)
        if node is None:
            break
        client = node
        if node[0] not in trusted:
            break
    return client


def _node(text: str) -> _Client:
    """``192.0.2.1``, ``192.0.2.1:80``, ``2001:db8::1``, ``[2001:db8::1]:80`` → address and port; else None."""
    address, port = text, ""
    if text.startswith("["):
        address, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or "." in address.partition(":")[0]:
            return None
        port = rest[1:]
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
    found = numeric(address) if "%" not in address else None
    if found is None:
        return None
    if port and not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 65536):
        port = ""  # RFC 7239, 6: a port may be obfuscated
    return str(found), port


def elements_of(text: str) -> list[dict[str, str]] | None:
    """The elements of a Forwarded field (RFC 7239, 4), parameters by their lower-case names; None when it is none."""
    elements: list[dict[str, str]] = [{}]
    at, end = 0, len(text)
    while True:
        at = _blank(text, at)
        start = at
        while at < end and _is_token(text[at]):
            at += 1
        name = text[start:at].lower()
        if name:
            if at >= end or text[at] != "=":
                return None
            value, at = _value(text, at + 1)
            if value is None or name in elements[-1]:
                return None
            elements[-1][name] = value
        at = _blank(text, at)
        if at >= end:
            break
        if text[at] == ",":
            elements.append({})
        elif text[at] != ";":
            return None
        at += 1
    return [element for element in elements if element]


def _value(text: str, at: int) -> tuple[str | None, int]:
    if at < len(text) and text[at] == '"':
        value: list[str] = []
        at += 1
        while at < len(text):
            if text[at] == '"':
                return "".join(value), at + 1
            if text[at] == "\\":
                at += 1
                if at >= len(text):
                    break
            value.append(text[at])
            at += 1
        return None, at
    start = at
    # Colons and brackets belong into quotes, and many proxies leave these out: nothing else could be meant.
    while at < len(text) and (_is_token(text[at]) or text[at] in ":[]"):
        at += 1
    return (text[start:at], at) if at > start else (None, at)


def _blank(text: str, at: int) -> int:
    while at < len(text) and text[at] in _OWS:
        at += 1
    return at


def _is_token(character: str) -> bool:
    return character.isascii() and (character.isalnum() or character in "!#$%&'*+-.^_`|~")


def _uses(terms: Terms, pairs: dict[bytes, bytes], name: str) -> bool:
    return name in terms.fields and _KEYS[name] in pairs


def _text(pairs: dict[bytes, bytes], key: bytes) -> str:
    return pairs[key].decode("latin-1")


def _last(text: str) -> str:
    """The item that the nearest proxy added."""
    return text.rpartition(",")[2].strip(_OWS)


def _split_port(host: str) -> tuple[str, str]:
    if host.endswith("]"):
        return host, ""
    name, colon, port = host.rpartition(":")
    return (name, port) if colon else (host, "")
