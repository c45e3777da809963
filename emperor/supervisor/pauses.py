"""Which vassals are paused, kept in the run directory: an emperor that takes over must not resume what an operator paused.

A file that cannot be written (a full disk) is said, and the pause holds for as long as this emperor lives. After an
ordered stop there is none: the next start serves.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from typing import Any, Protocol

REFUSE, HOLD = "refuse", "hold"


class Logger(Protocol):
    """What is needed of `emperor.log.Log`."""

    def error(self, text: str) -> None: ...


class Kept:
    """The file, written when it changes."""

    def __init__(self, path: str, log: Logger) -> None:
        self._path = path
        self._log = log
        self._saved: dict[str, str] = {}

    def read(self) -> dict[str, str]:
        """Who was paused when the emperor before us ended."""
        self._saved = read(self._path)
        return dict(self._saved)

    def held(self) -> dict[str, Callable[[], None]]:
        """The file, if there has to be one, and how it is written again. That raises OSError."""
        return {self._path: lambda: write(self._path, self._saved)} if self._saved else {}

    def save(self, paused: dict[str, str]) -> None:
        """These are paused now."""
        if paused == self._saved:
            return
        try:
            write(self._path, paused)
            self._saved = paused
        except OSError as error:
            why = f"{error.strerror} ({self._path})"
            self._log.error(f"who is paused cannot be kept for a next emperor: {why}")


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
