"""The settings of the emperor itself, as opposed to a vassal's options: one table, four sources.

A row is a field of `EmperorSettings` or of `RouterSettings`, so that whoever reads it reads a typed field. It is a
flag of ``emperor start`` (``--head-timeout 5s``), a variable (``EMPEROR_HEAD_TIMEOUT=5s``) and a key of the settings
file (``head-timeout = 5s``), in this order of precedence; a source that names a setting replaces what the sources
after it say, lists too. What the router reads is handed to its process as flags of the same names.

To add a setting, add a field; `sources` reads it. Durations end in ``_s`` here and nowhere else.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from emperor.config.layers import Layers
from emperor.config.listening import FORWARDED_FIELDS
from emperor.config.options import Kind, Option
from emperor.config.problems import Problem
from emperor.config.subscribing import LOCAL

PREFIX = "EMPEROR_"

_DAY_S = 86400.0


@dataclass(frozen=True)
class Setting(Option):
    """One row: an option, the attribute that holds its value, and the class that this is an attribute of."""

    attribute: str = ""
    part: str = ""

    @property
    def flag(self) -> str:
        return f"--{self.name}"

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper().replace("-", "_")


def _row(kind: Kind, default: Any, text: str, aliases: tuple[str, ...] = (), **bounds: Any) -> Any:
    """A field that is a row. `bounds` are `choices`, `least`, `most` and `since` of `Option`."""
    return field(default=default, metadata={"kind": kind, "text": text, "aliases": aliases, "bounds": bounds})


@dataclass(frozen=True, kw_only=True)
class EmperorSettings:
    """What the emperor's own process reads. Paths are absolute; an empty `vassals` is nothing to serve."""

    vassals: tuple[str, ...] = _row(
        Kind.PLACES,
        (),
        "A directory of vassals, or a pattern of vassal files such as `/srv/*/app.ini`. `emperor start DIR` names it "
        "as well. Who can write such a file says as whom its app runs.",
        ("emperor",),
    )
    http: tuple[str, ...] = _row(
        Kind.ADDRESSES,
        ("127.0.0.1:8080",),
        "Serve HTTP/1.1 here: HOST:PORT, :PORT or unix:PATH.",
    )
    uwsgi: tuple[str, ...] = _row(
        Kind.ADDRESSES,
        (),
        "Take the uwsgi protocol here too, as for nginx's uwsgi_pass (uwsgi.sock in the run directory always does). "
        "Whoever can connect can claim any REMOTE_USER.",
    )
    subscription_server: tuple[str, ...] = _row(
        Kind.ADDRESSES,
        (),
        "Take subscriptions here, in uWSGI's own protocol: HOST:PORT (UDP) or unix:PATH (datagrams). A uWSGI that says "
        "`subscribe-to = HOST:PORT:domain` gets the requests for that domain, if no vassal has it.",
        ("http-subscription-server", "fastrouter-subscription-server"),
    )
    forwarded_allow: tuple[str, ...] = _row(
        Kind.PEERS,
        ("unix", "abstract", "127.0.0.1", "::1"),
        "Which proxies are believed over HTTP when they say for whom they speak: addresses, networks, `unix` for unix "
        "sockets with a path, `abstract` for the others, which anybody on the machine can open, `*` for everybody. From "
        "others X-Forwarded-For and its like are dropped.",
    )
    forwarded_fields: tuple[str, ...] = _row(
        Kind.WORDS,
        FORWARDED_FIELDS,
        "What these proxies set themselves, and so can be believed: of x-forwarded-for, x-forwarded-proto, "
        "x-forwarded-host, x-forwarded-port, x-forwarded-prefix, x-real-ip, forwarded. A field that a proxy passes on as "
        "its client wrote it lets that client say who it is.",
    )
    uwsgi_trusted: tuple[str, ...] = _row(
        Kind.PEERS,
        ("unix",),
        "Which front servers are believed at the emperor's uwsgi listeners when they say who the client is and how it came "
        "(REMOTE_ADDR, HTTPS, REMOTE_USER, SSL_*).",
    )
    proxy_protocol: tuple[str, ...] = _row(
        Kind.PEERS,
        (),
        "Which proxies must begin their connections to the emperor's listeners with a PROXY header, version 1 or 2.",
    )
    chmod_socket: str = _row(
        Kind.MODE, "660", "The mode of the emperor's unix sockets for clients, in octal."
    )
    chown_socket: str | None = _row(
        Kind.OWNER, None, "The owner of the emperor's unix sockets for clients: USER, USER:GROUP or :GROUP."
    )
    routers: int = _row(
        Kind.COUNT,
        1,
        "How many router processes take clients, at most 3: one is enough for what one core can do. They share all listeners "
        "and all workers; one that dies is replaced while the others go on. Each has its part of `max-connections`, "
        "`body-memory`, `response-memory`, `spool-limit` and `spool-limit-each`, and of a vassal's `queue`, `bulkhead`, "
        "`reserve` and `max-connections=` of an upstream, rounded up; `limit-requests` and `limit-concurrency` they count "
        "together, but for vassals with upstreams, of which each has its part; other limits hold for each of them. Not with "
        "`backplane`.",
        least=1,
        most=3,
    )
    router_mercy_s: float = _row(
        Kind.DURATION,
        600.0,
        "How long a router whose place another has taken (`emperor upgrade`) may go on with what it has: downloads, uploads, "
        "streams. What has not ended by then is cut off.",
        least=1.0,
        most=7 * _DAY_S,
    )
    backplane: str | None = _row(
        Kind.BACKPLANE,
        None,
        "Let workers of other hosts serve apps of this one: where they connect to the router, `tcp://0.0.0.0:5555`. Only with "
        "a key that `emperor keys allow` has let in.",
    )
    router: tuple[str, ...] = _row(
        Kind.ROUTERS,
        (),
        "A router on another host, which the workers of every vassal here serve as well, `tcp://HOST:5555`; behind it may "
        "stand the weight of this host there, `weight=4`, which a vassal's own line outdoes. Its key is one that "
        "`emperor keys allow KEY tcp://HOST:5555` has named.",
    )
    keys_dir: str | None = _row(
        Kind.PATH,
        None,
        "Where the keys of this host are, and what those of others may do (`emperor keys`). By default /etc/emperor/keys for "
        "root, else emperor/keys below $XDG_CONFIG_HOME.",
    )
    stats: str | None = _row(
        Kind.ADDRESS,
        None,
        "Serve statistics here too (stats.sock always does).",
        ("emperor-stats", "emperor-stats-server"),
    )
    vassal_set: tuple[str, ...] = _row(
        Kind.ASSIGNMENTS,
        (),
        "An option for every vassal, `processes=2`, unless its own file sets it; in TOML also a table.",
        ("vassals-set",),
    )
    vassals_include: tuple[str, ...] = _row(
        Kind.PATHS, (), "A file that every vassal includes after its own: what it sets counts."
    )
    vassals_include_before: tuple[str, ...] = _row(
        Kind.PATHS, (), "A file that every vassal includes before its own: what the vassal sets counts."
    )
    vassals_inherit: tuple[str, ...] = _row(
        Kind.PATHS, (), "A file that every vassal inherits from, after what it inherits from itself."
    )
    vassals_inherit_before: tuple[str, ...] = _row(
        Kind.PATHS, (), "A file that every vassal inherits from, before what it inherits from itself."
    )
    refuse_root: bool = _row(
        Kind.FLAG,
        False,
        "Whether an emperor that is root refuses a vassal whose `uid` names no other user. Otherwise it warns.",
    )
    auto_reload: tuple[str, ...] = _row(
        Kind.MODES,
        (),
        "Whether an edit of a vassal's file is in effect at once: `on`; `off`: with the next `emperor reload NAME`; "
        "`validate-only`: the same, and until then `emperor status` says whether it is right. `PLACE=MODE` for one directory "
        "or pattern. New files start, and removed ones go, all the same.",
    )
    router_user: str | None = _row(
        Kind.USER,
        None,
        "As whom the router runs when the emperor is root: a user of its own, by name or number. No vassal may run as this "
        "user, since it could stop the router. By default nobody.",
    )
    run_dir: str | None = _row(
        Kind.PATH,
        None,
        "Where sockets and state are. By default made from the first directory's path, under /run/emperor for root, "
        "else under $XDG_RUNTIME_DIR.",
    )


