"""What several routers of one host count together of an app: the requests that it has in hand, and those a second.

It stands in the head of its generation's page, which all of them see (docs/specs/backplane.md, section 4), and costs a few
loads and stores for each request of an app that has such limits; asking each other would cost what several routers are there to
save. Each says how many requests it has in hand in a word of its own, with the time: what one has said that has died counts for
two seconds more. The app could write there, and limits or unlimits nobody but itself.

Pure but for the page.
"""

from __future__ import annotations

from typing import Final

from emperor.protocol.scoreboard import SPEAKERS, Board

STALE_NS: Final = 2_000_000_000
"""So old a count is nobody's any more. Who has requests in hand says so at each sweep (`emperor.router.main.SWEEP_S`)."""


def together(board: Board, seat: int, before: Together | None, in_hand: int, now: float) -> Together | None:
    """From now on this page counts, for the router of this seat; None: it is one of a router alone. What was let in by the page
    before counts on."""
    if before is not None and before.board is board:
        return before
    if not (board.routers > 1 and seat < min(board.routers, SPEAKERS)):
        return None
    made = Together(board, seat)
    if before is not None:
        made.raise_to(before.until_s())
        before.say(0, now)
    made.say(in_hand, now)
    return made


class Together:
    """One app's, for one router. Times are seconds of `time.monotonic`, which is the same for all processes."""

    __slots__ = ("_now", "_seat", "board")

    def __init__(self, board: Board, seat: int) -> None:
        self.board = board
        self._seat = seat
        self._now = 0.0

    def until_s(self) -> float:
        """The instant at which all that has been let in is used up (`limits.Meter`)."""
        return self.board.spent_until() / 1e9

    def spend(self, now: float, each_s: float, ahead_s: float) -> None:
        """One has been let in. It is never more than ``ahead_s`` and this one from now: else the app has written there."""
        self.board.spend(_ns(now), _ns(each_s), _ns(ahead_s + each_s))

    def raise_to(self, until_s: float) -> None:
        """Another page said so."""
        self.board.spend(_ns(until_s), 0, 0)

    def say(self, in_hand: int, now: float = 0.0) -> None:
        """So many requests this router has in hand; as of the last time that was said, if none is."""
        self._now = now or self._now
        self.board.say(self._seat, in_hand, _ns(self._now))

    def others(self, now: float) -> int:
        """So many the other routers have."""
        return self.board.said_by_others(self._seat, _ns(now), STALE_NS)


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
