"""Access logs, output of apps and pidfiles, of a whole emperor."""

import json
import os
import signal
from pathlib import Path

from .harness import Fleet, wait_for
from .harness.fleet import APPS

HELLO = APPS / "hello.py"
DEADLINE_S = 10.0


def lines(path: Path, count: int = 1) -> list[str]:
    """The file's lines, once there are so many."""

    def read() -> list[str] | None:
        found = path.read_text().splitlines() if path.exists() else []
        return found if len(found) >= count else None

    return (
        wait_for(read, DEADLINE_S, lambda: f"{path}: {path.read_text() if path.exists() else 'not there'}")
        or []
    )


def test_files_standard_output_and_what_is_off(fleet: Fleet) -> None:
    """Each vassal's lines go where its file says, and survive a router, an emperor and a logrotate."""
    log = fleet.root / "blog.log"
    fleet.vassal("blog", wsgi_file=HELLO, access_log=log, log_format="json")
    fleet.vassal("shop", wsgi_file=HELLO, access_log="-", log_format="shop %(method) %(uri) %(status)")
    fleet.vassal("quiet", wsgi_file=HELLO)
    fleet.start()
    for name in ("blog", "shop", "quiet"):
        assert fleet.get(name, f"/{name}?x").status == 200
    (told,) = map(json.loads, lines(log))
    assert (told["uri"], told["vassal"], told["status"]) == ("/blog?x", "blog", 200)
    wait_for(lambda: "\nshop GET /shop?x 200\n" in fleet.log(), DEADLINE_S, fleet.log)
    assert "/quiet?x" not in fleet.log()
    apps = fleet.status()["routers"][0]["apps"]
    assert [apps[name]["log_lines"] for name in ("blog", "shop", "quiet")] == [1, 1, 0]

    os.kill(fleet.pid("router"), signal.SIGKILL)
    fleet.wait_ready()
    assert fleet.get("blog", "/after-the-router").status == 200
    assert "/after-the-router" in lines(log, 2)[1]

    log.rename(log.with_suffix(".1"))
    assert fleet.cli("reopen-logs", "--run-dir", fleet.run_dir).returncode == 0
    wait_for(log.exists, DEADLINE_S, fleet.log)
    wait_for(lambda: _follows(fleet, log, "/after-the-move"), DEADLINE_S, fleet.log, every_s=0.2)
    log.rename(log.with_suffix(".2"))
    assert fleet.emperor is not None
    fleet.emperor.send_signal(signal.SIGUSR1)
    wait_for(lambda: _follows(fleet, log, "/after-usr1"), DEADLINE_S, fleet.log, every_s=0.2)

    fleet.kill_emperor()
    fleet.start()
    assert fleet.get("blog", "/after-the-emperor").status == 200
    wait_for(lambda: "/after-the-emperor" in log.read_text(), DEADLINE_S, fleet.log)


def _follows(fleet: Fleet, log: Path, path: str) -> bool:
    fleet.get("blog", path)
    return log.exists() and path in log.read_text()


def test_a_log_that_cannot_be_opened_is_named_and_taken_up_later(fleet: Fleet) -> None:
    log = fleet.root / "nowhere" / "blog.log"
    fleet.vassal("blog", wsgi_file=HELLO, access_log=log)
    fleet.start()
    assert fleet.get("blog").status == 200, "a log is no reason not to serve"
    text = f"[blog] access-log: {log} cannot be written: No such file or directory"
    wait_for(lambda: text in fleet.log(), DEADLINE_S, fleet.log)
    log.parent.mkdir()
    fleet.cli("reopen-logs", "--run-dir", fleet.run_dir)
    assert '"GET / HTTP/1.1" 200' in lines(log)[0]


def test_a_log_that_grows_is_moved_away(fleet: Fleet) -> None:
    log, old = fleet.root / "blog.log", fleet.root / "blog.old"
    out, out_old = fleet.root / "out.log", fleet.root / "out.log.old"
    fleet.app(
        "blog",
        """
        def application(environ, start_response):
            print("x" * 500)
            start_response("200 OK", [])
            return [b""]
        """,
        access_log=log, log_format="%(uri)", log_maxsize=2000, log_backupname=old,
    )  # fmt: skip
    fleet.start()
    for number in range(5):
        fleet.get("blog", f"/{number}{'y' * 500}")
    wait_for(old.exists, DEADLINE_S, fleet.log)
    wait_for(lambda: _follows(fleet, log, "/later"), DEADLINE_S, fleet.log, every_s=0.2)
    assert old.read_text().startswith("/0y")
    assert log.stat().st_size < 2000
    source = fleet.root / "apps" / "blog.py"
    fleet.vassal("blog", wsgi_file=source, logto=out, log_maxsize=2000, log_backupname=out_old)
    fleet.wait_state("blog", "READY")
    wait_for(lambda: fleet.vassal_status("blog")["generation"] == 2, DEADLINE_S)
    wait_for(lambda: fleet.get("blog") and out_old.exists(), DEADLINE_S, fleet.log)


