"""`emperor run`: one app without a file, for whoever develops it and for platforms that start one app per container.

What the flags say becomes a vassal's file in a temporary directory, which an ordinary emperor serves: there is no
second way to run an app. The directory is gone with the process.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from emperor.cli.flags import settings_flags, settings_of
from emperor.config.problems import ConfigError, Mistake, Problem
from emperor.config.settings import NAMES as SETTING_NAMES

ORPHAN_S = 2.0
"""A killed `emperor run` leaves nothing behind for long: nobody takes it over."""

_ELSEWHERE = (
    "vassals",
    "run-dir",
    "vassal-set",
    "vassals-include",
    "vassals-include-before",
    "vassals-inherit",
    "vassals-inherit-before",
    "refuse-root",
    "orphan-timeout",
)
"""Settings that are about many vassals, or that this verb decides."""


@click.command(context_settings={"ignore_unknown_options": False})
@click.argument("target", metavar="MODULE[:APP]")
@click.option(
    "-w", "--processes", "processes", metavar="N", help="Workers. By default $WEB_CONCURRENCY, else 1."
)
@click.option("--threads", metavar="N", help="Requests that each worker runs at once.")
@click.option(
    "--chdir",
    default=".",
    type=click.Path(exists=True, file_okay=False),
    help="Where the app is: its working directory, and where it is imported from. By default the current one.",
)
@click.option(
    "--env",
    "variables",
    multiple=True,
    metavar="NAME=VALUE",
    help="An environment variable. May be repeated.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="OPTION=VALUE",
    help="Any option of a vassal. May be repeated.",
)
@click.option("--reload", is_flag=True, help="Start the app anew when one of its .py files changes.")
@click.option(
    "--reload-dir",
    "reload_dirs",
    multiple=True,
    type=click.Path(exists=True, file_okay=False),
    help="Watch this directory instead of the app's own; implies --reload. May be repeated.",
)
@settings_flags(*_ELSEWHERE)
def run(
    target: str,
    processes: str | None,
    threads: str | None,
    chdir: str,
    variables: tuple[str, ...],
    assignments: tuple[str, ...],
    reload: bool,
    reload_dirs: tuple[str, ...],
    **typed: Any,
) -> None:
    """Serve one app, without a file, in the foreground.

    The app is a module and, after a colon, its callable or a factory with (); or a file, as app.py or app.py:app. It
    sees the whole environment. With $PORT it is served at 0.0.0.0:$PORT, as platforms expect, else at
    127.0.0.1:8080. Ctrl-C finishes what has begun, a second one is fast. Exit code 1 if the app does not start.

    With --reload the old version goes on serving until the new one has been imported, also when that fails: the
    traceback is shown, and the next change is tried.

    \b
    Examples:
      emperor run shop:app
      emperor run shop:app --reload --http :8000
      emperor run 'shop:create_app()' -w 4 --env DEBUG=1 --set request-timeout=30s
      PORT=8000 WEB_CONCURRENCY=4 emperor run mysite.wsgi
    """
    from emperor.emperor import EXIT_FAILED, Single, StartFailed
    from emperor.emperor import run as run_emperor

    directory = os.path.abspath(chdir)
    sources = tuple(os.path.abspath(each) for each in reload_dirs) or ((directory,) if reload else ())
    place = tempfile.mkdtemp(prefix="emperor-run-")
    code = EXIT_FAILED
    try:
        options = options_of(target, directory, processes, threads, variables, assignments, os.environ)
        file = Path(place, "vassals", f"{name_of(target)}.toml")
        file.parent.mkdir()
        file.write_text(written(options), encoding="utf-8")
        _check(file, options, os.environ)
        for variable in ("EMPEROR_VASSALS", "EMPEROR_RUN_DIR", "EMPEROR_CONFIG"):
            os.environ.pop(variable, None)
        typed["run_dir"] = os.path.join(place, "run")
        typed["orphan_timeout_s"] = f"{ORPHAN_S:g}s"
        if not typed.get("http") and "EMPEROR_HTTP" not in os.environ and os.environ.get("PORT"):
            typed["http"] = (f"0.0.0.0:{_port(os.environ['PORT'])}",)
        settings = settings_of(typed, (str(file.parent),), None, os.environ)
        code = run_emperor(settings, Single(title=target, sources=sources))
    except Mistake as mistake:
        raise click.UsageError(
            f"{mistake.reason} ({mistake.hint})" if mistake.hint else mistake.reason
        ) from None
    except ConfigError as error:
        for problem in error.problems:
            click.echo(f"emperor: {problem}", err=True)
    except StartFailed as error:
        click.echo(f"emperor: {error}", err=True)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    sys.exit(code)


def options_of(
    target: str,
    directory: str,
    processes: str | None,
    threads: str | None,
    variables: tuple[str, ...],
    assignments: tuple[str, ...],
    environ: Mapping[str, str],
) -> list[tuple[str, str]]:
    """The vassal's options as (key, value) pairs, in the order in which they count. Raises Mistake."""
    path, colon, attribute = target.partition(":")
    if path.endswith(".py") or "/" in path:
        app = [("wsgi-file", os.path.join(directory, path))]
        app += [("callable", attribute)] if colon else []
    else:
        app = [("module", target)]
    count = processes or environ.get("WEB_CONCURRENCY") or "1"
    options = [*app, ("chdir", directory), ("processes", count), ("default", "true")]
    if threads is not None:
        options.append(("threads", threads))
    active = environ.get("VIRTUAL_ENV")
    if active and os.path.realpath(active) != os.path.realpath(sys.prefix) and os.path.isdir(active):
        options.append(("virtualenv", active))  # the emperor's own is another one
    options += [("env", variable) for variable in variables]
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not key.strip():
            raise Mistake(f"--set {assignment!r} names no option", "write --set OPTION=VALUE")
        if key.strip() in SETTING_NAMES:
            raise Mistake(
                f"--set {key}: is a setting of the emperor", f"write --{SETTING_NAMES[key.strip()].name}"
            )
        given = value.strip() if equals else "true"
        options.append((key.strip(), _from_here(key.strip(), given, directory)))
    return options


