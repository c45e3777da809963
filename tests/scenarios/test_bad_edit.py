"""A bad edit leaves the old generation serving, and the status says why."""

import pytest

from .harness import Fleet, wait_for
from .harness.fleet import APPS

HELLO = APPS / "hello.py"
BAD = {
    "unknown key": (f"[uwsgi]\nwsgi-fiel = {HELLO}\n", "wsgi-file"),
    "bad value": (f"[uwsgi]\nwsgi-file = {HELLO}\nprocesses = many\n", "processes"),
    "no such module": ("[uwsgi]\nmodule = nothing_of_this_name\n", "nothing_of_this_name"),
    "not a config": ("wsgi-file\n", "a.ini"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_edit_keeps_serving(fleet: Fleet, case: str) -> None:
    text, said = BAD[case]
    good = fleet.vassal("a", wsgi_file=HELLO, env="GREETING=one").read_text()
    fleet.start()
    before = fleet.vassal_status("a")
    fleet.write("a.ini", text)
    wait_for(lambda: fleet.vassal_status("a").get("problem"), 10, lambda: [fleet.summary(), fleet.log()])
    now = fleet.vassal_status("a")
    assert said in now["problem"]
    fleet.wait_log(said)
    assert (now["state"], now["gateway"], now["workers"]) == ("READY", before["gateway"], before["workers"])
    assert fleet.get("a").text == "one"

    fleet.write("a.ini", good.replace("one", "two"))
    wait_for(lambda: fleet.get("a").text == "two", 10, fleet.summary)
    wait_for(lambda: not fleet.vassal_status("a")["problem"], 5, fleet.summary)
