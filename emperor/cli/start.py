"""`emperor start`: the one verb that stays."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from emperor.cli.flags import settings_flags, settings_of
from emperor.config.problems import ConfigError


@click.command()
@click.argument("places", nargs=-1, metavar="[PLACE]...")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False),
    help="The settings file, .toml or .ini. Without it and a PLACE: /etc/emperor.toml or /etc/emperor.ini.",
)
@settings_flags("vassals")
def start(places: tuple[str, ...], config: str | None, **typed: Any) -> None:
    """Serve the vassals in each PLACE, in the foreground.

    A PLACE is a directory, each NAME.ini or NAME.toml in it an app, or a pattern of files in quotes, with what
    its last wildcard stands for as the app's name. Drop one in and it is live, edit or touch it and it reloads,
    remove it and it drains and goes. A first TERM or INT (Ctrl-C) finishes what has begun, a second one is
    fast; HUP reloads all, the settings file too. After a kill -9 the apps serve on, and the next start takes them over.

    Every flag is also a variable (EMPEROR_HEAD_TIMEOUT for --head-timeout) and a key of the settings file;
    what the command line says counts most, then the environment.

    \b
    Examples:
      emperor start /etc/vassals
      emperor start . --http :8000
      emperor start /etc/vassals --http :80 --http [::1]:8080 --stats 127.0.0.1:9191
      emperor start /etc/vassals '/srv/*/app.ini'
      emperor start --config /etc/emperor.toml
    """
    # Here and not above: `emperor --help` need not load what an emperor needs.
    from emperor.emperor import EXIT_FAILED, StartFailed, run

    try:
        environ = dict(os.environ)
        code = run(
            settings_of(typed, places, config, environ),
            reread=lambda: settings_of(typed, places, config, environ),
        )
    except (StartFailed, ConfigError) as error:
        for line in str(error).splitlines():
            click.echo(f"emperor: {line}", err=True)
        code = EXIT_FAILED
    sys.exit(code)
