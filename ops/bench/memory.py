"""A fleet of vassals: how long until all answer, what memory each takes, what they cost when nobody asks.

`ops/bench/memory.py 100 1000` prints a table; `measure(count)` is what a program calls. Every vassal is the hello app with
one worker, all defaults. Memory is PSS: a page that is shared counts for each in equal parts, so that the sum is what the
machine gives. Only loopback; everything lives in a temporary directory and is ended by pid.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from processes import family
from stacks import APP_DIR, BIN, free_port

KINDS = ("emperor", "spawner", "router", "gateway", "worker")
UP_S = 120.0
QUIET_S = 3.0
"""After the last answer, before anything is measured: what the start has left to do."""
IDLE_S = 20.0
AGAIN_S = 0.01
"""Between two questions to a vassal that does not answer yet: the client must not starve what it waits for."""
SAMPLES = 5


@dataclass(frozen=True)
class Memory:
    """What the processes of one kind take, KB, in all: proportional share, and what is theirs alone and written to."""

    processes: int
    pss_kb: int
    private_dirty_kb: int


@dataclass(frozen=True)
class FleetFigures:
    """One fleet. `start_cpu_s` is what each kind had taken of the cores shortly after all had answered, `mappings` KB of
    Private_Dirty by mapping of the average gateway and the average worker."""

    vassals: int
    answering_s: float
    pss_each_kb: float
    start_cpu_s: dict[str, float]
    memory: dict[str, Memory]
    idle_cpu_percent: dict[str, float]
    mappings: dict[str, dict[str, float]]

    @property
    def idle_cpu_percent_in_all(self) -> float:
        return sum(self.idle_cpu_percent.values())


def measure(count: int, idle_s: float = IDLE_S) -> FleetFigures:
    """Start `count` vassals, measure them, end them. Raises RuntimeError with the log's end when not all answer in time."""
    with tempfile.TemporaryDirectory(prefix="ev-fleet-", dir="/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        vassals, log = directory / "vassals", directory / "log"
        vassals.mkdir()
        names = [f"v{number:05d}" for number in range(count)]
        for each in names:
            (vassals / f"{each}.ini").write_text(f"[uwsgi]\nmodule = hello\npythonpath = {APP_DIR}\n")
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
        began = time.monotonic()
        with log.open("wb") as output:
            emperor = subprocess.Popen(
                list(map(str, argv)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            try:
                await_answers(port, names, began + UP_S)
            except (OSError, TimeoutError) as error:
                raise RuntimeError(f"{error}\n{log.read_text(errors='replace')[-2000:]}") from error
            answering_s = time.monotonic() - began
            time.sleep(QUIET_S)
            return _figures(emperor.pid, count, answering_s, idle_s)
        finally:
            _end(emperor)


def await_answers(port: int, names: Iterable[str], until: float) -> None:
    """Returns once each has answered 200, asked one after another over one connection. Raises TimeoutError."""
    connection: socket.socket | None = None
    for name in names:
        while True:
            if time.monotonic() > until:
                raise TimeoutError(f"{name} does not answer")
            try:
                connection = connection or socket.create_connection(("127.0.0.1", port), timeout=10)
                if _asked(connection, name) == b"200":
                    break
            except OSError:  # nobody listens yet
                connection = None
            time.sleep(AGAIN_S)
    if connection is not None:
        connection.close()


def _asked(connection: socket.socket, name: str) -> bytes:
    """The status of the answer. Raises OSError when the connection is at its end."""
    connection.sendall(f"GET / HTTP/1.1\r\nHost: {name}.localhost\r\n\r\n".encode())
    read = b""
    while b"\r\n\r\n" not in read:
        read += _received(connection)
    head, _, body = read.partition(b"\r\n\r\n")
    length = next(
        int(line.partition(b":")[2])
        for line in head.lower().splitlines()
        if line.startswith(b"content-length:")
    )
    while len(body) < length:
        body += _received(connection)
    if b"connection: close" in head.lower():
        raise ConnectionResetError(f"{name}: the connection is closed after the answer")
    return head.split(b" ", 2)[1]


def _received(connection: socket.socket) -> bytes:
    chunk = connection.recv(65536)
    if not chunk:
        raise ConnectionResetError("end of file")
    return chunk


def _figures(root: int, count: int, answering_s: float, idle_s: float) -> FleetFigures:
    kinds = {each.pid: kind_of(each.pid) for each in family([root])}
    before = {pid: cpu_ns(pid) for pid in kinds}
    began = time.monotonic()
    time.sleep(idle_s)
    passed_ns = (time.monotonic() - began) * 1e9
    start: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
    idle: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
    for pid, kind in kinds.items():
        start[kind] += before[pid]
        idle[kind] += cpu_ns(pid) - before[pid]
    pss: Counter[str] = Counter()
    dirty: Counter[str] = Counter()
    for pid, kind in kinds.items():
        rollup = rollup_kb(pid)
        pss[kind] += rollup["Pss"]
        dirty[kind] += rollup["Private_Dirty"]
    found = Counter(kinds.values())
    return FleetFigures(
        vassals=count,
        answering_s=answering_s,
        pss_each_kb=sum(pss.values()) / count,
        start_cpu_s={kind: spent / 1e9 for kind, spent in start.items()},
        memory={kind: Memory(found[kind], pss[kind], dirty[kind]) for kind in KINDS},
        idle_cpu_percent={kind: 100 * spent / passed_ns for kind, spent in idle.items()},
        mappings={
            kind: mappings_kb([pid for pid, each in sorted(kinds.items()) if each == kind][-SAMPLES:])
            for kind in ("gateway", "worker")
        },
    )


def kind_of(pid: int) -> str:
    """One of KINDS, by the title that the process has given itself."""
    title = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    first, _, rest = title.partition(" ")
    second = rest.split(" ", 1)[0]
    return second if first == "emperor" and second in KINDS else "emperor"


def cpu_ns(pid: int) -> int:
    """Time on a CPU of all threads. From schedstat: the ticks in stat are 10 ms, more than an idle process takes."""
    total = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        total += int(path.read_text().split()[0])
    return total


def rollup_kb(pid: int) -> dict[str, int]:
    """`smaps_rollup` of a process: KB by field."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}


def mappings_kb(pids: Sequence[int], field: str = "Private_Dirty") -> dict[str, float]:
    """One field of `smaps` by what is mapped, KB, the average of some processes, largest first."""
    sums: defaultdict[str, float] = defaultdict(float)
    for pid in pids:
        name = ""
        for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
            head, *rest = line.split(None, 5)
            if not head.endswith(":"):
                # An address range, rights, offset, device, inode, and what is mapped.
                name = Path(rest[4]).name if len(rest) > 4 else f"anonymous, {rest[0]}"
                name += "" if not name.endswith(".so") and ".so" not in name else f" {rest[0]}"
            elif head == f"{field}:":
                sums[name] += int(rest[0]) / len(pids)
    return dict(sorted(((name, kb) for name, kb in sums.items() if kb), key=lambda item: -item[1]))


def _end(emperor: subprocess.Popen[bytes]) -> None:
    everything = family([emperor.pid])
    emperor.send_signal(signal.SIGTERM)
    try:
        emperor.wait(20)
    except subprocess.TimeoutExpired:
        emperor.kill()
        emperor.wait()
    for each in everything:
        if each.is_running():
            each.kill()


def render(figures: FleetFigures) -> str:
    """A table in Markdown."""
    out = [
        f"{figures.vassals} vassals: all answer after {figures.answering_s:.2f} s; {figures.pss_each_kb / 1024:.2f} MB PSS "
        f"each; {figures.idle_cpu_percent_in_all:.2f} % of a core when idle",
        "",
        "| | processes | PSS each | private and dirty each | CPU of the start | idle CPU in all |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for kind, memory in figures.memory.items():
        processes = max(1, memory.processes)
        out.append(
            f"| {kind} | {memory.processes} | {memory.pss_kb / processes:,.0f} KB "
            f"| {memory.private_dirty_kb / processes:,.0f} KB | {figures.start_cpu_s[kind]:.2f} s "
            f"| {figures.idle_cpu_percent[kind]:.2f} % |"
        )
    for kind, mappings in figures.mappings.items():
        out += ["", f"{kind}, private and dirty KB by mapping: "]
        out[-1] += ", ".join(f"{name} {kb:.0f}" for name, kb in mappings.items() if kb >= 8)
    return "\n".join(out)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("vassals", type=int, nargs="*", default=[100, 1000])
    parser.add_argument("--idle", type=float, default=IDLE_S, help="seconds over which idle CPU is taken")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    for count in arguments.vassals:
        figures = measure(count, arguments.idle)
        print(
            json.dumps(dataclasses.asdict(figures), indent=2) if arguments.json else render(figures) + "\n",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
