"""The pure scan: what is a change, and when a file may be believed."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emperor.monitors.scan import (
    GONE_S,
    SETTLE_S,
    WRITER_IDLE_S,
    Change,
    Identity,
    Kind,
    Look,
    Note,
    Scan,
    Seen,
)

S = 1_000_000_000
START = 1_700_000_000


def seen(inode: int = 1, mtime_s: float = 0.0, **other: object) -> Seen:
    """A file last changed `mtime_s` after the clock's zero; the files of a running directory are young."""
    stamp = START * S + int(mtime_s * S)
    return replace(Seen(7, inode, 10, stamp, stamp), **other)  # type: ignore[arg-type]


class Directory:
    """A directory, its clock, and what a monitor would make of a scan's looks."""

    def __init__(self, now: float = 100.0) -> None:
        self.scan = Scan()
        self.now = now
        self.files: dict[str, tuple[Seen, str]] = {}
        self.writers: set[str] = set()

    def look(self, *notes: tuple[str, str]) -> tuple[list[tuple[str, str]], Look]:
        """One look now: [(kind, file)] of the changes."""
        look = self.scan.step(
            self.now,
            int((START + self.now) * S),
            {file: each for file, (each, _) in self.files.items()},
            [Note(file, kind) for file, kind in notes],
        )
        changes: list[Change] = list(look.removed)
        for file in look.read:
            if file in look.unsure and file in self.writers:
                self.scan.held(file, self.now)
                continue
            change = self.scan.taken(file, *self.files[file])
            if change is not None:
                changes.append(change)
        return [(change.kind.value, change.file) for change in changes], look

    def after(self, seconds: float, *notes: tuple[str, str]) -> list[tuple[str, str]]:
        self.now += seconds
        return self.look(*notes)[0]

    def settled(self, file: str, each: Seen, content: str) -> None:
        """Bring in a file that has long been there."""
        self.files[file] = (each, content)
        assert self.look() == ([("new", file)], Look((file,), frozenset(), (), None))


def test_what_has_long_been_there_is_taken_at_once() -> None:
    directory = Directory()
    directory.files = {"b.ini": (seen(1), "b"), "a.ini": (seen(2), "a")}
    assert directory.look()[0] == [("new", "a.ini"), ("new", "b.ini")]
    assert directory.after(3) == []


def test_a_new_file_is_taken_when_closed_and_settled() -> None:
    directory = Directory()
    directory.look()
    directory.files["a.ini"] = (seen(1, 100.0), "half")
    assert directory.after(0, ("a.ini", "created"), ("a.ini", "opened"), ("a.ini", "modified")) == []
    directory.files["a.ini"] = (seen(1, 100.5), "whole")
    assert directory.after(0.5, ("a.ini", "modified")) == []
    assert directory.after(0, ("a.ini", "closed")) == []
    changes, look = directory.look()
    assert (changes, look.again_at) == ([], directory.now + SETTLE_S)
    assert directory.after(SETTLE_S) == [("new", "a.ini")]


def test_a_writer_who_never_closes_is_waited_for_until_he_rests() -> None:
    directory = Directory()
    directory.look()
    directory.files["a.ini"] = (seen(1, 100.0), "half")
    assert directory.after(0, ("a.ini", "created"), ("a.ini", "opened"), ("a.ini", "modified")) == []
    assert directory.after(1.9) == []
    assert directory.after(0, ("a.ini", "modified")) == []
    assert directory.after(1.9) == []
    assert directory.after(0.1) == [("new", "a.ini")]


def test_a_young_file_with_a_writer_that_we_never_saw_open_it_waits_for_the_close() -> None:
    directory = Directory()
    directory.files["a.ini"] = (seen(1, 99.95), "half")
    directory.writers.add("a.ini")
    assert directory.after(0) == []
    assert directory.after(SETTLE_S) == []
    assert directory.after(1.0) == []
    directory.files["a.ini"] = (seen(1, 101.2), "whole")
    assert directory.after(0.1, ("a.ini", "modified"), ("a.ini", "closed")) == []
    assert directory.after(SETTLE_S) == [("new", "a.ini")]


def test_files_that_are_there_at_the_start_are_taken_together() -> None:
    directory = Directory()
    directory.files = {"a.ini": (seen(1, 99.98), "a"), "b.ini": (seen(2), "b")}
    assert directory.look()[1].early
    assert directory.after(SETTLE_S) == [("new", "a.ini"), ("new", "b.ini")]


