"""Idle keep-alive connections: what one costs the router.

`ops/bench/idle.py` prints it; `measure(count)` is what a program calls. Each connection has asked once and been answered,
and then says nothing. The clients are in processes of their own, since a descriptor is needed at both ends. Only loopback.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet import QUIET_S, await_answers, cpu_ns, kind_of, rollup_kb
from measure import family
from stacks import APP_DIR, BIN, free_port

COUNT = 10_000
UP_S = 30.0
IDLE_S = 10.0
WARM = 50
"""Connections that come and go before the first look: what the first ones cost is not theirs."""


@dataclass(frozen=True)
class IdleFigures:
    """`bytes_each` is the growth of the router's PSS; `cpu_percent` what the router takes of a core while all are idle."""

    connections: int
    bytes_each: float
    cpu_percent: float


def measure(count: int = COUNT) -> IdleFigures:
    """Open `count` connections to one hello vassal and look at the router. Raises RuntimeError when it does not answer."""
    with tempfile.TemporaryDirectory(prefix="ev-idle-", dir="/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        vassals, log = directory / "vassals", directory / "log"
        vassals.mkdir()
        (vassals / "hello.ini").write_text(f"[uwsgi]\nmodule = hello\npythonpath = {APP_DIR}\n")
        port = free_port()
        argv = [
            BIN / "emperor",
            "start",
            vassals,
            "--http",
            f"127.0.0.1:{port}",
            "--run-dir",
            directory / "run",
        ]
        # Longer than the measurement, and room for all from one address.
        argv += ["--idle-timeout", "600s", "--max-connections-per-address", str(2 * count)]
        with log.open("wb") as output:
            emperor = subprocess.Popen(
                list(map(str, argv)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        clients: subprocess.Popen[str] | None = None
        try:
            try:
                await_answers(port, ["hello"], time.monotonic() + UP_S)
            except (OSError, TimeoutError) as error:
                raise RuntimeError(f"{error}\n{log.read_text(errors='replace')[-2000:]}") from error
            for _ in range(WARM):
                await_answers(port, ["hello"], time.monotonic() + UP_S)
            time.sleep(QUIET_S)
            router = next(pid for pid in family([emperor.pid]) if kind_of(pid) == "router")
            before_kb = rollup_kb(router)["Pss"]
            clients = subprocess.Popen(
                [sys.executable, __file__, "--hold", str(port), str(count)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert clients.stdout is not None
            held = clients.stdout.readline().strip()
            if held != str(count):
                raise RuntimeError(f"only {held or 'none'} of {count} connections were answered")
            time.sleep(QUIET_S)
            cpu, began = cpu_ns(router), time.monotonic()
            time.sleep(IDLE_S)
            percent = 100 * (cpu_ns(router) - cpu) / ((time.monotonic() - began) * 1e9)
            after_kb = rollup_kb(router)["Pss"]
            return IdleFigures(count, 1024 * (after_kb - before_kb) / count, percent)
        finally:
            if clients is not None:
                clients.kill()
                clients.wait()
            emperor.send_signal(signal.SIGTERM)
            try:
                emperor.wait(20)
            except subprocess.TimeoutExpired:
                emperor.kill()
                emperor.wait()


def hold(port: int, count: int) -> None:
    """The clients' process: says how many were answered, then waits for the end of its standard input."""
    held = []
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", port), timeout=10)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: hello.localhost\r\n\r\n")
        read = b""
        while not read.endswith(b"Hello, world!\n"):
            chunk = connection.recv(4096)
            if not chunk:
                break
            read += chunk
        if not read.startswith(b"HTTP/1.1 200 "):
            break
        held.append(connection)
    print(len(held), flush=True)
    os.read(0, 1)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("connections", type=int, nargs="?", default=COUNT)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--hold", type=int, nargs=2, metavar=("PORT", "COUNT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.hold:
        hold(*arguments.hold)
        return 0
    figures = measure(arguments.connections)
    if arguments.json:
        print(json.dumps(dataclasses.asdict(figures), indent=2))
    else:
        print(
            f"{figures.connections} idle connections: {figures.bytes_each / 1024:.2f} KB of the router's each; "
            f"{figures.cpu_percent:.2f} % of a core"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
