"""How much of an app one client, and all of them, may ask for: requests a second and requests at once. Pure; time comes in
as seconds.

Requests a second are counted by the generic cell rate algorithm (ITU-T I.371): of each address one number is kept, the
instant at which it will have used up what it has been given. Of at most ``MOST`` addresses: those that were seen longest
ago are forgotten first, and have all of their burst again when they come back. So whoever comes from very many addresses
is limited as one app's clients are (`limit-requests`), and costs no more memory than this.

What is limited of all clients is counted with the other routers of this host, if there can be any (``together``). What one
address may do each router counts by itself.
"""

import math
from collections import Counter, OrderedDict
from typing import Any, Final

from emperor.config.balancing import NO_RATE, Rate
from emperor.protocol.scoreboard import Board
from emperor.router.exchange import Exchange
from emperor.router.together import Together, together

MOST: Final = 65_536
"""Addresses that are remembered, of each app: some 10 MB when all are taken."""

ROUNDED_S: Final = 1e-6
"""On the page there are whole nanoseconds."""

RATE: Final = "limit-requests"
RATE_EACH: Final = "limit-requests-per-address"
CONCURRENCY: Final = "limit-concurrency"
CONCURRENCY_EACH: Final = "limit-concurrency-per-address"


class Meter:
    """Requests a second, of each key."""

    __slots__ = ("_until", "ahead_s", "each_s", "forgotten", "most")

    def __init__(self, rate: Rate, most: int = MOST) -> None:
        per_s, burst = rate
        self.each_s = 1.0 / per_s
        self.ahead_s = (burst - 1) * self.each_s
        self._until: OrderedDict[str, float] = OrderedDict()
        self.most = most
        self.forgotten = 0  # that were limited still

    def __len__(self) -> int:
        return len(self._until)

    def wait_s(self, key: str, now: float) -> float:
        """How long this one must wait; 0: not at all."""
        return max(0.0, self._until.get(key, 0.0) - self.ahead_s - now)

    def take(self, key: str, now: float) -> None:
        """One has been let in."""
        known = self._until
        known[key] = max(known.get(key, 0.0), now) + self.each_s
        known.move_to_end(key)
        if len(known) > self.most:
            _, until = known.popitem(last=False)
            self.forgotten += until > now

    def busy(self, now: float) -> int:
        """How many requests of its burst somebody has used up: of the key that was seen last."""
        return self.used_up(next(reversed(self._until.values())), now) if self._until else 0

    def raise_to(self, key: str, until: float) -> None:
        """Others have let in as much."""
        self._until[key] = max(self._until.get(key, 0.0), until)

    def used_up(self, until: float, now: float) -> int:
        return max(0, math.ceil((until - now) / self.each_s))


class Ticket:
    """One request that counts, until it has ended."""

    __slots__ = ("_address", "_limits")

    def __init__(self, limits: "Limits", address: str) -> None:
        self._limits = limits
        self._address = address

    def release(self) -> None:
        limits, address = self._limits, self._address
        limits.in_hand -= 1
        if limits.shared is not None:
            limits.shared.say(limits.in_hand)
        if address:
            limits.each[address] -= 1
            if not limits.each[address]:
                del limits.each[address]


class Limits:
    """Those of one app. What it counts goes on counting when they change."""

    def __init__(self) -> None:
        self.in_hand = 0
        self.each: Counter[str] = Counter()
        self.shared: Together | None = None
        self._rates = (NO_RATE, NO_RATE)
        self._all: Meter | None = None
        self._of_each: Meter | None = None
        self._concurrency = self._concurrency_each = 0

    def use(self, rate: Rate, rate_each: Rate, concurrency: int, concurrency_each: int) -> bool:
        """From now on. Returns whether there are any."""
        if self._rates != (rate, rate_each):
            self._rates = (rate, rate_each)
            self._all = Meter(rate) if rate[0] else None
            self._of_each = Meter(rate_each) if rate_each[0] else None
        self._concurrency, self._concurrency_each = concurrency, concurrency_each
        return bool(rate[0] or rate_each[0] or concurrency or concurrency_each)

    def share(self, board: Board | None, seat: int, now: float) -> None:
        """From now on with the other routers that see this page; None: by itself."""
        before = self.shared
        if board is not None:
            self.shared = together(board, seat, before, self.in_hand, now)
        elif before is not None:
            self.shared = None
            if self._all is not None:
                self._all.raise_to("", before.until_s())

    def go_on(self, now: float) -> None:
        """Still so many in hand: to be called several times a second."""
        if self.shared is not None:
            self.shared.say(self.in_hand, now)

    def _in_hand_of_all(self, now: float) -> int:
        return self.in_hand if self.shared is None else self.in_hand + self.shared.others(now)

    def _wait_of_all_s(self, meter: Meter, now: float) -> float:
        if self.shared is None:
            return meter.wait_s("", now)
        ahead_s = self.shared.until_s() - now
        if ahead_s > meter.ahead_s + 2 * meter.each_s:
            return 0.0  # nobody has let in so many: the app has written there, or the limit was another; `spend` sets it right
        wait_s = ahead_s - meter.ahead_s
        return wait_s if wait_s > ROUNDED_S else 0.0

    def refusal(self, address: str, now: float) -> tuple[str, float] | None:
        """The option that this request goes beyond, and in how many seconds it would not; None: it is let in, and
        ``admit`` follows. ``address`` is empty for one that nobody knows the address of."""
        if self._concurrency and self._in_hand_of_all(now) >= self._concurrency:
            return CONCURRENCY, 1.0
        if address and self._concurrency_each and self.each[address] >= self._concurrency_each:
            return CONCURRENCY_EACH, 1.0
        if self._of_each is not None and address and (wait_s := self._of_each.wait_s(address, now)) > 0:
            return RATE_EACH, wait_s
        if self._all is not None and (wait_s := self._wait_of_all_s(self._all, now)) > 0:
            return RATE, wait_s
        return None

    def admit(self, exchange: Exchange, address: str, now: float) -> None:
        """Count it until it has ended."""
        if self._of_each is not None and address:
            self._of_each.take(address, now)
        if self._all is not None:
            if self.shared is None:
                self._all.take("", now)
            else:
                self.shared.spend(now, self._all.each_s, self._all.ahead_s)
        self.in_hand += 1
        if self.shared is not None:
            self.shared.say(self.in_hand, now)
        if address:
            self.each[address] += 1
        exchange.ticket = Ticket(self, address)

    def values(self, now: float) -> list[tuple[str, int, int]]:
        """``(option, what it is, what there is of it now)``. Rates are told per minute, since numbers are whole."""
        most = self.each.most_common(1)
        busy = 0
        if self._all is not None:
            shared = self.shared
            busy = self._all.busy(now) if shared is None else self._all.used_up(shared.until_s(), now)
        return [
            (RATE, round(self._rates[0][0] * 60), busy),
            (RATE_EACH, round(self._rates[1][0] * 60), 0 if self._of_each is None else len(self._of_each)),
            (CONCURRENCY, self._concurrency, self.in_hand),
            (CONCURRENCY_EACH, self._concurrency_each, most[0][1] if most else 0),
        ]

    def report(self) -> dict[str, Any]:
        meter = self._of_each
        return {
            "addresses": 0 if meter is None else len(meter),
            "addresses_limit": MOST,
            "addresses_forgotten": 0 if meter is None else meter.forgotten,
        }
