"""What starts an app anew beside its file: touched files, changed code."""

import os

import pytest

from .harness import Fleet, Flood, Target, wait_for
from .harness.fleet import APPS


def generation(fleet: Fleet, name: str = "a") -> int:
    found: int = fleet.vassal_status(name).get("generation", 0)
    return found


@pytest.mark.slow
def test_a_touched_file_reloads_and_loses_nothing_however_often(fleet: Fleet) -> None:
    trigger = fleet.root / "reload"
    fleet.nonce_vassal("a", processes=2, **{"touch-reload": [trigger, fleet.root / "other"]})
    fleet.start()
    targets = [Target("a"), Target("a", "&sleep=10")]
    flood = Flood(fleet.orphans, fleet.http_port, targets, fleet.root / "answers").start()
    trigger.touch()
    wait_for(lambda: generation(fleet) == 2, 20, lambda: [fleet.summary(), fleet.log()])
    fleet.wait_log(f"(touch-reload {trigger})")
    (fleet.root / "other").touch()
    wait_for(lambda: generation(fleet) == 3, 20, fleet.summary)
    for _ in range(100):
        os.utime(trigger)
    wait_for(lambda: generation(fleet) >= 4, 20, fleet.summary)
    fleet.wait_state("a", "READY")
    assert [answer for answer in flood.stop() if not answer.ok] == []
    assert generation(fleet) <= 8


def test_changed_code_reloads_and_a_mistake_in_it_does_not(fleet: Fleet) -> None:
    source = 'TEXT = b"{}"\ndef application(e, s):\n    s("200 OK", [])\n    return [TEXT]\n'
    fleet.app("a", source.format("one"), py_autoreload="200ms")
    module = fleet.root / "apps" / "a.py"
    fleet.start()
    module.write_text(source.format("two"))
    wait_for(lambda: fleet.get("a").text == "two", 20, lambda: [fleet.summary(), fleet.log()])
    module.write_text("this is no Python\n")
    wait_for(lambda: "SyntaxError" in fleet.vassal_status("a").get("problem", ""), 20, fleet.summary)
    assert fleet.get("a").text == "two"
    module.write_text(source.format("three"))
    wait_for(lambda: fleet.get("a").text == "three", 20, lambda: [fleet.summary(), fleet.log()])
    fleet.wait_log(f"{module} has changed")


def test_a_changed_template_reloads_by_fs_reload(fleet: Fleet) -> None:
    pages = fleet.root / "pages"
    pages.mkdir()
    fleet.vassal("a", wsgi_file=APPS / "hello.py", fs_reload=pages)
    fleet.start()
    (pages / "index.html").write_text("x")
    wait_for(lambda: generation(fleet) == 2, 20, lambda: [fleet.summary(), fleet.log()])


def test_events_tell_what_happened_by_whose_hand(fleet: Fleet) -> None:
    trigger = fleet.root / "reload"
    fleet.vassal("a", wsgi_file=APPS / "hello.py", **{"touch-reload": trigger})
    fleet.start()
    fleet.cli("reload", "a", "--run-dir", fleet.run_dir)
    wait_for(lambda: generation(fleet) == 2, 10, fleet.summary)
    trigger.touch()
    wait_for(lambda: generation(fleet) == 3, 10, fleet.summary)
    os.kill(fleet.pid("worker", "a"), 9)
    wait_for(lambda: " died: " in fleet.cli("events", "--run-dir", fleet.run_dir).stdout, 10)
    said = fleet.cli("events", "a", "--run-dir", fleet.run_dir).stdout
    lines = [line.split("  ", 2)[2] for line in said.splitlines()]
    assert lines[0].startswith("ready: is ready: generation 1, 1 worker") and lines[0].endswith("(the start)")
    assert any(line.startswith("reload: ") and "(emperor reload, by " in line for line in lines)
    assert any(line.startswith("reloaded: ") and f"(touch-reload {trigger})" in line for line in lines)
    assert any(line.startswith("died: worker 0 of generation 3 killed by signal 9") for line in lines)
    assert fleet.cli("events", "nobody", "--run-dir", fleet.run_dir).returncode == 1
    fleet.write("a.ini", "[uwsgi]\nnonsense = 1\n")
    follow = fleet.cli("events", "--json", "-n", "3", "--run-dir", fleet.run_dir)
    assert len(follow.stdout.splitlines()) == 3
