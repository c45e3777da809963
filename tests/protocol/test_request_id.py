"""The id of a request inside its packet."""

import re

from hypothesis import given
from hypothesis import strategies as st

from emperor.protocol import http1, packet
from emperor.protocol.packet import RequestHead

KEY = b"HTTP_X_REQUEST_ID"


def head(*more: tuple[bytes, bytes]) -> RequestHead:
    return packet.admit(
        packet.encode([(b"REQUEST_METHOD", b"GET"), (b"HTTP_HOST", b"blog.localhost"), *more])
    )


def test_an_id_is_32_hexadecimal_digits_and_no_two_are_alike() -> None:
    ids = {packet.new_id() for _ in range(100_000)}
    assert len(ids) == 100_000
    assert all(re.fullmatch(rb"[0-9a-f]{32}", each) for each in ids)


def test_the_app_is_told_and_all_else_stays() -> None:
    request = head((b"PATH_INFO", b"/x"))
    before = packet.decode(request.packet)[2]
    made = packet.identify(request, False)
    assert packet.decode(request.packet)[2] == [*before, (KEY, made)]


def test_what_a_stranger_calls_its_request_is_replaced() -> None:
    request = head((KEY, b"mine"))
    made = packet.identify(request, False)
    assert made != b"mine"
    assert [value for key, value in packet.decode(request.packet)[2] if key == KEY] == [made]


def test_what_a_trusted_peer_calls_it_stays() -> None:
    request = head((KEY, b"0-Ab.c_9"))
    before = request.packet
    assert packet.identify(request, True) == b"0-Ab.c_9"
    assert request.packet == before


@given(st.binary(max_size=300).filter(lambda value: not re.fullmatch(rb"[A-Za-z0-9._-]{1,128}", value)))
def test_what_is_no_name_is_replaced_whoever_sent_it(value: bytes) -> None:
    value = value.translate(None, bytes(range(32)) + b"\x7f")
    if re.fullmatch(rb"[A-Za-z0-9._-]{1,128}", value):
        return
    request = head((KEY, value))
    made = packet.identify(request, True)
    assert re.fullmatch(rb"[0-9a-f]{32}", made)
    assert dict(packet.decode(request.packet)[2])[KEY] == made


def test_a_packet_is_filled_to_its_last_byte_and_never_past_it() -> None:
    room = 65535 - (len(head((b"HTTP_X", b"")).packet) - 4)
    for left in range(60):
        request = head((b"HTTP_X", b"x" * (room - left)))
        before = request.packet
        made = packet.identify(request, False)
        if left >= 2 + len(KEY) + 2 + 32:
            assert len(request.packet) == len(before) + 53
            assert dict(packet.decode(request.packet)[2])[KEY] == made
        else:
            assert request.packet == before


def test_what_a_client_calls_its_request_goes_even_where_ours_does_not_fit() -> None:
    room = 65535 - (len(head((b"HTTP_X", b""), (KEY, b"theirs")).packet) - 4)
    request = head((b"HTTP_X", b"x" * room), (KEY, b"theirs"))
    packet.identify(request, False)
    assert KEY not in dict(packet.decode(request.packet)[2])


def test_a_response_has_the_routers_id_and_not_the_apps() -> None:
    out = http1.response(b"200 OK\r\nX-Request-Id: theirs\r\nX-Other: 1\r\n", http1.HTTP11, 0, b"", b"ours")[
        1
    ]
    assert re.findall(rb"(?i)x-request-id: (\w+)", out) == [b"ours"]
    assert b"X-Other: 1" in out


def test_without_one_the_apps_own_stays() -> None:
    out = http1.response(b"200 OK\r\nX-Request-Id: theirs\r\n", http1.HTTP11, 0, b"")[1]
    assert re.findall(rb"(?i)x-request-id: (\w+)", out) == [b"theirs"]


def test_it_is_there_whatever_the_connection_header_names() -> None:
    head = b"200 OK\r\nConnection: x-request-id, close\r\n"
    assert b"X-Request-ID: ours\r\n" in http1.response(head, http1.HTTP11, 0, b"", b"ours")[1]


def test_the_largest_head_has_room_for_the_longest_id() -> None:
    filler = b"200 OK\r\n" + b"X-Filler: %b\r\n" % (b"y" * (65535 - 10 - len(b"X-Filler: \r\n")))
    out = http1.response(filler, http1.HTTP11, -1, b"Date: Sun, 22 Nov 2026 20:00:00 GMT\r\n", b"i" * 128)[1]
    assert out.endswith(b"\r\n\r\n") and b"X-Request-ID: " + b"i" * 128 in out
