"""Us beside our peers, on one machine, in one run: `make bench`, or `ops/bench/run.py --seconds 2 --rounds 1`
for a look.

Runs alternate (every stack once per round, the order turning), and medians are compared: the machine's mood
then falls on all alike. A run with one answer that is not 2xx, or one socket error, does not count: it is
made again, a few times, and reported. What counts is the ratio, not the figure.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from measure import Run, run_wrk
from stacks import BIN, STACKS, Emperor, HaproxyGranian, NginxUwsgi, Stack, program

AGAIN = 3
WARM_UP_S = 1
RESULTS = Path(__file__).with_name("results")
DOCS = Path(__file__).parents[2] / "docs" / "bench.md"


@dataclass(frozen=True)
class Row:
    """One app under one load. The floor: our requests/s over the best of `against`, in the same run."""

    app: str
    title: str
    connections: int
    floor: float
    against: tuple[type[Stack], ...]


# Enough connections that the one worker never waits for a client, few enough that their queue stays far below
# the 2 s after which wrk gives up, and that what is in flight when a run ends is little of the whole.
ROWS = (
    Row("hello", "hello, 64 connections", 64, 1.0, (HaproxyGranian, NginxUwsgi)),
    Row("wait2", "2 ms app, 16 connections", 16, 0.9, (NginxUwsgi,)),
    Row("wait20", "20 ms app, 8 connections", 8, 0.97, (NginxUwsgi,)),
)


@dataclass(frozen=True)
class Figures:
    """Medians of one stack in one row, and the runs that did not count."""

    requests_per_s: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    runs: int
    discarded: int


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=5, help="length of one run")
    parser.add_argument("--rounds", type=int, default=5, help="runs per row and stack; medians are taken")
    parser.add_argument(
        "--rows", nargs="*", default=[row.app for row in ROWS], choices=[row.app for row in ROWS]
    )
    parser.add_argument("--stacks", nargs="*", default=[stack.name for stack in STACKS], help="by name")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where latest.json and latest.md go")
    parser.add_argument("--docs", action="store_true", help=f"write the table to {DOCS.name} in docs/ too")
    parser.add_argument("--floors", action="store_true", help="exit 1 when a floor is not met")
    arguments = parser.parse_args(argv)

    rows = [row for row in ROWS if row.app in arguments.rows]
    with tempfile.TemporaryDirectory(prefix="ev-bench-", dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        stacks = [
            kind(Path(directory) / f"s{n}") for n, kind in enumerate(STACKS) if kind.name in arguments.stacks
        ]
        try:
            for stack in stacks:
                stack.start()
                print(f"bench: {stack.name} is up", flush=True)
            table = {row.app: measure_row(row, stacks, arguments.rounds, arguments.seconds) for row in rows}
        finally:
            for stack in stacks:
                stack.stop()
    machine = describe_machine()
    text = render(machine, rows, table, arguments.rounds, arguments.seconds)
    print("\n" + text)
    write_results(arguments.results, machine, rows, table, text)
    if arguments.docs:
        DOCS.write_text(text)
    missed = [row.title for row in rows if (ratio := ratio_of(row, table)) is not None and ratio < row.floor]
    for title in missed:
        print(f"bench: below the floor: {title}")
    return 1 if missed and arguments.floors else 0


def measure_row(row: Row, stacks: list[Stack], rounds: int, seconds: int) -> dict[str, Figures]:
    """Medians by stack name. Raises SystemExit when a stack has no run that counts."""
    runs: dict[str, list[Run]] = {stack.name: [] for stack in stacks}
    discarded = dict.fromkeys(runs, 0)
    for number in range(rounds):
        turn = number % len(stacks)
        for stack in stacks[turn:] + stacks[:turn]:
            run, bad = measure_counting(row, stack, seconds)
            discarded[stack.name] += bad
            runs[stack.name].append(run)
            print(
                f"bench: {row.title}: {number + 1}/{rounds} {stack.name}: {run.requests_per_s:,.0f}/s "
                f"{run.cpu_us:.1f} µs CPU/request, p99 {run.p99_ms:.1f} ms",
                flush=True,
            )
    return {
        name: Figures(
            requests_per_s=median(run.requests_per_s for run in done),
            cpu_us=median(run.cpu_us for run in done),
            p50_ms=median(run.p50_ms for run in done),
            p99_ms=median(run.p99_ms for run in done),
            runs=len(done),
            discarded=discarded[name],
        )
        for name, done in runs.items()
    }


def measure_counting(row: Row, stack: Stack, seconds: int) -> tuple[Run, int]:
    """A run without an error, and how many with errors came before it."""
    address, host = stack.addresses[row.app], stack.host(row.app)
    for bad in range(AGAIN + 1):
        run_wrk(address, host, row.connections, WARM_UP_S, stack.roots)
        run = run_wrk(address, host, row.connections, seconds, stack.roots)
        if run.counts:
            return run, bad
        print(f"bench: {row.title}: {stack.name}: does not count: {run.errors}", flush=True)
    raise SystemExit(
        f"bench: {stack.name} had errors in {AGAIN + 1} runs one after another: no figure for {row.title}"
    )


def ratio_of(row: Row, table: dict[str, dict[str, Figures]]) -> float | None:
    """Our requests/s over the best of the row's rivals; None when either was not measured."""
    figures = table[row.app]
    rivals = [figures[kind.name].requests_per_s for kind in row.against if kind.name in figures]
    if Emperor.name not in figures or not rivals:
        return None
    return figures[Emperor.name].requests_per_s / max(rivals)


