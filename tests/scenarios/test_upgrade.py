"""`emperor upgrade`: the running emperor becomes another version, and nobody who has an app behind it notices."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from .harness import Fleet, Flood, Target, take_census, wait_for
from .harness.fleet import APPS, EMPEROR
from .harness.lasting import STREAMS, Download, Upload
from .harness.versions import before_it, install, replace_in, waits_for

HELLO = APPS / "hello.py"
UPGRADE_S = 60.0
NEW = "9.9.1"


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `emperor` of a newer version, installed in an environment of its own."""
    return install(tmp_path_factory.mktemp("newer") / "env", NEW)


def upgrade(fleet: Fleet, program: Path | None = None) -> "subprocess.CompletedProcess[str]":
    named = () if program is None else ("--program", program)
    return fleet.cli("upgrade", "--run-dir", fleet.run_dir, *named, deadline_s=UPGRADE_S)


def begin(fleet: Fleet, *arguments: object) -> "subprocess.Popen[str]":
    """A command that runs on."""
    return subprocess.Popen(
        [str(each) for each in (EMPEROR, arguments[0], "--run-dir", fleet.run_dir, *arguments[1:])],
        env=fleet.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def governs(fleet: Fleet, version: str) -> Callable[[], bool]:
    return lambda: (fleet.status_or_none() or {}).get("version") == version


def events(fleet: Fleet) -> str:
    return fleet.cli("events", "--run-dir", fleet.run_dir).stdout


class Held:
    """An upgrade that is held between the old program and the new one (or in its trial), until `go_on`."""

    def __init__(self, fleet: Fleet, program: Path, when: str = "taking_over", more: str = "pass") -> None:
        self.file = fleet.root / "hold"
        self.here = fleet.root / "hold.here"
        self.file.touch()
        deed = waits_for(self.file).strip().replace("\n", "\n    ")
        wrapper = before_it(fleet.root / "wrapper", program, f"if {when}:\n    {deed}\nif trial: {more}")
        self.command = begin(fleet, "upgrade", "--program", wrapper)
        wait_for(self.here.exists, UPGRADE_S, lambda: f"the upgrade to be held\n{fleet.log()[-3000:]}")

    def go_on(self) -> None:
        self.file.unlink(missing_ok=True)

    def result(self) -> tuple[int, str]:
        self.go_on()
        out, _ = self.command.communicate(timeout=UPGRADE_S)
        return self.command.returncode, out


@pytest.fixture
def hold(fleet: Fleet, newer: Path) -> Iterator[Callable[..., Held]]:
    """Makes held upgrades to the newer version; none is held after the test."""
    made: list[Held] = []

    def make(when: str = "taking_over", more: str = "pass", program: Path = newer) -> Held:
        made.append(Held(fleet, program, when, more))
        return made[-1]

    yield make
    for each in made:
        each.go_on()
        each.command.kill()
        each.command.communicate()


def test_under_load_to_a_newer_version_and_nothing_is_dropped(fleet: Fleet, newer: Path) -> None:
    """Kept connections and new ones, a download and an upload that last longer than it, and a process that stays."""
    for name in ("shop", "blog"):
        fleet.nonce_vassal(name, processes=3)
    fleet.app("streams", STREAMS, env=f"UNTIL={fleet.root / 'until'}")
    fleet.start()
    before = fleet.pids()
    targets = [
        Target(name, query, closes=closes)
        for name in ("shop", "blog")
        for closes in (True, False)
        for query in ("", "", "&sleep=50")
    ]
    flood = Flood(fleet.orphans, fleet.http_port, targets, fleet.root / "answers", 300).start()
    download, upload = Download(fleet, "streams"), Upload(fleet, "blog")
    done = upgrade(fleet, newer)
    assert download.whole is None and upload.whole is None, "both were to last longer than the upgrade"
    assert upload.end()
    (fleet.root / "until").touch()
    assert download.end()
    assert (done.returncode, done.stderr) == (0, ""), fleet.log()[-3000:]
    assert f"to {NEW}" in done.stdout
    failed = [each for each in flood.stop() if not each.ok]
    assert not failed
    after = fleet.pids()
    assert {role for role in after if after[role] != before.get(role)} == {"spawner", "router 1"}
    assert "router 1 " in done.stdout
    status = fleet.status()
    assert (status["version"], status["emperor"]["upgrades"]) == (NEW, 1)
    assert status["emperor"]["since"] >= status["emperor"]["started"]
    assert NEW in fleet.cli("status", "--run-dir", fleet.run_dir).stdout
    said = events(fleet)
    assert "emperor upgrade, by" in said.splitlines()[-1]
    assert f"has become {NEW}" in said and "has started" in said, "what happened before is known after it"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_twenty_in_a_row_drop_and_leak_nothing(fleet: Fleet) -> None:
    fleet.nonce_vassal("shop", processes=2)
    fleet.vassal("other", wsgi_file=HELLO, touch_reload=fleet.root / "touched", socket=fleet.root / "s.sock")
    fleet.start()
    census, held = take_census(fleet), _held(fleet)
    pid = fleet.pid("emperor")
    flood = Flood(
        fleet.orphans,
        fleet.http_port,
        [Target("shop"), Target("shop", closes=True)],
        fleet.root / "answers",
        100,
    ).start()
    for _ in range(20):
        done = upgrade(fleet)
        assert done.returncode == 0, done.stderr + fleet.log()[-3000:]
    assert [each for each in flood.stop() if not each.ok] == []
    assert fleet.status()["emperor"]["upgrades"] == 20 and fleet.pid("emperor") == pid
    wait_for(
        lambda: not take_census(fleet).grown_since(census), 10, lambda: take_census(fleet).grown_since(census)
    )
    wait_for(lambda: _held(fleet) == held, 10, lambda: f"{_held(fleet)}, and not {held}")
    inheritable = [
        fd for fd in os.listdir(f"/proc/{pid}/fdinfo") if int(fd) > 2 and not _closes_on_exec(pid, fd)
    ]
    assert not inheritable, "what a child of ours would inherit"
    fleet.vassal("fresh", wsgi_file=HELLO)
    fleet.wait_ready("fresh")
    assert fleet.stop() == 0


def _held(fleet: Fleet) -> dict[str, int]:
    """The descriptors of the emperor itself, by kind: no more after an upgrade, and no fewer."""
    found = take_census(fleet).descriptors
    return {kind: count for (role, kind), count in found.items() if role.startswith("emperor:")}


def _closes_on_exec(pid: int, fd: str) -> bool:
    text = Path(f"/proc/{pid}/fdinfo/{fd}").read_text()
    flags = next(int(line.split()[1], 8) for line in text.splitlines() if line.startswith("flags:"))
    return bool(flags & os.O_CLOEXEC)


@pytest.mark.parametrize(
    ("module", "before", "after", "why"),
    [
        ("emperor/router/main.py", "class ", "clas ", "what it starts cannot be loaded: SyntaxError"),
        ("emperor/emperor.py", "class ", "clas ", "SyntaxError"),
        ("emperor/supervisor/handover.py", "FORMAT = 1", "FORMAT = 2", "reads format 2"),
        ("emperor/supervisor/statefile.py", '"version": 1', '"version": 2', "another version's, or damaged"),
    ],
    ids=["a program of its", "itself", "format", "state"],
)
def test_a_version_that_cannot_take_over_is_not_executed(
    fleet: Fleet, tmp_path: Path, module: str, before: str, after: str, why: str
) -> None:
    broken = install(tmp_path / "env", "9.9.2")
    replace_in(broken, module, before, after)
    fleet.vassal("blog", wsgi_file=HELLO)
    fleet.start()
    pids, census = fleet.pids(), take_census(fleet)
    done = upgrade(fleet, broken)
    assert done.returncode == 1
    assert "no upgrade, version" in done.stderr and why in done.stderr, done.stderr
    assert fleet.pids() == pids
    assert fleet.get("blog").status == 200
    fleet.wait_log(why)
    assert "no upgrade" in events(fleet)
    wait_for(
        lambda: not take_census(fleet).grown_since(census), 10, lambda: take_census(fleet).grown_since(census)
    )
    assert upgrade(fleet).returncode == 0, "and the next one may be right"


def test_a_program_that_is_none(fleet: Fleet) -> None:
    fleet.vassal("blog", wsgi_file=HELLO)
    fleet.start()
    pids = fleet.pids()
    done = upgrade(fleet, Path("/bin/true"))
    assert done.returncode == 1 and "the trial of /bin/true exited with code 0" in done.stderr
    text = fleet.root / "text"
    text.write_text("no program\n")
    done = upgrade(fleet, text)
    assert done.returncode == 1 and "cannot be executed: chmod +x it" in done.stderr
    assert fleet.pids() == pids


def test_a_file_that_the_new_version_would_refuse(fleet: Fleet, tmp_path: Path) -> None:
    """What serves now would not start again: who upgrades is told before, not at the next reload."""
    picky = install(tmp_path / "env", "9.9.2")
    replace_in(
        picky,
        "emperor/config/loading.py",
        "def load_vassal(",
        "def load_vassal(*_, **__):\n    raise ConfigError("
        "[Problem('blog.ini', 3, 'processes', 'is 2', 'say 3')])\n\n\ndef load_vassal_before(",
    )
    fleet.vassal("blog", wsgi_file=HELLO)
    fleet.write("wrong.ini", "[uwsgi]\nno-such-key = 1\n")
    fleet.start(ready=False)
    fleet.wait_ready("blog")
    done = upgrade(fleet, picky)
    assert done.returncode == 1 and "blog.ini:3: processes: is 2" in done.stderr
    assert upgrade(fleet).returncode == 0, "a file that is wrong already is no reason"
    assert fleet.vassal_status("wrong")["state"] == "REFUSED"


def test_the_exec_that_fails_changes_nothing(fleet: Fleet, hold: Callable[..., Held]) -> None:
    """The trial is well, and then the program is gone."""
    fleet.vassal("blog", wsgi_file=HELLO)
    fleet.start()
    pids, census = fleet.pids(), take_census(fleet)
    held = hold("trial", "os.unlink(__file__)")
    code, said = held.result()
    assert code == 1 and "cannot be executed: No such file or directory" in said
    assert fleet.pids() == pids and fleet.get("blog").status == 200
    wait_for(lambda: not take_census(fleet).grown_since(census), 10, fleet.log)
    assert fleet.cli("reload", "blog", "--wait", "--run-dir", fleet.run_dir).returncode == 0
    os.kill(fleet.pid("emperor"), signal.SIGHUP)
    wait_for(lambda: fleet.vassal_status("blog").get("generation") == 3, 10, fleet.summary)
    assert fleet.stop() == 0, "signals are heard again"


def test_the_second_of_two_at_once_is_refused(fleet: Fleet, hold: Callable[..., Held]) -> None:
    fleet.vassal("blog", wsgi_file=HELLO)
    fleet.start()
    held = hold("trial")
    second = upgrade(fleet)
    assert second.returncode == 1 and "one is under way already (emperor upgrade, by" in second.stderr
    assert held.result()[0] == 0
    assert fleet.status()["emperor"]["upgrades"] == 1


def test_what_happens_in_between_is_not_lost(fleet: Fleet, hold: Callable[..., Held]) -> None:
    """While no emperor looks: a request, a log line, an edit, a touch, a new file, statistics, a command, a death."""
    touched = fleet.root / "touched"
    touched.touch()
    log = """
        import sys
        def application(environ, start_response):
            print("said " + environ["QUERY_STRING"], flush=True)
            start_response("200 OK", [])
            return [b"ok"]
        """
    fleet.app("talks", log)
    fleet.vassal("edited", wsgi_file=HELLO, env="GREETING=one")
    fleet.vassal("touched", wsgi_file=HELLO, touch_reload=touched)
    fleet.vassal("dies", wsgi_file=HELLO)
    fleet.start()
    gateway = fleet.pid("gateway", "dies")
    held = hold()
    os.kill(gateway, signal.SIGKILL)
    for number in range(500):
        assert fleet.get("talks", f"/?{number}").status == 200
    fleet.vassal("edited", wsgi_file=HELLO, env="GREETING=two")
    fleet.vassal("new", wsgi_file=HELLO)
    touched.touch()
    asked: dict[str, Any] = {}
    asking = threading.Thread(target=lambda: asked.update(fleet.status()))
    asking.start()
    command = begin(fleet, "status", "--json")
    code, said = held.result()
    assert code == 0, said
    asking.join(20)
    assert asked["version"] == NEW
    assert NEW in command.communicate(timeout=20)[0]
    wait_for(lambda: fleet.get("edited").text == "two", 10, fleet.summary)
    wait_for(lambda: fleet.vassal_status("touched").get("generation") == 2, 10, fleet.summary)
    fleet.wait_ready("new", "dies")
    assert "its gateway killed by signal 9 (SIGKILL)" in fleet.vassal_status("dies")["last_exit"]
    lines = fleet.log()
    assert [number for number in range(500) if f"said {number}\n" not in lines] == []


def test_a_file_that_is_being_written_meanwhile_is_not_gone(fleet: Fleet, hold: Callable[..., Held]) -> None:
    """Its vassal serves as it was, until whoever writes it has closed it."""
    fleet.vassal("blog", wsgi_file=HELLO, env="GREETING=one")
    fleet.start()
    worker = fleet.pid("worker", "blog")
    with (fleet.directory / "blog.ini").open("a") as file:
        file.write("env = GREE")
        file.flush()
        assert hold().result()[0] == 0
        assert fleet.get("blog").text == "one" and fleet.pid("worker", "blog") == worker
        file.write("TING=two\n")
    wait_for(lambda: fleet.get("blog").text == "two", 10, fleet.summary)


def test_a_router_that_dies_in_between_is_replaced_and_its_end_known(
    fleet: Fleet, hold: Callable[..., Held]
) -> None:
    fleet.vassal("blog", wsgi_file=HELLO, socket="127.0.0.1:0")
    fleet.start()
    router = fleet.pid("router")
    held = hold()
    os.kill(router, signal.SIGKILL)
    assert held.result()[0] == 0
    wait_for(lambda: fleet.status()["routers"][0]["state"] == "running", 10, fleet.summary)
    assert fleet.get("blog").status == 200
    status = fleet.status()["routers"][0]
    assert status["last_exit"] == "killed by signal 9 (SIGKILL)" and status["restarts"] == 1


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_between_is_obeyed_after_it(
    fleet: Fleet, hold: Callable[..., Held], signum: signal.Signals
) -> None:
    fleet.vassal("blog", wsgi_file=HELLO)
    fleet.start()
    held = hold()
    assert fleet.emperor is not None
    fleet.emperor.send_signal(signum)
    held.go_on()
    if signum == signal.SIGTERM:
        assert fleet.emperor.wait(20) == 0
    else:
        wait_for(lambda: fleet.vassal_status("blog").get("generation") == 2, 20, fleet.summary)


@pytest.mark.parametrize("when", ["trial", "taking_over"])
def test_killed_in_the_middle_the_next_emperor_takes_over(
    fleet: Fleet, hold: Callable[..., Held], when: str
) -> None:
    fleet.nonce_vassal("shop", processes=2)
    fleet.start()
    pids = fleet.pids()
    flood = Flood(fleet.orphans, fleet.http_port, [Target("shop")], fleet.root / "answers", 100).start()
    held = hold(when)
    fleet.kill_emperor()
    code, said = held.result()
    assert code == 1 and "closed the control connection" in said
    fleet.start()
    assert [each for each in flood.stop() if not each.ok] == []
    wait_for(lambda: not _trials(fleet), 20, "the trial to be gone, whose emperor is")
    kept = ("router 0", "gateway shop", "worker shop/0", "worker shop/1")
    now = fleet.pids()
    assert {role: now[role] for role in kept} == {role: pids[role] for role in kept}


def _trials(fleet: Fleet) -> list[str]:
    """What runs as the newer version's `emperor`, or is loaded by its trial."""
    found = []
    for each in fleet.orphans.adopted():
        with contextlib.suppress(psutil.Error):
            found += [word for word in each.cmdline() if word == "start" or "import emperor" in word]
    return found


@pytest.mark.parametrize("delay_ms", [0, 150, 400, 700, 1000, 1300])
def test_killed_at_any_time_the_next_emperor_takes_over(fleet: Fleet, delay_ms: int) -> None:
    fleet.nonce_vassal("shop", processes=2)
    fleet.start()
    flood = Flood(fleet.orphans, fleet.http_port, [Target("shop")], fleet.root / "answers", 100).start()
    gateway = fleet.pid("gateway", "shop")
    command = begin(fleet, "upgrade")
    wait_for(lambda: "an upgrade is tried" in fleet.log(), 20, fleet.log)
    time.sleep(delay_ms / 1000)
    fleet.kill_emperor()
    command.communicate(timeout=UPGRADE_S)
    fleet.start()
    assert [each for each in flood.stop() if not each.ok] == []
    assert fleet.pid("gateway", "shop") == gateway
    assert fleet.stop() == 0
    wait_for(lambda: not fleet.orphans.adopted(), 10, "the trial, and what it has started, to be gone")


def test_while_a_reload_is_under_way(fleet: Fleet) -> None:
    """Who waits for its outcome is told, by the next version."""
    fleet.nonce_vassal("shop", processes=2)
    fleet.start()
    flood = Flood(fleet.orphans, fleet.http_port, [Target("shop")], fleet.root / "answers", 100).start()
    app = fleet.root / "late.py"
    gate = fleet.root / "gate"
    app.write_text(
        f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.02)\n"
        + (APPS / "nonce.py").read_text()
    )
    fleet.vassal("shop", wsgi_file=app, env=f"NONCE_LOG={fleet.nonce_log('shop')}", processes=2)
    fleet.wait_state("shop", "RELOADING")
    waiting = begin(fleet, "reload", "shop", "--wait")
    following = begin(fleet, "events", "-f")
    wait_for(
        lambda: fleet.vassal_status("shop")["generation"] == 1 and "reload of shop" in fleet.log(),
        10,
        fleet.log,
    )
    assert upgrade(fleet).returncode == 0
    assert fleet.vassal_status("shop")["state"] == "RELOADING"
    gate.touch()
    out, _ = waiting.communicate(timeout=30)
    assert waiting.returncode == 0 and "is ready" in out, out
    following.terminate()
    told, _ = following.communicate(timeout=10)
    assert "has become" in told and "has been reloaded" in told, told
    assert [each for each in flood.stop() if not each.ok] == []


