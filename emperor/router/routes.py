"""Which vassal a request goes to. Pure.

A route is a host (``blog.example.com``), a wildcard (``*.example.com``: any depth below, not the name itself), or either
followed by a path (``example.com/shop``: that path and everything below it). The most specific wins: exact host before
wildcard, longer wildcard before shorter, longer path before shorter.
"""

from collections.abc import Iterable
from typing import Any


class Routes:
    """A table of routes, built once and replaced as a whole.

    ``routes``: (route text, target) pairs, the first of equal routes wins. ``fallback`` takes what no route matches; None: 404.
    """

    __slots__ = ("_exact", "_wild", "fallback", "shared")

    def __init__(self, routes: Iterable[tuple[str, Any]] = (), fallback: Any = None) -> None:
        exact: dict[bytes, dict[bytes, Any]] = {}
        wild: dict[bytes, dict[bytes, Any]] = {}
        for route, target in routes:
            host, slash, path = route.partition("/")
            place = wild if host.startswith("*.") else exact
            key = host.removeprefix("*").encode().lower()
            place.setdefault(key, {}).setdefault((slash + path).rstrip("/").encode(), target)
        # Longest path first, so that the first match is the one.
        self._exact = {host: _longest_first(paths) for host, paths in exact.items()}
        self._wild = {host: _longest_first(paths) for host, paths in wild.items()}
        self.fallback = fallback
        self.shared = False  # some targets are `shares.Shares`, out of which one is chosen yet

    def find(self, host: bytes, path: bytes) -> Any:
        """The target for a lower-case host without a port and a decoded path."""
        paths = self._exact.get(host)
        if paths is not None:
            found = _by_path(paths, path)
            if found is not None:
                return found
        if self._wild:
            dot = host.find(b".")
            while dot >= 0:
                paths = self._wild.get(host[dot:])
                if paths is not None:
                    found = _by_path(paths, path)
                    if found is not None:
                        return found
                dot = host.find(b".", dot + 1)
        return self.fallback


def mounts_of(domains: Iterable[str]) -> Routes | None:
    """Which path of a vassal's ``host/path`` routes a request is below, as ``/path``; None when it has none."""
    if not any("/" in domain for domain in domains):
        return None
    return Routes((domain, "".join(domain.partition("/")[1:]).encode()) for domain in domains)


def _longest_first(paths: dict[bytes, Any]) -> tuple[tuple[bytes, Any], ...]:
    return tuple(sorted(paths.items(), key=lambda item: -len(item[0])))


def _by_path(paths: tuple[tuple[bytes, Any], ...], path: bytes) -> Any:
    for prefix, target in paths:
        if not prefix or path == prefix or path.startswith(prefix + b"/"):
            return target
    return None
