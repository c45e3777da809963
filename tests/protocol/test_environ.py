import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emperor.protocol import http1, packet
from emperor.protocol.environ import code_of, count_of, environ, response_head
from emperor.protocol.errors import PacketError
from tests.wire import packets as wire
from tests.wire import responses

latin = st.text(st.characters(max_codepoint=255), max_size=40)


@given(st.dictionaries(latin, latin, max_size=20), st.binary(max_size=40))
def test_environ_is_what_was_packed_and_says_where_the_body_starts(
    variables: dict[str, str], body: bytes
) -> None:
    pairs = [(key.encode("latin-1"), value.encode("latin-1")) for key, value in variables.items()]
    sent = packet.encode(pairs)
    assert environ(sent + body) == (variables, len(sent))


def test_the_last_of_equal_keys_wins() -> None:
    assert environ(packet.encode([(b"A", b"1"), (b"A", b"2")]))[0] == {"A": "2"}


def test_values_are_plain_str_of_iso_8859_1() -> None:
    [(key, value)] = environ(packet.encode([(b"A", bytes(range(256)))]))[0].items()
    assert type(key) is type(value) is str
    assert value == bytes(range(256)).decode("latin-1")


# A REQUEST payload goes on behind its packet: too much is a body, and only too little is an error.
TOO_SHORT = [name for name in wire.MALFORMED if name not in ("a size of less than is there",)]


@pytest.mark.parametrize("name", TOO_SHORT)
def test_malformed(name: str) -> None:
    with pytest.raises(PacketError):
        environ(wire.MALFORMED[name])


@pytest.mark.parametrize("name", [name for name in TOO_SHORT if wire.MALFORMED[name][:1] == b"\0"])
def test_a_length_past_the_packet_does_not_reach_into_the_body(name: str) -> None:
    sent = wire.MALFORMED[name]
    if len(sent) >= 4 and len(sent) == 4 + int.from_bytes(sent[1:3], "little"):
        with pytest.raises(PacketError):
            environ(sent + b"b" * 70_000)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_packet_or_a_packet_error(raw: bytes) -> None:
    try:
        variables, end = environ(raw)
    except PacketError:
        return
    assert 4 <= end <= len(raw)
    _, _, pairs = packet.decode(raw[:end])
    assert variables == {key.decode("latin-1"): value.decode("latin-1") for key, value in pairs}


INVENT = """
import tracemalloc
from emperor.protocol import packet
from emperor.protocol.environ import environ
tracemalloc.start()
for number in range(3000):
    environ(packet.encode([(b"HTTP_%d" % number + b"A" * {size}, b"")]))
print(tracemalloc.get_traced_memory()[0])
"""


@pytest.mark.parametrize("size", [1, 40, 120, 20_000])
def test_keys_that_a_client_invents_do_not_fill_the_memory(size: int) -> None:
    # In a process of its own, since what is kept is kept for good.
    command = [sys.executable, "-c", INVENT.format(size=size)]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert int(out.stdout) < 1_000_000


# response_head


class Safe(str):
    """As Django's SafeString."""

    __slots__ = ()


def test_a_subclass_of_str_is_text() -> None:
    assert response_head(Safe("200 OK"), [(Safe("A"), Safe("b"))]) == b"200 OK\r\nA: b\r\n"
    with pytest.raises(ValueError, match="'A'"):
        response_head("200 OK", [("A", Safe("b\r\n"))])


@pytest.mark.parametrize(
    ("status", "headers", "head"),
    [
        ("200 OK", [], b"200 OK\r\n"),
        ("200 OK", [("A", "b"), ("A", "c")], b"200 OK\r\nA: b\r\nA: c\r\n"),
        ("404 Not Found", [("X-a", "\xff\t ")], b"404 Not Found\r\nX-a: \xff\t \r\n"),
        ("200 OK", [["A", "b"]], b"200 OK\r\nA: b\r\n"),
        ("200 OK", [("A", "")], b"200 OK\r\nA: \r\n"),
    ],
)
def test_head(status: str, headers: list[tuple[str, str]], head: bytes) -> None:
    assert response_head(status, headers) == head


@pytest.mark.parametrize("bad", ["\r", "\n", "\r\n", "\0", "a\r\nSet-Cookie: b", "a\n", "\rb", "\n\r"])
def test_a_control_character_is_refused_and_the_header_named(bad: str) -> None:
    good = [("Good", "fine"), ("Also-Good", "fine")]
    with pytest.raises(ValueError, match="'X-Culprit'"):
        response_head("200 OK", [*good, ("X-Culprit", bad), ("Last", "fine")])
    with pytest.raises(ValueError, match="X-Culprit"):
        response_head("200 OK", [*good, ("X-Culprit" + bad, "fine"), ("Last", "fine")])
    with pytest.raises(ValueError, match="the status"):
        response_head("200 " + bad, good)


