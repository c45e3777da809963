"""docs/specs/http.md: every row names what shows it, and what it names is there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.router import test_bad_input
from tests.wire import http1, responses

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "specs" / "http.md"

NAMED = {
    "request": {row.name for row in (*http1.REFUSED, *http1.TAKEN)},
    "response": {row.name for row in responses.GOOD} | set(responses.BAD),
    "input": set(test_bad_input.HTTP) | set(test_bad_input.RESPONSES),
}
ROWS = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
ROWS = [row for row in ROWS if row[0] not in ("clause", "item", "---")]


@cache
def names_in(file: str) -> set[str]:
    """The tests of the one module of this name."""
    (path,) = (ROOT / "tests").rglob(file)
    found = ast.walk(ast.parse(path.read_text()))
    return {
        node.name for node in found if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


@pytest.mark.parametrize("row", ROWS, ids=[f"{row[0]}: {row[1]}"[:80] for row in ROWS])
def test_every_row_is_shown_by_something(row: list[str]) -> None:
    assert len(row) == 3, row
    shown = re.findall(r"`([^`]+)`", row[2])
    assert shown, "nothing shows it"
    for each in shown:
        kind, colon, name = each.partition(": ")
        if colon and kind in NAMED:
            assert name in NAMED[kind], f"no row {name!r} among what is sent"
        else:
            file, colons, test = each.partition("::")
            assert colons and test in names_in(file), f"no test {each!r}"


def test_there_is_a_row_for_each_clause_that_the_corpora_know() -> None:
    page = PAGE.read_text()
    corpora = (*http1.REFUSED, *http1.TAKEN, *responses.GOOD)
    clauses = {row.clause for row in corpora if row.clause[0].isdigit() and not row.clause.startswith("3875")}
    assert {each for each in clauses if not re.search(rf"\b{re.escape(each)}\b", page)} == set()
