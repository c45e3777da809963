"""The routers that let clients in, and those that come to take the place of one, or leave it.

Most emperors have one. Where there are several (setting `routers`) they are equals: each has copies of the same listening
sockets and serves all workers, and one that dies is replaced in its seat while the others go on. The first, `main`, has what
one process alone can have (`ALONE`) as well, and so has whoever comes after it.

`replace` starts another one in a free seat, with copies of the same listening sockets and backplanes of its own, and tells it
all that the one before knows; all workers are told to serve it too. Once its table is whole it lets clients in, and has that
one's place from then on. The one before is told to leave: it accepts nobody any more, answers what it has, lets go of the
workers' slots that it does not need (docs/specs/backplane.md, section 4), and ends when its last client has gone, at the latest
after `router-mercy`. Until then it is told what is new, as its last clients may want it. Several are replaced by turns.

One that does not come up is taken away again: the one before it goes on, and so do those after it. Where it may have let
clients in, and the word of that is on its way, it leaves as the one before it would have done.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from socket import socket
from typing import Any

from emperor.control.channel import Channel
from emperor.supervisor.handover import Keep
from emperor.supervisor.loop import Loop, Timer
from emperor.supervisor.routers import ALONE, SEAT, Listener, Logger, Router
from emperor.supervisor.wanted import ROUTERS

START_S = 30.0
"""For a router to come up: a cold interpreter, and the table of ten thousand vassals."""

STATS_S = 1.0
"""For the answers to what all of them are asked: one that is stopped, or busy, is left out."""


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
        self.peers: list[Router] = []
        self._count = 1
        self._whole = False
        self.coming: Router | None = None
        self.leaving: list[Router] = []
        self._due: list[Router] = []  # whose places are to be taken, the next first
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
    def serving(self) -> list[Router]:
        """Those that let clients in, or will as soon as they are up."""
        return [self.main, *self.peers]

    @property
    def all(self) -> list[Router]:
        """Those that stay first."""
        return [*self.serving, *([self.coming] if self.coming is not None else []), *self.leaving]

    @property
    def are_up(self) -> bool:
        """All that let clients in do."""
        return all(each.state == "running" for each in self.serving)

    @property
    def share(self) -> bool:
        """All of them can serve workers beside others."""
        return all(each.shares for each in self.serving)

    def become(self, count: int) -> None:
        """Let there be so many that let clients in: others are started, once there are seats for them, or leave."""
        self._count = count
        while len(self.serving) > count:
            self._let_leave(self.peers.pop())
            self._turn()
        self._fill()

    def _fill(self) -> None:
        if self._stopping is not None or self._outcome is not None:
            return
        while len(self.serving) < self._count and (free := self._free()):
            peer = self._made(free[0])
            for listener in self.main.listeners:
                if listener.kind not in ALONE:
                    peer.listen(listener)
            self.peers.append(peer)
            peer.start()
            if self._whole:
                peer.table_is_whole(_nothing)
            self._give(peer)
            self._turn()

    def _let_leave(self, router: Router) -> None:
        self.leaving.append(router)
        router.hand_on(self._mercy_s(), lambda: self._left(router))

    def _free(self) -> list[int]:
        taken = {each.seat for each in self.all}
        return [seat for seat in range(ROUTERS) if seat not in taken]

    # -- taking another's place ---------------------------------------------------------------------------

    def replace(self, outcome: Callable[[str], None], whom: Sequence[Router] = ()) -> None:
        """Put others in the places of these, or of all that let clients in. `outcome` is told why not, or nothing once all
        have been taken."""
        down = [each for each in self.serving if each.state != "running"]
        if self._stopping is not None:
            outcome("the emperor is stopping")
        elif self._outcome is not None:
            outcome("another one is under way already")
        elif down:
            outcome(f"router {down[0].seat} is {down[0].state}: ask again when it runs")
        else:
            self._outcome = outcome
            self._due = list(whom or self.serving)
            self._next()

    def _next(self) -> None:
        self._timer = self._loop.call_later(START_S, self._too_late)
        self._begin()

    def _begin(self) -> None:
        """As soon as a seat is free. They are taken in turn, so that one rests for a while after its router has gone."""
        free = self._free()
        if not free:
            return
        before = self._due[0]
        seat = next((each for each in free if each > before.seat), free[0])
        coming = self.coming = self._made(seat)
        coming.on_failed = self._failed
        for listener in before.listeners:
            coming.listen(listener)
        coming.start()
        coming.table_is_whole(self._came)
        self._log.info(f"router {seat} is started, to take the place of router {before.seat}")
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
        coming = self.coming
        if coming is None:
            return
        leaves = self._due.pop(0)
        self._settled()
        coming.on_failed = None
        if leaves is self.main:
            self.main = coming
        else:
            self.peers[self.peers.index(leaves)] = coming
        self._log.info(
            f"router {coming.seat} (pid {coming.pid}) lets clients in; router {leaves.seat} (pid {leaves.pid}) finishes "
            f"what it has, within {self._mercy_s():g} s"
        )
        self._let_leave(leaves)
        self._turn()
        if self._due:
            self._next()
        else:
            self._say("")

    def _failed(self, reason: str) -> None:
        coming, stay = self.coming, [str(each.seat) for each in self._due]
        self._due = []
        self._settled()
        if coming is not None:
            coming.on_failed = None
            if coming.may_have_clients:
                self._let_leave(coming)
            else:
                coming.give_up()
            self._turn()
        self._log.error(
            f"router{'s' * (len(stay) > 1)} {', '.join(stay)} stay{'s' * (len(stay) == 1)}: {reason}"
        )
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
            self._settled()
            self._next()  # with all the time there is to come up
        else:
            self._fill()

    # -- what is said to all of them ------------------------------------------------------------------------

    def start(self) -> None:
        """Those that are not there yet."""
        for each in self.serving:
            if not each.pid:
                each.start()

    def main_in(self, seat: int) -> Router:
        """The one that lets clients in sits there: nobody has been started by us yet."""
        if seat != self.main.seat:
            self.main = self._made(seat)
        return self.main

    def peer_in(self, seat: int) -> Router:
        """Another one that lets clients in sits there: nobody has been started by us yet."""
        for each in self.peers:
            if each.seat == seat:
                return each
        self.peers.append(self._made(seat))
        return self.peers[-1]

    def drop_peer(self, router: Router) -> None:
        """It has gone meanwhile."""
        self.peers.remove(router)
        router.forget()

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
        for each in self._listening(listener.kind):
            each.listen(listener)

    def unlisten(self, listener: Listener) -> None:
        for each in self._listening(listener.kind):
            each.unlisten(listener)

    def _listening(self, kind: str) -> list[Router]:
        """Those that have listeners of this kind."""
        if kind in ALONE:
            return self._first()
        return self.serving if self.coming is None else [*self.serving, self.coming]

    def _first(self) -> list[Router]:
        """The one that has what one alone can have, and the one that is to have it next."""
        comes = self.coming is not None and self._due[0] is self.main
        return [self.main, self.coming] if self.coming is not None and comes else [self.main]

    def tell(self, name: str) -> None:
        for each in self.all:
            each.tell(name)

    def send(self, message: dict[str, Any], fds: Sequence[int], close: Callable[[int], None]) -> None:
        for each in self.all:
            each.send(message, fds, close)

    def announce(
        self, message: dict[str, Any], fds: Sequence[int], close: Callable[[int], None] = os.close
    ) -> None:
        """Send which announcements of a vassal there are: one router makes them. The others are told that they make none."""
        none = {**message, "announcements": []}
        peers = [each for each in self.serving if each is not self.main]
        comes_to_them = self.coming is not None and self._due[0] is not self.main
        for each in self.all:
            if each in peers or (each is self.coming and comes_to_them):
                each.send(none, [], close)
            else:
                each.send(message, fds, close)

    def use(self, arguments: Sequence[str]) -> None:
        for each in self.all:
            each.use(arguments)

    def table_is_whole(self, on_complete: Callable[[], None]) -> None:
        self._whole = True
        for each in self.serving:
            each.table_is_whole(on_complete)
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
        """Where the workers of a vassal meet each, by seat, those that stay first."""
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

    def counts(self, name: str, take: Callable[[dict[str, Any]], None]) -> bool:
        """Ask those that let clients in how many requests each generation of a vassal has answered and failed: the sums. False:
        there is nobody to ask."""
        waits: set[int] = set()
        sums: dict[str, dict[str, int]] = {}

        def answered(seat: int, answer: dict[str, Any]) -> None:
            if seat not in waits:
                return
            waits.discard(seat)
            add_counts(sums, answer.get("counts"))
            if not waits:
                timer.cancel()
                take({"counts": sums})

        def late() -> None:
            waits.clear()
            take({"counts": sums})

        for each in self.serving:
            seat = each.seat
            waits.add(seat)
            if not each.counts(name, lambda answer, seat=seat: answered(seat, answer)):  # type: ignore[misc]
                waits.discard(seat)
        if not waits:
            return False
        timer = self._loop.call_later(STATS_S, late)
        return True

    def stats(self, on_answers: Callable[[dict[int, Mapping[str, Any]]], None]) -> bool:
        """Ask all for their part of the statistics, by seat: of who has answered within `STATS_S`. False: there is nobody
        to ask."""
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
        timer = self._loop.call_later(STATS_S, done)
        return True

    # -- another program in this process, and the end ---------------------------------------------------------

    def hand_over_peers(self, keep: Keep) -> list[dict[str, Any]]:
        """What is needed to go on with those beside the first."""
        return [each.hand_over(keep) for each in self.peers]

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
        for each in self.serving:
            each.drain(timeout_s, self._maybe_stopped)

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


def add_counts(sums: dict[str, dict[str, int]], said: Any) -> None:
    """Add what one router has counted of each generation."""
    for number, counts in said.items() if isinstance(said, dict) else ():
        found = sums.setdefault(str(number), {})
        for what, count in counts.items() if isinstance(counts, dict) else ():
            if type(count) is int:
                found[what] = found.get(what, 0) + count


def _nothing() -> None:
    """One that leaves need not be waited for."""
