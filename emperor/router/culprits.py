"""Workers that are held too long, and requests that end workers: an app's ``harakiri`` and ``poison-deaths``.

What has run for too long is answered in the app's place, and its worker is ended by its gateway once its other requests are
done. What was under way when workers died, time and again, is refused for a while (`emperor.router.poison`).
"""

from typing import TYPE_CHECKING, Any, Final

from emperor.protocol.scoreboard import now_ns
from emperor.router.exchange import Exchange
from emperor.router.link import Link
from emperor.router.overdue import Overdue, overdue, told, variables_of
from emperor.router.poison import Poison, fingerprint
from emperor.router.states import State

if TYPE_CHECKING:
    from emperor.router.app import App

UNTOLD_LIMIT: Final = 64
"""Orders about workers that are kept for an emperor that is away."""


class Culprits:
    """One app's. ``App.wary`` says that requests are to be looked at."""

    def __init__(self, app: "App") -> None:
        self.app = app
        self.poison = Poison(0)
        self.condemned: dict[bytes, set[int]] = {}
        """Links whose workers are to be ended, and for which streams."""
        self.untold: list[dict[str, Any]] = []

    def use(self, deaths: int) -> None:
        """So many workers may a request end, from now on (0: nobody counts)."""
        if self.poison.deaths != deaths:
            self.poison = Poison(deaths)
            self.app.wary = False

    def tell(self) -> None:
        """The emperor what it has not heard yet."""
        self.untold = [message for message in self.untold if not self.app.core.tell(message)]

    def look_at(self, link: Link) -> None:
        """Answer in the app's place what has run for too long, and have its worker ended once the others are done."""
        app = self.app
        board = link.board
        assert board is not None
        slots = [board.slot(link.seat, slot) for slot in range(board.slots)]
        late = overdue(slots, link.streams, app.harakiri, now_ns(), link.grace_s)
        if not late:
            return
        known = self.condemned.get(link.identity)
        if known is None:
            known = self.condemned[link.identity] = set()
            app.comings.drain(link)
        for each in late:
            if each.exchange.stream not in known:
                known.add(each.exchange.stream)
                self._overran(link, each)

    def _overran(self, link: Link, late: Overdue) -> None:
        app = self.app
        exchange = late.exchange
        message = {
            "op": "harakiri",
            "name": app.name,
            "generation": link.generation,
            "seat": link.seat,
            "pid": link.pid,
            "stream": exchange.stream,
            "request": told(exchange),
            "ran_ms": round(late.ran_s * 1000),
            "limit_ms": round(late.limit_s * 1000),
            "variables": variables_of(exchange) if app.entry.deadlines.verbose else [],
        }
        if not app.core.tell(message):
            self.untold = [*self.untold, message][-UNTOLD_LIMIT:]
        app.counts.hits["harakiri"] += 1
        self._blame([exchange], f"ran for {late.ran_s:.1f} s")
        if exchange.state != State.ABANDONED:
            app._abandon(exchange, link)
            app._fail(
                exchange,
                504,
                f"worker {link.seat} (pid {link.pid}) has run it for {late.ran_s:.1f} s (harakiri = {late.limit_s:g} s), "
                "and is ended once its other requests are done",
            )

    def crashed(self, link: Link) -> None:
        """Its process is gone, and was not to go: what was under way may be why."""
        if not link.accepting or link.identity in self.condemned:
            return
        link.crashed = True
        running = []
        if link.board is not None:
            slots = [link.board.slot(link.seat, slot) for slot in range(link.board.slots)]
            running = [
                exchange
                for stream, _ in slots
                # One that is open has done nothing now that the others had not.
                if (exchange := link.streams.get(stream)) is not None and not exchange.tunnel
            ]
        self._blame(running, "was under way when it died")

    def _blame(self, exchanges: list[Exchange], what: str) -> None:
        app = self.app
        poison = self.poison
        if exchanges:
            found = poison.died(app.core.loop.time(), [exchange.head for exchange in exchanges])
            self._convicted(found, what, exchanges)

    def _convicted(self, found: list[str], what: str, exchanges: list[Exchange]) -> None:
        app = self.app
        poison = self.poison
        app.wary = poison.watching
        for who in found:
            same = (each for each in exchanges if fingerprint(each.head) == who)
            named = next((f": {told(each)}" for each in same), "")
            text = (
                f"poison {who}{named} {what}, as it had before: its like are answered 500 for {poison.banned_s(who):g} s "
                f"(poison-deaths = {poison.deaths})"
            )
            app.core.log("error", f"[{app.name}] {text}")
            app.core.tell({"op": "poison", "name": app.name, "text": text})

    def refuses(self, exchange: Exchange) -> bool:
        """It is poison, and was answered for."""
        app = self.app
        poison = self.poison
        who = poison.refuses(exchange.head, app.core.loop.time())
        if who:
            app.counts.hits["poison-deaths"] += 1
            app._answer(exchange, 500, f"it has ended workers before: poison {who} (poison-deaths)", "poison")
        return bool(who)

    def survived(self, exchange: Exchange) -> None:
        app = self.app
        poison = self.poison
        found = poison.survived(exchange.head, app.core.loop.time())
        self._convicted(found, "was under way when workers died", [])

    def look_again(self, now: float) -> None:
        app = self.app
        poison = self.poison
        poison.tidy(now)
        app.wary = poison.watching
