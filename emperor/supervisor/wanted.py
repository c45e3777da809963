"""What a router must know of a vassal. Pure: it follows from what the supervisor knows, and is compared with what was sent
(`telling`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from emperor.config.listing import route_names
from emperor.control.messages import RouterEntry
from emperor.supervisor.fleet import Phase, Vassal
from emperor.supervisor.names import Claim
from emperor.supervisor.reading import Reading
from emperor.supervisor.vassal import State

ROUTERS = 4
"""Rows of a new page: as many routers may serve its workers at a time."""

_REASON_CHARS = 200


@dataclass(frozen=True)
class WantedGeneration:
    """What a router is told of one generation."""

    token: str
    uid: int | None
    seats: int
    slots: int = 1


@dataclass(frozen=True)
class Wanted:
    """All that a router must know of one vassal."""

    entry: RouterEntry
    generations: Mapping[int, WantedGeneration]
    active: int | None
    kept: int | None = None
    beside: int | None = None
    share: float = 0.0
    """In a hundred requests that the active one gets, with one beside it; 0: as it comes."""


def wanted_of(vassal: Vassal, entry: RouterEntry) -> Wanted:
    """All of it; `entry` as of `entry_of`."""
    rolls = vassal.state is State.ROLLING
    return Wanted(
        entry,
        {
            number: WantedGeneration(each.token, each.reading.uid, each.reading.seats, each.reading.slots)
            for number, each in sorted(vassal.generations.items())
            if each.phase is not Phase.QUEUED and not each.reading.elsewhere
        },
        vassal.awaited if rolls else vassal.serving,
        None if vassal.tried else vassal.former,
        vassal.serving if rolls else vassal.former if vassal.tried else None,
        vassal.tried,
    )


def entry_of(
    vassal: Vassal, reading: Reading | None, holders: Callable[[Claim], list[str]], only: bool, paused: str
) -> RouterEntry:
    """By what it is found, and how it is served: by `reading`, the one that serves or the next one. `holders` gives the files
    that hold a name, `only`: its file is all that there was at the start."""
    if vassal.state is State.DRAINING:
        domains: tuple[str, ...] = ()
    elif vassal.state is State.REFUSED or reading is None:
        domains = tuple(each for each in route_names(vassal.name, ()) if not holders(Claim("domain", each)))
    else:
        # What it would start from next may want a name that somebody has taken meanwhile.
        own = [vassal.file]
        domains = tuple(
            each
            for each in reading.domains
            if (held_by := holders(Claim("domain", each)) or own) == own
            or (reading.sharing.shares and vassal.file in held_by)
        )
    live = vassal.state not in (State.DRAINING, State.REFUSED) and reading is not None
    default_taken = bool(holders(Claim("default", "")))
    entry = RouterEntry(
        name=vassal.name,
        domains=domains,
        default=live and reading is not None and reading.default,
        only=only and not default_taken and vassal.state is not State.DRAINING,
        available=vassal.available,
        reason=f"{vassal.state}: {vassal.reason}"[:_REASON_CHARS] if vassal.reason else vassal.state.value,
        paused=paused,
    )
    if reading is None:
        return entry
    return replace(
        entry,
        queue=reading.queue,
        queue_timeout_s=reading.queue_timeout_s,
        request_timeout_s=reading.request_timeout_s,
        deadlines=reading.deadlines,
        balancing=reading.balancing,
        sharing=reading.sharing,
        uid=reading.uid,
        body_limit=reading.body_limit,
        script_name=reading.manage_script_name,
        access=reading.access,
        request_id=reading.request_id,
        request_buffering=reading.request_buffering,
        post_buffering=reading.post_buffering,
        response_buffer=reading.response_buffer,
        upstreams=reading.upstreams,
    )
