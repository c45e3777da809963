"""The options of hooks: what uWSGI's files say, and what of it is carried out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from emperor.config.hooks import NONE, Hooks
from emperor.config.loading import Examination, examine, load_vassal


def found(tmp_path: Path, *lines: str) -> Examination:
    path = tmp_path / "a.ini"
    path.write_text("\n".join(["[uwsgi]", "module = a", *lines]) + "\n")
    return examine(path, directory=tmp_path)


def hooks(tmp_path: Path, *lines: str) -> Hooks:
    config = found(tmp_path, *lines).config
    assert config is not None
    return config.hooks


def test_moments_in_uwsgis_order_hooks_before_commands(tmp_path: Path) -> None:
    got = hooks(
        tmp_path,
        *("exec-pre-app = python manage.py migrate", "hook-pre-app = exec:one", "exec-pre-app = two"),
        *("exec-as-user = date", "exec-asap = first", "hook-post-jail = print:jailed"),
        *("exec-post-app = after", "hook-accepting1 = exec:once", "exec-as-user-atexit = last"),
        *("hook-as-user-atexit = safeexec:nearly", "hook-timeout = 5m"),
    )
    assert got.before == (
        ("exec-asap", "exec:first"),
        ("hook-post-jail", "print:jailed"),
        ("exec-as-user", "exec:date"),
        ("hook-pre-app", "exec:one"),
        ("exec-pre-app", "exec:python manage.py migrate"),
        ("exec-pre-app", "exec:two"),
    )
    assert got.after == (("exec-post-app", "exec:after"),)
    assert got.accepting1 == (("hook-accepting1", "exec:once"),)
    assert got.atexit == (("hook-as-user-atexit", "exec:nearly"), ("exec-as-user-atexit", "exec:last"))
    assert got.start_s == 7 * 300.0
    assert Hooks.from_json(got.to_json()) == got


def test_without_any_there_are_none(tmp_path: Path) -> None:
    assert hooks(tmp_path) == NONE and not NONE.calls and NONE.start_s == 0.0


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("mount:proc /proc", "mount: isolates the app from the system, and nothing here does"),
        ("call:my_symbol", "call: calls into uWSGI's own process, and there is none"),
        ("unix_signal:15 gracefully_kill_them_all", "TERM always stops, after requests have finished"),
        ("mkdir:/tmp/x", "mkdir: is not carried out here (write it as a command: exec:COMMAND)"),
        ("exec:", "'exec:' names nothing to do"),
        ("date", "'date' names nothing to do"),
    ],
)
def test_a_verb_that_is_not_carried_out_refuses_the_file(tmp_path: Path, value: str, said: str) -> None:
    (problem,) = found(tmp_path, f"hook-pre-app = {value}").problems
    assert said in str(problem) and ":3: hook-pre-app: " in str(problem)


@pytest.mark.parametrize("value", ["mod", "mod:make()", "a/b.py:x", "mod:"])
def test_a_callable_is_a_module_and_a_name(tmp_path: Path, value: str) -> None:
    (problem,) = found(tmp_path, f"post-fork-hook = {value}").problems
    assert ":3: post-fork-hook: " in str(problem)
    assert hooks(tmp_path, "post-fork-hook = a.b:c.d", "post-fork-hook = e:f").post_fork == ("a.b:c.d", "e:f")


def test_what_uwsgi_runs_as_root_is_run_as_the_apps_user_and_that_is_said(tmp_path: Path) -> None:
    config = found(
        tmp_path, "uid = 65534", "gid = 65534", "exec-asap = mkdir /run/x", "exec-pre-app = date"
    ).config
    assert config is not None
    (warning,) = config.warnings
    assert "exec-asap: runs as user 65534; uWSGI would run it as root" in str(warning)


def test_the_guides_files_are_some(tmp_path: Path) -> None:
    guide = Path(__file__).parents[2] / "docs" / "guides" / "hooks.md"
    first = None
    for text in re.findall(r"```ini\n(.*?)```", guide.read_text(), re.S):
        path = tmp_path / "shop.ini"
        path.write_text(text if "[uwsgi]" in text else f"[uwsgi]\nmodule = shop.wsgi\n{text}")
        config = load_vassal(path, directory=tmp_path)
        assert not config.warnings
        first = first or config
    assert first is not None and first.hooks.before == (("exec-pre-app", "exec:python manage.py migrate"),)


@pytest.mark.parametrize(
    "document",
    [[], {"before": ["x"]}, {"before": [["a"]]}, {"post_fork": [1]}, {"timeout_s": -1}, {"timeout_s": "1"}],
)
def test_what_makes_no_sense_is_named(document: object) -> None:
    with pytest.raises(ValueError, match=re.escape("hooks")):
        Hooks.from_json(document)
    assert Hooks.from_json({"of a later version": 1}) == NONE


def test_preload_and_its_request(tmp_path: Path) -> None:
    config = found(tmp_path, "preload = true", "preload-warm-up = /warm?x=1").config
    assert config is not None and config.preload and config.warm_up == "/warm?x=1"
    config = found(tmp_path, "preload-warm-up = /warm").config
    assert config is not None and not config.preload
    assert "has no effect without preload" in str(config.warnings[0])
    (problem,) = found(tmp_path, "preload = true", "gevent = 10").problems
    assert "excludes gevent = 10" in str(problem)
