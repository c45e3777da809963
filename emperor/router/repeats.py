"""What a worker can have logged as often as it likes: of each kind one line a second, and how many more there were. Pure; time
comes in as seconds. Each app has its own, so that one tenant's noise hides nobody else's."""

from dataclasses import dataclass
from typing import Final

EACH_S: Final = 1.0


@dataclass
class _Kind:
    until: float
    level: str
    text: str
    more: int = 0


class Repeats:
    """`kind` is one of a few words of ours, never a peer's."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}

    @property
    def waiting(self) -> bool:
        """Something is held back, or a kind is to be forgotten: `due` is to be asked."""
        return bool(self._kinds)

    def may(self, kind: str, level: str, text: str, now: float) -> bool:
        """It may be said at once; else it is held back."""
        known = self._kinds.get(kind)
        if known is None:
            self._kinds[kind] = _Kind(now + EACH_S, level, text)
            return True
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
            many = f" (the last of {kind.more} more such lines in a second)" if kind.more > 1 else ""
            found.append((kind.level, kind.text + many))
            kind.more = 0
            kind.until = now + EACH_S
        return found
