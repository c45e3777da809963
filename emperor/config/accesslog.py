"""What a vassal's access log is: where it goes, which requests it tells of, and what a line looks like. Pure.

A format is compiled once, where the file is checked and again in the router; the router renders the pieces. Variables
have uWSGI's names (`core/logging.c`), so that a template of an existing file means what it did; ours are marked.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from emperor.config.problems import Mistake

OFF = ""
STDOUT = "-"

TEXT, JSON_TEXT, JSON_VALUE = range(3)
"""How a value is written: escaped between quotes of one's own, the same for JSON, and as a whole JSON value."""

LITERAL, PACKET = 0, 1
"""Kinds of pieces beside the functions: text as it stands, and a variable of the request."""

FORWARDED = -1
"""One more: the client's address that X-Forwarded-For claims, and without such a field REMOTE_ADDR, as uWSGI has it."""


class Variable(NamedTuple):
    """One name for `%(name)`. `kind` is a number that the router knows; `packet` the variable of the request that it
    reads, for PACKET."""

    kind: int
    text: str
    packet: bytes = b""
    number: bool = False
    ours: bool = False


def _table() -> dict[str, Variable]:
    found: dict[str, Variable] = {}
    for name, variable, text in (
        ("uri", b"REQUEST_URI", "path and query as the client sent them"),
        ("method", b"REQUEST_METHOD", "the method"),
        ("user", b"REMOTE_USER", "who the front server says has logged in"),
        (
            "addr",
            b"REMOTE_ADDR",
            "the client's address; with `log-x-forwarded-for` what X-Forwarded-For claims, if it is there",
        ),
        ("host", b"HTTP_HOST", "the Host field"),
        ("proto", b"SERVER_PROTOCOL", "the protocol and its version"),
        ("uagent", b"HTTP_USER_AGENT", "the User-Agent field"),
        ("referer", b"HTTP_REFERER", "the Referer field"),
    ):
        found[name] = Variable(PACKET, text, variable)
    functions: tuple[tuple[str, str, bool, bool], ...] = (
        ("status", "the status; 499 for a client that went before it had an answer", True, False),
        ("rsize", "bytes of the response's body", True, False),
        ("hsize", "bytes of the response's head", True, False),
        ("size", "bytes of the response, head and body", True, False),
        ("cl", "bytes of the request's body by its Content-Length", True, False),
        (
            "micros",
            "µs from the request's last head byte to the response's end, waiting included",
            True,
            False,
        ),
        ("msecs", "the same in ms", True, False),
        ("secs", "the same in s, with six decimals", True, False),
        ("tmsecs", "when the request arrived, ms since 1970", True, False),
        ("tmicros", "the same in µs", True, False),
        ("time", "when the request arrived, s since 1970", True, False),
        ("ltime", "the same as `22/Nov/2026:20:30:00 +0100`", False, False),
        ("ftime", "the same; uWSGI's `log-date` format is not there", False, False),
        ("ctime", "the same as `Sun Nov 22 20:30:00 2026`", False, False),
        ("epoch", "now, s since 1970", True, False),
        ("pid", "the worker's pid; 0 when none was given the request", True, False),
        ("wid", "the worker's number, from 1; 0 when none was given the request", True, False),
        ("switches", "always 1: context switches of uWSGI's async mode", True, False),
        (
            "vars",
            "keys and values in the request's packet: two for each variable, as uWSGI counts",
            True,
            False,
        ),
        ("core", "always 0, as uWSGI's is of no meaning", True, False),
        ("vsz", "always 0, as without uWSGI's memory-report", True, False),
        ("rss", "always 0, as without uWSGI's memory-report", True, False),
        ("vszM", "always 0, as without uWSGI's memory-report", True, False),
        ("rssM", "always 0, as without uWSGI's memory-report", True, False),
        ("pktsize", "bytes of the request's packet", True, False),
        ("modifier1", "always 0: a request for a WSGI app", True, False),
        ("modifier2", "always 0", True, False),
        ("headers", "fields in the response's head", True, False),
        ("werr", "1 when the response could not be sent whole, else 0", True, False),
        ("rerr", "1 when the client went before it had any answer, else 0", True, False),
        ("ioerr", "1 when either was so", True, False),
        ("isotime", "when the request arrived, as `2026-11-22T19:30:00.123Z`", False, True),
        ("id", "the request's id", False, True),
        ("vassal", "the vassal's name", False, True),
        ("gen", "the generation that answered; 0 when none was given the request", True, True),
        (
            "upstream",
            "the upstream that the request was brought to last, with the address of its name",
            False,
            True,
        ),
    )
    for kind, (name, text, number, ours) in enumerate(functions, start=PACKET + 1):
        found[name] = Variable(kind, text, b"", number, ours)
    return found


