import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emperor.protocol import packet
from emperor.protocol.environ import environ
from emperor.protocol.errors import PacketError
from tests.wire import packets as wire

pairs = st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=200)), max_size=20)
bytes8 = st.integers(0, 255)


@given(pairs, bytes8, bytes8)
def test_decode_undoes_encode(some: list[tuple[bytes, bytes]], modifier1: int, modifier2: int) -> None:
    sent = packet.encode(some, modifier1, modifier2)
    assert packet.decode(sent) == (modifier1, modifier2, some)
    assert sent == wire.packet(wire.block(tuple(some)), modifier1, modifier2)
    assert packet.encode_vars(some) == sent[packet.HEADER_SIZE :]


@given(pairs.filter(bool))
def test_a_packet_that_is_cut_off_is_refused(some: list[tuple[bytes, bytes]]) -> None:
    sent = packet.encode(some)
    for size in range(len(sent)):
        with pytest.raises(PacketError):
            packet.decode(sent[:size])
        # With a header that owns up to the cut, only a cut between two pairs is a packet.
        if size >= 4:
            shorter = wire.packet(sent[4:size])
            try:
                _, _, left = packet.decode(shorter)
            except PacketError:
                continue
            assert packet.encode(left) == shorter
            assert left == some[: len(left)]


def test_decode_of_nothing_at_all_says_that_it_is_no_uwsgi() -> None:
    with pytest.raises(PacketError) as caught:
        packet.decode(b"\0\0")
    assert caught.value.status == 0


def test_a_packet_of_just_the_limit_and_one_byte_more() -> None:
    full = [(b"A", b"b" * (65535 - 5))]
    assert len(packet.encode(full)) == 65539
    assert packet.decode(packet.encode(full))[2] == full
    with pytest.raises(ValueError, match="65536 bytes"):
        packet.encode([(b"AA", full[0][1])])
    with pytest.raises(ValueError, match="65535"):
        packet.encode([(b"A", b"b" * 65536)])
    with pytest.raises(ValueError, match="65535"):
        packet.encode([(b"A" * 65536, b"b")])


@pytest.mark.parametrize("name", wire.REFUSED)
def test_refused(name: str) -> None:
    sent, status = wire.REFUSED[name]
    with pytest.raises(PacketError) as caught:
        packet.admit(sent)
    assert caught.value.status == status
    assert str(caught.value)


@pytest.mark.parametrize("name", wire.MALFORMED)
def test_malformed_for_every_reader(name: str) -> None:
    with pytest.raises(PacketError):
        packet.decode(wire.MALFORMED[name])


@pytest.mark.parametrize("row", wire.ADMITTED, ids=[row.name for row in wire.ADMITTED])
def test_admitted(row: wire.Admitted) -> None:
    head = packet.admit(row.sent)
    assert (head.method, head.host, head.path) == (row.method, row.host, row.path)
    assert head.content_length == row.content_length
    assert head.is_head == (row.method == b"HEAD")
    assert not (head.chunked or head.keep_alive or head.expect_continue)
    seen, end = environ(head.packet)
    assert end == len(head.packet)
    assert {key: seen.get(key) for key in row.environ} == dict(row.environ)
    assert not seen.keys() & set(row.absent)
    assert packet.decode(head.packet)[:2] == (0, 0)


def test_idempotent_is_what_rfc_9110_9_2_2_says() -> None:
    methods = [
        b"GET",
        b"HEAD",
        b"PUT",
        b"DELETE",
        b"OPTIONS",
        b"TRACE",
        b"POST",
        b"PATCH",
        b"get",
    ]
    found = [m for m in methods if packet.admit(wire.request((b"REQUEST_METHOD", m))).idempotent]
    assert found == methods[:6]


def test_a_packet_as_large_as_a_packet_can_be_is_admitted() -> None:
    # With every variable that admit would add.
    full = (
        *((b"SCRIPT_NAME", b""), (b"QUERY_STRING", b""), (b"SERVER_NAME", b"n"), (b"SERVER_PORT", b"1")),
        (b"SERVER_PROTOCOL", b"HTTP/1.1"),
    )
    room = 65535 - len(wire.block((*wire.GET, *full)))
    sent = wire.request(*full, (b"A", b"b" * (room - 5)))
    assert len(sent) == 65539
    head = packet.admit(sent)
    assert len(head.packet) == 65539
    assert environ(head.packet)[0]["A"] == "b" * (room - 5)


def test_what_was_admitted_is_admitted_again_unchanged() -> None:
    for row in wire.ADMITTED:
        once = packet.admit(row.sent).packet
        assert packet.admit(once).packet == once


SENT = [row.sent for row in wire.ADMITTED] + [sent for sent, _ in wire.REFUSED.values() if len(sent) < 500]


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    sent = bytearray(draw(st.sampled_from(SENT)))
    for _ in range(draw(st.integers(0, 4))):
        if sent:
            sent[draw(st.integers(0, len(sent) - 1))] = draw(
                st.one_of(st.sampled_from(b"\0\1\xff_A:\r\n"), bytes8)
            )
    if draw(st.booleans()):
        size = len(sent) - 4
        if size >= 0:
            sent[1:3] = size.to_bytes(2, "little")
    return bytes(sent)


@settings(max_examples=400, deadline=None)
@given(st.one_of(changed(), st.binary(max_size=60)))
def test_any_bytes_are_admitted_by_the_rules_or_refused(sent: bytes) -> None:
    try:
        head = packet.admit(sent)
    except PacketError as error:
        status = error.status
    else:
        status = 200
    assert status in (200, 400, 431, 501)
    if status != 200:
        return
    seen, _ = environ(head.packet)
    _, _, claimed = packet.decode(sent)
    for key, value in seen.items():
        assert key[0].isalpha()
        assert key.isascii()
        assert key.upper() == key
        assert not key.startswith("UWSGI_")
        assert key != "HTTP_PROXY"
        raw = (key.encode(), value.encode("latin-1"))
        assert (
            raw in claimed or key in ("SCRIPT_NAME", "PATH_INFO", "QUERY_STRING") or key.startswith("SERVER_")
        )
    assert {b"REQUEST_METHOD", b"PATH_INFO", b"SERVER_NAME"} <= {key.encode() for key in seen}
    assert head.content_length == int(seen.get("CONTENT_LENGTH") or 0)
