"""What the figures hold for: the machine, and the versions of everything that was measured."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from stacks import BIN, program


def describe_machine() -> dict[str, str]:
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
                said(BIN / "gunicorn", "--version"),
                " ".join(said(BIN / "uvicorn", "--version").split()[1:3]),
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
