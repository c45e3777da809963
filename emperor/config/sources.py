"""Where settings come from: the command line, the environment, the settings file. `load_settings` makes one of them.

A settings file is TOML (keys at the top, or in ``[emperor]``) or INI (a section ``[emperor]`` or ``[uwsgi]``). It is the
operator's own: nothing in it is expanded, and a key that is no setting is an error.
"""

import difflib
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emperor.config import ini, loading, options, toml, uwsgi
from emperor.config.entries import Entry
from emperor.config.options import Kind
from emperor.config.problems import ConfigError, Mistake, Problem, in_order
from emperor.config.settings import (
    NAMES,
    PREFIX,
    SETTINGS,
    EmperorSettings,
    RouterSettings,
    Setting,
    Settings,
)

DEFAULT_FILES = ("/etc/emperor.toml", "/etc/emperor.ini")
"""The first that is there is read by an ``emperor start`` that names neither a directory nor a file."""

SECTIONS = ("uwsgi", "emperor")

_FORMATS = {
    ".ini": lambda text, path: ini.read(text, path, SECTIONS),
    ".toml": lambda text, path: toml.read(text, path, SECTIONS, NAMES),
}


@dataclass(frozen=True)
class _Said:
    """One source's word on one setting. `place` is made for a `Problem`: path, line, key."""

    place: tuple[str, int | None, str]
    origin: str
    directory: str
    items: tuple[Any, ...]


def load_settings(
    flags: Mapping[str, Sequence[Any]],
    environ: Mapping[str, str],
    file: str | None,
    directory: str,
) -> Settings:
    """The settings from `flags` (by name, as typed), `EMPEROR_*` of `environ`, and `file`. Relative paths start at the
    file's own directory in the file, else at `directory`. Raises ConfigError with everything that is wrong."""
    problems: list[Problem] = []
    warnings: list[Problem] = []
    said = {
        **(_from_file(os.path.abspath(file), problems, warnings) if file is not None else {}),
        **_from_environment(environ, directory, problems, warnings),
        **{
            name: _Said(("command line", None, NAMES[name].flag), NAMES[name].flag, directory, tuple(items))
            for name, items in flags.items()
        },
    }
    values: dict[str, Any] = {}
    for name, source in said.items():
        row = NAMES[name]
        try:
            items = [_typed(row, item, source.directory) for item in source.items]
        except Mistake as mistake:
            problems.append(Problem(*source.place, mistake.reason, mistake.hint))
            continue
        values[name] = tuple(items) if row.kind.repeats else items[-1]
    if problems:
        raise ConfigError(problems, warnings)

    def part(named: str) -> dict[str, Any]:
        return {
            row.attribute: values[row.name] for row in SETTINGS if row.part == named and row.name in values
        }

    return Settings(
        EmperorSettings(**part("emperor")),
        RouterSettings(**part("router")),
        {name: source.origin for name, source in said.items()},
        None if file is None else os.path.abspath(file),
        in_order(warnings),
    )


def default_file() -> str | None:
    """The settings file of this machine, if there is one."""
    return next((path for path in DEFAULT_FILES if os.path.exists(path)), None)


def _typed(row: Setting, item: Any, directory: str) -> Any:
    value = row.parse(item)
    if row.kind in (Kind.PATH, Kind.PATHS):
        return os.path.normpath(os.path.join(directory, value))
    return value


def _from_environment(
    environ: Mapping[str, str], directory: str, problems: list[Problem], warnings: list[Problem]
) -> dict[str, _Said]:
    """``EMPEROR_NAME``; a list is split like a shell's words. A container platform sets variables of this prefix too
    (``EMPEROR_PORT``, for a service of this name): what is like none of ours is not ours."""
    said = {}
    for row in SETTINGS:
        value = environ.get(row.variable)
        if value is None:
            continue
        place = ("environment", None, row.variable)
        try:
            items = tuple(shlex.split(value)) if row.kind.repeats else (value,)
        except ValueError as error:
            problems.append(
                Problem(*place, f"{value!r} cannot be split into words: {error}", "close the quote")
            )
            continue
        said[row.name] = _Said(place, row.variable, directory, items)
    known = [row.variable for row in SETTINGS]
    for variable in environ:
        if variable.startswith(PREFIX) and variable not in known:
            near = difflib.get_close_matches(variable, known, 1, 0.9)
            if near:
                warnings.append(
                    Problem("environment", None, variable, "is no setting", f"did you mean {near[0]}?")
                )
    return said


def _from_file(path: str, problems: list[Problem], warnings: list[Problem]) -> dict[str, _Said]:
    read = _FORMATS.get(os.path.splitext(path)[1])
    if read is None:
        hint = f"its name ends in {' or '.join(_FORMATS)}"
        raise ConfigError([Problem(path, None, None, "is of no known format", hint)])
    reading = read(loading.read_text(path), path)
    problems += reading.problems
    warnings += reading.warnings
    said: dict[str, _Said] = {}
    for entry in reading.entries:
        row = NAMES.get(entry.key)
        if row is None:
            problems.append(Problem(path, entry.line, entry.key, *_unknown(entry.key)))
            continue
        items = _items(row, entry)
        before = said.get(row.name)
        if before is not None and row.kind.repeats:
            items = (*before.items, *items)
        elif before is not None:
            warnings.append(Problem(*before.place, f"is set again in line {entry.line}, which counts"))
        place = (path, entry.line, entry.key)
        said[row.name] = _Said(place, f"{path}:{entry.line}", os.path.dirname(path), items)
    return said


def _items(row: Setting, entry: Entry) -> tuple[Any, ...]:
    if row.kind.repeats and isinstance(entry.value, list):
        return tuple(entry.value)
    if row.kind is Kind.ASSIGNMENTS and isinstance(entry.value, dict):
        return tuple(entry.value.items())
    return (entry.value,)


def _unknown(key: str) -> tuple[str, str | None]:
    """(reason, hint) for a key that is no setting."""
    if key in options.NAMES:
        return "is a vassal's option, no setting", f"`vassal-set = {key}=…` gives it to every vassal"
    known = uwsgi.look_up(key)
    if known is not None and known.text:
        return "uWSGI has it, we do not", known.text
    near = difflib.get_close_matches(key.lower().replace("_", "-"), NAMES, 1, 0.75)
    if near:
        return "is no setting", f"did you mean {near[0]!r}?"
    if known is not None:
        return "uWSGI has it, we do not", "remove the line if the emperor is safe without it"
    return "is no setting", "docs/reference/settings.md lists all"
