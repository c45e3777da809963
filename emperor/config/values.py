"""From what a file says to a typed value: pure, one function a kind.

A value arrives as the format gave it: text or None (a bare key) from INI, text, numbers, booleans from TOML.
Each function returns the typed value or raises `Mistake`. None guesses: `true` is never 0 and `10s` is never
10 bytes, unlike in uWSGI, where `atoi` turned ``threads = true`` into no threads at all (uwsgi core/uwsgi.c,
`uwsgi_opt_set_int`).
"""

import re
from typing import Any

from emperor.config.problems import Mistake

_TRUE = frozenset(("true", "yes", "on", "1"))
_FALSE = frozenset(("false", "no", "off", "0"))

# Digits are bounded, since int() of unbounded text is slow by the square and refused by Python above 4,300
# digits.
_COUNT = re.compile(r"[0-9]{1,15}", re.ASCII)
_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ms|s|m|h|d|)", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,15})([kmgKMG]?)", re.ASCII)
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)%?")
_RATE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)/(s|m|h)(?:\s+([0-9]{1,7}))?", re.ASCII)
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", re.ASCII)
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MOST_REQUESTS = 16384
_LONGEST_S = 86400.0
_MOST_SLOTS = 100_000
_BYTES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*", re.ASCII)
_INLINE_COMMENT = re.compile(r"\s([;#])")


def text(value: Any) -> str:
    """Any text of one line that is not empty."""
    if value is None or value == "":
        raise Mistake("needs a value")
    if not isinstance(value, str):
        raise Mistake(f"{shown(value)} is not text", "put it in quotes" if _is_number(value) else None)
    if any(character in value for character in "\0\n\r"):
        raise Mistake("holds a line break or a NUL byte")
    return value


def flag(value: Any) -> bool:
    """true/yes/on/1 or a bare key, false/no/off/0. Other text is a mistake; to uWSGI it was true."""
    if value is None:
        return True
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        if value.lower() in _TRUE:
            return True
        if value.lower() in _FALSE:
            return False
    raise Mistake(f"{shown(value)} is neither true nor false")


