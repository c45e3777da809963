"""`emperor keys`: who this host is to others, and what others may do here (`emperor.config.keys` has the files)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from emperor.config.keys import HOST, KeysError, KeyStore, Pair, default_directory
from emperor.config.problems import ConfigError
from emperor.config.sources import default_file, load_settings

_Verb = TypeVar("_Verb", bound=Callable[..., Any])


def _which_keys(verb: _Verb) -> _Verb:
    return click.option(
        "--keys-dir",
        type=click.Path(file_okay=False),
        help="The directory of keys, as of the setting. By default that of this machine's settings file.",
    )(verb)


def _store(keys_dir: str | None) -> KeyStore:
    if keys_dir is None:
        file = os.environ.get("EMPEROR_CONFIG") or default_file()
        try:
            keys_dir = load_settings({}, os.environ, file, os.getcwd()).emperor.keys_dir
        except ConfigError as error:
            raise click.ClickException(f"{error}\n(or say --keys-dir)") from None
    return KeyStore(os.path.abspath(keys_dir or default_directory(os.geteuid(), os.environ)))


@click.group()
def keys() -> None:
    """Keep the keys by which hosts know each other's routers and workers.

    A running emperor sees every change within a second. Keys are printed in single quotes, since a shell reads some of their
    characters.

    \b
    Example, a host `front` with the router, and a host `app1` with workers for its app `shop`:
      front$ emperor keys new                   its own key, which is printed
      app1$  emperor keys new                   the same there
      front$ emperor keys allow 'KEY-OF-APP1' shop
      app1$  emperor keys allow 'KEY-OF-FRONT' tcp://front:5555
      front$ emperor keys show
    """


@keys.command()
@click.argument("name", default=HOST)
@click.option(
    "--force", is_flag=True, help="Also where there is one: whoever knows that must be told of the new one."
)
@_which_keys
def new(name: str, force: bool, keys_dir: str | None) -> None:
    """Make a key pair, and print the public key.

    Without NAME it is the host's: of its router, and of its workers. With the NAME of a vassal it is that of the vassal's
    workers alone: a worker's own code can read the key that it has, so apps that do not trust each other should not share one.

    \b
    Examples:
      emperor keys new
      emperor keys new shop
    """
    # Not before it is needed: no other verb runs ZeroMQ.
    import zmq

    public, secret = zmq.curve_keypair()
    while not public[:1].isalnum():  # a command line would take one that begins with a dash for an option
        public, secret = zmq.curve_keypair()
    with _told():
        _store(keys_dir).add(name, Pair(public.decode(), secret.decode()), force)
    click.echo(public.decode())


@keys.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@_which_keys
def show(as_json: bool, keys_dir: str | None) -> None:
    """Print the public keys of this host, and what those of others may do. Secrets are never printed.

    \b
    Examples:
      emperor keys show
      emperor keys show --json | jq -r .own.host
    """
    with _told():
        store = _store(keys_dir)
        own = {name: store.pair(name).public for name in store.names()}
        allowed = store.allowed()
    if as_json:
        document = {"directory": store.directory, "own": own, "allowed": allowed}
        click.echo(json.dumps(document, indent=1, ensure_ascii=False))
        return
    for name, public in own.items():
        click.echo(f"own      '{public}'  {name}")
    for key, wishes in allowed.items():
        click.echo(f"allowed  '{key}'  {' '.join(wishes)}")
    if not own:
        click.echo(f"{store.directory}: no key yet (emperor keys new)")


@keys.command()
@click.argument("key")
@click.argument("wishes", nargs=-1, required=True, metavar="APP|tcp://HOST:PORT...")
@_which_keys
def allow(key: str, wishes: tuple[str, ...], keys_dir: str | None) -> None:
    """Let workers that have KEY serve APP (`*` is every one), or believe the router at an address if it has KEY.

    \b
    Examples:
      emperor keys allow 'KEY' shop blog
      emperor keys allow 'KEY' tcp://front:5555
    """
    with _told():
        now = _store(keys_dir).allow(key, wishes)
    click.echo(f"'{key}' may be: {' '.join(now)}")


@keys.command()
@click.argument("key")
@click.argument("wishes", nargs=-1, metavar="[APP|tcp://HOST:PORT]...")
@_which_keys
def revoke(key: str, wishes: tuple[str, ...], keys_dir: str | None) -> None:
    """Take KEY's leave to serve APP away, or without one all that it may do.

    Its workers are cut off within a second, and what they had begun is answered 502.

    \b
    Examples:
      emperor keys revoke 'KEY'
      emperor keys revoke 'KEY' blog
    """
    with _told():
        left = _store(keys_dir).revoke(key, wishes)
    click.echo(f"'{key}' may still be: {' '.join(left)}" if left else f"'{key}' may be nothing any more")


class _told:
    """A KeysError is the last line on standard error, and 1."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, KeysError):
            click.echo(f"emperor keys: {error}", err=True)
            sys.exit(1)
