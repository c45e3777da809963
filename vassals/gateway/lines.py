"""A worker's output, as lines: bytes of a pipe in, text out. Pure.

The app writes what it likes, in pieces and sizes of its choice, so a line has a bound: a longer one is cut
and goes on as the next line, and memory stays bounded whatever the app does.
"""

from __future__ import annotations

LINE_BYTES = 16 * 1024
"""The longest line; the rest of a longer one becomes lines of its own."""


class Lines:
    """Collects the output of one pipe."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[str]:
        """The lines that `chunk` completes, without their ends; bytes that are no UTF-8 are escaped as
        \\xNN."""
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        lines = [piece for line in whole for piece in _cut(line)]
        if len(self._rest) > LINE_BYTES:
            *long, self._rest = _cut(self._rest)
            lines += long
        return [_text(line) for line in lines]

    def flush(self) -> list[str]:
        """What was written without an end of line: its writer has gone."""
        rest, self._rest = self._rest, b""
        return [_text(rest)] if rest else []


def _cut(line: bytes) -> list[bytes]:
    return [line[at : at + LINE_BYTES] for at in range(0, len(line), LINE_BYTES)] or [b""]


def _text(line: bytes) -> str:
    return line.removesuffix(b"\r").decode("utf-8", "backslashreplace")
