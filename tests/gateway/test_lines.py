"""Output as lines: whole, byte by byte, and without end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vassals.gateway.lines import LINE_BYTES, Lines


def collect(chunks: list[bytes]) -> list[str]:
    lines = Lines()
    return [line for chunk in chunks for line in lines.feed(chunk)] + lines.flush()


@given(st.binary(max_size=300), st.integers(1, 20))
def test_how_it_was_cut_makes_no_difference(text: bytes, size: int) -> None:
    chunks = [text[at : at + size] for at in range(0, len(text), size)]
    assert collect(chunks) == collect([text])


def test_lines_ends_and_odd_bytes() -> None:
    lines = Lines()
    assert lines.feed(b"one\n\ntwo\r\nhalf") == ["one", "", "two"]
    assert lines.feed(b" done\nbad \xff\n") == ["half done", "bad \\xff"]
    assert lines.flush() == []


def test_a_line_without_end_is_cut_and_memory_is_bounded() -> None:
    lines = Lines()
    out = [line for _ in range(10) for line in lines.feed(b"x" * 60_000)]
    assert all(len(line) == LINE_BYTES for line in out)
    assert len("".join(out)) + len(lines._rest) == 600_000 and len(lines._rest) <= LINE_BYTES
    assert collect([b"y" * (LINE_BYTES + 1) + b"\nz\n"]) == ["y" * LINE_BYTES, "y", "z"]
