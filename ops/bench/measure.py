"""One timed run of wrk against one stack: requests, errors, percentiles, and the CPU that the stack's
processes took."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

REPORT = Path(__file__).with_name("report.lua")
ERRORS = ("connect", "read", "write", "status", "timeout")


@dataclass(frozen=True)
class Run:
    """One run. `cpu_us` is user + system time of all the stack's processes, per request."""

    requests: int
    requests_per_s: float
    cpu_us: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    errors: dict[str, int]

    @property
    def counts(self) -> bool:
        """Whether the run may be used: every answer a 2xx or 3xx, and no socket error."""
        return not self.errors


def run_wrk(address: str, host: str, connections: int, seconds: int, roots: list[int]) -> Run:
    """Loads `http://address/` for some seconds with one wrk thread; `roots` are the stack's processes,
    children counted."""
    before = cpu_seconds(roots)
    done = subprocess.run(
        [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "-s",
            REPORT,
            "-H",
            f"Host: {host}",
            f"http://{address}/",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + 30,
    )
    spent = cpu_seconds(roots) - before
    line = next(line for line in done.stdout.splitlines() if line.startswith("REPORT "))
    report = json.loads(line.removeprefix("REPORT "))
    requests = report["requests"]
    return Run(
        requests=requests,
        requests_per_s=requests / (report["duration_us"] / 1e6),
        cpu_us=spent * 1e6 / max(requests, 1),
        p50_ms=report["p50_us"] / 1000,
        p90_ms=report["p90_us"] / 1000,
        p99_ms=report["p99_us"] / 1000,
        errors={kind: report[kind] for kind in ERRORS if report[kind]},
    )


def cpu_seconds(roots: list[int]) -> float:
    """Time on a CPU, user and system, of all threads of these processes and of all below them.

    From schedstat (nanoseconds): the ticks in stat are 10 ms, too coarse for an app that answers 50 times a
    second.
    """
    total = 0
    for pid in family(roots):
        for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                total += int(path.read_text().split()[0])
            except (FileNotFoundError, ProcessLookupError):
                continue
    return total / 1e9


def family(roots: list[int]) -> set[int]:
    """These pids and all that descend from them."""
    found = set()
    for root in roots:
        try:
            process = psutil.Process(root)
            found |= {root, *(child.pid for child in process.children(recursive=True))}
        except psutil.NoSuchProcess:
            continue
    return found
