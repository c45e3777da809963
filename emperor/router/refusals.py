"""What the log says of packets that are refused: most of them come again and again, from a node that nobody has mended. Pure;
time comes in as seconds.

Of each kind (who sent it, for what, and why it was refused) the first is said, and from then on how many came since, once in
`EACH_S`. All kinds together have one line in `ALL_S`: of those that have to wait for one, who has waited longest is first,
and where more wait than `SINGLY`, one line speaks for all. What is counted in the lines is each packet, once.
"""

from dataclasses import dataclass
from typing import Final

ALL_S: Final = 1.0
EACH_S: Final = 60.0

SINGLY: Final = 10
"""Kinds that may wait for a line of their own: the last of them waits for so many times `ALL_S`."""

MOST: Final = 1024
"""Kinds that are told apart: a sender can invent as many as it likes. All others are one."""

Kind = tuple[str | int, ...]

_OTHERS: Final[Kind] = ()


@dataclass
class _Kept:
    since: float  # when the first came, or it was said last
    due: float
    text: str
    more: int = 0


class Refusals:
    """Of one server."""

    def __init__(self) -> None:
        self._kinds: dict[Kind, _Kept] = {}
        self._free = 0.0  # from when on a line may be said

    def refused(self, kind: Kind, text: str, now: float) -> list[str]:
        """One has been. What is to be said at once."""
        kept = self._kinds.get(kind)
        if kept is None and len(self._kinds) >= MOST:
            kind = _OTHERS
            kept = self._kinds.get(kind)
        if kept is None:
            kept = self._kinds[kind] = _Kept(now, now, text)
        kept.text = text
        kept.more += 1
        return self.due(now) if kept.due <= now else []

    def due(self, now: float) -> list[str]:
        """What is to be said now: one line, or none."""
        if now < self._free:
            return []
        waiting = []
        for kind, kept in list(self._kinds.items()):
            if kept.due <= now:
                if kept.more:
                    waiting.append((kind, kept))
                else:
                    del self._kinds[kind]
        if not waiting:
            return []
        self._free = now + ALL_S
        waiting.sort(key=lambda each: each[1].due)
        if len(waiting) <= SINGLY:
            del waiting[1:]
        for kind, kept in waiting:
            kept.due = now + (ALL_S if kind == _OTHERS else EACH_S)
        return [_told([kept for _, kept in waiting], now)]

    def rest(self, now: float) -> list[str]:
        """What has not been said yet, at once: this is the end. A line of each kind, or where there are many, one for all."""
        waiting = [kept for kept in self._kinds.values() if kept.more]
        if len(waiting) > SINGLY:
            return [_told(waiting, now)]
        return [_told([kept], now) for kept in waiting]


def _told(together: list[_Kept], now: float) -> str:
    """The line for these, of which nothing is left to say then."""
    text = together[-1].text
    many = sum(each.more for each in together)
    past = max(1.0, now - min(each.since for each in together))
    of = f" of {len(together)} kinds" if len(together) > 1 else ""
    for each in together:
        each.more = 0
        each.since = now
    return text if many == 1 else f"{text} (the last of {many} such{of} in {past:.0f} s)"
