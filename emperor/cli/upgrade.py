"""`emperor upgrade`: the running emperor becomes the version that is installed now."""

from __future__ import annotations

import os

import click

from emperor.cli.client import ask, connected, of_place, which_emperor

OUTCOME_S = 150.0
"""A trial has a minute, the moment of quiet behind it twenty seconds, and a router thirty to come up."""

EXIT_ROUTER_STAYS = 1
"""The emperor has become the new version; the router has not."""


@click.command()
@of_place
@which_emperor
@click.option(
    "--program",
    type=click.Path(exists=True, dir_okay=False),
    help="Become this one: the `emperor` of another installation. Without it: what it was started as, as installed now.",
)
@click.option("--keep-router", is_flag=True, help="The router stays as it is.")
@click.option(
    "--router-only", is_flag=True, help="The emperor stays as it is; another router takes the router's place."
)
def upgrade(
    directory: str | None, run_dir: str | None, program: str | None, keep_router: bool, router_only: bool
) -> None:
    """Let the running emperor become the version that is installed now, without losing a request.

    Its process stays: the pid, the sockets, the apps. The new version is first tried beside it; if that does not start, or
    cannot read what is there, the old one goes on and the reason is shown. Then another router takes the place of the one that
    runs: it lets clients in, while the old one finishes what it has, for as long as router-mercy says. The apps serve both.

    Apps keep the code that they were started with: `emperor reload --all` starts them anew, one after the other.

    \b
    Examples:
      pip install --upgrade emperor-vassals && emperor upgrade
      emperor upgrade --program /opt/emperor-0.2/bin/emperor
      emperor upgrade --router-only
    """
    if router_only and (keep_router or program is not None):
        raise click.UsageError("--router-only goes with neither --keep-router nor --program")
    path = None if program is None else os.path.abspath(program)
    what = "only" if router_only else "keep" if keep_router else "replace"
    with connected(directory, run_dir) as channel:
        done = ask(channel, {"op": "upgrade", "program": path, "router": what}, OUTCOME_S)
    if not router_only:
        click.echo(
            f"the emperor (pid {done['pid']}) has gone from version {done['from']} to {done['version']}, "
            f"in {done['took_s']:.2f} s"
        )
    router = done.get("router")
    if router is None or (router["seat"] == router["before"] and not router["stays"]):
        return  # a version before knows of none; or it had died, and the next one is of this version anyway
    stay = False
    for each in router.get("routers", [router]):
        if not each["stays"]:
            click.echo(
                f"router {each['seat']} (pid {each['pid']}) lets clients in; router {each['before']} finishes what it has"
            )
        elif not keep_router:
            click.echo(f"router {each['seat']} (pid {each['pid']}) stays: {each['stays']}", err=True)
            stay = True
    if stay:
        raise SystemExit(EXIT_ROUTER_STAYS)