VARIABLES: dict[str, Variable] = _table()
KINDS: dict[str, int] = {name: each.kind for name, each in VARIABLES.items() if each.kind != PACKET}

COMBINED = (
    '%(addr) - %(user) [%(ltime)] "%(method) %(uri) %(proto)" %(status) %(rsize) "%(referer)" "%(uagent)"'
)
UWSGI = (
    "[pid: %(pid)|app: 0|req: -/-] %(addr) (%(user)) {%(vars) vars in %(pktsize) bytes} [%(ctime)] %(method) %(uri) => "
    "generated %(rsize) bytes in %(msecs) msecs (%(proto) %(status)) %(headers) headers in %(hsize) bytes "
    "(%(switches) switches on core %(core))"
)
NAMED = {"combined": COMBINED, "uwsgi": UWSGI}

JSON_KEYS: tuple[tuple[str, str], ...] = (
    ("time", "isotime"),
    ("vassal", "vassal"),
    ("id", "id"),
    ("addr", "addr"),
    ("user", "user"),
    ("method", "method"),
    ("host", "host"),
    ("uri", "uri"),
    ("proto", "proto"),
    ("status", "status"),
    ("bytes", "rsize"),
    ("request_bytes", "cl"),
    ("micros", "micros"),
    ("referer", "referer"),
    ("user_agent", "uagent"),
    ("worker", "wid"),
    ("pid", "pid"),
    ("generation", "gen"),
    ("upstream", "upstream"),
)
"""Keys of `log-format = json` → the variable of each. A key is never taken away or given another meaning."""

Piece = tuple[int, bytes, int]
"""(kind, literal text or the request's variable, how it is written)."""

_VARIABLE = re.compile(r"%\(([^)]*)\)")
_LOGGER = re.compile(r"([A-Za-z0-9_-]+ )?[a-z0-9]+:(?![0-9])")


@dataclass(frozen=True, kw_only=True)
class AccessLog:
    """`place` is OFF, STDOUT or an absolute path. With `everything` all requests are told of, else those of the
    conditions. `slow_ms` and `big_bytes` 0: that is no condition. `fields` are added to the JSON format."""

    place: str = OFF
    format: str = "combined"
    fields: tuple[tuple[str, str], ...] = ()
    everything: bool = True
    client_errors: bool = False
    server_errors: bool = False
    slow_ms: int = 0
    big_bytes: int = 0
    zero: bool = False
    forwarded: bool = False
    max_bytes: int = 0
    backup: str = ""

    def to_json(self) -> dict[str, Any]:
        """A dict ready for `json.dumps`."""
        document: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        document["fields"] = [list(pair) for pair in self.fields]
        return document

    @classmethod
    def from_json(cls, document: Any) -> AccessLog:
        """The inverse of `to_json`; unknown keys are ignored. Raises ValueError naming a key of a wrong type."""
        if not isinstance(document, dict):
            raise ValueError(f"access log: an object expected, not {type(document).__name__}")
        given: dict[str, Any] = {}
        for each in fields(cls):
            if each.name not in document:
                continue
            value = document[each.name]
            if each.name == "fields":
                if not isinstance(value, list) or not all(_is_pair(pair) for pair in value):
                    raise ValueError("access log: fields: a list of pairs of strings expected")
                value = tuple((name, template) for name, template in value)
            elif type(value) is not type(each.default):
                raise ValueError(
                    f"access log: {each.name}: {type(each.default).__name__} expected, not {value!r}"
                )
            given[each.name] = value
        return cls(**given)

    @property
    def is_json(self) -> bool:
        return self.format == "json" or self.format.lstrip().startswith("{")

    def pieces(self) -> tuple[Piece, ...]:
        """What a line is made of, its end included. Raises Mistake."""
        if self.format == "json":
            return _json_pieces(self)
        how = JSON_TEXT if self.is_json else TEXT
        return (*_pieces(NAMED.get(self.format, self.format), how, self), (LITERAL, b"\n", TEXT))


