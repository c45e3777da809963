"""The end of an emperor: who goes in which order, and what is done when somebody does not.

Clients first: nothing new begins, and the routers finish what they have. Then the gateways with their workers, then the
spawner, then whatever dead gateways had left behind. One time is for everything; a second signal makes it short.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from emperor.supervisor.children import Children
from emperor.supervisor.doors import Doors
from emperor.supervisor.fifos import Fifos
from emperor.supervisor.gateways import Gateways
from emperor.supervisor.loop import Loop
from emperor.supervisor.spawner import Spawner
from emperor.supervisor.stopping import Unneeded
from emperor.supervisor.succession import Routers
from emperor.supervisor.supervisor import Supervisor

STOP_TIMEOUT_S = 8.0
"""For everything together: below the 10 s that container run-times wait before they kill."""

ROUTER_DRAIN_S = 6.8
LAST_S = 0.7  # before the end, what is left of gateways is ended
FAST_S = 1.5


class Logger(Protocol):
    """What is needed of `emperor.log.Log`."""

    def info(self, text: str) -> None: ...
    def warning(self, text: str) -> None: ...


class Ending:
    """`rest()` is called when it begins: nothing new is to begin from then on. `done()` is called when nothing is left."""

    def __init__(
        self,
        loop: Loop,
        children: Children,
        supervisor: Supervisor,
        routers: Routers,
        gateways: Gateways,
        spawner: Spawner,
        doors: Doors,
        fifos: Fifos,
        log: Logger,
        rest: Callable[[], None],
        done: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._children = children
        self._supervisor = supervisor
        self._routers = routers
        self._gateways = gateways
        self._spawner = spawner
        self._doors = doors
        self._fifos = fifos
        self._log = log
        self._rest = rest
        self._done = done
        self._fast = False
        self._unneeded: Unneeded | None = None
        self._deadline = 0.0
        self._last = False
        self.begun = False

    def ask(self) -> None:
        """Drain. The second time: be fast."""
        if self.begun:
            self._be_fast()
            return
        self.begun = True
        self._deadline = self._loop.now() + STOP_TIMEOUT_S
        self._rest()
        self._log.info("stopping: what has begun is finished; a second signal is fast")
        self._routers.drain(ROUTER_DRAIN_S, self._router_gone)
        self._unneeded = Unneeded(self._loop, lambda: self._routers.all, self._leave_early)
        self._doors.remove_all()
        self._loop.call_later(ROUTER_DRAIN_S + 0.2, self._routers.kill)
        self._loop.call_at(self._deadline, self._time_is_up)

    def _be_fast(self) -> None:
        if self._fast:
            return
        self._fast = True
        self._deadline = self._loop.now() + FAST_S
        self._log.warning("stopping fast: what has not finished is lost")
        self._routers.kill()
        self._gateways.leave_all(0.1)
        self._loop.call_at(self._deadline, self._time_is_up)
        self.look()

    def _leave_early(self, names: list[str]) -> None:
        for vassal in self._supervisor.vassals.values():
            if vassal.name in names:
                for generation in vassal.generations.values():
                    self._gateways.leave(generation, self._left_s())

    def _router_gone(self) -> None:
        if self._unneeded is not None:
            self._unneeded.close()
        self._gateways.leave_all(self._left_s())
        self.look()

    def _left_s(self) -> float:
        """For a gateway that is told to leave now."""
        return max(0.2, self._deadline - self._loop.now() - LAST_S)

    def look(self) -> None:
        """A gateway has gone: go on, if it was the last."""
        if not self.begun or len(self._gateways) or self._last or any(each.pid for each in self._routers.all):
            return
        self._last = True
        self._children.stranger_s = 0.0
        self._spawner.stop(self._spawner_gone)

    def _spawner_gone(self) -> None:
        """Last: what dead gateways had left behind, and is now ours to end."""
        busy = self._children.kill_strangers() or self._doors.busy or self._fifos.busy
        if busy and self._loop.now() < self._deadline:
            self._loop.call_later(0.02, self._spawner_gone)
            return
        self._log.info("stopped")
        self._done()

    def _time_is_up(self) -> None:
        self._log.warning("the time to stop is up: what is left is killed")
        self._routers.kill()
        self._gateways.kill_all()
        self._spawner.kill()
        self._children.kill_strangers()
        self._deadline = self._loop.now()
        self._loop.call_later(0.5, self._spawner_gone)