@pytest.mark.timeout(300)
def test_while_a_vassal_is_in_backoff(fleet: Fleet) -> None:
    """It goes on waiting, and is not started anew for it."""
    fleet.app("sick", "raise RuntimeError('sick')")
    fleet.vassal("well", wsgi_file=HELLO)
    fleet.start(ready=False)
    fleet.wait_ready("well")
    wait_for(
        lambda: (
            fleet.vassal_status("sick").get("restarts", 0) >= 2
            and fleet.vassal_status("sick")["state"] == "BACKOFF"
        ),
        30,
        fleet.summary,
    )
    wait_for(
        lambda: (
            fleet.vassal_status("sick").get("restarts", 0) >= 3
            and fleet.vassal_status("sick")["state"] == "BACKOFF"
        ),
        30,
        fleet.summary,
    )
    for _ in range(4):
        # Each of its waits is twice as long as the one before: an upgrade fits into one of them.
        before = fleet.vassal_status("sick")
        assert upgrade(fleet).returncode == 0
        after = fleet.vassal_status("sick")
        if before["state"] == after["state"] == "BACKOFF" and before["since"] == after["since"]:
            break
    assert (after["restarts"], after["since"], after["state"]) == (
        before["restarts"],
        before["since"],
        "BACKOFF",
    )
    assert "sick" in after["reason"]
    # Its time comes, after a minute where the machine is so slow that the upgrade was tried some times.
    wait_for(lambda: fleet.vassal_status("sick")["restarts"] == before["restarts"] + 1, 100, fleet.summary)


