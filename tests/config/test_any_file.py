"""Whatever a tenant writes, the emperor gets an answer: a configuration or a list of problems, never an exception."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emperor.cli import explain
from emperor.config.dialect import KEYWORDS
from emperor.config.loading import examine
from emperor.config.options import NAMES

KEYS = st.sampled_from(
    [*sorted(KEYWORDS), *sorted(NAMES), "master", "harakiri", "route", "a", "b", "%n", "x y", "_"]
)
_WORDS = """
a 1 true %(a) %(b + 1) $(HOME) @(lines) @(%(a)) %n more.ini :other more.ini:other *.ini */* a=1 a=%(b) ; [ % %% (( %()
x=env=A=$1;b=$2 99999 -1 10s 64k / .. %(_) exec://x app.ini %p \0 é
"""
WORDS = st.sampled_from([*_WORDS.split(), "%(a ++)", ""])
VALUES = st.lists(WORDS, max_size=3).map(" ".join)
LINES = st.one_of(
    st.tuples(KEYS, VALUES).map(" = ".join), KEYS, st.sampled_from(["[other]", "[uwsgi]", "[bad", ""])
)
PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.one_of(VALUES, st.integers(-1, 9), st.booleans(), st.none(), st.floats(0, 9)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("vassals")
    (root / "more.ini").write_text("[uwsgi]\nm = %n\nqueue = 3\n[other]\no = 1\n")
    (root / "lines").write_text("a\n\nb\n")
    return root


def answered(directory: Path, name: str, text: str) -> None:
    path = directory / name
    path.write_text(text, encoding="utf-8")
    found = examine(path, directory=directory, environ={"HOME": "/root", "UWSGI_VASSAL_QUEUE": "5"})
    assert (found.config is None) == bool(found.problems)
    assert str(path) in explain.explained(found)
    json.dumps(explain.document(found), default=str)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(LINES, max_size=15))
def test_any_lines(directory: Path, lines: list[str]) -> None:
    answered(directory, "app.ini", "\n".join(["[uwsgi]", *lines]))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(KEYS, PLAIN, max_size=8), st.booleans(), st.sampled_from(["app.json", "app.yaml"]))
def test_any_document(directory: Path, document: dict[str, Any], inside: bool, name: str) -> None:
    answered(directory, name, json.dumps({"uwsgi": document} if inside else document))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=60), st.sampled_from(["app.ini", "app.json", "app.yaml", "app.toml"]))
def test_any_text(directory: Path, text: str, name: str) -> None:
    answered(directory, name, text)
