"""`emperor run`: what its flags, the environment and the target come to mean, before anything is started."""

import os
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from emperor.cli.main import main
from emperor.cli.run import name_of, options_of, written
from emperor.config import load_vassal
from emperor.config.problems import Mistake


def vassal(target: str = "shop:app", environ: dict[str, str] | None = None, **flags: Any) -> dict[str, Any]:
    """The vassal's file, read back."""
    given: dict[str, Any] = {"processes": None, "threads": None, "variables": (), "assignments": (), **flags}
    return tomllib.loads(written(options_of(target, "/srv", environ=environ or {}, **given)))


@pytest.mark.parametrize(
    ("target", "app"),
    [
        ("shop:app", {"module": "shop:app"}),
        ("shop", {"module": "shop"}),
        ("shop.web:make()", {"module": "shop.web:make()"}),
        ("app.py", {"wsgi-file": "/srv/app.py"}),
        ("web/app.py:wsgi", {"wsgi-file": "/srv/web/app.py", "callable": "wsgi"}),
    ],
)
def test_the_target(target: str, app: dict[str, str]) -> None:
    found = vassal(target)
    assert {key: found[key] for key in found.keys() & {"module", "wsgi-file", "callable"}} == app
    assert found["chdir"] == "/srv" and found["default"] == "true"


@pytest.mark.parametrize(
    ("flags", "environ", "processes"),
    [
        ({}, {}, "1"),
        ({}, {"WEB_CONCURRENCY": "3"}, "3"),
        ({}, {"WEB_CONCURRENCY": ""}, "1"),
        ({"processes": "4"}, {"WEB_CONCURRENCY": "3"}, "4"),
        ({"assignments": ("workers=5",), "processes": "4"}, {}, "5"),
    ],
)
def test_how_many_workers(flags: dict[str, Any], environ: dict[str, str], processes: str) -> None:
    assert vassal(environ=environ, **flags)["processes"] == processes


def test_any_option_can_be_set_and_those_that_repeat_gather() -> None:
    found = vassal(
        variables=("A=1", "B=x=y"),
        assignments=("env=C=3", "request-timeout=30s", "queue = 7", "queue=8", "need-app"),
        threads="2",
    )
    assert found["env"] == ["A=1", "B=x=y", "C=3"]
    assert (found["request-timeout"], found["queue"], found["need-app"]) == ("30s", "8", "true")
    assert found["threads"] == "2"


def test_another_virtualenv_that_is_active_is_the_app_s(tmp_path: Path) -> None:
    assert vassal(environ={"VIRTUAL_ENV": str(tmp_path)})["virtualenv"] == str(tmp_path)
    assert "virtualenv" not in vassal(environ={"VIRTUAL_ENV": sys.prefix})
    assert "virtualenv" not in vassal(environ={"VIRTUAL_ENV": str(tmp_path / "gone")})


def test_relative_paths_start_where_the_app_is() -> None:
    """Not in the temporary directory that holds the file, and that nobody has named."""
    found = vassal(
        assignments=(
            *(
                "chdir2=sub",
                "socket=run/app.sock",
                "socket=:3031",
                "http-socket=@abstract",
                "include=more.ini",
            ),
            *(
                "https-socket=:8443,a.crt,/b.key",
                "suwsgi-socket=s.sock,a.crt,a.key,HIGH",
                "http-socket=nonsense:x",
            ),
        )
    )
    assert found["chdir2"] == "/srv/sub"
    assert found["socket"] == ["unix:/srv/run/app.sock", "0.0.0.0:3031"]
    assert found["http-socket"] == ["@abstract", "nonsense:x"]
    assert found["https-socket"] == ["0.0.0.0:8443,/srv/a.crt,/b.key"]
    assert found["suwsgi-socket"] == ["unix:/srv/s.sock,/srv/a.crt,/srv/a.key,HIGH"]
    assert found["include"] == "/srv/more.ini"


def test_a_setting_of_the_emperor_is_not_set_like_an_option() -> None:
    with pytest.raises(Mistake) as caught:
        vassal(assignments=("head-timeout=3s",))
    assert caught.value.hint == "write --head-timeout"


def test_values_are_literal_whatever_is_in_them(tmp_path: Path) -> None:
    (tmp_path / "shop.py").touch()
    path = tmp_path / "shop.toml"
    odd = 'A=%(x) $(HOME) "quoted" \\ \x7f ünï é\ttab'
    path.write_text(
        written(options_of("shop.py", str(tmp_path), None, None, (odd,), (), {})), encoding="utf-8"
    )
    assert load_vassal(path, directory=tmp_path).app.env == (("A", odd[2:]),)


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("shop:app", "shop"),
        ("shop.wsgi:app", "shop"),
        ("web/my-app.py", "my-app"),
        ("app.py:x", "app"),
        ("ümläut:app", "-ml-ut"),
        (".hidden.py", "hidden"),
    ],
)
def test_the_name(target: str, name: str) -> None:
    assert name_of(target) == name


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["shop:app", "--set", "proceses=3"], 1, "--set proceses: unknown key (did you mean 'processes'?)"),
        (["shop:app", "-w", "many"], 1, "--processes: 'many' is not a whole number"),
        (["no module"], 1, "MODULE:APP: 'no module' does not name a module"),
        (["nowhere.py"], 1, "MODULE:APP: there is no file"),
        (["shop:app", "--env", "X"], 1, "--env: 'X' has no ="),
        (["shop:app", "--http", "here"], 2, "HOST:PORT"),
        (["shop:app", "--chdir", "/nowhere"], 2, "/nowhere"),
        (["shop:app", "--set", "=x"], 2, "names no option"),
        ([], 2, "MODULE[:APP]"),
    ],
)
def test_what_is_wrong_is_named_by_its_flag_and_nothing_stays(
    tmp_path: Path, arguments: list[str], code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = CliRunner().invoke(main, ["run", *arguments], prog_name="emperor")
    assert (result.exit_code, said in result.output) == (code, True), result.output
    assert os.listdir(tmp_path) == []


def test_a_port_that_is_none() -> None:
    result = CliRunner(env={"PORT": "tcp://10.0.0.1:80"}).invoke(main, ["run", "os:getcwd"])
    assert result.exit_code == 2 and "PORT='tcp://10.0.0.1:80' in the environment is no port" in result.output
