"""What every format gives: a list of entries in the order of the file, each with the line it stands on."""

from dataclasses import dataclass, field
from typing import Any

from emperor.config.problems import Problem

SECTIONS = ("vassal", "uwsgi")


@dataclass(frozen=True)
class Entry:
    """One key with its value: text or None (a bare key) in INI, any TOML value in TOML."""

    key: str
    value: Any
    line: int


@dataclass
class Reading:
    """A file after its format has been undone. Entries are there even if there are problems, so that all
    can be named.
    """

    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
