"""`emperor check` with --explain and --json, and `emperor options`."""

import json
import os
from pathlib import Path

import pytest

from emperor.config.options import OPTIONS

from .test_commands import run


@pytest.fixture
def vassals(tmp_path: Path) -> Path:
    (tmp_path / "base.ini.d").mkdir()
    (tmp_path / "base.ini.d" / "common.ini").write_text("[uwsgi]\nqueue = 5\nvacuum\n")
    (tmp_path / "blog.ini").write_text(
        "[uwsgi]\n"
        "module = %n.wsgi:app\n"
        "workers = %(%k * 0 + 2)\n"
        "root = /srv\n"
        "env = ROOT=%(root)\n"
        "if-env = NO_SUCH_VARIABLE\n"
        "env = DEBUG=1\n"
        "endif\n"
        "harakiri = 30\n"
        "processes = 3\n"
        "include = base.ini.d/common.ini\n"
    )
    return tmp_path


def test_explain_says_what_each_line_came_to_mean(vassals: Path) -> None:
    path = vassals / "blog.ini"
    code, text = run("check", "--explain", str(path))
    assert code == 0
    lines = [" ".join(line.split()) for line in text.splitlines()]
    for wanted in (
        f"{path}: right",
        "2 module = %n.wsgi:app sets module = 'blog.wsgi:app'",
        "3 workers = %(%k * 0 + 2) WARNING is set again in line 10, which counts (workers is processes)",
        "4 root = /srv holds %(root) stands for '/srv'",
        "5 env = ROOT=%(root) adds env += 'ROOT=/srv'",
        "6 if-env = NO_SUCH_VARIABLE block does not apply",
        "7 env = DEBUG=1 skipped if-env in line 6 does not apply",
        "8 endif block ends if-env of line 6",
        f"11 include = base.ini.d/common.ini reads {vassals}/base.ini.d/common.ini",
        "2 queue = 5 sets queue = 5",
        "3 vacuum note needs no saying here (sockets and files are always removed at the end)",
        "options of blog:",
        "processes 3 line 10",
        f"queue 5 {vassals}/base.ini.d/common.ini:2",
        "need-app true default",
        "a change of these counts, too: base.ini.d/common.ini",
    ):
        assert wanted in lines, wanted


def test_explain_of_a_file_that_is_wrong_says_what_each_line_is_wrong_about(vassals: Path) -> None:
    path = vassals / "blog.ini"
    path.write_text("[uwsgi\n[uwsgi]\nproceses = 2\nroute = ^/ deny\nprocesses = 4 ; four\n")
    code, text = run("check", "--explain", str(path))
    assert code == 1
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert f"{path}: REFUSED" in lines
    assert "3 proceses = 2 ERROR unknown key (did you mean 'processes'?)" in lines
    assert any(line.startswith("4 route = ^/ deny ERROR not supported, and ignoring") for line in lines)
    assert any(
        line.startswith("5 processes = 4 ; four ERROR '4 ; four' is not a whole number (a comm")
        for line in lines
    )
    assert any(line.startswith(f"ERROR: {path}:1: '[uwsgi' is no section header") for line in lines)
    assert f"ERROR: {path}: names no app (set module = pkg.mod:app or wsgi-file = app.py)" in lines


def test_everything_as_json(vassals: Path) -> None:
    (vassals / "bad.toml").write_text("procesess = 1\n")
    code, text = run("check", "--json", str(vassals))
    document = json.loads(text)
    assert (code, document["right"]) == (1, False)
    bad, blog = document["files"]
    assert (bad["right"], bad["vassal"], bad["errors"][0]["line"]) == (False, None, None)
    assert bad["errors"][1] | {"path": ""} == {
        "path": "",
        "line": 1,
        "key": "procesess",
        "reason": "unknown key",
        "hint": "did you mean 'processes'?",
    }
    assert (blog["right"], blog["vassal"]) == (True, "blog")
    assert blog["options"]["processes"] == {
        "value": 3,
        "origin": {"path": str(vassals / "blog.ini"), "line": 10, "key": "processes"},
    }
    assert blog["options"]["need-app"] == {"value": True, "origin": None}
    assert [line["line"] for line in blog["lines"]] == [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 2, 3]
    assert blog["lines"][3]["outcomes"] == [{"kind": "adds", "text": "env += 'ROOT=/srv'"}]
    assert len(blog["sources"]) == 2


def test_what_the_settings_add_to_every_vassal_counts(vassals: Path) -> None:
    settings = vassals / "base.ini.d" / "emperor.toml"
    settings.write_text(f'vassals = ["{vassals}"]\nvassal-set = ["queue-timeout=2s", "who=me"]\n')
    (vassals / "blog.ini").write_text("[uwsgi]\nmodule = %(who)\n")
    code, text = run("check", "--explain", "--config", str(settings))
    text = " ".join(text.split())
    assert code == 0
    assert (
        "vassal-set: queue-timeout = 2s sets queue-timeout = 2 who = me holds %(who) stands for 'me'" in text
    )
    assert f"queue-timeout 2 {settings}:2: vassal-set" in text


