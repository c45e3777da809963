"""What is run for an app, seen by an operator: in the status when it fails, in effect when it does not."""

from __future__ import annotations

from .harness import Fleet, wait_for

APP = """
    import os, threading

    pool = []

    def connect():
        pool.append(os.getpid())

    def application(environ, start_response):
        start_response("200 OK", [])
        return [f"{pool == [os.getpid()]} {open(os.environ['MADE']).read()}".encode()]
"""


def test_a_command_before_the_app_and_a_call_in_each_worker(fleet: Fleet) -> None:
    made = fleet.root / "made"
    fleet.app(
        "a",
        APP,
        env=f"MADE={made}",
        processes=2,
        exec_pre_app="echo -n migrated > $MADE",
        post_fork_hook="a:connect",
        pythonpath=fleet.root / "apps",
        module="a:application",
        exec_as_user_atexit="echo gone > $MADE",
    )
    text = (fleet.directory / "a.ini").read_text()
    (fleet.directory / "a.ini").write_text(
        "".join(line for line in text.splitlines(keepends=True) if not line.startswith("wsgi-file"))
    )
    fleet.start()
    assert {fleet.get("a").text for _ in range(6)} == {"True migrated"}
    assert fleet.stop() == 0
    assert made.read_text() == "gone\n"


def test_a_command_that_fails_leaves_the_former_generation_serving(fleet: Fleet) -> None:
    made = fleet.root / "made"
    made.write_text("one")
    fleet.app("a", APP, env=f"MADE={made}")
    fleet.start()
    fleet.app("a", APP, env=f"MADE={made}", exec_pre_app="echo 'no such table: users' >&2; exit 1")
    problem = wait_for(lambda: fleet.vassal_status("a").get("problem"), 20, fleet.summary)
    assert problem == (
        "exec-pre-app: `echo 'no such table: users' >&2; exit 1` exited with code 1: no such table: users"
    )
    assert fleet.get("a").text == "False one"
