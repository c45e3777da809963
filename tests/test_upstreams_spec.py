"""docs/specs/upstreams.md names a test for each of its rows; here: that each of them exists."""

from tests.pages import missing, named, page, rows

PAGE = page("upstreams.md")


def test_every_row_names_tests_that_exist() -> None:
    assert len(rows(PAGE)) > 20
    for row in rows(PAGE):
        tests = row.rpartition(" | ")[2]
        assert named(tests), row
        assert missing(tests) == []