def _from_here(key: str, value: str, directory: str) -> str:
    """`value` with its relative paths from `directory`, where in a vassal's file they would start at the file's own: that
    is a temporary one here. What is no value of this option stays, to be named as the mistake that it is."""
    from emperor.config.dialect import INHERIT, READS
    from emperor.config.options import NAMES, Kind

    if key in READS or key == INHERIT:
        return os.path.join(directory, value)
    option = NAMES.get(key)
    try:
        match None if option is None else option.kind:
            case Kind.DIRECTORY:
                return os.path.join(directory, value)
            case Kind.LISTENERS:
                return _address_from(NAMES[key].parse(value), directory)
            case Kind.SECURE_LISTENERS:
                place, certificate, pem, ciphers = NAMES[key].parse(value)
                files = (os.path.join(directory, each) for each in (certificate, pem))
                return ",".join(filter(None, (_address_from(place, directory), *files, ciphers)))
    except Mistake:
        pass
    return value


def _address_from(address: str, directory: str) -> str:
    path = address.removeprefix("unix:")
    return address if path == address else f"unix:{os.path.join(directory, path)}"


def written(options: list[tuple[str, str]]) -> str:
    """The vassal's file. TOML, since its values are literal; of a key that is there twice the values are a list where
    the option takes several, and the last counts where it does not."""
    from emperor.config.options import NAMES

    values: dict[str, list[str]] = {}
    for key, value in options:
        known = NAMES.get(key)
        name = key if known is None else known.name
        before = values.setdefault(name, [])
        if known is None or not known.kind.repeats:
            before.clear()
        before.append(value)
    lines = []
    for name, items in values.items():
        known = NAMES.get(name)
        repeats = known is not None and known.kind.repeats
        lines.append(f"{_quoted(name)} = {_quoted(items) if repeats else _quoted(items[0])}")
    return "\n".join(lines) + "\n"


def name_of(target: str) -> str:
    """What the app is called: `shop` for shop:app, shop.wsgi:app and web/shop.py."""
    path = target.partition(":")[0]
    stem = (
        os.path.basename(path).removesuffix(".py")
        if "/" in path or path.endswith(".py")
        else path.partition(".")[0]
    )
    return re.sub(r"[^A-Za-z0-9._-]", "-", stem)[:64].strip(".") or "app"


def _check(file: Path, options: list[tuple[str, str]], environ: Mapping[str, str]) -> None:
    """Raises ConfigError whose problems name flags: nobody has written the file."""
    from emperor.config import load_vassal

    flags = {"module": "MODULE:APP", "wsgi-file": "MODULE:APP", "callable": "MODULE:APP", "chdir": "--chdir"}
    flags |= {"env": "--env", "virtualenv": "VIRTUAL_ENV"}
    flags["processes"] = (
        "--processes" if environ.get("WEB_CONCURRENCY") is None else "--processes, WEB_CONCURRENCY"
    )
    flags["threads"] = "--threads"
    try:
        config = load_vassal(file, directory=file.parent)
    except ConfigError as error:
        raise ConfigError(
            each
            if each.path != str(file)
            else Problem(
                "command line",
                None,
                flags.get(each.key, f"--set {each.key}") if each.key else "MODULE:APP",
                each.reason,
                each.hint,
            )
            for each in error.problems
        ) from None
    for each in config.warnings:
        told = f"--set {each.key}: {each.reason}" + (f" ({each.hint})" if each.hint else "")
        click.echo(f"emperor: {told if each.path == str(file) else each}", err=True)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise Mistake(
            f"PORT={text!r} in the environment is no port", "unset it, or name an address with --http"
        )
    return int(text)


def _quoted(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True).replace("\\u007f", "\\u007F").replace("\x7f", "\\u007F")
