"""Which slots of its workers a router holds, where there may be other routers (docs/specs/backplane.md, section 4).

The page says whose each slot is, and each change there is one compare-and-swap; records only tell when it is worth a look.
A router takes what nobody holds, alone it has all. It lets go of one when another wants it (RECALL), or when it drains: of an
idle one at once, else when a request has ended, and not before what it took has worked for it for a while, if it has a queue.
It never holds fewer than it has requests with the worker: what lies on deck is taken back first.

Of a worker on another host there is no page that both see: what it grants it says (READY, GRANT), and what the router lets go
of it is told (RELEASE). Its links are ``far``.

Pure but for the page.
"""

from typing import Final, Protocol

from emperor.protocol.scoreboard import Board

SHARE_NS: Final = 2_000_000
"""So long a router that has a queue keeps a slot that others want: a move costs some 0.1 ms."""

ALL: Final = 1 << 30
"""Of the slots that are ours: so many may be used. Fewer while a worker is spared (`balancer`)."""

ASK_AGAIN_NS: Final = 50_000_000
"""A DEMAND that nothing came of is said again after so long."""


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


def may_give(link: Holder, waiting: int, now_ns: int) -> bool:
    """Whether it is time to let go of what is asked for."""
    return (
        link.recalled > 0
        and bool(link.slots if link.far else link.held)
        and not (waiting and now_ns - link.since_ns < SHARE_NS)
    )


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
