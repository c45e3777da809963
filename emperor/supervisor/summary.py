"""How the vassals are, in a line or two, for the log and for the service supervisor that started us. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from emperor.supervisor.fleet import Vassal
from emperor.supervisor.sockets import Address
from emperor.supervisor.vassal import SERVING, State


def summary(vassals: Collection[Vassal]) -> str:
    ready = sum(each.state in SERVING for each in vassals)
    return f"{ready} of {len(vassals)} vassal{'s' * (len(vassals) != 1)} ready"


def where_to_look(vassals: Collection[Vassal], http: Sequence[Address], places: str) -> list[str]:
    """What to type, to see each vassal; without one, how to get one."""
    lines = []
    address = next((each for each in http if not each.path), None)
    for vassal in sorted(vassals, key=lambda each: each.name):
        if address is not None and vassal.state is State.READY:
            lines.append(f"try http://{vassal.name.lower()}.localhost:{address.port}/")
    if not vassals:
        lines.append(f"no vassal yet: put NAME.ini or NAME.toml into {places}")
    return lines


def where_it_is(title: str, http: Sequence[Address]) -> list[str]:
    """The same of the one app that is all there is to serve."""
    return [
        f"serving {title} at {address.url}"
        + (", and at every other address of this host" if address.is_every else "")
        for address in http
    ]
