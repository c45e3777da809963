"""`emperor start`: the one verb that stays."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from emperor.cli.flags import settings_flags, settings_of
from emperor.config.problems import ConfigError


@click.command()
@click.argument(
    "directories", nargs=-1, metavar="[DIRECTORY]...", type=click.Path(exists=True, file_okay=False)
)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False),
    help="The settings file, .toml or .ini. Without it and a DIRECTORY: /etc/emperor.toml or /etc/emperor.ini.",
)
@settings_flags("vassals")
def start(directories: tuple[str, ...], config: str | None, **typed: Any) -> None:
    """Serve the vassals in DIRECTORY, in the foreground.

    Each NAME.ini or NAME.toml in it is an app. Drop one in and it is live, edit or touch it and it reloads,
    remove it and it drains and goes. A first TERM or INT (Ctrl-C) finishes what has begun, a second one is
    fast; HUP reloads all. After a kill -9 the apps serve on, and the next start takes them over.

    Every flag is also a variable (EMPEROR_HEAD_TIMEOUT for --head-timeout) and a key of the settings file;
    what the command line says counts most, then the environment.

    \b
    Examples:
      emperor start /etc/vassals
      emperor start . --http :8000
      emperor start /etc/vassals --http :80 --http [::1]:8080 --stats 127.0.0.1:9191
      emperor start --config /etc/emperor.toml
    """
    # Here and not above: `emperor --help` need not load what an emperor needs.
    from emperor.emperor import EXIT_FAILED, StartFailed, run

    try:
        code = run(settings_of(typed, directories, config, os.environ))
    except (StartFailed, ConfigError) as error:
        for line in str(error).splitlines():
            click.echo(f"emperor: {line}", err=True)
        code = EXIT_FAILED
    sys.exit(code)
