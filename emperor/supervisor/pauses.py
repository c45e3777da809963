"""Which vassals are paused, kept in the run directory: an emperor that takes over must not resume what an operator paused.

A file that cannot be written (a full disk) is said, and the pause holds for as long as this emperor lives. After an
ordered stop there is none: the next start serves.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

REFUSE, HOLD = "refuse", "hold"


def read(path: str) -> dict[str, str]:
    """Every paused vassal by its name, and how. What cannot be read, or makes no sense, pauses nobody."""
    with contextlib.suppress(OSError, ValueError), open(path, encoding="utf-8") as file:
        found: Any = json.load(file)
        if isinstance(found, dict):
            return {str(name): mode for name, mode in found.items() if mode in (REFUSE, HOLD)}
    return {}


def write(path: str, paused: dict[str, str]) -> None:
    """Whole or not at all. Raises OSError."""
    if not paused:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    fresh = f"{path}.new"
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="utf-8") as file:
        file.write(json.dumps(paused))
    os.rename(fresh, path)
