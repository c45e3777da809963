"""From a vassal's file to its typed configuration, or to everything that is wrong with it.

The steps are the same for every format: content (bytes that can be a file of ours) → entries (key, value,
line) → dialect (INI only) → answers to keys that are not ours → typed values → what they refer to → what they
say together. Each step adds to one list of problems, so that a file is repaired in one go. Reads files and
the user database; never an app.
"""

import grp
import hashlib
import os
import pwd
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from emperor import __version__
from emperor.config import (
    accesslog,
    announcing,
    balancing,
    dialect,
    hooks,
    options,
    recycling,
    reloading,
    settings,
    sharing,
    surroundings,
    upstreams,
    uwsgi,
    values,
)
from emperor.config.accesslog import AccessLog
from emperor.config.announcing import Announcing
from emperor.config.balancing import Balancing
from emperor.config.deadlines import NO_DEADLINES, Deadlines
from emperor.config.dialect import Dialect
from emperor.config.entries import SECTIONS, Entry, Line, Owner
from emperor.config.files import SIZE_LIMIT, Files
from emperor.config.hooks import Hooks
from emperor.config.layers import NONE, Layers
from emperor.config.listening import NO_LISTENERS, Listening, gathered
from emperor.config.listing import SUFFIXES, route_names, vassal_name
from emperor.config.options import Kind, Option
from emperor.config.problems import ConfigError, Mistake, Problem, Source, in_order
from emperor.config.recycling import Recycling
from emperor.config.reloading import Reloading
from emperor.config.sharing import Sharing
from emperor.config.spec import AppSpec, EngineSpec
from emperor.config.upstreams import Upstreams
from emperor.config.variables import System, references

__all__ = ["FRESH_ONLY", "SIZE_LIMIT", "Examination", "VassalConfig", "examine", "load_vassal", "read_text"]

# The emperor reads tenants' files on its one thread: looking for the nearest name is slow enough (10 ms) to
# be rationed.
_MOST_HINTS = 20
_MOST_PROBLEMS = 100
_MOST_ITEMS = 1000
_MOST_AT_ONCE = 65536

# Seen only by an interpreter that starts with it: a fork of a running one has already read it (or missed it).
FRESH_ONLY = ("PYTHON", "LD_", "MALLOC_", "LC_", "LANG", "GLIBC_TUNABLES")

_PLAIN_LISTS = tuple(
    option
    for option in options.OPTIONS
    if option.kind in (Kind.PATHS, Kind.MODULES) and option.name != "import"
)

# What the values name is made when it is not there.
_MADE = frozenset((Kind.LISTENERS, Kind.SECURE_LISTENERS, Kind.LOG, Kind.PATH, Kind.PATHS))

_OF_UPSTREAMS = frozenset(
    option.name
    for option in options.OPTIONS
    if option.name.startswith(("upstream-", "health-")) or option.name == "maintenance"
)

_OF_TLS = frozenset(("upstream-ca", "upstream-cert", "upstream-key", "upstream-name", "upstream-verify"))

_KINDS_OF_APPS = (
    "exec-",
    "hook-",
    "ws-",
    "reload-on-",
    "evil-reload-on-",
    "harakiri",
    "py-auto",
    "post-fork",
    "worker-",
)

_OF_APPS = frozenset(name for name in options.NAMES if name.startswith(_KINDS_OF_APPS)) | {
    "callable", "need-app", "virtualenv", "pythonpath", "import", "processes", "threads", "threads-stacksize", "gevent",
    "concurrency", "asgi-loop", "lifespan", "loop-lag", "wsgi-on-loop", "spawn", "max-requests", "max-worker-lifetime",
    "preload", "preload-warm-up", "ready-path", "reload-style", "fs-reload", "probation", "canary", "poison-deaths",
}  # fmt: skip

_OF_WORKERS = frozenset({"bulkhead", "reserve", "queue-target", "slow-start"})
"""What is counted by the slots of workers of this host."""

_MEDIA = {
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".xml": "application/xml",
}

COMMENT_HINT = "a comment stands on a line of its own; {!r} is part of the value here"


