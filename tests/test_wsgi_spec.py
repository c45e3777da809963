"""docs/specs/wsgi.md names a test for each clause; here: that each of them exists, and that no app is left out."""

import re

from tests.pages import missing, named, page, rows
from tests.scenarios.test_wsgi_apps import CASES

PAGE = page("wsgi.md")


def test_every_test_that_is_named_exists() -> None:
    assert len(named(PAGE)) > 10
    assert missing(PAGE) == []
    assert set(re.findall(r"`app:([\w-]+)`", PAGE)) <= CASES.keys()


def test_every_row_names_a_test() -> None:
    assert len(rows(PAGE)) > 40
    assert [row for row in rows(PAGE) if "`app:" not in row and "`tests/" not in row] == []
