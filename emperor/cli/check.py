"""`emperor check`: what an emperor would say of a directory's files, without one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from emperor.config import ConfigError, VassalConfig, list_vassals, load_vassal
from emperor.supervisor.interpreter import WrongInterpreter, argv_of
from emperor.supervisor.names import Names, claims_of


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False))
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def check(directory: str, quiet: bool) -> None:
    """Say what is wrong with the files in DIRECTORY.

    One line per problem: path:line: key: reason (what to do). Exit code 1 if there is an error in any file.
    Apps are not imported.

    \b
    Examples:
      emperor check /etc/vassals
      emperor check . && git commit -a
    """
    errors, warnings, fine = examine(directory)
    for line in errors:
        click.echo(line)
    if not quiet:
        for line in warnings:
            click.echo(f"{line} [warning]")
        for line in fine:
            click.echo(line)
    sys.exit(1 if errors else 0)


def examine(directory: str) -> tuple[list[str], list[str], list[str]]:
    """(errors, warnings, a line for each file that is right), in the order of file names."""
    root = Path(os.path.abspath(directory))
    listing = list_vassals(os.listdir(root), str(root))
    errors = [str(problem) for problem in listing.refused]
    warnings: list[str] = []
    fine: list[str] = []
    names = Names()
    for file in listing.vassals.values():
        path = root / file
        try:
            config = load_vassal(path, directory=root)
            argv_of(config.app.virtualenv, config.spawn)
        except ConfigError as error:
            errors += map(str, error.problems)
            warnings += map(str, error.warnings)
            continue
        except WrongInterpreter as error:
            errors.append(f"{path}: {error}")
            continue
        warnings += map(str, config.warnings)
        claims = claims_of(config.name, config.domains, config.default)
        conflicts = names.conflicts(file, claims)
        errors += (f"{path}: {conflict}" for conflict in conflicts)
        if not conflicts:
            names.hold(file, claims)
            fine.append(_line(config))
    return errors, warnings, fine


def _line(config: VassalConfig) -> str:
    app = config.app.module or config.app.wsgi_file
    workers = f"{config.processes} worker{'s' * (config.processes != 1)}"
    return f"{config.path}: {config.name}: {app}, {workers}, {', '.join(config.domains)}"
