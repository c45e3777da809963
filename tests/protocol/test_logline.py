"""What a log line is made of: variables found in a packet, values that cannot leave their place, blocking writes."""

import fcntl
import json
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emperor.protocol import logline, packet

PAIRS = st.lists(
    st.tuples(st.sampled_from([b"A", b"AB", b"HTTP_X", b"URI"]), st.binary(max_size=40)), max_size=6
)


@given(PAIRS)
def test_a_variable_is_the_last_of_its_name(pairs: list[tuple[bytes, bytes]]) -> None:
    whole = packet.encode(pairs)
    assert logline.variables(whole) == len(pairs)
    for key in (b"A", b"AB", b"HTTP_X", b"URI", b"", b"HTTP_XY"):
        assert logline.variable(whole, key) == dict(pairs).get(key)


@given(PAIRS, st.integers(0, 60))
def test_a_packet_that_is_cut_is_read_to_its_end_and_no_further(
    pairs: list[tuple[bytes, bytes]], cut: int
) -> None:
    whole = packet.encode(pairs)
    logline.variable(whole[: max(4, len(whole) - cut)], b"URI")


@given(st.binary())
def test_a_value_stays_between_its_quotes(raw: bytes) -> None:
    text = logline.escaped(raw, False)
    assert all(32 <= c < 127 and c != 34 for c in text)
    back = text.decode().encode("latin-1").decode("unicode_escape").encode("latin-1")
    assert back == raw
    in_json = logline.escaped(raw, True)
    assert all(32 <= c < 127 for c in in_json)
    assert json.loads(b'"%b"' % in_json) == raw.decode("utf-8", "backslashreplace")


def test_what_is_plain_is_not_copied() -> None:
    raw = b"/plain?and=simple"
    assert logline.escaped(raw, False) is raw
    assert logline.escaped(raw, True) is raw


@pytest.mark.parametrize("nonblocking", [False, True])
def test_writing_waits_for_a_slow_reader_and_loses_nothing(nonblocking: bool) -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, not nonblocking)
    block = b"".join(b"line %d %b\n" % (number, b"x" * (number % 300)) for number in range(5000))
    results: list[tuple[int, int]] = []
    writer = threading.Thread(target=lambda: results.append(logline.write_lines(write_end, block, True)))
    writer.start()
    got = b""
    while len(got) < len(block):
        got += os.read(read_end, 10_000)
    writer.join(10)
    assert results == [(len(block), 0)]
    assert got == block
    os.close(read_end)
    assert logline.write_lines(write_end, block, True)[1] == 32  # EPIPE
    os.close(write_end)


def test_others_on_the_same_pipe_write_between_lines() -> None:
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
    ours = b"".join(b"ours %d %b\n" % (number, b"x" * (number % 200)) for number in range(2000))
    block = ours + b"long " + b"y" * 6000 + b"\n"
    writer = threading.Thread(target=logline.write_lines, args=(write_end, block, True))
    theirs = threading.Thread(target=lambda: [os.write(write_end, b"theirs %d\n" % n) for n in range(500)])
    writer.start()
    theirs.start()
    got = b""
    while got.count(b"\n") < 2501:
        got += os.read(read_end, 4096)
    writer.join(10)
    theirs.join(10)
    lines = got.split(b"\n")[:-1]
    whole = {line for line in block.split(b"\n") if len(line) < 4096}
    assert sum(line in whole for line in lines) == 2000
    assert sum(line.startswith(b"theirs ") for line in lines) >= 499
    os.close(read_end)
    os.close(write_end)
