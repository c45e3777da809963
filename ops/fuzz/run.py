#!/usr/bin/env python3
"""``python ops/fuzz/run.py [CODEC…]``: feeds mutated input to every codec, each in a process of its own, and says what broke.

A failure is a crash (the input is taken from the page that both processes map), a hang (processor time goes by and the
input stays the same), growth (memory that goes on rising), or an exception that the codec does not document, a broken
promise of ``codecs_table.py`` included. Its input is kept as a file, and repeated with ``--repeat FILE``; moved into
``tests/wire/found/CODEC/`` it is a test. Ends with 1 when anything failed.

``--build cover`` compiles the modules so that they report which edges are taken, and keeps inputs that take new ones.
``--build asan`` compiles them with AddressSanitizer and UndefinedBehaviorSanitizer.
"""

import argparse
import hashlib
import importlib
import json
import mmap
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "fuzz"

sys.path[:0] = [str(HERE), str(ROOT)]

from child import SLOT_HEADER, save  # noqa: E402

SANITIZED = "-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-sanitize=alignment -fno-omit-frame-pointer -g"
FLAGS = {"plain": "", "cover": "-fsanitize-coverage=trace-pc", "asan": SANITIZED}
GROWTH_FLOOR = 4 << 20
"""Bytes of resident memory that a run may end above its warm start: the allocator's own room."""
GROWTH_PER_MILLION = 1 << 20
BLOCKS_FLOOR = 5000
BLOCKS_PER_MILLION = 2000
"""The same in objects of the interpreter, which miss nothing."""
MOST_ENDS = 3


