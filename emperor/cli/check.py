"""`emperor check`: what an emperor would say of its vassals' files, without one."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click

from emperor.cli import explain
from emperor.config import ConfigError, VassalConfig, accesslog, list_vassals, rights, values
from emperor.config import loading as loaded
from emperor.config.layers import NONE, Layers
from emperor.config.listening import Listening
from emperor.config.loading import Examination
from emperor.config.problems import Mistake
from emperor.config.settings import EmperorSettings, Settings, layers_of
from emperor.config.sources import load_settings
from emperor.monitors.places import PlaceError, Places, look
from emperor.supervisor.doors import somaxconn
from emperor.supervisor.interpreter import WrongInterpreter, argv_of
from emperor.supervisor.names import Names, claims_of
from emperor.supervisor.sharedout import refusal, warnings_of

_SETTINGS = re.compile(r"^\s*(\[emperor\]|(vassals|emperor)\s*=)", re.MULTILINE)

_LISTENERS = {
    ("uwsgi", False): "socket",
    ("http", False): "http-socket",
    ("http", True): "https-socket",
    ("uwsgi", True): "suwsgi-socket",
}


@dataclass
class Report:
    """What was found: `errors` and `warnings` as lines, `fine` a line for each file that is right, `files` all
    that can be said of each vassal's file.
    """

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    fine: list[str] = field(default_factory=list)
    files: list[Examination] = field(default_factory=list)


@click.command()
@click.argument("paths", type=click.Path(), nargs=-1, metavar="PATH...")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option("--explain", "explaining", is_flag=True, help="Print what each line came to mean.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False),
    help="A settings file: what it adds to every vassal counts, and it names the vassals if no PATH does.",
)
def check(paths: tuple[str, ...], quiet: bool, explaining: bool, as_json: bool, config: str | None) -> None:
    """Say what is wrong with vassals' files, or with a settings file.

    PATH is a directory of vassals, a vassal's file, a pattern in quotes, or a settings file. One line per
    problem: path:line: key: reason (what to do). Exit code 1 if there is an error in any file. Apps are not
    imported.

    \b
    Examples:
      emperor check /etc/vassals
      emperor check --explain /etc/vassals/blog.ini
      emperor check . && git commit -a
    """
    report = Report()
    layers, said = NONE, EmperorSettings()
    if config is not None:
        settings = _settings(config, report)
        if settings is not None:
            said = settings.emperor
            layers = layers_of(said, settings.origins)
            paths = paths or said.vassals
    elif not paths:
        raise click.UsageError("name a directory of vassals, a file, or --config FILE")
    vassals = []
    for path in paths:
        if _is_settings(path):
            _settings(path, report)
        else:
            try:
                vassals.append(os.path.abspath(values.place(path)))
            except Mistake as mistake:
                raise click.UsageError(f"{path}: {mistake.reason} ({mistake.hint})") from None
    if vassals:
        _examine(vassals, layers, said, report)
    _print(report, quiet, explaining, as_json)
    sys.exit(1 if report.errors else 0)


def _print(report: Report, quiet: bool, explaining: bool, as_json: bool) -> None:
    if as_json:
        document = {
            "right": not report.errors,
            "errors": report.errors,
            "warnings": report.warnings,
            "files": [explain.document(each) for each in report.files],
        }
        click.echo(json.dumps(document, indent=2, ensure_ascii=False, default=str))
        return
    if explaining:
        for each in report.files:
            click.echo(explain.explained(each) + "\n")
    for line in report.errors:
        click.echo(line)
    if not quiet:
        for line in report.warnings:
            click.echo(f"{line} [warning]")
        for line in report.fine:
            click.echo(line)


def _is_settings(path: str) -> bool:
    """Whether a file is the emperor's own: it says so in a section or by naming vassals."""
    if not os.path.isfile(path) or os.path.splitext(path)[1] not in (".ini", ".toml"):
        return False
    try:
        return _SETTINGS.search(loaded.read_text(os.path.abspath(path))) is not None
    except ConfigError:
        return False


def _settings(path: str, report: Report) -> Settings | None:
    """The emperor's settings in a file; None if it is wrong, which is then reported."""
    try:
        settings = load_settings({}, {}, path, os.getcwd())
    except ConfigError as error:
        report.errors += map(str, error.problems)
        report.warnings += map(str, error.warnings)
        return None
    if refused := refusal(settings):
        report.errors.append(f"{settings.file}: {refused}")
    report.warnings += map(str, settings.warnings)
    report.fine += (f"{note} [note]" for note in settings.notes)
    report.fine.append(f"{settings.file}: settings of the emperor")
    return settings


def _examine(paths: list[str], layers: Layers, said: EmperorSettings, report: Report) -> None:
    """Examines every vassal of these places, in the order in which they get what two of them want."""
    try:
        places = Places.named(paths)
    except PlaceError as error:
        raise click.UsageError(str(error)) from None
    report.warnings += places.unread()
    names = Names()
    holders: dict[str, str] = {}
    for place in places.places:
        found = look(place)
        if found.trouble:
            report.errors.append(found.trouble)
        if not place.is_pattern:
            listing = list_vassals(map(os.path.basename, found.files), place.path)
            report.errors += map(str, listing.refused)
            found.files = [os.path.join(place.path, file) for file in listing.vassals.values()]
        for path in sorted(found.files):
            try:
                name = place.name(path)
            except ValueError as error:
                report.errors.append(f"{path}: {error} (rename it)")
                continue
            if (holder := holders.setdefault(name, path)) != path:
                report.errors.append(
                    f"{path}: {holder} is the vassal {name!r} already (rename or remove one)"
                )
                continue
            directory = os.path.dirname(path) if place.is_pattern else place.path
            examined = loaded.examine(Path(path), directory=Path(directory), layers=layers, name=name)
            report.files.append(examined)
            _judge(examined, places.key(path), names, said, report)
    report.warnings += _of_sharing(report.files)