def test_while_one_proves_itself_and_one_is_given_a_rest(fleet: Fleet) -> None:
    """A probation goes on, a pause stays, a bad edit is still the problem, and rollback knows the reading before."""
    fleet.vassal("proves", wsgi_file=HELLO, probation="60s", env="GREETING=one")
    fleet.vassal("edited", wsgi_file=HELLO)
    fleet.vassal("paused", wsgi_file=HELLO)
    fleet.start()
    fleet.vassal("proves", wsgi_file=HELLO, probation="60s", env="GREETING=two")
    fleet.vassal("edited", wsgi_file=HELLO, no_such_key=1)
    fleet.wait_state("proves", "PROVING")
    assert fleet.cli("pause", "paused", "--run-dir", fleet.run_dir).returncode == 0
    wait_for(lambda: fleet.vassal_status("edited")["problem"], 10, fleet.summary)
    before = {name: fleet.vassal_status(name) for name in ("proves", "edited", "paused")}
    assert upgrade(fleet).returncode == 0
    for name, was in before.items():
        now = fleet.vassal_status(name)
        assert {key: now[key] for key in ("state", "since", "generation", "problem")} == {
            key: was[key] for key in ("state", "since", "generation", "problem")
        }
    assert fleet.get("paused").status == 503
    assert fleet.cli("rollback", "proves", "--run-dir", fleet.run_dir).returncode == 0
    wait_for(lambda: fleet.get("proves").text == "one", 10, fleet.summary)


