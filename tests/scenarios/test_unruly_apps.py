"""Apps that do what nobody expects of them: they start and serve, and when they go nothing of them is left."""

import os
import signal
import threading
from pathlib import Path

import pytest

from .harness import Fleet, take_census, wait_for

SERVES = """
    import os

    def application(environ, start_response):
        body = str(os.getpid()).encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]
"""

AT_IMPORT = {
    "starts threads": """
        import threading, time
        threading.Thread(target=time.sleep, args=(3600,)).start()
        threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
    """,
    "forks a child": """
        import os, time
        if os.fork() == 0:
            time.sleep(3600)
    """,
    "double-forks a daemon": """
        import os, time
        child = os.fork()
        if child == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(3600)
            os._exit(0)
        os.waitpid(child, 0)
    """,
    "ignores TERM": """
        import signal
        for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)
    """,
    "takes SIGCHLD and all descriptors' defaults": """
        import os, signal, subprocess
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        subprocess.Popen(["sleep", "3600"], start_new_session=True)
        os.closerange(100, 300)
    """,
}


@pytest.mark.parametrize("preload", ["false", "true"], ids=["", "preload"])
def test_what_an_app_does_at_import_goes_with_it(fleet: Fleet, preload: str) -> None:
    names = {f"app{number}": what for number, what in enumerate(AT_IMPORT)}
    fleet.vassal("quiet", wsgi_file=_app(fleet, "quiet", ""))
    fleet.start()
    empty = take_census(fleet)
    for name, what in names.items():
        fleet.vassal(name, wsgi_file=_app(fleet, name, AT_IMPORT[what]), preload=preload, stop_timeout="1s")
    fleet.wait_ready(*names)
    first = {name: int(fleet.get(name).text) for name in names}
    full = take_census(fleet)
    done = fleet.cli("reload", "--all", "--run-dir", fleet.run_dir, deadline_s=60)
    assert done.returncode == 0, done.stderr
    for name in names:
        assert int(fleet.get(name).text) != first[name], names[name]
    wait_for(
        lambda: not take_census(fleet).grown_since(full), 20, lambda: take_census(fleet).grown_since(full)
    )
    for name in names:
        (fleet.directory / f"{name}.ini").unlink()
    wait_for(
        lambda: not take_census(fleet).grown_since(empty), 20, lambda: take_census(fleet).grown_since(empty)
    )
    assert fleet.get("quiet").status == 200


def _app(fleet: Fleet, name: str, at_import: str) -> Path:
    from textwrap import dedent

    (fleet.root / "apps").mkdir(exist_ok=True)
    module = fleet.root / "apps" / f"{name}.py"
    module.write_text(dedent(at_import) + dedent(SERVES))
    return module


def test_who_is_deaf_to_term_and_in_the_middle_of_a_request_leaves_by_its_deadline(fleet: Fleet) -> None:
    fleet.app(
        "deaf",
        """
        import os, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

        def application(environ, start_response):
            if environ["PATH_INFO"] == "/long":
                time.sleep(3600)
            start_response("200 OK", [])
            return [str(os.getpid()).encode()]
        """,
        reload_mercy="1s",
    )
    fleet.start()
    old, gateway = fleet.pid("worker", "deaf"), fleet.pid("gateway", "deaf")
    asked: list[object] = []
    asking = threading.Thread(target=lambda: asked.append(_outcome(fleet)))
    asking.start()
    wait_for(
        lambda: fleet.status()["routers"][0]["apps"].get("deaf", {}).get("requests") == 1, 5, fleet.summary
    )
    os.kill(old, signal.SIGTERM)
    done = fleet.cli("reload", "deaf", "--wait", "--run-dir", fleet.run_dir)
    assert done.returncode == 0, done.stderr
    assert int(fleet.get("deaf").text) != old, "new requests go to the new generation at once"
    wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in (old, gateway)), 15, fleet.log)
    asking.join()
    assert asked == [502]


def _outcome(fleet: Fleet) -> object:
    return fleet.get("deaf", "/long", timeout_s=30).status
