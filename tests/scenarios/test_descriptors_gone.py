"""A process that has no descriptor left: who it is, its limit and what to do are in the log, nobody else notices, and it
goes on by itself once there are some."""

import os
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from .harness import Fleet, Flood, Target, wait_for


@contextmanager
def without_descriptors(pid: int, more: int = 0) -> Iterator[None]:
    """So many more than it has now and no other, less for what it will give back."""
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = len(os.listdir(f"/proc/{pid}/fd"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + more, limits[1]))
    yield
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


def another(fleet: Fleet, old: int, role: str, vassal: str = "") -> bool:
    try:
        return fleet.pid(role, vassal) != old
    except LookupError:
        return False


def cannot_start(what: str, fleet: Fleet) -> bool:
    """Said, whichever of the descriptors that a start needs was the first that could not be had."""
    return bool(re.search(rf"cannot start {what}: (.*: )?Too many open files", fleet.log()))


@pytest.fixture
def flooded(fleet: Fleet) -> Iterator[Fleet]:
    """A fleet of two under load, of which no request may fail."""
    fleet.nonce_vassal("red")
    fleet.nonce_vassal("blue")
    fleet.start()
    flood = Flood(
        fleet.orphans, fleet.http_port, [Target("red"), Target("blue")], fleet.root / "answers", 50
    ).start()
    yield fleet
    assert [answer for answer in flood.stop() if not answer.ok] == []


def test_the_emperor_starts_no_vassal_and_then_does(flooded: Fleet) -> None:
    pids = flooded.pids()
    with without_descriptors(pids["emperor"], more=10):
        flooded.nonce_vassal("late")
        found = flooded.wait_state("late", "BACKOFF")
        assert "descriptors in use" in found["reason"] and "LimitNOFILE" in found["reason"]
        flooded.wait_log("descriptors in use")
        done = flooded.cli("reload", "red", "--wait", "--run-dir", flooded.run_dir)
        assert done.returncode == 1 and "LimitNOFILE" in done.stderr
        now = flooded.vassal_status("red")
        assert (now["state"], now["generation"]) == ("READY", 1) and "LimitNOFILE" in now["problem"]
    flooded.wait_ready("late")
    assert {role: pid for role, pid in flooded.pids().items() if role in pids} == pids


def test_the_emperor_replaces_its_spawner_once_it_can(flooded: Fleet) -> None:
    pids = flooded.pids()
    with without_descriptors(pids["emperor"], more=-8):
        os.kill(pids["spawner"], 9)
        wait_for(lambda: cannot_start("the spawner", flooded), 10, flooded.log)
    wait_for(lambda: another(flooded, pids["spawner"], "spawner"), 10, flooded.log)
    assert flooded.cli("reload", "red", "--wait", "--run-dir", flooded.run_dir).returncode == 0


def test_the_emperor_replaces_its_router_once_it_can(fleet: Fleet) -> None:
    fleet.nonce_vassal("red")
    fleet.start()
    pids = fleet.pids()
    with without_descriptors(pids["emperor"], more=-8):
        os.kill(pids["router 0"], 9)
        wait_for(lambda: cannot_start("router 0", fleet), 10, fleet.log)
    wait_for(lambda: another(fleet, pids["router 0"], "router"), 10, fleet.log)
    wait_for(lambda: fleet.get("red", "/?n=x").status == 200, 10, fleet.log)


def test_a_gateway_starts_its_worker_once_it_can(fleet: Fleet) -> None:
    fleet.nonce_vassal("red", processes=2)
    fleet.nonce_vassal("blue")
    fleet.start()
    gateway, old = fleet.pid("gateway", "red"), fleet.pid("worker", "red")
    with without_descriptors(gateway, more=-3):
        os.kill(old, 9)
        said = "cannot start a worker: Too many open files (a limit on descriptors: ulimit -n, LimitNOFILE?)"
        wait_for(lambda: said in fleet.log() or said in str(fleet.vassal_status("red")), 10, fleet.log)
        assert {fleet.get(name, f"/?n={n}").status for n in range(5) for name in ("red", "blue")} == {200}
    wait_for(lambda: another(fleet, old, "worker", "red"), 15, fleet.log)
    fleet.wait_ready()
    assert fleet.pid("gateway", "red") == gateway
