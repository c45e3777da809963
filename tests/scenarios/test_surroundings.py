"""An app finds the surroundings that its file asks for: umask, imports before it, a directory after it, variables."""

import json

from .harness import Fleet

APP = """
import json, os, sys
AT_IMPORT = os.getcwd()

def application(environ, start_response):
    mask = os.umask(0)
    os.umask(mask)
    found = {
        "umask": mask,
        "at_import": AT_IMPORT,
        "now": os.getcwd(),
        "first": sys.modules["first_of_all"].SEEN,
        "env": {name: os.environ.get(name) for name in ("TZ", "KEPT", "SHELL")},
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(found).encode()]
"""


def test_an_app_finds_what_its_file_asks_for(fleet: Fleet) -> None:
    home, after = fleet.root / "home", fleet.root / "after"
    home.mkdir()
    after.mkdir()
    (home / "placed.py").write_text(APP)
    (home / "first_of_all.py").write_text("import sys\nSEEN = 'placed' not in sys.modules\n")
    fleet.vassal(
        "placed",
        module="placed",
        chdir=home,
        chdir2=after,
        umask="027",
        unenv=["TZ", "SHELL"],
        env="KEPT=1",
        **{"import": "first_of_all"},
    )
    fleet.start()
    assert json.loads(fleet.get("placed", "/").body) == {
        "umask": 0o27,
        "at_import": str(home),
        "now": str(after),
        "first": True,
        "env": {"TZ": None, "KEPT": "1", "SHELL": None},
    }


def test_a_module_to_import_that_is_not_there_fails_the_start(fleet: Fleet) -> None:
    fleet.vassal("placed", module="wsgiref.simple_server:demo_app", **{"import": "no_such_module"})
    fleet.start(ready=False)
    reason = fleet.wait_state("placed", "BACKOFF", "GIVEN_UP")["reason"]
    assert "there is no module 'no_such_module'" in reason
