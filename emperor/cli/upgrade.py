"""`emperor upgrade`: the running emperor becomes the version that is installed now."""

from __future__ import annotations

import os

import click

from emperor.cli.client import ask, connected, which_emperor

OUTCOME_S = 120.0
"""A trial has a minute, and the moment of quiet behind it twenty seconds."""


@click.command()
@which_emperor
@click.option(
    "--program",
    type=click.Path(exists=True, dir_okay=False),
    help="Become this one: the `emperor` of another installation. Without it: what it was started as, as installed now.",
)
def upgrade(directory: str | None, run_dir: str | None, program: str | None) -> None:
    """Let the running emperor become the version that is installed now, without losing a request.

    Its process stays: the pid, the sockets, the apps. The new version is first tried beside it; if that does not start, or
    cannot read what is there, the old one goes on and the reason is shown. The router and the apps serve meanwhile.

    Apps keep the code that they were started with: `emperor reload --all` starts them anew, one after the other.

    \b
    Examples:
      pip install --upgrade emperor-vassals && emperor upgrade
      emperor upgrade --program /opt/emperor-0.2/bin/emperor
    """
    path = None if program is None else os.path.abspath(program)
    with connected(directory, run_dir) as channel:
        done = ask(channel, {"op": "upgrade", "program": path}, OUTCOME_S)
    click.echo(
        f"the emperor (pid {done['pid']}) has gone from version {done['from']} to {done['version']}, "
        f"in {done['took_s']:.2f} s"
    )
