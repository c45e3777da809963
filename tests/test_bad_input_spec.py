"""docs/specs/bad-input.md names a test for each row of its last two tables; here: that each of them exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/specs/bad-input.md").read_text("utf-8").partition("## The machine")[2]


def test_every_row_names_tests_that_exist() -> None:
    rows = [
        line
        for line in PAGE.splitlines()
        if line.startswith("| ") and not line.startswith(("| ---", "| what |"))
    ]
    assert len(rows) > 25
    for row in rows:
        named = re.findall(r"`(tests/[\w/.]+)::(\w+)`", row.rpartition(" | ")[2])
        assert named, row
        for path, name in named:
            assert f"def {name}(" in (ROOT / path).read_text("utf-8"), f"{path}::{name}"
