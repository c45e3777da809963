"""The bench runs, counts only clean runs, and leaves nothing behind. Its figures are for a quiet machine, not for a test."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .harness import Orphans

RUN = Path(__file__).parents[2] / "ops" / "bench" / "run.py"


@pytest.mark.slow
def test_one_short_round(orphans: Orphans, tmp_path: Path) -> None:
    # Without granian, which is the bench's own extra.
    stacks = ("emperor", "nginx + uWSGI")
    options = ("--seconds", "1", "--rounds", "1", "--results", tmp_path, "--stacks", *stacks)
    bench = orphans.popen(
        [sys.executable, RUN, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    said, _ = bench.communicate(timeout=100)
    assert bench.returncode == 0, said.decode()
    document = json.loads((tmp_path / "latest.json").read_text())
    assert list(document["rows"]) == ["hello", "wait2", "wait20"]
    for row in document["rows"].values():
        assert row["ratio"] > 0
        for name in stacks:
            figures = row["stacks"][name]
            assert figures["requests_per_s"] > 0
            assert figures["cpu_us"] > 0
            assert figures["p99_ms"] >= figures["p50_ms"] > 0
    assert orphans.end_all() == []
