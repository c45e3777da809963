"""The operator's commands beside a running fleet: pause and resume, rollback, a walk over the fleet, edits that wait."""

import threading

import pytest

from .harness import Fleet, Flood, Target, wait_for
from .harness.fleet import APPS

HELLO = APPS / "hello.py"


def ask(fleet: Fleet, *arguments: object, code: int = 0) -> str:
    done = fleet.cli(*arguments, "--run-dir", fleet.run_dir, deadline_s=60)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_pause_and_resume_by_command_hold_without_a_failed_request(fleet: Fleet) -> None:
    # As many as come while it is held must find room.
    fleet.nonce_vassal("a", processes=2, queue=100_000, queue_timeout="60s")
    fleet.vassal("b", wsgi_file=HELLO)
    fleet.start()
    targets = [Target("a"), Target("a", "&sleep=10")]
    flood = Flood(fleet.orphans, fleet.http_port, targets, fleet.root / "answers", rate=60).start()
    assert "requests wait" in ask(fleet, "pause", "a", "--hold")
    wait_for(lambda: fleet.status()["routers"][0]["apps"]["a"]["queued"] > 5, 20, fleet.summary)
    ask(fleet, "reload", "a", "--wait")
    assert "paused: requests wait" in " ".join(ask(fleet, "status").split())
    ask(fleet, "resume", "a")
    assert [answer for answer in flood.stop() if not answer.ok] == []

    ask(fleet, "pause", "a")
    answer = fleet.get("a", "/?n=x")
    assert (answer.status, answer.fields["unavailable-reason"]) == (503, "paused")
    assert fleet.get("b").status == 200
    fleet.kill_emperor()
    fleet.start()
    wait_for(lambda: fleet.vassal_status("a").get("paused") == "refuse", 10, fleet.summary)
    assert fleet.get("a", "/?n=x").status == 503
    ask(fleet, "resume", "a")
    wait_for(lambda: fleet.get("a", "/?n=x").status == 200, 10, fleet.summary)
    assert "is not paused" in ask(fleet, "resume", "a", code=1)


def test_rollback_goes_to_the_reading_before_and_an_edit_supersedes(fleet: Fleet) -> None:
    fleet.vassal("a", wsgi_file=HELLO, env="GREETING=one")
    fleet.start()
    assert "no other reading" in ask(fleet, "rollback", "a", code=1)
    fleet.vassal("a", wsgi_file=HELLO, env="GREETING=two")
    wait_for(lambda: fleet.get("a").text == "two", 20, fleet.summary)
    assert "the reading before is started" in ask(fleet, "rollback", "a")
    wait_for(lambda: fleet.get("a").text == "one", 20, fleet.summary)
    assert fleet.vassal_status("a")["pending"].startswith("rolled back")
    fleet.vassal("a", wsgi_file=HELLO, env="GREETING=three")
    wait_for(lambda: fleet.get("a").text == "three", 20, fleet.summary)
    assert fleet.vassal_status("a")["pending"] == ""
    assert "(emperor rollback, by " in ask(fleet, "events", "a")


def test_a_walk_over_the_fleet_stops_at_the_first_failure(fleet: Fleet) -> None:
    for name in ("a", "c", "d"):
        fleet.vassal(name, wsgi_file=HELLO)
    fleet.app("b", "def application(e, s):\n    s('200 OK', [])\n    return []\n")
    fleet.start()
    (fleet.root / "apps" / "b.py").write_text("1 / 0\n")
    said = ask(fleet, "reload", "--all", code=1).splitlines()
    assert said[0].startswith("[1/4] a: generation 2 is ready")
    assert said[1].startswith("[2/4] b: failed: ZeroDivisionError")
    assert said[2] == "emperor: failed: b; 2 not reloaded (--keep-going goes on): c, d"
    assert fleet.vassal_status("c")["generation"] == 1
    said = ask(fleet, "reload", "--all", "--keep-going", "--parallel", "3", code=1).splitlines()
    assert said[-1] == "emperor: failed: b" and len(said) == 5
    assert {fleet.vassal_status(name)["generation"] for name in ("c", "d")} == {2}
    (fleet.root / "apps" / "b.py").write_text("def application(e, s):\n    s('200 OK', [])\n    return []\n")
    assert ask(fleet, "reload", "--all", "--parallel", "2").splitlines()[-1] == "4 reloaded"
    assert "ZeroDivisionError" not in ask(fleet, "reload", "b", "--wait")


