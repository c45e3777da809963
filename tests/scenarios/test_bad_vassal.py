"""A vassal that cannot run is REFUSED or in BACKOFF with the reason in status and log (a bad file in `check`
too), and no other vassal notices."""

from dataclasses import dataclass

import pytest

from .harness import Fleet, wait_for
from .harness.fleet import APPS

HELLO = APPS / "hello.py"


@dataclass(frozen=True)
class Case:
    """A vassal file (`{app}` is its app file's path), its app, what becomes of it, and what is said."""

    text: str
    app: str = ""
    states: tuple[str, ...] = ("REFUSED",)
    said: str = ""
    check: bool = True


BEGUN = ("BACKOFF", "GIVEN_UP")
CASES = {
    "unknown key": Case(f"[uwsgi]\nwsgi-file = {HELLO}\nproceses = 2\n", said="processes"),
    "bad value": Case(f"[uwsgi]\nwsgi-file = {HELLO}\nprocesses = lots\n", said="processes"),
    "bad value in TOML": Case(f'wsgi-file = "{HELLO}"\nprocesses = -1\n', said="processes"),
    "missing file": Case("[uwsgi]\nwsgi-file = /nowhere/app.py\n", said="/nowhere/app.py"),
    "missing chdir": Case(f"[uwsgi]\nwsgi-file = {HELLO}\nchdir = /nowhere\n", said="/nowhere"),
    "no app at all": Case("[uwsgi]\nprocesses = 1\n", said="module"),
    "unknown user": Case(
        f"[uwsgi]\nwsgi-file = {HELLO}\nuid = nobody-of-this-name\n", said="nobody-of-this-name"
    ),
    "does not import": Case(
        "[uwsgi]\nwsgi-file = {app}\n",
        "import nothing_of_this_name",
        BEGUN,
        "nothing_of_this_name",
        check=False,
    ),
    "raises at import": Case(
        "[uwsgi]\nwsgi-file = {app}\n", "1 / 0", BEGUN, "ZeroDivisionError", check=False
    ),
    "no callable": Case("[uwsgi]\nwsgi-file = {app}\n", "x = 1", BEGUN, "application", check=False),
    "exits at import": Case(
        "[uwsgi]\nwsgi-file = {app}\n", "import os; os._exit(3)", BEGUN, "3", check=False
    ),
    "hangs at import": Case(
        "[uwsgi]\nwsgi-file = {app}\nstart-timeout = 2\n",
        "import time; time.sleep(3600)",
        BEGUN,
        "start-timeout",
        check=False,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_bad_vassal_says_why_and_others_are_untouched(fleet: Fleet, name: str) -> None:
    case = CASES[name]
    fleet.vassal("good", wsgi_file=HELLO)
    fleet.start()
    before = fleet.pids()
    (fleet.root / "bad_app.py").write_text(case.app + "\n")
    suffix = "toml" if "TOML" in name else "ini"
    path = fleet.write(f"bad.{suffix}", case.text.replace("{app}", str(fleet.root / "bad_app.py")))

    vassal = fleet.wait_state("bad", *case.states, deadline_s=15)
    assert case.said in vassal["reason"]
    wait_for(lambda: case.said in fleet.log(), 5, fleet.log)
    if case.check:
        checked = fleet.check()
        assert checked.returncode != 0
        assert str(path.name) in checked.stdout + checked.stderr
        assert case.said in checked.stdout + checked.stderr
    answer = fleet.get("bad")
    assert answer.status == 503
    assert int(answer.fields["retry-after"]) >= 1
    assert fleet.get("good").status == 200
    after = fleet.pids()
    assert {role: after.get(role) for role in before} == before

    fleet.write(
        path.name, f"[uwsgi]\nwsgi-file = {HELLO}\n" if suffix == "ini" else f'wsgi-file = "{HELLO}"\n'
    )
    fleet.wait_ready("bad", deadline_s=10)
    assert fleet.get("bad").status == 200


def test_a_file_error_names_file_and_line(fleet: Fleet) -> None:
    path = fleet.write("bad.ini", f"[uwsgi]\nwsgi-file = {HELLO}\n\nproceses = 2\n")
    checked = fleet.check()
    assert f"{path}:4" in checked.stdout + checked.stderr


def test_of_two_vassals_with_one_domain_the_first_keeps_it(fleet: Fleet) -> None:
    fleet.vassal("alpha", wsgi_file=HELLO, env="GREETING=alpha", domain="shop.example.test")
    fleet.start()
    fleet.vassal("beta", wsgi_file=HELLO, env="GREETING=beta", domain="shop.example.test")
    loser = fleet.wait_state("beta", "REFUSED", deadline_s=10)
    assert "shop.example.test" in loser["reason"]
    assert "alpha" in loser["reason"]
    checked = fleet.check()
    assert checked.returncode != 0
    assert "shop.example.test" in checked.stdout + checked.stderr
    assert fleet.get("alpha").text == "alpha"
    (fleet.directory / "alpha.ini").unlink()
    fleet.wait_ready("beta", deadline_s=10)
    assert fleet.get("beta").text == "beta"