@dataclass
class Result:
    codec: str
    done: int = 0
    seconds: float = 0.0
    accepted: int = 0
    refused: int = 0
    edges: int = 0
    measured: list[dict[str, float]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def growth(self) -> tuple[float, float]:
        """``(bytes of RSS, objects)`` from the end of the first third to the last measurement."""
        if len(self.measured) < 3:
            return 0.0, 0.0
        warm, last = self.measured[len(self.measured) // 3], self.measured[-1]
        return last["rss"] - warm["rss"], last["blocks"] - warm["blocks"]

    def judge_growth(self) -> None:
        rss, blocks = self.growth()
        millions = self.done / 1e6
        if rss > GROWTH_FLOOR + GROWTH_PER_MILLION * millions:
            self.failures.append(f"growth: {rss / 2**20:.1f} MiB more after {self.done} inputs")
        if blocks > BLOCKS_FLOOR + BLOCKS_PER_MILLION * millions:
            self.failures.append(f"growth: {blocks:.0f} objects more after {self.done} inputs")

    def figures(self) -> dict[str, object]:
        rss, blocks = self.growth()
        return {
            "codec": self.codec,
            "inputs": self.done,
            "seconds": round(self.seconds, 1),
            "accepted": self.accepted,
            "refused": self.refused,
            "rss_bytes": rss,
            "objects": blocks,
            "edges": self.edges,
            "failures": self.failures,
        }

    def line(self) -> str:
        rss, blocks = self.growth()
        asked = max(1, self.done)
        said = f"{self.codec:10} {self.done:>10} inputs  {self.done / max(self.seconds, 1e-9):>8.0f}/s"
        said += f"  accepted {100 * self.accepted / asked:4.1f} %  RSS {rss / 2**20:+6.2f} MiB  objects {blocks:+6.0f}"
        return said + (f"  edges {self.edges}" if self.edges else "") + f"  failures {len(self.failures)}"


def build_engine() -> Path:
    source = HERE / "engine.c"
    out = BUILD / f"engine-{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}.so"
    if not out.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        part = out.with_name(f"{out.name}.{os.getpid()}")
        subprocess.run(
            [os.environ.get("CC", "gcc"), "-O2", "-shared", "-fPIC", str(source), "-o", str(part)], check=True
        )
        part.replace(out)
    return out


def build_modules(kind: str) -> Path:
    """The whole project compiled so, in a directory to be put before the others. The plain one is the working tree."""
    if kind == "plain":
        return ROOT
    out = BUILD / kind
    print(f"fuzz: compiling the modules for {kind}", file=sys.stderr, flush=True)
    environment = {**os.environ, "CFLAGS": FLAGS[kind], "LDFLAGS": FLAGS[kind] if kind == "asan" else ""}
    where = ["build", "--build-base", str(out / "objects"), "--build-lib", str(out / "lib")]
    argv = [sys.executable, "setup.py", "-q", *where]
    subprocess.run(argv, cwd=ROOT, env=environment, check=True)
    return out / "lib"


def surroundings(kind: str, modules: Path) -> dict[str, str]:
    places = [modules, HERE, ROOT, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))}
    environment["PYTHONHASHSEED"] = "0"
    if kind == "asan":
        libraries = [
            subprocess.run(
                ["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True
            ).stdout.strip()
            for name in ("libasan.so", "libubsan.so")
        ]
        environment["LD_PRELOAD"] = " ".join(libraries)
        # The interpreter leaks by design at its end, and its own allocator would hide an overflow within an arena.
        environment["ASAN_OPTIONS"] = "detect_leaks=0:abort_on_error=1:handle_segv=1"
        environment["UBSAN_OPTIONS"] = "print_stacktrace=1"
        environment["PYTHONMALLOC"] = "malloc"
    return environment


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Watch:
    """One child and what is known of it from outside: its slot, its lines, its processor time."""

    def __init__(
        self, arguments: argparse.Namespace, codec: str, engine: Path, modules: Path, result: Result
    ) -> None:
        self.arguments, self.result, self.codec = arguments, result, codec
        self.command = [sys.executable, str(HERE / "child.py"), arguments.table, codec, str(engine)]
        self.environment = surroundings(arguments.build, modules)

    def stretch(self, first: int, count: int, until: float) -> int:
        """Runs inputs first+1 … first+count; returns how many were done. Failures are in the result."""
        room = "/dev/shm" if os.path.isdir("/dev/shm") else None
        with tempfile.NamedTemporaryFile(prefix="fuzz-slot-", dir=room) as file:
            file.truncate(1 << 18)
            slot = mmap.mmap(file.fileno(), 1 << 18)
            found, corpus = str(self.arguments.found), str(self.arguments.corpus or "/nonexistent")
            argv = [*self.command, file.name, str(self.arguments.seed), str(first), str(count), found, corpus]
            with tempfile.TemporaryFile() as errors:
                child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=errors, env=self.environment)
                why = self._attend(child, slot, until)
                status = child.wait()
                errors.seek(0)
                said = errors.read().decode(errors="replace")
            number = int.from_bytes(slot[:8], "little")
            if why == "time":
                return number
            if why or status:
                _, size, bits = SLOT_HEADER.unpack_from(slot)
                path = save(Path(found), self.codec, slot[SLOT_HEADER.size : SLOT_HEADER.size + size], bits)
                why = why or (signal.Signals(-status).name if status < 0 else f"exit status {status}")
                self.result.failures.append(f"{why} at input {first + number}: {path}\n{said[-4000:]}")
            return number

    def _attend(self, child: "subprocess.Popen[bytes]", slot: mmap.mmap, until: float) -> str:
        assert child.stdout is not None
        rest = b""
        number, since = -1, 0.0
        while True:
            if select.select([child.stdout], [], [], 0.5)[0]:
                piece = os.read(child.stdout.fileno(), 65536)
                if not piece:
                    return ""
                rest += piece
                *lines, rest = rest.split(b"\n")
                for line in lines:
                    self._line(json.loads(line))
                continue
            try:
                spent = cpu_seconds(child.pid)
            except (OSError, ValueError):
                continue
            now = int.from_bytes(slot[:8], "little")
            if now != number:
                number, since = now, spent
            elif number > 0 and spent - since > self.arguments.deadline:
                child.kill()
                return f"hang: {spent - since:.1f} s of processor time"
            if time.monotonic() > until:
                child.kill()
                return "time"

    def _line(self, line: dict[str, object]) -> None:
        result = self.result
        match line.pop("kind"):
            case "failure":
                result.failures.append(
                    f"{line['error']} at input {line['number']}: {line['file']}\n{line['trace']}"
                )
            case "measure":
                result.measured.append(line)  # type: ignore[arg-type]
                if self.arguments.verbose:
                    print(f"  {self.codec} {json.dumps(line)}", flush=True)
            case "start" if self.arguments.verbose:
                print(f"  {self.codec} {line['module']}", flush=True)


