"""What happened to whom, when, why and by whose hand: the last events of one emperor. Pure: the clock is given.

Kept in memory, bounded, and for as long as the emperor lives (docs/decisions/0026-who-keeps-what.md): it answers "what was
that just now?". What must outlive the emperor is in its log, where every event is a line too.

Events are ordered by their numbers and not by their times: a wall clock may jump.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

MOST = 2048
TEXT_CHARS = 500
BY_CHARS = 200


@dataclass(frozen=True)
class Event:
    """`number` counts from 1; `at` is unix milliseconds; `kind` is a word of `KINDS`; `vassal` is empty for what concerns
    all; `by` says whose hand it was, empty for nobody's."""

    number: int
    at: int
    kind: str
    vassal: str
    text: str
    by: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


KINDS: dict[str, str] = {
    "emperor": "the emperor has started, or taken over what another one left",
    "upgrade": "it was asked to become another version of itself, has become it, or could not",
    "ready": "its first generation is ready",
    "reloaded": "the next generation has taken over",
    "rolled back": "the next generation was not ready: the one before it goes on",
    "taken back": "the next generation failed its probation: the one before it has taken over again",
    "proven": "the next generation has passed its probation",
    "failed": "it could not be started, and nothing serves",
    "died": "its gateway, or one of its workers, died",
    "harakiri": "a request held one of its workers for too long: that one is ended and replaced",
    "poison": "a request has ended workers, and its like are refused for a while",
    "backs off": "it is started again after a while",
    "given up": "it is not started again by itself",
    "refused": "its file is wrong, or a name is taken",
    "edit refused": "the edit of its file is wrong; what was there goes on",
    "edited": "its file has changed, and waits for `emperor reload`",
    "shared": "its weight or its mirror has changed, without a reload",
    "promoted": "the next generation has had its part for long enough, and gets all requests",
    "reload": "it was asked to reload",
    "rollback": "it was asked to go back to the reading before",
    "paused": "its requests are answered 503, or held",
    "resumed": "they are served again",
    "removed": "its file is gone",
    "gone": "all that ran of it has ended",
    "fifo": "a letter came by its master-fifo",
}
"""Every kind of event, and what it means."""


_KEYS = tuple(field.name for field in fields(Event))


class Events:
    """The ring. `clock()` is unix seconds."""

    def __init__(self, clock: Callable[[], float], most: int = MOST) -> None:
        self._clock = clock
        self._ring: deque[Event] = deque(maxlen=most)
        self._last = 0
        self._waiting: list[Callable[[], None]] = []

    @property
    def last(self) -> int:
        """The number of the newest; 0 for none."""
        return self._last

    def add(self, kind: str, vassal: str, text: str, by: str = "") -> None:
        """Something happened. Raises KeyError for a kind that is in no table."""
        KINDS[kind]
        self._last += 1
        at = int(self._clock() * 1000)
        self._ring.append(Event(self._last, at, kind, vassal, text[:TEXT_CHARS], by[:BY_CHARS]))
        waiting, self._waiting = self._waiting, []
        for tell in waiting:
            tell()

    def after(self, number: int, vassal: str = "") -> list[Event]:
        """Those behind `number`, the oldest first; of one vassal, if it is named."""
        return [each for each in self._ring if each.number > number and (not vassal or each.vassal == vassal)]

    def lost_after(self, number: int) -> int:
        """How many behind `number` the ring has no room for any more."""
        oldest = self._ring[0].number if self._ring else self._last + 1
        return max(0, oldest - number - 1)

    def hand_over(self) -> dict[str, Any]:
        """All of it, for another program in this process."""
        return {"last": self._last, "ring": [each.to_json() for each in self._ring]}

    def resume(self, document: Any) -> None:
        """Go on where the one before us was. Raises ValueError."""
        try:
            ring = [Event(**{name: each[name] for name in _KEYS}) for each in document["ring"]]
            self._last = int(document["last"])
        except (TypeError, KeyError) as error:
            raise ValueError(f"events: {error!r}") from None
        self._ring.extend(ring)

    def call_next(self, tell: Callable[[], None]) -> None:
        """Call `tell()` once, at the next event."""
        self._waiting.append(tell)

    def forget(self, tell: Callable[[], None]) -> None:
        """Do not call it."""
        if tell in self._waiting:
            self._waiting.remove(tell)