def test_a_file_that_cannot_be_written_is_a_reason_in_the_status(fleet: Fleet) -> None:
    """The app is served, its output is in the emperor's log, and a directory that comes later ends it."""
    none = fleet.root / "none"
    fleet.app(
        "blog",
        """
        def application(environ, start_response):
            print("said", environ["PATH_INFO"], flush=True)
            start_response("200 OK", [])
            return [b"ok"]
        """,
        logto=none / "out.log",
        pidfile=none / "pid",
        access_log=none / "access.log",
    )
    fleet.start()
    wanted = ["logto", "pidfile", "access-log"]
    wait_for(
        lambda: [text.split(":")[0] for text in fleet.vassal_status("blog")["troubles"]] == wanted,
        DEADLINE_S,
        fleet.log,
    )
    assert all(str(none) in text for text in fleet.vassal_status("blog")["troubles"])
    fleet.get("blog", "/one")
    wait_for(lambda: "said /one" in fleet.log(), DEADLINE_S, fleet.log)
    none.mkdir()
    assert fleet.cli("reload", "blog", "--run-dir", fleet.run_dir).returncode == 0
    wait_for(lambda: fleet.vassal_status("blog")["generation"] == 2, DEADLINE_S, fleet.log)
    wait_for(lambda: fleet.vassal_status("blog")["troubles"] == [], DEADLINE_S, fleet.log)


def test_a_log_that_cannot_be_moved_away_is_named_once_and_grows_on(fleet: Fleet) -> None:
    log = fleet.root / "blog.log"
    old = fleet.root / "nowhere" / "blog.old"
    fleet.vassal(
        "blog", wsgi_file=HELLO, access_log=log, log_format="%(uri)", log_maxsize=2000, log_backupname=old
    )
    fleet.start()
    text = f"[blog] access-log: {log} cannot be renamed: No such file or directory; it grows on"
    for number in range(8):
        fleet.get("blog", f"/{number}{'y' * 500}")
    wait_for(lambda: text in fleet.log(), DEADLINE_S, fleet.log)
    for number in range(8, 16):
        fleet.get("blog", f"/{number}{'y' * 500}")
        lines(log, number + 1)
    # What each line's writing set off has been said before what is set off now.
    assert fleet.cli("reopen-logs", "--run-dir", fleet.run_dir).returncode == 0
    fleet.get("blog", "/z")
    wait_for(lambda: fleet.log().count(text) >= 2, DEADLINE_S, fleet.log)
    assert fleet.log().count(text) == 2, "once for each time that it was opened"
    old.parent.mkdir()
    assert fleet.cli("reopen-logs", "--run-dir", fleet.run_dir).returncode == 0
    wait_for(lambda: fleet.get("blog", "/last") and old.exists(), DEADLINE_S, fleet.log, every_s=0.2)
    wait_for(lambda: log.exists() and log.stat().st_size < 2000, DEADLINE_S, fleet.log)


def test_the_output_of_an_app_and_its_pidfile(fleet: Fleet) -> None:
    out, pidfile = fleet.root / "out.log", fleet.root / "blog.pid"
    fleet.app(
        "blog",
        """
        def application(environ, start_response):
            print("said", environ["PATH_INFO"])
            start_response("200 OK", [])
            return [b"ok"]
        """,
        logto=out,
        pidfile=pidfile,
    )
    fleet.start()
    assert int(pidfile.read_text()) == fleet.pid("gateway", "blog")
    fleet.get("blog", "/one")
    assert lines(out) == ["said /one"]
    assert "said /one" not in fleet.log()
    out.rename(out.with_suffix(".1"))
    wait_for(lambda: fleet.get("blog", "/two") and out.exists(), DEADLINE_S, fleet.log, every_s=0.3)
    assert "said /two" in lines(out)
    os.utime(fleet.directory / "blog.ini")
    wait_for(lambda: fleet.vassal_status("blog").get("generation") == 2, DEADLINE_S)
    fleet.wait_state("blog", "READY")
    wait_for(lambda: pidfile.read_text() == f"{fleet.pid('gateway', 'blog')}\n", DEADLINE_S)
    assert fleet.stop() == 0
    assert not pidfile.exists()
