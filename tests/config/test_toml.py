import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emperor.config import toml


def read(text: str) -> tuple[list[tuple[str, Any, int]], list[str], list[str]]:
    reading = toml.read(text, "f.toml")
    entries = [(entry.key, entry.value, entry.line) for entry in reading.entries]
    return entries, list(map(str, reading.problems)), list(map(str, reading.warnings))


def test_options_at_the_top() -> None:
    text = (
        'module = "a"\n\n# note\nprocesses = 4\ndomain = [\n  "a.b", # x = 1\n  "c.d",\n]\n[env]\nA = "1"\n'
    )
    entries, problems, warnings = read(text)
    assert entries == [
        ("module", "a", 1),
        ("processes", 4, 4),
        ("domain", ["a.b", "c.d"], 5),
        ("env", {"A": "1"}, 9),
    ]
    assert problems == warnings == []


@pytest.mark.parametrize("section", ["vassal", "uwsgi"])
def test_options_in_a_table(section: str) -> None:
    text = f'[other]\nx = 1\n[{section}]\nmodule = "a"\n[{section}.env]\nA = "1"\n'
    entries, problems, warnings = read(text)
    assert entries == [("module", "a", 4), ("env", {"A": "1"}, 5)]
    assert problems == []
    assert warnings == ["f.toml:1: table [other] is not read (only [uwsgi] or [vassal] is)"]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ('module = "a"\nprocesses = \n', ["f.toml:2: is not TOML: invalid value at column 13"]),
        ("module\n", ["f.toml:1: is not TOML: expected '=' after a key in a key/value pair at column 7"]),
        ('a = 1\na = """\nb\n', ["f.toml:3: is not TOML: unterminated string"]),
        (
            'module = "a"\n[vassal]\n',
            ["f.toml:1: module: stands outside of [vassal] (put it below [vassal])"],
        ),
        (
            '[vassal]\nmodule = "a"\n[env]\nA = "1"\n',
            ["f.toml:3: env: stands outside of [vassal] (put it below [vassal])"],
        ),
        (
            "[uwsgi]\na = 1\n[vassal]\n",
            ["f.toml:3: has both [uwsgi] and [vassal] (put everything into one of them)"],
        ),
        ("\n[[vassal]]\na = 1\n", ["f.toml:2: vassal: is not one table (write [vassal], once)"]),
        ("uwsgi = 1\n", ["f.toml:1: uwsgi: is not one table (write [uwsgi], once)"]),
        ("a = " + "[" * 5000, ["f.toml: is nested too deep"]),
        ("a = 0x" + "f" * 10 + "\nb = " + "9" * 5000, ["f.toml: is not TOML: exceeds the limit"]),
    ],
)
def test_what_is_wrong_with_a_file(text: str, problems: list[str]) -> None:
    found = read(text)[1]
    assert len(found) == len(problems)
    for one, expected in zip(found, problems, strict=True):
        assert one.startswith(expected)


def test_lines_are_found_past_everything_that_looks_like_a_key() -> None:
    text = '''\
one = "a = 1 # [x]" # two = 2
three = """
four = 4
\\""" [five]
""""
six = \'\'\'
seven = 7
\'\'\'
eight = [ # nine = 9
  [ "]", ']', """
ten = 10""" ],
  { eleven = 11 },
]
"twelve \\u0041" = 12
'thir.teen' = 13
four-teen . fif = 14
[a."b.c" ] # comment ]
sixteen = { x = 1, y = [1,
2] }
seventeen = 17
[[list]]
eighteen = 18
[[list]]
eighteen = 18
'''
    lines = toml.locate(text)
    tomllib.loads(text)
    assert lines == {
        ("one",): 1,
        ("three",): 2,
        ("six",): 6,
        ("eight",): 9,
        ("twelve A",): 14,
        ("thir.teen",): 15,
        ("four-teen",): 16,
        ("four-teen", "fif"): 16,
        ("a",): 17,
        ("a", "b.c"): 17,
        ("a", "b.c", "sixteen"): 18,
        ("a", "b.c", "seventeen"): 20,
        ("list",): 21,
        ("list", "eighteen"): 22,
    }


SCALARS = st.one_of(
    st.integers(-(2**60), 2**60).map(str),
    st.booleans().map(lambda value: str(value).lower()),
    st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\\\"'")).map(
        lambda text: f'"{text}"'
    ),
    st.text(" =[]{}#abc\n", max_size=12).map(lambda text: f'"""{text}"""'),
    st.text(" =[]{}#abc\\\n", max_size=12).map(lambda text: f"'''{text}'''"),
    st.sampled_from(['"\\""', "'\\'", '""', "''", '""""a"""""', '"""\\""""', "1979-05-27T07:32:00Z", "1.5"]),
)
ARRAYS = st.lists(SCALARS, max_size=3).map(lambda items: "[ # ]\n" + ",\n".join(items) + "\n]")
COMMENTS = st.sampled_from(["", " # x = 1", " # ] } \"'", "\n\n# [y]"])


@given(st.lists(st.tuples(st.one_of(SCALARS, ARRAYS), COMMENTS), min_size=1, max_size=8), st.booleans())
def test_every_key_of_a_valid_file_is_found_on_its_line(
    statements: list[tuple[str, str]], in_table: bool
) -> None:
    text = "# key = 1\n[vassal]\n" if in_table else ""
    expected = {}
    for number, (value, comment) in enumerate(statements):
        expected[f"key{number}"] = text.count("\n") + 1
        text += f"key{number} = {value}{comment}\n"
    tomllib.loads(text)
    reading = toml.read(text, "f.toml")
    assert {entry.key: entry.line for entry in reading.entries} == expected


@given(st.text())
def test_no_text_makes_it_stumble(text: str) -> None:
    toml.read(text, "f.toml")
    toml.locate(text)
