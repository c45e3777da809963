"""An app's workers on other hosts, as long as there are any: when one of them is asked (`emperor.router.far` says which), and
what is looked at again later.
"""

import asyncio
import math
import random
from typing import TYPE_CHECKING, Any, Final

from emperor.config.spec import MOST_WEIGHT
from emperor.protocol.records import NO_WORD
from emperor.protocol.scoreboard import monotonic_s, now_ns
from emperor.router import deck, grants, policies
from emperor.router.exchange import Exchange
from emperor.router.far import IN_A_ROW, Far

if TYPE_CHECKING:
    from emperor.router.app import App

SMALL_BYTES: Final = 8192
"""The most of a request that goes on a deck there, as by a ring here."""


class Abroad:
    """An app has one from the READY of the first of them until the last has left."""

    def __init__(self, app: "App") -> None:
        self.far = Far(random.random)
        self._app = app
        self._look: asyncio.TimerHandle | None = None

    @property
    def members(self) -> "list[Any]":
        """Their links."""
        return self.far.members

    def join(self, link: Any, weight: int, gives_back: bool) -> None:
        """It has said READY, with this weight; `NO_WORD`: it is of a version that says none. ``gives_back``: it may have a
        deck."""
        app = self._app
        link.gives_back = gives_back
        link.weight = 1 if weight == NO_WORD else min(max(1, weight), MOST_WEIGHT)
        link.accepting = True
        link.since_ns = now_ns()
        self.far.join(link, monotonic_s())
        link.joined()
        app.sharing.count_short()
        if len(app.queue):
            app.sharing.demand()
            app.dispatch()

    def leave(self, link: Any, reason: str) -> None:
        """Its link has ended, and still has what it was given."""
        app = self._app
        if link.ready:
            link.ended(reason)
        if link.streams and not app.closed:
            self.failed(link)
        self.far.leave(link)
        if self.far.members:
            return
        app.far = None
        if self._look is not None:
            self._look.cancel()
        if not app.closed:
            app.refuse_in_vain("the last worker of other hosts has left")

    def member(self, exchange: Exchange) -> Any:
        """Whom to give it to now; None: nobody yet, and it is looked again when its time comes."""
        app = self._app
        if app.paused:
            return None
        now = monotonic_s()
        if app.pool.serves():
            left_s = exchange.submitted + self.far.patience_s() - now
            if left_s > 0:
                if self._look is None:
                    self._look = app.core.loop.call_later(left_s, self._look_again)
                return None
        ahead = self._may_be_ahead(exchange)
        if app.careful and (policy := app.balancer.options.balance) != policies.SLOTS:
            return self._otherwise(policy, exchange, now, ahead)
        found = None
        if ahead and app.pool.known:
            found = self.far.near(now, app.pool.mean_ns, self._depth)
        if found is None:
            found = self.far.choose(now)
        if found is None and ahead:
            found = self.far.choose_busy(now, self._depth)
        return found

    def _otherwise(self, policy: str, exchange: Exchange, now: float, ahead: bool) -> Any:
        """By what the app says of balancing."""
        far = self.far
        if policy == policies.HASH and (key := self._app.balancer.key(exchange)):
            return far.choose_by_key(key, now, self._depth if ahead else None)
        if policy == policies.ROUND_ROBIN:
            found = far.choose_in_turn(now)
        else:
            found = far.choose_least(now) if policy == policies.LEAST else far.choose(now)
        return far.choose_busy(now, self._depth) if found is None and ahead else found

    def slots(self) -> int:
        """Those that we have there, busy or not."""
        return sum(link.slots for link in self.far.members if link.accepting)

    def named(self, token: str) -> Any:
        """The one that a client's cookie names, if it takes a request now; else None."""
        now = monotonic_s()
        for link in self.far.members:
            if link.token(self._app.name) == token:  # type: ignore[attr-defined]
                takes = link.accepting and link.in_flight < link.slots
                return link if takes and self.far.hosts[link.host].admits(now) else None
        return None

    def _may_be_ahead(self, exchange: Exchange) -> bool:
        """It may be lost on a deck with its host, when nobody knows whether it had begun: so it has to be one that is run again
        then, and small."""
        head = exchange.head
        return (
            self._app.retries
            and head.idempotent
            and exchange.body_done
            and not exchange.rest
            and not exchange.retried
            and not head.websocket
            and exchange.part is None
            and len(head.packet) + exchange.buffered <= SMALL_BYTES
        )

    def _depth(self, link: Any) -> int:
        """How many may be on its deck."""
        if link.recalled and now_ns() - link.since_ns >= grants.SHARE_NS:
            return 0  # another router is to have its slot as soon as may be
        if not self._app.pool.known:
            return 0  # who waits there for what is thought to be quick is not served by others, and nobody is asked for slots
        return deck.depth_afar(self._app.pool.usual_ns, link.slots, int(link.rtt_s * 1e9))

    def call_back(self) -> None:
        """Nothing is to begin there any more."""
        for link in self.far.members:
            link.call_back()  # type: ignore[attr-defined]

    def stuck(self, link: Any) -> None:
        """It runs a request that takes long: nothing goes on its deck until that has ended."""
        link.stuck = True

    def moves(self, link: Any) -> None:
        """A request there has ended."""
        link.stuck = False

    def may_help(self) -> bool:
        """The queue is worth asking one of them for slots."""
        app = self._app
        if not app.balancer.queued():
            return False
        waited_s = monotonic_s() - app.balancer.waits_since()
        return not app.pool.serves() or waited_s >= self.far.patience_s()

    def _look_again(self) -> None:
        self._look = None
        app = self._app
        if app.balancer.queued():
            app.sharing.demand()
            app.dispatch()

    def answered(self, link: Any, failed: bool) -> None:
        """By the app there; ``failed``: with 5xx."""
        self._told(link, self.far.answered(link, failed, monotonic_s()))

    def failed(self, link: Any) -> None:
        """What it had was answered 5xx in its place."""
        self._told(link, self.far.failed(link, monotonic_s()))

    def _told(self, link: Any, left_alone_s: float) -> None:
        if left_alone_s:
            self._app.core.log(
                "warning",
                f"[{self._app.name}] requests have failed on {link.host} {IN_A_ROW} times one after another: it gets no more "
                f"for {left_alone_s:g} s",
            )

    def left_alone_s(self, link: Any) -> int:
        """For how long its host gets nothing, since it has failed."""
        return math.ceil(self.far.left_alone_s(link.host, monotonic_s()))
