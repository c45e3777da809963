"""Which of a worker's requests have held it for too long (`harakiri`), and how a request is told of. Pure.

The page says since when each slot runs what; the limit is the path's. A request that has not begun is in no slot, so none
of this applies to it. The rules are in docs/decisions/0021-who-ends-a-worker.md.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from emperor.config.deadlines import ByPath
from emperor.protocol import packet
from emperor.router.exchange import Exchange

REQUEST_CHARS: Final = 500
VALUE_CHARS: Final = 200
MOST_VARIABLES: Final = 100
HIDDEN: Final = "(hidden)"

_SECRETS: Final = (
    *("AUTHORIZATION", "COOKIE", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "SESSION"),
    *("SIGNATURE", "CSRF", "XSRF", "API_KEY", "APIKEY", "ACCESS_KEY", "AUTH_KEY", "PRIVATE", "JWT"),
)
"""Parts of the names of variables whose values are nobody's business in a log."""


class Overdue(NamedTuple):
    """A request that has run for `ran_s`, and might for `limit_s`."""

    exchange: Exchange
    ran_s: float
    limit_s: float


def overdue(
    slots: Iterable[tuple[int, int]],
    streams: Mapping[int, Exchange],
    limits: ByPath,
    now_ns: int,
    grace_s: float = 0.0,
) -> list[Overdue]:
    """Those of `streams` that are in `slots`, pairs of ``(stream, start in ns)``, and have run for too long,
    by more than `grace_s`.

    What is in no slot has not begun; what a slot has and we do not came by an earlier connection, and is the gateway's to
    look after. A start in the future is none: it is the worker that writes it.
    """
    found = []
    for stream, start in slots:
        ran_s = (now_ns - start) / 1e9
        if not stream or not 0 < limits.least_s <= ran_s - grace_s:
            continue
        exchange = streams.get(stream)
        if exchange is None:
            continue
        limit_s = limits.of(exchange.head.path)
        if 0 < limit_s <= ran_s - grace_s:
            found.append(Overdue(exchange, ran_s, limit_s))
    return found


def told(exchange: Exchange) -> str:
    """Method, host and URI, in one line whatever is in them."""
    variables = packet.variables(exchange.head.packet)
    head = exchange.head
    uri = variables.get(b"REQUEST_URI") or head.path
    return plain(b"%b %b%b" % (head.method, head.host or b"", uri), REQUEST_CHARS)


def variables_of(exchange: Exchange) -> list[str]:
    """The request's variables as ``NAME=value``, sorted, without what may be secret."""
    found = sorted(packet.variables(exchange.head.packet).items())
    return [
        f"{plain(name, VALUE_CHARS)}={_value(name.decode('latin-1').upper(), value)}"
        for name, value in found[:MOST_VARIABLES]
    ]


def _value(name: str, value: bytes) -> str:
    return HIDDEN if any(part in name for part in _SECRETS) else plain(value, VALUE_CHARS)


def plain(raw: bytes, most: int) -> str:
    """Bytes of a client's as text of one line: what a terminal or a reader of logs could be led astray by is escaped."""
    text = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in raw[:most].decode("utf-8", "backslashreplace")
    )
    return text if len(raw) <= most else text + "…"
