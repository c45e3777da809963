import pytest
from hypothesis import given
from hypothesis import strategies as st

from emperor.config import ini
from emperor.config.entries import Entry


def read(text: str) -> tuple[list[tuple[str, str | None, int]], list[str], list[str]]:
    reading = ini.read(text, "f.ini")
    entries = [(entry.key, entry.value, entry.line) for entry in reading.entries]
    return entries, list(map(str, reading.problems)), list(map(str, reading.warnings))


@pytest.mark.parametrize(
    ("line", "pair"),
    [
        ("", None),
        ("   \t", None),
        ("; a comment", None),
        ("  # a comment", None),
        ("key = value", ("key", "value")),
        ("  key=value  ", ("key", "value")),
        ("key = a = b", ("key", "a = b")),
        ("key = 1 ; no comment", ("key", "1 ; no comment")),
        ("key", ("key", None)),
        ("key =", ("key", "")),
        ("= value", ("", "value")),
        ('key = "quoted"', ("key", '"quoted"')),
        ("key = \\", ("key", "\\")),
        ("key = value\r", ("key", "value")),
    ],
)
def test_lines(line: str, pair: tuple[str, str | None] | None) -> None:
    assert ini.split(line) == pair


@given(st.text(st.characters(exclude_characters="\n")))
def test_any_line_is_split_at_its_first_equals_sign_and_loses_only_blanks(line: str) -> None:
    pair = ini.split(line)
    stripped = line.strip()
    if pair is None:
        assert not stripped or stripped[0] in ";#"
        return
    key, value = pair
    assert "=" not in key
    assert key == key.strip()
    if value is None:
        assert key == stripped
    else:
        assert value == value.strip()
        assert stripped.partition("=")[0].strip() == key
        assert stripped.partition("=")[2].strip() == value


KEYS = st.text("abcdefghij-", min_size=1, max_size=8)
VALUES = st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), max_size=12).map(str.strip)
LINES = st.one_of(
    st.tuples(KEYS, VALUES).map(lambda pair: (f"{pair[0]} = {pair[1]}", pair)),
    KEYS.map(lambda key: (key, (key, None))),
    st.sampled_from([("", None), ("; x = y", None), ("  # [uwsgi]", None)]),
)


@given(st.lists(LINES), st.sampled_from(["\n", "\r\n"]), st.sampled_from(["uwsgi", "vassal"]))
def test_every_entry_of_a_file_comes_back_with_its_line(
    lines: list[tuple[str, tuple[str, str | None] | None]], end: str, section: str
) -> None:
    text = end.join([f"[{section}]", *(line for line, _ in lines)])
    reading = ini.read(text, "f.ini")
    assert reading.problems == []
    assert reading.entries == [
        Entry(*pair, number) for number, (_, pair) in enumerate(lines, 2) if pair is not None
    ]


@given(st.text())
def test_no_text_makes_it_stumble(text: str) -> None:
    reading = ini.read(text, "f.ini")
    assert reading.problems or reading.entries or "[uwsgi]" in text or "[vassal]" in text or "[" in text


def test_a_section_may_come_in_parts_and_others_are_passed_over() -> None:
    entries, problems, warnings = read("[uwsgi]\na = 1\n[other]\nb = 2\n[uwsgi]\nc = 3\n[other]\n")
    assert entries == [("a", "1", 2), ("c", "3", 6)]
    assert problems == []
    assert warnings == ["f.ini:3: section [other] is not read (only [uwsgi] or [vassal] is)"]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (
            "a = 1\n[uwsgi]\n",
            ["f.ini:1: a: stands before the first section (put [uwsgi] or [vassal] above it)"],
        ),
        ("[uwsgi\na = 1", ["f.ini:1: '[uwsgi' is no section header (write [uwsgi] or [vassal])"]),
        ("[other]\na = 1", ["f.ini: has no section [uwsgi] or [vassal]"]),
        ("[uwsgi]\n\n= 3", ["f.ini:3: a value without a key"]),
        (
            "[vassal]\na = 1\n[uwsgi]\nb = 1",
            ["f.ini:3: has both [uwsgi] and [vassal] (put everything into one of them)"],
        ),
    ],
)
def test_what_uwsgi_passes_over_is_named(text: str, problems: list[str]) -> None:
    found = read(text)[1]
    assert set(problems) <= set(found)
