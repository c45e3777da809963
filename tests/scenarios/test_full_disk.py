"""A disk that is full: what cannot be written is named, whoever serves goes on, and room is found by itself."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from .harness import Fleet, wait_for
from .harness.fleet import APPS

HELLO = APPS / "hello.py"


@pytest.fixture
def small(fleet: Fleet) -> Iterator[Fleet]:
    """A fleet whose run directory is a file system of 64 KiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    fleet.run_dir.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=711", "none", fleet.run_dir], check=True)
    yield fleet
    subprocess.run(["umount", "-l", fleet.run_dir], check=True)


def fill(fleet: Fleet) -> None:
    with (fleet.run_dir / "fill").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return


def test_no_room_for_the_state_of_a_generation(small: Fleet) -> None:
    small.vassal("red", wsgi_file=HELLO, env="GREETING=one")
    small.start()
    fill(small)
    pids = small.pids()
    small.vassal("red", wsgi_file=HELLO, env="GREETING=two")
    wait_for(lambda: "No space left" in small.vassal_status("red").get("problem", ""), 10, small.summary)
    assert small.get("red").text == "one"
    paused = small.cli("pause", "red", "--run-dir", small.run_dir)
    assert paused.returncode == 0 and small.get("red").status == 503
    wait_for(
        lambda: "who is paused cannot be kept for a next emperor: No space left" in small.log(), 5, small.log
    )
    assert small.cli("resume", "red", "--run-dir", small.run_dir).returncode == 0
    small.vassal("blue", wsgi_file=HELLO)
    reason = small.wait_state("blue", "BACKOFF")["reason"]
    assert "state/" in reason and "No space left on device" in reason
    (small.run_dir / "fill").unlink()
    small.wait_ready("blue")
    assert small.cli("reload", "red", "--wait", "--run-dir", small.run_dir).returncode == 0
    assert small.get("red").text == "two"
    assert small.pid("emperor") == pids["emperor"]
    small.stop()  # before its run directory goes


def test_a_log_on_a_full_disk_costs_lines_and_nothing_else(fleet: Fleet) -> None:
    fleet.app(
        "loud", "def application(e, s):\n    print('x' * 1000, flush=True); s('200 OK', []); return [b'ok']\n"
    )
    fleet.log_path.symlink_to("/dev/full")
    fleet.start(ready=False)
    fleet.wait_state("loud", "READY")
    assert {fleet.get("loud").text for _ in range(20)} == {"ok"}
    wait_for(lambda: fleet.status()["emperor"]["log_dropped"] > 0, 10, fleet.status)
    assert fleet.cli("reload", "loud", "--wait", "--run-dir", fleet.run_dir).returncode == 0
    fleet.log_path.unlink()
