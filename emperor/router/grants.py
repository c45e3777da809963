"""Which slots of its workers a router holds, where there may be other routers (docs/specs/backplane.md, section 4).

The page says whose each slot is, and each change there is one compare-and-swap; records only tell when it is worth a look.
A router takes what nobody holds, alone it has all. It lets go of one when another wants it (RECALL), or when it drains: of an
idle one at once, else when a request has ended. If it has a queue, not before what it took has worked for it for a while, and
not while somebody in its own queue has waited for longer than whoever asks: so several queues are served as one
(ops/sim/routers.py).
It never holds fewer than it has requests with the worker: what lies on deck is taken back first, and from when it is time to
let go nothing goes there, or the worker would always have begun the next one.

Of a worker on another host there is no page that both see: what it grants it says (READY, GRANT), and what the router lets go
of it is told (RELEASE). Its links are ``far``.

Pure but for the page.
"""

from typing import Final, Protocol

from emperor.protocol import records
from emperor.protocol.scoreboard import Board

SHARE_NS: Final = 5_000_000
"""So long a router that has a queue keeps a slot that others want: a move costs some 0.4 ms, in which nobody has it."""

MARGIN_NS: Final = 2_000_000
"""By so much longer whoever wants a slot must have waited: of two queues that have waited for as long each would take the
other's slots all the time."""

ALL: Final = 1 << 30
"""Of the slots that are ours: so many may be used. Fewer while a worker is spared (`balancer`)."""

ASK_AGAIN_NS: Final = 50_000_000
"""A DEMAND that nothing came of is said again after so long."""

AGE_NS: Final = 100_000
AGE_MOST: Final = records.NO_WORD - 1
"""How long a queue has waited stands in the field of a DEMAND, and of the RECALL that it becomes, which others have for a word:
in tenths of a millisecond, at most 6.5 s. NO_WORD says nothing of it, as those do who know nothing of this."""


class Holder(Protocol):
    """What is needed of a link."""

    board: Board | None
    far: bool
    seat: int
    width: int
    slots: int
    most: int
    in_flight: int
    held: list[int] | None
    recalled: int
    wanted_since_ns: int
    since_ns: int


def take(link: Holder, epoch: int, now_ns: int) -> int:
    """Take all slots that nobody holds. Returns how many; some we may have thought ours, as a tenant can write there."""
    board, held = link.board, link.held
    if board is None or held is None:
        return 0
    taken = board.take_all(link.seat, link.width, epoch)
    found = sorted({*taken} - {*held})
    if found:
        held += found
        link.slots = min(len(held), link.most)
        link.since_ns = now_ns
    return len(taken)


def age_of(waits_since_ns: int, now_ns: int) -> int:
    """What a DEMAND says of a queue whose oldest has waited since then."""
    return min(AGE_MOST, max(0, now_ns - waits_since_ns) // AGE_NS)


def recall(link: Holder, count: int, age: int, now_ns: int) -> None:
    """Another router wants so many, and has waited for so long."""
    since_ns = 0 if age > AGE_MOST else now_ns - age * AGE_NS
    if link.recalled and link.wanted_since_ns and since_ns:
        since_ns = min(since_ns, link.wanted_since_ns)
    link.recalled = min(count, link.width)
    link.wanted_since_ns = since_ns


def may_give(
    link: Holder, waits_since_ns: int, now_ns: int, keep_ns: int = SHARE_NS, others_since_ns: int = 0
) -> bool:
    """Whether it is time to let go of what is asked for. ``waits_since_ns``: of whoever has waited longest here; 0: nobody
    waits. ``others_since_ns``: the same of the other routers, if it stands on the page; else what a RECALL has said counts,
    which may be of somebody who has been served since."""
    if link.recalled <= 0 or not (link.slots if link.far else link.held):
        return False
    if not waits_since_ns:
        return True
    if now_ns - link.since_ns < keep_ns:
        return False
    wanted_since_ns = others_since_ns or link.wanted_since_ns
    return not wanted_since_ns or wanted_since_ns + MARGIN_NS <= waits_since_ns


def give(link: Holder, epoch: int, most: int) -> int:
    """Let go of so many slots at most, of those that are idle and that no request of ours needs. Returns how many."""
    board, held = link.board, link.held
    if link.far:
        idle = max(0, min(most, link.slots - link.in_flight))
        link.slots -= idle
        return idle
    if board is None or held is None:
        return 0
    count = 0
    for slot in held[:]:
        if count == most or link.in_flight >= len(held):
            break
        if board.release(link.seat, slot, epoch):
            held.remove(slot)
            count += 1
        elif board.holder(link.seat, slot)[0] != epoch:
            held.remove(slot)  # the worker took it: our connection has ended, or it lies
    link.slots = min(len(held), link.most)
    return count
