"""Real gateways that replace real processes; the workers are a stand-in that says when it is worn (SIGUSR1)."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from emperor.config.recycling import Recycling

from .emperor_side import EmperorSide, Gateway, wait_until
from .test_gateway import alive

AT_ONCE = Recycling(min_lifetime_s=0.0)


def serving(emperor: EmperorSide, act: str = "ok", **changes: object) -> tuple[Gateway, dict[int, int]]:
    changes = {"recycling": AT_ONCE, "spares": 1, **changes}
    gateway = emperor.spawn(emperor.spec(act, **changes))
    gateway.connect()
    return gateway, gateway.wait_workers("ready", int(str(changes.get("processes", 1))))


def test_the_next_one_serves_before_the_worn_one_leaves(emperor: EmperorSide) -> None:
    gateway, pids = serving(emperor, processes=2)
    assert set(pids) == {0, 1} and [each["seat"] for each in gateway.hello["workers"]] == [0, 1]
    os.kill(pids[1], signal.SIGUSR1)
    assert gateway.wait_message(op="worker", seat=2, state="starting")["pid"]
    assert alive(pids[1])
    heir = gateway.wait_message(op="worker", seat=2, state="ready")
    told = gateway.wait_message(op="worker", seat=1)
    assert told["state"] == "draining", "only once the other one serves"
    assert gateway.wait_message(op="worker", seat=1)["state"] == "spare"
    assert not alive(pids[1]) and alive(pids[0])
    assert (heir["restarts"], heir["recycled"]) == (1, 1)
    assert heir["last_exit"] == "recycled: max-requests: 3 served"
    gateway.wait_line(f"worker 1 (pid {pids[1]}) is recycled once another serves: max-requests: 3")
    gateway.wait_line(f"worker 1 (pid {pids[1]}) has left, recycled: max-requests: 3 served")
    gateway.connect()
    assert [each["seat"] for each in gateway.hello["workers"]] == [0, 2], "a spare seat is no worker"


def test_two_that_are_worn_at_once_go_one_after_the_other(emperor: EmperorSide) -> None:
    gateway, pids = serving(emperor, processes=2)
    for pid in pids.values():
        os.kill(pid, signal.SIGUSR1)
    most = 0
    for _ in range(2):
        while gateway.wait_message(op="worker")["state"] != "spare":
            most = max(most, sum(each["state"] != "spare" for each in gateway.workers.values()))
    assert most == 3, "three processes at the most, of an app that has two"
    assert sum(each["state"] == "ready" for each in gateway.workers.values()) == 2
    assert not any(map(alive, pids.values()))


def test_one_that_cannot_be_replaced_serves_on_and_status_says_why(
    emperor: EmperorSide, tmp_path: Path
) -> None:
    fail = tmp_path / "fail"
    gateway, pids = serving(emperor, env={"FAIL": str(fail)})
    fail.touch()
    os.kill(pids[0], signal.SIGUSR1)
    (trouble,) = gateway.wait_message(op="troubles")["troubles"]
    assert trouble == "a worker that has served long enough cannot be replaced: no database (app.py:9)"
    assert alive(pids[0])
    fail.unlink()
    gateway.wait_message(op="worker", seat=1, state="ready")
    assert gateway.wait_message(op="troubles")["troubles"] == []
    assert not alive(pids[0])


def test_one_that_dies_while_it_is_replaced_is_not_started_again(
    emperor: EmperorSide, tmp_path: Path
) -> None:
    gateway, pids = serving(emperor, "slow-second", env={"MARK": str(tmp_path / "mark")})
    os.kill(pids[0], signal.SIGUSR1)
    gateway.wait_message(op="worker", seat=1, state="starting")
    os.kill(pids[0], signal.SIGKILL)
    gateway.wait_message(op="worker", seat=0, state="spare")
    (tmp_path / "mark").unlink()
    gateway.wait_message(op="worker", seat=1, state="ready")
    assert [seat for seat, each in gateway.workers.items() if each["pid"]] == [1]


def test_one_that_does_not_finish_in_time_is_killed(emperor: EmperorSide) -> None:
    gateway, pids = serving(emperor, "stubborn", recycling=Recycling(min_lifetime_s=0.0, mercy_s=0.2))
    os.kill(pids[0], signal.SIGUSR1)
    gateway.wait_line("is killed: what it had begun did not finish within 0.2 s (worker-reload-mercy)")
    gateway.wait_message(op="worker", seat=0, state="spare")
    assert not alive(pids[0])


def test_a_worker_has_its_time(emperor: EmperorSide) -> None:
    limits = Recycling(min_lifetime_s=0.0, max_lifetime_s=0.3)
    gateway, pids = serving(emperor, recycling=limits)
    heir = gateway.wait_message(op="worker", seat=1, state="ready")
    assert heir["last_exit"] == "recycled: max-worker-lifetime: 0 s old"
    gateway.wait_message(op="worker", seat=0, state="spare")
    assert not alive(pids[0])


def test_memory_is_looked_at_from_outside(emperor: EmperorSide, tmp_path: Path) -> None:
    """Its worker says nothing, as one in the middle of a request; the gateway sees it grow."""
    gateway, pids = serving(
        emperor,
        "grow-once",
        env={"MARK": str(tmp_path / "mark")},
        recycling=Recycling(min_lifetime_s=0.0, rss_bytes=200 * 1024 * 1024),
    )
    heir = gateway.wait_message(op="worker", seat=1, state="ready")
    assert heir["last_exit"].startswith("recycled: reload-on-rss: ")
    gateway.wait_message(op="worker", seat=0, state="spare")
    assert not alive(pids[0])


def test_an_evil_one_is_killed_at_once_whatever_it_does(emperor: EmperorSide, tmp_path: Path) -> None:
    gateway, pids = serving(
        emperor,
        "grow-once",
        env={"MARK": str(tmp_path / "mark")},
        recycling=Recycling(evil_rss_bytes=200 * 1024 * 1024),
    )
    gateway.wait_line(f"worker 0 (pid {pids[0]}) is killed: evil-reload-on-rss: ")
    again = gateway.wait_message(op="worker", seat=0, state="ready")
    assert again["pid"] != pids[0]
    assert again["last_exit"].startswith("evil-reload-on-rss: ")
    assert again["recycled"] == 1
    wait_until(lambda: not alive(pids[0]), "the old one to end")


def test_without_a_spare_seat_nobody_is_replaced(emperor: EmperorSide) -> None:
    """As by an emperor of before, whose page has no row for it."""
    gateway, pids = serving(emperor, spares=0)
    os.kill(pids[0], signal.SIGUSR1)
    assert gateway.channel is not None
    for _ in range(3):
        gateway.channel.request({"op": "reopen-logs"})
    assert alive(pids[0]) and gateway.workers[0]["pid"] == pids[0]
