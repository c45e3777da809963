"""Whether memory is short: on the machine, or in the control group that we are in (a container, a systemd unit).

Short is less than a tenth left. A generation that is kept only in case is not worth a visit of the out-of-memory killer.
"""

from __future__ import annotations

from pathlib import Path

LEAST_SHARE = 0.1

_MEMINFO = Path("/proc/meminfo")
_OWN_GROUP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


def is_short(meminfo: Path = _MEMINFO, own_group: Path = _OWN_GROUP, groups: Path = _GROUPS) -> bool:
    """True when less than a tenth is left of what there is. What cannot be read bounds nothing."""
    return any(
        left < LEAST_SHARE * most for left, most in (_of_machine(meminfo), _of_group(own_group, groups))
    )


def _of_machine(meminfo: Path) -> tuple[int, int]:
    found = {}
    try:
        for line in meminfo.read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("MemAvailable", "MemTotal"):
                found[name] = int(value.split()[0])
        return found["MemAvailable"], found["MemTotal"]
    except (OSError, ValueError, KeyError, IndexError):
        return 1, 1


def _of_group(own_group: Path, groups: Path) -> tuple[int, int]:
    """Of the tightest of our groups, version 2. What is cached of files that nobody uses can be had back."""
    tightest = (1, 1)
    try:
        path = own_group.read_text().strip().rpartition("::")[2].lstrip("/")
    except OSError:
        return tightest
    directory = groups / path
    while True:
        found = _left_in(directory)
        if found[0] * tightest[1] < tightest[0] * found[1]:
            tightest = found
        if directory in (groups, directory.parent):
            return tightest
        directory = directory.parent


def _left_in(directory: Path) -> tuple[int, int]:
    try:
        most = int((directory / "memory.max").read_text())  # "max" is a ValueError: no limit
        used = int((directory / "memory.current").read_text())
        for line in (directory / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "inactive_file":
                used -= int(value)
    except (OSError, ValueError):
        return 1, 1
    return max(0, most - used), most
