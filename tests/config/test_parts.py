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


def read(document: object) -> Part:
    return Part(**parts.keys_of(Part, "part", document, ("jobs",)))


def test_what_is_there_is_read_and_what_is_missing_or_unknown_is_no_matter() -> None:
    whole = {
        "on": True,
        "count": 3,
        "seconds": 2,
        "text": "b",
        "names": ["x"],
        "jobs": [["a", "b"]],
        "later": 1,
    }
    assert read(whole) == Part(True, 3, 2.0, "b", ("x",), (("a", "b"),))
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
    ],
)
def test_what_makes_no_sense_is_named(document: object, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        read(document)
