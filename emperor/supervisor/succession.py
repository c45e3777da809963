"""The router, and, while another takes its place, both.

`replace` starts a second one in a free seat, with copies of the same listening sockets and backplanes of its own, and tells it
all that the first knows; all workers are told to serve it too. Once its table is whole it lets clients in, and it is the router
from then on. The first is told to leave: it accepts nobody any more, answers what it has, lets go of the workers' slots that it
does not need (docs/specs/backplane.md, section 4), and ends when its last client has gone, at the latest after `router-mercy`.
Until then it is told what is new, as its last clients may want it.

One that does not come up is taken away again, and nothing has happened: the first goes on. Where it may have let clients in,
and the word of that is on its way, it leaves as the first would have done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from socket import socket
from typing import Any

from emperor.control.channel import Channel
from emperor.supervisor.handover import Keep
from emperor.supervisor.loop import Loop, Timer
from emperor.supervisor.routers import SEAT, Listener, Logger, Router
from emperor.supervisor.wanted import ROUTERS

START_S = 30.0
"""For a router to come up: a cold interpreter, and the table of ten thousand vassals."""

STATS_S = 1.0
"""For the answers of those that leave; less than what the emperor waits for the statistics (`ROUTER_ANSWER_S`)."""


class Routers:
    """All that there are. `make(seat)` makes the emperor's end of one; `turn()` tells the workers which there are;
    `give(router)` lets the workers of all vassals reach its backplanes; `mercy_s()` is how long one may take to leave."""

    def __init__(
        self,
        loop: Loop,
        log: Logger,
        make: Callable[[int], Router],
        turn: Callable[[], None],
        give: Callable[[Router], None],
        mercy_s: Callable[[], float],
    ) -> None:
        self._loop = loop
        self._log = log
        self._make = make
        self._turn = turn
        self._give = give
        self._mercy_s = mercy_s
        self.main = make(SEAT)
        self.coming: Router | None = None
        self.leaving: list[Router] = []
        self._timer: Timer | None = None
        self._outcome: Callable[[str], None] | None = None
        self._stopping: Callable[[], None] | None = None
        self._keys: tuple[str, Mapping[str, Sequence[str]]] | None = None

    def _made(self, seat: int) -> Router:
        router = self._make(seat)
        if self._keys is not None:
            router.use_keys(*self._keys)
        return router

    def use_keys(self, secret: str, apps: Mapping[str, Sequence[str]]) -> None:
        """See `Router.use_keys`."""
        self._keys = secret, apps
        for each in self.all:
            each.use_keys(secret, apps)

    @property
    def all(self) -> list[Router]:
        """The one that stays first."""
        return [self.main, *([self.coming] if self.coming is not None else []), *self.leaving]

    # -- taking another's place ---------------------------------------------------------------------------

    def replace(self, outcome: Callable[[str], None]) -> None:
        """Put another in the router's place. `outcome` is told why not, or nothing once it is."""
        if self._stopping is not None:
            outcome("the emperor is stopping")
        elif self._outcome is not None:
            outcome("another one is under way already")
        elif self.main.state != "running":
            outcome(f"router {self.main.seat} is {self.main.state}: ask again when it runs")
        else:
            self._outcome = outcome
            self._timer = self._loop.call_later(START_S, self._too_late)
            self._begin()

    def _begin(self) -> None:
        """As soon as a seat is free. They are taken in turn, so that one rests for a while after its router has gone."""
        free = [seat for seat in range(ROUTERS) if all(each.seat != seat for each in self.all)]
        if not free:
            return
        seat = next((each for each in free if each > self.main.seat), free[0])
        coming = self.coming = self._made(seat)
        coming.on_failed = self._failed
        for listener in self.main.listeners:
            coming.listen(listener)
        coming.start()
        coming.table_is_whole(self._came)
        self._log.info(f"router {seat} is started, to take the place of router {self.main.seat}")
        self._give(coming)
        self._turn()

    def _too_late(self) -> None:
        if self.coming is not None:
            self._failed(f"router {self.coming.seat} is not up after {START_S:g} s")
            return
        seats = ", ".join(str(each.seat) for each in self.leaving)
        self._failed(
            f"the routers before it ({seats}) still have clients, for at most {self._mercy_s():g} s (router-mercy): ask again "
            "when one has left"
        )

    def _came(self) -> None:
        coming, leaves = self.coming, self.main
        if coming is None:
            return
        self._settled()
        coming.on_failed = None
        self.main = coming
        self._log.info(
            f"router {coming.seat} (pid {coming.pid}) lets clients in; router {leaves.seat} (pid {leaves.pid}) finishes "
            f"what it has, within {self._mercy_s():g} s"
        )
        self._leave(leaves)
        self._turn()
        self._say("")

    def _leave(self, router: Router) -> None:
        """It finishes what it has, while another is there for what is new."""
        self.leaving.append(router)
        router.hand_on(self._mercy_s(), lambda: self._left(router))

    def _failed(self, reason: str) -> None:
        coming = self.coming
        self._settled()
        if coming is not None:
            coming.on_failed = None
            if coming.may_have_clients:
                self._leave(coming)
            else:
                coming.give_up()
            self._turn()
        self._log.error(f"router {self.main.seat} stays: {reason}")
        self._say(reason)

    def _settled(self) -> None:
        self.coming = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _say(self, why: str) -> None:
        outcome, self._outcome = self._outcome, None
        if outcome is not None:
            outcome(why)

    def _left(self, router: Router) -> None:
        self.leaving.remove(router)
        router.forget()
        self._log.info(f"router {router.seat} has left")
        self._turn()
        if self._stopping is not None:
            self._maybe_stopped()
        elif self._outcome is not None and self.coming is None:
            self._begin()

    # -- what is said to all of them ------------------------------------------------------------------------

    def start(self) -> None:
        self.main.start()

    def main_in(self, seat: int) -> Router:
        """The one that lets clients in sits there: nobody has been started by us yet."""
        if seat != self.main.seat:
            self.main = self._made(seat)
        return self.main

    def leaving_in(self, seat: int) -> Router:
        """One sits there that was to leave before us."""
        for each in self.leaving:
            if each.seat == seat:
                return each
        router = self._made(seat)
        self.leaving.append(router)
        return router

    def go_on_leaving(self, seat: int, until: float) -> None:
        """That one has until then."""
        router = self.leaving_in(seat)
        router.goes_on_leaving(until, lambda: self._left(router))

    def adopt_leaving(
        self,
        seat: int,
        channel: Channel,
        pid: int,
        hello: dict[str, Any],
        backplanes: Mapping[str, socket],
        mercy_s: float,
    ) -> None:
        """One that was to leave, or has to now that there is another. Raises ProcessLookupError when it has gone meanwhile."""
        router = self._made(seat)
        for name, sock in backplanes.items():
            router.backplanes.adopt(name, sock)
        try:
            router.adopt(channel, pid, hello, [])
        except ProcessLookupError:
            channel.close()
            router.forget()
            raise
        self.leaving.append(router)
        router.hand_on(mercy_s, lambda: self._left(router))

    def listen(self, listener: Listener) -> None:
        for each in self._serving():
            each.listen(listener)

    def unlisten(self, listener: Listener) -> None:
        for each in self._serving():
            each.unlisten(listener)

    def _serving(self) -> list[Router]:
        return [self.main] if self.coming is None else [self.main, self.coming]

    def tell(self, name: str) -> None:
        for each in self.all:
            each.tell(name)

    def send(self, message: dict[str, Any], fds: Sequence[int], close: Callable[[int], None]) -> None:
        for each in self.all:
            each.send(message, fds, close)

    def use(self, arguments: Sequence[str]) -> None:
        for each in self.all:
            each.use(arguments)

    def table_is_whole(self, on_complete: Callable[[], None]) -> None:
        self.main.table_is_whole(on_complete)
        for each in self.leaving:
            each.table_is_whole(_nothing)

    def give(self, name: str, uid: int | None, gid: int | None) -> None:
        """Let the workers of this user connect to all of them. Raises BindError."""
        for each in self.all:
            each.backplanes.give(name, uid, gid)

    def forget(self, name: str) -> None:
        """This vassal has gone."""
        for each in self.all:
            each.backplanes.forget(name)

    def endpoints(self, name: str) -> list[tuple[int, str]]:
        """Where the workers of a vassal meet each, by seat, the one that stays first."""
        return [(each.seat, each.backplanes.endpoint(name)) for each in self.all]

    def backplanes_held(self) -> dict[str, tuple[Router, str]]:
        """The paths of those that are bound, and whose each is."""
        return {path: (each, name) for each in self.all for path, name in each.backplanes.held().items()}

    def held(self) -> dict[str, Callable[[], None]]:
        return {path: again for each in self.all for path, again in each.held().items()}

    @property
    def changes(self) -> bool:
        """One is about to take another's place."""
        return self._outcome is not None

    @property
    def quiet(self) -> bool:
        """None is about to, and nothing that was asked of any is unanswered."""
        return not self.changes and all(each.quiet for each in self.all)

    # -- what is asked of them ------------------------------------------------------------------------------

    def stats(self, on_answers: Callable[[dict[int, Mapping[str, Any]]], None]) -> bool:
        """Ask all for their part of the statistics, by seat. False: there is nobody to ask."""
        said: dict[int, Mapping[str, Any]] = {}
        waits = {each.seat for each in self.all}
        timer: Timer | None = None

        def done() -> None:
            if waits:
                waits.clear()
                if timer is not None:
                    timer.cancel()
                on_answers(said)

        def answered(seat: int, answer: dict[str, Any]) -> None:
            if seat in waits:
                said[seat] = answer.get("router") or {}
                if waits == {seat}:
                    done()
                else:
                    waits.discard(seat)

        asked = [
            each
            for each in self.all
            if each.stats(lambda answer, seat=each.seat: answered(seat, answer))  # type: ignore[misc]
        ]
        waits &= {each.seat for each in asked}
        if not asked:
            return False
        if len(asked) > 1:
            timer = self._loop.call_later(STATS_S, done)
        return True

    # -- another program in this process, and the end ---------------------------------------------------------

    def hand_over_leaving(self, keep: Keep) -> list[dict[str, Any]]:
        """What is needed to go on with those that leave."""
        return [each.hand_over(keep) for each in self.leaving]

    def drain(self, timeout_s: float, on_drained: Callable[[], None]) -> None:
        """Let all of them accept what has connected, finish and go."""
        self._stopping = on_drained
        if self._outcome is not None:
            self._failed("the emperor is stopping")
        for each in self.leaving:
            router = each
            router.drain(timeout_s, lambda router=router: self._left(router))  # type: ignore[misc]
        self.main.drain(timeout_s, self._maybe_stopped)

    def _maybe_stopped(self) -> None:
        if not any(each.pid for each in self.all) and self._stopping is not None:
            stopping, self._stopping = self._stopping, None
            stopping()

    def kill(self) -> None:
        for each in self.all:
            each.kill()

    def close(self) -> None:
        for each in self.all:
            each.close()
            each.backplanes.close()


def _nothing() -> None:
    """One that leaves need not be waited for."""
