"""What a gateway and a worker at rest have of their own: it is multiplied by every vassal on the machine.

Figures of CPython 3.11 (docs/architecture/memory.md). The bounds leave room for another interpreter, and none for a library
that is suddenly run by each of them, or for memory that is not given back.
"""

import os
import signal
import sys
from pathlib import Path

import pytest

from .harness import Fleet, wait_for
from .harness.fleet import APPS

GATEWAY_KB = 1000 if sys.version_info[:2] == (3, 11) else 1700
"""Elsewhere code that runs a few times adapts itself."""


def private_kb(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(rollup.split("Private_Dirty:")[1].split()[0])


@pytest.fixture
def resting(fleet: Fleet) -> Fleet:
    """Two vassals, so that nothing counts as one's own that it has in common with all others."""
    fleet.vassal("one", wsgi_file=APPS / "hello.py")
    fleet.vassal("two", wsgi_file=APPS / "hello.py")
    fleet.start()
    for name in ("one", "two"):
        for _ in range(3):
            assert fleet.get(name).status == 200
    return fleet


def test_a_gateway_at_rest_has_little_of_its_own(resting: Fleet) -> None:
    """0.7 MB, of 2.4 while it starts."""
    wait_for(lambda: private_kb(resting.pid("gateway", "one")) < GATEWAY_KB, 10, resting.summary)


def test_a_worker_has_little_of_its_own(resting: Fleet) -> None:
    """2.4 MB."""
    assert private_kb(resting.pid("worker", "one")) < 2700


def test_a_gateway_that_has_given_back_supervises_as_before(resting: Fleet) -> None:
    gateway = resting.pid("gateway", "one")
    for _ in range(3):
        wait_for(lambda: private_kb(gateway) < GATEWAY_KB, 10, resting.summary)
        worker = resting.pid("worker", "one")
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda dead=worker: other_worker(resting, dead), 20, resting.summary)
        assert resting.get("one").status == 200
    assert resting.pid("gateway", "one") == gateway


def other_worker(fleet: Fleet, dead: int) -> bool:
    """Whether another one is ready in its place."""
    row = fleet.vassal_status("one")["workers"][0]
    return row["state"] == "ready" and row["pid"] != dead
