"""What the lines of a vassal's files come to: the files that they include, their blocks, their variables.

uWSGI carries out such lines as it meets them, from the top (core/config.c): ``include`` puts a file in the
place of the line, ``if-…`` and ``for…`` apply to each line up to their end, one by one, without nesting;
``inherit`` puts its file after everything else. So do we. What is left is one list of entries, in the order in
which they count, each with the file and the line that it comes from.

A tenant may have written all of this, and the emperor reads it on its one thread: files, entries and
characters are bounded, and what a tenant's file names is read with the tenant's rights (`emperor.config.files`).
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from emperor.config import accesslog, ini, jsonfile, settings, toml, variables, yamlfile
from emperor.config.entries import SECTIONS, Entry, Line, Owner, Reading
from emperor.config.files import Files
from emperor.config.layers import NONE, Layers
from emperor.config.options import NAMES, Kind
from emperor.config.problems import ConfigError, Mistake, Problem
from emperor.config.variables import Expansion, Place, System

_MOST_ENTRIES = 10_000
_DEEPEST = 10
_MOST_PATTERN = 200

Form = Callable[[str, str], Reading]
FORMATS: dict[str, Form] = {
    ".ini": ini.read,
    ".toml": toml.read,
    ".yaml": yamlfile.read,
    ".yml": yamlfile.read,
    ".json": jsonfile.read,
    ".js": jsonfile.read,
}

# The key of a line that reads a file, and the format that it insists on.
READS = {"include": None, "ini": ".ini", "yaml": ".yaml", "yml": ".yaml", "json": ".json", "js": ".json"}
INHERIT = "inherit"
SETS = ("set",)
PLACEHOLDERS = ("set-ph", "set-placeholder")
DECLARES = ("declare-option", "declare-option2")
ENDS = ("endif", "end-if", "endfor", "end-for", "end")
LISTS = ("whitelist", "blacklist", "end-whitelist", "end-blacklist")
PRINTS = ("print", "iprint")

ENVIRONMENT_PREFIX = "UWSGI_"
OF_VASSALS = "VASSAL_"
ENVIRONMENT = "the emperor's environment"

# What uWSGI's processes tell each other (core/uwsgi.c, `parse_sys_envs`) is no option.
NO_OPTIONS = frozenset(
    (
        "broodlord-num",
        "emperor-fd",
        "emperor-fd-config",
        "emperor-proxy",
        "jail-pid",
        "original-proc-name",
        "reloads",
        "vassals-dir",
    )
)
SETTINGS = "vassal-set"

# Their values are templates with variables of their own: %(uri) is a request's, not a key's. Those that are ours alone
# are not among them: to an existing file they are words like any other.
OF_REQUESTS = frozenset(name for name, each in accesslog.VARIABLES.items() if not each.ours)
LOG_FORMATS = frozenset(("log-field", "log-format", "logformat"))
TEMPLATES = LOG_FORMATS | frozenset(
    (
        "log-req-encoder",
        "log-encoder",
        "add-header",
        "route",
        "route-run",
        "response-route",
    )
)

# Their values say so many in a hundred, as ``5% 10m``. uWSGI, which would drop such a sign, has none of these options.
PERCENTS = frozenset(name for name, option in NAMES.items() if option.kind in (Kind.CANARY, Kind.MIRROR))

# Their values are the app's own text, in which %(asctime)s is likely and nothing of ours.
FREE = frozenset(name for name, option in NAMES.items() if option.kind is Kind.VARIABLES)


class _Stop(Exception):
    """There is too much of it: what follows is not read."""


@dataclass
class _Block:
    """An open ``if`` or ``for``: each line in it counts once for every one of `items`, which is what ``%(_)``
    stands for.
    """

    key: str
    opened: Line
    items: tuple[str, ...]
    substitutes: bool = True


class Dialect:
    """One reading of one vassal. `entries`, `problems`, `warnings`, `notes` and `lines` are what came of it;
    `referred` are the keys that something refers to, `declared` those that may have any name.
    """

    def __init__(
        self, path: str, system: System, environ: Mapping[str, str], files: Files | None = None
    ) -> None:
        self.entries: list[Entry] = []
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.notes: list[Problem] = []
        self.lines: list[Line] = []
        self.referred: set[str] = set()
        self.declared: set[str] = set()
        self.files = files or Files()
        self.contents: list[bytes] = []
        self.owner: Owner | None = None  # of the vassal's own file
        # A syntax error, or no section at all, is not to be followed by complaints about what is missing.
        self.whole = True
        self._path = path
        self._base = os.path.dirname(path)
        self._system = system
        self._environ = environ
        self._first = Place(path, os.path.basename(path))
        self._expansion = Expansion(environ, self._inlined)
        self._inherits: list[tuple[str, Line]] = []
        self._custom: dict[str, list[tuple[str, str]]] = {}
        self._chain: list[tuple[str, str]] = []
        self._asked: set[tuple[str, str]] = set()
        self._unread: dict[tuple[str, str], Problem] = {}
        self._last_ini = path
        self._block: _Block | None = None
        self._said: set[Problem] = set()
        self._speaks: list[tuple[str, set[str]]] = []
        self._places: Callable[[str], str] = NONE.place
        self._allowed: tuple[Line, frozenset[str]] | None = None
        self._forbidden: tuple[Line, frozenset[str]] | None = None

    # -- reading ------------------------------------------------------------------------------------------

    def read(self, layers: Layers) -> None:
        """Reads the vassal's file and what the emperor's layers add. Raises ConfigError where the file itself
        cannot be read; whatever is wrong further in is among `problems`.
        """
        self._places = layers.place
        try:
            for key, value in _from_environment(self._environ):
                self._added(ENVIRONMENT, ENVIRONMENT, key, value)
            self._inherits += [
                (path, self._layer("vassals-inherit-before", path)) for path in layers.inherit_before
            ]
            self._layered("vassals-include-before", layers.include_before)
            for key, value in layers.settings:
                place = self._places(SETTINGS)
                self._added(SETTINGS, place if place == SETTINGS else f"{place}: {SETTINGS}", key, value)
            self._vassal()
            self._layered("vassals-include", layers.include)
            self._inherits += [(path, self._layer("vassals-inherit", path)) for path in layers.inherit]
            position = 0
            while position < len(self._inherits):
                given, line = self._inherits[position]
                position += 1
                try:
                    self._file(given, line, None)
                except Mistake as mistake:
                    self._refuse(line, mistake)
        except _Stop as stop:
            self.problems.append(Problem(self._path, None, None, str(stop)))
            self.whole = False
        for (path, section), warning in self._unread.items():
            if path == self._path and section not in SECTIONS and (path, section) not in self._asked:
                self.warnings.append(warning)
        self.entries = self._with_custom(self.entries)
        self.referred |= _referred(self._speaks)

    def _vassal(self) -> None:
        try:
            content = self.files.read(self._path)
        except Mistake as mistake:
            raise ConfigError([Problem(self._path, None, None, mistake.reason, mistake.hint)]) from None
        self._first = replace(self._first, inode=content.inode)
        self.owner = content.owner
        text = text_of(content.data, self._path)
        self.contents.append(content.data)
        extension = os.path.splitext(self._path)[1]
        reading = FORMATS[extension](text, self._path)
        self.whole = bool(reading.entries) or not reading.problems
        self._take(reading, self._first, content.owner, extension, "")

    def _take(
        self, reading: Reading, place: Place, owner: Owner | None, extension: str, section: str
    ) -> None:
        """The lines of one file, in order."""
        self.problems += reading.problems
        for name, warning in reading.unread.items():
            self._unread.setdefault((place.path, name), warning)
        unread = list(reading.unread.values())
        self.warnings += [warning for warning in reading.warnings if warning not in unread]
        self._chain.append((place.path, section))
        outer, self._block = self._block, None
        try:
            for entry in reading.entries:
                toml_, ini_ = extension == ".toml", extension == ".ini"
                line = Line(place.path, entry.line, entry.key, entry.value, toml_, owner, ini_)
                self.lines.append(line)
                self._line(entry, line, place)
            if self._block is not None:
                mistake = Mistake("is never ended", f"write {_end_of(self._block.key)}")
                self._refuse(self._block.opened, mistake)
        finally:
            self._block = outer
            self._chain.pop()

    def _line(self, entry: Entry, line: Line, place: Place) -> None:
        key, value = entry.key, entry.value
        if not line.literal:
            unknown: list[str] = []
            key = variables.letters(key, place, self._first, self._system, unknown)
            value = variables.mapped(
                value, lambda text: variables.letters(text, place, self._first, self._system, unknown)
            )
            line.key = key
            if key not in TEMPLATES:
                for letter in unknown:
                    if key in PERCENTS and letter[1:].isspace():
                        continue
                    hint = "uWSGI would drop it; write %% for a percent sign"
                    self._warn(line, f"{letter} is no variable and stays as it is", hint)
        entry = Entry(key, value, entry.line, line.path, line)
        self._speaks.append((key, variables.references([value])))
        try:
            if key in ENDS:
                self._end(entry, line)
            elif key == "else":
                self._else(line)
            elif key in LOOPS or key in CONDITIONS:
                self._begin(entry, line)
            elif self._block is None:
                self._add(entry, line)
            elif not self._block.items:
                line.say("skipped", f"{self._block.key} in line {self._block.opened.line} does not apply")
            else:
                for item in self._block.items:
                    self._add(self._for(entry, item), line)
        except Mistake as mistake:
            self._refuse(line, mistake)

    def _for(self, entry: Entry, item: str) -> Entry:
        assert self._block is not None
        if not self._block.substitutes:
            return entry
        return replace(entry, value=variables.mapped(entry.value, lambda text: text.replace("%(_)", item)))

    def _add(self, entry: Entry, line: Line) -> None:
        """One line that counts."""
        self._permit(entry.key, line)
        match entry.key:
            case key if key in READS:
                for given in _several(entry.value):
                    self._file(self._now(given, line), line, READS[key])
            case key if key == INHERIT:
                for given in _several(entry.value):
                    self._inherits.append((self._now(given, line), line))
                    line.say("reads", f"{self._now(given, line)}, after everything else")
            case key if key in SETS or key in PLACEHOLDERS:
                self._set(entry, line)
            case key if key in DECLARES:
                self._declare(entry, line)
            case key if key in LISTS:
                self._limit(entry, line)
            case key if key in PRINTS:
                text = " ".join(self._now(given, line, free=True) for given in _several(entry.value))
                self.notes.append(entry.problem(f"says {text!r}"))
                line.say("note", f"says {text!r}")
            case "exit":
                raise Mistake("tells to stop here", "remove the line, or make the block around it not apply")
            case _:
                self._append(entry)

    def _append(self, entry: Entry) -> None:
        if len(self.entries) >= _MOST_ENTRIES:
            raise _Stop(f"comes to more than {_MOST_ENTRIES} lines")
        self.entries.append(entry)
        self._expansion.define(entry)

    # -- files --------------------------------------------------------------------------------------------

    def _file(self, given: str, line: Line, extension: str | None) -> None:
        """The lines of another file in the place of one. Raises `Mistake`."""
        name, section = _split_section(given, extension)
        if (scheme := name.partition("://"))[1]:
            raise Mistake(f"{scheme[0]}://… is refused", "name a file")
        path = self._absolute(name) if name else self._last_ini
        extension = extension or os.path.splitext(path)[1]
        if extension not in FORMATS:
            raise Mistake(f"{path} is of no known format", f"its name ends in {', '.join(FORMATS)}")
        if (path, section) in self._chain:
            raise Mistake(f"{path} is being read already", "files must not include each other in a circle")
        if len(self._chain) >= _DEEPEST:
            raise Mistake(f"files include each other more than {_DEEPEST} deep")
        shown = f"{path} [{section}]" if section else path
        if name == "" and path != line.path:
            self._warn(line, f"reads {shown}", "a section alone is one of the INI file that was opened last")
        try:
            content = self.files.read(path, line.owner)
        except Mistake as mistake:
            raise Mistake(f"{path} {mistake.reason}", mistake.hint) from None
        if extension == ".ini":
            self._last_ini = path
        self._asked.add((path, section))
        try:
            text = text_of(content.data, path)
        except ConfigError as error:
            self.problems += error.problems
            return
        self.contents.append(content.data)
        reading = (
            ini.read(text, path, (section,))
            if extension == ".ini" and section
            else FORMATS[extension](text, path)
        )
        line.say("reads", shown)
        self._take(
            reading, Place(path, name or path, section, content.inode), content.owner, extension, section
        )

    def _inlined(self, name: str, line: Line) -> str:
        """What ``@(name)`` stands for: the file's text without the line break at its end."""
        path = self._absolute(name)
        try:
            content = self.files.read(path, line.owner)
        except Mistake as mistake:
            raise Mistake(f"@({name}): {path} {mistake.reason}", mistake.hint) from None
        self.contents.append(content.data)
        if len(content.data) > variables.MOST_CHARACTERS * 4:
            raise Mistake(f"@({name}) grows beyond {variables.MOST_CHARACTERS} characters")
        try:
            text = content.data.decode("utf-8")
        except UnicodeDecodeError:
            raise Mistake(f"@({name}): {path} is not UTF-8") from None
        if "\0" in text:
            raise Mistake(f"@({name}): {path} holds a NUL byte")
        return text.removesuffix("\n").removesuffix("\r")

    def _absolute(self, name: str) -> str:
        # uWSGI's Emperor runs in the directory of the vassals, so that this is where relative names start, in
        # included files too.
        if "\0" in name or "\n" in name:
            raise Mistake("names no file", "a path is one line")
        return os.path.normpath(os.path.join(self._base, name))

    # -- blocks -------------------------------------------------------------------------------------------

    def _begin(self, entry: Entry, line: Line) -> None:
        if self._block is not None:
            where = f"{self._block.key} of line {self._block.opened.line}"
            raise Mistake(f"stands inside {where}", "blocks do not nest, in uWSGI neither")
        self._permit(entry.key, line)
        # Opened before it is decided, or its end would be the next complaint.
        self._block = _Block(entry.key, line, ())
        given = "" if entry.value is None else entry.value
        if isinstance(given, list) and entry.key == "for":
            given = " ".join(map(str, given))
        if not isinstance(given, str):
            raise Mistake("needs text", None)
        text = self._now(given, line)
        if entry.key in LOOPS:
            items = tuple(LOOPS[entry.key](self, text, line))
            line.say("logic", f"{len(items)} times" if items else "not once")
        else:
            wanted, condition = CONDITIONS[entry.key]
            found = condition(self, text, line)
            applies = (found is not None) == wanted
            items = ((text if found is None else found),) if applies else ()
            if not wanted and entry.key in ("if-not-env", "if-not-opt"):
                items = ("",) if applies else ()
            line.say("logic", "applies" if applies else "does not apply")
        self._block.items = items

    def _end(self, entry: Entry, line: Line) -> None:
        if self._block is None:
            raise Mistake("ends nothing", "there is no open if or for above it")
        kind = "for" if self._block.key.startswith("for") else "if"
        if entry.key != "end" and not entry.key.endswith(kind):
            self._warn(line, f"ends {self._block.key} of line {self._block.opened.line}", "as in uWSGI")
        line.say("logic", f"ends {self._block.key} of line {self._block.opened.line}")
        self._block = None

    def _else(self, line: Line) -> None:
        if self._block is None or self._block.key in LOOPS or self._block.key == "else":
            raise Mistake("stands outside of an if", "there is no open if above it")
        applies = not self._block.items
        line.say("logic", "applies" if applies else "does not apply")
        self._block = _Block("else", line, ("",) if applies else (), substitutes=False)

    # -- placeholders, options of the file's own, limits on keys ---------------------------------------------

    def _set(self, entry: Entry, line: Line) -> None:
        for given in _several(entry.value):
            key, equals, value = given.partition("=")
            key, value = key.strip(), value.strip()
            if not key:
                raise Mistake(f"{given!r} names nothing to set", "write name=value")
            if entry.key in PLACEHOLDERS and key in NAMES:
                raise Mistake(f"{key} is an option, no placeholder", f"write {key} = {value}")
            self._permit(key, line)
            self.declared.add(key)
            self._append(replace(entry, key=key, value=value if equals else None))

    def _declare(self, entry: Entry, line: Line) -> None:
        """``name=key=value $1;key=…``: a word that stands for several lines."""
        for given in _several(entry.value):
            name, equals, rules = given.partition("=")
            name = name.strip()
            if not name or not equals or not rules.strip():
                raise Mistake("declares nothing", "write name=option=$1;option=$2")
            if name in NAMES:
                raise Mistake(f"{name} is an option already", "take another name")
            pairs = [rule.partition("=") for rule in rules.split(";") if rule.strip()]
            self._custom[name] = [(key.strip(), value) for key, _, value in pairs]
            self.declared.add(name)
            line.say("logic", f"declares {name}")

    def _with_custom(self, entries: list[Entry]) -> list[Entry]:
        """`entries` with the words that the file declared replaced by what they stand for."""
        if not self._custom:
            return entries
        expanded: list[Entry] = []
        for entry in entries:
            if entry.key not in self._custom:
                expanded.append(entry)
                continue
            line = entry.said
            try:
                arguments = self._now("" if entry.value is None else str(entry.value), line).split()
            except Mistake as mistake:
                self._refuse(line, mistake)
                continue
            for key, value in self._custom[entry.key]:
                if key in self._custom:
                    self._refuse(line, Mistake(f"stands for {key}, which is declared, too", "name an option"))
                    continue
                expanded.append(replace(entry, key=key, value=_filled(value, arguments)))
                line.say("logic", f"{key} = {_filled(value, arguments)}")
        return expanded

    def _limit(self, entry: Entry, line: Line) -> None:
        names = frozenset(" ".join(_several(entry.value)).split()) if entry.value is not None else frozenset()
        match entry.key:
            case "whitelist":
                self._allowed = (line, names)
            case "blacklist":
                self._forbidden = (line, names)
            case "end-whitelist":
                self._allowed = None
            case "end-blacklist":
                self._forbidden = None
        line.say("logic", entry.key)

    def _permit(self, key: str, line: Line) -> None:
        if self._forbidden and key in self._forbidden[1] and key not in LISTS:
            raise Mistake(f"is forbidden by the blacklist of {_at(self._forbidden[0], line)}")
        if self._allowed and key not in self._allowed[1] and key not in LISTS:
            raise Mistake(f"is not in the whitelist of {_at(self._allowed[0], line)}")

    # -- layers -------------------------------------------------------------------------------------------

    def _added(self, source: str, place: str, key: str, value: str) -> None:
        line = Line(place, 0, key, value)
        self.lines.append(line)
        self.declared.add(key)
        try:
            if source == ENVIRONMENT and key in READS:
                self._file(value, line, READS[key])
                return
            if key in READS or key in LOOPS or key in CONDITIONS or key in DECLARES or key == INHERIT:
                raise Mistake("belongs into a file", "name the file in vassals-include")
            self._speaks.append((key, variables.references([value])))
            for letter in _letters_of_files(value):
                hint = "letters are replaced in files only: put the line into one, and name it in vassals-include"
                self._warn(line, f"{letter} stays as it is", hint)
            self._append(Entry(key, value, 0, place, line))
        except Mistake as mistake:
            self._refuse(line, mistake)

    def _layer(self, setting: str, path: str) -> Line:
        line = Line(self._places(setting), 0, setting, path)
        self.lines.append(line)
        return line

    def _layered(self, setting: str, paths: tuple[str, ...]) -> None:
        for path in paths:
            line = self._layer(setting, path)
            try:
                self._file(path, line, None)
            except Mistake as mistake:
                self._refuse(line, mistake)

    # -- expanding ----------------------------------------------------------------------------------------

    def expanded(self, entry: Entry) -> Any:
        """The value of `entry` with its variables replaced. Raises `Mistake`."""
        self._expansion.unset.clear()
        own = OF_REQUESTS if entry.key in LOG_FORMATS else None
        free = entry.key in FREE
        value = variables.mapped(
            entry.value, lambda text: self._expansion.expand(text, entry.said, own=own, free=free)
        )
        self._tell_unset(entry.said)
        if entry.key in LOG_FORMATS:
            for name in sorted(variables.references([value]) & OF_REQUESTS):
                if self._expansion.has(name):
                    hint = f"uWSGI would put the value of the key {name} there"
                    self._warn(entry.said, f"%({name}) is of the request and not the key of this name", hint)
        return value

    def _now(self, text: str, line: Line, free: bool = False) -> str:
        """`text` with what is known so far: an include or a condition cannot wait for the lines below it."""
        self._expansion.unset.clear()
        value = self._expansion.expand(text, line, free=free)
        self._tell_unset(line)
        return value

    def _tell_unset(self, line: Line) -> None:
        for reason, hint in self._expansion.unset:
            self._warn(line, reason, hint)

    # -- conditions and loops -----------------------------------------------------------------------------

    def variable(self, text: str, line: Line) -> str | None:
        name, equals, wanted = text.partition("=")
        value = self._expansion.variable(name, line)
        return None if value is None or (equals and value != wanted) else value

    def option(self, text: str, line: Line) -> str | None:
        name, equals, wanted = text.partition("=")
        self.referred.add(name)
        if not self._expansion.has(name):
            return None
        value = self._expansion.value(name)
        return None if equals and value != wanted else value

    def existing(self, text: str, line: Line) -> str | None:
        return text if self.files.exists(self._absolute(text), line.owner) else None

    def file(self, text: str, line: Line) -> str | None:
        return text if self.files.is_file(self._absolute(text), line.owner) else None

    def directory(self, text: str, line: Line) -> str | None:
        return text if self.files.is_directory(self._absolute(text), line.owner) else None

    def plugin(self, text: str, line: Line) -> str | None:
        return text if re.fullmatch(r"python[0-9.]*", text) else None

    def hostname(self, text: str, line: Line) -> str | None:
        return text if text == self._system.hostname else None

    def hostname_match(self, text: str, line: Line) -> str | None:
        return text if _pattern(text).search(self._system.hostname) else None

    def reload(self, text: str, line: Line) -> str | None:
        """Never: every generation is started anew, from its file as it is."""
        return None

    def words(self, text: str, line: Line) -> list[str]:
        return text.split()

    def matches(self, text: str, line: Line) -> list[str]:
        found = self.files.glob(text, self._base, line.owner)
        if not found:
            self._warn(line, f"nothing matches {text}", "uWSGI would take the pattern itself for a file")
        return found

    def readlines(self, text: str, line: Line) -> list[str]:
        return [each.removesuffix("\r") for each in self._inlined(text, line).split("\n")]

    def times(self, text: str, line: Line) -> list[str]:
        if not re.fullmatch(r"[0-9]{1,6}", text, re.ASCII) or int(text) > _MOST_ENTRIES:
            raise Mistake(f"{text!r} is no number of times", f"write a number up to {_MOST_ENTRIES}")
        return [str(number) for number in range(1, int(text) + 1)]

    # -- saying -------------------------------------------------------------------------------------------

    def _refuse(self, line: Line, mistake: Mistake) -> None:
        problem = Problem(line.path, line.line or None, line.key, mistake.reason, mistake.hint)
        if problem not in self._said:
            self._said.add(problem)
            self.problems.append(problem)
        line.say("error", _said(mistake.reason, mistake.hint))

    def _warn(self, line: Line, reason: str, hint: str) -> None:
        problem = Problem(line.path, line.line or None, line.key, reason, hint)
        if problem not in self._said:
            self._said.add(problem)
            self.warnings.append(problem)
        line.say("warning", _said(reason, hint))


