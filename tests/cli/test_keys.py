"""`emperor keys`: two hosts get to know each other, and what goes wrong is one line that says what to do."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from emperor.cli.main import main
from emperor.config.keys import is_key


def keys(directory: Path, *arguments: str) -> Result:
    verb, *others = arguments
    return CliRunner().invoke(
        main, ["keys", verb, "--keys-dir", str(directory), *others], prog_name="emperor"
    )


def said(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.output.strip()


def test_two_hosts_get_to_know_each_other(tmp_path: Path) -> None:
    front, app1 = tmp_path / "front", tmp_path / "app1"
    front_key, app1_key = said(keys(front, "new")), said(keys(app1, "new"))
    assert is_key(front_key) and is_key(app1_key) and front_key != app1_key
    assert said(keys(front, "allow", "--", app1_key, "shop", "blog")).endswith("may be: shop blog")
    assert said(keys(app1, "allow", "--", front_key, "tcp://front:5555")).endswith("tcp://front:5555")
    assert said(keys(front, "show")) == f"allowed  '{app1_key}'  shop blog" or front_key in said(
        keys(front, "show")
    )
    document = json.loads(said(keys(front, "show", "--json")))
    assert document["own"] == {"host": front_key} and document["allowed"] == {app1_key: ["shop", "blog"]}
    assert said(keys(front, "revoke", "--", app1_key, "blog")).endswith("may still be: shop")
    assert said(keys(front, "revoke", "--", app1_key)).endswith("nothing any more")
    assert json.loads(said(keys(front, "show", "--json")))["allowed"] == {}


def test_no_verb_prints_a_secret(tmp_path: Path) -> None:
    said(keys(tmp_path, "new", "shop"))
    secret = (tmp_path / "shop.key").read_text().splitlines()[1].removeprefix("secret = ")
    for output in (keys(tmp_path, "show").output, keys(tmp_path, "show", "--json").output):
        assert secret not in output


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("allow", "no-key", "shop"), "is no key: 40 characters of Z85"),
        (("allow", "a" * 40, "tcp://front"), "has no port"),
        (("revoke", "a" * 40), "not allowed anything"),
        (("new", "../x"), "can be no name of a key"),
    ],
)
def test_what_goes_wrong_is_one_line_and_1(tmp_path: Path, arguments: tuple[str, ...], why: str) -> None:
    result = keys(tmp_path, *arguments)
    assert result.exit_code == 1 and result.output.startswith("emperor keys: ")
    assert why in result.output and result.output.count("\n") == 1


def test_the_directory_is_the_settings(tmp_path: Path) -> None:
    env = {"EMPEROR_KEYS_DIR": str(tmp_path / "k")}
    result = CliRunner(env=env).invoke(main, ["keys", "new"], prog_name="emperor")
    assert result.exit_code == 0 and os.listdir(tmp_path / "k") == ["host.key"]


def test_help_has_examples() -> None:
    for verb in ([], ["new"], ["show"], ["allow"], ["revoke"]):
        result = CliRunner().invoke(main, ["keys", *verb, "--help"], prog_name="emperor")
        assert result.exit_code == 0 and "Example" in result.output
        assert max(map(len, result.output.splitlines())) <= 130
