"""A service manager that does with a unit file what systemd does: as much of it as decides whether apps outlive their emperor.

As a program: `manager UNIT RUN_DIR COMMAND…`. It is the parent of whatever loses its own, as PID 1 is; says
the unit's `Restart=`, `RestartSec=`, `KillMode=` and `RuntimeDirectoryPreserve=` with deeds; ends with the exit code of its
service when it is told to stop (SIGTERM).
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

PR_SET_CHILD_SUBREAPER = 36


def unit(path: Path) -> dict[str, str]:
    """The settings of a unit file, the last of each name."""
    lines = [line.partition("=") for line in path.read_text().splitlines() if not line.startswith(("#", "["))]
    return {name: value for name, _, value in lines if name}


def seconds(text: str) -> float:
    """A plain number of seconds, all that our unit has."""
    return float(text)


def main() -> None:
    """Run the service until told to stop."""
    path, run_dir, *command = sys.argv[1:]
    says = unit(Path(path))
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda signum, _: stopping.append(signum))
    while True:
        service = subprocess.Popen(command)
        told_s = 0.0
        while service.poll() is None:
            if stopping and not told_s:
                told_s = time.monotonic()
                service.terminate()
            if told_s and time.monotonic() - told_s > seconds(says["TimeoutStopSec"]):
                service.kill()
            reap(service.pid)
            time.sleep(0.01)
        if says.get("KillMode") != "process":
            for left in psutil.Process().children(recursive=True):
                left.kill()
        if says.get("RuntimeDirectoryPreserve") != "yes":
            shutil.rmtree(run_dir, ignore_errors=True)
        if stopping or says.get("Restart") != "always":
            sys.exit(service.returncode)
        until = time.monotonic() + seconds(says["RestartSec"])
        while time.monotonic() < until:
            reap(service.pid)
            time.sleep(0.01)


def reap(service: int) -> None:
    """Bury who has come to us, and leave the service to Popen."""
    for child in psutil.Process().children():
        if child.pid != service:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child.pid, os.WNOHANG)


if __name__ == "__main__":
    main()