@pytest.mark.parametrize("mode", ["off", "validate-only"])
def test_edits_wait_until_they_are_asked_for(fleet: Fleet, mode: str) -> None:
    fleet.vassal("a", wsgi_file=HELLO, env="GREETING=one")
    fleet.start("--auto-reload", mode)
    fleet.vassal("a", wsgi_file=HELLO, env="GREETING=two")
    word = {"off": "auto-reload = off", "validate-only": "the edit is valid"}[mode]
    wait_for(lambda: word in fleet.vassal_status("a")["pending"], 20, fleet.summary)
    assert (fleet.get("a").text, fleet.vassal_status("a")["generation"]) == ("one", 1)
    if mode == "validate-only":
        fleet.write("a.ini", "[uwsgi]\nnonsense = 1\n")
        wait_for(lambda: "nonsense" in fleet.vassal_status("a")["pending"], 20, fleet.summary)
        fleet.vassal("a", wsgi_file=HELLO, env="GREETING=two")
        wait_for(lambda: word in fleet.vassal_status("a")["pending"], 20, fleet.summary)
    fleet.kill_emperor()
    fleet.start("--auto-reload", mode)
    wait_for(lambda: word in fleet.vassal_status("a")["pending"], 20, fleet.summary)
    assert fleet.get("a").text == "one"
    fleet.vassal("b", wsgi_file=HELLO)
    fleet.wait_state("b", "READY")
    ask(fleet, "reload", "a", "--wait")
    assert (fleet.get("a").text, fleet.vassal_status("a")["pending"]) == ("two", "")


def test_events_follow(fleet: Fleet) -> None:
    fleet.vassal("a", wsgi_file=HELLO)
    fleet.start()
    lines: list[str] = []
    follower = fleet.orphans.popen(
        [str(part) for part in ("emperor", "events", "-f", "-n", "0", "--run-dir", fleet.run_dir)],
        stdout=-1,
        env=fleet.environment | {"PATH": f"{APPS.parents[3]}/.venv/bin:" + fleet.environment["PATH"]},
    )
    assert follower.stdout is not None
    reader = threading.Thread(target=lambda: lines.extend(line.decode() for line in follower.stdout or ()))
    reader.start()

    def reloaded() -> bool:
        ask(fleet, "reload", "a", "--wait")
        return any("reloaded: " in line for line in lines)

    try:
        wait_for(reloaded, 30, lambda: lines)
    finally:
        follower.terminate()
        follower.wait(10)
        reader.join(10)


def test_letters_of_a_master_fifo_do_what_the_commands_do(fleet: Fleet) -> None:
    fifo = fleet.root / "fifo"
    fleet.vassal("a", wsgi_file=HELLO, master_fifo=fifo)
    fleet.start()

    def write(letters: str) -> None:
        wait_for(fifo.is_fifo, 20, fleet.log)
        with fifo.open("w") as file:
            file.write(letters)

    for turn, letter in enumerate("rcW", 2):
        write(letter)
        wait_for(
            lambda turn=turn: (v := fleet.vassal_status("a"))["generation"] == turn and v["state"] == "READY",
            20,
            lambda: [fleet.summary(), fleet.log()],
        )
    write("p")
    wait_for(lambda: fleet.vassal_status("a")["paused"] == "hold", 20, fleet.summary)
    write("p")
    wait_for(lambda: fleet.vassal_status("a")["paused"] == "", 20, fleet.summary)
    assert fleet.get("a").status == 200
    write("sq")
    wait_for(lambda: "master-fifo: 'q': an app goes when its file does" in fleet.log(), 20, fleet.log)
    wait_for(lambda: '"generation": 4' in fleet.log(), 20, fleet.log)
    assert "(master-fifo, letter r)" in ask(fleet, "events", "a")
    fleet.stop()
    assert not fifo.exists()
