"""A run directory that vanishes under a running emperor: what is connected stays, what is missing is made again."""

import os
import shutil

import pytest

from .harness import Fleet, Flood, Target, take_census, wait_for


@pytest.mark.slow
def test_it_is_made_again_and_nobody_notices(fleet: Fleet) -> None:
    fleet.nonce_vassal("red", processes=2)
    fleet.nonce_vassal("blue")
    fleet.start()
    census, pids = take_census(fleet), fleet.pids()
    was = contents(fleet)
    flood = Flood(
        fleet.orphans, fleet.http_port, [Target("red"), Target("blue")], fleet.root / "a", 100
    ).start()
    shutil.rmtree(fleet.run_dir)
    wait_for(lambda: contents(fleet) == was, 10, lambda: [was - contents(fleet), fleet.log()])
    fleet.wait_log(f"the run directory {fleet.run_dir} has vanished")
    assert fleet.pids() == pids
    # Commands, a worker that starts, a new generation, the pages of statistics and nginx's door: all by their paths.
    assert fleet.cli("status", "--run-dir", fleet.run_dir).returncode == 0
    os.kill(pids["worker blue/0"], 9)
    fleet.wait_another(pids["worker blue/0"], "worker", "blue")
    fleet.wait_ready()
    done = fleet.cli("reload", "red", "--wait", "--run-dir", fleet.run_dir)
    assert done.returncode == 0, done.stderr
    # And the next emperor finds who is there.
    before = fleet.pids()
    fleet.kill_emperor()
    fleet.start()
    kept = {role: pid for role, pid in before.items() if role not in ("emperor", "spawner")}
    assert {role: pid for role, pid in fleet.pids().items() if role in kept} == kept
    lost = [answer for answer in flood.stop() if not answer.ok]
    assert [answer.outcome for answer in lost if answer.vassal != "blue"] == []
    assert len(lost) <= 1, "what the killed worker had begun"
    # The former door of each backplane has those inside who came by it, and stays as long as the router does.
    doors = ["descriptors of emperor router N, socket: +2"]

    def grown() -> list[str]:
        return [each for each in take_census(fleet).grown_since(census) if each not in doors]

    wait_for(lambda: not grown(), 15, grown)


def test_one_that_cannot_be_made_again_is_told_and_tried_again(fleet: Fleet) -> None:
    fleet.nonce_vassal("red")
    fleet.start()
    was = contents(fleet)
    shutil.rmtree(fleet.run_dir)
    fleet.run_dir.write_text("somebody's")
    fleet.wait_log("cannot be made again", f"{fleet.run_dir} is no directory: remove it")
    assert fleet.get("red", "/?n=x").status == 200
    said = fleet.cli("status", "--dir", fleet.directory)
    assert said.returncode == 3
    assert f"pid {fleet.pid('emperor')}" in said.stderr and "run directory" in said.stderr, said.stderr
    fleet.run_dir.unlink()
    wait_for(lambda: contents(fleet) == was, 10, fleet.log)
    assert fleet.vassal_status("red")["state"] == "READY"


@pytest.mark.parametrize("part", ["state", "bp", "gw"])
def test_a_part_of_it_is_enough(fleet: Fleet, part: str) -> None:
    fleet.nonce_vassal("red")
    fleet.start()
    was = contents(fleet)
    shutil.rmtree(fleet.run_dir / part)
    wait_for(lambda: contents(fleet) == was, 10, lambda: [was - contents(fleet), fleet.log()])
    old = fleet.pid("worker", "red")
    os.kill(old, 9)
    fleet.wait_another(old, "worker", "red")
    fleet.wait_ready()


def contents(fleet: Fleet) -> set[str]:
    return {str(path) for path in fleet.run_dir.rglob("*")}
