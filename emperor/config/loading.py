"""From a vassal's file to its typed configuration, or to everything that is wrong with it.

The steps are the same for every format: content (bytes that can be a file of ours) → entries (key, value,
line) → dialect (INI only) → answers to keys that are not ours → typed values → what they refer to → what they
say together. Each step adds to one list of problems, so that a file is repaired in one go. Reads files and
the user database; never an app.
"""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from emperor.config import dialect, ini, options, surroundings, toml, uwsgi, values
from emperor.config.dialect import Expansion, Place
from emperor.config.entries import SECTIONS, Entry, Reading
from emperor.config.layers import NONE, Layers
from emperor.config.listing import SUFFIXES, route_names, vassal_name
from emperor.config.options import Kind, Option
from emperor.config.problems import ConfigError, Mistake, Problem, in_order
from emperor.config.spec import AppSpec

SIZE_LIMIT = 1024 * 1024

# The emperor reads tenants' files on its one thread: looking for the nearest name is slow enough (10 ms) to
# be rationed.
_MOST_HINTS = 20
_MOST_PROBLEMS = 100
_MOST_ITEMS = 1000

_FORMATS = {".ini": ini.read, ".toml": toml.read}

# Seen only by an interpreter that starts with it: a fork of a running one has already read it (or missed it).
FRESH_ONLY = ("PYTHON", "LD_", "MALLOC_", "LC_", "LANG", "GLIBC_TUNABLES")

_COMMENT_HINT = "a comment stands on a line of its own; {!r} is part of the value here"


