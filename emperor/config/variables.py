"""Text in the place of variables: ``%n`` and the like, ``$(NAME)``, ``@(file)``, ``%(key)``.

As in uWSGI, in four passes: the letters when a line is read (core/io.c `magic_sub`), then, once all lines are
there, the environment, files and keys (core/uwsgi.c `uwsgi_apply_config_pass`), so that ``@($(HOME)/key)``
works and of a repeated key ``%(name)`` is the first value. Where uWSGI keeps what it cannot replace, or drops it,
we say so; docs/reference/dialect.md has the list of differences.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from emperor.config.entries import Entry, Line
from emperor.config.problems import Mistake

# A tenant writes this text and the emperor expands it: placeholders that double each other must not fill its
# memory, nor take its time.
MOST_CHARACTERS = 64 * 1024
_MOST_IN_ALL = 8 * 1024 * 1024
_DEEPEST = 50
_MOST_NUMBER = 2**63

TOLD = ("PATH", "TZ", "TMPDIR", "LANG", "LANGUAGE")
"""What a vassal may know of the emperor's environment, with LC_*: nothing that one tenant should not know of
another."""

_LETTER = re.compile(r"%(.)", re.DOTALL)
_ENVIRONMENT = re.compile(r"\$\(([^()]*)\)")
_FILE = re.compile(r"@\(((?:[^()]|%\([^()]*\))*)\)")
_KEY = re.compile(r"%\(([^()]*)\)")
_NESTED = re.compile(r"%\([^()]*%\(")

_SCHEMES = {
    "exec": "runs a command while the emperor reads; put its output into a file and name the file",
    "http": "fetches from the network while the emperor reads; put the text into a file and name the file",
    "https": "fetches from the network while the emperor reads; put the text into a file and name the file",
    "fd": "reads from a descriptor of uWSGI's; name a file",
    "sym": "reads from uWSGI's binary; name a file",
    "data": "reads from uWSGI's binary; name a file",
    "section": "reads from uWSGI's binary; name a file",
    "call": "calls into uWSGI; put the text into a file and name the file",
    "callint": "calls into uWSGI; put the text into a file and name the file",
    "emperor": "asks a uWSGI Emperor; name a file",
}


@dataclass(frozen=True)
class Place:
    """Where a file is: `path` is absolute, `given` is how it was named, `section` the section asked for by
    name.
    """

    path: str
    given: str
    section: str = ""
    inode: int = 0


@dataclass(frozen=True)
class System:
    """What the letters say of the machine and the emperor. `directory` holds the vassals."""

    directory: str
    hostname: str
    cores: int
    uid: int
    user: str
    gid: int
    group: str
    now_us: int
    version: str
    binary: str


OfFile = Callable[[Place], str]
OfSystem = Callable[[System], str]


def _component(number: int) -> OfFile:
    def component(place: Place) -> str:
        directories = os.path.dirname(place.path).split("/")[1:]
        return directories[number] if number < len(directories) else ""

    return component


def _hash(place: Place) -> str:
    # djb33x, its four bytes in the order in which a little-endian machine keeps them (core/utils.c).
    value = 5381
    for byte in os.fsencode(place.path):
        value = (value * 33 ^ byte) & 0xFFFFFFFF
    return value.to_bytes(4, "little").hex().upper()


# The upper-case letter says the same of the vassal's own file, also in a file that it includes.
OF_FILE: dict[str, tuple[str, OfFile]] = {
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
    "o": ("the file as it was named", lambda place: place.given),
    "x": ("the section, where one was asked for by name", lambda place: place.section),
    "i": ("the file's inode", lambda place: str(place.inode)),
    "j": ("a hash of the file's path", _hash),
}
COMPONENTS: dict[str, OfFile] = {str(number): _component(number) for number in range(10)}
OF_SYSTEM: dict[str, tuple[str, OfSystem]] = {
    "v": ("the directory of the vassals", lambda system: system.directory),
    "V": ("the version of emperor-vassals (in uWSGI: of uWSGI)", lambda system: system.version),
    "h": ("the host's name", lambda system: system.hostname),
    "k": ("the number of processor cores", lambda system: str(system.cores)),
    "u": ("the emperor's uid", lambda system: str(system.uid)),
    "U": ("the emperor's user name", lambda system: system.user),
    "g": ("the emperor's gid", lambda system: str(system.gid)),
    "G": ("the emperor's group name", lambda system: system.group),
    "t": ("the time of reading, in seconds since 1970", lambda system: str(system.now_us // 1_000_000)),
    "T": ("the same, in microseconds", lambda system: str(system.now_us)),
    "b": ("the path of the emperor's program", lambda system: system.binary),
    "[": ("the ESC character, for colours", lambda system: "\033"),
    "%": ("a percent sign", lambda system: "%"),
}


LETTERS = frozenset((*OF_FILE, *map(str.upper, OF_FILE), *COMPONENTS, *OF_SYSTEM))


def references(values: Iterable[Any]) -> set[str]:
    """The names that ``%(name)`` refers to in any of `values`, operands of arithmetic included."""
    return {
        operand
        for value in values
        for text in texts(value)
        for name in _KEY.findall(text)
        for operand in name.split()
    }


def texts(value: Any) -> Iterable[str]:
    """Every text in a value of any format."""
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from texts(item)
        case dict():
            for item in value.values():
                yield from texts(item)


def mapped(value: Any, change: Callable[[str], str]) -> Any:
    """`value` with every text in it changed."""
    match value:
        case str():
            return change(value)
        case list():
            return [mapped(item, change) for item in value]
        case dict():
            return {key: mapped(item, change) for key, item in value.items()}
    return value


def letters(text: str, place: Place, first: Place, system: System, unknown: list[str]) -> str:
    """`text` with the letters replaced; `first` is the vassal's own file. What is no letter of the dialect
    stays and is added to `unknown`.
    """

    def replacement(match: re.Match[str]) -> str:
        letter = match[1]
        if letter in OF_SYSTEM:
            return OF_SYSTEM[letter][1](system)
        if letter in COMPONENTS:
            return COMPONENTS[letter](place)
        if letter.lower() in OF_FILE:
            return OF_FILE[letter.lower()][1](place if letter.islower() else first)
        if letter != "(":
            unknown.append(match[0])
        return match[0]

    return _LETTER.sub(replacement, text) if "%" in text else text


class Expansion:
    """The three later passes over the values of one vassal. `read` gives the text of a file that a line names.

    `unset` gathers what was not replaced as it was written: (reason, hint).
    """

    def __init__(self, environ: Mapping[str, str], read: Callable[[str, Line], str]) -> None:
        self.unset: list[tuple[str, str]] = []
        self._environ = environ
        self._read = read
        self._first: dict[str, Entry] = {}
        self._expanded: dict[tuple[str, bool, bool], str] = {}
        self._spent = 0

    def define(self, entry: Entry) -> None:
        """From here on ``%(key)`` is the value of `entry`, unless it had one before."""
        self._first.setdefault(entry.key, entry)

    def has(self, key: str) -> bool:
        return key in self._first

    def variable(self, name: str, line: Line) -> str | None:
        """The environment variable that the file of `line` may know of; None if there is none."""
        if line.owner is not None and name not in TOLD and not name.startswith("LC_"):
            return None
        return self._environ.get(name)

    def value(self, key: str) -> str:
        """The expanded value of `key`. Raises `Mistake`; KeyError where no line sets it."""
        entry = self._first[key]
        return self.expand(_as_text(entry.value), entry.said, within=(key,))

    def expand(
        self,
        text: str,
        line: Line,
        *,
        own: frozenset[str] | None = None,
        free: bool = False,
        within: tuple[str, ...] = (),
    ) -> str:
        """`text`, which stands on `line`, with every variable replaced. `own`: the text is a template with variables
        of this name, which stay as they are, as does a key that there is not. `free`: the text is an app's, and such a
        key stays, too, which `unset` tells. Written as ``%%(name)`` it stays anywhere. Raises `Mistake`.
        """
        if line.literal or not any(sign in text for sign in ("%(", "$(", "@(")):
            return text
        written = set(_KEY.findall(text))
        if _NESTED.search(text) and own is None:
            raise Mistake("a placeholder stands inside a placeholder", "give the inner one a key of its own")
        text = _ENVIRONMENT.sub(lambda match: self._environment(match[1], line), text)

        def placeholder(match: re.Match[str]) -> str:
            # What came out of the environment or a file may look like a placeholder without being one.
            strict = own is None and match[1] in written
            if strict and match[1] not in self._first and self._stays(match[1], line, free):
                return match[0]
            return self._placeholder(match, strict, own, free, within)

        # To uWSGI a file's name with a placeholder in it is that of no file.
        text = _FILE.sub(lambda match: self._file(_KEY.sub(placeholder, match[1]), line), text)
        text = _KEY.sub(placeholder, text)
        self._spent += len(text)
        if len(text) > MOST_CHARACTERS:
            raise Mistake(f"grows beyond {MOST_CHARACTERS} characters")
        if self._spent > _MOST_IN_ALL:
            raise Mistake(f"the values of this vassal grow beyond {_MOST_IN_ALL} characters in all")
        return text

    def _environment(self, name: str, line: Line) -> str:
        value = self.variable(name, line)
        if value is not None:
            return value
        if name in self._environ:
            reason = f"$({name}) is kept from a file of another user's"
        else:
            reason = f"$({name}) is not set in the emperor's environment"
        self.unset.append((reason, "it stands for nothing"))
        return ""

    def _file(self, name: str, line: Line) -> str:
        scheme, colon, _ = name.partition("://")
        if colon and scheme in _SCHEMES:
            raise Mistake(f"@({scheme}://…) is refused", f"it {_SCHEMES[scheme]}")
        if not name:
            raise Mistake("@() names no file", "write @(/path/of/a/file)")
        return self._read(name, line)

    def _placeholder(
        self,
        match: re.Match[str],
        strict: bool,
        own: frozenset[str] | None,
        free: bool,
        within: tuple[str, ...],
    ) -> str:
        name = match[1]
        if not strict and (name not in self._first or name in within or name in (own or ())):
            return match[0]
        if " " in name.strip():
            return self._arithmetic(name, within)
        return self._of_key(name, within, own, free)

    def _stays(self, name: str, line: Line, free: bool) -> bool:
        """Whether ``%(name)`` stays as it is, where no key is called so."""
        if " " in name.strip():
            return False
        if any(f"%%({name})" in text for text in texts(line.written)):
            return True
        if free:
            reason = f"%({name}) refers to no key of this file and stays as it is"
            self.unset.append((reason, _hint(name)))
        return free

    def _of_key(
        self,
        name: str,
        within: tuple[str, ...],
        own: frozenset[str] | None = None,
        free: bool = False,
    ) -> str:
        if name in within:
            raise Mistake(f"%({name}) refers to itself", " → ".join((*within[within.index(name) :], name)))
        if name not in self._first:
            raise Mistake(f"%({name}) refers to no key of this file", _hint(name))
        if len(within) == _DEEPEST:
            raise Mistake(f"placeholders stand more than {_DEEPEST} deep in each other")
        known = (name, own is not None, free)
        if known not in self._expanded:
            entry = self._first[name]
            self._expanded[known] = self.expand(
                _as_text(entry.value), entry.said, own=own, free=free, within=(*within, name)
            )
        return self._expanded[known]

    def _arithmetic(self, text: str, within: tuple[str, ...]) -> str:
        """From left to right, without precedence; two operands side by side are joined."""
        total, operator = "", ""
        for token in text.split():
            if token in ("++", "--"):
                total = _number(_integer(total, text) + (1 if token == "++" else -1), text)
            elif token in ("+", "-", "*", "/"):
                if operator or total == "":
                    raise Mistake(f"%({text}): {token} stands where a value belongs", "write %(a + 1)")
                operator = token
            else:
                operand = token if token.isascii() and token.isdigit() else self._of_key(token, within)
                if not operator:
                    total += operand
                    continue
                left, right = _integer(total, text), _integer(operand, text)
                if operator == "/" and right == 0:
                    raise Mistake(f"%({text}) divides by zero")
                total, operator = _number(_CALCULATE[operator](left, right), text), ""
        if operator:
            raise Mistake(f"%({text}) ends with {operator}", "write %(a + 1)")
        return total


_CALCULATE: dict[str, Callable[[int, int], int]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    # C's division, which goes towards zero.
    "/": lambda left, right: abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1),
}


def _hint(name: str) -> str:
    """What to do about a ``%(name)`` that no key is called."""
    if any(sign in name for sign in "+*/"):
        return "arithmetic needs blanks around its signs, as in %(a + 1)"
    return f"set {name}, or write %%({name}) for the text itself"


def _integer(text: str, within: str) -> int:
    if not re.fullmatch(r"\s*[+-]?[0-9]{1,19}\s*", text, re.ASCII):
        raise Mistake(f"%({within}) calculates with {text[:40]!r}, which is no whole number")
    return int(text)


def _number(value: int, within: str) -> str:
    if not -_MOST_NUMBER <= value < _MOST_NUMBER:
        raise Mistake(f"%({within}) is beyond 64 bits")
    return str(value)


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise Mistake("refers to a list or a table", "refer to a key with one value")
