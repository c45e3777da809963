"""What each of several routers has of a limit that is one for all of them. Pure.

They count by themselves, so each has its part, rounded up: together they let through what the limit says, and at most as many
more as there are routers beside the first. What one client may do (`…-per-address`) is not divided: most clients have one
connection, or few, and so one router. Nor are `limit-requests` and `limit-concurrency` of an app that has workers here, which
they count together on its page (`emperor.router.together`): each would turn away whom another had room for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from emperor.config.balancing import Balancing, PathCounts, Rate
from emperor.config.settings import RouterSettings, Settings, as_arguments
from emperor.control.messages import RouterEntry
from emperor.supervisor.wanted import Wanted

HASH = "hash"
"""Of `Balancing.balance`."""

DIVIDED = ("spool_limit", "spool_limit_each", "max_connections", "response_memory", "body_memory")
"""Settings of the router that are for all of them together."""


def part(limit: int, routers: int) -> int:
    """Of one router; 0, which is none, stays 0."""
    return -(-limit // routers)


def settings_of_each(settings: RouterSettings, routers: int) -> RouterSettings:
    """What one of so many routers is told."""
    if routers == 1:
        return settings
    divided: dict[str, Any] = {name: part(getattr(settings, name), routers) for name in DIVIDED}
    return replace(settings, **divided)


def arguments_of_each(settings: Settings) -> list[str]:
    """The same, as its flags."""
    return as_arguments(settings_of_each(settings.router, settings.emperor.routers))


def wanted_of_each(wanted: Wanted, routers: int) -> Wanted:
    """What one of so many routers is told of a vassal."""
    return wanted if routers == 1 else replace(wanted, entry=_entry(wanted.entry, routers))


def _entry(entry: RouterEntry, routers: int) -> RouterEntry:
    balancing, upstreams = entry.balancing, entry.upstreams
    counts_alone = routers if upstreams else 1
    return replace(
        entry,
        queue=part(entry.queue, routers),
        balancing=replace(
            balancing,
            reserve=_counts(balancing.reserve, routers),
            bulkheads=_counts(balancing.bulkheads, routers),
            rate=_rate(balancing.rate, counts_alone),
            concurrency=part(balancing.concurrency, counts_alone),
        ),
        upstreams=replace(
            upstreams,
            upstreams=tuple(replace(each, most=part(each.most, routers)) for each in upstreams.upstreams),
        ),
    )


def _counts(counts: PathCounts, routers: int) -> PathCounts:
    return tuple((path, part(count, routers)) for path, count in counts)


def _rate(rate: Rate, routers: int) -> Rate:
    a_second, at_once = rate
    return a_second / routers, part(at_once, routers)


def warnings_of(balancing: Balancing, routers: int) -> list[str]:
    """What a vassal asks for that so many routers do by halves."""
    if routers == 1:
        return []
    asked = [f"sticky = {balancing.sticky}"] if balancing.sticky else []
    asked += ["balance = hash"] if balancing.balance == HASH else []
    return [
        f"{each}: with routers = {routers} each of them leads a client to one of the workers whose slots it has at the moment, "
        "which may be another than before: set routers to 1 if the app needs the same one"
        for each in asked
    ]


def refusal(settings: Settings) -> str:
    """What of the settings cannot be had with several routers, and what to do; empty: nothing."""
    said = settings.emperor
    if said.routers == 1:
        return ""
    if said.backplane is None:
        return ""
    return (
        f"routers = {said.routers} and backplane = {said.backplane}: a worker of another host is connected to one router, and "
        "the others would not have it: set routers to 1, or remove backplane"
    )
