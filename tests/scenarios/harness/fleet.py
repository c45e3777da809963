"""One emperor in a directory of its own, driven the way an operator drives it: files, the command, the stats
socket."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from textwrap import dedent
from typing import Any

from .http import Response, fetch
from .network import Host
from .orphans import Orphans
from .ports import free_port
from .waiting import wait_for

EMPEROR = Path(sys.executable).with_name("emperor")
APPS = Path(__file__).with_name("apps")
UP_S = (
    20.0  # for a cold interpreter on a machine that is busy; the floors are asserted where they are promised
)


class Fleet:
    """The emperor's directory, run directory, ports and log under `/tmp`, and the running emperor, if there
    is one.

    The path is short because a unix socket's may have 107 bytes. Everything is gone after `close`. `host` is where it runs,
    if not here: its ports are there.
    """

    def __init__(self, orphans: Orphans, *, host: Host | None = None, **environment: str) -> None:
        self.orphans = orphans
        self.host = host
        self.root = Path(tempfile.mkdtemp(prefix="ev-", dir="/tmp"))
        self.root.chmod(0o755)
        self.directory = self.root / "vassals"
        self.directory.mkdir()
        self.run_dir = self.root / "run"
        self.log_path = self.root / "emperor.log"
        self.http_port = free_port()
        self.environment = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
        self.emperor: subprocess.Popen[bytes] | None = None

    # --- the directory

    def write(self, file_name: str, text: str) -> Path:
        """Writes or rewrites a vassal file in place, and closes it: that is what makes it live."""
        path = self.directory / file_name
        path.write_text(dedent(text).lstrip())
        return path

    def app(self, name: str, source: str, **keys: object) -> Path:
        """A vassal NAME of one worker whose app is `source`, written outside of the watched directory."""
        (self.root / "apps").mkdir(exist_ok=True)
        module = self.root / "apps" / f"{name}.py"
        module.write_text(dedent(source).lstrip())
        return self.vassal(name, **{"wsgi-file": module, **keys})

    def vassal(self, name: str, **keys: object) -> Path:
        """A vassal NAME with these keys (`_` for `-`); a list repeats its key."""
        lines = ["[uwsgi]"]
        for key, value in keys.items():
            for item in value if isinstance(value, list) else [value]:
                lines.append(f"{key.replace('_', '-')} = {item}")
        return self.write(f"{name}.ini", "\n".join(lines) + "\n")

    def nonce_vassal(self, name: str, **keys: object) -> Path:
        """A vassal of the nonce app, whose begun requests are logged in `nonce_log(name)`: that each is begun once is what is
        looked at, so none is run again, and none is turned away where the machine is slower than its load."""
        log = self.nonce_log(name)
        app = {
            "wsgi-file": APPS / "nonce.py",
            "env": f"NONCE_LOG={log}",
            "retries": "false",
            "queue-target": 0,
        }
        return self.vassal(name, **{**app, **keys})

    def nonce_log(self, name: str) -> Path:
        """The file that NAME's nonce app appends a line to for each request it begins."""
        return self.root / f"{name}.begun"

    # --- the emperor

    def start(self, *arguments: str, ready: bool = True) -> "subprocess.Popen[bytes]":
        """Starts the emperor; with `ready`, returns once every vassal in the directory is READY."""
        argv: list[object] = [*(self.host.within if self.host else ())]
        argv += [EMPEROR, "start", self.directory, "--http", f"127.0.0.1:{self.http_port}"]
        argv += ["--run-dir", self.run_dir, *arguments]
        with self.log_path.open("ab") as log:
            self.emperor = self.orphans.popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd=self.root,
                start_new_session=True,
            )
        if ready:
            self.wait_ready()
        return self.emperor

    def wait_ready(self, *names: str, deadline_s: float = UP_S) -> None:
        """Returns once the emperor runs and the named vassals (all, with none named) are READY."""
        expected = set(names) or {path.stem for path in self.directory.iterdir() if path.is_file()}

        def ready() -> bool:
            self.expect_alive()
            status = self.status_or_none() or {"vassals": []}
            return expected <= {vassal["name"] for vassal in status["vassals"] if is_ready(vassal)}

        wait_for(
            ready, deadline_s, lambda: f"{sorted(expected)} READY; {self.summary()}\n{self.log()[-4000:]}"
        )

    def expect_alive(self) -> None:
        """Fails with the log when the emperor has exited."""
        assert self.emperor is not None, "the fleet was not started"
        assert self.emperor.poll() is None, (
            f"the emperor exited {self.emperor.returncode}:\n{self.log()[-4000:]}"
        )

    def kill_emperor(self) -> None:
        """kill -9, and waits until it is dead."""
        assert self.emperor is not None
        self.emperor.kill()
        self.emperor.wait(10)

    def stop(self, signum: int = signal.SIGTERM, deadline_s: float = 15.0) -> int:
        """Signals the emperor and returns its exit code."""
        assert self.emperor is not None
        self.emperor.send_signal(signum)
        return self.emperor.wait(deadline_s)

    def close(self) -> None:
        """Stops what runs, by kill at the end, and removes the directory. Never raises: the test has had its
        say."""
        if self.emperor is not None and self.emperor.poll() is None:
            self.emperor.terminate()
            try:
                self.emperor.wait(12)
            except subprocess.TimeoutExpired:
                self.emperor.kill()
                self.emperor.wait(5)
        shutil.rmtree(self.root, ignore_errors=True)

    # --- what it says

    def cli(self, *arguments: object, deadline_s: float = 20.0) -> "subprocess.CompletedProcess[str]":
        """`emperor ARGUMENTS`, to its end."""
        return subprocess.run(
            [str(part) for part in (EMPEROR, *arguments)],
            env=self.environment,
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=deadline_s,
            check=False,
        )

    def check(self) -> "subprocess.CompletedProcess[str]":
        """`emperor check DIR`."""
        return self.cli("check", self.directory)

    def log(self) -> str:
        """Everything that the emperors of this fleet have written so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def wait_log(self, *texts: str, deadline_s: float = UP_S) -> str:
        """The log, once it has all of these. Its lines are written by a thread of the emperor's own, and those of other
        processes come by their control connections: what they tell of can be seen before they can."""
        wait_for(
            lambda: all(text in self.log() for text in texts),
            deadline_s,
            lambda: f"{texts} in {self.log()[-4000:]}",
        )
        return self.log()

    def status(self) -> dict[str, Any]:
        """The statistics document from `stats.sock`. Raises OSError when nobody answers.

        A router that runs and did not answer the emperor within its second is asked again, a few times: all that it counts
        would be missing, and a busy machine is no reason for a test to fail.
        """
        for _ in range(3):
            document = self._document()
            if not any(each["silent"] and each["state"] == "running" for each in document["routers"]):
                break
        return document

    def _document(self) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self.run_dir / "stats.sock"))
            with connection.makefile("rb") as stream:
                document: dict[str, Any] = json.loads(stream.read())
                return document

    def status_or_none(self) -> dict[str, Any] | None:
        """The document, or None while there is no emperor to ask."""
        try:
            return self.status()
        except (OSError, ValueError):
            return None

    def vassal_status(self, name: str) -> dict[str, Any]:
        """NAME's part of the document; an empty one when it is not listed."""
        status = self.status_or_none() or {"vassals": []}
        return next((vassal for vassal in status["vassals"] if vassal["name"] == name), {})

    def wait_state(self, name: str, *states: str, deadline_s: float = UP_S) -> dict[str, Any]:
        """NAME's part of the document once its state is one of `states`."""
        found = wait_for(
            lambda: (vassal := self.vassal_status(name)).get("state") in states and vassal,
            deadline_s,
            lambda: f"{name} in {states}; {self.summary()}\n{self.log()[-4000:]}",
        )
        assert isinstance(found, dict)
        return found

    def summary(self) -> list[str]:
        """Each vassal's state, generation and reason, for failure messages."""
        status = self.status_or_none() or {"vassals": []}
        return [
            f"{v['name']} {v['state']} g{v['generation']} {v['reason']}".strip() for v in status["vassals"]
        ]

    # --- its processes, by role, as the status document names them

    def pid(self, role: str, vassal: str = "", seat: int = 0) -> int:
        """The pid of `emperor`, `spawner`, `router` (the one that lets clients in), or of VASSAL's `gateway` or `worker`.
        LookupError when there is none."""
        assert self.emperor is not None
        if role == "emperor":
            return self.emperor.pid
        status = self.status()
        if role == "spawner":
            return _pid_of([{"seat": 0, **status["spawner"]}], 0)
        if role == "router":
            return _pid_of(status["routers"][:1], status["routers"][0]["seat"])
        found = next((item for item in status["vassals"] if item["name"] == vassal), None)
        if found is None:
            raise LookupError(f"no vassal {vassal} in the status")
        if role == "gateway":
            return _pid_of([{"seat": 0, **(found["gateway"] or {})}], 0)
        return _pid_of(found["workers"], seat)

    def wait_another(
        self, before: int, role: str, vassal: str = "", seat: int = 0, deadline_s: float = UP_S
    ) -> int:
        """The pid in that role, as `pid` has it, once it is not `before`: in between there may be none, or nobody to ask."""

        def another() -> int:
            try:
                found = self.pid(role, vassal, seat)
            except (OSError, ValueError, LookupError):
                return 0
            return found if found != before else 0

        return wait_for(
            another,
            deadline_s,
            lambda: f"{role} {vassal} after {before}; {self.summary()}\n{self.log()[-4000:]}",
        )

    def pids(self) -> dict[str, int]:
        """Every process of the fleet by role: `emperor`, `spawner`, `router`, `gateway blog`, `worker
        blog/0`."""
        status = self.status()
        found = {"emperor": status["emperor"]["pid"], "spawner": status["spawner"]["pid"]}
        found |= {f"router {router['seat']}": router["pid"] for router in status["routers"]}
        for vassal in status["vassals"]:
            if vassal["gateway"]:
                found[f"gateway {vassal['name']}"] = vassal["gateway"]["pid"]
            found |= {
                f"worker {vassal['name']}/{worker['seat']}": worker["pid"] for worker in vassal["workers"]
            }
        return found

    # --- its apps

    def url(self, name: str, path: str = "/") -> str:
        """An address that reaches NAME through the router."""
        return f"http://{name}.localhost:{self.http_port}{path}"

    def get(self, name: str, path: str = "/", **keywords: Any) -> Response:
        """GET through the router on a connection of its own."""

        def ask() -> Response:
            return fetch(self.http_port, f"{name}.localhost", path, **keywords)

        return ask() if self.host is None else self.host.do(ask)


def is_ready(vassal: dict[str, Any]) -> bool:
    """Whether a vassal's part of the document says READY, with every worker it asks for in the router's
    service."""
    states = [worker["state"] for worker in vassal["workers"]]
    return bool(vassal["state"] == "READY" and states == ["ready"] * vassal["processes"])


def _pid_of(rows: list[dict[str, Any]], seat: int) -> int:
    for row in rows:
        if row["seat"] == seat and row.get("pid"):
            return int(row["pid"])
    raise LookupError(f"no process at seat {seat} in {rows}")