@dataclass(frozen=True, kw_only=True)
class RouterSettings:
    """What a router process reads. Times are seconds; those of clients are looked at once a second."""

    head_timeout_s: float = _row(
        Kind.DURATION,
        15.0,
        "How long a client may take from the first byte of a request's head (or uwsgi packet) to its last; a drip does "
        "not extend it. Then 408.",
        ("http-headers-timeout",),
        least=0.1,
        most=_DAY_S,
    )
    idle_timeout_s: float = _row(
        Kind.DURATION,
        75.0,
        "How long a connection may rest between two requests.",
        ("http-keepalive",),
        least=0.1,
        most=_DAY_S,
    )
    body_timeout_s: float = _row(
        Kind.DURATION,
        60.0,
        "How long a client may send no byte of a body that is due. Then 408.",
        least=0.1,
        most=_DAY_S,
    )
    write_timeout_s: float = _row(
        Kind.DURATION,
        60.0,
        "How long a client may take no byte of what waits for it. Then it is cut off.",
        least=0.1,
        most=_DAY_S,
    )
    linger_timeout_s: float = _row(
        Kind.DURATION,
        2.0,
        "How long, after an answer that came before the end of the request and has been taken, what the client still sends is "
        "read and dropped, so that it sees the answer.",
        least=0.1,
        most=_DAY_S,
    )
    body_min_rate: int = _row(
        Kind.SIZE,
        240,
        "Bytes a second of a body that is due which a client must send on average, once `body-timeout` has passed; time in "
        "which we do not read does not count. Then 408. 0: any rate above none.",
    )
    write_min_rate: int = _row(
        Kind.SIZE,
        240,
        "Bytes a second which a client must take on average over each `write-timeout` in which more waits for it than we "
        "hold for one. Then it is cut off. 0: any rate above none.",
    )
    keepalive_requests: int = _row(
        Kind.COUNT, 0, "The most requests of one connection; the last answer closes it. 0: no limit."
    )
    request_line_limit: int = _row(
        Kind.SIZE,
        16384,
        "The longest request line (method, target, version). Beyond it 414.",
        least=64,
        most=65536,
    )
    head_limit: int = _row(
        Kind.SIZE,
        65536,
        "The largest head of an HTTP request. Beyond it 431, as for what does not fit into a packet of 64 KiB.",
        least=64,
        most=65536,
    )
    fields_limit: int = _row(
        Kind.COUNT, 100, "The most header lines of a request. Beyond it 431.", least=1, most=1000
    )
    trailers_limit: int = _row(
        Kind.SIZE, 8192, "The largest trailer section behind a chunked body. Beyond it 431.", least=64
    )
    chunk_line_limit: int = _row(
        Kind.SIZE, 256, "The longest size line of a chunk, with its extensions. Beyond it 400.", least=16
    )
    chunk_extensions_limit: int = _row(
        Kind.SIZE, 16384, "The most bytes of chunk extensions in one body. Beyond it 413.", least=16
    )
    pipeline_limit: int = _row(
        Kind.SIZE,
        65536,
        "How many bytes are read ahead behind a request that is not answered yet. The next request is looked at when the "
        "one before it is answered.",
        least=1,
    )
    discard_limit: int = _row(
        Kind.SIZE,
        262144,
        "How much of a body that nobody will read is read and dropped, to keep the connection; more costs the connection.",
    )
    subscription_tolerance_s: float = _row(
        Kind.DURATION,
        17.0,
        "A node that has subscribed and is silent for longer is left out. uWSGI speaks every 10 s (`subscribe-freq`).",
        least=1.0,
        most=_DAY_S,
    )
    subscription_allow: tuple[str, ...] = _row(
        Kind.PEERS,
        LOCAL,
        "From whom subscriptions without a signature are taken: addresses, networks, `unix` for those who may write to a "
        "unix socket of ours, `*` for everybody. Who may subscribe gets the requests of hosts that no vassal has.",
    )
    subscriptions_sign_check: str | None = _row(
        Kind.SIGN_CHECK,
        None,
        "Every subscription has to be signed with the key whose public half is DIRECTORY/KEY.pem: `SHA256:/etc/emperor/keys`. "
        "Needs the package cryptography (`emperor-vassals[signed]`).",
    )
    subscriptions_sign_check_tolerance_s: float = _row(
        Kind.DURATION,
        300.0,
        "How far the time in a signed subscription may be from ours.",
        least=1.0,
        most=7 * _DAY_S,
    )
    subscriptions_sign_skip_uid: str | None = _row(
        Kind.UIDS,
        None,
        "Local users whose subscriptions by a unix socket need no signature.",
    )
    subscriptions_credentials_check: tuple[str, ...] = _row(
        Kind.PATHS,
        (),
        "A directory with a file for each key: only who owns it, user and group, may subscribe to that key, and by a unix "
        "socket of ours alone.",
    )
    orphan_timeout_s: float = _row(
        Kind.DURATION,
        3600.0,
        "How long a router goes on without an emperor; then it finishes and exits. A gateway waits a minute longer.",
        least=1.0,
        most=7 * _DAY_S,
    )
    spool_dir: str | None = _row(
        Kind.PATH,
        None,
        "Where request bodies lie that are too large for memory (`post-buffering`), as files without a name. It should be on "
        "disk and not in memory. By default TMPDIR of the emperor's environment, else /var/tmp.",
    )
    spool_limit: int = _row(
        Kind.SIZE,
        16 << 30,
        "The most bytes of request bodies on disk, of all vassals together; what goes beyond is answered 507.",
        most=1 << 60,
    )
    spool_limit_each: int = _row(
        Kind.SIZE,
        4 << 30,
        "The same for each vassal, so that one cannot take the room of all.",
        most=1 << 60,
    )
    max_connections: int = _row(
        Kind.COUNT,
        0,
        "The most client connections; what is more is answered 503 and closed (reset where a handshake comes first). "
        "0 is three quarters of the router's descriptors (its hard RLIMIT_NOFILE).",
        ("maxconn",),
        most=1 << 20,
    )
    max_connections_per_address: int = _row(
        Kind.COUNT,
        0,
        "The most of them from one address (of IPv6: one /64); what is more is answered 429. Unix sockets and trusted proxies "
        "do not count. 0 is half of `max-connections`.",
        most=1 << 20,
    )
    response_memory: int = _row(
        Kind.SIZE,
        4 << 20,
        "The bytes of responses in memory for clients that read slowly, in all, up to which `response-buffer` is given. "
        "Beyond it such a client has 320 KiB: what its worker had been allowed to send.",
        most=1 << 50,
    )
    body_memory: int = _row(
        Kind.SIZE,
        64 << 20,
        "The most bytes of request bodies in memory; from there on each goes to disk, however small. At twice as much, "
        "which takes a disk that does not keep up, the next is answered 503.",
        least=1 << 20,
        most=1 << 50,
    )


