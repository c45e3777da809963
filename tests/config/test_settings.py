"""The emperor's settings: one table, four sources, and the flags of the router's process."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from emperor.config import options, reference
from emperor.config.problems import ConfigError, Mistake
from emperor.config.settings import (
    NAMES,
    SETTINGS,
    EmperorSettings,
    RouterSettings,
    Setting,
    Settings,
    as_arguments,
    from_arguments,
    from_flags,
    take_up,
)
from emperor.config.sources import load_settings


def load(file: Path | None = None, environ: dict[str, str] | None = None, **flags: Any) -> Settings:
    named = {name.replace("_", "-"): value for name, value in flags.items()}
    return load_settings(named, environ or {}, None if file is None else str(file), "/here")


def written(directory: Path, name: str, text: str) -> Path:
    path = directory / name
    path.write_text(text)
    return path


def test_no_name_stands_for_two_settings() -> None:
    names = [name for row in SETTINGS for name in (row.name, *row.aliases)]
    assert len(names) == len(set(names)) == len(NAMES)


@pytest.mark.parametrize("row", SETTINGS, ids=lambda row: row.name)
def test_each_row_is_whole(row: Setting) -> None:
    part = {"emperor": EmperorSettings, "router": RouterSettings}[row.part]
    assert getattr(part(), row.attribute) == row.default
    assert row.text.endswith((".", ")"))
    assert row.kind in options.PARSERS
    if not row.kind.repeats and row.default is not None:
        assert row.parse(row.default) == row.default
    assert row.kind is not options.Kind.DURATION or row.attribute.endswith("_s")


def test_without_any_source_all_is_default() -> None:
    assert load() == Settings()


def test_a_flag_counts_before_the_environment_before_the_file(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "emperor.toml",
        'head-timeout = "5s"\nidle-timeout = 6\nbody-timeout = "7s"\nhttp = [":1", ":2"]\n',
    )
    found = load(
        file,
        {"EMPEROR_HEAD_TIMEOUT": "8s", "EMPEROR_IDLE_TIMEOUT": "9s", "EMPEROR_HTTP": ":3 '[::1]:4'"},
        head_timeout=("10s",),
    )
    router = found.router
    assert (router.head_timeout_s, router.idle_timeout_s, router.body_timeout_s) == (10.0, 9.0, 7.0)
    assert router.write_timeout_s == RouterSettings().write_timeout_s
    assert found.emperor.http == (":3", "[::1]:4"), "a source replaces a list, it does not add to it"
    assert found.origins == {
        "head-timeout": "--head-timeout",
        "idle-timeout": "EMPEROR_IDLE_TIMEOUT",
        "body-timeout": f"{file}:3",
        "http": "EMPEROR_HTTP",
    }
    assert found.file == str(file)


def test_ini_and_toml_say_the_same(tmp_path: Path) -> None:
    ini = written(
        tmp_path,
        "a.ini",
        "[emperor]\nvassals = vassals\nvassals = /srv/*/app.ini\nhttp-keepalive = 5\nrun-dir = run\n",
    )
    table = written(
        tmp_path,
        "b.toml",
        '[emperor]\nvassals = ["vassals", "/srv/*/app.ini"]\nidle-timeout = "5s"\nrun-dir = "run"\n',
    )
    a, b = load(ini), load(table)
    assert a.emperor == b.emperor and a.router == b.router
    assert a.emperor.vassals == (str(tmp_path / "vassals"), "/srv/*/app.ini")
    assert a.emperor.run_dir == str(tmp_path / "run")


def test_uwsgi_s_name_of_the_directory_is_known(tmp_path: Path) -> None:
    assert load(written(tmp_path, "e.ini", "[uwsgi]\nemperor = /etc/vassals\n")).emperor.vassals == (
        "/etc/vassals",
    )


def test_relative_paths_of_flags_and_variables_start_at_the_current_directory() -> None:
    found = load(vassals=("v",), environ={"EMPEROR_RUN_DIR": "r"})
    assert (found.emperor.vassals, found.emperor.run_dir) == (("/here/v",), "/here/r")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("head-timout = 1\n", "1: head-timout: is no setting (did you mean 'head-timeout'?)"),
        ("\nprocesses = 2\n", "2: processes: is a vassal's option, no setting (`vassal-set = processes=…`"),
        ('emperor-tyrantt = "x"\n', "1: emperor-tyrantt: is no setting"),
        ('limit-as = "x"\n', "1: limit-as: uWSGI has it, we do not"),
        (
            "emperor-tyrant = true\n",
            "1: emperor-tyrant: uWSGI has it, we do not (it takes privileges from the app; remove",
        ),
        ("emperor-throttle = 5\n", "1: emperor-throttle: uWSGI has it, we do not (remove the line if"),
        ('pidfile = "/x"\n', "1: pidfile: is a vassal's option, no setting (systemd knows the emperor's pid"),
        (
            'logto = "/x"\n',
            "1: logto: is a vassal's option, no setting (the emperor logs to its standard error",
        ),
        ('uid = "www-data"\n', "1: uid: is a vassal's option, no setting (start the emperor as the user"),
        (
            'vassals = "pg://host;SELECT"\n',
            "1: vassals: vassals are not read from pg://… (name a directory of files",
        ),
        ('head-timeout = "soon"\n', "1: head-timeout: 'soon' is not a duration"),
        ("head-timeout = 0\n", "1: head-timeout: 0 is out of range: between 0.1 and 86400 s"),
        ("http = 80\n", "1: http: 80 is not text (put it in quotes)"),
        ("http = [\n", "is not TOML"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, "emperor.toml", text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(path) in str(caught.value) and said in str(caught.value)


def test_what_looks_like_a_comment_after_a_value_is_named(tmp_path: Path) -> None:
    text = "[emperor]\nhttp = /run/http.sock ; nginx\nhead-timeout = 5 # s\nvassal-set = env=A=1 ; one\n"
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, "emperor.ini", text))
    assert [(problem.line, problem.key, problem.reason) for problem in caught.value.problems] == [
        (2, "http", "ends in what looks like a comment"),
        (3, "head-timeout", "ends in what looks like a comment"),
    ]
    assert [warning.line for warning in caught.value.warnings] == [4]


def test_what_is_always_so_in_an_emperor_ini_is_a_note(tmp_path: Path) -> None:
    lines = [
        "[uwsgi]",
        "emperor = dir://v",
        "emperor = glob:///srv/*/app.ini",
        "master = true",
        "die-on-term = false",
    ]
    path = written(tmp_path, "emperor.ini", "\n".join([*lines, "emperor-stats-server = 127.0.0.1:9191", ""]))
    found = load(path)
    assert found.emperor.vassals == (str(tmp_path / "v"), "/srv/*/app.ini")
    assert found.emperor.stats == "127.0.0.1:9191"
    assert [str(note) for note in found.notes] == [
        f"{path}:4: master: needs no saying here (every app has a process of its own that supervises its workers)"
    ]
    assert [str(warning) for warning in found.warnings] == [
        f"{path}:5: die-on-term: cannot be turned off (TERM always stops, after requests have finished)"
    ]


def test_what_uwsgi_has_for_it_names_what_to_use(tmp_path: Path) -> None:
    path = written(tmp_path, "emperor.ini", "[emperor]\nvassals = v\nhttp-timeout = 60\n")
    with pytest.raises(
        ConfigError, match=r"http-timeout: uWSGI has it, we do not \(use idle-timeout, body-timeout"
    ):
        load(path)


def test_all_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load(environ={"EMPEROR_HEAD_TIMEOUT": "x", "EMPEROR_HTTP": "'"}, idle_timeout=("y",))
    text = str(caught.value)
    assert "environment: EMPEROR_HEAD_TIMEOUT: 'x' is not a duration" in text
    assert 'environment: EMPEROR_HTTP: "\'" cannot be split into words' in text
    assert "command line: --idle-timeout: 'y' is not a duration" in text


@pytest.mark.parametrize("name", ["emperor.conf", "emperor"])
def test_a_file_of_no_known_format(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"its name ends in \.ini or \.toml"):
        load(written(tmp_path, name, "x = 1\n"))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: is not there"):
        load(tmp_path / "none.toml")


def test_a_variable_that_is_nearly_one_of_ours_is_a_warning_and_others_are_not_ours() -> None:
    found = load(
        environ={
            "EMPEROR_HEAD_TIMEOUTS": "1s",
            "EMPEROR_PORT": "tcp://10.0.0.1:80",
            "EMPEROR_SERVICE_HOST": "x",
        }
    )
    (warning,) = found.warnings
    assert (
        str(warning)
        == "environment: EMPEROR_HEAD_TIMEOUTS: is no setting (did you mean EMPEROR_HEAD_TIMEOUT?)"
    )


def test_uwsgis_variables_are_of_vassals_and_those_of_its_emperor_are_named() -> None:
    environ = {"UWSGI_EMPEROR": "/etc/vassals", "UWSGI_HTTP": ":80", "UWSGI_PROCESSES": "2"}
    settings = load_settings({}, environ, None, "/")
    assert settings.emperor == EmperorSettings()
    assert [str(warning) for warning in settings.warnings] == [
        "environment: UWSGI_EMPEROR: is not read (the emperor's own settings are EMPEROR_…: write EMPEROR_VASSALS)"
    ]


def test_a_key_that_is_set_twice_is_a_warning(tmp_path: Path) -> None:
    found = load(written(tmp_path, "e.ini", "[emperor]\nhead-timeout = 1\nhead-timeout = 2\n"))
    assert found.router.head_timeout_s == 2.0
    assert "e.ini:2: head-timeout: is set again in line 3, which counts" in str(found.warnings[0])


def test_the_router_s_flags_give_back_what_they_were_made_from() -> None:
    assert as_arguments(RouterSettings()) == []
    other = replace(RouterSettings(), head_timeout_s=0.3, orphan_timeout_s=60.0)
    arguments = as_arguments(other)
    assert arguments == ["--head-timeout=0.3", "--orphan-timeout=60.0"]
    rows = {row.flag: row.attribute for row in SETTINGS}
    given: dict[str, list[str]] = {}
    for argument in arguments:
        flag, _, value = argument.partition("=")
        given.setdefault(rows[flag], []).append(value)
    assert from_arguments(RouterSettings, given) == other
    assert from_flags(RouterSettings, arguments) == other
    with pytest.raises(KeyError):
        from_flags(RouterSettings, ["--of-another-version=1"])
    with pytest.raises(Mistake):
        from_arguments(RouterSettings, {"head_timeout_s": ["x"]})


def test_every_field_is_a_row() -> None:
    for part in (EmperorSettings, RouterSettings):
        assert {each.name for each in fields(part)} <= {row.attribute for row in SETTINGS}


def test_the_examples_on_the_page_say_the_same(tmp_path: Path) -> None:
    found = []
    for suffix in ("toml", "ini"):
        example = reference.settings_page().partition(f"```{suffix}\n")[2].partition("```")[0]
        found.append(load(written(tmp_path, f"e.{suffix}", example)))
    assert found[0].emperor == found[1].emperor and found[0].router == found[1].router
    assert found[0].emperor.vassals == ("/etc/vassals",)


def test_a_reload_takes_up_what_needs_no_new_start_and_names_the_rest() -> None:
    old = Settings(EmperorSettings(http=("127.0.0.1:8000",)))
    said = EmperorSettings(
        http=("127.0.0.1:8001",), stats="127.0.0.1:9", refuse_root=True, router_mercy_s=7.0
    )
    router = RouterSettings(head_timeout_s=3.0)
    now, waiting = take_up(old, Settings(said, router))
    assert now.emperor == replace(old.emperor, refuse_root=True, router_mercy_s=7.0)
    assert now.router == router
    assert sorted(waiting) == ["http", "stats"]
