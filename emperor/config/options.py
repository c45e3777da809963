"""The one table of options.

Parsing, `emperor check`, and the reference page all read it; nothing else in the project knows an option's
default. Names are uWSGI's where uWSGI has the option, with uWSGI's aliases, so that an existing file works;
the rest are words of our own. What uWSGI has and we do not is in `emperor.config.uwsgi`.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from emperor.config import (
    accesslog,
    announcing,
    hooks,
    listening,
    reloading,
    remote,
    sharing,
    subscribing,
    upstreams,
    values,
)
from emperor.config.problems import Mistake


class Kind(Enum):
    """The type of an option. The value is how the reference page writes it."""

    MODULE = "module[:callable]"
    ATTRIBUTE = "Python name"
    FILE = "file"
    DIRECTORY = "directory"
    VIRTUALENV = "virtualenv"
    DIRECTORIES = "directory, repeatable"
    VARIABLES = "NAME=value, repeatable"
    USER = "user name or number"
    GROUP = "group name or number"
    DOMAINS = "domain, repeatable"
    MASK = "umask, in octal"
    MODULES = "module, repeatable"
    NAMES = "NAME, repeatable"
    COUNT = "number"
    DURATION = "duration"
    SIZE = "size"
    MEGABYTES = "size, in MB without a unit"
    TEXTS = "text, repeatable"
    COMMANDS = "command, repeatable"
    HOOKS = "exec:COMMAND or print:TEXT, repeatable"
    CALLABLES = "module:callable, repeatable"
    FLAG = "true or false"
    CHOICE = "choice"
    LOG = "file, `-` or `off`"
    FORMAT = "log format"
    FIELDS = "NAME=template, repeatable"
    ADDRESS = "address"
    ADDRESSES = "address, repeatable"
    PATH = "path"
    PATHS = "path, repeatable"
    PLACES = "directory or pattern, repeatable"
    ASSIGNMENTS = "key=value, repeatable"
    LISTENERS = "address to listen on, repeatable"
    SECURE_LISTENERS = "address,certificate,key, repeatable"
    MODE = "file mode"
    OWNER = "user:group"
    PEERS = "addresses and networks, unix, abstract or *"
    WORDS = "names of header fields"
    PATH_LIMITS = "path and duration, repeatable"
    PATH_COUNTS = "path and number, repeatable"
    RATE = "rate, or rate and number"
    HASH_KEY = "address, header NAME or cookie NAME"
    COOKIE = "name of a cookie"
    CANARY = "number in a hundred, and duration"
    SHARE_KEY = "cookie, request, address, header NAME or cookie NAME"
    MIRROR = "vassal, or vassal and number in a hundred"
    SERVER_NAME = "name of a host"
    ASKED = "path of the app"
    CONCURRENCY = "number or soft/hard"
    ROUTERS = "tcp://HOST:PORT weight=N, repeatable"
    BACKPLANE = "tcp://ADDRESS:PORT"
    UPSTREAMS = "address weight=N backup, repeatable"
    MODES = "on, off or validate-only, or PLACE=one of them, repeatable"
    SIGN_CHECK = "digest:directory"
    UIDS = "numbers of users"
    SUBSCRIPTIONS = "server:key[,modifier1[,digest:file]], repeatable"
    SUBSCRIPTIONS2 = "server=…,key=…, repeatable"

    @property
    def repeats(self) -> bool:
        """Whether values accumulate; otherwise the last one counts."""
        return self in _REPEATED

    @property
    def is_table(self) -> bool:
        """Whether a table of TOML, YAML or JSON is a value: its keys and theirs are the values."""
        return self in (Kind.VARIABLES, Kind.PATH_LIMITS, Kind.PATH_COUNTS)


_REPEATED = frozenset(
    (
        Kind.DIRECTORIES,
        Kind.VARIABLES,
        Kind.DOMAINS,
        Kind.ADDRESSES,
        Kind.PATHS,
        Kind.PLACES,
        Kind.ASSIGNMENTS,
        Kind.LISTENERS,
        Kind.SECURE_LISTENERS,
        Kind.FIELDS,
        Kind.MODULES,
        Kind.NAMES,
        Kind.MODES,
        Kind.UPSTREAMS,
        Kind.PATH_LIMITS,
        Kind.PATH_COUNTS,
        Kind.TEXTS,
        Kind.COMMANDS,
        Kind.HOOKS,
        Kind.CALLABLES,
        Kind.SUBSCRIPTIONS,
        Kind.SUBSCRIPTIONS2,
        Kind.ROUTERS,
    )
)

PARSERS: dict[Kind, Callable[[Any], Any]] = {
    Kind.MODULE: values.module,
    Kind.ATTRIBUTE: values.attribute,
    Kind.FILE: values.text,
    Kind.DIRECTORY: values.text,
    Kind.VIRTUALENV: values.text,
    Kind.DIRECTORIES: values.text,
    Kind.VARIABLES: values.variable,
    Kind.USER: lambda value: values.text(str(value) if type(value) is int else value),
    Kind.GROUP: lambda value: values.text(str(value) if type(value) is int else value),
    Kind.DOMAINS: values.domain,
    Kind.MASK: values.mask,
    Kind.MODULES: values.dotted,
    Kind.NAMES: values.variable_name,
    Kind.COUNT: values.count,
    Kind.DURATION: values.duration,
    Kind.SIZE: values.size,
    Kind.MEGABYTES: values.megabytes,
    Kind.TEXTS: values.text,
    Kind.COMMANDS: values.text,
    Kind.HOOKS: lambda value: hooks.hook(values.text(value)),
    Kind.CALLABLES: values.callable_name,
    Kind.FLAG: values.flag,
    Kind.CHOICE: values.text,
    Kind.LOG: lambda value: accesslog.where(values.text(value)),
    Kind.FORMAT: lambda value: accesslog.check_format(values.text(value)),
    Kind.FIELDS: lambda value: accesslog.check_field(values.assignment(value)),
    Kind.ADDRESS: values.text,
    Kind.ADDRESSES: values.text,
    Kind.PATH: values.text,
    Kind.PATHS: values.text,
    Kind.PLACES: values.place,
    Kind.ASSIGNMENTS: values.assignment,
    Kind.LISTENERS: listening.address,
    Kind.SECURE_LISTENERS: listening.secure_address,
    Kind.SUBSCRIPTIONS: lambda value: _said(value, announcing.subscribe_to),
    Kind.SUBSCRIPTIONS2: lambda value: _said(value, announcing.subscribe2),
    Kind.SIGN_CHECK: subscribing.sign_check,
    Kind.UIDS: subscribing.uids,
    Kind.MODE: listening.mode,
    Kind.OWNER: listening.owner,
    Kind.PEERS: listening.peers,
    Kind.WORDS: listening.forwarded_fields,
    Kind.ROUTERS: remote.router,
    Kind.BACKPLANE: remote.listening_address,
    Kind.MODES: lambda value: reloading.auto_reload(
        values.text(str(value).lower() if isinstance(value, bool) else value)
    ),
    Kind.PATH_LIMITS: values.path_limit,
    Kind.PATH_COUNTS: values.path_count,
    Kind.RATE: values.rate,
    Kind.HASH_KEY: values.hash_key,
    Kind.COOKIE: values.cookie_name,
    Kind.CANARY: values.canary,
    Kind.SHARE_KEY: sharing.share_key,
    Kind.MIRROR: sharing.mirrored,
    Kind.UPSTREAMS: lambda value: upstreams.Upstream.parse(values.text(value)),
    Kind.SERVER_NAME: lambda value: upstreams.server_name(values.text(value)),
    Kind.CONCURRENCY: values.concurrency,
    Kind.ASKED: lambda value: reloading.ready_path(values.text(value)),
}


def _said(value: Any, read: Callable[[str], Any]) -> str:
    """The text itself, where it can be read: what reads it again gets what it stands for."""
    said = values.text(value).strip()
    read(said)
    return said


@dataclass(frozen=True)
class Option:
    """One row. `default` is a typed value (seconds, bytes); `least` and `most` bound numbers, both
    included.
    """

    name: str
    kind: Kind
    default: Any
    text: str
    aliases: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    least: float = 0
    most: float = float("inf")
    since: str = "0.1"

    def parse(self, value: Any) -> Any:
        """The typed value of one occurrence (of one item, where the option repeats). Raises `Mistake`."""
        if self.choices and value in (None, ""):
            raise Mistake(f"needs a value, one of {', '.join(self.choices)}")
        parsed = PARSERS[self.kind](value)
        if self.choices and parsed not in self.choices:
            raise Mistake(f"{parsed!r} is none of {', '.join(self.choices)}", closest(parsed, self.choices))
        if (
            self.kind in (Kind.COUNT, Kind.DURATION, Kind.SIZE, Kind.MEGABYTES)
            and not self.least <= parsed <= self.most
        ):
            unit = {Kind.DURATION: " s", Kind.SIZE: " bytes", Kind.MEGABYTES: " bytes"}.get(self.kind, "")
            bounds = f"at least {self.least:g}{unit}"
            if self.most != float("inf"):
                bounds = f"between {self.least:g} and {self.most:g}{unit}"
            raise Mistake(f"{value} is out of range: {bounds}")
        return parsed


_RELATIVE = "Relative to the directory of this file."
_RELATIVE_TO_APP = "Relative to `chdir` where that is set, else to the directory of this file."
_HOUR_S = 3600.0

_MOMENTS = {
    "asap": "before anything else of a generation",
    "pre-jail": "after `asap`",
    "post-jail": "after `pre-jail`",
    "as-user": "after `post-jail`",
    "pre-app": "after `as-user`, before the app is loaded",
    "post-app": "when the app is loaded, before the generation takes a request",
    "accepting1": "when the first worker serves",
    "accepting": "when a worker serves, for each",
    "as-user-atexit": "when the generation's last worker has left",
}


def _commands() -> tuple[Option, ...]:
    """The rows of uWSGI's moments."""
    rows = []
    for moment, when in _MOMENTS.items():
        if moment in hooks.WITH_EXEC:
            text = f"A command of the shell that is run {when}, as the app's user."
            if moment in (*hooks.BEFORE, *hooks.AFTER):
                text += " If it fails, so does the start."
            rows.append(Option(f"exec-{moment}", Kind.COMMANDS, (), text))
        rows.append(
            Option(
                f"hook-{moment}",
                Kind.HOOKS,
                (),
                f"The same, or a line for the log: {when}."
                if moment in hooks.WITH_EXEC
                else f"A command that is run, or a line for the log, {when}. A failure is logged.",
            )
        )
    return tuple(rows)


