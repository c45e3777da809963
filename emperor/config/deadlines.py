"""How long requests may take, by their paths, and what is done then. Pure: no clock.

The one description of it: a vassal's file is read into it, and it travels as JSON to the router, which decides
(``emperor.router.deadlines``), and to the gateway, which ends workers (``vassals.gateway.harakiri``). It depends on
next to nothing, since every gateway has it in memory.
"""

from dataclasses import dataclass
from typing import Any, Final

from emperor.config import parts

PathLimits = tuple[tuple[str, float], ...]
"""``(prefix of a path, seconds)``, in the order of the file; 0 is no limit."""


class ByPath:
    """Seconds for each path: those of the longest prefix of it that is named, else ``default_s``; 0 is no limit.

    A prefix is whole segments: ``/export`` is one of ``/export`` and ``/export/all``, not of ``/exports``. Of one that is
    named twice the last counts. ``least_s`` is the shortest limit of all, 0 if there is none: what is younger need not be
    asked about.
    """

    __slots__ = ("_default_s", "_prefixes", "least_s", "most_s")

    def __init__(self, default_s: float, paths: PathLimits) -> None:
        self._default_s = default_s
        named = {prefix.rstrip("/").encode(): seconds for prefix, seconds in paths}
        self._prefixes = sorted(named.items(), key=lambda each: -len(each[0]))
        limits = [seconds for seconds in (default_s, *named.values()) if seconds > 0]
        self.least_s = min(limits, default=0.0)
        self.most_s = max(limits, default=0.0)

    def of(self, path: bytes) -> float:
        for prefix, seconds in self._prefixes:
            if path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in (b"", b"/"):
                return seconds
        return self._default_s


@dataclass(frozen=True)
class Deadlines:
    """``harakiri_s`` and ``harakiri_paths``: how long a request may hold a worker, from its begin to its end.
    ``verbose``: the log has its variables. ``grace_s``, ``signal``: the worker gets this signal so long before SIGKILL (0:
    no signal). ``request_paths``: what the vassal's `request-timeout` is for these paths. ``poison_deaths``: a request that
    has ended so many workers is refused for a while; 0: never.
    """

    harakiri_s: float = 0.0
    harakiri_paths: PathLimits = ()
    verbose: bool = False
    grace_s: float = 0.0
    signal: int = 15
    request_paths: PathLimits = ()
    poison_deaths: int = 2

    @property
    def harakiri(self) -> ByPath:
        return ByPath(self.harakiri_s, self.harakiri_paths)

    @property
    def backstop_s(self) -> float:
        """What every request is limited by, whatever its path; 0: some is not limited."""
        limits = [self.harakiri_s, *(seconds for _, seconds in self.harakiri_paths)]
        return max(limits) if min(limits) > 0 else 0.0

    def to_json(self) -> dict[str, Any]:
        """A dict of numbers, booleans and lists of pairs, ready for `json.dumps`."""
        return parts.json_of(self)

    @classmethod
    def from_json(cls, document: Any) -> "Deadlines":
        """The inverse of `to_json`; what is missing is the default. Raises ValueError naming the key of a wrong type or
        value."""
        return cls(**parts.keys_of(cls, "deadlines", document, own=_OWN))


NO_DEADLINES = Deadlines()


def _limits(what: str, value: Any) -> PathLimits:
    found = parts.by_path(what, parts.is_number, "seconds", value)
    return tuple((path, float(seconds)) for path, seconds in found)


_OWN: Final = {"harakiri_paths": _limits, "request_paths": _limits}
