"""`ready-path`: a reload moves over when every new worker has answered 2xx, and otherwise not at all."""

from pathlib import Path

import pytest

from .harness import Fleet, Flood, Target, wait_for
from .harness.fleet import APPS

NONCE = (APPS / "nonce.py").read_text()

HEALTHY = """
    import os, sys
    sys.path.insert(0, {apps!r})
    import nonce

    HEALTH = open({health!r}).read()

    def application(environ, start_response):
        if environ["PATH_INFO"] != "/healthz":
            return nonce.application(environ, start_response)
        start_response(HEALTH, [("Content-Type", "text/plain")])
        return [b"the reason\\nand more"]
"""


def healthy(fleet: Fleet, **keys: object) -> Path:
    """A vassal whose health, at the time of its import, is the line in the file that is returned."""
    health = fleet.root / "health"
    health.write_text("200 OK")
    env = f"NONCE_LOG={fleet.nonce_log('a')}"
    fleet.app("a", HEALTHY.format(apps=str(APPS), health=str(health)), env=env, ready_path="/healthz", **keys)
    return health


@pytest.mark.slow
def test_a_reload_that_is_not_ready_rolls_back_by_itself_and_loses_nothing(fleet: Fleet) -> None:
    health = healthy(fleet, processes=2)
    fleet.start()
    before = fleet.vassal_status("a")
    targets = [Target("a"), Target("a", "&sleep=10")]
    flood = Flood(fleet.orphans, fleet.http_port, targets, fleet.root / "answers").start()
    health.write_text("500 Broken")
    fleet.cli("reload", "a", "--run-dir", fleet.run_dir)
    said = "ready-path /healthz: 500 Broken: the reason"
    wait_for(lambda: said in fleet.vassal_status("a").get("problem", ""), 20, fleet.summary)
    now = fleet.vassal_status("a")
    assert (now["state"], now["generation"], now["gateway"]) == ("READY", 1, before["gateway"])
    fleet.wait_log(said)
    assert said in fleet.cli("status", "--run-dir", fleet.run_dir).stdout.replace("\n", " ") or now["problem"]
    health.write_text("200 OK")
    fleet.cli("reload", "a", "--run-dir", fleet.run_dir)
    wait_for(
        lambda: (v := fleet.vassal_status("a"))["generation"] > 2 and v["state"] == "READY", 20, fleet.summary
    )
    assert fleet.vassal_status("a")["problem"] == ""
    assert [answer for answer in flood.stop() if not answer.ok] == []


def test_503_waits_until_start_timeout_and_then_says_what_it_waited_for(fleet: Fleet) -> None:
    health = healthy(fleet, start_timeout="1500ms")
    fleet.start()
    health.write_text("503 Warming Up")
    fleet.cli("reload", "a", "--run-dir", fleet.run_dir)
    wait_for(lambda: "is not ready yet: ready-path /healthz: 503 Warming Up" in fleet.log(), 10, fleet.log)
    problem = wait_for(lambda: fleet.vassal_status("a").get("problem"), 20, fleet.summary)
    assert (
        "not ready within 1.5 s (start-timeout): ready-path /healthz: 503 Warming Up: the reason" in problem
    )
    assert fleet.vassal_status("a")["generation"] == 1
    assert fleet.get("a", "/?n=x").status == 200


def test_a_first_start_that_is_not_ready_serves_nobody(fleet: Fleet) -> None:
    healthy(fleet).write_text("500 Broken")
    fleet.start(ready=False)
    assert "500 Broken" in fleet.wait_state("a", "BACKOFF")["reason"]
    assert fleet.get("a").status == 503
