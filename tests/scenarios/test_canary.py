"""`canary`: a reload whose generation gets a part of the requests: it is taken back when it fails, and else gets all."""

from collections import Counter

from .harness import Fleet, wait_for

APP = """
    MODE = open({mode!r}).read()

    def application(environ, start_response):
        if MODE == "raises":
            raise RuntimeError("it was ready, and is wrong")
        start_response("200 OK", [("Content-Length", str(len(MODE)))])
        return [MODE.encode()]
"""


def reload(fleet: Fleet, mode: str) -> None:
    (fleet.root / "mode").write_text(mode)
    assert fleet.cli("reload", "a", "--run-dir", fleet.run_dir).returncode == 0


def test_a_generation_with_a_part_is_taken_back_or_promoted(fleet: Fleet) -> None:
    path = fleet.root / "mode"
    path.write_text("one")
    fleet.app("a", APP.format(mode=str(path)), canary="50 for 1h")
    fleet.start()
    first = fleet.vassal_status("a")["workers"][0]["pid"]
    reload(fleet, "raises")
    seen = Counter[str]()

    def taken_back() -> bool:
        answer = fleet.get("a")
        seen[f"{answer.status} {answer.text if answer.status == 200 else ''}"] += 1
        return seen.total() % 10 == 0 and "was taken back: " in fleet.vassal_status("a")["problem"]

    wait_for(taken_back, 40, lambda: [seen, fleet.summary(), fleet.log()[-3000:]], every_s=0.01)
    assert seen.keys() <= {"200 one", "500 "} and seen["500 "] >= 5, seen
    now = fleet.vassal_status("a")
    assert (now["state"], now["generation"], now["workers"][0]["pid"]) == ("READY", 1, first)
    assert {fleet.get("a").text for _ in range(20)} == {"one"}

    reload(fleet, "three")
    assert fleet.wait_state("a", "PROVING")["canary"] == 50
    # Of 60 draws none falls to one of them: once in 10^18.
    assert {fleet.get("a").text for _ in range(60)} == {"one", "three"}
    assert "gets 50 % of the requests" in fleet.cli("status", "--run-dir", fleet.run_dir).stdout.replace(
        "\n", " "
    )
    promoted = fleet.cli("promote", "a", "--run-dir", fleet.run_dir)
    assert (promoted.returncode, promoted.stdout) == (0, "a: generation 3 gets all requests\n")
    assert {fleet.get("a").text for _ in range(20)} == {"three"}
    assert fleet.vassal_status("a")["state"] == "READY"
    refused = fleet.cli("promote", "a", "--run-dir", fleet.run_dir)
    assert refused.returncode != 0 and "promote: a: no generation of it proves itself" in refused.stderr
