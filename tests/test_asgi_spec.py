"""docs/specs/asgi.md names a test for each clause; here: that each of them exists."""

from tests.pages import missing, named, page, rows

PAGE = page("asgi.md")


def test_every_test_that_is_named_exists() -> None:
    assert len(named(PAGE)) > 40
    assert missing(PAGE) == []


def test_every_row_names_a_test() -> None:
    assert len(rows(PAGE)) > 40
    assert [row for row in rows(PAGE) if "`tests/" not in row] == []
