"""What a peer or a worker can have logged as often as it likes: of each kind one line a second, and how many more there were.
Pure; time comes in as seconds. Each app has its own, so that one tenant's noise hides nobody else's; the router has one.

Who says the lines asks for what is `due` a few times a second, and for the `rest` at the end: nothing is counted and not told.
"""

from dataclasses import dataclass
from typing import Final

EACH_S: Final = 1.0

MOST: Final = 256
"""Kinds that are told apart: who is heard may invent some. All others are one, of which nothing is said at once."""

_OTHERS: Final = ""


@dataclass(slots=True)
class _Kind:
    until: float
    level: str
    text: str
    more: int = 0


class Repeats:
    """Of one app, or of the router."""

    def __init__(self, most: int = MOST) -> None:
        """``most``: kinds that are told apart."""
        self._most = most
        self._kinds: dict[str, _Kind] = {}

    @property
    def waiting(self) -> bool:
        """Something is held back, or a kind is to be forgotten: `due` is to be asked."""
        return bool(self._kinds)

    def may(self, kind: str, level: str, text: str, now: float) -> bool:
        """It may be said at once; else it is held back. ``kind`` is not empty."""
        known = self._kinds.get(kind)
        if known is None and len(self._kinds) < self._most:
            self._kinds[kind] = _Kind(now + EACH_S, level, text)
            return True
        if known is None:
            known = self._kinds.setdefault(_OTHERS, _Kind(now + EACH_S, level, text))
        known.level, known.text = level, text
        known.more += 1
        return False

    def due(self, now: float) -> list[tuple[str, str]]:
        """Level and text of what is to be said now: the last of each kind that was held back, a second after the one before."""
        found = []
        for name, kind in list(self._kinds.items()):
            if now < kind.until:
                continue
            if not kind.more:
                del self._kinds[name]
                continue
            found.append(_told(name, kind))
            kind.more = 0
            kind.until = now + EACH_S
        return found

    def rest(self) -> list[tuple[str, str]]:
        """The same of all that is held back, however short a time: this is the end."""
        kinds, self._kinds = self._kinds, {}
        return [_told(name, kind) for name, kind in kinds.items() if kind.more]


def _told(name: str, kind: _Kind) -> tuple[str, str]:
    if kind.more == 1:
        return kind.level, kind.text
    such = (
        " such lines in a second"
        if name != _OTHERS
        else " lines in a second, of more kinds than are told apart"
    )
    return kind.level, f"{kind.text} (the last of {kind.more} more{such})"
