"""Several directories and patterns for one emperor, and what it adds to every vassal."""

import os
from pathlib import Path

from .harness import Fleet, wait_for
from .harness.fleet import APPS

HELLO = APPS / "hello.py"


def config(path: Path, greeting: str, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["[uwsgi]", f"wsgi-file = {HELLO}", f"env = GREETING={greeting}", *lines, ""]))
    return path


def test_directories_and_patterns_are_one_fleet(fleet: Fleet) -> None:
    srv, second = fleet.root / "srv", fleet.root / "second"
    config(fleet.directory / "blog.ini", "first place")
    config(second / "shop.ini", "shop")
    config(second / "blog.ini", "second place")
    config(srv / "wiki/app.ini", "wiki")
    config(srv / "blog/app.ini", "third place")
    fleet.start(second, f"{srv}/*/app.ini", ready=False)
    fleet.wait_ready("blog", "shop", "wiki")
    assert [fleet.get(name).text for name in ("blog", "shop", "wiki")] == ["first place", "shop", "wiki"]

    def refused() -> dict[str, str]:
        return {
            each["path"]: each["reason"] for each in fleet.status()["vassals"] if each["state"] == "REFUSED"
        }

    wait_for(lambda: len(refused()) == 2, 5, fleet.summary)
    for loser in (second / "blog.ini", srv / "blog/app.ini"):
        assert f"{fleet.directory}/blog.ini is the vassal 'blog' already" in refused()[str(loser)]

    # A new app under the pattern, with its directory; the loser moves up when the winner goes.
    config(srv / "chat/app.ini", "chat")
    wait_for(lambda: fleet.get("chat").text == "chat", 10, fleet.summary)
    (fleet.directory / "blog.ini").unlink()
    wait_for(lambda: fleet.get("blog").text == "second place", 10, fleet.summary)

    # After kill -9 the next one takes all of them over.
    pids = {role: pid for role, pid in fleet.pids().items() if role.startswith("gateway")}
    fleet.kill_emperor()
    fleet.start(second, f"{srv}/*/app.ini", ready=False)
    fleet.wait_ready("blog", "shop", "wiki", "chat")
    assert {role: pid for role, pid in fleet.pids().items() if role.startswith("gateway")} == pids
    status = fleet.cli("status", "--run-dir", fleet.run_dir).stdout
    assert all(str(place) in status.replace("\n", "") for place in (fleet.directory, second))

    # One that is taken away from the emperor's places leaves with the next start.
    fleet.kill_emperor()
    fleet.start(ready=False)
    wait_for(lambda: (fleet.status_or_none() or {}).get("vassals") == [], 15, fleet.summary)


def test_one_pattern_or_directory_has_one_emperor(fleet: Fleet) -> None:
    pattern = f"{fleet.root}/srv/*/app.ini"
    config(fleet.root / "srv/wiki/app.ini", "wiki")
    fleet.environment["XDG_RUNTIME_DIR"] = str(fleet.root / "xdg")
    fleet.start(pattern, ready=False)
    fleet.wait_ready("wiki")
    for place in (pattern, fleet.directory):
        done = fleet.cli("start", place, "--http", "127.0.0.1:0", "--run-dir", fleet.root / "other")
        assert done.returncode == 1
        assert f"{place} is held by the emperor with pid {fleet.pid('emperor')}" in done.stderr


def test_what_cannot_be_a_place_is_said(fleet: Fleet) -> None:
    done = fleet.cli("start", fleet.root / "nothing")
    assert done.returncode == 1 and f"there is no {fleet.root}/nothing" in done.stderr
    one, two = (config(fleet.root / name / "app.ini", name) for name in ("one", "two"))
    done = fleet.cli("start", one, two)
    assert done.returncode == 1 and "in quotes" in done.stderr


def test_a_fallen_away_directory_keeps_its_vassals(fleet: Fleet) -> None:
    second = fleet.root / "second"
    config(fleet.directory / "blog.ini", "blog")
    config(second / "shop.ini", "shop")
    fleet.start(second, ready=False)
    fleet.wait_ready("blog", "shop")
    second.rename(fleet.root / "away")
    wait_for(lambda: str(second) in fleet.status()["emperor"]["trouble"], 10, fleet.status)
    config(fleet.directory / "blog.ini", "edited")
    wait_for(lambda: fleet.get("blog").text == "edited", 10, fleet.summary)
    assert fleet.get("shop").text == "shop"
    (fleet.root / "away").rename(second)
    wait_for(lambda: not fleet.status()["emperor"]["trouble"], 10, fleet.status)
    assert fleet.vassal_status("shop")["generation"] == 1


