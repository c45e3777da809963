"""The stacks that are compared, each with the settings its own documentation advises for speed, and why.

A stack serves what a `Site` says, at one address, and every worker of it does one request at a time. Only loopback;
everything lives in a temporary directory and is ended by pid.
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
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import psutil
from processes import family

APP_DIR = Path(__file__).with_name("apps")
BIN = Path(sys.executable).parent
UP_S = 30.0
BACKLOG = min(1024, int(Path("/proc/sys/net/core/somaxconn").read_text()))


@dataclass(frozen=True)
class Site:
    """What a stack is asked to serve: a module of apps/ by so many workers. `domains`: the Host fields h0.test, h1.test, …
    that lead to it. `vassals`: so many apps of that kind, each at a Host of its own (fleets alone). `asgi`: what the module
    speaks; `concurrency`: how many requests at once, where that has to be said; `queue_target`: our option of that name."""

    app: str
    workers: int = 1
    domains: int = 0
    vassals: int = 1
    asgi: bool = False
    concurrency: str = ""
    queue_target: str = ""


class Stack:
    """Processes that serve a site. A subclass says what to start and where it answers."""

    name: ClassVar[str]
    settings: ClassVar[str]

    def __init__(self, directory: Path, site: Site) -> None:
        self.directory = directory
        self.site = site
        self.address = ""
        self._children: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Returns once the app has answered 200. Raises RuntimeError with the log's end otherwise."""
        self.begin()
        until = time.monotonic() + UP_S
        while not self.answers(self.host):
            dead = [child.args for child in self._children if child.poll() is not None]
            if dead or time.monotonic() > until:
                raise RuntimeError(f"{self.name}: {self.site} does not answer; ended: {dead}\n{self.logs()}")
            time.sleep(0.05)

    def begin(self) -> None:
        """Starts it, and does not wait."""
        self.directory.mkdir()
        self.address = f"127.0.0.1:{free_port()}"
        self.launch()

    def launch(self) -> None:
        raise NotImplementedError

    @property
    def host(self) -> str:
        """The Host field that reaches the app."""
        return f"{self.site.app}.localhost"

    @property
    def roots(self) -> list[int]:
        """The processes that were started; what they started themselves hangs below them."""
        return [child.pid for child in self._children]

    def stop(self) -> None:
        """Ends every process of the stack, the gentle way first."""
        everything = family(self.roots)
        for child in reversed(self._children):
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        for child in self._children:
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        for process in everything:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue

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

    def answers(self, host: str) -> bool:
        request = urllib.request.Request(f"http://{self.address}/", headers={"Host": host})
        try:
            with urllib.request.urlopen(request, timeout=2) as response:
                return bool(response.status == 200 and response.read() == b"Hello, world!\n")
        except (urllib.error.URLError, OSError):
            return False

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in self.directory.glob("*.log"))


DOMAINS_EACH = 900
"""Of one vassal, which may have a thousand; others have the rest, and are asked nothing."""


class Emperor(Stack):
    name = "emperor"
    settings = "`emperor start DIR --http ADDR`, as `make demo` runs it: all defaults, all checks on"

    def launch(self) -> None:
        vassals = self.directory / "vassals"
        vassals.mkdir()
        named = f"asgi = {self.site.app}:application" if self.site.asgi else f"module = {self.site.app}"
        lines = ["[uwsgi]", named, f"pythonpath = {APP_DIR}"]
        if self.site.workers > 1:
            lines.append(f"processes = {self.site.workers}")
        if self.site.concurrency:
            lines.append(f"concurrency = {self.site.concurrency}")
        if self.site.queue_target:
            lines.append(f"queue-target = {self.site.queue_target}")
        domains = [f"domain = h{n}.test" for n in range(self.site.domains)]
        for name in fleet_names(self.site):
            (vassals / f"{name}.ini").write_text("\n".join(lines + domains[:DOMAINS_EACH]) + "\n")
        for at in range(DOMAINS_EACH, len(domains), DOMAINS_EACH):
            others = lines + domains[at : at + DOMAINS_EACH]
            (vassals / f"{self.site.app}-{at}.ini").write_text("\n".join(others) + "\n")
        run_dir = self.directory / "run"
        self.spawn(BIN / "emperor", "start", vassals, "--http", self.address, "--run-dir", run_dir)


