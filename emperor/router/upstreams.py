"""The upstreams of one app, and which of them gets a request. Pure; time comes in as seconds, chance as a function.

The set changes while it is used: by the vassal's file, and by whoever announces himself (subscriptions). One that is removed
finishes what it has. The choice is the better of two, drawn by weight (Mitzenmacher's power of two choices): the one with
fewer requests of ours under way, beside the load it has told of and what its failures count for (`health`), for its weight.
A backup is chosen only while no other is in service.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Final

from emperor.config import upstreams as config
from emperor.config.upstreams import Address
from emperor.router.health import LAST_RESORT, SERVING, Health, Outcome, State, may_eject


class Upstream:
    """One backend of one app.

    ``outstanding``: requests of ours that are there now. ``reported``: the load that it tells of itself, in requests.
    ``source``: who has named it, `FILE` or another word; only he may remove it or change it.
    """

    __slots__ = (
        "address",
        "backup",
        "connections",
        "errors",
        "failures",
        "health",
        "last_failure",
        "modifier1",
        "modifier2",
        "outstanding",
        "removed",
        "reported",
        "requests",
        "source",
        "weight",
    )

    def __init__(self, address: Address, now: float, *, source: str, warming: bool) -> None:
        self.address = address
        self.source = source
        self.weight = 1
        self.backup = False
        self.modifier1 = 0
        self.modifier2 = 0
        self.reported = 0.0
        self.health = Health(now, warming=warming)
        self.outstanding = 0
        self.connections = 0  # idle ones that are kept
        self.requests = 0
        self.errors = 0  # answers from 500 on
        self.failures = 0  # no good answer at all
        self.last_failure = ""
        self.removed = False

    def __repr__(self) -> str:
        return f"<Upstream {self.address} {self.health.state.name}>"

    def load(self, now: float) -> float:
        """What it has to do, for its weight."""
        return (self.outstanding + self.reported + self.health.penalty(now)) / self.share(now)

    def share(self, now: float) -> float:
        return self.weight * self.health.warmth(now)


FILE: Final = "file"
"""The source of what a vassal's file names."""


class Upstreams:
    """``clock`` gives seconds, ``random`` a number in [0, 1)."""

    def __init__(self, clock: Callable[[], float], random: Callable[[], float]) -> None:
        self._clock = clock
        self._random = random
        self._members: dict[str, Upstream] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Upstream]:
        return iter(self._members.values())

    def get(self, address: str) -> Upstream | None:
        return self._members.get(address)

    def add(
        self,
        address: str,
        *,
        weight: int = 1,
        backup: bool = False,
        modifier1: int = 0,
        modifier2: int = 0,
        source: str = FILE,
        warm: bool = False,
    ) -> Upstream:
        """Have this one (``uwsgi://10.0.0.2:3031``), or change what is said of it: its health and counts stay. One that comes
        to others begins slowly, unless it is `warm`. What one source has named, another does not change. Raises `Mistake` for
        an address that is none."""
        where = Address.parse(address)
        name = str(where)
        found = self._members.get(name)
        if found is None:
            warming = not warm and any(each.health.serving for each in self._members.values())
            found = Upstream(where, self._clock(), source=source, warming=warming)
            self._members[name] = found
        if found.source == source:
            found.weight = min(max(1, weight), config.MOST_WEIGHT)
            found.backup = backup
            found.modifier1 = modifier1
            found.modifier2 = modifier2
        return found

    def remove(self, address: str, source: str = FILE) -> bool:
        """Choose this one no more. False: there is none of this source."""
        found = self._members.get(address)
        if found is None or found.source != source:
            return False
        found.removed = True
        del self._members[address]
        return True

    def replace(self, said: Collection[config.Upstream]) -> None:
        """Of the file's, these and no others. Those of the start all have their whole share at once."""
        cold = not self._members
        for each in said:
            self.add(
                each.address,
                weight=each.weight,
                backup=each.backup,
                modifier1=each.modifier1,
                modifier2=each.modifier2,
                warm=cold,
            )
        named = {each.address for each in said}
        for address in [str(each.address) for each in self if each.source == FILE]:
            if address not in named:
                self.remove(address)

    @property
    def serving(self) -> int:
        """How many are in service."""
        return sum(each.health.serving for each in self)

    def choose(self, tried: Collection[Upstream] = ()) -> Upstream | None:
        """The one for a request, apart from those that it was brought to already. None: there is no such one in service.

        When none at all is in service, those that were ejected are: others have been removed since, or fail their checks, and
        who fails some requests is better than nobody.
        """
        now = self._clock()
        states = SERVING if self.serving else LAST_RESORT
        for backup in (False, True):
            found = [
                each
                for each in self._members.values()
                if each.backup is backup and each.health.state in states and each not in tried
            ]
            if found:
                return self._better_of_two(found, now)
        return None

    def _better_of_two(self, members: list[Upstream], now: float) -> Upstream:
        if len(members) == 1:
            return members[0]
        shares = [each.share(now) for each in members]
        first = self._draw(shares)
        shares[first] = 0.0
        second = self._draw(shares)
        one, other = members[first], members[second]
        # Of equals the first: by so much more it was likely as its weight is greater.
        return other if other.load(now) < one.load(now) else one

    def _draw(self, shares: list[float]) -> int:
        point = self._random() * sum(shares)
        last = 0
        for index, share in enumerate(shares):
            if share:
                if point < share:
                    return index
                point -= share
                last = index
        return last

    def began(self, upstream: Upstream) -> None:
        """A request is brought there."""
        upstream.outstanding += 1
        upstream.requests += 1

    def ended(self, upstream: Upstream, outcome: Outcome, why: str = "") -> bool:
        """It has ended there; ``why`` it failed, for people. True: the upstream is ejected for it."""
        upstream.outstanding -= 1
        if outcome is Outcome.ERROR:
            upstream.errors += 1
        elif outcome is Outcome.FAILED:
            upstream.failures += 1
            upstream.last_failure = why[:200]
        now = self._clock()
        if not upstream.health.ended(outcome, now) or upstream.removed:
            return False
        ejected = sum(each.health.state is State.EJECTED for each in self)
        if not may_eject(ejected, len(self)) or self.serving < 2:
            return False
        upstream.health.eject(now)
        return True

    def checked(self, upstream: Upstream, well: bool, why: str = "") -> bool:
        """A health check has ended. True: the state is another."""
        if not well:
            upstream.last_failure = f"health check: {why}"[:200]
        return upstream.health.checked(well, self._clock())

    def look(self) -> list[Upstream]:
        """What time changes. Returns those whose state is another; call it a few times a second."""
        now = self._clock()
        return [each for each in self if each.health.look(now)]

    def report(self) -> list[dict[str, object]]:
        """For the statistics."""
        now = self._clock()
        return [
            {
                "address": str(each.address),
                "source": each.source,
                "state": each.health.state.name.lower(),
                "since_s": int(now - each.health.since),
                "weight": each.weight,
                "backup": int(each.backup),
                "outstanding": each.outstanding,
                "idle_connections": each.connections,
                "reported": int(each.reported),
                "penalty": int(each.health.penalty(now)),
                "requests": each.requests,
                "errors": each.errors,
                "failures": each.failures,
                "failures_in_a_row": each.health.in_a_row,
                "ejections": each.health.ejections_ever,
                "out_for_s": max(0, int(each.health.until - now))
                if each.health.state is State.EJECTED
                else 0,
                "checks_failed": each.health.checks_failed,
                "last_failure": each.last_failure,
            }
            for each in self
        ]
