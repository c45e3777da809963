"""A part of a message that is read back: every field by the type of its default."""

import re
from dataclasses import dataclass

import pytest

from emperor.config import parts


@dataclass(frozen=True)
class Part:
    """One field of each kind."""

    on: bool = False
    count: int = 0
    seconds: float = 1.5
    text: str = "a"
    names: tuple[str, ...] = ()
    jobs: tuple[tuple[str, str], ...] = ()
    paths: tuple[tuple[str, int], ...] = ()


def even(what: str, value: object) -> object:
    return parts.by_path(what, lambda each: each in (0, 2, 4), "an even number", value)


def read(document: object) -> Part:
    return Part(**parts.keys_of(Part, "part", document, ("jobs",), {"paths": even}))


def test_what_is_there_is_read_and_what_is_missing_or_unknown_is_no_matter() -> None:
    whole = {
        "on": True,
        "count": 3,
        "seconds": 2,
        "text": "b",
        "names": ["x"],
        "jobs": [["a", "b"]],
        "paths": [["/a", 2]],
        "later": 1,
    }
    found = read(whole)
    assert found == Part(True, 3, 2.0, "b", ("x",), (("a", "b"),), (("/a", 2),))
    assert parts.json_of(found) == {key: value for key, value in whole.items() if key != "later"}
    assert type(read(whole).seconds) is float
    assert read({}) == Part()


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (None, "part: an object expected, not NoneType"),
        ({"on": 1}, "part.on: bool expected, not int"),
        ({"count": True}, "part.count: int expected, not bool"),
        ({"count": -1}, "part.count: 0 or more expected, not -1"),
        ({"seconds": float("nan")}, "part.seconds: 0 or more expected"),
        ({"seconds": "1"}, "part.seconds: float expected, not str"),
        ({"text": None}, "part.text: str expected, not NoneType"),
        ({"names": "x"}, "part.names: a list of strings expected, not str"),
        ({"names": [["a", "b"]]}, "part.names: a list of strings expected"),
        ({"jobs": ["a"]}, "part.jobs: a list of pairs of strings expected"),
        ({"jobs": [["a", "b", "c"]]}, "part.jobs: a list of pairs of strings expected"),
        ({"paths": [["/a", 3]]}, "part.paths: a list of pairs of a path and an even number expected"),
        ({"paths": [["/a", 2, 2]]}, "part.paths: a list of pairs of a path"),
    ],
)
def test_what_makes_no_sense_is_named(document: object, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        read(document)
