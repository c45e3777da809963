"""Each guard is needed: with it left out, a scenario that passes otherwise fails.

The scenarios are the suite's own tests, run again in a pytest of their own with `EMPEROR_TEST_OMIT` set, so that
the switch and the scenario cannot drift apart. A guard that no test needs is a guess.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from emperor.protocol import guards

PROJECT = Path(__file__).parents[2]

NOTICED_BY = {
    # A revoked request is run by both workers.
    "claim": "tests/scenarios/test_revoke.py::test_nobody_waits_behind_a_sleeper[40-0-10-asleep]",
    # An answer to a dead router's client reaches somebody else's request of the same number.
    "epoch": "tests/scenarios/test_router_gone.py::test_a_busy_worker_rejoins_and_its_old_work_is_void",
    "token": "tests/router/test_handshake.py::test_a_hello_that_is_refused",
    "uid": "tests/router/test_handshake.py::test_another_uid_is_refused_even_with_the_token",
    # The tenant's ftruncate kills the router by SIGBUS.
    "seals": "tests/scenarios/test_hostile_tenant.py::test_a_page_cannot_be_truncated",
    "nonce": "tests/router/test_handshake.py::test_a_wrong_nonce_is_refused",
}


def test_every_guard_has_its_scenario() -> None:
    assert NOTICED_BY.keys() == guards.GUARDS


@pytest.mark.slow
@pytest.mark.timeout(110)
@pytest.mark.parametrize("guard", sorted(NOTICED_BY))
def test_without_it_the_scenario_fails(guard: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", NOTICED_BY[guard]],
        cwd=PROJECT,
        env={**os.environ, guards.VARIABLE: guard},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    # Failed, and not an error before the test's first line.
    noticed = done.returncode == 1 and " failed" in done.stdout.splitlines()[-1]
    assert noticed, f"{NOTICED_BY[guard]} does not notice that {guard} is left out:\n{done.stdout[-3000:]}"
