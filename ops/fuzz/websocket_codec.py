"""WebSocket's codecs: frames, frames beside another parser, and the fields of the handshake.

An input's first byte says whether compression was agreed on and how large messages may be; the rest is what a client sends.
"""

from collections.abc import Callable, Iterable, Sequence

from wsproto.frame_protocol import FrameProtocol, Opcode, ParseFailed

from emperor.protocol import websocket
from emperor.protocol.errors import WebSocketError
from tests.wire import websocket as wire

Run = Callable[[bytes, int], bool]
Cuts = Callable[[bytes, int], Sequence[bytes]]

WORDS = (
    *(bytes((first,)) for first in (0x00, 0x01, 0x02, 0x41, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8A, 0xC1, 0xC2)),
    *(b"\x80" + bytes(4), b"\xfe\x00\x7e" + bytes(4), b"\xff" + bytes(6) + b"\x01\x00" + bytes(5), wire.MASK),
    *(
        b"\x03\xe8",
        b"\xed\xa0\x80",
        b"\xf0\x9f\x98\x80",
        wire.packed(b"Hello"),
        b"\x00\x00\xff\xff",
        b"\x03\x00",
    ),
)


def read(data: bytes, parts: Iterable[bytes]) -> tuple[list[object], int]:
    """Messages and control frames, and the code that it ended with: 0, it goes on."""
    flags = data[0] if data else 0
    most = 100 if flags & 2 else wire.MOST
    reader = websocket.Reader(most, 15 if flags & 1 else 0)
    found: list[object] = []
    try:
        for part in parts:
            reader.feed(part)
            while (each := reader.next()) is not None:
                found.append(each)
                if isinstance(each, tuple):
                    assert each[0] in (8, 9, 10)
                    assert each[0] != 8 or reader.over
                else:
                    size = len(each) if isinstance(each, bytes) else len(each.encode())
                    assert size <= most, "a message larger than any may be"
    except WebSocketError as error:
        if error.code not in (1002, 1007, 1009) or not str(error):
            raise
        assert reader.over and reader.next() is None
        return found, error.code
    return found, 0


def make_frames(cuts: Cuts) -> Run:
    def run(data: bytes, bits: int) -> bool:
        whole = read(data, (data[1:],))
        if not bits & 3:
            parts = read(data, cuts(data[1:], bits))
            # zlib may come to either first in a message that is both too large and no deflate stream.
            same = parts == whole or (parts[0] == whole[0] and {parts[1], whole[1]} == {1007, 1009})
            assert same, "the verdict depends on the cuts"
        for each in whole[0]:
            # What was read can be sent back.
            if isinstance(each, str):
                assert websocket.text(each) == wire.server_frame(wire.TEXT, each.encode())
            elif isinstance(each, bytes):
                assert websocket.frame(wire.BINARY, each) == wire.server_frame(wire.BINARY, each)
        return bool(whole[0])

    return run


def make_beside() -> Run:
    def run(data: bytes, bits: int) -> bool:
        if data and data[0] & 1:
            data = bytes((data[0] & 0xFE,)) + data[1:]  # how compressed data end is not compared
        found, code = read(data, (data[1:],))
        theirs, failed = beside(data[1:])
        if code and not failed:
            # We refuse a head by its first bytes, they when all of it is there.
            theirs, failed = beside(data[1:] + bytes(14))
        if failed == 1007 and theirs == found[: len(theirs)]:
            return bool(found)  # they decode a text as it comes, we all of it: we come to it later, if at all
        if code == 1009:
            assert theirs[: len(found)] == found, (found, theirs)
        elif failed == 1002 and (code == 1007 or is_bad_gateway(found)):
            pass
        else:
            assert (theirs, failed) == (found, code), (found, code, theirs, failed)
        return bool(found)

    return run


def is_bad_gateway(found: list[object]) -> bool:
    """It ends with a close frame of the code 1014, which is IANA's, and unknown to wsproto."""
    last = found[-1] if found else None
    return isinstance(last, tuple) and last[:2] == (8, 1014)


def beside(data: bytes) -> tuple[list[object], int]:
    """The same as wsproto reads it."""
    protocol = FrameProtocol(client=False, extensions=[])
    protocol.receive_bytes(data)
    found: list[object] = []
    parts: list[object] = []
    try:
        for frame in protocol.received_frames():
            if frame.opcode == Opcode.CLOSE:
                code, reason = frame.payload
                return [*found, (8, int(code), reason or "")], 0
            if frame.opcode in (Opcode.PING, Opcode.PONG):
                found.append((int(frame.opcode), bytes(frame.payload)))
                continue
            parts.append(frame.payload if isinstance(frame.payload, str) else bytes(frame.payload))
            if frame.message_finished:
                found.append(("" if isinstance(parts[0], str) else b"").join(parts))  # type: ignore[attr-defined]
                parts = []
    except ParseFailed as error:
        return found, int(error.code)
    return found, 0


def frame_seeds() -> Iterable[bytes]:
    for good in wire.GOOD:
        if len(good.sent) < 2000:
            yield bytes((int(good.deflate),)) + good.sent
    for bad in wire.BAD:
        if not bad.long:
            yield bytes((int(bad.deflate),)) + bad.sent


def make_handshake() -> Run:
    def run(data: bytes, bits: int) -> bool:
        accepted = websocket.accept_key(data)
        assert accepted is None or (len(accepted) == 28 and len(data) == 24)
        names = websocket.tokens(data)
        assert names is None or websocket.tokens(b", ".join(names)) == names
        offers = websocket.offered(data)
        if offers is None:
            return accepted is not None or bool(names)
        terms = websocket.agree(offers)
        if terms is not None:
            answer, theirs, ours = terms
            assert 8 <= theirs <= 15 and 8 <= ours <= 15
            # What we answer is one extension that can be read.
            assert len(websocket.offered(answer) or ()) == 1
        return True

    return run


def handshake_seeds() -> Iterable[bytes]:
    yield b"dGhlIHNhbXBsZSBub25jZQ=="
    yield b"chat, superchat"
    yield b"permessage-deflate; client_max_window_bits"
    yield b'permessage-deflate; server_max_window_bits=10; client_max_window_bits="9", foo; a=b; c, permessage-deflate'


HANDSHAKE_WORDS = (
    *(
        b"permessage-deflate",
        b"client_max_window_bits",
        b"server_max_window_bits",
        b"server_no_context_takeover",
    ),
    *(b"client_no_context_takeover", b"; ", b", ", b"=", b'"', b"\\", b"15", b"8", b"==", b"AAAA"),
)
