"""Which worker of another host gets a request, and when one is asked at all. Pure: time and random numbers are given.

The own host comes first: a request that workers here will take waits for them until it has waited for longer than the way to
another host and back, and `PATIENCE_S`. Then, of two workers with a free slot that are drawn at random, the one gets it whose
host has less to do for us and its weight, as far as we know (Mitzenmacher's power of two choices: many routers that each took
the best would all take the same). They are drawn by weight as well, or it would count for nothing while all are idle. How busy
a host is with others' requests need not be told: it grants us fewer slots.

An app may say otherwise (option ``balance``): each in turn, the one with the least to do of all, or the one that a client's key
belongs to (`policies`).

Requests of microseconds go where the last one went, as long as that has something to do and what lies there is little: to
another worker they would be a message of its own, which costs both hosts more than the requests (`near`).

Who has no slot free may have requests on deck, so that it need not wait for the way there and back between two. A router
cannot take them back, so the worker has to give back by itself what waits there behind a request that runs long (it says in
READY whether it does), and the least loaded of some that are drawn gets it.

A host that fails fast has always room, so it would get everything: each failure makes it count as fuller for a while, and a
host that has failed `IN_A_ROW` times one after another is left alone for `OUT_S`, twice as long the second time and so on, as
long as no more than half of all hosts are. It comes back by one request at a time.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Final, Protocol

from emperor.router import policies

PATIENCE_S: Final = 0.005

FAILED_S: Final = 10.0
"""So long a failure is remembered."""

PENALTY: Final = 1.0
"""For each: as if all its slots were taken once more."""

FAILURES_MOST: Final = 8

IN_A_ROW: Final = 5
OUT_S: Final = 30.0
OUT_MOST_S: Final = 300.0

DRAWS: Final = 16
"""So many workers are looked at by chance before all are."""

NEAR_NS: Final = 100_000
"""So much work may lie with a worker when it gets the next request though another one is idle: what a message there and one
back cost in processor time, by the threads that they wake."""

NEAR_MOST: Final = 32

PROVES: Final = 8
"""Answers after which a host that comes back is as good as others."""


class Member(Protocol):
    """What is needed of a link."""

    host: str
    in_flight: int
    slots: int
    width: int
    accepting: bool
    rtt_s: float
    weight: int
    gives_back: bool
    stuck: bool
    turn: float

    @property
    def place(self) -> str: ...
    @property
    def outstanding(self) -> int: ...


class Host:
    """What is remembered of one."""

    def __init__(self) -> None:
        self.members: list[Member] = []
        self.failures = 0  # lately
        self.failed_at = 0.0
        self.in_a_row = 0
        self.times_out = 0
        self.out_until = 0.0
        self.to_prove = 0

    def load(self, now: float) -> float:
        """What it has to do for us, as a share of what it could, for its weight."""
        width = busy = 0
        for member in self.members:
            width += member.width * member.weight
            busy += member.in_flight
        failures = self.failures if now - self.failed_at < FAILED_S else 0
        return busy / max(1, width) + PENALTY * failures

    def admits(self, now: float) -> bool:
        if now < self.out_until:
            return False
        if self.to_prove:
            for member in self.members:
                if member.in_flight:
                    return False
        return True

    def forgets(self, now: float) -> bool:
        """Nobody is there, and what was has been long enough ago."""
        return not self.members and now >= max(self.out_until, self.failed_at + FAILED_S)


class Far:
    """All workers of other hosts of one app. `random()` is in [0, 1)."""

    def __init__(self, random: Callable[[], float]) -> None:
        self.members: list[Member] = []
        self.hosts: dict[str, Host] = {}
        self._random = random
        self._sums: (
            Sequence[int] | None
        ) = ()  # of all weights, one after another; None: they are to be added up again
        self._last: Member | None = None  # who was chosen last
        self._even = True  # all weigh as much

    def join(self, member: Member, now: float) -> None:
        self.members.append(member)
        self._changed()
        self.hosts.setdefault(member.host, Host()).members.append(member)
        # Names of hosts that come and go, as rented ones do, are not kept for ever.
        for name in [name for name, host in self.hosts.items() if host.forgets(now)]:
            del self.hosts[name]

    def leave(self, member: Member) -> None:
        """A host without members is remembered as long as there is another one: it may be back soon, and as bad."""
        if member in self.members:
            self.members.remove(member)
            self._changed()
            self.hosts[member.host].members.remove(member)

    def _changed(self) -> None:
        self._sums = None
        self._last = None
        self._even = len({member.weight for member in self.members}) < 2

    def patience_s(self) -> float:
        """How long a request waits for workers here before one there gets it."""
        least = -1.0
        for member in self.members:
            if least < 0.0 or member.rtt_s < least:
                least = member.rtt_s
        return max(0.0, least) + PATIENCE_S

    def near(self, now: float, usually_ns: int, most: Callable[[Member], int]) -> Member | None:
        """Who has the last one, where requests take so little that another one is best put there; None: that is not so, and it
        is to be chosen. ``usually_ns``: what they take; ``most``: as of `choose_busy`."""
        member = self._last
        if member is None or not self._even:
            return None
        in_flight = member.in_flight
        if not 0 < in_flight < NEAR_MOST or in_flight * usually_ns >= NEAR_NS:
            return None
        return member if self._takes_ahead(member, now, most) else None

    def choose(self, now: float) -> Member | None:
        """Whom to give a request to; None: nobody has a slot free."""
        self._last = self._choose(now)
        return self._last

    def _choose(self, now: float) -> Member | None:
        drawn = self._draw_two(now)
        if drawn is not None:
            return self._less_busy(*drawn, now)
        admitted = self._admitted(now)
        if len(admitted) < 2:
            return admitted[0] if admitted else None
        one = admitted.pop(self._draw(_sums(admitted)))
        return self._less_busy(one, admitted[self._draw(_sums(admitted))], now)

    def _admitted(self, now: float) -> list[Member]:
        """All that have a slot free and may be asked."""
        free = [member for member in self.members if member.accepting and member.in_flight < member.slots]
        admitted = [member for member in free if self.hosts[member.host].admits(now)]
        if not admitted:
            # A host that is left alone is better than none: when the others have gone.
            for host in self.hosts.values():
                if now >= host.out_until and host.members:
                    return []
            admitted = free
        return admitted

    def choose_in_turn(self, now: float) -> Member | None:
        """As `choose`, each as often as its weight says."""
        admitted = self._admitted(now)
        return policies.in_turn(admitted, [each.weight for each in admitted]) if admitted else None

    def choose_least(self, now: float) -> Member | None:
        """As `choose`, the one whose host has the least to do of all."""
        admitted = self._admitted(now)
        if not admitted:
            return None
        loads = [self.hosts[each.host].load(now) for each in admitted]
        return policies.least_of(admitted, loads, [each.weight for each in admitted])

    def choose_by_key(self, key: bytes, now: float, most: Callable[[Member], int] | None) -> Member | None:
        """The first of the key's order that has not more than its part: in a free slot or, with ``most`` (as of
        `choose_busy`), on its deck."""
        there = [member for member in self.members if member.accepting and member.slots]
        if not there:
            return None
        free = {*self._admitted(now)}
        for member in policies.by_key(key, there, [each.weight * each.width for each in there]):
            if member in free or (most is not None and self._takes_ahead(member, now, most)):
                return member
        return None

    def choose_busy(self, now: float, most: Callable[[Member], int]) -> Member | None:
        """On whose deck to put a request, of those with fewer there than ``most`` says; None: on nobody's."""
        members = self.members
        if len(members) > DRAWS:
            if self._sums is None:
                self._sums = _sums(members)
            members = [members[self._draw(self._sums)] for _ in range(DRAWS)]
        best: Member | None = None
        best_load = 0.0
        for member in members:
            slots = member.slots
            if not slots:
                continue
            load = (member.in_flight - slots) / (slots * member.weight)
            if (best is None or load < best_load) and self._takes_ahead(member, now, most):
                best, best_load = member, load
        self._last = best
        return best

    def _takes_ahead(self, member: Member, now: float, most: Callable[[Member], int]) -> bool:
        """It may have another one on its deck."""
        if not (member.slots and member.accepting and member.gives_back and not member.stuck):
            return False
        host = self.hosts[member.host]
        if host.in_a_row or host.to_prove or now < host.out_until:
            return False
        return member.in_flight - member.slots < most(member)

    def _less_busy(self, one: Member, other: Member, now: float) -> Member:
        return one if self.hosts[one.host].load(now) <= self.hosts[other.host].load(now) else other

    def _draw_two(self, now: float) -> tuple[Member, Member] | None:
        """Two that may be given something, drawn from all until they are found: of many, most draws would look at all others
        for nothing. None: they are few, or most are busy."""
        if len(self.members) <= DRAWS:
            return None
        if self._sums is None:
            self._sums = _sums(self.members)
        one: Member | None = None
        for _ in range(DRAWS):
            member = self.members[self._draw(self._sums)]
            if (
                member is not one
                and member.accepting
                and member.in_flight < member.slots
                and self.hosts[member.host].admits(now)
            ):
                if one is not None:
                    return one, member
                one = member
        return None

    def _draw(self, sums: Sequence[int]) -> int:
        """Which one, each as likely as its weight says."""
        return bisect_right(sums, self._random() * sums[-1], hi=len(sums) - 1)

    def answered(self, member: Member, failed: bool, now: float) -> float:
        """By the app there, ``failed``: with 5xx. Returns for how many seconds its host is left alone for it; 0: it is not."""
        host = self.hosts.get(member.host)
        if host is None:
            return 0.0
        if failed:
            return self._count(host, now)
        host.in_a_row = 0
        if host.to_prove:
            host.to_prove -= 1
            if not host.to_prove:
                host.times_out = 0
        return 0.0

    def failed(self, member: Member, now: float) -> float:
        """It had a request, and there was no answer, or none that can be passed on. Returns as ``answered``."""
        host = self.hosts.get(member.host)
        return 0.0 if host is None else self._count(host, now)

    def _count(self, host: Host, now: float) -> float:
        if now - host.failed_at >= FAILED_S:
            host.failures = 0
        host.failures = min(host.failures + 1, FAILURES_MOST)
        host.failed_at = now
        host.in_a_row += 1
        if host.in_a_row >= IN_A_ROW and now >= host.out_until and self._may_leave_out(now):
            host.in_a_row = 0
            host.times_out += 1
            host.out_until = now + min(OUT_MOST_S, OUT_S * host.times_out)
            host.to_prove = PROVES
            return host.out_until - now
        return 0.0

    def _may_leave_out(self, now: float) -> bool:
        there = [host for host in self.hosts.values() if host.members]
        out = sum(now < host.out_until for host in there)
        return (out + 1) * 2 <= len(there)

    def left_alone_s(self, name: str, now: float) -> float:
        """For how long this host will be."""
        host = self.hosts.get(name)
        return 0.0 if host is None else max(0.0, host.out_until - now)


def _sums(members: Sequence[Member]) -> list[int]:
    return list(accumulate(member.weight for member in members))