def _rows(part: type) -> Iterator[Setting]:
    for each in fields(part):
        row = each.metadata
        name = each.name.removesuffix("_s") if row["kind"] is Kind.DURATION else each.name
        yield Setting(
            name.replace("_", "-"),
            row["kind"],
            each.default,
            row["text"],
            row["aliases"],
            **row["bounds"],
            attribute=each.name,
            part="router" if part is RouterSettings else "emperor",
        )


SETTINGS: tuple[Setting, ...] = (*_rows(EmperorSettings), *_rows(RouterSettings))

NAMES: dict[str, Setting] = {name: row for row in SETTINGS for name in (row.name, *row.aliases)}


@dataclass(frozen=True)
class Settings:
    """What all sources say together. `origins` tells for each setting that a source names which one it was
    (``--http``, ``EMPEROR_HTTP``, ``/etc/emperor.toml:3``); `file` is the settings file, if one was read; `warnings` are worth
    a log line, `notes` only somebody's interest."""

    emperor: EmperorSettings = EmperorSettings()
    router: RouterSettings = RouterSettings()
    origins: Mapping[str, str] = field(default_factory=dict)
    file: str | None = None
    warnings: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()


_LIVE = frozenset(
    (
        "vassal_set",
        "vassals_include",
        "vassals_include_before",
        "vassals_inherit",
        "vassals_inherit_before",
        "refuse_root",
        "auto_reload",
        "router_mercy_s",
    )
)
"""Settings of the emperor's own that a reload takes up; the others are for its start."""


