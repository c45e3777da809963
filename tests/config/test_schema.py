import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from emperor.config import schema
from emperor.config.options import NAMES, OPTIONS
from emperor.config.problems import Mistake

VALIDATOR = jsonschema.Draft202012Validator(schema.schema())


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema.schema())


def test_the_file_on_disk_is_current() -> None:
    assert schema.FILE.read_text("utf-8") == schema.text(), "run: python -m emperor.config.reference"


def test_every_name_of_ours_is_in_it() -> None:
    properties = schema.schema()["$defs"]["options"]["properties"]
    assert set(NAMES) <= set(properties)
    assert "master" in properties and "include" in properties and "route" not in properties


@pytest.mark.parametrize(
    "document",
    [
        {"module": "a"},
        {"vassal": {"module": "a", "processes": 4, "env": {"A": "1", "B": 2}}},
        {
            "uwsgi": {
                "wsgi": "a",
                "workers": "%(x * 2)",
                "master": True,
                "domain": ["a.b"],
                "include": "x.ini",
            }
        },
        {
            "module": "a",
            "queue-timeout": "500ms",
            "body-limit": "10m",
            "default": "yes",
            "spawn": "exec",
            "uid": 33,
        },
        {"uwsgi": {"module": "a", "set-ph": ["root=/srv"], "chdir": "%(root)"}, "base": {"x": 1}},
        {"module": "a", "chmod-socket": 660, "chown-socket": "a:b", "uwsgi-trusted": ["unix", "10.0.0.0/8"]},
        {"module": "a", "queue-timeout": 1.5, "start-timeout": 3, "processes": "$(N)"},
    ],
)
def test_what_is_right(document: dict[str, Any]) -> None:
    VALIDATOR.validate(document)


@pytest.mark.parametrize(
    "document",
    [
        {"modul": "a"},
        {"module": "a", "processes": 0},
        {"module": "a", "processes": "many"},
        {"module": "a", "processes": True},
        {"module": "a", "queue-timeout": "10x"},
        {"module": "a", "spawn": "clone"},
        {"module": "a", "default": "maybe"},
        {"module": "a", "route": "^/ deny"},
        {"uwsgi": {"module": "a", "chroot": "/srv"}},
        {"module": "a", "domain": [7]},
        {"module": "a", "umask": 18},
        {"module": "a", "import": 5},
        {"module": "a", "http-socket": 8000},
        {"uwsgi": {"module": "a"}, "processes": 2},
        {"uwsgi": {"module": "a"}, "vassal": {"processes": 2}},
        {"uwsgi": {"module": "a"}, "env": {"A": "1"}},
        ["module"],
    ],
)
def test_what_is_wrong(document: Any) -> None:
    assert not VALIDATOR.is_valid(document)


@pytest.mark.parametrize("value", [17, 8000, 1.5, True, False, None])
def test_a_value_that_is_no_text_is_right_where_it_can_be_read(value: Any) -> None:
    for option in OPTIONS:
        try:
            option.parse(value)
        except Mistake:
            readable = False
        else:
            readable = True
        assert not VALIDATOR.is_valid({option.name: value}) or readable, option.name


def test_what_is_generated_is_json(tmp_path: Path) -> None:
    assert json.loads(schema.text()) == schema.schema()
