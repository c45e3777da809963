"""The command line beside a running emperor: status, reload, stop, check, version."""

import json

from .harness import Fleet, fetch, free_port, wait_for
from .harness.fleet import APPS

HELLO = APPS / "hello.py"


def test_status_is_a_table_and_json(fleet: Fleet) -> None:
    fleet.vassal("blog", wsgi_file=HELLO)
    fleet.start()
    table = fleet.cli("status", "--run-dir", fleet.run_dir)
    assert table.returncode == 0, table.stderr
    assert "blog" in table.stdout
    assert "READY" in table.stdout
    document = json.loads(fleet.cli("status", "--json", "--run-dir", fleet.run_dir).stdout)
    assert document["vassals"][0]["name"] == "blog"
    # By what it was started with, though its run directory is where nobody would look.
    for place in ((fleet.directory,), ("--dir", fleet.directory), (fleet.run_dir,)):
        found = fleet.cli("status", "--json", *place)
        assert json.loads(found.stdout)["emperor"]["pid"] == fleet.pid("emperor"), found.stderr


def test_the_statistics_answer_a_connect_and_a_get_alike(fleet: Fleet) -> None:
    fleet.vassal("blog", wsgi_file=HELLO)
    port = free_port()
    fleet.start("--stats", f"127.0.0.1:{port}")
    answer = fetch(port, "localhost", "/")
    assert answer.status == 200
    assert json.loads(answer.body)["vassals"][0]["name"] == "blog" == fleet.status()["vassals"][0]["name"]

    def integers(value: object) -> bool:
        if isinstance(value, dict):
            return all(map(integers, value.values()))
        if isinstance(value, list):
            return all(map(integers, value))
        return not isinstance(value, float)

    assert integers(fleet.status())


def test_reload_all_and_an_unknown_name(fleet: Fleet) -> None:
    for name in ("blog", "shop"):
        fleet.vassal(name, wsgi_file=HELLO)
    fleet.start()
    assert fleet.cli("reload", "--run-dir", fleet.run_dir).returncode == 0
    for name in ("blog", "shop"):
        wait_for(lambda name=name: fleet.vassal_status(name)["generation"] == 2, 5, fleet.summary)
        fleet.wait_state(name, "READY")
    unknown = fleet.cli("reload", "blgo", "--run-dir", fleet.run_dir)
    assert unknown.returncode != 0
    assert "blog" in unknown.stderr


def test_stop_waits_for_the_drain(fleet: Fleet) -> None:
    fleet.vassal("blog", wsgi_file=HELLO)
    fleet.start()
    stopped = fleet.cli("stop", fleet.directory)
    assert stopped.returncode == 0, stopped.stderr
    assert fleet.emperor is not None
    assert fleet.emperor.wait(2) == 0


def test_check_of_a_good_directory(fleet: Fleet) -> None:
    fleet.vassal("blog", wsgi_file=HELLO)
    checked = fleet.check()
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_examples_are_good_and_answer(fleet: Fleet) -> None:
    example = APPS.parents[3] / "ops" / "vassals.example"
    assert fleet.cli("check", example).returncode == 0, fleet.cli("check", example).stdout


def test_no_command_that_talks_to_an_emperor_hangs_without_one(fleet: Fleet) -> None:
    for command in (("status",), ("stop",), ("reload",)):
        done = fleet.cli(*command, "--run-dir", fleet.run_dir)
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
    assert "0.1.0" in fleet.cli("version").stdout
