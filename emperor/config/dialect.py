"""The step between the lines of an INI file and their values: uWSGI's variables.

Supported are ``%(name)`` (any other key of the file), ``$(NAME)`` (the emperor's environment), ``%%``, and
the variables of the file's own path below. Everything else of the dialect is an error that says so; what is
none of the dialect's (``100%``, ``%z``, ``$x``) is plain text, as in uWSGI. Observed with uWSGI 2.0.31: of a
repeated key ``%(name)`` gives the first value, and placeholders inside a placeholder's value are followed.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from emperor.config.entries import Entry
from emperor.config.problems import Mistake

# In a file that nothing includes, the upper-case letter (the vassal's file) is the same as the lower-case one
# (this file).
VARIABLES: dict[str, tuple[str, Callable[["Place"], str]]] = {
    "n": (
        "the file's name without its extension",
        lambda place: os.path.splitext(os.path.basename(place.path))[0],
    ),
    "s": ("the file's name", lambda place: os.path.basename(place.path)),
    "e": ("the file's extension", lambda place: os.path.splitext(place.path)[1].removeprefix(".")),
    "p": ("the file's absolute path", lambda place: place.path),
    "d": (
        "the file's directory, with a slash at its end",
        lambda place: os.path.join(os.path.dirname(place.path), ""),
    ),
    "c": ("the name of the file's directory", lambda place: os.path.basename(os.path.dirname(place.path))),
    "v": ("the directory of the vassals", lambda place: place.directory),
}
_NOT_YET = frozenset("oOxXiI0123456789jJVhkuUgGtTb[")

# A tenant writes this file and the emperor expands it: placeholders that double each other must not fill its
# memory.
_MOST_CHARACTERS = 64 * 1024
_DEEPEST = 50

_TOKEN = re.compile(
    r"%\((?P<name>[^)]*)\)|\$\((?P<env>[^)]*)\)|@\((?P<source>[^)]*)|%(?P<letter>.)", re.DOTALL
)


@dataclass(frozen=True)
class Place:
    """Where the file is: its absolute path, and the directory that holds the vassals."""

    path: str
    directory: str


def references(values: Iterable[str | None]) -> set[str]:
    """The names that ``%(name)`` refers to in any of `values`, operands of arithmetic included."""
    return {
        operand
        for value in values
        if value is not None
        for match in _TOKEN.finditer(value)
        if match["name"] is not None
        for operand in match["name"].split()
    }


class Expansion:
    """Expands the values of one file. `unset` gathers the environment variables that were asked for and
    are not there.
    """

    def __init__(self, entries: Iterable[Entry], place: Place, environ: Mapping[str, str]) -> None:
        self.unset: list[str] = []
        self._place = place
        self._environ = environ
        self._values: dict[str, str | None] = {}
        self._expanded: dict[str, str] = {}
        for entry in entries:
            self._values.setdefault(entry.key, entry.value)

    def expand(self, value: str, within: tuple[str, ...] = ()) -> str:
        """`value` with every variable replaced. Raises `Mistake` for one that is unknown, circular or not
        supported yet.
        """
        expanded = _TOKEN.sub(lambda match: self._replacement(match, within), value)
        if len(expanded) > _MOST_CHARACTERS:
            raise Mistake(f"grows beyond {_MOST_CHARACTERS} characters")
        return expanded

    def _replacement(self, match: re.Match[str], within: tuple[str, ...]) -> str:
        if (name := match["name"]) is not None:
            return self._placeholder(name, within)
        if (variable := match["env"]) is not None:
            if variable not in self._environ:
                self.unset.append(variable)
            return self._environ.get(variable, "")
        if match["source"] is not None:
            raise Mistake("@(…) is not supported yet", "write the value itself")
        letter: str = match["letter"]
        if letter == "%":
            return "%"
        known = VARIABLES.get(letter.lower())
        if known is not None and letter != "V":
            return known[1](self._place)
        if letter in _NOT_YET:
            raise Mistake(f"%{letter} is not supported yet", "write %% for a percent sign")
        return match[0]

    def _placeholder(self, name: str, within: tuple[str, ...]) -> str:
        if any(character.isspace() for character in name):
            raise Mistake(f"arithmetic as in %({name}) is not supported yet", "write the result")
        if name in within:
            raise Mistake(f"%({name}) refers to itself", " → ".join((*within[within.index(name) :], name)))
        if name not in self._values:
            raise Mistake(f"%({name}) refers to no key of this file", "write %% for a percent sign")
        if len(within) == _DEEPEST:
            raise Mistake(f"placeholders stand more than {_DEEPEST} deep in each other")
        if name not in self._expanded:
            self._expanded[name] = self.expand(self._values[name] or "", (*within, name))
        return self._expanded[name]
