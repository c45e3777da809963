"""The command line without an emperor: check, help, exit codes, and how an emperor is found."""

import io
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from emperor.cli import client
from emperor.cli.client import EXIT_NO_EMPEROR, find_control
from emperor.cli.main import main
from emperor.cli.table import show
from emperor.supervisor import sockets
from emperor.supervisor.rundir import derived, run_root
from emperor.supervisor.sockets import Address

from ..stats.test_model import example


def run(*arguments: str, **environment: str) -> tuple[int, str]:
    result = CliRunner(env=environment).invoke(main, arguments, prog_name="emperor")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def vassal(directory: Path, file: str, *lines: str) -> Path:
    (directory / "app.py").write_text("application = None\n")
    path = directory / file
    path.write_text("\n".join(["[vassal]", "wsgi-file = app.py", *lines, ""]))
    return path


@pytest.mark.parametrize(
    "verb", [[], ["start"], ["status"], ["reload"], ["stop"], ["check"], ["options"], ["version"]]
)
def test_help_has_an_example(verb: list[str]) -> None:
    code, text = run(*verb, "--help")
    assert code == 0
    assert "Example" in text and f"emperor {verb[0] if verb else 'start'}" in text
    assert max(map(len, text.splitlines())) <= 120


def test_version() -> None:
    from emperor import __version__

    assert run("version") == (0, f"emperor-vassals {__version__}\n") == run("--version")


def test_check_is_quiet_about_nothing_and_says_where_what_and_why(tmp_path: Path) -> None:
    good = vassal(tmp_path, "good.ini")
    code, text = run("check", str(tmp_path))
    assert code == 0 and str(good) in text and "good.localhost" in text
    bad = vassal(tmp_path, "bad.ini", "procceses = 2")
    code, text = run("check", str(tmp_path))
    assert code == 1
    assert f"{bad}:3: procceses: " in text and "processes" in text.partition("procceses: ")[2]


def test_check_tells_of_upstreams_in_place_of_workers(tmp_path: Path) -> None:
    made = tmp_path / "shop.ini"
    made.write_text(
        "[vassal]\ndomain = shop.localhost\nupstream = http://127.0.0.1:8000 weight=2\nsubscriptions = true\n"
    )
    code, text = run("check", str(tmp_path))
    assert code == 0
    assert f"{made}: shop: upstreams http://127.0.0.1:8000 weight=2, who subscribes, shop.localhost" in text
    assert "runs as root" not in text  # nothing of it runs


def test_check_names_both_holders_of_a_domain_and_both_files_of_a_name(tmp_path: Path) -> None:
    vassal(tmp_path, "a.ini", "domain = x.example.com")
    vassal(tmp_path, "b.ini", "domain = x.example.com")
    (tmp_path / "a.toml").write_text('[vassal]\nwsgi-file = "app.py"\n')
    code, text = run("check", "-q", str(tmp_path))
    assert code == 1
    assert "b.ini: domain: x.example.com is held by a.ini" in text
    assert "a.toml" in text and "a.ini is the vassal 'a' already" in text


def test_check_looks_at_weights_and_mirrors_of_all_files(tmp_path: Path) -> None:
    vassal(tmp_path, "a.ini", "domain = x.example.com\nweight = 95\nmirror = nobody")
    vassal(tmp_path, "b.ini", "domain = x.example.com\nweight = 5")
    vassal(tmp_path, "c.ini", "domain = y.example.com\nweight = 0\nmirror = b 10%")
    code, text = run("check", str(tmp_path))
    assert code == 0
    assert (
        "a.ini:5: mirror: there is no vassal nobody here: no copies are made (name one that is there) [warning]"
        in text
    )
    assert "c.ini:4: weight: 0, as everybody's who has y.example.com: it is answered 503" in text
    assert text.count("weight: 0") == 1 and text.count("mirror:") == 1
    vassal(tmp_path, "d.ini", "domain = x.example.com")
    code, text = run("check", "-q", str(tmp_path))
    assert (
        code == 1
        and "d.ini: domain: x.example.com is held by a.ini, which shares it (weight): set a weight" in text
    )


