"""State files: whole or absent, root-only, and another version's are nobody's."""

import json
import os
import stat
from dataclasses import MISSING, fields, replace
from pathlib import Path

import pytest

from emperor.config.spec import AppSpec
from emperor.monitors.scan import Identity
from emperor.supervisor.reading import Reading
from emperor.supervisor.statefile import GenerationState, read_all, write

from .test_supervisor import reading

STATE = GenerationState(
    "blog",
    3,
    "ab" * 32,
    1_700_000_000,
    True,
    False,
    reading(
        app=AppSpec(wsgi_file="/a.py", pythonpath=("/x",), env=(("A", "b"),)),
        identity=Identity(1, 2, 3, "d", "link", 4),
        uid=1000,
        argv=("/v/bin/python", "-m", "vassals"),
    ),
)


def test_a_state_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "x.3.json"
    write(str(path), STATE)
    assert read_all(str(tmp_path)) == [STATE]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600, "the token is in it"
    assert os.listdir(tmp_path) == ["x.3.json"]


def test_the_newest_comes_first(tmp_path: Path) -> None:
    for number in (1, 10, 9):
        write(str(tmp_path / f"x.{number}.json"), replace(STATE, generation=number))
    assert [state.generation for state in read_all(str(tmp_path))] == [10, 9, 1]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"version": 2}', "null"])
def test_what_cannot_be_read_counts_as_absent(tmp_path: Path, damage: str) -> None:
    (tmp_path / "x.1.json").write_text(damage)
    write(str(tmp_path / "y.1.json"), STATE)
    assert read_all(str(tmp_path)) == [STATE]


NEEDED = [each.name for each in fields(Reading) if each.default is MISSING]


@pytest.mark.parametrize("key", [*STATE.to_json(), *(f"reading.{key}" for key in NEEDED)])
def test_every_missing_key_counts_as_damage(tmp_path: Path, key: str) -> None:
    document = STATE.to_json()
    place, _, inner = key.partition(".")
    del (document[place] if inner else document)[inner or place]
    (tmp_path / "x.1.json").write_text(json.dumps(document))
    assert read_all(str(tmp_path)) == []


@pytest.mark.parametrize("key", [each.name for each in fields(Reading) if each.default is not MISSING])
def test_what_an_older_version_did_not_know_is_the_default(key: str) -> None:
    document = json.loads(json.dumps(STATE.reading.to_json()))
    del document[key]
    default = next(each.default for each in fields(Reading) if each.name == key)
    assert Reading.from_json(document) == replace(STATE.reading, **{key: default})


def test_what_a_newer_version_has_left_is_named() -> None:
    document = {**STATE.reading.to_json(), "hyper": 1, "drive": 2}
    with pytest.raises(ValueError, match="keys of a newer version: drive, hyper"):
        Reading.from_json(document)


def test_a_reading_survives_json() -> None:
    document = json.loads(json.dumps(STATE.reading.to_json()))
    assert Reading.from_json(document) == STATE.reading
