"""How many requests are worth offering to a worker ahead, and when it keeps them waiting for too long. Pure; whole
nanoseconds.

What lies on deck hides a round trip over the backplane, 0.2 to 0.3 ms in which the worker would have nothing to do, and
milliseconds on a busy machine. So an app of microseconds needs many ahead and one of milliseconds needs one or two; each more
only waits where it is bound to one worker. Where there is no other worker it is bound to nothing, and more costs nothing.

The rule goes by what requests usually take. Most apps have two kinds, quick ones and a few that take a hundred times as long,
and every process is now and then put aside by the kernel for milliseconds: neither the mean nor the worst of the last second
says anything about the next request (ops/sim, decision 0018). What turns out slow all the same is seen on the page, and
what waits behind it is taken back.
"""

from typing import Final

MOST: Final = 64
"""Never more ahead: there are so many words (``supervisor.reading.AHEAD``)."""

WORTH_NS: Final = 2_000_000
"""So much work ahead per slot: several round trips, since each may be late."""

ALONE_NS: Final = 16_000_000
"""The same for an app's only worker: as long as the kernel may put the router aside."""

FIRST_NS: Final = 128_000
"""What a request is thought to take before one has ended."""

LEAST_NS: Final = WORTH_NS // MOST
"""An app may be quicker; its deck does not get deeper."""

HIGHEST_NS: Final = 16_000_000
"""An app may be slower; the deck is 1 long before. It bounds how much has to be learnt anew when that changes."""

LONG_NS: Final = 50_000_000
"""A request that has run this long is long for any app."""

STALL_NS: Final = 4_000_000
"""The kernel puts processes aside for this long: a quick request that is late is not long yet."""

QUICK_NS: Final = 1_000_000
"""Where requests usually take less, one may lie behind a long one for want of anybody else: should another worker be free
first, it comes after one that was younger, which costs it that one's time at most and else saves a round trip."""

OFTEN: Final = 4
"""So many times what requests usually take is long."""


def first(service_ns: int) -> int:
    """What requests usually take, after the first one. It may have been slow for being the first; where it says what all take,
    two dozen others have not waited behind one another until that is learnt."""
    return min(max(service_ns, LEAST_NS), HIGHEST_NS)


def learn(usual_ns: int, service_ns: int) -> int:
    """What requests usually take, now that one has taken ``service_ns``.

    Up by a quarter, down by a sixteenth: it settles where 22 of 100 take longer. A few slow ones, however slow, move it
    by no more than their number.
    """
    if service_ns > usual_ns:
        usual_ns += usual_ns >> 2
        return usual_ns if usual_ns < HIGHEST_NS else HIGHEST_NS
    usual_ns -= usual_ns >> 4
    return usual_ns if usual_ns > LEAST_NS else LEAST_NS


def depth(usual_ns: int, slots: int, alone: bool) -> int:
    """Requests that may wait on the deck of a worker with so many slots, the app's only one or not: at least 1."""
    ahead = 1 + (ALONE_NS if alone else WORTH_NS) * slots // usual_ns
    return ahead if ahead < MOST else MOST


def depth_afar(usual_ns: int, slots: int, rtt_ns: int) -> int:
    """The same for a worker on another host, so far away, with as much work ahead and what it does on the way there and back: 0
    where a request takes longer than both. Nothing can be taken back there, and what is lost there may have begun."""
    ahead = (WORTH_NS + rtt_ns) * slots // usual_ns
    return ahead if ahead < MOST else MOST


def long_ns(usual_ns: int) -> int:
    """From which age on a request is long. While there are others nothing new goes on deck behind it, and what waits there may
    be taken back."""
    often = OFTEN * usual_ns
    if often < STALL_NS:
        return STALL_NS
    return often if often < LONG_NS else LONG_NS