def count(value: Any) -> int:
    """A whole number, not negative."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and _COUNT.fullmatch(value):
        return int(value)
    if value is None:
        raise Mistake("needs a value, a whole number")
    raise Mistake(f"{shown(value)} is not a whole number")


def duration(value: Any) -> float:
    """Seconds, from ``10``, ``10s``, ``500ms``, ``2m``, ``1.5h``, ``1d`` or a number."""
    if _is_number(value) and 0 <= value < float("inf"):
        return float(value)
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        return float(match[1]) * _SECONDS[match[2]]
    if value is None:
        raise Mistake("needs a value, a duration such as 10s")
    raise Mistake(f"{shown(value)} is not a duration", "write 10s, 500ms, 2m, 1h or a number of seconds")


def path_limit(value: Any) -> tuple[str, float]:
    """A path and a duration, from ``/export 5m`` or a pair out of a table of TOML. The path comes back without a slash at
    its end.
    """
    path, limit = _path_and(value, "a duration", "write a path and a duration, as /export 5m")
    seconds = duration(limit)
    if seconds > _LONGEST_S:
        raise Mistake(f"{limit} is out of range: at most {_LONGEST_S:g} s", "0 is no limit")
    return path, seconds


def path_count(value: Any) -> tuple[str, int]:
    """A path and a number of slots, from ``/export 2`` or a pair out of a table of TOML."""
    path, limit = _path_and(value, "a number of slots", "write a path and a number, as /export 2")
    number = count(limit)
    if not 1 <= number <= _MOST_SLOTS:
        raise Mistake(f"{number} slots are out of range: between 1 and {_MOST_SLOTS}")
    return path, number


def rate(value: Any) -> tuple[float, int]:
    """Requests a second and how many of them may come at once, from ``10/s``, ``600/m 50`` or 0 (no limit). The burst that is
    not written is what comes in a second, at least 1."""
    hint = "write requests per s, m or h, and how many may come at once: 10/s, 600/m or 10/s 50"
    if value in (0, "0"):
        return 0.0, 0
    match = _RATE.fullmatch(text(value))
    if match is None:
        raise Mistake(f"{shown(value)} is not a rate", hint)
    per_s = float(match[1]) / _SECONDS[match[2]]
    burst = int(match[3]) if match[3] else max(1, round(per_s))
    if not 1 / 86400 <= per_s <= 1_000_000 or not 1 <= burst <= 1_000_000:
        raise Mistake(
            f"{shown(value)} is out of range: up to 1000000 a second, and at once, are possible", hint
        )
    return per_s, burst


def hash_key(value: Any) -> str:
    """``address``, ``header NAME`` or ``cookie NAME``."""
    kind, _, name = text(value).strip().partition(" ")
    name = name.strip()
    if kind == "address" and not name:
        return kind
    if kind in ("header", "cookie") and _TOKEN.fullmatch(name):
        return f"{kind} {name}"
    raise Mistake(f"{shown(value)} is nothing to hash by", "write address, header NAME or cookie NAME")


def canary(value: Any) -> tuple[float, float]:
    """How many in a hundred requests, and for how many seconds, from ``5 10m``, ``5% 10m`` or ``5% for 10m``."""
    hint = "write how many in a hundred requests and for how long, as 5 10m"
    words = [word for word in text(value).split() if word != "for"]
    if len(words) != 2 or not (match := _PERCENT.fullmatch(words[0])):
        raise Mistake(f"{shown(value)} is not a share and a duration", hint)
    share, seconds = float(match[1]), duration(words[1])
    if not 0 < share < 100 or not 0 < seconds <= _LONGEST_S:
        raise Mistake(
            f"{shown(value)} is out of range: less than 100 in a hundred, for at most {_LONGEST_S / 3600:g} h",
            hint,
        )
    return share, seconds


def cookie_name(value: Any) -> str:
    """A name of a cookie (RFC 6265, 4.1.1)."""
    name = text(value)
    if not _TOKEN.fullmatch(name):
        raise Mistake(f"{shown(value)} is no name of a cookie", "letters, digits, - and _ will do")
    return name


def _path_and(value: Any, what: str, hint: str) -> tuple[str, Any]:
    if isinstance(value, tuple):
        path, rest = value
    else:
        parts = text(value).rsplit(None, 1)
        if len(parts) < 2:
            raise Mistake(f"{shown(value)} is not a path and {what}", hint)
        path, rest = parts
    path = path.strip()
    if not path.startswith("/"):
        raise Mistake(
            f"{shown(path)} is not the path of a request", "write it from its first slash on: " + hint
        )
    if "?" in path or any(character.isspace() or character == "\0" for character in path):
        raise Mistake(
            f"{shown(path)} is not the beginning of a path", "write it as the app sees it, decoded: " + hint
        )
    return path.rstrip("/") or "/", rest


def concurrency(value: Any) -> str:
    """``soft/hard``, from ``64/256`` or a single number, which is both."""
    hint = "write how many requests at once, as 64, or a soft and a hard limit, as 64/256"
    parts = [str(value)] if type(value) is int else text(value).split("/")
    if len(parts) > 2 or not all(_COUNT.fullmatch(part.strip()) for part in parts):
        raise Mistake(f"{shown(value)} is no number of requests", hint)
    soft, hard = int(parts[0]), int(parts[-1])
    if not 1 <= soft <= hard <= _MOST_REQUESTS:
        raise Mistake(
            f"{shown(value)}: the soft limit is 1 at least, and no more than the hard one, which is {_MOST_REQUESTS} at most",
            hint,
        )
    return f"{soft}/{hard}"


def size(value: Any) -> int:
    """Bytes, from ``65536``, ``64k``, ``10m``, ``1g`` (powers of 1024) or a whole number."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        return int(match[1]) * _BYTES[match[2].lower()]
    if value is None:
        raise Mistake("needs a value, a size such as 64k")
    raise Mistake(f"{shown(value)} is not a size", "write 64k, 10m, 1g or a number of bytes")


def megabytes(value: Any) -> int:
    """Bytes, from ``400`` (megabytes, as uWSGI reads it) or a size with its unit: ``400m``, ``1g``."""
    if isinstance(value, str) and not _COUNT.fullmatch(value):
        return size(value)
    return count(value) * 1024 * 1024


def callable_name(value: Any) -> str:
    """``pkg.mod:name``."""
    target = module(value)
    if ":" not in target or target.endswith(")"):
        raise Mistake(f"{shown(target)} names no callable", "write pkg.mod:name")
    return target


def module(value: Any) -> str:
    """``pkg.mod``, ``pkg.mod:name`` or ``pkg.mod:factory()``."""
    target = text(value)
    name, colon, attribute = target.partition(":")
    if not _is_dotted(name) or (colon and not _is_attribute(attribute)):
        hint = None
        if "/" in name or name.endswith(".py"):
            hint = "a path belongs in wsgi-file"
        raise Mistake(
            f"{shown(target)} does not name a module", hint or "write pkg.mod, pkg.mod:app or pkg.mod:make()"
        )
    return target


def attribute(value: Any) -> str:
    """``name``, ``object.name`` or ``factory()``."""
    name = text(value)
    if not _is_attribute(name):
        raise Mistake(f"{shown(name)} is not a Python name", "write app, object.app or make()")
    return name


def variable(value: Any) -> tuple[str, str]:
    """An environment variable, from ``NAME=value`` (the value may be empty) or a pair out of a TOML table."""
    if isinstance(value, tuple):
        name, content = value
        if isinstance(content, bool) or not isinstance(content, (str, int)):
            raise Mistake(f"{name} is {shown(content)}, not text", "put it in quotes")
        content = str(content)
    else:
        name, equals, content = text(value).partition("=")
        name, content = name.strip(), content.strip()
        if not equals:
            raise Mistake(f"{shown(value)} has no =", "write NAME=value")
    if not name or "=" in name or any(character.isspace() or character == "\0" for character in name):
        raise Mistake(f"{shown(name)} cannot be the name of a variable", "write NAME=value")
    if "\0" in content:
        raise Mistake(f"the value of {name} holds a NUL byte")
    return name, content


