"""What a router must know of a vassal. Pure: it follows from what the supervisor knows, and is compared with what was sent
(`telling`)."""

from __future__ import annotations

from collections.abc import Mapping
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
        vassal.former,
        vassal.serving if rolls else None,
    )


def entry_of(
    vassal: Vassal, reading: Reading | None, holders: Mapping[Claim, str], only: bool, paused: str
) -> RouterEntry:
    """By what it is found, and how it is served: by `reading`, the one that serves or the next one. `holders` are the files
    that hold names, `only`: its file is all that there was at the start."""
    if vassal.state is State.DRAINING:
        domains: tuple[str, ...] = ()
    elif vassal.state is State.REFUSED or reading is None:
        domains = tuple(each for each in route_names(vassal.name, ()) if Claim("domain", each) not in holders)
    else:
        # What it would start from next may want a name that somebody has taken meanwhile.
        file = vassal.file
        domains = tuple(each for each in reading.domains if holders.get(Claim("domain", each), file) == file)
    live = vassal.state not in (State.DRAINING, State.REFUSED) and reading is not None
    default_taken = Claim("default", "") in holders
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
        body_limit=reading.body_limit,
        script_name=reading.manage_script_name,
        access=reading.access,
        request_id=reading.request_id,
        request_buffering=reading.request_buffering,
        post_buffering=reading.post_buffering,
        response_buffer=reading.response_buffer,
        upstreams=reading.upstreams,
    )
