"""The stacks that are compared, each with the settings its own documentation advises for speed, and why.

A stack serves three apps (`APPS`), one worker each that does one request at a time, each app at an address of
its own or by its Host. Only loopback; everything lives in a temporary directory and is ended by pid.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import ClassVar

from measure import family

APPS = ("hello", "wait2", "wait20")
APP_DIR = Path(__file__).with_name("apps")
BIN = Path(sys.executable).parent
UP_S = 30.0


class Stack:
    """Processes that serve the apps. A subclass says what to start and where each app answers."""

    name: ClassVar[str]
    settings: ClassVar[str]

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.addresses: dict[str, str] = {}
        self._children: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Returns once every app has answered 200. Raises RuntimeError with the log's end otherwise."""
        self.directory.mkdir()
        self.launch()
        until = time.monotonic() + UP_S
        for app in APPS:
            while not self._answers(app):
                dead = [child.args for child in self._children if child.poll() is not None]
                if dead or time.monotonic() > until:
                    raise RuntimeError(f"{self.name}: {app} does not answer; ended: {dead}\n{self._logs()}")
                time.sleep(0.05)

    def launch(self) -> None:
        raise NotImplementedError

    def host(self, app: str) -> str:
        """The Host field that reaches the app."""
        return f"{app}.localhost"

    @property
    def roots(self) -> list[int]:
        """The processes that were started; what they started themselves hangs below them."""
        return [child.pid for child in self._children]

    def stop(self) -> None:
        """Ends every process of the stack by pid, the gentle way first."""
        everything = family(self.roots)
        for child in reversed(self._children):
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        for child in self._children:
            try:
                child.wait(12)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        for pid in everything:
            if os.path.exists(f"/proc/{pid}"):
                os.kill(pid, signal.SIGKILL)

    def spawn(self, *argv: object, **environment: str) -> None:
        """Starts one process of the stack; its output goes to a file of its own."""
        with (self.directory / f"{len(self._children)}.log").open("wb") as log:
            child = subprocess.Popen(
                [str(part) for part in argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        self._children.append(child)

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(text)
        return path

    def _answers(self, app: str) -> bool:
        request = urllib.request.Request(f"http://{self.addresses[app]}/", headers={"Host": self.host(app)})
        try:
            with urllib.request.urlopen(request, timeout=2) as response:
                return bool(response.status == 200 and response.read() == b"Hello, world!\n")
        except (urllib.error.URLError, OSError):
            return False

    def _logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in self.directory.glob("*.log"))


class Emperor(Stack):
    name = "emperor"
    settings = "`emperor start DIR --http ADDR`, as `make demo` runs it: all defaults, all checks on"

    def launch(self) -> None:
        vassals = self.directory / "vassals"
        vassals.mkdir()
        for app in APPS:
            (vassals / f"{app}.ini").write_text(f"[uwsgi]\nmodule = {app}\npythonpath = {APP_DIR}\n")
        port = free_port()
        self.addresses = dict.fromkeys(APPS, f"127.0.0.1:{port}")
        address = f"127.0.0.1:{port}"
        self.spawn(BIN / "emperor", "start", vassals, "--http", address, "--run-dir", self.directory / "run")


class HaproxyGranian(Stack):
    name = "haproxy + granian"
    settings = (
        "haproxy: its default of a thread per core, `http-reuse always`, no log; granian: `--interface wsgi "
        "--workers 1 --blocking-threads 1`, no access log"
    )

    def launch(self) -> None:
        config = [
            "global",
            "  maxconn 4096",
            "defaults",
            "  mode http",
            "  timeout connect 5s",
            "  timeout client 60s",
            "  timeout server 60s",
            "  timeout http-keep-alive 60s",
            "  http-reuse always",
        ]
        for app in APPS:
            port, behind = free_port(), free_port()
            self.addresses[app] = f"127.0.0.1:{port}"
            config += [f"frontend {app}", f"  bind 127.0.0.1:{port}", f"  default_backend {app}"]
            config += [f"backend {app}", f"  server one 127.0.0.1:{behind}"]
            granian = [BIN / "granian", "--interface", "wsgi", "--workers", "1", "--blocking-threads", "1"]
            where = ["--host", "127.0.0.1", "--port", behind, "--log-level", "warning", f"{app}:application"]
            self.spawn(*granian, *where, PYTHONPATH=str(APP_DIR))
        self.spawn(program("haproxy"), "-db", "-f", self.write("haproxy.cfg", "\n".join(config) + "\n"))


class NginxUwsgi(Stack):
    name = "nginx + uWSGI"
    settings = (
        "nginx: `worker_processes auto`, keep-alive without a limit of requests, no access log, `uwsgi_pass` with "
        "stock `uwsgi_params` over a unix socket; uWSGI: `--master --processes 1 --need-app --disable-logging`"
    )

    def launch(self) -> None:
        servers = []
        for app in APPS:
            port, path = free_port(), self.directory / f"{app}.sock"
            self.addresses[app] = f"127.0.0.1:{port}"
            servers.append(
                f"server {{ listen 127.0.0.1:{port}; location / {{ include /etc/nginx/uwsgi_params; "
                f"uwsgi_pass unix:{path}; }} }}"
            )
            self.spawn(
                *(
                    BIN / "uwsgi",
                    "--master",
                    "--processes",
                    "1",
                    "--need-app",
                    "--disable-logging",
                    "--die-on-term",
                ),
                *("--socket", path, "--chmod-socket=666", "--listen", "100"),
                *("--pythonpath", APP_DIR, "--module", f"{app}:application"),
            )
        temporary = " ".join(
            f"{kind}_temp_path {self.directory}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        text = (
            f"daemon off; worker_processes auto; pid {self.directory}/nginx.pid; error_log stderr error;\n"
            "events { worker_connections 4096; }\n"
            f"http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 75s; {temporary}\n"
            + "\n".join(servers)
            + "\n}\n"
        )
        self.spawn(program("nginx"), "-c", self.write("nginx.conf", text), "-e", "stderr")


STACKS: tuple[type[Stack], ...] = (Emperor, HaproxyGranian, NginxUwsgi)


def program(name: str) -> str:
    """The path of a Debian program, also where the PATH has no sbin."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise SystemExit(f"{name} is not installed: run ops/install-test-deps")
    return found


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port: int = trial.getsockname()[1]
        return port
