"""`emperor run`: one app without a file, as a developer and as a platform start it."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from .harness import Fleet, fetch, free_port, wait_for
from .harness.fleet import EMPEROR

APP = """
import os, time

def app(environ, start_response):
    if environ["QUERY_STRING"]:
        open("begun", "w").close()
        time.sleep(float(environ["QUERY_STRING"]))
    start_response("200 OK", [])
    return [f"{VERSION} {os.environ.get('SECRET')} {os.getcwd()}".encode()]

def make():
    return app
"""


class Run:
    """One `emperor run` in a directory of its own, with a temporary directory of its own."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.place = fleet.root / "project"
        self.temporary = fleet.root / "tmp"
        self.temporary.mkdir()
        self.place.mkdir()
        self.log_path = fleet.root / "run.log"
        self.port = fleet.http_port
        self.write("one")
        self.process: subprocess.Popen[bytes] | None = None

    def write(self, version: str) -> None:
        (self.place / "shop.py").write_text(f"VERSION = {version!r}\n{APP}")

    def start(self, *arguments: str, ready: bool = True, **environ: str) -> "subprocess.Popen[bytes]":
        with self.log_path.open("wb") as log:
            self.process = self.fleet.orphans.popen(
                [EMPEROR, "run", *arguments],
                cwd=self.place,
                env={**os.environ, "TMPDIR": str(self.temporary), "SECRET": "s3", **environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if ready:
            wait_for(lambda: " at http" in self.log() or self.process.poll() is not None, 20, self.log)
            assert self.process.poll() is None, self.log()
        return self.process

    def get(self, query: str = "") -> str:
        return fetch(self.port, "anything.example.com", f"/?{query}").text

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")


@pytest.fixture
def run(fleet: Fleet) -> Iterator[Run]:
    made = Run(fleet)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.terminate()
        made.process.wait(12)


def test_as_a_platform_starts_it(run: Run) -> None:
    process = run.start("shop:app", PORT=str(run.port), WEB_CONCURRENCY="2")
    assert run.get() == f"one s3 {run.place}", "the whole environment, and the current directory"
    listening = [
        each.laddr
        for child in (psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True))
        for each in child.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN
    ]
    assert {(each.ip, each.port) for each in listening} == {("0.0.0.0", run.port)}
    assert "2 workers" in run.log()
    wait_for(lambda: "and at every other address of this host" in run.log(), 10, run.log)
    # Ctrl-C finishes what has begun, ends everything, and leaves nothing.
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(run.get("1")))
    asking.start()
    wait_for((run.place / "begun").exists, 10, run.log)
    process.send_signal(signal.SIGINT)
    assert process.wait(12) == 0
    asking.join(5)
    assert answers == [f"one s3 {run.place}"]
    assert os.listdir(run.temporary) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere:app"], "nowhere:app did not start: there is no module 'nowhere'; looked in {place}"),
        (["shop:nope"], "shop:nope did not start: module shop has no 'nope'; it has app, make"),
        (["broken:app"], "broken:app did not start: ZeroDivisionError"),
    ],
)
def test_an_app_that_does_not_start_is_exit_code_1_and_the_last_line_says_why(
    run: Run, arguments: list[str], said: str
) -> None:
    (run.place / "broken.py").write_text("1 / 0\n")
    process = run.start(*arguments, "--http", f"127.0.0.1:{run.port}", ready=False)
    assert process.wait(20) == 1
    assert said.format(place=run.place) in run.log().splitlines()[-1]
    assert os.listdir(run.temporary) == []


def test_reload_keeps_what_serves_until_the_new_version_is_imported(run: Run) -> None:
    run.start("shop:make()", "--reload", "--http", f"127.0.0.1:{run.port}", "--set", "stop-timeout=2s")
    assert run.get().startswith("one")
    run.write("second")
    wait_for(lambda: run.get().startswith("second"), 10, run.log)
    (run.place / "shop.py").write_text("oops(\n")
    wait_for(lambda: "SyntaxError: '(' was never closed" in run.log(), 10, run.log)
    assert run.get().startswith("second")
    # A new package is watched, too; what pip or the interpreter writes is not.
    package = run.place / "lib"
    package.mkdir()
    (package / "__init__.py").write_text("VERSION = 'three'\n")
    (run.place / "shop.py").write_text(f"from lib import VERSION\n{APP}")
    wait_for(lambda: run.get().startswith("three"), 10, run.log)
    (package / "__init__.py").write_text("VERSION = 'four'\n")
    wait_for(lambda: run.get().startswith("four"), 10, run.log)
    before = run.log().count("has changed")
    (run.place / ".venv/lib").mkdir(parents=True)
    (run.place / ".venv/lib/x.py").write_text("x")
    (package / "__pycache__").mkdir(exist_ok=True)
    (package / "__pycache__/y.py").write_text("x")
    (run.place / "last.py").write_text("x")
    wait_for(lambda: run.log().count("has changed") > before, 10, run.log)
    assert f"{run.place}/last.py has changed" in run.log()
    assert "x.py has changed" not in run.log() and "y.py has changed" not in run.log()


def test_a_first_start_that_fails_waits_for_the_next_change_with_reload(run: Run) -> None:
    (run.place / "shop.py").write_text("oops(\n")
    process = run.start("shop:app", "--reload", "--http", f"127.0.0.1:{run.port}", ready=False)
    wait_for(lambda: "SyntaxError" in run.log(), 10, run.log)
    run.write("repaired")
    wait_for(lambda: fetch(run.port, "x").status == 200, 10, run.log)
    assert process.poll() is None


def test_a_killed_one_leaves_no_process_and_its_port_to_the_next(run: Run) -> None:
    process = run.start("shop:app", "--http", f"127.0.0.1:{run.port}")
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 3
    process.kill()
    process.wait(5)
    wait_for(
        lambda: not any(_alive(each) for each in family),
        30,
        lambda: [each for each in family if _alive(each)],
    )
    run.start("shop:app", "--http", f"127.0.0.1:{run.port}")
    assert run.get().startswith("one")


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_two_at_a_time(run: Run, make_fleet: Callable[..., Fleet]) -> None:
    run.start("shop:app", "--http", f"127.0.0.1:{run.port}")
    other = Run(make_fleet())
    other.port = free_port()
    other.write("other")
    other.start("shop:app", "--http", f"127.0.0.1:{other.port}")
    assert (run.get()[:3], other.get()[:5]) == ("one", "other")
    assert other.process is not None
    other.process.terminate()
    assert other.process.wait(12) == 0
    done = run.fleet.orphans.popen(
        [EMPEROR, "run", "shop:app", "--http", f"127.0.0.1:{run.port}"],
        cwd=run.place,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(run.temporary)},
    )
    _, said = done.communicate(timeout=20)
    assert done.returncode == 1 and f"127.0.0.1:{run.port}".encode() in said.splitlines()[-1]


def test_the_quickstart_s_command_is_this_one() -> None:
    readme = Path(__file__).parents[2].joinpath("README.md").read_text()
    assert "emperor run hello:application --reload" in readme