def check_format(template: str) -> str:
    """A format as it stands. Raises Mistake."""
    AccessLog(format=template).pieces()
    return template


def unknown(template: str) -> list[tuple[str, str]]:
    """Names in a template that are no variable, each with a hint. uWSGI takes such a name for one that the app may set
    (`uwsgi.set_logvar`) and writes `-` until then: so is it here, where no app can."""
    if template in NAMED or template == "json":
        return []
    names = dict.fromkeys(_VARIABLE.findall(template))
    return [(name, nearest(name)) for name in names if not _is_known(name)]


def _json_pieces(log: AccessLog) -> tuple[Piece, ...]:
    import json

    out: list[Piece] = []
    for key, template in (*((key, f"%({name})") for key, name in JSON_KEYS), *log.fields):
        out.append((LITERAL, f"{',' if out else '{'}{json.dumps(key)}:".encode(), TEXT))
        match = _VARIABLE.fullmatch(template)
        if match is not None:
            out.append(_piece(match[1], JSON_VALUE, log))
        else:
            out.append((LITERAL, b'"', TEXT))
            for kind, text, how in _pieces(template, JSON_TEXT, log):
                out.append((kind, json.dumps(text.decode())[1:-1].encode() if kind == LITERAL else text, how))
            out.append((LITERAL, b'"', TEXT))
    return (*out, (LITERAL, b"}\n", TEXT))


def _pieces(template: str, how: int, log: AccessLog) -> list[Piece]:
    if "\n" in template or "\r" in template:
        raise Mistake("a line of the log is one line: there is an end of line in it")
    out: list[Piece] = []
    at = 0
    for match in _VARIABLE.finditer(template):
        if match.start() > at:
            out.append((LITERAL, template[at : match.start()].encode(), TEXT))
        out.append(_piece(match[1], how, log))
        at = match.end()
    if at < len(template):
        out.append((LITERAL, template[at:].encode(), TEXT))
    return out


def _piece(name: str, how: int, log: AccessLog) -> Piece:
    if name.startswith("var.") and len(name) > 4:
        return PACKET, name[4:].encode(), how
    known = VARIABLES.get(name)
    if known is None:
        return LITERAL, b"null" if how == JSON_VALUE else b"-", TEXT
    if name == "addr" and log.forwarded:
        return FORWARDED, b"HTTP_X_FORWARDED_FOR", how
    return known.kind, known.packet, how


def _is_known(name: str) -> bool:
    return name in VARIABLES or (name.startswith("var.") and len(name) > 4)


def nearest(name: str) -> str:
    """A hint for a name that is none."""
    if name.startswith("metric."):
        return "metrics are in the statistics (emperor status --json)"
    if re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
        return f"a variable of the request is written %(var.{name})"
    found = difflib.get_close_matches(name, VARIABLES, 1, 0.5)
    if found:
        return f"did you mean %({found[0]})?"
    return f"there are %(var.NAME) and {', '.join(VARIABLES)}"


