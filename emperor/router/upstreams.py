"""The upstreams of one app, and which of them gets a request. Pure; time comes in as seconds, chance as a function.

The set changes while it is used: by the vassal's file, and by whoever announces himself (subscriptions). One that is removed
finishes what it has. The choice is the better of two, drawn by weight (Mitzenmacher's power of two choices): the one with
fewer requests of ours under way, beside the load it has told of and what its failures count for (`health`), for its weight.
Option ``balance`` may say otherwise: the least loaded of all, each in turn (smoothly by weight, as nginx does it), or the one
that a client's key belongs to, as long as that has not too much (`policies`). One that a client's cookie names comes first.
A backup is chosen only while no other is in service. One that has as many connections as it may have is passed over, and while
all in service have, requests wait.

A name stands for all addresses that it has: each is a member of its own, with a health of its own, and they come and go as
the name is looked up again (`resolved`). Until it has been, one member stands for the name itself.
"""

from collections.abc import Callable, Collection, Iterator
from math import ceil
from typing import Final

from emperor.config import upstreams as config
from emperor.config.upstreams import Address
from emperor.router import policies
from emperor.router.health import FAILURES, LAST_RESORT, SERVING, Health, Outcome, State, may_eject


class Upstream:
    """One backend of one app.

    ``outstanding``: requests of ours that are there now, at most ``most`` if that is not 0; ``full``: how often it was passed
    over for that. ``reported``: the load that it told of itself at ``told_at``, in requests. ``ip``: where its name leads, as
    text; empty: its address is no name (``named``), or that has not been looked up. ``spare``: it is of another kind than the
    first of its name's addresses (IPv4, IPv6), and most likely another way to the same server: asked as a backup is.
    ``cores``: how many requests it runs at once, as it told (0: it has not); ``by_cores``: they are its weight.
    ``keeps``: its connections have served one request after another, and it has closed none at once since.
    ``source``: who has named it, `FILE` or another word; only he may remove it or change it.
    """

    __slots__ = (
        "address",
        "backup",
        "by_cores",
        "connections",
        "cores",
        "errors",
        "failures",
        "full",
        "health",
        "ip",
        "keeps",
        "last_failure",
        "modifier1",
        "modifier2",
        "most",
        "named",
        "outstanding",
        "place",
        "removed",
        "reported",
        "requests",
        "source",
        "spare",
        "spelled",
        "told_at",
        "turn",
        "weight",
    )

    # What an access log asks of a worker.
    seat = -1
    pid = 0
    generation = 0

    def __init__(self, address: Address, now: float, *, source: str, warming: bool, ip: str = "") -> None:
        self.address = address
        self.ip = ip
        self.named = address.is_name
        self.spare = False
        self.place = str(self)
        self.spelled = self.place.encode()
        self.source = source
        self.weight = 1
        self.cores = 0
        self.by_cores = False
        self.backup = False
        self.modifier1 = 0
        self.modifier2 = 0
        self.most = 0
        self.full = 0
        self.turn = 0.0  # how far its turn has come (`policies.in_turn`)
        self.reported = 0.0
        self.told_at = now
        self.health = Health(now, warming=warming)
        self.outstanding = 0
        self.connections = 0  # idle ones that are kept
        self.keeps = False
        self.requests = 0
        self.errors = 0  # answers from 500 on
        self.failures = 0  # no good answer at all
        self.last_failure = ""
        self.removed = False

    def __repr__(self) -> str:
        return f"<Upstream {self.address} {self.health.state.name}>"

    def __str__(self) -> str:
        return f"{self.address} ({self.ip})" if self.ip else str(self.address)

    def load(self, now: float) -> float:
        """What it has to do, for its weight."""
        return (self.outstanding + self.told(now) + self.health.penalty(now)) / self.share(now)

    def told(self, now: float) -> float:
        """The load that it has told of, less as it grows old."""
        return self.reported * max(0.0, 1.0 - (now - self.told_at) / TOLD_S) if self.reported else 0.0

    def has_room(self, now: float) -> bool:
        """It may have one more connection. One that is tried again begins with a part of its own."""
        return not self.most or self.outstanding < ceil(self.most * self.health.warmth(now))

    @property
    def second(self) -> bool:
        """It is chosen only while none of the first is in service."""
        return self.backup or self.spare

    def share(self, now: float) -> float:
        return (self.cores if self.by_cores else self.weight) * self.health.warmth(now)