@dataclass(frozen=True)
class VassalConfig:
    """A vassal as its file describes it. Every path is absolute and was there when the file was read.

    `digest` is the SHA-256 of all that was read, in hex. `domains` are all its routes in lower case, those by its
    name included. `spawn` is "exec" also where `env` sets what only a fresh interpreter sees. `gid` is set
    whenever `uid` is. `warnings` are worth a log line; `notes` only somebody's interest. `options` holds the
    effective value of every option by its name. `sources` is every file that was read or looked for, the
    vassal's own first, as absolute paths: a change of any may change what the vassal is.
    """

    name: str
    path: str
    digest: str
    warnings: tuple[Problem, ...]
    notes: tuple[Problem, ...]
    processes: int
    engine: EngineSpec
    app: AppSpec
    uid: int | None
    gid: int | None
    domains: tuple[str, ...]
    default: bool
    need_app: bool
    spawn: Literal["fork", "exec"]
    queue: int
    queue_timeout_s: float
    request_timeout_s: float
    body_limit: int
    request_buffering: bool
    post_buffering: int
    response_buffer: int
    start_timeout_s: float
    stop_timeout_s: float
    access: AccessLog | None
    request_id: bool
    logto: str | None
    log_max_bytes: int
    log_backup: str | None
    pidfile: str | None
    options: Mapping[str, object]
    sources: tuple[Source, ...]
    listening: Listening = NO_LISTENERS
    announcing: Announcing = announcing.NONE
    manage_script_name: bool = False
    deadlines: Deadlines = NO_DEADLINES
    balancing: Balancing = balancing.ORDINARY
    sharing: Sharing = sharing.ALONE
    recycling: Recycling = recycling.NEVER
    hooks: Hooks = hooks.NONE
    routers: tuple[str, ...] = ()
    remote: bool = False
    preload: bool = False
    warm_up: str = ""
    reloading: Reloading = reloading.ORDINARY
    upstreams: Upstreams = upstreams.NONE

    @property
    def elsewhere(self) -> bool:
        """Nothing of it runs here: others answer its requests."""
        return self.remote or bool(self.upstreams)


@dataclass(frozen=True)
class Examination:
    """Everything that can be said of a vassal's file. `config` is None where `problems` are; `lines` is what
    each line came to mean, in the order in which they were read; `origins` the line that gave each option its
    value, by the option's name (none: the default).
    """

    path: str
    config: VassalConfig | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    notes: tuple[Problem, ...]
    sources: tuple[Source, ...]
    lines: tuple[Line, ...] = ()
    origins: Mapping[str, Line] = field(default_factory=dict)


def load_vassal(
    path: Path,
    *,
    directory: Path,
    environ: Mapping[str, str] | None = None,
    layers: Layers = NONE,
    name: str | None = None,
    system: System | None = None,
) -> VassalConfig:
    """Reads and checks one file. `directory` is where the vassals are (``%v``); `name` is the vassal's, by
    default that of its file; `environ` is what ``$(NAME)`` refers to, by default this process's; `layers` is
    what the emperor adds; `system` what ``%h`` and the like say, by default this machine. Raises ConfigError
    with every problem found.
    """
    found = examine(path, directory=directory, environ=environ, layers=layers, name=name, system=system)
    if found.config is None:
        raise ConfigError(found.problems, found.warnings, found.sources)
    return found.config


def examine(
    path: Path,
    *,
    directory: Path,
    environ: Mapping[str, str] | None = None,
    layers: Layers = NONE,
    name: str | None = None,
    system: System | None = None,
) -> Examination:
    """The same, with what every line came to mean."""
    absolute = os.path.abspath(path)
    files = Files()
    files.asked[absolute] = None
    environ = os.environ if environ is None else environ
    lines = Dialect(absolute, system or this_system(os.path.abspath(directory)), environ, files)
    try:
        if os.path.splitext(absolute)[1] not in SUFFIXES:
            hint = f"its name ends in {' or '.join(SUFFIXES)}"
            raise ConfigError([Problem(absolute, None, None, "is of no known format", hint)])
        try:
            name = vassal_name(os.path.basename(absolute)) if name is None else name
        except ValueError as error:
            # What is no file at all is better called that.
            _readable(files, absolute)
            raise ConfigError([Problem(absolute, None, None, str(error), "rename the file")]) from None
        lines.read(layers)
        file = _File(absolute, lines)
        file.apply_dialect()
        file.answer_foreign_keys()
        file.set_values()
        config = file.finish(name)
    except ConfigError as error:
        return Examination(
            absolute, None, error.problems, error.warnings, (), files.sources, tuple(lines.lines)
        )
    return Examination(
        absolute,
        config,
        (),
        config.warnings,
        config.notes,
        config.sources,
        tuple(lines.lines),
        file.origins,
    )


def this_system(directory: str) -> System:
    """What the letters of the dialect say on this machine, in this process, now."""
    uid, gid = os.getuid(), os.getgid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    try:
        group = grp.getgrgid(gid).gr_name
    except KeyError:
        group = str(gid)
    return System(
        directory=directory,
        hostname=os.uname().nodename,
        cores=os.cpu_count() or 1,
        uid=uid,
        user=user,
        gid=gid,
        group=group,
        now_us=time.time_ns() // 1000,
        version=__version__,
        binary=os.path.abspath(sys.argv[0] or sys.executable),
    )


def read_text(path: str) -> str:
    """The text of a regular file of a reasonable size. Raises ConfigError."""
    return dialect.text_of(_readable(Files(), path), path)


def _readable(files: Files, path: str) -> bytes:
    try:
        return files.read(path).data
    except Mistake as mistake:
        raise ConfigError([Problem(path, None, None, mistake.reason, mistake.hint)]) from None