OPTIONS: tuple[Option, ...] = (
    # The app
    Option(
        "module",
        Kind.MODULE,
        None,
        "The module that holds the app, WSGI or ASGI: which of them it speaks is seen when it is loaded, and told in its log.",
        ("wsgi",),
    ),
    Option(
        "asgi",
        Kind.MODULE,
        None,
        "The module that holds the ASGI app, in place of `module`. Then bodies are not read first (`request-buffering`) "
        "unless the file says so.",
    ),
    Option(
        "wsgi-file",
        Kind.FILE,
        None,
        f"The Python file that holds the WSGI app. {_RELATIVE_TO_APP}",
        ("file",),
    ),
    Option(
        "callable",
        Kind.ATTRIBUTE,
        None,
        "The app's name in the module; `application` if not given here or after a colon.",
    ),
    Option(
        "need-app",
        Kind.FLAG,
        True,
        "Whether an app that does not load fails the start; off, it starts and answers 500.",
    ),
    # Its surroundings
    Option("chdir", Kind.DIRECTORY, None, f"The working directory of the workers. {_RELATIVE}"),
    Option(
        "chdir2",
        Kind.DIRECTORY,
        None,
        f"The working directory of the workers once the app is loaded. {_RELATIVE}",
    ),
    Option(
        "virtualenv",
        Kind.VIRTUALENV,
        None,
        f"The virtualenv whose packages the app sees. {_RELATIVE_TO_APP}",
        ("home", "venv", "pyhome"),
    ),
    Option(
        "pythonpath",
        Kind.DIRECTORIES,
        (),
        f"A directory to put in front of sys.path; its last part may hold * and ?. {_RELATIVE_TO_APP}",
        ("pp", "python-path"),
    ),
    Option(
        "env",
        Kind.VARIABLES,
        (),
        "An environment variable of the app; a table in TOML. A later one overrides an earlier one.",
    ),
    Option(
        "unenv",
        Kind.NAMES,
        (),
        "An environment variable that no process of the app is to see, not even if `env` sets it.",
    ),
    Option(
        "umask", Kind.MASK, None, "What new files of the app are not allowed; the emperor's own if not given."
    ),
    Option(
        "import",
        Kind.MODULES,
        (),
        "A module to import in each worker before the app.",
        (
            "shared-import",
            *("py-import", "pyimport", "python-import"),
            *("shared-py-import", "shared-pyimport", "shared-python-import"),
        ),
    ),
    Option(
        "uid",
        Kind.USER,
        None,
        "The user that the app runs as. Without it the app runs as the emperor does. A file that is neither root's "
        "nor the emperor's may name its owner alone.",
    ),
    Option(
        "gid",
        Kind.GROUP,
        None,
        "The group that the app runs as; the user's own group if only `uid` is given.",
    ),
    # Its processes
    Option("processes", Kind.COUNT, 1, "How many workers the app has.", ("workers", "p"), least=1, most=1024),
    Option(
        "threads",
        Kind.COUNT,
        1,
        "How many requests a worker runs at once, each in a thread of its own.",
        least=1,
        most=1024,
    ),
    Option(
        "threads-stacksize",
        Kind.COUNT,
        0,
        "The stack of each of these threads, in KiB; 0 is what the system gives.",
        ("threads-stack-size", "thread-stacksize", "thread-stack-size"),
        most=1024 * 1024,
    ),
    Option(
        "gevent",
        Kind.COUNT,
        0,
        "How many requests a worker runs at once, each in a greenlet of gevent's, in place of threads; 0 is off. "
        "Needs gevent beside the app.",
        most=16384,
    ),
    Option(
        "gevent-monkey-patch",
        Kind.FLAG,
        True,
        "Whether gevent replaces what blocks in Python's library (sockets, sleep, locks), before the app is "
        "imported. (uWSGI does so only when asked.)",
        ("gevent-early-monkey-patch",),
    ),
    Option(
        "concurrency",
        Kind.CONCURRENCY,
        "64/256",
        "How many requests a worker of an ASGI app runs at once: the first number at any time, up to the second while its "
        "event loop is on time. One number is both.",
    ),
    Option(
        "asgi-loop",
        Kind.CHOICE,
        "auto",
        "The event loop of an ASGI app: uvloop, asyncio's own, or (auto) uvloop where it can be imported.",
        choices=("auto", "uvloop", "asyncio"),
    ),
    Option(
        "lifespan",
        Kind.CHOICE,
        "auto",
        "Whether an ASGI app is told of its worker's start and end: auto asks it, and goes on without if it knows nothing of "
        "it; on fails the start then; off does not ask.",
        choices=("auto", "on", "off"),
    ),
    Option(
        "loop-lag",
        Kind.DURATION,
        0.5,
        "An ASGI app that has held its event loop for so long is reported in the log, with what it was doing. 0 is never.",
        most=24 * _HOUR_S,
    ),
    Option(
        "wsgi-on-loop",
        Kind.FLAG,
        False,
        "Whether the worker of a WSGI app has an event loop as that of an ASGI app has: its `threads` run the app alone, and "
        "the loop sends and receives.",
    ),
    Option(
        "ws-max-size",
        Kind.SIZE,
        16 * 1024 * 1024,
        "The largest message that a WebSocket's client may send, once it is decompressed; a larger one closes it with 1009.",
        least=1,
        most=1 << 30,
    ),
    Option(
        "ws-ping-interval",
        Kind.DURATION,
        20.0,
        "How long a WebSocket's client may be silent before it is pinged. 0 is never.",
        most=24 * _HOUR_S,
    ),
    Option(
        "ws-ping-timeout",
        Kind.DURATION,
        20.0,
        "How long a client that was pinged may stay silent before its WebSocket is closed with 1011. 0 is for ever.",
        most=24 * _HOUR_S,
    ),
    Option(
        "ws-idle-timeout",
        Kind.DURATION,
        0.0,
        "How long a WebSocket may be open without a message either way, pings not counted, before it is closed with 1001. "
        "0 is for ever.",
        most=365 * 24 * _HOUR_S,
    ),
    Option(
        "ws-deflate",
        Kind.FLAG,
        True,
        "Whether WebSocket messages are compressed (permessage-deflate) with clients that offer it; those of the app from "
        "512 bytes on.",
    ),
    Option(
        "wsgi-disable-file-wrapper",
        Kind.FLAG,
        False,
        "Whether the app is not given `wsgi.file_wrapper`.",
    ),
    Option(
        "spawn",
        Kind.CHOICE,
        "fork",
        "Whether the app's processes are forked from a warm interpreter, or exec'd.",
        choices=("fork", "exec"),
    ),
    Option(
        "start-timeout",
        Kind.DURATION,
        60.0,
        "How long the app may take to import, and to answer `ready-path`, before the start has failed.",
        least=0.1,
        most=24 * _HOUR_S,
    ),
    Option(
        "stop-timeout",
        Kind.DURATION,
        8.0,
        "How long requests may take to finish when the app stops or makes way for its next generation.",
        most=24 * _HOUR_S,
    ),
    # How long its workers serve
    Option(
        "max-requests",
        Kind.COUNT,
        0,
        "After how many requests a worker is replaced: the next one starts beside it, and it leaves when that one serves. "
        "0 is never.",
        most=1 << 40,
    ),
    Option(
        "max-requests-delta",
        Kind.COUNT,
        None,
        "How many more, at random, each worker may serve, so that not all are due at once; a tenth of `max-requests` if not "
        "given. (uWSGI adds it once for each worker before this one, and nothing by default.)",
        most=1 << 40,
    ),
    Option(
        "min-worker-lifetime",
        Kind.DURATION,
        10.0,
        "How old a worker must be before it is replaced, whatever the reason (but evil-reload-on-*).",
        most=24 * _HOUR_S,
    ),
    Option(
        "max-worker-lifetime",
        Kind.DURATION,
        0.0,
        "After how long a worker is replaced. 0 is never.",
        most=1e9,
    ),
    Option(
        "max-worker-lifetime-delta",
        Kind.DURATION,
        None,
        "How much longer, at random, each worker may live; a tenth of `max-worker-lifetime` if not given.",
        most=1e9,
    ),
    Option(
        "reload-on-rss",
        Kind.MEGABYTES,
        0,
        "A worker with at least so much memory (RSS, shared pages among it) is replaced. 0 is never.",
        most=1 << 60,
    ),
    Option(
        "reload-on-as",
        Kind.MEGABYTES,
        0,
        "A worker with at least so much address space is replaced. 0 is never.",
        most=1 << 60,
    ),
    Option(
        "evil-reload-on-rss",
        Kind.MEGABYTES,
        0,
        "A worker with at least so much memory (RSS), looked at every second, is killed: what it has begun is answered 502. "
        "0 is never.",
        most=1 << 60,
    ),
    Option(
        "evil-reload-on-as",
        Kind.MEGABYTES,
        0,
        "The same for its address space. 0 is never.",
        most=1 << 60,
    ),
    Option(
        "reload-on-exception",
        Kind.FLAG,
        False,
        "Whether a worker is replaced when its app has let an exception out.",
    ),
    Option(
        "reload-on-exception-type",
        Kind.TEXTS,
        (),
        "The same for exceptions of this type: `OperationalError` or `django.db.utils.OperationalError`.",
    ),
    Option("reload-on-exception-value", Kind.TEXTS, (), "The same for exceptions with this message."),
    Option(
        "reload-on-exception-repr",
        Kind.TEXTS,
        (),
        "The same for exceptions that read so: `ValueError: no such row`, `ValueError('no such row')`.",
    ),
    Option(
        "preload",
        Kind.FLAG,
        False,
        "Whether the app is loaded once, in a template that workers are forked from, so that they share its memory and start "
        "at once. What must be each worker's own (connections, threads) belongs into `post-fork-hook`.",
    ),
    Option(
        "preload-warm-up",
        Kind.ASKED,
        None,
        "A path that is asked of the app once, in the template, before workers are forked: what it imports and computes then "
        "is there in all of them. What it opens (connections) is, too: give it up in `post-fork-hook`.",
    ),
    # What is run for it
    *_commands(),
    Option(
        "post-fork-hook",
        Kind.CALLABLES,
        (),
        "What each worker calls, without arguments, when it is forked and its app is loaded, before its first request: for "
        "connections and threads of its own. If it fails, so does the start.",
    ),
    Option(
        "worker-ready-hook",
        Kind.CALLABLES,
        (),
        "What each worker calls when it has joined the router, before its first request. A failure is logged.",
    ),
    Option(
        "worker-exit-hook",
        Kind.CALLABLES,
        (),
        "What each worker calls when it has left the router and is to end. A failure is logged.",
    ),
    Option(
        "hook-timeout",
        Kind.DURATION,
        60.0,
        "How long each of these commands and calls may take; then it is killed with all that it has started, and has failed.",
        least=0.05,
        most=24 * _HOUR_S,
    ),
    # Its next generation
    Option(
        "ready-path",
        Kind.ASKED,
        None,
        "A path that each worker must answer with 2xx before it counts as ready, such as `/healthz`: a reload moves over only "
        "then. It is asked inside the worker, once the app is loaded, as the app's first domain. 503 means not yet, and "
        "is asked again until `start-timeout`; every other answer has failed.",
    ),
    Option(
        "touch-reload",
        Kind.PATHS,
        (),
        "A file whose touch starts the app anew: a new time, content or link target, or that it is there again. It is looked "
        f"at as the app's user. {_RELATIVE_TO_APP}",
        ("touch-workers-reload",),
    ),
    Option(
        "touch-chain-reload",
        Kind.PATHS,
        (),
        f"The same, worker by worker (`reload-style = rolling`). {_RELATIVE_TO_APP}",
    ),
    Option(
        "reload-style",
        Kind.CHOICE,
        "overlap",
        "`overlap`: all workers of the next generation are ready before the first of the old one leaves, which takes the "
        "memory of both. `rolling`: they come up one by one as the old ones leave, with one more than `processes` at a time; "
        "meanwhile both versions answer, and `probation` has nothing to go back to.",
        choices=("overlap", "rolling"),
    ),
    Option(
        "py-autoreload",
        Kind.DURATION,
        0.0,
        "For development: how often a worker looks whether a file of its modules, or a new one beside them, has changed; then "
        "the app is started anew. 0 is never.",
        ("py-auto-reload", "python-autoreload", "python-auto-reload"),
        most=_HOUR_S,
    ),
    Option(
        "py-auto-reload-ignore",
        Kind.MODULES,
        (),
        "A module whose changes `py-autoreload` does not look at, nor at those of what is below it.",
    ),
    Option(
        "fs-reload",
        Kind.PATHS,
        (),
        "For development: a file, or a directory with all that is below it (hidden ones, caches and virtualenvs left out), "
        "whose change starts the app anew. A worker looks every second, or as often as `py-autoreload` says. "
        f"{_RELATIVE_TO_APP}",
        ("fs-brutal-reload",),
    ),
    Option(
        "master-fifo",
        Kind.PATHS,
        (),
        "A FIFO for uWSGI's letters, made and removed as the app's user: r, R, w and W reload, c reloads worker by worker, p "
        "pauses (requests wait) and resumes, l and L open log files anew, s writes the app's numbers into the log, a digit "
        f"goes over to another of up to ten; the others are answered in the log. {_RELATIVE_TO_APP}",
    ),
    Option(
        "reload-mercy",
        Kind.DURATION,
        None,
        "How long the generation that was replaced by a reload may take to finish what it has begun; `stop-timeout` if not "
        "given. New requests go to the next one at once, so this is for downloads and WebSockets, and may be minutes.",
        most=24 * _HOUR_S,
    ),
    Option(
        "worker-reload-mercy",
        Kind.DURATION,
        None,
        "The same for each of its workers: of the two the shorter counts, but where they leave one by one. And how long a "
        "worker that is recycled may take; 60s if not given.",
        most=24 * _HOUR_S,
    ),
    Option(
        "probation",
        Kind.DURATION,
        0.0,
        "How long after a reload the generation before is kept, idle, and takes over again when the share of 5xx or the deaths "
        "of workers jump. It costs its memory for that time, and is let go when memory is short. 0 is off.",
        most=_HOUR_S,
    ),
    Option(
        "canary",
        Kind.CANARY,
        None,
        "After a reload the next generation first gets so many in a hundred requests for so long, beside the one that serves: "
        "`5 10m`. It is taken back as in a `probation`, which follows then if there is one. `emperor promote NAME` ends it "
        "early.",
    ),
    # Its requests
    Option(
        "domain",
        Kind.DOMAINS,
        (),
        "A host, `*.host` or `host/path` that this app answers; without one, the file's name if it reads "
        "as a domain. `NAME.localhost` always works.",
    ),
    Option("default", Kind.FLAG, False, "Whether the app takes every request that no domain matches."),
    Option(
        "weight",
        Kind.COUNT,
        None,
        "The app's part of the requests for its domains, among all vassals that have them: a domain may stand in several files "
        "of one user if each of them has a `weight`. 0: nobody is sent here. An edit of it alone is in effect at once, without "
        "a reload ([canaries](../guides/canary.md)).",
        most=sharing.MOST_WEIGHT,
    ),
    Option(
        "weight-by",
        Kind.SHARE_KEY,
        None,
        "What a client is known by, so that it stays with one of those that share a domain: `cookie`, one that the router sets "
        "(if no file says anything else); `request`, nothing: each is dealt out anew; `address`; or a field or a cookie of the "
        "app's. Of files that differ the first by the vassals' names counts.",
    ),
    Option(
        "mirror",
        Kind.MIRROR,
        None,
        "Another vassal of the same user that gets a copy of each GET and HEAD, or of so many in a hundred: `shop-next 10`. "
        "Its answers are dropped, and only its idle slots are used. The copies have a field `X-Mirrored-From`.",
    ),
    Option(
        "queue",
        Kind.COUNT,
        1024,
        "How many requests may wait for a free worker; the next one is answered 503. (uWSGI's option of "
        "this name, a queue shared by workers, is another thing.)",
        least=1,
        most=1_000_000,
    ),
    Option(
        "queue-timeout",
        Kind.DURATION,
        10.0,
        "How long a request may wait for a free worker; then it is answered 503.",
        least=0.001,
        most=24 * _HOUR_S,
    ),
    Option(
        "queue-target",
        Kind.DURATION,
        5.0,
        "How long a request may wait while more come than can be served: then the newest is served first, and what has waited "
        "longer is answered 503. Eight times what a request takes on average, if that is longer, and never longer than "
        "`queue-timeout`. 0: whoever waits may wait for `queue-timeout`.",
        most=24 * _HOUR_S,
    ),
    Option(
        "reserve",
        Kind.PATH_COUNTS,
        (),
        "So many slots are kept for requests of this path and all below it, and they are served "
        "first: `/healthz 1`; a table in TOML. The last free slot of an app is never kept.",
    ),
    Option(
        "bulkhead",
        Kind.PATH_COUNTS,
        (),
        "Requests of this path and all below it may hold so many slots at once, and wait in a queue of their own (as long as "
        "`queue`): `/export 2`; a table in TOML. The longest path counts.",
    ),
    Option(
        "slow-start",
        Kind.DURATION,
        5.0,
        "How long a fresh worker that runs several requests at once is spared while others are there: it is chosen last, "
        "nothing waits on its deck, and it gets one more slot at a time. 0 is off.",
        most=_HOUR_S,
    ),
    Option(
        "balance",
        Kind.CHOICE,
        "slots",
        "Which worker gets a request: `slots`, the one that became free last; `least`, the one with the fewest; `round-robin`, "
        "each in turn; `p2c`, the better of two that are drawn; `hash`, the same one for the same `hash-by`, as long as that "
        "has no more than its share and a quarter. But for `hash`, nobody waits for a busy worker while another is free. The "
        "same for upstreams and workers of other hosts, by their weights and loads; there `slots` is `p2c`.",
        choices=("slots", "least", "round-robin", "p2c", "hash"),
    ),
    Option(
        "hash-by",
        Kind.HASH_KEY,
        "address",
        "What `balance = hash` goes by: the client's address, a field of the request or a cookie.",
    ),
    Option(
        "sticky",
        Kind.COOKIE,
        None,
        "A cookie of this name leads a client to the worker or upstream that served it first, for apps that keep sessions in "
        "memory. Where that has gone, or takes nothing now, another serves it, and its cookie says so.",
    ),
    Option(
        "retries",
        Kind.FLAG,
        True,
        "Whether a request whose worker is lost before the first byte of the answer is run once more by another, if its method "
        "is idempotent (GET, HEAD, OPTIONS, TRACE, PUT, DELETE) and its body small enough to be in hand (64 KiB): a fifth of "
        "all requests at most, and ten a second; so with upstreams. What no worker has begun is always given to another.",
    ),
    Option(
        "limit-requests",
        Kind.RATE,
        None,
        "How many requests this app takes, and how many of them at once: `100/s`, `600/m 50`; what is more is answered 429. "
        "Those of `reserve` are not counted. 0 is no limit.",
    ),
    Option(
        "limit-requests-per-address",
        Kind.RATE,
        None,
        "The same for each address of a client, of IPv6 for each /64. The address is the client's, behind proxies that "
        "`forwarded-allow` or `proxy-protocol` names; those of unix sockets have none.",
    ),
    Option(
        "limit-concurrency",
        Kind.COUNT,
        0,
        "How many requests this app has in hand, waiting ones included; what is more is answered 429. 0 is no limit.",
        most=1_000_000,
    ),
    Option(
        "limit-concurrency-per-address",
        Kind.COUNT,
        0,
        "The same for each address of a client.",
        most=1_000_000,
    ),
    Option(
        "request-timeout",
        Kind.DURATION,
        0.0,
        "How long the app may take to begin its answer, waiting in the queue included and counted anew from "
        "each piece of the request's body; then the client gets 504, and the app is told that nobody waits. "
        "0 is no limit.",
        most=24 * _HOUR_S,
    ),
    Option(
        "request-timeout-path",
        Kind.PATH_LIMITS,
        (),
        "What `request-timeout` is for this path and all below it: `/export 5m`; a table in TOML. The longest path counts.",
    ),
    Option(
        "harakiri",
        Kind.DURATION,
        0.0,
        "How long a request may hold a worker, from when the app begins it to when its answer is whole, waiting not included. "
        "Then its client gets 504, the log the stacks of the worker's threads, and the worker, once its other requests are "
        "done, is ended and replaced. 0 is no limit.",
        most=24 * _HOUR_S,
    ),
    Option(
        "harakiri-path",
        Kind.PATH_LIMITS,
        (),
        "What `harakiri` is for this path and all below it: `/export 5m`, `/events 0`; a table in TOML. The longest path "
        "counts. (In place of uWSGI's route-uri = ^/export harakiri:300.)",
    ),
    Option(
        "harakiri-verbose",
        Kind.FLAG,
        False,
        "Whether the log then has the request's variables, too, but for what may be secret (Authorization, Cookie and so on).",
    ),
    Option(
        "harakiri-graceful-timeout",
        Kind.DURATION,
        0.0,
        "How long before SIGKILL a worker that harakiri ends gets `harakiri-graceful-signal`. 0 is SIGKILL alone.",
        most=_HOUR_S,
    ),
    Option(
        "harakiri-graceful-signal",
        Kind.COUNT,
        15,
        "The number of that signal; 15, SIGTERM, if not given.",
        least=1,
        most=64,
    ),
    Option(
        "poison-deaths",
        Kind.COUNT,
        2,
        "How many workers a request may end, by a crash or by harakiri, before its like (method, host, path, query, length) "
        "are answered 500 for a while without a worker. 0 is as many as come.",
        most=1000,
    ),
    Option(
        "body-limit",
        Kind.SIZE,
        0,
        "The largest request body; a larger one is answered 413. 0 is no limit.",
        ("limit-post",),
        most=1 << 60,
    ),
    # Backends, in place of an app
    Option(
        "upstream",
        Kind.UPSTREAMS,
        (),
        "A backend that gets the requests, in place of an app: `uwsgi://HOST:PORT` (a uWSGI, or what speaks its protocol), "
        "`http://HOST:PORT`, or either with a unix socket's path, `uwsgi:///run/app.sock`; `https://HOST:PORT` is HTTP over "
        "TLS, and its certificate is verified. Behind it may stand `weight=2`, "
        "`max-connections=32` (what comes beyond waits in `queue`), `backup` (only while no other is in service), and for "
        "uwsgi `modifier1=` and `modifier2=`. A name is looked up again and again, and all its addresses are used. A body is "
        "passed on as it comes (`request-buffering`) unless the file says otherwise.",
    ),
    Option(
        "subscriptions",
        Kind.FLAG,
        False,
        "Whether those who subscribe to one of the file's domains (`subscription-server`, a setting of the emperor) are "
        "backends as well, in place of an app: uWSGIs with `subscribe-to`. Without it nobody can subscribe to a domain that a "
        "vassal has.",
    ),
    Option(
        "upstream-connect-timeout",
        Kind.DURATION,
        5.0,
        "How long a connection to an upstream may take; then another one is tried.",
        least=0.01,
        most=_HOUR_S,
    ),
    Option(
        "upstream-first-byte-timeout",
        Kind.DURATION,
        60.0,
        "How long an upstream that has all of a request may take until the head of its answer has come; then the client gets "
        "504. 0 is no limit.",
        most=24 * _HOUR_S,
    ),
    Option(
        "upstream-idle-timeout",
        Kind.DURATION,
        60.0,
        "How long an upstream may neither send more of an answer that has begun nor take more of a request. A client that is "
        "slow does not count. 0 is no limit.",
        most=24 * _HOUR_S,
    ),
    Option(
        "upstream-total-timeout",
        Kind.DURATION,
        0.0,
        "How long a request may be at upstreams in all. 0 is no limit.",
        most=24 * _HOUR_S,
    ),
    Option(
        "upstream-tunnel-timeout",
        Kind.DURATION,
        1.0 * _HOUR_S,
        "How long a WebSocket at an upstream may pass no byte either way: a peer that has vanished never says so. 0 is no "
        "limit.",
        most=24 * _HOUR_S,
    ),
    Option(
        "upstream-keepalive",
        Kind.COUNT,
        32,
        "How many idle connections to each HTTP upstream are kept for the next requests. 0 closes each after one.",
        most=10_000,
    ),
    Option(
        "upstream-ca",
        Kind.FILE,
        None,
        "The certificates (PEM, at most 64 KiB) of those who may vouch for `https://` upstreams, in place of whom the system "
        f"trusts. {_RELATIVE_TO_APP}",
    ),
    Option(
        "upstream-cert",
        Kind.FILE,
        None,
        "The certificate (PEM, with its chain) that `https://` upstreams are shown when they ask for one. The key may stand in "
        f"the same file. {_RELATIVE_TO_APP}",
    ),
    Option(
        "upstream-key",
        Kind.FILE,
        None,
        f"The key of `upstream-cert`, without a passphrase. {_RELATIVE_TO_APP}",
    ),
    Option(
        "upstream-name",
        Kind.SERVER_NAME,
        None,
        "The name that the certificates of `https://` upstreams are to be of, and that they are asked for (SNI). Without it: "
        "the host in each address.",
    ),
    Option(
        "upstream-verify",
        Kind.FLAG,
        True,
        "Whether certificates of `https://` upstreams are verified. Without it anybody who can answer in their place is "
        "believed, and reads and changes what is sent: `upstream-ca` is the way to trust a CA of one's own.",
    ),
    Option(
        "health-path",
        Kind.ASKED,
        None,
        "A path that each upstream is asked for every `health-interval`: one that fails to answer 200 to 399 three times in a "
        "row gets no requests until it has twice.",
    ),
    Option(
        "health-ping",
        Kind.FLAG,
        False,
        "Whether uwsgi upstreams are sent a uwsgi ping instead, where there is no `health-path`. A uWSGI answers it in a "
        "worker: one that is busy for three intervals looks dead.",
    ),
    Option(
        "health-interval",
        Kind.DURATION,
        5.0,
        "How often upstreams are asked, and how long each may take to answer.",
        least=0.05,
        most=_HOUR_S,
    ),
    Option(
        "maintenance",
        Kind.FILE,
        None,
        "The page, at most 64 KiB of UTF-8, that clients get with 503 when no upstream is in service, or none can be reached; "
        f"its type goes by its name (.html, .json, .txt). {_RELATIVE_TO_APP}",
    ),
    # Its own listeners
    Option(
        "socket",
        Kind.LISTENERS,
        (),
        "Listen here for this app alone, whatever the Host: a path, `127.0.0.1:3031`, `:3031`, `[::1]:3031`, `:0` (the "
        "kernel chooses, once for each protocol; `emperor status` tells) or `@name`. Spoken is `protocol`. A path is relative "
        "to the directory of this file; it is made and removed as the app's user.",
        ("s",),
    ),
    Option("uwsgi-socket", Kind.LISTENERS, (), "The same, for the uwsgi protocol, whatever `protocol` says."),
    Option("http-socket", Kind.LISTENERS, (), "The same, for HTTP.", ("http", "http11-socket", "httprouter")),
    Option(
        "https-socket",
        Kind.SECURE_LISTENERS,
        (),
        "The same, for HTTP over TLS. The files hold PEM and are read as the app's user.",
        ("https", "https2"),
    ),
    Option(
        "suwsgi-socket",
        Kind.SECURE_LISTENERS,
        (),
        "The same, for the uwsgi protocol over TLS.",
        ("ssl-socket",),
    ),
    Option(
        "protocol",
        Kind.CHOICE,
        "uwsgi",
        "What is spoken at `socket`.",
        ("socket-protocol",),
        choices=("uwsgi", "http"),
    ),
    Option(
        "chmod-socket",
        Kind.MODE,
        "660",
        "The mode of the app's unix sockets, in octal; alone, 666: everybody may connect, and say what uwsgi says.",
        ("chmod",),
    ),
    Option(
        "chown-socket",
        Kind.OWNER,
        None,
        "The owner of the app's unix sockets: `USER`, `USER:GROUP` or `:GROUP`. The app's user can only give them to groups "
        "that it is in.",
    ),
    Option(
        "listen",
        Kind.COUNT,
        2048,
        "How many connections may wait at the app's own listeners to be accepted; at most net.core.somaxconn.",
        ("l",),
        least=1,
        most=1_000_000,
    ),
    Option(
        "uwsgi-trusted",
        Kind.PEERS,
        listening.TRUSTED,
        "Which front servers are believed at the app's own uwsgi listeners when they say who the client is and how it came "
        "(REMOTE_ADDR, HTTPS, REMOTE_USER, SSL_*).",
    ),
    Option(
        "forwarded-allow",
        Kind.PEERS,
        None,
        "Which proxies are believed at the app's own HTTP listeners when they say for whom they speak (X-Forwarded-For and "
        "its like). Without it: those of the emperor's setting of this name.",
    ),
    Option(
        "proxy-protocol",
        Kind.PEERS,
        (),
        "Which proxies must begin their connections to the app's own listeners with a PROXY header, version 1 or 2.",
    ),
    Option(
        "subscribe-to",
        Kind.SUBSCRIPTIONS,
        (),
        "Announce the app to this subscription server of a uWSGI fastrouter or http router, under this key, as long as it "
        "serves: `127.0.0.1:7000:blog.example.com`, `/run/fastrouter.sock:blog.example.com`. Behind the key may stand a "
        "modifier1 and `DIGEST:FILE` to sign with, in front `ADDRESS=` or `=NUMBER=` (which uwsgi listener of the app). "
        "Without such a listener one is opened on 127.0.0.1.",
        ("subscribe", "st"),
    ),
    Option(
        "subscribe2",
        Kind.SUBSCRIPTIONS2,
        (),
        "The same with keys: `server`, `key`, `addr`, `socket`, `weight`, `backup`, `modifier1`, `modifier2`, `sign`, "
        "`sni_key`, `sni_crt`, `sni_ca`.",
    ),
    Option(
        "subscribe-freq",
        Kind.DURATION,
        10.0,
        "How often it is announced. The other router forgets it after its own tolerance, 17 s unless said otherwise.",
        least=1.0,
        most=3600.0,
    ),
    Option(
        "manage-script-name",
        Kind.FLAG,
        False,
        "Whether the path of a `domain = host/path` is moved from PATH_INFO to SCRIPT_NAME, so that the app makes its URLs "
        "below it.",
    ),
    # Other hosts
    Option(
        "remote",
        Kind.FLAG,
        False,
        "Whether the app has no workers here: those of other hosts serve it, whose `router` is this one (the setting "
        "`backplane`). Then the file names no app.",
    ),
    Option(
        "router",
        Kind.ROUTERS,
        (),
        "A router on another host, which the app's workers serve as well as the one here: `tcp://HOST:5555`. Behind it may "
        "stand `weight=4`, 1 to 100: so many times as much as by one of a host without is to be done by each of them. Only "
        "with CURVE: this host needs a key that is allowed there, and must know that router's (`emperor keys`, "
        "docs/guides/remote-workers.md).",
    ),
    # Its logs
    Option(
        "access-log",
        Kind.LOG,
        None,
        "Where a line for each request goes: a file, which is opened as `uid`, or `-` for the emperor's standard output. "
        "Also in uWSGI's words: `file:PATH`, `stdio:`. Off by default. "
        f"{_RELATIVE_TO_APP}",
        ("req-logger",),
    ),
    Option(
        "log-format",
        Kind.FORMAT,
        "combined",
        "What a line looks like: `combined`, `json`, `uwsgi`, or a template with uWSGI's variables "
        "(docs/guides/access-log.md). Setting it turns the access log on, to `logto` or the standard output, unless "
        "`access-log` or `disable-logging` says otherwise.",
        ("logformat",),
    ),
    Option(
        "request-id",
        Kind.FLAG,
        None,
        "Whether every request gets an id: `HTTP_X_REQUEST_ID` for the app, `X-Request-ID` in the response, `%(id)` in the "
        "access log. An id that a trusted peer sends is kept. By default only where there is an access log; the router's own "
        "answers always have one, which the emperor's log has too.",
    ),
    Option(
        "log-field", Kind.FIELDS, (), "A further key of `log-format = json`: `tenant=%(var.HTTP_X_TENANT)`."
    ),
    Option(
        "disable-logging",
        Kind.FLAG,
        False,
        "Whether only requests that `log-4xx` and the like ask for are logged.",
    ),
    Option("log-4xx", Kind.FLAG, False, "Log requests answered with 400 to 499."),
    Option("log-5xx", Kind.FLAG, False, "Log requests answered with 500 and more."),
    Option("log-slow", Kind.COUNT, 0, "Log requests that took at least so many milliseconds. 0 is none."),
    Option(
        "log-big", Kind.SIZE, 0, "Log requests whose response has a body of at least this size. 0 is none."
    ),
    Option("log-zero", Kind.FLAG, False, "Log requests whose response has no body."),
    Option(
        "log-x-forwarded-for",
        Kind.FLAG,
        False,
        "Whether `%(addr)` is what X-Forwarded-For claims, whoever sent it. (Better: the setting `forwarded-allow`.)",
    ),
    Option(
        "logto",
        Kind.LOG,
        None,
        "The file that the app's output goes to, opened as `uid`; without it, to the emperor's log under the app's name. "
        f"{_RELATIVE_TO_APP}",
        ("logto2", "logger"),
    ),
    Option(
        "log-maxsize",
        Kind.SIZE,
        0,
        "The size at which a log file is moved away and a new one begun. 0 is never.",
        most=1 << 60,
    ),
    Option(
        "log-backupname",
        Kind.PATH,
        None,
        "The name that a log file gets then; without it, its own with the time in seconds at its end.",
    ),
    Option(
        "pidfile",
        Kind.PATH,
        None,
        "A file for the pid of the app's gateway, written as `uid` when the app is ready and removed at its end. "
        f"{_RELATIVE_TO_APP}",
        ("safe-pidfile", "pidfile2", "safe-pidfile2"),
    ),
    Option(
        "request-buffering",
        Kind.FLAG,
        True,
        "Whether a request's body is read to its end before a worker is asked, so that a slow upload holds no worker, "
        "and the app knows the length of any body. Off, the app reads it as it comes.",
    ),
    Option(
        "post-buffering",
        Kind.SIZE,
        256 << 10,
        "How much of a body that is read to its end first stays in memory; what is more goes to disk (the emperor's "
        "`spool-dir`).",
        most=1 << 30,
    ),
    Option(
        "response-buffer",
        Kind.SIZE,
        1 << 20,
        "How much of a response is taken off its worker ahead of a client that reads slowly, in memory, so that the worker is "
        "free sooner (the emperor's `response-memory` bounds all of it).",
        most=1 << 30,
    ),
)

NAMES: dict[str, Option] = {name: option for option in OPTIONS for name in (option.name, *option.aliases)}


def nearest(name: str) -> str | None:
    """The name of ours that was probably meant by `name`: the same but for case and underscores, or
    spelled much like it.
    """
    plain = name.lower().replace("_", "-")
    if plain in NAMES:
        return plain
    # One letter is like nothing: any name of one or two letters would be.
    candidates = [known for known in NAMES if len(known) > 2]
    return next(iter(difflib.get_close_matches(plain, candidates, 1, 0.75)), None)


def closest(word: str, choices: tuple[str, ...]) -> str | None:
    """A hint that names the choice spelled most like `word`."""
    found = difflib.get_close_matches(word.lower(), choices, 1, 0.5)
    return f"did you mean {found[0]!r}?" if found else None
