"""Which worker has served long enough, and what is to be done about it. Pure: a snapshot in, a decision out.

Most rows of `RULES` are only a wish: a fresh worker takes the place, and the old one leaves when that one
serves, so that nobody waits and nothing fails. Two for what cannot wait: the worker is killed with whatever it is doing,
as uWSGI's `evil-reload-on-*` does it, since the next second may take the machine's memory.

How many requests a worker has served, and what its app has raised, the worker itself knows (`vassals.worker.wear`); it
says "worn", with the reason. Age and memory are seen from here, so that a worker deep in a request cannot hide them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from emperor.config.recycling import Recycling

LOOK_S = 1.0
"""How often memory is measured (uWSGI: after each request, and every second where it is evil)."""

MB = 1024 * 1024


class Seen(NamedTuple):
    """One worker that serves, as it is now. `limit_s` is how long it may live (0: for ever), `worn` what it said of
    itself, empty for nothing. Memory is 0 where nobody has to look."""

    seat: int
    age_s: float
    limit_s: float = 0.0
    rss_bytes: int = 0
    as_bytes: int = 0
    worn: str = ""


class Decision(NamedTuple):
    """`replace`: start another worker, and let this one leave when that serves. `kill`: now."""

    action: str
    seat: int
    reason: str


# (what is done, whether min-worker-lifetime delays it, why: a text where it is so, else nothing). The first that holds
# decides; whom there is no hurry to kill comes last.
Rule = tuple[str, bool, Callable[[Recycling, Seen], str]]

RULES: tuple[Rule, ...] = (
    ("kill", False, lambda limits, seen: _over("evil-reload-on-rss", seen.rss_bytes, limits.evil_rss_bytes)),
    ("kill", False, lambda limits, seen: _over("evil-reload-on-as", seen.as_bytes, limits.evil_as_bytes)),
    ("replace", True, lambda limits, seen: seen.worn),
    ("replace", True, lambda limits, seen: _over("reload-on-rss", seen.rss_bytes, limits.rss_bytes)),
    ("replace", True, lambda limits, seen: _over("reload-on-as", seen.as_bytes, limits.as_bytes)),
    ("replace", True, lambda limits, seen: _old(seen)),
)


def verdict(limits: Recycling, seen: Seen) -> Decision | None:
    """What is to become of one worker; None: it stays."""
    for action, waits, why in RULES:
        if waits and seen.age_s < limits.min_lifetime_s:
            continue
        if reason := why(limits, seen):
            return Decision(action, seen.seat, reason)
    return None


def decide(limits: Recycling, workers: Sequence[Seen], can_replace: bool) -> list[Decision]:
    """All to be killed, and at most one to be replaced, the one that has lived longest: two of one app are never on
    their way at a time. `can_replace`: a seat for it is free."""
    found = [each for worker in workers if (each := verdict(limits, worker)) is not None]
    ages = {worker.seat: worker.age_s for worker in workers}
    kills = [each for each in found if each.action == "kill"]
    tired = [each for each in found if each.action == "replace"]
    if not can_replace or not tired:
        return kills
    return [*kills, max(tired, key=lambda each: ages[each.seat])]


def look_again_s(limits: Recycling, workers: Sequence[Seen], can_replace: bool) -> float | None:
    """When to look next, if nothing happens meanwhile; None: no need to."""
    if limits.measures_memory:
        return LOOK_S if workers else None
    if not can_replace:
        return None
    left = [_left_s(limits, worker) for worker in workers if worker.worn or worker.limit_s]
    return max(0.0, min(left)) if left else None


def _left_s(limits: Recycling, seen: Seen) -> float:
    due = limits.min_lifetime_s if seen.worn else max(limits.min_lifetime_s, seen.limit_s)
    return due - seen.age_s


def _over(option: str, bytes_now: int, limit: int) -> str:
    if not 0 < limit <= bytes_now:
        return ""
    return f"{option}: {_mb(bytes_now)} of at most {_mb(limit)} MB"


def _old(seen: Seen) -> str:
    if not 0 < seen.limit_s <= seen.age_s:
        return ""
    return f"max-worker-lifetime: {seen.age_s:.0f} s old"


def _mb(size: int) -> str:
    return f"{size / MB:.0f}" if size >= 10 * MB else f"{size / MB:.1f}"
