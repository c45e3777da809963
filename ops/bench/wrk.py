"""One timed run of wrk, the closed loop: as many requests as connections, the next when the answer is there."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

REPORT = Path(__file__).with_name("report.lua")
ERRORS = ("connect", "read", "write", "status", "timeout")


@dataclass(frozen=True)
class Run:
    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: dict[str, int]


def run_wrk(
    address: str,
    host: str,
    connections: int,
    seconds: int,
    script: Path = REPORT,
    arguments: tuple[int, ...] = (),
    path: str = "/",
    within: tuple[str, ...] = (),
) -> Run:
    """Loads `http://address/`, or another path, for some seconds with one wrk thread. `script` prints a line as report.lua
    does; `within` stands before the command."""
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "-s", script, "-H", f"Host: {host}"]
    done = subprocess.run(
        [*within, "wrk", *options, f"http://{address}{path}", "--", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + 30,
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("REPORT "))
    report = json.loads(line.removeprefix("REPORT "))
    return Run(
        requests=report["requests"],
        seconds=report["duration_us"] / 1e6,
        p50_ms=report["p50_us"] / 1000,
        p99_ms=report["p99_us"] / 1000,
        errors={kind: report[kind] for kind in ERRORS if report[kind]},
    )
