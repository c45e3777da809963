"""docs/specs/bad-input.md names a test for each row of its last two tables; here: that each of them exists."""

from tests.pages import missing, named, page, rows

PAGE = page("bad-input.md").partition("## The machine")[2]


def test_every_row_names_tests_that_exist() -> None:
    assert len(rows(PAGE)) > 25
    for row in rows(PAGE):
        tests = row.rpartition(" | ")[2]
        assert named(tests), row
        assert missing(tests) == []