def test_what_started_it_is_told(make_fleet: Callable[..., Fleet]) -> None:
    """A service manager hears that it reloads and is ready again, from the same process."""
    name = f"emperor-upgrade-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name)
        listening.settimeout(20)
        fleet = make_fleet(NOTIFY_SOCKET="@" + name)
        fleet.vassal("blog", wsgi_file=HELLO)
        fleet.start()
        assert upgrade(fleet).returncode == 0
        found: list[str] = []
        while not (any("RELOADING=1" in each for each in found) and "READY=1" in found[-1]):
            found.append(listening.recv(4096).decode())
    reloading = next(each for each in found if "RELOADING=1" in each)
    assert "MONOTONIC_USEC=" in reloading
    assert not any("STOPPING" in each for each in found)


def test_an_emperor_without_a_file_says_what_to_do(fleet: Fleet) -> None:
    fleet.write("x.txt", "")
    run = fleet.orphans.popen(
        [EMPEROR, "run", HELLO, "--http", f"127.0.0.1:{fleet.http_port}"],
        env={**fleet.environment, "XDG_RUNTIME_DIR": str(fleet.root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:

        def up() -> bool:
            try:
                return fleet.get("any").status == 200
            except OSError:
                return False

        wait_for(up, 20, "the app")
        place = next(Path("/tmp").glob("emperor-run-*/run/control.sock"), None)
        assert place is not None
        done = fleet.cli("upgrade", "--run-dir", place.parent)
        assert done.returncode == 1 and "without a file" in done.stderr
    finally:
        run.terminate()
        run.communicate(timeout=20)