Condition = Callable[[Dialect, str, Line], str | None]
_TESTS: dict[str, Condition] = {
    "env": Dialect.variable,
    "opt": Dialect.option,
    "exists": Dialect.existing,
    "file": Dialect.file,
    "dir": Dialect.directory,
    "plugin": Dialect.plugin,
    "hostname": Dialect.hostname,
    "hostname-match": Dialect.hostname_match,
    "reload": Dialect.reload,
}
# Whether it must hold, and what it asks.
CONDITIONS: dict[str, tuple[bool, Condition]] = {
    **{f"if-{name}": (True, test) for name, test in _TESTS.items()},
    **{f"if-not-{name}": (False, test) for name, test in _TESTS.items()},
    "if-directory": (True, Dialect.directory),
    **{f"if{name}": (True, _TESTS[name]) for name in ("env", "exists", "dir", "plugin")},
}
LOOPS: dict[str, Callable[[Dialect, str, Line], list[str]]] = {
    "for": Dialect.words,
    "for-glob": Dialect.matches,
    "for-readline": Dialect.readlines,
    "for-times": Dialect.times,
}
KEYWORDS = frozenset(
    (
        *READS,
        INHERIT,
        *SETS,
        *PLACEHOLDERS,
        *DECLARES,
        *ENDS,
        *LISTS,
        *PRINTS,
        *CONDITIONS,
        *LOOPS,
        "else",
        "exit",
    )
)
"""The keys that are carried out here and never reach the table of options."""


