"""WebSocket frames and the handshake's fields, sans I/O."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emperor.protocol import websocket
from emperor.protocol.errors import WebSocketError
from tests.wire.websocket import BAD, BINARY, GOOD, MOST, TEXT, Bad, Good, closed, frame, packed, server_frame


def read(reader: websocket.Reader, *pieces: bytes) -> list[object]:
    found: list[object] = []
    for piece in pieces:
        reader.feed(piece)
        while (each := reader.next()) is not None:
            found.append(each)
    return found


def reader(deflate: bool = False, most: int = MOST) -> websocket.Reader:
    return websocket.Reader(most, 15 if deflate else 0)


@pytest.mark.parametrize("row", GOOD, ids=lambda row: row.what)
def test_what_is_well_formed_is_read_however_it_was_cut(row: Good) -> None:
    assert read(reader(row.deflate), row.sent) == row.found
    assert read(reader(row.deflate), row.sent + frame(TEXT, b"next"))[: len(row.found)] == row.found
    step = 1 if len(row.sent) < 2000 else 997
    if step == 1:
        assert read(reader(row.deflate), *[row.sent[at : at + 1] for at in range(len(row.sent))]) == row.found
    for at in range(0, len(row.sent), step):
        assert read(reader(row.deflate), row.sent[:at], row.sent[at:]) == row.found


@pytest.mark.parametrize("row", BAD, ids=lambda row: f"{row.clause} {row.what}")
def test_what_is_not_is_refused_with_its_code_however_it_was_cut(row: Bad) -> None:
    cuts = (
        range(len(row.sent))
        if len(row.sent) < 200
        else (0, 1, 2, 5, 9, len(row.sent) // 2, len(row.sent) - 1)
    )
    for at in cuts:
        made = reader(row.deflate)
        with pytest.raises(WebSocketError) as caught:
            read(made, row.sent[:at], row.sent[at:])
        assert caught.value.code == row.code
        # It is spent.
        assert made.over and read(made, frame(TEXT, b"more")) == [] and not made.has()


@given(
    st.lists(
        st.tuples(
            st.one_of(st.text(max_size=300), st.binary(max_size=300)), st.booleans(), st.integers(1, 5)
        ),
        max_size=8,
    ),
    st.lists(st.integers(1, 400), max_size=40),
)
def test_any_messages_in_any_fragments_and_pieces(
    messages: list[tuple[str | bytes, bool, int]], cuts: list[int]
) -> None:
    sent = b""
    for message, compressed, parts in messages:
        raw = message.encode() if isinstance(message, str) else message
        raw = packed(raw) if compressed else raw
        size = len(raw) // parts + 1
        pieces = [raw[at : at + size] for at in range(0, len(raw), size)] or [b""]
        for at, piece in enumerate(pieces):
            opcode = 0 if at else TEXT if isinstance(message, str) else BINARY
            rsv = 4 if compressed and not at else 0
            sent += frame(opcode, piece, fin=at == len(pieces) - 1, rsv=rsv)
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(sent[at : at + cut])
        at += cut
    assert read(reader(True), *pieces, sent[at:]) == [message for message, _, _ in messages]


@given(st.binary(max_size=400), st.booleans())
def test_anything_is_read_or_refused(data: bytes, deflate: bool) -> None:
    try:
        read(reader(deflate), data)
    except WebSocketError as error:
        if error.code not in (1002, 1007, 1009) or not str(error):
            raise


@given(st.text(max_size=200), st.binary(max_size=200))
def test_frames_out_are_those_of_the_standard(text: str, data: bytes) -> None:
    assert websocket.text(text) == server_frame(TEXT, text.encode())
    assert websocket.frame(BINARY, data) == server_frame(BINARY, data)
    assert websocket.frame(BINARY, data, True) == server_frame(BINARY, data, rsv=4)


@pytest.mark.parametrize("size", [125, 126, 65535, 65536])
def test_lengths_are_as_short_as_can_be(size: int) -> None:
    assert websocket.frame(BINARY, bytes(size)) == server_frame(BINARY, bytes(size))


def test_a_lone_surrogate_is_no_text() -> None:
    with pytest.raises(UnicodeEncodeError):
        websocket.text("\ud800")


def test_close_frames() -> None:
    assert websocket.close(1005) == server_frame(8)
    assert websocket.close(1000, "over") == server_frame(8, closed(1000, "over"))
    # Cut behind a whole character.
    assert websocket.close(1000, "ä" * 100) == server_frame(8, closed(1000, "ä" * 61))
    allowed = {1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)}
    assert {code for code in range(-1, 70000) if websocket.may_close_with(code)} == allowed


def test_a_message_takes_the_memory_that_has_come_and_not_what_is_announced() -> None:
    made = reader(most=1 << 30)
    made.feed(b"\x82\xff" + (1 << 29).to_bytes(8, "big") + bytes(4) + b"x")
    assert made.next() is None


def test_what_is_compressed_is_small_and_can_be_read() -> None:
    text = b"the same again " * 100
    for bits in range(9, 16):
        made = websocket.deflated(text, bits)
        assert made is not None and len(made) < 100
        assert zlib.decompressobj(-bits).decompress(made + b"\0\0\xff\xff") == text
    assert websocket.deflated(text, 8) is None


@pytest.mark.parametrize(
    ("key", "accepted"),
    [
        # RFC 6455, 1.3
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        (b"", None),
        (b"dGhlIHNhbXBsZSBub25jZQ", None),
        (b"dGhlIHNhbXBsZSBub25jZR==", None),
        (b"dGhlIHNhbXBsZSBub25jZQ== ", None),
        (b"dGhlIHNhbXBsZSBub25j", None),
        (b"not base64 at all at all", None),
        (b"x" * 24, None),
        (b"dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==", None),
    ],
)
def test_keys(key: bytes, accepted: bytes | None) -> None:
    assert websocket.accept_key(key) == accepted


@pytest.mark.parametrize(
    ("field", "found"),
    [
        (b"", []),
        (b"chat", [b"chat"]),
        (b"chat, superchat ,\tv2.0", [b"chat", b"superchat", b"v2.0"]),
        (b"chat,,b,", [b"chat", b"b"]),
        (b"two words", None),
        (b'"quoted"', None),
        (b"\xc3\xa4", None),
    ],
)
def test_subprotocols(field: bytes, found: list[bytes] | None) -> None:
    assert websocket.tokens(field) == found


@pytest.mark.parametrize(
    ("field", "found"),
    [
        (b"permessage-deflate", [(b"permessage-deflate", {})]),
        (
            b'a; b=1; c ,, D ; E="f"',
            [(b"a", {b"b": b"1", b"c": None}), (b"d", {b"e": b"f"})],
        ),
        (b'a; b="\\c"', [(b"a", {b"b": b"c"})]),
        (b"a; b; b=2", [(b"a", {b"b": False})]),
        (b"", None),
        (b",", None),
        (b"a b", None),
        (b"a;", None),
        (b"a; =1", None),
        (b"a; b=", None),
        (b'a; b="', None),
        (b'a; b="not a token"', None),
        (b"a; b=1 2", None),
    ],
)
def test_extensions(field: bytes, found: object) -> None:
    assert websocket.offered(field) == found


BOTH = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"


@pytest.mark.parametrize(
    ("field", "answer"),
    [
        (b"permessage-deflate", (BOTH, 15, 15)),
        (b"permessage-deflate; client_max_window_bits", (BOTH + b"; client_max_window_bits=12", 12, 15)),
        (b"permessage-deflate; client_max_window_bits=10", (BOTH + b"; client_max_window_bits=10", 10, 15)),
        (b"permessage-deflate; server_max_window_bits=9", (BOTH + b"; server_max_window_bits=9", 15, 9)),
        (b"permessage-deflate; client_no_context_takeover; server_no_context_takeover", (BOTH, 15, 15)),
        (b"x-webkit-deflate-frame", None),
        (b"permessage-deflate; unknown", None),
        (b"permessage-deflate; server_max_window_bits", None),
        (b"permessage-deflate; server_max_window_bits=16", None),
        (b"permessage-deflate; server_max_window_bits=08", None),
        (b"permessage-deflate; client_max_window_bits=7", None),
        (b"permessage-deflate; client_no_context_takeover=1", None),
        (b"permessage-deflate; server_max_window_bits=9; server_max_window_bits=9", None),
        # RFC 7692, 5.1: the first that can be kept to.
        (b"permessage-deflate; unknown, foo, permessage-deflate", (BOTH, 15, 15)),
    ],
)
def test_what_is_agreed_on(field: bytes, answer: object) -> None:
    offers = websocket.offered(field)
    assert offers is not None
    assert websocket.agree(offers) == answer