def fuzz(arguments: argparse.Namespace, codec: str, engine: Path, modules: Path) -> Result:
    result = Result(codec)
    began = time.monotonic()
    until = began + arguments.seconds if arguments.seconds else float("inf")
    ends = 0
    while result.done < arguments.inputs and time.monotonic() < until and ends < MOST_ENDS:
        before = len(result.failures), len(result.measured)
        result.done += Watch(arguments, codec, engine, modules, result).stretch(
            result.done, arguments.inputs - result.done, until
        )
        for measure in result.measured[before[1] :][-1:]:
            result.accepted += int(measure["accepted"])
            result.refused += int(measure["refused"])
            result.edges = max(result.edges, int(measure["edges"]))
        ends += 1
        if len(result.failures) == before[0]:
            break
        # A new process starts cold: its memory is not compared with the last one's.
        if result.done < arguments.inputs:
            result.measured.clear()
    result.seconds = time.monotonic() - began
    if arguments.build != "asan":
        result.judge_growth()
    return result


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Fuzz the codecs.", epilog="More: docs/architecture/fuzzing.md"
    )
    parser.add_argument("codecs", nargs="*", metavar="CODEC", help="by default all; see --list")
    parser.add_argument("--inputs", type=int, default=1_000_000, help="of each codec (default: a million)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=0.0,
        help="the most time of each codec; what was done until then counts",
    )
    parser.add_argument("--seed", type=int, default=1, help="the same seed draws the same inputs")
    parser.add_argument("--build", choices=FLAGS, default="plain")
    parser.add_argument("--deadline", type=float, default=10.0, help="processor seconds for one input")
    parser.add_argument(
        "--found", type=Path, default=BUILD / "found", help="where inputs that failed are kept"
    )
    parser.add_argument(
        "--corpus", type=Path, help="where inputs that took new edges are kept and read from (--build cover)"
    )
    parser.add_argument("--repeat", type=Path, metavar="FILE", help="run one kept input of CODEC again")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--table", default="codecs_table", help=argparse.SUPPRESS)
    parser.add_argument("--list", action="store_true", help="name the codecs")
    parser.add_argument("--verbose", action="store_true", help="every measurement")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    arguments = parse(argv)
    by_name = importlib.import_module(arguments.table).BY_NAME
    if arguments.list:
        for codec in by_name.values():
            print(f"{codec.name:10} {codec.about}")
        return 0
    unknown = [name for name in arguments.codecs if name not in by_name]
    if unknown:
        print(f"fuzz: no codec {', '.join(unknown)}; there are: {', '.join(by_name)}", file=sys.stderr)
        return 2
    modules = build_modules(arguments.build)
    if arguments.repeat is not None:
        if len(arguments.codecs) != 1:
            print("fuzz: --repeat wants the one codec that the input is for", file=sys.stderr)
            return 2
        command = [
            sys.executable,
            str(HERE / "child.py"),
            arguments.table,
            arguments.codecs[0],
            "--file",
            str(arguments.repeat),
        ]
        return subprocess.run(command, env=surroundings(arguments.build, modules), check=False).returncode
    engine = build_engine()
    if arguments.corpus is not None:
        arguments.corpus.mkdir(parents=True, exist_ok=True)
    results = []
    for name in arguments.codecs or by_name:
        result = fuzz(arguments, name, engine, modules)
        results.append(result)
        print(result.line(), flush=True)
        for failure in result.failures:
            print(f"  {failure}", flush=True)
    if arguments.json is not None:
        rows = [one.figures() for one in results]
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 1 if any(one.failures for one in results) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