def text_of(content: bytes, path: str) -> str:
    """The content as text; a byte order mark at the start is dropped. Raises ConfigError."""

    def refusal(offset: int | None, reason: str) -> ConfigError:
        line = None if offset is None else content.count(b"\n", 0, offset) + 1
        return ConfigError([Problem(path, line, None, reason)])

    if not content.strip():
        raise refusal(None, "is empty")
    if (offset := content.find(b"\0")) >= 0:
        raise refusal(offset, "holds a NUL byte")
    try:
        return content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise refusal(error.start, "is not UTF-8") from None


def _from_environment(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """``UWSGI_FOO_BAR=v`` is ``foo-bar = v`` of every vassal, as under uWSGI's Emperor, and ``UWSGI_VASSAL_FOO_BAR``
    takes its place. What is a setting of the emperor and no option of a vassal's is not for vassals.
    """
    given: dict[str, tuple[bool, str]] = {}
    for variable, value in environ.items():
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX)
        meant = name.startswith(OF_VASSALS)
        key = name.removeprefix(OF_VASSALS).lower().replace("_", "-")
        ours = key in settings.NAMES and key not in NAMES
        if key and key not in NO_OPTIONS and not ours and (meant or not given.get(key, (False,))[0]):
            given[key] = (meant, value)
    return [(key, value) for key, (_, value) in given.items()]