def render(
    machine: dict[str, str],
    rows: list[Row],
    table: dict[str, dict[str, Figures]],
    rounds: int,
    seconds: int,
) -> str:
    """The Markdown page."""
    out = [
        "# Bench",
        "",
        "Written by `make bench BENCH=--docs`. Figures hold for this machine and day; the ratios, taken in one run, are",
        f"what counts. Medians of {rounds} alternating runs of {seconds:g} s, `wrk -t1`, keep-alive, one worker that does one",
        "request at a time in every stack. A run with one error or non-2xx answer does not count.",
        "",
        *(f"* {name}: {value}" for name, value in machine.items()),
        "",
    ]
    for row in rows:
        figures = table[row.app]
        ratio = ratio_of(row, table)
        out += [f"## {row.title}", ""]
        if ratio is not None:
            rivals = " and ".join(kind.name for kind in row.against)
            verdict = "met" if ratio >= row.floor else "**not met**"
            out += [f"{ratio:.2f} × the best of {rivals}; floor {row.floor:g} × {verdict}.", ""]
        out += [
            "| stack | requests/s | ratio to ours | CPU per request | p50 | p99 | runs not counted |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        ours = figures[Emperor.name].requests_per_s if Emperor.name in figures else None
        for name, one in figures.items():
            share = f"{one.requests_per_s / ours:.2f}" if ours else "–"
            out.append(
                f"| {name} | {one.requests_per_s:,.0f} | {share} | {one.cpu_us:.1f} µs | {one.p50_ms:.2f} ms "
                f"| {one.p99_ms:.2f} ms | {one.discarded} |"
            )
        out.append("")
    out += ["## Settings", "", *(f"* {kind.name}: {kind.settings}" for kind in STACKS), ""]
    return "\n".join(out)


def describe_machine() -> dict[str, str]:
    """What the figures hold for."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    cores = sum(line.startswith("processor") for line in Path("/proc/cpuinfo").read_text().splitlines())
    commit = said("git", "describe", "--always", "--dirty") or "no git"
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{cpu}, {cores} cores, Linux {platform.release()}",
        "Python": platform.python_version(),
        "emperor-vassals": commit,
        "peers": ", ".join(
            (
                said(program("nginx"), "-v").removeprefix("nginx version: "),
                " ".join(said(program("haproxy"), "-v").split()[:3]),
                said(BIN / "granian", "--version"),
                f"uWSGI {said(BIN / 'uwsgi', '--version')}",
            )
        ),
    }


def said(*argv: object) -> str:
    """The first line that a command says, empty if it fails."""
    try:
        done = subprocess.run(
            [str(part) for part in argv],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parent,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return (done.stdout or done.stderr).partition("\n")[0].strip()


def write_results(
    directory: Path, machine: dict[str, str], rows: list[Row], table: dict[str, dict[str, Figures]], text: str
) -> None:
    directory.mkdir(exist_ok=True)
    document = {
        "machine": machine,
        "rows": {
            row.app: {
                "title": row.title,
                "connections": row.connections,
                "floor": row.floor,
                "ratio": ratio_of(row, table),
                "stacks": {name: asdict(one) for name, one in table[row.app].items()},
            }
            for row in rows
        },
    }
    (directory / "latest.json").write_text(json.dumps(document, indent=2) + "\n")
    (directory / "latest.md").write_text(text)
    print(f"bench: written to {directory}/latest.json and latest.md")


if __name__ == "__main__":
    sys.exit(main())
