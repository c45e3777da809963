"""What the nonce app wrote down: which requests were begun, by whom, when."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Begun:
    """One begun request; `at_s` is CLOCK_MONOTONIC, comparable across processes."""

    nonce: str
    pid: int
    at_s: float


def begun_requests(log: Path) -> list[Begun]:
    """The lines of a nonce log, in the order of their writing. A missing log is an app that began nothing."""
    if not log.exists():
        return []
    lines = (line.split() for line in log.read_text().splitlines())
    return [Begun(nonce, int(pid), int(at_ns) / 1e9) for nonce, pid, at_ns in lines]


def begun_twice(begun: list[Begun]) -> dict[str, int]:
    """Nonces that were begun more than once, with how often."""
    return {nonce: count for nonce, count in Counter(entry.nonce for entry in begun).items() if count > 1}
