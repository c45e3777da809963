"""`emperor start`: the one verb that stays."""

from __future__ import annotations

import os
import sys

import click

from emperor.supervisor.sockets import Address, AddressError

DEFAULT_HTTP = "127.0.0.1:8080"


class AddressType(click.ParamType):  # type: ignore[type-arg]
    """HOST:PORT, :PORT, [IPV6]:PORT or unix:PATH."""

    name = "ADDR"

    def convert(
        self, value: str | Address, param: click.Parameter | None, ctx: click.Context | None
    ) -> Address:
        if isinstance(value, Address):
            return value
        try:
            return Address.parse(value)
        except AddressError as error:
            self.fail(str(error), param, ctx)


ADDRESS = AddressType()


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False))
@click.option(
    "--http",
    type=ADDRESS,
    multiple=True,
    default=[DEFAULT_HTTP],
    show_default=True,
    help="Serve HTTP/1.1 here: HOST:PORT, :PORT or unix:PATH. May be repeated.",
)
@click.option(
    "--uwsgi",
    type=ADDRESS,
    multiple=True,
    help="Take the uwsgi protocol here too, as for nginx's uwsgi_pass (uwsgi.sock in the run directory always does). "
    "Whoever can connect can claim any REMOTE_USER. May be repeated.",
)
@click.option("--stats", type=ADDRESS, help="Serve statistics here too (stats.sock always does).")
@click.option(
    "--run-dir",
    type=click.Path(file_okay=False),
    help="Where sockets and state are. By default made from DIRECTORY's path, under /run/emperor for root, else "
    "under $XDG_RUNTIME_DIR.",
)
def start(
    directory: str,
    http: tuple[Address, ...],
    uwsgi: tuple[Address, ...],
    stats: Address | None,
    run_dir: str | None,
) -> None:
    """Serve the vassals in DIRECTORY, in the foreground.

    Each NAME.ini or NAME.toml in it is an app. Drop one in and it is live, edit or touch it and it reloads,
    remove it and it drains and goes. A first TERM or INT (Ctrl-C) finishes what has begun, a second one is
    fast; HUP reloads all. After a kill -9 the apps serve on, and the next start takes them over.

    \b
    Examples:
      emperor start /etc/vassals
      emperor start . --http :8000
      emperor start /etc/vassals --http :80 --http [::1]:8080 --stats 127.0.0.1:9191
    """
    # Here and not above: `emperor --help` need not load what an emperor needs.
    from emperor.emperor import EXIT_FAILED, Options, StartFailed, run

    try:
        code = run(Options(os.path.abspath(directory), http, uwsgi, stats, run_dir))
    except StartFailed as error:
        click.echo(f"emperor: {error}", err=True)
        code = EXIT_FAILED
    sys.exit(code)