class _File:
    """One file on its way through the steps: what is left of it, and what is wrong with it so far."""

    def __init__(self, path: str, lines: Dialect) -> None:
        self.origins: dict[str, Line] = {}
        self._path = path
        self._parent = os.path.dirname(path)
        self._dialect = lines
        self._entries = lines.entries
        self._problems = lines.problems
        self._warnings = lines.warnings
        self._notes = lines.notes
        self._hints = 0
        self._said: set[tuple[str, Problem]] = set()
        self._values: dict[str, Any] = {}
        self._entry: dict[str, Entry] = {}

    def apply_dialect(self) -> None:
        """Replaces variables in the values that we use, and drops the keys that are only there to be
        referred to.
        """
        free = self._dialect.referred | self._dialect.declared
        entries = []
        for entry in self._entries:
            if entry.key in free and self._may_be_placeholder(entry.key):
                if entry.key in self._dialect.referred:
                    entry.said.say("placeholder", f"%({entry.key}) stands for {values.shown(entry.value)}")
                else:
                    self._warn(entry, "is no option, and nothing refers to it", self._unknown_hint(entry.key))
                continue
            if entry.value is not None and self._is_used(entry.key):
                try:
                    value = self._dialect.expanded(entry)
                except Mistake as mistake:
                    self._refuse(entry, mistake.reason, mistake.hint)
                    if entry.key in options.NAMES:
                        self._entry.setdefault(options.NAMES[entry.key].name, entry)
                    continue
                entry = replace(entry, value=value)
            entries.append(entry)
        self._entries = entries

    def answer_foreign_keys(self) -> None:
        """Deals with every key that is not ours, and keeps the rest."""
        entries = []
        for entry in self._entries:
            if entry.key in options.NAMES:
                entries.append(entry)
                continue
            known = uwsgi.look_up(entry.key)
            if known is None:
                self._refuse(entry, "unknown key", self._unknown_hint(entry.key))
                continue
            match known.answer:
                case uwsgi.Answer.HOLDS:
                    self._answer_holds(entry, known)
                case uwsgi.Answer.MISSING if entry.key in settings.NAMES:
                    reason = "is a setting of the emperor's: it has no effect in a vassal's file"
                    self._warn(entry, reason, known.text or _of_emperor(entry.key))
                case uwsgi.Answer.MISSING:
                    self._warn(entry, "uWSGI has it, we do not: it has no effect", known.text or None)
                case uwsgi.Answer.GUARD if not wants(entry, known):
                    self._note(entry, "is not there to be turned off")
                case uwsgi.Answer.GUARD:
                    hint = f"{known.text}; remove the line if the app is safe without it"
                    self._refuse(entry, "not supported, and ignoring it would open a door", hint)
                case uwsgi.Answer.DIALECT:
                    self._refuse(
                        entry, "is carried out while the file is read: it cannot stand here", known.text
                    )
                case uwsgi.Answer.UNREAD:
                    self._refuse(entry, "would be read by uWSGI and is not read here", known.text)
        self._entries = entries

    def set_values(self) -> None:
        """Types every value and looks up what it refers to. Options that repeat accumulate, of others the
        last one counts.
        """
        last = {options.NAMES[entry.key].name: entry for entry in self._entries}
        items: Counter[str] = Counter()
        for entry in self._entries:
            option = options.NAMES[entry.key]
            if option.kind.repeats:
                for item in _items(option, entry.value):
                    items[option.name] += 1
                    if items[option.name] > _MOST_ITEMS:
                        if items[option.name] == _MOST_ITEMS + 1:
                            self._refuse(entry, f"has more than {_MOST_ITEMS} values")
                        break
                    if (value := self._typed(option, entry, item)) is not None:
                        self._values.setdefault(option.name, []).append(value)
                        entry.said.say("adds", f"{option.name} += {values.shown_typed(value)}")
            elif last[option.name] is not entry:
                self._overridden(entry, last[option.name])
                continue
            elif (value := self._typed(option, entry, entry.value)) is not None:
                self._values[option.name] = value
                entry.said.say("sets", f"{option.name} = {values.shown_typed(value)}")
            self._entry.setdefault(option.name, entry)
            self.origins.setdefault(option.name, entry.said)

    def _overridden(self, entry: Entry, last: Entry) -> None:
        if entry.path == last.path and entry.line != last.line:
            self._warn(entry, f"is set again in line {last.line}, which counts")
        else:
            entry.said.say("overridden", f"by {last.path}{f':{last.line}' if last.line else ''}")

    def finish(self, name: str) -> VassalConfig:
        """Checks what the values say together. Raises ConfigError if anything was wrong anywhere."""
        effective = {option.name: self._values.get(option.name, option.default) for option in options.OPTIONS}
        module, callable_name = effective["module"], effective["callable"]
        named = [option for option in ("module", "asgi", "wsgi-file") if option in self._entry]
        for option in named[1:]:
            self._refuse_option(option, f"the app is named twice, by {named[0]} and by {option}", "keep one")
        if effective["asgi"] is not None:
            module = effective["asgi"]
            effective["request-buffering"] = self._values.get("request-buffering", False)
        self._check_upstreams(effective, named)
        self._check_remote(effective, named)
        self._check_routers(effective["router"])
        elsewhere = "upstream" in self._entry or _forwards(effective) or effective["remote"]
        if self._dialect.whole and not named and not elsewhere:
            self._problems.append(
                Problem(
                    self._path,
                    None,
                    None,
                    "names no app",
                    "set module = pkg.mod:app or wsgi-file = app.py",
                )
            )
        if module is not None and ":" in module and callable_name is not None:
            if callable_name != module.partition(":")[2]:
                self._warn_option("callable", f"{named[0]} = {module} names it already, which counts")
            callable_name = effective["callable"] = None
        uid, own_gid = effective["uid"] or (None, None)
        gid = own_gid if effective["gid"] is None else effective["gid"]
        if uid is not None and gid is None and "gid" not in self._entry:
            self._refuse_option(
                "uid", f"the system knows no user {uid}, so no group of its own", "set gid, too"
            )
        if (owner := self._dialect.owner) is not None and "uid" not in self._entry:
            self._problems.append(
                Problem(
                    self._path,
                    None,
                    "uid",
                    f"would run as root, since it names no user, and belongs to user {owner.uid}",
                    f"set uid = {owner.uid}, or make it root's own",
                )
            )
        self._check_engine(effective)
        self._check_hooks(uid)
        self._check_log_formats(effective)
        env = tuple(effective["env"])
        if removed := sorted({name for name, _ in env} & set(effective["unenv"])):
            self._warn_option("unenv", f"takes away {', '.join(removed)}, which env sets")
            env = tuple(pair for pair in env if pair[0] not in removed)
        spawn = effective["spawn"]
        fresh = next((variable for variable, _ in env if variable.startswith(FRESH_ONLY)), None)
        if fresh is not None and spawn == "fork":
            spawn = "exec"
            if "spawn" in self._entry:
                self._warn_option(
                    "spawn", f"env sets {fresh}, which only a fresh interpreter sees", "spawn = exec"
                )
        listening = gathered(
            effective,
            uid,
            self._parent,
            self._refuse_option,
            lambda kind, text: surroundings.user(text)[0] if kind == "user" else surroundings.group(text),
        )
        shared = self._sharing(effective, name)
        announced = announcing.of_options(effective, self._parent)
        more = announcing.checked(announced, listening, self._refuse_option)
        listening = replace(listening, listeners=(*listening.listeners, *more))
        if self._problems:
            raise ConfigError(_capped(self._problems), _capped(self._warnings))
        app = AppSpec(
            module=module,
            wsgi_file=effective["wsgi-file"],
            callable=callable_name,
            chdir=effective["chdir"],
            virtualenv=effective["virtualenv"],
            pythonpath=tuple(path for paths in effective["pythonpath"] for path in paths),
            env=env,
            unenv=tuple(effective["unenv"]),
            umask=effective["umask"],
            imports=tuple(effective["import"]),
            chdir_after=effective["chdir2"],
        )
        domains = route_names(name, effective["domain"])
        effective |= {
            "uid": uid,
            "gid": gid,
            "spawn": spawn,
            "env": env,
            "domain": domains,
            "pythonpath": app.pythonpath,
            "unenv": app.unenv,
            "import": app.imports,
        }
        effective |= {option.name: tuple(effective[option.name]) for option in _PLAIN_LISTS}
        forwarded = self._upstreams(effective)
        access = accesslog.of_options(effective, self._entry.keys())
        return VassalConfig(
            name=name,
            path=self._path,
            digest=hashlib.sha256(b"\0".join(self._dialect.contents)).hexdigest(),
            warnings=_capped(self._warnings),
            notes=_capped(self._notes),
            processes=0 if forwarded or effective["remote"] else effective["processes"],
            engine=_engine(effective),
            app=app,
            uid=uid,
            gid=gid,
            domains=domains,
            default=effective["default"],
            need_app=effective["need-app"],
            spawn=spawn,
            queue=effective["queue"],
            queue_timeout_s=effective["queue-timeout"],
            request_timeout_s=effective["request-timeout"],
            body_limit=effective["body-limit"],
            request_buffering=effective["request-buffering"],
            routers=tuple(dict.fromkeys(effective["router"])),
            remote=effective["remote"],
            post_buffering=effective["post-buffering"],
            response_buffer=effective["response-buffer"],
            start_timeout_s=effective["start-timeout"],
            stop_timeout_s=effective["stop-timeout"],
            access=access,
            request_id=access is not None if effective["request-id"] is None else effective["request-id"],
            logto=None if effective["logto"] == accesslog.STDOUT else effective["logto"],
            log_max_bytes=effective["log-maxsize"],
            log_backup=effective["log-backupname"],
            pidfile=effective["pidfile"],
            options=effective,
            sources=self._dialect.files.sources,
            listening=listening,
            announcing=announced,
            manage_script_name=effective["manage-script-name"],
            deadlines=_deadlines(effective),
            balancing=balancing.of_options(effective),
            sharing=shared,
            recycling=recycling.of_options(effective),
            hooks=hooks.of_options(effective),
            preload=effective["preload"],
            warm_up=effective["preload-warm-up"] or "",
            reloading=reloading.of_options(effective, domains),
            upstreams=forwarded,
        )

    def _sharing(self, effective: dict[str, Any], name: str) -> Sharing:
        found = sharing.of_options(effective)
        if found.mirror == name:
            self._refuse_option("mirror", f"{name} is this vassal itself", "name another, or remove the line")
        if effective["canary"] is not None and effective["reload-style"] == "rolling":
            self._warn_option(
                "canary", "has no effect with reload-style = rolling, where both versions answer anyway"
            )
        if found.by and not found.shares:
            self._warn_option("weight-by", "has no effect without a weight")
        return found

    def _check_remote(self, effective: dict[str, Any], named: Sequence[str]) -> None:
        """A vassal that workers of other hosts serve has none here, or it would not say so."""
        if not effective["remote"]:
            return
        for option in (*named, "upstream"):
            if option in self._entry:
                self._refuse_option(
                    "remote",
                    f"excludes {option}: such a vassal has no workers here",
                    "leave remote out: workers of other hosts may serve an app that is here as well",
                )
        for name in sorted((_OF_APPS | {"router", "reserve", "slow-start"}) & self._entry.keys()):
            self._warn_option(name, "has no effect: with remote there are no workers here")

    def _check_routers(self, routers: Sequence[str]) -> None:
        for address, lines in Counter(each.split()[0] for each in set(routers)).items():
            if lines > 1:
                self._refuse_option(
                    "router", f"says two weights of {address}", "keep one line of each router"
                )

    def _check_upstreams(self, effective: dict[str, Any], named: Sequence[str]) -> None:
        """A vassal has an app or upstreams: with both, nobody could say where a request goes."""
        if not _forwards(effective):
            # Where one is named that is none, that is what is wrong.
            for name in _OF_UPSTREAMS & self._entry.keys() if "upstream" not in self._entry else ():
                self._warn_option(name, "has no effect without an upstream")
            return
        if named:
            self._refuse_option(
                "upstream" if effective["upstream"] else "subscriptions",
                f"excludes {named[0]}: a vassal has an app of its own or upstreams",
                "give the upstreams a file of their own, with a domain or path of theirs",
            )
        addresses = Counter(each.address for each in effective["upstream"])
        for address, times in addresses.items():
            if times > 1:
                self._refuse_option("upstream", f"names {address} {times} times", "weight=2")
        if addresses and all(each.backup for each in effective["upstream"]):
            self._warn_option("upstream", "every one is a backup, and there is nobody to stand in for")
        effective["request-buffering"] = self._values.get("request-buffering", False)
        for name in sorted(_OF_APPS & self._entry.keys()):
            self._warn_option(name, "has no effect: a vassal with upstreams has no app of its own")
        for name in sorted(_OF_WORKERS & self._entry.keys()):
            self._warn_option(
                name, "has no effect: it counts slots of workers, and upstreams have max-connections="
            )
        self._text_of(effective, "maintenance", upstreams.MOST_MAINTENANCE)
        self._check_tls(effective)

    def _check_tls(self, effective: dict[str, Any]) -> None:
        """What is said of TLS to upstreams."""
        said = sorted(_OF_TLS & self._entry.keys())
        if not any(each.address.startswith(f"{upstreams.HTTPS}://") for each in effective["upstream"]):
            for name in said:
                self._warn_option(name, "has no effect: no upstream is https://")
            return
        self._text_of(effective, "upstream-ca", upstreams.MOST_PEM, upstreams.certificates)
        chain = self._text_of(effective, "upstream-cert", upstreams.MOST_PEM, upstreams.certificates)
        key = self._text_of(effective, "upstream-key", upstreams.MOST_PEM, upstreams.private_key)
        if effective["upstream-key"] and not effective["upstream-cert"]:
            self._refuse_option("upstream-key", "is of no certificate", "name that in upstream-cert")
        elif chain and not effective["upstream-key"]:
            self._text_of(effective, "upstream-cert", upstreams.MOST_PEM, upstreams.private_key)
        elif chain:
            effective["upstream-cert-text"] = f"{chain}\n{key}"
        if not effective["upstream-verify"]:
            self._warn_option(
                "upstream-verify",
                "off: whoever can answer in the place of an upstream is believed, and reads and changes what is sent there "
                "(name its CA in upstream-ca instead)",
            )
            if "upstream-ca" in said:
                self._warn_option("upstream-ca", "has no effect: upstream-verify is off")

    def _text_of(
        self,
        effective: dict[str, Any],
        name: str,
        most: int,
        check: Callable[[str], str] = lambda text: text,
    ) -> str:
        """The text of the file that an option names, where it names one; kept as ``NAME-text``."""
        path = effective[name]
        if path is None:
            return ""
        try:
            # As whoever names it; and its change is one of this file.
            data = self._dialect.files.read(path, self._entry[name].said.owner).data
            if len(data) > most:
                raise Mistake(f"has more than {most} bytes")
            effective[f"{name}-text"] = check(data.decode())
        except UnicodeDecodeError:
            self._refuse_option(name, f"{path} is not UTF-8", "save it as UTF-8")
        except Mistake as mistake:
            self._refuse_option(name, f"{path} {mistake.reason}", mistake.hint)
        return str(effective.get(f"{name}-text", ""))

    def _upstreams(self, effective: dict[str, Any]) -> Upstreams:
        texts = {name: effective.pop(f"{name}-text", "") for name in ("maintenance", *_OF_TLS)}
        if not _forwards(effective):
            return upstreams.NONE
        return Upstreams(
            upstreams=tuple(effective["upstream"]),
            subscriptions=effective["subscriptions"],
            connect_s=effective["upstream-connect-timeout"],
            first_byte_s=effective["upstream-first-byte-timeout"],
            idle_s=effective["upstream-idle-timeout"],
            total_s=effective["upstream-total-timeout"],
            tunnel_s=effective["upstream-tunnel-timeout"],
            keepalive=effective["upstream-keepalive"],
            health_path=effective["health-path"] or "",
            health_s=effective["health-interval"],
            ping=effective["health-ping"],
            maintenance=texts["maintenance"],
            ca=texts["upstream-ca"],
            cert=texts["upstream-cert"],
            tls_name=effective["upstream-name"] or "",
            verify=effective["upstream-verify"],
            maintenance_type=_MEDIA.get(
                os.path.splitext(effective["maintenance"] or "")[1], "text/html; charset=utf-8"
            ),
        )

    def _check_hooks(self, uid: int | None) -> None:
        if uid in (None, 0):
            return
        for moment in hooks.AS_ROOT:
            for name in (f"hook-{moment}", f"exec-{moment}"):
                if name in self._entry:
                    self._warn_option(name, f"runs as user {uid}; uWSGI would run it as root")

    def _check_engine(self, effective: Mapping[str, Any]) -> None:
        threads, greenlets = effective["threads"], effective["gevent"]
        if effective["preload-warm-up"] and not effective["preload"]:
            self._warn_option("preload-warm-up", "has no effect without preload = true")
        if greenlets and effective["preload"]:
            self._refuse_option("preload", f"excludes gevent = {greenlets}: its loop does not survive a fork")
        if greenlets and effective["wsgi-on-loop"]:
            self._refuse_option(
                "wsgi-on-loop", f"excludes gevent = {greenlets}, which has a loop of its own", "threads = 8"
            )
        if greenlets and threads > 1:
            self._refuse_option("gevent", f"excludes threads = {threads}", "keep one of the two")
        at_once = effective["processes"] * max(threads, greenlets)
        name = "gevent" if greenlets else "threads"
        if effective["asgi"] is not None:
            at_once = effective["processes"] * _limits(effective)[1]
            name = "concurrency" if "concurrency" in self._entry else "processes"
            for option in ("threads", "gevent"):
                if option in self._entry and effective[option] > (option == "threads"):
                    self._refuse_option(
                        option,
                        "is for WSGI: an ASGI app runs its requests on one event loop",
                        "concurrency = 64/256",
                    )
            if effective["wsgi-on-loop"]:
                self._refuse_option(
                    "wsgi-on-loop", "is for WSGI, and the app is named by asgi", "name it by module"
                )
            if effective["preload-warm-up"]:
                self._refuse_option("preload-warm-up", "is for WSGI: an event loop does not survive a fork")
        if at_once > _MOST_AT_ONCE:
            self._refuse_option(
                name,
                f"with {effective['processes']} processes, {at_once} requests at once; at most {_MOST_AT_ONCE}",
            )

    def _is_used(self, key: str) -> bool:
        """Whether the value of `key` is read at all. ``log-format = %(uri)`` must not fail for a
        placeholder that is uWSGI's.
        """
        known = uwsgi.look_up(key)
        return key in options.NAMES or (known is not None and known.answer is uwsgi.Answer.HOLDS)

    def _may_be_placeholder(self, key: str) -> bool:
        """Whether `key` is free. `p` is, although it is an alias of ours: single letters are no options in
        a file of uWSGI's (with `strict`, 2.0.31 refuses them).
        """
        return len(key) == 1 or (key not in options.NAMES and uwsgi.look_up(key) is None)

    def _typed(self, option: Option, entry: Entry, value: Any) -> Any:
        """The typed and looked-up value; None if it is wrong, which is then on record."""
        try:
            typed = self._looked_up(option, entry, option.parse(value))
            self._doubt_comment(option, entry)
            return typed
        except Mistake as mistake:
            comment = values.inline_comment(entry.said.written if entry.said.ini else entry.value)
            self._refuse(entry, mistake.reason, COMMENT_HINT.format(comment) if comment else mistake.hint)
            return None

    def _doubt_comment(self, option: Option, entry: Entry) -> None:
        """A value that is right with what looks like a comment at its end. Raises `Mistake` where a file would be made
        that nobody looks for: nginx waits at app.sock, and the socket is called ``app.sock ; for nginx``.
        """
        comment = values.inline_comment(entry.said.written) if entry.said.ini else None
        # What was found on disk is what was meant.
        if comment is None or option.kind in (Kind.DIRECTORY, Kind.FILE, Kind.VIRTUALENV):
            return
        if option.kind in _MADE:
            raise Mistake("ends in what looks like a comment")
        self._warn(entry, "ends in what looks like a comment", COMMENT_HINT.format(comment))

    def _looked_up(self, option: Option, entry: Entry, value: Any) -> Any:
        owner = entry.said.owner
        match option.kind:
            case Kind.DIRECTORY:
                return surroundings.directory(value, self._parent, owner)
            case Kind.FILE:
                try:
                    return surroundings.file(value, self._app_directory(), owner)
                except Mistake:
                    # Looked for, so that this file is read again once that one is there.
                    self._dialect.files.exists(surroundings.absolute(value, self._app_directory()), owner)
                    raise
            case Kind.VIRTUALENV:
                return surroundings.virtualenv(value, self._app_directory(), owner)
            case Kind.DIRECTORIES:
                found = surroundings.directories(value, self._app_directory(), self._dialect.files, owner)
                if not found:
                    missing = surroundings.absolute(value, self._app_directory())
                    self._warn(entry, f"there is no {missing}", "it has no effect")
                return found
            case Kind.LOG if rest := accesslog.rest_of_logger(entry.value):
                self._rest_of_logger(entry, rest)
                return surroundings.absolute(value, self._app_directory())
            case Kind.LOG if value not in ("off", accesslog.STDOUT):
                return surroundings.absolute(value, self._app_directory())
            case Kind.PATH | Kind.PATHS:
                return surroundings.absolute(value, self._app_directory())
            case Kind.USER:
                return surroundings.user(value, self._speaker(entry))
            case Kind.GROUP:
                return surroundings.group(value, self._speaker(entry))
        return value

    def _speaker(self, entry: Entry) -> Owner | None:
        """Whose word a line is: that of its file's owner, or of a tenant who says what a variable in it stands
        for.
        """
        if entry.said.owner is not None:
            return entry.said.owner
        names, seen = set(references([entry.said.written])), set[str]()
        while names:
            seen.add(name := names.pop())
            for each in self._dialect.entries:
                if each.key == name:
                    if each.said.owner is not None:
                        return each.said.owner
                    names |= references([each.value]) - seen
        return None

    def _rest_of_logger(self, entry: Entry, rest: dict[str, str]) -> None:
        """What a logger of uWSGI's says beside its path is an option here, unless the file sets that one itself."""
        for key, text in rest.items():
            if (name := {"maxsize": "log-maxsize", "backupname": "log-backupname"}.get(key)) is None:
                hint = "keys are logfile, maxsize and backupname"
                self._warn(entry, f"{key!r} of the logger has no effect", hint)
            elif not any(each.key == name for each in self._entries):
                self._values.setdefault(
                    name, self._looked_up(options.NAMES[name], entry, options.NAMES[name].parse(text))
                )
                self.origins.setdefault(name, entry.said)

    def _app_directory(self) -> str:
        """Where the app's own relative paths start: at `chdir`, which uWSGI enters before it looks at them."""
        for entry in reversed(self._entries):
            if entry.key == "chdir" and isinstance(entry.value, str):
                there = surroundings.absolute(entry.value, self._parent)
                # A chdir that is not there is one mistake, named at its line, not one for each path below it.
                return there if surroundings.exists(there, entry.said.owner) else self._parent
        return self._parent

    def _answer_holds(self, entry: Entry, known: uwsgi.Known) -> None:
        if wants(entry, known):
            self._note(entry, "needs no saying here", known.text)
        else:
            self._warn(entry, "cannot be turned off", known.text)

    def _unknown_hint(self, key: str) -> str | None:
        if key in uwsgi.SHORT:
            known = uwsgi.look_up(uwsgi.SHORT[key])
            if known is not None and known.answer is uwsgi.Answer.UNREAD:
                return f"the command line's short form of {known.name}, which is not read: {known.text}"
            return f"the command line's short form; write {uwsgi.SHORT[key]}"
        if key in settings.NAMES:
            return _of_emperor(key)
        if key in SECTIONS or self._hints >= _MOST_HINTS or len(key) > 64:
            return None
        self._hints += 1
        if name := options.nearest(key):
            return f"did you mean {name!r}?"
        name = uwsgi.nearest(key)
        return f"did you mean uWSGI's {name!r}?" if name else None

    def _refuse(self, entry: Entry, reason: str, hint: str | None = None) -> None:
        self._say(self._problems, "error", entry, reason, hint)

    def _refuse_option(self, name: str, reason: str, hint: str | None = None) -> None:
        self._refuse(replace(self._entry[name], key=name), reason, hint)

    def _check_log_formats(self, effective: Mapping[str, Any]) -> None:
        templates = [("log-format", effective["log-format"])]
        templates += [("log-field", template) for _, template in effective["log-field"]]
        for option, template in templates:
            for name, hint in accesslog.unknown(template):
                self._warn_option(option, f"%({name}) is no variable of a log format, and written as -", hint)

    def _warn(self, entry: Entry, reason: str, hint: str | None = None) -> None:
        self._say(self._warnings, "warning", entry, reason, hint)

    def _warn_option(self, name: str, reason: str, hint: str | None = None) -> None:
        self._warn(replace(self._entry[name], key=name), reason, hint)

    def _note(self, entry: Entry, reason: str, hint: str | None = None) -> None:
        self._say(self._notes, "note", entry, reason, hint)

    def _say(self, to: list[Problem], kind: str, entry: Entry, reason: str, hint: str | None) -> None:
        # A line in a loop says the same for each turn.
        if (seen := (kind, problem := entry.problem(reason, hint))) not in self._said:
            self._said.add(seen)
            to.append(problem)
        entry.said.say(kind, reason if hint is None else f"{reason} ({hint})")


