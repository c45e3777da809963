"""Backplane messages that are not whole records (docs/specs/backplane.md, section 2), and payloads of the wrong shape."""

import struct


def record(kind: int, payload: bytes = b"", flags: int = 0, word: int = 0xFFFF, stream: int = 0) -> bytes:
    return struct.pack("<BBHIQ", kind, flags, word, len(payload), stream) + payload


def lying(kind: int, length: int, payload: bytes = b"") -> bytes:
    """A record that says another length than it has."""
    return struct.pack("<BBHIQ", kind, 0, 0xFFFF, length, 0) + payload


BROKEN = {
    "one byte": b"\0",
    "15 bytes": bytes(15),
    "a header that says one byte, and nothing": lying(4, 1),
    "a header that says 4 GiB": lying(4, 0xFFFFFFFF),
    "a header that says 2 GiB": lying(4, 0x80000000, b"x" * 100),
    "a length one byte past the end": lying(4, 6, b"hello"),
    "a length one byte before the end": lying(4, 4, b"hello"),
    "a whole record, and one byte": record(42) + b"\0",
    "a whole record, and half a header": record(42) + bytes(8),
    "a whole record, and a header that lies": record(42) + lying(4, 1),
    "HTTP": b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
}

TOKEN = bytes(range(32))
NONCE = bytes(range(16))

HELLO = struct.pack("<HHHHI32sB", 1, 0, 2, 1, 7, TOKEN, 4) + b"blog"
WELCOME = struct.pack("<HHIII16s", 1, 32, 0xDEADBEEF, 262144, 1 << 20, NONCE)
READY = NONCE + struct.pack("<H", 1)
REFUSED = struct.pack("<H", 4) + b"token"
CREDIT = struct.pack("<I", 65536)
RESPONSE = struct.pack("<HI", 8, 1500) + b"200 OK\r\n" + b"hello"

BAD_PAYLOADS = {
    "HELLO": [
        *(HELLO[:size] for size in range(len(HELLO))),
        HELLO + b"x",
        HELLO[:-4] + b"bl\xffg",
        HELLO[:44] + b"\xff" + b"blog",
        HELLO[:44] + b"\0" + b"blog",
        HELLO[:44] + b"\2" + "é".encode()[:1] + b"x",
    ],
    "WELCOME": [*(WELCOME[:size] for size in range(len(WELCOME))), WELCOME + b"\0"],
    "READY": [*(READY[:size] for size in range(len(READY))), READY + b"\0"],
    "REFUSED": [b"", b"\0"],
    "CREDIT": [b"", b"\0", b"\0\0\0", b"\0" * 5, b"\0" * 8],
    "RESPONSE": [*(RESPONSE[:size] for size in range(14)), b"\xff\xff\0\0\0\0" + b"x" * 65534],
}