def _referred(speaks: list[tuple[str, set[str]]]) -> set[str]:
    """The keys that lines speak of: `speaks` has the key of each line and the names in its value. What a template calls
    by the name of a request's variable is that variable, also in a word that only templates speak of: a dead
    ``user = www-data`` must not pass for a placeholder because a log line has a ``%(user)``.
    """
    templates = set(TEMPLATES)
    for _ in range(_DEEPEST):
        spoken = {name for key, names in speaks if key not in templates for name in names}
        inside = {name for key, names in speaks if key in templates for name in names}
        words = {key for key, _ in speaks if key in inside - spoken - templates and key not in NAMES}
        if not words:
            break
        templates |= words
    return spoken | (inside - OF_REQUESTS)


def _letters_of_files(value: str) -> list[str]:
    """What of the text of a setting would be replaced in a file, in the order in which it stands there."""
    return [f"%{letter}" for letter in re.findall(r"%([A-Za-z0-9])", value) if letter in variables.LETTERS]


def _split_section(given: str, extension: str | None) -> tuple[str, str]:
    """File and section of ``file.ini:section``, ``:section`` or ``file``."""
    name, colon, section = given.rpartition(":")
    if (
        colon
        and not section.startswith("//")
        and (name == "" or name.endswith(".ini") or extension == ".ini")
    ):
        return name, section
    if not given:
        raise Mistake("needs the name of a file")
    return given, ""


