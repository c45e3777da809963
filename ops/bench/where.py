"""Where the microseconds of a request go: `ops/bench/profile`, with one of the bench's apps under wrk.

First the processor time of every thread of every process per request, user and system apart. Then, where `perf` may be used,
the symbols that the router and the worker were found in, with their shares of that process's samples; it runs in a second
load of its own, since sampling costs time. Symbols of compiled Cython are named after module and function
(`__pyx_f_7emperor_8protocol_5http1_respond`).
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil
from processes import family
from stacks import Emperor, Site
from wrk import run_wrk

LEAST_US = 0.05
"""What a thread takes less of is not shown."""
SAMPLES_PER_S = 2000


@dataclass(frozen=True)
class Spent:
    """Of one thread: nanoseconds on a processor, ticks of them in user and in system mode, waits by its own choice, and
    how often a processor was taken from it."""

    run_ns: int
    user: int
    system: int
    sleeps: int
    preempted: int


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--app", default="hello", help="a module of ops/bench/apps")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument(
        "--least", type=float, default=0.7, help="smallest share of a symbol that is shown, in percent"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ev-profile-", dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        stack = Emperor(Path(directory) / "stack", Site(arguments.app))
        try:
            stack.start()
            run_wrk(stack.address, stack.host, arguments.connections, 1)
            print_threads(stack, arguments.connections, arguments.seconds)
            print_symbols(stack, Path(directory), arguments.connections, arguments.seconds, arguments.least)
        finally:
            stack.stop()
    return 0


def print_threads(stack: Emperor, connections: int, seconds: int) -> None:
    before = threads(stack)
    run = run_wrk(stack.address, stack.host, connections, seconds)
    after = threads(stack)
    per = max(run.requests, 1)
    print(
        f"{run.requests / run.seconds:,.0f} requests/s, {connections} connections, p99 {run.p99_ms:.2f} ms\n"
    )
    print(
        "| process | thread | µs per request | user : system | sleeps per request | preempted per request |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    total = 0.0
    for key, now in after.items():
        old = before.get(key, Spent(0, 0, 0, 0, 0))
        spent_us = (now.run_ns - old.run_ns) / 1000 / per
        total += spent_us
        if spent_us < LEAST_US:
            continue
        user, system = now.user - old.user, now.system - old.system
        share = (
            f"{100 * user / (user + system):.0f} : {100 * system / (user + system):.0f}"
            if user + system
            else "–"
        )
        sleeps, preempted = (now.sleeps - old.sleeps) / per, (now.preempted - old.preempted) / per
        print(f"| {key[0]} | {key[2]} | {spent_us:.2f} | {share} | {sleeps:.3f} | {preempted:.3f} |")
    print(f"| all | | {total:.2f} | | | |\n")


def threads(stack: Emperor) -> dict[tuple[str, int, str], Spent]:
    """By process, thread id and thread name."""
    found = {}
    for process in family(stack.roots):
        for task in Path(f"/proc/{process.pid}/task").iterdir():
            try:
                stat = (task / "stat").read_text().rpartition(")")[2].split()
                status = dict(
                    line.split(":\t", 1)
                    for line in (task / "status").read_text().splitlines()
                    if ":\t" in line
                )
                key = (title(process), int(task.name), (task / "comm").read_text().strip())
                found[key] = Spent(
                    run_ns=int((task / "schedstat").read_text().split()[0]),
                    user=int(stat[11]),
                    system=int(stat[12]),
                    sleeps=int(status["voluntary_ctxt_switches"]),
                    preempted=int(status["nonvoluntary_ctxt_switches"]),
                )
            except (FileNotFoundError, ProcessLookupError, psutil.NoSuchProcess):
                continue
    return found


def title(process: psutil.Process) -> str:
    """What the process calls itself, in short."""
    return " ".join(process.cmdline())[:60] or process.name()


def print_symbols(stack: Emperor, directory: Path, connections: int, seconds: int, least: float) -> None:
    perf = shutil.which("perf")
    if perf is None:
        print("No symbols: `perf` is not installed (Debian: apt-get install linux-perf).")
        return
    # Idle processes have no samples; the busy ones are the router and the worker.
    pids = ",".join(str(process.pid) for process in family(stack.roots))
    data = directory / "perf.data"
    # cpu-clock: most virtual machines have no counters of the processor.
    record = [perf, "record", "-q", "-e", "cpu-clock", "-F", str(SAMPLES_PER_S), "-p", pids, "-o", str(data)]
    with subprocess.Popen(
        [*record, "--", "sleep", str(seconds)], stderr=subprocess.PIPE, text=True
    ) as recorder:
        run_wrk(stack.address, stack.host, connections, seconds + 1)
        _, complaint = recorder.communicate(timeout=30)
    if recorder.returncode or not data.exists():
        print(f"No symbols: perf cannot record here: {complaint.strip()[-300:]}")
        return
    for process in family(stack.roots):
        report = [perf, "report", "-i", str(data), "--stdio", "--no-children", "--pid", str(process.pid)]
        shown = subprocess.run(
            [*report, "--sort", "dso,symbol", "--percentage", "relative", "--percent-limit", str(least)],
            capture_output=True,
            text=True,
            check=False,
        )
        body = [line for line in shown.stdout.splitlines() if line.strip() and not line.startswith("#")]
        if body:
            print(f"{title(process)}:\n" + "\n".join(body) + "\n")


if __name__ == "__main__":
    sys.exit(main())