def test_a_character_outside_iso_8859_1_is_refused_and_the_header_named() -> None:
    good = [("Good", "\xff")]
    with pytest.raises(ValueError, match=r"'X-Culprit'.*ISO 8859-1"):
        response_head("200 OK", [*good, ("X-Culprit", "1 €"), ("Last", "fine")])
    with pytest.raises(ValueError, match="'X-€'"):
        response_head("200 OK", [*good, ("X-€", "fine")])
    with pytest.raises(ValueError, match="the status"):
        response_head("200 €", good)


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ([("A", b"b")], "'A', b'b'"),
        ([(b"A", "b")], "b'A', 'b'"),
        ([("A", 5)], "'A', 5"),
        ([("A", None)], "'A', None"),
        ([("A",)], r"\('A',\)"),
        ([("A", "b", "c")], r"\('A', 'b', 'c'\)"),
        ([None], "None"),
        ([5], "5"),
    ],
)
def test_a_header_that_is_no_pair_of_str_is_refused_and_named(
    headers: list[tuple[str, str]], named: str
) -> None:
    with pytest.raises(TypeError, match=named):
        response_head("200 OK", [("Good", "fine"), *headers])


def test_a_header_that_is_no_pair_is_named_behind_one_that_cannot_be_sent() -> None:
    with pytest.raises(TypeError, match="5"):
        response_head("200\r", [("A", 5)])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="None"):
        response_head("200 OK", [("A", "a\n"), None])  # type: ignore[list-item]


def test_a_status_that_is_no_str_is_refused() -> None:
    with pytest.raises(TypeError):
        response_head(b"200 OK", [])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "status", ["", "20", "2000", "200OK", "abc", "100 Continue", "099 x", " 200 OK", "2\xb20 OK"]
)
def test_a_status_that_is_none_is_refused(status: str) -> None:
    with pytest.raises(ValueError, match="status"):
        response_head(status, [])


def test_a_status_may_have_no_words() -> None:
    assert response_head("200", []) == b"200\r\n"


@pytest.mark.parametrize("name", ["", "A:", "A b", "A\t", "(A)", "\xe4", "\u20ac", "A/b"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="response header"):
        response_head("200 OK", [("Good", "fine"), (name, "fine")])


@pytest.mark.parametrize("character", ["\x01", "\x1f", "\x7f", "\x08"])
def test_a_value_with_a_control_character_is_refused(character: str) -> None:
    with pytest.raises(ValueError, match="'X-Culprit' holds a control character"):
        response_head("200 OK", [("X-Culprit", f"a{character}b")])


texts = st.text(max_size=12) | st.sampled_from(
    ["\r\n", "A", "a\r\nb", "A: b\r\nC", "\0", "Content-Length", "5"]
)


@given(texts.map(lambda text: "200 " + text), st.lists(st.tuples(texts, texts), max_size=4))
def test_no_arguments_of_start_response_can_add_a_line(status: str, headers: list[tuple[str, str]]) -> None:
    try:
        head = response_head(status, headers)
    except ValueError:
        texts = [status, *(text for pair in headers for text in pair)]
        controls = any(character < " " or character > "~" for text in texts for character in text)
        assert controls or not all(re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) for name, _ in headers)
        return
    assert head == b"".join(
        line.encode("latin-1") + b"\r\n"
        for line in (status, *(f"{name}: {value}" for name, value in headers))
    )
    assert len(head.splitlines()) >= 1 + len(headers)
    assert head.count(b"\r") == head.count(b"\n") == 1 + len(headers)


def test_what_an_app_says_is_what_a_client_reads() -> None:
    head = response_head(
        "200 OK", [("Content-Type", "text/plain"), ("Set-Cookie", "a=\xe4"), ("Set-Cookie", "b")]
    )
    _, out, *_ = http1.response(head, http1.HTTP11 | http1.KEEP_ALIVE, 2, responses.DATE)
    assert out.startswith(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nSet-Cookie: a=\xe4\r\nSet-Cookie: b\r\n"
    )


def test_a_value_that_comes_again_is_the_same_and_no_other_is_taken_for_it() -> None:
    """The table keeps the last value of each key: of one length, of one beginning, and back again."""
    for value in (
        b"first",
        b"other",
        b"first",
        b"firs",
        b"first!",
        b"",
        b"f",
        "f\xfcrst".encode("latin-1"),
        b"first",
    ):
        for long in (value, value * 60):
            assert environ(packet.encode([(b"HTTP_AGAIN", long)]))[0] == {
                "HTTP_AGAIN": long.decode("latin-1")
            }


@given(st.lists(st.tuples(st.sampled_from(["A", "HTTP_B", "HTTP_" + "C" * 70]), latin), max_size=12))
def test_values_follow_their_keys_whatever_came_before(pairs: list[tuple[str, str]]) -> None:
    sent = packet.encode([(key.encode("latin-1"), value.encode("latin-1")) for key, value in pairs])
    assert environ(sent)[0] == dict(pairs)


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 0), ("14", 14), ("007", 7), ("9" * 15, int("9" * 15)), ("9" * 16, -1)]
    + [(text, -1) for text in ("", " 1", "1 ", "-1", "+1", "1_0", "1.0", "\u0661", "\xb2")],
)
def test_counts_are_plain_digits(text: str, count: int) -> None:
    assert count_of(text) == count


class Words(str):
    """As Django's SafeString."""


def test_a_status_is_three_digits() -> None:
    assert [code_of(status) for status in ("200 OK", "404", Words("304 Not Modified"))] == [200, 404, 304]
