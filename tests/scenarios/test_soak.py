"""The short form of `make soak`: every act once or a few times under load, workers killed, and nothing dropped."""

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(400)
def test_nothing_is_dropped() -> None:
    argv = [sys.executable, PROJECT / "ops" / "soak" / "run.py", "--share", "0.04"]
    soak = subprocess.run(argv, capture_output=True, text=True, timeout=380, check=False, cwd=PROJECT)
    assert soak.returncode == 0, f"{soak.stdout}\n{soak.stderr}"