def where(text: str) -> str:
    """The text of `access-log` or `logto`, also in the words of uWSGI's `logger`; `off` and `-` as such. Raises Mistake."""
    if _LOGGER.match(text):
        text = place_of_logger(text)
    if re.fullmatch(r"[0-9.]+:[0-9]+|\[?[0-9a-fA-F:]+\]?:[0-9]+", text):
        raise Mistake(
            f"{text} is an address: logs are not sent over the network",
            "write a path, and let what reads it do so",
        )
    place = place_of(text, lambda path: path)
    return "off" if place == OFF else place


def check_field(text: str) -> tuple[str, str]:
    """A `NAME=template` of `log-field`. Raises Mistake."""
    name, equals, template = text.partition("=")
    if not equals:
        raise Mistake(f"{text!r} has no template", "write NAME=%(variable)")
    pair = (name.strip(), template.strip())
    AccessLog(format="json", fields=(pair,)).pieces()
    return pair


def of_options(values: Mapping[str, Any], given: Collection[str]) -> AccessLog | None:
    """The access log that a vassal's options come to, by their names; `given` are those that its file sets. None: off."""
    place = values["access-log"]
    if place == "off":
        return None
    conditions = [values[name] for name in ("log-4xx", "log-5xx", "log-slow", "log-big", "log-zero")]
    everything = (place is not None or "log-format" in given) and not values["disable-logging"]
    if not everything and not any(conditions):
        return None
    if place is None:
        place = values["logto"] if values["logto"] not in (None, "off") else STDOUT
    return AccessLog(
        place=place,
        format=values["log-format"],
        fields=tuple(values["log-field"]),
        everything=everything,
        client_errors=values["log-4xx"],
        server_errors=values["log-5xx"],
        slow_ms=values["log-slow"],
        big_bytes=values["log-big"],
        zero=values["log-zero"],
        forwarded=values["log-x-forwarded-for"],
        # What both write to is moved away by the app's side of it, which is there in any case.
        max_bytes=values["log-maxsize"] if place != values["logto"] else 0,
        backup=values["log-backupname"] or "",
    )


def place_of(text: str, absolute: Callable[[str], str]) -> str:
    """`off`, `-` or a file → a place; the standard output by its names in /dev is `-`. Raises Mistake."""
    if text in ("off", "no", "false", "0", "/dev/null"):
        return OFF
    if text in (
        STDOUT,
        "on",
        "yes",
        "true",
        "1",
        "/dev/stdout",
        "/dev/stderr",
        "/dev/fd/1",
        "/dev/fd/2",
        "/proc/self/fd/1",
    ):
        return STDOUT
    if not text or text.endswith("/"):
        raise Mistake(f"{text!r} is no file", "write a path, - for the emperor's standard output, or off")
    return absolute(text)


def place_of_logger(text: str) -> str:
    """The text of uWSGI's `logger` or `req-logger`, `[NAME ]PLUGIN[:ARGUMENTS]` → what `access-log` takes. Raises Mistake."""
    plugin, _, arguments = (
        text.rpartition(" ")[2].partition(":") if not text.startswith("file:") else text.partition(":")
    )
    if plugin in ("stdio", "fd"):
        return STDOUT
    if plugin == "file":
        pairs = dict(part.partition("=")[::2] for part in arguments.split(",") if "=" in part)
        return pairs.get("logfile", arguments)
    raise Mistake(
        f"the logger {plugin!r} is not there",
        "write file:PATH, stdio:, or let what reads the standard output send it on",
    )


def rest_of_logger(text: str) -> dict[str, str]:
    """What uWSGI's ``[NAME ]file:logfile=PATH,maxsize=N`` says beside the path, by its key; nothing, of any other text."""
    if not _LOGGER.match(text) or "logfile=" not in text:
        return {}
    arguments = text.partition("file:")[2]
    pairs = dict(part.partition("=")[::2] for part in arguments.split(",") if "=" in part)
    pairs.pop("logfile", None)
    return pairs


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)
