"""Test-only switches that leave one guard out, so that a scenario can show that the guard is needed.

``EMPEROR_TEST_OMIT=claim,token`` in the environment of the emperor reaches every process. A guard whose absence no
scenario notices would be a guess (tests/scenarios/test_guards.py). Production never sets the variable; the emperor
says so loudly in its log when it is set.
"""

import os
from typing import Final

GUARDS: Final = frozenset({"claim", "epoch", "token", "uid", "seals", "nonce"})

VARIABLE: Final = "EMPEROR_TEST_OMIT"

_omitted = frozenset(part.strip() for part in os.environ.get(VARIABLE, "").split(",") if part.strip())

_unknown = _omitted - GUARDS
if _unknown:
    raise RuntimeError(
        f"{VARIABLE} names no guard of ours: {', '.join(sorted(_unknown))}; known: {', '.join(sorted(GUARDS))}"
    )


def omitted(guard: str) -> bool:
    """True when the test asked to leave ``guard`` out. ``guard`` is one of :data:`GUARDS`."""
    return guard in _omitted


def environment() -> dict[str, str]:
    """The variable to pass on to a child process: empty unless a test set it."""
    return {VARIABLE: ",".join(sorted(_omitted))} if _omitted else {}
