"""docs/specs/wsgi.md names a test for each clause; here: that each of them exists, and that no app is left out."""

import re
from pathlib import Path

from tests.scenarios.test_wsgi_apps import CASES

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/specs/wsgi.md").read_text("utf-8")


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`(tests/[\w/.]+)::(\w+)`", PAGE)
    assert len(named) > 10
    missing = [
        f"{path}::{name}" for path, name in named if f"def {name}(" not in (ROOT / path).read_text("utf-8")
    ]
    assert missing == []
    assert set(re.findall(r"`app:([\w-]+)`", PAGE)) <= CASES.keys()


def test_every_row_names_a_test() -> None:
    rows = [
        line
        for line in PAGE.splitlines()
        if line.startswith("| ") and not line.startswith(("| ---", "| clause", "| what"))
    ]
    assert len(rows) > 40
    assert [row for row in rows if "`app:" not in row and "`tests/" not in row] == []
