"""What a fleet holds: processes, descriptors, shared memory, files. Taken before and after a disturbance, and
compared."""

import contextlib
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from .fleet import Fleet

_NUMBER = re.compile(r"(?<=[./-])\d+(?=$|[./-])")


@dataclass(frozen=True)
class Census:
    """`processes` and `files` by name with generations left out; `descriptors` by (role, kind); `pages`
    distinct memfds.

    Connections of clients are among a router's descriptors: compare while there are none.
    """

    processes: Counter[str] = field(default_factory=Counter)
    descriptors: Counter[tuple[str, str]] = field(default_factory=Counter)
    pages: int = 0
    files: tuple[str, ...] = ()

    def grown_since(self, before: "Census") -> list[str]:
        """What there is more of now, for people; empty when nothing grew."""
        rows = [f"process {name}: +{count}" for name, count in (self.processes - before.processes).items()]
        extra = self.descriptors - before.descriptors
        rows += [f"descriptors of {role}, {kind}: +{count}" for (role, kind), count in extra.items()]
        if self.pages > before.pages:
            rows.append(f"memfds: {before.pages} → {self.pages}")
        rows += [f"file {name}: +{n}" for name, n in (Counter(self.files) - Counter(before.files)).items()]
        return rows


def take_census(*fleets: Fleet) -> Census:
    """Counts every living process of these fleets. All fleets of a scenario together: an orphan is the
    harness's child, whichever fleet it belongs to."""
    processes: Counter[str] = Counter()
    descriptors: Counter[tuple[str, str]] = Counter()
    pages: set[int] = set()
    for pid in fleet_pids(*fleets):
        try:
            role = _role(pid)
            held = _descriptors(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
        processes[role] += 1
        descriptors.update((role, kind) for kind, _ in held)
        pages.update(inode for kind, inode in held if kind == "memfd")
    files = sorted(
        f"{number}/{_NUMBER.sub('N', str(path.relative_to(fleet.run_dir)))}"
        for number, fleet in enumerate(fleets)
        for path in _walk(fleet.run_dir)
    )
    return Census(processes, descriptors, len(pages), tuple(files))


def fleet_pids(*fleets: Fleet) -> list[int]:
    """Every living process of the fleets: those below their emperors, and the adopted orphans with all below
    them."""
    emperors = [
        fleet.emperor for fleet in fleets if fleet.emperor is not None and fleet.emperor.poll() is None
    ]
    roots = [psutil.Process(emperor.pid) for emperor in emperors] + fleets[0].orphans.adopted()
    found: dict[int, None] = {}
    for root in roots:
        below: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            below = root.children(recursive=True)
        for process in [root, *below]:
            # One that ends meanwhile is no reason to leave out the others.
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.status() != psutil.STATUS_ZOMBIE:
                    found[process.pid] = None
    return list(found)


def _role(pid: int) -> str:
    """A process's title without what differs between two of its kind: numbers, generations, pids."""
    title = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return re.sub(r"(\.|router )\d+", r"\1N", title)[:80]


def _descriptors(pid: int) -> list[tuple[str, int]]:
    """(kind, inode) of each descriptor of a process; one that closes meanwhile is left out."""
    held = []
    for number in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{number}"
        try:
            link, inode = os.readlink(path), os.stat(path).st_ino
        except FileNotFoundError:
            continue
        kind = "memfd" if "memfd:" in link else link.split(":", 1)[0] if ":" in link else "file"
        held.append((kind, inode))
    return held


def _walk(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if not path.is_dir()] if directory.exists() else []