@dataclass(frozen=True)
class VassalConfig:
    """A vassal as its file describes it. Every path is absolute and was there when the file was read.

    `digest` is the SHA-256 of the content, in hex. `domains` are all its routes in lower case, those by its
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
    start_timeout_s: float
    stop_timeout_s: float
    options: Mapping[str, object]
    sources: tuple[str, ...]


def load_vassal(
    path: Path,
    *,
    directory: Path,
    environ: Mapping[str, str] | None = None,
    layers: Layers = NONE,
    name: str | None = None,
) -> VassalConfig:
    """Reads and checks one file. `directory` is where the vassals are (``%v``); `name` is the vassal's, by default
    that of its file; `environ` is what
    ``$(NAME)`` refers to, by default this process's; `layers` is what the emperor adds. Raises ConfigError
    with every problem found.
    """
    place = Place(os.path.abspath(path), os.path.abspath(directory))
    content = _content(place.path)
    try:
        name = vassal_name(os.path.basename(place.path)) if name is None else name
    except ValueError as error:
        raise ConfigError([Problem(place.path, None, None, str(error), "rename the file")]) from None
    read = _FORMATS[os.path.splitext(place.path)[1]]
    reading = read(_text(content, place.path), place.path)
    reading.entries[:0] = [Entry(key, value, 0) for key, value in layers.settings]
    file = _File(place, reading)
    if read is ini.read:
        file.apply_dialect(os.environ if environ is None else environ)
    file.answer_foreign_keys()
    file.set_values()
    return file.finish(name, hashlib.sha256(content).hexdigest())


def read_text(path: str) -> str:
    """The text of a file of a known format. Raises ConfigError."""
    return _text(_content(path), path)


def _content(path: str) -> bytes:
    """The bytes of a regular file of a known format and a reasonable size."""

    def refusal(reason: str, hint: str | None = None) -> ConfigError:
        return ConfigError([Problem(path, None, None, reason, hint)])

    if os.path.splitext(path)[1] not in _FORMATS:
        raise refusal("is of no known format", f"its name ends in {' or '.join(SUFFIXES)}")
    try:
        # Non-blocking, or a FIFO of this name would hold up the emperor.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        raise refusal("is not there, or no longer") from None
    except OSError as error:
        raise refusal(f"cannot be read: {error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise refusal("is not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise refusal(f"cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(content) > SIZE_LIMIT:
        raise refusal(f"has more than {SIZE_LIMIT} bytes")
    return content


def _text(content: bytes, path: str) -> str:
    """The content as text; a byte order mark at the start is dropped. Raises ConfigError."""

    def refusal(offset: int | None, reason: str) -> ConfigError:
        line = None if offset is None else content.count(b"\n", 0, offset) + 1
        return ConfigError([Problem(path, line, None, reason)])

    if not content.strip():
        raise refusal(None, "is empty")
    if (offset := content.find(b"\0")) >= 0:
        raise refusal(offset, "holds a NUL byte")
    try:
        return content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise refusal(error.start, "is not UTF-8") from None


class _File:
    """One file on its way through the steps: what is left of it, and what is wrong with it so far."""

    def __init__(self, place: Place, reading: Reading) -> None:
        self._place = place
        self._parent = os.path.dirname(place.path)
        self._entries = reading.entries
        self._problems = reading.problems
        self._warnings = reading.warnings
        self._notes: list[Problem] = []
        self._hints = 0
        # A syntax error, or no section at all, is not to be followed by complaints about what is missing.
        self._whole = bool(reading.entries) or not reading.problems
        self._values: dict[str, Any] = {}
        self._lines: dict[str, int] = {}

    def apply_dialect(self, environ: Mapping[str, str]) -> None:
        """Replaces variables in the values that we use, and drops the keys that are only there to be
        referred to.
        """
        referred = dialect.references(entry.value for entry in self._entries)
        expansion = Expansion(self._entries, self._place, environ)
        entries = []
        for entry in self._entries:
            if entry.key in referred and self._may_be_placeholder(entry.key):
                continue
            if entry.value is not None and self._is_used(entry.key):
                expansion.unset.clear()
                try:
                    value = expansion.expand(entry.value)
                except Mistake as mistake:
                    self._refuse(entry, mistake.reason, mistake.hint)
                    if entry.key in options.NAMES:
                        self._lines.setdefault(options.NAMES[entry.key].name, entry.line)
                    continue
                for name in expansion.unset:
                    self._warn(
                        entry, f"$({name}) is not set in the emperor's environment", "it stands for nothing"
                    )
                entry = Entry(entry.key, value, entry.line)
            entries.append(entry)
        self._entries = entries

    def answer_foreign_keys(self) -> None:
        """Deals with every key that is not ours, and keeps the rest."""
        entries = []
        for entry in self._entries:
            if entry.key in options.NAMES:
                entries.append(entry)
                continue
            known = uwsgi.look_up(entry.key, entry.value)
            if known is None:
                self._refuse(entry, "unknown key", self._unknown_hint(entry.key))
                continue
            match known.answer:
                case uwsgi.Answer.HOLDS:
                    self._answer_holds(entry, known)
                case uwsgi.Answer.MISSING:
                    self._warn(entry, "uWSGI has it, we do not: it has no effect", known.text or None)
                case uwsgi.Answer.GUARD if not _wants(entry, known):
                    self._notes.append(
                        Problem(self._place.path, entry.line, entry.key, "is not there to be turned off")
                    )
                case uwsgi.Answer.GUARD:
                    hint = f"{known.text}; remove the line if the app is safe without it"
                    self._refuse(entry, "not supported, and ignoring it would open a door", hint)
                case uwsgi.Answer.DIALECT:
                    self._refuse(entry, "not supported yet", known.text)
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
            elif last[option.name] is not entry:
                self._warn(entry, f"is set again in line {last[option.name].line}, which counts")
                continue
            elif (value := self._typed(option, entry, entry.value)) is not None:
                self._values[option.name] = value
            self._lines.setdefault(option.name, entry.line)

    def finish(self, name: str, digest: str) -> VassalConfig:
        """Checks what the values say together. Raises ConfigError if anything was wrong anywhere."""
        effective = {option.name: self._values.get(option.name, option.default) for option in options.OPTIONS}
        module, callable_name = effective["module"], effective["callable"]
        if "module" in self._lines and "wsgi-file" in self._lines:
            self._refuse_option("wsgi-file", "the app is named twice, by module and by wsgi-file", "keep one")
        if self._whole and not {"module", "wsgi-file"} & self._lines.keys():
            self._problems.append(
                Problem(
                    self._place.path,
                    None,
                    None,
                    "names no app",
                    "set module = pkg.mod:app or wsgi-file = app.py",
                )
            )
        if module is not None and ":" in module and callable_name is not None:
            if callable_name != module.partition(":")[2]:
                self._warn_option("callable", f"module = {module} names it already, which counts")
            callable_name = effective["callable"] = None
        uid, own_gid = effective["uid"] or (None, None)
        gid = own_gid if effective["gid"] is None else effective["gid"]
        if uid is not None and gid is None and "gid" not in self._lines:
            self._refuse_option(
                "uid", f"the system knows no user {uid}, so no group of its own", "set gid, too"
            )
        env = tuple(effective["env"])
        spawn = effective["spawn"]
        fresh = next((variable for variable, _ in env if variable.startswith(FRESH_ONLY)), None)
        if fresh is not None and spawn == "fork":
            spawn = "exec"
            if "spawn" in self._lines:
                self._warn_option(
                    "spawn", f"env sets {fresh}, which only a fresh interpreter sees", "spawn = exec"
                )
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
        )
        domains = route_names(name, effective["domain"])
        effective |= {
            "uid": uid,
            "gid": gid,
            "spawn": spawn,
            "env": env,
            "domain": domains,
            "pythonpath": app.pythonpath,
        }
        return VassalConfig(
            name=name,
            path=self._place.path,
            digest=digest,
            warnings=_capped(self._warnings),
            notes=_capped(self._notes),
            processes=effective["processes"],
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
            start_timeout_s=effective["start-timeout"],
            stop_timeout_s=effective["stop-timeout"],
            options=effective,
            sources=(self._place.path,),
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
            return self._looked_up(option, entry, option.parse(value))
        except Mistake as mistake:
            comment = values.inline_comment(entry.value)
            self._refuse(entry, mistake.reason, _COMMENT_HINT.format(comment) if comment else mistake.hint)
            return None

    def _looked_up(self, option: Option, entry: Entry, value: Any) -> Any:
        match option.kind:
            case Kind.DIRECTORY:
                return surroundings.directory(value, self._parent)
            case Kind.FILE:
                return surroundings.file(value, self._app_directory())
            case Kind.VIRTUALENV:
                return surroundings.virtualenv(value, self._app_directory())
            case Kind.DIRECTORIES:
                found = surroundings.directories(value, self._app_directory())
                if not found:
                    missing = surroundings.absolute(value, self._app_directory())
                    self._warn(entry, f"there is no {missing}", "it has no effect")
                return found
            case Kind.USER:
                return surroundings.user(value)
            case Kind.GROUP:
                return surroundings.group(value)
        return value

    def _app_directory(self) -> str:
        """Where the app's own relative paths start: at `chdir`, which uWSGI enters before it looks at them."""
        for entry in reversed(self._entries):
            if entry.key == "chdir" and isinstance(entry.value, str):
                there = surroundings.absolute(entry.value, self._parent)
                # A chdir that is not there is one mistake, named at its line, not one for each path below it.
                return there if os.path.isdir(there) else self._parent
        return self._parent

    def _answer_holds(self, entry: Entry, known: uwsgi.Known) -> None:
        if _wants(entry, known):
            self._notes.append(
                Problem(self._place.path, entry.line, entry.key, "needs no saying here", known.text)
            )
        else:
            self._warn(entry, "cannot be turned off", known.text)

    def _unknown_hint(self, key: str) -> str | None:
        if key in SECTIONS or self._hints >= _MOST_HINTS or len(key) > 64:
            return None
        self._hints += 1
        if name := options.nearest(key):
            return f"did you mean {name!r}?"
        name = uwsgi.nearest(key)
        return f"did you mean uWSGI's {name!r}?" if name else None

    def _refuse(self, entry: Entry, reason: str, hint: str | None = None) -> None:
        self._problems.append(Problem(self._place.path, entry.line, entry.key, reason, hint))

    def _refuse_option(self, name: str, reason: str, hint: str | None = None) -> None:
        self._problems.append(Problem(self._place.path, self._lines[name], name, reason, hint))

    def _warn(self, entry: Entry, reason: str, hint: str | None = None) -> None:
        self._warnings.append(Problem(self._place.path, entry.line, entry.key, reason, hint))

    def _warn_option(self, name: str, reason: str, hint: str | None = None) -> None:
        self._warnings.append(Problem(self._place.path, self._lines[name], name, reason, hint))


def _wants(entry: Entry, known: uwsgi.Known) -> bool:
    """Whether a line asks for its option. A flag says no with false and the like; all else is yes, as in
    uWSGI.
    """
    if known.kind != "flag":
        return True
    try:
        return values.flag(entry.value)
    except Mistake:
        return True


def _capped(problems: list[Problem]) -> tuple[Problem, ...]:
    ordered = in_order(problems)
    if len(ordered) <= _MOST_PROBLEMS:
        return ordered
    last, rest = ordered[_MOST_PROBLEMS - 1], len(ordered) - _MOST_PROBLEMS
    return (*ordered[:_MOST_PROBLEMS], Problem(last.path, last.line, None, f"and {rest} more"))


def _items(option: Option, value: Any) -> list[Any]:
    """The items of one occurrence of an option that repeats: several in TOML, where lists and (for `env`)
    tables are values.
    """
    if isinstance(value, list):
        return value
    if isinstance(value, dict) and option.kind is Kind.VARIABLES:
        return list(value.items())
    return [value]
