"""What an emperor leaves for the next one: one file per generation, written before its gateway is spawned.

Root-only, since the backplane's token is in it. A file that cannot be read (torn, or another version's)
counts as absent: what it stood for is then started anew.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from typing import Any

from emperor.supervisor.reading import Reading

VERSION = 1


@dataclass(frozen=True)
class GenerationState:
    """What a generation was started from. `was_ready`: all its workers had once loaded the app. `only`: it
    was the only vassal from the start."""

    name: str
    generation: int
    token: str
    started: int
    was_ready: bool
    only: bool
    reading: Reading

    def to_json(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "name": self.name,
            "generation": self.generation,
            "token": self.token,
            "started": self.started,
            "was_ready": self.was_ready,
            "only": self.only,
            "reading": self.reading.to_json(),
        }

    @classmethod
    def from_json(cls, document: Any) -> GenerationState:
        """Raises ValueError."""
        match document:
            case {
                "version": 1,
                "name": str(name),
                "generation": int(generation),
                "token": str(token),
                "started": int(started),
                "was_ready": bool(was_ready),
                "only": bool(only),
                "reading": reading,
            }:
                return cls(name, generation, token, started, was_ready, only, Reading.from_json(reading))
        raise ValueError("the state of a generation: another version's, or damaged")


def write(path: str, state: GenerationState) -> None:
    """Whole or not at all. Raises OSError."""
    # Not synced: it has to outlive its writer, not the machine, whose end nothing that it tells of outlives
    # either.
    fresh = f"{path}.new"
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="utf-8") as file:
        file.write(json.dumps(state.to_json()))  # `dump` to a file goes without the encoder in C
    os.rename(fresh, path)


def read_all(directory: str) -> list[GenerationState]:
    """Every state that can be read, the newest generation of each name first."""
    states = []
    for name in sorted(os.listdir(directory)):
        if not name.endswith(".json"):
            continue
        path = os.path.join(directory, name)
        with (
            contextlib.suppress(OSError, ValueError, KeyError, TypeError),
            open(path, encoding="utf-8") as file,
        ):
            states.append(GenerationState.from_json(json.load(file)))
    return sorted(states, key=lambda state: (state.name, -state.generation))