def test_vassal_set_reaches_every_vassal_and_its_own_file_counts_before(fleet: Fleet) -> None:
    config(fleet.directory / "a.ini", "a")
    config(fleet.directory / "b.ini", "b", "processes = 1")
    fleet.start("--vassal-set", "processes=2", ready=False)
    fleet.wait_ready("a", "b")
    assert {name: fleet.vassal_status(name)["processes"] for name in "ab"} == {"a": 2, "b": 1}
    # Other settings for all are another reading of each file: the next emperor reloads what it takes over.
    fleet.kill_emperor()
    fleet.start("--vassal-set", "processes=3", ready=False)
    wait_for(lambda: fleet.vassal_status("a").get("processes") == 3, 15, fleet.summary)
    fleet.wait_state("a", "READY")
    assert fleet.vassal_status("b")["processes"] == 1


def test_refuse_root(fleet: Fleet) -> None:
    config(fleet.directory / "a.ini", "a")
    fleet.start("--refuse-root", ready=False)
    if os.geteuid() == 0:
        assert "refuse-root is set" in fleet.wait_state("a", "REFUSED")["reason"]
        config(fleet.directory / "a.ini", "a", "uid = daemon")
    fleet.wait_state("a", "READY")


def test_a_file_that_vassals_are_read_from_too_reloads_those_and_no_other(fleet: Fleet) -> None:
    shared = fleet.root / "shared"
    shared.mkdir()
    (shared / "all.ini").write_text("[uwsgi]\nprocesses = 2\n")
    (shared / "one.ini").write_text("[uwsgi]\nenv = FROM=first\n")
    config(fleet.directory / "own.ini", "own", f"include = {shared}/one.ini")
    config(fleet.directory / "plain.ini", "plain")
    fleet.start("--vassals-include", shared / "all.ini", ready=False)
    fleet.wait_ready("own", "plain")

    def numbers() -> tuple[int, int]:
        return tuple(fleet.vassal_status(name).get("generation", 0) for name in ("own", "plain"))

    assert numbers() == (1, 1)
    assert [fleet.vassal_status(name)["processes"] for name in ("own", "plain")] == [2, 2]
    (shared / "one.ini").write_text("[uwsgi]\nenv = FROM=second\n")
    wait_for(lambda: numbers() == (2, 1), 10, fleet.summary)
    fleet.wait_ready("own", "plain")
    (shared / "all.ini").write_text("[uwsgi]\nprocesses = 1\n")
    wait_for(lambda: numbers() == (3, 2), 10, fleet.summary)
    fleet.wait_ready("own", "plain")
    assert [fleet.vassal_status(name)["processes"] for name in ("own", "plain")] == [1, 1]

    # One that is wrong, or gone, is named; what serves goes on, and is reloaded once it is right again.
    (shared / "one.ini").write_text("[uwsgi]\nprocceses = 1\n")
    wait_for(lambda: "one.ini:2: procceses" in fleet.log(), 10, fleet.summary)
    (shared / "one.ini").unlink()
    wait_for(lambda: f"{shared}/one.ini" in fleet.log().rpartition("procceses")[2], 10, fleet.summary)
    assert (fleet.get("own").text, numbers()) == ("own", (3, 2))
    (shared / "one.ini").write_text("[uwsgi]\nenv = FROM=third\n")
    wait_for(lambda: numbers() == (4, 2), 10, fleet.summary)

    # Changed while there was no emperor.
    fleet.wait_ready("own", "plain")
    fleet.kill_emperor()
    (shared / "one.ini").write_text("[uwsgi]\nenv = FROM=fourth\n")
    fleet.start("--vassals-include", shared / "all.ini", ready=False)
    wait_for(lambda: numbers() == (5, 2), 15, fleet.summary)


def test_a_file_that_is_not_read_is_named_at_the_start(fleet: Fleet) -> None:
    config(fleet.directory / "blog.ini", "blog")
    (fleet.directory / "old.xml").write_text("<uwsgi><module>old</module></uwsgi>")
    fleet.start(ready=False)
    fleet.wait_ready("blog")
    assert fleet.log().count(f"{fleet.directory}/old.xml: passed over, since XML is not read") == 1