def _pattern(text: str) -> re.Pattern[str]:
    """A regular expression that a tenant wrote and the emperor searches a host name with: one that could take
    long is refused.
    """
    hint = "at most three of * + {…}, none of them after a group"
    if len(text) > _MOST_PATTERN or re.search(r"\)[*+?{]|\\[0-9]|\(\?", text):
        raise Mistake(f"{text[:80]!r} is too elaborate a pattern", hint)
    if len(re.findall(r"[*+{]", text)) > 3:
        raise Mistake(f"{text[:80]!r} is too elaborate a pattern", hint)
    try:
        return re.compile(text)
    except (re.error, OverflowError) as error:
        raise Mistake(f"{text[:80]!r} is no regular expression: {error}") from None


def _several(value: Any) -> list[str]:
    """The texts of a line that may have a list in formats that know lists."""
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) for each in values):
        raise Mistake("needs a value" if value is None else "needs text")
    return values


def _filled(value: str, arguments: list[str]) -> str:
    # From the last: $1 is the beginning of $10.
    for number in range(len(arguments), 0, -1):
        value = value.replace(f"${number}", arguments[number - 1])
    return value


def _end_of(key: str) -> str:
    return "endfor" if key.startswith("for") else "endif"


def _at(there: Line, here: Line) -> str:
    return f"line {there.line}" if there.path == here.path else f"{there.path}:{there.line}"


def _said(reason: str, hint: str | None) -> str:
    return reason if hint is None else f"{reason} ({hint})"
