"""docs/specs/websocket.md: every test that it names exists, and its table of malformed frames is what happens."""

import re
from pathlib import Path

from tests.adapters.test_websocket import opened
from tests.wire.websocket import BAD, MOST, Bad
from vassals.adapters.websocket import Rules

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/specs/websocket.md").read_text("utf-8")
CLAUSES, _, FRAMES = PAGE.partition("## Malformed frames")


def rows_of(text: str) -> list[str]:
    return [
        line
        for line in text.splitlines()
        if line.startswith("| ") and not line.startswith(("| ---", "| clause |", "| what |"))
    ]


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`(tests/[\w/.]+)::(\w+)`", PAGE)
    assert len(named) > 40
    missing = [
        f"{path}::{name}" for path, name in named if f"def {name}(" not in (ROOT / path).read_text("utf-8")
    ]
    assert missing == []


def test_every_row_names_a_test() -> None:
    rows = rows_of(CLAUSES)
    assert len(rows) > 30
    assert [row for row in rows if "`tests/" not in row] == []


def shown(row: Bad) -> str:
    """A row of the table, from the bytes and from what becomes of them."""
    variables = {"HTTP_SEC_WEBSOCKET_EXTENSIONS": "permessage-deflate"} if row.deflate else {}
    client, app = opened(Rules(most=MOST), **variables)
    client.says(row.sent)
    client.go()
    sent = (
        f"{len(row.sent)} bytes, `{row.sent[:10].hex(' ')} …`"
        if len(row.sent) > 40
        else f"`{row.sent.hex(' ')}`"
    )
    what = f"{row.what} (deflate)" if row.deflate else row.what
    end = app.got[-1]
    return f"| {row.clause} | {what} | {sent} | `{client.tunnel.sent[:4].hex(' ')}`, {end['code']} | {end['reason']} |"


def test_what_becomes_of_malformed_frames() -> None:
    assert rows_of(FRAMES) == [shown(row) for row in BAD]
