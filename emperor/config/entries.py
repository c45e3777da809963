"""What every format gives: a list of entries in the order of the file, each with the line it stands on; and,
for whoever asks what a line came to mean, the record of that.
"""

from dataclasses import dataclass, field
from typing import Any

from emperor.config.problems import Problem

SECTIONS = ("vassal", "uwsgi")


@dataclass(frozen=True)
class Owner:
    """Whose a file is, where that is neither the emperor's user nor root: what such a file names is read with
    the rights of this user. `gid` None: the group is that of the user's passwd entry.
    """

    uid: int
    gid: int | None = None


@dataclass(frozen=True)
class Outcome:
    """One thing that came of a line. `kind` is one of ``sets``, ``adds``, ``placeholder``, ``reads``,
    ``logic``, ``skipped``, ``overridden``, ``note``, ``warning``, ``error``.
    """

    kind: str
    text: str


@dataclass(eq=False)
class Line:
    """One line as it was written, and what became of it. `line` 0 is no line of a file. `literal`: the format
    knows no variables. `owner` None: the file may name what the emperor may read. `ini`: the format has no comments
    after a value, and people write them.
    """

    path: str
    line: int
    key: str
    written: Any
    literal: bool = False
    owner: Owner | None = None
    ini: bool = False
    outcomes: list[Outcome] = field(default_factory=list)

    def say(self, kind: str, text: str) -> None:
        """Note an outcome, once."""
        outcome = Outcome(kind, text)
        if outcome not in self.outcomes and len(self.outcomes) < 100:
            self.outcomes.append(outcome)


@dataclass(frozen=True)
class Entry:
    """One key with its value: text or None (a bare key) in INI, any value of the format's elsewhere."""

    key: str
    value: Any
    line: int
    path: str = field(default="", compare=False)
    origin: Line | None = field(default=None, compare=False, repr=False)

    @property
    def said(self) -> Line:
        """The record of the line; one that nobody reads for an entry that came from nowhere."""
        return self.origin or Line(self.path, self.line, self.key, self.value)

    def problem(self, reason: str, hint: str | None = None) -> Problem:
        """Something to say of this entry, at its place."""
        return Problem(self.path, self.line or None, self.key, reason, hint)


@dataclass
class Reading:
    """A file after its format has been undone. Entries are there even if there are problems, so that all
    can be named. `unread` are the sections that were passed over, with the warning that says so, which is
    among `warnings`.
    """

    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    unread: dict[str, Problem] = field(default_factory=dict)
