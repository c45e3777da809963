"""The links of a worker of one request at a time that serves routers of other hosts as well.

A router of its own host sees the page: what lies on deck behind a request that runs long it takes back by itself. One on
another host cannot, and the worker's one thread is in app code. So a second thread, which otherwise sleeps, looks after
requests that run for `LATE_NS` and gives back what waits behind them (`Link.give_back`).

One lock covers all links of the worker. Its own thread has it all the time but while app code runs, so that it costs what two
calls cost; the other one takes it only when a request is late.

Answers to a router of another host go together where the next requests are here already (`vassals.worker.kept`): those that it
runs again if they are lost, and none is kept while the worker waits for anything.
"""

import threading
import time
from typing import Any, Final

from emperor.protocol.scoreboard import DOWN, now_ns
from emperor.zeromq import Wire
from vassals.worker import link as single
from vassals.worker.late import Watch
from vassals.worker.link import Exchange, Link
from vassals.worker.offspring import forked_off

_LOOK_S: Final = 0.05
"""Who waits for more of a body looks so often whether others wait behind it."""

_NAP_MS: Final = 500


class Guard:
    """The lock, and who looks after what waits behind late requests. Made and used by the worker's one thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._take = self._lock.acquire
        self._let = self._lock.release
        self._watch = Watch()
        self._kept = self._watch.kept
        self._depth = 0  # so often has the worker's thread, or one of the app's, the lock
        self._links: list[Link] = []
        self._runs = False

    def covers(self, links: list[Link]) -> None:
        """These are the worker's links now."""
        self._links = links
        if not self._runs and any(link.is_far for link in links):
            self._runs = True
            threading.Thread(target=self._relieve, name="late", daemon=True).start()

    def leave(self, runs: bool) -> None:
        """To app code, if a request runs there now."""
        if runs:
            now = now_ns()
            self._watch.begins(now)
            if self._kept.is_due(now):
                self._kept.send()
        else:
            self._kept.send()
        self._part(runs)

    def come_back(self) -> None:
        """For the next request."""
        self.enter()
        self._watch.ends()

    def enter(self) -> None:
        """Into a link, for a moment."""
        self._take()
        self._depth += 1
        self._kept.come_back()

    def part(self) -> None:
        self._part(False)

    def _part(self, runs: bool) -> None:
        self._depth -= 1
        if not self._depth:
            self._kept.leave(runs)
        self._let()

    def send(self) -> None:
        """What was kept: there is something to wait for. Called with the lock."""
        self._kept.send()

    def keeps(self, wire: Wire | None, exchange: Exchange, took_us: int, head: bytes, body: bytes) -> bool:
        """This whole response waits for others. False: it is to be sent."""
        if len(self._links) < 2:
            return False  # whoever has one link is asked for requests without `come_back` and `leave`
        ended_ns = exchange.begun_ns + took_us * 1000
        return self._kept.put(wire, exchange.stream, took_us, head, body, ended_ns)

    def take(self, wire: Wire | None) -> bytes:
        """What was kept for this one."""
        return self._kept.take(wire)

    def drop(self, wire: Wire | None) -> None:
        """It is lost."""
        self._kept.drop(wire)

    def relieve(self) -> None:
        """What waits behind what runs is given back, if that is late. Called with the lock."""
        if self._watch.is_late():
            for link in self._links:
                link.give_back()

    def _relieve(self) -> None:
        while self._watch.late():
            self.enter()
            try:
                self._kept.send()
                self.relieve()
            finally:
                self.part()

    def close(self) -> None:
        """All links are left."""
        self._watch.close()


class GuardedLink(Link):
    """See the module."""

    def __init__(self, *, guard: Guard, **link: Any) -> None:
        Link.__init__(self, **link)
        self._guard = guard
        self._gives_back = True
        self._keeps = False  # answers of this connection are kept, or were

    def send(self, exchange: Exchange, record: bytes) -> None:
        if forked_off():
            single._end_foreign_process()
        self._guard.enter()
        try:
            Link.send(self, exchange, record)
        finally:
            self._guard.part()

    def look(self, exchange: Exchange) -> None:
        if forked_off():
            single._end_foreign_process()
        self._guard.enter()
        try:
            Link.look(self, exchange)
        finally:
            self._guard.part()

    def end(self, exchange: Exchange, record: bytes) -> None:
        if forked_off():
            single._end_foreign_process()
        self._guard.enter()
        try:
            Link.end(self, exchange, record)
        finally:
            self._guard.part()

    def finish(self, exchange: Exchange, head: bytes, body: bytes) -> None:
        if forked_off():
            single._end_foreign_process()
        self._guard.enter()
        try:
            Link.finish(self, exchange, head, body)
        finally:
            self._guard.part()

    def wait_for(self, exchange: Exchange) -> None:
        if forked_off():
            single._end_foreign_process()
        self._guard.enter()
        try:
            self._guard.send()
            self._guard.relieve()
            if self._connected:
                self._wait(time.monotonic() + _LOOK_S)
        finally:
            self._guard.part()

    def enter(self, exchange: Exchange) -> bool:
        if forked_off():
            single._end_foreign_process()
        self._guard.enter()
        try:
            return Link.enter(self, exchange)
        finally:
            self._guard.part()

    def put(self, exchange: Exchange, body: bytes, offset: int) -> int:
        if forked_off():
            single._end_foreign_process()
        self._guard.enter()
        try:
            return Link.put(self, exchange, body, offset)
        finally:
            self._guard.part()

    def draw(self, exchange: Exchange, into: Any) -> int:
        if forked_off():
            single._end_foreign_process()
        self._guard.enter()
        try:
            return Link.draw(self, exchange, into)
        finally:
            self._guard.part()

    def wait_at(self, exchange: Exchange, way: int, wanted: int) -> None:
        if forked_off():
            single._end_foreign_process()
        place = self._down if way == DOWN else self._up
        self._guard.enter()
        try:
            if exchange is not self._current:
                return
            self._glance()
            waits = self._awaits(exchange, place)
        finally:
            self._guard.part()
        if waits:
            place.sleep(wanted, _NAP_MS)

    def rests(self) -> tuple[int, ...]:
        if self._keeps:
            # It has been sent, which is a call on the socket.
            self._keeps = False
            self._quiet = False
        return Link.rests(self)

    # Called with the lock, unless a thread meets its router: then nothing is kept for it.

    def _deliver(self, exchange: Exchange, took_us: int, head: bytes, body: bytes) -> None:
        wire = self._wire
        may_wait = wire is not None and exchange.again and not exchange.spoken and len(self._deck) > 0
        if may_wait and self._guard.keeps(wire, exchange, took_us, head, body):
            self._keeps = True
        else:
            Link._deliver(self, exchange, took_us, head, body)

    def _transmit(self, record: bytes) -> None:
        if self._keeps:
            self._keeps = False
            record = self._guard.take(self._wire) + record
        Link._transmit(self, record)

    def _lose(self) -> None:
        if self._keeps:
            self._keeps = False
            self._guard.drop(self._wire)
        Link._lose(self)
