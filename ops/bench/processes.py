"""What the processes of a stack cost: their time on a processor and their memory."""

from __future__ import annotations

from pathlib import Path

import psutil


def family(roots: list[int]) -> list[psutil.Process]:
    """These processes and all that descend from them. Each is known by pid and start time: psutil signals no other that
    got the same pid."""
    found: dict[int, psutil.Process] = {}
    for root in roots:
        try:
            process = psutil.Process(root)
            found[root] = process
            found |= {child.pid: child for child in process.children(recursive=True)}
        except psutil.NoSuchProcess:
            continue
    return list(found.values())


def cpu_seconds(roots: list[int]) -> float:
    """Time on a CPU, user and system, of all threads of these processes and of all below them.

    From schedstat (nanoseconds): the ticks in stat are 10 ms, too coarse for an app that answers 50 times a
    second.
    """
    total = 0
    for process in family(roots):
        for path in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
            try:
                total += int(path.read_text().split()[0])
            except (FileNotFoundError, ProcessLookupError):
                continue
    return total / 1e9


def pss_bytes(roots: list[int]) -> int:
    """Proportional set size of these processes and of all below them: a page that n of them share counts 1/n each, so that
    the sum is what they take together. Memory of the kernel (sockets' buffers) is not in it."""
    return sum(pss_of(process.pid) for process in family(roots))


def pss_of(pid: int) -> int:
    """Of one process; 0 for one that is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