class Granian(Stack):
    name = "granian"
    settings = "`--interface wsgi --workers N --blocking-threads 1`, no access log"
    shape: ClassVar[tuple[str, ...]] = ("--interface", "wsgi", "--blocking-threads", "1")

    def launch(self) -> None:
        self.serve(self.address)

    def serve(self, address: str) -> None:
        host, _, port = address.partition(":")
        workers = ("--workers", self.site.workers, *self.shape)
        where = ("--host", host, "--port", port, "--log-level", "warning", f"{self.site.app}:application")
        self.spawn(BIN / "granian", *workers, *where, PYTHONPATH=str(APP_DIR))


class GranianAsgi(Granian):
    name = "granian (ASGI)"
    settings = "`--interface asgi --workers N`, no access log"
    shape = ("--interface", "asgi")


class Uvicorn(Stack):
    name = "uvicorn"
    settings = "`--loop uvloop --http httptools`, no access log"

    def launch(self) -> None:
        self.serve(self.address)

    def serve(self, address: str) -> None:
        host, _, port = address.partition(":")
        shape = ("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning")
        where = ("--host", host, "--port", port, "--backlog", BACKLOG, "--app-dir", APP_DIR)
        self.spawn(BIN / "uvicorn", *shape, *where, f"{self.site.app}:application")


class BehindHaproxy(Stack):
    """haproxy in front of what `serve` of the next class starts. `threads` 0: its default of one per core."""

    threads: ClassVar[int] = 0

    def serve(self, address: str) -> None:
        raise NotImplementedError

    def launch(self) -> None:
        behind = f"127.0.0.1:{free_port()}"
        self.serve(behind)
        most = f" maxconn {self.site.workers}" if self.site.workers > 1 else ""
        config = [
            "global",
            "  maxconn 8192",
            *([f"  nbthread {self.threads}"] if self.threads else []),
            "defaults",
            "  mode http",
            "  timeout connect 5s",
            "  timeout client 60s",
            "  timeout server 60s",
            "  timeout http-keep-alive 60s",
            "  http-reuse always",
            "frontend front",
            f"  bind {self.address}",
            "  default_backend behind",
            "backend behind",
            f"  server one {behind}{most}",
        ]
        self.spawn(program("haproxy"), "-db", "-f", self.write("haproxy.cfg", "\n".join(config) + "\n"))


class HaproxyGranian(BehindHaproxy, Granian):
    name = "haproxy + granian"
    settings = (
        "haproxy: its default of a thread per core, `http-reuse always`, no log, `maxconn` of the server as many as it has "
        "workers when they are several (its queue is better than theirs); granian: as alone"
    )
    serve = Granian.serve


class HaproxyGranianAsgi(BehindHaproxy, GranianAsgi):
    name = "haproxy + granian (ASGI)"
    settings = "haproxy: its default of a thread per core, `http-reuse always`, no log; granian: as alone"
    serve = GranianAsgi.serve


class HaproxyUvicorn(BehindHaproxy, Uvicorn):
    name = "haproxy + uvicorn"
    settings = f"haproxy: as in front of granian (ASGI); uvicorn: {Uvicorn.settings}"
    serve = Uvicorn.serve


class Uwsgi(Stack):
    """What the stacks with uWSGI share."""

    def workers(self, *where: object) -> None:
        fixed = ("--master", "--need-app", "--disable-logging", "--die-on-term", "--listen", BACKLOG)
        app = ("--pythonpath", APP_DIR, "--module", f"{self.site.app}:application")
        self.spawn(BIN / "uwsgi", *fixed, "--processes", self.site.workers, *where, *app)


