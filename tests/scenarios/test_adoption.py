"""A second `emperor start` after the first was killed takes over what lives, doubles nothing, and serves on."""

import os

import pytest

from .harness import Fleet, take_census, wait_for
from .harness.fleet import APPS

HELLO = APPS / "hello.py"
OWN = ("emperor", "spawner")


@pytest.fixture
def adopted(fleet: Fleet) -> tuple[Fleet, dict[str, int]]:
    """A fleet under its second emperor, and the pids under the first."""
    for name in ("red", "green", "blue"):
        fleet.vassal(name, wsgi_file=HELLO, env="GREETING=one", processes=2)
    fleet.start()
    pids, census = fleet.pids(), take_census(fleet)
    fleet.kill_emperor()
    assert fleet.get("red").text == "one", "the router serves without an emperor"
    fleet.start()
    wait_for(
        lambda: not take_census(fleet).grown_since(census), 5, lambda: take_census(fleet).grown_since(census)
    )
    return fleet, pids


def test_nothing_is_replaced_or_doubled(adopted: tuple[Fleet, dict[str, int]]) -> None:
    fleet, pids = adopted
    now = fleet.pids()
    assert {role: pid for role, pid in now.items() if role not in OWN} == {
        role: pid for role, pid in pids.items() if role not in OWN
    }
    assert {vassal["generation"] for vassal in fleet.status()["vassals"]} == {1}
    assert fleet.get("green").text == "one"


def test_edit_drop_and_remove_work_after_it(adopted: tuple[Fleet, dict[str, int]]) -> None:
    fleet, pids = adopted
    fleet.vassal("red", wsgi_file=HELLO, env="GREETING=two")
    wait_for(lambda: fleet.get("red").text == "two", 5, fleet.summary)
    fleet.vassal("fresh", wsgi_file=HELLO)
    fleet.wait_ready("fresh")
    (fleet.directory / "blue.ini").unlink()
    wait_for(lambda: not fleet.vassal_status("blue"), 10, fleet.summary)
    for role, pid in pids.items():
        if "blue" in role or "red" in role:
            wait_for(lambda pid=pid: not os.path.exists(f"/proc/{pid}"), 10, role)


def test_what_changed_while_nobody_looked_is_taken_up(fleet: Fleet) -> None:
    for name in ("red", "green", "blue"):
        fleet.vassal(name, wsgi_file=HELLO, env="GREETING=one")
    fleet.start()
    pids = fleet.pids()
    fleet.kill_emperor()
    fleet.vassal("red", wsgi_file=HELLO, env="GREETING=two")
    (fleet.directory / "blue.ini").unlink()
    fleet.vassal("fresh", wsgi_file=HELLO)
    fleet.start()
    wait_for(lambda: fleet.get("red").text == "two", 5, fleet.summary)
    wait_for(lambda: fleet.get("blue").status == 404, 5, fleet.summary)
    wait_for(lambda: not os.path.exists(f"/proc/{pids['worker blue/0']}"), 10, "the removed vassal's worker")
    assert fleet.pid("gateway", "green") == pids["gateway green"]


def test_the_second_emperor_ends_all_it_took_over(adopted: tuple[Fleet, dict[str, int]]) -> None:
    fleet, _ = adopted
    pids = fleet.pids()
    assert fleet.stop() == 0
    for role, pid in pids.items():
        wait_for(lambda pid=pid: not os.path.exists(f"/proc/{pid}"), 10, role)


def test_two_emperors_on_one_directory(fleet: Fleet) -> None:
    fleet.vassal("red", wsgi_file=HELLO)
    fleet.start()
    second = fleet.cli("start", fleet.directory, "--http", "127.0.0.1:0", "--run-dir", fleet.root / "second")
    assert second.returncode != 0
    assert str(fleet.emperor.pid if fleet.emperor else "") in second.stderr + second.stdout
    assert fleet.get("red").status == 200


def test_a_file_that_is_being_written_at_the_start_is_not_gone(fleet: Fleet) -> None:
    """What was taken over serves as it was, until whoever writes its file has closed it."""
    fleet.vassal("red", wsgi_file=HELLO, env="GREETING=one")
    fleet.start()
    worker = fleet.pid("worker", "red")
    fleet.kill_emperor()
    with (fleet.directory / "red.ini").open("a") as file:
        file.write("env = GREE")
        file.flush()
        fleet.start()
        assert fleet.get("red").text == "one" and fleet.pid("worker", "red") == worker
        file.write("TING=two\n")
    wait_for(lambda: fleet.get("red").text == "two", 10, fleet.summary)
