"""The documents of the listeners' part: every test that they name is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["uwsgi.md"])
def test_every_test_that_is_named_exists(name: str) -> None:
    text = (ROOT / "docs/specs" / name).read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_[a-z0-9_]+)`", text))
    places = (ROOT / "tests" / part for part in ("router", "protocol", "config"))
    defined = {
        found
        for place in places
        for path in place.glob("test_*.py")
        for found in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert len(named) > 10
    assert named <= defined


def test_every_row_of_the_table_names_a_test() -> None:
    text = (ROOT / "docs/specs/uwsgi.md").read_text(encoding="utf-8")
    rows = [
        line for line in text.splitlines() if line.startswith("| ") and not re.match(r"\| (-|input)", line)
    ]
    assert len(rows) > 20
    assert [row for row in rows if not re.search(r"`test_|the same \|$", row)] == []