def _judge(examined: Examination, key: str, names: Names, said: EmperorSettings, report: Report) -> None:
    # What is wrong with a setting is so for every vassal, and said once.
    for texts, problems in ((report.errors, examined.problems), (report.warnings, examined.warnings)):
        texts += (text for text in map(str, problems) if text not in texts)
    config = examined.config
    if config is None:
        return
    try:
        argv_of(config.app.virtualenv, config.spawn, rights.owner_of(config.uid or 0, config.gid))
    except WrongInterpreter as error:
        line = examined.origins.get("virtualenv")
        where = config.path if line is None or not line.line else f"{line.path}:{line.line}"
        report.errors.append(f"{where}: {error}")
        return
    if config.uid in (None, 0) and said.refuse_root:
        hint = "set uid = NAME of another user"
        report.errors.append(f"{config.path}: uid: would run as root, and refuse-root is set ({hint})")
        return
    if config.uid in (None, 0) and os.geteuid() == 0 and not config.elsewhere:
        report.warnings.append(
            f"{config.path}: uid: runs as root, since it names no other user (set uid = NAME)"
        )
    report.warnings += (f"{config.path}: {text}" for text in warnings_of(config.balancing, said.routers))
    report.warnings += _missing(config)
    report.errors += _of_tls(config)
    claims = claims_of(
        config.name, config.domains, config.default, uid=config.uid, shared=config.sharing.shares
    )
    conflicts = names.conflicts(key, claims)
    report.errors += (f"{config.path}: {conflict}" for conflict in conflicts)
    if not conflicts:
        names.hold(key, claims)
        report.fine.append(_line(config))


def _of_sharing(files: list[Examination]) -> Iterator[str]:
    """What of weights and mirrors has no effect among these files, and has with others."""
    found = [(each, each.config) for each in files if each.config is not None]
    configs = {config.name: config for _, config in found}
    most: dict[str, int] = {}
    for config in configs.values():
        for domain in config.domains:
            most[domain] = max(most.get(domain, 0), config.sharing.weight if config.sharing.shares else 1)
    for each, config in found:
        own = f"{config.name}.localhost".lower()
        empty = [domain for domain in config.domains if not most[domain] and domain != own]
        if empty:
            yield (
                f"{_where(each, 'weight')}: weight: 0, as everybody's who has {empty[0]}: it is answered 503 "
                "(set a weight that is not 0 there or here)"
            )
        name = config.sharing.mirror
        target = configs.get(name)
        if name and target is None:
            yield (
                f"{_where(each, 'mirror')}: mirror: there is no vassal {name} here: no copies are made "
                "(name one that is there)"
            )
        elif name and target is not None and target.uid != config.uid:
            yield (
                f"{_where(each, 'mirror')}: mirror: {name} runs as another user: no copies are made (name one that runs as the "
                "same)"
            )


def _where(examined: Examination, option: str) -> str:
    line = examined.origins.get(option)
    return examined.path if line is None or not line.line else f"{line.path}:{line.line}"


def _missing(config: VassalConfig) -> Iterator[str]:
    """What an app is to make or to use and could not today. It may be there by the time of the start, and the app would
    start without it.
    """
    listening = config.listening
    files = {"pidfile": config.pidfile, "logto": config.logto, "log-backupname": config.log_backup}
    if config.access is not None and config.access.place != accesslog.STDOUT:
        files["access-log"] = config.access.place
    made = [(name, path) for name, path in files.items() if path not in (None, "off")]
    made += [(_LISTENERS[each.kind, bool(each.certificate)], each.path) for each in listening.listeners]
    for name, path in made:
        if path and not os.path.isdir(directory := os.path.dirname(path)):
            yield f"{config.path}: {name}: there is no directory {directory} for {path} (make it, for the app's user)"
    for each in listening.listeners:
        for path in filter(None, (each.certificate, each.key)):
            if not os.path.exists(path):
                name = _LISTENERS[each.kind, True]
                yield f"{config.path}: {name}: there is no {path}, and nobody is served at {each.address} without it"
    most = somaxconn()
    if listening.listeners and Listening.backlog != listening.backlog > most:
        yield f"{config.path}: listen: {listening.backlog}: the kernel allows {most} (sysctl net.core.somaxconn)"


def _of_tls(config: VassalConfig) -> Iterator[str]:
    """What the router would find wrong with certificates, which the emperor does not open: it has no TLS."""
    said = config.upstreams
    if said.ca or said.cert:
        from emperor.router.upstream_tls import context_of  # TLS is large, and most files have none

        try:
            context_of(said.ca, said.cert, verify=True)
        except OSError as error:
            yield f"{config.path}: {error}"


def _line(config: VassalConfig) -> str:
    app = config.app.module or config.app.wsgi_file
    if config.remote:
        return f"{config.path}: {config.name}: workers on other hosts, {', '.join(config.domains)}"
    if config.upstreams:
        named = [str(each) for each in config.upstreams.upstreams]
        named += ["who subscribes"] * config.upstreams.subscriptions
        return f"{config.path}: {config.name}: upstreams {', '.join(named)}, {', '.join(config.domains)}"
    workers = f"{config.processes} worker{'s' * (config.processes != 1)}"
    return f"{config.path}: {config.name}: {app}, {workers}, {', '.join(config.domains)}"