def test_a_wrong_command_line_is_2(tmp_path: Path) -> None:
    assert run("check", str(tmp_path / "nothing"))[0] == 2
    assert run("nonsense")[0] == 2
    code, text = run("start", str(tmp_path), "--http", "localhost")
    assert code == 2 and "HOST:PORT" in text


@pytest.mark.parametrize("verb", ["status", "stop", "reload"])
def test_no_emperor_is_3_and_says_where_it_looked(verb: str, tmp_path: Path) -> None:
    code, text = run(verb, "--run-dir", str(tmp_path))
    assert code == EXIT_NO_EMPEROR and str(tmp_path) in text


def test_the_only_running_emperor_is_found_and_two_are_asked_about(tmp_path: Path) -> None:
    root = tmp_path / "r"
    with pytest.raises(LookupError, match="no emperor is running"):
        find_control(None, None, root)
    for name in ("a", "b", "dead"):
        (root / name).mkdir(parents=True)
    (root / "dead" / "control.sock").touch()
    with sockets.listen(Address(path=str(root / "a/control.sock"))):
        assert find_control(None, None, root) == str(root / "a/control.sock")
        with (
            sockets.listen(Address(path=str(root / "b/control.sock"))),
            pytest.raises(LookupError, match=r"several emperors.*/a, .*/b"),
        ):
            find_control(None, None, root)
    assert find_control(str(tmp_path), None, root) == f"{derived(root, tmp_path)}/control.sock"
    assert find_control(str(tmp_path), str(root / "a"), root) == str(root / "a/control.sock")


def test_an_emperor_of_several_places_is_found_by_any_of_them(tmp_path: Path) -> None:
    root, first, second = tmp_path / "r", tmp_path / "first", tmp_path / "second"
    run_dir = Path(derived(root, first))
    for directory in (run_dir, first, second):
        directory.mkdir(parents=True)
    (tmp_path / "link").symlink_to(second)
    (run_dir / "places").write_text(f"{first}\n{second}\n/srv/*/app.ini\n")
    with sockets.listen(Address(path=str(run_dir / "control.sock"))):
        for place in (first, second, tmp_path / "link", "/srv/*/app.ini"):
            assert find_control(str(place), None, root) == str(run_dir / "control.sock")
    # One that does not answer is none: the path is still the one to name in an error.
    assert find_control(str(second), None, root) == f"{derived(root, second)}/control.sock"


def test_a_place_is_a_directory_or_a_run_directory_and_never_both_silently(tmp_path: Path) -> None:
    root, both = tmp_path / "emperor", tmp_path / "both"
    both.mkdir()
    environment = {"XDG_RUNTIME_DIR": str(tmp_path)}
    if os.geteuid() == 0:  # its run directories are /run's, whatever the environment says
        root = run_root(0, {})
    own = Path(derived(root, both))
    for verb in ("status", "stop", "reopen-logs", "upgrade"):
        code, text = run(verb, str(both), **environment)
        assert code == EXIT_NO_EMPEROR and str(own) in text
        code, text = run(verb, str(both / "blog"), **environment)
        assert code == 2 and "emperor trace NAME" in text
        code, text = run(verb, str(both), "--dir", str(both), **environment)
        assert code == 2 and "leave --dir and --run-dir out" in text
    with sockets.listen(Address(path=str(both / "control.sock"))):
        assert client._meant_by(str(both)) == (None, str(both))
        own.mkdir(parents=True)
        try:
            with sockets.listen(Address(path=str(own / "control.sock"))):
                code, text = run("status", str(both), **environment)
        finally:
            shutil.rmtree(own)
        assert code == 2 and "the run directory of one emperor, and another serves what is in it" in text
    assert client._meant_by("/srv/*/app.ini") == ("/srv/*/app.ini", None)


@pytest.mark.parametrize("verb", ["reload", "trace", "events", "pause", "resume", "rollback", "promote"])
def test_a_directory_is_no_name_of_a_vassal(verb: str) -> None:
    code, text = run(verb, "./vassals/")
    assert code == 2
    assert "./vassals/ is no vassal's name: --dir ./vassals/ says which emperor is meant" in text


