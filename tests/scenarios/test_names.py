"""Rename, removal, and the files that are no vassals."""

import os

import pytest

from .harness import Fleet, wait_for
from .harness.fleet import APPS

HELLO = APPS / "hello.py"


def test_a_removed_file_drains_and_goes(fleet: Fleet) -> None:
    path = fleet.vassal("gone", wsgi_file=HELLO)
    fleet.vassal("stays", wsgi_file=HELLO)
    fleet.start()
    pids = fleet.pids()
    path.unlink()
    wait_for(lambda: not fleet.vassal_status("gone"), 10, fleet.summary)
    for role in ("gateway gone", "worker gone/0"):
        wait_for(lambda role=role: not os.path.exists(f"/proc/{pids[role]}"), 10, role)
    assert fleet.pids() == {role: pid for role, pid in pids.items() if "gone" not in role}
    assert fleet.get("stays").status == 200


def test_a_renamed_file_is_another_vassal(fleet: Fleet) -> None:
    path = fleet.vassal("before", wsgi_file=HELLO)
    fleet.vassal("other", wsgi_file=HELLO)
    fleet.start()
    path.rename(fleet.directory / "after.ini")
    fleet.wait_ready("after", deadline_s=10)
    wait_for(lambda: not fleet.vassal_status("before"), 10, fleet.summary)
    assert fleet.get("after").status == 200
    assert fleet.get("before").status == 404


@pytest.mark.parametrize(
    "name",
    [".hidden.ini", "a.ini~", "#a.ini#", ".a.ini.swp", "a.ini.tmp", "a.ini.bak", "a.ini.part", "notes.txt"],
)
def test_a_temporary_or_hidden_file_is_no_vassal(fleet: Fleet, name: str) -> None:
    fleet.vassal("real", wsgi_file=HELLO)
    fleet.start()
    fleet.write(name, f"[uwsgi]\nwsgi-file = {HELLO}\n")
    fleet.vassal("later", wsgi_file=HELLO)
    fleet.wait_ready("later", deadline_s=10)
    assert {vassal["name"] for vassal in fleet.status()["vassals"]} == {"real", "later"}
