import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emperor.protocol import records
from emperor.protocol.errors import RecordError
from tests.wire import messages as wire

u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
u64 = st.integers(0, 0xFFFFFFFFFFFFFFFF)
Record = tuple[int, int, int, int, bytes]
any_record = st.tuples(u8, u8, u16, u64, st.binary(max_size=40))
utf8 = st.text(st.characters(codec="utf-8"), max_size=60)

SPECIFICATION = Path(__file__).parents[2] / "docs/specs/backplane.md"


def test_the_types_are_the_ones_of_the_specification() -> None:
    rows = re.findall(r"^\| (\d+) \| ([A-Z-]+) \| ", SPECIFICATION.read_text(), re.MULTILINE)
    assert len(rows) > 20
    assert {int(number): name for number, name in rows} == records.NAMES
    for number, name in records.NAMES.items():
        assert getattr(records, name.replace("-", "_")) == number


# The bytes, written down apart from the code under test

BYTES: dict[str, tuple[bytes, bytes]] = {
    "BYE": (records.pack(records.BYE, 0, records.NO_WORD, 0, b""), wire.record(42)),
    "DATA": (
        records.pack(records.DATA, records.FIN, 5, 0x0102030405060708, b"hello"),
        wire.record(4, b"hello", 1, 5, 0x0102030405060708),
    ),
    "REQUEST": (
        records.pack_request(records.FIN | records.IDEMPOTENT, 3, 9, b"packet", b"body"),
        wire.record(3, b"packetbody", 5, 3, 9),
    ),
    "REQUEST without a body": (
        records.pack_request(0, 3, 9, b"packet", b""),
        wire.record(3, b"packet", 0, 3, 9),
    ),
    "RESPONSE": (
        records.pack_response(records.FIN, records.NO_WORD, 9, 1500, b"200 OK\r\n", b"hello"),
        wire.record(36, wire.RESPONSE, 1, 0xFFFF, 9),
    ),
    "HELLO": (records.pack_hello(0, 2, 1, 7, wire.TOKEN, "blog"), wire.record(33, wire.HELLO)),
    "WELCOME": (
        records.pack_welcome(32, 0xDEADBEEF, 262144, 1 << 20, wire.NONCE),
        wire.record(1, wire.WELCOME),
    ),
    "READY": (records.pack_ready(wire.NONCE, 1), wire.record(34, wire.READY)),
    "REFUSED": (records.pack_refused(4, "token"), wire.record(2, wire.REFUSED)),
    "CREDIT": (records.pack_credit(9, 65536), wire.record(6, wire.CREDIT, 0, 0xFFFF, 9)),
}


@pytest.mark.parametrize("name", BYTES)
def test_the_bytes_are_the_ones_of_the_specification(name: str) -> None:
    packed, wanted = BYTES[name]
    assert packed == wanted


@given(st.lists(any_record, max_size=8))
def test_unpack_undoes_pack(some: list[Record]) -> None:
    message = b"".join(records.pack(*one) for one in some)
    assert records.unpack(message) == some


@given(st.lists(any_record, min_size=1, max_size=4))
def test_every_truncation_is_refused_unless_it_falls_between_two_records(some: list[Record]) -> None:
    packed = [records.pack(*one) for one in some]
    message = b"".join(packed)
    between = {sum(map(len, packed[:count])): count for count in range(len(packed) + 1)}
    for size in range(len(message)):
        if size in between:
            assert records.unpack(message[:size]) == some[: between[size]]
        else:
            with pytest.raises(RecordError):
                records.unpack(message[:size])


@pytest.mark.parametrize("name", wire.BROKEN)
def test_broken(name: str) -> None:
    with pytest.raises(RecordError):
        records.unpack(wire.BROKEN[name])


def whole(message: bytes) -> list[Record] | None:
    """What ``unpack`` must give, by another way of reading; None when it must refuse."""
    out: list[Record] = []
    while message:
        size = int.from_bytes(message[4:8], "little") + 16
        if size > len(message) or len(message) < 16:
            return None
        word, stream = int.from_bytes(message[2:4], "little"), int.from_bytes(message[8:16], "little")
        out.append((message[0], message[1], word, stream, message[16:size]))
        message = message[size:]
    return out


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    message = bytearray(b"".join(records.pack(*one) for one in draw(st.lists(any_record, max_size=4))))
    for _ in range(draw(st.integers(0, 4))):
        if message:
            message[draw(st.integers(0, len(message) - 1))] = draw(st.sampled_from([0, 1, 16, 127, 128, 255]))
    return bytes(message)


@settings(max_examples=400)
@given(changed() | st.binary(max_size=100))
def test_changed_bytes_are_read_by_the_rules_or_refused(message: bytes) -> None:
    wanted = whole(message)
    if wanted is None:
        with pytest.raises(RecordError):
            records.unpack(message)
    else:
        assert records.unpack(message) == wanted


