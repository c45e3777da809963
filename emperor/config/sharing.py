"""How a vassal shares its domains with others, and who else gets its requests. Pure.

A vassal's file is read into it, and it travels as JSON to the router (``emperor.router.shares``, ``emperor.router.mirror``),
which does it. It is the one part of a file that is in effect without a reload: no worker knows of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from emperor.config import parts
from emperor.config.problems import Mistake
from emperor.config.values import shown, text

NOT_SHARED: Final = -1
"""The weight of a vassal that shares with nobody."""

MOST_WEIGHT: Final = 1_000_000

COOKIE: Final = "cookie"
"""By what clients are told apart where no file says it: a cookie of the router's own."""

REQUEST: Final = "request"

_HINT: Final = "write cookie, request, address, header NAME or cookie NAME"


@dataclass(frozen=True)
class Sharing:
    """``weight``: its part of what comes for a domain that others have as well; −1: it has its domains alone. ``by``: what a
    client is known by, so that it stays with one of them (``cookie``, ``request``, ``address``, ``header NAME``,
    ``cookie NAME``); empty: the file does not say. ``mirror``: the vassal that gets a copy of ``mirror_share`` in a hundred of
    its GETs; empty: none."""

    weight: int = NOT_SHARED
    by: str = ""
    mirror: str = ""
    mirror_share: float = 100.0

    @property
    def shares(self) -> bool:
        return self.weight != NOT_SHARED

    def to_json(self) -> dict[str, Any]:
        """A dict of numbers and strings, ready for `json.dumps`."""
        return parts.json_of(self)

    @classmethod
    def from_json(cls, document: Any) -> Sharing:
        """The inverse of `to_json`; what is missing is the default. Raises ValueError naming the key of a wrong type or
        value."""
        return cls(**parts.keys_of(cls, "sharing", document, own=_OWN))


ALONE: Final = Sharing()


def of_options(effective: Mapping[str, Any]) -> Sharing:
    """What the options of a vassal's file say."""
    weight = effective["weight"]
    target, share = effective["mirror"] or ("", 100.0)
    return Sharing(
        weight=NOT_SHARED if weight is None else weight,
        by=effective["weight-by"] or "",
        mirror=target,
        mirror_share=share,
    )


def share_key(value: Any) -> str:
    """``cookie``, ``request``, ``address``, ``header NAME`` or ``cookie NAME``. Raises Mistake."""
    kind, _, name = text(value).strip().partition(" ")
    name = name.strip()
    if kind in (COOKIE, REQUEST, "address") and not name:
        return kind
    if kind in ("header", COOKIE) and name and all(c.isalnum() or c in "-_" for c in name) and name.isascii():
        return f"{kind} {name}"
    raise Mistake(f"{shown(value)} is nothing to know a client by", _HINT)


def mirrored(value: Any) -> tuple[str, float]:
    """A vassal's name and how many in a hundred requests it gets, from ``shop-next``, ``shop-next 10`` or ``shop-next 10%``.
    Raises Mistake."""
    name, _, share = text(value).strip().partition(" ")
    share = share.strip().removesuffix("%").strip() or ("100" if not share else "")
    try:
        number = float(share) if share.isascii() and share[:1].isdigit() else -1.0
    except ValueError:
        number = -1.0
    if not 0 < number <= 100:
        raise Mistake(
            f"{shown(value)} is no vassal and share of its requests",
            "write NAME for all of them, or NAME 10 for ten in a hundred",
        )
    return name, number


def _weight(what: str, value: Any) -> int:
    if type(value) is int and NOT_SHARED <= value <= MOST_WEIGHT:
        return value
    raise ValueError(f"{what}: a whole number from {NOT_SHARED} to {MOST_WEIGHT} expected, not {value!r}")


def _share(what: str, value: Any) -> float:
    if parts.is_number(value) and 0 < value <= 100:
        return float(value)
    raise ValueError(f"{what}: a number up to 100 expected, not {value!r}")


_OWN: Final = {"weight": _weight, "mirror_share": _share}