def wants(entry: Entry, known: uwsgi.Known) -> bool:
    """Whether a line asks for its option. A flag says no with false and the like; all else is yes, as in
    uWSGI.
    """
    if known.kind != "flag":
        return True
    try:
        return values.flag(entry.value)
    except Mistake:
        return True


def _of_emperor(key: str) -> str:
    """Where a setting belongs that stands in a vassal's file."""
    row = settings.NAMES[key]
    return f"put it into the emperor's settings file, or start the emperor with {row.flag}"


def _forwards(effective: Mapping[str, Any]) -> bool:
    """Whether the requests go to backends, in place of an app."""
    return bool(effective["upstream"]) or effective["subscriptions"]


def _limits(effective: Mapping[str, Any]) -> tuple[int, int]:
    soft, _, hard = effective["concurrency"].partition("/")
    return int(soft), int(hard)


def _interface(effective: Mapping[str, Any]) -> str:
    """The one that the file names; else empty, to be seen."""
    if effective["asgi"] is not None:
        return "asgi"
    return "wsgi" if effective["wsgi-file"] is not None else ""


def _engine(effective: Mapping[str, Any]) -> EngineSpec:
    soft, hard = _limits(effective)
    return EngineSpec(
        interface=_interface(effective),
        soft=soft,
        hard=hard,
        loop=effective["asgi-loop"],
        lifespan=effective["lifespan"],
        lag_s=effective["loop-lag"],
        ws_most=effective["ws-max-size"],
        ws_ping_interval_s=effective["ws-ping-interval"],
        ws_ping_timeout_s=effective["ws-ping-timeout"],
        ws_idle_s=effective["ws-idle-timeout"],
        ws_deflate=effective["ws-deflate"],
        slots=effective["gevent"] or effective["threads"],
        gevent=effective["gevent"] > 0,
        monkey_patch=effective["gevent-monkey-patch"],
        thread_stack_bytes=effective["threads-stacksize"] * 1024,
        file_wrapper=not effective["wsgi-disable-file-wrapper"],
        on_loop=effective["wsgi-on-loop"],
    )


def _deadlines(effective: Mapping[str, Any]) -> Deadlines:
    return Deadlines(
        harakiri_s=effective["harakiri"],
        harakiri_paths=tuple(effective["harakiri-path"]),
        verbose=effective["harakiri-verbose"],
        grace_s=effective["harakiri-graceful-timeout"],
        signal=effective["harakiri-graceful-signal"],
        request_paths=tuple(effective["request-timeout-path"]),
        poison_deaths=effective["poison-deaths"],
    )


def _capped(problems: list[Problem]) -> tuple[Problem, ...]:
    ordered = in_order(problems)
    if len(ordered) <= _MOST_PROBLEMS:
        return ordered
    last, rest = ordered[_MOST_PROBLEMS - 1], len(ordered) - _MOST_PROBLEMS
    return (*ordered[:_MOST_PROBLEMS], Problem(last.path, last.line, None, f"and {rest} more"))


def _items(option: Option, value: Any) -> list[Any]:
    """The items of one occurrence of an option that repeats: several in TOML, where lists and (for `env` and limits
    by path) tables are values.
    """
    if isinstance(value, list):
        return value
    if isinstance(value, dict) and option.kind.is_table:
        return list(value.items())
    return [value]