Unpack = Callable[[bytes], Any]

UNPACKS: dict[str, Unpack] = {
    "HELLO": records.unpack_hello,
    "WELCOME": records.unpack_welcome,
    "READY": records.unpack_ready,
    "REFUSED": records.unpack_refused,
    "CREDIT": records.unpack_credit,
    "RESPONSE": records.unpack_response,
}


@pytest.mark.parametrize("name", UNPACKS)
def test_bad_payloads(name: str) -> None:
    UNPACKS[name](getattr(wire, name))
    for payload in wire.BAD_PAYLOADS[name]:
        with pytest.raises(RecordError):
            UNPACKS[name](payload)


@settings(max_examples=300)
@given(st.sampled_from(sorted(UNPACKS)), st.binary(max_size=80))
def test_any_payload_is_read_or_refused(name: str, payload: bytes) -> None:
    reason = name
    try:
        UNPACKS[name](payload)
    except RecordError as error:
        reason = str(error)
    assert name in reason


def payload_of(message: bytes, kind: int, stream: int = 0) -> bytes:
    [(found, flags, word, found_stream, payload)] = records.unpack(message)
    assert (found, flags, word, found_stream) == (kind, 0, records.NO_WORD, stream)
    return payload


@given(u16, u16, u16, u16, u32, st.binary(min_size=32, max_size=32), utf8)
def test_hello(
    version: int, router: int, seat: int, slots: int, generation: int, token: bytes, name: str
) -> None:
    message = records.pack_hello(router, seat, slots, generation, token, name, version)
    wanted = (version, router, seat, slots, generation, token, name)
    assert records.unpack_hello(payload_of(message, records.HELLO)) == wanted


@given(u16, u16, u32, u32, u32, st.binary(min_size=16, max_size=16))
def test_welcome(version: int, deck: int, epoch: int, credit: int, window: int, nonce: bytes) -> None:
    message = records.pack_welcome(deck, epoch, credit, window, nonce, version)
    wanted = (version, deck, epoch, credit, window, nonce)
    assert records.unpack_welcome(payload_of(message, records.WELCOME)) == wanted


@given(st.binary(min_size=16, max_size=16), u16)
def test_ready(nonce: bytes, free: int) -> None:
    assert records.unpack_ready(payload_of(records.pack_ready(nonce, free), records.READY)) == (nonce, free)


@given(u16, utf8)
def test_refused(code: int, reason: str) -> None:
    message = records.pack_refused(code, reason)
    assert records.unpack_refused(payload_of(message, records.REFUSED)) == (code, reason)


def test_a_reason_that_is_no_utf_8_is_read_all_the_same() -> None:
    assert records.unpack_refused(b"\4\0a\xffb") == (4, "a\ufffdb")


@given(u64, u32)
def test_credit(stream: int, count: int) -> None:
    message = records.pack_credit(stream, count)
    assert records.unpack_credit(payload_of(message, records.CREDIT, stream)) == count


@given(u8, u16, u64, u32, st.binary(max_size=60), st.binary(max_size=60))
def test_response(flags: int, word: int, stream: int, service_us: int, head: bytes, body: bytes) -> None:
    message = records.pack_response(flags, word, stream, service_us, head, body)
    [(kind, *found, payload)] = records.unpack(message)
    assert (kind, *found) == (records.RESPONSE, flags, word, stream)
    assert records.unpack_response(payload) == (service_us, head, body)


def test_a_response_head_of_just_the_limit_and_one_byte_more() -> None:
    head = b"h" * 65535
    [(*_, payload)] = records.unpack(records.pack_response(0, 0, 1, 0, head, b"body"))
    assert records.unpack_response(payload) == (0, head, b"body")
    with pytest.raises(ValueError, match="65536 bytes"):
        records.pack_response(0, 0, 1, 0, head + b"h", b"")


@pytest.mark.parametrize(
    "pack",
    [
        lambda: records.pack(4, 0, 0, -1, b""),
        lambda: records.pack(4, 0, 0, 1 << 64, b""),
        lambda: records.pack_credit(1, -1),
        lambda: records.pack_credit(1, 1 << 32),
        lambda: records.pack_response(0, 0, 1, 1 << 32, b"", b""),
    ],
)
def test_numbers_that_do_not_fit_are_refused_and_not_cut(pack: Callable[[], bytes]) -> None:
    with pytest.raises(OverflowError):
        pack()


def test_messages_of_many_records() -> None:
    some = [(records.DATA, 0, 0xFFFF, number, b"x" * 100) for number in range(4000)]
    message = b"".join(records.pack(*one) for one in some)
    assert len(message) < records.MESSAGE_LIMIT
    assert records.unpack(message) == some
