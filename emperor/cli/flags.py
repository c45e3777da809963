"""Settings on the command line: a flag for each row of the table, and the settings that all sources make together."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from emperor.config.options import Kind
from emperor.config.problems import ConfigError, Problem
from emperor.config.settings import SETTINGS, Setting, Settings
from emperor.config.sources import default_file, load_settings
from emperor.supervisor.sockets import Address, AddressError

_Verb = TypeVar("_Verb", bound=Callable[..., Any])

_METAVARS = {
    Kind.ADDRESS: "ADDR",
    Kind.ADDRESSES: "ADDR",
    Kind.ROUTERS: "ADDR",
    Kind.BACKPLANE: "ADDR",
    Kind.PATH: "PATH",
    Kind.PATHS: "PATH",
    Kind.ASSIGNMENTS: "KEY=VALUE",
    Kind.COUNT: "N",
    Kind.DURATION: "TIME",
    Kind.SIZE: "SIZE",
    Kind.USER: "USER",
}


class _Value(click.ParamType):  # type: ignore[type-arg]
    """What one row takes. The value stays as it was typed: `load_settings` reads all sources alike."""

    def __init__(self, row: Setting) -> None:
        self.name = _METAVARS.get(row.kind, "VALUE")
        self._row = row

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            parsed = self._row.parse(value)
            if self._row.kind in (Kind.ADDRESS, Kind.ADDRESSES):
                Address.parse(parsed)
        except ValueError as error:
            hint = getattr(error, "hint", None)
            self.fail(f"{error} ({hint})" if hint else str(error), param, ctx)
        return value


def settings_flags(*without: str) -> Callable[[_Verb], _Verb]:
    """The decorator that gives a verb the flag of every setting but `without`. Each arrives as a keyword argument: a
    tuple of what was typed, or None."""

    def decorate(verb: _Verb) -> _Verb:
        for row in reversed(SETTINGS):
            if row.name in without:
                continue
            if row.kind is Kind.FLAG:
                flag = click.option(f"{row.flag}/--no-{row.name}", row.attribute, default=None, help=row.text)
            else:
                flag = click.option(
                    row.flag,
                    row.attribute,
                    type=_Value(row),
                    metavar=_METAVARS.get(row.kind, "VALUE"),
                    multiple=row.kind.repeats,
                    default=None,
                    help=_help(row),
                )
            verb = flag(verb)
        return verb

    return decorate


def settings_of(
    typed: Mapping[str, Any], places: tuple[str, ...], config: str | None, environ: Mapping[str, str]
) -> Settings:
    """The settings that the flags, the environment and the file make together: `config`, else $EMPEROR_CONFIG, else,
    where nothing says what to serve, this machine's. Raises ConfigError."""
    flags: dict[str, tuple[Any, ...]] = {}
    for row in SETTINGS:
        value = typed.get(row.attribute)
        if value not in (None, ()):
            flags[row.name] = value if isinstance(value, tuple) else (value,)
    if places:
        flags["vassals"] = places
    file = config or environ.get("EMPEROR_CONFIG") or None
    if file is None and "vassals" not in flags and "EMPEROR_VASSALS" not in environ:
        file = default_file()
    settings = load_settings(flags, environ, file, os.getcwd())
    problems = []
    for row in SETTINGS:
        if row.kind in (Kind.ADDRESS, Kind.ADDRESSES) and row.name in settings.origins:
            part: Any = settings.router if row.part == "router" else settings.emperor
            value = getattr(part, row.attribute)
            for address in value if row.kind.repeats else (value,):
                try:
                    Address.parse(address)
                except AddressError as error:
                    problems.append(Problem(settings.origins[row.name], None, row.name, str(error)))
    if problems:
        raise ConfigError(problems, settings.warnings)
    return settings


def _help(row: Setting) -> str:
    text = row.text.replace("`", "")
    if row.default not in (None, ()):
        default = row.default if isinstance(row.default, tuple) else (row.default,)
        unit = "s" if row.kind is Kind.DURATION else ""
        text += f" [default: {', '.join(f'{each:g}{unit}' if unit else str(each) for each in default)}]"
    return f"{text} May be repeated." if row.kind.repeats else text