def assignment(value: Any) -> str:
    """``key=value`` or a key alone, as text, from that or from a pair out of a TOML table."""
    if isinstance(value, tuple):
        name, content = value
        if isinstance(content, bool):
            content = "true" if content else "false"
        if not isinstance(content, (str, int, float)):
            raise Mistake(f"{name} is {shown(content)}, not text", "write one value")
        value = f"{name}={content}"
    if not text(value).partition("=")[0].strip():
        raise Mistake(f"{shown(value)} names no option", "write key=value")
    return str(value)


def place(value: Any) -> str:
    """A directory or a pattern, also as uWSGI's ``dir://…`` and ``glob://…``."""
    given = text(value)
    scheme, slashes, path = given.partition("://")
    if not slashes or "/" in scheme:
        return given
    if scheme not in ("dir", "glob"):
        raise Mistake(
            f"vassals are not read from {scheme}://…", "name a directory of files, or a pattern of files"
        )
    return text(path)


def mask(value: Any) -> int:
    """A umask, in octal as the shell's: ``022``, ``0077``."""
    given = text(value)
    if not re.fullmatch(r"(0o?)?[0-7]{1,3}", given, re.ASCII):
        raise Mistake(f"{shown(value)} is no umask", "write it in octal, as 022")
    return int(given.removeprefix("0o"), 8)


def dotted(value: Any) -> str:
    """``pkg.mod``."""
    name = text(value)
    if name.endswith(".py") or not _is_dotted(name):
        hint = (
            "put its directory into pythonpath and name the module"
            if name.endswith(".py")
            else "write pkg.mod"
        )
        raise Mistake(f"{shown(name)} does not name a module", hint)
    return name


def variable_name(value: Any) -> str:
    """The name of an environment variable."""
    name = text(value)
    if "=" in name or any(character.isspace() for character in name):
        raise Mistake(f"{shown(name)} cannot be the name of a variable", "write NAME")
    return name


def domain(value: Any) -> str:
    """``host``, ``*.host``, or either with ``/path``. The host comes back in lower case, the path without
    a slash at its end.
    """
    given = text(value)
    hint = "write blog.example.com, *.example.com or example.com/path"
    if "://" in given:
        raise Mistake(f"{shown(given)} is a URL", "leave out the scheme: " + hint)
    if given == "*":
        raise Mistake(
            "'*' is no domain", "write default = true in the one vassal that takes every other host"
        )
    if any(character.isspace() or character == "," for character in given):
        raise Mistake(f"{shown(given)} is more than one domain", "give each its own line, or in TOML a list")
    host, slash, path = given.partition("/")
    host = host.lower().removesuffix(".")
    if ":" in host:
        raise Mistake(f"{shown(given)} names a port", "routes go by host and path alone")
    if not host.isascii():
        raise Mistake(f"{shown(given)} is not ASCII", _punycode_hint(host))
    if not is_host(host.removeprefix("*.")):
        raise Mistake(f"{shown(given)} is not a domain", hint)
    path = (slash + path).rstrip("/")
    if not _PATH.fullmatch(path) or any(step in (".", "..") for step in path.split("/")):
        raise Mistake(f"{shown(given)} has a path that no request can have", hint)
    return host + path


def is_host(name: str) -> bool:
    """Whether `name`, in lower case, can be the host of a request: labels of letters, digits, - and _, or
    an IPv4 address.
    """
    return len(name) <= 253 and all(_LABEL.fullmatch(label) for label in name.split("."))


def reads_as_domain(stem: str) -> bool:
    """Whether a file's stem is to be taken for a domain: a dot in it, and a last label that is not a
    number (``app-1.2``).
    """
    return "." in stem and is_host(stem.lower()) and not stem.rpartition(".")[2].isdigit()


def inline_comment(value: Any) -> str | None:
    """What in the text of a value looks like a comment, if anything does. It is part of the value: INI
    has no such comments.
    """
    if isinstance(value, str) and (match := _INLINE_COMMENT.search(value)):
        return value[match.start(1) :]
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _is_attribute(name: str) -> bool:
    return _is_dotted(name.removesuffix("()"))


def _punycode_hint(host: str) -> str | None:
    try:
        return f"write {host.encode('idna').decode('ascii')}"
    except UnicodeError:
        return None


def shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "a table"
    shown = repr(value) if isinstance(value, str) else str(value)
    return shown if len(shown) <= 80 else shown[:79] + "…"


def shown_typed(value: Any) -> str:
    """A typed value as a person would write it."""
    match value:
        case (str(name), float(seconds)):
            return f"{name} {seconds:g}"
        case (str(name), str(content)):
            return shown(f"{name}={content}")
        case tuple() | list():
            return ", ".join(map(shown_typed, value)) or "nothing"
        case str():
            return shown(value)
        case float():
            return f"{value:g}"
    return shown(value)
