"""WebSocket frames, client to server: what is well formed and what is not. docs/specs/websocket.md shows the second table byte by byte."""

import struct
import zlib
from typing import NamedTuple

MASK = b"\x12\x34\x56\x78"
CONTINUED, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes | None = MASK) -> bytes:
    """One frame of a client's; with `mask` None one that is not masked."""
    first = bytes(((0x80 if fin else 0) | rsv << 4 | opcode,))
    flag = 0 if mask is None else 0x80
    size = len(payload)
    if size < 126:
        length = bytes((flag | size,))
    elif size < 65536:
        length = bytes((flag | 126,)) + struct.pack(">H", size)
    else:
        length = bytes((flag | 127,)) + struct.pack(">Q", size)
    return first + length + masked(payload, mask)


def masked(payload: bytes, mask: bytes | None) -> bytes:
    if mask is None:
        return payload
    return mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def server_frame(opcode: int, payload: bytes = b"", rsv: int = 0) -> bytes:
    """One frame of ours."""
    return frame(opcode, payload, rsv=rsv, mask=None)


def packed(payload: bytes) -> bytes:
    """As permessage-deflate has it (RFC 7692, 7.2.1)."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH)[:-4]


def closed(code: int, reason: str = "") -> bytes:
    """The payload of a close frame."""
    return struct.pack(">H", code) + reason.encode()


class Good(NamedTuple):
    """``found``: messages as str and bytes, control frames as tuples."""

    what: str
    sent: bytes
    found: list[object]
    deflate: bool = False


HELLO = b"Hello"

GOOD = [
    Good("a text", frame(TEXT, HELLO), ["Hello"]),
    Good("an empty text", frame(TEXT), [""]),
    Good("an empty binary message", frame(BINARY), [b""]),
    Good("a text that is not ASCII", frame(TEXT, "Wörld ✓ 😀".encode()), ["Wörld ✓ 😀"]),
    Good("a binary message of 125 bytes", frame(BINARY, b"x" * 125), [b"x" * 125]),
    Good("of 126", frame(BINARY, b"x" * 126), [b"x" * 126]),
    Good("of 65535", frame(BINARY, b"x" * 65535), [b"x" * 65535]),
    Good("of 65536", frame(BINARY, b"x" * 65536), [b"x" * 65536]),
    Good("a text of 70000", frame(TEXT, b"x" * 70000), ["x" * 70000]),
    Good("a mask of zeros", frame(TEXT, HELLO, mask=bytes(4)), ["Hello"]),
    Good("two fragments", frame(TEXT, b"Hel", fin=False) + frame(CONTINUED, b"lo"), ["Hello"]),
    Good("an empty first fragment", frame(TEXT, fin=False) + frame(CONTINUED, HELLO), ["Hello"]),
    Good("an empty last fragment", frame(TEXT, HELLO, fin=False) + frame(CONTINUED), ["Hello"]),
    Good(
        "a character in two fragments",
        frame(TEXT, b"\xf0\x9f", fin=False) + frame(CONTINUED, b"\x98\x80"),
        ["😀"],
    ),
    Good(
        "a ping between fragments",
        frame(TEXT, b"Hel", fin=False) + frame(PING, b"p") + frame(CONTINUED, b"lo"),
        [(PING, b"p"), "Hello"],
    ),
    Good(
        "a hundred fragments of a byte",
        frame(BINARY, b"x", fin=False) + frame(CONTINUED, b"x", fin=False) * 98 + frame(CONTINUED, b"x"),
        [b"x" * 100],
    ),
    Good("a ping of 125 bytes", frame(PING, b"p" * 125), [(PING, b"p" * 125)]),
    Good("a pong that nobody asked for", frame(PONG, b"p"), [(PONG, b"p")]),
    Good("a close without a code", frame(CLOSE), [(CLOSE, 1005, "")]),
    Good("a close", frame(CLOSE, closed(1000, "over")), [(CLOSE, 1000, "over")]),
    Good("a close of an app's own code", frame(CLOSE, closed(4999)), [(CLOSE, 4999, "")]),
    Good("nothing is read behind a close", frame(CLOSE) + b"\xff" * 20, [(CLOSE, 1005, "")]),
    Good("a compressed text", frame(TEXT, packed(HELLO), rsv=4), ["Hello"], True),
    Good("a text that is not, where it might be", frame(TEXT, HELLO), ["Hello"], True),
    Good(
        "a compressed message in fragments",
        frame(BINARY, packed(b"x" * 999)[:3], rsv=4, fin=False) + frame(CONTINUED, packed(b"x" * 999)[3:]),
        [b"x" * 999],
        True,
    ),
    Good("a compressed message of nothing", frame(TEXT, packed(b""), rsv=4), [""], True),
    # RFC 7692, 7.2.3.5
    Good("a final block", frame(TEXT, bytes.fromhex("f348cdc9c9070000"), rsv=4), ["Hello"], True),
    # RFC 7692, 7.2.3.3
    Good("a stored block", frame(TEXT, bytes.fromhex("000500faff48656c6c6f00"), rsv=4), ["Hello"], True),
]

MOST = 70000
"""The largest message where these are read."""


class Bad(NamedTuple):
    """``code`` is what the connection is closed with; ``long``: too many bytes to be shown."""

    clause: str
    what: str
    sent: bytes
    code: int
    deflate: bool = False
    long: bool = False


BAD = [
    Bad("5.1", "a frame that is not masked", frame(TEXT, HELLO, mask=None), 1002),
    Bad("5.2", "RSV1, with no extension", frame(TEXT, HELLO, rsv=4), 1002),
    Bad("5.2", "RSV2", frame(TEXT, HELLO, rsv=2), 1002),
    Bad("5.2", "RSV3", frame(TEXT, HELLO, rsv=1), 1002),
    Bad("5.2", "RSV2 where RSV1 is agreed on", frame(TEXT, HELLO, rsv=2), 1002, True),
    Bad("7692 6", "RSV1 at a ping", frame(PING, rsv=4), 1002, True),
    Bad(
        "7692 6",
        "RSV1 at a continuation",
        frame(TEXT, packed(HELLO), rsv=4, fin=False) + frame(CONTINUED, b"", rsv=4),
        1002,
        True,
    ),
    Bad("5.2", "an opcode of none: 3", frame(3, HELLO), 1002),
    Bad("5.2", "7", frame(7, HELLO), 1002),
    Bad("5.2", "11", frame(11, HELLO), 1002),
    Bad("5.2", "15", frame(15, HELLO), 1002),
    Bad("5.2", "5 bytes whose length is in two", b"\x82\xfe\x00\x05" + masked(HELLO, MASK), 1002),
    Bad("5.2", "5 bytes whose length is in eight", b"\x82\xff" + bytes(7) + b"\x05" + masked(HELLO, MASK), 1002),
    Bad("5.2", "a length of 2^63", b"\x82\xff\x80" + bytes(7) + MASK, 1002),
    Bad("5.4", "a continuation of nothing", frame(CONTINUED, HELLO), 1002),
    Bad("5.4", "one behind a whole message", frame(TEXT, b"", fin=True) + frame(CONTINUED, HELLO), 1002),
    Bad("5.4", "a text in the middle of a message", frame(TEXT, b"Hel", fin=False) + frame(TEXT, b"lo"), 1002),
    Bad("5.5", "a ping in fragments", frame(PING, fin=False), 1002),
    Bad("5.5", "a close in fragments", frame(CLOSE, fin=False), 1002),
    Bad("5.5", "a ping of 126 bytes", frame(PING, b"p" * 126), 1002, long=True),
    Bad("5.5.1", "a close with half a code", frame(CLOSE, b"\x03"), 1002),
    Bad("7.4.1", "a close with 999", frame(CLOSE, closed(999)), 1002),
    Bad("7.4.1", "1004", frame(CLOSE, closed(1004)), 1002),
    Bad("7.4.1", "1005", frame(CLOSE, closed(1005)), 1002),
    Bad("7.4.1", "1006", frame(CLOSE, closed(1006)), 1002),
    Bad("7.4.1", "1015", frame(CLOSE, closed(1015)), 1002),
    Bad("7.4.2", "1016", frame(CLOSE, closed(1016)), 1002),
    Bad("7.4.2", "2999", frame(CLOSE, closed(2999)), 1002),
    Bad("7.4.2", "5000", frame(CLOSE, closed(5000)), 1002),
    Bad("5.5.1", "a reason that is not UTF-8", frame(CLOSE, closed(1000) + b"\xff"), 1007),
    Bad("8.1", "a text that is not UTF-8", frame(TEXT, b"\xff"), 1007),
    Bad("8.1", "one that ends in a character", frame(TEXT, b"ok \xf0\x9f\x98"), 1007),
    Bad("8.1", "a surrogate", frame(TEXT, b"\xed\xa0\x80"), 1007),
    Bad("8.1", "a character in more bytes than it needs", frame(TEXT, b"\xc0\xaf"), 1007),
    Bad("8.1", "beyond Unicode", frame(TEXT, b"\xf4\x90\x80\x80"), 1007),
    Bad("8.1", "in the second fragment", frame(TEXT, b"Hel", fin=False) + frame(CONTINUED, b"\x80"), 1007),
    Bad("8.1", "once it is decompressed", frame(TEXT, packed(b"\xff"), rsv=4), 1007, True),
    Bad("7692 7.2.2", "what is not compressed", frame(TEXT, b"\xff\xff\xff", rsv=4), 1007, True),
    Bad("10.4", "a frame that is announced as too large", b"\x82\xff" + struct.pack(">Q", MOST + 1) + MASK, 1009),
    Bad(
        "10.4",
        "fragments that are together",
        frame(BINARY, b"x" * MOST, fin=False) + frame(CONTINUED, b"x"),
        1009,
        long=True,
    ),
    Bad("10.4", "once it is decompressed", frame(BINARY, packed(bytes(MOST + 1)), rsv=4), 1009, True),
    Bad(
        "10.4",
        "blocks of nothing without end",
        frame(BINARY, b"\x00\x00\x00\xff\xff" * 16000, rsv=4),
        1009,
        True,
        long=True,
    ),
    Bad(
        "7692 7.2.3.5",
        "final blocks without end",
        frame(BINARY, b"\x03\x00" * 20, rsv=4),
        1007,
        True,
    ),
]