def test_what_is_wrong_with_the_settings_is_said_once_and_where_it_stands(vassals: Path) -> None:
    settings = vassals / "base.ini.d" / "emperor.ini"
    settings.write_text(
        f"[emperor]\nvassals = {vassals}\nvassals-include = /no.ini\nvassal-set = pidfile=%n.pid\n"
        "vassal-set = processes=x\n"
    )
    (vassals / "red.ini").write_text("[uwsgi]\nmodule = red\n")
    code, text = run("check", "--config", str(settings))
    assert code == 1
    lines = text.splitlines()
    assert lines.count(f"{settings}:3: vassals-include: /no.ini is not there, or no longer") == 1
    assert lines.count(f"{settings}:4,5: vassal-set: processes: 'x' is not a whole number") == 1
    hint = "letters are replaced in files only: put the line into one, and name it in vassals-include"
    assert lines.count(f"{settings}:4,5: vassal-set: pidfile: %n stays as it is ({hint}) [warning]") == 1


def test_an_interpreter_that_cannot_run_is_named_at_its_line(vassals: Path) -> None:
    (vassals / "venv").mkdir()
    (vassals / "venv" / "pyvenv.cfg").write_text("home = /nowhere\nversion = 3.1.0\n")
    (vassals / "blog.ini").write_text("[uwsgi]\nmodule = a\nvirtualenv = venv\n")
    code, text = run("check", str(vassals))
    assert code == 1
    assert text.startswith(f"{vassals}/blog.ini:3: virtualenv: there is no {vassals}/venv/bin/python")


def test_a_settings_file_is_told_from_a_vassals(vassals: Path) -> None:
    settings = vassals / "mine.ini"
    settings.write_text("[emperor]\nhead-timeout = 5x\n")
    code, text = run("check", str(settings))
    assert code == 1 and "mine.ini:2: head-timeout: '5x' is not a duration" in text
    settings.write_text("[emperor]\nhead-timeout = 5s\n")
    assert run("check", str(settings)) == (0, f"{settings}: settings of the emperor\n")


def test_what_several_routers_cannot_have_is_said_before_the_start(vassals: Path) -> None:
    settings = vassals / "base.ini.d" / "emperor.ini"
    settings.write_text("[emperor]\nrouters = 2\nbackplane = tcp://127.0.0.1:5555\n")
    code, text = run("check", str(settings))
    assert code == 1 and f"{settings}: routers = 2 and backplane = tcp://127.0.0.1:5555: " in text
    settings.write_text("[emperor]\nrouters = 4\n")
    code, text = run("check", str(settings))
    assert code == 1 and f"{settings}:2: routers: " in text
    settings.write_text(f"[emperor]\nrouters = 2\nvassals = {vassals}\n")
    (vassals / "blog.ini").write_text("[uwsgi]\nmodule = blog\nsticky = who\n")
    code, text = run("check", "--config", str(settings))
    assert code == 0 and f"{vassals}/blog.ini: sticky = who: with routers = 2 each of them leads" in text


def test_an_emperor_ini_of_uwsgis_is_a_settings_file(vassals: Path) -> None:
    settings = vassals / "base.ini.d" / "emperor.ini"
    settings.write_text(f"[uwsgi]\nemperor = dir://{vassals}\nmaster = true\n")
    note = "needs no saying here (every app has a process of its own that supervises its workers)"
    assert run("check", str(settings)) == (
        0,
        f"{settings}:3: master: {note} [note]\n{settings}: settings of the emperor\n",
    )
    code, text = run("check", f"dir://{vassals}")
    assert code == 0 and f"{vassals}/blog.ini: blog" in text
    code, text = run("check", "zmq://tcp://127.0.0.1:5252")
    assert code == 2 and "vassals are not read from zmq://…" in text


def test_what_a_start_would_miss_is_told(vassals: Path) -> None:
    (vassals / "blog.ini").write_text(
        "[uwsgi]\nmodule = a\nsocket = no/a.sock\nhttps-socket = :8443,a.crt,a.key\nlogto = no/out\n"
        f"pidfile = no/pid\nreq-logger = file:no/log\nlisten = 999999\nuid = {os.getuid() or 1000}\ngid = 1000\n"
    )
    (vassals / "a.crt").write_text("")
    code, text = run("check", str(vassals))
    assert code == 0
    path, none = vassals / "blog.ini", f"there is no directory {vassals}/no for {vassals}/no"
    most = Path("/proc/sys/net/core/somaxconn").read_text().strip()
    assert [line.removesuffix(" [warning]") for line in text.splitlines()][:-1] == [
        f"{path}: pidfile: {none}/pid (make it, for the app's user)",
        f"{path}: logto: {none}/out (make it, for the app's user)",
        f"{path}: access-log: {none}/log (make it, for the app's user)",
        f"{path}: socket: {none}/a.sock (make it, for the app's user)",
        f"{path}: https-socket: there is no {vassals}/a.key, and nobody is served at 0.0.0.0:8443 without it",
        f"{path}: listen: 999999: the kernel allows {most} (sysctl net.core.somaxconn)",
    ]