TOLD_S: Final = 10.0
"""A load that a node has told of counts less and less for so long: it was one moment's (uWSGI's ``subscribe-freq``)."""

MOST_LOAD: Final = 1000
"""That a node may tell of: more is as good as that."""

MOST_ADDRESSES: Final = 64
"""Of one name. What it has beyond is left out."""

FILE: Final = "file"
"""The source of what a vassal's file names."""


class Upstreams:
    """``clock`` gives seconds, ``random`` a number in [0, 1)."""

    def __init__(self, clock: Callable[[], float], random: Callable[[], float]) -> None:
        self._clock = clock
        self._random = random
        self._members: dict[str, Upstream] = {}
        self.bounded = False
        """Some may have only so many connections."""
        self.policy = policies.SLOTS

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
        most: int = 0,
        source: str = FILE,
        warm: bool = False,
    ) -> Upstream:
        """Have this one (``uwsgi://10.0.0.2:3031``), or change what is said of it: its health and counts stay. One that comes
        to others begins slowly, unless it is `warm`. What one source has named, another does not change. Raises `Mistake` for
        an address that is none."""
        where = Address.parse(address)
        name = str(where)
        found = [each for each in self._members.values() if str(each.address) == name]
        if not found:
            warming = not warm and any(each.health.serving for each in self._members.values())
            made = Upstream(where, self._clock(), source=source, warming=warming)
            self._members[name] = made
            found = [made]
        for each in found:
            if each.source == source:
                each.weight = min(max(1, weight), config.MOST_WEIGHT)
                each.backup = backup
                each.modifier1 = modifier1
                each.modifier2 = modifier2
                each.most = most
        self._look_at_bounds()
        return found[0]

    def resolved(self, address: str, ips: Collection[str]) -> bool:
        """A name has these addresses now, in place of those that it had. None at all is a mistake of somebody's: then they
        stay. True: something is otherwise than it was."""
        before = {each.ip: each for each in self._members.values() if str(each.address) == address}
        wanted = list(dict.fromkeys(ips))[:MOST_ADDRESSES]
        if not before or not wanted or wanted == list(before):
            return False
        # Until now one stood for the name itself: these are no newcomers.
        like = before.get("") or next(iter(before.values()))
        warming = like.health.state is not State.IN if not like.ip else self.serving > 0
        for key in [str(each) for each in before.values()]:
            del self._members[key]
        for ip in wanted:
            each = before.pop(ip, None)
            if each is None:
                each = Upstream(like.address, self._clock(), source=like.source, warming=warming, ip=ip)
                for name in ("weight", "backup", "modifier1", "modifier2", "most"):
                    setattr(each, name, getattr(like, name))
            each.spare = (":" in ip) != (":" in wanted[0])
            self._members[str(each)] = each
        for each in before.values():
            each.removed = True
        return True

    def tell(self, upstream: Upstream, cores: int, load: int) -> None:
        """What one says of itself. While all do, and nobody has given any of them a weight, their cores are their weights."""
        upstream.cores = min(cores, config.MOST_WEIGHT)
        upstream.reported = float(min(load, MOST_LOAD))
        upstream.told_at = self._clock()
        self._weigh()

    def _weigh(self) -> None:
        by_cores = all(each.cores and each.weight == 1 for each in self._members.values())
        for each in self._members.values():
            each.by_cores = by_cores

    def _look_at_bounds(self) -> None:
        self.bounded = any(each.most for each in self._members.values())
        self._weigh()

    def remove(self, address: str, source: str = FILE) -> bool:
        """Choose this one no more. False: there is none of this source."""
        found = [
            each for each in self._members.values() if str(each.address) == address and each.source == source
        ]
        for each in found:
            each.removed = True
            del self._members[str(each)]
        self._look_at_bounds()
        return bool(found)

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
                most=each.most,
                warm=cold,
            )
        named = {each.address for each in said}
        for address in {str(each.address) for each in self if each.source == FILE} - named:
            self.remove(address)

    @property
    def serving(self) -> int:
        """How many are in service."""
        return sum(each.health.serving for each in self)

    @property
    def answering(self) -> bool:
        """Some in service do not fail all that they get: the vassals that share a domain with this one need not step in."""
        now = self._clock()
        return any(each.health.serving and not each.health.failing(now) for each in self)

    def choose(
        self, tried: Collection[Upstream] = (), key: bytes = b"", wish: Upstream | None = None
    ) -> Upstream | None:
        """The one for a request, apart from those that it was brought to already. None: there is no such one in service, or
        none that has room. ``key``: what its client is known by, where that counts; ``wish``: whom its cookie names.

        When none at all is in service, those that were ejected are: others have been removed since, or fail their checks, and
        who fails some requests is better than nobody.
        """
        now = self._clock()
        if len(self._members) == 1 and not self.bounded:
            # As most are. Who is alone is never ejected, and may fail its checks.
            (only,) = self._members.values()
            return only if only.health.state is not State.DOWN and only not in tried else None
        states = SERVING if self.serving else LAST_RESORT
        for backup in (False, True):
            found = [
                each
                for each in self._members.values()
                if each.second is backup and each.health.state in states and each not in tried
            ]
            if found and self.bounded:
                roomy = []
                for each in found:
                    if each.has_room(now):
                        roomy.append(each)
                    else:
                        each.full += 1
                if not roomy:
                    return None  # a backup stands in for those that are gone, and not for those that are busy
                found = roomy
            if found:
                return wish if wish in found else self._by_policy(found, key, now)
        return None

    def _by_policy(self, members: list[Upstream], key: bytes, now: float) -> Upstream:
        if len(members) == 1:
            return members[0]
        if self.policy == policies.HASH and key:
            return next(policies.by_key(key, members, [each.share(now) for each in members]))
        if self.policy == policies.ROUND_ROBIN:
            return policies.in_turn(members, [each.share(now) for each in members])
        if self.policy == policies.LEAST:
            loads = [each.load(now) for each in members]
            return policies.least_of(members, loads, [each.share(now) for each in members])
        return self._better_of_two(members, now)

    def has_room(self) -> bool:
        """A request need not wait: whoever would be chosen has room, or there is nobody."""
        if not self.bounded:
            return True
        now = self._clock()
        states = SERVING if self.serving else LAST_RESORT
        for backup in (False, True):
            found = [each for each in self if each.second is backup and each.health.state in states]
            if found:
                return any(each.has_room(now) for each in found)
        return True

    def busy(self, tried: Collection[Upstream]) -> bool:
        """Some in service that it was not brought to have no room, and will."""
        now = self._clock()
        return self.bounded and any(
            each.health.serving and each not in tried and not each.has_room(now) for each in self
        )

    def _better_of_two(self, members: list[Upstream], now: float) -> Upstream:
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
        elif outcome is Outcome.FAILED or outcome is Outcome.UNREACHED:
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

    def tried(self, upstream: Upstream, why: str) -> bool:
        """A connection was made for no request, and came about, or did not, and ``why``. True: it has failed for want of one,
        and is in service as if it had not."""
        if why:
            upstream.last_failure = why[:200]
        return upstream.health.tried(not why, self._clock())

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
                "ip": each.ip,
                "source": each.source,
                "state": each.health.state.name.lower(),
                "since_s": int(now - each.health.since),
                "weight": each.cores if each.by_cores else each.weight,
                "cores": each.cores,
                "backup": int(each.second),
                "outstanding": each.outstanding,
                "max_connections": each.most,
                "full": each.full,
                "idle_connections": each.connections,
                "reported": int(each.told(now)),
                "penalty": int(each.health.penalty(now)),
                "requests": each.requests,
                "errors": each.errors,
                "failures": each.failures,
                "failures_in_a_row": each.health.in_a_row,
                "failed_s": int(now - each.health.failed_at) if each.health.in_a_row else 0,
                "reached": int(each.health.reached and 0 < each.health.in_a_row < FAILURES),
                "ejections": each.health.ejections_ever,
                "out_for_s": max(0, int(each.health.until - now))
                if each.health.state is State.EJECTED
                else 0,
                "checks_failed": each.health.checks_failed,
                "last_failure": each.last_failure,
            }
            for each in self
        ]
