"""The environment of a vassal's processes."""

from __future__ import annotations

import contextlib
import os
import pwd

from emperor.protocol import guards
from emperor.supervisor.reading import Reading

_PASSED_ON = ("PATH", "TZ", "TMPDIR", "LANG", "LANGUAGE")
"""What a vassal gets of the emperor's own, and LC_*: nothing that one tenant should not know of another."""


def environment_of(reading: Reading, whole: bool) -> dict[str, str]:
    """All of it; `whole`: the emperor's own is passed on with nothing left out."""
    env = {
        key: value for key, value in os.environ.items() if whole or key in _PASSED_ON or key.startswith("LC_")
    }
    uid = os.geteuid() if reading.uid is None else reading.uid
    with contextlib.suppress(KeyError):
        user = pwd.getpwuid(uid)
        env |= {
            "USER": user.pw_name,
            "LOGNAME": user.pw_name,
            "HOME": user.pw_dir,
            "SHELL": user.pw_shell,
        }
    if whole:
        env |= os.environ
    for name in reading.app.unenv:
        env.pop(name, None)
    return {**env, **guards.environment(), **dict(reading.app.env)}
