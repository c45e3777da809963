"""What to send to a router so that it knows what it must: the difference between what it was told and what
is wanted. Pure.

One function tells an old router what has changed and a new one everything, so the two can't come to differ.
The order within a vassal keeps it served at every step: its entry, new generations, the move, and only then
the end of old ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from emperor.control.messages import RouterEntry
from emperor.supervisor.reading import deck_words
from emperor.supervisor.wanted import Wanted


@dataclass(frozen=True)
class Order:
    """One message for a router. `page` is the generation whose page goes with it, `backplane`: the vassal's
    backplane does."""

    message: dict[str, Any]
    page: int | None = None
    backplane: bool = False


@dataclass
class Told:
    """What one router knows of one vassal. `entry` None: it knows the vassal, but by which entry we cannot
    say."""

    entry: RouterEntry | None = None
    generations: set[int] = field(default_factory=set)
    active: int | None = None
    kept: int | None = None
    beside: int | None = None
    share: float = 0.0


def orders(
    name: str, told: Told | None, wanted: Wanted | None, own_uid: int
) -> tuple[list[Order], Told | None]:
    """The messages, in order, and what the router knows once it has them. `own_uid` is that of workers
    whose vassal names none."""
    if wanted is None:
        return ([] if told is None else [Order({"op": "remove", "name": name})]), None
    found: list[Order] = []
    if told is None or told.entry != wanted.entry:
        found.append(Order({"op": "vassal", "entry": wanted.entry.to_json()}, backplane=told is None))
    known = set() if told is None else told.generations
    for number, each in wanted.generations.items():
        if number not in known:
            message = {
                "op": "generation",
                "name": name,
                "generation": number,
                "token": each.token,
                "uid": own_uid if each.uid is None else each.uid,
                "seats": each.seats,
                "slots": each.slots,
                "deck": deck_words(each.slots),
            }
            found.append(Order(message, page=number))
    state: tuple[int | None, int | None, int | None, float] = (None, None, None, 0.0)
    if told is not None:
        state = (told.active, told.kept, told.beside, told.share)
    wish = (wanted.active, wanted.kept, wanted.beside, wanted.share)
    if wanted.active is not None and wish != state:
        message = {"op": "activate", "name": name, "generation": wanted.active}
        if wanted.kept is not None:
            message["kept"] = [wanted.kept]
        if wanted.beside is not None:
            message["beside"] = [wanted.beside]
        if wanted.share:
            message["share"] = wanted.share
        found.append(Order(message))
        state = wish
    active, kept, beside, share = state
    for number in sorted(known - wanted.generations.keys()):
        found.append(Order({"op": "retire", "name": name, "generation": number}))
        active = None if active == number else active
    return found, Told(wanted.entry, set(wanted.generations), active, kept, beside, share)


def told_by_hello(vassals: Any) -> Mapping[str, Told]:
    """What a living router says it knows, from the `vassals` of its hello. Entries are not in it: they are
    sent again."""
    found: dict[str, Told] = {}
    for each in vassals if isinstance(vassals, list) else []:
        match each:
            case {"name": str(name), "generations": list(generations), "active": None | int() as active}:
                found[name] = Told(None, {number for number in generations if type(number) is int}, active)
    return found