def test_changed_content_a_new_inode_and_a_touch_are_changes_an_older_time_too() -> None:
    directory = Directory()
    directory.settled("a.ini", seen(1, 50.0), "one")
    for each, content in [
        (seen(1, 50.0, ctime_ns=5), "two"),  # written within one tick, or with the old time put back
        (seen(2, 50.0), "two"),  # replaced by an equal file
        (seen(2, 51.0), "two"),  # touched
        (seen(2, 10.0), "two"),  # `cp -p` of an older file
        (seen(2, 10.0, link="../b/a.ini"), "two"),  # now a link
        (seen(2, 10.0, link="../c/a.ini"), "two"),  # to elsewhere
        (seen(2, 10.0, link="../c/a.ini", link_mtime_ns=5), "two"),  # `touch -h`
    ]:
        directory.files["a.ini"] = (each, content)
        assert directory.after(3.0) + directory.after(SETTLE_S) == [("changed", "a.ini")], (each, content)
        assert directory.after(3.0) == []


def test_a_new_mode_is_no_change() -> None:
    directory = Directory()
    directory.settled("a.ini", seen(1, 50.0), "one")
    directory.files["a.ini"] = (seen(1, 50.0, ctime_ns=99), "one")
    assert directory.after(1.0, ("a.ini", "attrib")) == []
    assert directory.after(SETTLE_S) == []


def test_a_touch_without_opening_settles_like_any_change() -> None:
    directory = Directory()
    directory.settled("a.ini", seen(1, 50.0), "one")
    directory.files["a.ini"] = (seen(1, 101.0), "one")
    directory.after(1.0, ("a.ini", "modified"))  # a new time alone
    assert directory.after(SETTLE_S) == [("changed", "a.ini")]


def test_a_removed_file_is_believed_after_a_while_and_a_replaced_one_is_a_change() -> None:
    directory = Directory()
    directory.settled("a.ini", seen(1, 50.0), "one")
    del directory.files["a.ini"]
    assert directory.after(0, ("a.ini", "deleted")) == []
    directory.files["a.ini"] = (seen(2, 100.1), "one")
    assert directory.after(GONE_S / 2, ("a.ini", "created"), ("a.ini", "opened"), ("a.ini", "closed")) == []
    assert directory.after(SETTLE_S) == [("changed", "a.ini")]
    del directory.files["a.ini"]
    assert directory.after(1.0) == []
    assert directory.after(GONE_S) == [("removed", "a.ini")]
    assert directory.scan.files == frozenset()


def test_a_rename_is_one_gone_and_one_new() -> None:
    directory = Directory()
    directory.settled("a.ini", seen(1, 50.0), "one")
    directory.files = {"b.ini": directory.files["a.ini"]}
    directory.after(0, ("a.ini", "deleted"), ("b.ini", "moved"))
    assert directory.after(GONE_S) == [("removed", "a.ini"), ("new", "b.ini")]


def test_our_own_reading_is_no_reason_to_look_again() -> None:
    directory = Directory()
    directory.settled("a.ini", seen(1, 50.0), "one")
    assert directory.after(0, ("a.ini", "opened"), ("a.ini", "closed_no_write")) == []
    assert directory.look()[1].again_at is None


def test_an_identity_survives_json() -> None:
    identity = Identity.of(seen(3, 4.5, link="x"), "abc")
    assert Identity.from_json(identity.to_json()) == identity
    with pytest.raises(ValueError, match="six values"):
        Identity.from_json([1, 2])


_NOTES = ["created", "opened", "modified", "closed", "closed_no_write", "moved", "deleted", "attrib"]


@given(
    st.lists(
        st.tuples(
            st.floats(0, 3),
            st.one_of(st.none(), st.tuples(st.integers(1, 3), st.integers(0, 3))),
            st.lists(st.sampled_from(_NOTES), max_size=3),
        ),
        max_size=20,
    )
)
def test_whatever_is_told_the_last_content_is_taken_in_the_end(
    steps: list[tuple[float, tuple[int, int] | None, list[str]]],
) -> None:
    directory = Directory()
    known: set[str] = set()
    for pause, content, notes in steps:
        if content is None:
            directory.files.pop("a.ini", None)
        else:
            directory.files["a.ini"] = (seen(content[0], directory.now), str(content[1]))
        known = _after(known, directory.after(pause, *(("a.ini", note) for note in notes)))
    for _ in range(5):
        known = _after(known, directory.after(WRITER_IDLE_S))
    assert known == set(directory.files)
    if directory.files:
        each, content_now = directory.files["a.ini"]
        assert directory.scan.taken("a.ini", each, content_now) is None


def _after(known: set[str], changes: list[tuple[str, str]]) -> set[str]:
    for kind, file in changes:
        assert (file in known) == (kind != Kind.NEW)
        known = known - {file} if kind == Kind.REMOVED else known | {file}
    return known
