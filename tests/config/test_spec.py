import json
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from emperor.config.spec import AppSpec

FULL = AppSpec(
    module="blog.wsgi:app",
    wsgi_file=None,
    callable="app",
    chdir="/srv/blog",
    virtualenv="/srv/venv",
    pythonpath=("/a", "/b"),
    env=(("A", "1"), ("B", "")),
    unenv=("C",),
    umask=0o27,
    imports=("one.two",),
    chdir_after="/run",
)


@pytest.mark.parametrize("spec", [FULL, AppSpec(wsgi_file="/srv/app.py"), AppSpec()])
def test_comes_back_from_json_as_it_went(spec: AppSpec) -> None:
    assert AppSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        FULL.module = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"module": 3}, "app.module: a string or null expected, not int"),
        ({"chdir": ["/"]}, "app.chdir: a string or null expected, not list"),
        ({"pythonpath": "/a"}, "app.pythonpath: a list of strings expected"),
        ({"unenv": "C"}, "app.unenv: a list of strings expected"),
        ({"imports": [1]}, "app.imports: a list of strings expected"),
        ({"umask": "22"}, "app.umask: a number or null expected"),
        ({"pythonpath": [1]}, "app.pythonpath: a list of strings expected"),
        ({"env": {"A": "1"}}, "app.env: a list of pairs of strings expected"),
        ({"env": [["A"]]}, "app.env: a list of pairs of strings expected"),
        ({"env": [["A", 1]]}, "app.env: a list of pairs of strings expected"),
        ({"modul": "x"}, "app.modul: unknown key"),
    ],
)
def test_a_wrong_key_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        AppSpec.from_json(FULL.to_json() | change)


def test_a_missing_key_is_named() -> None:
    document = FULL.to_json()
    del document["virtualenv"]
    with pytest.raises(ValueError, match=r"^app\.virtualenv: missing$"):
        AppSpec.from_json(document)


def test_only_an_object_is_taken() -> None:
    with pytest.raises(ValueError, match="an object expected, not list"):
        AppSpec.from_json([])
