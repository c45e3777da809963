"""Of several routers, one that no longer answers while another does is killed: the next one takes its seat.

It may be stopped, or go round in circles. Whoever it has accepted waits for it in vain, and so do others: the slots that it
holds come back only once it has ended, and who waits for one of those is answered 503 after `queue-timeout`, 10 s by default.
One router alone is never judged, since nothing tells then whether it is silent or the emperor deaf; nor are several that are
all silent, as on a machine that has slept, or swaps.

How long is long enough says what the kernel says of it: one that is stopped is not merely slow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from emperor.supervisor.loop import Loop
from emperor.supervisor.process import state_of

LOOK_S = 1.0
ALONE_S = 5.0
"""While there is but one, whether there are more."""

LOOKS = 7
"""So often in a row its answer must be missing. Looks are counted, and not seconds: an emperor that was stopped itself has not
looked meanwhile."""

LOOKS_BY_STATE = {"T": 2, "t": 15, "D": 15}
"""The same of one that is stopped; held by a debugger; waiting for a disk, or for memory that was swapped out."""


class Asked(Protocol):
    """What is needed of a router's end (`routers.Router`)."""

    seat: int

    @property
    def pid(self) -> int: ...
    def ask(self, message: dict[str, Any], take: Callable[[dict[str, Any]], None]) -> bool: ...
    def kill(self) -> None: ...


class Silence:
    """`routers()` gives all, also those that leave; `say(text)` is told who is killed, and why; `state(pid)` is as of
    `process.state_of`."""

    def __init__(
        self,
        loop: Loop,
        routers: Callable[[], Sequence[Asked]],
        say: Callable[[str], None],
        state: Callable[[int], str] = state_of,
    ) -> None:
        self._loop = loop
        self._routers = routers
        self._say = say
        self._state = state
        self._missing: dict[int, int] = {}
        """How many looks the answer of this process is missing for; 0: it has come."""

    def watch(self) -> None:
        """Look from now on. Call it once."""
        self._loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        routers = [each for each in self._routers() if each.pid]
        self._loop.call_later(LOOK_S if len(routers) > 1 else ALONE_S, self._look)
        before = self._missing
        self._missing = {}
        if len(routers) < 2:
            return
        someone_answers = any(before.get(each.pid) == 0 for each in routers)
        for each in routers:
            missing = before.get(each.pid, 0)
            if someone_answers and self._is_enough(each.pid, missing):
                self._say(
                    f"router {each.seat} (pid {each.pid}) has not answered for {missing * LOOK_S:g} s, while another has: it "
                    "is killed, so that the slots it holds come back"
                )
                each.kill()
            else:
                self._ask(each, missing)

    def _is_enough(self, pid: int, missing: int) -> bool:
        if missing < min(LOOKS, *LOOKS_BY_STATE.values()):
            return False
        return missing >= LOOKS_BY_STATE.get(self._state(pid), LOOKS)

    def _ask(self, router: Asked, missing: int) -> None:
        pid = router.pid

        def answered(_answer: dict[str, Any]) -> None:
            if pid in self._missing:
                self._missing[pid] = 0

        # One that cannot be asked now is being met, or has too much to answer: the first is no silence.
        if router.ask({"op": "running", "name": ""}, answered) or missing:
            self._missing[pid] = missing + 1
