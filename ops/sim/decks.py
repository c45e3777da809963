"""The decks that are compared: the router's own, what it might have been instead, and decks of a fixed depth."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from emperor.router import deck
from emperor.router.pool import Member, Pool

Clock = Callable[[], int]

WINDOW_NS = 1_000_000_000
"""How far back "recent" goes for those that look back."""


class Fixed(Pool):
    """Always so many."""

    def __init__(self, ahead: int, clock: Clock) -> None:
        super().__init__()
        self.ahead = ahead

    def depth(self, slots: int) -> int:
        return self.ahead


class Worst(Pool):
    """As deep as the worst request of the last second allows, which is what one has to do if nothing can be taken back."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._worst: deque[tuple[int, int]] = deque()  # (when, service): each shorter than the one before it

    def took(self, service_ns: int) -> None:
        now_ns = self._clock()
        worst = self._worst
        while worst and worst[-1][1] <= service_ns:
            worst.pop()
        worst.append((now_ns, service_ns))
        while worst[0][0] < now_ns - WINDOW_NS:
            worst.popleft()

    def depth(self, slots: int) -> int:
        return deck.depth(self._worst[0][1] if self._worst else self.usual_ns, slots, False)


class Mean(Pool):
    """By the mean of some hundred requests."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()

    def took(self, service_ns: int) -> None:
        self.usual_ns = max(1, self.usual_ns + ((service_ns - self.usual_ns) >> 7))


class Former(Pool):
    """The rule before this one: 31, whatever the app; only an idle worker took anything back, half of it."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()

    def depth(self, slots: int) -> int:
        return 31

    def long_ns(self) -> int:
        return 50_000_000

    def stuck_members(self, now_ns: int) -> list[Member]:
        return []


class Aloof(Pool):
    """As it is, but nothing waits behind a long request even when there is nobody else."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()

    def stuck_member(self, now_ns: int) -> Member | None:
        return None


@dataclass(frozen=True)
class Deck:
    """One of them by name. ``revocable``: a worker claims what it begins, so that the rest can be taken back; else it is bound:
    whatever has been sent counts as begun."""

    name: str
    pool: Callable[[Clock], Pool]
    revocable: bool


ADAPTIVE = Deck("adaptive", lambda clock: Pool(), True)
WORST = Deck("worst case", Worst, True)
MEAN = Deck("mean", Mean, True)
ALOOF = Deck("aloof", Aloof, True)
FORMER = Deck("former", Former, True)


def fixed(ahead: int, revocable: bool) -> Deck:
    return Deck(f"{ahead}{'' if revocable else ' bound'}", lambda clock: Fixed(ahead, clock), revocable)


DECKS = (
    ADAPTIVE,
    ALOOF,
    FORMER,
    WORST,
    MEAN,
    *(fixed(ahead, True) for ahead in (0, 1, 2, 8, 64)),
    *(fixed(ahead, False) for ahead in (1, 2, 8, 64)),
)
