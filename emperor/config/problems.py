"""What can be said about a file: one record for errors, warnings and notes alike, and the error that
carries them all.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, or worth knowing, at one place. `line` counts from 1; None is the file as
    a whole.
    """

    path: str
    line: int | None
    key: str | None
    reason: str
    hint: str | None = None

    def __str__(self) -> str:
        place = self.path if self.line is None else f"{self.path}:{self.line}"
        key = "" if self.key is None else f"{self.key}: "
        hint = "" if self.hint is None else f" ({self.hint})"
        return f"{place}: {key}{self.reason}{hint}"


class Source(NamedTuple):
    """A path that was read or looked for, and with whose rights: a user's number, None for the emperor's own.
    Whoever looks there again looks with the same.
    """

    path: str
    uid: int | None = None

    @classmethod
    def from_json(cls, document: object) -> "Source":
        """From the list that `json.dumps` makes of one. Raises ValueError for anything else."""
        match document:
            case [str(path), None | int() as uid]:
                return cls(path, uid)
        raise ValueError("a file that was looked at: a path and a user expected")


class ConfigError(Exception):
    """A file that cannot be a vassal. `problems` is everything that is wrong in it, in the order of its
    lines; `warnings` what else there was to say; `sources` every file that was read or looked for: a change
    of any may put it right. The text is one line a problem.
    """

    def __init__(
        self, problems: Iterable[Problem], warnings: Iterable[Problem] = (), sources: tuple[Source, ...] = ()
    ) -> None:
        self.problems = in_order(problems)
        self.warnings = in_order(warnings)
        self.sources = sources
        super().__init__("\n".join(map(str, self.problems)))


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Problems by line; those of the file as a whole come first."""
    return tuple(sorted(problems, key=lambda problem: problem.line or 0))


class Mistake(ValueError):
    """A value that does not fit its option; the caller adds file, line and key."""

    def __init__(self, reason: str, hint: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
