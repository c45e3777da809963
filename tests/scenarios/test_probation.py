"""`probation`: a generation that was ready and does badly all the same is taken back; one that does well loses nothing."""

import os

import pytest

from .harness import Fleet, Flood, Target, wait_for

APP = """
    import os

    MODE = open({mode!r}).read()

    def application(environ, start_response):
        if MODE == "dies" and environ["PATH_INFO"] == "/":
            os._exit(9)
        if MODE == "raises":
            raise RuntimeError("it was ready, and is wrong")
        start_response("200 OK", [("Content-Length", str(len(MODE)))])
        return [MODE.encode()]
"""


def fleet_of(fleet: Fleet, mode: str = "one", **keys: object) -> None:
    path = fleet.root / "mode"
    path.write_text(mode)
    fleet.app("a", APP.format(mode=str(path)), **{"probation": "60s", **keys})


def reload(fleet: Fleet, mode: str) -> None:
    (fleet.root / "mode").write_text(mode)
    assert fleet.cli("reload", "a", "--run-dir", fleet.run_dir).returncode == 0


@pytest.mark.parametrize(("mode", "said"), [("raises", "answers were 5xx"), ("dies", "of its workers died")])
def test_one_that_does_badly_is_taken_back_and_says_why(fleet: Fleet, mode: str, said: str) -> None:
    fleet_of(fleet)
    fleet.start()
    first = fleet.vassal_status("a")["workers"][0]["pid"]
    assert [fleet.get("a").text for _ in range(5)] == ["one"] * 5
    reload(fleet, mode)
    fleet.wait_state("a", "PROVING")

    def asked() -> bool:
        fleet.get("a")
        return said in fleet.vassal_status("a").get("problem", "")

    wait_for(asked, 40, lambda: [fleet.summary(), fleet.log()[-3000:]])
    now = fleet.vassal_status("a")
    assert (now["state"], now["generation"], now["workers"][0]["pid"]) == ("READY", 1, first)
    assert now["problem"].startswith("generation 2 was taken back: ")
    assert [fleet.get("a").text for _ in range(5)] == ["one"] * 5
    assert "taken back: " in fleet.cli("events", "--run-dir", fleet.run_dir).stdout
    wait_for(lambda: fleet.vassal_status("a")["draining"] == 0, 15, fleet.summary)


@pytest.mark.slow
def test_one_that_does_well_loses_nothing_and_the_former_leaves(fleet: Fleet) -> None:
    fleet.nonce_vassal("a", processes=2, probation="1s")
    fleet.start()
    old = fleet.pids()
    targets = [Target("a"), Target("a", "&sleep=10")]
    flood = Flood(fleet.orphans, fleet.http_port, targets, fleet.root / "answers").start()
    for turn in (2, 3):
        assert fleet.cli("reload", "a", "--run-dir", fleet.run_dir).returncode == 0
        fleet.wait_state("a", "PROVING")
        fleet.wait_state("a", "READY")
        assert fleet.vassal_status("a")["generation"] == turn
    assert [answer for answer in flood.stop() if not answer.ok] == []
    wait_for(lambda: not os.path.exists(f"/proc/{old['gateway a']}"), 15, "the first gateway")


@pytest.mark.slow
def test_a_killed_gateway_and_a_killed_emperor_on_probation_lose_no_service(fleet: Fleet) -> None:
    fleet_of(fleet)
    fleet.start()
    reload(fleet, "two")
    fleet.wait_state("a", "PROVING")
    os.kill(fleet.pid("gateway", "a"), 9)
    now = fleet.wait_state("a", "READY")
    assert (now["generation"], fleet.get("a").text) == (1, "one")
    reload(fleet, "three")
    fleet.wait_state("a", "PROVING")
    fleet.kill_emperor()
    assert fleet.get("a").text == "three"
    fleet.start()
    now = fleet.wait_state("a", "READY")
    assert fleet.get("a").text == "three"
    wait_for(lambda: fleet.vassal_status("a")["draining"] == 0, 15, fleet.summary)