def table(document: dict[str, Any], width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    show(document, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_table_shows_state_generation_workers_requests_and_reason() -> None:
    document = example()
    document["emperor"]["started"] = time.time() - 3 * 3600
    text = table(document)
    blog = next(line.split() for line in text.splitlines() if line.startswith("blog"))
    assert blog[:2] == ["blog", "READY"] and blog[3:7] == ["1", "1/2", "1", "1"]
    assert "up 3h" in text
    assert "/v/bad.ini: no app" in text and "warning: a warning" in text


def test_upstreams_stand_for_workers_and_who_is_left_out_is_named() -> None:
    document = example()
    document["vassals"][0]["processes"] = 0
    document["vassals"][0]["workers"] = []
    up, down = dict(document["routers"][0]["apps"]["blog"]["upstreams"][0]), {"address": "http://10.0.0.3:80"}
    down = {
        **up,
        **down,
        "state": "ejected",
        "out_for_s": 12,
        "last_failure": "it cannot be reached: refused",
    }
    document["routers"][0]["apps"] = {
        "blog": {**document["routers"][0]["apps"]["blog"], "upstreams": [up, down]}
    }
    text = table(document, 300)
    assert next(line.split() for line in text.splitlines() if line.startswith("blog"))[4] == "1/2"
    assert (
        "blog: upstream http://10.0.0.3:80 is left out for 12 s more after failures in a row: it cannot be reached: refused"
        in text
    )


def test_a_ready_one_whose_upstreams_do_not_answer_is_not_called_ready() -> None:
    document = example()
    (blog,) = (each for each in document["vassals"] if each["name"] == "blog")
    for said, state in (("all", "READY"), ("some", "DEGRADED"), ("none", "UNREACHABLE"), ("", "READY")):
        blog["answering"] = said
        assert (
            next(line.split() for line in table(document).splitlines() if line.startswith("blog"))[1] == state
        )
    blog["answering"], blog["state"] = "none", "RELOADING"
    assert "RELOADING" in table(document)


def test_upstreams_without_room_and_names_that_hang_are_named() -> None:
    document = example()
    router = document["routers"][0]
    blog = router["apps"]["blog"]
    full = {**blog["upstreams"][0], "address": "http://a.internal:80", "ip": "10.0.0.3"}
    full |= {"max_connections": 4, "outstanding": 4, "state": "in"}
    router["apps"] = {"blog": {**blog, "upstreams": [full], "queued": 7}}
    router["names"] |= {"under_way": 4, "oldest_s": 9, "waiting": 2, "unknown": 6}
    text = table(document, 300)
    assert "blog: upstream http://a.internal:80 (10.0.0.3) has all the 4 connections that it may have" in text
    assert "4 lookups under way, the oldest for 9 s, 2 wait behind them; 6 names are not known" in text


def test_a_long_reason_is_shown_whole_and_markup_in_it_is_text() -> None:
    document = example()
    reason = "[red]module 'x' " + "very long " * 30 + "end"
    document["vassals"][0]["reason"] = reason
    text = table(document, 80)
    # Its column is the last one, however the words are laid out in it.
    rows = text.splitlines()
    at = next(row.index("[red]") for row in rows if "[red]" in row)
    assert "".join(reason.split()) in "".join("".join(row[at:].split()) for row in rows)


def test_an_empty_directory_says_what_to_do() -> None:
    document = example()
    document["vassals"] = []
    assert "put NAME.ini" in table(document)


def test_importing_the_command_loads_neither_zeromq_nor_an_event_loop(tmp_path: Path) -> None:
    """The emperor's own modules too: what aborts or is attacked must not take everything with it."""
    import subprocess
    import sys

    code = (
        "import emperor.cli.main, emperor.emperor, sys\n"
        "bad = {'zmq', 'asyncio', 'uvloop', 'vassals', 'http.server'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {sorted(bad)}' if bad else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=os.environ
    )
    assert done.returncode == 0, done.stderr