def take_up(old: Settings, new: Settings) -> tuple[Settings, list[str]]:
    """What counts after a reload, when the sources say `new`; and the names of what will count from the next start on."""
    rows = [row for row in SETTINGS if row.part == "emperor" and row.attribute not in _LIVE]
    fixed = {row.attribute: getattr(old.emperor, row.attribute) for row in rows}
    waiting = [name for name, value in fixed.items() if getattr(new.emperor, name) != value]
    names = [name.removesuffix("_s").replace("_", "-") for name in waiting]
    return replace(new, emperor=replace(new.emperor, **fixed)), names


def layers_of(settings: EmperorSettings, origins: Mapping[str, str] | None = None) -> Layers:
    """What these settings add to every vassal; `origins` as of `Settings`."""
    pairs = (each.partition("=") for each in settings.vassal_set)
    return Layers(
        include_before=settings.vassals_include_before,
        inherit_before=settings.vassals_inherit_before,
        settings=tuple((key.strip(), value.strip()) for key, _, value in pairs),
        include=settings.vassals_include,
        inherit=settings.vassals_inherit,
        origins=origins or {},
    )


_Part = TypeVar("_Part", EmperorSettings, RouterSettings)


def as_arguments(settings: EmperorSettings | RouterSettings) -> list[str]:
    """The flags that make these settings out of the defaults, each as one argument: ``--NAME=VALUE``."""
    arguments = []
    for row in SETTINGS:
        value = getattr(settings, row.attribute, row.default)
        if value == row.default:
            continue
        for item in value if row.kind.repeats else (value,):
            text = " ".join(item) if isinstance(item, tuple) else item
            arguments.append(f"{row.flag}={str(text).lower() if isinstance(text, bool) else text}")
    return arguments


def from_flags(part: type[_Part], arguments: Sequence[str]) -> _Part:
    """The inverse of `as_arguments`. Raises Mistake for a value that is wrong, KeyError for a flag of another version."""
    attributes = {row.flag: row.attribute for row in SETTINGS}
    values: dict[str, list[str]] = {}
    for argument in arguments:
        flag, _, value = argument.partition("=")
        values.setdefault(attributes[flag], []).append(value)
    return from_arguments(part, values)


def from_arguments(part: type[_Part], values: Mapping[str, Sequence[str] | None]) -> _Part:
    """The same, given the values of each flag by its attribute. Raises Mistake."""
    found: dict[str, Any] = {}
    for row in _rows(part):
        given = values.get(row.attribute)
        if given:
            items = [row.parse(item) for item in given]
            found[row.attribute] = tuple(items) if row.kind.repeats else items[-1]
    return part(**found)
