"""What is run for an app, seen by an operator: in the status when it fails, in effect when it does not."""

from __future__ import annotations

import re
from textwrap import dedent

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


COUNTING = """
    import os
    from prometheus_client import Counter, Gauge, CollectorRegistry, generate_latest, multiprocess

    SEEN = Counter("seen", "Requests")
    HERE = Gauge("here", "Workers", multiprocess_mode="liveall")

    def connected():
        HERE.set(1)

    def gone():
        multiprocess.mark_process_dead(os.getpid())

    def application(environ, start_response):
        if environ["PATH_INFO"] == "/metrics":
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)
            body = generate_latest(registry)
        else:
            SEEN.inc()
            body = b"seen"
        start_response("200 OK", [("Content-Type", "text/plain; version=0.0.4")])
        return [body]
"""


def test_prometheus_adds_up_what_all_workers_have_counted(fleet: Fleet) -> None:
    """As docs/guides/hooks.md shows it."""
    (fleet.root / "apps").mkdir()
    (fleet.root / "apps" / "counting.py").write_text(dedent(COUNTING))
    fleet.vassal(
        "a",
        module="counting:application",
        pythonpath=fleet.root / "apps",
        processes=2,
        env=f"PROMETHEUS_MULTIPROC_DIR={fleet.root / 'metrics'}",
        exec_pre_app='mkdir -p "$PROMETHEUS_MULTIPROC_DIR"',
        post_fork_hook="counting:connected",
        worker_exit_hook="counting:gone",
    )
    fleet.start()

    def workers() -> set[str]:
        return set(re.findall(r'^here{pid="(\d+)"} 1.0$', fleet.get("a", "/metrics").text, re.MULTILINE))

    assert {fleet.get("a").text for _ in range(20)} == {"seen"}
    assert "seen_total 20.0" in fleet.get("a", "/metrics").text
    before = workers()
    assert len(before) == 2
    assert fleet.cli("reload", "a", "--wait", "--run-dir", fleet.run_dir).returncode == 0
    wait_for(lambda: len(workers()) == 2 and not workers() & before, 20, fleet.summary)
    assert "seen_total 20.0" in fleet.get("a", "/metrics").text