def nginx(
    stack: Stack, name: str, address: str, location: str, around: str = "", processes: str = "1"
) -> None:
    """One, with all its files in the stack's directory."""
    temporary = " ".join(
        f"{kind}_temp_path {stack.directory}/{name}-{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = (
        f"daemon off; worker_processes {processes}; pid {stack.directory}/{name}.pid; error_log stderr error;\n"
        "worker_rlimit_nofile 16384; events { worker_connections 12288; }\n"
        f"http {{ access_log off; keepalive_requests 1000000000; {temporary}\n"
        f"{around}\nserver {{ listen {address}; {location} }} }}\n"
    )
    stack.spawn(program("nginx"), "-c", stack.write(f"{name}.conf", text), "-e", "stderr")


class NginxUwsgi(Uwsgi):
    name = "nginx + uWSGI"
    settings = (
        "nginx: `worker_processes auto`, keep-alive without a limit of requests, no access log, `client_max_body_size 0`, "
        "`uwsgi_pass` with stock `uwsgi_params` over a unix socket; uWSGI: `--master --processes N --need-app "
        "--disable-logging --listen 1024`"
    )

    def launch(self) -> None:
        path = self.directory / "app.sock"
        self.workers("--socket", path, "--chmod-socket=666")
        pass_on = f"location / {{ include /etc/nginx/uwsgi_params; uwsgi_pass unix:{path}; }}"
        around = "keepalive_timeout 75s; client_max_body_size 0;"
        nginx(self, "nginx", self.address, pass_on, around, processes="auto")


class UwsgiHttp(Uwsgi):
    name = "uWSGI --http"
    settings = "uWSGI as behind nginx, with `--http ADDR --http-keepalive` in nginx's place"

    def launch(self) -> None:
        self.workers("--http", self.address, "--http-keepalive")


class Gunicorn(Stack):
    name = "gunicorn"
    settings = "`--worker-class gthread --workers N --threads 1`, no access log"

    def launch(self) -> None:
        shape = ("--worker-class", "gthread", "--workers", self.site.workers, "--threads", "1")
        where = ("--bind", self.address, "--log-level", "warning", "--pythonpath", APP_DIR)
        self.spawn(BIN / "gunicorn", *shape, *where, f"{self.site.app}:application")


class UwsgiEmperor(Stack):
    name = "uWSGI Emperor"
    settings = (
        "`--master --emperor DIR --http ADDR --http-keepalive --http-subscription-server ADDR`; a vassal: `master`, one "
        "process, `need-app`, `disable-logging`, a socket of its own choice, `subscribe-to`"
    )

    def launch(self) -> None:
        vassals = self.directory / "vassals"
        vassals.mkdir()
        subscriptions = f"127.0.0.1:{free_port()}"
        for name in fleet_names(self.site):
            lines = [
                "[uwsgi]",
                "master = true",
                "processes = 1",
                "need-app = true",
                "disable-logging = true",
                "socket = 127.0.0.1:0",
                f"pythonpath = {APP_DIR}",
                f"module = {self.site.app}:application",
                f"subscribe-to = {subscriptions}:{name}.localhost",
            ]
            (vassals / f"{name}.ini").write_text("\n".join(lines) + "\n")
        front = ("--http", self.address, "--http-keepalive", "--http-subscription-server", subscriptions)
        self.spawn(
            BIN / "uwsgi", "--master", "--emperor", vassals, "--die-on-term", "--disable-logging", *front
        )


STACKS: tuple[type[Stack], ...] = (
    Emperor,
    HaproxyGranian,
    NginxUwsgi,
    UwsgiHttp,
    Granian,
    Gunicorn,
    UwsgiEmperor,
    GranianAsgi,
    HaproxyGranianAsgi,
    HaproxyUvicorn,
)


def fleet_names(site: Site) -> list[str]:
    """The names of a site's apps; each answers at NAME.localhost."""
    if site.vassals == 1:
        return [site.app]
    return [f"{site.app}{n}" for n in range(site.vassals)]


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