def test_who_would_run_as_root_is_told(vassals: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    code, text = run("check", str(vassals))
    assert code == 0
    assert (
        f"{vassals}/blog.ini: uid: runs as root, since it names no other user (set uid = NAME) [warning]"
        in text
    )
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert "runs as root" not in run("check", str(vassals))[1]
    settings = vassals / "base.ini.d" / "emperor.toml"
    settings.write_text(f'vassals = ["{vassals}"]\nrefuse-root = true\n')
    code, text = run("check", "--config", str(settings))
    assert code == 1
    assert (
        f"{vassals}/blog.ini: uid: would run as root, and refuse-root is set (set uid = NAME of another user)"
        in text
    )


def test_files_of_uwsgis_that_are_not_read_are_named(vassals: Path) -> None:
    for name in ("a.xml", "b.xml", ".c.xml"):
        (vassals / name).write_text("<uwsgi/>")
    (vassals / "old.js").write_text('{"uwsgi": {"module": "old"}}')
    code, text = run("check", str(vassals))
    assert code == 0 and f"{vassals}/old.js: old: old" in text
    assert f"{vassals}/a.xml and 1 more: passed over, since XML is not read (write it as .ini, .toml" in text


def test_patterns_and_several_places(vassals: Path) -> None:
    for name in ("one", "two"):
        (vassals / "srv" / name).mkdir(parents=True)
        (vassals / "srv" / name / "app.ini").write_text("[uwsgi]\nmodule = a\n")
    code, text = run("check", str(vassals), str(vassals / "srv" / "*" / "app.ini"))
    assert code == 0
    assert [line.split(": ")[1] for line in text.splitlines() if "[warning]" not in line] == [
        "blog",
        "one",
        "two",
    ]
    (vassals / "srv" / "blog").mkdir()
    (vassals / "srv" / "blog" / "app.ini").write_text("[uwsgi]\nmodule = a\n")
    code, text = run("check", "-q", str(vassals), str(vassals / "srv" / "*" / "app.ini"))
    assert code == 1 and "is the vassal 'blog' already" in text


def test_nothing_to_check_and_nothing_there(tmp_path: Path) -> None:
    assert run("check")[0] == 2
    code, text = run("check", str(tmp_path / "gone"))
    assert code == 2 and "there is no" in text


def test_every_option_is_listed() -> None:
    code, text = run("options")
    assert code == 0
    assert [line.split()[0] for line in text.splitlines()] == [option.name for option in OPTIONS]
    assert [record["name"] for record in json.loads(run("options", "--json")[1])] == [
        each.name for each in OPTIONS
    ]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("processes", ["processes: number", "also written: workers, p", "default: 1", "since 0.1"]),
        ("workers", ["workers is processes: number"]),
        ("need-app", ["default: true"]),
        ("spawn", ["spawn: fork or exec"]),
        ("master", ["Always so here", "Every app has a process of its own"]),
        ("route", ["REFUSED", "A routing rule may be an access rule."]),
        ("webdav-css", ["Without effect here: a warning", "There is nothing of the kind here."]),
        ("include", ["Says how the file is read", "Reads another file"]),
        ("else", ["Says how the file is read"]),
        ("ldap", ["is not read here", "Write it as .ini"]),
        ("head-timeout", ["a setting of the emperor's", "EMPEROR_HEAD_TIMEOUT"]),
    ],
)
def test_what_an_option_is(name: str, parts: list[str]) -> None:
    code, text = run("options", name)
    assert code == 0
    for part in parts:
        assert part in text


def test_a_name_that_is_nobodys() -> None:
    assert run("options", "harakri") == (1, "harakri: nobody's option; did you mean harakiri?\n")
    assert run("options", "qqqqq") == (1, "qqqqq: nobody's option\n")
    code, text = run("options", "--json", "processes", "vaccum")
    assert code == 1
    assert [(each["is"], each.get("nearest")) for each in json.loads(text)] == [
        ("option", None),
        ("unknown", "vacuum"),
    ]


def test_the_schema_is_printed() -> None:
    assert json.loads(run("options", "--schema")[1])["$schema"].endswith("2020-12/schema")
